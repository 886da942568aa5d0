//! What the user wants, made durable; and what comes next for a conversation.

use folkmoot_credential::{
    AcceptedKeys, CREDENTIAL_TYPE, EXTENSION_TYPES, Policy, Title, UserId, Version,
};
use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::extension::{Extensions, RequiredCapabilities};
use folkmoot_mls::group::{Group, GroupParameters};
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{
    AppendRequest, LogRead, NonceRequest, OpenRequest, ReadRequest, Receipt,
};
use folkmoot_protocol::ids::{ChainHash, EntryId, LogId};
use folkmoot_protocol::log::{Append, Open, SignedHead};
use folkmoot_protocol::plaintext::{MessageId, Plaintext};
use folkmoot_protocol::proof::{FenceProof, Method};
use folkmoot_protocol::{Refusal, VERSION};

use super::groups::{Held, context, derive_fence};
use super::rows::{
    self, AddWish, ConversationRow, Key, OutboxRow, OutcomeRow, RemoveWish, SendWish, Target, Wish,
};
use super::session::{Asked, Cursor, Task};
use super::shelf::{SUITE, leaf_parameters};
use super::{Ask, Event, IntentId, Standing, Step, address};
use crate::error::{BadService, Error};
use crate::history::{Founded, What};
use crate::store::{StoreError, Table};
use crate::text::Text;

/// How long a process that syncs again and again leaves its shelf uncounted: one hour.
const COUNT_MS: u64 = 3600 * 1000;
/// How long word is left for a process that began an intent: an hour.
const OUTCOME_MS: u64 = 3600 * 1000;

/// What became of building an entry.
pub(super) enum Built {
    /// It is stored as an attempt, and can be offered.
    Attempt(EntryId),
    /// There is nothing to do any more.
    Done,
    /// It cannot be done.
    Failed(Error),
    /// The conversation has ended, and with it whatever was to be done.
    Closed,
}

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
            version: ProtocolVersion::MLS10,
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
            past: Vec::new(),
            promises: Vec::new(),
            head: None,
            intent,
            leaving: Vec::new(),
            cause: 0,
        };
        self.keep(
            &mut row,
            Held {
                changes: 0,
                group,
                keys,
                past: Default::default(),
            },
        )?;
        self.session.own.insert(intent);
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

    pub(super) fn check_usable(&self, log: LogId) -> Result<(), Error> {
        let row = rows::conversation(self.tx, log)?;
        match row.standing {
            Standing::Opening | Standing::Member => self.check_staying(&row),
            Standing::Left => Err(Error::Left(row.title.0)),
            Standing::Removed => Err(Error::NoLongerMember(row.title.0)),
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
        if matches!(row.wish, Wish::Add(_) | Wish::Remove(_)) {
            // Who is a member is judged by what the log says now.
            self.session.reading(log).at_head = false;
        }
        self.session.own.insert(intent);
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
        if let Err(error) = &result
            && !self.session.own.contains(&intent)
        {
            self.put_outcome(intent, error)?;
        }
        self.tell(match result {
            Ok(()) => Event::Done { intent },
            Err(error) => Event::Failed { intent, error },
        });
        Ok(())
    }

    /// Leaves word for the process that began an intent, if it still waits.
    fn put_outcome(&mut self, intent: IntentId, error: &Error) -> Result<(), Error> {
        let old = self.now.saturating_sub(OUTCOME_MS);
        for (key, row) in rows::scan::<OutcomeRow>(self.tx, Table::Outcomes, &[])? {
            if row.time < old {
                self.tx.delete(Table::Outcomes, &key)?;
            }
        }
        let row = OutcomeRow {
            version: Version,
            time: self.now,
            reason: error.to_string().into(),
        };
        rows::put(self.tx, Table::Outcomes, &intent.to_bytes(), &row)?;
        Ok(())
    }

    // ---- what comes next

    pub(super) fn advance_conversation(&mut self, log: LogId) -> Result<Option<Ask>, Error> {
        loop {
            let row: Option<ConversationRow> =
                rows::get(self.tx, Table::Conversations, log.as_ref())?;
            let Some(row) = row else {
                return Ok(None);
            };
            match row.standing {
                Standing::Opening => return self.ask_open(&row).map(Some),
                Standing::Member => {}
                Standing::Removed | Standing::Stopped | Standing::Left => return Ok(None),
            }
            let reading = *self.session.reading(log);
            let outbox = self.outbox(log)?;
            let leaves = outbox.iter().any(OutboxRow::has_left);
            let messages = outbox.iter().filter(|row| row.is_new_message());
            let messages: Vec<IntentId> = messages.map(|row| row.intent).collect();
            let holds = !leaves && !messages.is_empty() && self.holds_messages(&row)?;
            let Some(mut next) = next_of(outbox, holds) else {
                if reading.wanted || (holds && !reading.at_head) {
                    return self.ask_read(&row, Task::Conversation(log)).map(Some);
                }
                if holds {
                    self.tell_held(&row, &messages);
                }
                if !reading.at_head {
                    return Ok(None);
                }
                if leaves {
                    self.advance_leaver(row)?;
                    return Ok(None);
                }
                if self.want_proposals(&row, false)? {
                    continue;
                }
                return Ok(None);
            };
            match (next.attempt, next.receipt) {
                (Some(entry), None) => return self.ask_append(&row, entry).map(Some),
                // What stands there is not what the receipt was given for.
                (Some(_), Some(place)) if place <= row.sequence => {
                    (next.attempt, next.receipt) = (None, None);
                    self.put_outbox(&next)?;
                    self.bad_service(log, BadService::Contradiction(log))?;
                    return Ok(None);
                }
                // The receipt settles nothing by itself: the entry is read first.
                (Some(_), Some(_)) => {
                    return self.ask_read(&row, Task::Conversation(log)).map(Some);
                }
                (None, _) if !reading.at_head => {
                    return self.ask_read(&row, Task::Conversation(log)).map(Some);
                }
                // What others have proposed comes before our next message.
                (None, _)
                    if matches!(next.wish, Wish::Send(_) | Wish::Leave(_))
                        && !self.holds_messages(&row)?
                        && self.want_proposals(&row, true)? => {}
                (None, _) => match self.build(row, &next)? {
                    Built::Attempt(entry) => {
                        next.attempt = Some(entry);
                        next.receipt = None;
                        next.tried = true;
                        self.put_outbox(&next)?;
                    }
                    Built::Done => self.give_up(&next, Ok(()))?,
                    Built::Failed(error) => self.give_up(&next, Err(error))?,
                    Built::Closed => {}
                },
            }
        }
    }

    /// Tells of each message once that it is held back.
    fn tell_held(&mut self, row: &ConversationRow, messages: &[IntentId]) {
        for intent in messages {
            if self.session.held_back.insert(*intent) {
                let error = Error::RemovalProposed(row.title.0.clone());
                self.tell(Event::Blocked { error });
            }
        }
    }

    /// There is nothing to offer for a wish.
    fn give_up(&mut self, wish: &OutboxRow, result: Result<(), Error>) -> Result<(), Error> {
        if !wish.wish.is_users() {
            self.nothing_due(wish.log)?;
        }
        self.settle(wish.log, wish.intent, result)
    }

    fn build(&mut self, row: ConversationRow, next: &OutboxRow) -> Result<Built, Error> {
        match &next.wish {
            Wish::Send(wish) => self.build_message(row, next.intent, wish),
            Wish::Leave(_) => self.build_leave(row, next),
            wish => self.build_commit(row, next, wish),
        }
    }

    fn ask_open(&mut self, row: &ConversationRow) -> Result<Ask, Error> {
        let fence = self.fence(row, row.epoch)?;
        let open = Open {
            version: VERSION,
            log: row.log,
            fence_key: fence.public(),
        };
        let proof = self.fence_proof(row, row.epoch, Method::Open, open.id().0.into())?;
        let request = OpenRequest {
            open: open.to_bytes(),
            fence_signature: proof,
            payment: None,
        };
        let to = address(&row.delivery);
        Ok(Ask {
            to,
            call: Call::Open(request),
            asked: Asked::Open,
        })
    }

    fn ask_append(&mut self, row: &ConversationRow, entry: EntryId) -> Result<Ask, Error> {
        let damaged = || StoreError::DamagedRow(Table::Outbox.name());
        let attempt = self.attempt(row.log, entry)?.ok_or_else(damaged)?;
        // Of a message perhaps one that is over.
        let epoch = Append::from_bytes(&attempt.append)
            .map_err(|_| damaged())?
            .epoch;
        let request = AppendRequest {
            append: attempt.append.into_vec(),
            fence_signature: self.fence_proof(row, epoch, Method::Append, entry.0.into())?,
            shared_part: attempt.shared_part.into_vec(),
            own_parts: attempt.own_parts.into_iter().map(Bytes::into_vec).collect(),
            ..Default::default()
        };
        let to = address(&row.delivery);
        Ok(Ask {
            to,
            call: Call::Append(request),
            asked: Asked::Append(entry),
        })
    }

    /// Asks for what is new, once or, for [`Task::Follow`], as long as it lasts.
    pub(super) fn ask_read(&mut self, row: &ConversationRow, task: Task) -> Result<Ask, Error> {
        let to = address(&row.delivery);
        let Some(nonce) = self.session.nonce(&task, self.now) else {
            let call = Call::LogNonce(NonceRequest {});
            return Ok(Ask {
                to,
                call,
                asked: Asked::Nonce,
            });
        };
        let read = LogRead {
            log: row.log.into(),
            branch: row.branch.into(),
            epoch: row.epoch,
            proof: self.fence_proof(row, row.epoch, Method::Read, nonce.as_slice().into())?,
            nonce,
            after: row.sequence,
        };
        let cursor = Cursor {
            epoch: row.epoch,
            after: row.sequence,
        };
        let (follow, asked) = match task {
            Task::Follow(log) => {
                self.session.following.entry(log).or_default().issued = 0;
                (true, Asked::Follow(cursor))
            }
            _ => (false, Asked::Read(cursor)),
        };
        let request = ReadRequest {
            logs: vec![read],
            follow,
        };
        Ok(Ask {
            to,
            call: Call::Read(request),
            asked,
        })
    }

    fn fence_proof(
        &self,
        row: &ConversationRow,
        epoch: u64,
        method: Method,
        subject: Bytes,
    ) -> Result<Vec<u8>, Error> {
        let proof = FenceProof {
            version: VERSION,
            delivery_service: row.delivery.key,
            log: row.log,
            branch: row.branch,
            epoch,
            method,
            subject,
        };
        Ok(proof.sign(&self.fence(row, epoch)?).to_vec())
    }

    // ---- what the DS said

    pub(super) fn opened(&mut self, log: LogId, receipt: &Receipt) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        if row.standing != Standing::Opening {
            return Ok(());
        }
        let Ok(signed) = SignedHead::read(receipt, &row.delivery.key) else {
            return self.bad_service(log, BadService::Signature(log));
        };
        let head = signed.head.clone();
        let chain = ChainHash::START.next(log, 0, head.entry_time, row.branch);
        let fits = head.log == log && head.branch == row.branch;
        if !fits || (head.sequence, head.chain) != (0, chain) {
            return self.bad_service(log, BadService::Contradiction(log));
        }
        row.standing = Standing::Member;
        row.chain = chain;
        row.time = head.entry_time;
        row.head = Some(signed.into());
        let held = self.hold(&row)?;
        let founded = Founded {
            by: self.account()?.user,
            title: row.title.clone(),
        };
        self.write_history(&row, 0, What::Created(founded))?;
        self.put_chain(&row)?;
        self.keep(&mut row, held)?;
        // An old copy of this home gets the same receipt again: only reading tells what came since.
        self.session.reading(log).at_head = false;
        self.tell(Event::Done { intent: row.intent });
        self.wake.push(Task::Follow(log));
        self.wake_invites(log)
    }

    pub(super) fn appended(
        &mut self,
        log: LogId,
        entry: EntryId,
        receipt: &Receipt,
    ) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        let offered = self
            .outbox(log)?
            .into_iter()
            .find(|row| row.attempt == Some(entry));
        let Some(mut offered) = offered else {
            // Another process was first to hear, and to read on.
            return Ok(());
        };
        let held = self.hold(&row)?;
        let checked = self.check_head(&mut row, |_| None, receipt)?;
        let place = row.sequence;
        self.keep(&mut row, held)?;
        match checked {
            // We have read what is there, and it was not this.
            Ok(head) if head.sequence <= place => {
                self.bad_service(log, BadService::Contradiction(log))
            }
            Ok(head) => {
                offered.receipt = Some(head.sequence);
                self.put_outbox(&offered)?;
                Ok(())
            }
            Err(fault) => self.bad_service(log, fault),
        }
    }

    pub(super) fn append_refused(
        &mut self,
        log: LogId,
        entry: EntryId,
        refusal: Refusal,
    ) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        let offered = self
            .outbox(log)?
            .into_iter()
            .find(|row| row.attempt == Some(entry));
        let Some(mut offered) = offered else {
            return Ok(());
        };
        match refusal {
            Refusal::Conflict(_, signed) => {
                let held = self.hold(&row)?;
                let checked = self.check_head(&mut row, |_| None, &Receipt::from(*signed))?;
                self.keep(&mut row, held)?;
                let head = match checked {
                    Ok(head) => head,
                    Err(fault) => return self.bad_service(log, fault),
                };
                // The entry is out; its attempt stays until a commit after its parent was read.
                offered.attempt = None;
                self.put_outbox(&offered)?;
                if head.sequence > row.sequence {
                    // There is something to read: perhaps another process was first to come this far.
                    self.session.reading(log).lost_at = None;
                }
                match self.attempt(log, entry)? {
                    // It was of an epoch that is over: no wonder.
                    Some(attempt) if attempt.parent != row.tip => {
                        let reading = self.session.reading(log);
                        (reading.at_head, reading.wanted) = (false, true);
                        Ok(())
                    }
                    _ => self.read_again(&row),
                }
            }
            // Perhaps the epoch is over behind a cut: reading tells.
            Refusal::NotFound | Refusal::BadProof => self.read_again(&row),
            Refusal::TooLarge | Refusal::Malformed(_) | Refusal::HeaderMismatch => {
                self.tx
                    .delete(Table::Attempts, &rows::attempt_key(log, entry))?;
                self.settle(log, offered.intent, Err(refusal.into()))
            }
            refusal => {
                self.block(Task::Conversation(log), refusal.into());
                Ok(())
            }
        }
    }

    /// Reads on after losing. Losing twice at one place contradicts what was read there.
    fn read_again(&mut self, row: &ConversationRow) -> Result<(), Error> {
        let reading = self.session.reading(row.log);
        let again = reading.lost_at.replace(row.sequence) == Some(row.sequence);
        reading.at_head = false;
        reading.wanted = true;
        if again {
            self.block(Task::Conversation(row.log), Error::NotTaken);
        }
        Ok(())
    }

    pub(super) fn bad_service(&mut self, log: LogId, fault: BadService) -> Result<(), Error> {
        self.block(Task::Conversation(log), Error::BadService(fault));
        Ok(())
    }

    /// Looks at the invitations that wait for the log to be read.
    pub(super) fn wake_invites(&mut self, log: LogId) -> Result<(), Error> {
        for row in self.outbox(log)? {
            self.wake.push(Task::Invite(log, row.intent));
        }
        Ok(())
    }
}

/// What is to be done next of all that waits; no new message if those are held back.
fn next_of(outbox: Vec<OutboxRow>, holds: bool) -> Option<OutboxRow> {
    // A leaver sends nothing more.
    if outbox.iter().any(OutboxRow::has_left) {
        let is_offered = |row: &OutboxRow| row.has_left() && row.attempt.is_some();
        return outbox.into_iter().find(is_offered);
    }
    // What was offered is settled first, so that one entry of ours is under way at a time.
    let at = |is: &dyn Fn(&OutboxRow) -> bool| outbox.iter().position(is);
    let first = at(&|row| row.attempt.is_some())
        .or_else(|| at(&|row| !row.wish.is_users()))
        .or_else(|| at(&|row| row.is_ready() && !(holds && row.is_new_message())))?;
    outbox.into_iter().nth(first)
}

impl OutboxRow {
    /// Whether our leave is on its way, or in the log.
    fn has_left(&self) -> bool {
        match &self.wish {
            Wish::Leave(wish) => wish.proposed || self.attempt.is_some(),
            _ => false,
        }
    }

    /// Whether it is a message that was not encrypted for the current epoch.
    fn is_new_message(&self) -> bool {
        matches!(self.wish, Wish::Send(_)) && self.attempt.is_none()
    }

    /// Whether nothing has to come before the entry.
    fn is_ready(&self) -> bool {
        match &self.wish {
            Wish::Add(wish) => wish.targets.iter().all(|target| {
                target.looked_up && target.devices.iter().all(|device| device.dropped)
            }),
            _ => true,
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
