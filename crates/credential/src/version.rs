//! The version that every structure begins with.

use folkmoot_mls::codec::{Decode, DecodeError, Encode, Reader};

/// A version that a decoder accepts only if it is the one it knows. Two bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version<const N: u16 = 1>;

impl<const N: u16> Encode for Version<N> {
    fn encode(&self, out: &mut Vec<u8>) {
        N.encode(out);
    }
}

impl<const N: u16> Decode for Version<N> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if u16::decode(reader)? == N {
            Ok(Self)
        } else {
            Err(DecodeError::InvalidValue("version"))
        }
    }
}
