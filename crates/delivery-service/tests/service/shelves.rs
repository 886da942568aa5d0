//! Shelves: stocking, handing out exactly once, the last resort, repeats.

use folkmoot_delivery_service::store::Store;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{
    CountRequest, DiscardRequest, Lane, LaneCount, Package, StockRequest, TakeRequest, Taken,
};
use folkmoot_protocol::ids::{MailboxId, PackageId};
use folkmoot_protocol::limits;
use folkmoot_protocol::proof::Method;

use crate::world::{DAY, HOUR, MailboxOwner, World};

crate::on_every_store! {
    each_is_handed_out_once_then_the_last_resort;
    an_expired_one_never;
    what_has_little_time_left_goes_last;
    lanes_are_apart;
    a_repeat_gets_the_same_for_a_day;
    unknown_looks_like_empty;
    a_package_belongs_to_one_shelf;
    a_new_last_resort_replaces_the_old;
    the_owner_discards;
    shelves_are_bounded;
    only_the_owner;
    forms_are_checked;
}

pub const LANE: Lane = Lane {
    version: 1,
    cipher_suite: 1,
};

/// A package that expires in ten days.
pub fn package<S>(world: &World<S>, name: &[u8], last_resort: bool) -> Package {
    Package {
        lane: Some(LANE),
        expires: (world.now + 10 * DAY) / 1000,
        last_resort,
        sealed: name.to_vec(),
    }
}

pub fn stock<S: Store>(
    world: &mut World<S>,
    owner: &MailboxOwner,
    packages: Vec<Package>,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut request = StockRequest {
        owner: None,
        packages,
    };
    request.owner = owner.owns(Method::Stock, world.nonce(), &request);
    match world.ask(Call::Stock(request))? {
        Answer::Stock(response) => Ok(response.ids),
        other => panic!("{other:?}"),
    }
}

fn count<S: Store>(world: &mut World<S>, owner: &MailboxOwner) -> Vec<LaneCount> {
    let mut request = CountRequest { owner: None };
    request.owner = owner.owns(Method::Count, world.nonce(), &request);
    match world.ask(Call::Count(request)) {
        Ok(Answer::Count(response)) => response.lanes,
        other => panic!("{other:?}"),
    }
}

fn discard<S: Store>(
    world: &mut World<S>,
    owner: &MailboxOwner,
    ids: Vec<Vec<u8>>,
) -> Result<u64, Refusal> {
    let mut request = DiscardRequest { owner: None, ids };
    request.owner = owner.owns(Method::Discard, world.nonce(), &request);
    match world.ask(Call::Discard(request))? {
        Answer::Discard(response) => Ok(response.discarded),
        other => panic!("{other:?}"),
    }
}

pub fn take_request(request_id: [u8; 32], mailboxes: &[MailboxId]) -> TakeRequest {
    TakeRequest {
        request_id: request_id.to_vec(),
        lane: Some(LANE),
        mailboxes: mailboxes.iter().map(|mailbox| mailbox.0.to_vec()).collect(),
        payment: None,
    }
}

pub fn ask_take<S: Store>(
    world: &mut World<S>,
    request: TakeRequest,
) -> Result<Vec<Taken>, Refusal> {
    match world.ask(Call::Take(request))? {
        Answer::Take(response) => Ok(response.taken),
        other => panic!("{other:?}"),
    }
}

/// One take under a new request id.
pub fn take<S: Store>(world: &mut World<S>, owner: &MailboxOwner) -> Taken {
    let request = take_request(world.bytes(), &[owner.mailbox()]);
    let mut taken = ask_take(world, request).unwrap();
    assert_eq!(taken.len(), 1);
    let taken = taken.remove(0);
    assert_eq!(taken.mailbox, owner.mailbox().0);
    assert_eq!(
        taken.ticket.len(),
        if taken.package.is_some() { 32 } else { 0 }
    );
    taken
}

/// The name of what a take handed out.
pub fn name<S: Store>(world: &mut World<S>, owner: &MailboxOwner) -> Option<String> {
    let package = take(world, owner).package?;
    Some(String::from_utf8(package.sealed).unwrap())
}

fn each_is_handed_out_once_then_the_last_resort<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    let packages = vec![
        package(&world, b"last", true),
        package(&world, b"one", false),
        package(&world, b"two", false),
    ];
    let ids = stock(&mut world, &owner, packages.clone()).unwrap();
    for (id, package) in ids.iter().zip(&packages) {
        assert_eq!(*id, PackageId::of(&package.sealed).0);
    }
    let lane = LaneCount {
        lane: Some(LANE),
        single_use: 2,
        last_resort: true,
    };
    assert_eq!(count(&mut world, &owner), [lane]);

    let (first, second) = (take(&mut world, &owner), take(&mut world, &owner));
    assert_ne!(first.ticket, second.ticket);
    let mut singles = vec![first.package.unwrap(), second.package.unwrap()];
    singles.sort_by(|a, b| a.sealed.cmp(&b.sealed));
    assert_eq!(singles, packages[1..]);
    for _ in 0..3 {
        let last = take(&mut world, &owner).package.unwrap();
        assert_eq!(last, packages[0]);
    }
    let lane = LaneCount {
        lane: Some(LANE),
        single_use: 0,
        last_resort: true,
    };
    assert_eq!(count(&mut world, &owner), [lane]);
}

fn an_expired_one_never<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    let mut soon = package(&world, b"soon", false);
    soon.expires = world.now / 1000 + 60;
    let mut last = package(&world, b"last", true);
    last.expires = world.now / 1000 + 120;
    stock(&mut world, &owner, vec![soon.clone(), last]).unwrap();
    world.now += 60_000;
    assert_eq!(count(&mut world, &owner)[0].single_use, 0);
    assert_eq!(name(&mut world, &owner).as_deref(), Some("last"));
    world.now += 60_000;
    assert_eq!(name(&mut world, &owner), None);
    assert_eq!(count(&mut world, &owner), []);
    // Nor is it taken onto the shelf.
    let refused = stock(&mut world, &owner, vec![soon.clone()]);
    assert_eq!(refused, Err(Refusal::Malformed("expires".into())));
    soon.expires = world.now / 1000 + 101 * 86_400;
    let refused = stock(&mut world, &owner, vec![soon]);
    assert_eq!(refused, Err(Refusal::Malformed("expires".into())));
    // And a sweep forgets it, in an hour at the latest.
    world.now += HOUR;
    assert!(world.service.sweep(world.now).unwrap() > 0);
    assert_eq!(name(&mut world, &owner), None);
}

fn what_has_little_time_left_goes_last<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    let mut packages = Vec::new();
    for (name, days) in [("1", 1), ("5", 5), ("3", 3)] {
        let mut package = package(&world, name.as_bytes(), false);
        package.expires = (world.now + days * DAY) / 1000;
        packages.push(package);
    }
    stock(&mut world, &owner, packages).unwrap();
    let order: Vec<_> = (0..4).map(|_| name(&mut world, &owner)).collect();
    let expected = ["3", "5", "1"].map(|name| Some(name.to_owned()));
    assert_eq!(order[..3], expected);
    assert_eq!(order[3], None);
}

fn lanes_are_apart<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    let other = Lane {
        version: 1,
        cipher_suite: 3,
    };
    let mut package = package(&world, b"suite 3", false);
    package.lane = Some(other);
    stock(&mut world, &owner, vec![package.clone()]).unwrap();
    assert_eq!(name(&mut world, &owner), None);
    let mut request = take_request(world.bytes(), &[owner.mailbox()]);
    request.lane = Some(other);
    let taken = ask_take(&mut world, request).unwrap();
    assert_eq!(taken[0].package, Some(package));
}

fn a_repeat_gets_the_same_for_a_day<S: Store>(mut world: World<S>) {
    let (owner, empty) = (world.owner(), world.owner());
    let packages = vec![
        package(&world, b"one", false),
        package(&world, b"two", false),
    ];
    stock(&mut world, &owner, packages).unwrap();
    let both = [owner.mailbox(), empty.mailbox()];
    let request = take_request(world.bytes(), &both);
    let first = ask_take(&mut world, request.clone()).unwrap();
    assert!(first[0].package.is_some() && first[1].package.is_none());
    // Also what was empty stays so for the repeat, and the order may be another.
    let late = vec![package(&world, b"late", false)];
    stock(&mut world, &empty, late).unwrap();
    world.now += DAY - 1;
    assert_eq!(ask_take(&mut world, request.clone()), Ok(first.clone()));
    let mut reversed = request.clone();
    reversed.mailboxes.reverse();
    let again = ask_take(&mut world, reversed).unwrap();
    assert_eq!(again, [first[1].clone(), first[0].clone()]);
    // Another id gets the other package; after a day the id is new.
    let other = take(&mut world, &owner);
    assert_ne!(other.package, first[0].package);
    world.now += HOUR;
    world.service.sweep(world.now).unwrap();
    let later = ask_take(&mut world, request).unwrap();
    assert_eq!(later[0].package, None);
    assert!(later[1].package.is_some());
}

/// An operator who also has the directory must not find out, by the exact time of a commit in some
/// log, whose device was added there.
#[test]
fn when_a_device_was_taken_is_not_kept() {
    let store = folkmoot_delivery_service::MemoryStore::new();
    let mut world = World::new(store.clone());
    let owner = world.owner();
    let packages = vec![package(&world, b"one", false)];
    stock(&mut world, &owner, packages).unwrap();
    world.now += 1_234_567;
    let taken = take(&mut world, &owner);
    let envelope = b"invitation".to_vec();
    let drop = folkmoot_protocol::delivery::DropRequest {
        mailbox: taken.mailbox,
        ticket: taken.ticket,
        envelope,
    };
    world.ask(Call::Drop(drop)).unwrap();
    for time in [world.now, world.now + DAY, world.now + 7 * DAY] {
        let time = time.to_be_bytes();
        assert!(!store.to_bytes().windows(8).any(|bytes| bytes == time));
    }
}

fn unknown_looks_like_empty<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    let unknown = MailboxId(world.bytes());
    let request = take_request(world.bytes(), &[owner.mailbox(), unknown]);
    let taken = ask_take(&mut world, request).unwrap();
    let nothing = |mailbox: MailboxId| Taken {
        mailbox: mailbox.into(),
        package: None,
        ticket: Vec::new(),
    };
    assert_eq!(taken, [nothing(owner.mailbox()), nothing(unknown)]);
}

fn a_package_belongs_to_one_shelf<S: Store>(mut world: World<S>) {
    let (owner, other) = (world.owner(), world.owner());
    let one = package(&world, b"one", false);
    let two = package(&world, b"two", false);
    let ids = stock(&mut world, &owner, vec![one.clone()]).unwrap();
    // Again on the same shelf, with more beside it.
    let again = stock(
        &mut world,
        &owner,
        vec![one.clone(), two.clone(), one.clone()],
    )
    .unwrap();
    assert_eq!((&again[0], &again[2]), (&ids[0], &ids[0]));
    assert_eq!(count(&mut world, &owner)[0].single_use, 2);
    // Elsewhere: and nothing of that request comes onto the shelf.
    let three = package(&world, b"three", false);
    let refused = stock(&mut world, &other, vec![three, one.clone()]);
    assert_eq!(refused, Err(Refusal::Taken));
    assert_eq!(count(&mut world, &other), []);
    // Declared in another way.
    let mut longer = one.clone();
    longer.expires += 1;
    let refused = stock(&mut world, &owner, vec![longer.clone()]);
    assert_eq!(refused, Err(Refusal::Taken));
    let refused = stock(&mut world, &owner, vec![one.clone(), longer]);
    assert_eq!(refused, Err(Refusal::Taken));
    // Once handed out, never again: not here, not elsewhere.
    while take(&mut world, &owner).package.is_some() {}
    for shelf in [&owner, &other] {
        let refused = stock(&mut world, shelf, vec![one.clone()]);
        assert_eq!(refused, Err(Refusal::Taken));
    }
}

fn a_new_last_resort_replaces_the_old<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    for name in [b"old", b"new"] {
        let last = package(&world, name, true);
        stock(&mut world, &owner, vec![last]).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(name(&mut world, &owner).as_deref(), Some("new"));
    }
    // Two in one request: the later one stays.
    let both = vec![package(&world, b"a", true), package(&world, b"b", true)];
    stock(&mut world, &owner, both).unwrap();
    assert_eq!(name(&mut world, &owner).as_deref(), Some("b"));
    assert_eq!(count(&mut world, &owner).len(), 1);
}

fn the_owner_discards<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    let packages = vec![
        package(&world, b"one", false),
        package(&world, b"two", false),
        package(&world, b"last", true),
    ];
    let ids = stock(&mut world, &owner, packages.clone()).unwrap();
    let taken = take(&mut world, &owner).package.unwrap().sealed;
    let unknown = world.bytes().to_vec();
    let mut all = ids.clone();
    all.extend([unknown, ids[0].clone()]);
    // The one that was taken and the unknown one are passed over.
    assert_eq!(discard(&mut world, &owner, all.clone()), Ok(2));
    assert_eq!(discard(&mut world, &owner, all), Ok(0));
    assert_eq!(name(&mut world, &owner), None);
    // What was discarded may come back; what was taken may not.
    for package in packages {
        let again = stock(&mut world, &owner, vec![package.clone()]);
        assert_eq!(again.is_err(), package.sealed == taken);
    }
    let refused = discard(&mut world, &owner, vec![vec![1; 31]]);
    assert_eq!(refused, Err(Refusal::Malformed("ids".into())));
}

fn shelves_are_bounded<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    let mut packages: Vec<_> = (0..1000u32)
        .map(|number| package(&world, &number.to_be_bytes(), false))
        .collect();
    let more = package(&world, b"more", false);
    packages.push(more.clone());
    let refused = stock(&mut world, &owner, packages.clone());
    assert_eq!(refused, Err(Refusal::TooLarge));
    packages.pop();
    stock(&mut world, &owner, packages).unwrap();
    let refused = stock(&mut world, &owner, vec![more.clone()]);
    assert_eq!(refused, Err(Refusal::MailboxFull));
    take(&mut world, &owner);
    assert!(stock(&mut world, &owner, vec![more]).is_ok());

    let other = world.owner();
    let largest = package(&world, &vec![1; limits::PACKAGE], false);
    let larger = package(&world, &vec![1; limits::PACKAGE + 1], false);
    assert!(stock(&mut world, &other, vec![largest]).is_ok());
    assert_eq!(
        stock(&mut world, &other, vec![larger]),
        Err(Refusal::TooLarge)
    );
}

fn only_the_owner<S: Store>(mut world: World<S>) {
    let (owner, thief) = (world.owner(), MailboxOwner { key: world.key() });
    let mailbox = owner.mailbox();
    let mut request = StockRequest {
        owner: None,
        packages: vec![package(&world, b"one", false)],
    };
    let good = owner.owns(Method::Stock, world.nonce(), &request).unwrap();
    let mut stolen = good.clone();
    stolen.proof = thief.proof(mailbox, Method::Stock, &good.nonce, &request);
    // The thief's own mailbox was never made.
    let unmade = thief.owns(Method::Stock, world.nonce(), &request).unwrap();
    let mut other_method = good.clone();
    other_method.proof = owner.proof(mailbox, Method::Discard, &good.nonce, &request);
    let mut other_content = good.clone();
    let nothing = StockRequest::default();
    other_content.proof = owner.proof(mailbox, Method::Stock, &good.nonce, &nothing);
    for wrong in [stolen, unmade, other_method, other_content] {
        request.owner = Some(wrong);
        let answer = world.ask(Call::Stock(request.clone()));
        assert_eq!(answer, Err(Refusal::NotFound));
    }
    request.owner = Some(good);
    world.now += 60_001;
    let answer = world.ask(Call::Stock(request.clone()));
    assert_eq!(answer, Err(Refusal::StaleNonce));
    request.owner = None;
    let answer = world.ask(Call::Stock(request));
    assert_eq!(answer, Err(Refusal::Malformed("owner".into())));
}

fn forms_are_checked<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    let good = take_request(world.bytes(), &[owner.mailbox()]);
    let mut check = |edit: fn(&mut TakeRequest), field: &str| {
        let mut request = good.clone();
        edit(&mut request);
        let refused = ask_take(&mut world, request);
        assert_eq!(refused, Err(Refusal::Malformed(field.into())));
    };
    check(|request| request.request_id.truncate(15), "request_id");
    check(|request| request.request_id = vec![0; 65], "request_id");
    check(|request| request.lane = None, "lane");
    check(
        |request| request.lane.as_mut().unwrap().cipher_suite = 0x1_0001,
        "lane",
    );
    check(|request| request.mailboxes.push(vec![1; 31]), "mailbox");
    check(
        |request| request.mailboxes.push(request.mailboxes[0].clone()),
        "mailboxes",
    );
    let mut many = good.clone();
    many.mailboxes = vec![vec![1; 32]; limits::MAILBOXES_PER_TAKE + 1];
    assert_eq!(ask_take(&mut world, many), Err(Refusal::TooLarge));
    let mut laneless = package(&world, b"one", false);
    laneless.lane = None;
    let refused = stock(&mut world, &owner, vec![laneless]);
    assert_eq!(refused, Err(Refusal::Malformed("lane".into())));
}
