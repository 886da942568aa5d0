//! Official test vectors, and peers in the same process.
//!
//! A file of vectors is a list of cases of one [kind](kinds), which is recognised by the fields of its
//! first case. `cargo run --release -p folkmoot-interop --bin vectors -- FILE_OR_FOLDER...` runs files
//! by hand; the tests of this crate run the official ones.

pub mod check;
pub mod kinds;
pub mod report;
