//! The owner takes packages off its shelf.

use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery::DiscardRequest;
use folkmoot_protocol::ids::{MailboxId, PackageId};
use folkmoot_protocol::limits;

use super::{PackageRecord, ShelfRecord};
use crate::decision::{Decision, Denial, Request};
use crate::fields::{bound, malformed};
use crate::store::{Change, StoreError, View, get};

/// Packages to take off. Those that are not there, or were handed out, are passed over.
pub(crate) struct Discard {
    pub(crate) mailbox: MailboxId,
    pub(crate) ids: Vec<PackageId>,
}

/// Reads the ids, each once.
///
/// # Errors
/// `TooLarge`; `Malformed`.
pub(crate) fn read(request: &DiscardRequest) -> Result<Vec<PackageId>, Refusal> {
    bound(request.ids.len(), limits::PACKAGES_PER_SHELF)?;
    let read = |id: &Vec<u8>| PackageId::read(id).ok_or_else(|| malformed("ids"));
    let mut ids: Vec<_> = request.ids.iter().map(read).collect::<Result<_, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

impl Request for Discard {
    type View = Vec<PackageRecord>;
    type Outcome = u64;

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        let one = |id: &PackageId| get(records, self.mailbox, &id.0).transpose();
        self.ids.iter().filter_map(one).collect()
    }

    fn decide(&self, view: Self::View, _now: u64) -> Result<Decision<u64>, Denial> {
        let mut change = Change::of(self.mailbox);
        let mut discarded = 0;
        for package in view.iter().filter(|package| !package.taken) {
            let id = &package.place.package.0;
            change.require(id, Some(package));
            change.delete::<ShelfRecord>(&package.place.key());
            change.delete::<PackageRecord>(id);
            discarded += 1;
        }
        Ok(Decision {
            change: Some(change),
            outcome: discarded,
        })
    }
}
