//! Tree pages: each under its address, which is the hash of its bytes (DESIGN, "Tree pages").
//!
//! A commit brings the pages that it writes and names those that nobody needs after it. Only members and
//! joiners know the addresses, and nobody else could open a page. What is missing any member can compute and
//! put back.

use std::collections::BTreeSet;

use folkmoot_mls::codec::Bytes;
use folkmoot_protocol::delivery::{PagesRequest, PagesResponse, PutPagesRequest, PutPagesResponse};
use folkmoot_protocol::ids::{EntryId, LogId, PageAddress};
use folkmoot_protocol::keys::{PublicKey, hash};
use folkmoot_protocol::log::pages_subject;
use folkmoot_protocol::proof::{FenceProof, Method};
use folkmoot_protocol::{Refusal, VERSION, limits};

use super::records::{BranchRecord, EpochRecord, PageRecord, PutBackRecord, numbered, share};
use crate::decision::{Decision, Denial, Request};
use crate::fields::{self, bound};
use crate::rates::Share;
use crate::retention::Retention;
use crate::store::{Change, RECORD_VERSION, StoreError, View, get, has};

/// Pages that somebody asks for.
pub(crate) struct Wanted {
    log: LogId,
    addresses: Vec<PageAddress>,
    missing_only: bool,
}

impl Wanted {
    /// # Errors
    /// `Malformed`; `TooLarge` for too many.
    pub(crate) fn read(request: &PagesRequest) -> Result<Self, Refusal> {
        bound(request.addresses.len(), limits::PAGES_PER_CALL)?;
        let addresses = request.addresses.iter();
        let addresses = addresses
            .map(|address| fields::page_address(address))
            .collect::<Result<Vec<_>, _>>()?;
        // Each is read once, however small the question.
        let each_once: BTreeSet<_> = addresses.iter().map(|address| address.0).collect();
        fields::ensure(each_once.len() == addresses.len(), "addresses")?;
        Ok(Self {
            log: fields::log(&request.log)?,
            addresses,
            missing_only: request.missing_only,
        })
    }

    /// Those that are there, as many as an answer holds; or only which are missing, and those too that go
    /// too early for who is added now. For that no page is read.
    pub(crate) fn find(
        &self,
        records: &dyn View,
        retention: Retention,
        now: u64,
    ) -> Result<PagesResponse, StoreError> {
        let mut response = PagesResponse::default();
        let mut bytes = 0;
        for address in &self.addresses {
            if self.missing_only {
                if !Stored::find(records, self.log, address)?.stays(retention, now) {
                    response.missing.push((*address).into());
                }
            } else {
                match get::<PageRecord>(records, self.log, &address.0)? {
                    None => response.missing.push((*address).into()),
                    Some(PageRecord { page, .. }) => {
                        bytes += page.len();
                        if bytes > limits::PAGES_BYTES && !response.pages.is_empty() {
                            break;
                        }
                        response.pages.push(page.into_vec());
                    }
                }
            }
            response.looked_at += 1;
        }
        Ok(response)
    }
}

/// Where it is noted until when a page stays that was put back.
pub(crate) fn put_back(address: &PageAddress) -> [u8; 32] {
    hash("page put back", address)
}

/// What is known of a page without reading it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    is_there: bool,
    /// Of one that was put back: until when it stays.
    until: Option<u64>,
}

impl Stored {
    fn find(records: &dyn View, log: LogId, address: &PageAddress) -> Result<Self, StoreError> {
        let is_there = has::<PageRecord>(records, log, &address.0)?;
        let put_back: Option<PutBackRecord> = match is_there {
            true => get(records, log, &put_back(address))?,
            false => None,
        };
        Ok(Self {
            is_there,
            until: put_back.map(|record| record.until),
        })
    }

    /// Whether it is there long enough for who is added now.
    fn stays(self, retention: Retention, now: u64) -> bool {
        let early = |until| retention.goes_early(until, now);
        self.is_there && !self.until.is_some_and(early)
    }
}

/// Pages that a member puts back.
pub(crate) struct PutPages {
    log: LogId,
    branch: EntryId,
    epoch: u64,
    pages: Vec<(PageAddress, Bytes)>,
    fence_signature: Vec<u8>,
    retention: Retention,
}

impl PutPages {
    /// # Errors
    /// `Malformed`; `TooLarge`.
    pub(crate) fn read(request: PutPagesRequest, retention: Retention) -> Result<Self, Refusal> {
        bound(request.pages.len(), limits::PAGES_PER_CALL)?;
        let bytes = request.pages.iter().map(Vec::len).sum();
        bound(bytes, limits::PAGES_BYTES)?;
        let largest = request.pages.iter().map(Vec::len).max();
        bound(largest.unwrap_or(0), limits::PAGE)?;
        let pages = request.pages.into_iter();
        Ok(Self {
            log: fields::log(&request.log)?,
            branch: fields::branch(&request.branch)?,
            epoch: request.epoch,
            pages: pages
                .map(|page| (PageAddress::of(&page), page.into()))
                .collect(),
            fence_signature: request.fence_signature,
            retention,
        })
    }

    /// Where they go.
    pub(crate) fn log(&self) -> LogId {
        self.log
    }

    /// How many bytes they have.
    pub(crate) fn length(&self) -> usize {
        self.pages.iter().map(|(_, page)| page.len()).sum()
    }

    /// Whose share of the log's rates they use up.
    pub(crate) fn share(&self, records: &dyn View) -> Result<Share, StoreError> {
        share(records, self.log, self.branch, self.epoch)
    }

    /// The key that has to have signed.
    pub(crate) fn load_key(&self, records: &dyn View) -> Result<Option<PublicKey>, StoreError> {
        let key = numbered(self.branch, self.epoch);
        let epoch: Option<EpochRecord> = get(records, self.log, &key)?;
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
        let addresses: Vec<_> = self.pages.iter().map(|(address, _)| *address).collect();
        let proof = FenceProof {
            version: VERSION,
            delivery_service,
            log: self.log,
            branch: self.branch,
            epoch: self.epoch,
            method: Method::PutPages,
            subject: pages_subject(&addresses).into(),
        };
        let key = key.ok_or(Refusal::NotFound)?;
        proof
            .verify(&key, &self.fence_signature)
            .map_err(|_| Refusal::NotFound)
    }
}

impl Request for PutPages {
    /// The branch, and what is there of each page.
    type View = (Option<BranchRecord>, Vec<Stored>);
    type Outcome = PutPagesResponse;

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        let pages = self.pages.iter();
        let there = pages.map(|(address, _)| Stored::find(records, self.log, address));
        let there = there.collect::<Result<_, StoreError>>()?;
        Ok((get(records, self.log, &self.branch.0)?, there))
    }

    fn decide(&self, (at, there): Self::View, now: u64) -> Result<Decision<Self::Outcome>, Denial> {
        // Who was removed puts nothing any more.
        if at.is_none_or(|at| at.epoch != self.epoch) {
            return Err(Refusal::NotFound.into());
        }
        let mut change = Change::of(self.log);
        for ((address, page), there) in self.pages.iter().zip(there) {
            let record = PageRecord {
                version: RECORD_VERSION,
                page: page.clone(),
            };
            if !there.stays(self.retention, now) {
                // For a while only, so that nobody fills the service for longer; and then again.
                let until = self.retention.put_back(now);
                change.put_until(&address.0, &record, Some(until));
                let note = PutBackRecord {
                    version: RECORD_VERSION,
                    until,
                };
                change.put_until(&put_back(address), &note, Some(until));
            }
        }
        Ok(Decision {
            change: Some(change),
            outcome: PutPagesResponse {},
        })
    }
}
