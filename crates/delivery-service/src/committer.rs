//! The single committer: whatever requests wait share one durable transaction.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use folkmoot_protocol::Refusal;

use crate::decision::{Decision, Denial, Request};
use crate::store::{Store, StoreError, Transaction};

/// How often a request is decided anew because its precondition failed, before it is told to try
/// later. Cannot happen in a store with one writer.
const ATTEMPTS: usize = 3;

/// Milliseconds after which to try again then.
const BUSY: u64 = 100;

/// A request that waits for the committer, its type forgotten.
trait Job: Send {
    /// Decides and applies. The outcome is kept until [`Job::deliver`].
    fn run(&mut self, transaction: &mut dyn Transaction) -> Result<(), StoreError>;
    /// Tells the waiting caller that the transaction is durable.
    fn deliver(self: Box<Self>);
    /// Tells the waiting caller that there is no room for the transaction.
    fn no_room(self: Box<Self>);
    /// Asks the waiting caller to commit what waits; `false` if it is gone.
    fn ask_to_lead(&self) -> bool;
}

type Outcome<R> = Result<<R as Request>::Outcome, Denial>;

/// What a waiting caller is told.
enum Told<T> {
    /// Its request was committed.
    Done(T),
    /// Nothing of the transaction was committed, for there is no room.
    NoRoom,
    /// It is its turn to commit what waits, its own request included.
    Lead,
}

struct Waiting<R: Request> {
    request: R,
    now: u64,
    outcome: Option<Outcome<R>>,
    caller: Sender<Told<Outcome<R>>>,
}

impl<R: Request> Job for Waiting<R> {
    fn run(&mut self, transaction: &mut dyn Transaction) -> Result<(), StoreError> {
        self.outcome = Some(Err(Refusal::Busy(BUSY).into()));
        for _ in 0..ATTEMPTS {
            let view = match self.request.load(transaction) {
                Ok(view) => view,
                // Nothing was written yet, so the others go on.
                Err(damaged @ StoreError::Corrupt(_)) => {
                    self.outcome = Some(Err(Denial::Damaged(damaged)));
                    break;
                }
                Err(error) => return Err(error),
            };
            match self.request.decide(view, self.now) {
                Err(denial) => {
                    self.outcome = Some(Err(denial));
                    break;
                }
                Ok(Decision { change, outcome }) => {
                    let made = match &change {
                        Some(change) => transaction.apply(change)?,
                        None => true,
                    };
                    if made {
                        self.outcome = Some(Ok(outcome));
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn deliver(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // Nobody listens any more if the caller has given up: the change stands all the same.
            let _ = self.caller.send(Told::Done(outcome));
        }
    }

    fn no_room(self: Box<Self>) {
        let _ = self.caller.send(Told::NoRoom);
    }

    fn ask_to_lead(&self) -> bool {
        self.caller.send(Told::Lead).is_ok()
    }
}

/// Runs requests in groups. It needs no thread of its own: one of the callers commits for all who
/// wait, then the next one does. What comes in while a transaction is being synced makes up the
/// next group.
#[derive(Default)]
pub(crate) struct Committer {
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    waiting: Vec<Box<dyn Job>>,
    /// Whether some caller is committing, or was asked to.
    led: bool,
}

impl Committer {
    /// Runs requests in the order given, in one transaction with whatever else waits. Returns
    /// their outcomes, in that order, once they are durable.
    ///
    /// # Errors
    /// [`StoreError`] if the transaction failed: then none of the requests changed anything, or
    /// the store cannot tell.
    pub(crate) fn run<S: Store, R: Request>(
        &self,
        store: &S,
        requests: Vec<R>,
        now: u64,
    ) -> Result<Vec<Outcome<R>>, StoreError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let mut receivers = Vec::with_capacity(requests.len());
        let jobs = requests.into_iter().map(|request| {
            let (caller, receiver) = channel();
            receivers.push(receiver);
            Box::new(Waiting {
                request,
                now,
                outcome: None,
                caller,
            }) as Box<dyn Job>
        });
        let mut line = self.line();
        line.waiting.extend(jobs);
        let led = std::mem::replace(&mut line.led, true);
        drop(line);

        let mut failure = None;
        if !led {
            failure = self.lead(store).err();
        }
        let mut outcomes = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            let outcome = loop {
                match receiver.recv() {
                    Ok(Told::Done(outcome)) => break outcome,
                    Ok(Told::NoRoom) => return Err(StoreError::Full),
                    Ok(Told::Lead) => failure = self.lead(store).err(),
                    // The transaction failed; if another caller led it, that one heard why.
                    Err(_) => return Err(failure.unwrap_or(StoreError::Uncommitted)),
                }
            };
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Commits everything that waits, and hands over to one of those who came in the meantime.
    fn lead<S: Store>(&self, store: &S) -> Result<(), StoreError> {
        let _lead = Lead(self);
        let mut jobs = std::mem::take(&mut self.line().waiting);
        // On failure the jobs are dropped, and with them the answers that their callers wait for.
        let run = |transaction: &mut dyn Transaction| {
            let mut jobs = jobs.iter_mut();
            jobs.try_for_each(|job| job.run(transaction))
        };
        match store.write(run) {
            Ok(()) => jobs.into_iter().for_each(Job::deliver),
            Err(StoreError::Full) => jobs.into_iter().for_each(Job::no_room),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn to commit. It goes on to the next caller however it ends.
struct Lead<'a>(&'a Committer);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut line = self.0.line();
        line.led = line.waiting.iter().any(|job| job.ask_to_lead());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Change, Crash, MemoryStore, Partition, Put, RECORD_VERSION, Record, View, get, record,
    };
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    record! {
        Counter in Logs {
            count: u64,
        }
    }

    const PARTITION: Partition = Partition([1; 32]);

    /// Counts up; refuses a number, panics at another.
    struct Count {
        partition: Partition,
        refuse_at: u64,
        panic_at: u64,
    }

    const COUNT: Count = Count {
        partition: PARTITION,
        refuse_at: u64::MAX,
        panic_at: u64::MAX,
    };

    impl Request for Count {
        type View = Option<Counter>;
        type Outcome = u64;

        fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
            get(records, self.partition, &[])
        }

        fn decide(&self, view: Self::View, _now: u64) -> Result<Decision<u64>, Denial> {
            let count = view.as_ref().map_or(0, |counter| counter.count) + 1;
            assert!(count != self.panic_at, "as the test asked");
            if count == self.refuse_at {
                return Err(Refusal::Taken.into());
            }
            let mut change = Change::of(self.partition);
            change.require(&[], view.as_ref());
            let version = RECORD_VERSION;
            change.put(&[], &Counter { version, count });
            Ok(Decision {
                change: Some(change),
                outcome: count,
            })
        }
    }

    /// A store whose syncs take time, and are counted.
    struct Slow {
        store: MemoryStore,
        writes: AtomicUsize,
    }

    impl Store for Slow {
        fn read<T>(
            &self,
            work: impl FnOnce(&dyn View) -> Result<T, StoreError>,
        ) -> Result<T, StoreError> {
            self.store.read(work)
        }

        fn write<T>(
            &self,
            work: impl FnOnce(&mut dyn Transaction) -> Result<T, StoreError>,
        ) -> Result<T, StoreError> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            let outcome = self.store.write(work);
            std::thread::sleep(Duration::from_millis(5));
            outcome
        }

        fn sweep(&self, now: u64, limit: usize) -> Result<usize, StoreError> {
            self.store.sweep(now, limit)
        }
    }

    fn count_once(committer: &Committer, store: &impl Store) -> Result<u64, StoreError> {
        let mut outcomes = committer.run(store, vec![COUNT], 0)?;
        Ok(outcomes.remove(0).unwrap())
    }

    #[test]
    fn a_later_request_sees_the_earlier_and_a_refusal_stops_nobody() {
        let (store, committer) = (MemoryStore::new(), Committer::default());
        let refused = Count {
            refuse_at: 2,
            ..COUNT
        };
        let outcomes = committer.run(&store, vec![COUNT, refused, COUNT], 0);
        let denied = Err(Denial::Refusal(Refusal::Taken));
        assert_eq!(outcomes, Ok(vec![Ok(1), denied, Ok(2)]));
        assert_eq!(committer.run(&store, Vec::<Count>::new(), 0), Ok(vec![]));
    }

    #[test]
    fn a_damaged_record_concerns_those_who_need_it() {
        let (store, committer) = (MemoryStore::new(), Committer::default());
        let damaged = Partition([2; 32]);
        let write = |transaction: &mut dyn Transaction| {
            let mut change = Change::of(damaged);
            change.puts.push(Put {
                table: Counter::TABLE,
                key: Vec::new(),
                value: vec![0xff; 3],
                expires: None,
            });
            transaction.apply(&change)
        };
        assert_eq!(store.write(write), Ok(true));
        let elsewhere = Count {
            partition: damaged,
            ..COUNT
        };
        let outcomes = committer.run(&store, vec![COUNT, elsewhere, COUNT], 0);
        let denied = Err(Denial::Damaged(StoreError::Corrupt(Counter::TABLE)));
        assert_eq!(outcomes, Ok(vec![Ok(1), denied, Ok(2)]));
    }

    #[test]
    fn those_who_wait_share_a_transaction() {
        let committer = Committer::default();
        let store = Slow {
            store: MemoryStore::new(),
            writes: AtomicUsize::new(0),
        };
        const THREADS: u64 = 8;
        const EACH: u64 = 20;
        let mut counts: Vec<u64> = std::thread::scope(|scope| {
            let count = || {
                let one = |_| count_once(&committer, &store).unwrap();
                (0..EACH).map(one).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(count)).collect();
            let counts = threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap());
            counts.collect()
        });
        counts.sort_unstable();
        assert_eq!(counts, (1..=THREADS * EACH).collect::<Vec<_>>());
        // Alone each would have had a transaction.
        let writes = store.writes.into_inner() as u64;
        assert!(writes <= THREADS * EACH / 2, "{writes} transactions");
    }

    #[test]
    fn a_failed_transaction_fails_all_its_requests_and_no_later_one() {
        let (store, committer) = (MemoryStore::new(), Committer::default());
        store.crash_at_next_write(Crash::BeforeSync);
        let failed = committer.run(&store, vec![COUNT, COUNT], 0);
        assert_eq!(failed, Err(StoreError::Down));
        store.restart();
        assert_eq!(count_once(&committer, &store), Ok(1));
    }

    #[test]
    fn a_panic_leaves_the_committer_working() {
        let (store, committer) = (MemoryStore::new(), Committer::default());
        let panicking = Count {
            panic_at: 2,
            ..COUNT
        };
        let run = || committer.run(&store, vec![COUNT, panicking], 0);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        assert!(panicked.is_err());
        assert_eq!(count_once(&committer, &store), Ok(1));
    }
}
