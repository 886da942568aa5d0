//! `kill -9` of the server at random moments under load: logs are written, letters dropped, KeyPackages
//! stocked and taken, all at once. Nothing that was acknowledged is lost or done twice, and what got no
//! answer is settled by sending the same bytes again. `FOLKMOOT_SEED` repeats the choices of a run, though
//! not its moments; `FOLKMOOT_SCALE` makes it 200 moments.

mod common;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Server, folkmoot, scale};
use folkmoot_client::transport::{Grpc, ServerUrl, ServiceAddress, Transport, TransportError};
use folkmoot_mls::codec::{Decode, Encode, encode_bytes};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{
    AcknowledgeRequest, AppendRequest, CollectRequest, CreateMailboxRequest, DropRequest, Envelope,
    Lane, LogRead, NonceRequest, OpenRequest, Owner, Package, ReadRequest, StockRequest,
    TakeRequest, Taken, read_response::End,
};
use folkmoot_protocol::ids::{EntryId, LogId, MailboxId};
use folkmoot_protocol::keys::{PublicKey, SigningKey};
use folkmoot_protocol::log::{Append, Open, SignedHead};
use folkmoot_protocol::mailbox::OwnerContent;
use folkmoot_protocol::proof::{FenceProof, MailboxProof, Method};
use folkmoot_protocol::{Refusal, VERSION};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const WRITERS: u64 = 3;
const TAKERS: u64 = 2;
/// Far more than anything takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);
/// Packages that the owner stocks at a time.
const STOCK: usize = 5;

/// The server and a connection of one's own.
struct Caller {
    runtime: tokio::runtime::Runtime,
    transport: Grpc,
    to: ServiceAddress,
    /// Calls that got no answer.
    unanswered: usize,
}

impl Caller {
    fn new(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let url: ServerUrl = url.parse().unwrap();
        let published = runtime.block_on(Grpc::new().well_known(&url)).unwrap();
        let delivery = published.delivery.unwrap();
        let to = ServiceAddress {
            url: delivery.url,
            key: delivery.key,
            pin: url.pin,
        };
        Self {
            runtime,
            transport: Grpc::new(),
            to,
            unanswered: 0,
        }
    }

    fn service(&self) -> PublicKey {
        self.to.key
    }

    /// Sends a call; the same bytes again for as long as nobody answers.
    fn call(&mut self, call: &Call) -> Result<Answer, Refusal> {
        let begun = Instant::now();
        loop {
            let answer = self.transport.call(&self.to, call.clone());
            match self.runtime.block_on(answer) {
                Ok(answer) => return Ok(answer),
                Err(TransportError::Refused(refusal)) if !refusal.is_temporary() => {
                    return Err(refusal);
                }
                Err(error) => {
                    assert!(begun.elapsed() < PATIENCE, "{error}");
                    self.unanswered += 1;
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    /// A call with a nonce, which does not outlive the server that gave it.
    fn with_nonce(
        &mut self,
        ask: fn(NonceRequest) -> Call,
        call: impl Fn(Vec<u8>) -> Call,
    ) -> Result<Answer, Refusal> {
        loop {
            let nonce = match self.call(&ask(NonceRequest {})).unwrap() {
                Answer::LogNonce(response)
                | Answer::MailboxNonce(response)
                | Answer::ShelfNonce(response) => response.nonce,
                other => panic!("{other:?}"),
            };
            match self.call(&call(nonce)) {
                Err(Refusal::StaleNonce) => {}
                other => return other,
            }
        }
    }
}

fn bytes(rng: &mut ChaCha8Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// One log and its only writer.
struct Log {
    id: LogId,
    branch: EntryId,
    fence: SigningKey,
}

impl Log {
    fn proof(&self, service: PublicKey, method: Method, subject: &[u8]) -> Vec<u8> {
        let proof = FenceProof {
            version: VERSION,
            delivery_service: service,
            log: self.id,
            branch: self.branch,
            epoch: 0,
            method,
            subject: subject.into(),
        };
        proof.sign(&self.fence).to_vec()
    }

    fn open(caller: &mut Caller, rng: &mut ChaCha8Rng) -> Self {
        let fence = SigningKey::from_seed(bytes(rng).into());
        let open = Open {
            version: VERSION,
            log: LogId(bytes(rng)),
            fence_key: fence.public(),
        };
        let (id, branch) = (open.log, open.id());
        let log = Self { id, branch, fence };
        let request = OpenRequest {
            open: open.to_bytes(),
            fence_signature: log.proof(caller.service(), Method::Open, &branch.0),
            ..OpenRequest::default()
        };
        caller.call(&Call::Open(request)).unwrap();
        log
    }

    fn message(&self, service: PublicKey, number: u64) -> AppendRequest {
        // An MLSMessage with a PrivateMessage, as far as the service can tell.
        let mut message = vec![0, 1, 0, 2];
        encode_bytes(&self.id.0, &mut message);
        0u64.encode(&mut message);
        message.push(1);
        encode_bytes(&[], &mut message);
        encode_bytes(&[5; 28], &mut message);
        encode_bytes(&number.to_be_bytes().repeat(30), &mut message);
        let append = Append {
            version: VERSION,
            log: self.id,
            branch: self.branch,
            parent: self.branch,
            epoch: 0,
            content_type: 1,
            commit: None,
            message: message.into(),
        };
        AppendRequest {
            append: append.to_bytes(),
            fence_signature: self.proof(service, Method::Append, &append.id().0),
            ..AppendRequest::default()
        }
    }

    /// Writes until it is told to stop. What was acknowledged, in order: place and content.
    fn write(&self, caller: &mut Caller, stop: &AtomicBool) -> Vec<(u64, Vec<u8>)> {
        let mut acknowledged = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let request = self.message(caller.service(), acknowledged.len() as u64);
            let content = request.append.clone();
            let Ok(Answer::Append(receipt)) = caller.call(&Call::Append(request)) else {
                panic!("an append of ours is taken");
            };
            let head = SignedHead::read(&receipt, &caller.service()).unwrap().head;
            acknowledged.push((head.sequence, content));
        }
        acknowledged
    }

    /// Everything that is in it now.
    fn read(&self, caller: &mut Caller) -> Vec<(u64, Vec<u8>)> {
        let mut entries: Vec<(u64, Vec<u8>)> = Vec::new();
        loop {
            let after = entries.last().map_or(0, |(sequence, _)| *sequence);
            let service = caller.service();
            let answer = caller.with_nonce(Call::LogNonce, |nonce| {
                let read = LogRead {
                    log: self.id.into(),
                    branch: self.branch.into(),
                    epoch: 0,
                    proof: self.proof(service, Method::Read, &nonce),
                    nonce,
                    after,
                };
                let (logs, follow) = (vec![read], false);
                Call::Read(ReadRequest { logs, follow })
            });
            let Ok(Answer::Read(responses)) = answer else {
                panic!("{answer:?}");
            };
            for batch in responses.batches {
                let end = batch.end();
                let new = batch.entries.into_iter();
                entries.extend(new.map(|entry| (entry.sequence, entry.content)));
                match end {
                    End::Head => return entries,
                    End::Unspecified => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

/// A mailbox with a shelf.
struct Home {
    key: SigningKey,
    mailbox: MailboxId,
    service: PublicKey,
}

impl Home {
    fn create(caller: &mut Caller, rng: &mut ChaCha8Rng) -> Self {
        let key = SigningKey::from_seed(bytes(rng).into());
        let mailbox = MailboxId::of(&key.public());
        let service = caller.service();
        let home = Self {
            key,
            mailbox,
            service,
        };
        let created = caller.with_nonce(Call::MailboxNonce, |nonce| {
            let mut request = CreateMailboxRequest {
                owner_key: home.key.public().into(),
                nonce,
                ..CreateMailboxRequest::default()
            };
            request.proof = home.proof(Method::CreateMailbox, &request.nonce, &request);
            Call::CreateMailbox(request)
        });
        assert!(created.is_ok());
        home
    }

    fn proof(&self, method: Method, nonce: &[u8], request: &impl OwnerContent) -> Vec<u8> {
        let proof = MailboxProof {
            version: VERSION,
            delivery_service: self.service,
            mailbox: self.mailbox,
            method,
            nonce: nonce.into(),
            content: request.owner_content(),
        };
        proof.sign(&self.key).to_vec()
    }

    fn owns(&self, method: Method, nonce: Vec<u8>, request: &impl OwnerContent) -> Option<Owner> {
        Some(Owner {
            mailbox: self.mailbox.into(),
            proof: self.proof(method, &nonce, request),
            nonce,
        })
    }

    fn stock(&self, caller: &mut Caller, packages: Vec<Package>) {
        let unanswered = caller.unanswered;
        let answer = caller.with_nonce(Call::ShelfNonce, |nonce| {
            let mut request = StockRequest {
                packages: packages.clone(),
                ..StockRequest::default()
            };
            request.owner = self.owns(Method::Stock, nonce, &request);
            Call::Stock(request)
        });
        match answer {
            Ok(Answer::Stock(_)) => {}
            // Before it was sent again, somebody has taken one of them: they were there.
            Err(Refusal::Taken) if caller.unanswered > unanswered => {}
            other => panic!("{other:?}"),
        }
    }

    fn collect(&self, caller: &mut Caller, after: u64) -> Vec<Envelope> {
        let answer = caller.with_nonce(Call::MailboxNonce, |nonce| {
            let mut request = CollectRequest {
                after,
                ..CollectRequest::default()
            };
            request.owner = self.owns(Method::Collect, nonce, &request);
            Call::Collect(request)
        });
        match answer {
            Ok(Answer::Collect(response)) => response.envelopes,
            other => panic!("{other:?}"),
        }
    }

    fn acknowledge(&self, caller: &mut Caller, through: u64) {
        let done = caller.with_nonce(Call::MailboxNonce, |nonce| {
            let mut request = AcknowledgeRequest {
                through,
                ..AcknowledgeRequest::default()
            };
            request.owner = self.owns(Method::Acknowledge, nonce, &request);
            Call::Acknowledge(request)
        });
        assert!(done.is_ok());
    }

    /// Stocks the shelf and empties the mailbox until it is told to stop. How many packages there
    /// were, and the letters.
    fn keep(
        &self,
        caller: &mut Caller,
        rng: &mut ChaCha8Rng,
        taken: &AtomicUsize,
        stop: &AtomicBool,
    ) -> (BTreeSet<Vec<u8>>, Vec<Vec<u8>>) {
        let (mut stocked, mut letters, mut after) = (BTreeSet::new(), Vec::new(), 0);
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        while !stop.load(Ordering::Relaxed) {
            if stocked.len() < taken.load(Ordering::Relaxed) + STOCK {
                let packages = (0..STOCK).map(|_| Package {
                    lane: Some(LANE),
                    expires: now + 10 * 86_400,
                    last_resort: false,
                    sealed: bytes(rng).to_vec(),
                });
                let packages: Vec<_> = packages.collect();
                stocked.extend(packages.iter().map(|package| package.sealed.clone()));
                self.stock(caller, packages);
            }
            after = self.empty(caller, after, &mut letters);
        }
        (stocked, letters)
    }

    /// Takes the letters out. Those that are taken out do not come again.
    fn empty(&self, caller: &mut Caller, after: u64, letters: &mut Vec<Vec<u8>>) -> u64 {
        let envelopes = self.collect(caller, 0);
        let mut last = after;
        for envelope in envelopes {
            assert!(envelope.number > last, "one after the other, each once");
            last = envelope.number;
            letters.push(envelope.envelope);
        }
        self.acknowledge(caller, last);
        last
    }
}

const LANE: Lane = Lane {
    version: 1,
    cipher_suite: 1,
};

/// What somebody has taken and dropped.
#[derive(Default)]
struct Taker {
    packages: Vec<Vec<u8>>,
    dropped: Vec<Vec<u8>>,
}

impl Taker {
    /// Takes packages, and drops a letter for each, until it is told to stop.
    fn run(
        caller: &mut Caller,
        rng: &mut ChaCha8Rng,
        home: &Home,
        taken: &AtomicUsize,
        stop: &AtomicBool,
    ) -> Self {
        let mut taker = Self::default();
        while !stop.load(Ordering::Relaxed) {
            let request = Call::Take(TakeRequest {
                request_id: bytes(rng).to_vec(),
                lane: Some(LANE),
                mailboxes: vec![home.mailbox.into()],
                ..TakeRequest::default()
            });
            let take = |caller: &mut Caller| -> Taken {
                match caller.call(&request) {
                    Ok(Answer::Take(mut response)) => response.taken.remove(0),
                    other => panic!("{other:?}"),
                }
            };
            let got = take(caller);
            // The same request, perhaps on the other side of a crash, gets the same.
            assert_eq!(take(caller), got);
            let Some(package) = got.package else {
                continue;
            };
            taken.fetch_add(1, Ordering::Relaxed);
            taker.packages.push(package.sealed);
            let letter = bytes(rng).to_vec();
            let drop = Call::Drop(DropRequest {
                mailbox: home.mailbox.into(),
                ticket: got.ticket.clone(),
                envelope: letter.clone(),
            });
            assert!(caller.call(&drop).is_ok());
            taker.dropped.push(letter);
            // On that ticket nothing else goes in.
            let other = Call::Drop(DropRequest {
                mailbox: home.mailbox.into(),
                ticket: got.ticket,
                envelope: bytes(rng).to_vec(),
            });
            assert_eq!(caller.call(&other), Err(Refusal::Taken));
        }
        taker
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_done_twice() {
    let kills = scale(20, 200);
    let fresh = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 % 1_000_000;
    let seed =
        std::env::var("FOLKMOOT_SEED").map_or_else(|_| fresh(), |seed| seed.parse().unwrap());
    eprintln!("FOLKMOOT_SEED={seed}");
    let chance = |stream| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        rng
    };
    let begun = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("server");
    // Tokens are spent elsewhere; here nobody has an account.
    let start = |listen: &str| Server::started_with(folkmoot(), &data, listen, &["--no-tokens"]);
    let mut server = start("127.0.0.1:0");
    let (url, listen) = (server.url.clone(), server.listen());

    let mut caller = Caller::new(&url);
    let home = Home::create(&mut caller, &mut chance(0));
    let logs: Vec<_> = (0..WRITERS)
        .map(|writer| Log::open(&mut caller, &mut chance(10 + writer)))
        .collect();
    let (stop, over, taken) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicUsize::new(0),
    );
    let unanswered = AtomicUsize::new(0);
    let takers = Mutex::new(Vec::new());
    // One caller for each, all made before anything is killed.
    let callers = || (0..WRITERS + TAKERS + 1).map(|_| Caller::new(&url));
    let mut callers: Vec<_> = callers().collect();

    let (written, (stocked, mut letters), _server) = thread::scope(|scope| {
        let (stop, over, taken, home) = (&stop, &over, &taken, &home);
        let (unanswered, takers) = (&unanswered, &takers);
        let keeper = callers.pop().unwrap();
        let keeper = scope.spawn(move || {
            let mut caller = keeper;
            let kept = home.keep(&mut caller, &mut chance(1), taken, over);
            unanswered.fetch_add(caller.unanswered, Ordering::Relaxed);
            kept
        });
        let taking: Vec<_> = (0..TAKERS)
            .map(|number| {
                let mut caller = callers.pop().unwrap();
                scope.spawn(move || {
                    let mut rng = chance(20 + number);
                    let taker = Taker::run(&mut caller, &mut rng, home, taken, stop);
                    unanswered.fetch_add(caller.unanswered, Ordering::Relaxed);
                    takers.lock().unwrap().push(taker);
                })
            })
            .collect();
        let writing: Vec<_> = logs
            .iter()
            .map(|log| {
                let mut caller = callers.pop().unwrap();
                scope.spawn(move || {
                    let written = log.write(&mut caller, stop);
                    unanswered.fetch_add(caller.unanswered, Ordering::Relaxed);
                    written
                })
            })
            .collect();

        let mut moments = chance(2);
        for _ in 0..kills {
            // In microseconds, since much can happen in a millisecond.
            thread::sleep(Duration::from_micros(moments.next_u64() % 150_000));
            server.kill();
            thread::sleep(Duration::from_micros(moments.next_u64() % 20_000));
            server = start(&listen);
        }
        thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
        let written: Vec<_> = writing.into_iter().map(|one| one.join().unwrap()).collect();
        taking.into_iter().for_each(|one| one.join().unwrap());
        over.store(true, Ordering::Relaxed);
        (written, keeper.join().unwrap(), server)
    });

    // Logs: each acknowledged entry where its receipt says, and no other.
    for (log, written) in logs.iter().zip(&written) {
        assert_eq!(&log.read(&mut caller), written);
        for (number, (sequence, content)) in written.iter().enumerate() {
            assert_eq!(*sequence, number as u64 + 1);
            assert!(Append::from_bytes(content).is_ok());
        }
    }
    // Packages: nobody got what another one got, nor what was not there.
    let takers = takers.into_inner().unwrap();
    let mut got = BTreeSet::new();
    for package in takers.iter().flat_map(|taker| &taker.packages) {
        assert!(stocked.contains(package));
        assert!(got.insert(package), "handed out twice");
    }
    // Letters: each that was acknowledged arrives once, and no other.
    home.empty(&mut caller, 0, &mut letters);
    let arrived: BTreeSet<_> = letters.iter().cloned().collect();
    assert_eq!(arrived.len(), letters.len(), "each once");
    let dropped: BTreeSet<_> = takers
        .iter()
        .flat_map(|taker| taker.dropped.clone())
        .collect();
    assert_eq!(arrived, dropped);

    let entries: usize = written.iter().map(Vec::len).sum();
    let unanswered = unanswered.into_inner();
    eprintln!(
        "{kills} kills, {entries} entries, {} packages, {} letters, {unanswered} calls without an \
         answer; {:.1} s",
        got.len(),
        letters.len(),
        begun.elapsed().as_secs_f64()
    );
    assert!(unanswered >= kills, "the kills were felt");
    assert!(entries > kills && got.len() > kills / 4, "there was load");
}
