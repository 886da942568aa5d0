//! Issuing tokens: to whom, how many, with which keys.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use folkmoot_authentication_service::store::{MemoryStore, Place, SqliteStore, Store};
use folkmoot_authentication_service::{AuthenticationService, KeySchedule, MakeKey};
use folkmoot_credential::keys::PublicKey;
use folkmoot_mls::codec::Encode;
use folkmoot_protocol::authentication::{DrawTokensRequest, DrawTokensResponse, IssuersRequest};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::token::draw::{AT_ONCE, BATCH, Draw, IssuerList, MAX_KEYS, PERIOD};
use folkmoot_protocol::token::{Blinded, IssuerKey, IssuerSecret, TokenChallenge, TokenPurpose};
use folkmoot_protocol::{Refusal, VERSION};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::people::{Deadline, NOW, Person, ask, key, register, service};

const DAY: u64 = 24 * 3600;

/// Three keys for all tests, since making one takes time.
fn secret(number: usize) -> IssuerSecret {
    static KEYS: [OnceLock<IssuerSecret>; 3] = [const { OnceLock::new() }; 3];
    let make = || {
        let mut rng = ChaCha20Rng::from_seed([number as u8; 32]);
        IssuerSecret::generate(&mut rng).unwrap()
    };
    KEYS[number % 3].get_or_init(make).clone()
}

/// The AS, which issues with one of those keys after another.
fn issuing<S: Store>(store: S) -> AuthenticationService<S> {
    let made = AtomicUsize::new(0);
    let make =
        move |_: &mut dyn rand_core::CryptoRng| Ok(secret(made.fetch_add(1, Ordering::Relaxed)));
    service(store).with_keys(KeySchedule::default(), Box::new(make))
}

fn listed<S: Store>(service: &AuthenticationService<S>, now: u64) -> IssuerList {
    let Ok(Answer::Issuers(answer)) = ask(service, &Call::Issuers(IssuersRequest {}), now) else {
        panic!("no list");
    };
    IssuerList::read(&answer, service.domain(), &service.public_key()).unwrap()
}

/// The key that issues.
fn current<S: Store>(service: &AuthenticationService<S>, now: u64) -> IssuerKey {
    listed(service, now).current(now).unwrap().key().unwrap()
}

/// A batch for an account, with what opens the answer.
fn draw(person: &Person, key: &IssuerKey, number: u64) -> (Draw, Vec<Blinded>) {
    let mut rng = ChaCha20Rng::seed_from_u64(number);
    let challenge = TokenChallenge::of("example.org", &PublicKey([1; 32]), TokenPurpose::Blob);
    let blind = |_| key.blind(&challenge, &mut rng).unwrap();
    let (requests, blinded) = (0..BATCH).map(blind).unzip();
    let draw = Draw {
        version: VERSION,
        authentication_service: crate::people::key(1).public(),
        name: person.user.name.clone(),
        device: person.device.public(),
        number,
        token_key_id: *key.id(),
        requests,
    };
    (draw, blinded)
}

fn ask_draw<S: Store>(
    service: &AuthenticationService<S>,
    request: DrawTokensRequest,
    now: u64,
) -> Result<DrawTokensResponse, Refusal> {
    match ask(service, &Call::DrawTokens(request), now)? {
        Answer::DrawTokens(response) => Ok(response),
        other => panic!("{other:?}"),
    }
}

fn an_account_draws_a_batch(store: impl Store) {
    let service = issuing(store);
    let alice = Person::new("alice@example.org", 10);
    register(&service, alice.request(), NOW).unwrap();
    let key = current(&service, NOW);
    let (first, blinded) = draw(&alice, &key, NOW * 1000);
    let signed = first.sign(&alice.device);
    let answer = ask_draw(&service, signed.clone(), NOW).unwrap();
    let responses = answer.read().unwrap();
    for (blinded, response) in blinded.iter().zip(&responses) {
        let token = blinded.finalize(&key, response).unwrap();
        assert_eq!(key.verify(&token), Ok(()));
    }
    // An answer that was lost is given again; a draw from before another is not.
    assert_eq!(ask_draw(&service, signed.clone(), NOW + 60), Ok(answer));
    let (second, _) = draw(&alice, &key, NOW * 1000 + 1);
    ask_draw(&service, second.sign(&alice.device), NOW).unwrap();
    assert_eq!(ask_draw(&service, signed, NOW), Err(Refusal::Taken));
}

fn an_account_draws_so_much_and_no_more(store: impl Store) {
    let service = issuing(store);
    let (alice, bob) = (
        Person::new("alice@example.org", 10),
        Person::new("bob@example.org", 20),
    );
    register(&service, alice.request(), NOW).unwrap();
    register(&service, bob.request(), NOW).unwrap();
    let key = current(&service, NOW);
    let next = |person: &Person, number, now| {
        let (draw, _) = draw(person, &key, number);
        ask_draw(&service, draw.sign(&person.device), now).map(|_| ())
    };
    for number in 1..=AT_ONCE {
        assert_eq!(next(&alice, number, NOW), Ok(()));
    }
    let refused = Err(Refusal::Rate(PERIOD * 1000));
    assert_eq!(next(&alice, 9, NOW), refused);
    assert_eq!(next(&bob, 9, NOW), Ok(()), "another account");
    assert_eq!(next(&alice, 9, NOW + PERIOD), Ok(()));
    assert!(next(&alice, 10, NOW + PERIOD).is_err());
}

/// As many draws as there are devices at work, at the same moment: an account still has its share, no
/// more, and a draw that is sent by several is one.
fn draws_at_once_give_no_more(store: impl Store) {
    let service = issuing(store);
    let alice = Person::new("alice@example.org", 10);
    register(&service, alice.request(), NOW).unwrap();
    let key = current(&service, NOW);
    let at_once = |numbers: &[u64]| {
        let signed = numbers
            .iter()
            .map(|number| draw(&alice, &key, *number).0.sign(&alice.device));
        let signed: Vec<_> = signed.collect();
        let _deadline = Deadline::start();
        std::thread::scope(|scope| {
            let ask = |request| scope.spawn(|| ask_draw(&service, request, NOW));
            let racers: Vec<_> = signed.into_iter().map(ask).collect();
            let answers = racers.into_iter().map(|racer| racer.join().unwrap());
            answers.collect::<Vec<_>>()
        })
    };
    let same = at_once(&[1; 3]);
    let given: Vec<_> = same.iter().flatten().collect();
    assert!(given.iter().all(|answer| *answer == given[0]));
    // Who lost a race more often than it is tried again comes back.
    let busy = |answer: &Result<_, Refusal>| matches!(answer, Err(Refusal::Busy(_)));
    assert!(!given.is_empty() && same.iter().all(|answer| answer.is_ok() || busy(answer)));
    let mut drawn = 1;
    for first in [2, 12, 22] {
        let numbers: Vec<_> = (first..first + AT_ONCE + 2).collect();
        let answers = at_once(&numbers);
        drawn += answers.iter().filter(|answer| answer.is_ok()).count() as u64;
    }
    // What was left, if any: one draw after the other.
    for number in 100..110 {
        let (draw, _) = draw(&alice, &key, number);
        drawn += u64::from(ask_draw(&service, draw.sign(&alice.device), NOW).is_ok());
    }
    assert_eq!(drawn, AT_ONCE);
}

/// Two processes begin at the same moment: while one makes its first key, the other has made its own.
fn of_two_who_make_a_key_both_have_the_first(store: impl Store + Clone) {
    let made_by = |number| -> Box<MakeKey> { Box::new(move |_| Ok(secret(number))) };
    let schedule = KeySchedule::default();
    let faster = service(store.clone()).with_keys(schedule, made_by(1));
    let faster = std::sync::Arc::new(faster);
    let other = faster.clone();
    let meanwhile: Box<MakeKey> = Box::new(move |_| {
        assert_eq!(listed(&*other, NOW).keys.len(), 1);
        Ok(secret(0))
    });
    let slower = service(store).with_keys(schedule, meanwhile);
    let list = listed(&slower, NOW);
    assert_eq!(list, listed(&*faster, NOW));
    let key = current(&slower, NOW);
    assert_eq!(key, secret(1).public().unwrap());
    // And the slower issues with it.
    let alice = Person::new("alice@example.org", 10);
    register(&slower, alice.request(), NOW).unwrap();
    let (draw, blinded) = draw(&alice, &key, 1);
    let answer = ask_draw(&slower, draw.sign(&alice.device), NOW).unwrap();
    let response = &answer.read().unwrap()[0];
    assert!(blinded[0].finalize(&key, response).is_ok());
}

fn keys_come_and_go(store: impl Store + Clone) {
    let service = issuing(store.clone());
    let first = listed(&service, NOW);
    assert_eq!(first.keys.len(), 1);
    let times = &first.keys[0];
    assert_eq!(
        (times.not_before, times.issues_until),
        (NOW, NOW + 28 * DAY)
    );
    assert_eq!(times.not_after, NOW + 56 * DAY);
    assert_eq!(listed(&service, NOW + 21 * DAY - 1), first);

    // A week before its end there is a next one, and everybody can know it.
    let both = listed(&service, NOW + 21 * DAY);
    assert_eq!(both.keys.len(), 2);
    assert_eq!(both.keys[0], first.keys[0]);
    assert_eq!(both.keys[1].not_before, NOW + 28 * DAY);
    let key = |now| current(&service, now);
    assert_eq!(key(NOW + 28 * DAY - 1), first.keys[0].key().unwrap());
    assert_eq!(key(NOW + 28 * DAY), both.keys[1].key().unwrap());

    // Another process, or the same after a restart, has the same keys.
    let another = issuing(store.clone());
    assert_eq!(listed(&another, NOW + 21 * DAY), both);

    // An account draws with the key whose time it is, give or take a day.
    let alice = Person::new("alice@example.org", 10);
    register(&service, alice.request(), NOW).unwrap();
    let (old, new) = (key(NOW), key(NOW + 28 * DAY));
    let mut number = 0;
    let mut next = |key: &IssuerKey, now| {
        number += 1;
        let (draw, _) = draw(&alice, key, number);
        ask_draw(&service, draw.sign(&alice.device), now).map(|_| ())
    };
    let refused = Err(Refusal::NotFound);
    assert_eq!(next(&new, NOW + 27 * DAY - 1), refused);
    assert_eq!(next(&new, NOW + 27 * DAY), Ok(()));
    assert_eq!(next(&old, NOW + 29 * DAY - 1), Ok(()));
    assert_eq!(next(&old, NOW + 29 * DAY), refused);

    // What issues no more is not kept, and what is no longer good not listed.
    let bytes = store.load(Place::Issuers).unwrap().unwrap().value;
    let has = |number| {
        let secret = secret(number).to_pkcs8().unwrap();
        bytes.windows(secret.len()).any(|window| *window == *secret)
    };
    assert!(!has(0) && has(1));
    let listed_at = |now| listed(&service, now).keys.contains(&first.keys[0]);
    assert!(listed_at(NOW + 63 * DAY - 1));
    assert!(!listed_at(NOW + 63 * DAY));
}

macro_rules! over_every_store {
    ($($scenario:ident),* $(,)?) => {
        mod in_memory {
            $(#[test]
            fn $scenario() {
                super::$scenario(super::MemoryStore::default());
            })*
        }

        mod in_sqlite {
            $(#[test]
            fn $scenario() {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("authentication.sqlite");
                super::$scenario(super::shared(super::SqliteStore::open(&path).unwrap()));
            })*
        }
    };
}

over_every_store!(
    an_account_draws_a_batch,
    an_account_draws_so_much_and_no_more,
    draws_at_once_give_no_more,
    of_two_who_make_a_key_both_have_the_first,
    keys_come_and_go,
);

/// A store that several services have.
#[derive(Clone)]
struct Shared(std::sync::Arc<SqliteStore>);

fn shared(store: SqliteStore) -> Shared {
    Shared(store.into())
}

impl Store for Shared {
    type Log = <SqliteStore as Store>::Log;

    fn log(&self) -> Self::Log {
        self.0.log()
    }

    fn load<'a>(
        &self,
        place: impl Into<Place<'a>>,
    ) -> Result<
        Option<folkmoot_authentication_service::store::Stored>,
        folkmoot_authentication_service::store::StoreError,
    > {
        self.0.load(place)
    }

    fn save_logged<'a>(
        &self,
        place: impl Into<Place<'a>>,
        known: Option<u64>,
        value: Vec<u8>,
        logged: Option<&folkmoot_authentication_service::transparency::Pending>,
    ) -> Result<bool, folkmoot_authentication_service::store::StoreError> {
        self.0.save_logged(place, known, value, logged)
    }
}

/// However often keys change, the list is not longer than others read; the newest are in it.
#[test]
fn the_list_of_keys_is_bounded() {
    let schedule = KeySchedule {
        issues: DAY,
        good: 100 * DAY,
        ahead: 0,
        listed: 0,
    };
    let made = AtomicUsize::new(0);
    let make =
        move |_: &mut dyn rand_core::CryptoRng| Ok(secret(made.fetch_add(1, Ordering::Relaxed)));
    let service = service(MemoryStore::default()).with_keys(schedule, Box::new(make));
    for day in 0..MAX_KEYS as u64 + 4 {
        let now = NOW + day * DAY;
        let keys = listed(&service, now).keys;
        assert_eq!(keys.len() as u64, (day + 1).min(MAX_KEYS as u64));
        assert_eq!(keys.last().unwrap().not_before, now);
    }
}

#[test]
fn each_refusal_names_its_reason() {
    let service = issuing(MemoryStore::default());
    let alice = Person::new("alice@example.org", 10);
    register(&service, alice.request(), NOW).unwrap();
    let issuer = current(&service, NOW);
    let (good, _) = draw(&alice, &issuer, NOW * 1000);
    let sign = |draw: &Draw| draw.sign(&alice.device);
    let malformed = |field: &str| Err(Refusal::Malformed(field.into()));
    let check = |request, refusal| assert_eq!(ask_draw(&service, request, NOW), refusal);

    // Who is not registered, or has another device.
    let nobody = Person::new("nobody@example.org", 30);
    let (draw_of_nobody, _) = draw(&nobody, &issuer, 1);
    let unknown = Err(Refusal::UnknownUser);
    check(draw_of_nobody.sign(&nobody.device), unknown);
    let mut other_device = good.clone();
    other_device.device = key(99).public();
    check(other_device.sign(&key(99)), Err(Refusal::BadProof));
    check(good.sign(&key(99)), Err(Refusal::BadProof));

    let mut elsewhere = good.clone();
    elsewhere.authentication_service = key(9).public();
    check(sign(&elsewhere), malformed("authentication_service"));
    let mut early = good.clone();
    early.number = (NOW + 2 * DAY) * 1000;
    check(sign(&early), malformed("number"));
    let mut unknown_key = good.clone();
    unknown_key.token_key_id = [7; 32];
    check(sign(&unknown_key), Err(Refusal::NotFound));
    let mut unsignable = good.clone();
    unsignable.requests[31].blinded_msg = [0xff; 256];
    check(sign(&unsignable), malformed("requests"));
    let mut other_type = good.clone();
    other_type.requests[0].token_type = 1;
    check(sign(&other_type), malformed("requests"));
    let mut few = good.clone();
    few.requests.pop();
    check(sign(&few), malformed("draw"));

    // None of that has cost the account anything.
    for number in 0..AT_ONCE {
        let (draw, _) = draw(&alice, &issuer, NOW * 1000 + number);
        assert!(ask_draw(&service, sign(&draw), NOW).is_ok());
    }
    // The certificate of a device is over some day.
    let late = NOW + folkmoot_credential::CERTIFICATE_SECONDS + DAY;
    let (late_draw, _) = draw(&alice, &issuer, late * 1000);
    let answer = ask_draw(&service, sign(&late_draw), late);
    assert_eq!(answer, Err(Refusal::BadProof));
}

#[test]
fn a_service_without_tokens_lists_no_keys_and_issues_nothing() {
    let service = service(MemoryStore::default());
    assert_eq!(listed(&service, NOW).keys, []);
    let alice = Person::new("alice@example.org", 10);
    register(&service, alice.request(), NOW).unwrap();
    let (draw, _) = draw(&alice, &secret(0).public().unwrap(), 1);
    let answer = ask_draw(&service, draw.sign(&alice.device), NOW);
    assert_eq!(answer, Err(Refusal::NotFound));
}

/// All that the AS keeps and sees of a draw shares nothing with the tokens that come of it.
#[test]
fn what_the_service_keeps_holds_nothing_of_a_token() {
    let store = MemoryStore::default();
    let service = issuing(store.clone());
    let alice = Person::new("alice@example.org", 10);
    register(&service, alice.request(), NOW).unwrap();
    let key = current(&service, NOW);
    let (draw, blinded) = draw(&alice, &key, NOW * 1000);
    let request = draw.sign(&alice.device);
    let answer = ask_draw(&service, request.clone(), NOW).unwrap();
    let mut known = Call::DrawTokens(request).encode();
    known.extend(Answer::DrawTokens(answer.clone()).encode());
    for place in [
        Place::Account(&alice.user.name),
        Place::Allowance(&alice.user.name),
    ] {
        known.extend(store.load(place).unwrap().unwrap().value);
    }
    let known: std::collections::HashSet<&[u8]> = known.windows(8).collect();
    for (blinded, response) in blinded.iter().zip(answer.read().unwrap()) {
        let token = blinded.finalize(&key, &response).unwrap();
        // The key's id is everybody's.
        let parts = [
            &token.nonce[..],
            &token.challenge_digest,
            &token.authenticator,
        ];
        for part in parts {
            assert!(part.windows(8).all(|piece| !known.contains(piece)));
        }
        assert_eq!(token.to_bytes().len(), folkmoot_protocol::token::TOKEN);
    }
}
