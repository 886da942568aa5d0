//! What a group's GroupContext says in Folkmoot's own extensions, from the range for private use
//! (RFC 9420, section 17.3).

use folkmoot_mls::codec::{Bytes, Decode, DecodeError, Encode, Reader, encode_bytes};
use folkmoot_mls::extension::{ExtensionContent, ExtensionType};
use folkmoot_mls::{tls_enum, tls_struct};
use zeroize::Zeroize;

use crate::keys::{BadSignature, PublicKey, SigningKey};
use crate::{Domain, Version};

/// The kinds of this module's extensions, for a leaf's capabilities.
pub const EXTENSION_TYPES: [ExtensionType; 5] = [
    AcceptedKeys::EXTENSION_TYPE,
    Policy::EXTENSION_TYPE,
    Title::EXTENSION_TYPE,
    Committers::EXTENSION_TYPE,
    LinkPolicy::EXTENSION_TYPE,
];

tls_struct! {
    /// An AS key that a group accepts, and the domain that it speaks for.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AcceptedKey {
        /// The part after the `@` of its users.
        pub domain: Domain,
        /// The AS's key.
        pub key: PublicKey,
    }
}

tls_struct! {
    /// The AS keys that a group accepts. A commit that adds a user of a new domain, or under a
    /// rotated key, adds the key too.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct AcceptedKeys {
        /// 1.
        pub version: Version,
        /// Without repetitions.
        pub keys: Vec<AcceptedKey>,
    }
}

impl AcceptedKeys {
    /// The most keys: a group that lists more accepts nobody new, since each credential is compared with
    /// all of them.
    pub const MAX: usize = 1024;

    /// A group that accepts one key.
    #[must_use]
    pub fn of(domain: Domain, key: PublicKey) -> Self {
        let keys = vec![AcceptedKey { domain, key }];
        Self {
            version: Version,
            keys,
        }
    }

    /// Whether `key` is accepted for `domain`.
    #[must_use]
    pub fn contains(&self, domain: &Domain, key: &PublicKey) -> bool {
        self.iter().any(|known| known == (domain, key))
    }

    /// Adds a key. Returns whether it was new.
    pub fn insert(&mut self, domain: Domain, key: PublicKey) -> bool {
        let new = !self.contains(&domain, &key);
        if new {
            self.keys.push(AcceptedKey { domain, key });
        }
        new
    }

    /// All of them, as [`DeviceCredential::verify`](crate::DeviceCredential::verify) takes them.
    pub fn iter(&self) -> impl Iterator<Item = (&Domain, &PublicKey)> {
        self.keys.iter().map(|known| (&known.domain, &known.key))
    }
}

impl ExtensionContent for AcceptedKeys {
    const EXTENSION_TYPE: ExtensionType = ExtensionType(0xf041);
}

tls_struct! {
    /// Who may do what in a group. Version 0, until roles exist: any member may add and remove.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Policy {
        /// 0.
        pub version: Version<0>,
    }
}

impl ExtensionContent for Policy {
    const EXTENSION_TYPE: ExtensionType = ExtensionType(0xf042);
}

tls_struct! {
    /// A member who may commit, where that is named: every commit is signed by the key of one of them, so
    /// that the author of one that nobody can read is known all the same. The key is random and stands for
    /// the member in this group's log only.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Committer {
        /// The member's leaf.
        pub leaf: u32,
        /// Its device: its first signature key.
        pub device: PublicKey,
        /// What it signs commits with.
        pub key: PublicKey,
        /// By the device, over [`CommitterStatement`]: nobody registers a key in another's name.
        pub signature: Bytes,
    }
}

tls_struct! {
    /// What a device signs that offers to be a committer.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CommitterStatement {
        /// 1.
        pub version: Version,
        /// The group's id.
        pub group_id: Bytes,
        /// The key.
        pub key: PublicKey,
    }
}

impl Committer {
    const LABEL: &str = "committer";

    /// An offer of the device at a leaf.
    #[must_use]
    pub fn offer(leaf: u32, device: &SigningKey, group_id: &[u8], key: PublicKey) -> Self {
        let statement = CommitterStatement {
            version: Version,
            group_id: group_id.into(),
            key,
        };
        Self {
            leaf,
            device: device.public(),
            key,
            signature: device.sign(Self::LABEL, &statement).into(),
        }
    }

    /// Checks that the device offered this key to this group, and that it is not anybody's.
    ///
    /// # Errors
    /// [`BadSignature`]: whoever registered it is to blame.
    pub fn verify(&self, group_id: &[u8]) -> Result<(), BadSignature> {
        let statement = CommitterStatement {
            version: Version,
            group_id: group_id.into(),
            key: self.key,
        };
        if self.key.is_anybodys() {
            return Err(BadSignature);
        }
        self.device.verify(Self::LABEL, &statement, &self.signature)
    }
}

tls_struct! {
    /// Who may commit. A group without this, or with nobody in it, lets every member.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Committers {
        /// 1.
        pub version: Version,
        /// Each device and each key once.
        pub committers: Vec<Committer>,
    }
}

impl Committers {
    /// Their keys, as the log is told them.
    #[must_use]
    pub fn keys(&self) -> Vec<PublicKey> {
        self.committers
            .iter()
            .map(|committer| committer.key)
            .collect()
    }
}

impl ExtensionContent for Committers {
    const EXTENSION_TYPE: ExtensionType = ExtensionType(0xf046);
}

/// What a group is called: at most 256 bytes of UTF-8 without control characters, which could
/// play tricks on a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Title(String);

impl Title {
    /// The most bytes that a title may have.
    pub const MAX: usize = 256;

    /// A title; `None` if it is too long or has control characters.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let allowed = text.len() <= Self::MAX && !text.chars().any(char::is_control);
        allowed.then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Encode for Title {
    fn encode(&self, out: &mut Vec<u8>) {
        Version::<1>.encode(out);
        encode_bytes(self.0.as_bytes(), out);
    }
}

impl Decode for Title {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Version::<1>::decode(reader)?;
        std::str::from_utf8(reader.prefixed()?)
            .ok()
            .and_then(Self::new)
            .ok_or(DecodeError::InvalidValue("title"))
    }
}

impl ExtensionContent for Title {
    const EXTENSION_TYPE: ExtensionType = ExtensionType(0xf043);
}

tls_enum! {
    /// Who answers those who knock.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum LinkMode: u8 {
        /// Members are asked.
        Ask = 1,
        /// The first member that is online, unasked; but not who was removed from the group before.
        Automatic = 2,
    }
}

tls_struct! {
    /// That a group has a link, at which people outside can knock. A group without one lacks this
    /// extension. When it changes, and when somebody is removed, the link is replaced.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LinkPolicy {
        /// 1.
        pub version: Version,
        /// Who answers.
        pub mode: LinkMode,
        /// Counts the links that were made by a commit, from 1.
        pub number: u64,
    }
}

impl ExtensionContent for LinkPolicy {
    const EXTENSION_TYPE: ExtensionType = ExtensionType(0xf047);
}

tls_struct! {
    /// What a newcomer has to know of the group's link, and whom it does not let in unasked. In the
    /// GroupInfo of a Welcome, so a word of whoever adds it.
    #[derive(Clone, Default, PartialEq, Eq)]
    pub struct LinkShare {
        /// 1.
        pub version: Version,
        /// Whether the link follows from the newcomer's first epoch.
        pub this_epoch: bool,
        /// Else what it follows from, if there is one.
        pub seed: Option<[u8; 32]>,
        /// Hashes of those who were removed, at most [`LinkShare::MOST_BARRED`].
        pub barred: Vec<[u8; 32]>,
    }
}

impl LinkShare {
    /// How many are named at most.
    pub const MOST_BARRED: usize = 1000;
}

impl ExtensionContent for LinkShare {
    const EXTENSION_TYPE: ExtensionType = ExtensionType(0xf048);
}

/// The seed is wiped.
impl Drop for LinkShare {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

impl std::fmt::Debug for LinkShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkShare").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_once_and_for_its_domain_only() {
        let here: Domain = "here".parse().unwrap();
        let there: Domain = "there".parse().unwrap();
        let key = PublicKey([1; 32]);
        let mut keys = AcceptedKeys::of(here.clone(), key);
        assert!(!keys.insert(here.clone(), key));
        assert!(!keys.contains(&there, &key));
        assert!(keys.insert(there.clone(), key));
        assert!(keys.contains(&there, &key));
        assert_eq!(keys.keys.len(), 2);
    }

    #[test]
    fn titles_are_short_and_harmless() {
        assert_eq!(Title::new("Moot 1").unwrap().as_str(), "Moot 1");
        assert_eq!(Title::new("\x1b[2J"), None);
        assert_eq!(Title::new(&"a".repeat(257)), None);
        assert_eq!(
            Title::from_bytes(b"\x00\x01\x01\x07"),
            Err(DecodeError::InvalidValue("title"))
        );
        assert_eq!(
            Policy::from_bytes(&[0, 1]),
            Err(DecodeError::InvalidValue("version"))
        );
    }
}
