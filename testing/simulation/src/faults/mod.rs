//! Runs with faults: everything about a run follows from one number, its seed.
//!
//! Two to eight people do random things, half of them in two processes on one home, while the network
//! drops, delays, doubles and reorders calls and answers, cuts long reads and streams off and keeps
//! people from a service for a while; devices lose power and processes are killed at any step, with or
//! without what they wrote last; services start again, with or without what they wrote last, which may
//! be several appends in one transaction; clocks of devices are wrong. Then everything heals, everybody syncs until it is quiet, and an
//! observer who saw every step says whether anything was lost, done twice or disagreed about.
//!
//! ```
//! let outcome = folkmoot_simulation::faults::run(1, &Default::default());
//! assert_eq!(outcome.result, Ok(()));
//! ```

mod check;
mod network;
mod observer;
mod people;
mod streams;

use std::fmt;

pub use people::run;

use crate::PersonId;

/// How runs are made.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether every step is written down, in [`Outcome::trace`].
    pub trace: bool,
    /// What is broken on purpose.
    pub broken: Option<Broken>,
}

/// A guard that is taken away, to see whether the observer notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The Delivery Service takes a commit whatever commit it follows.
    CompareAndSet,
    /// The Delivery Service does not know again what it has taken.
    RepeatedAppend,
    /// The Delivery Service stores a commit and its Welcomes one after the other.
    WelcomesTogether,
    /// A device stores the group's state and its place in the log one after the other.
    StateTogether,
    /// The Delivery Service reads on behind a cut.
    Cut,
    /// Of appends that share a transaction at the Delivery Service a later one does not see the earlier.
    OneAfterAnother,
    /// A process uses a group in memory that another process of its home has moved on.
    HeldGroup,
}

/// All that can be broken.
pub const ALL_BROKEN: [Broken; 7] = [
    Broken::CompareAndSet,
    Broken::RepeatedAppend,
    Broken::WelcomesTogether,
    Broken::StateTogether,
    Broken::Cut,
    Broken::OneAfterAnother,
    Broken::HeldGroup,
];

/// How a run went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened, step by step, if that was wanted.
    pub trace: Vec<String>,
    /// How much happened.
    pub counts: Counts,
    /// What did not hold.
    pub result: Result<(), Violation>,
}

/// How much happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps of devices.
    pub steps: u64,
    /// Calls and answers that were lost.
    pub lost: u64,
    /// Calls that came twice.
    pub doubled: u64,
    /// Times that a device lost power, or a process was killed.
    pub crashes: u64,
    /// Times that a service did.
    pub restarts: u64,
    /// Entries of all logs.
    pub entries: u64,
    /// Commits among them.
    pub commits: u64,
    /// Appends that came too late.
    pub conflicts: u64,
    /// Appends that shared a transaction with others.
    pub grouped: u64,
    /// Parts that streams brought.
    pub followed: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.crashes += other.crashes;
        self.restarts += other.restarts;
        self.entries += other.entries;
        self.commits += other.commits;
        self.conflicts += other.conflicts;
        self.grouped += other.grouped;
        self.followed += other.followed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} steps, {} entries, {} commits, {} conflicts, {} grouped, {} followed, {} lost, \
             {} doubled, {} crashes, {} restarts",
            self.steps,
            self.entries,
            self.commits,
            self.conflicts,
            self.grouped,
            self.followed,
            self.lost,
            self.doubled,
            self.crashes,
            self.restarts
        )
    }
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// What the Delivery Service has signed or given out stays as it is.
    Durable,
    /// One commit after each parent, each entry once, on the chain.
    OneOrder,
    /// Members agree on epoch, authenticator, place in the log and members.
    Agreement,
    /// Every message is read by everyone who is a member at its place, once, in the log's order.
    Delivery,
    /// Nobody is given anything from outside its membership.
    Boundary,
    /// What was wished is done once, or given up for a reason that its user is told.
    Wishes,
    /// No message key is used twice.
    KeysOnce,
    /// Nothing is left of what was used.
    Leftovers,
    /// Nobody honest is accused, stopped or stuck.
    Honest,
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule:?} does not hold: {what}")]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What was seen.
    pub what: String,
}

/// The command that makes a run again.
#[must_use]
pub fn replay(seed: u64) -> String {
    format!("cargo run --release -p folkmoot-simulation -- --seed {seed}")
}

fn broken<T>(rule: Rule, what: impl Into<String>) -> Result<T, Violation> {
    let what = what.into();
    Err(Violation { rule, what })
}

/// The names of those who take part.
const NAMES: [&str; 8] = [
    "alice", "bob", "charlie", "dora", "emil", "frida", "georg", "hanna",
];

fn name(who: PersonId) -> &'static str {
    NAMES[who % NAMES.len()]
}
