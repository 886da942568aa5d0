//! What the user asks for: checked, and made a wish in the outbox, which is done whatever happens.

use folkmoot_credential::{UserId, Version};
use folkmoot_protocol::ids::{LogId, MailboxId};
use folkmoot_protocol::plaintext::{MessageId, Plaintext};

use super::rows::{
    self, AddWish, ConversationRow, Key, OutboxRow, RemoveWish, Replaces, SendWish, Target, Wish,
};
use super::session::Task;
use super::{Event, IntentId, Standing, Step};
use crate::error::Error;
use crate::store::Table;
use crate::text::Text;

/// How long a process that syncs again and again leaves its shelf uncounted: one hour.
const COUNT_MS: u64 = 3600 * 1000;

impl Step<'_> {
    pub(super) fn want_add(&mut self, log: LogId, users: &[String]) -> Result<(), Error> {
        let users = self.users(users)?;
        self.check_usable(log)?;
        self.put_add(log, users)
    }

    pub(super) fn want_remove(&mut self, log: LogId, users: &[String]) -> Result<(), Error> {
        let users = self.users(users)?;
        self.check_usable(log)?;
        self.wish(log, Wish::Remove(RemoveWish { users })).map(drop)
    }

    pub(super) fn want_update(&mut self, log: LogId) -> Result<(), Error> {
        self.account()?;
        self.check_usable(log)?;
        self.wish(log, Wish::Update).map(drop)
    }

    pub(super) fn want_send(
        &mut self,
        log: LogId,
        media_type: String,
        content: Vec<u8>,
    ) -> Result<(), Error> {
        self.account()?;
        self.check_usable(log)?;
        if !Plaintext::is_media_type(&media_type) {
            return Err(Error::InvalidMediaType);
        }
        if content.len() > Plaintext::MAX_CONTENT {
            let (length, most) = (content.len(), Plaintext::MAX_CONTENT);
            return Err(Error::TooLong { length, most });
        }
        let id = MessageId::generate(self.rng);
        let (media_type, content) = (Text(media_type), content.into());
        self.wish(
            log,
            Wish::Send(SendWish {
                id,
                media_type,
                content,
            }),
        )
        .map(drop)
    }

    /// Reads everything, collects invitations, looks after the shelf, goes on with what waits.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        self.stored_account()?.ok_or(Error::NotRegistered)?;
        self.session.unblock();
        self.session.collect = true;
        // Joining counts too; this is for what others took in vain, and for packages that expire.
        let counted = self.session.counted;
        self.session.count |= counted.is_none_or(|at| self.now >= at.saturating_add(COUNT_MS));
        for (key, _) in self.tx.scan(Table::Doors, &[], None, usize::MAX)? {
            self.session.collect_doors.extend(MailboxId::read(&key));
        }
        for (key, _) in self.tx.scan(Table::Conversations, &[], None, usize::MAX)? {
            if let Some(log) = LogId::read(&key) {
                self.session.reading(log).wanted = true;
            }
        }
        self.wake_all()
    }

    pub(super) fn check_usable(&self, log: LogId) -> Result<(), Error> {
        let row = rows::conversation(self.tx, log)?;
        match row.standing {
            Standing::Opening | Standing::Member => self.check_staying(&row),
            Standing::Left => Err(Error::Left(row.title.0)),
            Standing::Removed => Err(Error::NoLongerMember(row.title.0)),
            Standing::Behind => Err(Error::Behind(row.title.0)),
            Standing::Stopped => Err(stopped(&row)),
        }
    }

    /// Makes a wish durable.
    pub(super) fn wish(&mut self, log: LogId, wish: Wish) -> Result<IntentId, Error> {
        let intent = rows::next_intent(self.tx)?;
        let row = OutboxRow {
            version: Version,
            log,
            intent,
            attempt: None,
            receipt: None,
            tried: false,
            wish,
        };
        self.put_outbox(&row)?;
        if matches!(row.wish, Wish::Add(_) | Wish::Remove(_) | Wish::Link(_)) {
            // Who is a member is judged by what the log says now.
            self.session.reading(log).at_head = false;
        }
        self.session.own.insert(intent);
        self.tell(Event::Started { intent });
        self.wake.push(Task::Conversation(log));
        Ok(intent)
    }

    pub(super) fn put_add(&mut self, log: LogId, users: Vec<UserId>) -> Result<(), Error> {
        let target = |user| Target {
            version: Version,
            user,
            authority: None,
            replaces: Replaces::Nothing,
            left_out: false,
            devices: Vec::new(),
        };
        let targets = users.into_iter().map(target).collect();
        self.put_targets(log, targets).map(drop)
    }

    /// Makes a wish of adding those. Of whom the devices are known, the packages are.
    pub(super) fn put_targets(&mut self, log: LogId, all: Vec<Target>) -> Result<IntentId, Error> {
        let shared_key = Key::generate(self.rng);
        let mut take = [0; 32];
        self.rng.fill_bytes(&mut take);
        let targets = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let known = all.iter().take_while(|target| !target.devices.is_empty());
        let known = u32::try_from(known.count()).unwrap_or(u32::MAX);
        let intent = self.wish(
            log,
            Wish::Add(AddWish {
                targets,
                checked: false,
                looked_up: known,
                taken: known,
                taking: 0,
                invited: 0,
                left_out: 0,
                shared_key,
                take,
            }),
        )?;
        for (number, target) in (0..targets).zip(&all) {
            let key = rows::target_key(log, intent, number);
            rows::put(self.tx, Table::Targets, &key, target)?;
        }
        self.wake.push(Task::Invite(log, intent));
        Ok(intent)
    }

    /// The users that somebody typed.
    pub(super) fn users(&self, names: &[String]) -> Result<Vec<UserId>, Error> {
        let account = self.account()?;
        let (mut users, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
        for name in names {
            let user = UserId::parse_in(name, &account.user.domain)?;
            if user == account.user {
                return Err(Error::Oneself);
            }
            if user.domain != account.user.domain {
                return Err(Error::OtherDomain(user));
            }
            if seen.insert(user.to_string()) {
                users.push(user);
            }
        }
        if users.is_empty() {
            Err(Error::NobodyNamed)
        } else {
            Ok(users)
        }
    }
}

/// Why a stopped conversation cannot be used.
pub(super) fn stopped(row: &ConversationRow) -> Error {
    Error::Stopped {
        title: row.title.0.clone(),
        reason: row
            .stopped
            .as_ref()
            .map_or_else(String::new, |reason| reason.0.clone()),
    }
}
