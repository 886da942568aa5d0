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
    match length {
        0..=0x3f => out.push(length as u8),
        0x40..=0x3fff => out.extend_from_slice(&(length as u16 | 0x4000).to_be_bytes()),
        0x4000..=MAX_LENGTH => {
            out.extend_from_slice(&(length as u32 | 0x8000_0000).to_be_bytes());
        }
        _ => panic!("a vector of {length} bytes cannot be encoded"),
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
