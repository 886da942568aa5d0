//! What a group stores and keeps waiting: how much of it, and in which layout.
#![cfg(feature = "aws-lc")]

mod group_harness;

use std::time::Instant;

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::crypto::{CipherSuite, aws_lc};
use folkmoot_mls::error::{Error, InvalidMessage};
use folkmoot_mls::extension::{ExtensionType, Extensions};
use folkmoot_mls::group::{CommitBuilder, Group, IncludeProposals, ProposalError};
use folkmoot_mls::leaf_node::Lifetime;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::psk::{ExternalPsk, PreSharedKeyID, PskType};
use folkmoot_mls::records::{Changes, MemoryRecords, RecordKind, RecordVersion};
use folkmoot_mls::tree::LeafNodeError;
use group_harness::{Client, Received, deliver, group_of};

/// A buffer that grows leaves a copy of what was in it behind.
#[test]
fn records_with_large_keys_are_written_without_growing() {
    let x_wing = CipherSuite(0x004d);
    let mut clients: Vec<_> = (0..40)
        .map(|number| Client::with_suite(&format!("client {number}"), x_wing))
        .collect();
    clients[0].create(Extensions::default());
    let packages: Vec<_> = clients[1..].iter_mut().map(Client::key_package).collect();
    let add_all = |commit| packages.into_iter().fold(commit, CommitBuilder::add);
    let pending = clients[0].commit(add_all).unwrap();
    let mut records = pending.changes.put.iter();
    let (_, keys) = records
        .find(|(key, _)| key.as_slice()[0] == RecordKind::PrivateKeys as u8)
        .unwrap();
    assert!(keys.len() > 8 * 1024, "{}", keys.len());
    assert!(keys.capacity() < keys.len() + 1024, "{}", keys.capacity());
}

/// Each would be compared with all of the others: minutes, with lists as long as a message may be.
#[test]
fn long_lists_in_a_leaf_take_no_long_time() {
    const EXTENSIONS: u16 = 20_000;
    let mut clients = group_of(&["alice", "bob"]);
    let mut mallory = Client::new("mallory");
    let mut leaf = mallory.parameters();
    let listed = &mut leaf.capabilities.extensions;
    listed.extend(vec![ExtensionType(0x7000); 300_000]);
    for number in 0..EXTENSIONS {
        let kind = ExtensionType(0x8000 + number);
        listed.push(kind);
        leaf.extensions.set_data(kind, []);
    }
    let lifetime = Lifetime {
        not_before: 0,
        not_after: u64::MAX,
    };
    let good = mallory.key_package_with(leaf.clone(), lifetime);
    leaf.capabilities.extensions.pop();
    let bad = mallory.key_package_with(leaf, lifetime);
    let started = Instant::now();
    clients[0].commit(|commit| commit.add(good)).unwrap();
    let refused = clients[0].commit(|commit| commit.add(bad)).map(drop);
    let last = ExtensionType(0x8000 + EXTENSIONS - 1);
    let unlisted = ProposalError::KeyPackage(LeafNodeError::UnlistedExtension(last).into());
    assert_eq!(refused, Err(unlisted.into()));
    assert!(
        started.elapsed().as_secs_f64() < 2.0,
        "{:?}",
        started.elapsed()
    );
}

/// The same every time but for its number.
fn psk(number: u32) -> Proposal {
    let psk_id = Bytes::from(number.to_be_bytes());
    Proposal::psk(PreSharedKeyID {
        psktype: PskType::External(ExternalPsk { psk_id }),
        psk_nonce: Bytes::from([0; 32]),
    })
}

#[test]
fn nobody_proposes_without_end() {
    const MOST: u32 = 1024;
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    let format = WireFormat::PUBLIC_MESSAGE;
    let unlimited = clients[1].group().clone();
    for number in 0..MOST {
        let proposed = clients[1].propose(psk(number), format).unwrap();
        clients[0].receive(&proposed.message).unwrap();
    }
    assert_eq!(clients[0].group().pending_proposals().len(), MOST as usize);
    let refused = clients[1].propose(psk(MOST), format);
    assert_eq!(refused.map(drop), Err(Error::TooManyProposals));
    // Bob forgets what he proposed.
    let bob = clients[1].member.as_mut().unwrap();
    let limited = std::mem::replace(&mut bob.group, unlimited);
    let one_more = clients[1].propose(psk(MOST), format).unwrap().message;
    clients[1].member.as_mut().unwrap().group = limited;
    let error = InvalidMessage::TooManyProposals.into();
    assert_eq!(clients[0].receive(&one_more).map(drop), Err(error));
    // The others are still heard, and what is known already may come again.
    let other = clients[2].propose(psk(0), format).unwrap().message;
    for _ in 0..2 {
        assert!(matches!(clients[0].receive(&other), Ok(Received::Proposal)));
    }
    let waiting = clients[0].group().pending_proposals();
    let numbers: Vec<_> = waiting.iter().map(|(_, pending)| pending.number).collect();
    assert_eq!(numbers, (0..=MOST).collect::<Vec<_>>());
    // All of them are stored, and go with the epoch.
    clients[0].restart();
    assert_eq!(
        clients[0].group().pending_proposals().len(),
        1 + MOST as usize
    );
    clients[1].receive(&other).unwrap();
    let nothing = |commit: CommitBuilder| commit.include_proposals(IncludeProposals::None);
    let pending = clients[0].commit(nothing).unwrap();
    deliver(&mut clients, 0, pending);
    for client in &clients {
        assert!(client.group().pending_proposals().is_empty());
        let mut records = client.member().records.iter();
        assert!(!records.any(|(key, _)| key.as_slice()[0] == RecordKind::Proposal as u8));
    }
    clients[1].propose(psk(0), format).unwrap();
}

#[test]
fn a_proposal_is_stored_without_writing_the_others_again() {
    let mut clients = group_of(&["alice", "bob"]);
    let format = WireFormat::PUBLIC_MESSAGE;
    let mut size = |number| {
        let changes = clients[1].propose(psk(number), format).unwrap().changes;
        let sizes = changes.put.iter().map(|(_, value)| value.len());
        sizes.sum::<usize>()
    };
    let first = size(0);
    assert_eq!((1..100).map(&mut size).max(), Some(first));
}

#[test]
fn an_older_layout_is_told_from_damage() {
    let clients = group_of(&["alice", "bob"]);
    let member = clients[0].member();
    for kind in [
        RecordKind::Group,
        RecordKind::PrivateKeys,
        RecordKind::MessageKeys,
    ] {
        let records = &member.records;
        let (key, value) = records
            .iter()
            .find(|(key, _)| key.as_slice()[0] == kind as u8)
            .unwrap();
        let mut older = Changes::default();
        older.put(key.clone(), [&[1], &value[1..]].concat());
        let mut records: MemoryRecords = records.clone();
        records.apply(&older);
        let loaded = Group::load(&aws_lc::PROVIDER, &records).and_then(|group| {
            let epoch = group.epoch();
            group
                .load_keys(&aws_lc::PROVIDER, epoch, &records)
                .map(drop)
        });
        let (key, version) = (key.clone(), 1);
        assert_eq!(loaded, Err(RecordVersion { key, version }.into()));
    }
}
