//! The keys of one epoch that are used up, as one value (RFC 9420, section 9; RULES of storage in
//! [`records`](crate::records)).
//!
//! [`MessageKeys`] is all that an epoch's messages are encrypted and decrypted with, and what is needed
//! to judge their signatures. It lives beside the group, not in it: a group is cloned and dropped
//! freely, message keys must never come back. So this type is not `Clone`, each call that uses a key up
//! says so in its [`Changes`], and a call that fails changes nothing. The keys of a past epoch stay
//! usable for as long as they are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand_core::CryptoRng;

use crate::code_point::WireFormat;
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader};
use crate::crypto::{CryptoProvider, Secret, SignatureKeyPair, SignaturePublicKey, Suite};
use crate::error::{Error, InvalidMessage};
use crate::framing::{
    AuthenticatedContent, Content, FramedContent, PrivateMessage, Sender, SenderData,
};
use crate::group_context::GroupContext;
use crate::ratchet::{MessageKey, Ratchet, RatchetKind};
use crate::records::{Changes, DamagedRecord, RecordKey, RecordKind, Records};
use crate::safe_exporter::SafeExporter;
use crate::secret_tree::SecretTree;
use crate::tree_math::LeafIndex;

/// The version of the records below.
const VERSION: u8 = 1;

/// Members' signature keys in one epoch: its ratchet tree.
pub trait SignatureKeys: Send + Sync {
    /// The key in the leaf, or `None` if the leaf is blank or outside of the tree.
    fn signature_key(&self, leaf: LeafIndex) -> Option<SignaturePublicKey>;
}

/// What the message keys of an epoch start from.
#[derive(Debug)]
pub struct EpochKeys {
    /// The epoch's context.
    pub context: GroupContext,
    /// Our leaf.
    pub own: LeafIndex,
    /// The width of the ratchet tree, blank leaves included.
    pub leaf_count: u32,
    /// `sender_data_secret`.
    pub sender_data_secret: Secret,
    /// `encryption_secret`.
    pub encryption_secret: Secret,
    /// `application_export_secret`.
    pub application_export_secret: Secret,
}

/// The keys of an epoch that were not used yet.
pub struct MessageKeys {
    suite: &'static dyn Suite,
    context: GroupContext,
    own: LeafIndex,
    sender_data_secret: Secret,
    tree: SecretTree,
    ratchets: BTreeMap<(LeafIndex, RatchetKind), Ratchet>,
    exporter: SafeExporter,
    signature_keys: Arc<dyn SignatureKeys>,
}

/// A message that was decrypted and whose signature is valid. Its key is not used up yet.
#[derive(Debug)]
pub struct Opened {
    /// What it says.
    pub content: AuthenticatedContent,
    /// Who sent it.
    pub sender: LeafIndex,
    generation: u32,
}

/// Application data that somebody sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Decrypted {
    /// Who sent it.
    pub sender: LeafIndex,
    /// Its number among the sender's application messages of this epoch.
    pub generation: u32,
    /// What it says in clear.
    pub authenticated_data: Bytes,
    /// What it says.
    pub data: Bytes,
}

impl MessageKeys {
    /// The keys of a new epoch, and the records to write.
    ///
    /// `suite` is that of the epoch's context.
    #[must_use]
    pub fn new(
        suite: &'static dyn Suite,
        epoch: EpochKeys,
        signature_keys: Arc<dyn SignatureKeys>,
    ) -> (Self, Changes) {
        let keys = Self {
            suite,
            context: epoch.context,
            own: epoch.own,
            sender_data_secret: epoch.sender_data_secret,
            tree: SecretTree::with_leaves(epoch.encryption_secret, epoch.leaf_count),
            ratchets: BTreeMap::new(),
            exporter: SafeExporter::new(epoch.application_export_secret),
            signature_keys,
        };
        let mut changes = Changes::default();
        changes.put(keys.epoch_key(), keys.epoch_record());
        keys.put_nodes(keys.tree.secrets().map(|(node, _)| node), &mut changes);
        changes.put(keys.exporter_key(), keys.exporter_record());
        (keys, changes)
    }

    /// The keys of an epoch as they were stored. `signature_keys` is the epoch's tree.
    ///
    /// # Errors
    /// [`Error::DamagedRecord`], [`Error::UnsupportedCipherSuite`].
    pub fn load(
        provider: &dyn CryptoProvider,
        epoch: u64,
        records: &dyn Records,
        signature_keys: Arc<dyn SignatureKeys>,
    ) -> Result<Self, Error> {
        let stored: StoredEpoch = load_record(records, epoch_key(epoch))?;
        let cipher_suite = stored.context.cipher_suite;
        let suite = provider
            .suite(cipher_suite)
            .ok_or(Error::UnsupportedCipherSuite(cipher_suite))?;
        if stored.context.epoch != epoch || u32::from(stored.height) > SecretTree::MAX_HEIGHT {
            return Err(DamagedRecord(epoch_key(epoch)).into());
        }
        let (tree, ratchets) = load_tree(records, epoch, stored.height.into())?;
        Ok(Self {
            suite,
            context: stored.context,
            own: stored.own,
            sender_data_secret: stored.sender_data_secret,
            tree,
            ratchets,
            exporter: load_record(records, exporter_key(epoch))?,
            signature_keys,
        })
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.context.epoch
    }

    /// The epoch's context.
    #[must_use]
    pub fn group_context(&self) -> &GroupContext {
        &self.context
    }

    /// Our leaf.
    #[must_use]
    pub fn own_index(&self) -> LeafIndex {
        self.own
    }

    /// Signs and encrypts application data under our next key, with as many zero bytes of padding.
    ///
    /// # Errors
    /// [`Error::RatchetExhausted`]; [`CryptoError::InvalidPrivateKey`], the caller's.
    ///
    /// [`CryptoError::InvalidPrivateKey`]: crate::crypto::CryptoError::InvalidPrivateKey
    pub fn encrypt(
        &mut self,
        signer: &SignatureKeyPair,
        authenticated_data: &[u8],
        data: &[u8],
        padding: usize,
        rng: &mut dyn CryptoRng,
    ) -> Result<(PrivateMessage, Changes), Error> {
        let content = FramedContent {
            group_id: self.context.group_id.clone(),
            epoch: self.context.epoch,
            sender: Sender::Member(self.own),
            authenticated_data: authenticated_data.into(),
            content: Content::Application(data.into()),
        };
        let wire_format = WireFormat::PRIVATE_MESSAGE;
        let signed =
            AuthenticatedContent::sign(self.suite, signer, wire_format, content, &self.context)?;
        self.protect(&signed, padding, rng)
    }

    /// Encrypts our own signed content of any kind under the next key of its kind.
    ///
    /// # Errors
    /// [`Error::RatchetExhausted`]; [`InvalidMessage::SenderType`] if the content is not our own, or
    /// [`Error::WrongEpoch`] if it is of another epoch: the caller's.
    pub fn protect(
        &mut self,
        authenticated: &AuthenticatedContent,
        padding: usize,
        rng: &mut dyn CryptoRng,
    ) -> Result<(PrivateMessage, Changes), Error> {
        let content = &authenticated.content;
        self.check_epoch(&content.group_id, content.epoch)?;
        if content.sender != Sender::Member(self.own) {
            return Err(InvalidMessage::SenderType.into());
        }
        let kind = content.content.content_type().into();
        let generation = self
            .ratchets
            .get(&(self.own, kind))
            .map_or(0, |ratchet| ratchet.generation());
        if generation == u32::MAX {
            return Err(Error::RatchetExhausted);
        }
        let key = self.key(self.own, kind, generation)?;
        let secret = &self.sender_data_secret;
        let message =
            PrivateMessage::protect(self.suite, secret, &key, authenticated, padding, rng)?;
        let changes = self.take(self.own, kind, generation)?;
        Ok((message, changes))
    }

    /// Decrypts application data, and uses its key up.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::UnexpectedContent`] for a proposal or a commit, which a group
    /// processes.
    pub fn decrypt(&mut self, message: &PrivateMessage) -> Result<(Decrypted, Changes), Error> {
        if RatchetKind::from(message.content_type) != RatchetKind::Application {
            return Err(Error::UnexpectedContent(message.content_type));
        }
        let opened = self.open(message)?;
        let changes = self.consume(&opened)?;
        let Opened {
            content: AuthenticatedContent { content, .. },
            sender,
            generation,
        } = opened;
        let Content::Application(data) = content.content else {
            return Err(Error::UnexpectedContent(message.content_type));
        };
        let authenticated_data = content.authenticated_data;
        Ok((
            Decrypted {
                sender,
                generation,
                authenticated_data,
                data,
            },
            changes,
        ))
    }

    /// Decrypts a message of any kind and verifies its signature. The key stays until
    /// [`Self::consume`], so that a message which proves invalid later changes nothing.
    ///
    /// # Errors
    /// - [`Error::WrongGroup`], [`Error::WrongEpoch`]: it is not for these keys.
    /// - [`Error::OwnMessage`]: it is our own.
    /// - [`Error::KeyGone`]: it came before, or too late.
    /// - [`Error::InvalidMessage`], [`Error::Crypto`], [`Error::Decode`]: the sender's.
    pub fn open(&self, message: &PrivateMessage) -> Result<Opened, Error> {
        let sender_data = self.sender(message)?;
        let SenderData {
            leaf_index: sender,
            generation,
            ..
        } = sender_data;
        if sender == self.own {
            return Err(Error::OwnMessage);
        }
        let public_key = self
            .signature_keys
            .signature_key(sender)
            .ok_or(InvalidMessage::UnknownSender)?;
        let key = self.key(sender, message.content_type.into(), generation)?;
        let content = message.unprotect(self.suite, &key, &sender_data)?;
        content.verify(self.suite, &public_key, &self.context)?;
        Ok(Opened {
            content,
            sender,
            generation,
        })
    }

    /// Uses up the key of a message that was opened.
    ///
    /// # Errors
    /// [`Error::KeyGone`] if it was used up since.
    pub fn consume(&mut self, opened: &Opened) -> Result<Changes, Error> {
        let kind = opened.content.content.content.content_type().into();
        self.take(opened.sender, kind, opened.generation)
    }

    /// Who wrote a message, and under which key, as it says itself. Uses nothing up; so our own
    /// messages are told from others', whose signature is not verified here.
    ///
    /// # Errors
    /// [`Error::WrongGroup`], [`Error::WrongEpoch`]; [`Error::Crypto`] or [`Error::Decode`], the
    /// sender's.
    pub fn sender(&self, message: &PrivateMessage) -> Result<SenderData, Error> {
        self.check_epoch(&message.group_id, message.epoch)?;
        message.sender_data(self.suite, &self.sender_data_secret)
    }

    /// The secret of a component, once in this epoch (draft-ietf-mls-extensions, section 4.4).
    ///
    /// # Errors
    /// [`Error::AlreadyExported`], the caller's.
    pub fn safe_export(&mut self, component_id: u16) -> Result<(Secret, Changes), Error> {
        let secret = self.exporter.export(self.suite, component_id)?;
        let mut changes = Changes::default();
        changes.put(self.exporter_key(), self.exporter_record());
        Ok((secret, changes))
    }

    /// What to delete from storage when the epoch's keys go. Those of earlier epochs go first, since
    /// their signature keys are found through this epoch's.
    #[must_use]
    pub fn deletion(&self) -> Changes {
        let epoch = self.epoch();
        let signature_keys = RecordKey::new(RecordKind::SignatureKeys, &epoch);
        let mut delete = vec![self.epoch_key(), self.exporter_key(), signature_keys];
        delete.extend(self.tree.secrets().map(|(node, _)| node_key(epoch, node)));
        delete.extend(
            self.ratchets
                .keys()
                .map(|(leaf, kind)| ratchet_key(epoch, *leaf, *kind)),
        );
        Changes {
            put: Vec::new(),
            delete,
        }
    }

    fn check_epoch(&self, group_id: &[u8], epoch: u64) -> Result<(), Error> {
        if *group_id != *self.context.group_id {
            return Err(Error::WrongGroup);
        }
        if epoch != self.epoch() {
            return Err(Error::WrongEpoch {
                message: epoch,
                current: self.epoch(),
            });
        }
        Ok(())
    }

    /// The key of a message. Uses nothing up.
    fn key(
        &self,
        sender: LeafIndex,
        kind: RatchetKind,
        generation: u32,
    ) -> Result<MessageKey, Error> {
        if let Some(ratchet) = self.ratchets.get(&(sender, kind)) {
            return ratchet.key(self.suite, generation);
        }
        let leaf = self
            .tree
            .leaf(self.suite, sender.0)
            .ok_or(InvalidMessage::UnknownSender)?;
        Ratchet::new(self.suite, kind, sender, &leaf).key(self.suite, generation)
    }

    /// Uses up the key of a message.
    fn take(
        &mut self,
        sender: LeafIndex,
        kind: RatchetKind,
        generation: u32,
    ) -> Result<Changes, Error> {
        self.key(sender, kind, generation)?;
        let mut changes = Changes::default();
        if let Some((leaf, taken)) = self.tree.take_leaf(self.suite, sender.0) {
            changes.delete(node_key(self.epoch(), taken.removed));
            self.put_nodes(taken.added, &mut changes);
            for kind in RatchetKind::ALL {
                let ratchet = Ratchet::new(self.suite, kind, sender, &leaf);
                self.ratchets.insert((sender, kind), ratchet);
            }
            for other in RatchetKind::ALL.into_iter().filter(|other| *other != kind) {
                self.put_ratchet(sender, other, &mut changes);
            }
        }
        if let Some(ratchet) = self.ratchets.get_mut(&(sender, kind)) {
            ratchet.take(self.suite, generation)?;
        }
        self.put_ratchet(sender, kind, &mut changes);
        Ok(changes)
    }

    fn put_nodes(&self, nodes: impl IntoIterator<Item = u32>, changes: &mut Changes) {
        for node in nodes {
            if let Some(secret) = self.tree.secret(node) {
                changes.put(node_key(self.epoch(), node), versioned(secret, 80));
            }
        }
    }

    fn put_ratchet(&self, sender: LeafIndex, kind: RatchetKind, changes: &mut Changes) {
        if let Some(ratchet) = self.ratchets.get(&(sender, kind)) {
            let value = versioned(ratchet, ratchet.encoded_capacity());
            changes.put(ratchet_key(self.epoch(), sender, kind), value);
        }
    }

    fn epoch_key(&self) -> RecordKey {
        epoch_key(self.epoch())
    }

    fn exporter_key(&self) -> RecordKey {
        exporter_key(self.epoch())
    }

    fn exporter_record(&self) -> Vec<u8> {
        versioned(&self.exporter, self.exporter.encoded_capacity())
    }

    fn epoch_record(&self) -> Vec<u8> {
        // The secret is last, so that it is written once there is room for all.
        let stored = StoredEpoch {
            context: self.context.clone(),
            own: self.own,
            height: self.tree.height() as u8,
            sender_data_secret: self.sender_data_secret.clone(),
        };
        versioned(&stored, 256 + self.context.to_bytes().len())
    }
}

impl std::fmt::Debug for MessageKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageKeys")
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}

crate::tls_struct! {
    /// The record of what an epoch's keys have in common.
    struct StoredEpoch {
        context: GroupContext,
        own: LeafIndex,
        height: u8,
        sender_data_secret: Secret,
    }
}

fn epoch_key(epoch: u64) -> RecordKey {
    RecordKey::new(RecordKind::MessageKeys, &epoch)
}

fn exporter_key(epoch: u64) -> RecordKey {
    RecordKey::new(RecordKind::Exporter, &epoch)
}

fn node_key(epoch: u64, node: u32) -> RecordKey {
    RecordKey::new(RecordKind::SecretTreeNode, &(epoch, node))
}

fn ratchet_key(epoch: u64, sender: LeafIndex, kind: RatchetKind) -> RecordKey {
    RecordKey::new(RecordKind::Ratchet, &(epoch, (sender, kind as u8)))
}

/// A record's value: a version and the structure, written into one allocation of `capacity` bytes.
fn versioned(value: &impl Encode, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    VERSION.encode(&mut out);
    value.encode(&mut out);
    out
}

fn load_record<T: Decode>(records: &dyn Records, key: RecordKey) -> Result<T, DamagedRecord> {
    find_record(records, &key)?.ok_or(DamagedRecord(key))
}

fn find_record<T: Decode>(
    records: &dyn Records,
    key: &RecordKey,
) -> Result<Option<T>, DamagedRecord> {
    let Some(bytes) = records.get(key) else {
        return Ok(None);
    };
    let read = || -> Result<T, DecodeError> {
        let mut reader = Reader::new(&bytes);
        if u8::decode(&mut reader)? != VERSION {
            return Err(DecodeError::InvalidValue("version"));
        }
        let value = T::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    };
    read().map(Some).map_err(|_| DamagedRecord(key.clone()))
}

type Ratchets = BTreeMap<(LeafIndex, RatchetKind), Ratchet>;

/// Finds the secrets that are left by walking from the root. Below a node without a secret both
/// children are there, and a leaf without one has its ratchets. So a record that is missing is
/// noticed on the first leaf below it.
fn load_tree(
    records: &dyn Records,
    epoch: u64,
    height: u32,
) -> Result<(SecretTree, Ratchets), DamagedRecord> {
    let mut secrets = BTreeMap::new();
    let mut ratchets = BTreeMap::new();
    let mut open = vec![1_u32];
    while let Some(node) = open.pop() {
        if let Some(secret) = find_record(records, &node_key(epoch, node))? {
            secrets.insert(node, secret);
        } else if node >> height == 0 {
            open.extend([node << 1 | 1, node << 1]);
        } else {
            let sender = LeafIndex(node ^ 1 << height);
            for kind in RatchetKind::ALL {
                let ratchet = load_record(records, ratchet_key(epoch, sender, kind))?;
                ratchets.insert((sender, kind), ratchet);
            }
        }
    }
    Ok((SecretTree::from_secrets(height, secrets), ratchets))
}

#[cfg(all(test, feature = "aws-lc"))]
mod tests {
    use super::*;
    use crate::crypto::{CryptoError, aws_lc::PROVIDER};
    use crate::records::MemoryRecords;
    use crate::testing::{StepRng, group_context};

    struct Members(Vec<SignaturePublicKey>);

    impl SignatureKeys for Members {
        fn signature_key(&self, leaf: LeafIndex) -> Option<SignaturePublicKey> {
            self.0.get(leaf.0 as usize).cloned()
        }
    }

    /// A member with its keys and its storage.
    struct Member {
        signer: SignatureKeyPair,
        keys: MessageKeys,
        records: MemoryRecords,
        members: Arc<Members>,
        rng: StepRng,
    }

    impl Member {
        fn send(&mut self, data: &[u8]) -> PrivateMessage {
            let (message, changes) = self
                .keys
                .encrypt(&self.signer, b"aad", data, 10, &mut self.rng)
                .unwrap();
            self.records.apply(&changes);
            message
        }

        fn receive(&mut self, message: &PrivateMessage) -> Result<Decrypted, Error> {
            let (decrypted, changes) = self.keys.decrypt(message)?;
            self.records.apply(&changes);
            Ok(decrypted)
        }

        /// Forgets everything but the storage.
        fn restart(&mut self) {
            let (epoch, members) = (self.keys.epoch(), Arc::clone(&self.members));
            self.keys = MessageKeys::load(&PROVIDER, epoch, &self.records, members).unwrap();
        }
    }

    fn members(count: u32) -> Vec<Member> {
        let context = group_context();
        let suite = PROVIDER.suite(context.cipher_suite).unwrap();
        let signers: Vec<_> = (0..count)
            .map(|i| suite.signature_key_pair(&mut StepRng(i.into())))
            .collect();
        let signature_keys = signers
            .iter()
            .map(|signer| signer.public_key.clone())
            .collect();
        let members = Arc::new(Members(signature_keys));
        (0..count)
            .zip(signers)
            .map(|(index, signer)| {
                let epoch = EpochKeys {
                    context: context.clone(),
                    own: LeafIndex(index),
                    leaf_count: count,
                    sender_data_secret: Secret::zero(32),
                    encryption_secret: Secret::from(vec![1; 32]),
                    application_export_secret: Secret::from(vec![2; 32]),
                };
                let signature_keys: Arc<dyn SignatureKeys> = members.clone();
                let (keys, changes) = MessageKeys::new(suite, epoch, signature_keys);
                let mut records = MemoryRecords::default();
                records.apply(&changes);
                let rng = StepRng(u64::from(index) << 32);
                Member {
                    signer,
                    keys,
                    records,
                    members: Arc::clone(&members),
                    rng,
                }
            })
            .collect()
    }

    #[test]
    fn members_read_each_other_in_any_order_and_after_a_restart() {
        let mut members = members(3);
        let messages: Vec<_> = (0..5).map(|i| members[0].send(&[i])).collect();
        for reader in &mut members[1..] {
            for i in [3, 0, 4] {
                let decrypted = reader.receive(&messages[i]).unwrap();
                assert_eq!(decrypted.sender, LeafIndex(0));
                assert_eq!(decrypted.generation, i as u32);
                assert_eq!(*decrypted.authenticated_data, *b"aad");
                assert_eq!(*decrypted.data, [i as u8]);
            }
            reader.restart();
            assert!(reader.receive(&messages[1]).is_ok());
            let again = Err(Error::KeyGone {
                sender: LeafIndex(0),
                generation: 3,
            });
            assert_eq!(reader.receive(&messages[3]), again);
        }
        members[0].restart();
        let next = members[0].send(b"next");
        assert_eq!(members[0].keys.sender(&next).unwrap().generation, 5);
        assert_eq!(*members[1].receive(&next).unwrap().data, *b"next");
        assert_eq!(members[0].receive(&next), Err(Error::OwnMessage));
    }

    #[test]
    fn what_does_not_verify_uses_nothing_up() {
        let mut members = members(2);
        let message = members[0].send(b"data");
        let mut forged = message.clone();
        let mut ciphertext = forged.ciphertext.to_vec();
        *ciphertext.last_mut().unwrap() ^= 1;
        forged.ciphertext = ciphertext.into();
        let before = members[1].records.iter().count();
        assert_eq!(
            members[1].receive(&forged),
            Err(CryptoError::DecryptionFailed.into())
        );

        // Another member knows all keys, but not the sender's signature key.
        let signer = members[0].signer.clone();
        members[0].signer = members[1].signer.clone();
        let impostor = members[0].send(b"data");
        members[0].signer = signer;
        assert_eq!(
            members[1].receive(&impostor),
            Err(CryptoError::InvalidSignature.into())
        );

        assert_eq!(members[1].records.iter().count(), before);
        members[1].receive(&message).unwrap();
    }

    #[test]
    fn messages_of_another_group_or_epoch_are_told_apart() {
        let mut members = members(2);
        let message = members[0].send(b"data");
        let elsewhere = PrivateMessage {
            group_id: Bytes::from([9]),
            ..message.clone()
        };
        assert_eq!(members[1].receive(&elsewhere), Err(Error::WrongGroup));
        let current = message.epoch;
        let later = PrivateMessage {
            epoch: current + 1,
            ..message
        };
        let wrong = Error::WrongEpoch {
            message: current + 1,
            current,
        };
        assert_eq!(members[1].receive(&later), Err(wrong));
    }

    #[test]
    fn a_message_touches_one_small_record() {
        let mut members = members(100);
        members[7].send(b"first");
        let (_, changes) = {
            let Member {
                keys, signer, rng, ..
            } = &mut members[7];
            keys.encrypt(signer, &[], b"second", 0, rng).unwrap()
        };
        assert!(changes.delete.is_empty());
        assert_eq!(changes.put.len(), 1);
        assert!(changes.put[0].1.len() < 200);
    }

    #[test]
    fn an_epoch_leaves_no_record_behind() {
        let mut members = members(5);
        let message = members[3].send(b"data");
        members[0].receive(&message).unwrap();
        members[0].send(b"data");
        let (_, changes) = members[0].keys.safe_export(0x8000).unwrap();
        members[0].records.apply(&changes);
        let deletion = members[0].keys.deletion();
        members[0].records.apply(&deletion);
        assert!(members[0].records.is_empty());
    }

    #[test]
    fn damaged_storage_is_an_error() {
        let mut members = members(4);
        let message = members[1].send(b"data");
        members[0].receive(&message).unwrap();
        let all: Vec<RecordKey> = members[0]
            .records
            .iter()
            .map(|(key, _)| key.clone())
            .collect();
        for key in all {
            let load = |records: &MemoryRecords| {
                let keys: Arc<dyn SignatureKeys> = members[0].members.clone();
                MessageKeys::load(&PROVIDER, members[0].keys.epoch(), records, keys)
            };
            let mut missing = members[0].records.clone();
            missing.apply(&Changes {
                put: vec![],
                delete: vec![key.clone()],
            });
            assert!(
                matches!(load(&missing), Err(Error::DamagedRecord(_))),
                "{key:?}"
            );
            let mut cut = members[0].records.clone();
            let mut value = cut.get(&key).unwrap();
            value.pop();
            cut.apply(&Changes {
                put: vec![(key.clone(), value)],
                delete: vec![],
            });
            assert!(
                matches!(load(&cut), Err(Error::DamagedRecord(_))),
                "{key:?}"
            );
        }
    }
}
