//! Mailboxes and the shelves that belong to them: ids, and what an owner's proof covers.

use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::tls_struct;

use crate::delivery;
use crate::ids::{MailboxId, PackageId};
use crate::keys::{PublicKey, hash};

impl MailboxId {
    /// The mailbox of an owner's key.
    #[must_use]
    pub fn of(owner: &PublicKey) -> Self {
        Self(hash("mailbox", owner))
    }
}

impl PackageId {
    /// The id of a sealed KeyPackage.
    #[must_use]
    pub fn of(sealed: &[u8]) -> Self {
        Self(hash("package", &Bytes::from(sealed)))
    }
}

tls_struct! {
    struct PackageContent {
        version: u32,
        cipher_suite: u32,
        expires: u64,
        last_resort: bool,
        id: PackageId,
    }
}

/// What the proof of a request covers beside mailbox, method and nonce. Requests without content
/// (create, count, close) cover nothing more.
pub trait OwnerContent {
    /// The bytes of [`MailboxProof::content`](crate::proof::MailboxProof::content).
    fn owner_content(&self) -> Bytes;
}

impl OwnerContent for delivery::CreateMailboxRequest {
    fn owner_content(&self) -> Bytes {
        Bytes::default()
    }
}

impl OwnerContent for delivery::CreateDoorRequest {
    fn owner_content(&self) -> Bytes {
        self.ticket.as_slice().into()
    }
}

impl OwnerContent for delivery::CloseDoorRequest {
    fn owner_content(&self) -> Bytes {
        Bytes::default()
    }
}

impl OwnerContent for delivery::CountRequest {
    fn owner_content(&self) -> Bytes {
        Bytes::default()
    }
}

impl OwnerContent for delivery::CollectRequest {
    fn owner_content(&self) -> Bytes {
        self.after.to_bytes().into()
    }
}

impl OwnerContent for delivery::AcknowledgeRequest {
    fn owner_content(&self) -> Bytes {
        self.through.to_bytes().into()
    }
}

impl OwnerContent for delivery::StockRequest {
    fn owner_content(&self) -> Bytes {
        let contents: Vec<_> = self
            .packages
            .iter()
            .map(|package| {
                let lane = package.lane.unwrap_or_default();
                PackageContent {
                    version: lane.version,
                    cipher_suite: lane.cipher_suite,
                    expires: package.expires,
                    last_resort: package.last_resort,
                    id: PackageId::of(&package.sealed),
                }
            })
            .collect();
        contents.to_bytes().into()
    }
}

impl OwnerContent for delivery::DiscardRequest {
    fn owner_content(&self) -> Bytes {
        let ids: Vec<Bytes> = self.ids.iter().map(|id| id.as_slice().into()).collect();
        ids.to_bytes().into()
    }
}
