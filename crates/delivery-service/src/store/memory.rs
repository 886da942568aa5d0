//! A store in memory, for tests and the simulation. It can lose its power at any write.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sabotage::{Guard, stands};

use super::{Change, Partition, Store, StoreError, Table, Transaction, View, Visit};

type Key = (Table, Partition, Vec<u8>);

#[derive(Clone)]
struct Stored {
    value: Vec<u8>,
    expires: Option<u64>,
}

/// At which moment of a write the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// After the transaction ended and before it was synced: it is forgotten.
    BeforeSync,
    /// After it was synced and before anybody heard of it: it is kept, the answer is lost.
    AfterSync,
}

/// Records in memory. Clones share them, as restarts of a service share a disk.
#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<Key, Stored>,
    crash: Option<Crash>,
    down: bool,
    #[cfg(feature = "sabotage")]
    split: bool,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the power away during the next write. It, and all that follows, fails with
    /// [`StoreError::Down`] until [`restart`](Self::restart).
    pub fn crash_at_next_write(&self, crash: Crash) {
        self.lock().crash = Some(crash);
    }

    /// From now on a Welcome is synced after the commit that it belongs to: power can go in between.
    #[cfg(feature = "sabotage")]
    pub fn split_transactions(&self) {
        self.lock().split = true;
    }

    /// Takes the power away now.
    pub fn crash(&self) {
        self.lock().down = true;
    }

    /// Gives the power back: what was synced is there.
    pub fn restart(&self) {
        let mut state = self.lock();
        state.down = false;
        state.crash = None;
    }

    /// All that is synced, keys, values and times one after another: for those who look for what
    /// must not be there.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let state = self.lock();
        let mut out = Vec::new();
        for ((_, partition, key), stored) in &state.records {
            out.extend_from_slice(&partition.0);
            out.extend_from_slice(key);
            out.extend_from_slice(&stored.value);
            out.extend_from_slice(&stored.expires.unwrap_or_default().to_be_bytes());
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.lock();
        if state.down {
            Err(StoreError::Down)
        } else {
            Ok(state)
        }
    }
}

impl Store for MemoryStore {
    fn read<T>(
        &self,
        work: impl FnOnce(&dyn View) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        work(&Layered {
            synced: &self.running()?.records,
            changed: BTreeMap::new(),
        })
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.running()?;
        let mut layered = Layered {
            synced: &state.records,
            changed: BTreeMap::new(),
        };
        let outcome = work(&mut layered)?;
        #[cfg_attr(
            not(feature = "sabotage"),
            allow(unused_mut, reason = "nothing is split")
        )]
        let mut changed = layered.changed;
        let crash = state.crash.take();
        #[cfg(feature = "sabotage")]
        let crash = if state.split && crash == Some(Crash::BeforeSync) {
            changed
                .retain(|(table, _, _), _| !matches!(table, Table::Pickups | Table::SharedParts));
            Some(Crash::AfterSync)
        } else {
            crash
        };
        if crash != Some(Crash::BeforeSync) {
            for (key, stored) in changed {
                match stored {
                    Some(stored) => state.records.insert(key, stored),
                    None => state.records.remove(&key),
                };
            }
        }
        if crash.is_some() {
            state.down = true;
            return Err(StoreError::Down);
        }
        Ok(outcome)
    }

    fn sweep(&self, now: u64, limit: usize) -> Result<usize, StoreError> {
        let mut state = self.running()?;
        let mut over: Vec<(u64, Key)> = state
            .records
            .iter()
            .filter_map(|(key, stored)| Some((stored.expires?, key.clone())))
            .filter(|(expires, _)| *expires <= now)
            .collect();
        over.sort_unstable();
        over.truncate(limit);
        for (_, key) in &over {
            state.records.remove(key);
        }
        Ok(over.len())
    }
}

/// What is synced, and what this transaction has changed.
struct Layered<'a> {
    synced: &'a BTreeMap<Key, Stored>,
    changed: BTreeMap<Key, Option<Stored>>,
}

impl View for Layered<'_> {
    fn get(
        &self,
        table: Table,
        partition: Partition,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let place = (table, partition, key.to_vec());
        let stored = match self.changed.get(&place) {
            Some(changed) if stands(Guard::OneAfterAnother) => changed.as_ref(),
            _ => self.synced.get(&place),
        };
        Ok(stored.map(|stored| stored.value.clone()))
    }

    fn has(&self, table: Table, partition: Partition, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.get(table, partition, key)?.is_some())
    }

    fn scan(
        &self,
        table: Table,
        partition: Partition,
        from: &[u8],
        through: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if from > through {
            return Ok(());
        }
        let range = (table, partition, from.to_vec())..=(table, partition, through.to_vec());
        let mut synced = self.synced.range(range.clone()).peekable();
        let mut changed = self.changed.range(range).peekable();
        loop {
            // Both sides are in order; where both have a key, the changed one counts.
            let changed_first = match (synced.peek(), changed.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (Some((a, _)), Some((b, _))) => {
                    if a == b {
                        synced.next();
                        continue;
                    }
                    b < a
                }
            };
            let next = if changed_first {
                changed
                    .next()
                    .and_then(|(key, stored)| stored.as_ref().map(|stored| (key, stored)))
            } else {
                synced.next()
            };
            if let Some(((_, _, key), stored)) = next
                && let ControlFlow::Break(()) = visit(key, stored.value.clone())
            {
                return Ok(());
            }
        }
    }
}

impl Transaction for Layered<'_> {
    fn apply(&mut self, change: &Change) -> Result<bool, StoreError> {
        let partition = change.partition;
        for required in &change.requires {
            if self.get(required.table, partition, &required.key)? != required.value {
                return Ok(false);
            }
        }
        for (table, key) in &change.deletes {
            self.changed.insert((*table, partition, key.clone()), None);
        }
        for put in &change.puts {
            let (value, expires) = (put.value.clone(), put.expires);
            self.changed.insert(
                (put.table, partition, put.key.clone()),
                Some(Stored { value, expires }),
            );
        }
        Ok(true)
    }
}
