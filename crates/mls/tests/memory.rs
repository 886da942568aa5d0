//! What decoding takes of memory, at most, whatever the bytes are.
//!
//! One test in a process of its own, since it counts the allocations of all threads.

use std::hint::black_box;

use folkmoot_mls::codec::{Decode, encode_bytes, encode_length};
use folkmoot_mls::commit::{Commit, UpdatePath};
use folkmoot_mls::credential::Credential;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::framing::{PrivateMessage, PublicMessage};
use folkmoot_mls::group_info::GroupInfo;
use folkmoot_mls::inspect::inspect;
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::message::{MessageHeader, MlsMessage};
use folkmoot_mls::node::RatchetTree;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::welcome::Welcome;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// An item takes at most 24 bytes here for each byte on the wire,
/// and a vector that grows holds its old place beside the new one.
const FACTOR: usize = 72;
const CONSTANT: usize = 4096;

fn peak_of<T>(work: impl FnOnce() -> T) -> usize {
    let profiler = dhat::Profiler::builder().testing().build();
    drop(black_box(work()));
    let stats = dhat::HeapStats::get();
    drop(profiler);
    stats.max_bytes
}

fn decode_as_everything(bytes: &[u8]) {
    let decoders: [fn(&[u8]); 12] = [
        |bytes| drop(black_box(MlsMessage::from_bytes(bytes))),
        |bytes| drop(black_box(PublicMessage::from_bytes(bytes))),
        |bytes| drop(black_box(PrivateMessage::from_bytes(bytes))),
        |bytes| drop(black_box(Welcome::from_bytes(bytes))),
        |bytes| drop(black_box(GroupInfo::from_bytes(bytes))),
        |bytes| drop(black_box(KeyPackage::from_bytes(bytes))),
        |bytes| drop(black_box(RatchetTree::from_bytes(bytes))),
        |bytes| drop(black_box(Commit::from_bytes(bytes))),
        |bytes| drop(black_box(UpdatePath::from_bytes(bytes))),
        |bytes| drop(black_box(Proposal::from_bytes(bytes))),
        |bytes| drop(black_box(Extensions::from_bytes(bytes))),
        |bytes| drop(black_box(Credential::from_bytes(bytes))),
    ];
    for decode in decoders {
        let peak = peak_of(|| decode(bytes));
        let bound = FACTOR * bytes.len() + CONSTANT;
        assert!(peak <= bound, "{peak} bytes for {} of input", bytes.len());
    }
}

/// A vector of many items of one pattern, with what stands before it.
fn many(before: &[u8], pattern: &[u8], count: usize) -> Vec<u8> {
    let mut bytes = before.to_vec();
    encode_bytes(&pattern.repeat(count), &mut bytes);
    bytes
}

fn distinct_extensions(count: u16) -> Vec<u8> {
    let body: Vec<u8> = (0..count)
        .flat_map(|number| [(number >> 8) as u8, number as u8, 0])
        .collect();
    let mut bytes = Vec::new();
    encode_bytes(&body, &mut bytes);
    bytes
}

#[test]
fn memory_is_bounded_by_the_size_of_the_input() {
    // Many items that are as short as they can be.
    let count = 20_000;
    let inputs = [
        many(&[], &[0], count),           // blank nodes, empty strings
        many(&[], &[2, 0], count),        // references to proposals
        many(&[0, 2], &[0], count),       // certificates
        many(&[], &[0, 0, 0], count),     // extensions, all of the same type
        many(&[0, 1], &[0, 0, 0], count), // encrypted group secrets in a Welcome
        distinct_extensions(count as u16),
    ];
    for input in &inputs {
        decode_as_everything(input);
    }
    assert!(RatchetTree::from_bytes(&inputs[0]).is_ok());
    assert!(Credential::from_bytes(&inputs[2]).is_ok());
    assert!(Extensions::from_bytes(&inputs[5]).is_ok());

    // Lengths that promise more than there is.
    for before in [
        &[][..],
        &[0, 1, 0, 1],
        &[0, 1, 0, 2, 5],
        &[0, 1, 0, 3, 0, 1],
    ] {
        let mut bytes = before.to_vec();
        encode_length((1 << 30) - 1, &mut bytes);
        bytes.extend_from_slice(&[0; 100]);
        decode_as_everything(&bytes);
        let peak = peak_of(|| MessageHeader::read(&bytes).is_ok());
        assert!(peak <= CONSTANT);
    }

    messages_are_shown_in_little_memory(count);

    // A header is read without a copy of what follows it.
    let mut message = vec![0, 1, 0, 2];
    encode_bytes(b"group", &mut message);
    message.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 0]);
    encode_bytes(&vec![0; 1 << 20], &mut message);
    assert!(MessageHeader::read(&message).is_ok());
    assert_eq!(peak_of(|| MessageHeader::read(&message).is_ok()), 0);

    // Anything else.
    let noise = prop::collection::vec(prop_oneof![Just(0), 0..4_u8, any::<u8>()], 0..2_000);
    TestRunner::deterministic()
        .run(&noise, |bytes| {
            decode_as_everything(&bytes);
            Ok(())
        })
        .unwrap();
}

/// Takes text, and keeps none of it.
#[derive(Default)]
struct Lines(usize);

impl std::fmt::Write for Lines {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 += text.matches('\n').count();
        Ok(())
    }
}

/// Showing a message takes the same memory whether its lists are short or long.
fn messages_are_shown_in_little_memory(count: usize) {
    const ENOUGH: usize = 16 << 10;
    let header = [&[0, 1, 0, 1, 1, 7][..], &[0; 8], &[4, 0, 3]].concat();
    let commit = [many(&header, &[2, 0], count), vec![0, 0, 0]].concat();
    let welcome = [many(&[0, 1, 0, 3, 0, 1], &[0, 0, 0], count), vec![0]].concat();
    let mut tree = Vec::new();
    encode_bytes(&many(&[], &[0], count), &mut tree);
    let context = [&[0, 1, 0, 4, 0, 1, 0, 1, 0][..], &[0; 8], &[0, 0, 0]].concat();
    let mut group_info = context;
    encode_bytes(&[vec![0, 2], tree].concat(), &mut group_info);
    group_info.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
    let framing = [many(&[0], &[0, 0], count), vec![0]].concat();
    let mut word = [&[0, 1, 0, 1, 1, 7][..], &[0; 8], &[4, 0, 1]].concat();
    encode_bytes(&framing, &mut word);
    word.push(0);
    // As many as there are components.
    let items: Vec<u8> = (0..=u16::MAX)
        .flat_map(|id| [id.to_be_bytes().as_slice(), &[0]].concat())
        .collect();
    let mut aad = Vec::new();
    encode_bytes(&items, &mut aad);
    let mut private = [&[0, 1, 0, 2, 1, 7][..], &[0; 8], &[3]].concat();
    encode_bytes(&aad, &mut private);
    private.extend_from_slice(&[0, 0]);
    let messages = [
        (commit, count),
        (welcome, count),
        (group_info, count),
        (word, 3 * count),
        (private, 3 << 16),
    ];
    for (message, count) in messages {
        let mut lines = Lines::default();
        let peak = peak_of(|| {
            let shown = inspect(&message).expect("a message");
            std::fmt::write(&mut lines, format_args!("{shown}")).unwrap();
        });
        assert!(lines.0 > count, "{} lines", lines.0);
        assert!(
            peak <= ENOUGH,
            "{peak} bytes for {} of input",
            message.len()
        );
    }
}
