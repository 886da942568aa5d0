//! The TLS presentation language as MLS uses it (RFC 9420, section 2.1; RFC 8446, section 3).
//!
//! [`Encode`] and [`Decode`] are implemented by every structure that is sent, signed or hashed.
//! Integers are big-endian. A vector `<V>` carries its length in bytes as a QUIC variable-length
//! integer (section 2.1.2), which must use the fewest bytes that hold it and stay below 2^30.
//!
//! A [`Reader`] borrows its input and never takes memory ahead of it: a length is checked against
//! the bytes that are really there before anything is allocated, so a decoder's memory is bounded
//! by a small multiple of the size of what it was given.

mod macros;
mod reader;
mod varint;

pub use reader::Reader;
pub(crate) use varint::EncodedLength;
pub use varint::{MAX_LENGTH, decode_length, encode_length};

/// Why bytes could not be read as the structure they were meant to be. The sender is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ended inside a field.
    #[error("the input ends too early")]
    Truncated,
    /// Bytes follow the structure.
    #[error("bytes follow the end of the structure")]
    TrailingBytes,
    /// A length uses more bytes than it needs (RFC 9420, 2.1.2).
    #[error("a length is not encoded in the fewest bytes")]
    NonMinimalLength,
    /// A length starts with the bits 11, which are not in use (RFC 9420, 2.1.2).
    #[error("a length has the reserved prefix")]
    ReservedLength,
    /// An `optional<T>` starts with neither 0 nor 1 (RFC 9420, 2.1.1).
    #[error("an optional value is marked neither present nor absent")]
    InvalidOptional,
    /// A field holds a value that the structure does not allow; the field's name is given.
    #[error("invalid value in field {0}")]
    InvalidValue(&'static str),
}

/// A structure that can be written in the TLS presentation language.
pub trait Encode {
    /// Appends the encoding to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// The encoding as a vector of its own.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// A structure that can be read from the TLS presentation language.
pub trait Decode: Sized {
    /// Reads one value from the front of `reader`.
    ///
    /// # Errors
    /// [`DecodeError`], for which whoever made the bytes is to blame.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Passes over one value at the front of `reader`: the same bytes, with the same errors, but nothing
    /// is kept.
    ///
    /// # Errors
    /// As [`Decode::decode`].
    fn skip(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        Self::decode(reader).map(drop)
    }

    /// Reads a value that must fill `bytes` exactly.
    ///
    /// # Errors
    /// As [`Decode::decode`], and [`DecodeError::TrailingBytes`].
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Encode for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
        impl Decode for $type {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(reader.array()?))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64);

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Decode for bool {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::InvalidValue("bool")),
        }
    }
}

/// `opaque field[N]`: exactly N bytes, no length in front.
impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<const N: usize> Decode for [u8; N] {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array()
    }
}

/// `optional<T>` (RFC 9420, 2.1.1).
impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.encode(out);
            }
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(reader)? {
            0 => Ok(None),
            1 => T::decode(reader).map(Some),
            _ => Err(DecodeError::InvalidOptional),
        }
    }

    fn skip(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        match u8::decode(reader)? {
            0 => Ok(()),
            1 => T::skip(reader),
            _ => Err(DecodeError::InvalidOptional),
        }
    }
}

/// `T field<V>`: a vector of structures. For bytes use [`Bytes`], which copies once.
impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_prefixed(out, |out| self.iter().for_each(|item| item.encode(out)));
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut items = Vec::new();
        let mut body = Reader::new(reader.prefixed()?);
        while !body.is_empty() {
            items.push(T::decode(&mut body)?);
        }
        Ok(items)
    }

    fn skip(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let mut body = Reader::new(reader.prefixed()?);
        while !body.is_empty() {
            T::skip(&mut body)?;
        }
        Ok(())
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::decode(reader).map(Box::new)
    }

    fn skip(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        T::skip(reader)
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

impl<A: Decode, B: Decode> Decode for (A, B) {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::decode(reader)?, B::decode(reader)?))
    }

    fn skip(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        A::skip(reader)?;
        B::skip(reader)
    }
}

/// `opaque field<V>`: public bytes with their length in front. Not for secrets, see
/// [`Secret`](crate::crypto::Secret).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(Vec<u8>);

impl Bytes {
    /// The bytes, without their length.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Gives the bytes back.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl<const N: usize> From<[u8; N]> for Bytes {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes.to_vec())
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Encode for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(&self.0, out);
    }
}

impl Decode for Bytes {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.prefixed().map(Self::from)
    }

    fn skip(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        reader.prefixed().map(|_| ())
    }
}

/// Appends `opaque field<V>`.
pub fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    encode_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Appends whatever `body` writes, with its length in front.
pub fn encode_prefixed(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    // A length of one byte is the common case.
    encode_prefixed_about(0, out, body);
}

/// The same for a body of `about` so many bytes, which are not moved again if their length takes as many
/// bytes as was thought.
pub fn encode_prefixed_about(about: usize, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    encode_length(about.min(MAX_LENGTH), out);
    let body_start = out.len();
    body(out);
    let mut prefix = Vec::with_capacity(4);
    encode_length(out.len() - body_start, &mut prefix);
    out.splice(start..body_start, prefix);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_carry_their_length_in_bytes() {
        let items: Vec<u16> = vec![1, 2, 3];
        assert_eq!(items.to_bytes(), [6, 0, 1, 0, 2, 0, 3]);
        assert_eq!(
            Vec::<u16>::from_bytes(&[6, 0, 1, 0, 2, 0, 3]).unwrap(),
            items
        );
        let long = Bytes::from(vec![7; 100]);
        assert_eq!(long.to_bytes()[..2], [0x40, 100]);
        assert_eq!(Bytes::from_bytes(&long.to_bytes()).unwrap(), long);
    }

    #[test]
    fn a_length_is_right_whatever_was_thought_of_it() {
        for length in [0, 0x3f, 0x40, 0x3fff, 0x4000, 70_000] {
            let body = vec![7; length];
            for about in [0, 0x40, 0x4000, usize::MAX] {
                let mut out = vec![1];
                encode_prefixed_about(about, &mut out, |out| out.extend_from_slice(&body));
                assert_eq!(out[1..], Bytes::from(body.clone()).to_bytes());
            }
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        assert_eq!(
            Vec::<u16>::from_bytes(&[3, 0, 1, 0]),
            Err(DecodeError::Truncated)
        );
        assert_eq!(u8::from_bytes(&[1, 2]), Err(DecodeError::TrailingBytes));
        assert_eq!(
            Option::<u8>::from_bytes(&[2, 2]),
            Err(DecodeError::InvalidOptional)
        );
        assert_eq!(
            Bytes::from_bytes(&[0x40, 1, 7]),
            Err(DecodeError::NonMinimalLength)
        );
        assert_eq!(
            Bytes::from_bytes(&[0xbf, 0xff, 0xff, 0xff]),
            Err(DecodeError::Truncated)
        );
    }
}
