//! Anonymous tokens: what is paid for, and with what it is not.

use std::sync::OnceLock;

use folkmoot_delivery_service::TrustedIssuer;
use folkmoot_delivery_service::store::Store;
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{
    AppendStagedRequest, CreateMailboxRequest, OpenRequest, Payment,
};
use folkmoot_protocol::ids::{LogId, MailboxId};
use folkmoot_protocol::keys::{PublicKey, SigningKey};
use folkmoot_protocol::rate::Rate;
use folkmoot_protocol::token::draw::IssuerEntry;
use folkmoot_protocol::token::{IssuerSecret, Token, TokenChallenge, TokenPurpose};
use folkmoot_protocol::{PaymentFault, Refusal};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::concurrency::{THREADS, at_once};
use crate::shelves::take_request;
use crate::world::{DAY, Group, HOUR, MailboxOwner, World, service_key};
use crate::{contests, staging};

crate::on_every_store! {
    without_issuers_nothing_is_paid;
    a_token_pays_for_one_request;
    bad_tokens_are_refused_each_for_its_reason;
    a_token_is_spent_once_by_many_at_once;
    a_token_pays_for_the_same_request_by_many_at_once;
    of_payments_that_share_a_token_one_is_taken;
    each_64_mailboxes_cost_a_token;
    a_mailbox_costs_a_token;
    what_is_refused_for_its_form_costs_nothing;
    spent_tokens_are_forgotten_with_their_key;
    an_issuers_tokens_are_taken_at_a_rate;
    a_staged_commit_after_a_contest_costs_a_token;
}

const PLENTY: Rate = Rate {
    burst: 1000,
    per_second: 1,
};

/// Two keys for all tests: making one takes time.
fn secret(number: usize) -> &'static IssuerSecret {
    static KEYS: [OnceLock<IssuerSecret>; 2] = [OnceLock::new(), OnceLock::new()];
    KEYS[number].get_or_init(|| {
        let mut rng = ChaCha20Rng::from_seed([number as u8 + 1; 32]);
        IssuerSecret::generate(&mut rng).unwrap()
    })
}

/// The issuer `name` with the key of that number, good for a day from `now` (milliseconds).
pub fn issuer(name: &str, number: usize, now: u64) -> TrustedIssuer {
    let key = secret(number).public().unwrap();
    let now = now / 1000;
    TrustedIssuer {
        name: name.into(),
        keys: vec![IssuerEntry {
            token_key: key.spki().into(),
            not_before: now,
            issues_until: now + DAY / 1000,
            not_after: now + DAY / 1000,
        }],
        rate: PLENTY,
    }
}

/// A service that takes the tokens of example.org, whose key is number 0.
fn paid<S: Store>(world: &World<S>) {
    let issuers = [issuer("example.org", 0, world.now)];
    world.service.trust(&issuers).unwrap();
}

/// A token of an issuer for a DS.
fn token<S: Store>(
    world: &mut World<S>,
    issuer: (&str, usize),
    service: &PublicKey,
    purpose: TokenPurpose,
) -> Vec<u8> {
    minted(&mut world.rng, issuer, service, purpose)
}

/// The same, made with some randomness.
pub fn minted(
    rng: &mut ChaCha20Rng,
    (name, number): (&str, usize),
    service: &PublicKey,
    purpose: TokenPurpose,
) -> Vec<u8> {
    let key = secret(number).public().unwrap();
    let challenge = TokenChallenge::of(name, service, purpose);
    let (request, blinded) = key.blind(&challenge, rng).unwrap();
    let response = secret(number).issue(&request, rng).unwrap();
    blinded.finalize(&key, &response).unwrap().to_bytes()
}

const OWN: (&str, usize) = ("example.org", 0);

/// A good token.
fn good<S: Store>(world: &mut World<S>, purpose: TokenPurpose) -> Vec<u8> {
    minted(&mut world.rng, OWN, &service_key().public(), purpose)
}

fn group<S: Store>(world: &mut World<S>) -> Group {
    Group::new(LogId(world.bytes()), world.key())
}

fn open(group: &Group, tokens: &[&Vec<u8>]) -> OpenRequest {
    let tokens = tokens.iter().map(|token| token.to_vec()).collect();
    OpenRequest {
        payment: Some(Payment { tokens }),
        ..group.open_request()
    }
}

fn refused<T>(fault: PaymentFault) -> Result<T, Refusal> {
    Err(Refusal::Payment(fault))
}

fn without_issuers_nothing_is_paid<S: Store>(mut world: World<S>) {
    let (first, second) = (group(&mut world), group(&mut world));
    assert!(world.open(first.open_request()).is_ok());
    // What is given all the same is not looked at.
    assert!(world.open(open(&second, &[&vec![1, 2, 3]])).is_ok());
    // Trust can be taken back.
    paid(&world);
    let third = group(&mut world);
    let missing = refused(PaymentFault::Missing);
    assert_eq!(world.open(third.open_request()), missing);
    world.service.trust(&[]).unwrap();
    assert!(world.open(third.open_request()).is_ok());
}

fn a_token_pays_for_one_request<S: Store>(mut world: World<S>) {
    paid(&world);
    let token = good(&mut world, TokenPurpose::OpenLog);
    let (first, second) = (group(&mut world), group(&mut world));
    let missing = refused(PaymentFault::Missing);
    assert_eq!(world.open(first.open_request()), missing);
    assert_eq!(world.open(open(&first, &[])), missing);
    let head = world.open(open(&first, &[&token])).unwrap();
    // The same again, and again.
    assert_eq!(world.open(open(&first, &[&token])), Ok(head.clone()));
    assert_eq!(world.open(open(&first, &[&token])), Ok(head));
    // It pays for nothing else; what was not paid for did not happen.
    let spent = refused(PaymentFault::Spent);
    assert_eq!(world.open(open(&second, &[&token])), spent);
    let other = good(&mut world, TokenPurpose::OpenLog);
    assert_eq!(world.open(open(&second, &[&token, &other])), missing);
    assert_eq!(world.open(open(&second, &[&other])).unwrap().sequence, 0);
}

fn bad_tokens_are_refused_each_for_its_reason<S: Store>(mut world: World<S>) {
    let purpose = TokenPurpose::OpenLog;
    let here = service_key().public();
    paid(&world);
    let good = good(&mut world, purpose);
    let group = group(&mut world);
    let check = |world: &mut World<S>, token: Vec<u8>, fault| {
        let answer = world.open(open(&group, &[&token]));
        assert_eq!(answer, refused(fault));
    };

    check(&mut world, good[1..].to_vec(), PaymentFault::Malformed);
    check(&mut world, vec![], PaymentFault::Malformed);
    let mut other_type = good.clone();
    other_type[1] = 1;
    check(&mut world, other_type, PaymentFault::Malformed);

    // Another issuer, whatever it calls itself.
    let foreign = token(&mut world, ("example.org", 1), &here, purpose);
    check(&mut world, foreign, PaymentFault::UnknownIssuer);
    // An issuer that we know, in another's name.
    let name = token(&mut world, ("example.net", 0), &here, purpose);
    check(&mut world, name, PaymentFault::WrongService);
    let elsewhere = token(&mut world, OWN, &PublicKey([7; 32]), purpose);
    check(&mut world, elsewhere, PaymentFault::WrongService);
    for purpose in TokenPurpose::ALL {
        if purpose != TokenPurpose::OpenLog {
            let other = token(&mut world, OWN, &here, purpose);
            check(&mut world, other, PaymentFault::WrongPurpose);
        }
    }

    // The signature is of another key, or of another token.
    let mut forged = Token::from_bytes(&token(&mut world, ("example.org", 1), &here, purpose));
    forged.as_mut().unwrap().token_key_id = *secret(0).public().unwrap().id();
    check(&mut world, forged.unwrap().to_bytes(), PaymentFault::Forged);
    for at in [2, 33, 98, 200, good.len() - 1] {
        let mut forged = good.clone();
        forged[at] ^= 1;
        check(&mut world, forged, PaymentFault::Forged);
    }

    // None of that has spent it; time does. A day is a day.
    world.now += DAY - 1000;
    assert!(world.open(open(&group, &[&good])).is_ok());
    world.now += 1000;
    check(&mut world, good, PaymentFault::ExpiredKey);
}

/// Each request is sent by two at once, by each of them twice: one request is paid for, however often
/// it comes, and no other.
fn a_token_is_spent_once_by_many_at_once<S: Store>(mut world: World<S>) {
    paid(&world);
    for _ in 0..5 {
        let token = good(&mut world, TokenPurpose::OpenLog);
        let groups: Vec<_> = (0..THREADS / 2).map(|_| group(&mut world)).collect();
        let calls = (0..THREADS).map(|thread| {
            let call = Call::Open(open(&groups[usize::from(thread / 2)], &[&token]));
            vec![call.clone(), call]
        });
        let outcomes = at_once(&world, calls.collect());
        let mut winners = 0;
        // And the logs of the others are not open: they are later, when they are paid for.
        let then = world.now;
        world.now += 1;
        for (group, all) in groups.iter().zip(outcomes.chunks(2)) {
            let all: Vec<_> = all.iter().flatten().collect();
            assert!(all.iter().all(|answer| *answer == all[0]));
            let won = all[0].is_ok();
            assert!(won || *all[0] == refused(PaymentFault::Spent));
            winners += usize::from(won);
            let again = good(&mut world, TokenPurpose::OpenLog);
            let head = world.open(open(group, &[&again])).unwrap();
            assert_eq!(head.entry_time, if won { then } else { world.now });
        }
        assert_eq!(winners, 1);
    }
}

fn a_token_pays_for_the_same_request_by_many_at_once<S: Store>(mut world: World<S>) {
    paid(&world);
    for _ in 0..5 {
        let token = good(&mut world, TokenPurpose::OpenLog);
        let call = Call::Open(open(&group(&mut world), &[&token]));
        let calls = (0..THREADS).map(|_| vec![call.clone(); 3]);
        let outcomes = at_once(&world, calls.collect());
        let mut answers = outcomes.iter().flatten();
        let first = answers.next().unwrap();
        assert!(first.is_ok(), "{first:?}");
        assert!(answers.all(|answer| answer == first));
    }
}

/// Takes of two tokens each, one of which all of them have in common.
fn of_payments_that_share_a_token_one_is_taken<S: Store>(mut world: World<S>) {
    paid(&world);
    let mailboxes: Vec<_> = (0..65u8).map(|number| MailboxId([number; 32])).collect();
    let take = |thread: u8, tokens: [&Vec<u8>; 2]| {
        let mut request = take_request([thread; 32], &mailboxes);
        let tokens = tokens.map(Clone::clone).to_vec();
        request.payment = Some(Payment { tokens });
        Call::Take(request)
    };
    let shared = good(&mut world, TokenPurpose::TakePackages);
    let own: Vec<_> = (0..THREADS)
        .map(|_| good(&mut world, TokenPurpose::TakePackages))
        .collect();
    let calls = (0..THREADS).map(|thread| {
        // Some find the shared one spent, some have spent their own before.
        let token = &own[usize::from(thread)];
        let tokens = [[token, &shared], [&shared, token]][usize::from(thread % 2)];
        vec![take(thread, tokens)]
    });
    let outcomes = at_once(&world, calls.collect());
    let won = outcomes.iter().filter(|answers| answers[0].is_ok()).count();
    assert_eq!(won, 1);
    let another = good(&mut world, TokenPurpose::TakePackages);
    let mut losers = 0..THREADS;
    let loser = losers
        .find(|thread| outcomes[usize::from(*thread)][0] == refused(PaymentFault::Spent))
        .expect("the others are told that it is spent");
    // With another in its place, what the loser has of its own is good for its request, spent or not.
    let again = take(loser, [&own[usize::from(loser)], &another]);
    assert!(world.ask(again).is_ok());
}

fn each_64_mailboxes_cost_a_token<S: Store>(mut world: World<S>) {
    paid(&world);
    let mailboxes: Vec<_> = (0..65u8).map(|number| MailboxId([number; 32])).collect();
    let first = good(&mut world, TokenPurpose::TakePackages);
    let second = good(&mut world, TokenPurpose::TakePackages);
    let mut take = |mailboxes: &[MailboxId], tokens: &[&Vec<u8>]| {
        let mut request = take_request([1; 32], mailboxes);
        let tokens = tokens.iter().map(|token| token.to_vec()).collect();
        request.payment = Some(Payment { tokens });
        world.ask(Call::Take(request)).map(|_| ())
    };
    let missing = refused(PaymentFault::Missing);
    assert_eq!(take(&mailboxes, &[&first]), missing);
    // One token does not count for two.
    assert_eq!(take(&mailboxes, &[&first, &first]), missing);
    assert_eq!(take(&mailboxes[..64], &[&first, &second]), missing);
    assert_eq!(take(&mailboxes[..64], &[&first]), Ok(()));
    // Among others a spent one spoils the whole, and the good one is still good for the same.
    let spent = refused(PaymentFault::Spent);
    assert_eq!(take(&mailboxes, &[&second, &first]), spent);
    assert_eq!(take(&mailboxes[..1], &[&second]), Ok(()));
}

fn a_staged_commit_after_a_contest_costs_a_token<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    contests::spoil(&mut world, &group);
    contests::mend(&mut world, &mut group);
    paid(&world);
    let (_, mut request) = staging::large(&mut world, &group);
    // What is given inside the chunks is not looked at.
    let inside = good(&mut world, TokenPurpose::Contest);
    request.payment = Some(Payment {
        tokens: vec![inside.clone()],
    });
    let stage = staging::stage(&mut world, &group, &request);
    let append = |world: &mut World<S>, token: Option<&Vec<u8>>| {
        let payment = token.map(|token| Payment {
            tokens: vec![token.clone()],
        });
        let request = AppendStagedRequest {
            log: group.log.into(),
            stage: stage.into(),
            payment,
        };
        world.ask(Call::AppendStaged(request)).map(drop)
    };
    assert_eq!(append(&mut world, None), refused(PaymentFault::Missing));
    let other = good(&mut world, TokenPurpose::OpenLog);
    let wrong = refused(PaymentFault::WrongPurpose);
    assert_eq!(append(&mut world, Some(&other)), wrong);
    assert_eq!(append(&mut world, Some(&inside)), Ok(()));
    // A repeat gets the receipt, whatever is given.
    assert_eq!(append(&mut world, None), Ok(()));
}

fn create_mailbox<S: Store>(
    world: &mut World<S>,
    key: &SigningKey,
    tokens: Vec<Vec<u8>>,
) -> CreateMailboxRequest {
    let owner = MailboxOwner { key: key.clone() };
    let mut request = owner.create_request(world.nonce());
    request.payment = Some(Payment { tokens });
    request
}

fn a_mailbox_costs_a_token<S: Store>(mut world: World<S>) {
    paid(&world);
    let owner = world.key();
    let create = |world: &mut World<S>, tokens: Vec<Vec<u8>>| {
        let request = create_mailbox(world, &owner, tokens);
        world.ask(Call::CreateMailbox(request)).map(|_| ())
    };
    assert_eq!(create(&mut world, vec![]), refused(PaymentFault::Missing));
    let token = good(&mut world, TokenPurpose::CreateMailbox);
    assert_eq!(create(&mut world, vec![token.clone()]), Ok(()));
    // A repeat has another nonce, and is the same request all the same.
    world.now += 1;
    assert_eq!(create(&mut world, vec![token]), Ok(()));
}

fn what_is_refused_for_its_form_costs_nothing<S: Store>(mut world: World<S>) {
    paid(&world);
    let token = good(&mut world, TokenPurpose::OpenLog);
    let (wrong, right) = (group(&mut world), group(&mut world));
    let mut request = open(&wrong, &[&token]);
    request.fence_signature[0] ^= 1;
    assert_eq!(world.open(request), Err(Refusal::BadProof));
    assert!(world.open(open(&right, &[&token])).is_ok());

    let token = good(&mut world, TokenPurpose::CreateMailbox);
    let (owner, thief) = (world.key(), world.key());
    let mut stolen = create_mailbox(&mut world, &thief, vec![token.clone()]);
    stolen.owner_key = owner.public().into();
    let refused = world.ask(Call::CreateMailbox(stolen));
    assert_eq!(refused, Err(Refusal::BadProof));
    let request = create_mailbox(&mut world, &thief, vec![token]);
    assert!(world.ask(Call::CreateMailbox(request)).is_ok());

    let token = good(&mut world, TokenPurpose::TakePackages);
    let mut request = take_request([1; 32], &[MailboxId([1; 32])]);
    request.payment = Some(Payment {
        tokens: vec![token],
    });
    let mut wrong = request.clone();
    wrong.mailboxes[0].pop();
    let refused = world.ask(Call::Take(wrong));
    assert_eq!(refused, Err(Refusal::Malformed("mailbox".into())));
    assert!(world.ask(Call::Take(request)).is_ok());
}

fn spent_tokens_are_forgotten_with_their_key<S: Store>(mut world: World<S>) {
    paid(&world);
    let token = good(&mut world, TokenPurpose::OpenLog);
    let group = group(&mut world);
    assert!(world.open(open(&group, &[&token])).is_ok());
    world.now += DAY - 1;
    assert_eq!(world.service.sweep(world.now), Ok(0));
    // Stores know such times to the hour.
    world.now += HOUR + 1;
    assert_eq!(world.service.sweep(world.now), Ok(1));
    let late = refused(PaymentFault::ExpiredKey);
    assert_eq!(world.open(open(&group, &[&token])), late);
}

fn an_issuers_tokens_are_taken_at_a_rate<S: Store>(mut world: World<S>) {
    let mut slow = issuer("example.org", 0, world.now);
    slow.rate = Rate {
        burst: 2,
        per_second: 1,
    };
    let mut other = issuer("example.net", 1, world.now);
    other.rate = slow.rate;
    let issuers = [slow, other];
    world.service.trust(&issuers).unwrap();
    let tokens: Vec<_> = (0..4)
        .map(|_| good(&mut world, TokenPurpose::OpenLog))
        .collect();
    let groups: Vec<_> = (0..4).map(|_| group(&mut world)).collect();
    for at in [0, 1] {
        assert!(world.open(open(&groups[at], &[&tokens[at]])).is_ok());
    }
    let busy = Err(Refusal::Rate(1000));
    assert_eq!(world.open(open(&groups[2], &[&tokens[2]])), busy);
    // A repeat costs nothing, and so does one that was spent on something else.
    assert!(world.open(open(&groups[0], &[&tokens[0]])).is_ok());
    let spent = refused(PaymentFault::Spent);
    assert_eq!(world.open(open(&groups[2], &[&tokens[0]])), spent);
    // To be told again whom to trust gives no more.
    world.service.trust(&issuers).unwrap();
    assert_eq!(world.open(open(&groups[2], &[&tokens[2]])), busy);
    // Each has its own rate.
    let here = service_key().public();
    let foreign = token(&mut world, ("example.net", 1), &here, TokenPurpose::OpenLog);
    assert!(world.open(open(&groups[3], &[&foreign])).is_ok());
    world.now += 1000;
    assert!(world.open(open(&groups[2], &[&tokens[2]])).is_ok());
}
