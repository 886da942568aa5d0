//! Every call of the service, from its fields to its answer.

mod large;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{
    AcknowledgeRequest, AcknowledgeResponse, AppendRequest, CandidatesRequest, CandidatesResponse,
    CloseDoorRequest, CloseDoorResponse, CollectRequest, CollectResponse, CountRequest,
    CountResponse, CreateBlobRequest, CreateBlobResponse, CreateDoorRequest, CreateMailboxRequest,
    CreateMailboxResponse, DeleteBlobRequest, DiscardRequest, DiscardResponse, DropAllRequest,
    DropAllResponse, DropRequest, DropResponse, FindBlobRequest, FindBlobResponse, GetBlobRequest,
    NonceResponse, OpenRequest, Payment, PickUpRequest, PickUpResponse, PutBlobRequest,
    ReadRequest, ReadResponses, Receipt, StockRequest, StockResponse, TakeRequest, TakeResponse,
};
use folkmoot_protocol::ids::{BlobId, MailboxId};
use folkmoot_protocol::keys::{PublicKey, SigningKey};
use folkmoot_protocol::log::{Head, SignedHead};
use folkmoot_protocol::mailbox::OwnerContent;
use folkmoot_protocol::proof::Method;
use folkmoot_protocol::token::TokenError;
use folkmoot_protocol::token::price::{Price, Priced};
use folkmoot_protocol::{Refusal, delivery};
use rand_core::CryptoRng;

use crate::blobs;
use crate::committer::Committer;
use crate::decision::{Denial, Request};
use crate::fields::malformed;
use crate::followers::Followers;
use crate::logs::append::{Check, Checked};
use crate::logs::candidates::Candidates;
use crate::logs::open::SignedOpen;
use crate::logs::parse::Parsed;
use crate::logs::pickup::PickUp;
use crate::logs::read::{Progress, Reading};
use crate::mailboxes::create::Create;
use crate::mailboxes::doors::{CloseDoor, CreateDoor};
use crate::mailboxes::letters::{self, Acknowledge, Drop, Looked};
use crate::mailboxes::owner::Claim;
use crate::mailboxes::ticket::TicketKey;
use crate::nonce::NonceKey;
use crate::payment::{Trust, TrustedIssuer};
use crate::rates::{Asked, Rates};
use crate::retention::Retention;
use crate::sabotage::{Guard, stands};
use crate::shelves::count;
use crate::shelves::discard::{self, Discard};
use crate::shelves::stock::{self, ClaimPackage, Stock};
use crate::shelves::take::Take;
use crate::store::{AtRestKeys, Store, StoreError, View};

/// Records that are swept, or looked at, in one step.
const AT_ONCE: usize = 250;

/// Milliseconds after which to try again while the disk is full.
const FULL: u64 = 10_000;

/// Told of every failure of the store. What it is told carries no ids.
type OnFailure = dyn Fn(&StoreError) + Send + Sync;

/// The Delivery Service over a store. Shared by all threads that answer calls.
///
/// It has no clock: `now` is an argument, in milliseconds since 1970.
pub struct DeliveryService<S> {
    store: S,
    key: SigningKey,
    public_key: PublicKey,
    nonces: NonceKey,
    tickets: TicketKey,
    committer: Committer,
    followers: Arc<Followers>,
    retention: Retention,
    trust: RwLock<Arc<Trust>>,
    asked: Asked,
    /// Whose turn it is to append what was staged.
    staged: Mutex<()>,
    /// The latest time at which a head was issued: it does not run back while the service runs.
    issued: AtomicU64,
    on_failure: Arc<OnFailure>,
}

impl<S: Store> DeliveryService<S> {
    /// A service that signs with `key`. The key names the service: proofs are made for it, and
    /// clients pin it, so it has to be the same after a restart.
    pub fn new(store: S, key: SigningKey, rng: &mut dyn CryptoRng) -> Self {
        Self {
            store,
            public_key: key.public(),
            tickets: TicketKey::of(&key),
            key,
            nonces: NonceKey::generate(rng),
            committer: Committer::default(),
            followers: Arc::default(),
            retention: Retention::default(),
            trust: RwLock::default(),
            asked: Asked::new(Rates::UNLIMITED),
            staged: Mutex::default(),
            issued: AtomicU64::new(0),
            on_failure: Arc::new(|error| eprintln!("delivery service: {error}")),
        }
    }

    /// Sends reports of failures of the store elsewhere than to standard error.
    #[must_use]
    pub fn on_failure(mut self, told: impl Fn(&StoreError) + Send + Sync + 'static) -> Self {
        self.on_failure = Arc::new(told);
        self
    }

    /// Keeps logs so long, from now on. What was written before stays as long as it was to stay.
    #[must_use]
    pub fn keep_for(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Bounds what is asked of one log or mailbox. Without this there is no bound.
    #[must_use]
    pub fn rates(mut self, rates: Rates) -> Self {
        self.asked = Asked::new(rates);
        self
    }

    /// The public half of the signing key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Takes the tokens of these issuers from now on, and of no others. With none, as at first,
    /// nothing has to be paid.
    ///
    /// # Errors
    /// [`TokenError::Key`] for what is no issuer's key: nothing was changed.
    pub fn trust(&self, issuers: &[TrustedIssuer]) -> Result<(), TokenError> {
        let before = self.trusted();
        let trust = Arc::new(Trust::new(issuers, &self.public_key, &before)?);
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = trust;
        Ok(())
    }

    fn trusted(&self) -> Arc<Trust> {
        let trust = self.trust.read().unwrap_or_else(PoisonError::into_inner);
        trust.clone()
    }

    /// Answers one call. It returns when what the answer says is durable.
    ///
    /// All batches of a read are gathered, also of one that would follow its logs; who reads over a
    /// network takes them one by one, by [`begin_read`](Self::begin_read).
    ///
    /// # Errors
    /// [`Refusal`]: its documentation says who is to blame for each. A call of the Authentication
    /// Service is `Malformed`.
    pub fn answer(&self, call: Call, now: u64, rng: &mut dyn CryptoRng) -> Result<Answer, Refusal> {
        Ok(match call {
            Call::Open(request) => Answer::Open(self.open(request, now)?),
            Call::Append(request) => Answer::Append(self.append(request, now)?),
            Call::LogNonce(_) => Answer::LogNonce(self.nonce(now, rng)),
            Call::Read(request) => Answer::Read(self.read(request, now)?),
            Call::Candidates(request) => Answer::Candidates(self.candidates(request, now)?),
            Call::Stage(request) => Answer::Stage(self.stage(request, now)?),
            Call::Upload(request) => Answer::Upload(self.upload(request, now)?),
            Call::AppendStaged(request) => Answer::AppendStaged(self.append_staged(request, now)?),
            Call::Pages(request) => Answer::Pages(self.pages(&request, now)?),
            Call::PutPages(request) => Answer::PutPages(self.put_pages(request, now)?),
            Call::PickUp(request) => Answer::PickUp(self.pick_up(&request)?),
            Call::CreateMailbox(request) => {
                Answer::CreateMailbox(self.create_mailbox(&request, now)?)
            }
            Call::MailboxNonce(_) => Answer::MailboxNonce(self.nonce(now, rng)),
            Call::Drop(request) => Answer::Drop(self.drop_envelope(request, now)?),
            Call::DropAll(request) => Answer::DropAll(self.drop_all(request, now)?),
            Call::Collect(request) => Answer::Collect(self.collect(&request, now)?),
            Call::Acknowledge(request) => Answer::Acknowledge(self.acknowledge(&request, now)?),
            Call::DoorNonce(_) => Answer::DoorNonce(self.nonce(now, rng)),
            Call::CreateDoor(request) => Answer::CreateDoor(self.create_door(&request, now)?),
            Call::CollectDoor(request) => Answer::CollectDoor(self.collect(&request, now)?),
            Call::AcknowledgeDoor(request) => {
                Answer::AcknowledgeDoor(self.acknowledge(&request, now)?)
            }
            Call::CloseDoor(request) => Answer::CloseDoor(self.close_door(&request, now)?),
            Call::ShelfNonce(_) => Answer::ShelfNonce(self.nonce(now, rng)),
            Call::Stock(request) => Answer::Stock(self.stock(request, now)?),
            Call::Discard(request) => Answer::Discard(self.discard(&request, now)?),
            Call::Count(request) => Answer::Count(self.count(&request, now)?),
            Call::Take(request) => Answer::Take(self.take(&request, now)?),
            _ => return Err(malformed("call")),
        })
    }

    /// Begins a read whose batches are fetched one by one, as a stream does. If it follows its logs,
    /// `wake` is called when there is news of one of them, and when the streams are to end: it must
    /// not block.
    ///
    /// # Errors
    /// `TooLarge` for too many logs; `Malformed`; `StaleNonce`; `Busy` if too many are followed.
    pub fn begin_read(
        &self,
        request: ReadRequest,
        now: u64,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Reading, Refusal> {
        let follow = request.follow;
        let mut reading =
            Reading::begin(request, self.public_key, &self.nonces, self.retention, now)?;
        if follow {
            let follower = self.followers.join(reading.logs(), Box::new(wake))?;
            reading.follow(follower);
        }
        Ok(reading)
    }

    /// What comes next of a read.
    ///
    /// # Errors
    /// `Internal`.
    pub fn next_batch(&self, reading: &mut Reading, now: u64) -> Result<Progress, Refusal> {
        let now = self.issued.fetch_max(now, Ordering::Relaxed).max(now);
        self.look(|records| reading.next(records, &self.key, now))
    }

    /// Ends all reads that follow, and begins no more of them: the service is about to stop.
    pub fn end_streams(&self) {
        self.followers.close();
    }

    /// Deletes some of what is over: entries, tickets, packages, answers kept for repeats. To be
    /// called from time to time, again until there is nothing more: appends come in between. Returns
    /// how many records it has deleted.
    ///
    /// # Errors
    /// `Internal`; `Busy` while the disk is full.
    pub fn sweep(&self, now: u64) -> Result<usize, Refusal> {
        self.store
            .sweep(now, AT_ONCE)
            .map_err(|error| self.failed(&error))
    }

    /// Encrypts with the first of these keys what it stores from now on ([`Store::rekey`]).
    ///
    /// # Errors
    /// [`StoreError`], for the operator.
    pub fn rekey(&self, keys: &AtRestKeys) -> Result<(), StoreError> {
        self.store.rekey(keys)
    }

    /// Encrypts some of what another key has encrypted with the first one. To be called until it
    /// returns 0: appends come in between.
    ///
    /// # Errors
    /// `Internal`; `Busy` while the disk is full.
    pub fn reencrypt(&self) -> Result<usize, Refusal> {
        self.store
            .reencrypt(AT_ONCE)
            .map_err(|error| self.failed(&error))
    }

    fn nonce(&self, now: u64, rng: &mut dyn CryptoRng) -> NonceResponse {
        NonceResponse {
            nonce: self.nonces.make(now, rng),
        }
    }

    /// Takes the payment for a request, whose form and signatures were checked before: a token is
    /// spent whatever becomes of its request then. Durable when it returns. The same request can
    /// be paid for again with the same tokens.
    ///
    /// # Errors
    /// `Payment`; `Rate` if too many tokens of that issuer are spent.
    pub(crate) fn pay(
        &self,
        payment: Option<&Payment>,
        price: &Price,
        now: u64,
    ) -> Result<(), Refusal> {
        let trust = self.trusted();
        if trust.is_empty() {
            return Ok(());
        }
        let spends = trust.check(payment, price, now)?;
        let records = self.look(|records| {
            let record = |spend| Request::load(spend, records);
            spends.iter().map(record).collect::<Result<Vec<_>, _>>()
        })?;
        let mut fresh = Vec::new();
        for (spend, record) in spends.into_iter().zip(&records) {
            if !spend.is_known(record.as_ref())? {
                fresh.push(spend);
            }
        }
        fresh.iter().try_for_each(|spend| spend.count(now))?;
        self.commit_all(fresh, now)?;
        Ok(())
    }

    fn open(&self, mut request: OpenRequest, now: u64) -> Result<Receipt, Refusal> {
        let (price, payment) = (request.price(), request.payment.take());
        let open = SignedOpen::check(request, self.public_key, self.retention)?;
        self.pay(payment.as_ref(), &price, now)?;
        let head = self.commit(open, now)?;
        Ok(self.receipt(head))
    }

    fn append(&self, request: AppendRequest, now: u64) -> Result<Receipt, Refusal> {
        let mut answers = self.append_all(vec![request], now);
        answers.pop().ok_or(Refusal::Internal)?
    }

    /// Answers appends that came at the same moment: those that have to be decided on share one
    /// durable transaction, and a later one sees the earlier.
    ///
    /// # Errors
    /// Of each append its own [`Refusal`]; `Internal` for all that shared a transaction that failed.
    pub fn append_all(
        &self,
        requests: Vec<AppendRequest>,
        now: u64,
    ) -> Vec<Result<Receipt, Refusal>> {
        let parsed = requests.into_iter().map(Parsed::read).collect();
        self.append_parsed(parsed, now)
    }

    fn append_parsed(
        &self,
        requests: Vec<Result<Parsed, Refusal>>,
        now: u64,
    ) -> Vec<Result<Receipt, Refusal>> {
        let check = |parsed: Result<Parsed, Refusal>| -> Result<Check, Refusal> {
            let mut parsed = parsed?;
            let paid = parsed.take_payment();
            let paid = paid.filter(|_| stands(Guard::ContestPaid));
            let view = self.look(|records| parsed.load(records))?;
            let checked = parsed.check(view, self.public_key, self.retention, now)?;
            if let (Check::New(_), Some((price, payment))) = (&checked, paid) {
                self.pay(payment.as_ref(), &price, now)?;
            }
            Ok(checked)
        };
        let mut together = Vec::new();
        let checked: Vec<_> = requests
            .into_iter()
            .map(|request| match check(request) {
                Ok(Check::Known(head)) => Some(Ok(head)),
                Ok(Check::New(checked)) => match self.count_append(&checked, now) {
                    Ok(()) => {
                        together.push(*checked);
                        None
                    }
                    Err(refusal) => Some(Err(refusal)),
                },
                Err(refusal) => Some(Err(refusal)),
            })
            .collect();
        let mut decided = self.decide_all(together, now).into_iter();
        checked
            .into_iter()
            .map(|known| {
                let head = known.unwrap_or_else(|| {
                    let head = decided.next().unwrap_or(Err(Refusal::Internal));
                    head.inspect(|head| self.followers.ring(head.log))
                })?;
                Ok(self.receipt(head))
            })
            .collect()
    }

    fn count_append(&self, append: &Checked, now: u64) -> Result<(), Refusal> {
        let (log, share) = (append.log(), append.share());
        self.asked.append(log, share, append.uncounted(), now)
    }

    fn read(&self, request: ReadRequest, now: u64) -> Result<ReadResponses, Refusal> {
        let mut reading =
            Reading::begin(request, self.public_key, &self.nonces, self.retention, now)?;
        let mut batches = Vec::new();
        while let Progress::Batch(batch) = self.next_batch(&mut reading, now)? {
            batches.push(batch);
        }
        Ok(ReadResponses { batches })
    }

    fn candidates(
        &self,
        request: CandidatesRequest,
        now: u64,
    ) -> Result<CandidatesResponse, Refusal> {
        let candidates = Candidates::read(request, self.public_key, &self.nonces, now)?;
        let now = self.issued.fetch_max(now, Ordering::Relaxed).max(now);
        let found = self.look(|records| candidates.list(records, &self.key, now))?;
        found.ok_or(Refusal::NotFound)
    }

    fn pick_up(&self, request: &PickUpRequest) -> Result<PickUpResponse, Refusal> {
        let pickup = PickUp::read(request)?;
        let found = self.look(|records| pickup.find(records))?;
        let found = found.ok_or(Refusal::NotFound)?;
        Ok(PickUpResponse {
            commit: found.commit.into(),
            receipt: Some(self.receipt(found.head)),
            shared_part: found.shared_part,
            own_part: found.own_part,
            root_page: found.root_page,
        })
    }

    fn create_mailbox(
        &self,
        request: &CreateMailboxRequest,
        now: u64,
    ) -> Result<CreateMailboxResponse, Refusal> {
        let create = Create::check(request, self.public_key, &self.nonces, now)?;
        self.pay(request.payment.as_ref(), &request.price(), now)?;
        let mailbox = self.commit(create, now)?.into();
        Ok(CreateMailboxResponse { mailbox })
    }

    fn create_door(
        &self,
        request: &CreateDoorRequest,
        now: u64,
    ) -> Result<CreateMailboxResponse, Refusal> {
        let create = CreateDoor::check(request, self.public_key, &self.nonces, now)?;
        let mailbox = self.commit(create, now)?.into();
        Ok(CreateMailboxResponse { mailbox })
    }

    fn close_door(
        &self,
        request: &CloseDoorRequest,
        now: u64,
    ) -> Result<CloseDoorResponse, Refusal> {
        let mailbox = self.owner(request.owner.as_ref(), Method::CloseDoor, request, now)?;
        self.commit(CloseDoor { mailbox }, now)?;
        Ok(CloseDoorResponse {})
    }

    fn drop_envelope(&self, request: DropRequest, now: u64) -> Result<DropResponse, Refusal> {
        let mut made = self.let_in(vec![Drop::read(request)], now)?;
        made.pop().unwrap_or(Err(Refusal::Internal))?;
        Ok(DropResponse {})
    }

    fn drop_all(&self, request: DropAllRequest, now: u64) -> Result<DropAllResponse, Refusal> {
        let made = self.let_in(Drop::read_all(request)?, now)?;
        let refusal = |made: Result<(), Refusal>| {
            let refusal = made.err().map(|refusal| refusal.to_bytes());
            refusal.unwrap_or_default()
        };
        Ok(DropAllResponse {
            refusals: made.into_iter().map(refusal).collect(),
        })
    }

    /// Lets envelopes in, as far as they were read. Each has its own answer, in their order.
    fn let_in(
        &self,
        drops: Vec<Result<Drop, Refusal>>,
        now: u64,
    ) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        let looked: Vec<_> = self.look(|records| {
            let look = |drop: Result<Drop, Refusal>| match drop {
                Ok(drop) => drop.look(records, now),
                Err(refusal) => Looked::Done(Err(refusal)),
            };
            Ok(drops.into_iter().map(look).collect())
        })?;
        let mut fresh = Vec::new();
        let known: Vec<_> = looked
            .into_iter()
            .map(|looked| match looked {
                Looked::Done(done) => Some(done),
                Looked::New(drop) => {
                    fresh.push(drop);
                    None
                }
            })
            .collect();
        let mut made = self.decide_all(fresh, now).into_iter();
        let next = |known: Option<_>| {
            known.unwrap_or_else(|| made.next().unwrap_or(Err(Refusal::Internal)))
        };
        Ok(known.into_iter().map(next).collect())
    }

    fn collect(&self, request: &CollectRequest, now: u64) -> Result<CollectResponse, Refusal> {
        let owner = self.owner(request.owner.as_ref(), Method::Collect, request, now)?;
        self.look(|records| letters::collect(records, owner, request.after))
    }

    fn acknowledge(
        &self,
        request: &AcknowledgeRequest,
        now: u64,
    ) -> Result<AcknowledgeResponse, Refusal> {
        let owner = self.owner(request.owner.as_ref(), Method::Acknowledge, request, now)?;
        let acknowledge = Acknowledge {
            mailbox: owner,
            through: request.through,
        };
        self.commit(acknowledge, now)?;
        Ok(AcknowledgeResponse {})
    }

    fn stock(&self, request: StockRequest, now: u64) -> Result<StockResponse, Refusal> {
        let mailbox = self.owner(request.owner.as_ref(), Method::Stock, &request, now)?;
        let (packages, ids) = stock::read(request, now)?;
        let claim = |package| ClaimPackage::of(mailbox, package);
        self.commit_all(packages.iter().map(claim).collect(), now)?;
        self.commit(Stock { mailbox, packages }, now)?;
        Ok(StockResponse {
            ids: ids.into_iter().map(Vec::from).collect(),
        })
    }

    fn discard(&self, request: &DiscardRequest, now: u64) -> Result<DiscardResponse, Refusal> {
        let mailbox = self.owner(request.owner.as_ref(), Method::Discard, request, now)?;
        let ids = discard::read(request)?;
        let discarded = self.commit(Discard { mailbox, ids }, now)?;
        Ok(DiscardResponse { discarded })
    }

    fn count(&self, request: &CountRequest, now: u64) -> Result<CountResponse, Refusal> {
        let mailbox = self.owner(request.owner.as_ref(), Method::Count, request, now)?;
        self.look(|records| count::count(records, mailbox, now))
    }

    fn take(&self, request: &TakeRequest, now: u64) -> Result<TakeResponse, Refusal> {
        let takes = Take::read(request, &self.tickets, now)?;
        self.pay(request.payment.as_ref(), &request.price(), now)?;
        let taken = self.commit_all(takes, now)?;
        Ok(TakeResponse { taken })
    }

    /// Makes room for a blob; `now` in milliseconds since 1970.
    ///
    /// # Errors
    /// `Malformed`; `TooLarge`; `Payment`; `Taken` for the id of another blob.
    pub(crate) fn create_blob(
        &self,
        request: &CreateBlobRequest,
        now: u64,
    ) -> Result<CreateBlobResponse, Refusal> {
        let create = blobs::Create::read(request, now)?;
        self.pay(request.payment.as_ref(), &request.price(), now)?;
        let expires = self.commit(create, now)?;
        Ok(CreateBlobResponse { expires })
    }

    /// How far a blob's upload has come.
    ///
    /// # Errors
    /// `Malformed`; `NotFound`, also for a wrong capability.
    pub(crate) fn find_blob(
        &self,
        request: &FindBlobRequest,
        now: u64,
    ) -> Result<FindBlobResponse, Refusal> {
        let claim = blobs::Claim::read(&request.blob, &request.write)?;
        let found = self.look(|records| claim.prove(records, now))?;
        let found = found.ok_or(Refusal::NotFound)?;
        Ok(found.told())
    }

    /// What is to be done with a chunk.
    ///
    /// # Errors
    /// `Malformed`; `TooLarge`; `NotFound`, also for a wrong capability.
    pub(crate) fn place_chunk(
        &self,
        request: &PutBlobRequest,
        chunk: &[u8],
        now: u64,
    ) -> Result<blobs::Place, Refusal> {
        let claim = blobs::Claim::read(&request.blob, &request.write)?;
        let found = self.look(|records| claim.prove(records, now))?;
        let found = found.ok_or(Refusal::NotFound)?;
        blobs::place(&found, request.offset, chunk)
    }

    /// A chunk's bytes, so many, are where they belong, and durable. Returns how many bytes there are now,
    /// and whether this chunk has made them more.
    ///
    /// # Errors
    /// `NotFound`, if the blob has gone in the meantime.
    pub(crate) fn chunk_is_there(
        &self,
        request: &PutBlobRequest,
        length: u64,
        now: u64,
    ) -> Result<(u64, bool), Refusal> {
        let claim = blobs::Claim::read(&request.blob, &request.write)?;
        let offset = request.offset;
        let grow = blobs::Grow {
            claim,
            offset,
            length,
        };
        self.commit(grow, now)
    }

    /// What is to be read for a download.
    ///
    /// # Errors
    /// `NotFound`, also for a blob that is not complete; `Malformed` for a range outside of it.
    pub(crate) fn begin_get(
        &self,
        request: &GetBlobRequest,
        now: u64,
    ) -> Result<blobs::Getting, Refusal> {
        let get = blobs::Get::read(request)?;
        let found = self.look(|records| get.find(records, now))?;
        get.begin(found.as_ref())
    }

    /// Deletes a blob for whoever may write it, and says which bytes are to follow, if any.
    ///
    /// # Errors
    /// `Malformed`; `NotFound`, also for a wrong capability.
    pub(crate) fn delete_blob(
        &self,
        request: &DeleteBlobRequest,
        now: u64,
    ) -> Result<Option<blobs::Bytes>, Refusal> {
        let claim = blobs::Claim::read(&request.blob, &request.write)?;
        self.commit(blobs::Delete { claim }, now)
    }

    /// Whether a blob is there. One that is not has no bytes.
    ///
    /// # Errors
    /// `Internal`.
    pub(crate) fn has_blob(&self, blob: BlobId, now: u64) -> Result<bool, Refusal> {
        self.look(|records| blobs::is_there(records, blob, now))
    }

    /// The mailbox whose owner has signed a request.
    fn owner(
        &self,
        owner: Option<&delivery::Owner>,
        method: Method,
        request: &impl OwnerContent,
        now: u64,
    ) -> Result<MailboxId, Refusal> {
        let claim = Claim::read(owner, method, request, self.public_key, &self.nonces, now)?;
        let mailbox = self.look(|records| claim.prove(records))?;
        let mailbox = mailbox.ok_or(Refusal::NotFound)?;
        self.asked.owner(mailbox, now)?;
        Ok(mailbox)
    }

    fn receipt(&self, head: Head) -> Receipt {
        SignedHead::sign(head, &self.key).into()
    }

    fn look<T>(&self, work: impl FnOnce(&dyn View) -> Result<T, StoreError>) -> Result<T, Refusal> {
        self.store.read(work).map_err(|error| self.failed(&error))
    }

    fn commit<R: Request>(&self, request: R, now: u64) -> Result<R::Outcome, Refusal> {
        let mut outcomes = self.commit_all(vec![request], now)?;
        outcomes.pop().ok_or(Refusal::Internal)
    }

    /// Commits requests together; the first refusal among them is the answer.
    fn commit_all<R: Request>(
        &self,
        requests: Vec<R>,
        now: u64,
    ) -> Result<Vec<R::Outcome>, Refusal> {
        self.decide_all(requests, now).into_iter().collect()
    }

    /// Commits requests together. Each has its own answer, in their order.
    fn decide_all<R: Request>(
        &self,
        requests: Vec<R>,
        now: u64,
    ) -> Vec<Result<R::Outcome, Refusal>> {
        let count = requests.len();
        match self.committer.run(&self.store, requests, now) {
            Ok(outcomes) => outcomes
                .into_iter()
                .map(|outcome| {
                    outcome.map_err(|denial| match denial {
                        Denial::Damaged(error) => self.failed(&error),
                        denial => denial.sign(&self.key),
                    })
                })
                .collect(),
            Err(error) => {
                let refusal = self.failed(&error);
                (0..count).map(|_| Err(refusal.clone())).collect()
            }
        }
    }

    pub(crate) fn failed(&self, error: &StoreError) -> Refusal {
        (self.on_failure)(error);
        match error {
            StoreError::Full => Refusal::Busy(FULL),
            _ => Refusal::Internal,
        }
    }
}
