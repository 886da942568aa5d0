//! Drop tickets: each lets one envelope into one mailbox, within seven days.
//!
//! Only a ticket's hash is stored. The ticket itself is derived from the service's key and from
//! the take that it belongs to, so that a repeated take gets the same ticket again.

use folkmoot_protocol::ids::MailboxId;
use folkmoot_protocol::keys::{SigningKey, hash};
use folkmoot_protocol::limits::TICKET_DAYS;
use zeroize::Zeroizing;

/// Milliseconds of a day.
pub(crate) const DAY: u64 = 24 * 60 * 60 * 1000;

/// Milliseconds that a ticket is good for.
pub(crate) const LIFETIME: u64 = TICKET_DAYS * DAY;

/// Derives tickets.
#[derive(Clone)]
pub(crate) struct TicketKey(Zeroizing<[u8; 32]>);

impl TicketKey {
    /// The key of a service, the same after a restart.
    pub(crate) fn of(service: &SigningKey) -> Self {
        Self(Zeroizing::new(hash("ticket key", &**service.seed())))
    }

    /// The ticket for a mailbox that belongs to a take, named by its hash, made at `now`.
    ///
    /// A hash over key and content is a MAC here, since all contents have the same length.
    pub(crate) fn ticket(&self, mailbox: MailboxId, take: [u8; 32], now: u64) -> [u8; 32] {
        hash("ticket", &((*self.0, mailbox), (take, now)))
    }
}

/// What is stored of a ticket.
pub(crate) fn stored(ticket: &[u8; 32]) -> [u8; 32] {
    hash("ticket hash", ticket)
}
