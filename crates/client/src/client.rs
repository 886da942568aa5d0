//! [`Client`]: the logic over a store and a transport.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::task::Poll;

use folkmoot_credential::LinkMode;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{ReadRequest, ReadResponses};
use folkmoot_protocol::well_known::WellKnown;

use crate::error::{BadService, Error};
use crate::history::{HistoryEntry, HistoryPosition, LeftOut, What};
use crate::logic::rows;
use crate::logic::{CallId, Doing, Event, Input, Intent, IntentId, Logic, Output, Pause};
use crate::store::Store;
use crate::transport::{Parts, ServerUrl, ServiceAddress, Transport, TransportError};
use crate::views::{self, Account, Conversation, CurrentLink, Members, PendingKnock};
use crate::world::World;

/// The longest that a command waits for a service that asked to be asked again later.
const PATIENCE_MS: u64 = 10_000;

/// How often to look whether another process has done what this one waits for.
const POLL_MS: u64 = 100;

/// The longest that syncing waits for its turn: that of the last rank, and what carrying it out takes.
const TURN_PATIENCE_MS: u64 = 62_000;
/// Milliseconds without any part after which a stream counts as broken: a service shows a head once a
/// minute at least.
const SILENCE_MS: u64 = 150_000;

/// One device's account and conversations.
///
/// Each method does what it says through to the end: it returns when the service has confirmed, or with
/// [`Error::Pending`] when that has to wait. Nothing is lost if the process ends at any point.
pub struct Client<S, T, W> {
    store: S,
    transport: T,
    world: W,
    logic: Logic,
    resumed: bool,
    streams: BTreeMap<CallId, Live>,
    /// When the logic wants to be told that time has passed, where no command waited for that.
    later: BTreeSet<u64>,
    /// When streams that broke are to be begun again.
    retries: BTreeSet<u64>,
    progress: Option<Box<OnProgress>>,
}

/// Told how far something is that takes long: what, how much of it, of how much.
type OnProgress = dyn FnMut(Doing, usize, usize) + Send;

/// An answer that comes in parts.
struct Live {
    url: String,
    parts: Box<dyn Parts>,
    heard: u64,
}

/// How long a run waits, in milliseconds.
#[derive(Clone, Copy)]
struct Patience {
    /// For a service that asked to be asked again later.
    service: u64,
    /// For our turn.
    turn: u64,
}

impl Patience {
    /// Not at all.
    const NONE: Self = Self {
        service: 0,
        turn: 0,
    };

    /// As a command does, and so long for our turn.
    fn until_turn(turn: u64) -> Self {
        let service = PATIENCE_MS;
        Self { service, turn }
    }

    fn with(self, pause: Pause) -> u64 {
        match pause {
            Pause::Service => self.service,
            Pause::Turn => self.turn,
            Pause::Stream => 0,
        }
    }
}

/// What came of one run of the logic.
#[derive(Default)]
struct Run {
    /// The intents of this run, and what came of them.
    started: BTreeMap<IntentId, Option<Result<(), Error>>>,
    blocked: Option<Error>,
    events: Vec<Event>,
}

impl<S: Store, T: Transport, W: World> Client<S, T, W> {
    /// A client over what the store holds.
    pub fn new(store: S, transport: T, world: W) -> Self {
        Self {
            store,
            transport,
            world,
            logic: Logic::new(),
            resumed: false,
            streams: BTreeMap::new(),
            later: BTreeSet::new(),
            retries: BTreeSet::new(),
            progress: None,
        }
    }

    /// Is told how far something is that takes long, as adding many users does: what is being done, how
    /// much of it, of how much.
    #[must_use]
    pub fn on_progress(mut self, told: impl FnMut(Doing, usize, usize) + Send + 'static) -> Self {
        self.progress = Some(Box::new(told));
        self
    }

    /// The transport, to be told of changes in the network.
    pub fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Registers `name` at the domain whose services `well_known` lists, fetched from `server`. The same
    /// again finishes what was interrupted.
    ///
    /// # Errors
    /// [`Error::AlreadyRegistered`] for another user than the one in this home;
    /// [`Error::Refused`] if the name is taken or not allowed; [`Error::Pending`].
    pub async fn register(
        &mut self,
        name: &str,
        server: &ServerUrl,
        well_known: &WellKnown,
    ) -> Result<Account, Error> {
        let address = |service: &Option<folkmoot_protocol::well_known::Service>| {
            let service = service
                .as_ref()
                .ok_or(Error::BadService(BadService::Answer))?;
            Ok::<_, Error>(ServiceAddress {
                url: service.url.trim_end_matches('/').to_owned(),
                key: service.key,
                pin: server.pin,
            })
        };
        let intent = Intent::Register {
            name: name.parse()?,
            domain: well_known.domain.parse()?,
            authentication: address(&well_known.authentication)?,
            delivery: address(&well_known.delivery)?,
        };
        self.fulfil(intent).await?;
        self.account()?.ok_or(Error::NotRegistered)
    }

    /// Begins a conversation, and adds users to it.
    ///
    /// # Errors
    /// [`Error::InvalidTitle`], [`Error::TitleTaken`], and as [`Client::add`].
    pub async fn new_conversation(
        &mut self,
        title: &str,
        users: &[String],
    ) -> Result<Conversation, Error> {
        let title = title.to_owned();
        let users = users.to_vec();
        self.fulfil(Intent::New {
            title: title.clone(),
            users,
        })
        .await?;
        self.conversation(&title)
    }

    /// Adds users with all their devices, in one commit. Conversations are named by title or by the
    /// beginning of their id. Returns who was left out, since they could not be added; the history tells
    /// it too ([`What::LeftOut`]).
    ///
    /// # Errors
    /// If nobody could be added, why the last of them could not:
    /// [`Error::UnknownUser`], [`Error::AlreadyMember`], [`Error::NoPackage`], [`Error::Pending`], …
    pub async fn add(
        &mut self,
        conversation: &str,
        users: &[String],
    ) -> Result<Vec<LeftOut>, Error> {
        let log = self.conversation(conversation)?.log;
        let users = users.to_vec();
        let events = self.fulfil_and_tell(Intent::Add { log, users }).await?;
        Ok(left_out(events))
    }

    /// Removes users with all their devices, in one commit.
    ///
    /// # Errors
    /// [`Error::NotMember`], [`Error::Oneself`], [`Error::Pending`], …
    pub async fn remove(&mut self, conversation: &str, users: &[String]) -> Result<(), Error> {
        let log = self.conversation(conversation)?.log;
        let users = users.to_vec();
        self.fulfil(Intent::Remove { log, users }).await
    }

    /// Makes a link at which people outside can knock, or shows the one that there is. If members are to
    /// be asked (`asks`), one of them answers with [`Client::accept`] or [`Client::decline`]; else the
    /// first that is online lets in whoever was not removed before. It is replaced whenever somebody is
    /// removed.
    ///
    /// # Errors
    /// [`Error::Pending`], …
    pub async fn invite_by_link(
        &mut self,
        conversation: &str,
        asks: bool,
    ) -> Result<CurrentLink, Error> {
        let log = self.conversation(conversation)?.log;
        let mode = if asks {
            LinkMode::Ask
        } else {
            LinkMode::Automatic
        };
        let mode = Some(mode);
        self.fulfil(Intent::Link { log, mode }).await?;
        let link = self.link(conversation)?;
        link.ok_or(Error::Pending(Box::new(Error::NotTaken)))
    }

    /// Takes the link back: nobody can knock any more.
    ///
    /// # Errors
    /// [`Error::Pending`], …
    pub async fn take_link_back(&mut self, conversation: &str) -> Result<(), Error> {
        let log = self.conversation(conversation)?.log;
        self.fulfil(Intent::Link { log, mode: None }).await
    }

    /// The link of a conversation, if it has one.
    ///
    /// # Errors
    /// As [`Client::members`].
    pub fn link(&mut self, conversation: &str) -> Result<Option<CurrentLink>, Error> {
        self.store.transaction(|tx| {
            let found = views::find(tx, conversation)?;
            views::link(tx, found.log)
        })
    }

    /// Knocks where a link leads. It returns when the knock is at the door; [`Client::sync`] joins once
    /// somebody has answered. `only_device`: this device takes the place of all that the user has there.
    ///
    /// # Errors
    /// [`Error::InvalidLink`], [`Error::OwnLink`], [`Error::DeadLink`], [`Error::Pending`], …
    pub async fn knock(&mut self, link: &str, only_device: bool) -> Result<(), Error> {
        let link = Box::new(link.parse()?);
        self.fulfil(Intent::Knock { link, only_device }).await
    }

    /// Who knocked and was not answered yet.
    ///
    /// # Errors
    /// [`Error::UnknownConversation`], [`Error::AmbiguousConversation`].
    pub fn knocks(&mut self, conversation: &str) -> Result<Vec<PendingKnock>, Error> {
        self.store.transaction(|tx| {
            let found = views::find(tx, conversation)?;
            views::knocks(tx, found.log)
        })
    }

    /// Lets somebody in who knocked.
    ///
    /// # Errors
    /// [`Error::NoKnock`], [`Error::Pending`], …
    pub async fn accept(&mut self, conversation: &str, user: &str) -> Result<(), Error> {
        let log = self.conversation(conversation)?.log;
        let user = user.to_owned();
        self.fulfil(Intent::Accept { log, user }).await
    }

    /// Does not let somebody in who knocked. Another member may, if it has heard the knock.
    ///
    /// # Errors
    /// [`Error::NoKnock`].
    pub async fn decline(&mut self, conversation: &str, user: &str) -> Result<(), Error> {
        let log = self.conversation(conversation)?.log;
        let user = user.to_owned();
        self.fulfil(Intent::Decline { log, user }).await
    }

    /// Renews our own keys, which starts a new epoch.
    ///
    /// # Errors
    /// [`Error::Pending`], …
    pub async fn update(&mut self, conversation: &str) -> Result<(), Error> {
        let log = self.conversation(conversation)?.log;
        self.fulfil(Intent::Update { log }).await
    }

    /// Asks to be a member no more, which another member's device carries out as soon as it is online.
    /// Nothing is sent any more; [`Conversation::leaving`] tells whether it is done.
    ///
    /// # Errors
    /// [`Error::Leaving`] and [`Error::Left`] if that was asked for already; [`Error::Pending`], …
    pub async fn leave(&mut self, conversation: &str) -> Result<Conversation, Error> {
        let log = self.conversation(conversation)?.log;
        self.fulfil(Intent::Leave { log }).await?;
        self.conversation(conversation)
    }

    /// Says something.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::InvalidMediaType`], [`Error::Pending`], …
    pub async fn send(
        &mut self,
        conversation: &str,
        media_type: &str,
        content: &[u8],
    ) -> Result<(), Error> {
        let log = self.conversation(conversation)?.log;
        let media_type = media_type.to_owned();
        let content = content.to_vec();
        self.fulfil(Intent::Send {
            log,
            media_type,
            content,
        })
        .await
    }

    /// Fetches invitations, joins, reads every conversation up to its head, sends what waits, restocks
    /// the shelf; and stays until it was our turn to commit what others have proposed, at most a minute.
    /// Returns what is new. What could not be done now is an [`Event::Blocked`].
    ///
    /// # Errors
    /// [`Error::NotRegistered`], and of the store.
    pub async fn sync(&mut self) -> Result<Vec<Event>, Error> {
        self.catch_up(TURN_PATIENCE_MS).await
    }

    /// As [`sync`](Self::sync), but waits for no turn: for a caller who comes again.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    pub async fn refresh(&mut self) -> Result<Vec<Event>, Error> {
        self.catch_up(0).await
    }

    async fn catch_up(&mut self, turn_patience: u64) -> Result<Vec<Event>, Error> {
        if self.account()?.is_none() {
            return Err(Error::NotRegistered);
        }
        let inputs = vec![Input::Resume, Input::Intent(Intent::Sync)];
        let run = self
            .run(inputs, Patience::until_turn(turn_patience))
            .await?;
        self.resumed = true;
        Ok(run.events)
    }

    /// Follows a conversation live, for [`Client::news`] to wait for. What is in the log already
    /// counts as new. It ends with this process, or when we are no member any more. Returns what is
    /// new so far.
    ///
    /// # Errors
    /// [`Error::UnknownConversation`], [`Error::AmbiguousConversation`], and of the store.
    pub async fn follow(&mut self, conversation: &str) -> Result<Vec<Event>, Error> {
        let log = self.conversation(conversation)?.log;
        let mut inputs = vec![Input::Intent(Intent::Follow { log })];
        if !self.resumed {
            inputs.push(Input::Resume);
            self.resumed = true;
        }
        self.run(inputs, Patience::NONE).await.map(|run| run.events)
    }

    /// Waits until something comes in a conversation that is followed, and returns what is new; it can
    /// be little: that the service is still there, or that another process was first to read. `None`
    /// if nothing is followed any more: an event before has said why.
    ///
    /// A service that cannot be reached is asked again, less and less often.
    ///
    /// # Errors
    /// Of the store.
    pub async fn news(&mut self) -> Result<Option<Vec<Event>>, Error> {
        match self.next_input().await {
            Some(input) => {
                let run = self.run(vec![input], Patience::NONE).await?;
                Ok(Some(run.events))
            }
            None => Ok(None),
        }
    }

    /// The next thing that happens by itself.
    async fn next_input(&mut self) -> Option<Input> {
        let silent = self.streams.values().map(|live| live.heard + SILENCE_MS);
        let followed = silent.chain(self.retries.first().copied()).min()?;
        let until = self
            .later
            .first()
            .map_or(followed, |later| followed.min(*later));
        let now = self.world.now();
        let streams = &mut self.streams;
        let mut sleep = std::pin::pin!(self.world.sleep(until.saturating_sub(now)));
        let came = poll_fn(|context| {
            for (id, live) in streams.iter_mut() {
                if let Poll::Ready(part) = live.parts.poll_next(context) {
                    return Poll::Ready(Some((*id, part)));
                }
            }
            sleep.as_mut().poll(context).map(|()| None)
        })
        .await;
        let now = self.world.now();
        if let Some((id, part)) = came {
            if let Some(live) = self.streams.get_mut(&id) {
                live.heard = now;
            }
            if !matches!(part, Some(Ok(_))) {
                self.streams.remove(&id);
            }
            return Some(match part {
                Some(Ok(answer)) => Input::Part { id, answer },
                Some(Err(error)) => failed(id, error),
                None => Input::Answer {
                    id,
                    result: Ok(Answer::Read(ReadResponses::default())),
                },
            });
        }
        let is_silent = |live: &Live| live.heard.saturating_add(SILENCE_MS) <= now;
        let silent = self.streams.iter().find(|(_, live)| is_silent(live));
        let Some(id) = silent.map(|(id, _)| *id) else {
            self.later.retain(|until| *until > now);
            self.retries.retain(|until| *until > now);
            return Some(Input::Tick);
        };
        let url = self.streams.remove(&id).map(|live| live.url);
        let error = TransportError::Unreachable {
            url: url.unwrap_or_default(),
            reason: "it has fallen silent".into(),
        };
        Some(Input::Unanswered { id, error })
    }

    /// The account in this home.
    ///
    /// # Errors
    /// Of the store.
    pub fn account(&mut self) -> Result<Option<Account>, Error> {
        self.store.transaction(|tx| views::account(tx))
    }

    /// All conversations, by title.
    ///
    /// # Errors
    /// Of the store.
    pub fn conversations(&mut self) -> Result<Vec<Conversation>, Error> {
        self.store.transaction(|tx| views::conversations(tx))
    }

    /// The conversation with this title, or the one whose id begins so.
    ///
    /// # Errors
    /// [`Error::UnknownConversation`], [`Error::AmbiguousConversation`].
    pub fn conversation(&mut self, name: &str) -> Result<Conversation, Error> {
        self.store.transaction(|tx| views::find(tx, name))
    }

    /// Who is in a conversation.
    ///
    /// # Errors
    /// [`Error::UnknownConversation`], [`Error::AmbiguousConversation`], [`Error::NoLongerMember`].
    pub fn members(&mut self, conversation: &str) -> Result<Members, Error> {
        self.store.transaction(|tx| {
            let found = views::find(tx, conversation)?;
            views::members(tx, found.log)
        })
    }

    /// What was said and happened after a position, in order; from the beginning if there is none.
    ///
    /// # Errors
    /// [`Error::UnknownConversation`], [`Error::AmbiguousConversation`].
    pub fn history(
        &mut self,
        conversation: &str,
        after: Option<HistoryPosition>,
    ) -> Result<Vec<HistoryEntry>, Error> {
        self.store.transaction(|tx| {
            let found = views::find(tx, conversation)?;
            views::history(tx, found.log, after)
        })
    }

    /// Does what is asked through to the end.
    async fn fulfil(&mut self, intent: Intent) -> Result<(), Error> {
        self.fulfil_and_tell(intent).await.map(drop)
    }

    /// As [`Client::fulfil`]. Returns what was told meanwhile.
    async fn fulfil_and_tell(&mut self, intent: Intent) -> Result<Vec<Event>, Error> {
        let mut inputs = vec![Input::Intent(intent)];
        if !self.resumed {
            inputs.push(Input::Resume);
            self.resumed = true;
        }
        let run = self.run(inputs, Patience::until_turn(0)).await?;
        for (intent, result) in run.started {
            match result {
                Some(result) => result?,
                None => self.elsewhere(intent, run.blocked.clone()).await?,
            }
        }
        Ok(run.events)
    }

    /// What became of an intent that this process began and did not settle: another process on this
    /// home may have, or be about to.
    async fn elsewhere(&mut self, intent: IntentId, blocked: Option<Error>) -> Result<(), Error> {
        let until = self.world.now().saturating_add(PATIENCE_MS);
        loop {
            let outcome = self.store.transaction(|tx| rows::outcome(tx, intent))?;
            if let Some(result) = outcome {
                return result;
            }
            if blocked.is_some() || self.world.now() >= until {
                let reason = blocked.unwrap_or(Error::NotTaken);
                return Err(Error::Pending(Box::new(reason)));
            }
            self.world.sleep(POLL_MS).await;
        }
    }

    /// Feeds the logic and carries its calls until nothing is under way but streams, and nothing waits
    /// that is worth waiting for.
    async fn run(&mut self, inputs: Vec<Input>, patience: Patience) -> Result<Run, Error> {
        // Nobody waits for the calls of a command that was given up.
        // A stream that has just ended is not forgotten: its end is among the inputs.
        let ended = inputs.iter().filter_map(|input| match input {
            Input::Answer { id, .. } | Input::Unanswered { id, .. } => Some(*id),
            _ => None,
        });
        let streams: Vec<_> = self.streams.keys().copied().chain(ended).collect();
        self.logic.forget_calls(&streams);
        let mut run = Run::default();
        let mut calls = VecDeque::new();
        let mut inputs = VecDeque::from(inputs);
        let started = self.world.now();
        let mut waits = BTreeSet::new();
        loop {
            while let Some(input) = inputs.pop_front() {
                for output in self.step(input)? {
                    match output {
                        Output::Call { id, to, call } => calls.push_back((id, to, call)),
                        Output::HangUp { id } => {
                            self.streams.remove(&id);
                        }
                        Output::Event(Event::Progress {
                            doing, done, of, ..
                        }) => {
                            if let Some(told) = &mut self.progress {
                                told(doing, done, of);
                            }
                        }
                        Output::Event(event) => run.note(event),
                        Output::Wait { until, pause } => {
                            // Whoever waits for its turn does so once; a service that asks for a
                            // pause now and then, while much is asked of it, each time.
                            let since = match pause {
                                Pause::Turn => started,
                                _ => self.world.now(),
                            };
                            if until <= since.saturating_add(patience.with(pause)) {
                                waits.insert(until);
                            } else if pause == Pause::Stream {
                                self.retries.insert(until);
                            } else {
                                self.later.insert(until);
                            }
                        }
                    }
                }
            }
            if let Some((id, to, call)) = calls.pop_front() {
                inputs.extend(self.call(id, &to, call).await);
                continue;
            }
            let Some(until) = waits.pop_first() else {
                return Ok(run);
            };
            let now = self.world.now();
            self.world.sleep(until.saturating_sub(now)).await;
            // What had to wait is tried again, and says so if it has to wait longer.
            run.waited();
            inputs.push_back(Input::Tick);
        }
    }

    /// Carries a call. What comes in parts comes later.
    async fn call(&mut self, id: CallId, to: &ServiceAddress, call: Call) -> Option<Input> {
        if let Call::Read(ReadRequest { follow: true, .. }) = call {
            match self.transport.stream(to, call).await {
                Ok(parts) => {
                    let (url, heard) = (to.url.clone(), self.world.now());
                    self.streams.insert(id, Live { url, parts, heard });
                    return None;
                }
                Err(error) => return Some(failed(id, error)),
            }
        }
        Some(match self.transport.call(to, call).await {
            Ok(answer) => Input::Answer {
                id,
                result: Ok(answer),
            },
            Err(error) => failed(id, error),
        })
    }

    fn step(&mut self, input: Input) -> Result<Vec<Output>, Error> {
        let now = self.world.now();
        let logic = &mut self.logic;
        let rng = self.world.rng();
        let result = self.store.transaction(|tx| logic.step(tx, input, now, rng));
        if matches!(result, Err(Error::Store(_))) {
            // What this process held may be ahead of what is durable.
            self.logic = Logic::new();
            self.resumed = false;
            self.streams.clear();
        }
        result
    }
}

/// Who could not be added.
fn left_out(events: Vec<Event>) -> Vec<LeftOut> {
    let lines = events.into_iter().filter_map(|event| match event {
        Event::News { entry, .. } => Some(entry.what),
        _ => None,
    });
    let left_out = lines.filter_map(|what| match what {
        What::LeftOut(left_out) => Some(left_out),
        _ => None,
    });
    left_out.collect()
}

/// A call that has failed.
fn failed(id: CallId, error: TransportError) -> Input {
    match error {
        TransportError::Refused(refusal) => Input::Answer {
            id,
            result: Err(refusal),
        },
        error => Input::Unanswered { id, error },
    }
}

impl Run {
    fn note(&mut self, event: Event) {
        match &event {
            Event::Started { intent } => {
                self.started.entry(*intent).or_default();
            }
            Event::Done { intent } => self.settle(*intent, Ok(())),
            Event::Failed { intent, error } => self.settle(*intent, Err(error.clone())),
            Event::Blocked { error } => self.blocked = Some(error.clone()),
            _ => {}
        }
        self.events.push(event);
    }

    /// What was to be asked again later is asked again.
    fn waited(&mut self) {
        let is_over =
            |error: &Error| matches!(error, Error::Refused(refusal) if refusal.is_temporary());
        self.blocked.take_if(|error| is_over(error));
        self.events
            .retain(|event| !matches!(event, Event::Blocked { error } if is_over(error)));
    }

    /// Intents of earlier runs, done now, are not this one's.
    fn settle(&mut self, intent: IntentId, result: Result<(), Error>) {
        if let Some(settled) = self.started.get_mut(&intent) {
            *settled = Some(result);
        }
    }
}
