//! What the user wants, made durable. Everything else follows from these rows.

use folkmoot_credential::{
    AcceptedKeys, CREDENTIAL_TYPE, EXTENSION_TYPES, Policy, Title, UserId, Version,
};
use folkmoot_mls::extension::{Extensions, RequiredCapabilities};
use folkmoot_mls::group::{Group, GroupParameters};
use folkmoot_protocol::VERSION;
use folkmoot_protocol::ids::{ChainHash, LogId};
use folkmoot_protocol::log::Open;
use folkmoot_protocol::plaintext::{MessageId, Plaintext};

use super::groups::{Held, context, derive_fence};
use super::rows::{
    self, AddWish, ConversationRow, Key, OutboxRow, RemoveWish, SendWish, Target, Wish,
};
use super::session::Task;
use super::shelf::{SUITE, leaf_parameters};
use super::{Event, IntentId, Standing, Step};
use crate::error::Error;
use crate::store::{StoreError, Table};
use crate::text::Text;

/// How long a process that syncs again and again leaves its shelf uncounted: one hour.
const COUNT_MS: u64 = 3600 * 1000;

impl Step<'_> {
    pub(super) fn new_conversation(&mut self, title: &str, users: &[String]) -> Result<(), Error> {
        let account = self.account()?;
        let title = Title::new(title)
            .filter(|title| !title.as_str().is_empty())
            .ok_or(Error::InvalidTitle)?;
        let users = if users.is_empty() {
            Vec::new()
        } else {
            self.users(users)?
        };
        let rows: Vec<(_, ConversationRow)> = rows::scan(self.tx, Table::Conversations, &[])?;
        if rows.iter().any(|(_, row)| *row.title == *title.as_str()) {
            return Err(Error::TitleTaken(title.as_str().to_owned()));
        }
        let mut log = LogId([0; 32]);
        self.rng.fill_bytes(&mut log.0);
        let domain = account.user.domain.clone();
        let extensions = Extensions::default()
            .with(&RequiredCapabilities {
                extension_types: EXTENSION_TYPES.to_vec(),
                proposal_types: Vec::new(),
                credential_types: vec![CREDENTIAL_TYPE],
            })
            .with(&AcceptedKeys::of(domain, account.authentication.key))
            .with(&Policy::default())
            .with(&title);
        let parameters = GroupParameters {
            cipher_suite: SUITE,
            group_id: log.0.into(),
            extensions,
        };
        let leaf = leaf_parameters(&account)?;
        let mut ctx = context(self.now / 1000, self.rng);
        let created = Group::create(&mut ctx, parameters, &account.signer(), leaf)?;
        let (group, mut keys, mut changes) = (created.group, created.keys, created.changes);
        let (fence, exported) = derive_fence(&mut keys)?;
        changes.append(exported);
        self.apply(log, &changes)?;
        self.put_fence(log, 0, &fence)?;
        let open = Open {
            version: VERSION,
            log,
            fence_key: fence.public(),
        }
        .id();
        let intent = rows::next_intent(self.tx)?;
        let mut row = ConversationRow {
            version: Version,
            changes: 0,
            log,
            standing: Standing::Opening,
            stopped: None,
            title: title.as_str().into(),
            delivery: account.delivery.clone(),
            branch: open,
            tip: open,
            epoch: 0,
            epoch_authenticator: group.epoch_authenticator().as_slice().into(),
            sequence: 0,
            chain: ChainHash::START,
            time: 0,
            promises: Vec::new(),
            intent,
        };
        self.keep(
            &mut row,
            Held {
                changes: 0,
                group,
                keys,
            },
        )?;
        self.tell(Event::Started { intent });
        self.wake.push(Task::Conversation(log));
        if !users.is_empty() {
            self.put_add(log, users)?;
        }
        Ok(())
    }

    pub(super) fn want_add(&mut self, log: LogId, users: &[String]) -> Result<(), Error> {
        let users = self.users(users)?;
        self.check_usable(log)?;
        self.put_add(log, users)
    }

    fn put_add(&mut self, log: LogId, users: Vec<UserId>) -> Result<(), Error> {
        let target = |user| Target {
            user,
            looked_up: false,
            authority: None,
            devices: Vec::new(),
        };
        let shared_key = Key::generate(self.rng);
        let mut take = [0; 32];
        self.rng.fill_bytes(&mut take);
        let targets = users.into_iter().map(target).collect();
        let intent = self.wish(
            log,
            Wish::Add(AddWish {
                targets,
                shared_key,
                take,
            }),
        )?;
        self.wake.push(Task::Invite(log, intent));
        Ok(())
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
        for (key, _) in self.tx.scan(Table::Conversations, &[], None, usize::MAX)? {
            if let Some(log) = LogId::read(&key) {
                self.session.reading(log).wanted = true;
            }
        }
        self.wake_all()
    }

    /// The users that somebody typed.
    fn users(&self, names: &[String]) -> Result<Vec<UserId>, Error> {
        let account = self.account()?;
        let mut users = Vec::new();
        for name in names {
            let user = UserId::parse_in(name, &account.user.domain)?;
            if user == account.user {
                return Err(Error::Oneself);
            }
            if user.domain != account.user.domain {
                return Err(Error::OtherDomain(user));
            }
            if !users.contains(&user) {
                users.push(user);
            }
        }
        if users.is_empty() {
            Err(Error::NobodyNamed)
        } else {
            Ok(users)
        }
    }

    fn check_usable(&self, log: LogId) -> Result<(), Error> {
        let row = rows::conversation(self.tx, log)?;
        match row.standing {
            Standing::Opening | Standing::Member => Ok(()),
            Standing::Removed => Err(Error::NoLongerMember(row.title.0)),
            Standing::Stopped => Err(stopped(&row)),
        }
    }

    /// Makes a wish durable.
    fn wish(&mut self, log: LogId, wish: Wish) -> Result<IntentId, Error> {
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
        if matches!(row.wish, Wish::Add(_) | Wish::Remove(_)) {
            // Who is a member is judged by what the log says now.
            self.session.reading(log).at_head = false;
        }
        self.tell(Event::Started { intent });
        self.wake.push(Task::Conversation(log));
        Ok(intent)
    }

    pub(super) fn outbox(&self, log: LogId) -> Result<Vec<OutboxRow>, StoreError> {
        let rows = rows::scan(self.tx, Table::Outbox, log.as_ref())?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    pub(super) fn put_outbox(&mut self, row: &OutboxRow) -> Result<(), StoreError> {
        rows::put(
            self.tx,
            Table::Outbox,
            &rows::outbox_key(row.log, row.intent),
            row,
        )
    }

    /// Takes a wish out of the outbox.
    pub(super) fn settle(
        &mut self,
        log: LogId,
        intent: IntentId,
        result: Result<(), Error>,
    ) -> Result<(), Error> {
        self.tx
            .delete(Table::Outbox, &rows::outbox_key(log, intent))?;
        self.tell(match result {
            Ok(()) => Event::Done { intent },
            Err(error) => Event::Failed { intent, error },
        });
        Ok(())
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
