//! The cached volume: the state machine between a logical unit and its volume, over the policies of this crate.
