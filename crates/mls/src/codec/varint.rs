//! Variable-size lengths (RFC 9420, section 2.1.2; RFC 9000, section 16).

use super::{DecodeError, Reader};

/// The longest vector that a length can announce: 2^30 - 1 bytes.
pub const MAX_LENGTH: usize = (1 << 30) - 1;

/// Appends `length` in the fewest bytes.
///
/// # Panics
/// If `length` exceeds [`MAX_LENGTH`]. Lengths come from structures in our own memory, all of them
/// far below it: what comes from outside was read under the same bound.
pub fn encode_length(length: usize, out: &mut Vec<u8>) {
    if length <= 0x3f {
        out.push(length as u8);
    } else {
        out.extend_from_slice(EncodedLength::of(length).as_slice());
    }
}

/// A length as it stands in front of a vector, without an allocation.
pub(crate) struct EncodedLength([u8; 4], usize);

impl EncodedLength {
    /// Panics as [`encode_length`].
    pub(crate) fn of(length: usize) -> Self {
        let (shifted, size) = match length {
            0..=0x3f => ((length as u32) << 24, 1),
            0x40..=0x3fff => ((length as u32 | 0x4000) << 16, 2),
            0x4000..=MAX_LENGTH => (length as u32 | 0x8000_0000, 4),
            _ => panic!("a vector of {length} bytes cannot be encoded"),
        };
        Self(shifted.to_be_bytes(), size)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

/// Reads a length.
///
/// # Errors
/// [`DecodeError::Truncated`], [`DecodeError::NonMinimalLength`] for a length that would fit in
/// fewer bytes, [`DecodeError::ReservedLength`] for the prefix 0b11.
pub fn decode_length(reader: &mut Reader<'_>) -> Result<usize, DecodeError> {
    let [first] = reader.array()?;
    let (length, shortest) = match first >> 6 {
        0 => return Ok(usize::from(first)),
        1 => {
            let [second] = reader.array()?;
            (
                usize::from(u16::from_be_bytes([first & 0x3f, second])),
                0x40,
            )
        }
        2 => {
            let [b, c, d] = reader.array()?;
            (u32::from_be_bytes([first & 0x3f, b, c, d]) as usize, 0x4000)
        }
        _ => return Err(DecodeError::ReservedLength),
    };
    if length < shortest {
        Err(DecodeError::NonMinimalLength)
    } else {
        Ok(length)
    }
}
