//! KeyPackages of last resort say so themselves, and the shelf has to agree.

use folkmoot_client::store::Table;
use folkmoot_client::{BadPackage, Error};
use folkmoot_mls::codec::Decode;
use folkmoot_mls::extension::ExtensionType;
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::message::MlsMessage;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{Lane, TakeRequest};
use folkmoot_protocol::sealed::open_package;
use folkmoot_simulation::{Sim, add, new, send};

const ALICE: usize = 0;
const BOB: usize = 1;

/// Takes a package of Bob's by hand. Returns it, and what the shelf says about it.
fn take(sim: &mut Sim, number: u8) -> (KeyPackage, bool) {
    let device = sim.look_up("bob").devices.remove(0);
    let request = TakeRequest {
        request_id: vec![number; 16],
        lane: Some(Lane {
            version: 1,
            cipher_suite: 1,
        }),
        mailboxes: vec![device.mailbox.to_vec()],
        payment: None,
    };
    let Ok(Answer::Take(mut answer)) = sim.ask_delivery(Call::Take(request)) else {
        panic!("a package is there")
    };
    let (shelf, package) = (device.shelf_key, answer.taken.remove(0).package.unwrap());
    let plain = open_package(shelf.version, &shelf.key, &package.sealed).unwrap();
    let Ok(MlsMessage::KeyPackage(key_package)) = MlsMessage::from_bytes(&plain) else {
        panic!("no package");
    };
    (*key_package, package.last_resort)
}

/// The service says of each package the opposite of what its owner declared.
fn declare_otherwise(sim: &mut Sim) {
    sim.twist = Some(Box::new(|_, _, answer| {
        if let Ok(Answer::Take(answer)) = answer {
            for taken in &mut answer.taken {
                if let Some(package) = &mut taken.package {
                    package.last_resort = !package.last_resort;
                }
            }
        }
    }));
}

#[test]
fn a_package_of_last_resort_is_taken_as_such_and_refused_undeclared() {
    let mut sim = Sim::new(43, &["alice", "bob"]);
    sim.ask(ALICE, new("moot", &[])).unwrap();
    let log = sim.conversation(ALICE, "moot").log;
    let undeclared = |added| {
        let refused = matches!(&added, Err(Error::BadPackage(_, BadPackage::Undeclared)));
        assert!(refused, "{added:?}");
    };

    // One for single use is none of last resort.
    declare_otherwise(&mut sim);
    undeclared(sim.ask(ALICE, add(log, &["bob"])));

    // All are taken but the last.
    let mut packages = (0..30).map(|number| take(&mut sim, number));
    let (package, _) = packages.find(|(_, declared)| *declared).unwrap();
    assert!(package.is_last_resort());
    let kind = ExtensionType::APP_DATA_DICTIONARY;
    assert!(package.leaf_node.capabilities.supports_extension(kind));
    undeclared(sim.ask(ALICE, add(log, &["bob"])));

    sim.twist = None;
    sim.ask(ALICE, add(log, &["bob"])).unwrap();
    let before = sim.count(BOB, Table::Packages);
    sim.sync_all();
    // Bob has joined, and keeps the package's keys.
    sim.ask(BOB, send(log, "here")).unwrap();
    sim.sync(ALICE);
    assert_eq!(sim.said(ALICE, "moot"), ["bob: here"]);
    assert!(sim.count(BOB, Table::Packages) >= before);
}
