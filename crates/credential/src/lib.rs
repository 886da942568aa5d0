//! Who someone is: user ids, keys, bindings, device credentials, directory entries.

pub mod keys;
