//! A sender's ratchet: one key and nonce for each message (RFC 9420, section 9.1).

use std::collections::BTreeMap;

use crate::codec::{Decode, DecodeError, Encode, Reader, encode_prefixed};
use crate::crypto::{Secret, Suite};
use crate::error::{Error, InvalidMessage};
use crate::framing::ContentType;
use crate::tree_math::LeafIndex;

/// How many keys of messages that did not arrive yet are kept in one ratchet; the oldest go.
pub const MAX_SKIPPED: usize = 1_000;

/// How far ahead of the last message a message may be, so that a member cannot make others work
/// without bound.
pub const MAX_JUMP: u32 = 10_000;

/// What a ratchet's keys encrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RatchetKind {
    /// Proposals and commits.
    Handshake = 1,
    /// Application data.
    Application = 2,
}

impl RatchetKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Handshake, Self::Application];

    fn label(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Application => "application",
        }
    }
}

impl From<ContentType> for RatchetKind {
    fn from(content_type: ContentType) -> Self {
        match content_type {
            ContentType::Application => Self::Application,
            ContentType::Proposal | ContentType::Commit => Self::Handshake,
        }
    }
}

/// The key and nonce for one message.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageKey {
    /// Its number in the sender's ratchet.
    pub generation: u32,
    /// The AEAD's key.
    pub key: Secret,
    /// The AEAD's nonce, before the reuse guard.
    pub nonce: Secret,
}

/// The keys of one sender that were not used yet.
#[derive(Debug, PartialEq)]
pub struct Ratchet {
    sender: LeafIndex,
    /// The generation that `secret` belongs to.
    generation: u32,
    secret: Secret,
    /// Keys and nonces of earlier generations whose message did not arrive yet.
    skipped: BTreeMap<u32, (Secret, Secret)>,
}

impl Ratchet {
    /// The start of a ratchet, from the secret of the sender's leaf in the secret tree.
    #[must_use]
    pub fn new(suite: &dyn Suite, kind: RatchetKind, sender: LeafIndex, leaf: &Secret) -> Self {
        let secret = suite.expand_with_label(leaf, kind.label(), &[], suite.hash_length());
        Self {
            sender,
            generation: 0,
            secret,
            skipped: BTreeMap::new(),
        }
    }

    /// The generation of the next message, if all before it arrived.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The key of a generation. Nothing is used up.
    ///
    /// # Errors
    /// [`Error::KeyGone`] or [`InvalidMessage::TooFarAhead`].
    pub fn key(&self, suite: &dyn Suite, generation: u32) -> Result<MessageKey, Error> {
        let Some(jump) = self.jump(generation)? else {
            return self.skipped_key(generation);
        };
        let mut secret = self.secret.clone();
        for step in 0..jump {
            secret = next_secret(suite, &secret, self.generation + step);
        }
        Ok(message_key(suite, &secret, generation))
    }

    /// Takes the key of a generation out of the ratchet.
    ///
    /// # Errors
    /// As [`Self::key`]; then nothing changes.
    pub fn take(&mut self, suite: &dyn Suite, generation: u32) -> Result<MessageKey, Error> {
        let key = self.key(suite, generation)?;
        self.consume(suite, generation)?;
        Ok(key)
    }

    /// Uses the key of a generation up: it is gone, and so is what it was derived from. Keys of messages
    /// in between are kept.
    ///
    /// # Errors
    /// As [`Self::key`]; then nothing changes.
    pub fn consume(&mut self, suite: &dyn Suite, generation: u32) -> Result<(), Error> {
        let Some(jump) = self.jump(generation)? else {
            self.skipped_key(generation)?;
            self.skipped.remove(&generation);
            return Ok(());
        };
        for _ in 0..jump {
            if generation - self.generation <= MAX_SKIPPED as u32 {
                let MessageKey { key, nonce, .. } =
                    message_key(suite, &self.secret, self.generation);
                self.skipped.insert(self.generation, (key, nonce));
            }
            self.step(suite);
        }
        while self.skipped.len() > MAX_SKIPPED {
            self.skipped.pop_first();
        }
        self.step(suite);
        Ok(())
    }

    /// Steps from the current generation to that one, or `None` if it is behind.
    fn jump(&self, generation: u32) -> Result<Option<u32>, Error> {
        match generation.checked_sub(self.generation) {
            None => Ok(None),
            // The last generation is never used, since nothing could follow it.
            Some(jump) if jump <= MAX_JUMP && generation < u32::MAX => Ok(Some(jump)),
            Some(_) => Err(InvalidMessage::TooFarAhead { generation }.into()),
        }
    }

    fn skipped_key(&self, generation: u32) -> Result<MessageKey, Error> {
        let (key, nonce) = self
            .skipped
            .get(&generation)
            .ok_or(Error::KeyGone {
                sender: self.sender,
                generation,
            })?
            .clone();
        Ok(MessageKey {
            generation,
            key,
            nonce,
        })
    }

    fn step(&mut self, suite: &dyn Suite) {
        self.secret = next_secret(suite, &self.secret, self.generation);
        self.generation += 1;
    }
}

fn next_secret(suite: &dyn Suite, secret: &Secret, generation: u32) -> Secret {
    suite.derive_tree_secret(secret, "secret", generation, suite.hash_length())
}

fn message_key(suite: &dyn Suite, secret: &Secret, generation: u32) -> MessageKey {
    let derive = |label, length| suite.derive_tree_secret(secret, label, generation, length);
    MessageKey {
        generation,
        key: derive("key", suite.aead_key_length()),
        nonce: derive("nonce", suite.aead_nonce_length()),
    }
}

/// For storage.
impl Encode for Ratchet {
    fn encode(&self, out: &mut Vec<u8>) {
        self.sender.encode(out);
        self.generation.encode(out);
        self.secret.encode(out);
        encode_prefixed(out, |out| {
            for (generation, (key, nonce)) in &self.skipped {
                generation.encode(out);
                key.encode(out);
                nonce.encode(out);
            }
        });
    }
}

impl Decode for Ratchet {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let sender = LeafIndex::decode(reader)?;
        let generation = u32::decode(reader)?;
        let secret = Secret::decode(reader)?;
        let mut body = Reader::new(reader.prefixed()?);
        let mut skipped = BTreeMap::new();
        while !body.is_empty() {
            let skipped_generation = u32::decode(&mut body)?;
            let keys = (Secret::decode(&mut body)?, Secret::decode(&mut body)?);
            let previous = skipped.last_key_value().map(|(generation, _)| *generation);
            if skipped_generation >= generation || previous >= Some(skipped_generation) {
                return Err(DecodeError::InvalidValue("skipped"));
            }
            skipped.insert(skipped_generation, keys);
        }
        Ok(Self {
            sender,
            generation,
            secret,
            skipped,
        })
    }
}

impl Ratchet {
    /// About how many bytes the encoding takes, so that it is written without moving secrets about.
    pub(crate) fn encoded_capacity(&self) -> usize {
        128 + 96 * self.skipped.len()
    }
}

#[cfg(all(test, feature = "aws-lc"))]
mod tests {
    use super::*;
    use crate::crypto::{CipherSuite, CryptoProvider, aws_lc::PROVIDER};

    const SENDER: LeafIndex = LeafIndex(3);

    fn suite() -> &'static dyn Suite {
        let suite = CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519;
        PROVIDER.suite(suite).unwrap()
    }

    fn ratchet() -> Ratchet {
        Ratchet::new(suite(), RatchetKind::Application, SENDER, &Secret::zero(32))
    }

    #[test]
    fn keys_are_the_same_in_any_order() {
        let (mut forward, mut backward) = (ratchet(), ratchet());
        let first: Vec<_> = (0..20).map(|i| forward.take(suite(), i).unwrap()).collect();
        for generation in (0..20).rev() {
            let peeked = backward.key(suite(), generation).unwrap();
            assert_eq!(backward.take(suite(), generation).unwrap(), peeked);
            assert_eq!(peeked, first[generation as usize]);
        }
    }

    #[test]
    fn a_key_is_used_once() {
        let mut ratchet = ratchet();
        ratchet.take(suite(), 2).unwrap();
        let gone = Error::KeyGone {
            sender: SENDER,
            generation: 2,
        };
        assert_eq!(ratchet.take(suite(), 2), Err(gone.clone()));
        assert_eq!(ratchet.key(suite(), 2), Err(gone));
        ratchet.take(suite(), 0).unwrap();
        assert!(ratchet.take(suite(), 0).is_err());
        assert_eq!(ratchet.skipped.keys().copied().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn jumps_and_skipped_keys_are_bounded() {
        let mut ratchet = ratchet();
        let generation = MAX_JUMP + 1;
        let too_far = Error::from(InvalidMessage::TooFarAhead { generation });
        assert_eq!(ratchet.key(suite(), generation), Err(too_far.clone()));
        assert_eq!(ratchet.take(suite(), generation), Err(too_far));
        assert_eq!(ratchet.generation(), 0);
        ratchet.take(suite(), MAX_JUMP).unwrap();
        assert_eq!(ratchet.skipped.len(), MAX_SKIPPED);
        assert!(ratchet.key(suite(), MAX_JUMP - 1).is_ok());
        assert!(ratchet.key(suite(), MAX_JUMP - MAX_SKIPPED as u32).is_ok());
        let before = MAX_JUMP - MAX_SKIPPED as u32 - 1;
        assert!(ratchet.key(suite(), before).is_err());
        ratchet.take(suite(), MAX_JUMP + 500).unwrap();
        assert_eq!(ratchet.skipped.len(), MAX_SKIPPED);
        assert!(ratchet.key(suite(), MAX_JUMP - 1).is_ok());
        assert!(ratchet.key(suite(), MAX_JUMP - MAX_SKIPPED as u32).is_err());
    }

    #[test]
    fn storage_gives_the_same_ratchet_back() {
        let mut ratchet = ratchet();
        ratchet.take(suite(), 5).unwrap();
        let bytes = ratchet.to_bytes();
        assert!(bytes.len() <= ratchet.encoded_capacity());
        assert_eq!(Ratchet::from_bytes(&bytes).unwrap(), ratchet);
    }
}
