//! The arena: pages registered with the kernel, counted handles, scatter lists.
