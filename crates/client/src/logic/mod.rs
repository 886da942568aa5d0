//! The client as a state machine.
//!
//! [`Logic::step`] runs inside one immediate write transaction, which it reads the state it needs from.
//! It takes an [`Input`] and returns [`Output`]s, which the caller acts on after the transaction is
//! durable. No network inside, no clock, no randomness of its own.
//!
//! What is to be done stands in rows: a registration and its stage, intents in the outbox, invitations,
//! the cursor of each conversation. Each thing that can have one call under way at a time is a *task*;
//! whenever something happened to a task, the logic looks at its rows and asks what comes next
//! (`advance_*` in the files of this folder). So a crash needs no special care: a new process looks at the
//! same rows. What only this process knows (calls under way, nonces, held groups, "read to the head") it
//! may lose.

mod account;
mod appending;
mod chain;
mod committers;
mod committing;
mod contests;
pub(crate) mod doors;
mod following;
pub(crate) mod groups;
mod heads;
mod inviting;
mod joining;
mod knocking;
mod leaving_out;
mod mailbox;
mod merging;
mod offering;
mod opening;
mod outbox;
mod pages;
mod past;
mod proposals;
mod reading;
mod receiving;
mod reports;
pub(crate) mod rows;
mod sending;
mod session;
pub(crate) mod shelf;
mod tokens;
mod wishes;
mod words;

use folkmoot_credential::DeliveryAddress;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::ids::{LogId, MailboxId};
use rand_core::CryptoRng;

use crate::error::{BadService, Error};
use crate::store::{Table, Transaction};
use crate::transport::ServiceAddress;
use session::{Asked, Session, State, Task};

pub use words::{CallId, Doing, Event, Input, Intent, IntentId, Output, Pause, Standing};

/// `ContentType` of RFC 9420, section 6, as an append declares it.
const APPLICATION: u8 = 1;
const PROPOSAL: u8 = 2;
const COMMIT: u8 = 3;

/// The client's logic: what this process knows and may lose. The rest is in the store.
#[derive(Debug, Default)]
pub struct Logic {
    session: Session,
}

impl Logic {
    /// The logic of a process that has just started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls under way, but for some, will have no answer: their tasks may ask again.
    pub fn forget_calls(&mut self, but: &[CallId]) {
        self.session.forget_calls(but);
    }

    /// One step. `now` is in milliseconds since 1970. If it fails, the transaction has to be rolled
    /// back; if the transaction cannot be made durable, this value has to be replaced by a new one.
    ///
    /// # Errors
    /// Those of an intent that cannot be: [`Error::UnknownConversation`] and the like;
    /// [`Error::Store`] and [`Error::Engine`] where our own state is damaged. What services and members
    /// do wrong is an [`Event`].
    pub fn step(
        &mut self,
        tx: &mut dyn Transaction,
        input: Input,
        now: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<Output>, Error> {
        let before = self.session.marks();
        let outputs = Vec::new();
        let session = &mut self.session;
        let mut step = Step {
            tx,
            now,
            rng,
            session,
            outputs,
            wake: Vec::new(),
        };
        match step.run(input) {
            Ok(()) => Ok(step.outputs),
            Err(error) => {
                self.session.restore(before);
                Err(error)
            }
        }
    }
}

/// One step under way.
struct Step<'a> {
    tx: &'a mut dyn Transaction,
    now: u64,
    rng: &'a mut dyn CryptoRng,
    session: &'a mut Session,
    outputs: Vec<Output>,
    /// Tasks to look at.
    wake: Vec<Task>,
}

/// What a task wants to ask.
struct Ask {
    to: ServiceAddress,
    call: Call,
    asked: Asked,
}

impl Step<'_> {
    fn run(&mut self, input: Input) -> Result<(), Error> {
        if matches!(input, Input::Intent(_) | Input::Resume | Input::Tick) {
            // Tokens are drawn when it is time, whatever else is asked for.
            self.wake.push(Task::Tokens);
        }
        match input {
            Input::Intent(intent) => self.intent(intent)?,
            Input::Answer { id, result } => self.answer(id, result)?,
            Input::Part { id, answer } => self.part(id, answer)?,
            Input::Unanswered { id, error } => match self.session.answered(id) {
                Some((Task::Follow(log), _)) => self.follow_broken(log, error),
                Some((Task::Join(address), Asked::PickUp { elsewhere: true } | Asked::Pages)) => {
                    self.session.joining.remove(&address);
                    self.join_later(address)?;
                }
                Some((Task::Tokens, _)) => {
                    self.session.set(Task::Tokens, State::Blocked);
                    self.wake.push(Task::Mailbox);
                }
                Some((Task::Repair(log), _)) => {
                    self.session.repairs.remove(&log);
                }
                Some((Task::Invite(log, intent), asked)) => {
                    self.invite_failed(log, intent, &asked, error.into(), false)?;
                }
                Some((task, _)) => self.block(task, error.into()),
                None => {}
            },
            Input::Resume => {
                self.session.unblock();
                self.wake_all()?;
            }
            Input::Tick => {
                let due = self.session.due(self.now);
                self.wake.extend(due);
            }
        }
        while let Some(task) = self.wake.pop() {
            if self.session.is_free(&task) {
                self.advance(task)?;
            }
        }
        Ok(())
    }

    fn intent(&mut self, intent: Intent) -> Result<(), Error> {
        match intent {
            Intent::Register {
                name,
                domain,
                authentication,
                delivery,
            } => self.register(name, domain, authentication, delivery),
            Intent::New { title, users } => self.new_conversation(&title, &users),
            Intent::Add { log, users } => self.want_add(log, &users),
            Intent::Remove { log, users } => self.want_remove(log, &users),
            Intent::Update { log } => self.want_update(log),
            Intent::Leave { log } => self.want_leave(log),
            Intent::Send {
                log,
                media_type,
                content,
            } => self.want_send(log, media_type, content),
            Intent::Link { log, mode } => self.want_link(log, mode),
            Intent::Knock { link, only_device } => self.knock(*link, only_device),
            Intent::Accept { log, user } => self.accept_knock(log, &user),
            Intent::Decline { log, user } => self.decline_knock(log, &user),
            Intent::Sync => self.sync(),
            Intent::Follow { log } => self.follow_log(log),
        }
    }

    /// Looks at everything that may have something to do.
    fn wake_all(&mut self) -> Result<(), Error> {
        self.wake.push(Task::Mailbox);
        for (key, _) in self.tx.scan(Table::Conversations, &[], None, usize::MAX)? {
            self.wake.extend(LogId::read(&key).map(Task::Conversation));
        }
        let followed = self.session.following.keys();
        self.wake.extend(followed.copied().map(Task::Follow));
        for (_, row) in rows::scan::<rows::OutboxRow>(self.tx, Table::Outbox, &[])? {
            self.wake.push(Task::Invite(row.log, row.intent));
        }
        for (key, _) in self.tx.scan(Table::Doors, &[], None, usize::MAX)? {
            self.wake.extend(MailboxId::read(&key).map(Task::Door));
        }
        self.wake_joins()
    }

    fn wake_joins(&mut self) -> Result<(), Error> {
        for (_, row) in rows::scan::<rows::InvitationRow>(self.tx, Table::Invitations, &[])? {
            self.wake.push(Task::Join(row.invitation.address));
        }
        Ok(())
    }

    /// Asks what comes next for a task, and calls it.
    fn advance(&mut self, task: Task) -> Result<(), Error> {
        let ask = match task {
            Task::Mailbox => self.advance_mailbox()?,
            Task::Tokens => self.advance_tokens()?,
            Task::Conversation(log) => self.advance_conversation(log)?,
            Task::Follow(log) => self.advance_follow(log)?,
            Task::Invite(log, intent) => self.advance_invite(log, intent)?,
            Task::Repair(log) => self.advance_repair(log)?,
            Task::Join(address) => self.advance_join(address)?,
            Task::Door(mailbox) => self.advance_door(mailbox)?,
        };
        if let Some(Ask {
            to,
            mut call,
            asked,
        }) = ask
        {
            let paid = self.pay(&to, &mut call)?;
            let id = self.session.ask(task, asked);
            if let Some(paid) = paid {
                self.session.paid.insert(id, paid);
            }
            self.outputs.push(Output::Call { id, to, call });
        }
        Ok(())
    }

    fn answer(&mut self, id: CallId, result: Result<Answer, Refusal>) -> Result<(), Error> {
        let paid = self.session.paid.get(&id).copied();
        // Nobody waits for it any more: the process that asked is gone, or it came twice.
        let Some((task, asked)) = self.session.answered(id) else {
            return Ok(());
        };
        self.wake.push(task);
        if matches!(asked, Asked::PickUp { elsewhere: true }) {
            self.wake_joins()?;
        }
        if task == Task::Tokens {
            // A registration waits for the first tokens.
            self.wake.push(Task::Mailbox);
        }
        if let Some(paid) = &paid {
            self.settle_payment(paid, &result)?;
        }
        match result {
            Ok(answer) => {
                if !matches!(asked, Asked::Nonce) {
                    self.session.stale.remove(&task);
                    self.session.tries.remove(&task);
                }
                self.accept(task, asked, answer)
            }
            Err(refusal) if task == Task::Tokens => self.draw_refused(&refusal),
            Err(Refusal::Payment(fault)) => {
                self.payment_refused(task, paid, fault);
                Ok(())
            }
            Err(refusal) => self.refused(task, asked, refusal),
        }
    }

    fn accept(&mut self, task: Task, asked: Asked, answer: Answer) -> Result<(), Error> {
        match (task, asked, answer) {
            (_, Asked::Nonce, Answer::LogNonce(answer)) => self.keep_nonce(task, answer.nonce),
            (_, Asked::Nonce, Answer::MailboxNonce(answer)) => self.keep_nonce(task, answer.nonce),
            (_, Asked::Nonce, Answer::ShelfNonce(answer)) => self.keep_nonce(task, answer.nonce),
            (_, Asked::Nonce, Answer::DoorNonce(answer)) => self.keep_nonce(task, answer.nonce),
            (Task::Door(mailbox), asked, answer) => self.at_door(mailbox, asked, &answer),
            (_, Asked::Register, Answer::Register(answer)) => self.registered(&answer),
            (_, Asked::Issuers, Answer::Issuers(answer)) => self.issuers_listed(&answer),
            (_, Asked::Draw(number), Answer::DrawTokens(answer)) => self.drawn(number, &answer),
            (_, Asked::CreateMailbox, Answer::CreateMailbox(_)) => self.mailbox_made(),
            (_, Asked::Stock(references), Answer::Stock(_)) => self.stocked(&references),
            (_, Asked::Count, Answer::Count(answer)) => self.counted(&answer),
            (_, Asked::Collect(after), Answer::Collect(answer)) => self.collected(after, &answer),
            (_, Asked::Acknowledge(through), Answer::Acknowledge(_)) => self.acknowledged(through),
            (Task::Conversation(log), Asked::Open, Answer::Open(receipt)) => {
                self.opened(log, &receipt)
            }
            (Task::Conversation(log), Asked::Append(entry), Answer::Append(receipt)) => {
                self.appended(log, entry, &receipt)
            }
            (Task::Conversation(log), Asked::Candidates(after), Answer::Candidates(answer)) => {
                self.listed(log, after, &answer)
            }
            (Task::Conversation(log), Asked::Append(entry), Answer::AppendStaged(receipt)) => {
                self.session.uploads.remove(&log);
                self.appended(log, entry, &receipt)
            }
            (Task::Conversation(log), Asked::Stage(entry), Answer::Stage(answer)) => {
                self.staged(log, entry, &answer)
            }
            (Task::Conversation(log), Asked::Upload(entry, number), Answer::Upload(_)) => {
                self.uploaded(log, entry, number);
                Ok(())
            }
            (Task::Join(address), Asked::Pages, Answer::Pages(answer)) => {
                self.pages_arrived(address, &answer)
            }
            (Task::Repair(log), Asked::Repair(false), Answer::Pages(answer)) => {
                self.pages_missing(log, &answer)
            }
            (Task::Repair(log), Asked::Repair(true), Answer::PutPages(_)) => {
                self.pages_put(log);
                Ok(())
            }
            (Task::Conversation(log), Asked::Read(cursor), Answer::Read(answer)) => {
                self.read(task, log, cursor, &answer)
            }
            (Task::Follow(log), Asked::Follow(cursor), Answer::Read(answer)) => {
                self.follow_ended(log, cursor, &answer)
            }
            (Task::Invite(log, intent), Asked::LookUp(number), Answer::LookUp(answer)) => {
                self.looked_up(log, intent, number, &answer)
            }
            (Task::Invite(log, intent), Asked::Take(from, count), Answer::Take(answer)) => {
                self.taken(log, intent, (from, count), answer)
            }
            (Task::Invite(log, intent), Asked::Drop(from, count), Answer::DropAll(answer)) => {
                self.dropped(log, intent, (from, count), &answer)
            }
            (Task::Join(address), Asked::PickUp { .. }, Answer::PickUp(answer)) => {
                self.picked_up(address, &answer)
            }
            _ => {
                self.block(task, Error::BadService(BadService::Answer));
                Ok(())
            }
        }
    }

    fn keep_nonce(&mut self, task: Task, nonce: Vec<u8>) -> Result<(), Error> {
        self.session.nonces.insert(task, (nonce, self.now));
        Ok(())
    }

    fn refused(&mut self, task: Task, asked: Asked, refusal: Refusal) -> Result<(), Error> {
        match &refusal {
            // The same again later: what was to be sent is kept as it is.
            temporary if temporary.is_temporary() => {
                self.wait(task, refusal);
                return Ok(());
            }
            // Once more with a fresh one; a service that refuses that too is at fault.
            Refusal::StaleNonce if self.session.stale.insert(task) => {
                self.session.nonces.remove(&task);
                return Ok(());
            }
            _ => {}
        }
        match (task, asked) {
            (_, Asked::Register) => self.register_refused(refusal),
            (_, Asked::Stock(references)) => self.stock_refused(&references, refusal),
            (Task::Conversation(log), Asked::Append(entry) | Asked::Stage(entry)) => {
                self.session.uploads.remove(&log);
                self.append_refused(log, entry, refusal)
            }
            (Task::Conversation(log), Asked::Upload(..)) => {
                self.upload_refused(log, &refusal);
                Ok(())
            }
            (Task::Invite(log, intent), Asked::LookUp(number)) => {
                self.look_up_refused(log, intent, number, refusal)
            }
            (Task::Invite(log, intent), asked @ (Asked::Take(..) | Asked::Drop(..))) => {
                self.invite_failed(log, intent, &asked, refusal.into(), true)
            }
            (Task::Join(address), Asked::Pages) => {
                self.session.joining.remove(&address);
                self.join_later(address)
            }
            (Task::Repair(log), _) => {
                self.session.repairs.remove(&log);
                Ok(())
            }
            (Task::Join(address), Asked::PickUp { .. }) => self.pick_up_refused(address, refusal),
            (Task::Door(mailbox), asked) => self.door_refused(mailbox, &asked, refusal),
            _ => {
                self.block(task, refusal.into());
                Ok(())
            }
        }
    }

    /// Asks again later.
    fn wait(&mut self, task: Task, refusal: Refusal) {
        let until = self
            .now
            .saturating_add(self.session.back_off(task, &refusal));
        self.session.set(task, State::Waiting(until));
        let pause = match task {
            Task::Follow(_) => Pause::Stream,
            _ => Pause::Service,
        };
        self.outputs.push(Output::Wait { until, pause });
        self.tell(Event::Blocked {
            error: refusal.into(),
        });
    }

    /// Leaves a task until the user, or a new process, tries again.
    fn block(&mut self, task: Task, error: Error) {
        self.session.set(task, State::Blocked);
        self.tell(Event::Blocked { error });
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push(Output::Event(event));
    }
}

fn address(stored: &DeliveryAddress) -> ServiceAddress {
    ServiceAddress {
        url: String::from_utf8_lossy(&stored.url).into_owned(),
        key: stored.key,
        pin: stored.pin.as_slice().try_into().ok(),
    }
}

fn stored_address(address: &ServiceAddress) -> DeliveryAddress {
    DeliveryAddress {
        url: address.url.as_bytes().into(),
        key: address.key,
        pin: address.pin.map_or_else(Default::default, Into::into),
    }
}
