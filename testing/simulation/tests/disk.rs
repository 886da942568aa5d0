//! What was used is not on the disk any more. A client runs on the file that is shipped; then every page
//! of the file and of its write-ahead log is decrypted, free pages included, and searched for each secret
//! that the run has seen and that should be gone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey};
use folkmoot_client::logic::Intent;
use folkmoot_client::store::{Sqlite, Store, StoreError, Table};
use folkmoot_client::{Standing, What};
use folkmoot_mls::codec::{Bytes, Decode, Reader};
use folkmoot_mls::crypto::{Secret, Suite};
use folkmoot_mls::group_context::GroupContext;
use folkmoot_mls::key_package::KeyPackageBundle;
use folkmoot_mls::ratchet::{Ratchet, RatchetKind};
use folkmoot_mls::records::RecordKind;
use folkmoot_mls::secret_tree::SecretTree;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::sealed::suite;
use folkmoot_simulation::{Disk, Sim, Tap, add, leave, new, remove, send};

const BOB: usize = 0;
/// Whose disk it is.
const ALICE: usize = 1;
const CHARLIE: usize = 2;
const DORA: usize = 3;

const KEY: [u8; 32] = [0x5a; 32];

/// More messages of one kind than anybody sends in one epoch.
const MOST: u32 = 16;

/// How much of a secret is searched for: its first and its last bytes, so that one that lies across
/// two pages is found too.
const PART: usize = 16;

type Part = [u8; PART];

fn parts(secret: &[u8]) -> [Part; 2] {
    let first = secret[..PART].try_into().expect("its length");
    let last = secret[secret.len() - PART..]
        .try_into()
        .expect("its length");
    [first, last]
}

/// Decrypts a page as SQLCipher 4 encrypts it: AES-256 in CBC mode, the IV and a MAC of 64 bytes at
/// the end. A file's first page begins with 16 bytes of salt.
fn decrypt(page: &[u8]) -> Vec<u8> {
    const RESERVED: usize = 80;
    let (body, reserved) = page.split_at(page.len() - RESERVED);
    let mut plain = body.to_vec();
    let key = UnboundCipherKey::new(&AES_256, &KEY).unwrap();
    let key = DecryptingKey::ecb(key).unwrap();
    key.decrypt(&mut plain, DecryptionContext::None).unwrap();
    let before = reserved[..16].iter().chain(body);
    for (byte, before) in plain.iter_mut().zip(before) {
        *byte ^= before;
    }
    plain
}

/// Every page of the store and of its write-ahead log, in clear.
fn pages(path: &Path) -> Vec<Vec<u8>> {
    const PAGE: usize = 4096;
    const LOG_HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let file = std::fs::read(path).unwrap();
    assert!(!file.is_empty() && file.len().is_multiple_of(PAGE));
    let log = std::fs::read(path.with_extension("db-wal")).unwrap_or_default();
    let frames = log.get(LOG_HEADER..).unwrap_or_default();
    let frames = frames.chunks_exact(FRAME_HEADER + PAGE);
    let mut pages: Vec<_> = file.chunks_exact(PAGE).map(decrypt).collect();
    pages.extend(frames.map(|frame| decrypt(&frame[FRAME_HEADER..])));
    pages
}

/// Secrets by what they are.
#[derive(Default)]
struct Secrets(BTreeMap<&'static str, BTreeSet<Vec<u8>>>);

impl Secrets {
    fn add(&mut self, what: &'static str, secret: &[u8]) {
        assert!(secret.len() >= PART, "{what}");
        self.0.entry(what).or_default().insert(secret.to_vec());
    }

    /// How many of each kind some bytes hold.
    fn found_in<'a>(
        &self,
        places: impl Iterator<Item = &'a [u8]>,
    ) -> BTreeMap<&'static str, usize> {
        let mut known = HashMap::new();
        for (what, secrets) in &self.0 {
            for secret in secrets {
                for part in parts(secret) {
                    known.insert(part, (*what, secret));
                }
            }
        }
        let mut found: HashSet<(&'static str, &Vec<u8>)> = HashSet::new();
        for place in places {
            found.extend(place.windows(PART).filter_map(|window| known.get(window)));
        }
        let mut counts = BTreeMap::new();
        for (what, _) in found {
            *counts.entry(what).or_insert(0) += 1;
        }
        counts
    }
}

/// What Alice's device has written at any time, as records of the engine.
struct Record {
    kind: u8,
    /// The rest of the key.
    rest: Vec<u8>,
    /// Without the version.
    value: Vec<u8>,
}

fn record(key: &[u8], value: &[u8]) -> Record {
    Record {
        kind: key[32],
        rest: key[33..].to_vec(),
        value: value[1..].to_vec(),
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Byte strings of 32 bytes with their length in front, one after another as far as they go.
fn strings(bytes: &[u8]) -> Vec<&[u8]> {
    let strings = bytes.chunks_exact(33);
    strings
        .take_while(|string| string[0] == 32)
        .map(|string| &string[1..])
        .collect()
}

/// The epoch of a group's record, and the epoch's secrets.
fn group_secrets(value: &[u8]) -> (u64, Vec<&[u8]>) {
    let mut reader = Reader::new(value);
    let context = GroupContext::decode(&mut reader).unwrap();
    for _ in 0..2 {
        Bytes::decode(&mut reader).unwrap();
    }
    u8::decode(&mut reader).unwrap();
    u32::decode(&mut reader).unwrap();
    let (kept, active) = reader.rest().split_at(3 * 33);
    // The others are there as long as the group goes on, as it does here.
    assert_eq!(active[0], 1);
    (
        context.epoch,
        [strings(kept), strings(&active[1..])].concat(),
    )
}

/// What should be gone, and what should be there.
#[derive(Default)]
struct Sorted {
    gone: Secrets,
    there: Secrets,
}

const KEYS_OF_NODES: &str = "private keys of the tree that were replaced";

/// Sorts what the run has seen. `live` are the rows that Alice has in the end.
fn sort(tap: &Tap, drawn: &[[u8; 32]], live: &[(Table, Vec<u8>, Vec<u8>)]) -> Sorted {
    let mut sorted = Sorted::default();
    let is_live = |table: Table, key: &[u8]| {
        let is_it = |(of, live, _): &&(Table, Vec<u8>, Vec<u8>)| *of == table && live == key;
        live.iter()
            .find(is_it)
            .map(|(_, _, value)| value.as_slice())
    };
    let records = |table: Table| {
        let rows = tap.written.iter().filter(move |row| row.table == table);
        rows.map(|row| (row.key.as_slice(), row.value.as_slice()))
    };
    // The last group that was written is the current one.
    let groups: Vec<_> = records(Table::Records)
        .map(|(key, value)| record(key, value))
        .filter(|record| record.kind == RecordKind::Group as u8)
        .collect();
    let (current, now) = group_secrets(&groups.last().unwrap().value);
    assert!(current > 10, "{current}");
    for group in &groups {
        let (epoch, secrets) = group_secrets(&group.value);
        // exporter, resumption, authenticator, external, membership, init: those of the engine's record.
        assert!(secrets.len() >= 6);
        let labels = [
            "exporter",
            "resumption",
            "",
            "external",
            "membership",
            "init",
        ];
        for (label, secret) in labels.into_iter().zip(secrets) {
            match label {
                // The resumption secret may stay for some epochs, the authenticator is shown to all.
                "resumption" | "" => {}
                label if epoch < current => sorted.gone.add(label, secret),
                label => sorted.there.add(label, secret),
            }
        }
    }
    assert!(now.len() >= 6);

    // From the encryption secrets all that was ever derived from them.
    let mut heights = BTreeMap::new();
    let mut roots = BTreeMap::new();
    for (key, value) in records(Table::Records) {
        let Record { kind, rest, value } = record(key, value);
        let epoch = if rest.len() >= 8 {
            number(&rest[..8])
        } else {
            0
        };
        let past = epoch < current;
        if kind == RecordKind::MessageKeys as u8 {
            let mut reader = Reader::new(&value);
            GroupContext::decode(&mut reader).unwrap();
            LeafIndex::decode(&mut reader).unwrap();
            heights.insert(epoch, u32::from(u8::decode(&mut reader).unwrap()));
            let secret = Option::<Secret>::decode(&mut reader).unwrap();
            let secret = secret.expect("the group goes on");
            let list = if past {
                &mut sorted.gone
            } else {
                &mut sorted.there
            };
            list.add("sender data secrets", &secret);
        } else if kind == RecordKind::SecretTreeNode as u8 {
            let secret = Secret::from_bytes(&value).unwrap();
            if past || is_live(Table::Records, key).is_none() {
                sorted.gone.add("nodes of secret trees", &secret);
            } else {
                sorted.there.add("nodes of secret trees", &secret);
            }
            if number(&rest[8..]) == 1 {
                roots.insert(epoch, secret);
            }
        } else if kind == RecordKind::Ratchet as u8 {
            let secret = strings(&value[8..])[0];
            // Of the current epoch too what is there has moved on.
            if past || is_live(Table::Records, key).is_none_or(|live| live[1..] != value) {
                sorted.gone.add("ratchets", secret);
            } else {
                sorted.there.add("ratchets", secret);
            }
        } else if kind == RecordKind::Exporter as u8 && past {
            let secrets = value.windows(33).filter(|window| window[0] == 32);
            // Whatever looks like a string of that length, and is one.
            let secrets = secrets.map(|window| &window[1..]);
            let secrets = secrets.filter(|secret| looks_random(secret));
            secrets.for_each(|secret| sorted.gone.add("exporter trees", secret));
        }
    }
    let suite = suite();
    for (epoch, root) in &roots {
        let tree = SecretTree::new(root.clone(), heights[epoch]);
        for leaf in 0..1 << heights[epoch] {
            let secret = tree.leaf(suite, leaf).unwrap();
            sorted.gone_if(*epoch < current, "leaves of secret trees", &secret);
            for kind in RatchetKind::ALL {
                let ratchet = Ratchet::new(suite, kind, LeafIndex(leaf), &secret);
                let live = live_ratchet(*epoch, leaf, kind, live);
                for generation in 0..MOST {
                    let key = ratchet.key(suite, generation).unwrap().key;
                    let used = live
                        .as_ref()
                        .is_some_and(|live| live.key(suite, generation).is_err());
                    let skipped = live.as_ref().is_some_and(|live| {
                        generation < live.generation() && live.key(suite, generation).is_ok()
                    });
                    sorted.gone_if(*epoch < current || used, "message keys", &key);
                    if *epoch == current && skipped {
                        sorted.there.add("skipped message keys", &key);
                    }
                }
            }
        }
    }
    for (key, seed) in records(Table::Fences) {
        if number(&key[32..]) < current {
            sorted.gone.add("fence keys", seed);
        } else {
            sorted.there.add("fence keys", seed);
        }
    }
    sort_private_keys(&mut sorted, tap, drawn, live, suite);
    sorted
}

impl Sorted {
    fn gone_if(&mut self, gone: bool, what: &'static str, secret: &[u8]) {
        if gone {
            self.gone.add(what, secret);
        }
    }
}

fn looks_random(bytes: &[u8]) -> bool {
    bytes.iter().collect::<HashSet<_>>().len() > bytes.len() / 2
}

fn live_ratchet(
    epoch: u64,
    leaf: u32,
    kind: RatchetKind,
    live: &[(Table, Vec<u8>, Vec<u8>)],
) -> Option<Ratchet> {
    let rows = live.iter().filter(|(table, _, _)| *table == Table::Records);
    let mut records = rows.map(|(_, key, value)| record(key, value));
    let name = [&epoch.to_be_bytes()[..], &leaf.to_be_bytes(), &[kind as u8]].concat();
    let found =
        records.find(|record| record.kind == RecordKind::Ratchet as u8 && record.rest == name)?;
    Some(Ratchet::from_bytes(&found.value).unwrap())
}

/// Init keys, keys of leaves and nodes, and the path secrets that they came from.
fn sort_private_keys(
    sorted: &mut Sorted,
    tap: &Tap,
    drawn: &[[u8; 32]],
    live: &[(Table, Vec<u8>, Vec<u8>)],
    suite: &dyn Suite,
) {
    for row in tap
        .written
        .iter()
        .filter(|row| row.table == Table::Packages)
    {
        let mut reader = Reader::new(&row.value[2..]);
        let bundle = KeyPackageBundle::decode(&mut reader).unwrap();
        let is_kept = |(table, key, _): &(Table, Vec<u8>, Vec<u8>)| {
            *table == Table::Packages && *key == row.key
        };
        if live.iter().any(is_kept) {
            sorted.there.add("init keys", &bundle.init_private_key);
        } else {
            sorted.gone.add("init keys", &bundle.init_private_key);
        }
    }
    // Private keys are those strings whose public key stands behind them.
    let pairs = |value: &[u8]| -> Vec<[Vec<u8>; 2]> {
        let at = (0..value.len().saturating_sub(65)).filter(|at| {
            value[*at] == 32 && value[at + 33] == 32 && {
                let public = suite.kem_public_key(&value[at + 1..at + 33]);
                public.is_ok_and(|public| public[..] == value[at + 34..at + 66])
            }
        });
        at.map(|at| {
            [
                value[at + 1..at + 33].to_vec(),
                value[at + 34..at + 66].to_vec(),
            ]
        })
        .collect()
    };
    let of_records = |rows: Vec<(&[u8], &[u8])>, kind: RecordKind| -> Vec<Record> {
        let records = rows.into_iter().map(|(key, value)| record(key, value));
        records.filter(|record| record.kind == kind as u8).collect()
    };
    let now: Vec<_> = live
        .iter()
        .filter(|(table, _, _)| *table == Table::Records)
        .map(|(_, key, value)| (key.as_slice(), value.as_slice()))
        .collect();
    let ever: Vec<_> = tap
        .written
        .iter()
        .filter(|row| row.table == Table::Records)
        .map(|row| (row.key.as_slice(), row.value.as_slice()))
        .collect();
    let tree: Vec<u8> = of_records(now.clone(), RecordKind::TreeChunk)
        .into_iter()
        .flat_map(|record| record.value)
        .collect();
    let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let mut kept = BTreeSet::new();
    for [private, public] in of_records(now, RecordKind::PrivateKeys)
        .iter()
        .flat_map(|record| pairs(&record.value))
    {
        // Every private key that is kept is one of a node of the current tree.
        assert!(holds(&tree, &public), "a replaced private key is kept");
        sorted.there.add("private keys of the tree", &private);
        kept.insert(private);
    }
    for [private, _] in of_records(ever.clone(), RecordKind::PrivateKeys)
        .iter()
        .flat_map(|record| pairs(&record.value))
        .filter(|[private, _]| !kept.contains(private))
    {
        sorted.gone.add(KEYS_OF_NODES, &private);
    }
    // Of what anybody has drawn the path secrets are those that lead to a key of a tree.
    let trees: HashSet<Vec<u8>> = of_records(ever, RecordKind::TreeChunk)
        .iter()
        .flat_map(|record| {
            record
                .value
                .windows(32)
                .map(<[u8]>::to_vec)
                .collect::<Vec<_>>()
        })
        .collect();
    for drawn in drawn {
        let mut secret = Secret::from(drawn.to_vec());
        for _ in 0..3 {
            let pair = suite.kem_derive_key_pair(&suite.derive_secret(&secret, "node"));
            if !trees.contains(&pair.public_key()[..]) {
                break;
            }
            sorted.gone.add("path secrets", &secret);
            secret = suite.derive_secret(&secret, "path");
        }
    }
}

/// Which rows are not deleted.
type Forgotten = fn(Table, &[u8]) -> bool;

/// What is broken on purpose.
#[derive(Clone, Copy, Debug)]
enum Broken {
    /// What is deleted is only marked as free.
    SecureDelete,
    /// The write-ahead log is not emptied.
    Log,
    /// The device forgets to delete some rows.
    Rows(Forgotten),
}

/// How a call of Charlie's or Bob's goes wrong: the service is sent half of it, and refuses it for good.
fn spoil(sim: &mut Sim, whose: usize) -> Arc<Mutex<Option<Call>>> {
    let spoilt = Arc::new(Mutex::new(None));
    let keep = spoilt.clone();
    sim.meddle = Some(Box::new(move |who, call| {
        let whole = call.clone();
        if let (true, Call::Append(request)) = (who == whose, call) {
            request.append.truncate(9);
            *keep.lock().unwrap() = Some(whole);
        }
    }));
    spoilt
}

/// A message that is given up, and the next one. Returns the one that was given up.
fn skip(sim: &mut Sim, who: usize, log: LogId, text: &str) -> Call {
    let spoilt = spoil(sim, who);
    assert!(sim.ask(who, send(log, "given up")).is_err());
    sim.meddle = None;
    sim.ask(who, send(log, text)).unwrap();
    spoilt.lock().unwrap().take().unwrap()
}

/// A message that a commit of Alice's overtakes.
fn overtake(sim: &mut Sim, log: LogId) {
    sim.begin(BOB, send(log, "late")).unwrap();
    sim.deliver_until_append();
    sim.hold(BOB);
    sim.ask(ALICE, Intent::Update { log }).unwrap();
    sim.release();
    sim.settle();
    sim.sync(BOB);
    sim.sync(ALICE);
}

/// All that a device goes through. Everybody's random values are remembered, and what Alice writes.
fn live(sim: &mut Sim) {
    sim.ask(BOB, new("moot", &["alice"])).unwrap();
    sim.sync(ALICE);
    let log = sim.conversation(ALICE, "moot").log;
    for epoch in 0..9 {
        for number in 0..3 {
            sim.ask(BOB, send(log, &format!("bob {epoch} {number}")))
                .unwrap();
            sim.ask(ALICE, send(log, &format!("alice {epoch} {number}")))
                .unwrap();
        }
        let who = [ALICE, BOB][epoch % 2];
        match epoch {
            2 => sim.ask(ALICE, add(log, &["charlie", "dora"])).unwrap(),
            3 => {
                sim.sync_all();
                // A message is skipped, and comes after the next one.
                let late = skip(sim, CHARLIE, log, "before it");
                sim.sync(ALICE);
                let answer = sim.ask_delivery(late);
                assert!(matches!(answer, Ok(Answer::Append(_))), "{answer:?}");
                sim.sync(ALICE);
                assert!(
                    sim.said(ALICE, "moot")
                        .contains(&"charlie: given up".to_owned())
                );
                // Another one never comes.
                skip(sim, BOB, log, "after nothing");
                sim.sync(ALICE);
                overtake(sim, log);
            }
            4 => sim.ask(DORA, leave(log)).unwrap(),
            5 => {
                sim.sync(ALICE);
                sim.ask(BOB, remove(log, &["charlie"])).unwrap();
            }
            // A process is killed.
            7 => sim.restart(ALICE),
            8 => overtake(sim, log),
            _ => {}
        }
        sim.ask(who, Intent::Update { log }).unwrap();
        sim.sync(DORA);
    }
    assert_eq!(sim.conversation(DORA, "moot").standing, Standing::Left);
    assert_eq!(sim.members(ALICE, "moot").unwrap().members.len(), 2);
    sim.sync_all();
    // Past any grace; what comes then tells Alice the time. One key stays skipped.
    sim.pass(10 * 60 * 1000);
    skip(sim, BOB, log, "later");
    sim.sync(ALICE);
    sim.ask(ALICE, send(log, "the end")).unwrap();
    let unreadable = |what: &What| matches!(what, What::Unreadable(_));
    let history = sim.history(ALICE, "moot");
    assert!(!history.iter().any(|line| unreadable(&line.what)));
    assert!(sim.said(ALICE, "moot").len() >= 9 * 6 + 5);
}

/// Lives, and looks for what should be gone. Returns what was found.
fn leftovers(broken: Option<Broken>) -> BTreeMap<&'static str, usize> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let opened: fn(&mut Sqlite) = match broken {
        Some(Broken::SecureDelete) => |store| store.keep_deleted().unwrap(),
        Some(Broken::Log) => Sqlite::keep_log,
        _ => |_| (),
    };
    let mut disk = Disk::file(path.clone(), KEY, opened).unwrap();
    let mut sim = Sim::empty(31);
    sim.drawn = Some(Vec::new());
    for (who, name) in ["bob", "alice", "charlie", "dora"].into_iter().enumerate() {
        if who == ALICE {
            sim.join_on(name, std::mem::replace(&mut disk, Disk::memory()));
            sim.person(ALICE).tap = Some(Tap {
                forgotten: match broken {
                    Some(Broken::Rows(forgotten)) => Some(forgotten),
                    _ => None,
                },
                ..Tap::default()
            });
        } else {
            sim.join(name);
        }
        let intent = sim.registration(name);
        sim.ask(who, intent).unwrap();
    }
    live(&mut sim);

    let mut live = Vec::new();
    for table in Table::ALL {
        let rows = sim.person(ALICE).store.rows(*table).unwrap();
        live.extend(
            rows.into_iter()
                .map(|(key, value)| (*table, key, value.to_vec())),
        );
    }
    let tap = sim.person(ALICE).tap.take().unwrap();
    let drawn = sim.drawn.take().unwrap();
    let Sorted { gone, there } = sort(&tap, &drawn, &live);
    let pages = pages(&path);
    let pages = || pages.iter().map(Vec::as_slice);
    // What is there is found, so that the search is one.
    let found = there.found_in(pages());
    for (what, secrets) in &there.0 {
        println!("{} {what} are there", secrets.len());
        assert_eq!(found.get(what), Some(&secrets.len()), "{what}");
    }
    assert_eq!(there.0["skipped message keys"].len(), 1);
    // Of each kind there was something to be forgotten.
    for (what, least) in [
        ("message keys", 300),
        ("ratchets", 40),
        ("nodes of secret trees", 20),
        ("leaves of secret trees", 20),
        ("sender data secrets", 10),
        ("init", 10),
        ("exporter", 10),
        ("exporter trees", 100),
        ("fence keys", 10),
        ("init keys", 1),
        (KEYS_OF_NODES, 10),
        ("path secrets", 10),
    ] {
        let count = gone.0.get(what).map_or(0, BTreeSet::len);
        println!("{count} {what} were used");
        assert!(count >= least, "{count} {what}");
    }
    let found = gone.found_in(pages());
    if broken.is_none() {
        // Nothing else that rows with secrets once held is there, whatever it was.
        let rest = others(&tap, &live);
        assert!(rest.0["rows"].len() > 1000);
        assert_eq!(rest.found_in(pages()), BTreeMap::new());
    }
    found
}

/// The parts of rows with secrets that look random and that no row holds now.
fn others(tap: &Tap, live: &[(Table, Vec<u8>, Vec<u8>)]) -> Secrets {
    const LENGTH: usize = 28;
    let mut known: HashSet<&[u8]> = HashSet::new();
    // In the file a row's value comes right behind its key.
    let rows: Vec<_> = live
        .iter()
        .map(|(_, key, value)| [&key[..], value].concat())
        .collect();
    for row in &rows {
        known.extend(row.windows(PART));
    }
    let mut others = Secrets::default();
    for row in &tap.written {
        for window in row.value.windows(LENGTH).step_by(4) {
            let is_gone = !window.windows(PART).any(|part| known.contains(part));
            if is_gone && looks_random(window) {
                others.add("rows", window);
            }
        }
    }
    others
}

#[test]
fn nothing_that_was_used_is_on_the_disk() {
    assert_eq!(leftovers(None), BTreeMap::new());
}

#[test]
fn what_a_careless_disk_keeps_is_found() {
    // Free space is used again, a log is only written on.
    let some = ["ratchets", "exporter trees"];
    let most = [
        "ratchets",
        "exporter trees",
        "init keys",
        "fence keys",
        "init",
    ];
    for (broken, least) in [(Broken::SecureDelete, &some[..]), (Broken::Log, &most)] {
        let found = leftovers(Some(broken));
        println!("{broken:?}: {found:?}");
        for what in least {
            assert!(found.contains_key(what), "{broken:?}: {what}");
        }
    }
}

#[test]
fn what_a_device_forgets_to_delete_is_found() {
    let rows: [(&str, Forgotten); 3] = [
        ("fence keys", |table, _| table == Table::Fences),
        ("ratchets", |table, key| {
            table == Table::Records && key.get(32) == Some(&(RecordKind::Ratchet as u8))
        }),
        ("exporter trees", |table, key| {
            table == Table::Records && key.get(32) == Some(&(RecordKind::Exporter as u8))
        }),
    ];
    for (what, forgotten) in rows {
        let found = leftovers(Some(Broken::Rows(forgotten)));
        assert!(found.contains_key(what), "{what}: {found:?}");
    }
}

#[test]
fn what_is_planted_is_found_until_it_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut disk = Disk::file(path.clone(), KEY, |_| ()).unwrap();
    let planted: Vec<u8> = (1..=64).map(|byte: u8| byte.wrapping_mul(37)).collect();
    let mut secrets = Secrets::default();
    secrets.add("planted", &planted);
    let found = |path| {
        secrets
            .found_in(pages(path).iter().map(Vec::as_slice))
            .len()
    };
    let put: Result<(), StoreError> =
        disk.transaction(|tx| tx.put(Table::Records, b"planted", &planted));
    put.unwrap();
    assert_eq!(found(&path), 1);
    let deleted: Result<(), StoreError> =
        disk.transaction(|tx| tx.delete(Table::Records, b"planted"));
    deleted.unwrap();
    assert_eq!(found(&path), 0);
}
