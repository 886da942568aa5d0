//! What the AS says to whom, over every store.

use folkmoot_authentication_service::AuthenticationService;
use folkmoot_authentication_service::store::{MemoryStore, SqliteStore, Store};
use folkmoot_credential::keys::PublicKey;
use folkmoot_credential::{BINDING_SECONDS, Binding, Registration};
use folkmoot_mls::codec::Decode;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::authentication::{LookUpRequest, RegisterRequest, RegisterResponse};
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::NonceRequest;
use folkmoot_protocol::directory::{DirectoryEntry, read_registered, register_request};
use proptest::prelude::*;

use crate::people::{Deadline, NOW, Person, ask, key, look_up, register, service};

fn malformed<T>(field: &str) -> Result<T, Refusal> {
    Err(Refusal::Malformed(field.into()))
}

fn a_user_registers_and_is_found(store: impl Store) {
    let service = service(store);
    let alice = Person::new("alice@example.org", 10);
    let registration = alice.registration();
    let binding = register(&service, alice.request(), NOW).unwrap();
    let response = RegisterResponse { binding };
    let binding = read_registered(&response, &registration, NOW).unwrap();
    assert_eq!(binding.statement.user, alice.user);
    assert_eq!(binding.statement.validity.not_after, NOW + BINDING_SECONDS);

    let found = look_up(&service, "alice").unwrap();
    let entry = DirectoryEntry::read(&found, &alice.user, &service.public_key(), NOW).unwrap();
    assert_eq!(entry.binding, binding);
    assert_eq!(entry.devices, [registration.device]);
}

fn the_same_registration_gets_the_same_answer(store: impl Store) {
    let service = service(store);
    let alice = Person::new("alice@example.org", 10);
    let first = register(&service, alice.request(), NOW).unwrap();
    assert_eq!(
        register(&service, alice.request(), NOW + 60),
        Ok(first.clone())
    );

    // Late in the binding's life the answer is a fresh one, which look-ups then give too.
    let late = NOW + BINDING_SECONDS / 2 + 1;
    let renewed = register(&service, alice.request(), late).unwrap();
    assert_ne!(renewed, first);
    let statement = Binding::from_bytes(&renewed).unwrap().statement;
    assert_eq!(statement.validity.not_after, late + BINDING_SECONDS);
    assert_eq!(look_up(&service, "alice").unwrap().binding, renewed);
}

fn a_name_belongs_to_its_first_key(store: impl Store) {
    let service = service(store);
    let alice = Person::new("alice@example.org", 10);
    let first = register(&service, alice.request(), NOW).unwrap();
    let mallory = Person::new("alice@example.org", 20);
    assert_eq!(
        register(&service, mallory.request(), NOW),
        Err(Refusal::NameTaken)
    );
    assert_eq!(look_up(&service, "alice").unwrap().binding, first);
}

fn a_name_is_taken_with_all_that_look_like_it(store: impl Store) {
    let service = service(store);
    let register = |user: &str, seed| {
        let person = Person::new(user, seed);
        register(&service, person.request(), NOW).map(|_| ())
    };
    assert_eq!(register("paypal@example.org", 10), Ok(()));
    assert_eq!(register("paypa1@example.org", 20), Err(Refusal::NameTaken));
    assert_eq!(look_up(&service, "paypa1"), Err(Refusal::UnknownUser));
    assert_eq!(register("zo\u{eb}@example.org", 30), Ok(()));
    assert_eq!(register("zoe@example.org", 40), Ok(()));
    // Again, the same.
    assert_eq!(register("paypal@example.org", 10), Ok(()));
    assert!(look_up(&service, "ZO\u{cb}").is_ok());
}

fn a_device_moves_with_a_later_record(store: impl Store) {
    let service = service(store);
    let alice = Person::new("alice@example.org", 10);
    register(&service, alice.request(), NOW).unwrap();

    let mut moved = alice.clone();
    moved.mailbox = [99; 32];
    assert_eq!(
        register(&service, moved.request(), NOW),
        Err(Refusal::Taken)
    );
    moved.issued += 1;
    register(&service, moved.request(), NOW + 1).unwrap();
    let found = look_up(&service, "alice").unwrap();
    let entry = DirectoryEntry::read(&found, &alice.user, &service.public_key(), NOW).unwrap();
    assert_eq!(entry.devices, [moved.registration().device]);

    let mut second = alice.clone();
    second.device = key(30);
    second.issued += 2;
    assert_eq!(
        register(&service, second.request(), NOW),
        Err(Refusal::Taken)
    );
}

fn unknown_users_are_unknown(store: impl Store) {
    let service = service(store);
    for name in [
        "nobody",
        "",
        "No Body",
        "alice@example.org",
        &"n".repeat(5000),
    ] {
        assert_eq!(look_up(&service, name), Err(Refusal::UnknownUser));
    }
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
                super::$scenario(super::SqliteStore::open(&path).unwrap());
            })*
        }
    };
}

over_every_store!(
    a_user_registers_and_is_found,
    the_same_registration_gets_the_same_answer,
    a_name_belongs_to_its_first_key,
    a_name_is_taken_with_all_that_look_like_it,
    a_device_moves_with_a_later_record,
    unknown_users_are_unknown,
);

#[test]
fn each_refusal_names_its_reason() {
    let service = service(MemoryStore::default());
    let alice = Person::new("alice@example.org", 10);
    let good = alice.registration();
    let sign = |registration: &Registration| {
        register_request(registration, &alice.identity, &alice.device)
    };

    let elsewhere = Person::new("alice@elsewhere.net", 10);
    assert_eq!(
        register(&service, elsewhere.request(), NOW),
        malformed("domain")
    );

    let mut for_another_service = good.clone();
    for_another_service.authentication_service = key(9).public();
    assert_eq!(
        register(&service, sign(&for_another_service), NOW),
        malformed("authentication_service")
    );

    let mut another_name = good.clone();
    another_name.name = "alina".parse().unwrap();
    assert_eq!(
        register(&service, sign(&another_name), NOW),
        malformed("device.user")
    );

    let too_late = good.device.certificate.validity.not_after + 1;
    for now in [NOW - 4000, too_late] {
        assert_eq!(
            register(&service, alice.request(), now),
            malformed("device.certificate.validity")
        );
    }

    let mut early = alice.clone();
    early.issued = NOW + 25 * 3600;
    assert_eq!(
        register(&service, early.request(), NOW),
        malformed("device.issued")
    );

    for flaw in 0..3 {
        let mut request = alice.request();
        match flaw {
            0 => request.identity_signature.reverse(),
            1 => request.device_signature.truncate(63),
            _ => std::mem::swap(
                &mut request.identity_signature,
                &mut request.device_signature,
            ),
        }
        assert_eq!(register(&service, request, NOW), Err(Refusal::BadProof));
    }
    let mut unsigned_record = good.clone();
    unsigned_record.device_signature[0] ^= 1;
    assert_eq!(
        register(&service, sign(&unsigned_record), NOW),
        Err(Refusal::BadProof)
    );

    // A key of small order, for which anybody signs: it vouches for nobody.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut by_anybody = [0; 64];
    by_anybody[0] = 1;
    let mut nobodys = good.clone();
    nobodys.identity_key = PublicKey(neutral);
    nobodys.device.certificate.signature = by_anybody;
    nobodys.device_signature = nobodys.device.sign(&alice.device);
    let mut request = sign(&nobodys);
    request.identity_signature = by_anybody.to_vec();
    assert_eq!(register(&service, request, NOW), Err(Refusal::BadProof));

    let mut capital = alice.request();
    let at = capital
        .registration
        .windows(5)
        .position(|window| window == b"alice")
        .unwrap();
    capital.registration[at] = b'A';
    assert_eq!(register(&service, capital, NOW), Err(Refusal::NameInvalid));

    // A Cyrillic letter among Latin ones.
    let mut mixed = alice.request();
    mixed.registration.splice(at..at + 2, "\u{430}".bytes());
    assert_eq!(register(&service, mixed, NOW), Err(Refusal::NameInvalid));

    let mut short = alice.request();
    short.registration.pop();
    assert_eq!(register(&service, short, NOW), malformed("registration"));

    let mut long = alice.request();
    long.registration.resize(5000, 0);
    assert_eq!(register(&service, long, NOW), Err(Refusal::TooLarge));

    assert_eq!(
        ask(&service, &Call::LogNonce(NonceRequest {}), NOW),
        malformed("method")
    );
    assert_eq!(look_up(&service, "alice"), Err(Refusal::UnknownUser));
}

#[test]
fn a_new_service_key_shows_at_the_next_registration() {
    let store = MemoryStore::default();
    let alice = Person::new("alice@example.org", 10);
    register(&service(store.clone()), alice.request(), NOW).unwrap();

    let domain = "example.org".parse().unwrap();
    let rotated = AuthenticationService::new(store, key(7), domain);
    let mut registration = alice.registration();
    registration.authentication_service = key(7).public();
    let request = register_request(&registration, &alice.identity, &alice.device);
    let binding = register(&rotated, request, NOW).unwrap();
    let response = RegisterResponse { binding };
    assert!(read_registered(&response, &registration, NOW).is_ok());
}

#[test]
fn a_client_sees_through_a_lying_service() {
    use folkmoot_credential::IdentityError;

    let honest = service(MemoryStore::default());
    let alice = Person::new("alice@example.org", 10);
    let bob = Person::new("bob@example.org", 20);
    for person in [&alice, &bob] {
        register(&honest, person.request(), NOW).unwrap();
    }
    let of_alice = look_up(&honest, "alice").unwrap();
    let of_bob = look_up(&honest, "bob").unwrap();
    let key = honest.public_key();
    let read = |response| DirectoryEntry::read(&response, &alice.user, &key, NOW);

    assert_eq!(read(of_bob.clone()), Err(IdentityError::WrongUser));
    let mut swapped = of_alice.clone();
    swapped.devices = of_bob.devices;
    assert_eq!(read(swapped), Err(IdentityError::WrongUser));
    let mut forged = of_alice.clone();
    forged.devices[0].signature[0] ^= 1;
    assert_eq!(read(forged), Err(IdentityError::BadRecord));
    let mut crowded = of_alice.clone();
    crowded.devices = vec![of_alice.devices[0].clone(); 65];
    assert!(matches!(read(crowded), Err(IdentityError::Malformed(_))));
    let binding = of_bob.binding;
    assert_eq!(
        read_registered(&RegisterResponse { binding }, &alice.registration(), NOW),
        Err(IdentityError::WrongUser)
    );
}

#[test]
fn only_one_of_many_takes_a_name() {
    let service = service(MemoryStore::default());
    let _deadline = Deadline::start();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|n| {
                let person = Person::new("alice@example.org", 10 + 2 * n);
                let service = &service;
                scope.spawn(move || register(service, person.request(), NOW))
            })
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.is_ok() || *outcome == Err(Refusal::NameTaken))
    );
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(
        registration in proptest::collection::vec(any::<u8>(), 0..600),
        identity_signature in proptest::collection::vec(any::<u8>(), 0..80),
        device_signature in proptest::collection::vec(any::<u8>(), 0..80),
        name in ".{0,40}",
        now in 0..u64::MAX / 1000,
    ) {
        let service = service(MemoryStore::default());
        let request = RegisterRequest { registration, identity_signature, device_signature };
        prop_assert!(register(&service, request, now).is_err());
        let request = LookUpRequest { name, ..LookUpRequest::default() };
        prop_assert_eq!(ask(&service, &Call::LookUp(request), now), Err(Refusal::UnknownUser));
    }

    #[test]
    fn a_damaged_registration_changes_nothing(
        at in any::<prop::sample::Index>(),
        change in 1u8..,
    ) {
        let service = service(MemoryStore::default());
        let alice = Person::new("alice@example.org", 10);
        let mut request = alice.request();
        let at = at.index(request.registration.len());
        request.registration[at] ^= change;
        prop_assert!(register(&service, request, NOW).is_err());
        prop_assert_eq!(look_up(&service, "alice"), Err(Refusal::UnknownUser));
    }
}
