//! Official test vectors, and peers in the same process.

pub mod check;
pub mod kinds;
