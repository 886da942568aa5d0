//! The same service behind gRPC.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use folkmoot_delivery_service::grpc::add_to;
use folkmoot_delivery_service::{DeliveryService, MemoryStore};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery::logs_client::LogsClient;
use folkmoot_protocol::delivery::mailboxes_client::MailboxesClient;
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::delivery::shelves_client::ShelvesClient;
use folkmoot_protocol::delivery::{
    CreateMailboxRequest, Lane, LogRead, NonceRequest, ReadRequest, TakeRequest,
};
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::limits;
use folkmoot_protocol::rate::Rate;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tonic::service::Routes;

use crate::world::{Deadline, Group, ReadLog, service_key, verified};

const NOW: u64 = 1_700_000_000_000;

/// A service as a client sees it, without a socket in between.
fn routes(rate: Rate) -> Routes {
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let service = DeliveryService::new(MemoryStore::new(), service_key(), &mut rng);
    add_to(Routes::default(), Arc::new(service), || NOW, rate)
}

fn refusal(status: tonic::Status) -> Refusal {
    Refusal::from_bytes(status.details()).expect("a refusal travels in the details")
}

#[tokio::test]
async fn calls_streams_and_refusals_pass() {
    let _deadline = Deadline::start();
    let mut logs = LogsClient::new(routes(Rate::default()))
        .max_decoding_message_size(limits::ANSWER)
        .max_encoding_message_size(limits::ANSWER);
    let mut rng = ChaCha20Rng::from_seed([4; 32]);
    let fence = folkmoot_protocol::keys::SigningKey::generate(&mut rng);
    let mut group = Group::new(LogId([1; 32]), fence);
    let receipt = logs.open(group.open_request()).await.unwrap().into_inner();
    assert_eq!(verified(&receipt).sequence, 0);
    // More than one batch, and more than gRPC's usual message.
    for size in [700_000, 700_001, 3 << 20] {
        let content_type = if size > 1 << 20 { 2 } else { 1 };
        let append = group.append(content_type, &vec![size as u8; size]);
        let receipt = logs.append(group.sign(&append)).await.unwrap().into_inner();
        group.sequence = verified(&receipt).sequence;
    }
    let nonce = logs
        .nonce(NonceRequest {})
        .await
        .unwrap()
        .into_inner()
        .nonce;
    let request = ReadRequest {
        logs: vec![group.read(0, 0, nonce)],
        follow: false,
    };
    let mut stream = logs.read(request).await.unwrap().into_inner();
    let mut batches = Vec::new();
    while let Some(batch) = stream.message().await.unwrap() {
        batches.push(batch);
    }
    let read = ReadLog::gather(batches);
    assert_eq!((read.sequences, read.batches), (vec![1, 2, 3], 3));
    assert_eq!(read.end, End::Head);

    let request = ReadRequest {
        logs: vec![group.read(0, 0, vec![0; 32])],
        follow: false,
    };
    let mut stream = logs.read(request).await.unwrap().into_inner();
    let refused = stream.message().await.unwrap_err();
    assert_eq!(refusal(refused), Refusal::StaleNonce);
    let other = Group::new(group.log, service_key());
    let refused = logs.open(other.open_request()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::AlreadyExists);
    assert_eq!(refusal(refused), Refusal::Taken);
}

#[tokio::test]
async fn what_is_not_paid_for_is_counted() {
    let _deadline = Deadline::start();
    let routes = routes(Rate {
        burst: 5,
        per_second: 2,
    });
    let mut shelves = ShelvesClient::new(routes.clone());
    let take = |mailboxes| TakeRequest {
        request_id: vec![1; 32],
        lane: Some(Lane {
            version: 1,
            cipher_suite: 1,
        }),
        mailboxes,
        payment: None,
    };
    let mailboxes = (0..65u8).map(|number| vec![number; 32]).collect();
    // 65 mailboxes cost two, each of the others one.
    shelves.take(take(mailboxes)).await.unwrap();
    for _ in 0..3 {
        shelves.take(take(Vec::new())).await.unwrap();
    }
    let refused = shelves.take(take(Vec::new())).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert_eq!(refusal(refused), Refusal::Rate(500));
    // Opening logs and making mailboxes come out of the same purse.
    let mut logs = LogsClient::new(routes.clone());
    let group = Group::new(LogId([1; 32]), service_key());
    let refused = logs.open(group.open_request()).await.unwrap_err();
    assert_eq!(refusal(refused), Refusal::Rate(500));
    let mut mailboxes = MailboxesClient::new(routes);
    let request = CreateMailboxRequest::default();
    let refused = mailboxes.create(request).await.unwrap_err();
    assert_eq!(refusal(refused), Refusal::Rate(500));
    // Reading and appending are never counted so.
    for _ in 0..10 {
        logs.nonce(NonceRequest {}).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_follows_until_the_service_ends_it() {
    let _deadline = Deadline::start();
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let service = DeliveryService::new(MemoryStore::new(), service_key(), &mut rng);
    let service = Arc::new(service);
    let routes = add_to(Routes::default(), service.clone(), || NOW, Rate::default());
    let mut logs = LogsClient::new(routes);
    let fence = folkmoot_protocol::keys::SigningKey::generate(&mut rng);
    let mut group = Group::new(LogId([1; 32]), fence);
    logs.open(group.open_request()).await.unwrap();
    let nonce = logs.nonce(NonceRequest {}).await.unwrap();
    let request = ReadRequest {
        logs: vec![group.read(0, 0, nonce.into_inner().nonce)],
        follow: true,
    };
    let mut stream = logs.read(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.entries.len(), first.end()), (0, End::Head));
    for number in 1..=3u64 {
        let append = group.append(1, &[number as u8]);
        logs.append(group.sign(&append)).await.unwrap();
        group.sequence += 1;
        let batch = stream.message().await.unwrap().unwrap();
        assert_eq!(batch.entries[0].sequence, number);
        let head = verified(batch.head.as_ref().unwrap());
        assert_eq!(head.sequence, number);
    }
    service.end_streams();
    assert_eq!(stream.message().await.unwrap(), None);
}

#[tokio::test]
async fn what_is_small_on_the_wire_stays_small_in_memory() {
    let _deadline = Deadline::start();
    let mut logs = LogsClient::new(routes(Rate::default()));
    // Two bytes each on the wire, a hundred in memory.
    let request = |logs| ReadRequest {
        logs: vec![LogRead::default(); logs],
        follow: false,
    };
    let refused = logs.read(request(1 << 20)).await.unwrap_err();
    assert_eq!(refusal(refused), Refusal::TooLarge);
    // What is within that bound gets to the service's own.
    let mut stream = logs.read(request(1001)).await.unwrap().into_inner();
    let refused = stream.message().await.unwrap_err();
    assert_eq!(refusal(refused), Refusal::TooLarge);
}

/// How often the clock of the one test that moves it was looked at.
static LOOKS: AtomicU64 = AtomicU64::new(0);

#[tokio::test]
async fn a_quiet_stream_shows_a_signed_head_by_itself() {
    let _deadline = Deadline::start();
    // At each look at the clock almost half of the time has passed after which a head is due. So
    // whoever waits for the rest of it, after a look at what there is, waits for a moment.
    const STEP: u64 = limits::HEAD_EVERY_MS / 2 - 50;
    let clock = || NOW + STEP * LOOKS.fetch_add(1, Ordering::SeqCst);
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let service = DeliveryService::new(MemoryStore::new(), service_key(), &mut rng);
    let routes = add_to(Routes::default(), Arc::new(service), clock, Rate::UNLIMITED);
    let mut logs = LogsClient::new(routes);
    let fence = folkmoot_protocol::keys::SigningKey::generate(&mut rng);
    let group = Group::new(LogId([1; 32]), fence);
    logs.open(group.open_request()).await.unwrap();
    let nonce = logs.nonce(NonceRequest {}).await.unwrap();
    let request = ReadRequest {
        logs: vec![group.read(0, 0, nonce.into_inner().nonce)],
        follow: true,
    };
    let start = std::time::Instant::now();
    let mut stream = logs.read(request).await.unwrap().into_inner();
    let mut last = 0;
    for _ in 0..4 {
        let batch = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
        let batch = batch.expect("a head in time").unwrap().unwrap();
        assert_eq!((batch.entries.len(), batch.end()), (0, End::Head));
        let issued = verified(batch.head.as_ref().unwrap()).issued;
        assert!(issued >= last + limits::HEAD_EVERY_MS);
        last = issued;
    }
    // Three times it was not yet due when it was looked for.
    assert!(start.elapsed() >= Duration::from_millis(250));
    const { assert!(limits::HEAD_EVERY_MS < 60_000) };
}
