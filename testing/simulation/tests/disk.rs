//! What was used is not on the disk any more: every page of a device's store and of its write-ahead log
//! is decrypted, free pages included, and searched.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey};
use folkmoot_client::key::StoreKey;
use folkmoot_client::logic::Intent;
use folkmoot_client::store::{MemoryStore, Sqlite, Store, StoreError, Table};
use folkmoot_simulation::{Sim, add, new, remove, send};

const ALICE: usize = 0;
const BOB: usize = 1;
const CHARLIE: usize = 2;

const KEY: [u8; 32] = [0x5a; 32];

/// As long as the shortest secret that is looked for: keys of 16 bytes are stored with their nonces.
const WINDOW: usize = 28;

type Window = [u8; WINDOW];
type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// The parts of a value that look like secrets: of so many different bytes.
fn windows(value: &[u8]) -> impl Iterator<Item = Window> + '_ {
    value.windows(WINDOW).filter_map(|window| {
        let different: HashSet<_> = window.iter().collect();
        (different.len() > WINDOW / 2).then(|| window.try_into().expect("its length"))
    })
}

fn rows(store: &mut MemoryStore) -> Rows {
    let read = store.transaction::<_, StoreError>(|tx| {
        let mut rows = Rows::new();
        for table in Table::ALL {
            for (key, value) in tx.scan(*table, &[], None, usize::MAX)? {
                rows.insert((*table, key), value.to_vec());
            }
        }
        Ok(rows)
    });
    read.unwrap()
}

/// A device's store on the disk, transaction by transaction as the one in memory.
struct Mirror {
    disk: Sqlite,
    rows: Rows,
    /// What rows with secrets once held.
    held: HashSet<Window>,
}

impl Mirror {
    fn follow(&mut self, store: &mut MemoryStore) {
        let now = rows(store);
        if now == self.rows {
            return;
        }
        let (disk, before, held) = (&mut self.disk, &self.rows, &mut self.held);
        let written: Result<(), StoreError> = disk.transaction(|tx| {
            for ((table, key), value) in before {
                let after = now.get(&(*table, key.clone()));
                if after != Some(value) && table.holds_secrets() {
                    held.extend(windows(value));
                }
                if after.is_none() {
                    tx.delete(*table, key)?;
                }
            }
            for ((table, key), value) in &now {
                if before.get(&(*table, key.clone())) != Some(value) {
                    tx.put(*table, key, value)?;
                }
            }
            Ok(())
        });
        written.unwrap();
        self.rows = now;
    }

    /// What was held, and of which no row has any part now.
    fn gone(&self) -> HashSet<Window> {
        const PART: usize = 16;
        let live = self.rows.iter().flat_map(|((_, key), value)| {
            let parts = key.windows(PART).chain(value.windows(PART));
            parts.map(<[u8]>::to_vec)
        });
        let live: HashSet<Vec<u8>> = live.collect();
        let is_gone = |window: &&Window| !window.windows(PART).any(|part| live.contains(part));
        self.held.iter().filter(is_gone).copied().collect()
    }
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

/// How many of these are on the disk.
fn found(path: &Path, secrets: &HashSet<Window>) -> usize {
    let pages = pages(path);
    let windows = pages.iter().flat_map(|page| windows(page));
    windows.filter(|window| secrets.contains(window)).count()
}

fn ask(sim: &mut Sim, mirror: &mut Mirror, who: usize, intent: Intent) {
    sim.begin(who, intent).unwrap();
    mirror.follow(&mut sim.person(ALICE).store);
    while sim.deliver() {
        mirror.follow(&mut sim.person(ALICE).store);
    }
}

#[test]
fn nothing_that_was_used_is_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let disk = Sqlite::open(&path, &StoreKey::from_bytes(KEY.into())).unwrap();
    let mut mirror = Mirror {
        disk,
        rows: Rows::new(),
        held: HashSet::new(),
    };
    let mut sim = Sim::new(31, &["alice", "bob", "charlie"]);
    let mut go = |sim: &mut Sim, who, intent| ask(sim, &mut mirror, who, intent);

    // Alice joins with an init key, reads and sends in several epochs.
    go(&mut sim, BOB, new("moot", &["alice"]));
    go(&mut sim, ALICE, Intent::Sync);
    let log = sim.conversation(ALICE, "moot").log;
    for epoch in 0..8 {
        for number in 0..3 {
            go(&mut sim, BOB, send(log, &format!("bob {epoch} {number}")));
            go(
                &mut sim,
                ALICE,
                send(log, &format!("alice {epoch} {number}")),
            );
        }
        let who = [ALICE, BOB][epoch % 2];
        let intent = match epoch {
            2 => add(log, &["charlie"]),
            5 => remove(log, &["charlie"]),
            _ => Intent::Update { log },
        };
        go(&mut sim, who, intent);
        go(&mut sim, CHARLIE, Intent::Sync);
    }
    // Past any grace; what comes then tells Alice the time.
    sim.pass(10 * 60 * 1000);
    go(&mut sim, BOB, send(log, "later"));
    go(&mut sim, ALICE, Intent::Sync);
    go(&mut sim, ALICE, send(log, "the end"));
    assert_eq!(sim.said(ALICE, "moot").len(), 2 * 3 * 8 + 2);

    // What is there is found, so that the search is one.
    let kept = mirror
        .rows
        .iter()
        .filter(|((table, _), _)| *table == Table::Fences);
    let kept: HashSet<Window> = kept.flat_map(|(_, seed)| windows(seed)).collect();
    assert!(!kept.is_empty());
    assert!(found(&path, &kept) >= kept.len());
    // What was planted is found until it is deleted.
    let planted: Vec<u8> = (1..=64).map(|byte: u8| byte.wrapping_mul(37)).collect();
    let secret: HashSet<Window> = windows(&planted).collect();
    let put: Result<(), StoreError> = mirror
        .disk
        .transaction(|tx| tx.put(Table::Records, b"planted", &planted));
    put.unwrap();
    assert!(found(&path, &secret) > 0);
    let deleted: Result<(), StoreError> = mirror
        .disk
        .transaction(|tx| tx.delete(Table::Records, b"planted"));
    deleted.unwrap();
    assert_eq!(found(&path, &secret), 0);

    let gone = mirror.gone();
    assert!(gone.len() > 1000, "{} secrets were used", gone.len());
    assert_eq!(found(&path, &gone), 0);
}
