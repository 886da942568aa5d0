//! What the library's directory asks of its surroundings: a VRF key, and a place to write to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use akd::configuration::Configuration;
use akd::ecvrf::{VRFKeyStorage, VrfError};
use akd::errors::StorageError;
use akd::storage::types::{DbRecord, KeyData, ValueState, ValueStateRetrievalFlag};
use akd::storage::{Database, DbSetState, Storable};
use akd::{AkdLabel, AkdValue, NodeLabel, WhatsAppV1Configuration};
use async_trait::async_trait;
use folkmoot_credential::keys::SigningKey;
use folkmoot_credential::transparency::{LogHead, SignedHead};
use folkmoot_mls::codec::Encode;
use zeroize::Zeroizing;

use super::nodes::{Commit, LogStore, Pending};
use super::{StoreError, block_on};

/// The VRF's secret key.
#[derive(Clone)]
pub(super) struct VrfKey(Zeroizing<[u8; 32]>);

impl VrfKey {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    pub(super) fn public(&self) -> Result<[u8; 32], StoreError> {
        let key = block_on(self.get_vrf_public_key()).map_err(|_| StoreError::Damaged)?;
        key.as_bytes()
            .as_slice()
            .try_into()
            .map_err(|_| StoreError::Damaged)
    }
}

#[async_trait]
impl VRFKeyStorage for VrfKey {
    async fn retrieve(&self) -> Result<Vec<u8>, VrfError> {
        Ok(self.0.to_vec())
    }
}

/// The database while an epoch is made: where the library would write the epoch, its head is signed,
/// and all is written together.
pub(super) struct Publishing<L: LogStore> {
    nodes: L::Nodes,
    store: L,
    key: SigningKey,
    /// Its epoch and root are not known yet.
    head: LogHead,
    batch: Vec<Pending>,
    committed: Arc<Mutex<Option<SignedHead>>>,
}

impl<L: LogStore> Publishing<L> {
    pub(super) fn new(
        nodes: L::Nodes,
        store: L,
        key: SigningKey,
        head: LogHead,
        batch: Vec<Pending>,
    ) -> Self {
        Self {
            nodes,
            store,
            key,
            head,
            batch,
            committed: Arc::default(),
        }
    }

    /// The head, once it is durable.
    pub(super) fn committed(&self) -> Arc<Mutex<Option<SignedHead>>> {
        self.committed.clone()
    }

    fn commit(&self, records: Vec<DbRecord>) -> Result<(), StorageError> {
        let missing = || StorageError::Transaction("no root".into());
        let epoch = records.iter().find_map(|record| match record {
            DbRecord::Azks(azks) => Some(azks.latest_epoch),
            _ => None,
        });
        let root = records.iter().find_map(|record| match record {
            DbRecord::TreeNode(node) if node.label == NodeLabel::root() => {
                let hash = &node.latest_node.hash;
                Some(WhatsAppV1Configuration::compute_root_hash_from_val(hash))
            }
            _ => None,
        });
        let head = LogHead {
            epoch: epoch.ok_or_else(missing)?,
            root: root.ok_or_else(missing)?,
            ..self.head.clone()
        };
        let epoch = head.epoch;
        let head = SignedHead::sign(head, &self.key);
        let commit = Commit {
            records,
            epoch,
            head: head.to_bytes(),
            done: &self.batch,
        };
        self.store.commit(commit).map_err(super::nodes::storage)?;
        *self
            .committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(head);
        Ok(())
    }
}

#[async_trait]
impl<L: LogStore> Database for Publishing<L> {
    async fn set(&self, record: DbRecord) -> Result<(), StorageError> {
        self.nodes.set(record).await
    }

    async fn batch_set(
        &self,
        records: Vec<DbRecord>,
        state: DbSetState,
    ) -> Result<(), StorageError> {
        match state {
            DbSetState::TransactionCommit => self.commit(records),
            DbSetState::General => self.nodes.batch_set(records, state).await,
        }
    }

    async fn get<St: Storable>(&self, id: &St::StorageKey) -> Result<DbRecord, StorageError> {
        self.nodes.get::<St>(id).await
    }

    async fn batch_get<St: Storable>(
        &self,
        ids: &[St::StorageKey],
    ) -> Result<Vec<DbRecord>, StorageError> {
        self.nodes.batch_get::<St>(ids).await
    }

    async fn get_user_data(&self, username: &AkdLabel) -> Result<KeyData, StorageError> {
        self.nodes.get_user_data(username).await
    }

    async fn get_user_state(
        &self,
        username: &AkdLabel,
        flag: ValueStateRetrievalFlag,
    ) -> Result<ValueState, StorageError> {
        self.nodes.get_user_state(username, flag).await
    }

    async fn get_user_state_versions(
        &self,
        usernames: &[AkdLabel],
        flag: ValueStateRetrievalFlag,
    ) -> Result<HashMap<AkdLabel, (u64, AkdValue)>, StorageError> {
        self.nodes.get_user_state_versions(usernames, flag).await
    }
}
