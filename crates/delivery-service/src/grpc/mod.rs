//! The gRPC skin: requests come in, the logic answers on a thread where it may block, a read goes
//! out batch by batch. It writes no log and counts nothing by id.

mod blobs;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use folkmoot_mls::codec::Decode;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::doors_server::{Doors, DoorsServer};
use folkmoot_protocol::delivery::logs_server::{Logs, LogsServer};
use folkmoot_protocol::delivery::mailboxes_server::{Mailboxes, MailboxesServer};
use folkmoot_protocol::delivery::shelves_server::{Shelves, ShelvesServer};
use folkmoot_protocol::delivery::{
    AcknowledgeRequest, AcknowledgeResponse, AppendRequest, AppendStagedRequest, CandidatesRequest,
    CandidatesResponse, CloseDoorRequest, CloseDoorResponse, CollectRequest, CollectResponse,
    CountRequest, CountResponse, CreateDoorRequest, CreateMailboxRequest, CreateMailboxResponse,
    DiscardRequest, DiscardResponse, DropAllRequest, DropAllResponse, DropRequest, DropResponse,
    NonceRequest, NonceResponse, OpenRequest, PagesRequest, PagesResponse, PickUpRequest,
    PickUpResponse, PutPagesRequest, PutPagesResponse, ReadRequest, ReadResponse, Receipt,
    StageRequest, StageResponse, StockRequest, StockResponse, TakeRequest, TakeResponse,
    UploadRequest, UploadResponse,
};
use folkmoot_protocol::limits;
use folkmoot_protocol::rate::{Limiter, Rate, address};
use folkmoot_protocol::token::price::Priced;
use futures_util::stream::{Stream, TryStreamExt, try_unfold};
use tokio::sync::{Notify, Semaphore};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::logs::read::{Progress, Reading};
use crate::service::DeliveryService;
use crate::store::Store;

pub use blobs::{add_blobs_to, sweep_blobs, tidy_blobs};

/// Calls that may block at the same time; more wait. So many appends can share one transaction.
const AT_ONCE: usize = 256;

/// The largest request to mailboxes: envelopes with their tickets.
const MAILBOX_REQUEST: usize = limits::DROPS_BYTES + 128 * limits::DROPS_PER_CALL;

/// The largest request to a log: an append in one piece.
const LOG_REQUEST: usize = limits::REQUEST;

/// The largest request to a shelf: it is stocked in parts of this size.
const SHELF_REQUEST: usize = 4 << 20;

/// Adds the service's gRPC servers to `routes`. `clock` gives milliseconds since 1970.
///
/// `rate` counts by [`address`]; those without one share one rate.
#[must_use]
pub fn add_to<S: Store>(
    routes: Routes,
    service: Arc<DeliveryService<S>>,
    clock: fn() -> u64,
    rate: Rate,
) -> Routes {
    let skin = Skin::new(service, clock, rate);
    let logs = LogsServer::new(skin.clone()).max_decoding_message_size(LOG_REQUEST);
    let mailboxes = MailboxesServer::new(skin.clone()).max_decoding_message_size(MAILBOX_REQUEST);
    let doors = DoorsServer::new(skin.clone()).max_decoding_message_size(MAILBOX_REQUEST);
    let shelves = ShelvesServer::new(skin).max_decoding_message_size(SHELF_REQUEST);
    #[cfg(feature = "tap")]
    let (logs, mailboxes, doors, shelves) = {
        let tap = folkmoot_protocol::tap::Tap::of("delivery");
        (
            tap.on(logs),
            tap.on(mailboxes),
            tap.on(doors),
            tap.on(shelves),
        )
    };
    routes
        .add_service(logs)
        .add_service(mailboxes)
        .add_service(doors)
        .add_service(shelves)
}

struct Skin<S> {
    service: Arc<DeliveryService<S>>,
    clock: fn() -> u64,
    limiter: Arc<Limiter>,
    turns: Arc<Semaphore>,
}

impl<S> Clone for Skin<S> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            clock: self.clock,
            limiter: self.limiter.clone(),
            turns: self.turns.clone(),
        }
    }
}

impl<S: Store> Skin<S> {
    fn new(service: Arc<DeliveryService<S>>, clock: fn() -> u64, rate: Rate) -> Self {
        Self {
            service,
            clock,
            limiter: Arc::new(Limiter::new(rate)),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Runs something that may block where it may.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DeliveryService<S>, u64) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let turns = self.turns.clone();
        // Neither fails but when the program ends.
        let turn = turns.acquire_owned().await.map_err(|_| Refusal::Busy(0))?;
        let (service, clock) = (self.service.clone(), self.clock);
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&service, clock())
        });
        work.await.map_err(|_| Refusal::Internal)
    }

    async fn answer(&self, call: Call) -> Result<Answer, Refusal> {
        self.blocking(move |service, now| service.answer(call, now, &mut rand::rng()))
            .await?
    }

    /// What costs tokens, or would, is counted: it is the most work to refuse, too.
    fn pay<T>(&self, request: &Request<T>, cost: usize) -> Result<(), Refusal> {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        self.limiter.spend(address(request), cost, (self.clock)())
    }

    /// A read's batches, each made when the one before has been taken: a slow reader holds one batch
    /// and no thread, and neither does one who waits for news.
    fn batches(self, request: ReadRequest) -> ReadStream {
        let begun = futures_util::stream::once(self.begin(request));
        Box::pin(begun.try_flatten())
    }

    async fn begin(
        self,
        request: ReadRequest,
    ) -> Result<impl Stream<Item = Result<ReadResponse, Status>>, Status> {
        let news = Arc::new(Notify::new());
        let bell = news.clone();
        let reading = self
            .blocking(move |service, now| {
                service.begin_read(request, now, move || bell.notify_one())
            })
            .await??;
        Ok(try_unfold(
            (self, reading, news),
            |(skin, reading, news)| async {
                let next = skin.next_batch(reading, &news).await?;
                Ok(next.map(|(batch, reading)| (batch, (skin, reading, news))))
            },
        ))
    }

    /// The next batch of a read, when there is one; `None` after the last.
    async fn next_batch(
        &self,
        mut reading: Reading,
        news: &Notify,
    ) -> Result<Option<(ReadResponse, Reading)>, Refusal> {
        loop {
            let (rest, progress) = self
                .blocking(move |service, now| {
                    let progress = service.next_batch(&mut reading, now);
                    (reading, progress)
                })
                .await?;
            reading = rest;
            match progress? {
                Progress::Batch(batch) => return Ok(Some((batch, reading))),
                Progress::CaughtUp { until } => {
                    let wait = Duration::from_millis(until.saturating_sub((self.clock)()));
                    tokio::select! {
                        () = news.notified() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
                Progress::Over => return Ok(None),
            }
        }
    }
}

/// The batches of a read, as they come about.
type ReadStream = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

fn one<T>(_request: &T) -> usize {
    1
}

/// Of appends, contests are paid for, and the commits that follow one.
fn contests(append: &AppendRequest) -> usize {
    let append = folkmoot_protocol::log::Append::from_bytes(&append.append);
    usize::from(append.is_ok_and(|append| append.is_paid()))
}

fn payments(take: &TakeRequest) -> usize {
    take.price().tokens
}

/// Each envelope is looked up for itself, as in so many calls.
fn envelopes(request: &DropAllRequest) -> usize {
    request.drops.len().div_ceil(64)
}

/// Implements a server trait: each of its calls is answered by the logic's answer of that name.
macro_rules! server {
    (
        $server:ident {
            $($method:ident: $call:ident($request:ty) -> $response:ty $(, costs $cost:expr)?;)*
        }
        $($rest:item)*
    ) => {
        #[tonic::async_trait]
        impl<S: Store> $server for Skin<S> {
            $(async fn $method(
                &self,
                request: Request<$request>,
            ) -> Result<Response<$response>, Status> {
                $(self.pay(&request, $cost(request.get_ref()))?;)?
                match self.answer(Call::$call(request.into_inner())).await? {
                    Answer::$call(response) => Ok(Response::new(response)),
                    _ => Err(Refusal::Internal.into()),
                }
            })*
            $($rest)*
        }
    };
}

server! {
    Logs {
        open: Open(OpenRequest) -> Receipt, costs one;
        append: Append(AppendRequest) -> Receipt, costs contests;
        candidates: Candidates(CandidatesRequest) -> CandidatesResponse;
        stage: Stage(StageRequest) -> StageResponse;
        upload: Upload(UploadRequest) -> UploadResponse;
        append_staged: AppendStaged(AppendStagedRequest) -> Receipt, costs one;
        pages: Pages(PagesRequest) -> PagesResponse;
        put_pages: PutPages(PutPagesRequest) -> PutPagesResponse;
        nonce: LogNonce(NonceRequest) -> NonceResponse;
        pick_up: PickUp(PickUpRequest) -> PickUpResponse;
    }

    type ReadStream = ReadStream;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadStream>, Status> {
        Ok(Response::new(self.clone().batches(request.into_inner())))
    }
}

server! {
    Mailboxes {
        create: CreateMailbox(CreateMailboxRequest) -> CreateMailboxResponse, costs one;
        nonce: MailboxNonce(NonceRequest) -> NonceResponse;
        drop: Drop(DropRequest) -> DropResponse;
        drop_all: DropAll(DropAllRequest) -> DropAllResponse, costs envelopes;
        collect: Collect(CollectRequest) -> CollectResponse;
        acknowledge: Acknowledge(AcknowledgeRequest) -> AcknowledgeResponse;
    }
}

server! {
    Doors {
        nonce: DoorNonce(NonceRequest) -> NonceResponse;
        create: CreateDoor(CreateDoorRequest) -> CreateMailboxResponse, costs one;
        collect: CollectDoor(CollectRequest) -> CollectResponse;
        acknowledge: AcknowledgeDoor(AcknowledgeRequest) -> AcknowledgeResponse;
        close: CloseDoor(CloseDoorRequest) -> CloseDoorResponse;
    }
}

server! {
    Shelves {
        nonce: ShelfNonce(NonceRequest) -> NonceResponse;
        stock: Stock(StockRequest) -> StockResponse;
        discard: Discard(DiscardRequest) -> DiscardResponse;
        count: Count(CountRequest) -> CountResponse;
        take: Take(TakeRequest) -> TakeResponse, costs payments;
    }
}
