//! Our engine behind the working group's interop service, so that a test runner can drive it.
//!
//! [`Client`] is the logic: calls come in as the service's messages, and answers go out, without a
//! socket. [`serve`] is the gRPC skin around one `Client`.
//!
//! A runner creates groups, hands key packages, proposals, commits and Welcomes from one client to
//! another, and compares what they say of the epochs in which they arrive. So a `Client` stands for as
//! many members as the runner likes, of as many groups; each is a value under an id of its own.

mod client;
mod error;
mod member;
mod outside;
mod service;
mod successor;
mod wire;

pub use client::Client;
pub use error::ClientError;
pub use service::serve;
