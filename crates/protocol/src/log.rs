//! A log: its entries, the chain over them, and signed heads.

use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::tls_struct;

use crate::ids::{ChainHash, EntryId, LogId, PageAddress, PickupAddress, StageId};
use crate::keys::{BadSignature, PublicKey, SigningKey, hash};
use crate::sealed::suite;
use crate::{Refusal, limits};

tls_struct! {
    /// Opens a log: entry 0 of its chain and the parent of its first commit. Its id names the
    /// first branch.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Open {
        /// [`crate::VERSION`].
        pub version: u16,
        /// The MLS group id.
        pub log: LogId,
        /// The public fence key of epoch 0, which signs this.
        pub fence_key: PublicKey,
    }
}

impl Open {
    /// Names the entry.
    #[must_use]
    pub fn id(&self) -> EntryId {
        EntryId(hash("open", self))
    }
}

tls_struct! {
    /// One entry after the first: an MLS message and what its author declares about it. The
    /// signature beside it is no part of the id, so the same content is the same entry.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Append {
        /// [`crate::VERSION`].
        pub version: u16,
        /// The MLS group id, as in the message's header.
        pub log: LogId,
        /// The entry that started this branch: the Open's, or a contesting commit's.
        pub branch: EntryId,
        /// The commit (or Open) that made the epoch in which the message was written.
        pub parent: EntryId,
        /// As in the message's header.
        pub epoch: u64,
        /// MLS ContentType, as in the message's header: 1 application, 2 proposal, 3 commit.
        pub content_type: u8,
        /// What a commit declares; absent from everything else.
        pub commit: Option<CommitDeclaration>,
        /// The MLSMessage.
        pub message: Bytes,
    }
}

tls_struct! {
    /// What a commit tells the DS. Members derive or know every field, and refuse a commit that
    /// declares something else.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CommitDeclaration {
        /// The public fence key of the epoch that the commit makes.
        pub next_fence_key: PublicKey,
        /// Whether readers with keys of this epoch or older must stop here. A commit that removes
        /// a leaf must be a cut.
        pub cut: bool,
        /// The sequence number of the last entry that its author had read.
        pub last_seen: u64,
        /// Seconds that must pass between commits from now on, if the commit sets that.
        pub commit_interval: Option<u32>,
        /// SHA-256 of the sealed shared part of the Welcome, if anybody joins.
        pub shared_part: Option<[u8; 32]>,
        /// One for each joiner.
        pub pickups: Vec<Pickup>,
        /// Address of each tree page that the commit writes, the root page's last; none in groups
        /// whose tree travels in the Welcome.
        pub pages: Vec<PageAddress>,
        /// Addresses of the tree pages that nobody in the new epoch needs.
        pub replaced: Vec<PageAddress>,
    }
}

tls_struct! {
    /// Where one joiner finds its part.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Pickup {
        /// As in the joiner's invitation.
        pub address: PickupAddress,
        /// SHA-256 of the sealed own part.
        pub own_part: [u8; 32],
    }
}

tls_struct! {
    /// What a large append goes up in: the encoded request in chunks of [`limits::CHUNK`] bytes, the
    /// last one with what is left.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Stage {
        /// [`crate::VERSION`].
        pub version: u16,
        /// The log that the append is for.
        pub log: LogId,
        /// Its branch.
        pub branch: EntryId,
        /// The epoch of the append, whose fence key signs.
        pub epoch: u64,
        /// Bytes of all chunks together.
        pub size: u32,
        /// [`part_hash`] of each chunk.
        pub chunks: Vec<[u8; 32]>,
    }
}

impl Stage {
    /// The stage of a request.
    ///
    /// # Errors
    /// `TooLarge` above [`limits::STAGED`].
    pub fn of(log: LogId, branch: EntryId, epoch: u64, request: &[u8]) -> Result<Self, Refusal> {
        let size = u32::try_from(request.len()).map_err(|_| Refusal::TooLarge)?;
        if request.len() > limits::STAGED {
            return Err(Refusal::TooLarge);
        }
        let chunks = request.chunks(limits::CHUNK).map(part_hash).collect();
        Ok(Self {
            version: crate::VERSION,
            log,
            branch,
            epoch,
            size,
            chunks,
        })
    }

    /// Names the stage.
    #[must_use]
    pub fn id(&self) -> StageId {
        StageId(hash("stage", self))
    }

    /// How many bytes a chunk has; `None` if there is no such chunk.
    #[must_use]
    pub fn chunk_length(&self, number: usize) -> Option<usize> {
        let begin = number.checked_mul(limits::CHUNK)?;
        let left = (self.size as usize).checked_sub(begin)?;
        let exists = number < self.chunks.len() && left > 0;
        exists.then_some(left.min(limits::CHUNK))
    }

    /// Whether it has as many chunks as its size asks for, and is no larger than it may be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let size = self.size as usize;
        (1..=limits::STAGED).contains(&size) && self.chunks.len() == size.div_ceil(limits::CHUNK)
    }
}

impl Append {
    /// The append id.
    #[must_use]
    pub fn id(&self) -> EntryId {
        EntryId(hash("append", self))
    }
}

impl PageAddress {
    /// The address of sealed bytes.
    #[must_use]
    pub fn of(page: &[u8]) -> Self {
        let mut address = [0; 32];
        address.copy_from_slice(&suite().hash(page));
        Self(address)
    }
}

/// What a proof to put pages back signs: all their addresses.
#[must_use]
pub fn pages_subject(addresses: &[PageAddress]) -> [u8; 32] {
    let addresses: Vec<u8> = addresses.iter().flat_map(|address| address.0).collect();
    hash("pages", &Bytes::from(addresses))
}

/// The hash of a sealed part or chunk, as declarations hold it.
#[must_use]
pub fn part_hash(part: &[u8]) -> [u8; 32] {
    hash("part", &Bytes::from(part))
}

tls_struct! {
    struct ChainInput {
        version: u16,
        log: LogId,
        previous: ChainHash,
        sequence: u64,
        time: u64,
        entry: EntryId,
    }
}

impl ChainHash {
    /// What the chain starts from: the hash before entry 0.
    pub const START: Self = Self([0; 32]);

    /// The hash of the log up to and including `entry`.
    #[must_use]
    pub fn next(self, log: LogId, sequence: u64, time: u64, entry: EntryId) -> Self {
        let version = crate::VERSION;
        Self(hash(
            "chain",
            &ChainInput {
                version,
                log,
                previous: self,
                sequence,
                time,
                entry,
            },
        ))
    }
}

tls_struct! {
    /// Where a log stands: what the DS commits itself to.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Head {
        /// [`crate::VERSION`].
        pub version: u16,
        /// The log.
        pub log: LogId,
        /// Its branch.
        pub branch: EntryId,
        /// Of the last entry.
        pub sequence: u64,
        /// Up to and including that entry.
        pub chain: ChainHash,
        /// Of that entry, milliseconds since 1970.
        pub entry_time: u64,
        /// When the head was signed, milliseconds since 1970; in a receipt the entry's time.
        pub issued: u64,
    }
}

/// A head and the DS's signature: a receipt, or the end of a read batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// What is signed.
    pub head: Head,
    /// By the DS key.
    pub signature: Bytes,
}

impl SignedHead {
    /// Signs a head.
    #[must_use]
    pub fn sign(head: Head, key: &SigningKey) -> Self {
        let signature = key.sign("head", &head).into();
        Self { head, signature }
    }

    /// Reads a head from the wire and checks that `key` signed it.
    ///
    /// # Errors
    /// [`BadSignature`], also if the bytes are no head: the DS is to blame.
    pub fn read(receipt: &crate::delivery::Receipt, key: &PublicKey) -> Result<Self, BadSignature> {
        let head: Head =
            folkmoot_mls::codec::Decode::from_bytes(&receipt.head).map_err(|_| BadSignature)?;
        if head.version != crate::VERSION {
            return Err(BadSignature);
        }
        key.verify("head", &head, &receipt.signature)?;
        Ok(Self {
            head,
            signature: receipt.signature.clone().into(),
        })
    }
}

impl From<SignedHead> for crate::delivery::Receipt {
    fn from(signed: SignedHead) -> Self {
        Self {
            head: signed.head.to_bytes(),
            signature: signed.signature.into_vec(),
        }
    }
}
