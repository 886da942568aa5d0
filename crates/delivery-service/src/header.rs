//! What an MLS message shows of itself (RFC 9420, sections 6 and 6.3).

use folkmoot_mls::codec::{Decode, DecodeError, Reader};

const MLS10: u16 = 1;
const MLS_PRIVATE_MESSAGE: u16 = 2;

/// The readable fields of a PrivateMessage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    pub(crate) group_id: &'a [u8],
    pub(crate) epoch: u64,
    pub(crate) content_type: u8,
    pub(crate) authenticated_data: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads the header of an MLSMessage and checks that the rest has the form of a
    /// PrivateMessage. `None`: the message is an MLSMessage of another kind.
    ///
    /// # Errors
    /// [`DecodeError`]: whoever sent it is to blame.
    pub(crate) fn read(message: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(message);
        if u16::decode(&mut reader)? != MLS10 {
            return Err(DecodeError::InvalidValue("version"));
        }
        if u16::decode(&mut reader)? != MLS_PRIVATE_MESSAGE {
            return Ok(None);
        }
        let header = Self {
            group_id: reader.prefixed()?,
            epoch: u64::decode(&mut reader)?,
            content_type: u8::decode(&mut reader)?,
            authenticated_data: reader.prefixed()?,
        };
        let (_sender_data, _ciphertext) = (reader.prefixed()?, reader.prefixed()?);
        reader.finish()?;
        Ok(Some(header))
    }
}
