//! Who waits for news of which log.
//!
//! A stream that has read everything leaves a [`Bell`] here. An append rings the bells of its log:
//! it says that there is news, never what, so a slow reader costs no memory and no writer waits for
//! it. What is new each reader takes from the store, by its own cursor.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::{Refusal, limits};

/// Milliseconds after which to try again when there are too many streams.
const BUSY: u64 = 10_000;

/// Called when there is news. It must not block.
pub(crate) type Wake = dyn Fn() + Send + Sync;

/// All streams that wait.
#[derive(Default)]
pub(crate) struct Followers {
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    next: u64,
    streams: usize,
    logs: usize,
    bells: HashMap<LogId, BTreeMap<u64, Arc<Bell>>>,
    all: BTreeMap<u64, Arc<Bell>>,
    closed: bool,
}

struct Bell {
    rung: Mutex<BTreeSet<LogId>>,
    wake: Box<Wake>,
}

/// A stream's own place. It is given back when this is dropped.
pub(crate) struct Follower {
    followers: Arc<Followers>,
    number: u64,
    bell: Arc<Bell>,
    logs: BTreeSet<LogId>,
}

impl Followers {
    /// A place for a stream of `logs`. Bells ring from now on.
    ///
    /// # Errors
    /// `Busy`: there are too many, or the service is about to stop.
    pub(crate) fn join(
        self: &Arc<Self>,
        logs: BTreeSet<LogId>,
        wake: Box<Wake>,
    ) -> Result<Follower, Refusal> {
        let bell = Arc::new(Bell {
            rung: Mutex::default(),
            wake,
        });
        let mut registry = lock(&self.registry);
        let fits = registry.streams < limits::STREAMS
            && registry.logs + logs.len() <= limits::LOGS_FOLLOWED;
        if registry.closed || !fits {
            return Err(Refusal::Busy(BUSY));
        }
        let number = registry.next;
        registry.next += 1;
        registry.streams += 1;
        registry.logs += logs.len();
        for log in &logs {
            let bells = registry.bells.entry(*log).or_default();
            bells.insert(number, bell.clone());
        }
        registry.all.insert(number, bell.clone());
        drop(registry);
        Ok(Follower {
            followers: self.clone(),
            number,
            bell,
            logs,
        })
    }

    /// There is something new in a log, and it is durable.
    pub(crate) fn ring(&self, log: LogId) {
        let bells: Vec<_> = match lock(&self.registry).bells.get(&log) {
            Some(bells) => bells.values().cloned().collect(),
            None => return,
        };
        for bell in bells {
            lock(&bell.rung).insert(log);
            (bell.wake)();
        }
    }

    /// Ends all streams, and takes no new ones.
    pub(crate) fn close(&self) {
        let mut registry = lock(&self.registry);
        registry.closed = true;
        let bells: Vec<_> = registry.all.values().cloned().collect();
        drop(registry);
        bells.iter().for_each(|bell| (bell.wake)());
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        let registry = lock(&self.registry);
        (registry.streams, registry.logs) == (0, 0)
            && registry.bells.is_empty()
            && registry.all.is_empty()
    }
}

impl Follower {
    /// The logs with news since the last call.
    pub(crate) fn news(&self) -> BTreeSet<LogId> {
        std::mem::take(&mut *lock(&self.bell.rung))
    }

    /// Whether the service ends its streams.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.followers.registry).closed
    }

    /// A log is of no more interest.
    pub(crate) fn leave(&mut self, log: LogId) {
        if self.logs.remove(&log) {
            lock(&self.followers.registry).leave(self.number, log);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut registry = lock(&self.followers.registry);
        for log in std::mem::take(&mut self.logs) {
            registry.leave(self.number, log);
        }
        registry.streams -= 1;
        registry.all.remove(&self.number);
    }
}

impl Registry {
    fn leave(&mut self, number: u64, log: LogId) {
        self.logs -= 1;
        if let Some(bells) = self.bells.get_mut(&log) {
            bells.remove(&number);
            if bells.is_empty() {
                self.bells.remove(&log);
            }
        }
    }
}

/// What is behind these locks is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn logs(numbers: &[u8]) -> BTreeSet<LogId> {
        numbers.iter().map(|number| LogId([*number; 32])).collect()
    }

    #[test]
    fn a_bell_rings_for_its_logs_until_it_is_gone() {
        let followers = Arc::new(Followers::default());
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = woken.clone();
        let wake = Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let mut follower = followers.join(logs(&[1, 2]), wake).unwrap();
        for log in [1, 3, 1, 2] {
            followers.ring(LogId([log; 32]));
        }
        assert_eq!(woken.load(Ordering::Relaxed), 3);
        assert_eq!(follower.news(), logs(&[1, 2]));
        assert_eq!(follower.news(), logs(&[]));
        follower.leave(LogId([1; 32]));
        followers.ring(LogId([1; 32]));
        assert_eq!(follower.news(), logs(&[]));
        assert!(!follower.is_closed());
        followers.close();
        assert!(follower.is_closed());
        assert_eq!(woken.load(Ordering::Relaxed), 4);
        assert!(followers.join(logs(&[]), Box::new(|| ())).is_err());
        drop(follower);
        assert!(followers.is_empty());
    }

    #[test]
    fn streams_and_their_logs_are_bounded() {
        let followers = Arc::new(Followers::default());
        let join = |logs| followers.join(logs, Box::new(|| ()));
        let mut held: Vec<_> = (0..limits::STREAMS)
            .map(|_| join(logs(&[1])).unwrap())
            .collect();
        assert_eq!(join(logs(&[1])).err(), Some(Refusal::Busy(BUSY)));
        held.pop();
        drop(join(logs(&[1])).unwrap());
        held.clear();
        let many: BTreeSet<_> = (0..limits::LOGS_PER_READ)
            .map(|number| {
                let mut id = [0; 32];
                id[..8].copy_from_slice(&number.to_be_bytes());
                LogId(id)
            })
            .collect();
        let full = limits::LOGS_FOLLOWED / limits::LOGS_PER_READ;
        held.extend((0..full).map(|_| join(many.clone()).unwrap()));
        assert!(join(many).is_err());
        held.clear();
        assert!(followers.is_empty());
    }
}
