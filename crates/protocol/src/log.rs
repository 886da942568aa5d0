//! A log: its entries, the chain over them, and signed heads.

use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::tls_struct;

use crate::ids::{ChainHash, EntryId, LogId, PickupAddress};
use crate::keys::{BadSignature, PublicKey, SigningKey, hash};

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
        /// Whether another commit follows the parent already, which the author found invalid. A
        /// contest starts a branch of its own, named by it; it is a cut and adds nobody.
        pub contest: bool,
        /// The keys of which one signs every commit from now on, if the commit changes them. Not
        /// empty, each once.
        pub committers: Option<Vec<PublicKey>>,
        /// SHA-256 of the sealed shared part of the Welcome, if anybody joins.
        pub shared_part: Option<[u8; 32]>,
        /// One for each joiner.
        pub pickups: Vec<Pickup>,
        /// Address and SHA-256 of each changed tree page; none in groups whose tree travels in
        /// the Welcome.
        pub pages: Vec<Page>,
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
    /// A changed tree page.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Page {
        /// Where it is stored.
        pub address: [u8; 32],
        /// SHA-256 of the encrypted page.
        pub hash: [u8; 32],
    }
}

impl Append {
    /// The append id.
    #[must_use]
    pub fn id(&self) -> EntryId {
        EntryId(hash("append", self))
    }

    /// Whether it is a commit beside one that its author found invalid.
    #[must_use]
    pub fn is_contest(&self) -> bool {
        self.commit.as_ref().is_some_and(|commit| commit.contest)
    }

    /// Whether it costs a token: a contest does, and so does the commit that follows one, so that who
    /// spoils a group's commits again and again pays as much as those who mend them.
    #[must_use]
    pub fn is_paid(&self) -> bool {
        let first_of_branch = self.parent == self.branch && self.epoch > 0;
        self.is_contest() || (self.commit.is_some() && first_of_branch)
    }

    /// The branch that its entry stands on.
    #[must_use]
    pub fn stands_on(&self) -> EntryId {
        if self.is_contest() {
            self.id()
        } else {
            self.branch
        }
    }
}

/// The hash of a sealed part or page, as declarations hold it.
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
    struct CandidateInput {
        version: u16,
        parent: EntryId,
        previous: ChainHash,
        time: u64,
        entry: EntryId,
    }
}

impl ChainHash {
    /// The hash of the commits after a parent up to and including `entry`, in their order.
    #[must_use]
    pub fn next_candidate(self, parent: EntryId, time: u64, entry: EntryId) -> Self {
        Self(hash(
            "candidate",
            &CandidateInput {
                version: crate::VERSION,
                parent,
                previous: self,
                time,
                entry,
            },
        ))
    }
}

tls_struct! {
    /// In which order commits after one parent came: what the DS commits itself to. Members follow
    /// the first valid one.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CandidateList {
        /// [`crate::VERSION`].
        pub version: u16,
        /// The log.
        pub log: LogId,
        /// The branch that the parent stands on.
        pub branch: EntryId,
        /// The commit, or Open, that all of them follow.
        pub parent: EntryId,
        /// How many.
        pub count: u32,
        /// Over all of them ([`ChainHash::next_candidate`]).
        pub chain: ChainHash,
        /// When the list was signed, milliseconds since 1970.
        pub issued: u64,
    }
}

impl CandidateList {
    const LABEL: &str = "candidates";

    /// Signs. 64 bytes.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> [u8; 64] {
        key.sign(Self::LABEL, self)
    }

    /// Reads a list from the wire and checks that `key` signed it.
    ///
    /// # Errors
    /// [`BadSignature`], also if the bytes are no list: the DS is to blame.
    pub fn read(bytes: &[u8], signature: &[u8], key: &PublicKey) -> Result<Self, BadSignature> {
        let list: Self =
            folkmoot_mls::codec::Decode::from_bytes(bytes).map_err(|_| BadSignature)?;
        if list.version != crate::VERSION {
            return Err(BadSignature);
        }
        key.verify(Self::LABEL, &list, signature)?;
        Ok(list)
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
