//! An append's form: everything that can be checked without knowing the log.

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::{Bytes, Decode};
use folkmoot_mls::framing::ContentType;
use folkmoot_mls::message::MessageHeader;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery::AppendRequest;
use folkmoot_protocol::ids::{EntryId, PickupAddress};
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::limits;
use folkmoot_protocol::log::{Append, CommitDeclaration, part_hash};

use crate::fields::{bound, ensure, malformed, statement};
use crate::sabotage::{Guard, stands};

/// An append of the right form, its sizes within bounds.
pub(crate) struct Parsed {
    pub(super) append: Append,
    pub(super) id: EntryId,
    pub(super) content_type: ContentType,
    pub(super) fence_signature: Bytes,
    pub(super) committer_signature: Bytes,
    /// The committer that signed, once that is checked.
    pub(super) committer: Option<PublicKey>,
    pub(super) shared_part: Bytes,
    pub(super) own_parts: Vec<Bytes>,
    /// Bytes of the encoded append.
    length: usize,
    size: Result<(), Refusal>,
}

impl Parsed {
    /// Reads an append. Whether it is too large is told only by [`Parsed::size`], for a repeated
    /// append is looked up first.
    ///
    /// # Errors
    /// `Malformed`: the writer is to blame.
    pub(crate) fn read(request: AppendRequest) -> Result<Self, Refusal> {
        let append: Append = statement(&request.append, "append")?;
        let content_type = ContentType::from_bytes(&[append.content_type])
            .map_err(|_| malformed("content_type"))?;
        ensure(
            (content_type == ContentType::Commit) == append.commit.is_some(),
            "commit",
        )?;
        ensure(
            append.commit.is_some() || request.committer_signature.is_empty(),
            "committer_signature",
        )?;
        ensure(request.pages.is_empty(), "pages")?;
        match &append.commit {
            Some(commit) => declared_parts(commit, &request)?,
            None => {
                ensure(request.shared_part.is_empty(), "shared_part")?;
                ensure(request.own_parts.is_empty(), "own_parts")?;
            }
        }
        let size = sizes(&append, content_type, &request);
        Ok(Self {
            id: append.id(),
            append,
            length: request.append.len(),
            content_type,
            fence_signature: request.fence_signature.into(),
            committer_signature: request.committer_signature.into(),
            committer: None,
            shared_part: request.shared_part.into(),
            own_parts: request.own_parts.into_iter().map(Bytes::from).collect(),
            size,
        })
    }

    /// Whether message and parts are within their limits.
    ///
    /// # Errors
    /// `TooLarge`.
    pub(super) fn size(&self) -> Result<(), Refusal> {
        self.size.clone()
    }

    /// Bytes that it takes in the store: the append, what it leaves for joiners, a little for keys.
    pub(super) fn weight(&self) -> u64 {
        const KEYS: usize = 256;
        let parts = self.own_parts.iter().map(|part| part.len() + KEYS);
        let all = self.length + self.shared_part.len() + parts.sum::<usize>() + KEYS;
        all as u64
    }

    /// Compares the message's own header, and the parts, with what is declared.
    ///
    /// # Errors
    /// `HeaderMismatch`; `Malformed` if the message is none, or a part is not the declared one.
    pub(super) fn header(&self) -> Result<(), Refusal> {
        let append = &self.append;
        let header = MessageHeader::read(&append.message).map_err(|_| malformed("message"))?;
        let declared = MessageHeader {
            // A PublicMessage would show who writes and what is proposed.
            wire_format: WireFormat::PRIVATE_MESSAGE,
            group_id: append.log.as_ref(),
            epoch: append.epoch,
            content_type: self.content_type,
        };
        if header != declared {
            return Err(Refusal::HeaderMismatch);
        }
        let Some(commit) = &append.commit else {
            return Ok(());
        };
        if let Some(declared) = commit.shared_part {
            ensure(declared == part_hash(&self.shared_part), "shared_part")?;
        }
        let declared = commit.pickups.iter().map(|pickup| pickup.own_part);
        let same = declared.eq(self.own_parts.iter().map(|part| part_hash(part)));
        ensure(same, "own_parts")
    }

    /// The addresses of the joiners' parts.
    pub(super) fn addresses(&self) -> impl Iterator<Item = PickupAddress> {
        let commit = self.append.commit.as_ref();
        commit
            .into_iter()
            .flat_map(|commit| commit.pickups.iter().map(|pickup| pickup.address))
    }
}

/// Whether the parts that a commit declares are those that come with it, by number.
fn declared_parts(commit: &CommitDeclaration, request: &AppendRequest) -> Result<(), Refusal> {
    ensure(commit.pages.is_empty(), "pages")?;
    ensure(
        commit
            .commit_interval
            .is_none_or(|interval| interval <= limits::COMMIT_INTERVAL_SECONDS),
        "commit_interval",
    )?;
    ensure(commit.pickups.len() == request.own_parts.len(), "own_parts")?;
    ensure(
        commit.shared_part.is_some() != request.shared_part.is_empty(),
        "shared_part",
    )?;
    ensure(
        commit.shared_part.is_some() != commit.pickups.is_empty(),
        "pickups",
    )?;
    if commit.contest && stands(Guard::ContestForm) {
        ensure(commit.cut, "cut")?;
        ensure(commit.pickups.is_empty(), "pickups")?;
        ensure(commit.commit_interval.is_none(), "commit_interval")?;
    }
    if let Some(keys) = &commit.committers {
        let bounded = !keys.is_empty() && keys.len() <= limits::COMMITTERS;
        ensure(bounded, "committers")?;
        let mut keys: Vec<_> = keys.iter().map(|key| key.0).collect();
        keys.sort_unstable();
        ensure(keys.windows(2).all(|two| two[0] != two[1]), "committers")?;
    }
    let mut addresses: Vec<_> = commit.pickups.iter().map(|pickup| pickup.address).collect();
    addresses.sort_unstable();
    ensure(addresses.windows(2).all(|two| two[0] != two[1]), "pickups")
}

fn sizes(
    append: &Append,
    content_type: ContentType,
    request: &AppendRequest,
) -> Result<(), Refusal> {
    let message = match content_type {
        ContentType::Application => limits::APPLICATION_MESSAGE,
        _ => limits::HANDSHAKE_MESSAGE,
    };
    bound(append.message.len(), message)?;
    bound(request.shared_part.len(), limits::SHARED_PART)?;
    bound(request.own_parts.len(), limits::PICKUPS_PER_COMMIT)?;
    let largest = request.own_parts.iter().map(Vec::len).max();
    bound(largest.unwrap_or(0), limits::OWN_PART)
}
