//! Vandals at the door: what they send slowly, too often, too much or in no form. Each gets a typed
//! refusal or is let go; memory stays within bounds; and an honest client beside them stays served.

mod common;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::Server;
use common::wire::{
    HONEST, Log, VANDAL, batch, channel, delivery_key, logs, logs_on, read, refusal, run, tcp, tls,
    try_channel,
};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery::{AppendRequest, NonceRequest};
use folkmoot_protocol::limits;
use hyper::body::{Bytes, Frame};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::Request;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A server that bounds what loopback may ask for, as if it were the world.
fn start(folder: &tempfile::TempDir) -> Server {
    let data = folder.path().join("server");
    Server::started_with(
        common::folkmoot(),
        &data,
        "127.0.0.1:0",
        &["--limit-loopback", "--no-tokens"],
    )
}

/// Somebody who writes a log all the while, and must not notice anything.
struct Honest {
    stop: Arc<AtomicBool>,
    writing: tokio::task::JoinHandle<(u32, Duration)>,
}

impl Honest {
    async fn begin(server: &Server) -> Self {
        let listen = server.listen();
        let key = delivery_key(server).await;
        let mut client = logs(&listen, None).await;
        let mut log = Log::open(&mut client, key).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let writing = tokio::spawn(async move {
            let (mut written, mut slowest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                log.append(&mut client, 500)
                    .await
                    .expect("an honest append is taken");
                // A newcomer gets in too.
                if written % 10 == 0 {
                    let mut newcomer = logs(&listen, None).await;
                    newcomer
                        .nonce(NonceRequest {})
                        .await
                        .expect("a newcomer is let in");
                }
                slowest = slowest.max(start.elapsed());
                written += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (written, slowest)
        });
        Self { stop, writing }
    }

    async fn end(self) {
        // Some of them come after all that was done to the server.
        tokio::time::sleep(Duration::from_millis(400)).await;
        self.stop.store(true, Ordering::Relaxed);
        let (written, slowest) = self.writing.await.unwrap();
        println!("{written} honest appends, the slowest in {slowest:?}");
        assert!(written >= 3, "{written}");
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    }
}

/// A body that comes byte by byte, without end.
struct Trickle(tokio::time::Interval);

impl Trickle {
    fn new() -> Self {
        Self(tokio::time::interval(Duration::from_millis(500)))
    }
}

impl hyper::body::Body for Trickle {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let byte = |_| Some(Ok(Frame::data(Bytes::from_static(&[0]))));
        self.0.poll_tick(context).map(byte)
    }
}

/// What a path answers to a body, whatever it is.
async fn post(channel: &mut Channel, path: &str, body: Body) -> Result<Option<Status>, Code> {
    let request = Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap();
    std::future::poll_fn(|context| Service::<Request<Body>>::poll_ready(channel, context))
        .await
        .map_err(|_| Code::Unavailable)?;
    let response = channel.call(request).await.map_err(|_| Code::Unavailable)?;
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Ok(Some(status));
    }
    let mut body = response.into_body();
    loop {
        let poll =
            |context: &mut Context<'_>| hyper::body::Body::poll_frame(Pin::new(&mut body), context);
        match std::future::poll_fn(poll).await {
            None => return Ok(None),
            Some(Err(status)) => return Ok(Some(status)),
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    return Ok(Status::from_header_map(trailers));
                }
            }
        }
    }
}

/// A gRPC message, its prefix in front.
fn framed(message: &[u8]) -> Body {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    body(&[&[0], &length[..], message].concat())
}

fn body(bytes: &[u8]) -> Body {
    Body::new(http_body_util::Full::new(Bytes::copy_from_slice(bytes)))
}

/// How long until the other side has closed.
async fn closed(stream: &mut (impl AsyncReadExt + Unpin)) -> Duration {
    let start = Instant::now();
    let mut buffer = [0; 1024];
    let end = async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    let end = tokio::time::timeout(Duration::from_secs(60), end).await;
    end.expect("whoever is slow is let go");
    start.elapsed()
}

#[test]
fn whoever_sends_slowly_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder);
    let listen = server.listen();
    run(async {
        let honest = Honest::begin(&server).await;
        let mut slow = JoinSet::new();
        for _ in 0..20 {
            // A handshake that trickles: five bytes of a ClientHello's record, one by one.
            let mut stream = tcp(VANDAL, &listen).await.unwrap();
            slow.spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let trickle = async {
                    for byte in [22, 3, 1, 2].into_iter().chain(std::iter::repeat(0)) {
                        if writer.write_all(&[byte]).await.is_err() {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(700)).await;
                    }
                    std::future::pending().await
                };
                tokio::select! {
                    time = closed(&mut reader) => ("handshake", time, Duration::from_secs(14)),
                    () = trickle => unreachable!(),
                }
            });
            // A header of HTTP/1.1 that trickles.
            let stream = tls(VANDAL, &listen, "http/1.1").await.unwrap();
            slow.spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(stream);
                let trickle = async {
                    let _ = writer.write_all(b"GET / HTTP/1.1\r\nHost: ").await;
                    while writer.write_all(b"a").await.is_ok() && writer.flush().await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(700)).await;
                    }
                    std::future::pending().await
                };
                tokio::select! {
                    time = closed(&mut reader) => ("header", time, Duration::from_secs(14)),
                    () = trickle => unreachable!(),
                }
            });
            // A connection of HTTP/2 on which nothing is asked.
            let mut stream = tls(VANDAL, &listen, "h2").await.unwrap();
            slow.spawn(async move {
                let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
                stream.write_all(preface).await.unwrap();
                stream.flush().await.unwrap();
                (
                    "nothing asked",
                    closed(&mut stream).await,
                    Duration::from_secs(36),
                )
            });
            // A body that trickles.
            let mut channel = channel(VANDAL, &listen, None).await;
            slow.spawn(async move {
                let start = Instant::now();
                let path = "/folkmoot.delivery.v1.Logs/Append";
                let status = post(&mut channel, path, Body::new(Trickle::new())).await;
                let status = status.unwrap().expect("an error");
                assert_eq!(refusal(&status), Refusal::TooSlow);
                ("body", start.elapsed(), Duration::from_secs(20))
            });
        }
        while let Some(done) = slow.join_next().await {
            let (what, time, most) = done.unwrap();
            assert!(time < most, "{what}: {time:?}");
        }
        honest.end().await;
    });
}

#[test]
fn an_address_has_so_many_connections_and_requests() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder);
    let listen = server.listen();
    run(async {
        let honest = Honest::begin(&server).await;
        let mut held = Vec::new();
        for _ in 0..300 {
            held.push(tcp(VANDAL, &listen).await.unwrap());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut refused = 0;
        for stream in &mut held {
            let end = tokio::time::timeout(Duration::from_millis(5), stream.read_u8()).await;
            refused += usize::from(end.is_ok());
        }
        assert!((20..=60).contains(&refused), "{refused} of 300");
        assert!(try_channel(VANDAL, &listen, None).await.is_err());
        drop(held);
        tokio::time::sleep(Duration::from_millis(300)).await;

        // Streams that never end, over several connections.
        let key = delivery_key(&server).await;
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(logs_on(channel(VANDAL, &listen, None).await));
        }
        let log = Log::open(&mut clients[0], key).await.unwrap();
        let nonce = clients[0]
            .nonce(NonceRequest {})
            .await
            .unwrap()
            .into_inner()
            .nonce;
        let mut streams = Vec::new();
        let refused = loop {
            let client = &mut clients[streams.len() / 95];
            let request = folkmoot_protocol::delivery::ReadRequest {
                logs: vec![log.read(0, &nonce)],
                follow: true,
            };
            match client.read(request).await {
                Ok(stream) => streams.push(stream.into_inner()),
                Err(status) => break status,
            }
        };
        assert_eq!(refusal(&refused), Refusal::Busy(1000));
        assert!((500..=512).contains(&streams.len()), "{}", streams.len());
        // Those that were let in are served, and a place that is given back is had again.
        for stream in &mut streams {
            batch(stream).await;
        }
        streams.truncate(500);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut again = read(&mut clients[5], &[(&log, 0)], true).await;
        batch(&mut again).await;
        honest.end().await;
    });
}

/// Asks many times at once, until some were refused for their rate. Nothing is refused in another way.
async fn hammer<F>(mut ask: impl FnMut() -> F)
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (mut asked, mut refused, mut count) = (JoinSet::new(), 0, 0);
    while refused < 20 || !asked.is_empty() {
        if refused < 20 && asked.len() < 60 {
            asked.spawn(ask());
            count += 1;
            assert!(count < 50_000, "there is no bound");
            continue;
        }
        let done: Result<(), Status> = asked.join_next().await.unwrap().unwrap();
        match done.as_ref().map_err(refusal) {
            Ok(()) => {}
            Err(Refusal::Rate(wait)) => {
                assert!(wait > 0);
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    println!("{count} asked for, {refused} refused");
}

#[test]
fn whoever_asks_too_often_waits_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder);
    let listen = server.listen();
    run(async {
        let honest = Honest::begin(&server).await;
        // A log's members share its rate, whatever address they write from.
        let key = delivery_key(&server).await;
        let mut client = logs(&listen, None).await;
        let mut log = Log::open(&mut client, key).await.unwrap();
        let mut other = Log::open(&mut client, key).await.unwrap();
        let mut writer = logs_on(channel(VANDAL, &listen, None).await);
        hammer(|| {
            let (mut writer, request) = (writer.clone(), log.message(10));
            async move { writer.append(request).await.map(drop) }
        })
        .await;
        other.append(&mut writer, 10).await.unwrap();

        // An address, for calls of any kind.
        hammer(|| {
            let mut writer = writer.clone();
            async move { writer.nonce(NonceRequest {}).await.map(drop) }
        })
        .await;
        other
            .append(&mut client, 10)
            .await
            .expect("another address goes on");
        honest.end().await;
    });
}

#[test]
fn large_requests_of_one_address_leave_room_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder);
    let listen = server.listen();
    run(async {
        let honest = Honest::begin(&server).await;
        let mut sending = JoinSet::new();
        let huge = AppendRequest {
            append: vec![7; limits::REQUEST - 1024],
            ..AppendRequest::default()
        };
        for _ in 0..60 {
            let mut client = logs_on(channel(VANDAL, &listen, None).await);
            let huge = huge.clone();
            sending.spawn(async move { client.append(huge).await.unwrap_err() });
        }
        drop(huge);
        while let Some(refused) = sending.join_next().await {
            match refusal(&refused.unwrap()) {
                Refusal::Busy(_) | Refusal::Malformed(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let peak = server.memory("VmHWM");
        println!("{peak} KiB at the peak");
        assert!(peak < 300 << 10, "{peak} KiB");

        // One byte more than may be, wherever it goes.
        let mut vandal = channel(VANDAL, &listen, None).await;
        for (path, most) in [
            ("/folkmoot.delivery.v1.Logs/Append", limits::REQUEST),
            ("/folkmoot.delivery.v1.Logs/Upload", limits::REQUEST),
            ("/folkmoot.delivery.v1.Logs/Nonce", limits::REQUEST),
            (
                "/folkmoot.delivery.v1.Mailboxes/Drop",
                limits::DROPS_BYTES + 128 * limits::DROPS_PER_CALL,
            ),
        ] {
            let status = post(&mut vandal, path, framed(&vec![0x3a; most + 1])).await;
            assert_eq!(
                refusal(&status.unwrap().unwrap()),
                Refusal::TooLarge,
                "{path}"
            );
        }
        honest.end().await;
    });
}

/// Every call of both services.
const PATHS: [&str; 12] = [
    "delivery.v1.Logs/Open",
    "delivery.v1.Logs/Append",
    "delivery.v1.Logs/Read",
    "delivery.v1.Logs/PickUp",
    "delivery.v1.Mailboxes/Create",
    "delivery.v1.Mailboxes/Drop",
    "delivery.v1.Mailboxes/Collect",
    "delivery.v1.Shelves/Stock",
    "delivery.v1.Shelves/Discard",
    "delivery.v1.Shelves/Take",
    "authentication.v1.Accounts/Register",
    "authentication.v1.Directory/LookUp",
];

#[test]
fn what_has_no_form_gets_a_typed_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder);
    let listen = server.listen();
    run(async {
        let honest = Honest::begin(&server).await;
        let mut vandal = channel(VANDAL, &listen, None).await;
        let before = server.memory("VmRSS");
        let many_fields = [0x0a, 0].repeat(limits::FIELDS + 1);
        for path in PATHS {
            let path = format!("/folkmoot.{path}");
            let noise: Vec<u8> = (0..999u32)
                .map(|n| ((n * n * 31) >> 3) as u8 | 0x80)
                .collect();
            for (what, bytes) in [
                ("noise", framed(&noise)),
                (
                    "a length beyond its end",
                    framed(&[0x0a, 0xff, 0xff, 0xff, 0x7f, 1]),
                ),
                ("groups", framed(&[0x0b, 0x0b, 0x0b])),
                ("too many fields", framed(&many_fields)),
                ("a message that does not come", body(&[0, 0, 0, 1, 0, 7])),
                ("a length of 4 GiB", body(&[0, 0xff, 0xff, 0xff, 0xff, 7])),
                ("an unknown compression", body(&[9, 0, 0, 0, 1, 7])),
                ("half a prefix", body(&[0, 0])),
                ("nothing", body(&[])),
            ] {
                let status = post(&mut vandal, &path, bytes).await;
                // A read says it in its stream.
                let status = status.unwrap_or_else(|code| panic!("{path} {what}: {code:?}"));
                let status = status.unwrap_or_else(|| panic!("{path} takes {what}"));
                match refusal(&status) {
                    Refusal::Malformed(_) | Refusal::TooLarge => {}
                    other => panic!("{path} {what}: {other:?}"),
                }
            }
        }
        // What is no message of MLS, signed by whoever may write.
        let key = delivery_key(&server).await;
        let mut client = logs_on(channel(HONEST, &listen, None).await);
        let mut log = Log::open(&mut client, key).await.unwrap();
        let whole = log.mls_message(40);
        let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|end| whole[..end].into()).collect();
        damaged.extend((0..46).map(|at| {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            changed
        }));
        damaged.push(vec![0xff; 1000]);
        for message in damaged {
            let status = client.append(log.append_of(message.clone())).await;
            match status.as_ref().map_err(refusal) {
                Err(Refusal::Malformed(_) | Refusal::HeaderMismatch | Refusal::TooLarge) => {}
                other => panic!("{message:?}: {other:?}"),
            }
        }
        log.append(&mut client, 40).await.unwrap();
        let grown = server.memory("VmRSS").saturating_sub(before);
        println!("{grown} KiB more than before");
        assert!(grown < 64 << 10, "{grown} KiB");
        // Nothing of all that is more than the service may say.
        let request = AppendRequest::default().encode_to_vec();
        let status = post(
            &mut vandal,
            "/folkmoot.delivery.v1.Logs/Append",
            framed(&request),
        )
        .await;
        let expected = Refusal::Malformed("append".into());
        assert_eq!(refusal(&status.unwrap().unwrap()), expected);
        honest.end().await;
    });
}
