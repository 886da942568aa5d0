//! Resumption PSKs (RFC 9420, section 8.6): what proves, later, that somebody was in an epoch. A group
//! keeps those of a few past epochs.

use super::error::ProposalError;
use super::{Group, State};
use crate::context::PskStore;
use crate::crypto::Secret;
use crate::psk::{PreSharedKeyID, PskType};
use crate::records::Changes;
use std::sync::Arc;

/// Past epochs whose resumption PSKs are kept, unless told otherwise.
const KEPT: u8 = 5;

crate::tls_struct! {
    /// The resumption PSKs of past epochs.
    #[derive(Clone)]
    pub(super) struct PastPsks {
        /// How many are kept.
        pub kept: u8,
        /// The oldest first.
        pub past: Vec<PastPsk>,
    }
}

crate::tls_struct! {
    /// The resumption PSK of a past epoch.
    #[derive(Clone)]
    pub(super) struct PastPsk {
        pub epoch: u64,
        pub resumption_psk: Secret,
    }
}

impl Default for PastPsks {
    fn default() -> Self {
        Self {
            kept: KEPT,
            past: Vec::new(),
        }
    }
}

impl PastPsks {
    /// Those that the epoch after this one starts with.
    pub fn after(group: &Group) -> Self {
        let mut next = Self::clone(&group.state().past_psks);
        next.past.push(PastPsk {
            epoch: group.epoch(),
            resumption_psk: group.resumption_psk().clone(),
        });
        next.truncate();
        next
    }

    fn truncate(&mut self) {
        let excess = self.past.len().saturating_sub(self.kept.into());
        self.past.drain(..excess);
    }
}

impl Group {
    /// The resumption PSK of this epoch, or of a past one that is kept.
    #[must_use]
    pub fn resumption_psk_of(&self, epoch: u64) -> Option<&Secret> {
        if epoch == self.epoch() {
            return Some(self.resumption_psk());
        }
        let mut past = self.state().past_psks.past.iter();
        past.find(|psk| psk.epoch == epoch)
            .map(|psk| &psk.resumption_psk)
    }

    /// The same group that keeps the resumption PSKs of so many past epochs, from now on: 5 unless it is
    /// told otherwise. Who keeps fewer than others may be unable to follow their commits.
    #[must_use]
    pub fn keep_resumption_psks(&self, epochs: u8) -> (Self, Changes) {
        let mut past_psks = PastPsks::clone(&self.state().past_psks);
        past_psks.kept = epochs;
        past_psks.truncate();
        let next = Self(Arc::new(State {
            past_psks: Arc::new(past_psks),
            ..State::clone(self.state())
        }));
        let mut changes = Changes::default();
        next.record_changes(Some(self), &mut changes);
        (next, changes)
    }
}

/// The resumption PSKs that the group keeps, for a call on another group.
impl PskStore for Group {
    fn psk(&self, id: &PreSharedKeyID) -> Option<Secret> {
        match &id.psktype {
            PskType::Resumption(psk) if *psk.psk_group_id == *self.group_id() => {
                self.resumption_psk_of(psk.psk_epoch).cloned()
            }
            _ => None,
        }
    }
}

/// The PSKs of a commit or Welcome, in order, each from the first store that has it.
pub(super) fn psk_secrets(
    ids: &[PreSharedKeyID],
    stores: &[&dyn PskStore],
) -> Result<Vec<(PreSharedKeyID, Secret)>, ProposalError> {
    ids.iter()
        .map(|id| {
            let psk = stores.iter().find_map(|store| store.psk(id));
            let psk = psk.ok_or(match &id.psktype {
                PskType::Resumption(psk) => ProposalError::UnknownResumptionPsk {
                    epoch: psk.psk_epoch,
                },
                _ => ProposalError::UnknownPsk,
            })?;
            Ok((id.clone(), psk))
        })
        .collect()
}
