//! What the DS shows is checked whole before any of it is applied: each entry follows the one before it,
//! the chain over them leads to the heads that the DS signs, and it is the chain that it has signed before.

use folkmoot_mls::codec::Decode;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::delivery::{Entry, ReadResponse, ReadResponses};
use folkmoot_protocol::ids::{ChainHash, EntryId};
use folkmoot_protocol::log::{Append, Head};

use super::Step;
use super::rows::{ConversationRow, StoredHead};
use super::session::{Cursor, Task};
use crate::error::{BadService, Error};

/// Where an entry stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub sequence: u64,
    /// The log's hash up to and including it.
    pub chain: ChainHash,
    /// Milliseconds since 1970.
    pub time: u64,
    pub id: EntryId,
    /// Of a message of an epoch that is over: which.
    pub late: Option<u64>,
}

/// A read whose entries are on the chain.
pub(super) struct Verified<'a> {
    pub entries: Vec<(&'a Entry, Append, Place)>,
    pub end: End,
    /// When the last head was issued, milliseconds since 1970; 0 without one.
    pub issued: u64,
}

impl Step<'_> {
    /// Checks what `task` read, from `cursor` on: entries after the row's place, others that another
    /// process or call was first to read, and each head. Changes nothing of the row but its heads, and
    /// that only if all is well. Where the DS contradicts its own signatures, the evidence is kept.
    pub(super) fn verify<'a>(
        &mut self,
        row: &mut ConversationRow,
        task: Task,
        cursor: Cursor,
        answer: &'a ReadResponses,
    ) -> Result<Result<Verified<'a>, BadService>, Error> {
        let log = row.log;
        // The row as it will be once the entries are applied.
        let mut at = row.clone();
        let (mut entries, mut end, mut issued) = (Vec::new(), None, 0);
        for batch in answer.batches.iter().filter(|batch| batch.log == log.0) {
            for entry in &batch.entries {
                let Ok(append) = Append::from_bytes(&entry.content) else {
                    return Ok(Err(BadService::Answer));
                };
                if entry.sequence <= row.sequence {
                    if let Err(fault) = self.known(row, entry, &append)? {
                        return Ok(Err(fault));
                    }
                    continue;
                }
                let follows =
                    entry.sequence == at.sequence.saturating_add(1) && entry.time >= at.time;
                let is_its = append.version == VERSION && append.log == log;
                if !follows || !is_its || append.branch != row.branch {
                    return Ok(Err(BadService::Order(log)));
                }
                let id = append.id();
                (at.sequence, at.time) = (entry.sequence, entry.time);
                at.chain = at.chain.next(log, at.sequence, at.time, id);
                let broken = |promise: &&StoredHead| {
                    promise.head.sequence == at.sequence && promise.head.chain != at.chain
                };
                if let Some(promise) = at.promises.iter().find(broken).cloned() {
                    self.broken_promise(row, entry, promise, batch.head.as_ref())?;
                    return Ok(Err(BadService::Contradiction(log)));
                }
                let place = Place {
                    sequence: at.sequence,
                    chain: at.chain,
                    time: at.time,
                    id,
                    late: None,
                };
                entries.push((entry, append, place));
            }
            match self.batch_head(&mut at, &entries, task, cursor, batch)? {
                Ok(head) => issued = head.map_or(issued, |head| head.issued),
                Err(fault) => return Ok(Err(fault)),
            }
            end = Some(batch.end());
        }
        (row.head, row.promises) = (at.head, at.promises);
        Ok(end
            .map(|end| Verified {
                entries,
                end,
                issued,
            })
            .ok_or(BadService::Answer))
    }

    /// An entry that was read before: by another process, or by another call of this one.
    fn known(
        &mut self,
        row: &ConversationRow,
        entry: &Entry,
        append: &Append,
    ) -> Result<Result<(), BadService>, Error> {
        let log = row.log;
        let before = match entry.sequence.checked_sub(1) {
            Some(before) => self.chain_at(row, before)?,
            None => Some(ChainHash::START),
        };
        let (Some(before), Some(ours)) = (before, self.chain_at(row, entry.sequence)?) else {
            return Ok(Ok(()));
        };
        if before.next(log, entry.sequence, entry.time, append.id()) == ours {
            return Ok(Ok(()));
        }
        self.put_evidence(log, Some(entry), row.head.clone(), None, entry.sequence)?;
        Ok(Err(BadService::Contradiction(log)))
    }

    /// Checks the head of a batch, which a batch at an end must have.
    fn batch_head(
        &mut self,
        at: &mut ConversationRow,
        entries: &[(&Entry, Append, Place)],
        task: Task,
        cursor: Cursor,
        batch: &ReadResponse,
    ) -> Result<Result<Option<Head>, BadService>, Error> {
        let log = at.log;
        let is_end = matches!(batch.end(), End::Head | End::Cut);
        let Some(receipt) = &batch.head else {
            return Ok(if is_end {
                Err(BadService::Signature(log))
            } else {
                Ok(None)
            });
        };
        let new = |sequence| {
            let entry = entries
                .iter()
                .find(|(_, _, place)| place.sequence == sequence);
            entry.map(|(_, _, place)| place.chain)
        };
        let head = match self.check_head(at, new, receipt)? {
            Ok(head) => head,
            Err(fault) => return Ok(Err(fault)),
        };
        // It is of an entry that is not shown, or of one that we had read before we asked.
        if is_end && (head.sequence > at.sequence || head.sequence < cursor.after) {
            return Ok(Err(BadService::Contradiction(log)));
        }
        if let Task::Follow(_) = task {
            let following = self.session.following.entry(log).or_default();
            if head.issued < std::mem::replace(&mut following.issued, head.issued) {
                return Ok(Err(BadService::Time(log)));
            }
        }
        Ok(Ok(Some(head)))
    }
}
