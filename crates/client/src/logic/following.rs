//! Following a log: a read whose answer comes in parts, as entries are committed.
//!
//! Beside what the conversation itself asks: its appends and reads go on as ever. An entry that both
//! bring is applied once, by whoever is first.

use folkmoot_protocol::call::Answer;
use folkmoot_protocol::delivery::ReadResponses;
use folkmoot_protocol::ids::LogId;

use super::rows::{self, ConversationRow};
use super::session::{Asked, Cursor, State, Task};
use super::{Ask, CallId, Event, Output, Pause, Standing, Step};
use crate::error::{BadService, Error};
use crate::store::Table;
use crate::transport::TransportError;

/// How long to wait, in milliseconds, after a stream broke: twice as long each time, up to a bound.
const FIRST_DELAY: u64 = 1000;
const LONGEST_DELAY: u64 = 60_000;

impl Step<'_> {
    /// Follows a log from now on, as long as we are a member.
    pub(super) fn follow_log(&mut self, log: LogId) -> Result<(), Error> {
        rows::conversation(self.tx, log)?;
        self.session.following.entry(log).or_default();
        self.wake.push(Task::Follow(log));
        Ok(())
    }

    pub(super) fn advance_follow(&mut self, log: LogId) -> Result<Option<Ask>, Error> {
        let row: Option<ConversationRow> = rows::get(self.tx, Table::Conversations, log.as_ref())?;
        match row {
            Some(row)
                if row.standing == Standing::Member
                    && row.contested.is_none()
                    && self.session.following.contains_key(&log) =>
            {
                self.ask_read(&row, Task::Follow(log)).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A part of an answer.
    pub(super) fn part(&mut self, id: CallId, answer: Answer) -> Result<(), Error> {
        match (self.session.asked(id), answer) {
            (Some((Task::Follow(log), Asked::Follow(cursor))), Answer::Read(answer)) => {
                let following = self.session.following.entry(log).or_default();
                let broken = std::mem::take(&mut following.failures) > 0;
                self.session.stale.remove(&Task::Follow(log));
                if broken {
                    // The service is back: so is what else had to wait for it.
                    self.session.unblock();
                    self.wake_all()?;
                }
                self.read(Task::Follow(log), log, cursor, &answer)?;
                self.wake.push(Task::Conversation(log));
            }
            (Some((task, _)), _) => {
                self.hang_up(task);
                self.block(task, Error::BadService(BadService::Answer));
            }
            (None, _) => self.outputs.push(Output::HangUp { id }),
        }
        Ok(())
    }

    /// The stream has ended: for a cut, which a newer key follows, or because the service stops.
    pub(super) fn follow_ended(
        &mut self,
        log: LogId,
        cursor: Cursor,
        rest: &ReadResponses,
    ) -> Result<(), Error> {
        if !rest.batches.is_empty() {
            self.read(Task::Follow(log), log, cursor, rest)?;
        }
        let row = rows::conversation(self.tx, log)?;
        let is_free = self.session.is_free(&Task::Follow(log));
        if is_free
            && row.standing == Standing::Member
            && row.contested.is_none()
            && (row.branch, row.epoch) == (cursor.branch, cursor.epoch)
        {
            let url = String::from_utf8_lossy(&row.delivery.url).into_owned();
            let reason = "the stream ended".to_owned();
            self.follow_broken(log, TransportError::Unreachable { url, reason });
        }
        Ok(())
    }

    /// The stream broke, or did not come about. It is tried again, less and less often.
    pub(super) fn follow_broken(&mut self, log: LogId, error: TransportError) {
        let task = Task::Follow(log);
        if !matches!(error, TransportError::Unreachable { .. }) {
            return self.block(task, error.into());
        }
        let following = self.session.following.entry(log).or_default();
        following.failures = following.failures.saturating_add(1);
        let (failures, doublings) = (following.failures, following.failures.min(16) - 1);
        let delay = (FIRST_DELAY << doublings).min(LONGEST_DELAY);
        // Not all at once, when a service comes back to many.
        let delay = delay + u64::from(self.rng.next_u32()) % (delay / 4);
        let until = self.now.saturating_add(delay);
        self.session.set(task, State::Waiting(until));
        let pause = Pause::Stream;
        self.outputs.push(Output::Wait { until, pause });
        if failures == 1 {
            let error = error.into();
            self.tell(Event::Blocked { error });
        }
    }

    /// Gives a task's call up.
    pub(super) fn hang_up(&mut self, task: Task) {
        if let Some(id) = self.session.hang_up(task) {
            self.outputs.push(Output::HangUp { id });
        }
    }
}
