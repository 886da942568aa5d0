//! Logs: opening, appending, reading, picking up (DESIGN, "A log is one group's ordered history").

pub(crate) mod append;
pub(crate) mod open;
pub(crate) mod pages;
pub(crate) mod parse;
pub(crate) mod pickup;
pub(crate) mod read;
mod records;
pub(crate) mod stage;
