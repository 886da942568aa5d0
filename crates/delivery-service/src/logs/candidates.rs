//! The commits after one parent, in the order in which they came, for those who have to judge them.
//!
//! Whoever holds the fence key of an epoch may read every commit that ends that epoch, as reading up
//! to a cut allows, and nothing behind any of them.

use folkmoot_protocol::delivery::{CandidatesRequest, CandidatesResponse, Entry};
use folkmoot_protocol::ids::{ChainHash, EntryId, LogId};
use folkmoot_protocol::keys::{PublicKey, SigningKey};
use folkmoot_protocol::limits;
use folkmoot_protocol::log::CandidateList;
use folkmoot_protocol::proof::{FenceProof, Method};
use folkmoot_protocol::{Refusal, VERSION};

use super::records::{
    CandidateRecord, ContestsRecord, EntryRecord, EpochRecord, PositionRecord, candidate, numbered,
};
use crate::fields;
use crate::nonce::NonceKey;
use crate::store::{StoreError, View, get};

/// A question for the commits after a parent.
pub(crate) struct Candidates {
    proof: FenceProof,
    signature: Vec<u8>,
    after: u32,
}

impl Candidates {
    /// # Errors
    /// `Malformed`, `StaleNonce`.
    pub(crate) fn read(
        request: CandidatesRequest,
        delivery_service: PublicKey,
        nonces: &NonceKey,
        now: u64,
    ) -> Result<Self, Refusal> {
        let log = fields::log(&request.log)?;
        let branch = fields::branch(&request.branch)?;
        if !nonces.is_fresh(&request.nonce, now) {
            return Err(Refusal::StaleNonce);
        }
        Ok(Self {
            proof: FenceProof {
                version: VERSION,
                delivery_service,
                log,
                branch,
                epoch: request.epoch,
                method: Method::Candidates,
                subject: request.nonce.into(),
            },
            signature: request.proof,
            after: request.after,
        })
    }

    /// What there is; `None` for whoever has no right to it.
    pub(crate) fn list(
        &self,
        records: &dyn View,
        key: &SigningKey,
        now: u64,
    ) -> Result<Option<CandidatesResponse>, StoreError> {
        let (log, branch) = (self.proof.log, self.proof.branch);
        let at = |epoch| numbered(branch, epoch);
        let epoch: Option<EpochRecord> = get(records, log, &at(self.proof.epoch))?;
        let Some(epoch) = epoch else {
            return Ok(None);
        };
        if self
            .proof
            .verify(&epoch.fence_key, &self.signature)
            .is_err()
        {
            return Ok(None);
        }
        let parent = epoch.commit;
        let next: Option<EpochRecord> = get(records, log, &at(self.proof.epoch.saturating_add(1)))?;
        let contests: Option<ContestsRecord> = get(records, log, &parent.0)?;
        let total = match (&next, contests) {
            (None, _) => 0,
            (Some(_), contests) => 1 + contests.map_or(0, |contests| contests.count),
        };
        let (mut entries, mut room) = (Vec::new(), limits::READ_BATCH);
        let (mut count, mut chain) = (self.after.min(total), ChainHash::START);
        if let (Some(next), true) = (&next, count > 0) {
            chain = self.chain(records, next, parent, count)?;
        }
        while let (Some(next), true) = (&next, count < total) {
            let commit = match count {
                0 => Some(next.commit),
                _ => {
                    let record: Option<CandidateRecord> =
                        get(records, log, &candidate(parent, count))?;
                    record.map(|record| record.commit)
                }
            };
            let found = match commit {
                Some(commit) => entry(records, log, commit)?,
                None => None,
            };
            // Older than what is kept.
            let Some((id, found)) = found else {
                break;
            };
            if !entries.is_empty() && found.content.len() > room {
                break;
            }
            room = room.saturating_sub(found.content.len());
            chain = chain.next_candidate(parent, found.time, id);
            count += 1;
            entries.push(found);
        }
        let list = CandidateList {
            version: VERSION,
            log,
            branch,
            parent,
            count,
            chain,
            issued: now,
        };
        Ok(Some(CandidatesResponse {
            more: count < total && !entries.is_empty(),
            entries,
            signature: list.sign(key).to_vec(),
            list: folkmoot_mls::codec::Encode::to_bytes(&list),
        }))
    }

    /// The hash over the first `count` of them.
    fn chain(
        &self,
        records: &dyn View,
        first: &EpochRecord,
        parent: EntryId,
        count: u32,
    ) -> Result<ChainHash, StoreError> {
        let log = self.proof.log;
        if count > 1 {
            let record: Option<CandidateRecord> = get(records, log, &candidate(parent, count - 1))?;
            return Ok(record.map_or(ChainHash::START, |record| record.chain));
        }
        let position: Option<PositionRecord> = get(records, log, &first.commit.0)?;
        let time = position.map_or(0, |position| position.time);
        Ok(ChainHash::START.next_candidate(parent, time, first.commit))
    }
}

/// A commit as readers get it, with its id.
fn entry(
    records: &dyn View,
    log: LogId,
    commit: EntryId,
) -> Result<Option<(EntryId, Entry)>, StoreError> {
    let position: Option<PositionRecord> = get(records, log, &commit.0)?;
    let Some(position) = position else {
        return Ok(None);
    };
    let key = numbered(position.branch, position.sequence);
    let record: Option<EntryRecord> = get(records, log, &key)?;
    Ok(record.map(|record| {
        let entry = Entry {
            sequence: position.sequence,
            time: record.time,
            content: record.content.into_vec(),
            fence_signature: record.fence_signature.into_vec(),
            committer_signature: record.committer_signature.into_vec(),
        };
        (record.id, entry)
    }))
}
