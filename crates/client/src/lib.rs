//! The SDK: accounts, conversations, sync, local store.

#[cfg(feature = "sqlite")]
pub mod key;
pub mod store;
pub mod transport;
