//! Signed heads: each one that arrives is held against what we have read.
//!
//! The last one is kept. A head that contradicts what we have is kept beside it, and the user is told:
//! the two together prove to anybody that the service has signed two different logs.

use folkmoot_credential::Version;
use folkmoot_mls::codec::Encode;
use folkmoot_protocol::delivery::{Entry, Receipt};
use folkmoot_protocol::ids::{ChainHash, LogId};
use folkmoot_protocol::log::{Head, SignedHead};

use super::Step;
use super::rows::{self, ConversationRow, EvidenceRow, StoredEntry, StoredHead};
use crate::error::{BadService, Error};
use crate::history::{HistoryPosition, TwoLogs, What};
use crate::store::Table;

/// The number of the line that tells of a contradiction, after all others of its entry.
pub(super) const LAST_PART: u32 = u32::MAX;

impl Step<'_> {
    /// Checks a head of any kind: signature, log, branch, times, and that its chain is ours at its
    /// place. One that is ahead of us is kept as a promise. `new` knows the chain of entries that were
    /// read and are not stored yet.
    pub(super) fn check_head(
        &mut self,
        row: &mut ConversationRow,
        new: impl Fn(u64) -> Option<ChainHash>,
        receipt: &Receipt,
    ) -> Result<Result<Head, BadService>, Error> {
        let log = row.log;
        let signed = match SignedHead::read(receipt, &row.delivery.key) {
            Ok(signed) if (signed.head.log, signed.head.branch) == (log, row.branch) => signed,
            _ => return Ok(Err(BadService::Signature(log))),
        };
        let head = signed.head.clone();
        if head.issued < head.entry_time {
            return Ok(Err(BadService::Time(log)));
        }
        if head.sequence > row.sequence {
            return self.promised(row, signed.into());
        }
        let ours = match new(head.sequence) {
            Some(ours) => Some(ours),
            None => self.chain_at(row, head.sequence)?,
        };
        let other_time = head.sequence == row.sequence && head.entry_time != row.time;
        if other_time || ours.is_some_and(|ours| ours != head.chain) {
            let ours = row.head.clone();
            self.two_logs(row, None, ours, signed.into())?;
            return Ok(Err(BadService::Contradiction(log)));
        }
        if head.entry_time > row.time {
            return Ok(Err(BadService::Time(log)));
        }
        let newer = |kept: &StoredHead| {
            (kept.head.sequence, kept.head.issued) < (head.sequence, head.issued)
        };
        if row.head.as_ref().is_none_or(newer) {
            row.head = Some(signed.into());
        }
        Ok(Ok(head))
    }

    /// A head that is ahead of us must agree with the others that are.
    fn promised(
        &mut self,
        row: &mut ConversationRow,
        promise: StoredHead,
    ) -> Result<Result<Head, BadService>, Error> {
        let head = promise.head.clone();
        let same_place = |known: &&StoredHead| known.head.sequence == head.sequence;
        let known = row.promises.iter().find(same_place).cloned();
        match known {
            Some(known) if known.head.chain != head.chain => {
                self.two_logs(row, None, Some(known), promise)?;
                return Ok(Err(BadService::Contradiction(row.log)));
            }
            Some(_) => {}
            None if head.entry_time < row.time => return Ok(Err(BadService::Time(row.log))),
            None => row.promises.push(promise),
        }
        Ok(Ok(head))
    }

    /// An entry is not the one that was promised. `batch` is the head that was signed over it.
    pub(super) fn broken_promise(
        &mut self,
        row: &ConversationRow,
        entry: &Entry,
        promise: StoredHead,
        batch: Option<&Receipt>,
    ) -> Result<(), Error> {
        let theirs = batch.and_then(|head| SignedHead::read(head, &row.delivery.key).ok());
        match theirs {
            Some(theirs) => self.two_logs(row, Some(entry), Some(promise), theirs.into()),
            None => self.put_evidence(row.log, Some(entry), Some(promise), None, entry.sequence),
        }
    }

    /// The DS has signed two logs: both heads are kept, and the user is told.
    fn two_logs(
        &mut self,
        row: &ConversationRow,
        entry: Option<&Entry>,
        ours: Option<StoredHead>,
        theirs: StoredHead,
    ) -> Result<(), Error> {
        let sequence = theirs.head.sequence;
        self.put_evidence(row.log, entry, ours, Some(theirs), sequence)?;
        // Told where we stand: what was just read is not applied.
        let row = rows::conversation(self.tx, row.log)?;
        let told = HistoryPosition {
            sequence: row.sequence,
            part: LAST_PART,
        };
        let told = rows::history_key(row.log, told);
        if self.tx.get(Table::History, &told)?.is_none() {
            let what = What::TwoLogs(TwoLogs { sequence });
            self.write_history(&row, LAST_PART, what)?;
        }
        Ok(())
    }

    pub(super) fn put_evidence(
        &mut self,
        log: LogId,
        entry: Option<&Entry>,
        ours: Option<StoredHead>,
        theirs: Option<StoredHead>,
        sequence: u64,
    ) -> Result<(), Error> {
        let entry = entry.map(|entry| StoredEntry {
            time: entry.time,
            content: entry.content.as_slice().into(),
            fence_signature: entry.fence_signature.as_slice().into(),
        });
        let evidence = EvidenceRow {
            version: Version,
            entry,
            ours,
            theirs,
        };
        let key = rows::chain_key(log, sequence);
        rows::put(self.tx, Table::Evidence, &key, &evidence)?;
        Ok(())
    }

    /// The log's hash at a place that we have read; `None` before we joined.
    pub(super) fn chain_at(
        &self,
        row: &ConversationRow,
        sequence: u64,
    ) -> Result<Option<ChainHash>, Error> {
        let key = rows::chain_key(row.log, sequence);
        Ok(rows::get(self.tx, Table::Chain, &key)?)
    }

    /// Remembers the log's hash at the row's place.
    pub(super) fn put_chain(&mut self, row: &ConversationRow) -> Result<(), Error> {
        let key = rows::chain_key(row.log, row.sequence);
        self.tx.put(Table::Chain, &key, &row.chain.to_bytes())?;
        Ok(())
    }
}
