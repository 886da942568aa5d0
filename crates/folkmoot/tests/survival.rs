//! `kill -9`, of the server and of clients, at random moments while three people talk. Whoever was told
//! that a message is sent finds it in everybody's history, once; what was killed is there once or not at
//! all; everybody has the same order, and nobody is stuck. `FOLKMOOT_SEED` repeats the choices of a run,
//! though not its moments.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use common::secrets::{Witness, waits_to_be_sent};
use common::{Deadline, Person, Server, ended, folkmoot, of_kind, one_line, scale, tap, texts};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;

const SENDERS: [&str; 3] = ["alice", "bob", "charlie"];
const SIGKILL: i32 = 9;
/// Far more than anything takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);

/// Random choices, from a seed that is printed.
struct Chance(ChaCha8Rng);

impl Chance {
    fn seed() -> u64 {
        let fresh = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 % 1_000_000;
        let seed =
            std::env::var("FOLKMOOT_SEED").map_or_else(|_| fresh(), |seed| seed.parse().unwrap());
        eprintln!("FOLKMOOT_SEED={seed}");
        seed
    }

    fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u64() % limit as u64) as usize
    }

    /// Waits for up to so many milliseconds.
    fn pause(&mut self, most: usize) {
        // In microseconds, since much can happen in a millisecond.
        thread::sleep(Duration::from_micros(self.below(most * 1000) as u64));
    }
}

/// What became of one sender's messages, as far as it knows.
#[derive(Default)]
struct Fates {
    /// `send` has said that it is sent.
    acknowledged: Vec<String>,
    /// It is in the outbox.
    kept: Vec<String>,
    /// `send` was killed, and nothing is in the outbox: sent, or never begun.
    unknown: Vec<String>,
}

impl Fates {
    fn all(fates: Vec<Self>) -> Self {
        let mut all = Self::default();
        for fates in fates {
            all.acknowledged.extend(fates.acknowledged);
            all.kept.extend(fates.kept);
            all.unknown.extend(fates.unknown);
        }
        all
    }

    fn summary(&self, kills: usize, begun: Instant) {
        eprintln!(
            "{} acknowledged, {} kept, {} unknown; {kills} kills; {:.1} s",
            self.acknowledged.len(),
            self.kept.len(),
            self.unknown.len(),
            begun.elapsed().as_secs_f64()
        );
    }
}

/// How many of somebody's commands wait to be done.
fn waiting(person: &Person) -> u64 {
    let groups = person.ok(&["groups"]);
    groups["groups"][0]["waiting"].as_u64().unwrap()
}

/// Brings everybody up to date, and checks that all have read the same and what they had to.
fn agree(people: &[Person], fates: &Fates) -> Vec<String> {
    // What waits goes out in the first round, and is read in the second.
    for _ in 0..2 {
        people.iter().for_each(|person| drop(person.ok(&["sync"])));
    }
    let histories: Vec<Value> = people
        .iter()
        .map(|person| person.ok(&["read", "moot"]))
        .collect();
    let order = |history| -> Vec<(u64, String)> {
        let entries = of_kind(history, "text").into_iter();
        let place = |entry: &Value| entry["sequence"].as_u64().unwrap();
        let text = |entry: &Value| entry["text"].as_str().unwrap().to_owned();
        entries.map(|entry| (place(entry), text(entry))).collect()
    };
    for (person, history) in people.iter().zip(&histories) {
        assert_eq!(waiting(person), 0, "nothing is stuck");
        for bad in ["unreadable", "contradiction", "two_logs"] {
            assert!(of_kind(history, bad).is_empty(), "{bad}");
        }
        assert_eq!(order(history), order(&histories[0]), "one order");
    }

    let said = texts(&histories[0]);
    let once: BTreeSet<&String> = said.iter().collect();
    assert_eq!(once.len(), said.len(), "each once");
    let owed: BTreeSet<&String> = fates.acknowledged.iter().chain(&fates.kept).collect();
    let lost: Vec<_> = owed.difference(&once).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let unknown: BTreeSet<&String> = fates.unknown.iter().collect();
    let more: Vec<_> = once.difference(&owed).collect();
    assert!(more.iter().all(|text| unknown.contains(**text)), "{more:?}");
    for name in SENDERS {
        let own = said.iter().filter_map(|text| text.strip_prefix(name));
        let numbers: Vec<usize> = own.map(|number| number.trim().parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "{name} said one after the other");
    }
    said
}

/// A group of the senders, a reader and a witness.
fn moot(server: &Server, folder: &Path) -> ([Person; 4], Witness) {
    let [alice, bob, charlie] = SENDERS;
    let names = [alice, bob, charlie, "dora"];
    let people = Person::all(folder, server, names);
    let witness = Witness::of_new_group(server, "moot", &names);
    people.iter().for_each(|person| drop(person.ok(&["sync"])));
    (people, witness)
}

/// Somebody who follows all the time.
struct Follower {
    child: Child,
    texts: Receiver<String>,
}

impl Follower {
    fn start(person: &Person) -> Self {
        let mut child = person
            .command(&["--json", "read", "moot", "--follow"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // What was said before comes first.
        let deadline = Deadline::of(&child);
        let history = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        drop(deadline);
        assert!(common::texts(&history).is_empty(), "{history}");
        let (sender, texts) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap();
                if line["kind"] == "text" {
                    let _ = sender.send(line["text"].as_str().unwrap().to_owned());
                }
            }
        });
        Self { child, texts }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_killed_server_loses_nothing_that_it_has_acknowledged() {
    let (messages, kills) = (scale(120, 2000), scale(6, 60));
    let seed = Chance::seed();
    let mut chance = Chance::new(seed, 0);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("server");
    let begun = Instant::now();
    let serve = || tap::on(folkmoot(), folder.path());
    let mut server = Server::started_by(serve(), &data, "127.0.0.1:0");
    let listen = server.listen();
    let (people, mut witness) = moot(&server, folder.path());
    let follower = Follower::start(&people[3]);

    let said = AtomicUsize::new(0);
    let talk = |person: &Person, name: &str, count: usize| {
        let mut fates = Fates::default();
        for number in 0..count {
            let text = format!("{name} {number}");
            let output = person.run(&["send", "moot", &text]);
            said.fetch_add(1, Ordering::Relaxed);
            if output.status.success() {
                fates.acknowledged.push(text);
            } else {
                let line = one_line(&output);
                assert!(line.contains("is kept"), "{line}");
                fates.kept.push(text);
                thread::sleep(Duration::from_millis(100));
            }
        }
        fates
    };
    let (fates, _server) = thread::scope(|scope| {
        let senders: Vec<_> = SENDERS
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let (person, count) = (&people[at], messages * (at + 1) / 3 - messages * at / 3);
                scope.spawn(move || talk(person, name, count))
            })
            .collect();
        for kill in 0..kills {
            let at = (kill * messages + chance.below(messages)) / kills;
            let all_said = || senders.iter().all(thread::ScopedJoinHandle::is_finished);
            while said.load(Ordering::Relaxed) < at && !all_said() {
                thread::sleep(Duration::from_millis(1));
            }
            chance.pause(40);
            server.kill();
            chance.pause(100);
            server = Server::started_by(serve(), &data, &listen);
        }
        let fates = senders.into_iter().map(|sender| sender.join().unwrap());
        (Fates::all(fates.collect()), server)
    });
    fates.summary(kills, begun);
    assert_eq!(fates.acknowledged.len() + fates.kept.len(), messages);
    assert!(fates.acknowledged.len() > messages / 2, "they get through");

    let read = agree(&people, &fates);
    assert_eq!(read.len(), messages);
    let used = witness.used(&tap::received(folder.path(), "delivery"));
    assert!(used.applications >= fates.acknowledged.len(), "{used:?}");
    let mut followed = Vec::new();
    while followed.len() < messages {
        let Ok(text) = follower.texts.recv_timeout(PATIENCE) else {
            panic!("who follows has read {} of {messages}", followed.len());
        };
        followed.push(text);
    }
    assert_eq!(followed, read, "who follows reads the same");
    assert!(follower.texts.try_recv().is_err(), "and no more");
    eprintln!(
        "{messages} read by four, after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
}

/// Runs a command that is killed after up to so many milliseconds, unless it ends before.
fn killed(person: &Person, arguments: &[&str], most: usize, chance: &mut Chance) -> Output {
    let mut child = person
        .command(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    chance.pause(most);
    child.kill().unwrap();
    ended(child)
}

/// What became of a `send` of this text.
fn note(fates: &mut Fates, person: &Person, text: String, output: &Output) {
    // It says so when it has the receipt, and may be killed after that.
    if output.status.success() || !output.stdout.is_empty() {
        fates.acknowledged.push(text);
    } else {
        assert_eq!(
            output.status.signal(),
            Some(SIGKILL),
            "{}",
            one_line(output)
        );
        if waits_to_be_sent(person, &text) {
            fates.kept.push(text);
        } else {
            fates.unknown.push(text);
        }
    }
}

#[test]
fn a_killed_client_goes_on_where_it_was() {
    /// About as long as a command takes, in milliseconds.
    const COMMAND: usize = 60;
    let (messages, kills) = (scale(90, 2000), scale(24, 300));
    let seed = Chance::seed();
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let data = folder.path().join("server");
    let server = Server::started_by(tap::on(folkmoot(), folder.path()), &data, "127.0.0.1:0");
    let (people, mut witness) = moot(&server, folder.path());
    let landed = AtomicUsize::new(0);
    let count = |output: &Output| {
        landed.fetch_add(
            usize::from(output.status.signal().is_some()),
            Ordering::Relaxed,
        );
    };
    let talk = |at: usize| {
        let mut chance = Chance::new(seed, at as u64);
        let (person, mut fates) = (&people[at], Fates::default());
        for number in 0..messages * (at + 1) / 3 - messages * at / 3 {
            let text = format!("{} {number}", SENDERS[at]);
            let arguments = ["send", "moot", &text];
            let output = if chance.below(messages) < kills {
                let output = killed(person, &arguments, COMMAND, &mut chance);
                count(&output);
                output
            } else {
                person.run(&arguments)
            };
            note(&mut fates, person, text, &output);
            // Other commands are killed too; what they have begun goes on as well.
            let others = [&["update", "moot"][..], &["sync"], &["read", "moot"]];
            if chance.below(messages * 2) < kills {
                let other = others[chance.below(others.len())];
                count(&killed(person, other, COMMAND, &mut chance));
            }
        }
        fates
    };

    let fates = thread::scope(|scope| {
        let talk = &talk;
        let senders: Vec<_> = (0..3).map(|at| scope.spawn(move || talk(at))).collect();
        let mut chance = Chance::new(seed, 3);
        let reader = &people[3];
        while !senders.iter().all(thread::ScopedJoinHandle::is_finished) {
            count(&killed(reader, &["sync"], 2 * COMMAND, &mut chance));
            reader.ok(&["sync"]);
            chance.pause(500);
        }
        let fates = senders.into_iter().map(|sender| sender.join().unwrap());
        Fates::all(fates.collect())
    });
    let landed = landed.load(Ordering::Relaxed);
    fates.summary(landed, begun);
    assert!(landed > 0, "somebody was killed");

    agree(&people, &fates);
    let used = witness.used(&tap::received(folder.path(), "delivery"));
    assert!(used.applications >= fates.acknowledged.len(), "{used:?}");
    eprintln!("{used:?}");
    // Nobody is stuck.
    let last = ["alice last", "bob last", "charlie last"];
    for (person, text) in people.iter().zip(last) {
        person.ok(&["send", "moot", text]);
    }
    for person in &people {
        assert!(texts(&person.ok(&["read", "moot"])).ends_with(&last.map(str::to_owned)));
    }
    eprintln!("all read, after {:.1} s", begun.elapsed().as_secs_f64());
}
