//! Opening a log: entry 0 of its chain, signed by the fence key that it brings.

use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_protocol::delivery::OpenRequest;
use folkmoot_protocol::ids::{ChainHash, EntryId};
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::log::{Head, Open};
use folkmoot_protocol::proof::{FenceProof, Method};
use folkmoot_protocol::{Refusal, VERSION};

use super::records::{BranchRecord, EntryRecord, EpochRecord, LogRecord, PositionRecord, numbered};
use crate::decision::{Decision, Denial, Request};
use crate::fields::statement;
use crate::retention::Retention;
use crate::store::{Change, RECORD_VERSION, StoreError, View, get};

/// An Open whose signature verifies.
pub(crate) struct SignedOpen {
    open: Open,
    id: EntryId,
    fence_signature: Bytes,
    retention: Retention,
}

impl SignedOpen {
    /// Reads and checks an Open.
    ///
    /// # Errors
    /// `Malformed`; `BadProof` if its own fence key did not sign it for this service.
    pub(crate) fn check(
        request: OpenRequest,
        delivery_service: PublicKey,
        retention: Retention,
    ) -> Result<Self, Refusal> {
        let open: Open = statement(&request.open, "open")?;
        let id = open.id();
        let proof = FenceProof {
            version: VERSION,
            delivery_service,
            log: open.log,
            branch: id,
            epoch: 0,
            method: Method::Open,
            subject: id.0.into(),
        };
        proof
            .verify(&open.fence_key, &request.fence_signature)
            .map_err(|_| Refusal::BadProof)?;
        Ok(Self {
            open,
            id,
            fence_signature: request.fence_signature.into(),
            retention,
        })
    }
}

/// What there is of the log.
pub(crate) struct OpenView {
    log: Option<LogRecord>,
    position: Option<PositionRecord>,
}

impl Request for SignedOpen {
    type View = OpenView;
    type Outcome = Head;

    fn load(&self, records: &dyn View) -> Result<OpenView, StoreError> {
        Ok(OpenView {
            log: get(records, self.open.log, &[])?,
            position: get(records, self.open.log, &self.id.0)?,
        })
    }

    /// The same Open again gets the first receipt; another one of the id is `Taken`.
    fn decide(&self, view: OpenView, now: u64) -> Result<Decision<Head>, Denial> {
        let log = self.open.log;
        if let Some(position) = view.position {
            return Ok(Decision::unchanged(position.receipt(log)));
        }
        if view.log.is_some() {
            return Err(Refusal::Taken.into());
        }
        let (version, id) = (RECORD_VERSION, self.id);
        let chain = ChainHash::START.next(log, 0, now, id);
        let position = PositionRecord {
            version,
            branch: id,
            sequence: 0,
            chain,
            time: now,
        };
        let branch = BranchRecord {
            version,
            sequence: 0,
            chain,
            time: now,
            tip: id,
            tip_time: now,
            epoch: 0,
            proposals: 0,
            filled: 0,
        };
        let epoch = EpochRecord {
            version,
            fence_key: self.open.fence_key,
            commit: id,
            start: 0,
            before: ChainHash::START,
            commit_interval: 0,
            committers: None,
        };
        let entry = EntryRecord {
            version,
            id,
            time: now,
            chain,
            content: self.open.to_bytes().into(),
            fence_signature: self.fence_signature.clone(),
            committer_signature: Bytes::default(),
        };
        let [stays, goes, head] = [
            self.retention.log(now),
            self.retention.entry(now),
            self.retention.head(now),
        ]
        .map(Some);
        let mut change = Change::of(log);
        change.require::<LogRecord>(&[], None);
        change.put_until(&[], &LogRecord { version, open: id }, stays);
        change.put_until(&id.0, &position, goes);
        change.put_until(&id.0, &branch, head);
        change.put_until(&numbered(id, 0), &epoch, stays);
        change.put_until(&numbered(id, 0), &entry, goes);
        Ok(Decision {
            change: Some(change),
            outcome: position.receipt(log),
        })
    }
}
