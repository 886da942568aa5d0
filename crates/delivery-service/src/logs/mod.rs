//! Logs: opening, appending, reading, picking up (DESIGN, "A log is one group's ordered history").

pub(crate) mod append;
pub(crate) mod candidates;
mod contest;
pub(crate) mod open;
pub(crate) mod parse;
pub(crate) mod pickup;
mod quota;
pub(crate) mod read;
mod records;
