//! Appending: an attempt is offered to the log, and what the DS says to it.

use folkmoot_mls::codec::{Bytes, Decode};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{AppendRequest, Receipt};
use folkmoot_protocol::ids::{EntryId, LogId};
use folkmoot_protocol::log::{Append, SignedHead};
use folkmoot_protocol::proof::Method;

use super::rows::{self, ConversationRow, Wish};
use super::session::{Asked, Task};
use super::{Ask, Step, address};
use crate::error::{BadService, Error};
use crate::store::{StoreError, Table};

impl Step<'_> {
    pub(super) fn ask_append(
        &mut self,
        row: &ConversationRow,
        entry: EntryId,
    ) -> Result<Ask, Error> {
        let damaged = || StoreError::DamagedRow(Table::Outbox.name());
        let attempt = self.attempt(row.log, entry)?.ok_or_else(damaged)?;
        // Of a message perhaps one that is over.
        let append = Append::from_bytes(&attempt.append).map_err(|_| damaged())?;
        let (epoch, is_commit) = (append.epoch, append.commit.is_some());
        let request = AppendRequest {
            append: attempt.append.into_vec(),
            fence_signature: self.fence_proof(row, epoch, Method::Append, entry.0.into())?,
            shared_part: attempt.shared_part.into_vec(),
            own_parts: attempt.own_parts.into_iter().map(Bytes::into_vec).collect(),
            committer_signature: match is_commit {
                true => self.committer_signature(row, entry)?,
                false => Vec::new(),
            },
            ..Default::default()
        };
        let to = address(&row.delivery);
        Ok(Ask {
            to,
            call: Call::Append(request),
            asked: Asked::Append(entry),
        })
    }

    pub(super) fn appended(
        &mut self,
        log: LogId,
        entry: EntryId,
        receipt: &Receipt,
    ) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        let offered = self
            .outbox(log)?
            .into_iter()
            .find(|row| row.attempt == Some(entry));
        let Some(mut offered) = offered else {
            // Another process was first to hear, and to read on.
            return Ok(());
        };
        if matches!(offered.wish, Wish::Contest) {
            // It stands on a branch of its own, where the other commit stands on ours.
            let signed = SignedHead::read(receipt, &row.delivery.key).ok();
            let sequence = row.sequence.saturating_add(1);
            let is_its = signed.is_some_and(|SignedHead { head, .. }| {
                let chain = row.chain.next(log, sequence, head.entry_time, entry);
                (head.log, head.branch, head.sequence, head.chain) == (log, entry, sequence, chain)
            });
            if !is_its {
                return self.bad_service(log, BadService::Signature(log));
            }
            offered.receipt = Some(sequence);
            return Ok(self.put_outbox(&offered)?);
        }
        let held = self.hold(&row)?;
        let checked = self.check_head(&mut row, |_| None, receipt)?;
        let place = row.sequence;
        self.keep(&mut row, held)?;
        match checked {
            // We have read what is there, and it was not this.
            Ok(head) if head.sequence <= place => {
                self.bad_service(log, BadService::Contradiction(log))
            }
            Ok(head) => {
                offered.receipt = Some(head.sequence);
                self.put_outbox(&offered)?;
                Ok(())
            }
            Err(fault) => self.bad_service(log, fault),
        }
    }

    pub(super) fn append_refused(
        &mut self,
        log: LogId,
        entry: EntryId,
        refusal: Refusal,
    ) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        let offered = self
            .outbox(log)?
            .into_iter()
            .find(|row| row.attempt == Some(entry));
        let Some(mut offered) = offered else {
            return Ok(());
        };
        match refusal {
            Refusal::ContestsClosed | Refusal::Taken | Refusal::BadProof
                if matches!(offered.wish, Wish::Contest) =>
            {
                self.contest_refused(log, entry)
            }
            Refusal::Conflict(_, signed) => {
                let held = self.hold(&row)?;
                let checked = self.check_head(&mut row, |_| None, &Receipt::from(*signed))?;
                self.keep(&mut row, held)?;
                let head = match checked {
                    Ok(head) => head,
                    Err(fault) => return self.bad_service(log, fault),
                };
                // The entry is out; its attempt stays until a commit after its parent was read.
                offered.attempt = None;
                self.put_outbox(&offered)?;
                if head.sequence > row.sequence {
                    // There is something to read: perhaps another process was first to come this far.
                    self.session.reading(log).lost_at = None;
                }
                match self.attempt(log, entry)? {
                    // It was of an epoch that is over: no wonder.
                    Some(attempt) if attempt.parent != row.tip => {
                        let reading = self.session.reading(log);
                        (reading.at_head, reading.wanted) = (false, true);
                        Ok(())
                    }
                    _ => self.read_again(&row),
                }
            }
            // Perhaps the epoch is over behind a cut: reading tells.
            Refusal::NotFound | Refusal::BadProof => self.read_again(&row),
            Refusal::TooLarge | Refusal::Malformed(_) | Refusal::HeaderMismatch => {
                self.tx
                    .delete(Table::Attempts, &rows::attempt_key(log, entry))?;
                self.settle(log, offered.intent, Err(refusal.into()))
            }
            refusal => {
                self.block(Task::Conversation(log), refusal.into());
                Ok(())
            }
        }
    }

    /// Reads on after losing. Losing twice at one place contradicts what was read there.
    fn read_again(&mut self, row: &ConversationRow) -> Result<(), Error> {
        let reading = self.session.reading(row.log);
        let again = reading.lost_at.replace(row.sequence) == Some(row.sequence);
        reading.at_head = false;
        reading.wanted = true;
        if again {
            self.block(Task::Conversation(row.log), Error::NotTaken);
        }
        Ok(())
    }
}
