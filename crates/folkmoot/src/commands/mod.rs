//! What the client's commands do.

mod conversation;
mod inspect;
mod link;
mod message;

pub use conversation::{add, groups, leave, members, new, register, remove, update};
pub use inspect::inspect;
pub use link::{accept, decline, invite, knock, knocks};
pub use message::{read, send, sync};
