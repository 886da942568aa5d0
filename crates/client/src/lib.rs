//! The SDK: accounts, conversations, sync, local store.
//!
//! [`Client`] is the way in: one device's account and conversations, over a [`store`], a
//! [`transport`] and a [`World`] (clock and randomness).
//!
//! ```no_run
//! # #[cfg(all(feature = "sqlite", feature = "transport"))]
//! # async fn talk() -> Result<(), Box<dyn std::error::Error>> {
//! use folkmoot_client::key::StoreKey;
//! use folkmoot_client::store::Sqlite;
//! use folkmoot_client::transport::{Grpc, ServerUrl};
//! use folkmoot_client::{Client, System, What, World};
//!
//! // The state: one encrypted file.
//! let key = StoreKey::create_file("alice.key".as_ref(), System::new().rng())?;
//! let store = Sqlite::open("alice.sqlite".as_ref(), &key)?;
//!
//! // The server, at the address that it prints when it starts.
//! let server: ServerUrl = "https://localhost:8443#…".parse()?;
//! let transport = Grpc::new();
//! let well_known = transport.well_known(&server).await?;
//!
//! let mut alice = Client::new(store, transport, System::new());
//! alice.register("alice", &server, &well_known).await?;
//! alice.new_conversation("friends", &["bob".into()]).await?;
//! alice.send("friends", "text/plain;charset=utf-8", "Hello, Bob".as_bytes()).await?;
//!
//! // Later: what is new?
//! alice.sync().await?;
//! for entry in alice.history("friends", None)? {
//!     if let What::Message(message) = entry.what {
//!         println!("{}: {}", message.sender, String::from_utf8_lossy(&message.content));
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Inside, [`logic`] is a state machine without socket, clock or randomness of its own: one
//! [`Logic::step`](logic::Logic::step) takes an input inside one transaction of the store and returns
//! what to ask of the services. Everything that follows from a user's wish follows from rows in the
//! store, so a process may end at any point, and the next one goes on where it stopped.
//!
//! Without the default features (`sqlite`: the encrypted file; `transport`: gRPC over TLS) what is left
//! is the logic, over any store that passes [`store::conformance`] and any [`transport::Transport`].

pub mod blobs;
mod client;
mod error;
mod history;
#[cfg(feature = "sqlite")]
pub mod key;
pub mod logic;
#[cfg(feature = "sabotage")]
pub mod sabotage;
#[cfg(not(feature = "sabotage"))]
mod sabotage;
pub mod store;
mod text;
pub mod transport;
pub mod views;
mod world;

pub use client::Client;
pub use error::{BadPackage, BadService, Error};
pub use history::{
    Change, Contradiction, Epoch, Founded, HistoryEntry, HistoryPosition, Invalid, LeftOut,
    Message, TwoLogs, Unopened, Unreadable, Update, What,
};
pub use logic::{Doing, Event, Standing};
pub use text::Text;
pub use views::{Account, Conversation, CurrentLink, Member, Members, PendingKnock};
#[cfg(feature = "transport")]
pub use world::System;
pub use world::World;
