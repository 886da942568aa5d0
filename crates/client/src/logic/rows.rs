//! The rows of the store: what each holds, and its key.

mod adding;

use folkmoot_credential::{
    Binding, Committer, DeliveryAddress, DeviceCertificate, LinkMode, UserId, Version,
};
use folkmoot_mls::codec::{Bytes, Decode, DecodeError, Encode, Reader};
use folkmoot_mls::crypto::{HpkeKeyPair, Secret};
use folkmoot_mls::key_package::KeyPackageBundle;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::{tls_enum, tls_struct};
use folkmoot_protocol::door::Door;
use folkmoot_protocol::ids::{ChainHash, EntryId, LogId, MailboxId};
use folkmoot_protocol::invitation::Invitation;
use folkmoot_protocol::keys::{PublicKey, SigningKey, hash};
use folkmoot_protocol::log::{Head, SignedHead};
use folkmoot_protocol::plaintext::MessageId;
use folkmoot_protocol::token::draw::IssuerEntry;
use folkmoot_protocol::token::{Blinded, Token, TokenPurpose, TokenRequest};
use zeroize::Zeroizing;

use super::{IntentId, Standing};
use crate::error::Error;
use crate::history::HistoryPosition;
use crate::store::{StoreError, Table, Transaction};
use crate::text::Text;

pub(crate) use adding::{AddWish, AttemptRow, CommitAttempt, Replaces, Target, TargetDevice};

/// Key of the account's row.
pub(crate) const ACCOUNT: &[u8] = b"account";

/// Key of the row that says when tokens are drawn next.
pub(crate) const TOKENS: &[u8] = b"tokens";

/// Key of the counter of intents.
pub(crate) const NEXT_INTENT: &[u8] = b"next intent";

/// A signing key as its seed.
#[derive(Clone, Debug)]
pub(crate) struct Seed(pub SigningKey);

impl Encode for Seed {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.seed().as_ref());
    }
}

impl Decode for Seed {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let seed = Zeroizing::new(reader.array()?);
        Ok(Self(SigningKey::from_seed(seed)))
    }
}

/// A symmetric key.
#[derive(Clone)]
pub(crate) struct Key(pub Zeroizing<[u8; 32]>);

impl Key {
    pub(crate) fn generate(rng: &mut dyn rand_core::CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(key.as_mut());
        Self(key)
    }
}

impl Encode for Key {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_ref());
    }
}

impl Decode for Key {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Zeroizing::new(reader.array()?)))
    }
}

tls_enum! {
    /// How far a registration has come.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Stage: u8 {
        /// The AS has not answered.
        Registering = 1,
        /// The mailbox is not made.
        MakingMailbox = 2,
        /// The first KeyPackages are not on the shelf.
        Stocking = 3,
        /// Done.
        Ready = 4,
    }
}

tls_struct! {
    /// The account.
    #[derive(Clone)]
    pub(crate) struct AccountRow {
        pub version: Version,
        pub stage: Stage,
        pub intent: IntentId,
        pub user: UserId,
        pub authentication: DeliveryAddress,
        pub delivery: DeliveryAddress,
        pub identity: Seed,
        pub device: Seed,
        pub owner: Seed,
        pub mailbox_key_version: u16,
        pub mailbox_key: HpkeKeyPair,
        pub shelf_key_version: u16,
        pub shelf_key: Key,
        pub certificate: DeviceCertificate,
        /// When the device's record was written, seconds since 1970.
        pub issued: u64,
        pub binding: Option<Binding>,
        /// The last envelope that is kept as a row.
        pub collected: u64,
        /// The last envelope that the DS was told to delete.
        pub acknowledged: u64,
    }
}

impl AccountRow {
    pub(crate) fn mailbox(&self) -> MailboxId {
        MailboxId::of(&self.owner.0.public())
    }
}

tls_struct! {
    /// When tokens are drawn, and the draw that is under way.
    #[derive(Clone)]
    pub(crate) struct TokensRow {
        pub version: Version,
        /// Milliseconds since 1970.
        pub next: u64,
        /// Of the last draw.
        pub number: u64,
        pub pending: Option<PendingDraw>,
    }
}

tls_struct! {
    /// A draw that has no answer.
    #[derive(Clone)]
    pub(crate) struct PendingDraw {
        /// The DS that its tokens are for.
        pub delivery: PublicKey,
        pub token_key_id: [u8; 32],
        pub issuer: IssuerEntry,
        pub tokens: Vec<PendingToken>,
    }
}

tls_struct! {
    #[derive(Clone)]
    pub(crate) struct PendingToken {
        pub purpose: TokenPurpose,
        pub request: TokenRequest,
        pub blinded: Blinded,
    }
}

tls_struct! {
    /// A token. Its key: DS, purpose, when it expires (seconds since 1970), nonce.
    #[derive(Clone)]
    pub(crate) struct TokenRow {
        pub version: Version,
        /// The hash of the request that it was given for.
        pub paying: Option<[u8; 32]>,
        pub token: Token,
    }
}

tls_struct! {
    /// One of our KeyPackages.
    #[derive(Clone)]
    pub(crate) struct PackageRow {
        pub version: Version,
        pub bundle: KeyPackageBundle,
        pub expires: u64,
        pub last_resort: bool,
        /// Whether it is known to be on the shelf.
        pub stocked: bool,
    }
}

tls_struct! {
    /// A conversation.
    #[derive(Clone)]
    pub(crate) struct ConversationRow {
        pub version: Version,
        /// Counts changes of this row and of all that belongs to it.
        pub changes: u64,
        pub log: LogId,
        pub standing: Standing,
        pub stopped: Option<Text>,
        pub title: Text,
        pub delivery: DeliveryAddress,
        pub branch: EntryId,
        /// The commit, or Open, that made the current epoch.
        pub tip: EntryId,
        pub epoch: u64,
        pub epoch_authenticator: Bytes,
        /// Of the last entry processed.
        pub sequence: u64,
        pub chain: ChainHash,
        /// That entry's time, milliseconds since 1970.
        pub time: u64,
        /// That of the commit, or Open, that made the current epoch.
        pub epoch_time: u64,
        /// When the DS was last asked which tree pages it lacks, by our clock; 0: never.
        pub pages_checked: u64,
        /// Epochs that are over and whose messages may still come, the oldest first.
        pub past: Vec<PastEpoch>,
        /// What the DS has signed about entries that we have not read.
        pub promises: Vec<StoredHead>,
        /// The last of what it has signed about those that we have: what a contradiction is held
        /// against.
        pub head: Option<StoredHead>,
        /// The intent to open the log, while it is open.
        pub intent: IntentId,
        /// Members who want to leave and whose leave was read, ourselves included.
        pub leaving: Vec<Leaver>,
        /// The DS's time, in milliseconds since 1970, of what makes a commit due in this epoch: what
        /// somebody proposed, or the commit that passed a leave over. 0 if nothing does.
        pub cause: u64,
        /// What follows the tip and is not valid, while nothing valid was found there.
        pub contested: Option<Contested>,
        /// Members who offer to be committers, and are none yet.
        pub offers: Vec<Committer>,
        /// Members who are to be removed, since others could not open a commit of theirs.
        pub expelled: Vec<Leaver>,
    }
}

impl ConversationRow {
    /// Whether we are a member, and not cut off.
    pub(crate) fn goes_on(&self) -> bool {
        let contested = self.contested.as_ref();
        let cut_off = contested.is_some_and(|contested| contested.cut_off);
        self.standing == Standing::Member && !cut_off
    }
}

tls_struct! {
    /// Commits after the tip that we did not follow, in the order of the log.
    #[derive(Clone, PartialEq, Eq)]
    pub(crate) struct Contested {
        /// How many.
        pub count: u32,
        /// Over all of them.
        pub chain: ChainHash,
        /// Of the last one, milliseconds since 1970.
        pub time: u64,
        /// What is wrong with the last one.
        pub reason: Text,
        /// Who made them, as far as that is proven.
        pub authors: Vec<Leaver>,
        /// Whether others may have found one of them valid: then it is not for us to contest.
        pub cut_off: bool,
        /// The first of them that did not open for us, although all that is shared is in order.
        pub unopened: Option<EntryId>,
        /// Whether no further commit of ours is taken.
        pub spent: bool,
    }
}

tls_struct! {
    /// A commit of somebody else's that we followed.
    #[derive(Clone)]
    pub(crate) struct FollowedRow {
        pub version: Version,
        pub commit: EntryId,
        pub author: Leaver,
        /// Who says that it did not open for them.
        pub unopened: Vec<UserId>,
    }
}

tls_struct! {
    /// A member who wants to leave.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Leaver {
        pub leaf: LeafIndex,
        /// Tells the member from one who gets the leaf later.
        pub signature_key: Bytes,
    }
}

tls_struct! {
    /// An epoch that is over.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) struct PastEpoch {
        pub epoch: u64,
        /// The commit, or Open, that made it.
        pub commit: EntryId,
        /// When the next commit came, milliseconds since 1970.
        pub ended: u64,
    }
}

tls_struct! {
    /// A head as the DS has signed it.
    #[derive(Clone, PartialEq, Eq)]
    pub(crate) struct StoredHead {
        pub head: Head,
        pub signature: Bytes,
    }
}

impl From<SignedHead> for StoredHead {
    fn from(SignedHead { head, signature }: SignedHead) -> Self {
        Self { head, signature }
    }
}

tls_struct! {
    /// Proof of misbehaviour, or what comes closest to it.
    #[derive(Clone)]
    pub(crate) struct EvidenceRow {
        pub version: Version,
        /// An entry that no member may follow, or that is not the one that was promised.
        pub entry: Option<StoredEntry>,
        /// What the DS had signed before.
        pub ours: Option<StoredHead>,
        /// What it has signed since, and contradicts that.
        pub theirs: Option<StoredHead>,
    }
}

tls_struct! {
    /// An entry as it was read.
    #[derive(Clone)]
    pub(crate) struct StoredEntry {
        pub time: u64,
        pub content: Bytes,
        pub fence_signature: Bytes,
    }
}

tls_struct! {
    /// Something that the user wants done in a conversation.
    #[derive(Clone)]
    pub(crate) struct OutboxRow {
        pub version: Version,
        pub log: LogId,
        pub intent: IntentId,
        /// The entry that was offered to the log, until it is known to have lost.
        pub attempt: Option<EntryId>,
        /// The entry's place, once there is a receipt.
        pub receipt: Option<u64>,
        /// Whether anything was offered to the log.
        pub tried: bool,
        pub wish: Wish,
    }
}

impl OutboxRow {
    /// Whether it is a leave that others have to carry out: nothing of ours is to be done any more.
    pub(crate) fn has_left_log(&self) -> bool {
        matches!(&self.wish, Wish::Leave(wish) if wish.proposed)
    }
}

tls_enum! {
    /// What the user wants.
    #[derive(Clone)]
    pub(crate) enum Wish: u8 {
        Add(AddWish) = 1,
        Remove(RemoveWish) = 2,
        Update = 3,
        Send(SendWish) = 4,
        /// To be a member no more.
        Leave(LeaveWish) = 5,
        /// To commit what others have proposed. No user asked for it.
        Proposals = 6,
        /// To commit beside what is not valid. No user asked for it.
        Contest = 16,
        /// A link, of another kind, or none.
        Link(LinkWish) = 7,
    }
}

impl Wish {
    /// Whether a user asked for it.
    pub(crate) fn is_users(&self) -> bool {
        !matches!(self, Self::Proposals | Self::Contest)
    }
}

tls_struct! {
    #[derive(Clone)]
    pub(crate) struct LeaveWish {
        /// Whether our proposal was read in the log: then it is for others to commit it.
        pub proposed: bool,
    }
}

tls_struct! {
    #[derive(Clone)]
    pub(crate) struct SendWish {
        pub id: MessageId,
        pub media_type: Text,
        pub content: Bytes,
    }
}

tls_struct! {
    #[derive(Clone)]
    pub(crate) struct RemoveWish {
        pub users: Vec<UserId>,
    }
}

tls_struct! {
    #[derive(Clone)]
    pub(crate) struct LinkWish {
        pub mode: Option<LinkMode>,
    }
}

tls_struct! {
    /// An invitation that was not used yet.
    #[derive(Clone)]
    pub(crate) struct InvitationRow {
        pub version: Version,
        pub invitation: Invitation,
        /// The end of waiting, milliseconds since 1970; 0 before the first poll.
        pub ends: u64,
        /// When to ask next, milliseconds since 1970.
        pub next: u64,
        /// How long to wait after that, in milliseconds.
        pub delay: u64,
    }
}

tls_enum! {
    /// How far a door is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum DoorStage: u8 {
        /// It is to be made, or somebody else has.
        Making = 1,
        Open = 2,
        /// It is to be closed.
        Closing = 3,
        /// It cannot be made: somebody has closed it.
        Dead = 4,
    }
}

tls_struct! {
    /// A door of which we have the keys.
    #[derive(Clone)]
    pub(crate) struct DoorRow {
        pub version: Version,
        pub stage: DoorStage,
        /// Whose link leads there; of none, we wait for an answer there.
        pub log: Option<LogId>,
        pub delivery: DeliveryAddress,
        pub seed: Key,
        /// The last envelope that was looked at.
        pub collected: u64,
        /// The last envelope that the DS was told to delete.
        pub acknowledged: u64,
        /// What we said elsewhere, if we wait for an answer here.
        pub knocking: Option<Knocking>,
    }
}

tls_struct! {
    /// Our knock.
    #[derive(Clone)]
    pub(crate) struct Knocking {
        pub intent: IntentId,
        /// Where.
        pub to: Door,
        /// The reference of the KeyPackage.
        pub package: Bytes,
        /// Sealed.
        pub envelope: Bytes,
        pub dropped: bool,
        /// The end of waiting, milliseconds since 1970.
        pub ends: u64,
    }
}

tls_struct! {
    /// Somebody who knocked.
    #[derive(Clone)]
    pub(crate) struct KnockRow {
        pub version: Version,
        /// At which door, and its number there.
        pub door: MailboxId,
        pub number: u64,
        pub user: UserId,
        pub device: PublicKey,
        /// The AS that vouches for the user.
        pub authority: PublicKey,
        pub only_device: bool,
        /// The KeyPackage as an MLSMessage.
        pub package: Bytes,
        pub answer: Door,
        /// When we heard it, milliseconds since 1970.
        pub since: u64,
        /// When it is our turn to answer, if nobody has to be asked.
        pub turn: u64,
        /// The intent to let it in, while there is one.
        pub answering: Option<IntentId>,
        /// Whether no person was asked about that.
        pub unasked: bool,
    }
}

tls_struct! {
    /// That somebody was removed.
    #[derive(Clone)]
    pub(crate) struct BarredRow {
        pub version: Version,
    }
}

tls_struct! {
    /// Why an intent was given up.
    #[derive(Clone)]
    pub(crate) struct OutcomeRow {
        pub version: Version,
        /// When, milliseconds since 1970.
        pub time: u64,
        pub reason: Text,
    }
}

// ---- keys

pub(crate) fn history_key(log: LogId, position: HistoryPosition) -> Vec<u8> {
    (log, (position.sequence, position.part)).to_bytes()
}

pub(crate) fn evidence_key(log: LogId, sequence: u64, entry: EntryId) -> Vec<u8> {
    (log, (sequence, entry)).to_bytes()
}

pub(crate) fn followed_key(log: LogId, epoch: u64) -> Vec<u8> {
    (log, epoch).to_bytes()
}

pub(crate) fn chain_key(log: LogId, sequence: u64) -> Vec<u8> {
    (log, sequence).to_bytes()
}

pub(crate) fn fence_key(log: LogId, epoch: u64) -> Vec<u8> {
    (log, epoch).to_bytes()
}

pub(crate) fn outbox_key(log: LogId, intent: IntentId) -> Vec<u8> {
    (log, intent).to_bytes()
}

pub(crate) fn target_key(log: LogId, intent: IntentId, number: u32) -> Vec<u8> {
    (log, (intent, number)).to_bytes()
}

pub(crate) fn chunk_key(log: LogId, entry: EntryId, number: u32) -> Vec<u8> {
    (log, (entry, number)).to_bytes()
}

pub(crate) fn attempt_key(log: LogId, entry: EntryId) -> Vec<u8> {
    (log, entry).to_bytes()
}

pub(crate) fn knock_key(log: LogId, package: &[u8]) -> Vec<u8> {
    (log, hash("knock", &Bytes::from(package))).to_bytes()
}

pub(crate) fn barred_key(log: LogId, user: &[u8; 32]) -> Vec<u8> {
    (log, *user).to_bytes()
}

// ---- reading and writing

/// Reads a value of `table`.
pub(crate) fn decode<T: Decode>(table: Table, value: &[u8]) -> Result<T, StoreError> {
    T::from_bytes(value).map_err(|_| StoreError::DamagedRow(table.name()))
}

/// Reads a row.
pub(crate) fn get<T: Decode>(
    tx: &dyn Transaction,
    table: Table,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    let value = tx.get(table, key)?;
    value.map(|value| decode(table, &value)).transpose()
}

/// Reads all rows whose key begins with `prefix`.
pub(crate) fn scan<T: Decode>(
    tx: &dyn Transaction,
    table: Table,
    prefix: &[u8],
) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
    let rows = tx.scan(table, prefix, None, usize::MAX)?;
    rows.into_iter()
        .map(|(key, value)| Ok((key, decode(table, &value)?)))
        .collect()
}

/// Writes a row.
pub(crate) fn put<T: Encode>(
    tx: &mut dyn Transaction,
    table: Table,
    key: &[u8],
    row: &T,
) -> Result<(), StoreError> {
    let value = Zeroizing::new(row.to_bytes());
    tx.put(table, key, &value)
}

/// The row of a conversation that the caller knows to exist.
pub(crate) fn conversation(tx: &dyn Transaction, log: LogId) -> Result<ConversationRow, Error> {
    get(tx, Table::Conversations, log.as_ref())?
        .ok_or_else(|| Error::UnknownConversation(log.to_string()))
}

/// What became of an intent, whichever process did it; `None` while it is still to be done. Forgets a
/// failure that it returns.
pub(crate) fn outcome(
    tx: &mut dyn Transaction,
    intent: IntentId,
) -> Result<Option<Result<(), Error>>, Error> {
    let key = intent.to_bytes();
    if let Some(row) = get::<OutcomeRow>(tx, Table::Outcomes, &key)? {
        tx.delete(Table::Outcomes, &key)?;
        return Ok(Some(Err(Error::Elsewhere(row.reason.0))));
    }
    let account: Option<AccountRow> = get(tx, Table::Account, ACCOUNT)?;
    let registers = |row: AccountRow| row.intent == intent && row.stage != Stage::Ready;
    let outbox = scan::<OutboxRow>(tx, Table::Outbox, &[])?;
    let knocks = |row: &DoorRow| {
        let knocking = row.knocking.as_ref();
        let waits = |knocking: &Knocking| knocking.intent == intent && !knocking.dropped;
        row.stage != DoorStage::Closing && knocking.is_some_and(waits)
    };
    let doors = scan::<DoorRow>(tx, Table::Doors, &[])?;
    let opening = scan::<ConversationRow>(tx, Table::Conversations, &[])?;
    let waits = account.is_some_and(registers)
        || doors.iter().any(|(_, row)| knocks(row))
        || outbox
            .iter()
            .any(|(_, row)| row.intent == intent && !row.has_left_log())
        || opening
            .iter()
            .any(|(_, row)| row.intent == intent && row.standing == Standing::Opening);
    Ok((!waits).then_some(Ok(())))
}

/// A number that no intent had before.
pub(crate) fn next_intent(tx: &mut dyn Transaction) -> Result<IntentId, StoreError> {
    let number: u64 = get(tx, Table::Account, NEXT_INTENT)?.unwrap_or(1);
    put(tx, Table::Account, NEXT_INTENT, &number.saturating_add(1))?;
    Ok(IntentId(number))
}

/// A 32-byte secret of the engine as an array.
pub(crate) fn secret_from(array: &[u8]) -> Secret {
    Secret::from(array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Store};

    const INTENT: IntentId = IntentId(7);

    fn look(store: &mut MemoryStore) -> Option<Result<(), Error>> {
        store.transaction(|tx| outcome(tx, INTENT)).unwrap()
    }

    #[test]
    fn an_outcome_is_told_once_and_only_to_who_waits_for_it() {
        let mut store = MemoryStore::default();
        let log = LogId([1; 32]);
        let wish = OutboxRow {
            version: Version,
            log,
            intent: INTENT,
            attempt: None,
            receipt: None,
            tried: false,
            wish: Wish::Update,
        };
        let key = outbox_key(log, INTENT);
        let put: Result<(), StoreError> =
            store.transaction(|tx| super::put(tx, Table::Outbox, &key, &wish));
        put.unwrap();
        assert_eq!(look(&mut store), None, "it is still to be done");
        let reason = || Text::from("it cannot be");
        let given_up: Result<(), StoreError> = store.transaction(|tx| {
            tx.delete(Table::Outbox, &key)?;
            for intent in [INTENT, IntentId(8)] {
                let row = OutcomeRow {
                    version: Version,
                    time: 1,
                    reason: reason(),
                };
                super::put(tx, Table::Outcomes, &intent.to_bytes(), &row)?;
            }
            Ok(())
        });
        given_up.unwrap();
        let told = Error::Elsewhere(reason().0);
        assert_eq!(look(&mut store), Some(Err(told)));
        assert_eq!(store.count(Table::Outcomes), 1, "another's stays");
        assert_eq!(look(&mut store), Some(Ok(())));
    }

    #[test]
    fn a_leave_that_others_have_to_carry_out_is_done_for_who_asked() {
        let mut store = MemoryStore::default();
        let log = LogId([1; 32]);
        for (proposed, told) in [(false, None), (true, Some(Ok(())))] {
            let row = OutboxRow {
                version: Version,
                log,
                intent: INTENT,
                attempt: None,
                receipt: None,
                tried: false,
                wish: Wish::Leave(LeaveWish { proposed }),
            };
            let key = outbox_key(log, INTENT);
            let put: Result<(), StoreError> =
                store.transaction(|tx| super::put(tx, Table::Outbox, &key, &row));
            put.unwrap();
            assert_eq!(look(&mut store), told);
        }
    }
}
