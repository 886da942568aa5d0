//! Reading: what the fence key of an epoch opens, batch by batch.
//!
//! A key of epoch e opens the entries after the commit that made e, up to and including the first
//! cut among the commits of epoch e or later. Unknown logs, branches and keys, and keys that are
//! too old, get the same answer.
//!
//! A read that follows its logs does not end at the head. It says that it is caught up; whoever
//! drives it asks again when it is woken, or when a head is due.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;

use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::delivery::{Entry, LogRead, ReadRequest, ReadResponse};
use folkmoot_protocol::ids::{EntryId, LogId};
use folkmoot_protocol::keys::{PublicKey, SigningKey};
use folkmoot_protocol::limits;
use folkmoot_protocol::log::SignedHead;
use folkmoot_protocol::proof::{FenceProof, Method};
use folkmoot_protocol::{Refusal, VERSION};

use super::records::{BranchRecord, EntryRecord, EpochRecord, first_cut, numbered, visible_head};
use crate::fields::{self, bound};
use crate::followers::Follower;
use crate::nonce::NonceKey;
use crate::retention::Retention;
use crate::store::{StoreError, Table, View, get, scan};

/// What an entry takes on the wire beside its content, at most.
const ENTRY_OVERHEAD: usize = 192;

/// A read in progress.
pub struct Reading {
    /// Those that are to be read on, the next one first.
    logs: VecDeque<LogReading>,
    /// Those that are caught up and followed.
    idle: Vec<LogReading>,
    follower: Option<Follower>,
}

/// What comes next of a [`Reading`].
#[derive(Debug, PartialEq)]
pub enum Progress {
    /// A batch.
    Batch(ReadResponse),
    /// There is nothing more at this time. To be asked again when the read is woken, at this time
    /// (milliseconds since 1970) at the latest.
    CaughtUp {
        /// When the next head is due.
        until: u64,
    },
    /// All logs are read to their ends.
    Over,
}

struct LogReading {
    log: LogId,
    branch: EntryId,
    epoch: u64,
    proof: FenceProof,
    signature: Vec<u8>,
    /// The key that the signature was verified with.
    proven: Option<PublicKey>,
    after: u64,
    /// When the next head is due.
    due: u64,
    retention: Retention,
}

impl Reading {
    /// Begins a read. Proofs are checked when a log's turn comes.
    ///
    /// # Errors
    /// `TooLarge` for too many logs; `Malformed`; `StaleNonce`.
    pub(crate) fn begin(
        request: ReadRequest,
        delivery_service: PublicKey,
        nonces: &NonceKey,
        retention: Retention,
        now: u64,
    ) -> Result<Self, Refusal> {
        bound(request.logs.len(), limits::LOGS_PER_READ)?;
        let one = |log| LogReading::begin(log, delivery_service, nonces, retention, now);
        Ok(Self {
            logs: request
                .logs
                .into_iter()
                .map(one)
                .collect::<Result<_, _>>()?,
            idle: Vec::new(),
            follower: None,
        })
    }

    /// The logs that are not read to their ends.
    pub(crate) fn logs(&self) -> BTreeSet<LogId> {
        let all = self.logs.iter().chain(&self.idle);
        all.map(|reading| reading.log).collect()
    }

    /// Does not end at the heads from now on. `follower` waits for all [`Self::logs`].
    pub(crate) fn follow(&mut self, follower: Follower) {
        self.follower = Some(follower);
    }

    /// What comes next. Once a batch has been handed out, the next begins after it.
    pub(crate) fn next(
        &mut self,
        records: &dyn View,
        key: &SigningKey,
        now: u64,
    ) -> Result<Progress, StoreError> {
        if let Some(follower) = &self.follower {
            if follower.is_closed() {
                return Ok(Progress::Over);
            }
            // What comes after this is rung for again.
            let news = follower.news();
            let is_due = |idle: &mut LogReading| idle.due <= now || news.contains(&idle.log);
            self.logs.extend(self.idle.extract_if(.., is_due));
        }
        let Some(mut reading) = self.logs.pop_front() else {
            let until = self.idle.iter().map(|idle| idle.due).min();
            return Ok(until.map_or(Progress::Over, |until| Progress::CaughtUp { until }));
        };
        let batch = match reading.next(records, key, now) {
            Ok(batch) => batch,
            Err(error) => {
                self.logs.push_front(reading);
                return Err(error);
            }
        };
        match (batch.end(), &mut self.follower) {
            // The others get their turn: a log that is written faster than it is read has no end.
            (End::Unspecified, _) => self.logs.push_back(reading),
            (End::Head, Some(_)) => {
                reading.due = now.saturating_add(limits::HEAD_EVERY_MS);
                self.idle.push(reading);
            }
            (_, Some(follower)) => {
                let log = reading.log;
                // The same log may have been asked for twice.
                if !self.logs.iter().chain(&self.idle).any(|r| r.log == log) {
                    follower.leave(log);
                }
            }
            (_, None) => {}
        }
        Ok(Progress::Batch(batch))
    }
}

impl LogReading {
    fn begin(
        request: LogRead,
        delivery_service: PublicKey,
        nonces: &NonceKey,
        retention: Retention,
        now: u64,
    ) -> Result<Self, Refusal> {
        let log = fields::log(&request.log)?;
        let branch = fields::branch(&request.branch)?;
        if !nonces.is_fresh(&request.nonce, now) {
            return Err(Refusal::StaleNonce);
        }
        Ok(Self {
            log,
            branch,
            epoch: request.epoch,
            proof: FenceProof {
                version: VERSION,
                delivery_service,
                log,
                branch,
                epoch: request.epoch,
                method: Method::Read,
                subject: request.nonce.into(),
            },
            signature: request.proof,
            proven: None,
            after: request.after,
            due: 0,
            retention,
        })
    }

    fn next(
        &mut self,
        records: &dyn View,
        key: &SigningKey,
        now: u64,
    ) -> Result<ReadResponse, StoreError> {
        let (log, branch) = (self.log, self.branch);
        let epoch: Option<EpochRecord> = get(records, log, &numbered(branch, self.epoch))?;
        let at: Option<BranchRecord> = get(records, log, &branch.0)?;
        let (Some(epoch), Some(at)) = (epoch, at) else {
            return Ok(self.end(End::Blind));
        };
        if self.proven != Some(epoch.fence_key) {
            let proven = self.proof.verify(&epoch.fence_key, &self.signature);
            if proven.is_err() {
                return Ok(self.end(End::Blind));
            }
            self.proven = Some(epoch.fence_key);
        }
        self.after = self.after.max(epoch.start);
        let cut = first_cut(records, log, branch, self.epoch)?;
        let last = cut.as_ref().map_or(at.sequence, |cut| cut.sequence);
        let mut batch = self.end(End::Unspecified);
        if self.after < last {
            let last_time = cut.as_ref().map_or(at.time, |cut| cut.time);
            match self.entries(records, last, now)? {
                Some(entries) if !entries.is_empty() => batch.entries = entries,
                // An entry that is not over is there, or the store has lost it.
                Some(_) if !self.retention.is_over(last_time, now) => {
                    return Err(StoreError::Corrupt(Table::Entries));
                }
                _ => return Ok(self.end(End::Gap)),
            }
        }
        if let Some(entry) = batch.entries.last() {
            self.after = entry.sequence;
        }
        if self.after >= last {
            batch.set_end(if cut.is_some() { End::Cut } else { End::Head });
            let head = visible_head(log, branch, &at, cut.as_ref(), now);
            batch.head = Some(SignedHead::sign(head, key).into());
        }
        Ok(batch)
    }

    /// Entries after the cursor, as many as a batch holds and at least one if there is one. `None`
    /// if the next one is over, whether swept or not.
    fn entries(
        &self,
        records: &dyn View,
        last: u64,
        now: u64,
    ) -> Result<Option<Vec<Entry>>, StoreError> {
        let mut entries: Vec<Entry> = Vec::new();
        let (mut gap, mut lost) = (false, false);
        let mut next = self.after.saturating_add(1);
        let mut room = limits::READ_BATCH;
        let from = numbered(self.branch, self.after.saturating_add(1));
        let through = numbered(self.branch, last);
        scan(
            records,
            self.log,
            &from,
            &through,
            |key, entry: EntryRecord| {
                let sequence = key.last_chunk().map(|number| u64::from_be_bytes(*number));
                let follows = sequence == Some(next);
                if !follows || self.retention.is_over(entry.time, now) {
                    // Times do not run back: what is over is at the beginning.
                    gap = entries.is_empty();
                    lost = !gap;
                    return ControlFlow::Break(());
                }
                let size = entry.content.len() + ENTRY_OVERHEAD;
                if size > room && !entries.is_empty() {
                    return ControlFlow::Break(());
                }
                room = room.saturating_sub(size);
                entries.push(Entry {
                    sequence: next,
                    time: entry.time,
                    content: entry.content.into_vec(),
                    fence_signature: entry.fence_signature.into_vec(),
                    committer_signature: entry.committer_signature.into_vec(),
                });
                next = next.saturating_add(1);
                ControlFlow::Continue(())
            },
        )?;
        if lost {
            return Err(StoreError::Corrupt(Table::Entries));
        }
        Ok((!gap).then_some(entries))
    }

    fn end(&self, end: End) -> ReadResponse {
        ReadResponse {
            log: self.log.into(),
            entries: Vec::new(),
            head: None,
            end: end.into(),
        }
    }
}
