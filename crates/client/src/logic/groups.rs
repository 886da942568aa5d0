//! Groups as they are held in memory and stored in rows.

use std::cell::RefCell;
use std::collections::BTreeMap;

use folkmoot_credential::{DeviceCredential, Judge, UserId};
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::component::NoComponents;
use folkmoot_mls::context::{Context, NoPsks, OneThread};
use folkmoot_mls::crypto::PROVIDER;
use folkmoot_mls::group::Group;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::records::{Changes, RecordKey, RecordKind, Records};
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::tree_pages::TreePages;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::fence;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::keys::{PublicKey, SigningKey};
use folkmoot_protocol::proof::{FenceProof, Method};
use folkmoot_protocol::sealed::suite;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::Step;
use super::rows::{self, ConversationRow, Seed};
use crate::error::Error;
use crate::sabotage::{Guard, stands};
use crate::store::{StoreError, Table, Transaction};

/// A group in memory, good as long as its conversation's row has this number of changes.
#[derive(Debug)]
pub(super) struct Held {
    pub changes: u64,
    pub group: Group,
    pub keys: MessageKeys,
    /// Of past epochs, as far as they were needed.
    pub past: BTreeMap<u64, MessageKeys>,
    /// Where the tree's pages are, if it has any.
    pub pages: TreePages,
}

/// A group's next epoch, as a commit of ours would make it.
pub(super) struct Next {
    pub group: Group,
    pub keys: MessageKeys,
    pub pages: TreePages,
}

impl std::fmt::Debug for Next {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}

/// The world of an engine's call. `now` is the DS time of an entry, or ours, in seconds since 1970.
pub(super) fn context(now: u64, rng: &mut dyn CryptoRng) -> Context<'_> {
    Context {
        provider: &PROVIDER,
        authentication_service: &Judge,
        psks: &NoPsks,
        components: &NoComponents,
        now: Some(now),
        workers: &OneThread,
        rng,
    }
}

/// The records of one group. The engine knows no store errors: the first one is kept here.
struct GroupRecords<'a> {
    tx: &'a dyn Transaction,
    log: LogId,
    failed: RefCell<Option<StoreError>>,
}

impl Records for GroupRecords<'_> {
    fn get(&self, key: &RecordKey) -> Option<Zeroizing<Vec<u8>>> {
        self.tx
            .get(Table::Records, &record_key(self.log, key))
            .unwrap_or_else(|error| {
                self.failed.borrow_mut().get_or_insert(error);
                None
            })
    }

    fn each(&self, kind: RecordKind, visit: &mut dyn FnMut(&[u8], &[u8])) -> bool {
        let log = self.log.as_ref();
        let prefix = [log, &[kind as u8]].concat();
        let mut after: Option<Vec<u8>> = None;
        loop {
            match self
                .tx
                .scan(Table::Records, &prefix, after.as_deref(), ROWS)
            {
                Ok(rows) => {
                    rows.iter()
                        .for_each(|(key, value)| visit(&key[log.len()..], value));
                    if rows.len() < ROWS {
                        return true;
                    }
                    after = rows.last().map(|(key, _)| key.clone());
                }
                Err(error) => {
                    self.failed.borrow_mut().get_or_insert(error);
                    return false;
                }
            }
        }
    }
}

/// Records read at once.
const ROWS: usize = 1_000;

fn record_key(log: LogId, key: &RecordKey) -> Vec<u8> {
    [log.as_ref(), key.as_slice()].concat()
}

fn with_records<T>(
    tx: &dyn Transaction,
    log: LogId,
    load: impl FnOnce(&dyn Records) -> Result<T, folkmoot_mls::error::Error>,
) -> Result<T, Error> {
    let records = GroupRecords {
        tx,
        log,
        failed: RefCell::new(None),
    };
    let loaded = load(&records);
    match records.failed.into_inner() {
        Some(error) => Err(error.into()),
        None => Ok(loaded?),
    }
}

/// The group of a conversation, without its message keys.
pub(crate) fn load_group(tx: &dyn Transaction, log: LogId) -> Result<Group, Error> {
    with_records(tx, log, |records| Group::load(&PROVIDER, records))
}

/// The message keys of a past epoch.
pub(super) fn load_past(
    tx: &dyn Transaction,
    log: LogId,
    group: &Group,
    epoch: u64,
) -> Result<MessageKeys, Error> {
    with_records(tx, log, |records| {
        group.load_keys(&PROVIDER, epoch, records)
    })
}

/// The devices in a group, and whose they are.
pub(super) fn members(group: &Group) -> impl Iterator<Item = (LeafIndex, DeviceCredential)> + '_ {
    // Members were judged when they came in, so that every credential can be read.
    group
        .members()
        .filter_map(|(leaf, node)| Some((leaf, DeviceCredential::read(&node.credential).ok()?)))
}

/// Who is at a leaf.
pub(super) fn member(group: &Group, leaf: LeafIndex) -> Option<(UserId, PublicKey)> {
    let node = group.member(leaf)?;
    let credential = DeviceCredential::read(&node.credential).ok()?;
    let device = credential.device()?;
    Some((credential.user, device))
}

/// The fence key of the epoch that `keys` are of, with what deriving it changes.
pub(super) fn derive_fence(keys: &mut MessageKeys) -> Result<(SigningKey, Changes), Error> {
    let (exported, changes) = keys.safe_export(fence::COMPONENT)?;
    Ok((fence::fence_key(suite(), &exported), changes))
}

impl Step<'_> {
    /// Takes the conversation's group out of memory, or loads it. [`Step::keep`] puts it back.
    pub(super) fn hold(&mut self, row: &ConversationRow) -> Result<Held, Error> {
        match self.session.held.remove(&row.log) {
            Some(held) if held.changes == row.changes || !stands(Guard::HeldGroup) => Ok(held),
            _ => self.load(row),
        }
    }

    pub(super) fn load(&mut self, row: &ConversationRow) -> Result<Held, Error> {
        let (group, keys, pages) = with_records(self.tx, row.log, |records| {
            let group = Group::load(&PROVIDER, records)?;
            let keys = group.load_keys(&PROVIDER, group.epoch(), records)?;
            let pages = TreePages::load(&group, records)?;
            Ok((group, keys, pages))
        })?;
        let pages = match pages {
            Some(pages) => pages,
            // Of a home from before there were pages, and so of a small group.
            None => {
                let begun = TreePages::begin(&group);
                self.apply(row.log, &begun.changes)?;
                begun.pages
            }
        };
        Ok(Held {
            changes: row.changes,
            group,
            keys,
            past: BTreeMap::new(),
            pages,
        })
    }

    /// Stores the conversation's row, and keeps its group in memory.
    pub(super) fn keep(&mut self, row: &mut ConversationRow, mut held: Held) -> Result<(), Error> {
        self.put_conversation(row)?;
        held.changes = row.changes;
        self.session.held.insert(row.log, held);
        Ok(())
    }

    /// Stores the conversation's row. Groups in memory, of any process, are out of date then.
    pub(super) fn put_conversation(&mut self, row: &mut ConversationRow) -> Result<(), Error> {
        row.changes = row.changes.wrapping_add(1);
        rows::put(self.tx, Table::Conversations, row.log.as_ref(), row)?;
        Ok(())
    }

    /// Writes what an operation of the engine changed.
    pub(super) fn apply(&mut self, log: LogId, changes: &Changes) -> Result<(), Error> {
        for key in &changes.delete {
            self.tx.delete(Table::Records, &record_key(log, key))?;
        }
        for (key, value) in &changes.put {
            self.tx.put(Table::Records, &record_key(log, key), value)?;
        }
        Ok(())
    }

    pub(super) fn put_fence(
        &mut self,
        log: LogId,
        epoch: u64,
        key: &SigningKey,
    ) -> Result<(), Error> {
        let seed = Seed(key.clone());
        rows::put(self.tx, Table::Fences, &rows::fence_key(log, epoch), &seed)?;
        Ok(())
    }

    /// The fence key of an epoch.
    pub(super) fn fence(&self, row: &ConversationRow, epoch: u64) -> Result<SigningKey, Error> {
        let key = rows::fence_key(row.log, epoch);
        let seed: Option<Seed> = rows::get(self.tx, Table::Fences, &key)?;
        let seed = seed.ok_or(StoreError::DamagedRow(Table::Fences.name()))?;
        Ok(seed.0)
    }

    /// Proves to the DS that we have the fence key of an epoch.
    pub(super) fn fence_proof(
        &self,
        row: &ConversationRow,
        epoch: u64,
        method: Method,
        subject: Bytes,
    ) -> Result<Vec<u8>, Error> {
        let proof = FenceProof {
            version: VERSION,
            delivery_service: row.delivery.key,
            log: row.log,
            branch: row.branch,
            epoch,
            method,
            subject,
        };
        Ok(proof.sign(&self.fence(row, epoch)?).to_vec())
    }
}
