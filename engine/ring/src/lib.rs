//! io_uring behind the reactor's I/O traits.
