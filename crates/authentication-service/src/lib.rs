//! The Authentication Service (AS): it states which identity key belongs to which name of its domain,
//! and keeps the directory of their devices.
//!
//! [`AuthenticationService::answer`] is all of its logic, without socket, clock or randomness of its
//! own: it reads the request, loads the account, [decides](account) what follows, and makes the
//! change if the account is still as it was. [`grpc`] is the thin skin that serves it.
//!
//! Who asks is never looked at, and nothing that is looked up is kept. Places on the wire for
//! anonymous tokens and for proofs of the transparency log are there and empty.

mod account;
pub mod grpc;
mod service;
pub mod store;

pub use service::AuthenticationService;
