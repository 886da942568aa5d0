//! Load, decide, commit: how every change of the service comes about.
//!
//! A [`Request`] that may change something says what it needs to see ([`Request::load`]) and,
//! without any store, clock or randomness of its own, what follows ([`Request::decide`]). The
//! [`Committer`] runs whatever requests are waiting in one durable transaction, a later one seeing
//! the earlier; nobody gets an answer before that transaction is durable.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use folkmoot_protocol::keys::SigningKey;
use folkmoot_protocol::log::{Head, SignedHead};
use folkmoot_protocol::{Conflict, Refusal};

use crate::store::{Change, Store, StoreError, Transaction, View};

/// How often a request is decided anew because its precondition failed, before it is told to try
/// later. Cannot happen in a store with one writer.
const ATTEMPTS: usize = 3;

/// Milliseconds after which to try again then.
const BUSY: u64 = 100;

/// What a request comes to.
pub(crate) struct Decision<T> {
    /// What it changes, if anything.
    pub(crate) change: Option<Change>,
    /// What is answered when the change is durable.
    pub(crate) outcome: T,
}

impl<T> Decision<T> {
    /// Changes nothing.
    pub(crate) fn unchanged(outcome: T) -> Self {
        Self {
            change: None,
            outcome,
        }
    }
}

/// A refusal, before anything is signed.
#[derive(Debug, PartialEq)]
pub(crate) enum Denial {
    /// As it stands.
    Refusal(Refusal),
    /// A conflict, with the head that the request's key may see.
    Conflict(Conflict, Box<Head>),
}

impl Denial {
    /// The answer to give, signed where it has to be.
    pub(crate) fn sign(self, key: &SigningKey) -> Refusal {
        match self {
            Self::Refusal(refusal) => refusal,
            Self::Conflict(kind, head) => {
                Refusal::Conflict(kind, Box::new(SignedHead::sign(*head, key)))
            }
        }
    }
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

/// A request that may change one partition.
pub(crate) trait Request: Send + 'static {
    /// What it needs to see.
    type View;
    /// What is answered.
    type Outcome: Send + 'static;

    /// Loads what the decision rests on.
    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError>;

    /// Decides; `now` in milliseconds since 1970.
    fn decide(&self, view: Self::View, now: u64) -> Result<Decision<Self::Outcome>, Denial>;
}

/// A request that waits for the committer, its type forgotten.
trait Job: Send {
    /// Decides and applies. The outcome is kept until [`Job::deliver`].
    fn run(&mut self, transaction: &mut dyn Transaction) -> Result<(), StoreError>;
    /// Tells the waiting side: the transaction is durable.
    fn deliver(self: Box<Self>);
}

type Outcome<R> = Result<<R as Request>::Outcome, Denial>;

struct Waiting<R: Request> {
    request: R,
    now: u64,
    outcome: Option<Outcome<R>>,
    answer: SyncSender<Outcome<R>>,
}

impl<R: Request> Job for Waiting<R> {
    fn run(&mut self, transaction: &mut dyn Transaction) -> Result<(), StoreError> {
        self.outcome = Some(Err(Refusal::Busy(BUSY).into()));
        for _ in 0..ATTEMPTS {
            let view = self.request.load(transaction)?;
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
            let _ = self.answer.send(outcome);
        }
    }
}

/// Runs requests in groups. It needs no thread of its own: whoever gets the writer's place first
/// commits for all who wait.
pub(crate) struct Committer {
    queue: Mutex<Vec<Box<dyn Job>>>,
    writer: Mutex<()>,
}

impl Committer {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::new(Vec::new()),
            writer: Mutex::new(()),
        }
    }

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
        let mut receivers = Vec::with_capacity(requests.len());
        let jobs = requests.into_iter().map(|request| {
            let (answer, receiver) = sync_channel(1);
            receivers.push(receiver);
            let outcome = None;
            Box::new(Waiting {
                request,
                now,
                outcome,
                answer,
            }) as Box<dyn Job>
        });
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(jobs);
        let failure = self.lead(store).err();
        receivers
            .into_iter()
            .map(|receiver| receiver.recv().ok())
            .collect::<Option<Vec<_>>>()
            // Another caller's transaction held our requests, and it heard why it failed.
            .ok_or_else(|| failure.unwrap_or(StoreError::Uncommitted))
    }

    /// Commits everything that waits. When it returns, the requests queued before it was called
    /// have been committed or have failed, by this caller or another one.
    fn lead<S: Store>(&self, store: &S) -> Result<(), StoreError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut jobs =
            std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner));
        if jobs.is_empty() {
            return Ok(());
        }
        // On failure the jobs are dropped, and with them the answers that others wait for.
        store.write(|transaction| jobs.iter_mut().try_for_each(|job| job.run(transaction)))?;
        jobs.into_iter().for_each(Job::deliver);
        Ok(())
    }
}
