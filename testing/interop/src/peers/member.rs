//! What the driver asks of a member, whichever implementation it is. All messages are encoded
//! `MLSMessage`s, all trees encoded `ratchet_tree`s.

use std::fmt;

use folkmoot_mls::codec::{Decode, DecodeError};
use folkmoot_mls::extension::{Extension, ExtensionType, Extensions};
use folkmoot_mls::group_context::GroupContext;
use folkmoot_mls::message::MlsMessage;

/// An implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Folkmoot.
    Ours,
    /// OpenMLS.
    OpenMls,
    /// mls-rs.
    MlsRs,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ours, Self::OpenMls, Self::MlsRs];
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ours => "Folkmoot",
            Self::OpenMls => "OpenMLS",
            Self::MlsRs => "mls-rs",
        })
    }
}

/// A call of a peer that failed, as the peer tells it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{peer} could not {call}: {detail}")]
pub struct PeerError {
    /// Whose call.
    pub peer: Peer,
    /// Which call.
    pub call: &'static str,
    /// The peer's own error.
    pub detail: String,
}

impl PeerError {
    /// Names the call in which a peer's error came up.
    pub(super) fn at<E: fmt::Debug>(peer: Peer, call: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self {
            peer,
            call,
            detail: format!("{error:?}"),
        }
    }

    /// A call that the peer has no API for.
    pub(super) fn missing(peer: Peer, call: &'static str) -> Self {
        Self {
            peer,
            call,
            detail: "there is no such call".to_string(),
        }
    }
}

/// An extension: its type and its content.
pub type RawExtension = (u16, Vec<u8>);

/// An extension type that all members list among their capabilities.
pub const CUSTOM_EXTENSION: u16 = 0xf0a1;

/// What is alike for all members of one group.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cipher suite.
    pub suite: u16,
    /// Whether proposals and commits of members are PublicMessages.
    pub public_handshakes: bool,
    /// Whether PrivateMessages are padded.
    pub padding: bool,
}

/// What a proposal proposes.
#[derive(Clone, Debug)]
pub enum Change {
    /// Add the owner of a KeyPackage.
    Add(Vec<u8>),
    /// Remove a leaf.
    Remove(u32),
    /// Renew the proposer's own leaf.
    Update,
    /// Mix an external PSK in.
    ExternalPsk(Vec<u8>),
    /// Mix this group's resumption PSK of an epoch in.
    ResumptionPsk(u64),
    /// Replace the GroupContext's extensions.
    Extensions(Vec<RawExtension>),
    /// Close the group, to be followed by another.
    ReInit(NextGroup),
    /// Remove the proposer (draft-ietf-mls-extensions, SelfRemove).
    SelfRemove,
}

/// The group that follows another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextGroup {
    /// Its id.
    pub group_id: Vec<u8>,
    /// Its cipher suite.
    pub suite: u16,
    /// Its extensions.
    pub extensions: Vec<RawExtension>,
}

/// A commit to make. It takes in all pending proposals.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Proposals by value.
    pub changes: Vec<Change>,
    /// Whether to leave the path out.
    pub without_path: bool,
    /// Whether the Welcome has no tree.
    pub tree_apart: bool,
    /// Whether to take a new signature key.
    pub new_signature_key: bool,
    /// What it says in clear.
    pub authenticated_data: Vec<u8>,
}

/// A commit that was made and waits.
#[derive(Clone, Debug)]
pub struct Committed {
    /// For the members.
    pub commit: Vec<u8>,
    /// For those added.
    pub welcome: Option<Vec<u8>>,
}

/// What a message turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Application data and what came with it in clear.
    Application {
        /// The sender's leaf.
        sender: u32,
        /// What it says.
        data: Vec<u8>,
        /// What it says in clear.
        authenticated_data: Vec<u8>,
    },
    /// A proposal.
    Proposal,
    /// A commit that began a new epoch.
    Commit,
    /// A commit that removed us.
    Removed,
}

/// What a member sees of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The encoded GroupContext.
    pub context: Vec<u8>,
    /// The epoch in it.
    pub epoch: u64,
    /// The GroupContext's extensions.
    pub extensions: Vec<RawExtension>,
    /// Leaf, identity and signature key of all members.
    pub members: Vec<(u32, Vec<u8>, Vec<u8>)>,
    /// The epoch authenticator.
    pub epoch_authenticator: Vec<u8>,
    /// An exported secret.
    pub exported: Vec<u8>,
}

impl View {
    /// A view of the group with this encoded GroupContext.
    ///
    /// # Errors
    /// [`DecodeError`] if the GroupContext cannot be read.
    pub fn new(
        context: Vec<u8>,
        mut members: Vec<(u32, Vec<u8>, Vec<u8>)>,
        epoch_authenticator: Vec<u8>,
        exported: Vec<u8>,
    ) -> Result<Self, DecodeError> {
        let decoded = GroupContext::from_bytes(&context)?;
        members.sort();
        Ok(Self {
            context,
            epoch: decoded.epoch,
            extensions: decoded
                .extensions
                .iter()
                .map(|e| (e.extension_type.0, e.extension_data.to_vec()))
                .collect(),
            members,
            epoch_authenticator,
            exported,
        })
    }
}

/// Extensions as our engine encodes them.
#[must_use]
pub fn raw_extensions(list: &[RawExtension]) -> Extensions {
    list.iter()
        .map(|(kind, data)| Extension {
            extension_type: ExtensionType(*kind),
            extension_data: data.as_slice().into(),
        })
        .collect()
}

/// The GroupContext of an encoded GroupInfo.
///
/// # Errors
/// [`DecodeError`] if it is none.
pub fn group_context(group_info: &[u8]) -> Result<GroupContext, DecodeError> {
    match MlsMessage::from_bytes(group_info)? {
        MlsMessage::GroupInfo(group_info) => Ok(group_info.group_context),
        _ => Err(DecodeError::InvalidValue("wire_format")),
    }
}

/// One client of some implementation, in at most one group (and on its way to that group's successor).
pub trait Member {
    /// The implementation.
    fn peer(&self) -> Peer;

    /// Starts a group.
    ///
    /// # Errors
    /// The peer's.
    fn create(&mut self, group_id: &[u8], extensions: &[RawExtension]) -> Result<(), PeerError>;

    /// A KeyPackage.
    ///
    /// # Errors
    /// The peer's.
    fn key_package(&mut self) -> Result<Vec<u8>, PeerError>;

    /// Joins by a Welcome.
    ///
    /// # Errors
    /// The peer's.
    fn join(&mut self, welcome: &[u8], tree: Option<&[u8]>) -> Result<(), PeerError>;

    /// Joins by an external commit, which is returned and taken to be accepted. `resync` is our old leaf,
    /// which the commit removes.
    ///
    /// # Errors
    /// The peer's.
    fn join_external(
        &mut self,
        group_info: &[u8],
        tree: Option<&[u8]>,
        resync: Option<u32>,
        psk: Option<&[u8]>,
    ) -> Result<Vec<u8>, PeerError>;

    /// Asks to be added, from outside of the group.
    ///
    /// # Errors
    /// The peer's.
    fn propose_join(&mut self, group_info: &[u8], tree: &[u8]) -> Result<Vec<u8>, PeerError>;

    /// Has an external PSK from now on.
    ///
    /// # Errors
    /// The peer's.
    fn add_psk(&mut self, id: &[u8], secret: &[u8]) -> Result<(), PeerError>;

    /// Proposes a change.
    ///
    /// # Errors
    /// The peer's.
    fn propose(&mut self, change: &Change) -> Result<Vec<u8>, PeerError>;

    /// Makes a commit, to be merged or discarded.
    ///
    /// # Errors
    /// The peer's.
    fn commit(&mut self, plan: &Plan) -> Result<Committed, PeerError>;

    /// Merges the own commit.
    ///
    /// # Errors
    /// The peer's.
    fn merge(&mut self) -> Result<(), PeerError>;

    /// Gives the own commit up.
    ///
    /// # Errors
    /// The peer's.
    fn discard(&mut self) -> Result<(), PeerError>;

    /// Reads a message.
    ///
    /// # Errors
    /// The peer's.
    fn process(&mut self, message: &[u8]) -> Result<Event, PeerError>;

    /// Encrypts application data.
    ///
    /// # Errors
    /// The peer's.
    fn encrypt(&mut self, data: &[u8], authenticated_data: &[u8]) -> Result<Vec<u8>, PeerError>;

    /// A GroupInfo that allows external commits.
    ///
    /// # Errors
    /// The peer's.
    fn group_info(&mut self, with_tree: bool) -> Result<Vec<u8>, PeerError>;

    /// The ratchet tree.
    ///
    /// # Errors
    /// The peer's.
    fn tree(&self) -> Result<Vec<u8>, PeerError>;

    /// What it sees of its group.
    ///
    /// # Errors
    /// The peer's.
    fn view(&self) -> Result<View, PeerError>;

    /// Our own leaf.
    fn own_leaf(&self) -> u32;

    /// Our signature key.
    fn signature_key(&self) -> Vec<u8>;

    /// Forgets everything but what was stored.
    ///
    /// # Errors
    /// The peer's.
    fn restart(&mut self) -> Result<(), PeerError>;

    /// The secret of a component by the safe exporter (draft-ietf-mls-extensions).
    ///
    /// # Errors
    /// The peer's.
    fn safe_export(&mut self, component: u16) -> Result<Vec<u8>, PeerError>;

    /// A KeyPackage for the group that follows this one.
    ///
    /// # Errors
    /// The peer's.
    fn successor_key_package(
        &mut self,
        next: &NextGroup,
        branch: bool,
    ) -> Result<Vec<u8>, PeerError>;

    /// Starts the group that follows this one, after a ReInit or as a branch, and gives the Welcome.
    /// From then on, this is the member's group.
    ///
    /// # Errors
    /// The peer's.
    fn start_successor(
        &mut self,
        next: &NextGroup,
        branch: bool,
        key_packages: &[Vec<u8>],
    ) -> Result<Vec<u8>, PeerError>;

    /// Joins the group that follows this one. From then on, this is the member's group.
    ///
    /// # Errors
    /// The peer's.
    fn join_successor(&mut self, branch: bool, welcome: &[u8]) -> Result<(), PeerError>;
}
