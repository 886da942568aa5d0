//! Anything that travels (RFC 9420, section 6), and its header for those who only carry it.

use crate::code_point::{ProtocolVersion, WireFormat};
use crate::codec::{Decode, DecodeError, Encode, Reader};
use crate::framing::{ContentType, PrivateMessage, PublicMessage};
use crate::group_info::GroupInfo;
use crate::key_package::KeyPackage;
use crate::welcome::Welcome;

/// `MLSMessage`, of version mls10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MlsMessage {
    /// A message in clear.
    PublicMessage(Box<PublicMessage>),
    /// An encrypted message.
    PrivateMessage(PrivateMessage),
    /// An invitation.
    Welcome(Welcome),
    /// A group's state.
    GroupInfo(Box<GroupInfo>),
    /// An offer to be added.
    KeyPackage(Box<KeyPackage>),
}

impl MlsMessage {
    /// What it is.
    #[must_use]
    pub fn wire_format(&self) -> WireFormat {
        match self {
            Self::PublicMessage(_) => WireFormat::PUBLIC_MESSAGE,
            Self::PrivateMessage(_) => WireFormat::PRIVATE_MESSAGE,
            Self::Welcome(_) => WireFormat::WELCOME,
            Self::GroupInfo(_) => WireFormat::GROUP_INFO,
            Self::KeyPackage(_) => WireFormat::KEY_PACKAGE,
        }
    }
}

impl Encode for MlsMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        ProtocolVersion::MLS10.encode(out);
        self.wire_format().encode(out);
        match self {
            Self::PublicMessage(message) => message.encode(out),
            Self::PrivateMessage(message) => message.encode(out),
            Self::Welcome(welcome) => welcome.encode(out),
            Self::GroupInfo(group_info) => group_info.encode(out),
            Self::KeyPackage(key_package) => key_package.encode(out),
        }
    }
}

impl Decode for MlsMessage {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match decode_wire_format(reader)? {
            WireFormat::PUBLIC_MESSAGE => Self::PublicMessage(Decode::decode(reader)?),
            WireFormat::PRIVATE_MESSAGE => Self::PrivateMessage(Decode::decode(reader)?),
            WireFormat::WELCOME => Self::Welcome(Decode::decode(reader)?),
            WireFormat::GROUP_INFO => Self::GroupInfo(Decode::decode(reader)?),
            WireFormat::KEY_PACKAGE => Self::KeyPackage(decode_key_package(reader)?),
            _ => return Err(DecodeError::InvalidValue("wire_format")),
        })
    }
}

/// What a message to a group says about itself to whoever carries it. Borrows from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader<'a> {
    /// PublicMessage or PrivateMessage.
    pub wire_format: WireFormat,
    /// The group.
    pub group_id: &'a [u8],
    /// The epoch.
    pub epoch: u64,
    /// What is inside.
    pub content_type: ContentType,
}

impl<'a> MessageHeader<'a> {
    /// Reads the header of a message to a group, and checks that all of `bytes` is one such message.
    /// A PrivateMessage is only walked over; a PublicMessage is decoded and dropped.
    ///
    /// # Errors
    /// [`DecodeError`], the sender's; also for messages that are not to a group.
    pub fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match decode_wire_format(&mut reader)? {
            WireFormat::PUBLIC_MESSAGE => {
                let group_id = reader.clone().prefixed()?;
                let message = PublicMessage::decode(&mut reader)?;
                reader.finish()?;
                Ok(Self {
                    wire_format: WireFormat::PUBLIC_MESSAGE,
                    group_id,
                    epoch: message.content.epoch,
                    content_type: message.content.content.content_type(),
                })
            }
            WireFormat::PRIVATE_MESSAGE => {
                let group_id = reader.prefixed()?;
                let epoch = u64::decode(&mut reader)?;
                let content_type = ContentType::decode(&mut reader)?;
                let [_authenticated_data, _encrypted_sender_data, _ciphertext] =
                    [reader.prefixed()?, reader.prefixed()?, reader.prefixed()?];
                reader.finish()?;
                let wire_format = WireFormat::PRIVATE_MESSAGE;
                Ok(Self {
                    wire_format,
                    group_id,
                    epoch,
                    content_type,
                })
            }
            _ => Err(DecodeError::InvalidValue("wire_format")),
        }
    }
}

/// RFC 9420, section 10: a KeyPackage is of the version of the message that it came in.
fn decode_key_package(reader: &mut Reader<'_>) -> Result<Box<KeyPackage>, DecodeError> {
    let key_package = Box::<KeyPackage>::decode(reader)?;
    match key_package.version {
        ProtocolVersion::MLS10 => Ok(key_package),
        _ => Err(DecodeError::InvalidValue("KeyPackage.version")),
    }
}

fn decode_wire_format(reader: &mut Reader<'_>) -> Result<WireFormat, DecodeError> {
    match ProtocolVersion::decode(reader)? {
        ProtocolVersion::MLS10 => WireFormat::decode(reader),
        _ => Err(DecodeError::InvalidValue("version")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Bytes;

    #[test]
    fn a_header_is_read_only_from_a_whole_message() {
        let message = MlsMessage::PrivateMessage(PrivateMessage {
            group_id: Bytes::from([1, 2, 3]),
            epoch: 7,
            content_type: ContentType::Commit,
            authenticated_data: Bytes::default(),
            encrypted_sender_data: Bytes::from([4; 28]),
            ciphertext: Bytes::from([5; 99]),
        })
        .to_bytes();
        let header = MessageHeader::read(&message).unwrap();
        assert_eq!(header.group_id, [1, 2, 3]);
        assert_eq!(
            (header.epoch, header.content_type),
            (7, ContentType::Commit)
        );
        let cut = &message[..message.len() - 1];
        assert_eq!(MessageHeader::read(cut), Err(DecodeError::Truncated));
        let longer = [&message[..], &[0]].concat();
        assert_eq!(
            MessageHeader::read(&longer),
            Err(DecodeError::TrailingBytes)
        );
    }
}
