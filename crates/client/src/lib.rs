//! The SDK: accounts, conversations, sync, local store.
//!
//! [`Client`] is the way in: one device's account and conversations, over a [`store`], a
//! [`transport`] and a [`world`] (clock and randomness).
//!
//! Inside, [`logic`] is a state machine without socket, clock or randomness of its own: one
//! [`Logic::step`](logic::Logic::step) takes an input inside one transaction of the store and returns
//! what to ask of the services. Everything that follows from a user's wish follows from rows in the
//! store, so a process may end at any point, and the next one goes on where it stopped.

mod client;
mod error;
mod history;
#[cfg(feature = "sqlite")]
pub mod key;
pub mod logic;
pub mod store;
mod text;
pub mod transport;
pub mod views;
mod world;

pub use client::Client;
pub use error::{BadPackage, BadService, Error};
pub use history::{
    Change, Contradiction, Epoch, Founded, HistoryEntry, HistoryPosition, Message, TwoLogs,
    Unreadable, Update, What,
};
pub use logic::{Event, Standing};
pub use text::Text;
pub use views::{Account, Conversation, Member, Members};
#[cfg(feature = "transport")]
pub use world::System;
pub use world::World;
