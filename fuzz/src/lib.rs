//! What the fuzz targets share. Each target is one decoder of bytes from outside:
//! `cargo fuzz run TARGET` (needs cargo-fuzz and a nightly toolchain).

use folkmoot_mls::codec::{Decode, Encode};

/// The law of every decoder: no bytes make a panic, and bytes that decode are the one encoding of what
/// they decode to.
pub fn decodes_to_one_value<T: Decode + Encode>(bytes: &[u8]) {
    if let Ok(value) = T::from_bytes(bytes) {
        assert_eq!(value.to_bytes(), bytes);
    }
}
