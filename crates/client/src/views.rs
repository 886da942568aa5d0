//! What the store holds, as applications see it. Nothing is changed here.

use folkmoot_credential::{DeviceCredential, UserId};
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::keys::PublicKey;

use crate::error::Error;
use crate::history::{HistoryEntry, HistoryPosition};
use crate::logic::rows::{self, AccountRow, ConversationRow, OutboxRow, Stage, Wish};
use crate::logic::{Standing, groups};
use crate::store::{StoreError, Table, Transaction};

/// The account in this home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Who.
    pub user: UserId,
    /// This device: its first signature key.
    pub device: PublicKey,
    /// The URL of the Delivery Service.
    pub delivery_url: String,
    /// Whether the registration is finished.
    pub ready: bool,
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Its id: the MLS group's, and its log's.
    pub log: LogId,
    /// What it is called.
    pub title: String,
    /// Where we stand in it.
    pub standing: Standing,
    /// Whether we asked to leave, and nobody has confirmed it yet.
    pub leaving: bool,
    /// Why it stopped, if it did.
    pub stopped: Option<String>,
    /// What is wrong with the last commit, while the members have not agreed on another one.
    pub contested: Option<String>,
    /// Whether that commit may be valid for others, and only this device cannot follow it.
    pub cut_off: bool,
    /// The current epoch.
    pub epoch: u64,
    /// What members can compare out of band: the same for all who agree on this epoch.
    pub epoch_authenticator: Vec<u8>,
    /// The sequence number of the last entry that was read.
    pub sequence: u64,
    /// How many intents wait to be done.
    pub waiting: usize,
}

/// A device in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its leaf.
    pub leaf: u32,
    /// Whose it is.
    pub user: UserId,
    /// The device: its first signature key.
    pub device: PublicKey,
    /// Whether it is this one.
    pub own: bool,
}

/// Who is in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The epoch.
    pub epoch: u64,
    /// What members can compare out of band.
    pub epoch_authenticator: Vec<u8>,
    /// By leaf.
    pub members: Vec<Member>,
}

/// The account in this home.
///
/// # Errors
/// Of the store.
pub fn account(tx: &dyn Transaction) -> Result<Option<Account>, Error> {
    let row: Option<AccountRow> = rows::get(tx, Table::Account, rows::ACCOUNT)?;
    Ok(row.map(|row| Account {
        device: row.device.0.public(),
        delivery_url: String::from_utf8_lossy(&row.delivery.url).into_owned(),
        ready: row.stage == Stage::Ready,
        user: row.user,
    }))
}

/// All conversations, by title.
///
/// # Errors
/// Of the store.
pub fn conversations(tx: &dyn Transaction) -> Result<Vec<Conversation>, Error> {
    let rows: Vec<(_, ConversationRow)> = rows::scan(tx, Table::Conversations, &[])?;
    let mut conversations = Vec::new();
    for (_, row) in rows {
        let outbox: Vec<(_, OutboxRow)> = rows::scan(tx, Table::Outbox, row.log.as_ref())?;
        let wishes = || outbox.iter().map(|(_, row)| &row.wish);
        let waiting = wishes().filter(|wish| wish.is_users()).count();
        let leaving = wishes().any(|wish| matches!(wish, Wish::Leave(_)));
        conversations.push(Conversation {
            log: row.log,
            title: row.title.0,
            standing: row.standing,
            leaving,
            stopped: row.stopped.map(|reason| reason.0),
            cut_off: row
                .contested
                .as_ref()
                .is_some_and(|contested| contested.cut_off),
            contested: row.contested.map(|contested| contested.reason.0),
            epoch: row.epoch,
            epoch_authenticator: row.epoch_authenticator.into_vec(),
            sequence: row.sequence,
            waiting,
        });
    }
    conversations.sort_by(|a, b| (&a.title, a.log).cmp(&(&b.title, b.log)));
    Ok(conversations)
}

/// The conversation with this title, or the one whose id begins so (four digits at least).
///
/// # Errors
/// [`Error::UnknownConversation`], [`Error::AmbiguousConversation`].
pub fn find(tx: &dyn Transaction, name: &str) -> Result<Conversation, Error> {
    let all = conversations(tx)?;
    let by_title: Vec<_> = all.iter().filter(|known| known.title == name).collect();
    let id = |known: &Conversation| -> String {
        known
            .log
            .0
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let found = if by_title.is_empty() && name.len() >= 4 {
        all.iter()
            .filter(|known| id(known).starts_with(name))
            .collect()
    } else {
        by_title
    };
    match found[..] {
        [one] => Ok(one.clone()),
        [] => Err(Error::UnknownConversation(name.to_owned())),
        _ => Err(Error::AmbiguousConversation(name.to_owned())),
    }
}

/// Who is in a conversation.
///
/// # Errors
/// [`Error::NoLongerMember`], [`Error::Left`], [`Error::Behind`], and of the store.
pub fn members(tx: &dyn Transaction, log: LogId) -> Result<Members, Error> {
    let row = rows::conversation(tx, log)?;
    if !matches!(
        row.standing,
        Standing::Opening | Standing::Member | Standing::Stopped
    ) {
        return Err(match row.standing {
            Standing::Left => Error::Left(row.title.0),
            Standing::Behind => Error::Behind(row.title.0),
            _ => Error::NoLongerMember(row.title.0),
        });
    }
    let group = groups::load_group(tx, log)?;
    let own = group.own_index();
    let members = group.members().filter_map(|(leaf, node)| {
        let credential = DeviceCredential::read(&node.credential).ok()?;
        Some(Member {
            leaf: leaf.0,
            device: credential.device()?,
            user: credential.user,
            own: leaf == own,
        })
    });
    Ok(Members {
        epoch: group.epoch(),
        epoch_authenticator: group.epoch_authenticator().as_slice().to_vec(),
        members: members.collect(),
    })
}

/// What was said and happened after a position, in order; from the beginning if there is none.
///
/// # Errors
/// Of the store.
pub fn history(
    tx: &dyn Transaction,
    log: LogId,
    after: Option<HistoryPosition>,
) -> Result<Vec<HistoryEntry>, Error> {
    let after = after.map(|position| rows::history_key(log, position));
    let rows = tx.scan(Table::History, log.as_ref(), after.as_deref(), usize::MAX)?;
    let entries: Result<_, StoreError> = rows
        .iter()
        .map(|(_, value)| rows::decode(Table::History, value))
        .collect();
    Ok(entries?)
}
