//! The SDK: accounts, conversations, sync, local store.

pub mod transport;
