//! Staging: a large append goes up in chunks first (DESIGN, "Big commits are staged").
//!
//! A stage says by hash which chunks there will be, signed by the fence key of the current epoch. What is
//! missing can be asked for at any time, so an upload goes on where it stopped, after a crash of either
//! side. The chunks together are an encoded append, and from the moment when that is asked for it takes the
//! way of every other. How much may be staged for a log is bounded; what was never named is swept after a
//! day, or goes when the log has moved on and somebody stages again.

use std::ops::ControlFlow;

use folkmoot_mls::codec::Bytes;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{
    AppendRequest, AppendStagedRequest, StageRequest, StageResponse, UploadRequest, UploadResponse,
};
use folkmoot_protocol::ids::{EntryId, LogId, StageId};
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::log::{Head, Stage, part_hash};
use folkmoot_protocol::proof::{FenceProof, Method};
use folkmoot_protocol::{Conflict, Refusal, VERSION, limits};

use super::records::{
    BranchRecord, ChunkRecord, EpochRecord, PositionRecord, StageRecord, first_cut, numbered,
    share, visible_head,
};
use crate::decision::{Decision, Denial, Request};
use crate::fields::{self, bound, ensure, malformed, statement};
use crate::rates::Share;
use crate::store::{Change, RECORD_VERSION, StoreError, View, get, scan};

/// Milliseconds after which to try again when too much is staged.
const FULL: u64 = 60_000;

/// A stage that somebody wants to open, or to be told about.
pub(crate) struct OpenStage {
    stage: Stage,
    id: StageId,
    fence_signature: Vec<u8>,
}

impl OpenStage {
    /// # Errors
    /// `Malformed`, also for a size that is not that of so many chunks, or too large.
    pub(crate) fn read(request: StageRequest) -> Result<Self, Refusal> {
        let stage: Stage = statement(&request.stage, "stage")?;
        ensure(stage.is_sound(), "stage")?;
        Ok(Self {
            id: stage.id(),
            stage,
            fence_signature: request.fence_signature,
        })
    }

    /// The key that has to have signed.
    pub(crate) fn load_key(&self, records: &dyn View) -> Result<Option<PublicKey>, StoreError> {
        let key = numbered(self.stage.branch, self.stage.epoch);
        let epoch: Option<EpochRecord> = get(records, self.stage.log, &key)?;
        Ok(epoch.map(|epoch| epoch.fence_key))
    }

    /// Whether a member of the epoch signed.
    ///
    /// # Errors
    /// `NotFound`: no such log, branch or epoch, or another key; all alike.
    pub(crate) fn check(
        &self,
        key: Option<PublicKey>,
        delivery_service: PublicKey,
    ) -> Result<(), Refusal> {
        let proof = FenceProof {
            version: VERSION,
            delivery_service,
            log: self.stage.log,
            branch: self.stage.branch,
            epoch: self.stage.epoch,
            method: Method::Stage,
            subject: self.id.0.into(),
        };
        let key = key.ok_or(Refusal::NotFound)?;
        proof
            .verify(&key, &self.fence_signature)
            .map_err(|_| Refusal::NotFound)
    }
}

/// What opening a stage rests on.
pub(crate) struct StageView {
    branch: Option<BranchRecord>,
    /// What a key of the stage's epoch may see.
    visible: Option<Head>,
    /// All of the log.
    stages: Vec<(StageId, StageRecord)>,
}

impl Request for OpenStage {
    type View = StageView;
    type Outcome = StageResponse;

    fn load(&self, records: &dyn View) -> Result<StageView, StoreError> {
        let (log, branch) = (self.stage.log, self.stage.branch);
        let at: Option<BranchRecord> = get(records, log, &branch.0)?;
        let cut = first_cut(records, log, branch, self.stage.epoch)?;
        let visible = at
            .as_ref()
            .map(|at| visible_head(log, branch, at, cut.as_ref(), at.time));
        let mut stages = Vec::new();
        scan(records, log, &[0; 32], &[0xff; 32], |key, stage| {
            stages.extend(StageId::read(key).map(|id| (id, stage)));
            ControlFlow::Continue(())
        })?;
        Ok(StageView {
            branch: at,
            visible,
            stages,
        })
    }

    fn decide(&self, view: StageView, now: u64) -> Result<Decision<StageResponse>, Denial> {
        let known = view.stages.iter().find(|(id, _)| *id == self.id);
        if let Some((_, known)) = known.filter(|(_, stage)| stage.is_good(now)) {
            return Ok(Decision::unchanged(known.missing()));
        }
        let (Some(at), Some(mut head)) = (view.branch, view.visible) else {
            return Err(Refusal::NotFound.into());
        };
        if self.stage.epoch != at.epoch {
            head.issued = now.max(head.entry_time);
            return Err(Denial::Conflict(Conflict::TipMoved, Box::new(head)));
        }
        let mut change = Change::of(self.stage.log);
        let (mut stages, mut bytes) = (1, self.stage.size as usize);
        for (id, other) in &view.stages {
            let same_branch = other.stage.branch == self.stage.branch;
            // Whoever has a branch of its own, that nobody follows, uses up no room of the others'.
            // Nothing of an epoch that is over can be appended any more.
            if !other.is_good(now) || (same_branch && other.stage.epoch != at.epoch) {
                change.require(&id.0, Some(other));
                other.delete(*id, &mut change);
            } else if same_branch && other.named.is_none() {
                stages += 1;
                bytes += other.stage.size as usize;
            }
        }
        if stages > limits::STAGES_PER_LOG || bytes > limits::STAGED_PER_LOG {
            return Err(Refusal::Rate(FULL).into());
        }
        let opened = StageRecord {
            version: RECORD_VERSION,
            time: now.max(at.time),
            present: vec![0; self.stage.chunks.len()],
            named: None,
            stage: self.stage.clone(),
        };
        change.require(&self.id.0, known.map(|(_, known)| known));
        change.put_until(&self.id.0, &opened, Some(opened.ends()));
        Ok(Decision {
            outcome: opened.missing(),
            change: Some(change),
        })
    }
}

/// A chunk of a stage.
pub(crate) struct Upload {
    log: LogId,
    stage: StageId,
    number: usize,
    chunk: Bytes,
    hash: [u8; 32],
}

impl Upload {
    /// # Errors
    /// `Malformed`; `TooLarge`.
    pub(crate) fn read(request: UploadRequest) -> Result<Self, Refusal> {
        bound(request.chunk.len(), limits::CHUNK)?;
        Ok(Self {
            log: fields::log(&request.log)?,
            stage: fields::stage(&request.stage)?,
            number: usize::try_from(request.number).map_err(|_| malformed("number"))?,
            hash: part_hash(&request.chunk),
            chunk: request.chunk.into(),
        })
    }
}

impl Upload {
    pub(crate) fn log(&self) -> LogId {
        self.log
    }

    /// Bytes.
    pub(crate) fn length(&self) -> usize {
        self.chunk.len()
    }

    /// Whose share of the log's rates it uses up, if there is a stage.
    pub(crate) fn share(
        &self,
        stage: Option<&StageRecord>,
        records: &dyn View,
    ) -> Result<Option<Share>, StoreError> {
        let stage = stage.map(|stage| &stage.stage);
        stage
            .map(|stage| share(records, self.log, stage.branch, stage.epoch))
            .transpose()
    }

    /// Whether the chunk belongs to a stage and is not there yet.
    ///
    /// # Errors
    /// `NotFound` for a stage that was not opened, or is over; `Malformed` for a chunk that is not
    /// the one that belongs there.
    pub(crate) fn is_awaited(
        &self,
        stage: Option<&StageRecord>,
        now: u64,
    ) -> Result<bool, Refusal> {
        let stage = stage.filter(|stage| stage.is_good(now) && stage.named.is_none());
        let stage = stage.ok_or(Refusal::NotFound)?;
        let length = stage.stage.chunk_length(self.number);
        ensure(length == Some(self.chunk.len()), "number")?;
        let declared = stage.stage.chunks.get(self.number);
        ensure(declared == Some(&self.hash), "chunk")?;
        Ok(stage.present.get(self.number) == Some(&0))
    }
}

impl Request for Upload {
    type View = Option<StageRecord>;
    type Outcome = UploadResponse;

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        get(records, self.log, &self.stage.0)
    }

    fn decide(&self, view: Self::View, now: u64) -> Result<Decision<UploadResponse>, Denial> {
        if !self.is_awaited(view.as_ref(), now)? {
            return Ok(Decision::unchanged(UploadResponse {}));
        }
        let stage = view.ok_or(Refusal::NotFound)?;
        let mut fuller = stage.clone();
        if let Some(present) = fuller.present.get_mut(self.number) {
            *present = 1;
        }
        let mut change = Change::of(self.log);
        change.require(&self.stage.0, Some(&stage));
        change.put_until(&self.stage.0, &fuller, Some(stage.ends()));
        let chunk = ChunkRecord {
            version: RECORD_VERSION,
            chunk: self.chunk.clone(),
        };
        let key = chunk_key(self.stage, self.number);
        change.put_until(&key, &chunk, Some(stage.ends()));
        Ok(Decision {
            change: Some(change),
            outcome: UploadResponse {},
        })
    }
}

/// A stage whose append is to be made.
pub(crate) struct Staged {
    pub(crate) log: LogId,
    stage: StageId,
}

/// What became of a stage.
pub(crate) enum Found {
    /// All of it is there.
    Whole(Gathered),
    /// It was appended: the receipt.
    Named(Head),
}

/// What a stage holds.
pub(crate) struct Gathered {
    stage: StageRecord,
    bytes: Vec<u8>,
}

impl Staged {
    /// # Errors
    /// `Malformed`.
    pub(crate) fn read(request: &AppendStagedRequest) -> Result<Self, Refusal> {
        Ok(Self {
            log: fields::log(&request.log)?,
            stage: fields::stage(&request.stage)?,
        })
    }

    /// Puts the chunks together; `None` if the stage is unknown or over, or not whole.
    pub(crate) fn gather(&self, records: &dyn View, now: u64) -> Result<Option<Found>, StoreError> {
        let stage: Option<StageRecord> = get(records, self.log, &self.stage.0)?;
        let whole = |stage: &StageRecord| stage.is_good(now) && !stage.present.contains(&0);
        let Some(stage) = stage.filter(whole) else {
            return Ok(None);
        };
        if let Some(entry) = stage.named {
            let position: Option<PositionRecord> = get(records, self.log, &entry.0)?;
            return Ok(position.map(|position| Found::Named(position.receipt(self.log))));
        }
        let mut bytes = Vec::with_capacity(stage.stage.size as usize);
        for number in 0..stage.present.len() {
            let key = chunk_key(self.stage, number);
            let Some(chunk) = get::<ChunkRecord>(records, self.log, &key)? else {
                return Ok(None);
            };
            bytes.extend_from_slice(&chunk.chunk);
        }
        Ok(Some(Found::Whole(Gathered { stage, bytes })))
    }
}

impl Gathered {
    /// The append, and the stage that it came by.
    ///
    /// # Errors
    /// `Malformed`: the writer is to blame.
    pub(crate) fn open(self) -> Result<(AppendRequest, StageRecord), Refusal> {
        let path = Call::Append(AppendRequest::default()).path();
        match Call::decode(path, &self.bytes) {
            Ok(Call::Append(request)) => Ok((request, self.stage)),
            _ => Err(malformed("stage")),
        }
    }
}

impl StageRecord {
    fn ends(&self) -> u64 {
        self.time.saturating_add(limits::STAGE_MS)
    }

    fn is_good(&self, now: u64) -> bool {
        now < self.ends()
    }

    /// It has become an entry: only that is kept of it, for who asks again.
    pub(super) fn name(&self, entry: EntryId, change: &mut Change) {
        let id = self.stage.id();
        change.require(&id.0, Some(self));
        self.delete(id, change);
        let named = Self {
            named: Some(entry),
            present: Vec::new(),
            ..self.clone()
        };
        change.put_until(&id.0, &named, Some(self.ends()));
    }

    fn missing(&self) -> StageResponse {
        let missing = (0u32..)
            .zip(&self.present)
            .filter(|(_, there)| **there == 0);
        StageResponse {
            missing: missing.map(|(number, _)| number).collect(),
        }
    }

    fn delete(&self, id: StageId, change: &mut Change) {
        change.delete::<Self>(&id.0);
        for (number, there) in self.present.iter().enumerate() {
            if *there != 0 {
                change.delete::<ChunkRecord>(&chunk_key(id, number));
            }
        }
    }
}

fn chunk_key(stage: StageId, number: usize) -> Vec<u8> {
    [&stage.0[..], &(number as u64).to_be_bytes()].concat()
}
