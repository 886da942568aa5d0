//! One call, one answer.

use folkmoot_credential::keys::{PublicKey, SigningKey};
use folkmoot_credential::transparency::{AppendOnlyProof, HistoryProof, LogLabel, SignedHead};
use folkmoot_credential::{Domain, IdentityError, Name, Registration};
use folkmoot_mls::codec::{Decode, DecodeError, Encode};
use folkmoot_protocol::authentication::{
    DrawTokensRequest, DrawTokensResponse, LookUpRequest, LookUpResponse, RegisterRequest,
    RegisterResponse,
};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::keys::hash;
use folkmoot_protocol::token::draw::{Draw, IssuerList};
use folkmoot_protocol::token::{IssuerSecret, TokenError};
use folkmoot_protocol::{Refusal, VERSION};
use rand_core::CryptoRng;

use std::sync::OnceLock;

use crate::account::Account;
use crate::issuing::{Allowance, Issuing, KeySchedule, MakeKey};
use crate::store::{Place, Store, StoreError, Stored};
use crate::transparency::{EPOCH_MS, Log, Pending};

/// The largest registration, in bytes: a few times what one needs.
const MAX_REGISTRATION: usize = 4096;

/// How far a device's clock may be ahead of ours, in seconds.
const MAX_AHEAD: u64 = 24 * 3600;

/// How often a change is tried again that lost a race against another of the same name.
const ATTEMPTS: usize = 4;

/// When to come back after that, in milliseconds.
const RETRY: u64 = 100;

/// A domain's AS.
pub struct AuthenticationService<S: Store> {
    store: S,
    key: SigningKey,
    domain: Domain,
    issuing: Option<Issuing>,
    /// Opened by the first who needs it.
    log: OnceLock<Log<S::Log>>,
    on_failure: Box<OnFailure>,
}

type OnFailure = dyn Fn(&StoreError) + Send + Sync;

impl<S: Store> AuthenticationService<S> {
    /// The AS of `domain`, which signs with `key`.
    #[must_use]
    pub fn new(store: S, key: SigningKey, domain: Domain) -> Self {
        Self {
            store,
            key,
            domain,
            issuing: None,
            log: OnceLock::new(),
            on_failure: Box::new(|error| eprintln!("authentication service: {error}")),
        }
    }

    /// Sends reports of failures of the store, which carry no names, elsewhere than to standard
    /// error.
    #[must_use]
    pub fn on_failure(mut self, told: impl Fn(&StoreError) + Send + Sync + 'static) -> Self {
        self.on_failure = Box::new(told);
        self
    }

    /// Issues tokens to its accounts, with keys that come and go by this schedule.
    #[must_use]
    pub fn with_tokens(self, schedule: KeySchedule) -> Self {
        self.with_keys(schedule, Box::new(IssuerSecret::generate))
    }

    /// As [`with_tokens`](Self::with_tokens), with keys that are made elsewhere.
    #[must_use]
    pub fn with_keys(mut self, schedule: KeySchedule, make: Box<MakeKey>) -> Self {
        self.issuing = Some(Issuing::new(schedule, make));
        self
    }

    /// The keys that issue tokens, or did and whose tokens may still be good. If it is time for a
    /// new key, that is made first, which takes up to seconds; whoever runs the service calls this
    /// when it starts and from time to time, so that nobody else has to wait.
    ///
    /// # Errors
    /// `Internal`.
    pub fn issuers(&self, now: u64, rng: &mut dyn CryptoRng) -> Result<IssuerList, Refusal> {
        let keys = match &self.issuing {
            None => Vec::new(),
            Some(issuing) => {
                let keys = issuing.keys(&self.store, now / 1000, rng);
                keys.map_err(|error| self.failed(&error))?.entries()
            }
        };
        Ok(IssuerList {
            version: VERSION,
            domain: self.domain.clone(),
            authentication_service: self.key.public(),
            keys,
        })
    }

    /// The key that signs bindings.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// The part after the `@` of its users.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// One call, one answer. `now` is in milliseconds since 1970. What an answer says has been made
    /// durable before.
    ///
    /// # Errors
    /// [`Refusal`]; the variant says who is to blame.
    pub fn answer(&self, call: Call, now: u64, rng: &mut dyn CryptoRng) -> Result<Answer, Refusal> {
        match call {
            Call::Register(request) => self.register(&request, now / 1000).map(Answer::Register),
            Call::DrawTokens(request) => self.draw(&request, now, rng).map(Answer::DrawTokens),
            Call::Issuers(_) => {
                let list = self.issuers(now, rng)?;
                Ok(Answer::Issuers(list.sign(&self.key)))
            }
            Call::LookUp(request) => self.look_up(&request, now, rng).map(Answer::LookUp),
            _ => Err(Refusal::Malformed("method".into())),
        }
    }

    fn register(&self, request: &RegisterRequest, now: u64) -> Result<RegisterResponse, Refusal> {
        let registration = self.read(request, now)?;
        for _ in 0..ATTEMPTS {
            let stored = self.load(&registration.name)?;
            let known = stored.as_ref().map(|(_, account)| account);
            let account = Account::register(known, registration.clone(), &self.key, now)?;
            let revision = stored.as_ref().map(|(revision, _)| *revision);
            if known.is_none() {
                self.claim(&registration.name)?;
            }
            let entry = account.entry();
            let logged = (known.map(Account::entry).as_ref() != Some(&entry)).then(|| Pending {
                label: LogLabel::User(registration.name.clone()).to_bytes(),
                revision: revision.map_or(1, |revision| revision + 1),
                value: entry.hash(),
            });
            let save = || {
                let (name, value) = (&registration.name, account.to_bytes());
                self.store
                    .save_logged(name, revision, value, logged.as_ref())
            };
            let made = known == Some(&account) || save().map_err(|error| self.failed(&error))?;
            if made {
                let binding = account.binding.to_bytes();
                return Ok(RegisterResponse { binding });
            }
        }
        Err(Refusal::Busy(RETRY))
    }

    /// Takes a name from all that look like it. What was taken stays so if the registration is not
    /// completed: for this name.
    fn claim(&self, name: &Name) -> Result<(), Refusal> {
        let skeleton = name.skeleton();
        let place = Place::Skeleton(&skeleton);
        let value = name.as_str().as_bytes();
        let claimed = self.store.save(place, None, value.to_vec());
        if claimed.map_err(|error| self.failed(&error))? {
            return Ok(());
        }
        let taken = self
            .store
            .load(place)
            .map_err(|error| self.failed(&error))?;
        if taken.is_some_and(|taken| taken.value == value) {
            Ok(())
        } else {
            Err(Refusal::NameTaken)
        }
    }

    /// Reads a registration and checks all that can be checked without the account.
    fn read(&self, request: &RegisterRequest, now: u64) -> Result<Registration, Refusal> {
        if request.registration.len() > MAX_REGISTRATION {
            return Err(Refusal::TooLarge);
        }
        let malformed = |field: &str| Err(Refusal::Malformed(field.into()));
        let registration = match Registration::from_bytes(&request.registration) {
            Ok(registration) => registration,
            Err(DecodeError::InvalidValue("name")) => return Err(Refusal::NameInvalid),
            Err(_) => return malformed("registration"),
        };
        if !registration.name.is_safe() {
            return Err(Refusal::NameInvalid);
        }
        if registration.domain != self.domain {
            return malformed("domain");
        }
        if registration.authentication_service != self.key.public() {
            return malformed("authentication_service");
        }
        if registration.device.issued > now.saturating_add(MAX_AHEAD) {
            return malformed("device.issued");
        }
        match registration.verify(&request.identity_signature, &request.device_signature, now) {
            Ok(()) => Ok(registration),
            Err(IdentityError::WrongUser) => malformed("device.user"),
            Err(IdentityError::NotYetValid | IdentityError::Expired) => {
                malformed("device.certificate.validity")
            }
            Err(_) => Err(Refusal::BadProof),
        }
    }

    /// Issues a batch. `NotFound` if no tokens are issued, or not with the key that is asked for.
    fn draw(
        &self,
        request: &DrawTokensRequest,
        now: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<DrawTokensResponse, Refusal> {
        let issuing = self.issuing.as_ref().ok_or(Refusal::NotFound)?;
        let draw = Draw::read(request)?;
        let malformed = |field: &str| Err(Refusal::Malformed(field.into()));
        if draw.authentication_service != self.key.public() {
            return malformed("authentication_service");
        }
        if draw.number > now.saturating_add(MAX_AHEAD * 1000) {
            return malformed("number");
        }
        let seconds = now / 1000;
        let (_, account) = self.load(&draw.name)?.ok_or(Refusal::UnknownUser)?;
        if !account.has_device(&draw.device, seconds) {
            return Err(Refusal::BadProof);
        }
        let keys = issuing.keys(&self.store, seconds, rng);
        let keys = keys.map_err(|error| self.failed(&error))?;
        let secret = keys.issuing(&draw.token_key_id, seconds);
        let secret = secret.ok_or(Refusal::NotFound)?;
        let hash = hash("token draw", &draw);
        let place = Place::Allowance(&draw.name);
        let mut issued = None;
        for _ in 0..ATTEMPTS {
            let stored = self
                .store
                .load(place)
                .map_err(|error| self.failed(&error))?;
            let revision = stored.as_ref().map(|stored| stored.revision);
            let known = stored
                .map(|stored| Allowance::from_bytes(&stored.value))
                .transpose()
                .map_err(|_| self.failed(&StoreError::Damaged))?;
            let allowance = Allowance::after(known.as_ref(), draw.number, hash, seconds)?;
            // What cannot be signed costs nothing; what is not allowed is not signed.
            if issued.is_none() {
                let issue = |request| secret.issue(request, rng);
                let responses = draw.requests.iter().map(issue);
                let responses: Result<Vec<_>, TokenError> = responses.collect();
                match responses {
                    Ok(responses) => issued = Some(DrawTokensResponse::of(&responses)),
                    Err(_) => return malformed("requests"),
                }
            }
            let saved = self.store.save(place, revision, allowance.to_bytes());
            if saved.map_err(|error| self.failed(&error))? {
                return issued.ok_or(Refusal::Internal);
            }
        }
        Err(Refusal::Busy(RETRY))
    }

    fn look_up(
        &self,
        request: &LookUpRequest,
        now: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<LookUpResponse, Refusal> {
        let name: Name = request.name.parse().map_err(|_| Refusal::UnknownUser)?;
        let (revision, account) = self.load(&name)?.ok_or(Refusal::UnknownUser)?;
        let log = self.log(rng).map_err(|error| self.failed(&error))?;
        let (label, value) = (LogLabel::User(name), account.entry().hash());
        let mut response = account.look_up();
        match log
            .look_up(&label, &value)
            .map_err(|error| self.failed(&error))?
        {
            Some((proof, head)) => {
                response.proof = proof.to_bytes();
                response.head = head.to_bytes();
            }
            None => {
                let due = now.saturating_add(2 * EPOCH_MS);
                let promise = log.promise(&label, revision, value, due);
                let promise = promise.map_err(|error| self.failed(&error))?;
                response.promise = promise.to_bytes();
            }
        }
        Ok(response)
    }

    /// Puts what has changed into the transparency log, and says how many changes that was. `now` is
    /// in milliseconds since 1970. Whoever runs the service calls this every
    /// [`EPOCH_MS`], and once when it starts: what was promised has to be kept.
    ///
    /// # Errors
    /// `Internal`; what was published until then stays.
    pub fn publish(&self, now: u64, rng: &mut dyn CryptoRng) -> Result<usize, Refusal> {
        let log = self.log(rng).map_err(|error| self.failed(&error))?;
        log.publish(now).map_err(|error| self.failed(&error))
    }

    /// The latest head of the transparency log; `None` before the first epoch.
    ///
    /// # Errors
    /// `Internal`.
    pub fn head(&self, rng: &mut dyn CryptoRng) -> Result<Option<SignedHead>, Refusal> {
        let log = self.log(rng).map_err(|error| self.failed(&error))?;
        Ok(log.latest())
    }

    /// The latest values of a label, and the head that they are proven under; `None` if there are
    /// none.
    ///
    /// # Errors
    /// `Internal`.
    pub fn history(
        &self,
        label: &LogLabel,
        rng: &mut dyn CryptoRng,
    ) -> Result<Option<(HistoryProof, SignedHead)>, Refusal> {
        let log = self.log(rng).map_err(|error| self.failed(&error))?;
        log.history(label).map_err(|error| self.failed(&error))
    }

    /// For auditors: the proof that `epoch` kept all that the one before had, and its head; `None` if
    /// there is no such epoch.
    ///
    /// # Errors
    /// `Internal`.
    pub fn audit(
        &self,
        epoch: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<Option<(AppendOnlyProof, SignedHead)>, Refusal> {
        let log = self.log(rng).map_err(|error| self.failed(&error))?;
        log.audit(epoch).map_err(|error| self.failed(&error))
    }

    fn log(&self, rng: &mut dyn CryptoRng) -> Result<&Log<S::Log>, StoreError> {
        if self.log.get().is_none() {
            let log = Log::open(&self.store, self.key.clone(), self.domain.clone(), rng)?;
            // If somebody else was faster, theirs is the one.
            let _ = self.log.set(log);
        }
        self.log.get().ok_or(StoreError::Log)
    }

    fn load(&self, name: &Name) -> Result<Option<(u64, Account)>, Refusal> {
        let stored = self.store.load(name).map_err(|error| self.failed(&error))?;
        stored
            .map(|Stored { revision, value }| {
                Account::from_bytes(&value)
                    .map(|account| (revision, account))
                    .map_err(|_| self.failed(&StoreError::Damaged))
            })
            .transpose()
    }

    fn failed(&self, error: &StoreError) -> Refusal {
        (self.on_failure)(error);
        Refusal::Internal
    }
}
