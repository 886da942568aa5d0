//! mls-rs on AWS-LC.
//!
//! Its own SQLite storage stands on another release of `rusqlite`, and one program has one SQLite. The
//! one here implements the same trait with the same tables. The tree, which application messages do not
//! change, has a row of its own, as `write_to_storage_without_ratchet_tree` is meant for.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::mls_rs::client_builder::{
    BaseConfig, ClientBuilder, IntoConfigOutput, PaddingMode, WithCryptoProvider,
    WithGroupStateStorage, WithIdentityProvider, WithMlsRules,
};
use ::mls_rs::error::IntoAnyError;
use ::mls_rs::group::{ExportedTree, ReceivedMessage};
use ::mls_rs::identity::SigningIdentity;
use ::mls_rs::identity::basic::{BasicCredential, BasicIdentityProvider};
use ::mls_rs::mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions};
use ::mls_rs::storage_provider::in_memory::InMemoryGroupStateStorage;
use ::mls_rs::time::MlsTime;
use ::mls_rs::{
    CipherSuite, CipherSuiteProvider, Client, CryptoProvider, ExtensionList, Group,
    GroupStateStorage, MlsMessage,
};
use mls_rs_core::group::{EpochRecord, GroupState};
use mls_rs_crypto_awslc::AwsLcCryptoProvider;
use rusqlite::{Connection, OptionalExtension};
use zeroize::Zeroizing;

use crate::member::{Failure, Member, Options};

const NAME: &str = "mls-rs";
const SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;

/// As many past epochs as its own SQLite storage keeps unless told otherwise.
const PAST_EPOCHS: u64 = 3;

type Config = IntoConfigOutput<
    WithGroupStateStorage<
        Storage,
        WithMlsRules<
            DefaultMlsRules,
            WithIdentityProvider<
                BasicIdentityProvider,
                WithCryptoProvider<AwsLcCryptoProvider, BaseConfig>,
            >,
        >,
    >,
>;

/// A client on mls-rs.
pub struct MlsRs {
    client: Client<Config>,
    group: Option<Group<Config>>,
    store: Option<Store>,
    build: Box<dyn Fn(Storage) -> Client<Config>>,
    path: Option<std::path::PathBuf>,
}

fn at<E: std::fmt::Debug>(call: &'static str) -> impl Fn(E) -> Failure + Copy {
    Failure::at(NAME, call)
}

fn decode(message: &[u8]) -> Result<MlsMessage, Failure> {
    MlsMessage::from_bytes(message).map_err(at("read a message"))
}

impl MlsRs {
    fn group(&mut self) -> Result<&mut Group<Config>, Failure> {
        self.group.as_mut().ok_or(()).map_err(at("find its group"))
    }

    /// Stores what a commit changed.
    fn store_epoch(&mut self) -> Result<(), Failure> {
        let Some(store) = self.store.clone() else {
            return Ok(());
        };
        let group = self.group()?;
        let tree = group
            .export_tree()
            .to_bytes()
            .map_err(at("encode a tree"))?;
        store.lock().tree = Some(tree);
        group
            .write_to_storage_without_ratchet_tree()
            .map_err(at("store"))
    }

    /// Stores what a message changed.
    fn store_message(&mut self) -> Result<(), Failure> {
        if self.store.is_none() {
            return Ok(());
        }
        self.group()?
            .write_to_storage_without_ratchet_tree()
            .map_err(at("store"))
    }
}

impl Member for MlsRs {
    fn new(name: &str, options: &Options) -> Result<Self, Failure> {
        let crypto = AwsLcCryptoProvider::new();
        let provider = crypto.cipher_suite_provider(SUITE).ok_or(SUITE);
        let (secret, public) = provider
            .map_err(at("use a suite"))?
            .signature_key_generate()
            .map_err(at("make a signature key"))?;
        let credential = BasicCredential::new(name.as_bytes().to_vec()).into_credential();
        let identity = SigningIdentity::new(credential, public);
        let rules = DefaultMlsRules::new()
            .with_commit_options(
                CommitOptions::new().with_ratchet_tree_extension(!options.tree_apart),
            )
            .with_encryption_options(EncryptionOptions::new(true, PaddingMode::None));
        let build = move |storage| {
            ClientBuilder::new()
                .crypto_provider(crypto.clone())
                .identity_provider(BasicIdentityProvider::new())
                .mls_rules(rules.clone())
                .group_state_storage(storage)
                .signing_identity(identity.clone(), secret.clone(), SUITE)
                .build()
        };
        let store = options.store.as_deref().map(Store::open).transpose();
        let store = store.map_err(at("open a store"))?;
        let storage = match &store {
            Some(store) => Storage::Sqlite(store.clone()),
            None => Storage::Memory(InMemoryGroupStateStorage::new()),
        };
        Ok(Self {
            client: build(storage),
            group: None,
            store,
            build: Box::new(build),
            path: options.store.clone(),
        })
    }

    fn key_package(&mut self) -> Result<Vec<u8>, Failure> {
        let none = ExtensionList::new;
        self.client
            .generate_key_package_message(none(), none(), Some(MlsTime::now()))
            .map_err(at("make a KeyPackage"))?
            .to_bytes()
            .map_err(at("encode a KeyPackage"))
    }

    fn found(&mut self) -> Result<(), Failure> {
        let none = ExtensionList::new;
        let group = self
            .client
            .create_group(none(), none(), Some(MlsTime::now()))
            .map_err(at("start a group"))?;
        self.group = Some(group);
        self.store_epoch()
    }

    fn add(&mut self, key_packages: &[Vec<u8>]) -> Result<Vec<u8>, Failure> {
        let group = self.group()?;
        let mut commit = group.commit_builder().commit_time(MlsTime::now());
        for key_package in key_packages {
            let key_package = decode(key_package)?;
            commit = commit.add_member(key_package).map_err(at("add a client"))?;
        }
        let output = commit.build().map_err(at("commit"))?;
        let welcome = output.welcome_messages().first().ok_or(());
        let welcome = welcome
            .map_err(at("make a Welcome"))?
            .to_bytes()
            .map_err(at("encode a Welcome"))?;
        self.merge()?;
        Ok(welcome)
    }

    fn join(&mut self, welcome: &[u8], tree: Option<&[u8]>) -> Result<(), Failure> {
        let tree = tree.map(ExportedTree::from_bytes).transpose();
        let tree = tree.map_err(at("read a tree"))?;
        let (group, _) = self
            .client
            .join_group(tree, &decode(welcome)?, Some(MlsTime::now()))
            .map_err(at("join"))?;
        self.group = Some(group);
        self.store_epoch()
    }

    fn commit(&mut self) -> Result<Vec<u8>, Failure> {
        let output = self
            .group()?
            .commit_builder()
            .commit_time(MlsTime::now())
            .build()
            .map_err(at("commit"))?;
        output
            .commit_message()
            .to_bytes()
            .map_err(at("encode a commit"))
    }

    fn merge(&mut self) -> Result<(), Failure> {
        self.group()?.apply_pending_commit().map_err(at("merge"))?;
        self.store_epoch()
    }

    fn discard(&mut self) -> Result<(), Failure> {
        self.group()?.clear_pending_commit();
        Ok(())
    }

    fn process(&mut self, commit: &[u8]) -> Result<(), Failure> {
        let message = decode(commit)?;
        let received = self
            .group()?
            .process_incoming_message_with_time(message, MlsTime::now())
            .map_err(at("process"))?;
        match received {
            ReceivedMessage::Commit(_) => self.store_epoch(),
            other => Err(at("find the commit")(other)),
        }
    }

    fn encrypt(&mut self, data: &[u8]) -> Result<Vec<u8>, Failure> {
        let message = self
            .group()?
            .encrypt_application_message(data, Vec::new())
            .map_err(at("encrypt"))?;
        self.store_message()?;
        message.to_bytes().map_err(at("encode a message"))
    }

    fn decrypt(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let message = decode(message)?;
        let received = self
            .group()?
            .process_incoming_message(message)
            .map_err(at("decrypt"))?;
        let ReceivedMessage::ApplicationMessage(message) = received else {
            return Err(at("find the application data")(received));
        };
        self.store_message()?;
        Ok(message.data().to_vec())
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        let group = self.group.take().ok_or(()).map_err(at("find its group"))?;
        let group_id = group.group_id().to_vec();
        drop(group);
        let path = self
            .path
            .as_deref()
            .ok_or(())
            .map_err(at("find its store"))?;
        let store = Store::open(path).map_err(at("open a store"))?;
        self.client = (self.build)(Storage::Sqlite(store.clone()));
        let tree = store.lock().stored_tree(&group_id);
        let tree = tree.map_err(at("load a tree"))?;
        let tree = ExportedTree::from_bytes(&tree).map_err(at("read a tree"))?;
        let group = self.client.load_group_with_ratchet_tree(&group_id, tree);
        self.group = Some(group.map_err(at("load a group"))?);
        self.store = Some(store);
        Ok(())
    }

    fn written(&mut self) -> u64 {
        match &self.store {
            Some(store) => std::mem::take(&mut store.lock().written),
            None => 0,
        }
    }

    fn authenticator(&self) -> Result<Vec<u8>, Failure> {
        let group = self
            .group
            .as_ref()
            .ok_or(())
            .map_err(at("find its group"))?;
        let secret = group.epoch_authenticator().map_err(at("authenticate"))?;
        Ok(secret.as_bytes().to_vec())
    }
}

/// Where group states go.
#[derive(Clone)]
enum Storage {
    Memory(InMemoryGroupStateStorage),
    Sqlite(Store),
}

#[derive(Clone)]
struct Store(Arc<Mutex<Tables>>);

struct Tables {
    connection: Connection,
    /// To be stored with the next state.
    tree: Option<Vec<u8>>,
    written: u64,
}

/// A failure of either storage.
#[derive(Debug, thiserror::Error)]
enum StorageError {
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("an epoch above what SQLite holds")]
    Epoch(#[from] std::num::TryFromIntError),
}

impl IntoAnyError for StorageError {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

impl Store {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = super::sqlite(path)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS mls_group (group_id BLOB PRIMARY KEY, \
                 snapshot BLOB NOT NULL) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS tree (group_id BLOB PRIMARY KEY, \
                 tree BLOB NOT NULL) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS epoch (group_id BLOB, epoch_id INTEGER, \
                 epoch_data BLOB NOT NULL, PRIMARY KEY (group_id, epoch_id)) WITHOUT ROWID;",
        )?;
        Ok(Self(Arc::new(Mutex::new(Tables {
            connection,
            tree: None,
            written: 0,
        }))))
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn stored_tree(&self, group_id: &[u8]) -> rusqlite::Result<Vec<u8>> {
        let select = "SELECT tree FROM tree WHERE group_id = ?1";
        self.connection
            .query_row(select, [group_id], |row| row.get(0))
    }

    fn write(
        &mut self,
        state: &GroupState,
        inserts: &[EpochRecord],
        updates: &[EpochRecord],
    ) -> Result<(), StorageError> {
        let transaction = self.connection.transaction()?;
        let put = "INSERT OR REPLACE INTO mls_group VALUES (?1, ?2)";
        transaction
            .prepare_cached(put)?
            .execute((&state.id, state.data.as_slice()))?;
        self.written += (state.id.len() + state.data.len()) as u64;
        if let Some(tree) = self.tree.take() {
            let put = "INSERT OR REPLACE INTO tree VALUES (?1, ?2)";
            transaction
                .prepare_cached(put)?
                .execute((&state.id, &tree))?;
            self.written += (state.id.len() + tree.len()) as u64;
        }
        for epoch in inserts.iter().chain(updates) {
            let put = "INSERT OR REPLACE INTO epoch VALUES (?1, ?2, ?3)";
            let id = i64::try_from(epoch.id)?;
            transaction
                .prepare_cached(put)?
                .execute((&state.id, id, epoch.data.as_slice()))?;
            self.written += (state.id.len() + 8 + epoch.data.len()) as u64;
        }
        let newest = inserts.iter().map(|epoch| epoch.id).max();
        if let Some(old) = newest.and_then(|newest| newest.checked_sub(PAST_EPOCHS)) {
            let delete = "DELETE FROM epoch WHERE group_id = ?1 AND epoch_id <= ?2";
            let old = i64::try_from(old)?;
            transaction
                .prepare_cached(delete)?
                .execute((&state.id, old))?;
        }
        Ok(transaction.commit()?)
    }
}

type Found = Option<Zeroizing<Vec<u8>>>;

impl GroupStateStorage for Storage {
    type Error = StorageError;

    fn state(&self, group_id: &[u8]) -> Result<Found, StorageError> {
        match self {
            Self::Memory(memory) => Ok(memory.state(group_id).unwrap_or_default()),
            Self::Sqlite(store) => {
                let select = "SELECT snapshot FROM mls_group WHERE group_id = ?1";
                let found: Option<Vec<u8>> = store
                    .lock()
                    .connection
                    .query_row(select, [group_id], |row| row.get(0))
                    .optional()?;
                Ok(found.map(Into::into))
            }
        }
    }

    fn epoch(&self, group_id: &[u8], epoch_id: u64) -> Result<Found, StorageError> {
        match self {
            Self::Memory(memory) => Ok(memory.epoch(group_id, epoch_id).unwrap_or_default()),
            Self::Sqlite(store) => {
                let select = "SELECT epoch_data FROM epoch WHERE group_id = ?1 AND epoch_id = ?2";
                let key = (group_id, i64::try_from(epoch_id)?);
                let found: Option<Vec<u8>> = store
                    .lock()
                    .connection
                    .query_row(select, key, |row| row.get(0))
                    .optional()?;
                Ok(found.map(Into::into))
            }
        }
    }

    fn write(
        &mut self,
        state: GroupState,
        inserts: Vec<EpochRecord>,
        updates: Vec<EpochRecord>,
    ) -> Result<(), StorageError> {
        match self {
            Self::Memory(memory) => {
                // It cannot fail.
                let _ = memory.write(state, inserts, updates);
                Ok(())
            }
            Self::Sqlite(store) => store.lock().write(&state, &inserts, &updates),
        }
    }

    fn max_epoch_id(&self, group_id: &[u8]) -> Result<Option<u64>, StorageError> {
        match self {
            Self::Memory(memory) => Ok(memory.max_epoch_id(group_id).unwrap_or_default()),
            Self::Sqlite(store) => {
                let select = "SELECT MAX(epoch_id) FROM epoch WHERE group_id = ?1";
                let newest: Option<i64> =
                    store
                        .lock()
                        .connection
                        .query_row(select, [group_id], |row| row.get(0))?;
                Ok(newest.map(u64::try_from).transpose()?)
            }
        }
    }
}
