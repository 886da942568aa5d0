//! The Messaging Layer Security protocol (RFC 9420): no sockets, no files, no clock, no async.

pub mod codec;
pub mod tree_math;
