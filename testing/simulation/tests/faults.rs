//! Runs with faults: the invariants hold, and whatever guard is taken away, somebody notices.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use folkmoot_simulation::faults::{ALL_BROKEN, Broken, Counts, Settings, replay, run};

/// With `FOLKMOOT_SCALE` set: all runs. Otherwise as many as the time allows, this many at least and
/// at most.
const ALL: u64 = 20_000;
const FEWEST: u64 = 100;
const MOST: u64 = 400;
const TIME: Duration = Duration::from_secs(25);

/// Makes runs on all cores, until there is no more to do.
fn runs(settings: &Settings, seeds: u64, enough: impl Fn(u64, Duration) -> bool + Sync) -> Counts {
    let (next, begun) = (AtomicU64::new(0), Instant::now());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let (mut counts, mut failed) = (Counts::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || enough(seed, begun.elapsed()) {
                return (counts, failed);
            }
            let panicked = |_| Err("it panicked".to_owned());
            let result = std::panic::catch_unwind(|| run(seed, settings))
                .map(|outcome| {
                    counts.add(&outcome.counts);
                    outcome.result.map_err(|violation| violation.to_string())
                })
                .unwrap_or_else(panicked);
            if let Err(what) = result {
                println!("seed {seed}: {what}\n    {}", replay(seed));
                failed.push(seed);
            }
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let ends = workers.into_iter().map(|worker| worker.join());
        ends.map(|end| end.expect("panics are caught")).collect()
    });
    let mut counts = Counts::default();
    let mut failed = Vec::new();
    for (of, seeds) in results {
        counts.add(&of);
        failed.extend(seeds);
    }
    let made = next.into_inner().min(seeds);
    println!("about {made} runs: {counts}");
    assert!(
        failed.is_empty(),
        "{} runs failed: {failed:?}",
        failed.len()
    );
    counts
}

#[test]
fn whatever_goes_wrong_nothing_is_lost_or_done_twice() {
    let settings = Settings::default();
    let counts = if std::env::var_os("FOLKMOOT_SCALE").is_some() {
        runs(&settings, ALL, |_, _| false)
    } else {
        runs(&settings, MOST, |seed, time| seed >= FEWEST && time > TIME)
    };
    // Something has gone wrong in these runs, of every kind.
    let each = [
        counts.commits,
        counts.conflicts,
        counts.grouped,
        counts.followed,
        counts.lost,
        counts.doubled,
        counts.crashes,
        counts.restarts,
    ];
    assert!(each.iter().all(|count| *count >= FEWEST / 2), "{counts}");
}

#[test]
fn a_run_follows_from_its_seed() {
    let settings = Settings {
        trace: true,
        ..Settings::default()
    };
    for seed in [3, 4] {
        let [first, second] = [(); 2].map(|()| run(seed, &settings));
        assert!(first.trace.len() > 100);
        assert_eq!(first.counts, second.counts);
        assert_eq!(first.result, second.result);
    }
}

/// Within so many runs what is broken is found.
const SOON: u64 = 150;

fn is_found(broken: Broken) {
    let settings = Settings {
        broken: Some(broken),
        ..Settings::default()
    };
    let found = (0..SOON).find_map(|seed| {
        let violation = run(seed, &settings).result.err()?;
        Some((seed, violation))
    });
    let Some((seed, violation)) = found else {
        panic!("nobody notices that {broken:?} is broken");
    };
    println!("{broken:?}: seed {seed}: {violation}");
    assert_eq!(run(seed, &Settings::default()).result, Ok(()));
}

#[test]
fn every_guard_is_missed_when_it_is_gone() {
    for broken in ALL_BROKEN {
        is_found(broken);
    }
}

/// The features that cargo would build a package with, as it is shipped.
fn features(package: &str) -> String {
    let tree = std::process::Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "features,normal",
        ])
        .args(["--package", package])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{tree:?}");
    String::from_utf8(tree.stdout).expect("cargo writes text")
}

#[test]
fn what_is_shipped_has_no_switch_that_takes_a_guard_away() {
    assert!(features("folkmoot-simulation").contains("sabotage"));
    assert!(!features("folkmoot").contains("sabotage"));
}
