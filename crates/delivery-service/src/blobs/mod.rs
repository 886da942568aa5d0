//! Blobs: encrypted attachments, up to a size and a time (DESIGN, "Mailboxes, shelves, blobs, tokens").
//!
//! Two halves. What is known of a blob (hashes of its two capabilities, size, time, how much has come) is a
//! record like all others, and what follows from a request is decided here, without socket or clock. The
//! bytes lie in [`Objects`], a folder or a bucket, one object for each chunk.
//!
//! A chunk's bytes are durable before the record says that they are there. So a crash in between leaves
//! bytes that nobody counts, which the same chunk overwrites when it comes again; and never a record
//! without its bytes. Objects stand by the day on which their blob expires, so that those whose time is
//! over are found without looking at the others; the rest is looked through once a day.

mod objects;
mod records;

pub(crate) use objects::Bytes;
pub use objects::{Objects, ObjectsError};
pub(crate) use records::{Claim, Create, Delete, Get, Getting, Grow, Place, is_there, place};
