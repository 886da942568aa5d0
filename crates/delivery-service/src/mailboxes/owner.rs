//! The owner of a mailbox proves itself for one request: nonce, method and content are signed.

use folkmoot_protocol::delivery::Owner;
use folkmoot_protocol::ids::MailboxId;
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::mailbox::OwnerContent;
use folkmoot_protocol::proof::{MailboxProof, Method};
use folkmoot_protocol::{Refusal, VERSION};

use super::MailboxRecord;
use crate::fields::{self, malformed};
use crate::nonce::NonceKey;
use crate::store::{StoreError, View, get};

/// A claim to own a mailbox, its nonce still fresh.
pub(crate) struct Claim {
    proof: MailboxProof,
    signature: Vec<u8>,
}

impl Claim {
    /// Reads the claim that comes with a request.
    ///
    /// # Errors
    /// `Malformed`; `StaleNonce`.
    pub(crate) fn read(
        owner: Option<&Owner>,
        method: Method,
        request: &impl OwnerContent,
        delivery_service: PublicKey,
        nonces: &NonceKey,
        now: u64,
    ) -> Result<Self, Refusal> {
        let owner = owner.ok_or_else(|| malformed("owner"))?;
        let mailbox = fields::mailbox(&owner.mailbox)?;
        if !nonces.is_fresh(&owner.nonce, now) {
            return Err(Refusal::StaleNonce);
        }
        Ok(Self {
            proof: MailboxProof {
                version: VERSION,
                delivery_service,
                mailbox,
                method,
                nonce: owner.nonce.as_slice().into(),
                content: request.owner_content(),
            },
            signature: owner.proof.clone(),
        })
    }

    /// The mailbox, if the claim is true. `None` for an unknown mailbox as for another's, so that
    /// nobody learns which exist. An owner's key never changes, so what is proven stays so.
    pub(crate) fn prove(&self, records: &dyn View) -> Result<Option<MailboxId>, StoreError> {
        let record: Option<MailboxRecord> = get(records, self.proof.mailbox, &[])?;
        Ok(record
            .filter(|record| {
                self.proof
                    .verify(&record.owner_key, &self.signature)
                    .is_ok()
            })
            .map(|_| self.proof.mailbox))
    }
}
