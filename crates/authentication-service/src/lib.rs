//! The Authentication Service (AS): it states which identity key belongs to which name of its domain,
//! and keeps the directory of their devices.
//!
//! [`AuthenticationService::answer`] is all of its logic, without socket, clock or randomness of its
//! own: it reads the request, loads the account, [decides](account) what follows, and makes the
//! change if the account is still as it was. [`grpc`] is the thin skin that serves it.
//!
//! Who looks something up is never looked at, and nothing that is looked up is kept. It issues
//! anonymous tokens to its accounts ([`AuthenticationService::with_tokens`]), with which they pay at
//! a Delivery Service. All that it says of its users goes into the [transparency log](transparency).

mod account;
pub mod grpc;
mod issuing;
mod service;
pub mod store;
pub mod transparency;

pub use issuing::{KeySchedule, MakeKey};
pub use service::AuthenticationService;
