//! Making a mailbox. Its id is a hash of the owner's key; making it again changes nothing.

use folkmoot_protocol::delivery::CreateMailboxRequest;
use folkmoot_protocol::ids::MailboxId;
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::mailbox::OwnerContent;
use folkmoot_protocol::proof::{MailboxProof, Method};
use folkmoot_protocol::{Refusal, VERSION};

use super::MailboxRecord;
use crate::decision::{Decision, Denial, Request};
use crate::fields;
use crate::nonce::NonceKey;
use crate::store::{Change, RECORD_VERSION, StoreError, View, get};

/// A request for a mailbox, proven by the owner's key.
pub(crate) struct Create {
    owner_key: PublicKey,
    mailbox: MailboxId,
}

impl Create {
    /// # Errors
    /// `Malformed`; `StaleNonce`; `BadProof`.
    pub(crate) fn check(
        request: &CreateMailboxRequest,
        delivery_service: PublicKey,
        nonces: &NonceKey,
        now: u64,
    ) -> Result<Self, Refusal> {
        let owner_key = fields::owner_key(&request.owner_key)?;
        let mailbox = MailboxId::of(&owner_key);
        if !nonces.is_fresh(&request.nonce, now) {
            return Err(Refusal::StaleNonce);
        }
        let proof = MailboxProof {
            version: VERSION,
            delivery_service,
            mailbox,
            method: Method::CreateMailbox,
            nonce: request.nonce.as_slice().into(),
            content: request.owner_content(),
        };
        proof
            .verify(&owner_key, &request.proof)
            .map_err(|_| Refusal::BadProof)?;
        Ok(Self { owner_key, mailbox })
    }
}

impl Request for Create {
    type View = Option<MailboxRecord>;
    type Outcome = MailboxId;

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        get(records, self.mailbox, &[])
    }

    fn decide(&self, view: Self::View, _now: u64) -> Result<Decision<MailboxId>, Denial> {
        if view.is_some() {
            return Ok(Decision::unchanged(self.mailbox));
        }
        let mut change = Change::of(self.mailbox);
        change.require::<MailboxRecord>(&[], None);
        let mailbox = MailboxRecord {
            version: RECORD_VERSION,
            owner_key: self.owner_key,
            last_number: 0,
            envelopes: 0,
        };
        change.put(&[], &mailbox);
        Ok(Decision {
            change: Some(change),
            outcome: self.mailbox,
        })
    }
}
