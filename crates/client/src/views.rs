//! What the store holds, as applications see it. Nothing is changed here.

use folkmoot_credential::{DeviceCredential, LinkMode, UserId};
use folkmoot_mls::group::Group;
use folkmoot_protocol::door::{DoorKeys, Link};
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::keys::PublicKey;

use crate::error::Error;
use crate::history::{HistoryEntry, HistoryPosition};
use crate::logic::doors::link_policy;
use crate::logic::rows::{
    self, AccountRow, ConversationRow, DoorRow, DoorStage, KnockRow, OutboxRow, Stage, Wish,
};
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

/// The link of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentLink {
    /// Where to knock.
    pub link: Link,
    /// Whether members are asked about those who knock.
    pub asks: bool,
}

/// Somebody who knocked, and was not answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingKnock {
    /// Who.
    pub user: UserId,
    /// With which device.
    pub device: PublicKey,
    /// When we heard of it, milliseconds since 1970.
    pub since: u64,
    /// Whether it is on its way in.
    pub answering: bool,
}

/// The link of a conversation, once its door is there; `None` without one.
///
/// # Errors
/// As [`members`].
pub fn link(tx: &dyn Transaction, log: LogId) -> Result<Option<CurrentLink>, Error> {
    let group = member_group(tx, log)?;
    let Some(policy) = link_policy(group.extensions()) else {
        return Ok(None);
    };
    let doors: Vec<(_, DoorRow)> = rows::scan(tx, Table::Doors, &[])?;
    let is_its = |row: &DoorRow| row.log == Some(log) && row.stage == DoorStage::Open;
    let row = doors.into_iter().map(|(_, row)| row).find(is_its);
    Ok(row.and_then(|row| {
        Some(CurrentLink {
            link: Link {
                version: folkmoot_protocol::VERSION,
                delivery_url: row.delivery.url.clone(),
                delivery_key: row.delivery.key,
                delivery_pin: row.delivery.pin.clone(),
                door: DoorKeys::derive(&row.seed.0).door()?,
            },
            asks: policy.mode == LinkMode::Ask,
        })
    }))
}

/// Who knocked at the door of a conversation and was not answered yet, the first first.
///
/// # Errors
/// Of the store.
pub fn knocks(tx: &dyn Transaction, log: LogId) -> Result<Vec<PendingKnock>, Error> {
    let rows: Vec<(_, KnockRow)> = rows::scan(tx, Table::Knocks, log.as_ref())?;
    let mut rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    rows.sort_by_key(|row| (row.since, row.number));
    let knocks = rows.into_iter().map(|row| PendingKnock {
        user: row.user,
        device: row.device,
        since: row.since,
        answering: row.answering.is_some(),
    });
    Ok(knocks.collect())
}

/// Who is in a conversation.
///
/// # Errors
/// [`Error::NoLongerMember`], [`Error::Left`], [`Error::Behind`], and of the store.
pub fn members(tx: &dyn Transaction, log: LogId) -> Result<Members, Error> {
    let group = member_group(tx, log)?;
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

/// The group of a conversation that we are in.
fn member_group(tx: &dyn Transaction, log: LogId) -> Result<Group, Error> {
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
    groups::load_group(tx, log)
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
