//! Accounts in memory, for tests and the simulation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use folkmoot_credential::Name;

use super::{Store, StoreError, Stored, at_rest};

/// Accounts in memory. Clones share them, as restarts of a service share a disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    accounts: Arc<Mutex<BTreeMap<Name, Stored>>>,
}

impl Store for MemoryStore {
    fn load(&self, name: &Name) -> Result<Option<Stored>, StoreError> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(accounts.get(name).map(|stored| Stored {
            revision: stored.revision,
            value: at_rest::open(name, stored.value.clone()),
        }))
    }

    fn save(&self, name: &Name, known: Option<u64>, value: Vec<u8>) -> Result<bool, StoreError> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.get(name).map(|stored| stored.revision) != known {
            return Ok(false);
        }
        let stored = Stored {
            revision: known.map_or(1, |revision| revision + 1),
            value: at_rest::seal(name, value),
        };
        accounts.insert(name.clone(), stored);
        Ok(true)
    }
}
