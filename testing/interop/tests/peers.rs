//! Mixed groups of OpenMLS, mls-rs and ours: seeded runs, all of which have to end in agreement.
//!
//! With `FOLKMOOT_SCALE` set there are ten times as many seeds, each of which runs three times as long.

use std::thread;

use folkmoot_interop::peers::coverage::Coverage;
use folkmoot_interop::peers::departures;
use folkmoot_interop::peers::driver::{Failure, Scenario, run};

#[test]
fn members_of_three_implementations_agree_after_each_step() {
    let (seeds, steps) = match std::env::var_os("FOLKMOOT_SCALE") {
        Some(_) => (500, 120),
        None => (50, 40),
    };
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let results: Vec<Result<Coverage, Box<Failure>>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    let mut coverage = Coverage::default();
                    for seed in (first..seeds).step_by(threads as usize) {
                        run(&Scenario::of_seed(seed), steps, &mut coverage)?;
                    }
                    Ok(coverage)
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a run panicked"))
            .collect()
    });
    let mut coverage = Coverage::default();
    for result in results {
        match result {
            Ok(part) => coverage.merge(&part),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{coverage}\n{}", departures::table());
    assert!(coverage.steps() >= 2000, "{} steps", coverage.steps());
    assert_eq!(coverage.largest(), 40, "members of the largest group");
    let missing = coverage.missing();
    assert!(missing.is_empty(), "nobody did: {missing:#?}\n{coverage}");
}

#[test]
fn a_seed_repeats() {
    let of = |seed| run(&Scenario::of_seed(seed), 15, &mut Coverage::default()).unwrap();
    // What is random to the peers, such as their keys, differs; what the driver does must not.
    let shape = |log: Vec<String>| -> Vec<String> {
        let words = |line: &String| {
            line.split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        };
        log.iter().map(words).collect()
    };
    assert_eq!(shape(of(3)), shape(of(3)));
    assert_ne!(shape(of(3)), shape(of(7)));
}
