//! What the AS says can be checked against its log, and nothing else can.

use std::time::Instant;

use folkmoot_authentication_service::AuthenticationService;
use folkmoot_authentication_service::store::{MemoryStore, SqliteStore, Store};
use folkmoot_authentication_service::transparency::{LogStore, Pending};
use folkmoot_credential::transparency::{
    AppendOnlyProof, HistoryProof, LogError, LogHead, LogLabel, LookUpProof, SignedHead,
};
use folkmoot_credential::{Domain, IdentityError};
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_protocol::authentication::LookUpResponse;
use folkmoot_protocol::directory::{DirectoryEntry, Evidence};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::people::{NOW, Person, key, look_up, register, service};

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

fn domain() -> Domain {
    "example.org".parse().unwrap()
}

fn publish<S: Store>(service: &AuthenticationService<S>, minutes: u64) -> usize {
    service
        .publish((NOW + 60 * minutes) * 1000, &mut rng())
        .unwrap()
}

fn head<S: Store>(service: &AuthenticationService<S>) -> LogHead {
    service.head(&mut rng()).unwrap().unwrap().head
}

fn read(response: &LookUpResponse, person: &Person) -> Result<Evidence, IdentityError> {
    let entry = DirectoryEntry::read(response, &person.user, &key(1).public(), NOW)?;
    Ok(entry.evidence)
}

fn log<T>(error: LogError) -> Result<T, IdentityError> {
    Err(IdentityError::Log(error))
}

/// A service where Alice has moved twice and others have come, in three epochs.
fn three_epochs<S: Store>(store: S) -> (AuthenticationService<S>, Person) {
    let service = service(store);
    let mut alice = Person::new("alice@example.org", 10);
    register(&service, alice.request(), NOW).unwrap();
    assert_eq!(publish(&service, 1), 1);
    for epoch in 2..4 {
        alice.issued += 1;
        alice.mailbox = [epoch; 32];
        register(&service, alice.request(), NOW + 2).unwrap();
        for other in 0..8 {
            let name = format!("user{epoch}{other}@example.org");
            register(&service, Person::new(&name, 100).request(), NOW + 2).unwrap();
        }
        assert_eq!(publish(&service, epoch.into()), 9);
    }
    (service, alice)
}

fn label() -> LogLabel {
    LogLabel::User("alice".parse().unwrap())
}

fn what_is_said_is_promised_then_published(store: impl Store) {
    let service = service(store);
    let mut alice = Person::new("alice@example.org", 10);
    register(&service, alice.request(), NOW).unwrap();
    let promised = look_up(&service, "alice").unwrap();
    assert!(promised.proof.is_empty());
    let Evidence::Promised(promise) = read(&promised, &alice).unwrap() else {
        panic!("published before it was");
    };
    assert_eq!(promise.promise.due, (NOW + 120) * 1000);

    // A second change before the first one is in the log: both will be, one after the other.
    alice.issued += 1;
    alice.mailbox = [9; 32];
    register(&service, alice.request(), NOW + 1).unwrap();
    assert_eq!(publish(&service, 1), 2);
    let published = look_up(&service, "alice").unwrap();
    let Evidence::Published(place, signed) = read(&published, &alice).unwrap() else {
        panic!("only promised");
    };
    assert_eq!((place.version, place.epoch, signed.head.epoch), (2, 2, 2));
    let (history, under) = service.history(&label(), &mut rng()).unwrap().unwrap();
    let history = history.verify(&under.head, &label()).unwrap();
    assert_eq!(history[0].value, place.value);
    assert_eq!(history[1].value, promise.promise.value);

    // Without changes there is no epoch, but the head says that it is up to date.
    assert_eq!(publish(&service, 2), 0);
    let later = head(&service);
    assert_eq!((later.epoch, later.root), (2, signed.head.root));
    assert_eq!(later.time, (NOW + 120) * 1000);
    // That a binding is renewed is no change.
    register(
        &service,
        alice.request(),
        NOW + folkmoot_credential::BINDING_SECONDS,
    )
    .unwrap();
    assert_eq!(publish(&service, 3), 0);
}

fn false_answers_are_refused(store: impl Store) {
    let (service, alice) = three_epochs(store);
    let answer = look_up(&service, "alice").unwrap();
    let said = read(&answer, &alice).unwrap();
    assert!(matches!(said, Evidence::Published(..)));
    let with = |change: &dyn Fn(&mut LookUpResponse)| {
        let mut answer = answer.clone();
        change(&mut answer);
        read(&answer, &alice)
    };
    // A device less, and another's answer.
    assert_eq!(
        with(&|answer| answer.devices.clear()),
        log(LogError::WrongValue)
    );
    let bob = look_up(&service, "user30").unwrap();
    assert_eq!(
        with(&|answer| answer.proof = bob.proof.clone()),
        log(LogError::WrongValue)
    );
    // No proof at all; no head.
    assert_eq!(with(&|answer| answer.proof.clear()), log(LogError::Missing));
    assert!(with(&|answer| answer.head.clear()).is_err());
    // Heads: of another epoch, with another root or VRF key, by somebody else.
    let sign = |change: &dyn Fn(&mut LogHead), seed| {
        let mut head = head(&service);
        change(&mut head);
        SignedHead::sign(head, &key(seed)).to_bytes()
    };
    let before = service.audit(2, &mut rng()).unwrap().unwrap().1;
    for (head, error) in [
        (before.to_bytes(), LogError::BadProof),
        (sign(&|head| head.epoch = 1, 1), LogError::BadProof),
        (sign(&|head| head.root[0] ^= 1, 1), LogError::BadProof),
        (
            sign(&|head| head.vrf_key = key(3).public().0, 1),
            LogError::BadProof,
        ),
        (sign(&|head| head.vrf_key = [0; 32], 1), LogError::BadHead),
        (sign(&|head| head.epoch = 0, 1), LogError::BadHead),
        (sign(&|head| head.epoch = u64::MAX, 1), LogError::BadHead),
        (
            sign(&|head| head.domain = "example.net".parse().unwrap(), 1),
            LogError::BadHead,
        ),
        (sign(&|_| (), 9), LogError::BadHead),
        (vec![0; 4096], LogError::TooLarge),
    ] {
        assert_eq!(with(&|answer| answer.head = head.clone()), log(error));
    }
    assert_eq!(
        with(&|answer| answer.proof = vec![0; 65 << 10]),
        log(LogError::TooLarge)
    );
    // Cut anywhere, or one bit of it changed.
    let proof = &answer.proof;
    println!("look-up proof: {} bytes in a log of 17 users", proof.len());
    for length in 1..proof.len() {
        assert!(
            with(&|answer| answer.proof.truncate(length)).is_err(),
            "cut at {length}"
        );
    }
    for place in 0..proof.len() {
        assert!(
            with(&|answer| answer.proof[place] ^= 1).is_err(),
            "changed at {place}"
        );
    }
}

/// The log once had it, and its proof was good then: now it is not.
fn an_old_version_is_refused(store: impl Store) {
    let service = service(store);
    let mut alice = Person::new("alice@example.org", 10);
    register(&service, alice.request(), NOW).unwrap();
    publish(&service, 1);
    let old = look_up(&service, "alice").unwrap();
    let before = alice.clone();
    alice.issued += 1;
    register(&service, alice.request(), NOW + 2).unwrap();
    publish(&service, 2);
    assert!(read(&old, &before).is_ok());
    let new = look_up(&service, "alice").unwrap();
    let mut shown = old.clone();
    shown.head = new.head.clone();
    assert_eq!(read(&shown, &before), log(LogError::BadProof));
    shown.proof = new.proof;
    assert_eq!(read(&shown, &before), log(LogError::WrongValue));
}

fn a_history_is_whole_or_refused(store: impl Store) {
    let (service, _) = three_epochs(store);
    let (proof, signed) = service.history(&label(), &mut rng()).unwrap().unwrap();
    let head = signed.head;
    let bytes = proof.to_bytes();
    let verify = |bytes: &[u8]| HistoryProof::read(bytes)?.verify(&head, &label());
    let history = verify(&bytes).unwrap();
    let versions: Vec<_> = history
        .iter()
        .map(|place| (place.version, place.epoch))
        .collect();
    assert_eq!(versions, [(3, 3), (2, 2), (1, 1)]);
    let other = LogLabel::User("user30".parse().unwrap());
    assert_eq!(proof.clone().verify(&head, &other), Err(LogError::BadProof));
    let stale = service.audit(2, &mut rng()).unwrap().unwrap().1.head;
    assert_eq!(proof.verify(&stale, &label()), Err(LogError::BadProof));
    for length in 0..bytes.len() {
        assert!(verify(&bytes[..length]).is_err(), "cut at {length}");
    }
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        assert!(verify(&changed).is_err(), "changed at {place}");
    }
    assert!(
        service
            .history(&LogLabel::Issuers, &mut rng())
            .unwrap()
            .is_none()
    );
}

fn an_audit_follows_each_epoch(store: impl Store) {
    let (service, _) = three_epochs(store);
    let audit = |epoch| service.audit(epoch, &mut rng()).unwrap();
    assert!(audit(0).is_none() && audit(4).is_none());
    let mut before: Option<LogHead> = None;
    for epoch in 1..4 {
        let (proof, signed) = audit(epoch).unwrap();
        let after = SignedHead::read(&signed.to_bytes(), &domain(), &key(1).public())
            .unwrap()
            .head;
        let bytes = proof.to_bytes();
        let verify = |bytes: &[u8]| AppendOnlyProof::read(bytes)?.verify(before.as_ref(), &after);
        assert_eq!(verify(&bytes), Ok(()), "epoch {epoch}");
        for length in 0..bytes.len() {
            assert!(verify(&bytes[..length]).is_err(), "cut at {length}");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(verify(&changed).is_err(), "changed at {place}");
        }
        for (field, change) in [
            ("root", (|head| head.root[0] ^= 1) as fn(&mut LogHead)),
            ("previous", |head| head.previous[0] ^= 1),
            ("epoch", |head| head.epoch += 1),
        ] {
            let mut after = after.clone();
            change(&mut after);
            assert!(proof.verify(before.as_ref(), &after).is_err(), "{field}");
        }
        if let Some(before) = &before {
            let mut before = before.clone();
            before.vrf_key[0] ^= 1;
            assert_eq!(proof.verify(Some(&before), &after), Err(LogError::BadHead));
        }
        before = Some(after);
    }
    // An epoch that is left out.
    let (proof, last) = audit(3).unwrap();
    let first = audit(1).unwrap().1.head;
    assert_eq!(
        proof.verify(Some(&first), &last.head),
        Err(LogError::BadHead)
    );
}

/// A log that takes something back cannot show that it did not: its own proof leads elsewhere.
#[test]
fn a_log_that_forgets_is_caught() {
    let (honest, alice) = three_epochs(MemoryStore::default());
    let (forged, _) = three_epochs(MemoryStore::default());
    let mallory = Person::new("mallory@example.org", 50);
    register(&forged, mallory.request(), NOW).unwrap();
    publish(&forged, 4);
    let before = honest.audit(3, &mut rng()).unwrap().unwrap().1.head;
    let (proof, after) = forged.audit(4, &mut rng()).unwrap().unwrap();
    // The same seed gives the same log, until then.
    assert_eq!(proof.verify(Some(&before), &after.head), Ok(()));
    let fresh = service(MemoryStore::default());
    register(&fresh, alice.request(), NOW).unwrap();
    for epoch in 1..5 {
        let name = format!("other{epoch}@example.org");
        register(&fresh, Person::new(&name, 60).request(), NOW).unwrap();
        publish(&fresh, epoch);
    }
    let (proof, after) = fresh.audit(4, &mut rng()).unwrap().unwrap();
    assert_eq!(
        proof.verify(Some(&before), &after.head),
        Err(LogError::BadHead)
    );
    let mut head = after.head;
    head.previous = before.root;
    assert_eq!(proof.verify(Some(&before), &head), Err(LogError::BadProof));
}

/// The disk fails between the tree and the head: as after a crash there, nothing of the epoch is
/// left, and what waited still waits.
#[test]
fn an_epoch_is_whole_or_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authentication.sqlite");
    let open = || {
        let store = SqliteStore::open(&path).unwrap();
        AuthenticationService::new(store, key(1), domain()).on_failure(|_| ())
    };
    let service = open();
    let alice = Person::new("alice@example.org", 10);
    register(&service, alice.request(), NOW).unwrap();
    publish(&service, 1);
    let first = head(&service);
    register(&service, Person::new("bob@example.org", 20).request(), NOW).unwrap();
    let disk = rusqlite::Connection::open(&path).unwrap();
    disk.execute_batch(
        "CREATE TRIGGER fails BEFORE INSERT ON log_heads BEGIN SELECT RAISE(ABORT, ''); END;",
    )
    .unwrap();
    assert!(service.publish((NOW + 120) * 1000, &mut rng()).is_err());
    // A head whose time has come says that all before is in it, so it must not be renewed.
    assert_eq!(head(&service), first);
    drop(service);
    disk.execute_batch("DROP TRIGGER fails").unwrap();

    let service = open();
    assert_eq!(head(&service), first);
    assert!(matches!(
        read(&look_up(&service, "alice").unwrap(), &alice),
        Ok(Evidence::Published(..))
    ));
    assert_eq!(publish(&service, 3), 1);
    let (proof, second) = service.audit(2, &mut rng()).unwrap().unwrap();
    assert_eq!(proof.verify(Some(&first), &second.head), Ok(()));
    drop(service);
    let service = open();
    assert_eq!(head(&service).root, second.head.root);
}

/// 10,000 changes into a log of as many, on disk. By hand: `--ignored --nocapture`.
#[test]
#[ignore = "measures, and takes a while"]
fn ten_thousand_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("authentication.sqlite")).unwrap();
    let log = store.log();
    let service = service(store);
    let alice = Person::new("alice@example.org", 10);
    register(&service, alice.request(), NOW).unwrap();
    publish(&service, 1);
    for round in 1..3u8 {
        for user in 0..10_000u32 {
            let name = format!("user{user}").parse().unwrap();
            let label = LogLabel::User(name).to_bytes();
            let (revision, value) = (round.into(), [round; 32]);
            log.enqueue(&Pending {
                label,
                revision,
                value,
            })
            .unwrap();
        }
        let start = Instant::now();
        assert_eq!(publish(&service, 1 + u64::from(round)), 10_000);
        println!("publish, round {round}: {:?}", start.elapsed());
    }
    let start = Instant::now();
    for _ in 0..100 {
        look_up(&service, "alice").unwrap();
    }
    println!("look-up: {:?}", start.elapsed() / 100);
    let answer = look_up(&service, "alice").unwrap();
    let head = SignedHead::from_bytes(&answer.head).unwrap().head;
    let proof = LookUpProof::read(&answer.proof).unwrap();
    let value = log_value(&answer, &alice);
    let start = Instant::now();
    for _ in 0..100 {
        proof.clone().verify(&head, &label(), &value).unwrap();
    }
    println!(
        "proof: {} bytes, verified in {:?}",
        answer.proof.len(),
        start.elapsed() / 100
    );
    let start = Instant::now();
    let (proof, after) = service.audit(3, &mut rng()).unwrap().unwrap();
    let made = start.elapsed();
    let before = service.audit(2, &mut rng()).unwrap().unwrap().1.head;
    let start = Instant::now();
    proof.verify(Some(&before), &after.head).unwrap();
    let size = proof.to_bytes().len();
    println!(
        "audit of an epoch: {size} bytes, made in {made:?}, {:?} to verify",
        start.elapsed()
    );
}

fn log_value(answer: &LookUpResponse, person: &Person) -> [u8; 32] {
    match read(answer, person).unwrap() {
        Evidence::Published(place, _) => place.value,
        Evidence::Promised(_) => panic!("only promised"),
    }
}

macro_rules! over_every_store {
    ($($name:ident),*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn in_memory() {
                super::$name(MemoryStore::default());
            }

            #[test]
            fn in_sqlite() {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("authentication.sqlite");
                super::$name(SqliteStore::open(&path).unwrap());
            }
        }
    )*};
}

over_every_store!(
    what_is_said_is_promised_then_published,
    false_answers_are_refused,
    an_old_version_is_refused,
    a_history_is_whole_or_refused,
    an_audit_follows_each_epoch
);
