//! A service on a store, groups with fence keys, owners of mailboxes: what the scenarios are told
//! with.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use folkmoot_delivery_service::store::{AtRestKeys, Store};
use folkmoot_delivery_service::{DeliveryService, SqliteStore};
use folkmoot_mls::codec::{Encode, encode_bytes};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{self, read_response::End};
use folkmoot_protocol::ids::{EntryId, LogId, MailboxId, PickupAddress};
use folkmoot_protocol::keys::{PublicKey, SigningKey};
use folkmoot_protocol::log::{
    Append, CommitDeclaration, Head, Open, Pickup, SignedHead, part_hash,
};
use folkmoot_protocol::mailbox::OwnerContent;
use folkmoot_protocol::proof::{FenceProof, MailboxProof, Method};
use folkmoot_protocol::{Refusal, VERSION};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A day, milliseconds.
pub const DAY: u64 = 24 * HOUR;

/// An hour, milliseconds. Takes and tickets are good for up to so much longer.
pub const HOUR: u64 = 60 * 60 * 1000;

/// Ends the tests if it is not dropped within a minute: nobody can tell a thread to stop that waits for
/// another, and what waits for ever fails nothing.
pub struct Deadline {
    _in_time: Sender<()>,
}

impl Deadline {
    /// The minute begins.
    pub fn start() -> Self {
        let (in_time, wait) = channel();
        let test = std::thread::current().name().unwrap_or("").to_owned();
        std::thread::spawn(move || {
            if wait.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{test} waits and waits");
                std::process::exit(101);
            }
        });
        Self { _in_time: in_time }
    }
}

/// Runs scenarios, each a function of a `World`, on every store.
#[macro_export]
macro_rules! on_every_store {
    ($($scenario:ident;)*) => {
        mod memory {
            $(#[test]
            fn $scenario() {
                super::$scenario($crate::world::World::new(
                    folkmoot_delivery_service::MemoryStore::new(),
                ));
            })*
        }
        mod sqlite {
            $(#[test]
            fn $scenario() {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("delivery.sqlite");
                super::$scenario($crate::world::World::new(
                    $crate::world::sqlite(&path),
                ));
            })*
        }
    };
}

pub struct World<S> {
    pub service: DeliveryService<S>,
    pub now: u64,
    pub rng: ChaCha20Rng,
}

/// A store in a file, with a key that is always the same.
pub fn sqlite(path: &Path) -> SqliteStore {
    SqliteStore::open(path, &at_rest_keys(1)).unwrap()
}

/// A key for what a store keeps, by number.
pub fn at_rest_keys(number: u8) -> AtRestKeys {
    AtRestKeys::generate(&mut ChaCha20Rng::from_seed([number; 32]))
}

pub fn service_key() -> SigningKey {
    SigningKey::from_seed([42; 32].into())
}

impl<S: Store> World<S> {
    pub fn new(store: S) -> Self {
        let mut rng = ChaCha20Rng::from_seed([9; 32]);
        Self {
            service: DeliveryService::new(store, service_key(), &mut rng),
            now: 1_700_000_000_000,
            rng,
        }
    }

    /// Every call and answer passes as bytes.
    pub fn ask(&mut self, call: Call) -> Result<Answer, Refusal> {
        let path = call.path();
        let call = Call::decode(path, &call.encode()).unwrap();
        let answer = self.service.answer(call, self.now, &mut self.rng);
        answer
            .map(|answer| Answer::decode(path, &answer.encode()).unwrap())
            .map_err(|refusal| Refusal::from_bytes(&refusal.to_bytes()).unwrap())
    }

    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    pub fn key(&mut self) -> SigningKey {
        SigningKey::generate(&mut self.rng)
    }

    pub fn open(&mut self, request: delivery::OpenRequest) -> Result<Head, Refusal> {
        match self.ask(Call::Open(request))? {
            Answer::Open(receipt) => Ok(verified(&receipt)),
            other => panic!("{other:?}"),
        }
    }

    pub fn append(&mut self, request: delivery::AppendRequest) -> Result<Head, Refusal> {
        match self.ask(Call::Append(request))? {
            Answer::Append(receipt) => Ok(verified(&receipt)),
            other => panic!("{other:?}"),
        }
    }

    pub fn nonce(&mut self) -> Vec<u8> {
        match self.ask(Call::LogNonce(delivery::NonceRequest {})) {
            Ok(Answer::LogNonce(response)) => response.nonce,
            other => panic!("{other:?}"),
        }
    }

    /// A new group whose log is open.
    pub fn group(&mut self) -> Group {
        let group = Group::new(LogId(self.bytes()), self.key());
        self.open(group.open_request()).unwrap();
        group
    }

    /// Appends a commit and moves the group on.
    pub fn commit(&mut self, group: &mut Group, cut: bool) -> Head {
        let next = self.key();
        let append = group.commit(&next.public(), cut, group.sequence);
        let head = self.append(group.sign(&append)).unwrap();
        group.follow(&append, next, &head);
        head
    }

    /// Appends an application message of the current epoch.
    pub fn message(&mut self, group: &mut Group, body: &[u8]) -> Head {
        let append = group.append(1, body);
        let head = self.append(group.sign(&append)).unwrap();
        group.sequence = head.sequence;
        head
    }

    /// Appends a proposal of the current epoch.
    pub fn proposal(&mut self, group: &mut Group, body: &[u8]) -> Head {
        let append = group.append(2, body);
        let head = self.append(group.sign(&append)).unwrap();
        group.sequence = head.sequence;
        head
    }

    /// Reads one log with an epoch's key.
    pub fn read(&mut self, group: &Group, epoch: u64, after: u64) -> ReadLog {
        let nonce = self.nonce();
        let log = group.read(epoch, after, nonce);
        let logs = vec![log];
        let follow = false;
        match self.ask(Call::Read(delivery::ReadRequest { logs, follow })) {
            Ok(Answer::Read(responses)) => ReadLog::gather(responses.batches),
            other => panic!("{other:?}"),
        }
    }

    /// A new owner whose mailbox exists.
    pub fn owner(&mut self) -> MailboxOwner {
        let owner = MailboxOwner { key: self.key() };
        let nonce = self.nonce();
        let answer = self.ask(Call::CreateMailbox(owner.create_request(nonce)));
        let mailbox = owner.mailbox().into();
        assert_eq!(
            answer,
            Ok(Answer::CreateMailbox(delivery::CreateMailboxResponse {
                mailbox
            }))
        );
        owner
    }
}

/// Everything that was read of one log.
#[derive(Debug)]
pub struct ReadLog {
    pub sequences: Vec<u64>,
    pub entries: Vec<delivery::Entry>,
    pub head: Option<Head>,
    pub end: End,
    pub batches: usize,
}

impl ReadLog {
    pub fn gather(batches: Vec<delivery::ReadResponse>) -> Self {
        let last = batches.last().expect("a read log has at least one batch");
        let unfinished = &batches[..batches.len() - 1];
        assert!(
            unfinished
                .iter()
                .all(|batch| batch.end() == End::Unspecified
                    && batch.head.is_none()
                    && !batch.entries.is_empty())
        );
        let head = last.head.as_ref().map(verified);
        let (end, count) = (last.end(), batches.len());
        let entries: Vec<_> = batches
            .into_iter()
            .flat_map(|batch| batch.entries)
            .collect();
        Self {
            sequences: entries.iter().map(|entry| entry.sequence).collect(),
            entries,
            head,
            end,
            batches: count,
        }
    }
}

pub fn verified(receipt: &delivery::Receipt) -> Head {
    SignedHead::read(receipt, &service_key().public())
        .expect("the service signs its heads")
        .head
}

/// A group as its members see it.
#[derive(Clone)]
pub struct Group {
    pub log: LogId,
    pub branch: EntryId,
    pub fences: Vec<SigningKey>,
    pub epoch: u64,
    pub tip: EntryId,
    /// Of every epoch so far.
    pub tips: Vec<EntryId>,
    pub sequence: u64,
    open: Open,
}

impl Group {
    pub fn new(log: LogId, fence: SigningKey) -> Self {
        let open = Open {
            version: VERSION,
            log,
            fence_key: fence.public(),
        };
        Self {
            log,
            branch: open.id(),
            fences: vec![fence],
            epoch: 0,
            tip: open.id(),
            tips: vec![open.id()],
            sequence: 0,
            open,
        }
    }

    pub fn proof(&self, method: Method, epoch: u64, subject: &[u8]) -> FenceProof {
        FenceProof {
            version: VERSION,
            delivery_service: service_key().public(),
            log: self.log,
            branch: self.branch,
            epoch,
            method,
            subject: subject.into(),
        }
    }

    pub fn open_request(&self) -> delivery::OpenRequest {
        let proof = self.proof(Method::Open, 0, &self.branch.0);
        delivery::OpenRequest {
            open: self.open.to_bytes(),
            fence_signature: proof.sign(&self.fences[0]).to_vec(),
            payment: None,
        }
    }

    /// Something of the current epoch that is no commit.
    pub fn append(&self, content_type: u8, body: &[u8]) -> Append {
        Append {
            version: VERSION,
            log: self.log,
            branch: self.branch,
            parent: self.tip,
            epoch: self.epoch,
            content_type,
            commit: None,
            message: private_message(&self.log.0, self.epoch, content_type, body).into(),
        }
    }

    /// A commit of the current epoch.
    pub fn commit(&self, next_fence_key: &PublicKey, cut: bool, last_seen: u64) -> Append {
        let commit = CommitDeclaration {
            next_fence_key: *next_fence_key,
            cut,
            last_seen,
            commit_interval: None,
            contest: false,
            committers: None,
            shared_part: None,
            pickups: Vec::new(),
            pages: Vec::new(),
            replaced: Vec::new(),
        };
        Append {
            commit: Some(commit),
            ..self.append(3, &next_fence_key.0)
        }
    }

    /// A commit that leaves parts of a Welcome, with the request that carries them.
    pub fn commit_with_welcome(
        &self,
        next_fence_key: &PublicKey,
        shared_part: &[u8],
        joiners: &[(PickupAddress, Vec<u8>)],
    ) -> (Append, delivery::AppendRequest) {
        let mut append = self.commit(next_fence_key, false, self.sequence);
        let commit = append.commit.as_mut().unwrap();
        commit.shared_part = Some(part_hash(shared_part));
        commit.pickups = joiners
            .iter()
            .map(|(address, part)| Pickup {
                address: *address,
                own_part: part_hash(part),
            })
            .collect();
        let mut request = self.sign(&append);
        request.shared_part = shared_part.to_vec();
        request.own_parts = joiners.iter().map(|(_, part)| part.clone()).collect();
        (append, request)
    }

    /// Signs an append with the fence key of the epoch that it names.
    pub fn sign(&self, append: &Append) -> delivery::AppendRequest {
        self.sign_with(append, &self.fences[append.epoch as usize])
    }

    pub fn sign_with(&self, append: &Append, fence: &SigningKey) -> delivery::AppendRequest {
        let proof = self.proof(Method::Append, append.epoch, &append.id().0);
        delivery::AppendRequest {
            append: append.to_bytes(),
            fence_signature: proof.sign(fence).to_vec(),
            ..delivery::AppendRequest::default()
        }
    }

    /// Moves on to the epoch that a commit made.
    pub fn follow(&mut self, commit: &Append, fence: SigningKey, head: &Head) {
        self.tip = commit.id();
        self.tips.push(self.tip);
        self.epoch += 1;
        self.fences.push(fence);
        self.sequence = head.sequence;
    }

    pub fn read(&self, epoch: u64, after: u64, nonce: Vec<u8>) -> delivery::LogRead {
        let fence = &self.fences[epoch as usize];
        let proof = self.proof(Method::Read, epoch, &nonce).sign(fence).to_vec();
        delivery::LogRead {
            log: self.log.into(),
            branch: self.branch.into(),
            epoch,
            nonce,
            proof,
            after,
        }
    }
}

/// An MLSMessage with a PrivateMessage, as far as anybody outside the group can tell.
pub fn private_message(group_id: &[u8], epoch: u64, content_type: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 2];
    encode_bytes(group_id, &mut message);
    epoch.encode(&mut message);
    message.push(content_type);
    encode_bytes(&[], &mut message);
    encode_bytes(&[5; 28], &mut message);
    encode_bytes(body, &mut message);
    message
}

/// Who owns a mailbox and its shelf.
pub struct MailboxOwner {
    pub key: SigningKey,
}

impl MailboxOwner {
    pub fn mailbox(&self) -> MailboxId {
        MailboxId::of(&self.key.public())
    }

    pub fn proof(
        &self,
        mailbox: MailboxId,
        method: Method,
        nonce: &[u8],
        request: &impl OwnerContent,
    ) -> Vec<u8> {
        let proof = MailboxProof {
            version: VERSION,
            delivery_service: service_key().public(),
            mailbox,
            method,
            nonce: nonce.into(),
            content: request.owner_content(),
        };
        proof.sign(&self.key).to_vec()
    }

    pub fn create_request(&self, nonce: Vec<u8>) -> delivery::CreateMailboxRequest {
        let mut request = delivery::CreateMailboxRequest {
            owner_key: self.key.public().into(),
            nonce,
            ..delivery::CreateMailboxRequest::default()
        };
        let method = Method::CreateMailbox;
        request.proof = self.proof(self.mailbox(), method, &request.nonce, &request);
        request
    }

    pub fn owns(
        &self,
        method: Method,
        nonce: Vec<u8>,
        request: &impl OwnerContent,
    ) -> Option<delivery::Owner> {
        let proof = self.proof(self.mailbox(), method, &nonce, request);
        Some(delivery::Owner {
            mailbox: self.mailbox().into(),
            nonce,
            proof,
        })
    }
}
