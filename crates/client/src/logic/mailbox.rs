//! Errands at our own mailbox and shelf, one after the other: what a registration still needs, packages
//! to stock, envelopes to collect and acknowledge, packages to count.

use folkmoot_credential::Version;
use folkmoot_mls::codec::Bytes;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{
    AcknowledgeRequest, CollectRequest, CollectResponse, CreateMailboxRequest, NonceRequest, Owner,
};
use folkmoot_protocol::invitation::Invitation;
use folkmoot_protocol::mailbox::OwnerContent;
use folkmoot_protocol::proof::{MailboxProof, Method};

use super::rows::{self, AccountRow, InvitationRow, Stage};
use super::session::{Asked, Task};
use super::{Ask, Step, address};
use crate::error::Error;
use crate::store::Table;

/// Invitations that are kept at most; who is invited more often does not hear of the rest.
const MOST_INVITATIONS: usize = 1000;

/// What is to be done next.
enum Errand {
    Create,
    Stock,
    Acknowledge,
    Collect,
    Count,
}

/// The proof that we own the mailbox.
pub(super) fn owner(
    account: &AccountRow,
    method: Method,
    nonce: &[u8],
    request: &impl OwnerContent,
) -> Owner {
    Owner {
        mailbox: account.mailbox().into(),
        nonce: nonce.to_vec(),
        proof: proof(account, method, nonce, request.owner_content()).to_vec(),
    }
}

fn proof(account: &AccountRow, method: Method, nonce: &[u8], content: Bytes) -> [u8; 64] {
    let proof = MailboxProof {
        version: VERSION,
        delivery_service: account.delivery.key,
        mailbox: account.mailbox(),
        method,
        nonce: nonce.into(),
        content,
    };
    proof.sign(&account.owner.0)
}

impl Step<'_> {
    pub(super) fn advance_mailbox(&mut self) -> Result<Option<Ask>, Error> {
        let Some(account) = self.stored_account()? else {
            return Ok(None);
        };
        if account.stage == Stage::Registering {
            return Ok(self.ask_register(&account));
        }
        if account.stage == Stage::MakingMailbox && self.awaits_first_tokens()? {
            self.wake.push(Task::Tokens);
            return Ok(None);
        }
        let Some(errand) = self.next_errand(&account)? else {
            return Ok(None);
        };
        let to = address(&account.delivery);
        let Some(nonce) = self.session.nonce(&Task::Mailbox, self.now) else {
            let call = match errand {
                Errand::Stock | Errand::Count => Call::ShelfNonce(NonceRequest {}),
                _ => Call::MailboxNonce(NonceRequest {}),
            };
            return Ok(Some(Ask {
                to,
                call,
                asked: Asked::Nonce,
            }));
        };
        Ok(match errand {
            Errand::Create => {
                let mut request = CreateMailboxRequest {
                    owner_key: account.owner.0.public().into(),
                    nonce: nonce.clone(),
                    ..Default::default()
                };
                let content = request.owner_content();
                request.proof = proof(&account, Method::CreateMailbox, &nonce, content).to_vec();
                Some(Ask {
                    to,
                    call: Call::CreateMailbox(request),
                    asked: Asked::CreateMailbox,
                })
            }
            Errand::Stock => self.ask_stock(&account, &nonce)?,
            Errand::Acknowledge => {
                let through = account.collected;
                let mut request = AcknowledgeRequest {
                    owner: None,
                    through,
                };
                request.owner = Some(owner(&account, Method::Acknowledge, &nonce, &request));
                let call = Call::Acknowledge(request);
                Some(Ask {
                    to,
                    call,
                    asked: Asked::Acknowledge(through),
                })
            }
            Errand::Collect => {
                let after = account.collected;
                let mut request = CollectRequest { owner: None, after };
                request.owner = Some(owner(&account, Method::Collect, &nonce, &request));
                Some(Ask {
                    to,
                    call: Call::Collect(request),
                    asked: Asked::Collect(after),
                })
            }
            Errand::Count => Some(self.ask_count(&account, &nonce)),
        })
    }

    fn next_errand(&self, account: &AccountRow) -> Result<Option<Errand>, Error> {
        Ok(if account.stage == Stage::MakingMailbox {
            Some(Errand::Create)
        } else if self.has_unstocked()? {
            Some(Errand::Stock)
        } else if account.acknowledged < account.collected {
            Some(Errand::Acknowledge)
        } else if self.session.collect {
            Some(Errand::Collect)
        } else if self.session.count {
            Some(Errand::Count)
        } else {
            None
        })
    }

    /// Envelopes become rows; what does not open is nothing to us.
    pub(super) fn collected(&mut self, after: u64, answer: &CollectResponse) -> Result<(), Error> {
        let Some(mut account) = self.stored_account()? else {
            return Ok(());
        };
        self.session.collect = answer.more && !answer.envelopes.is_empty();
        if account.collected != after {
            return Ok(());
        }
        for envelope in &answer.envelopes {
            if envelope.number <= account.collected {
                continue;
            }
            account.collected = envelope.number;
            let version = account.mailbox_key_version;
            let opened = Invitation::open(version, &account.mailbox_key, &envelope.envelope);
            if let Ok(invitation) = opened {
                self.keep_invitation(invitation)?;
            }
        }
        self.put_account(&account)?;
        Ok(())
    }

    /// Makes a row of an invitation, if there is room for it.
    pub(super) fn keep_invitation(&mut self, invitation: Invitation) -> Result<(), Error> {
        let address = invitation.address;
        let kept = self
            .tx
            .scan(Table::Invitations, &[], None, MOST_INVITATIONS)?
            .len();
        let known = self.tx.get(Table::Invitations, address.as_ref())?.is_some();
        if !known && kept < MOST_INVITATIONS {
            let row = InvitationRow {
                version: Version,
                invitation,
                ends: 0,
                next: 0,
                delay: 0,
            };
            rows::put(self.tx, Table::Invitations, address.as_ref(), &row)?;
        }
        self.wake.push(Task::Join(address));
        Ok(())
    }

    pub(super) fn acknowledged(&mut self, through: u64) -> Result<(), Error> {
        if let Some(mut account) = self.stored_account()? {
            account.acknowledged = account.acknowledged.max(through);
            self.put_account(&account)?;
        }
        Ok(())
    }
}
