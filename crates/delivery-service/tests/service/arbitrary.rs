//! Whatever is sent, the service answers or refuses; it never panics and still works afterwards.

use folkmoot_delivery_service::MemoryStore;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{self, Lane, Owner, Package};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::shelves::{package, stock};
use crate::world::World;

/// Bytes, often of the length of an id.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 32),
        vec(any::<u8>(), 64),
        vec(any::<u8>(), 0..100)
    ]
}

fn owner() -> impl Strategy<Value = Option<Owner>> {
    proptest::option::of(
        (bytes(), bytes(), bytes()).prop_map(|(mailbox, nonce, proof)| Owner {
            mailbox,
            nonce,
            proof,
        }),
    )
}

fn lane() -> impl Strategy<Value = Option<Lane>> {
    proptest::option::of(
        (0..3u32, any::<u32>()).prop_map(|(version, cipher_suite)| Lane {
            version,
            cipher_suite,
        }),
    )
}

fn call() -> impl Strategy<Value = Call> {
    let sealed = (lane(), any::<u64>(), any::<bool>(), bytes());
    let sealed = sealed.prop_map(|(lane, expires, last_resort, sealed)| Package {
        lane,
        expires,
        last_resort,
        sealed,
    });
    prop_oneof![
        (0..Call::PATHS.len(), vec(any::<u8>(), 0..300))
            .prop_filter_map("no such message", |(path, bytes)| {
                Call::decode(Call::PATHS[path], &bytes).ok()
            }),
        (bytes(), bytes()).prop_map(|(open, fence_signature)| {
            Call::Open(delivery::OpenRequest {
                open,
                fence_signature,
                payment: None,
            })
        }),
        (vec(any::<u8>(), 0..400), bytes(), vec(bytes(), 0..3)).prop_map(
            |(mut append, signature, parts)| {
                // So that more than the version is read.
                append.splice(..append.len().min(2), [0, 1]);
                Call::Append(delivery::AppendRequest {
                    append,
                    fence_signature: signature,
                    own_parts: parts,
                    ..Default::default()
                })
            }
        ),
        (bytes(), bytes(), bytes()).prop_map(|(mailbox, ticket, envelope)| {
            Call::Drop(delivery::DropRequest {
                mailbox,
                ticket,
                envelope,
            })
        }),
        (bytes(), bytes()).prop_map(|(mut stage, fence_signature)| {
            stage.splice(..stage.len().min(2), [0, 1]);
            Call::Stage(delivery::StageRequest {
                stage,
                fence_signature,
            })
        }),
        (bytes(), vec(bytes(), 0..3), any::<bool>()).prop_map(|(log, addresses, missing_only)| {
            Call::Pages(delivery::PagesRequest {
                log,
                addresses,
                missing_only,
            })
        }),
        (owner(), any::<u64>())
            .prop_map(|(owner, after)| Call::Collect(delivery::CollectRequest { owner, after })),
        (owner(), vec(sealed, 0..3)).prop_map(|(owner, packages)| {
            Call::Stock(delivery::StockRequest { owner, packages })
        }),
        (owner(), vec(bytes(), 0..3))
            .prop_map(|(owner, ids)| Call::Discard(delivery::DiscardRequest { owner, ids })),
        (bytes(), lane(), vec(bytes(), 0..3)).prop_map(|(request_id, lane, mailboxes)| {
            Call::Take(delivery::TakeRequest {
                request_id,
                lane,
                mailboxes,
                payment: None,
            })
        }),
    ]
}

/// A good call with one byte changed, cut off or added, sent at some time.
fn damaged(good: &Call, position: usize, value: u8, how: u8) -> Option<Call> {
    let mut bytes = good.encode();
    let position = position % bytes.len().max(1);
    match how {
        0 => bytes.truncate(position),
        1 => bytes.insert(position, value),
        _ => *bytes.get_mut(position)? = value,
    }
    Call::decode(good.path(), &bytes).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_call_is_answered_or_refused(
        calls in vec((call(), prop_oneof![any::<u64>(), Just(1_700_000_000_000)]), 1..8)
    ) {
        let mut world = World::new(MemoryStore::new());
        for (call, now) in calls {
            world.now = now;
            let _ = world.ask(call);
            world.service.sweep(now).unwrap();
        }
        world.now = 1_700_000_000_000;
        let mut group = world.group();
        world.message(&mut group, b"still here");
    }

    #[test]
    fn a_damaged_call_is_answered_or_refused(
        position in any::<usize>(), value in any::<u8>(), how in 0..6u8,
        now in prop_oneof![any::<u64>(), Just(1_700_000_000_000)],
    ) {
        let mut world = World::new(MemoryStore::new());
        let group = world.group();
        let owner = world.owner();
        let one = package(&world, b"one", false);
        stock(&mut world, &owner, vec![one]).unwrap();
        let nonce = world.nonce();
        let commit = group.commit(&world.key().public(), true, 0);
        let good = [
            Call::Open(group.open_request()),
            Call::Append(group.sign(&group.append(1, b"hello"))),
            Call::Append(group.sign(&commit)),
            Call::Read(delivery::ReadRequest {
                logs: vec![group.read(0, 0, nonce.clone())],
                follow: false,
            }),
            Call::CreateMailbox(owner.create_request(nonce)),
            Call::Take(crate::shelves::take_request([1; 32], &[owner.mailbox()])),
        ];
        for good in good {
            if let Some(call) = damaged(&good, position, value, how) {
                world.now = now;
                let _ = world.ask(call);
            }
        }
        world.now = 1_700_000_000_000;
        let other = world.group();
        prop_assert_eq!(world.read(&other, 0, 0).head.unwrap().sequence, 0);
    }
}
