//! Secrets that are given up are wiped: the process looks through its own memory, as the system shows it
//! in files, and does not find them. Nor does it find those of an epoch that was dropped.
//!
//! One test in a process of its own. Stacks are left out: what a function has worked with is overwritten
//! by the next that is called, no sooner.
#![cfg(all(feature = "aws-lc", target_os = "linux"))]

mod group_harness;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::{Bytes, Decode, Reader};
use folkmoot_mls::crypto::{HpkeKeyPair, Secret};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group_context::GroupContext;
use folkmoot_mls::key_schedule::{EpochSecrets, joiner_secret, member_secret};
use folkmoot_mls::proposal::ReInit;
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
    groups_that_end();
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

/// After a ReInit nothing is sent any more, so what messages and commits would take goes with it.
fn groups_that_end() {
    let suite = suite(SUITE);
    let mut clients = group_of(&["alice", "bob"]);
    let mut wanted = Vec::new();
    for client in &clients {
        let mut reader = Reader::new(record(client, RecordKind::PrivateKeys));
        u32::decode(&mut reader).unwrap();
        for (node, pair) in Vec::<(u32, HpkeKeyPair)>::decode(&mut reader).unwrap() {
            wanted.push(Wanted::new(
                format!("key of node {node}"),
                pair.private_key(),
            ));
        }
    }
    assert!(wanted.len() >= 2);
    there(&wanted, 2);
    let reinit = ReInit {
        group_id: Bytes::from(*b"next"),
        version: ProtocolVersion::MLS10,
        cipher_suite: SUITE,
        extensions: Extensions::default(),
    };
    let init = active_secrets(&clients[0]).2;
    // Without a path the private keys would be of use in the next epoch too, if there were messages.
    let pending = clients[0].commit(|commit| commit.reinit(reinit).without_path());
    let pending = pending.unwrap();
    let zero = Secret::zero(32);
    let context = pending.group.group_context().clone();
    let joiner = joiner_secret(suite, &init, &zero, &context);
    let secrets = EpochSecrets::derive(suite, &member_secret(suite, &joiner, &zero), &context);
    assert_eq!(
        secrets.epoch_authenticator,
        *pending.group.epoch_authenticator()
    );
    let kept = [Wanted::new("resumption_psk", &secrets.resumption_psk)];
    wanted.extend(
        [
            ("sender_data_secret", &secrets.sender_data_secret),
            ("encryption_secret", &secrets.encryption_secret),
            ("external_secret", &secrets.external_secret),
            ("membership_key", &secrets.membership_key),
            ("init_secret", &secrets.init_secret),
        ]
        .map(|(name, secret)| Wanted::new(name, secret)),
    );
    wanted.push(Wanted::new("init_secret of the last epoch", &init));
    drop((init, joiner, secrets));
    group_harness::deliver(&mut clients, 0, pending);
    gone(&wanted);
    there(&kept, 4);
    clients.iter_mut().for_each(Client::restart);
    gone(&wanted);
    there(&kept, 4);
}

/// What the record of a group that goes on holds of its epoch's: `external_secret`, `membership_key`,
/// `init_secret`.
fn active_secrets(client: &Client) -> (Secret, Secret, Secret) {
    let mut reader = Reader::new(record(client, RecordKind::Group));
    GroupContext::decode(&mut reader).unwrap();
    let _tag_and_transcript = [(); 2].map(|()| Bytes::decode(&mut reader).unwrap());
    u8::decode(&mut reader).unwrap();
    u32::decode(&mut reader).unwrap();
    let _others = [(); 3].map(|()| Secret::decode(&mut reader).unwrap());
    assert_eq!(u8::decode(&mut reader), Ok(1));
    let mut secret = || Secret::decode(&mut reader).unwrap();
    (secret(), secret(), secret())
}

/// The only record of its kind, behind its version.
fn record(client: &Client, kind: RecordKind) -> &[u8] {
    let mut records = client.member().records.iter();
    let record = records.find(|(key, _)| key.as_slice() == [kind as u8]);
    &record.unwrap().1[1..]
}
