//! Lock-free queues between cores and their sleep/wake protocol.
