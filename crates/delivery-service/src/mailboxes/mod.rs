//! Mailboxes: letter boxes for sealed envelopes (DESIGN, "Mailboxes, shelves, blobs, tokens").

pub(crate) mod create;
pub(crate) mod doors;
pub(crate) mod letters;
pub(crate) mod owner;
pub(crate) mod ticket;

use folkmoot_mls::codec::Bytes;
use folkmoot_protocol::keys::PublicKey;

use crate::store::record;

record! {
    /// A mailbox: whose it is and how full.
    MailboxRecord in Mailboxes {
        owner_key: PublicKey,
        /// Of the newest envelope; the first has 1.
        last_number: u64,
        envelopes: u32,
    }
}

record! {
    /// A sealed envelope.
    EnvelopeRecord in Envelopes {
        envelope: Bytes,
    }
}

record! {
    /// A drop ticket, under its hash.
    TicketRecord in Tickets {
        /// Milliseconds since 1970 until which it is good.
        until: u64,
        /// Hash of the envelope that it was used for.
        used_for: Option<[u8; 32]>,
    }
}

record! {
    /// That a mailbox is a door. It is kept when the door is closed, so that nobody makes it again.
    DoorRecord in Doors {
        /// Hash of the standing ticket.
        ticket: [u8; 32],
        closed: bool,
        /// The minute in which something came in last, since 1970.
        minute: u64,
        /// How much came in in that minute.
        drops: u32,
    }
}
