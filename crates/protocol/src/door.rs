//! Doors: where people outside of a group knock.
//!
//! Nobody outside of a group can write to its log. A [`Link`] leads to a *door*, a mailbox made for
//! the purpose, into which whoever has the link drops a sealed [`Knock`]: a KeyPackage, and another
//! door at the same DS at which the knocker waits for the invitation. A door differs from a device's
//! mailbox in that its ticket is a standing one, good for any number of envelopes (bounded in size,
//! number and rate), and in that it is closed for good.
//!
//! All that belongs to a door follows from one seed ([`DoorKeys`]). That of a group's door is
//! exported from the epoch in which the link was made, or in which somebody was removed last
//! ([`COMPONENT`]): every member has it, so that any of them can answer; nobody who was removed does.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use folkmoot_mls::codec::{Bytes, Decode, DecodeError, Encode};
use folkmoot_mls::component::ComponentID;
use folkmoot_mls::crypto::{CryptoError, HpkeKeyPair, Secret, Suite};
use folkmoot_mls::tls_struct;
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use crate::VERSION;
use crate::ids::MailboxId;
use crate::keys::{BadSignature, PublicKey, SigningKey, hash};
use crate::sealed::{self, SealError, suite};

/// The component whose safe exporter secret gives a group's door (draft-ietf-mls-extensions, from the
/// range for private use).
pub const COMPONENT: ComponentID = ComponentID(0xf045);

/// What a link begins with.
pub const SCHEME: &str = "folkmoot:";

/// The longest link, in characters.
pub const LONGEST_LINK: usize = 1024;

/// The longest URL of a Delivery Service in a link, in bytes.
const LONGEST_URL: usize = 256;

const CHECKSUM: usize = 4;

/// The seed of a group's door, out of what the epoch's safe exporter gave for [`COMPONENT`]. `suite`
/// is the group's.
#[must_use]
pub fn door_seed(suite: &dyn Suite, exported: &Secret) -> Zeroizing<[u8; 32]> {
    array(&suite.expand_with_label(exported, "door seed", &[], 32))
}

/// How a service knows a standing ticket again: it keeps no more than this.
#[must_use]
pub fn ticket_hash(ticket: &[u8; 32]) -> [u8; 32] {
    hash("door ticket", ticket)
}

fn array(secret: &Secret) -> Zeroizing<[u8; 32]> {
    let mut array = Zeroizing::new([0; 32]);
    array.copy_from_slice(secret);
    array
}

/// What opens a door from inside.
pub struct DoorKeys {
    /// Owns the mailbox.
    pub owner: SigningKey,
    /// What is dropped is sealed to its public half.
    pub key: HpkeKeyPair,
    /// Lets envelopes in.
    pub ticket: Zeroizing<[u8; 32]>,
}

impl DoorKeys {
    /// Those that follow from a seed, which is a secret of full strength.
    #[must_use]
    pub fn derive(seed: &[u8; 32]) -> Self {
        let expand = |label| array(&suite().expand_with_label(seed, label, &[], 32));
        Self {
            owner: SigningKey::from_seed(expand("door owner")),
            key: suite().kem_derive_key_pair(expand("door key").as_ref()),
            ticket: expand("door ticket"),
        }
    }

    /// The mailbox.
    #[must_use]
    pub fn mailbox(&self) -> MailboxId {
        MailboxId::of(&self.owner.public())
    }

    /// What those outside are told. `None` never, for a key of the suite that doors use.
    #[must_use]
    pub fn door(&self) -> Option<Door> {
        Some(Door {
            mailbox: self.mailbox(),
            key: sealed::mailbox_public_key(self.key.public_key())?,
            ticket: *self.ticket,
        })
    }
}

tls_struct! {
    /// A door from outside: what it takes to drop something.
    #[derive(Clone, PartialEq, Eq)]
    pub struct Door {
        /// The mailbox.
        pub mailbox: MailboxId,
        /// Seal to it: HPKE of cipher suite 1, X25519.
        pub key: [u8; 32],
        /// The standing ticket. Whoever has it can drop.
        pub ticket: [u8; 32],
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

/// The ticket is wiped.
impl Drop for Door {
    fn drop(&mut self) {
        self.ticket.zeroize();
    }
}

/// A text is no link, or one that cannot be used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// It does not begin as a link does, is too long, or has letters that no link has.
    #[error("this is no link: it has to begin with '{SCHEME}' and be given whole")]
    NotALink,
    /// A letter is wrong or missing.
    #[error("the link is damaged: a letter is wrong or missing; copy it again")]
    Damaged,
    /// It is of a version that is not known here.
    #[error("the link is of version {0}, which is not known here: use a newer program")]
    Version(u16),
    /// It names no service that can be reached.
    #[error("the link names no server: whoever made it is to blame")]
    Address,
}

tls_struct! {
    /// What a link says: where to knock. Its text is [`SCHEME`] and, in base64url without padding,
    /// the encoding followed by the first four bytes of its hash under the label `link`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Link {
        /// [`crate::VERSION`].
        pub version: u16,
        /// The DS: `https://host:port`, UTF-8.
        pub delivery_url: Bytes,
        /// That DS's signing key.
        pub delivery_key: PublicKey,
        /// How its TLS certificate is known: empty for the web's roots, else SHA-256 of the
        /// public key to pin.
        pub delivery_pin: Bytes,
        /// The door.
        pub door: Door,
    }
}

impl Link {
    fn checksum(&self) -> [u8; CHECKSUM] {
        let [a, b, c, d, ..] = hash("link", self);
        [a, b, c, d]
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = Zeroizing::new(self.to_bytes());
        bytes.extend_from_slice(&self.checksum());
        f.write_str(SCHEME)?;
        f.write_str(&URL_SAFE_NO_PAD.encode(&*bytes))
    }
}

impl std::str::FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let text = text.trim();
        if text.len() > LONGEST_LINK {
            return Err(LinkError::NotALink);
        }
        let encoded = text.strip_prefix(SCHEME).ok_or(LinkError::NotALink)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded);
        let bytes = Zeroizing::new(bytes.map_err(|_| LinkError::NotALink)?);
        let (content, checksum) = bytes
            .split_last_chunk::<CHECKSUM>()
            .ok_or(LinkError::Damaged)?;
        // The version first: another one may look otherwise.
        match content.first_chunk().copied().map(u16::from_be_bytes) {
            Some(VERSION) => {}
            Some(version) => return Err(LinkError::Version(version)),
            None => return Err(LinkError::Damaged),
        }
        let link = Self::from_bytes(content).map_err(|_| LinkError::Damaged)?;
        if link.checksum() != *checksum {
            return Err(LinkError::Damaged);
        }
        let url = std::str::from_utf8(&link.delivery_url).ok();
        let is_address = url.is_some_and(|url| {
            url.starts_with("https://")
                && url.len() <= LONGEST_URL
                && url.bytes().all(|byte| byte.is_ascii_graphic())
        });
        if is_address && matches!(link.delivery_pin.len(), 0 | 32) {
            Ok(link)
        } else {
            Err(LinkError::Address)
        }
    }
}

tls_struct! {
    /// What somebody outside says at a door. Signed by the device whose KeyPackage it is, under the
    /// label `knock`: nobody else can have a device take another's place.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Knock {
        /// [`crate::VERSION`].
        pub version: u16,
        /// The door at which it knocks, so that the knock is good at no other.
        pub door: MailboxId,
        /// An MLSMessage with the KeyPackage.
        pub key_package: Bytes,
        /// Whether this is the only device that its user has: it takes the place of all others.
        /// A device that is in the group already takes its own place in any case.
        pub only_device: bool,
        /// Where the invitation is waited for: a door at the same DS.
        pub answer: Door,
    }
}

tls_struct! {
    struct SignedKnock {
        knock: Knock,
        signature: [u8; 64],
    }
}

impl Knock {
    const LABEL: &str = "knock";

    /// Signs with the device's key, and seals to the door.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`]: whoever made the link is to blame.
    pub fn seal(
        self,
        device: &SigningKey,
        door: &Door,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, CryptoError> {
        let signature = device.sign(Self::LABEL, &self);
        let signed = SignedKnock {
            knock: self,
            signature,
        };
        sealed::seal_knock(&door.key, &Zeroizing::new(signed.to_bytes()), rng)
    }

    /// Opens what came in at a door, with the signature, which is not checked yet.
    ///
    /// # Errors
    /// [`SealError`]: whoever dropped it is to blame.
    pub fn open(keys: &DoorKeys, envelope: &[u8]) -> Result<(Self, [u8; 64]), SealError> {
        let content = sealed::open_knock(&keys.key, envelope)?;
        let SignedKnock { knock, signature } = SignedKnock::from_bytes(&content)?;
        if knock.version != VERSION {
            return Err(SealError::Version(knock.version));
        }
        if knock.door != keys.mailbox() {
            return Err(DecodeError::InvalidValue("door").into());
        }
        Ok((knock, signature))
    }

    /// Checks the signature by the device's key.
    ///
    /// # Errors
    /// [`BadSignature`]: whoever dropped it is to blame.
    pub fn verify(&self, device: &PublicKey, signature: &[u8; 64]) -> Result<(), BadSignature> {
        device.verify(Self::LABEL, self, signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed::tests::Counting;

    fn link() -> Link {
        Link {
            version: VERSION,
            delivery_url: b"https://localhost:8443".as_slice().into(),
            delivery_key: PublicKey([1; 32]),
            delivery_pin: [2; 32].into(),
            door: DoorKeys::derive(&[3; 32]).door().unwrap(),
        }
    }

    #[test]
    fn a_link_survives_its_text_and_no_other_letter() {
        let text = link().to_string();
        assert!(text.len() < 320, "{}", text.len());
        assert_eq!(text.parse(), Ok(link()));
        assert_eq!(format!("  {text}\n").parse(), Ok(link()));
        for at in 0..text.len() {
            let mut letters: Vec<char> = text.chars().collect();
            letters[at] = if letters[at] == 'A' { 'B' } else { 'A' };
            let other: String = letters.iter().collect();
            assert!(other.parse::<Link>().is_err(), "{at}");
            assert!(text[..at].parse::<Link>().is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_no_link_is_told_apart() {
        let text = |change: &dyn Fn(&mut Link)| {
            let mut link = link();
            change(&mut link);
            link.to_string()
        };
        for (text, error) in [
            ("https://example.org".to_owned(), LinkError::NotALink),
            (SCHEME.to_owned(), LinkError::Damaged),
            (format!("{SCHEME}#"), LinkError::NotALink),
            (format!("{SCHEME}{}", "A".repeat(2000)), LinkError::NotALink),
            (text(&|link| link.version = 7), LinkError::Version(7)),
            (
                text(&|link| link.delivery_url = b"http://h".as_slice().into()),
                LinkError::Address,
            ),
            (
                text(&|link| link.delivery_url = [b"https://".as_slice(), &[7]].concat().into()),
                LinkError::Address,
            ),
            (
                text(&|link| {
                    let url = format!("https://{}", "a".repeat(LONGEST_URL));
                    link.delivery_url = url.as_bytes().into();
                }),
                LinkError::Address,
            ),
            (
                text(&|link| link.delivery_pin = [1; 31].into()),
                LinkError::Address,
            ),
        ] {
            assert_eq!(text.parse::<Link>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_knock_opens_at_its_door_alone() {
        let mut rng = Counting(0);
        let device = SigningKey::from_seed([7; 32].into());
        let (ours, other) = (DoorKeys::derive(&[3; 32]), DoorKeys::derive(&[4; 32]));
        let knock = |door: &DoorKeys| Knock {
            version: VERSION,
            door: door.mailbox(),
            key_package: [5; 900].into(),
            only_device: true,
            answer: DoorKeys::derive(&[6; 32]).door().unwrap(),
        };
        let door = ours.door().unwrap();
        let envelope = knock(&ours).seal(&device, &door, &mut rng).unwrap();
        assert!(envelope.len() <= crate::limits::ENVELOPE);
        let (opened, signature) = Knock::open(&ours, &envelope).unwrap();
        assert_eq!(opened, knock(&ours));
        assert_eq!(opened.verify(&device.public(), &signature), Ok(()));
        let mut changed = opened.clone();
        changed.only_device = false;
        assert!(changed.verify(&device.public(), &signature).is_err());
        assert!(Knock::open(&other, &envelope).is_err());
        // Carried on to another door by somebody who has both links.
        let carried = knock(&other).seal(&device, &door, &mut rng).unwrap();
        let expected = DecodeError::InvalidValue("door").into();
        assert_eq!(Knock::open(&ours, &carried), Err(expected));
        let newer = Knock {
            version: 7,
            ..knock(&ours)
        };
        let newer = newer.seal(&device, &door, &mut rng).unwrap();
        assert_eq!(Knock::open(&ours, &newer), Err(SealError::Version(7)));
        // An invitation is no knock.
        let invitation = sealed::seal_envelope(0, &door.key, &[1; 50], &mut rng).unwrap();
        assert!(Knock::open(&ours, &invitation).is_err());
    }
}
