//! The Messaging Layer Security protocol (RFC 9420): no sockets, no files, no clock, no async.

pub mod capabilities;
pub mod code_point;
pub mod codec;
pub mod commit;
pub mod context;
pub mod credential;
pub mod crypto;
pub mod error;
pub mod extension;
pub mod framing;
pub mod group;
pub mod group_context;
pub mod group_info;
pub mod inspect;
pub mod key_package;
pub mod key_schedule;
pub mod leaf_node;
pub mod message;
pub mod message_keys;
pub mod node;
pub mod proposal;
pub mod psk;
pub mod ratchet;
pub mod records;
pub mod safe_exporter;
pub mod secret_tree;
#[cfg(test)]
mod testing;
pub mod transcript;
pub mod tree;
pub mod tree_math;
pub mod welcome;
