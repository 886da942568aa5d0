//! `deserialization`: lengths of vectors.

use folkmoot_mls::codec::{Reader, decode_length, encode_length};
use serde::Deserialize;

use crate::check::{Failure, Hex, check};

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    vlbytes_header: Hex,
    length: usize,
}

impl Case {
    /// Reads the length and writes it again.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(&self) -> Result<(), Failure> {
        let mut reader = Reader::new(&self.vlbytes_header);
        check(decode_length(&mut reader)? == self.length, "length")?;
        reader.finish()?;
        let mut header = Vec::new();
        encode_length(self.length, &mut header);
        check(header == self.vlbytes_header.0, "vlbytes_header")
    }
}
