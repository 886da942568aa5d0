//! Rows of what is on its way into a group: whom an intent adds, and what was offered to a log.

use folkmoot_credential::{DeliveryAddress, UserId, Version};
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::group::CommitEffects;
use folkmoot_mls::records::Changes;
use folkmoot_mls::{tls_enum, tls_struct};
use folkmoot_protocol::ids::{EntryId, MailboxId, PickupAddress};
use folkmoot_protocol::keys::PublicKey;

use super::{Key, Seed};
use crate::logic::IntentId;

tls_struct! {
    #[derive(Clone)]
    pub(crate) struct AddWish {
        /// How many users; each has a row, see [`target_key`](super::target_key).
        pub targets: u32,
        /// Whether it is known that none of them was a member.
        pub checked: bool,
        /// Of how many, the first ones, the directory has told.
        pub looked_up: u32,
        /// Of how many, the first ones, the packages are here.
        pub taken: u32,
        /// How many mailboxes are taken from at this time; 0: none.
        pub taking: u32,
        /// How many, the first ones, are invited.
        pub invited: u32,
        /// How many of them cannot be added.
        pub left_out: u32,
        /// Opens the shared part of the Welcome.
        pub shared_key: Key,
        /// Names our `Take`: a repeat gets the same answer.
        pub take: [u8; 32],
    }
}

impl AddWish {
    /// Whether everybody is invited, so that the commit may be made.
    pub(crate) fn is_ready(&self) -> bool {
        self.invited >= self.targets
    }
}

tls_struct! {
    /// A user to be added.
    #[derive(Clone)]
    pub(crate) struct Target {
        pub version: Version,
        pub user: UserId,
        /// The AS that vouches for the user.
        pub authority: Option<PublicKey>,
        /// Whether what the group has of the user goes.
        pub replaces: Replaces,
        /// Whether the user cannot be added: then there are no devices.
        pub left_out: bool,
        pub devices: Vec<TargetDevice>,
    }
}

tls_enum! {
    /// What goes when a device is added.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Replaces: u8 {
        Nothing = 0,
        /// What the group has of the same device: it has lost its state.
        Device = 1,
        /// All that the group has of the user: this is its only device.
        User = 2,
    }
}

tls_struct! {
    /// A device to be added.
    #[derive(Clone)]
    pub(crate) struct TargetDevice {
        pub device: PublicKey,
        pub delivery: DeliveryAddress,
        pub mailbox: MailboxId,
        pub mailbox_key_version: u16,
        pub mailbox_key: [u8; 32],
        pub shelf_key_version: u16,
        pub shelf_key: Key,
        /// The KeyPackage as an MLSMessage, once it was taken.
        pub package: Bytes,
        pub ticket: Bytes,
        /// Where its Welcome will be.
        pub address: PickupAddress,
        pub own_key: Key,
        /// The sealed invitation, once it was made.
        pub envelope: Bytes,
        pub dropped: bool,
    }
}

tls_struct! {
    /// What was offered to a log. Kept until a commit after its parent has been read.
    #[derive(Clone)]
    pub(crate) struct AttemptRow {
        pub version: Version,
        pub intent: IntentId,
        pub parent: EntryId,
        /// As the [`Append`](folkmoot_protocol::log::Append) has it.
        pub content_type: u8,
        /// The hash of its message.
        pub message: [u8; 32],
        /// The encoded request; empty if it goes up in chunks.
        pub request: Bytes,
        /// Which chunks it goes up in, encoded: a [`Stage`](folkmoot_protocol::log::Stage).
        pub stage: Bytes,
    }
}

tls_struct! {
    /// What follows if the commit is the one that the log takes.
    #[derive(Clone)]
    pub(crate) struct CommitAttempt {
        pub version: Version,
        pub changes: Changes,
        pub next_fence: Seed,
        /// What it does: to be judged again by the time of the entry, and shown.
        pub effects: CommitEffects,
    }
}
