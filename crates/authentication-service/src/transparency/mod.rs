//! The transparency log: what this service says about its users, in a tree that only grows.
//!
//! Every change of an account leaves a row of its own, in the same transaction: the log's new value
//! of that name. [`Log::publish`] takes the rows in order, a name's first one first, and makes an
//! epoch of them: tree, signed head and the end of the rows are one durable transaction. So a crash
//! leaves an epoch or none, and no value is passed over. What is not in the tree yet is answered
//! with a signed promise.

mod directory;
mod nodes;
pub(crate) mod sqlite;

pub use nodes::{Commit, LogStore, MemoryLog, Pending};
pub use sqlite::{SqliteLog, SqliteNodes};

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use akd::directory::Directory;
use akd::errors::{AkdError, StorageError};
use akd::storage::StorageManager;
use akd::{AkdLabel, AkdValue, AzksParallelismConfig, WhatsAppV1Configuration};
use folkmoot_credential::keys::SigningKey;
use folkmoot_credential::transparency::{
    AppendOnlyProof, HistoryProof, LogHead, LogLabel, LookUpProof, MAX_VERSIONS, Promise,
    SignedHead, SignedPromise,
};
use folkmoot_credential::{Domain, Version};
use folkmoot_mls::codec::Decode;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::store::{Place, Store, StoreError};
use directory::{Publishing, VrfKey};

/// Milliseconds between epochs, unless said otherwise.
pub const EPOCH_MS: u64 = 60_000;

/// The most changes in one epoch; more wait for the next, which follows at once. It bounds the proof
/// that auditors fetch.
const MOST: usize = 10_000;

type Tree<D> = Directory<WhatsAppV1Configuration, D, VrfKey>;

/// A domain's log.
pub(crate) struct Log<L> {
    store: L,
    key: SigningKey,
    domain: Domain,
    vrf: VrfKey,
    /// The latest head, its time renewed where nothing changes.
    latest: RwLock<Option<SignedHead>>,
    /// One publishes at a time.
    publishing: Mutex<()>,
}

impl<L: LogStore> Log<L> {
    /// The log of `domain` in `store`, whose heads `key` signs. The VRF's key is made with the log.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn open<S: Store<Log = L>>(
        store: &S,
        key: SigningKey,
        domain: Domain,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, StoreError> {
        let vrf = loop {
            if let Some(stored) = store.load(Place::VrfKey)? {
                let seed = Zeroizing::new(stored.value);
                let seed = seed
                    .as_slice()
                    .try_into()
                    .map_err(|_| StoreError::Damaged)?;
                break VrfKey::new(seed);
            }
            let mut seed = Zeroizing::new([0; 32]);
            rng.fill_bytes(seed.as_mut());
            store.save(Place::VrfKey, None, seed.to_vec())?;
        };
        let store = store.log();
        let latest = store.head(None)?.map(|head| SignedHead::from_bytes(&head));
        let log = Self {
            key,
            domain,
            vrf,
            latest: RwLock::new(latest.transpose().map_err(|_| StoreError::Damaged)?),
            publishing: Mutex::default(),
            store,
        };
        // Makes the empty tree.
        log.tree(log.store.nodes(false)?)?;
        Ok(log)
    }

    /// Publishes what is waiting, and says how many changes that was. `now` is in milliseconds since
    /// 1970. Without changes the head gets a new time and nothing else.
    ///
    /// # Errors
    /// [`StoreError`]; what was published until then stays.
    pub(crate) fn publish(&self, now: u64) -> Result<usize, StoreError> {
        let _turn = self
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut changes = 0;
        loop {
            let waiting = self.store.pending(MOST + 1)?;
            if waiting.is_empty() {
                break;
            }
            let mut batch = BTreeMap::new();
            for pending in waiting.iter().take(MOST) {
                batch.entry(&pending.label).or_insert(pending);
            }
            let batch: Vec<Pending> = batch.into_values().cloned().collect();
            let is_last = batch.len() == waiting.len();
            changes += batch.len();
            self.epoch(batch, is_last.then_some(now))?;
        }
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(signed) = latest.as_ref().filter(|signed| signed.head.time < now) {
            let head = LogHead {
                time: now,
                ..signed.head.clone()
            };
            *latest = Some(SignedHead::sign(head, &self.key));
        }
        Ok(changes)
    }

    /// One epoch. Its head has the time of the one before if more changes are waiting, since the time
    /// says that nothing older is.
    fn epoch(&self, batch: Vec<Pending>, now: Option<u64>) -> Result<(), StoreError> {
        let known = self.latest();
        let time = known.as_ref().map_or(0, |signed| signed.head.time);
        let previous = match &known {
            Some(signed) => signed.head.root,
            None => {
                let tree = self.tree(self.store.nodes(false)?)?;
                block_on(tree.get_epoch_hash()).map_err(failed)?.1
            }
        };
        let changes = batch
            .iter()
            .map(|pending| {
                (
                    AkdLabel(pending.label.clone()),
                    AkdValue(pending.value.to_vec()),
                )
            })
            .collect();
        let head = LogHead {
            version: Version,
            domain: self.domain.clone(),
            authentication_service: self.key.public(),
            vrf_key: self.vrf.public()?,
            epoch: 0,
            root: [0; 32],
            previous,
            time: now.unwrap_or(0).max(time),
        };
        let publishing = Publishing::new(
            self.store.nodes(false)?,
            self.store.clone(),
            self.key.clone(),
            head,
            batch.clone(),
        );
        let committed = publishing.committed();
        let tree = self.tree(publishing)?;
        block_on(tree.publish(changes)).map_err(failed)?;
        let committed = committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match committed {
            Some(head) => {
                *self.latest.write().unwrap_or_else(PoisonError::into_inner) = Some(head);
                Ok(())
            }
            // The log has it all already.
            None => self.store.settle(&batch),
        }
    }

    /// The latest head; `None` before the first epoch.
    pub(crate) fn latest(&self) -> Option<SignedHead> {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        latest.clone()
    }

    /// The head of an epoch, with the time of its making unless it is the latest.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if there is none.
    pub(crate) fn head(&self, epoch: u64) -> Result<SignedHead, StoreError> {
        if let Some(latest) = self.latest().filter(|signed| signed.head.epoch == epoch) {
            return Ok(latest);
        }
        let head = self.store.head(Some(epoch))?.ok_or(StoreError::Damaged)?;
        SignedHead::from_bytes(&head).map_err(|_| StoreError::Damaged)
    }

    /// The proof that `value` is the latest at `label`, and the head that it leads to. None: the log
    /// says nothing about the name, or something else; a change is under way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn look_up(
        &self,
        label: &LogLabel,
        value: &[u8; 32],
    ) -> Result<Option<(LookUpProof, SignedHead)>, StoreError> {
        let tree = self.tree(self.store.nodes(true)?)?;
        match block_on(tree.lookup(AkdLabel(label.to_bytes()))) {
            Ok((proof, place)) if proof.value.0 == value => {
                Ok(Some((LookUpProof::new(proof), self.head(place.0)?)))
            }
            Ok(_) | Err(AkdError::Storage(StorageError::NotFound(_))) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Promises that by `due`, milliseconds since 1970, the log will have, or have had, `value` at
    /// `label`. It is made sure of first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn promise(
        &self,
        label: &LogLabel,
        revision: u64,
        value: [u8; 32],
        due: u64,
    ) -> Result<SignedPromise, StoreError> {
        let label = label.to_bytes();
        self.store.enqueue(&Pending {
            label: label.clone(),
            revision,
            value,
        })?;
        let promise = Promise {
            version: Version,
            domain: self.domain.clone(),
            authentication_service: self.key.public(),
            label: label.into(),
            value,
            due,
        };
        Ok(SignedPromise::sign(promise, &self.key))
    }

    /// The latest values of a label and the head that they are proven under; `None` if there are none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn history(
        &self,
        label: &LogLabel,
    ) -> Result<Option<(HistoryProof, SignedHead)>, StoreError> {
        let tree = self.tree(self.store.nodes(true)?)?;
        let params = akd::HistoryParams::MostRecent(MAX_VERSIONS);
        match block_on(tree.key_history(&AkdLabel(label.to_bytes()), params)) {
            Ok((proof, place)) => Ok(Some((HistoryProof::new(proof), self.head(place.0)?))),
            Err(AkdError::Storage(StorageError::NotFound(_))) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// That epoch `epoch` kept all that the one before had, and the epoch's head; `None` if there is
    /// no such epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn audit(
        &self,
        epoch: u64,
    ) -> Result<Option<(AppendOnlyProof, SignedHead)>, StoreError> {
        let latest = self.latest().map_or(0, |signed| signed.head.epoch);
        if !(1..=latest).contains(&epoch) {
            return Ok(None);
        }
        let tree = self.tree(self.store.nodes(true)?)?;
        let proof = block_on(tree.audit(epoch - 1, epoch)).map_err(failed)?;
        let [proof] = <[_; 1]>::try_from(proof.proofs).map_err(|_| StoreError::Damaged)?;
        Ok(Some((AppendOnlyProof::new(proof), self.head(epoch)?)))
    }

    fn tree<D: akd::storage::Database + 'static>(&self, nodes: D) -> Result<Tree<D>, StoreError> {
        let storage = StorageManager::new_no_cache(nodes);
        let threads = AzksParallelismConfig::disabled();
        block_on(Tree::new(storage, self.vrf.clone(), threads)).map_err(failed)
    }
}

/// What the library says of a failure may name a label.
fn failed(_: AkdError) -> StoreError {
    StoreError::Log
}

/// Waits for what never waits for anything but a lock: the library is asynchronous, stores are not.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
