//! Proposals that wait to be committed: those of this epoch, by reference and in the order in which they
//! came. There is a limit to them, since anybody who may propose can propose without end.

use std::sync::Arc;

use super::PendingProposal;
use crate::framing::Sender;
use crate::proposal::ProposalRef;
use crate::tree_math::LeafIndex;

/// The most proposals of one member that wait in an epoch; all from outside together count as one.
pub(super) const MOST_OF_SENDER: u32 = 1024;

/// The most proposals that wait in an epoch.
pub(super) const MOST: u32 = 1 << 16;

/// Proposals that wait. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Pending {
    list: imbl::Vector<Arc<(ProposalRef, PendingProposal)>>,
    places: imbl::OrdMap<ProposalRef, u32>,
    /// How many there are of each member, and of all others.
    senders: imbl::OrdMap<Option<LeafIndex>, u32>,
}

/// Why one more cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Its sender has proposed too much.
    OfSender,
    /// All senders together have.
    OfAll,
}

impl Pending {
    /// How many there are: the number of the next.
    pub fn count(&self) -> u32 {
        self.list.len() as u32
    }

    pub fn get(&self, reference: &ProposalRef) -> Option<&PendingProposal> {
        let place = *self.places.get(reference)?;
        self.list.get(place as usize).map(|item| &item.1)
    }

    /// In the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &(ProposalRef, PendingProposal)> {
        self.list.iter().map(|item| &**item)
    }

    /// Those that came when there were `count` already.
    pub fn since(&self, count: u32) -> impl Iterator<Item = &(ProposalRef, PendingProposal)> {
        (count..self.count()).filter_map(|place| self.list.get(place as usize).map(|item| &**item))
    }

    /// Whether one more of this sender may wait.
    pub fn room_for(&self, sender: Sender) -> Result<(), Full> {
        if self.senders.get(&counted(sender)).copied().unwrap_or(0) >= MOST_OF_SENDER {
            Err(Full::OfSender)
        } else if self.count() >= MOST {
            Err(Full::OfAll)
        } else {
            Ok(())
        }
    }

    /// Adds one at the end. One that is there already stays in its place.
    pub fn push(&mut self, reference: ProposalRef, pending: PendingProposal) {
        if self.places.contains_key(&reference) {
            return;
        }
        self.places.insert(reference.clone(), self.count());
        *self.senders.entry(counted(pending.sender)).or_insert(0) += 1;
        self.list.push_back(Arc::new((reference, pending)));
    }
}

fn counted(sender: Sender) -> Option<LeafIndex> {
    match sender {
        Sender::Member(leaf) => Some(leaf),
        _ => None,
    }
}
