//! Members who spoil their group's commits. The group goes on each time, without anybody's help; what that
//! costs is printed. Each rule that this rests on is broken once ([`rules`]).

mod forged;
mod insiders;
mod paid;
mod rules;
mod unopened;
mod world;

// The insider of the engine's own tests, who makes messages from the primitives alone.
#[allow(dead_code)]
#[path = "../../../../crates/mls/tests/validation/insider.rs"]
mod insider;
#[allow(dead_code)]
#[path = "../../../../crates/mls/tests/validation/nodes.rs"]
mod nodes;

use insiders as group_harness;

use folkmoot_client::Standing;
use folkmoot_client::logic::Intent;
use folkmoot_protocol::log::Append;
use folkmoot_simulation::{CRASHES, Sim, add, new, remove, send};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use world::{
    ALICE, Cost, EIGHT, LIVE, Made, Vandal, agree, contesting, eight, foreign_fence, foreign_pages,
    goes_on, is_out, junk, large, named, slow, unmarked,
};

#[test]
fn a_group_of_eight_outlives_a_vandal() {
    let (mut sim, log) = eight(61);
    let hanna = Vandal { who: 7, log };
    let mut cost = Cost::default();
    for round in 0..20 {
        let update = Intent::Update { log };
        hanna.spoil(&mut sim, update, junk).unwrap();
        // Most are away: somebody else wakes up each time, and one more.
        sim.pass(1000 * (round % 7));
        let awake = [round as usize % 7, (round as usize + 3) % 7];
        goes_on(&mut sim, &awake, log, &format!("round {round}"), &mut cost);
        assert_eq!(named(&mut sim, awake[0]), None, "nobody can tell");
        sim.sync(hanna.who);
    }
    println!("8 members, random bytes: {cost:?}");
    sim.sync_all();
    agree(&mut sim, &[0, 1, 2, 3, 4, 5, 6, 7]);

    // What is signed names its author, who is removed by the commit that is put in its place.
    for (wish, change, text) in [
        (
            Intent::Update { log },
            foreign_fence as fn(&mut Append),
            "foreign fence",
        ),
        (
            Intent::Update { log },
            foreign_pages as fn(&mut Append),
            "foreign pages",
        ),
        (
            Intent::Update { log },
            slow as fn(&mut Append),
            "a long pause",
        ),
        (
            remove(log, &["bob"]),
            unmarked as fn(&mut Append),
            "unmarked removal",
        ),
    ] {
        let mut cost = Cost::default();
        hanna.spoil(&mut sim, wish, change).unwrap();
        goes_on(&mut sim, &[2, 4, 0], log, text, &mut cost);
        assert_eq!(named(&mut sim, 2).as_deref(), Some("hanna"));
        assert_eq!(sim.members(2, "moot").unwrap().members.len(), 7);
        println!("8 members, {text}: {cost:?}");
        sim.sync(hanna.who);
        assert!(is_out(&mut sim, hanna.who));
        sim.pass(1000);
        sim.ask(ALICE, add(log, &["hanna"])).unwrap();
        sim.sync_all();
        agree(&mut sim, &[0, 1, 2, 3, 4, 5, 6, 7]);
    }
}

#[test]
fn who_was_removed_cannot_undo_it() {
    let (mut sim, log) = eight(62);
    let hanna = Vandal { who: 7, log };
    let update = Intent::Update { log };
    let made = [(); 3].map(|()| hanna.make(&mut sim, update.clone()));
    sim.ask(ALICE, remove(log, &["hanna"])).unwrap();
    // Some have read it, some have not, when she contests it with commits that are valid by themselves.
    sim.sync(1);
    for made in made {
        made.offer(&mut sim, contesting).unwrap();
    }
    let mut cost = Cost::default();
    goes_on(
        &mut sim,
        &[5, 1, 0, 2, 3, 4, 6],
        log,
        "without her",
        &mut cost,
    );
    println!("8 members, a removal contested three times by who was removed: {cost:?}");
    assert_eq!(
        (cost.commits, cost.tokens),
        (0, 0),
        "nobody had to do anything"
    );
    for who in 0..7 {
        assert_eq!(sim.members(who, "moot").unwrap().members.len(), 7);
    }
    sim.sync(hanna.who);
    let seen = sim.conversation(hanna.who, "moot");
    assert_eq!(seen.standing, Standing::Removed);
    assert!(
        !sim.said(hanna.who, "moot")
            .iter()
            .any(|line| line.ends_with("without her"))
    );
}

#[test]
fn a_contest_of_what_is_valid_leads_nowhere() {
    let (mut sim, log) = eight(63);
    let hanna = Vandal { who: 7, log };
    for round in 0..4 {
        let made = hanna.make(&mut sim, remove(log, &["alice"]));
        sim.ask(round, Intent::Update { log }).unwrap();
        made.offer(&mut sim, contesting).unwrap();
        let mut cost = Cost::default();
        let text = format!("round {round}");
        goes_on(&mut sim, &[6, 0, 1, 2, 3], log, &text, &mut cost);
        assert_eq!(cost.commits, 0);
        sim.sync(hanna.who);
    }
    sim.sync_all();
    agree(&mut sim, &[0, 1, 2, 3, 4, 5, 6, 7]);
}

/// Two at once see that a commit is invalid. The first of them is followed by both.
#[test]
fn two_who_contest_at_once_agree() {
    let (mut sim, log) = eight(64);
    let hanna = Vandal { who: 7, log };
    hanna.spoil(&mut sim, Intent::Update { log }, junk).unwrap();
    for who in [1, 2, 3] {
        sim.begin(who, send(log, "from me")).unwrap();
    }
    sim.settle();
    sim.sync_all();
    agree(&mut sim, &[0, 1, 2, 3, 4, 5, 6, 7]);
    for who in 0..8 {
        assert_eq!(sim.said(who, "moot").len(), 3, "each once");
    }
}

/// Everybody else was away for more than a week.
#[test]
fn a_group_that_was_away_for_eight_days_goes_on() {
    let (mut sim, log) = eight(65);
    let hanna = Vandal { who: 7, log };
    hanna.spoil(&mut sim, Intent::Update { log }, junk).unwrap();
    sim.pass(8 * 24 * 3600 * 1000);
    goes_on(&mut sim, &[4, 2], log, "back", &mut Cost::default());
}

#[test]
fn a_group_of_two_hundred_names_the_vandal() {
    let (mut sim, log, mut vandals) = large(66, 200);
    let live: Vec<usize> = (0..LIVE).collect();
    type Spoil = (Intent, fn(&mut Append), &'static str);
    let spoils: [Spoil; 3] = [
        (Intent::Update { log }, junk, "random bytes"),
        (Intent::Update { log }, foreign_fence, "foreign fence"),
        (remove(log, &["m150"]), unmarked, "unmarked removal"),
    ];
    for (wish, change, text) in spoils {
        let vandal = Vandal {
            who: vandals.remove(0),
            log,
        };
        sim.sync(vandal.who);
        let made: Vec<Made> = (0..40)
            .map(|_| vandal.make(&mut sim, wish.clone()))
            .collect();
        let mut taken = 0;
        for (number, made) in made.into_iter().enumerate() {
            let offered = made.offer(&mut sim, |append| {
                change(append);
                if number >= 20 {
                    contesting(append);
                }
            });
            taken += usize::from(offered.is_ok());
        }
        assert_eq!(taken, 1, "one commit of each committer after a parent");
        let mut cost = Cost::default();
        let awake: Vec<usize> = live
            .iter()
            .copied()
            .filter(|who| *who != vandal.who)
            .collect();
        let awake: Vec<usize> = awake
            .into_iter()
            .filter(|who| sim.conversation(*who, "moot").standing == Standing::Member)
            .collect();
        goes_on(&mut sim, &awake, log, text, &mut cost);
        assert_eq!(named(&mut sim, 0), Some(format!("m{}", vandal.who)));
        println!("200 members with committers, {text}: {taken} of 40 taken, {cost:?}");
        sim.sync(vandal.who);
        assert!(is_out(&mut sim, vandal.who));
    }
}

/// A run of which everything follows from its seed: people who talk and renew keys, most of them away; one
/// who spoils, contests and lies; a network that loses and reorders, devices that lose power.
fn run(seed: u64) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let below = |rng: &mut ChaCha20Rng, bound: usize| rng.next_u32() as usize % bound;
    let people = 4 + below(&mut rng, 5);
    let mut sim = Sim::new(seed, &EIGHT[..people]);
    sim.ask(ALICE, new("moot", &EIGHT[1..people])).unwrap();
    sim.sync_all();
    let log = sim.conversation(ALICE, "moot").log;
    let vandal = Vandal {
        who: people - 1,
        log,
    };
    let honest: Vec<usize> = (0..people - 1).collect();
    let mut spoilt = 0;
    let mut said = 0;
    for step in 0..30 {
        sim.pass(below(&mut rng, 100_000) as u64);
        sim.lose = [0, 0, 9][below(&mut rng, 3)];
        sim.disorder = below(&mut rng, 2) == 0;
        sim.short_reads = below(&mut rng, 4) == 0;
        let who = below(&mut rng, honest.len());
        let act = below(&mut rng, 10);
        let member = sim.conversation(vandal.who, "moot").standing == Standing::Member;
        match act {
            0..=2 => {
                said += 1;
                let _ = sim.ask(who, send(log, &format!("step {step}")));
            }
            3 => drop(sim.ask(who, Intent::Update { log })),
            4 => {
                let at = sim.steps + 1 + below(&mut rng, 12);
                sim.crash = Some((at, CRASHES[below(&mut rng, 3)]));
                let _ = sim.ask(who, Intent::Sync);
                sim.crash = None;
            }
            5 if !member => drop(sim.ask(who, add(log, &[EIGHT[people - 1]]))),
            5 => drop(sim.ask(vandal.who, Intent::Sync)),
            _ if member => {
                (sim.lose, sim.disorder, sim.short_reads) = (0, false, false);
                let victim = below(&mut rng, honest.len());
                let contests = below(&mut rng, 2) == 0;
                // Sometimes somebody commits before it, so that it contests what is valid.
                let before = below(&mut rng, 2) == 0;
                let valid = before && below(&mut rng, 2) == 0;
                let removes = !contests && !before && below(&mut rng, 2) == 0;
                let (wish, change) = match (removes, below(&mut rng, 2)) {
                    (true, _) => (remove(log, &[EIGHT[victim]]), unmarked as fn(&mut Append)),
                    (_, 0) => (Intent::Update { log }, junk as fn(&mut Append)),
                    _ => (Intent::Update { log }, foreign_fence as fn(&mut Append)),
                };
                let Some(made) = vandal.try_make(&mut sim, wish) else {
                    continue;
                };
                if before {
                    let _ = sim.ask(who, Intent::Update { log });
                }
                let taken = made.offer(&mut sim, |append| {
                    // What is put beside a valid commit may be valid itself.
                    if !valid {
                        change(append);
                    }
                    if contests || valid {
                        contesting(append);
                    }
                });
                spoilt += u32::from(taken.is_ok());
            }
            _ => drop(sim.ask(vandal.who, Intent::Sync)),
        }
    }
    (sim.lose, sim.disorder, sim.short_reads) = (0, false, false);
    for _ in 0..3 {
        sim.pass(61_000);
        for who in &honest {
            sim.sync(*who);
        }
    }
    agree(&mut sim, &honest);
    for who in &honest {
        sim.ask(*who, send(log, "at last")).unwrap();
    }
    for who in &honest {
        sim.sync(*who);
    }
    agree(&mut sim, &honest);
    let all = sim.said(ALICE, "moot");
    for who in &honest {
        assert_eq!(sim.said(*who, "moot"), all, "{who} has read the same");
    }
    println!(
        "seed {seed}: {people} members, {spoilt} spoilt commits taken, {said} wishes to speak, all agree"
    );
}

#[test]
fn random_vandals_do_not_split_a_group() {
    let seeds = std::env::var("FOLKMOOT_SEEDS").map_or(12, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        run(seed);
    }
}
