//! What operations cost, in counts: how often each asks for a hash, a signature check or an HPKE operation,
//! what it copies of the tree, and how many bytes it stores. One table has all of it as formulas of the
//! number of members, and holds at two sizes.
#![cfg(feature = "aws-lc")]

mod counting;
#[path = "../group_harness/mod.rs"]
mod group_harness;
mod members;

use counting::{Counts, counted};
use folkmoot_mls::tree_math::LeafIndex;
use members::{Costs, costs, filled};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// One operation: its name, its exact counts, and bounds in bytes.
struct Row(&'static str, Counts, Bytes);

/// Bytes at most, and not less than two thirds of that.
struct Bytes {
    hashed: u64,
    maced: u64,
    stored: u64,
}

/// Key schedule: joiner secret (2), member secret, epoch secret and ten from it, confirmation tag.
const SCHEDULE: u64 = 2 + 1 + 11 + 1;
/// Batches of signatures.
const fn batches(signatures: u64) -> u64 {
    signatures.div_ceil(512)
}
/// What HPKE derives from its info, once for all recipients.
const INFO: u64 = 2;
/// What HPKE derives for each recipient.
const HPKE: u64 = 3;
/// For one message: key and nonce, the ratchet's next secret, key and nonce of the sender data.
const MESSAGE: u64 = 3 + 2;
/// Welcome secret, key and nonce.
const WELCOME: u64 = 3;

/// The table. `n` is the number of members, a power of two; `d` is its logarithm, the depth of the tree.
#[rustfmt::skip] // It is a table.
fn table(n: u64, d: u64) -> Vec<Row> {
    let none = Counts::default();
    // Chunks of the tree on the way from a leaf to the root.
    let way = d / 4 + 1;
    // The first message of a sender in an epoch: two secrets on each level of the secret tree, and the
    // beginnings of both ratchets.
    let first = 2 * d + 2 + MESSAGE;
    // A path's new secrets.
    let path = 2 * d;
    vec![
        // Each KeyPackage has two signatures, two public keys and a reference, and is sealed to. All
        // 2n - 1 tree hashes, d parent hashes, two of the transcript.
        Row("create", Counts {
            hashes: (2 * n - 1) + d + 2 + (n - 1),
            macs: path + INFO + SCHEDULE + 2 + MESSAGE + WELCOME + INFO + HPKE * (n - 1),
            signed: 3, batched: 2 * (n - 1), batches: batches(2 * (n - 1)), key_pairs: d + 1, key_checks: 2 * (n - 1) + 1,
            encaps: n - 1, seals: (n - 1) + 1 + 2, copies: 1, chunks: chunks(n), ..none
        }, Bytes { hashed: 920 * n, maced: 430 * n, stored: 240 * n }),
        // Only the creator's path has parent hashes, and only the root is above both it and the last leaf.
        Row("join", Counts {
            hashes: (2 * n - 1) + d + 1 + 1,
            macs: INFO + HPKE + WELCOME + (SCHEDULE - 2) + 2,
            verified: 1, batched: n, batches: batches(n), key_pairs: 1, key_checks: n, public_keys: 2, decaps: 1, opens: 2,
            chunks: chunks(n), ..none
        }, Bytes { hashed: 300 * n, maced: 220 * n, stored: 240 * n }),
        // Own leaf and the path above, their parent hashes, two hashes of the transcript.
        Row("commit, blank tree", Counts {
            hashes: (d + 1) + d + 2,
            macs: path + INFO + HPKE * (n - 1) + SCHEDULE + first,
            signed: 2, key_pairs: d + 1, key_checks: 1, encaps: n - 1, seals: (n - 1) + 2,
            copies: way, chunks: way, ..none
        }, Bytes { hashed: 90 * n + 350 * d, maced: 215 * n + 120 * d, stored: 2_200 + 260 * d }),
        // The committer's own leaf key is looked at twice: in the path and in the leaf.
        Row("process, blank tree", Counts {
            hashes: (d + 1) + d + 2,
            macs: INFO + HPKE + 2 + SCHEDULE + first,
            verified: 2, key_pairs: 1, key_checks: d + 2, decaps: 1, opens: 3,
            copies: way, chunks: way, ..none
        }, Bytes { hashed: 90 * n + 350 * d, maced: 1_100 + 80 * d, stored: 2_600 + 150 * d }),
        Row("commit, filled tree", Counts {
            hashes: (d + 1) + d + 2,
            macs: path + INFO + HPKE * d + SCHEDULE + first,
            signed: 2, key_pairs: d + 1, key_checks: 1, encaps: d, seals: d + 2,
            copies: way, chunks: way, ..none
        }, Bytes { hashed: 700 + 380 * d, maced: 1_200 + 300 * d, stored: 2_300 + 400 * d }),
        // By the last member: only the root is above both.
        Row("process, filled tree, far", Counts {
            hashes: (d + 1) + d + 2,
            macs: INFO + HPKE + 2 + SCHEDULE + first,
            verified: 2, key_pairs: 1, key_checks: d + 2, decaps: 1, opens: 3,
            copies: way, chunks: way, ..none
        }, Bytes { hashed: 700 + 380 * d, maced: 1_100 + 80 * d, stored: 2_300 + 400 * d }),
        // By the neighbour, who derives the whole path.
        Row("process, filled tree, near", Counts {
            hashes: (d + 1) + d + 2,
            macs: INFO + HPKE + path + SCHEDULE + first,
            verified: 2, key_pairs: d, key_checks: d + 2, decaps: 1, opens: 3,
            copies: way, chunks: way, ..none
        }, Bytes { hashed: 700 + 380 * d, maced: 1_100 + 120 * d, stored: 2_300 + 400 * d }),
        Row("encrypt, first", Counts { macs: first, signed: 1, seals: 2, ..none },
            Bytes { hashed: 0, maced: 220 + 45 * d, stored: 150 + 50 * d }),
        Row("decrypt, first", Counts { macs: first, verified: 1, opens: 2, ..none },
            Bytes { hashed: 0, maced: 220 + 45 * d, stored: 150 + 50 * d }),
        Row("encrypt, next", Counts { macs: MESSAGE, signed: 1, seals: 2, ..none },
            Bytes { hashed: 0, maced: 200, stored: 64 }),
        Row("decrypt, next", Counts { macs: MESSAGE, verified: 1, opens: 2, ..none },
            Bytes { hashed: 0, maced: 200, stored: 64 }),
        // Two ways to the root, which meet there. The committer's ratchets are there, since it sent
        // messages in this epoch. On the other side the path secret goes to d - 1 nodes
        // beside the way from the leaf that is gone.
        Row("remove one: commit", Counts {
            hashes: (2 * d + 1) + d + 2,
            macs: path + INFO + HPKE * (2 * d - 2) + SCHEDULE + MESSAGE,
            signed: 2, key_pairs: d + 1, key_checks: 1, encaps: 2 * d - 2, seals: 2 * d - 2 + 2,
            copies: 2 * way - 1, chunks: 2 * way - 1, ..none
        }, Bytes { hashed: 700 + 500 * d, maced: 800 + 500 * d, stored: 2_300 + 700 * d }),
        Row("remove one: process", Counts {
            hashes: (2 * d + 1) + d + 2,
            macs: INFO + HPKE + 2 + SCHEDULE + MESSAGE,
            verified: 2, key_pairs: 1, key_checks: d + 2, decaps: 1, opens: 3,
            copies: 2 * way - 1, chunks: 2 * way - 1, ..none
        }, Bytes { hashed: 700 + 500 * d, maced: 1_300, stored: 2_300 + 700 * d }),
        // Into the empty place, with the tree apart. Of the way above it only hashes change.
        Row("add one: commit", Counts {
            hashes: (2 * d + 1) + d + 2 + 1,
            macs: path + INFO + HPKE * (2 * d - 2) + SCHEDULE + first + WELCOME + INFO + HPKE,
            signed: 3, batched: 2, batches: 1, key_pairs: d + 1, key_checks: 2 + 1,
            encaps: 2 * d - 2 + 1, seals: 2 * d - 2 + 2 + 2,
            copies: 2 * way - 1, chunks: way + 1, ..none
        }, Bytes { hashed: 1_200 + 505 * d, maced: 1_150 + 490 * d, stored: 2_300 + 700 * d }),
        Row("add one: process", Counts {
            hashes: (2 * d + 1) + d + 2,
            macs: INFO + HPKE + 2 + SCHEDULE + first,
            verified: 2, batched: 2, batches: 1, key_pairs: 1, key_checks: 2 + d + 2, decaps: 1, opens: 3,
            copies: 2 * way - 1, chunks: way + 1, ..none
        }, Bytes { hashed: 1_200 + 505 * d, maced: 1_100 + 80 * d, stored: 2_300 + 700 * d }),
        // The leaf after the last one doubles the tree: all of the right half is hashed, since the hash
        // of a blank leaf has its place in it. The path has one node more, which the others learn of
        // through the d nodes beside it. The tree is in the Welcome.
        Row("grow: commit", Counts {
            hashes: 2 * n + (d + 1) + (d + 1) + 2 + 1,
            macs: path + 2 + INFO + HPKE * d + SCHEDULE + first + WELCOME + INFO + HPKE,
            signed: 3, batched: 2, batches: 1, key_pairs: d + 2, key_checks: 2 + 1,
            encaps: d + 1, seals: d + 1 + 1 + 2, copies: way, chunks: way + (d + 1) / 4, ..none
        }, Bytes { hashed: 1_000 + 80 * n + 400 * d, maced: 1_100 + 290 * n + 300 * d, stored: 2_500 + 400 * d }),
        // Twice the leaves, half of them blank. Each parent node has two children that might carry its
        // parent hash, and exactly one has to; but for the root, whose right side came in a KeyPackage.
        Row("join, filled tree", Counts {
            hashes: (4 * n - 1) + 2 * (n - 1) + 1 + 1 + 1,
            macs: INFO + HPKE + WELCOME + (SCHEDULE - 2) + 2,
            verified: 1, batched: n + 1, batches: batches(n + 1), key_pairs: 1, key_checks: n + 1, public_keys: 2, decaps: 1,
            opens: 2, chunks: chunks(n) + (d + 1) / 4, ..none
        }, Bytes { hashed: 700 * n, maced: 300 * n, stored: 310 * n }),
    ]
}

/// Chunks of 15 nodes in a tree of `n` leaves: 8 leaves each, then 16 chunks each.
fn chunks(n: u64) -> u64 {
    let (mut all, mut tier) = (0, n.div_ceil(8));
    loop {
        all += tier;
        if tier <= 1 {
            return all;
        }
        tier = tier.div_ceil(16);
    }
}

#[test]
fn each_operation_costs_what_the_table_says() {
    let mut wrong = Vec::new();
    for n in [64, 4_096_u32] {
        let costs = costs(n);
        let table = table(n.into(), n.ilog2().into());
        assert_eq!(costs.len(), table.len());
        for (
            Row(name, counts, bytes),
            (
                measured,
                Costs {
                    counts: found,
                    stored,
                },
            ),
        ) in table.into_iter().zip(costs)
        {
            assert_eq!(name, measured);
            let (hashed, maced) = (found.hashed, found.maced);
            let exact = Counts {
                hashed: 0,
                maced: 0,
                ..found
            };
            if counts != exact {
                wrong.push(format!("{name}, n = {n}:\n    {counts:?}\n not {exact:?}"));
            }
            for (what, found, most) in [
                ("hashed", hashed, bytes.hashed),
                ("maced", maced, bytes.maced),
                ("stored", stored, bytes.stored),
            ] {
                if found > most || found < most * 2 / 3 {
                    wrong.push(format!("{name}, n = {n}: {what} {found}, not {most}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_clone_copies_nothing() {
    let group = filled(1_000, &mut ChaCha20Rng::seed_from_u64(0));
    let (group, _, _) = group.member(LeafIndex(0));
    assert_eq!(size_of_val(&group), size_of::<usize>());
    let (clones, counts) = counted(|| vec![group; 1_000]);
    assert_eq!(clones.len(), 1_000);
    assert_eq!(counts, Counts::default());
}
