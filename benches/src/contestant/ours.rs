//! Our engine on AWS-LC, its records in memory or in SQLite.

use std::marker::PhantomData;
use std::path::Path;

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_mls::component::NoComponents;
use folkmoot_mls::context::{Context, NoPsks, OneThread, Workers};
use folkmoot_mls::crypto::{CipherSuite, CryptoProvider, SignatureKeyPair, Suite, aws_lc};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{Group, GroupParameters, PendingCommit, Processed};
use folkmoot_mls::key_package::{KeyPackage, KeyPackageBundle};
use folkmoot_mls::leaf_node::Lifetime;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::records::{Changes, RecordKey, RecordKind, Records};
use folkmoot_mls::welcome::Welcome;
use folkmoot_mls::workers::Threads;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rusqlite::{Connection, OptionalExtension};

use super::credentials::Credentials;
use crate::member::{CredentialKind, Failure, Member, Options};

/// The suite that is measured: what clients use.
pub const SUITE: CipherSuite = CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519;

const NAME: &str = "folkmoot";

/// A client on our engine.
pub struct Ours<C> {
    signer: SignatureKeyPair,
    bundle: Option<KeyPackageBundle>,
    state: Option<State>,
    pending: Option<PendingCommit>,
    rng: ChaCha20Rng,
    tree_apart: bool,
    store: Option<Store>,
    pool: Option<rayon::ThreadPool>,
    credentials: PhantomData<C>,
}

struct State {
    group: Group,
    keys: MessageKeys,
}

fn at<E: std::fmt::Debug>(call: &'static str) -> impl Fn(E) -> Failure + Copy {
    Failure::at(NAME, call)
}

/// The primitives of the suite that is measured.
#[must_use]
pub fn suite() -> &'static dyn Suite {
    aws_lc::PROVIDER
        .suite(SUITE)
        .expect("the provider has suite 1")
}

/// The world of a call, at this time.
pub fn context<'a, C: Credentials>(
    rng: &'a mut ChaCha20Rng,
    workers: &'a dyn Workers,
) -> Context<'a> {
    Context {
        provider: &aws_lc::PROVIDER,
        authentication_service: C::JUDGE,
        psks: &NoPsks,
        components: &NoComponents,
        now: Some(now()),
        workers,
        rng,
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_secs())
}

/// From an hour ago to four weeks from now, which all contestants accept.
#[must_use]
pub fn lifetime() -> Lifetime {
    let now = now();
    Lifetime {
        not_before: now.saturating_sub(3600),
        not_after: now + 28 * 86_400,
    }
}

/// A KeyPackage of a client who is in no group.
///
/// # Errors
/// None that the engine's own tests do not find first.
pub fn key_package<C: Credentials>(
    name: &str,
    signer: &SignatureKeyPair,
    rng: &mut ChaCha20Rng,
) -> Result<KeyPackageBundle, Failure> {
    let leaf = C::leaf(name, signer.public_key())?;
    let extensions = Extensions::default();
    KeyPackage::create(suite(), signer, leaf, lifetime(), extensions, rng)
        .map_err(at("make a KeyPackage"))
}

/// What the group's creator decides.
///
/// # Errors
/// As [`key_package`].
pub fn parameters<C: Credentials>() -> Result<GroupParameters, Failure> {
    Ok(GroupParameters {
        version: ProtocolVersion::MLS10,
        cipher_suite: SUITE,
        group_id: b"the group that is measured......".as_slice().into(),
        extensions: C::group()?,
    })
}

/// Starts a group of one.
///
/// # Errors
/// As [`key_package`].
pub fn found<C: Credentials>(
    name: &str,
    signer: &SignatureKeyPair,
    rng: &mut ChaCha20Rng,
) -> Result<(Group, MessageKeys, Changes), Failure> {
    let leaf = C::leaf(name, signer.public_key())?;
    let mut context = context::<C>(rng, &OneThread);
    let created = Group::create(&mut context, parameters::<C>()?, signer, leaf)
        .map_err(at("start a group"))?;
    Ok((created.group, created.keys, created.changes))
}

/// Reads a message.
///
/// # Errors
/// If it is none.
pub fn decode(message: &[u8]) -> Result<MlsMessage, Failure> {
    MlsMessage::from_bytes(message).map_err(at("read a message"))
}

/// Reads a Welcome in an MLSMessage.
///
/// # Errors
/// If it is none.
pub fn decode_welcome(message: &[u8]) -> Result<Welcome, Failure> {
    match decode(message)? {
        MlsMessage::Welcome(welcome) => Ok(welcome),
        other => Err(at("find the Welcome")(other.wire_format())),
    }
}

/// Reads a KeyPackage in an MLSMessage.
///
/// # Errors
/// If it is none.
pub fn decode_key_package(message: &[u8]) -> Result<KeyPackage, Failure> {
    match decode(message)? {
        MlsMessage::KeyPackage(key_package) => Ok(*key_package),
        other => Err(at("find the KeyPackage")(other.wire_format())),
    }
}

impl<C> Ours<C> {
    fn state(&self) -> Result<&State, Failure> {
        self.state.as_ref().ok_or(()).map_err(at("find its group"))
    }

    /// The group.
    ///
    /// # Errors
    /// If it is in none.
    pub fn group(&self) -> Result<&Group, Failure> {
        Ok(&self.state()?.group)
    }

    fn apply(&mut self, changes: &[&Changes]) -> Result<(), Failure> {
        match &mut self.store {
            Some(store) => store.apply(changes).map_err(at("store")),
            None => Ok(()),
        }
    }
}

impl<C: Credentials> Ours<C> {
    /// The Welcome of a commit that adds one client, with the tree apart. The commit is dropped.
    ///
    /// # Errors
    /// If it is in no group.
    pub fn welcome_apart(&mut self, newcomer: KeyPackage) -> Result<Welcome, Failure> {
        let state = self
            .state
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let commit = state.group.commit().add(newcomer).tree_in_welcome(false);
        let pending = commit
            .build(
                &mut state.keys,
                &self.signer,
                &mut context::<C>(&mut self.rng, &*workers(&self.pool)),
            )
            .map_err(at("commit"))?;
        pending.welcome.ok_or(()).map_err(at("make a Welcome"))
    }
}

impl<C: Credentials> Member for Ours<C> {
    const CREDENTIAL: CredentialKind = C::KIND;

    fn new(name: &str, options: &Options) -> Result<Self, Failure> {
        // Not the same keys for all names, nor in two runs.
        let mut seed = [0; 32];
        let name = name.as_bytes();
        seed[..name.len().min(24)].copy_from_slice(&name[..name.len().min(24)]);
        let started = std::time::SystemTime::UNIX_EPOCH.elapsed();
        let nanoseconds = started.map_or(0, |since| since.subsec_nanos());
        seed[28..].copy_from_slice(&nanoseconds.to_be_bytes());
        let mut rng = ChaCha20Rng::from_seed(seed);
        let store = options.store.as_deref().map(Store::open).transpose();
        Ok(Self {
            signer: suite().signature_key_pair(&mut rng),
            bundle: None,
            state: None,
            pending: None,
            rng,
            tree_apart: options.tree_apart,
            store: store.map_err(at("open a store"))?,
            pool: options.two_threads.then(two_threads).transpose()?,
            credentials: PhantomData,
        })
    }

    fn key_package(&mut self) -> Result<Vec<u8>, Failure> {
        let bundle = key_package::<C>("member", &self.signer, &mut self.rng)?;
        let message = MlsMessage::KeyPackage(Box::new(bundle.key_package.clone()));
        self.bundle = Some(bundle);
        Ok(message.to_bytes())
    }

    fn found(&mut self) -> Result<(), Failure> {
        let (group, keys, changes) = found::<C>("founder", &self.signer, &mut self.rng)?;
        self.state = Some(State { group, keys });
        self.apply(&[&changes])
    }

    fn add(&mut self, key_packages: &[Vec<u8>]) -> Result<Vec<u8>, Failure> {
        let tree_apart = self.tree_apart;
        let state = self
            .state
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let mut commit = state
            .group
            .commit()
            .without_path()
            .tree_in_welcome(!tree_apart);
        for key_package in key_packages {
            commit = commit.add(decode_key_package(key_package)?);
        }
        let mut pending = commit
            .build(
                &mut state.keys,
                &self.signer,
                &mut context::<C>(&mut self.rng, &*workers(&self.pool)),
            )
            .map_err(at("commit"))?;
        let welcome = pending
            .welcome
            .take()
            .ok_or(())
            .map_err(at("make a Welcome"))?;
        std::hint::black_box(pending.message.to_bytes());
        self.pending = Some(pending);
        let welcome = MlsMessage::Welcome(welcome).to_bytes();
        self.merge()?;
        Ok(welcome)
    }

    fn join(&mut self, welcome: &[u8], tree: Option<&[u8]>) -> Result<(), Failure> {
        let bundle = self
            .bundle
            .as_ref()
            .ok_or(())
            .map_err(at("find its KeyPackage"))?;
        let welcome = decode_welcome(welcome)?;
        let joined = Group::join(
            &mut context::<C>(&mut self.rng, &*workers(&self.pool)),
            &welcome,
            bundle,
            tree,
        )
        .map_err(at("join"))?;
        let (group, keys) = (joined.group, joined.keys);
        self.state = Some(State { group, keys });
        self.apply(&[&joined.changes])
    }

    fn commit(&mut self) -> Result<Vec<u8>, Failure> {
        let state = self
            .state
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let pending = state
            .group
            .commit()
            .build(
                &mut state.keys,
                &self.signer,
                &mut context::<C>(&mut self.rng, &*workers(&self.pool)),
            )
            .map_err(at("commit"))?;
        let message = pending.message.to_bytes();
        if let Some(store) = &mut self.store {
            store.apply(&[&pending.sent]).map_err(at("store"))?;
        }
        self.pending = Some(pending);
        Ok(message)
    }

    fn merge(&mut self) -> Result<(), Failure> {
        let pending = self
            .pending
            .take()
            .ok_or(())
            .map_err(at("find its commit"))?;
        let old = self.state.replace(State {
            group: pending.group,
            keys: pending.keys,
        });
        if self.store.is_none() {
            return Ok(());
        }
        let old = old.ok_or(()).map_err(at("find its group"))?;
        let (proposals, keys) = (old.group.proposals_deletion(), old.keys.deletion());
        self.apply(&[&pending.changes, &proposals, &keys])
    }

    fn discard(&mut self) -> Result<(), Failure> {
        self.pending = None;
        Ok(())
    }

    fn process(&mut self, commit: &[u8]) -> Result<(), Failure> {
        let message = decode(commit)?;
        let state = self
            .state
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let processed = state
            .group
            .process(
                &mut state.keys,
                &message,
                &mut context::<C>(&mut self.rng, &*workers(&self.pool)),
            )
            .map_err(at("process"))?;
        let Processed::Commit {
            group,
            keys,
            changes,
            ..
        } = processed
        else {
            return Err(at("find the commit")(()));
        };
        let old = std::mem::replace(state, State { group, keys });
        if self.store.is_none() {
            return Ok(());
        }
        self.apply(&[&changes, &old.keys.deletion()])
    }

    fn encrypt(&mut self, data: &[u8]) -> Result<Vec<u8>, Failure> {
        let state = self
            .state
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let (message, changes) = state
            .keys
            .encrypt(&self.signer, b"", data, 0, &mut self.rng)
            .map_err(at("encrypt"))?;
        self.apply(&[&changes])?;
        Ok(MlsMessage::PrivateMessage(message).to_bytes())
    }

    fn decrypt(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let message = decode(message)?;
        let state = self
            .state
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let processed = state
            .group
            .process(
                &mut state.keys,
                &message,
                &mut context::<C>(&mut self.rng, &*workers(&self.pool)),
            )
            .map_err(at("decrypt"))?;
        let Processed::Application { data, changes, .. } = processed else {
            return Err(at("find the application data")(()));
        };
        self.apply(&[&changes])?;
        Ok(data.to_vec())
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        self.state = None;
        let store = self
            .store
            .as_mut()
            .ok_or(())
            .map_err(at("find its store"))?;
        store.reopen().map_err(at("open a store"))?;
        let group = Group::load(&aws_lc::PROVIDER, store).map_err(at("load a group"))?;
        let keys = group
            .load_keys(&aws_lc::PROVIDER, group.epoch(), store)
            .map_err(at("load message keys"))?;
        self.state = Some(State { group, keys });
        Ok(())
    }

    fn written(&mut self) -> u64 {
        match &mut self.store {
            Some(store) => std::mem::take(&mut store.written),
            None => 0,
        }
    }

    fn authenticator(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.group()?.epoch_authenticator().as_slice().to_vec())
    }
}

fn two_threads() -> Result<rayon::ThreadPool, Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    pool.map_err(at("start threads"))
}

/// Who does what can be split.
fn workers(pool: &Option<rayon::ThreadPool>) -> Box<dyn Workers + '_> {
    match pool {
        Some(pool) => Box::new(Threads(pool)),
        None => Box::new(OneThread),
    }
}

/// Records in a table, as the client stores them.
struct Store {
    path: std::path::PathBuf,
    connection: Connection,
    written: u64,
}

impl Store {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = super::sqlite(path)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS records (key BLOB PRIMARY KEY, value BLOB NOT NULL) \
             WITHOUT ROWID",
        )?;
        Ok(Self {
            path: path.to_path_buf(),
            connection,
            written: 0,
        })
    }

    fn reopen(&mut self) -> rusqlite::Result<()> {
        let written = self.written;
        *self = Self::open(&self.path)?;
        self.written = written;
        Ok(())
    }

    /// In one transaction.
    fn apply(&mut self, changes: &[&Changes]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut delete = transaction.prepare_cached("DELETE FROM records WHERE key = ?1")?;
            let mut put =
                transaction.prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2)")?;
            for changes in changes {
                for key in &changes.delete {
                    delete.execute([key.as_slice()])?;
                }
                for (key, value) in &changes.put {
                    put.execute((key.as_slice(), value.as_slice()))?;
                    self.written += (key.as_slice().len() + value.len()) as u64;
                }
            }
        }
        transaction.commit()
    }
}

impl Records for Store {
    fn get(&self, key: &RecordKey) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        let mut select = self
            .connection
            .prepare_cached("SELECT value FROM records WHERE key = ?1")
            .ok()?;
        let value: Option<Vec<u8>> = select
            .query_row([key.as_slice()], |row| row.get(0))
            .optional()
            .ok()?;
        value.map(Into::into)
    }

    fn each(&self, kind: RecordKind, visit: &mut dyn FnMut(&[u8], &[u8])) -> bool {
        let range = ([kind as u8].to_vec(), [kind as u8 + 1].to_vec());
        let mut read = || -> rusqlite::Result<()> {
            let mut select = self.connection.prepare_cached(
                "SELECT key, value FROM records WHERE key >= ?1 AND key < ?2 ORDER BY key",
            )?;
            let mut rows = select.query([&range.0, &range.1])?;
            while let Some(row) = rows.next()? {
                visit(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
            }
            Ok(())
        };
        read().is_ok()
    }
}
