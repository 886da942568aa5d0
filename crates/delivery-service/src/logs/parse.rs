//! An append's form: everything that can be checked without knowing the log.

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::{Bytes, Decode};
use folkmoot_mls::framing::ContentType;
use folkmoot_mls::message::MessageHeader;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery::{AppendRequest, Payment};
use folkmoot_protocol::ids::{EntryId, LogId, PageAddress, PickupAddress};
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::limits;
use folkmoot_protocol::log::{Append, CommitDeclaration, part_hash};
use folkmoot_protocol::token::price::{Price, Priced};

use super::records::StageRecord;
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
    pub(super) pages: Vec<Bytes>,
    /// Of a staged append, the stage that it came by.
    pub(super) staged: Option<StageRecord>,
    /// Of an append that is paid for: what it costs, and what was given for it.
    paid: Option<(Price, Option<Payment>)>,
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
    pub(crate) fn read(mut request: AppendRequest) -> Result<Self, Refusal> {
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
        match &append.commit {
            Some(commit) => declared_parts(commit, &request)?,
            None => {
                ensure(request.shared_part.is_empty(), "shared_part")?;
                ensure(request.own_parts.is_empty(), "own_parts")?;
                ensure(request.pages.is_empty(), "pages")?;
            }
        }
        let size = sizes(&append, content_type, &request);
        let paid = append
            .is_paid()
            .then(|| (request.price(), request.payment.take()));
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
            pages: request.pages.into_iter().map(Bytes::from).collect(),
            staged: None,
            paid,
            size,
        })
    }

    /// It came by a stage, and is paid for by what came with the stage's name.
    #[must_use]
    pub(crate) fn staged(
        mut self,
        stage: StageRecord,
        price: Price,
        payment: Option<Payment>,
    ) -> Self {
        self.staged = Some(stage);
        self.paid = self.paid.map(|_| (price, payment));
        self
    }

    /// Whether it came by a stage: its bytes are counted then.
    pub(super) fn is_staged(&self) -> bool {
        self.staged.is_some()
    }

    /// The log that it is for.
    pub(crate) fn log(&self) -> LogId {
        self.append.log
    }

    /// What it costs, and what was given for it, once.
    pub(crate) fn take_payment(&mut self) -> Option<(Price, Option<Payment>)> {
        self.paid.take()
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
        let pages = self.pages.iter().map(|page| page.len() + KEYS);
        let parts = parts.sum::<usize>() + pages.sum::<usize>();
        let all = self.length + self.shared_part.len() + parts + KEYS;
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
        ensure(same, "own_parts")?;
        let pages = self.pages.iter().map(|page| PageAddress::of(page));
        ensure(commit.pages.iter().copied().eq(pages), "pages")
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
    ensure(commit.pages.len() == request.pages.len(), "pages")?;
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
        let keys = keys.iter().map(|key| key.0).collect();
        ensure(all_differ(keys), "committers")?;
    }
    let pickups = commit.pickups.iter().map(|pickup| pickup.address);
    ensure(all_differ(pickups.collect()), "pickups")?;
    // What is written is not replaced at once.
    let pages = commit.pages.iter().chain(&commit.replaced).copied();
    ensure(all_differ(pages.collect()), "pages")
}

fn all_differ<T: Ord>(mut all: Vec<T>) -> bool {
    all.sort_unstable();
    all.windows(2).all(|two| two[0] != two[1])
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
    bound(largest.unwrap_or(0), limits::OWN_PART)?;
    let replaced = append.commit.as_ref().map(|commit| commit.replaced.len());
    bound(request.pages.len(), limits::PAGES_PER_COMMIT)?;
    bound(replaced.unwrap_or(0), limits::PAGES_PER_COMMIT)?;
    let largest = request.pages.iter().map(Vec::len).max();
    bound(largest.unwrap_or(0), limits::PAGE)
}
