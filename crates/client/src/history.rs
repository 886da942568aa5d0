//! What was said and what happened in a conversation, as it is kept and shown.

use folkmoot_credential::{UserId, Version};
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::{tls_enum, tls_struct};
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::plaintext::MessageId;

use crate::text::Text;

/// A place in a conversation's history: the entry of the log, and what of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryPosition {
    /// The entry's sequence number.
    pub sequence: u64,
    /// The number within the entry: a commit can do several things.
    pub part: u32,
}

tls_struct! {
    /// One line of a conversation's history.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct HistoryEntry {
        /// 1.
        pub version: Version,
        /// The sequence number of the entry in the log.
        pub sequence: u64,
        /// The number within the entry.
        pub part: u32,
        /// The DS's time of the entry, milliseconds since 1970.
        pub time: u64,
        /// The epoch in which it was written; of a commit, the one that it made.
        pub epoch: u64,
        /// What it is.
        pub what: What,
    }
}

impl HistoryEntry {
    /// Its place.
    #[must_use]
    pub fn position(&self) -> HistoryPosition {
        HistoryPosition {
            sequence: self.sequence,
            part: self.part,
        }
    }
}

tls_enum! {
    /// What was said or happened.
    #[derive(Clone, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum What: u8 {
        /// Somebody said something.
        Message(Message) = 1,
        /// The conversation began, with us.
        Created(Founded) = 2,
        /// Somebody added us; what was before is not ours to read.
        Joined(Change) = 3,
        /// Somebody was added.
        Added(Change) = 4,
        /// Somebody was removed; perhaps we.
        Removed(Change) = 5,
        /// Somebody renewed their keys.
        Updated(Update) = 6,
        /// A new epoch began.
        Epoch(Epoch) = 7,
        /// Something that cannot be read: whoever wrote it is to blame.
        Unreadable(Unreadable) = 8,
        /// A member saw another log than we did: the DS has shown us different ones.
        Contradiction(Contradiction) = 9,
        /// Somebody left; perhaps we.
        Left(Update) = 10,
        /// The DS has signed two different logs. What it signed is kept.
        TwoLogs(TwoLogs) = 11,
        /// A commit that cannot be followed. It is kept as evidence.
        Invalid(Invalid) = 16,
        /// Somebody could not open a commit that the others followed, and was added again.
        Unopened(Unopened) = 17,
        /// A device of somebody's took the place of what was there of them.
        Replaced(Change) = 12,
        /// Somebody whom we wanted to add could not be added; the others were.
        LeftOut(LeftOut) = 13,
    }
}

tls_struct! {
    /// A message.
    #[derive(Clone, PartialEq, Eq)]
    pub struct Message {
        /// Who said it.
        pub sender: UserId,
        /// From which device.
        pub device: PublicKey,
        /// Whether it was we.
        pub own: bool,
        /// Its random id.
        pub id: MessageId,
        /// What the content is.
        pub media_type: Text,
        /// What was said.
        pub content: Bytes,
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("sender", &self.sender)
            .field("media_type", &self.media_type)
            .field("content", &self.content.len())
            .finish_non_exhaustive()
    }
}

tls_struct! {
    /// A beginning.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Founded {
        /// Who began it.
        pub by: UserId,
        /// What the conversation is called.
        pub title: Text,
    }
}

tls_struct! {
    /// Somebody did something to somebody.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Change {
        /// Who did it.
        pub by: UserId,
        /// To whom.
        pub user: UserId,
    }
}

tls_struct! {
    /// Somebody whom we wanted to add, and could not.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LeftOut {
        /// Who.
        pub user: UserId,
        /// Which of their devices, if others of theirs could be added.
        pub device: Option<PublicKey>,
        /// Why.
        pub reason: Text,
    }
}

tls_struct! {
    /// Somebody did something to themselves.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Update {
        /// Who.
        pub by: UserId,
    }
}

tls_struct! {
    /// An epoch.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Epoch {
        /// Its number.
        pub number: u64,
        /// What members can compare out of band: it is the same for all who agree.
        pub authenticator: Bytes,
    }
}

tls_struct! {
    /// An entry that cannot be read.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Unreadable {
        /// Why.
        pub reason: Text,
    }
}

tls_struct! {
    /// A commit that cannot be followed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Invalid {
        /// Who made it, if that is proven: by the signature in it or, where the group names committers,
        /// by the one beside it.
        pub by: Option<UserId>,
        /// Why.
        pub reason: Text,
        /// Whether others may be able to follow it.
        pub cut_off: bool,
    }
}

tls_struct! {
    /// A report of a commit that did not open. When two people say it of one commit, whoever made it is
    /// removed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Unopened {
        /// Who says so.
        pub user: UserId,
        /// Who made the commit, if that is known here, and they are still a member.
        pub by: Option<UserId>,
    }
}

tls_struct! {
    /// A difference between two members' logs.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Contradiction {
        /// Whose log differs from ours.
        pub with: UserId,
        /// From which entry on, at the latest.
        pub sequence: u64,
    }
}

tls_struct! {
    /// A log that is not the one that the same service has signed before.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TwoLogs {
        /// Up to which entry the other log was signed.
        pub sequence: u64,
    }
}
