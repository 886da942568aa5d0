//! Many at once: one commit wins, one package goes to one taker, nothing is lost.

use std::collections::HashSet;
use std::sync::Barrier;

use folkmoot_delivery_service::store::Store;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::{Conflict, Refusal};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::shelves::{package, stock, take_request};
use crate::world::World;

crate::on_every_store! {
    one_of_many_commits_wins;
    messages_all_get_a_place;
    a_package_goes_to_one_taker;
}

const THREADS: u8 = 16;

/// Asks all at the same moment; the answers in the order of the calls.
fn at_once<S: Store>(world: &World<S>, calls: Vec<Vec<Call>>) -> Vec<Vec<Result<Answer, Refusal>>> {
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
