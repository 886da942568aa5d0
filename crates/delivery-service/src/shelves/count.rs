//! The owner counts what is left on its shelf.

use std::collections::BTreeMap;

use folkmoot_protocol::delivery::{CountResponse, LaneCount};
use folkmoot_protocol::ids::MailboxId;

use super::stock::shelf;
use crate::store::{StoreError, View};

/// What may still be handed out at `now`, by lane.
pub(crate) fn count(
    records: &dyn View,
    mailbox: MailboxId,
    now: u64,
) -> Result<CountResponse, StoreError> {
    let mut lanes = BTreeMap::new();
    for place in shelf(records, mailbox)? {
        if place.is_good(now) {
            let count: &mut LaneCount = lanes.entry(place.lane).or_default();
            count.lane = Some(place.lane.into());
            count.last_resort |= place.last_resort;
            count.single_use += u64::from(!place.last_resort);
        }
    }
    Ok(CountResponse {
        lanes: lanes.into_values().collect(),
    })
}
