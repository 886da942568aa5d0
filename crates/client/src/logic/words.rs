//! What the logic is asked and told, and what it asks and tells: the language between it and whoever runs it.

use folkmoot_credential::{Domain, LinkMode, Name, UserId};
use folkmoot_mls::codec::{Decode, DecodeError, Encode, Reader};
use folkmoot_mls::tls_enum;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::door::Link;
use folkmoot_protocol::ids::LogId;

use crate::error::Error;
use crate::history::HistoryEntry;
use crate::transport::{ServiceAddress, TransportError};

/// Names a call that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names something that the user wants done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(pub u64);

impl Encode for IntentId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for IntentId {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::decode(reader).map(Self)
    }
}

tls_enum! {
    /// Where we stand in a conversation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum Standing: u8 {
        /// Its log is not open yet.
        Opening = 1,
        /// We are a member.
        Member = 2,
        /// We were removed. What was said before stays.
        Removed = 3,
        /// Somebody broke the rules, and we follow no further.
        Stopped = 4,
        /// We left. What was said before stays.
        Left = 5,
        /// We were away for longer than the service keeps entries: what was said before stays, and
        /// somebody has to add us again.
        Behind = 6,
    }
}

/// Something that the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// An account.
    Register {
        /// The name.
        name: Name,
        /// The domain.
        domain: Domain,
        /// Its Authentication Service.
        authentication: ServiceAddress,
        /// Its Delivery Service.
        delivery: ServiceAddress,
    },
    /// A conversation.
    New {
        /// What it is called.
        title: String,
        /// Who else is in it.
        users: Vec<String>,
    },
    /// More users.
    Add {
        /// Where.
        log: LogId,
        /// Who.
        users: Vec<String>,
    },
    /// Fewer users.
    Remove {
        /// Where.
        log: LogId,
        /// Who.
        users: Vec<String>,
    },
    /// New keys of our own.
    Update {
        /// Where.
        log: LogId,
    },
    /// To be a member no more.
    Leave {
        /// Where.
        log: LogId,
    },
    /// A message.
    Send {
        /// Where.
        log: LogId,
        /// What it is.
        media_type: String,
        /// What it says.
        content: Vec<u8>,
    },
    /// A link at which people outside can knock, or none.
    Link {
        /// Where.
        log: LogId,
        /// Who answers; `None`: there is to be no link.
        mode: Option<LinkMode>,
    },
    /// To be let in.
    Knock {
        /// Where.
        link: Box<Link>,
        /// Whether this is our only device: it takes the place of others that we had.
        only_device: bool,
    },
    /// To let somebody in who knocked.
    Accept {
        /// Where.
        log: LogId,
        /// Whom.
        user: String,
    },
    /// Not to.
    Decline {
        /// Where.
        log: LogId,
        /// Whom.
        user: String,
    },
    /// Everything that is new.
    Sync,
    /// Whatever comes in a conversation, as it comes, as long as this process runs.
    Follow {
        /// Where.
        log: LogId,
    },
}

/// What happened outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The user wants something.
    Intent(Intent),
    /// A service answered.
    Answer {
        /// To which call.
        id: CallId,
        /// What.
        result: Result<Answer, Refusal>,
    },
    /// A service answered in part; more will come, or an [`Input::Answer`] that ends it.
    Part {
        /// To which call.
        id: CallId,
        /// What.
        answer: Answer,
    },
    /// A call has no answer. It may have reached the service, or not.
    Unanswered {
        /// Which.
        id: CallId,
        /// Why.
        error: TransportError,
    },
    /// Go on with everything that is not done, also what was blocked.
    Resume,
    /// Time has passed: go on with what was to wait for it.
    Tick,
}

/// What is to be done outside, after the transaction is durable.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "outputs are few and short-lived")]
pub enum Output {
    /// Ask a service, and give the answer back as an [`Input`]. The answer to a read that follows
    /// comes in parts.
    Call {
        /// Names the call.
        id: CallId,
        /// Whom.
        to: ServiceAddress,
        /// What.
        call: Call,
    },
    /// A call whose answer comes in parts is to be given up.
    HangUp {
        /// Which.
        id: CallId,
    },
    /// Tell the user.
    Event(Event),
    /// Give [`Input::Tick`] at this time, milliseconds since 1970.
    Wait {
        /// When.
        until: u64,
        /// What for.
        pause: Pause,
    },
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// A service asked to be asked again later.
    Service,
    /// Our turn to commit what others have proposed. Nobody who does not care for it has to wait: it
    /// comes up again.
    Turn,
    /// A stream is to be begun again. Nobody has to wait for that.
    Stream,
}

/// What takes long when many are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doing {
    /// Users are looked up.
    LookingUp,
    /// Their key packages are taken.
    Taking,
    /// They are invited.
    Inviting,
    /// The commit goes up.
    Uploading,
}

/// Something to tell the user.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The wish is kept; it has this name.
    Started {
        /// Which.
        intent: IntentId,
    },
    /// The wish is fulfilled.
    Done {
        /// Which.
        intent: IntentId,
    },
    /// The wish is given up.
    Failed {
        /// Which.
        intent: IntentId,
        /// Why.
        error: Error,
    },
    /// Something that takes long is so far.
    Progress {
        /// Which wish it is for.
        intent: IntentId,
        /// What is being done.
        doing: Doing,
        /// How much of it.
        done: usize,
        /// How much there is.
        of: usize,
    },
    /// Something has to wait. It is kept.
    Blocked {
        /// Why.
        error: Error,
    },
    /// A conversation has a new line.
    News {
        /// Which conversation.
        log: LogId,
        /// What it is called.
        title: String,
        /// The line.
        entry: HistoryEntry,
    },
    /// Somebody knocked, and a person has to answer.
    Knocked {
        /// Which conversation.
        log: LogId,
        /// What it is called.
        title: String,
        /// Who.
        user: UserId,
    },
    /// A conversation has another link than before: the old one is no longer good.
    NewLink {
        /// Which conversation.
        log: LogId,
        /// What it is called.
        title: String,
    },
    /// An invitation led to nothing.
    Uninvited {
        /// Who invited, as the invitation claims.
        inviter: String,
        /// Why.
        reason: String,
    },
    /// We were away from a conversation for longer than the service keeps entries.
    Behind {
        /// Which conversation.
        log: LogId,
        /// What it is called.
        title: String,
    },
    /// A conversation stopped, for this reason.
    Stopped {
        /// Which conversation.
        log: LogId,
        /// What it is called.
        title: String,
        /// Why.
        reason: String,
    },
}
