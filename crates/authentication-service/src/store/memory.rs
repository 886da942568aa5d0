//! Records in memory, for tests and the simulation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::transparency::{LogStore, MemoryLog, Pending};

use super::{Place, Store, StoreError, Stored, at_rest};

/// Records in memory. Clones share them, as restarts of a service share a disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    records: Arc<Mutex<BTreeMap<(&'static str, String), Stored>>>,
    log: MemoryLog,
}

fn key(place: Place<'_>) -> (&'static str, String) {
    let (table, key) = place.key();
    (table, key.to_owned())
}

impl Store for MemoryStore {
    type Log = MemoryLog;

    fn log(&self) -> MemoryLog {
        self.log.clone()
    }

    fn load<'a>(&self, place: impl Into<Place<'a>>) -> Result<Option<Stored>, StoreError> {
        let place = place.into();
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(records.get(&key(place)).map(|stored| Stored {
            revision: stored.revision,
            value: at_rest::open(place, stored.value.clone()),
        }))
    }

    fn save_logged<'a>(
        &self,
        place: impl Into<Place<'a>>,
        known: Option<u64>,
        value: Vec<u8>,
        logged: Option<&Pending>,
    ) -> Result<bool, StoreError> {
        let place = place.into();
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.get(&key(place)).map(|stored| stored.revision) != known {
            return Ok(false);
        }
        let stored = Stored {
            revision: known.map_or(1, |revision| revision + 1),
            value: at_rest::seal(place, value),
        };
        if let Some(logged) = logged {
            self.log.enqueue(logged)?;
        }
        records.insert(key(place), stored);
        Ok(true)
    }
}
