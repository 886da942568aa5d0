//! Who cannot be added is left out: the others are added all the same, and what was wrong is told.

use std::collections::BTreeMap;

use folkmoot_client::logic::Intent;
use folkmoot_client::store::Store;
use folkmoot_client::{BadPackage, Error, Event, What, sabotage};
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::leaf_node::LeafNodeSource;
use folkmoot_mls::message::MlsMessage;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{Lane, TakeRequest, Taken};
use folkmoot_protocol::sealed::{open_package, seal_package, suite};
use folkmoot_simulation::{PersonId, Sim, add, new, send};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const ALICE: PersonId = 0;
const BOB: PersonId = 1;

const TITLE: &str = "moot";

fn user(name: &str) -> String {
    format!("{name}@moot.example")
}

/// Who was left out, and why, as the history has it.
fn left_out(sim: &mut Sim) -> BTreeMap<String, String> {
    let lines = sim.history(ALICE, TITLE).into_iter();
    let lines = lines.filter_map(|line| match line.what {
        What::LeftOut(who) => Some((who.user.to_string(), who.reason.to_string())),
        _ => None,
    });
    lines.collect()
}

fn members(sim: &mut Sim) -> Vec<String> {
    let members = sim.members(ALICE, TITLE).unwrap().members;
    let mut users: Vec<_> = members.iter().map(|it| it.user.to_string()).collect();
    users.sort();
    users
}

/// What is wrong with somebody.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    /// The directory knows nobody of the name.
    Unknown,
    /// What the directory says does not verify.
    Directory,
    /// The shelf is empty.
    NoPackage,
    /// The package does not open.
    Sealed,
    /// The package is not what the shelf declares.
    Undeclared,
    /// The service says nothing of the shelf.
    Unanswered,
    /// The mailbox is not there.
    Mailbox,
    /// The mailbox takes nothing, for a reason that nobody understands.
    Garbage,
    /// The mailbox is never to be had just now.
    Never,
}

const WRONGS: [Wrong; 9] = [
    Wrong::Unknown,
    Wrong::Directory,
    Wrong::NoPackage,
    Wrong::Sealed,
    Wrong::Undeclared,
    Wrong::Unanswered,
    Wrong::Mailbox,
    Wrong::Garbage,
    Wrong::Never,
];

/// Part of what is said then.
fn reason(wrong: Wrong) -> &'static str {
    match wrong {
        Wrong::Unknown => "there is no user",
        Wrong::Directory => "the directory's answer about",
        Wrong::NoPackage => "has no device that can be added",
        Wrong::Sealed | Wrong::Undeclared => "is not valid",
        Wrong::Unanswered | Wrong::Garbage => "broke the protocol",
        Wrong::Mailbox => "has no mailbox",
        Wrong::Never => "",
    }
}

/// From now on these are wrong.
fn spoil(sim: &mut Sim, wrongs: &[(String, Wrong)]) {
    let mut names = BTreeMap::new();
    let mut mailboxes = BTreeMap::new();
    for (name, wrong) in wrongs {
        names.insert(user(name), *wrong);
        names.insert(name.clone(), *wrong);
        let mailbox = sim.look_up(name).devices[0].mailbox;
        mailboxes.insert(mailbox.to_vec(), *wrong);
    }
    sim.twist = Some(Box::new(move |who, call, result| {
        if who != ALICE {
            return;
        }
        let of = |mailbox: &Vec<u8>| mailboxes.get(mailbox).copied();
        match (call, result) {
            (Call::LookUp(request), result) => match names.get(&request.name) {
                Some(Wrong::Unknown) => *result = Err(Refusal::UnknownUser),
                Some(Wrong::Directory) => {
                    if let Ok(Answer::LookUp(answer)) = result {
                        *answer.binding.last_mut().unwrap() ^= 1;
                    }
                }
                _ => {}
            },
            (Call::Take(_), Ok(Answer::Take(answer))) => {
                let taken = &mut answer.taken;
                taken.retain(|taken| of(&taken.mailbox) != Some(Wrong::Unanswered));
                for taken in taken {
                    match (of(&taken.mailbox), &mut taken.package) {
                        (Some(Wrong::NoPackage), package) => *package = None,
                        (Some(Wrong::Sealed), Some(package)) => {
                            *package.sealed.last_mut().unwrap() ^= 1;
                        }
                        (Some(Wrong::Undeclared), Some(package)) => package.expires += 1,
                        _ => {}
                    }
                }
            }
            (Call::DropAll(request), Ok(Answer::DropAll(answer))) => {
                for (drop, refusal) in request.drops.iter().zip(&mut answer.refusals) {
                    match of(&drop.mailbox) {
                        Some(Wrong::Mailbox) => *refusal = Refusal::NotFound.to_bytes(),
                        Some(Wrong::Garbage) => *refusal = vec![0xff; 9],
                        Some(Wrong::Never) => *refusal = Refusal::Busy(10).to_bytes(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }));
}

#[test]
fn many_are_added_without_those_who_cannot_be() {
    let names: Vec<String> = (0..40)
        .map(|number| match number {
            0 => "alice".to_owned(),
            1 => "bob".to_owned(),
            _ => format!("m{number}"),
        })
        .collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut sim = Sim::new(81, &all);
    sim.ask(ALICE, new(TITLE, &["bob"])).unwrap();
    let log = sim.conversation(ALICE, TITLE).log;
    // The first of all, the last of all, and others between; and who is in.
    let places = [2, 7, 8, 12, 19, 20, 21, 33, 39];
    let wrongs: Vec<_> = places
        .into_iter()
        .zip(WRONGS)
        .map(|(place, wrong)| (names[place].clone(), wrong))
        .collect();
    spoil(&mut sim, &wrongs);
    let before = sim.conversation(ALICE, TITLE).epoch;
    let mut asked = all[1..].to_vec();
    asked.push("nobody");
    sim.ask(ALICE, add(log, &asked)).unwrap();
    sim.twist = None;

    // All others are in, by one commit.
    let is_bad = |name: &str| wrongs.iter().any(|(bad, _)| bad == name);
    let mut good: Vec<_> = all
        .iter()
        .filter(|it| !is_bad(it))
        .copied()
        .map(user)
        .collect();
    good.sort();
    assert_eq!(members(&mut sim), good);
    assert_eq!(sim.conversation(ALICE, TITLE).epoch, before + 1);

    // Who is not is told, with the reason, once; and kept.
    let lines = left_out(&mut sim);
    assert_eq!(lines.len(), wrongs.len() + 2, "{lines:?}");
    assert!(lines[&user("bob")].contains("is a member already"));
    assert!(lines[&user("nobody")].contains("there is no user"));
    for (name, wrong) in &wrongs {
        let line = &lines[&user(name)];
        assert!(line.contains(reason(*wrong)), "{wrong:?}: {line}");
    }
    let told = sim.person(ALICE).events.iter().filter(
        |event| matches!(event, Event::News { entry, .. } if matches!(entry.what, What::LeftOut(_))),
    );
    assert_eq!(told.count(), lines.len());

    // They join and speak.
    for who in [BOB, 3, 38] {
        sim.sync(who);
        sim.ask(who, send(log, "here")).unwrap();
    }
    sim.sync(ALICE);
    assert_eq!(sim.said(ALICE, TITLE).len(), 3);
}

#[test]
fn who_is_bad_alone_is_an_error() {
    for wrong in WRONGS {
        if wrong == Wrong::Never {
            continue;
        }
        let mut sim = Sim::new(82, &["alice", "bob", "charlie"]);
        sim.ask(ALICE, new(TITLE, &[])).unwrap();
        let log = sim.conversation(ALICE, TITLE).log;
        let one = ("bob".to_owned(), wrong);
        spoil(&mut sim, std::slice::from_ref(&one));
        let alone = sim.ask(ALICE, add(log, &["bob"])).unwrap_err();
        assert!(
            alone.to_string().contains(reason(wrong)),
            "{wrong:?}: {alone}"
        );
        assert!(left_out(&mut sim).is_empty());
        sim.twist = None;
        sim.ask(ALICE, Intent::Sync).unwrap();
        let pending = matches!(alone, Error::Pending(_));
        assert_eq!(
            members(&mut sim).len(),
            if pending { 2 } else { 1 },
            "{wrong:?}"
        );

        // Of several who are all bad the last one is the error, and each has a line.
        if !pending {
            spoil(&mut sim, &[one, ("charlie".to_owned(), Wrong::Unknown)]);
            sim.ask(ALICE, add(log, &["bob", "charlie"])).unwrap_err();
            assert_eq!(left_out(&mut sim).len(), 2);
            sim.twist = None;
            assert_eq!(members(&mut sim).len(), 1);
        }
    }
}

#[test]
fn who_claims_anothers_mailbox_spoils_nothing() {
    let mut sim = Sim::new(83, &["alice", "bob", "charlie", "dave"]);
    sim.ask(ALICE, new(TITLE, &[])).unwrap();
    let log = sim.conversation(ALICE, TITLE).log;
    // Charlie's package comes from Bob's shelf.
    let [bobs, charlies] = ["bob", "charlie"].map(|name| sim.look_up(name).devices[0].mailbox);
    sim.twist = Some(Box::new(move |_, call, result| {
        if let (Call::Take(_), Ok(Answer::Take(answer))) = (call, result) {
            let of = |mailbox: &[u8; 32]| {
                let mut taken = answer.taken.iter();
                taken.position(|taken| taken.mailbox == mailbox.to_vec())
            };
            if let (Some(bob), Some(charlie)) = (of(&bobs), of(&charlies)) {
                answer.taken[charlie].package = answer.taken[bob].package.clone();
            }
        }
    }));
    sim.ask(ALICE, add(log, &["charlie", "bob", "dave"]))
        .unwrap();
    sim.twist = None;
    assert_eq!(members(&mut sim), ["alice", "bob", "dave"].map(user));
    assert!(left_out(&mut sim).contains_key(&user("charlie")));
}

#[test]
fn a_package_that_expires_before_its_commit_is_left_out() {
    let mut sim = Sim::new(84, &["alice", "bob", "charlie", "dave"]);
    sim.ask(ALICE, new(TITLE, &["bob"])).unwrap();
    sim.sync(BOB);
    let log = sim.conversation(ALICE, TITLE).log;
    // Of Dave only the package of last resort is left, which lasts longer.
    let device = sim.look_up("dave").devices.remove(0);
    for number in 0..30 {
        let request = TakeRequest {
            request_id: vec![number; 16],
            lane: Some(Lane {
                version: 1,
                cipher_suite: 1,
            }),
            mailboxes: vec![device.mailbox.to_vec()],
            payment: None,
        };
        sim.ask_delivery(Call::Take(request)).unwrap();
    }
    sim.begin(ALICE, add(log, &["charlie", "dave"])).unwrap();
    sim.deliver_until_append();
    sim.hold(ALICE);
    sim.pass(29 * 24 * 3600 * 1000 + 12 * 3600 * 1000);
    sim.ask(BOB, Intent::Update { log }).unwrap();
    sim.release();
    sim.settle();
    sim.sync(ALICE);
    assert_eq!(members(&mut sim), ["alice", "bob", "dave"].map(user));
    let lines = left_out(&mut sim);
    assert_eq!(lines.len(), 1);
    assert!(lines[&user("charlie")].contains("lifetime"), "{lines:?}");
}

#[test]
fn a_package_that_the_group_does_not_take_is_left_out() {
    let mut sim = Sim::new(85, &["alice", "bob", "charlie", "dave"]);
    sim.ask(ALICE, new(TITLE, &["bob"])).unwrap();
    let log = sim.conversation(ALICE, TITLE).log;
    // Charlie's device signs a package that knows none of the group's extensions.
    let signer = sim.person(2).store.transaction(|tx| sabotage::signer(tx));
    let (signer, device) = (signer.unwrap(), sim.look_up("charlie").devices.remove(0));
    let key = device.shelf_key;
    sim.twist = Some(Box::new(move |_, call, result| {
        let (Call::Take(_), Ok(Answer::Take(answer))) = (call, result) else {
            return;
        };
        let charlies = |taken: &&mut Taken| taken.mailbox == device.mailbox.to_vec();
        let Some(taken) = answer.taken.iter_mut().find(charlies) else {
            return;
        };
        let package = taken.package.as_mut().unwrap();
        let plain = open_package(key.version, &key.key, &package.sealed).unwrap();
        let Ok(MlsMessage::KeyPackage(good)) = MlsMessage::from_bytes(&plain) else {
            panic!("no package");
        };
        let LeafNodeSource::KeyPackage(lifetime) = good.leaf_node.leaf_node_source else {
            panic!("no lifetime");
        };
        let mut leaf = good.leaf_node.parameters();
        leaf.capabilities.extensions.clear();
        leaf.extensions = Extensions::default();
        let mut rng = ChaCha20Rng::from_seed([85; 32]);
        let extensions = good.extensions.clone();
        let bad = KeyPackage::create(suite(), &signer, leaf, lifetime, extensions, &mut rng);
        let bad = MlsMessage::KeyPackage(Box::new(bad.unwrap().key_package)).to_bytes();
        package.sealed = seal_package(key.version, &key.key, &bad);
    }));
    sim.ask(ALICE, add(log, &["charlie", "dave"])).unwrap();
    assert_eq!(members(&mut sim), ["alice", "bob", "dave"].map(user));
    let lines = left_out(&mut sim);
    assert_eq!(lines.len(), 1);
    assert!(
        lines[&user("charlie")].contains("the group does not take it"),
        "{lines:?}"
    );
    // Dave is in the group as it is for the others.
    sim.sync(3);
    sim.ask(3, send(log, "here")).unwrap();
    sim.sync(BOB);
    assert_eq!(sim.said(BOB, TITLE), ["dave: here"]);
    // Alone it is an error.
    let alone = sim.ask(ALICE, add(log, &["charlie"])).unwrap_err();
    assert!(
        matches!(alone, Error::BadPackage(_, BadPackage::Unfit)),
        "{alone}"
    );
}
