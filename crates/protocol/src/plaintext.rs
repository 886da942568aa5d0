//! The plaintext of an application message: what it is, where its sender stood, and padding.

use folkmoot_mls::codec::{Bytes, Decode, DecodeError, Encode, Reader};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::VERSION;
use crate::ids::ChainHash;

/// Tells a message from every other of the same user, so that a replay by an insider shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// A random one.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        Self(id)
    }
}

impl Encode for MessageId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for MessageId {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array().map(Self)
    }
}

/// How far the sender had read: members compare it with what they have at that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Of the last entry that the sender had processed.
    pub sequence: u64,
    /// The log's hash up to and including that entry.
    pub chain: ChainHash,
}

/// What a member encrypts. On the wire: version, id, media type, position, content, and zero bytes
/// up to one of a few lengths.
#[derive(Clone, PartialEq, Eq)]
pub struct Plaintext {
    /// Random.
    pub id: MessageId,
    /// What the content is, as in RFC 6838, such as `text/plain;charset=utf-8`. At most
    /// [`Plaintext::MAX_MEDIA_TYPE`] bytes of printable ASCII.
    pub media_type: String,
    /// Where the sender stood.
    pub position: Position,
    /// Any bytes, at most [`Plaintext::MAX_CONTENT`].
    pub content: Bytes,
}

impl Plaintext {
    /// The longest media type, in bytes.
    pub const MAX_MEDIA_TYPE: usize = 127;

    /// The longest content, in bytes. The padded message fits
    /// [`limits::APPLICATION_MESSAGE`](crate::limits::APPLICATION_MESSAGE).
    pub const MAX_CONTENT: usize = (960 << 10) - 512;

    /// Whether a text can be a media type here.
    #[must_use]
    pub fn is_media_type(text: &str) -> bool {
        matches!(text.len(), 1..=Self::MAX_MEDIA_TYPE)
            && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    }

    /// The padded encoding.
    #[must_use]
    pub fn to_padded(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(padded_length(self.content.len() + 256)));
        VERSION.encode(&mut out);
        self.id.encode(&mut out);
        folkmoot_mls::codec::encode_bytes(self.media_type.as_bytes(), &mut out);
        self.position.sequence.encode(&mut out);
        self.position.chain.encode(&mut out);
        self.content.encode(&mut out);
        let length = padded_length(out.len());
        out.resize(length, 0);
        out
    }

    /// Reads what [`Plaintext::to_padded`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`]: the sender is to blame.
    pub fn from_padded(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if u16::decode(&mut reader)? != VERSION {
            return Err(DecodeError::InvalidValue("version"));
        }
        let id = MessageId::decode(&mut reader)?;
        let media_type = std::str::from_utf8(reader.prefixed()?)
            .ok()
            .filter(|text| Self::is_media_type(text))
            .ok_or(DecodeError::InvalidValue("media type"))?
            .to_owned();
        let position = Position {
            sequence: u64::decode(&mut reader)?,
            chain: ChainHash::decode(&mut reader)?,
        };
        let content = Bytes::decode(&mut reader)?;
        if reader.rest().iter().any(|byte| *byte != 0) {
            return Err(DecodeError::InvalidValue("padding"));
        }
        Ok(Self {
            id,
            media_type,
            position,
            content,
        })
    }
}

impl std::fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plaintext")
            .field("id", &self.id)
            .field("media_type", &self.media_type)
            .field("position", &self.position)
            .field("content", &self.content.len())
            .finish()
    }
}

/// 256 bytes at least, then eight lengths to each doubling: at most an eighth is padding.
fn padded_length(length: usize) -> usize {
    if length <= 256 {
        return 256;
    }
    let step = (length.next_power_of_two() / 16).max(32);
    length.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plaintext(content: Vec<u8>) -> Plaintext {
        Plaintext {
            id: MessageId([1; 16]),
            media_type: "text/plain".into(),
            position: Position {
                sequence: 7,
                chain: ChainHash([2; 32]),
            },
            content: content.into(),
        }
    }

    #[test]
    fn messages_come_back_and_short_ones_look_alike() {
        for length in [0, 1, 100, 300, 5000, Plaintext::MAX_CONTENT] {
            let message = plaintext(vec![9; length]);
            let padded = message.to_padded();
            assert_eq!(Plaintext::from_padded(&padded), Ok(message));
            assert!(padded.len() + 1024 <= crate::limits::APPLICATION_MESSAGE);
            assert!(padded.len() <= (length + 256) * 9 / 8);
        }
        assert_eq!(
            plaintext(vec![]).to_padded().len(),
            plaintext(vec![0; 150]).to_padded().len()
        );
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let padded = plaintext(vec![1, 2, 3]).to_padded();
        let with = |at: usize, byte: u8| {
            let mut bytes = padded.to_vec();
            bytes[at] = byte;
            Plaintext::from_padded(&bytes)
        };
        assert_eq!(with(1, 2), Err(DecodeError::InvalidValue("version")));
        assert_eq!(with(255, 1), Err(DecodeError::InvalidValue("padding")));
        assert_eq!(with(20, 7), Err(DecodeError::InvalidValue("media type")));
        assert_eq!(
            Plaintext::from_padded(&padded[..20]),
            Err(DecodeError::Truncated)
        );
    }
}
