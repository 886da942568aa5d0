//! The keys of one epoch that are used up, as one value (RFC 9420, section 9; RULES of storage in
//! [`records`](crate::records)).
//!
//! [`MessageKeys`] is all that an epoch's messages are encrypted and decrypted with, and what is needed
//! to judge their signatures. It lives beside the group, not in it: a group is cloned and dropped
//! freely, message keys must never come back. So this type is not `Clone`, each call that uses a key up
//! says so in its [`Changes`], and a call that fails changes nothing. The keys of a past epoch stay
//! usable for as long as they are kept.

mod storage;
#[cfg(all(test, feature = "aws-lc"))]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use rand_core::CryptoRng;

use crate::code_point::WireFormat;
use crate::codec::Bytes;
use crate::component::{ComponentID, safe_aad};
use crate::crypto::{Secret, SignatureKeyPair, SignaturePublicKey, Suite};
use crate::error::{Error, InvalidMessage};
use crate::framing::{
    AuthenticatedContent, Content, FramedContent, PrivateMessage, Sender, SenderData,
};
use crate::group_context::GroupContext;
use crate::ratchet::{MessageKey, Ratchet, RatchetKind};
use crate::records::Changes;
use crate::safe_exporter::SafeExporter;
use crate::secret_tree::{LeafPath, SecretTree};
use crate::tree_math::LeafIndex;
use storage::node_key;

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
    /// Signature keys that the commit which led here changed, with which messages of the epoch
    /// before are judged after a restart.
    pub replaced: ReplacedKeys,
    /// Whether the group ended with the commit that led here (RFC 9420, section 12.4.2). Then there are
    /// no messages to come, and the keys for them are dropped at once.
    pub suspended: bool,
    /// `sender_data_secret`.
    pub sender_data_secret: Secret,
    /// `encryption_secret`.
    pub encryption_secret: Secret,
    /// `application_export_secret`.
    pub application_export_secret: Secret,
}

/// Leaves whose signature keys a commit changed, with the keys that they had.
pub type ReplacedKeys = Vec<(LeafIndex, Option<SignaturePublicKey>)>;

/// The keys of an epoch that were not used yet.
pub struct MessageKeys {
    suite: &'static dyn Suite,
    context: GroupContext,
    /// Whether the context asks for it.
    safe_aad: bool,
    own: LeafIndex,
    /// None if the group ended with the commit that led here; then the tree is empty.
    sender_data_secret: Option<Secret>,
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
    /// Its key, for [`MessageKeys::consume`].
    pub key: HeldKey,
}

/// The key of a message that is not used up yet. What was derived to find it is kept here, so that it
/// is not derived again to use it up; it is gone with this value.
#[derive(Debug)]
pub struct HeldKey {
    sender: LeafIndex,
    kind: RatchetKind,
    generation: u32,
    first: Option<First>,
}

/// What the first message of a sender brings.
#[derive(Debug)]
struct First {
    path: LeafPath,
    ratchets: BTreeMap<RatchetKind, Ratchet>,
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
        let mut tree = SecretTree::with_leaves(epoch.encryption_secret, epoch.leaf_count);
        if epoch.suspended {
            tree = SecretTree::from_secrets(tree.height(), BTreeMap::new());
        }
        let keys = Self {
            suite,
            safe_aad: safe_aad::is_used(&epoch.context.extensions),
            context: epoch.context,
            own: epoch.own,
            sender_data_secret: (!epoch.suspended).then_some(epoch.sender_data_secret),
            tree,
            ratchets: BTreeMap::new(),
            exporter: SafeExporter::new(epoch.application_export_secret),
            signature_keys,
        };
        let mut changes = Changes::default();
        changes.put(keys.epoch_key(), keys.epoch_record(epoch.replaced));
        keys.put_nodes(keys.tree.secrets().map(|(node, _)| node), &mut changes);
        changes.put(keys.exporter_key(), keys.exporter_record());
        (keys, changes)
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
    /// In a group that uses it, `authenticated_data` is an encoded
    /// [`SafeAAD`](crate::component::SafeAAD), or empty.
    ///
    /// # Errors
    /// [`Error::RatchetExhausted`]; [`InvalidMessage::SafeAad`], [`CryptoError::InvalidPrivateKey`], the caller's.
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
            authenticated_data: safe_aad::framed(self.safe_aad, authenticated_data)?,
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
    /// [`Error::RatchetExhausted`]; [`InvalidMessage::SenderType`] if the content is not our own,
    /// [`Error::WrongEpoch`] if it is of another epoch, or [`Error::GroupSuspended`]: the caller's.
    pub fn protect(
        &mut self,
        authenticated: &AuthenticatedContent,
        padding: usize,
        rng: &mut dyn CryptoRng,
    ) -> Result<(PrivateMessage, Changes), Error> {
        let content = &authenticated.content;
        self.check_epoch(&content.group_id, content.epoch)?;
        let Some(sender_data_secret) = &self.sender_data_secret else {
            return Err(Error::GroupSuspended);
        };
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
        let (key, held) = self.key(self.own, kind, generation)?;
        let message = PrivateMessage::protect(
            self.suite,
            sender_data_secret,
            &key,
            authenticated,
            padding,
            rng,
        )?;
        let changes = self.take(held)?;
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
        let Opened {
            content: AuthenticatedContent { content, .. },
            sender,
            key,
        } = self.open(message)?;
        let generation = key.generation;
        let changes = self.consume(key)?;
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
        if sender_data.leaf_index == self.own {
            return Err(Error::OwnMessage);
        }
        self.open_of(message, &sender_data)
    }

    /// Decrypts a message that says it is our own, and verifies our signature. Uses nothing up. So who has
    /// lost the memory of what it sent is told from who is named by somebody else as the sender.
    ///
    /// # Errors
    /// As [`Self::open`], but [`InvalidMessage::UnknownSender`] if it says that it is another's;
    /// [`Error::KeyGone`] also if its key was used for something else.
    pub fn open_own(&self, message: &PrivateMessage) -> Result<AuthenticatedContent, Error> {
        let sender_data = self.sender(message)?;
        if sender_data.leaf_index != self.own {
            return Err(InvalidMessage::UnknownSender.into());
        }
        Ok(self.open_of(message, &sender_data)?.content)
    }

    fn open_of(&self, message: &PrivateMessage, sender_data: &SenderData) -> Result<Opened, Error> {
        let SenderData {
            leaf_index: sender,
            generation,
            ..
        } = *sender_data;
        let public_key = self
            .signature_keys
            .signature_key(sender)
            .ok_or(InvalidMessage::UnknownSender)?;
        let (key, held) = self.key(sender, message.content_type.into(), generation)?;
        let content = message.unprotect(self.suite, &key, sender_data)?;
        content.verify(self.suite, &public_key, &self.context)?;
        safe_aad::check(self.safe_aad, &content.content.authenticated_data)?;
        Ok(Opened {
            content,
            sender,
            key: held,
        })
    }

    /// Uses up the key of a message that was opened.
    ///
    /// # Errors
    /// [`Error::KeyGone`] if it was used up since.
    pub fn consume(&mut self, key: HeldKey) -> Result<Changes, Error> {
        self.take(key)
    }

    /// Who wrote a message, and under which key, as it says itself. Uses nothing up; so our own
    /// messages are told from others', whose signature is not verified here.
    ///
    /// # Errors
    /// [`Error::WrongGroup`], [`Error::WrongEpoch`]; [`Error::Crypto`], [`Error::Decode`] or
    /// [`InvalidMessage::GroupSuspended`], the sender's.
    pub fn sender(&self, message: &PrivateMessage) -> Result<SenderData, Error> {
        self.check_epoch(&message.group_id, message.epoch)?;
        let secret = self.sender_data_secret.as_ref();
        let secret = secret.ok_or(InvalidMessage::GroupSuspended)?;
        message.sender_data(self.suite, secret)
    }

    /// `SafeExportSecret`: the secret of a component, once in this epoch (draft-ietf-mls-extensions,
    /// section 4.4).
    ///
    /// # Errors
    /// [`Error::AlreadyExported`], the caller's.
    pub fn safe_export(&mut self, component_id: ComponentID) -> Result<(Secret, Changes), Error> {
        let secret = self.exporter.export(self.suite, component_id)?;
        let mut changes = Changes::default();
        changes.put(self.exporter_key(), self.exporter_record());
        Ok((secret, changes))
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

    /// The key of a message, and what using it up takes. Uses nothing up.
    fn key(
        &self,
        sender: LeafIndex,
        kind: RatchetKind,
        generation: u32,
    ) -> Result<(MessageKey, HeldKey), Error> {
        let held = |first| HeldKey {
            sender,
            kind,
            generation,
            first,
        };
        if let Some(ratchet) = self.ratchets.get(&(sender, kind)) {
            return Ok((ratchet.key(self.suite, generation)?, held(None)));
        }
        let first = self.first(sender)?;
        let key = first.ratchets[&kind].key(self.suite, generation)?;
        Ok((key, held(Some(first))))
    }

    fn first(&self, sender: LeafIndex) -> Result<First, Error> {
        let path = self
            .tree
            .path(self.suite, sender.0)
            .ok_or(InvalidMessage::UnknownSender)?;
        let ratchet = |kind| Ratchet::new(self.suite, kind, sender, &path.leaf);
        let ratchets = RatchetKind::ALL.map(|kind| (kind, ratchet(kind)));
        let ratchets = BTreeMap::from(ratchets);
        Ok(First { path, ratchets })
    }

    /// Uses up the key of a message.
    fn take(&mut self, held: HeldKey) -> Result<Changes, Error> {
        let HeldKey {
            sender,
            kind,
            generation,
            first,
        } = held;
        let mut changes = Changes::default();
        if let Some(ratchet) = self.ratchets.get_mut(&(sender, kind)) {
            ratchet.consume(self.suite, generation)?;
        } else {
            let First { path, mut ratchets } = match first {
                Some(first) if self.tree.leads(&first.path) => first,
                // Somebody else's first message was used up since.
                _ => self.first(sender)?,
            };
            if let Some(ratchet) = ratchets.get_mut(&kind) {
                ratchet.consume(self.suite, generation)?;
            }
            let taken = self.tree.take(path).ok_or(InvalidMessage::UnknownSender)?;
            changes.delete(node_key(self.epoch(), taken.removed));
            self.put_nodes(taken.added, &mut changes);
            for (other, ratchet) in ratchets {
                self.ratchets.insert((sender, other), ratchet);
                if other != kind {
                    self.put_ratchet(sender, other, &mut changes);
                }
            }
        }
        self.put_ratchet(sender, kind, &mut changes);
        Ok(changes)
    }
}

impl std::fmt::Debug for MessageKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageKeys")
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}
