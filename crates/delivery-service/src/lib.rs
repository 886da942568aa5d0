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
//! - `payment`: the anonymous tokens that pay for some calls;
//! - [`blobs`]: encrypted attachments, their bytes in a folder or a bucket;
//! - `decision` and `committer`: load, decide, commit; many requests in one durable transaction;
//! - [`Retention`]: how long logs are kept;
//! - [`store`]: the records, with backends for SQLite and for memory.
//!
//! A log is opened by whoever can sign with the fence key that it brings:
//!
//! ```
//! use folkmoot_delivery_service::{DeliveryService, MemoryStore};
//! use folkmoot_mls::codec::Encode;
//! use folkmoot_protocol::call::{Answer, Call};
//! use folkmoot_protocol::delivery::OpenRequest;
//! use folkmoot_protocol::keys::SigningKey;
//! use folkmoot_protocol::log::{Open, SignedHead};
//! use folkmoot_protocol::proof::{FenceProof, Method};
//! use folkmoot_protocol::{VERSION, ids::LogId};
//!
//! let mut rng = rand::rng();
//! let service =
//!     DeliveryService::new(MemoryStore::new(), SigningKey::generate(&mut rng), &mut rng);
//!
//! let fence = SigningKey::generate(&mut rng);
//! let open = Open { version: VERSION, log: LogId([7; 32]), fence_key: fence.public() };
//! let proof = FenceProof {
//!     version: VERSION,
//!     delivery_service: service.public_key(),
//!     log: open.log,
//!     branch: open.id(),
//!     epoch: 0,
//!     method: Method::Open,
//!     subject: open.id().0.into(),
//! };
//! let call = Call::Open(OpenRequest {
//!     open: open.to_bytes(),
//!     fence_signature: proof.sign(&fence).to_vec(),
//!     payment: None,
//! });
//! let now = 1_790_000_000_000; // milliseconds since 1970
//! let Answer::Open(receipt) = service.answer(call, now, &mut rng)? else { unreachable!() };
//! let head = SignedHead::read(&receipt, &service.public_key()).unwrap().head;
//! assert_eq!((head.sequence, head.entry_time), (0, now));
//! # Ok::<(), folkmoot_protocol::Refusal>(())
//! ```
//!
//! [`grpc`] is the thin skin that puts it on a network.

pub mod blobs;
mod committer;
mod decision;
mod fields;
mod followers;
pub mod grpc;
mod logs;
mod mailboxes;
mod nonce;
mod payment;
mod rates;
mod retention;
#[cfg(feature = "sabotage")]
pub mod sabotage;
#[cfg(not(feature = "sabotage"))]
mod sabotage;
mod service;
mod shelves;
pub mod store;

pub use logs::read::{Progress, Reading};
pub use payment::TrustedIssuer;
pub use rates::Rates;
pub use retention::Retention;
pub use service::DeliveryService;
pub use store::{AtRestKeys, MemoryStore, SqliteStore};
