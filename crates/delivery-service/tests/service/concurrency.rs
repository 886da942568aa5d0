//! Many at once: one commit wins, one package goes to one taker, nothing is lost.

use std::collections::HashSet;
use std::sync::Barrier;

use folkmoot_delivery_service::store::Store;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::DropRequest;
use folkmoot_protocol::{Conflict, Refusal};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::shelves::{package, stock, take, take_request};
use crate::world::{Deadline, Group, World};

crate::on_every_store! {
    one_of_many_commits_wins;
    messages_all_get_a_place;
    a_package_goes_to_one_taker;
    a_repeated_append_has_one_place;
    an_id_is_opened_once;
    a_ticket_lets_one_letter_in;
}

/// Callers at the same moment.
pub const THREADS: u8 = 16;

/// Asks all at the same moment; the answers in the order of the calls.
pub fn at_once<S: Store>(
    world: &World<S>,
    calls: Vec<Vec<Call>>,
) -> Vec<Vec<Result<Answer, Refusal>>> {
    let _deadline = Deadline::start();
    let barrier = Barrier::new(calls.len());
    std::thread::scope(|scope| {
        let ask = |calls: Vec<Call>| {
            let barrier = &barrier;
            scope.spawn(move || {
                let mut rng = ChaCha20Rng::from_seed([0; 32]);
                barrier.wait();
                let ask = |call| world.service.answer(call, world.now, &mut rng);
                calls.into_iter().map(ask).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = calls.into_iter().map(ask).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

fn one_of_many_commits_wins<S: Store>(mut world: World<S>) {
    for _ in 0..20 {
        let group = world.group();
        let rivals: Vec<_> = (0..THREADS).map(|_| world.key()).collect();
        let commits = rivals.iter().map(|rival| {
            let commit = group.commit(&rival.public(), false, 0);
            vec![Call::Append(group.sign(&commit))]
        });
        let outcomes = at_once(&world, commits.collect());
        let mut winner = None;
        for (outcome, rival) in outcomes.iter().zip(&rivals) {
            match &outcome[0] {
                Ok(Answer::Append(_)) => {
                    assert!(winner.replace(rival).is_none(), "two winners");
                }
                Err(Refusal::Conflict(Conflict::TipMoved, signed)) => {
                    assert_eq!(signed.head.sequence, 1);
                }
                other => panic!("{other:?}"),
            }
        }
        // The winner's fence is the one that opens the new epoch.
        let mut after = group.clone();
        after.epoch = 1;
        after.fences.push(winner.expect("one wins").clone());
        let read = world.read(&after, 1, 0);
        assert_eq!(read.head.unwrap().sequence, 1);
    }
}

fn messages_all_get_a_place<S: Store>(mut world: World<S>) {
    let group = world.group();
    let calls = (0..THREADS).map(|thread| {
        let one = |number: u8| Call::Append(group.sign(&group.append(1, &[thread, number])));
        (0..10).map(one).collect()
    });
    let outcomes = at_once(&world, calls.collect());
    let mut sequences: Vec<u64> = outcomes
        .into_iter()
        .flatten()
        .map(|outcome| match outcome {
            Ok(Answer::Append(receipt)) => crate::world::verified(&receipt).sequence,
            other => panic!("{other:?}"),
        })
        .collect();
    sequences.sort_unstable();
    let all: Vec<u64> = (1..=u64::from(THREADS) * 10).collect();
    assert_eq!(sequences, all);
    assert_eq!(world.read(&group, 0, 0).sequences, all);
}

fn a_package_goes_to_one_taker<S: Store>(mut world: World<S>) {
    let owners: Vec<_> = (0..3).map(|_| world.owner()).collect();
    for (shelf, owner) in owners.iter().enumerate() {
        let packages = (0..20u8).map(|number| package(&world, &[shelf as u8, number], false));
        let packages = packages.collect();
        stock(&mut world, owner, packages).unwrap();
    }
    let mailboxes: Vec<_> = owners.iter().map(|owner| owner.mailbox()).collect();
    let calls = (0..THREADS).map(|thread| {
        let one = |number: u8| {
            let mut id = [thread; 32];
            id[0] = number;
            Call::Take(take_request(id, &mailboxes))
        };
        // Each request is sent twice, as after a lost answer.
        (0..2)
            .flat_map(|number| [one(number), one(number)])
            .collect()
    });
    let outcomes = at_once(&world, calls.collect());
    let mut handed_out = HashSet::new();
    let mut tickets = HashSet::new();
    for outcome in outcomes {
        for twice in outcome.chunks(2) {
            assert_eq!(twice[0], twice[1]);
            let Ok(Answer::Take(response)) = &twice[0] else {
                panic!("{twice:?}");
            };
            for taken in &response.taken {
                if let Some(package) = &taken.package {
                    assert!(
                        handed_out.insert(package.sealed.clone()),
                        "handed out twice"
                    );
                    assert!(tickets.insert(taken.ticket.clone()));
                }
            }
        }
    }
    // 32 takes of 20 packages on each of three shelves: all are gone.
    assert_eq!(handed_out.len(), 60);
}

/// Everybody sends the same bytes, more than once: there is one entry, and all get its receipt.
fn a_repeated_append_has_one_place<S: Store>(mut world: World<S>) {
    let group = world.group();
    let requests: Vec<_> = (0..10u8)
        .map(|number| group.sign(&group.append(1, &[number])))
        .collect();
    let calls = (0..THREADS).map(|_| requests.iter().cloned().map(Call::Append).collect());
    let outcomes = at_once(&world, calls.collect());
    assert!(outcomes[0].iter().all(Result::is_ok));
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
    let sequences: Vec<u64> = (1..=10).collect();
    assert_eq!(world.read(&group, 0, 0).sequences, sequences);
}

/// Who opens an id with another key than the first is refused; who repeats the first is not.
fn an_id_is_opened_once<S: Store>(mut world: World<S>) {
    for _ in 0..10 {
        let log = folkmoot_protocol::ids::LogId(world.bytes());
        let rivals: Vec<_> = (0..THREADS).map(|_| Group::new(log, world.key())).collect();
        let calls = rivals.iter().map(|rival| {
            let open = Call::Open(rival.open_request());
            vec![open.clone(), open]
        });
        let outcomes = at_once(&world, calls.collect());
        let opened: Vec<_> = outcomes.iter().filter(|both| both[0].is_ok()).collect();
        assert_eq!(opened.len(), 1);
        for both in &outcomes {
            assert_eq!(both[0], both[1]);
            assert!(both[0].is_ok() || both[0] == Err(Refusal::Taken));
        }
    }
}

/// A ticket is spent once, for one letter, however often that is sent.
fn a_ticket_lets_one_letter_in<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    let packages = (0..10u8).map(|number| package(&world, &[number], false));
    let packages = packages.collect();
    stock(&mut world, &owner, packages).unwrap();
    for _ in 0..10 {
        let taken = take(&mut world, &owner);
        let calls = (0..THREADS).map(|thread| {
            // Two threads each send the same letter.
            let drop = Call::Drop(DropRequest {
                mailbox: taken.mailbox.clone(),
                ticket: taken.ticket.clone(),
                envelope: vec![thread / 2; 40],
            });
            vec![drop.clone(), drop]
        });
        let outcomes = at_once(&world, calls.collect());
        let letters = |thread: &usize| {
            let both = &outcomes[*thread];
            assert_eq!(both[0], both[1]);
            assert!(both[0].is_ok() || both[0] == Err(Refusal::Taken));
            both[0].is_ok()
        };
        let let_in: HashSet<_> = (0..usize::from(THREADS))
            .filter(letters)
            .map(|thread| thread / 2)
            .collect();
        assert_eq!(let_in.len(), 1, "{let_in:?}");
    }
}
