//! The outbox: wishes that are to be done; and what comes next for a conversation.

use folkmoot_credential::Version;
use folkmoot_mls::codec::Encode;
use folkmoot_protocol::ids::{EntryId, LogId};
use folkmoot_protocol::plaintext::MessageId;

use super::rows::{self, ConversationRow, OutboxRow, OutcomeRow, SendWish, Wish};
use super::session::Task;
use super::{Ask, Event, IntentId, Standing, Step};
use crate::error::{BadService, Error};
use crate::store::{StoreError, Table};
use crate::text::Text;

/// How long word is left for a process that began an intent: an hour.
const OUTCOME_MS: u64 = 3600 * 1000;

/// What became of building an entry.
pub(super) enum Built {
    /// It is stored as an attempt, and can be offered.
    Attempt(EntryId),
    /// There is nothing to do any more.
    Done,
    /// It cannot be done.
    Failed(Error),
    /// The conversation has ended, and with it whatever was to be done.
    Closed,
}

impl Step<'_> {
    pub(super) fn advance_conversation(&mut self, log: LogId) -> Result<Option<Ask>, Error> {
        loop {
            let row: Option<ConversationRow> =
                rows::get(self.tx, Table::Conversations, log.as_ref())?;
            let Some(row) = row else {
                return Ok(None);
            };
            match row.standing {
                Standing::Opening => return self.ask_open(&row).map(Some),
                Standing::Member => {}
                Standing::Removed | Standing::Stopped | Standing::Left | Standing::Behind => {
                    return Ok(None);
                }
            }
            if let Some(contested) = &row.contested {
                return self.advance_contested(&row, contested);
            }
            let reading = *self.session.reading(log);
            let outbox = self.outbox(log)?;
            let leaves = outbox.iter().any(OutboxRow::has_left);
            let messages = outbox.iter().filter(|row| row.is_new_message());
            let messages: Vec<IntentId> = messages.map(|row| row.intent).collect();
            let holds = !leaves && !messages.is_empty() && self.holds_messages(&row)?;
            let Some(mut next) = next_of(outbox, holds) else {
                if reading.wanted || (holds && !reading.at_head) {
                    return self.ask_read(&row, Task::Conversation(log)).map(Some);
                }
                if holds {
                    self.tell_held(&row, &messages);
                }
                if !reading.at_head {
                    return Ok(None);
                }
                if leaves {
                    self.advance_leaver(row)?;
                    return Ok(None);
                }
                if self.want_proposals(&row, false)? || self.want_offer(&row)? {
                    continue;
                }
                return Ok(None);
            };
            match (next.attempt, next.receipt) {
                (Some(entry), None) => return self.ask_append(&row, entry).map(Some),
                // What stands there is not what the receipt was given for.
                (Some(_), Some(place)) if place <= row.sequence => {
                    (next.attempt, next.receipt) = (None, None);
                    self.put_outbox(&next)?;
                    self.bad_service(log, BadService::Contradiction(log))?;
                    return Ok(None);
                }
                // The receipt settles nothing by itself: the entry is read first.
                (Some(_), Some(_)) => {
                    return self.ask_read(&row, Task::Conversation(log)).map(Some);
                }
                (None, _) if !reading.at_head => {
                    return self.ask_read(&row, Task::Conversation(log)).map(Some);
                }
                // What others have proposed comes before our next message.
                (None, _)
                    if matches!(next.wish, Wish::Send(_) | Wish::Leave(_))
                        && !self.holds_messages(&row)?
                        && self.want_proposals(&row, true)? => {}
                (None, _) => match self.build(row, &next)? {
                    Built::Attempt(entry) => {
                        next.attempt = Some(entry);
                        next.receipt = None;
                        next.tried = true;
                        self.put_outbox(&next)?;
                    }
                    Built::Done => self.give_up(&next, Ok(()))?,
                    Built::Failed(error) => self.give_up(&next, Err(error))?,
                    Built::Closed => {}
                },
            }
        }
    }

    pub(super) fn outbox(&self, log: LogId) -> Result<Vec<OutboxRow>, StoreError> {
        let rows = rows::scan(self.tx, Table::Outbox, log.as_ref())?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    pub(super) fn put_outbox(&mut self, row: &OutboxRow) -> Result<(), StoreError> {
        rows::put(
            self.tx,
            Table::Outbox,
            &rows::outbox_key(row.log, row.intent),
            row,
        )
    }

    /// Puts what the client itself wants into the outbox.
    pub(super) fn want(&mut self, log: LogId, wish: Wish) -> Result<(), StoreError> {
        let intent = rows::next_intent(self.tx)?;
        self.put_outbox(&OutboxRow {
            version: Version,
            log,
            intent,
            attempt: None,
            receipt: None,
            tried: false,
            wish,
        })
    }

    /// Says something to the other clients that people do not see as a message.
    pub(super) fn want_said(
        &mut self,
        log: LogId,
        media_type: &str,
        content: &impl Encode,
    ) -> Result<(), StoreError> {
        let wish = SendWish {
            id: MessageId::generate(self.rng),
            media_type: Text(media_type.to_owned()),
            content: content.to_bytes().into(),
        };
        self.want(log, Wish::Send(wish))
    }

    /// Takes a wish out of the outbox.
    pub(super) fn settle(
        &mut self,
        log: LogId,
        intent: IntentId,
        result: Result<(), Error>,
    ) -> Result<(), Error> {
        self.tx
            .delete(Table::Outbox, &rows::outbox_key(log, intent))?;
        self.tx
            .delete_prefix(Table::Targets, &rows::outbox_key(log, intent))?;
        if result.is_err() {
            self.forget_answer(log, intent)?;
        }
        if let Err(error) = &result
            && !self.session.own.contains(&intent)
        {
            self.put_outcome(intent, error)?;
        }
        self.tell(match result {
            Ok(()) => Event::Done { intent },
            Err(error) => Event::Failed { intent, error },
        });
        Ok(())
    }

    pub(super) fn bad_service(&mut self, log: LogId, fault: BadService) -> Result<(), Error> {
        self.block(Task::Conversation(log), Error::BadService(fault));
        Ok(())
    }

    /// Looks at the invitations, and at the doors, that wait for the log to be read.
    pub(super) fn wake_invites(&mut self, log: LogId) -> Result<(), Error> {
        for row in self.outbox(log)? {
            self.wake.push(Task::Invite(log, row.intent));
        }
        self.wake_doors(log)
    }

    /// Tells of each message once that it is held back.
    fn tell_held(&mut self, row: &ConversationRow, messages: &[IntentId]) {
        for intent in messages {
            if self.session.held_back.insert(*intent) {
                let error = Error::RemovalProposed(row.title.0.clone());
                self.tell(Event::Blocked { error });
            }
        }
    }

    /// There is nothing to offer for a wish.
    fn give_up(&mut self, wish: &OutboxRow, result: Result<(), Error>) -> Result<(), Error> {
        if matches!(wish.wish, Wish::Proposals) {
            self.nothing_due(wish.log)?;
        }
        self.settle(wish.log, wish.intent, result)
    }

    /// Makes the commit that is put in the place of what is not valid. Returns whether it can be
    /// offered.
    pub(super) fn build_contest(
        &mut self,
        row: ConversationRow,
        mut ours: OutboxRow,
    ) -> Result<bool, Error> {
        let built = self.build_commit(row, &ours, &Wish::Contest)?;
        let Built::Attempt(entry) = built else {
            let failed = match built {
                Built::Failed(error) => Err(error),
                _ => Ok(()),
            };
            self.settle(ours.log, ours.intent, failed)?;
            return Ok(false);
        };
        (ours.attempt, ours.receipt, ours.tried) = (Some(entry), None, true);
        self.put_outbox(&ours)?;
        Ok(true)
    }

    fn build(&mut self, row: ConversationRow, next: &OutboxRow) -> Result<Built, Error> {
        match &next.wish {
            Wish::Send(wish) => self.build_message(row, next.intent, wish),
            Wish::Leave(_) => self.build_leave(row, next),
            wish => self.build_commit(row, next, wish),
        }
    }

    /// Leaves word for the process that began an intent, if it still waits.
    fn put_outcome(&mut self, intent: IntentId, error: &Error) -> Result<(), Error> {
        let old = self.now.saturating_sub(OUTCOME_MS);
        for (key, row) in rows::scan::<OutcomeRow>(self.tx, Table::Outcomes, &[])? {
            if row.time < old {
                self.tx.delete(Table::Outcomes, &key)?;
            }
        }
        let row = OutcomeRow {
            version: Version,
            time: self.now,
            reason: error.to_string().into(),
        };
        rows::put(self.tx, Table::Outcomes, &intent.to_bytes(), &row)?;
        Ok(())
    }
}

/// What is to be done next of all that waits; no new message if those are held back.
fn next_of(outbox: Vec<OutboxRow>, holds: bool) -> Option<OutboxRow> {
    // A leaver sends nothing more.
    if outbox.iter().any(OutboxRow::has_left) {
        let is_offered = |row: &OutboxRow| row.has_left() && row.attempt.is_some();
        return outbox.into_iter().find(is_offered);
    }
    // What was offered is settled first, so that one entry of ours is under way at a time.
    let at = |is: &dyn Fn(&OutboxRow) -> bool| outbox.iter().position(is);
    let first = at(&|row| row.attempt.is_some())
        .or_else(|| at(&|row| !row.wish.is_users()))
        .or_else(|| at(&|row| row.is_ready() && !(holds && row.is_new_message())))?;
    outbox.into_iter().nth(first)
}

impl OutboxRow {
    /// Whether our leave is on its way, or in the log.
    fn has_left(&self) -> bool {
        match &self.wish {
            Wish::Leave(wish) => wish.proposed || self.attempt.is_some(),
            _ => false,
        }
    }

    /// Whether it is a message that was not encrypted for the current epoch.
    fn is_new_message(&self) -> bool {
        matches!(self.wish, Wish::Send(_)) && self.attempt.is_none()
    }

    /// Whether nothing has to come before the entry.
    fn is_ready(&self) -> bool {
        match &self.wish {
            Wish::Add(wish) => wish.is_ready(),
            _ => true,
        }
    }
}
