//! Attempts: what is offered to a log, in one piece or, if it is too large for that, in chunks that go up
//! before it. Large commits do; messages have a bound, and so has a contest, which adds nobody.
//!
//! A chunked attempt is stored in its chunks, so that no more than one of them is held at a time. Which of
//! them are at the DS is asked when a process begins to upload, so whatever was interrupted goes on there.

use folkmoot_credential::Version;
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{
    AppendRequest, AppendStagedRequest, Payment, StageRequest, StageResponse, UploadRequest,
};
use folkmoot_protocol::ids::{EntryId, LogId};
use folkmoot_protocol::limits;
use folkmoot_protocol::log::{Append, Stage, part_hash};
use folkmoot_protocol::proof::Method;

use super::rows::{self, AttemptRow, CommitAttempt, ConversationRow};
use super::session::{Asked, State, Task};
use super::{Ask, Doing, Event, IntentId, Output, Pause, Step, address};
use crate::error::Error;
use crate::store::{StoreError, Table};

/// What is kept of a group while we are a member.
pub(super) const GROUP_TABLES: [Table; 7] = [
    Table::Records,
    Table::Fences,
    Table::Attempts,
    Table::Commits,
    Table::Chunks,
    Table::CommitterKeys,
    Table::Followed,
];

/// What comes with an append.
#[derive(Default)]
pub(super) struct Parts {
    pub shared_part: Vec<u8>,
    pub own_parts: Vec<Vec<u8>>,
    pub pages: Vec<Vec<u8>>,
    /// What a commit makes of the group.
    pub commit: Option<CommitAttempt>,
}

impl Step<'_> {
    /// Makes an attempt durable.
    pub(super) fn offer(
        &mut self,
        row: &ConversationRow,
        intent: IntentId,
        append: &Append,
        parts: Parts,
    ) -> Result<EntryId, Error> {
        let (log, entry) = (row.log, append.id());
        let proof = self.fence_proof(row, append.epoch, Method::Append, entry.0.into())?;
        let request = AppendRequest {
            append: append.to_bytes(),
            fence_signature: proof,
            shared_part: parts.shared_part,
            own_parts: parts.own_parts,
            committer_signature: match append.commit {
                Some(_) => self.committer_signature(row, entry)?,
                None => Vec::new(),
            },
            pages: parts.pages,
            ..Default::default()
        };
        let mut request = Call::Append(request).encode();
        let mut stage = Vec::new();
        // What may be of an epoch that is over, as messages and contests, is not staged.
        let may_be_staged = append.commit.is_some() && !append.is_contest();
        if request.len() > limits::INLINE && may_be_staged {
            let staged = Stage::of(log, row.branch, append.epoch, &request)?;
            stage = staged.to_bytes();
            for (number, chunk) in (0u32..).zip(request.chunks(limits::CHUNK)) {
                let key = rows::chunk_key(log, entry, number);
                self.tx.put(Table::Chunks, &key, chunk)?;
            }
            request = Vec::new();
        }
        let attempt = AttemptRow {
            version: Version,
            intent,
            parent: append.parent,
            content_type: append.content_type,
            message: part_hash(&append.message),
            request: request.into(),
            stage: stage.into(),
        };
        let key = rows::attempt_key(log, entry);
        rows::put(self.tx, Table::Attempts, &key, &attempt)?;
        if let Some(commit) = parts.commit {
            rows::put(self.tx, Table::Commits, &key, &commit)?;
        }
        Ok(entry)
    }

    /// An attempt has won or lost.
    pub(super) fn drop_attempt(&mut self, log: LogId, entry: EntryId) -> Result<(), Error> {
        let key = rows::attempt_key(log, entry);
        self.tx.delete(Table::Attempts, &key)?;
        self.tx.delete(Table::Commits, &key)?;
        self.tx.delete_prefix(Table::Chunks, &key)?;
        Ok(())
    }

    /// Offers an attempt, or what has to go up before it.
    pub(super) fn ask_append(
        &mut self,
        row: &ConversationRow,
        entry: EntryId,
    ) -> Result<Ask, Error> {
        let damaged = || StoreError::DamagedRow(Table::Attempts.name());
        let attempt = self.attempt(row.log, entry)?.ok_or_else(damaged)?;
        let (call, asked) = if attempt.stage.is_empty() {
            let path = Call::Append(AppendRequest::default()).path();
            let call = Call::decode(path, &attempt.request).map_err(|_| damaged())?;
            (call, Asked::Append(entry))
        } else {
            let stage = Stage::from_bytes(&attempt.stage).map_err(|_| damaged())?;
            self.ask_staged(row, entry, attempt.intent, &stage)?
        };
        let to = address(&row.delivery);
        Ok(Ask { to, call, asked })
    }

    fn ask_staged(
        &mut self,
        row: &ConversationRow,
        entry: EntryId,
        intent: IntentId,
        stage: &Stage,
    ) -> Result<(Call, Asked), Error> {
        let (log, id) = (row.log, stage.id());
        let known = self.session.uploads.get(&log);
        let Some((_, missing)) = known.filter(|(of, _)| *of == entry) else {
            let request = StageRequest {
                stage: stage.to_bytes(),
                fence_signature: self.fence_proof(row, stage.epoch, Method::Stage, id.0.into())?,
            };
            return Ok((Call::Stage(request), Asked::Stage(entry)));
        };
        let (next, left) = (missing.first().copied(), missing.len());
        let all = stage.chunks.len();
        self.progress(intent, Doing::Uploading, all.saturating_sub(left), all);
        let Some(number) = next else {
            let request = AppendStagedRequest {
                log: log.into(),
                stage: id.into(),
                // As `Append::is_paid` has it.
                payment: (row.tip == row.branch && stage.epoch > 0).then(Payment::default),
            };
            return Ok((Call::AppendStaged(request), Asked::Append(entry)));
        };
        let chunk = self
            .tx
            .get(Table::Chunks, &rows::chunk_key(log, entry, number))?
            .ok_or(StoreError::DamagedRow(Table::Chunks.name()))?;
        let request = UploadRequest {
            log: log.into(),
            stage: id.into(),
            number,
            chunk: chunk.to_vec(),
        };
        Ok((Call::Upload(request), Asked::Upload(entry, number)))
    }

    /// The DS knows of the stage: these chunks are missing.
    pub(super) fn staged(
        &mut self,
        log: LogId,
        entry: EntryId,
        answer: &StageResponse,
    ) -> Result<(), Error> {
        // It cannot be more than there are, whatever it says.
        let most = limits::STAGED.div_ceil(limits::CHUNK);
        let missing = answer.missing.iter().copied().take(most).collect();
        self.session.uploads.insert(log, (entry, missing));
        Ok(())
    }

    /// The DS has a chunk.
    pub(super) fn uploaded(&mut self, log: LogId, entry: EntryId, number: u32) {
        if let Some((of, missing)) = self.session.uploads.get_mut(&log)
            && *of == entry
        {
            missing.remove(&number);
        }
    }

    /// The stage is gone, or not what the DS says it is: from the beginning, a little later.
    pub(super) fn upload_refused(&mut self, log: LogId, refusal: &folkmoot_protocol::Refusal) {
        self.session.uploads.remove(&log);
        let task = Task::Conversation(log);
        let until = self
            .now
            .saturating_add(self.session.back_off(task, refusal));
        self.session.set(task, State::Waiting(until));
        let pause = Pause::Service;
        self.outputs.push(Output::Wait { until, pause });
        self.tell(Event::Blocked {
            error: refusal.clone().into(),
        });
    }

    /// Tells how far something is that takes long.
    pub(super) fn progress(&mut self, intent: IntentId, doing: Doing, done: usize, of: usize) {
        self.tell(Event::Progress {
            intent,
            doing,
            done,
            of,
        });
    }
}
