//! What the engine's operations cost, beside OpenMLS, mls-rs and the primitives that no
//! implementation can do without.
//!
//! `cargo bench -p folkmoot-benches` runs it; `-- --help` lists the options. The parent ([`run`]) starts
//! itself again for each cell, that is for a contestant, a task and a size ([`cell`]), so that memory,
//! caches and time limits are the cell's own. Within a cell ([`task`]) an operation is repeated and its
//! CPU time taken ([`clock`]). Contestants are members of one trait ([`member`]) who get and give bytes.
//! They meet on groups of the same shape, made by our engine and joined by a Welcome ([`setting`]).
//! [`floor`] counts what each operation cannot avoid and prices it with primitives measured in the same
//! run. [`report`], [`reach`] and [`plot`] write it all down.

pub mod cell;
pub mod clock;
pub mod contestant;
pub mod floor;
pub mod member;
pub mod plot;
pub mod reach;
pub mod report;
pub mod run;
pub mod setting;
pub mod task;
