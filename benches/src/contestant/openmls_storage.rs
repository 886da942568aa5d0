//! Where OpenMLS keeps its state.
//!
//! Its own SQLite storage stands on another release of `rusqlite`, and one program has one SQLite. The one
//! here does the same, but in one transaction for an operation. As in all of OpenMLS's own uses, values
//! are JSON; or in a compact encoding (postcard), to show what that changes. Its own storage in memory
//! encodes the whole group at each step. The one here keeps only what OpenMLS asks for while it runs, which
//! are private keys.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;

use openmls_traits::storage::{CURRENT_VERSION, StorageProvider, traits};
use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A failure of the storage.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Of SQLite.
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Of the compact encoding.
    #[error("encoding: {0}")]
    Encoding(#[from] postcard::Error),
    /// Of JSON.
    #[error("encoding: {0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Label {
    JoinConfig,
    OwnLeafNodes,
    Proposals,
    Tree,
    InterimTranscriptHash,
    Context,
    ConfirmationTag,
    GroupState,
    MessageSecrets,
    ResumptionPsks,
    OwnLeafIndex,
    EpochSecrets,
    SignatureKeyPair,
    EncryptionKeyPair,
    EpochKeyPairs,
    KeyPackage,
    Psk,
}

impl Label {
    /// What is asked for while the group is in memory.
    fn is_read_back(self) -> bool {
        matches!(
            self,
            Self::SignatureKeyPair
                | Self::EncryptionKeyPair
                | Self::EpochKeyPairs
                | Self::KeyPackage
                | Self::Psk
        )
    }

    /// What stays, so that a client can join once more with the same KeyPackage.
    fn stays_in_memory(self) -> bool {
        matches!(self, Self::EncryptionKeyPair | Self::KeyPackage)
    }
}

type Encoded = Result<Vec<u8>, StorageError>;

/// The storage of one client.
pub struct Storage {
    place: Place,
    compact: bool,
    written: Cell<u64>,
}

/// Values by what they are and their key.
type Values = HashMap<(Label, Vec<u8>), Vec<u8>>;

enum Place {
    Memory(RefCell<Values>),
    Sqlite(Connection),
}

impl Storage {
    /// In memory, or in the file, as JSON or in a compact encoding.
    pub fn open(path: Option<&Path>, compact: bool) -> Result<Self, StorageError> {
        let place = match path {
            None => Place::Memory(RefCell::default()),
            Some(path) => {
                let connection = super::sqlite(path)?;
                connection.execute_batch(
                    "CREATE TABLE IF NOT EXISTS openmls (label INTEGER, key BLOB, \
                     value BLOB NOT NULL, PRIMARY KEY (label, key))",
                )?;
                Place::Sqlite(connection)
            }
        };
        Ok(Self {
            // In memory it is always compact.
            compact: compact || path.is_none(),
            place,
            written: Cell::new(0),
        })
    }

    /// Runs an operation in one transaction.
    pub fn transaction<T, E>(
        &self,
        operation: impl FnOnce() -> Result<T, E>,
        failed: impl Fn(rusqlite::Error) -> E,
    ) -> Result<T, E> {
        let Place::Sqlite(connection) = &self.place else {
            return operation();
        };
        let transaction = connection.unchecked_transaction().map_err(&failed)?;
        let value = operation()?;
        transaction.commit().map_err(failed)?;
        Ok(value)
    }

    /// The bytes of keys and values written since the last call.
    pub fn written(&self) -> u64 {
        self.written.take()
    }

    fn encode(&self, label: Label, value: &(impl Serialize + ?Sized)) -> Encoded {
        // This one can be read from a self-describing encoding only.
        match self.compact && label != Label::JoinConfig {
            true => Ok(postcard::to_stdvec(value)?),
            false => Ok(serde_json::to_vec(value)?),
        }
    }

    fn decode<T: DeserializeOwned>(&self, label: Label, value: &[u8]) -> Result<T, StorageError> {
        match self.compact && label != Label::JoinConfig {
            true => Ok(postcard::from_bytes(value)?),
            false => Ok(serde_json::from_slice(value)?),
        }
    }

    fn put(
        &self,
        label: Label,
        key: &impl Serialize,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), StorageError> {
        if matches!(self.place, Place::Memory(_)) && !label.is_read_back() {
            return Ok(());
        }
        let (key, value) = (self.encode(label, key)?, self.encode(label, value)?);
        match &self.place {
            Place::Memory(memory) => {
                memory.borrow_mut().insert((label, key), value);
            }
            Place::Sqlite(connection) => {
                self.written
                    .set(self.written.get() + (key.len() + value.len()) as u64);
                connection
                    .prepare_cached("INSERT OR REPLACE INTO openmls VALUES (?1, ?2, ?3)")?
                    .execute((label as u8, key, value))?;
            }
        }
        Ok(())
    }

    fn get<T: DeserializeOwned>(
        &self,
        label: Label,
        key: &impl Serialize,
    ) -> Result<Option<T>, StorageError> {
        let key = self.encode(label, key)?;
        match &self.place {
            Place::Memory(memory) => match memory.borrow().get(&(label, key)) {
                Some(value) => Ok(Some(self.decode(label, value)?)),
                None => Ok(None),
            },
            Place::Sqlite(connection) => {
                let mut select = connection
                    .prepare_cached("SELECT value FROM openmls WHERE label = ?1 AND key = ?2")?;
                let value: Option<Vec<u8>> = select
                    .query_row((label as u8, key), |row| row.get(0))
                    .optional()?;
                value.map(|value| self.decode(label, &value)).transpose()
            }
        }
    }

    fn delete(&self, label: Label, key: &impl Serialize) -> Result<(), StorageError> {
        let key = self.encode(label, key)?;
        match &self.place {
            Place::Memory(_) if label.stays_in_memory() => {}
            Place::Memory(memory) => {
                memory.borrow_mut().remove(&(label, key));
            }
            Place::Sqlite(connection) => {
                connection
                    .prepare_cached("DELETE FROM openmls WHERE label = ?1 AND key = ?2")?
                    .execute((label as u8, key))?;
            }
        }
        Ok(())
    }

    fn list<T: DeserializeOwned>(
        &self,
        label: Label,
        key: &impl Serialize,
    ) -> Result<Vec<T>, StorageError> {
        Ok(self.get(label, key)?.unwrap_or_default())
    }
}

/// The encodings of a proposal's reference and of the proposal.
type StoredProposal = (Vec<u8>, Vec<u8>);

const V: u16 = CURRENT_VERSION;

/// What there is one of in a group: how it is written, read and deleted.
macro_rules! one_of_a_group {
    ($($label:ident: $type:ident, $write:ident, $read:ident, $delete:ident;)*) => {$(
        fn $write<GroupId: traits::GroupId<V>, Value: traits::$type<V>>(
            &self,
            group_id: &GroupId,
            value: &Value,
        ) -> Result<(), StorageError> {
            self.put(Label::$label, group_id, value)
        }

        fn $read<GroupId: traits::GroupId<V>, Value: traits::$type<V>>(
            &self,
            group_id: &GroupId,
        ) -> Result<Option<Value>, StorageError> {
            self.get(Label::$label, group_id)
        }

        fn $delete<GroupId: traits::GroupId<V>>(
            &self,
            group_id: &GroupId,
        ) -> Result<(), StorageError> {
            self.delete(Label::$label, group_id)
        }
    )*};
}

impl StorageProvider<V> for Storage {
    type Error = StorageError;

    one_of_a_group! {
        JoinConfig: MlsGroupJoinConfig, write_mls_join_config, mls_group_join_config,
            delete_group_config;
        Tree: TreeSync, write_tree, tree, delete_tree;
        InterimTranscriptHash: InterimTranscriptHash, write_interim_transcript_hash,
            interim_transcript_hash, delete_interim_transcript_hash;
        Context: GroupContext, write_context, group_context, delete_context;
        ConfirmationTag: ConfirmationTag, write_confirmation_tag, confirmation_tag,
            delete_confirmation_tag;
        MessageSecrets: MessageSecrets, write_message_secrets, message_secrets,
            delete_message_secrets;
        ResumptionPsks: ResumptionPskStore, write_resumption_psk_store, resumption_psk_store,
            delete_all_resumption_psk_secrets;
        OwnLeafIndex: LeafNodeIndex, write_own_leaf_index, own_leaf_index, delete_own_leaf_index;
        EpochSecrets: GroupEpochSecrets, write_group_epoch_secrets, group_epoch_secrets,
            delete_group_epoch_secrets;
    }

    fn write_group_state<Value: traits::GroupState<V>, GroupId: traits::GroupId<V>>(
        &self,
        group_id: &GroupId,
        value: &Value,
    ) -> Result<(), StorageError> {
        self.put(Label::GroupState, group_id, value)
    }

    fn group_state<Value: traits::GroupState<V>, GroupId: traits::GroupId<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<Option<Value>, StorageError> {
        self.get(Label::GroupState, group_id)
    }

    fn delete_group_state<GroupId: traits::GroupId<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<(), StorageError> {
        self.delete(Label::GroupState, group_id)
    }

    fn append_own_leaf_node<GroupId: traits::GroupId<V>, Value: traits::LeafNode<V>>(
        &self,
        group_id: &GroupId,
        value: &Value,
    ) -> Result<(), StorageError> {
        let mut list: Vec<Vec<u8>> = self.list(Label::OwnLeafNodes, group_id)?;
        list.push(self.encode(Label::OwnLeafNodes, value)?);
        self.put(Label::OwnLeafNodes, group_id, &list)
    }

    fn own_leaf_nodes<GroupId: traits::GroupId<V>, Value: traits::LeafNode<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<Vec<Value>, StorageError> {
        let list: Vec<Vec<u8>> = self.list(Label::OwnLeafNodes, group_id)?;
        list.iter()
            .map(|value| self.decode(Label::OwnLeafNodes, value))
            .collect()
    }

    fn delete_own_leaf_nodes<GroupId: traits::GroupId<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<(), StorageError> {
        self.delete(Label::OwnLeafNodes, group_id)
    }

    fn queue_proposal<
        GroupId: traits::GroupId<V>,
        Reference: traits::ProposalRef<V>,
        Value: traits::QueuedProposal<V>,
    >(
        &self,
        group_id: &GroupId,
        reference: &Reference,
        value: &Value,
    ) -> Result<(), StorageError> {
        let mut list: Vec<StoredProposal> = self.list(Label::Proposals, group_id)?;
        let label = Label::Proposals;
        list.push((self.encode(label, reference)?, self.encode(label, value)?));
        self.put(Label::Proposals, group_id, &list)
    }

    fn queued_proposal_refs<GroupId: traits::GroupId<V>, Reference: traits::ProposalRef<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<Vec<Reference>, StorageError> {
        let list: Vec<StoredProposal> = self.list(Label::Proposals, group_id)?;
        list.iter()
            .map(|(reference, _)| self.decode(Label::Proposals, reference))
            .collect()
    }

    fn queued_proposals<
        GroupId: traits::GroupId<V>,
        Reference: traits::ProposalRef<V>,
        Value: traits::QueuedProposal<V>,
    >(
        &self,
        group_id: &GroupId,
    ) -> Result<Vec<(Reference, Value)>, StorageError> {
        let list: Vec<StoredProposal> = self.list(Label::Proposals, group_id)?;
        list.iter()
            .map(|(reference, value)| {
                let label = Label::Proposals;
                Ok((self.decode(label, reference)?, self.decode(label, value)?))
            })
            .collect()
    }

    fn remove_proposal<GroupId: traits::GroupId<V>, Reference: traits::ProposalRef<V>>(
        &self,
        group_id: &GroupId,
        reference: &Reference,
    ) -> Result<(), StorageError> {
        let mut list: Vec<StoredProposal> = self.list(Label::Proposals, group_id)?;
        let reference = self.encode(Label::Proposals, reference)?;
        list.retain(|(other, _)| *other != reference);
        self.put(Label::Proposals, group_id, &list)
    }

    fn clear_proposal_queue<GroupId: traits::GroupId<V>, Reference: traits::ProposalRef<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<(), StorageError> {
        self.delete(Label::Proposals, group_id)
    }

    fn write_signature_key_pair<
        PublicKey: traits::SignaturePublicKey<V>,
        Value: traits::SignatureKeyPair<V>,
    >(
        &self,
        key: &PublicKey,
        value: &Value,
    ) -> Result<(), StorageError> {
        self.put(Label::SignatureKeyPair, key, value)
    }

    fn signature_key_pair<
        PublicKey: traits::SignaturePublicKey<V>,
        Value: traits::SignatureKeyPair<V>,
    >(
        &self,
        key: &PublicKey,
    ) -> Result<Option<Value>, StorageError> {
        self.get(Label::SignatureKeyPair, key)
    }

    fn delete_signature_key_pair<PublicKey: traits::SignaturePublicKey<V>>(
        &self,
        key: &PublicKey,
    ) -> Result<(), StorageError> {
        self.delete(Label::SignatureKeyPair, key)
    }

    fn write_encryption_key_pair<
        PublicKey: traits::EncryptionKey<V>,
        Value: traits::HpkeKeyPair<V>,
    >(
        &self,
        key: &PublicKey,
        value: &Value,
    ) -> Result<(), StorageError> {
        self.put(Label::EncryptionKeyPair, key, value)
    }

    fn encryption_key_pair<Value: traits::HpkeKeyPair<V>, PublicKey: traits::EncryptionKey<V>>(
        &self,
        key: &PublicKey,
    ) -> Result<Option<Value>, StorageError> {
        self.get(Label::EncryptionKeyPair, key)
    }

    fn delete_encryption_key_pair<PublicKey: traits::EncryptionKey<V>>(
        &self,
        key: &PublicKey,
    ) -> Result<(), StorageError> {
        self.delete(Label::EncryptionKeyPair, key)
    }

    fn write_encryption_epoch_key_pairs<
        GroupId: traits::GroupId<V>,
        Epoch: traits::EpochKey<V>,
        Value: traits::HpkeKeyPair<V>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &Epoch,
        leaf_index: u32,
        values: &[Value],
    ) -> Result<(), StorageError> {
        let key = (group_id, epoch, leaf_index);
        self.put(Label::EpochKeyPairs, &key, values)
    }

    fn encryption_epoch_key_pairs<
        GroupId: traits::GroupId<V>,
        Epoch: traits::EpochKey<V>,
        Value: traits::HpkeKeyPair<V>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &Epoch,
        leaf_index: u32,
    ) -> Result<Vec<Value>, StorageError> {
        let key = (group_id, epoch, leaf_index);
        self.list(Label::EpochKeyPairs, &key)
    }

    fn delete_encryption_epoch_key_pairs<
        GroupId: traits::GroupId<V>,
        Epoch: traits::EpochKey<V>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &Epoch,
        leaf_index: u32,
    ) -> Result<(), StorageError> {
        let key = (group_id, epoch, leaf_index);
        self.delete(Label::EpochKeyPairs, &key)
    }

    fn write_key_package<Reference: traits::HashReference<V>, Value: traits::KeyPackage<V>>(
        &self,
        reference: &Reference,
        value: &Value,
    ) -> Result<(), StorageError> {
        self.put(Label::KeyPackage, reference, value)
    }

    fn key_package<Reference: traits::HashReference<V>, Value: traits::KeyPackage<V>>(
        &self,
        reference: &Reference,
    ) -> Result<Option<Value>, StorageError> {
        self.get(Label::KeyPackage, reference)
    }

    fn delete_key_package<Reference: traits::HashReference<V>>(
        &self,
        reference: &Reference,
    ) -> Result<(), StorageError> {
        self.delete(Label::KeyPackage, reference)
    }

    fn write_psk<Id: traits::PskId<V>, Value: traits::PskBundle<V>>(
        &self,
        id: &Id,
        value: &Value,
    ) -> Result<(), StorageError> {
        self.put(Label::Psk, id, value)
    }

    fn psk<Value: traits::PskBundle<V>, Id: traits::PskId<V>>(
        &self,
        id: &Id,
    ) -> Result<Option<Value>, StorageError> {
        self.get(Label::Psk, id)
    }

    fn delete_psk<Id: traits::PskId<V>>(&self, id: &Id) -> Result<(), StorageError> {
        self.delete(Label::Psk, id)
    }

    // The safe exporter's tree is not measured, so it is not stored.

    fn write_application_export_tree<
        GroupId: traits::GroupId<V>,
        Value: traits::ApplicationExportTree<V>,
    >(
        &self,
        _: &GroupId,
        _: &Value,
    ) -> Result<(), StorageError> {
        Ok(())
    }

    fn application_export_tree<
        GroupId: traits::GroupId<V>,
        Value: traits::ApplicationExportTree<V>,
    >(
        &self,
        _: &GroupId,
    ) -> Result<Option<Value>, StorageError> {
        Ok(None)
    }

    fn delete_application_export_tree<
        GroupId: traits::GroupId<V>,
        Value: traits::ApplicationExportTree<V>,
    >(
        &self,
        _: &GroupId,
    ) -> Result<(), StorageError> {
        Ok(())
    }
}
