//! Epochs that are over and whose messages may still come: at most five, for a minute, and none from
//! before a cut. Their message keys stay that long, and their fence keys, since what was encrypted
//! under them may still be offered. Time is the DS's: that of entries and heads.

use folkmoot_mls::codec::Decode;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_protocol::ids::{EntryId, LogId};
use folkmoot_protocol::limits;
use folkmoot_protocol::log::Append;

use super::chain::Place;
use super::groups::Held;
use super::rows::{self, AttemptRow, ConversationRow, PastEpoch};
use super::{APPLICATION, Step};
use crate::error::Error;
use crate::store::Table;

/// How much later than the end, in milliseconds, a head must be for the end to count: an append that
/// was decided before the head was signed may still be on its way to the disk.
const MARGIN_MS: u64 = 10_000;

impl Step<'_> {
    /// The row's epoch, with these keys, is over; `held` is of the next one. Nothing from before a cut
    /// stays.
    pub(super) fn end_epoch(
        &mut self,
        row: &mut ConversationRow,
        held: &mut Held,
        keys: MessageKeys,
        place: Place,
        cut: bool,
    ) -> Result<(), Error> {
        held.past.insert(row.epoch, keys);
        row.past.push(PastEpoch {
            epoch: row.epoch,
            commit: row.tip,
            ended: place.time,
        });
        let epoch = held.group.epoch();
        self.keep_past(row, held, |past| {
            !cut && epoch - past.epoch <= limits::PAST_EPOCHS
        })
    }

    /// An entry was written at this time: what ended more than a minute before is of no use.
    pub(super) fn entry_at(
        &mut self,
        row: &mut ConversationRow,
        held: &mut Held,
        time: u64,
    ) -> Result<(), Error> {
        self.keep_past(row, held, |past| {
            time <= past.ended.saturating_add(limits::PAST_EPOCH_MS)
        })
    }

    /// We stand at a head that was issued at this time.
    pub(super) fn head_at(
        &mut self,
        row: &mut ConversationRow,
        held: &mut Held,
        issued: u64,
    ) -> Result<(), Error> {
        self.entry_at(row, held, issued.saturating_sub(MARGIN_MS))
    }

    /// Deletes what belongs to past epochs, but for some of the latest.
    fn keep_past(
        &mut self,
        row: &mut ConversationRow,
        held: &mut Held,
        keep: impl Fn(&PastEpoch) -> bool,
    ) -> Result<(), Error> {
        let log = row.log;
        // The oldest goes first: its signature keys are found through those of the later ones.
        let gone = row.past.iter().take_while(|past| !keep(past)).count();
        for past in row.past.drain(..gone) {
            self.hold_past(log, held, past.epoch)?;
            if let Some(keys) = held.past.remove(&past.epoch) {
                self.apply(log, &keys.deletion())?;
            }
            self.tx
                .delete(Table::Fences, &rows::fence_key(log, past.epoch))?;
            self.drop_attempts(log, |attempt| attempt.parent == past.commit)?;
        }
        Ok(())
    }

    /// Loads a past epoch's message keys, if they are not in memory.
    pub(super) fn hold_past(
        &mut self,
        log: LogId,
        held: &mut Held,
        epoch: u64,
    ) -> Result<(), Error> {
        if !held.past.contains_key(&epoch) {
            let keys = super::groups::load_past(self.tx, log, &held.group, epoch)?;
            held.past.insert(epoch, keys);
        }
        Ok(())
    }

    /// A commit was read: everything else that was offered after its parent has lost, and is made
    /// again. Messages have not: they may still be taken, or may have been.
    pub(super) fn epoch_over(&mut self, log: LogId) -> Result<(), Error> {
        self.drop_attempts(log, |attempt| {
            Append::from_bytes(&attempt.append)
                .map_or(true, |append| append.content_type != APPLICATION)
        })
    }

    /// Drops attempts that the log will not take any more. Their intents are tried anew.
    pub(super) fn drop_attempts(
        &mut self,
        log: LogId,
        drop: impl Fn(&AttemptRow) -> bool,
    ) -> Result<(), Error> {
        let attempts: Vec<(_, AttemptRow)> = rows::scan(self.tx, Table::Attempts, log.as_ref())?;
        for (key, _) in attempts.iter().filter(|(_, attempt)| drop(attempt)) {
            self.tx.delete(Table::Attempts, key)?;
        }
        for mut row in self.outbox(log)? {
            let kept = match row.attempt {
                Some(entry) => self.attempt(log, entry)?.is_some(),
                None => row.receipt.is_none(),
            };
            if !kept {
                (row.attempt, row.receipt) = (None, None);
                self.put_outbox(&row)?;
            }
        }
        Ok(())
    }

    pub(super) fn attempt(&self, log: LogId, entry: EntryId) -> Result<Option<AttemptRow>, Error> {
        let key = rows::attempt_key(log, entry);
        Ok(rows::get(self.tx, Table::Attempts, &key)?)
    }
}
