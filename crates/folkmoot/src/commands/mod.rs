//! What the client's commands do.

mod conversation;
mod inspect;
mod message;

pub use conversation::{add, groups, leave, members, new, register, remove, update};
pub use inspect::inspect;
pub use message::{read, send, sync};
