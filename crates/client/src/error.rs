//! What can go wrong, in one clear line that says what to do.

use folkmoot_credential::{IdentityError, InvalidUserId, UserId};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::door::LinkError;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::sealed::SealError;

use crate::store::StoreError;
use crate::transport::TransportError;

/// Why something was not done. Unless said otherwise nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Our own house.
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine refused something of our own making, or a stored record is damaged.
    #[error("the group's state cannot be used: {0}; nothing was changed")]
    Engine(#[from] folkmoot_mls::error::Error),

    // What the user asked for.
    /// There is no account in this home.
    #[error("nobody is registered in this home: run `register` first")]
    NotRegistered,
    /// There is an account, of this user.
    #[error("{0} is registered in this home already; use another home for another user")]
    AlreadyRegistered(UserId),
    /// The account is not ready: its registration has to be finished first.
    #[error("the registration of {0} is not finished: run `register` again")]
    RegistrationUnfinished(UserId),
    /// The text is no user's name.
    #[error(transparent)]
    InvalidUser(#[from] InvalidUserId),
    /// The text is no title.
    #[error("a title has 1 to 256 bytes and no control characters")]
    InvalidTitle,
    /// A conversation of ours has this title.
    #[error("there is a conversation '{0}' already: choose another title")]
    TitleTaken(String),
    /// The text is no media type.
    #[error("a media type has 1 to 127 printable ASCII characters, such as text/plain")]
    InvalidMediaType,
    /// The message is too long.
    #[error("the message has {length} bytes; {most} are the most")]
    TooLong {
        /// What it has.
        length: usize,
        /// What it may have.
        most: usize,
    },
    /// No conversation has this title or id.
    #[error("there is no conversation '{0}' here: `groups` lists them, `sync` fetches invitations")]
    UnknownConversation(String),
    /// Several conversations have this title or beginning of the id.
    #[error("'{0}' names several conversations: give the id that `groups` shows")]
    AmbiguousConversation(String),
    /// We are no member any more.
    #[error("we were removed from '{0}': what was said before can be read, nothing can be sent")]
    NoLongerMember(String),
    /// We left.
    #[error("you left '{0}': what was said before can be read, nothing can be sent")]
    Left(String),
    /// We were away for longer than the service keeps entries.
    #[error(
        "we were away from '{0}' for so long that its log no longer reaches back to where we stopped: \
         somebody has to remove us and add us again"
    )]
    Behind(String),
    /// We asked to leave: nothing more is sent.
    #[error("you are leaving '{0}': it is done as soon as another member is online")]
    Leaving(String),
    /// Another member proposed our removal: messages wait until the others have decided.
    #[error(
        "somebody has proposed to remove you from '{0}': messages wait for the others to decide"
    )]
    RemovalProposed(String),
    /// The conversation stopped, since somebody broke the rules.
    #[error("'{title}' is stopped: {reason}")]
    Stopped {
        /// Which.
        title: String,
        /// Why.
        reason: String,
    },
    /// Only some members may commit here, and we are none of them.
    #[error("in '{0}' only committers can do this: ask one of them, or wait until you are one")]
    NotCommitter(String),
    /// Nobody was named.
    #[error("name at least one user")]
    NobodyNamed,
    /// The user is a member.
    #[error("{0} is a member already")]
    AlreadyMember(UserId),
    /// The user is none.
    #[error("{0} is no member")]
    NotMember(UserId),
    /// The text is no link.
    #[error(transparent)]
    InvalidLink(#[from] LinkError),
    /// The link leads to a conversation of ours.
    #[error("the link leads to '{0}', where you are a member")]
    OwnLink(String),
    /// There is no link.
    #[error("'{0}' has no link: `invite --link` makes one")]
    NoLink(String),
    /// Nobody of this name has knocked.
    #[error("{0} has not knocked, or somebody has answered: `sync` shows who is in")]
    NoKnock(UserId),
    /// The user named itself.
    #[error("this cannot be done to oneself; another member has to")]
    Oneself,
    /// The user belongs to a domain that this client cannot look up yet.
    #[error("{0} belongs to another domain, which cannot be looked up yet")]
    OtherDomain(UserId),

    // What others did.
    /// The link leads nowhere.
    #[error("the link is no longer good: ask for the current one")]
    DeadLink,
    /// The directory knows no such user.
    #[error("there is no user {0}: check the name; they have to `register` first")]
    UnknownUser(UserId),
    /// The user has no device that can be added.
    #[error("{0} has no device that can be added at this time: ask them to `sync`")]
    NoPackage(UserId),
    /// The user's KeyPackage is not what it should be: the user's device is to blame, or the DS.
    #[error(
        "what the server gave out for {0} is not valid ({1}): ask them to `sync`, then try again"
    )]
    BadPackage(UserId, BadPackage),
    /// There is no mailbox where the directory says, or its key is none: the user's device is to blame,
    /// or a service.
    #[error("{0} has no mailbox that an invitation can be left in: ask them to `sync`")]
    BadMailbox(UserId),
    /// The directory's statement is not valid: the AS is to blame.
    #[error("the directory's answer about {0} is not valid: {1}")]
    BadDirectory(UserId, IdentityError),
    /// A service wants to be paid, and there is nothing to pay with.
    #[error(
        "the server wants a token for this, and none are left: new ones come once a day, and then \
         this goes on"
    )]
    NoTokens,
    /// A service refused.
    #[error("{0}")]
    Refused(Refusal),
    /// A service cannot be reached, or is not the one it should be.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A service answered against the protocol: its operator is to blame.
    #[error("the server broke the protocol: {0}")]
    BadService(BadService),
    /// It could not be done now. It is kept, and done as soon as it can be.
    #[error("{0}; what was asked for is kept, and will be done by the next `sync`")]
    Pending(Box<Error>),
    /// Another process of this home did it, and it failed for this reason.
    #[error("{0}")]
    Elsewhere(String),
    /// It was given up: the log did not take it.
    #[error("the server did not take it although nothing stood against it: try again later")]
    NotTaken,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// How a service broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadService {
    /// An answer of another kind than the question, or with fields that cannot be read.
    #[error("an answer cannot be read")]
    Answer,
    /// A signature of the service does not verify.
    #[error("a receipt or head of {0} is not signed by the server")]
    Signature(LogId),
    /// Entries out of order, twice, or not on the chain.
    #[error("the entries of {0} do not follow each other")]
    Order(LogId),
    /// The log is not what a receipt or head has said.
    #[error("the log {0} is not what the server has signed before")]
    Contradiction(LogId),
    /// Times that it has signed run back.
    #[error("the times that it has signed for {0} run back")]
    Time(LogId),
    /// A log of ours is unknown to the service that holds it, or our key to it.
    #[error("it denies that there is a log {0} that we may read")]
    Denied(LogId),
}

/// What is wrong with a KeyPackage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPackage {
    /// It does not open.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// It cannot be read.
    #[error("it is malformed")]
    Malformed,
    /// Its version, suite, lifetime or last-resort flag is not as declared.
    #[error("it is not what its shelf declares")]
    Undeclared,
    /// A signature does not verify.
    #[error("its signature does not verify")]
    Signature,
    /// It is another device's.
    #[error("it belongs to another device")]
    OtherDevice,
    /// The group does not take it, or another who is added has the same keys.
    #[error("the group does not take it")]
    Unfit,
    /// Too little of its lifetime is left, or it is too long.
    #[error("its lifetime is not acceptable")]
    Lifetime,
}
