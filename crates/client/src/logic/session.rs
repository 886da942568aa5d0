//! What this process knows and may lose.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use folkmoot_mls::codec::Bytes;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::ids::{EntryId, LogId, MailboxId, PickupAddress};

use super::groups::{Held, Next};
use super::joining::Joining;
use super::pages::Repair;
use super::tokens::Paid;
use super::{CallId, IntentId};

/// How long a nonce is used: half the time that it is good for.
const NONCE_MS: u64 = folkmoot_protocol::limits::NONCE_SECONDS * 500;
/// The first pause before a service is asked again, and the longest that we choose ourselves.
const FIRST_PAUSE_MS: u64 = 250;
const LONGEST_PAUSE_MS: u64 = 60_000;

/// Something that has one call under way at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Task {
    /// Our account, mailbox and shelf.
    Mailbox,
    /// Our stock of anonymous tokens.
    Tokens,
    /// A conversation's log.
    Conversation(LogId),
    /// What comes in live from a conversation's log.
    Follow(LogId),
    /// What comes before the commit that adds somebody.
    Invite(LogId, IntentId),
    /// Looking after the tree pages of a conversation.
    Repair(LogId),
    /// Waiting for a Welcome.
    Join(PickupAddress),
    /// A door, of a group's or for an answer to us.
    Door(MailboxId),
}

/// What a call was about, with what its answer needs.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Nonce,
    Register,
    Issuers,
    /// The draw's number.
    Draw(u64),
    CreateMailbox,
    /// References of the packages.
    Stock(Vec<Bytes>),
    Count,
    /// After which envelope.
    Collect(u64),
    Acknowledge(u64),
    Open,
    Append(EntryId),
    Stage(EntryId),
    /// A chunk, by its number.
    Upload(EntryId, u32),
    Pages,
    /// Whether it puts pages back that are missing, or looks for them.
    Repair(bool),
    Read(Cursor),
    /// The commits after the tip, from this number on.
    Candidates(u32),
    /// A read whose answer comes in parts and has no end of its own.
    Follow(Cursor),
    /// The target of this number.
    LookUp(u32),
    /// From the target of this number on, so many.
    Take(u32, u32),
    /// From the target of this number on, so many.
    Drop(u32, u32),
    CreateDoor,
    /// After which envelope.
    CollectDoor(u64),
    AcknowledgeDoor(u64),
    CloseDoor,
    /// A knock.
    Knock,
    /// Whether at another service than our own.
    PickUp {
        elsewhere: bool,
    },
}

/// What a read began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub branch: EntryId,
    /// Whose fence key signed.
    pub epoch: u64,
    /// The last entry that was read then.
    pub after: u64,
}

/// A log that is followed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Following {
    /// How often in a row it broke.
    pub failures: u32,
    /// When the stream's last head was issued.
    pub issued: u64,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A call is under way.
    Calling,
    /// A service asked to be asked again at this time.
    Waiting(u64),
    /// It failed; it is left until somebody tries again.
    Blocked,
}

/// How far this process has read a log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// To the head, so that encrypting is safe.
    pub at_head: bool,
    /// Somebody wants to know what is new.
    pub wanted: bool,
    /// When it was at the head, milliseconds since 1970.
    pub at: u64,
    /// Where we stood when an append lost: losing there again contradicts what was read.
    pub lost_at: Option<u64>,
}

/// All of it but the groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    next_call: u64,
    calls: BTreeMap<CallId, (Task, Asked)>,
    /// Calls that cost tokens.
    pub paid: BTreeMap<CallId, Paid>,
    /// Tasks that wait for tokens.
    pub unpaid: BTreeSet<Task>,
    states: BTreeMap<Task, State>,
    /// For the task's next proof, and when it came (milliseconds since 1970).
    pub nonces: BTreeMap<Task, (Vec<u8>, u64)>,
    /// Tasks whose nonce was refused, and no other since.
    pub stale: BTreeSet<Task>,
    /// How often in a row a service asked to be asked again later.
    pub tries: BTreeMap<Task, u32>,
    /// How often in a row nothing came of asking the services of those who are to be added.
    pub fruitless: BTreeMap<Task, u32>,
    pub reading: BTreeMap<LogId, Reading>,
    /// When it is our turn to commit what others have proposed.
    pub turns: BTreeMap<LogId, u64>,
    pub following: BTreeMap<LogId, Following>,
    /// Messages of which the user was told that they are held back.
    pub held_back: BTreeSet<IntentId>,
    /// Intents that this process began, and will hear of.
    pub own: BTreeSet<IntentId>,
    /// Attempts that go up in chunks, and which of these the DS has not.
    pub uploads: BTreeMap<LogId, (EntryId, BTreeSet<u32>)>,
    pub collect: bool,
    /// Doors that are to be looked at.
    pub collect_doors: BTreeSet<MailboxId>,
    pub count: bool,
    /// When the shelf was counted, milliseconds since 1970.
    pub counted: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Session {
    marks: Marks,
    pub held: HashMap<LogId, Held>,
    /// What our own commits make of groups, so that it is not loaded when they are merged.
    pub pending: HashMap<LogId, (EntryId, Next)>,
    /// Groups that are joined by the pages of their trees.
    pub joining: HashMap<PickupAddress, Joining>,
    /// Conversations whose tree pages are looked after.
    pub repairs: HashMap<LogId, Repair>,
}

impl std::ops::Deref for Session {
    type Target = Marks;
    fn deref(&self) -> &Marks {
        &self.marks
    }
}

impl std::ops::DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Marks {
        &mut self.marks
    }
}

impl Session {
    pub(super) fn marks(&self) -> Marks {
        self.marks.clone()
    }

    /// After a step that failed. Groups are loaded again, since theirs may be ahead of the store.
    pub(super) fn restore(&mut self, before: Marks) {
        let next_call = self.marks.next_call;
        self.marks = before;
        self.marks.next_call = next_call;
        self.held.clear();
        self.pending.clear();
        self.joining.clear();
        self.repairs.clear();
    }

    pub(super) fn ask(&mut self, task: Task, asked: Asked) -> CallId {
        let id = CallId(self.next_call);
        self.marks.next_call += 1;
        self.marks.calls.insert(id, (task, asked));
        self.set(task, State::Calling);
        id
    }

    /// The call has an answer, or will have none.
    pub(super) fn answered(&mut self, id: CallId) -> Option<(Task, Asked)> {
        let (task, asked) = self.marks.calls.remove(&id)?;
        self.marks.states.remove(&task);
        self.marks.paid.remove(&id);
        // A log's nonce serves its next reads too; it tells the DS nothing that the log does not.
        if !matches!(asked, Asked::Nonce | Asked::Read(_) | Asked::Candidates(_)) {
            self.marks.nonces.remove(&task);
        }
        Some((task, asked))
    }

    /// A nonce that will still be good when it arrives.
    pub(super) fn nonce(&self, task: &Task, now: u64) -> Option<Vec<u8>> {
        let (nonce, came) = self.nonces.get(task)?;
        let is_fresh = now.saturating_sub(*came) < NONCE_MS;
        is_fresh.then(|| nonce.clone())
    }

    /// Nobody waits for an answer any more, but for those to some calls.
    pub(super) fn forget_calls(&mut self, but: &[CallId]) {
        self.marks.calls.retain(|id, _| but.contains(id));
        self.marks.paid.retain(|id, _| but.contains(id));
        let tasks: BTreeSet<Task> = self.calls.values().map(|(task, _)| *task).collect();
        self.marks
            .states
            .retain(|task, state| *state != State::Calling || tasks.contains(task));
    }

    /// Whether a Welcome is asked for at another service than our own.
    pub(super) fn asks_elsewhere(&self) -> bool {
        let elsewhere = |asked: &Asked| matches!(asked, Asked::PickUp { elsewhere: true });
        self.calls.values().any(|(_, asked)| elsewhere(asked))
    }

    /// What a call was about that will have further answers.
    pub(super) fn asked(&self, id: CallId) -> Option<(Task, Asked)> {
        self.calls.get(&id).cloned()
    }

    /// The call of a task is of no interest any more.
    pub(super) fn hang_up(&mut self, task: Task) -> Option<CallId> {
        let (id, _) = self.calls.iter().find(|(_, (of, _))| *of == task)?;
        let id = *id;
        self.answered(id);
        Some(id)
    }

    pub(super) fn set(&mut self, task: Task, state: State) {
        self.marks.states.insert(task, state);
    }

    /// How long to wait before the same is asked again, in milliseconds: as long as the service says, and
    /// twice as long each time.
    pub(super) fn back_off(&mut self, task: Task, refusal: &Refusal) -> u64 {
        let tries = self.marks.tries.entry(task).or_default();
        let wait = LONGEST_PAUSE_MS.min(FIRST_PAUSE_MS << (*tries).min(16));
        *tries = tries.saturating_add(1);
        match refusal {
            Refusal::Busy(asked) | Refusal::Rate(asked) | Refusal::CommitInterval(asked) => {
                wait.max(*asked)
            }
            _ => wait,
        }
    }

    pub(super) fn is_free(&self, task: &Task) -> bool {
        !self.states.contains_key(task)
    }

    /// Whether the task is left until somebody tries again.
    pub(super) fn is_blocked(&self, task: &Task) -> bool {
        self.states.get(task) == Some(&State::Blocked)
    }

    /// A blocked task may go on.
    pub(super) fn free(&mut self, task: &Task) {
        if self.is_blocked(task) {
            self.marks.states.remove(task);
        }
    }

    /// Blocked and waiting tasks may go on.
    pub(super) fn unblock(&mut self) {
        self.marks
            .states
            .retain(|_, state| *state == State::Calling);
        self.marks.stale.clear();
        self.marks.tries.clear();
        for reading in self.marks.reading.values_mut() {
            reading.lost_at = None;
        }
    }

    /// Tasks that waited for a time that has come.
    pub(super) fn due(&mut self, now: u64) -> Vec<Task> {
        let is_due = |state: &State| matches!(state, State::Waiting(until) if *until <= now);
        let due: Vec<_> = self
            .states
            .iter()
            .filter(|(_, s)| is_due(s))
            .map(|(task, _)| *task)
            .collect();
        self.marks.states.retain(|_, state| !is_due(state));
        // Perhaps somebody was faster: our turn begins with reading.
        let turns: Vec<_> = self
            .turns
            .iter()
            .filter(|(_, until)| **until <= now)
            .collect();
        let turns: Vec<_> = turns.into_iter().map(|(log, _)| *log).collect();
        for log in &turns {
            self.reading(*log).wanted = true;
        }
        due.into_iter()
            .chain(turns.into_iter().map(Task::Conversation))
            .collect()
    }

    pub(super) fn reading(&mut self, log: LogId) -> &mut Reading {
        self.marks.reading.entry(log).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: Task = Task::Mailbox;

    #[test]
    fn a_task_has_one_call_under_way_at_a_time() {
        let mut session = Session::default();
        assert!(session.is_free(&TASK));
        session.nonces.insert(TASK, (vec![1], 5));
        let first = session.ask(TASK, Asked::Count);
        assert!(!session.is_free(&TASK));
        assert!(matches!(
            session.answered(first),
            Some((TASK, Asked::Count))
        ));
        assert!(session.is_free(&TASK));
        assert!(session.nonces.is_empty(), "a nonce is used once");
        assert!(session.answered(first).is_none(), "an answer counts once");
        assert_ne!(session.ask(TASK, Asked::Count), first);
        session.forget_calls(&[]);
        assert!(session.is_free(&TASK));
    }

    #[test]
    fn a_nonce_outlives_the_call_that_fetched_it() {
        let mut session = Session::default();
        let call = session.ask(TASK, Asked::Nonce);
        session.nonces.insert(TASK, (vec![1], 5));
        session.answered(call);
        assert_eq!(session.nonces.get(&TASK), Some(&(vec![1], 5)));
    }

    #[test]
    fn a_task_that_waits_is_due_when_its_time_has_come() {
        let mut session = Session::default();
        session.set(TASK, State::Waiting(10));
        assert!(session.due(9).is_empty());
        assert_eq!(session.due(10), [TASK]);
        assert!(session.is_free(&TASK));
    }

    #[test]
    fn a_step_that_failed_leaves_no_trace_but_used_names() {
        let mut session = Session::default();
        let before = session.marks();
        let call = session.ask(TASK, Asked::Collect(0));
        session.collect = true;
        session.restore(before);
        assert!(session.is_free(&TASK) && !session.collect);
        assert!(session.answered(call).is_none());
        assert_ne!(
            session.ask(TASK, Asked::Count),
            call,
            "names are never used twice"
        );
    }

    #[test]
    fn trying_again_frees_what_was_blocked_but_no_call() {
        let mut session = Session::default();
        let other = Task::Conversation(LogId([1; 32]));
        session.set(TASK, State::Blocked);
        session.ask(other, Asked::LookUp(0));
        session.unblock();
        assert!(session.is_free(&TASK));
        assert!(!session.is_free(&other));
    }
}
