//! What the services and their clients say to each other.
//!
//! Two layers, never mixed:
//!
//! - **Envelopes** are protobuf over gRPC ([`delivery`], [`authentication`]), compiled from the
//!   `.proto` files of this crate. They carry fields from here to there and nothing more.
//! - **Statements** are TLS-encoded structures that begin with a version. Everything that is
//!   signed, hashed or compared is one: [`log`] (entries, chain, heads), [`proof`] (who may do what),
//!   [`mailbox`] (mailboxes and shelves), [`blob`] (attachments), [`invitation`] (what members seal for each other, with
//!   [`sealed`]), [`door`] (links, and how who is outside knocks), [`plaintext`] (what they say to each
//!   other), those of the crate `credential`, which [`directory`] reads, and the anonymous tokens that
//!   pay for requests ([`token`]).
//!
//! [`call`] lists every call of both services once, typed, so that a state machine can ask and answer
//! without knowing what carries its words. A refusal is a [`Refusal`], the same in a gRPC status and in a test without any network.

pub mod blob;
pub mod call;
mod codec;
pub mod directory;
pub mod door;
pub mod fence;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod ids;
pub mod invitation;
pub mod log;
pub mod mailbox;
pub mod plaintext;
pub mod proof;
pub mod rate;
mod refusal;
pub mod sealed;
#[cfg(feature = "tap")]
pub mod tap;
pub mod token;
pub mod well_known;

pub use folkmoot_credential::keys;
pub use refusal::{Conflict, PaymentFault, Refusal};

/// The Delivery Service's messages and, with gRPC, its clients and servers.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated; the .proto file is the documentation"
)]
pub mod delivery {
    include!(concat!(env!("OUT_DIR"), "/folkmoot.delivery.v1.rs"));
}

/// The Authentication Service's messages and, with gRPC, its clients and servers.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated; the .proto file is the documentation"
)]
pub mod authentication {
    include!(concat!(env!("OUT_DIR"), "/folkmoot.authentication.v1.rs"));
}

/// The encoded form of a [`Refusal`].
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated; the .proto file is the documentation"
)]
pub mod refusal_v1 {
    include!(concat!(env!("OUT_DIR"), "/folkmoot.refusal.v1.rs"));
}

/// The version that every statement of this crate begins with.
pub const VERSION: u16 = 1;

/// Bounds that both sides keep (DESIGN's parameters), in bytes unless said.
pub mod limits {
    /// An application message.
    pub const APPLICATION_MESSAGE: usize = 1 << 20;
    /// A commit or proposal.
    pub const HANDSHAKE_MESSAGE: usize = 64 << 20;
    /// One joiner's sealed part of a Welcome.
    pub const OWN_PART: usize = 4096;
    /// The sealed shared part of a Welcome, while it travels inside the append.
    pub const SHARED_PART: usize = 16 << 20;
    /// An envelope dropped into a mailbox.
    pub const ENVELOPE: usize = 16 << 10;
    /// A sealed KeyPackage.
    pub const PACKAGE: usize = 16 << 10;
    /// One gRPC message.
    pub const REQUEST: usize = 72 << 20;
    /// Fields of one request, answer or batch of a read, not bytes; the elements of a repeated one count each. The largest
    /// commit has 50,000 parts of a Welcome.
    pub const FIELDS: usize = 50_100;
    /// Bytes of entries in one batch of a read, unless a single entry is larger. A slow reader holds
    /// one of them.
    pub const READ_BATCH: usize = 256 << 10;
    /// Bytes of envelopes in one answer to their owner.
    pub const COLLECT_BATCH: usize = 1 << 20;
    /// Logs in one read.
    pub const LOGS_PER_READ: usize = 1000;
    /// Mailboxes in one take.
    pub const MAILBOXES_PER_TAKE: usize = 1000;
    /// Welcome parts in one commit.
    pub const PICKUPS_PER_COMMIT: usize = 50_000;
    /// Reads of one service that follow their logs, at the same time.
    pub const STREAMS: usize = 4096;
    /// Logs that all of them follow together.
    pub const LOGS_FOLLOWED: usize = 200_000;
    /// Milliseconds after which a stream shows a log's signed head again although there is no news:
    /// less than a minute, which is what readers count on.
    pub const HEAD_EVERY_MS: u64 = 50_000;
    /// Commits after which the messages of an epoch are refused.
    pub const PAST_EPOCHS: u64 = 5;
    /// Milliseconds after the end of an epoch, by the service's clock, in which its messages are
    /// still taken.
    pub const PAST_EPOCH_MS: u64 = 60_000;
    /// Proposals in one epoch; beyond, a commit has to come first.
    pub const PROPOSALS_PER_EPOCH: u32 = 1000;
    /// Commits after one parent, the first one included.
    pub const CANDIDATES: u32 = 1000;
    /// So many of them come as fast as they come; then one each [`CANDIDATE_EVERY_MS`].
    pub const CANDIDATES_AT_ONCE: u32 = 16;
    /// Milliseconds between the later ones.
    pub const CANDIDATE_EVERY_MS: u64 = 10_000;
    /// Committer keys of one log.
    pub const COMMITTERS: usize = 64;
    /// Leaves above which a group names committers.
    pub const LEAVES_WITHOUT_COMMITTERS: usize = 64;
    /// Entries that a branch of a log holds. A commit may go beyond by an eighth, so that a group can
    /// remove whoever has filled its log.
    pub const LOG_ENTRIES: u64 = 1_000_000;
    /// Bytes that a branch of a log holds, Welcomes included; the same for commits.
    pub const LOG_BYTES: u64 = 4 << 30;
    /// Seconds between commits that a commit may ask for at most, so that one member cannot shut a
    /// log.
    pub const COMMIT_INTERVAL_SECONDS: u32 = 3600;
    /// Milliseconds after which a commit must have seen a proposal.
    pub const UNSEEN_AFTER_MS: u64 = 2000;
    /// Envelopes in one mailbox.
    pub const ENVELOPES_PER_MAILBOX: u32 = 1000;
    /// Envelopes at one door.
    pub const ENVELOPES_PER_DOOR: u32 = 200;
    /// Envelopes that come in at one door in a minute.
    pub const DOOR_DROPS_PER_MINUTE: u32 = 30;
    /// KeyPackages on one shelf, and in one request about it.
    pub const PACKAGES_PER_SHELF: usize = 1000;
    /// Bytes of the random name of a take.
    pub const REQUEST_ID: core::ops::RangeInclusive<usize> = 16..=64;
    /// A blob.
    pub const BLOB: u64 = 256 << 20;
    /// A chunk of a blob. All have this size but the last.
    pub const BLOB_CHUNK: u64 = 1 << 20;
    /// Bytes in one part of a download.
    pub const BLOB_PART: u64 = 128 << 10;
    /// Days that a blob is kept, at most.
    pub const BLOB_DAYS: u64 = 30;
    /// Hours that an upload may take.
    pub const BLOB_UPLOAD_HOURS: u64 = 24;
    /// Seconds that a nonce is good for.
    pub const NONCE_SECONDS: u64 = 60;
    /// Days for which a service keeps entries, unless its operator says otherwise.
    pub const RETENTION_DAYS: u64 = 30;
    /// Days that a drop ticket is good for.
    pub const TICKET_DAYS: u64 = 7;
}
