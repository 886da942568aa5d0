//! What a contestant has to be able to do: bytes come in, bytes go out.

use std::fmt::Debug;
use std::path::PathBuf;

/// What went wrong, in which call of which contestant.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{contestant} could not {call}: {error}")]
pub struct Failure {
    contestant: &'static str,
    call: &'static str,
    error: String,
}

impl Failure {
    /// For `map_err`: a failure of this call.
    pub fn at<E: Debug>(contestant: &'static str, call: &'static str) -> impl Fn(E) -> Self + Copy {
        move |error| Self {
            contestant,
            call,
            error: format!("{error:?}"),
        }
    }
}

/// How a contestant is set up.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The file of its SQLite store; without, it keeps its state in memory.
    pub store: Option<PathBuf>,
    /// Whether the Welcomes that it makes leave the tree out.
    pub tree_apart: bool,
    /// Whether it may use two threads.
    pub two_threads: bool,
    /// Whether OpenMLS stores in a compact encoding instead of JSON.
    pub compact: bool,
}

/// What says who a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// A basic credential.
    Basic,
    /// Our own: the Authentication Service signs the user's key, and that signs the leaf's.
    Own,
}

impl CredentialKind {
    /// The name between processes.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Own => "own",
        }
    }

    /// The one with this id.
    #[must_use]
    pub fn of_id(id: &str) -> Option<Self> {
        [Self::Basic, Self::Own]
            .into_iter()
            .find(|kind| kind.id() == id)
    }
}

/// A client of one implementation that is in one group or in none. All handshake messages are
/// PrivateMessages without padding.
pub trait Member: Sized {
    /// The credentials of its groups.
    const CREDENTIAL: CredentialKind = CredentialKind::Basic;

    /// A client with a fresh signature key.
    ///
    /// # Errors
    /// The implementation's.
    fn new(name: &str, options: &Options) -> Result<Self, Failure>;

    /// A fresh KeyPackage, as an MLSMessage.
    ///
    /// # Errors
    /// The implementation's.
    fn key_package(&mut self) -> Result<Vec<u8>, Failure>;

    /// Starts a group of one.
    ///
    /// # Errors
    /// The implementation's.
    fn found(&mut self) -> Result<(), Failure>;

    /// Adds clients by one commit without a path, and merges it: the Welcome, as an MLSMessage.
    ///
    /// # Errors
    /// The implementation's.
    fn add(&mut self, key_packages: &[Vec<u8>]) -> Result<Vec<u8>, Failure>;

    /// Joins a group. The KeyPackage stays, so that the client can join again.
    ///
    /// # Errors
    /// The implementation's.
    fn join(&mut self, welcome: &[u8], tree: Option<&[u8]>) -> Result<(), Failure>;

    /// Makes a commit that renews the own keys, to be merged or discarded.
    ///
    /// # Errors
    /// The implementation's.
    fn commit(&mut self) -> Result<Vec<u8>, Failure>;

    /// Goes on to the epoch of the own commit.
    ///
    /// # Errors
    /// The implementation's.
    fn merge(&mut self) -> Result<(), Failure>;

    /// Gives the own commit up.
    ///
    /// # Errors
    /// The implementation's.
    fn discard(&mut self) -> Result<(), Failure>;

    /// Reads another's commit and goes on to its epoch.
    ///
    /// # Errors
    /// The implementation's.
    fn process(&mut self, commit: &[u8]) -> Result<(), Failure>;

    /// Encrypts an application message.
    ///
    /// # Errors
    /// The implementation's.
    fn encrypt(&mut self, data: &[u8]) -> Result<Vec<u8>, Failure>;

    /// Decrypts an application message of another.
    ///
    /// # Errors
    /// The implementation's.
    fn decrypt(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure>;

    /// Drops the group from memory, opens the store anew and reads the group back from there.
    ///
    /// # Errors
    /// The implementation's; a client without a store cannot.
    fn reopen(&mut self) -> Result<(), Failure>;

    /// The bytes of keys and values that were written to the store since the last call.
    fn written(&mut self) -> u64;

    /// What all members of an epoch have in common, to compare.
    ///
    /// # Errors
    /// The implementation's.
    fn authenticator(&self) -> Result<Vec<u8>, Failure>;
}
