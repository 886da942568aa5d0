//! Picking a Welcome up: whoever knows the random address may, for only the invitation names it
//! and both parts are sealed under keys that only the invitation holds.

use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery::PickUpRequest;
use folkmoot_protocol::ids::{EntryId, LogId, PickupAddress};
use folkmoot_protocol::log::Head;

use super::records::{PickupRecord, PositionRecord, SharedPartRecord};
use crate::fields;
use crate::store::{StoreError, View, get};

/// Log and address.
pub(crate) struct PickUp {
    log: LogId,
    address: PickupAddress,
}

/// What a commit left for one joiner.
pub(crate) struct Found {
    pub(crate) commit: EntryId,
    pub(crate) head: Head,
    pub(crate) shared_part: Vec<u8>,
    pub(crate) own_part: Vec<u8>,
    pub(crate) root_page: Vec<u8>,
}

impl PickUp {
    /// # Errors
    /// `Malformed`.
    pub(crate) fn read(request: &PickUpRequest) -> Result<Self, Refusal> {
        Ok(Self {
            log: fields::log(&request.log)?,
            address: fields::address(&request.address)?,
        })
    }

    /// What is there; nothing, if nothing is there yet or the log is unknown.
    pub(crate) fn find(&self, records: &dyn View) -> Result<Option<Found>, StoreError> {
        let Some(pickup) = get::<PickupRecord>(records, self.log, &self.address.0)? else {
            return Ok(None);
        };
        let position: Option<PositionRecord> = get(records, self.log, &pickup.commit.0)?;
        let shared: Option<SharedPartRecord> = get(records, self.log, &pickup.commit.0)?;
        Ok(position.zip(shared).map(|(position, shared)| Found {
            commit: pickup.commit,
            head: position.receipt(self.log),
            root_page: shared.root_page.map(Vec::from).unwrap_or_default(),
            shared_part: shared.part.into_vec(),
            own_part: pickup.own_part.into_vec(),
        }))
    }
}
