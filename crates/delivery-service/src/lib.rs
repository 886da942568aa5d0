//! The Delivery Service: blind, ordered, durable.
//!
//! It holds group logs, mailboxes and shelves, and knows no users: no name, no credential, no
//! plaintext, no reference of a KeyPackage. Whatever it enforces, it enforces from a log's id, an
//! epoch, a content type and anonymous keys.
//!
//! [`DeliveryService::answer`] is the whole service: a call goes in, an answer or a refusal comes
//! out, and what the answer says is durable. It has no socket, clock or randomness of its own.
//! Inside, each concept has its module:
//!
//! - `logs`: opening, appending (compare and set), reading up to a cut, picking Welcomes up;
//! - `mailboxes`: owners, drop tickets, envelopes;
//! - `shelves`: sealed KeyPackages, each handed out once;
//! - `decision`: load, decide, commit; many requests in one durable transaction;
//! - [`store`]: the records, with backends for SQLite and for memory.
//!
//! [`grpc`] is the thin skin that puts it on a network.

mod decision;
mod fields;
pub mod grpc;
mod logs;
mod mailboxes;
mod nonce;
mod service;
mod shelves;
pub mod store;

pub use logs::read::Reading;
pub use service::DeliveryService;
pub use store::{MemoryStore, SqliteStore};
