//! Secrets that are given up are wiped: the process looks through its own memory, as the system shows it
//! in files, and does not find them. Nor does it find those of an epoch that was dropped.
//!
//! One test in a process of its own. Stacks are left out: what a function has worked with is overwritten
//! by the next that is called, no sooner.
#![cfg(all(feature = "aws-lc", target_os = "linux"))]

mod group_harness;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::Decode;
use folkmoot_mls::crypto::Secret;
use folkmoot_mls::ratchet::{Ratchet, RatchetKind};
use folkmoot_mls::records::{RecordKey, RecordKind, Records};
use folkmoot_mls::secret_tree::SecretTree;
use folkmoot_mls::tree_math::LeafIndex;
use group_harness::{Client, SUITE, group_of, suite};

/// A secret by its name, in a form in which it is not found itself.
struct Wanted {
    name: String,
    inverted: Vec<u8>,
}

impl Wanted {
    fn new(name: impl Into<String>, secret: &[u8]) -> Self {
        Self {
            name: name.into(),
            inverted: secret.iter().map(|byte| !byte).collect(),
        }
    }
}

/// How often each is found in the memory of this process, stacks left out.
fn count(wanted: &[Wanted]) -> Vec<usize> {
    const PIECE: usize = 1 << 16;
    let mut found = vec![0; wanted.len()];
    let mut buffer = vec![0_u8; PIECE + 64];
    let own = buffer.as_ptr() as usize..buffer.as_ptr() as usize + buffer.len();
    let on_stack = &raw const found as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut memory = File::open("/proc/self/mem").unwrap();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|hex| usize::from_str_radix(hex, 16).unwrap());
        let is_stack = line.ends_with("[stack]") || (start..end).contains(&on_stack);
        if !rights.starts_with("rw") || is_stack || line.contains("[v") {
            continue;
        }
        let mut place = start;
        while place < end {
            let length = (end - place).min(buffer.len());
            memory.seek(SeekFrom::Start(place as u64)).unwrap();
            if memory.read_exact(&mut buffer[..length]).is_err() {
                break;
            }
            for (count, wanted) in found.iter_mut().zip(wanted) {
                let size = wanted.inverted.len();
                for (offset, window) in buffer[..length].windows(size).enumerate() {
                    let address = place + offset;
                    let counts = offset < PIECE && !own.contains(&address);
                    let equal = || window.iter().zip(&wanted.inverted).all(|(a, b)| *a == !b);
                    if counts && window[0] == !wanted.inverted[0] && equal() {
                        *count += 1;
                    }
                }
            }
            place += PIECE;
        }
    }
    buffer.fill(0);
    found
}

/// The secrets on the way to a message, from what a client has stored at the start of an epoch.
fn way_to(client: &Client, sender: u32, kind: RatchetKind, generation: u32) -> Vec<Wanted> {
    let suite = suite(SUITE);
    let root = RecordKey::new(RecordKind::SecretTreeNode, &(client.group().epoch(), 1_u32));
    let root = client.member().records.get(&root).unwrap();
    let root = Secret::from_bytes(&root[1..]).unwrap();
    let mut wanted = vec![Wanted::new("encryption_secret", &root)];
    let leaf = SecretTree::new(root, 1).leaf(suite, sender).unwrap();
    let ratchet = Ratchet::new(suite, kind, LeafIndex(sender), &leaf);
    let key = ratchet.key(suite, generation).unwrap();
    wanted.push(Wanted::new("leaf secret", &leaf));
    wanted.push(Wanted::new("key", &key.key));
    let label = match kind {
        RatchetKind::Handshake => "handshake",
        RatchetKind::Application => "application",
    };
    let mut secret = suite.expand_with_label(&leaf, label, b"", 32);
    for step in 0..=generation {
        wanted.push(Wanted::new(format!("ratchet secret {step}"), &secret));
        secret = suite.derive_tree_secret(&secret, "secret", step, 32);
    }
    wanted
}

#[track_caller]
fn gone(wanted: &[Wanted]) {
    for (count, wanted) in count(wanted).iter().zip(wanted) {
        assert_eq!(*count, 0, "{} is still there", wanted.name);
    }
}

#[track_caller]
fn there(wanted: &[Wanted], times: usize) {
    for (count, wanted) in count(wanted).iter().zip(wanted) {
        assert!(*count >= times, "{} is there {count} times", wanted.name);
    }
}

#[test]
fn what_is_given_up_is_wiped() {
    messages();
    skipped_messages();
    key_packages();
}

/// Sending, receiving, and the end of an epoch.
fn messages() {
    for kind in RatchetKind::ALL {
        let mut clients = group_of(&["alice", "bob"]);
        let mut way = way_to(&clients[0], 1, kind, 1);
        let authenticator = clients[0].group().epoch_authenticator();
        let epoch = [Wanted::new("epoch_authenticator", authenticator)];
        // Both clients have both of these, in memory and in their records. What can be derived, nobody
        // has derived yet.
        let derived = way.split_off(1);
        there(&way, 4);
        there(&epoch, 4);
        gone(&derived);
        for _ in 0..2 {
            let message = match kind {
                RatchetKind::Application => clients[1].send(b"word").0,
                RatchetKind::Handshake => {
                    let format = WireFormat::PRIVATE_MESSAGE;
                    clients[1].propose_update(format).message
                }
            };
            clients[0].receive(&message).unwrap();
        }
        gone(&way);
        gone(&derived);
        there(&epoch, 4);
        // The next epoch: all of the old one goes.
        let pending = clients[0].commit(|commit| commit).unwrap();
        group_harness::deliver(&mut clients, 0, pending);
        gone(&epoch);
    }
}

/// Keys of messages that did not come yet stay until they do.
fn skipped_messages() {
    let mut clients = group_of(&["alice", "bob"]);
    let way = way_to(&clients[0], 1, RatchetKind::Application, 1);
    let (first, second) = (clients[1].send(b"one").0, clients[1].send(b"two").0);
    let later = clients[1].send(b"three").0;
    clients[0].receive(&later).unwrap();
    let (key, rest): (Vec<_>, Vec<_>) = way.into_iter().partition(|wanted| wanted.name == "key");
    there(&key, 2);
    gone(&rest);
    clients[0].receive(&second).unwrap();
    gone(&key);
    clients[0].receive(&first).unwrap();
}

/// The init key is of use once, and so is the key of a leaf that is replaced.
fn key_packages() {
    let mut clients = group_of(&["alice", "bob"]);
    let mut carol = Client::new("carol");
    let package = carol.key_package();
    let bundle = carol.bundle.as_ref().unwrap();
    let init_key = [Wanted::new("init key", &bundle.init_private_key)];
    let leaf_key = [Wanted::new("leaf key", &bundle.encryption_private_key)];
    there(&init_key, 1);
    let pending = clients[0].commit(|commit| commit.add(package)).unwrap();
    clients.push(carol);
    group_harness::deliver(&mut clients, 0, pending);
    gone(&init_key);
    there(&leaf_key, 2);
    let pending = clients[2].commit(|commit| commit).unwrap();
    there(&leaf_key, 2);
    group_harness::deliver(&mut clients, 2, pending);
    gone(&leaf_key);
}
