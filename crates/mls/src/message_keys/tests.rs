//! Members with storage, who send, receive, restart and are lied to.

use proptest::prelude::*;

use super::*;
use crate::crypto::{CryptoError, CryptoProvider, aws_lc::PROVIDER};
use crate::records::{MemoryRecords, RecordKey, Records};
use crate::testing::{StepRng, group_context};

struct Members(Vec<SignaturePublicKey>);

impl SignatureKeys for Members {
    fn signature_key(&self, leaf: LeafIndex) -> Option<SignaturePublicKey> {
        self.0.get(leaf.0 as usize).cloned()
    }
}

/// A member with its keys and its storage.
struct Member {
    signer: SignatureKeyPair,
    keys: MessageKeys,
    records: MemoryRecords,
    members: Arc<Members>,
    rng: StepRng,
}

impl Member {
    fn send(&mut self, data: &[u8]) -> PrivateMessage {
        let (message, changes) = self
            .keys
            .encrypt(&self.signer, b"aad", data, 10, &mut self.rng)
            .unwrap();
        self.records.apply(&changes);
        message
    }

    fn receive(&mut self, message: &PrivateMessage) -> Result<Decrypted, Error> {
        let (decrypted, changes) = self.keys.decrypt(message)?;
        self.records.apply(&changes);
        Ok(decrypted)
    }

    /// Forgets everything but the storage.
    fn restart(&mut self) {
        let (epoch, members) = (self.keys.epoch(), Arc::clone(&self.members));
        self.keys = MessageKeys::load(&PROVIDER, epoch, &self.records, members).unwrap();
    }
}

fn members(count: u32) -> Vec<Member> {
    let context = group_context();
    let suite = PROVIDER.suite(context.cipher_suite).unwrap();
    let signers: Vec<_> = (0..count)
        .map(|i| suite.signature_key_pair(&mut StepRng(i.into())))
        .collect();
    let signature_keys = signers
        .iter()
        .map(|signer| signer.public_key().clone())
        .collect();
    let members = Arc::new(Members(signature_keys));
    (0..count)
        .zip(signers)
        .map(|(index, signer)| {
            let epoch = EpochKeys {
                context: context.clone(),
                own: LeafIndex(index),
                leaf_count: count,
                replaced: Vec::new(),
                suspended: false,
                sender_data_secret: Secret::zero(32),
                encryption_secret: Secret::from(vec![1; 32]),
                application_export_secret: Secret::from(vec![2; 32]),
            };
            let signature_keys: Arc<dyn SignatureKeys> = members.clone();
            let (keys, changes) = MessageKeys::new(suite, epoch, signature_keys);
            let mut records = MemoryRecords::default();
            records.apply(&changes);
            let rng = StepRng(u64::from(index) << 32);
            Member {
                signer,
                keys,
                records,
                members: Arc::clone(&members),
                rng,
            }
        })
        .collect()
}

#[test]
fn members_read_each_other_in_any_order_and_after_a_restart() {
    let mut members = members(3);
    let messages: Vec<_> = (0..5).map(|i| members[0].send(&[i])).collect();
    for reader in &mut members[1..] {
        for i in [3, 0, 4] {
            let decrypted = reader.receive(&messages[i]).unwrap();
            assert_eq!(decrypted.sender, LeafIndex(0));
            assert_eq!(decrypted.generation, i as u32);
            assert_eq!(*decrypted.authenticated_data, *b"aad");
            assert_eq!(*decrypted.data, [i as u8]);
        }
        reader.restart();
        assert!(reader.receive(&messages[1]).is_ok());
        let again = Err(Error::KeyGone {
            sender: LeafIndex(0),
            generation: 3,
        });
        assert_eq!(reader.receive(&messages[3]), again);
    }
    members[0].restart();
    let next = members[0].send(b"next");
    assert_eq!(members[0].keys.sender(&next).unwrap().generation, 5);
    assert_eq!(*members[1].receive(&next).unwrap().data, *b"next");
    assert_eq!(members[0].receive(&next), Err(Error::OwnMessage));
}

#[test]
fn messages_that_were_opened_together_are_used_up_in_any_order() {
    for last_first in [false, true] {
        let mut members = members(5);
        let mut messages: Vec<_> = [0, 0, 1, 3]
            .map(|sender: usize| members[sender].send(&[sender as u8]))
            .into();
        if last_first {
            messages.reverse();
        }
        let reader = &mut members[2];
        let opened: Vec<_> = messages
            .iter()
            .map(|message| reader.keys.open(message).unwrap())
            .collect();
        for Opened { key, .. } in opened {
            reader.records.apply(&reader.keys.consume(key).unwrap());
        }
        for restarted in [false, true] {
            if restarted {
                reader.restart();
            }
            for message in &messages {
                let again = reader.keys.open(message).unwrap_err();
                assert!(matches!(again, Error::KeyGone { .. }), "{again}");
            }
        }
        let next = members[0].send(b"next");
        let other = members[4].send(b"other");
        assert_eq!(*members[2].receive(&next).unwrap().data, *b"next");
        assert_eq!(*members[2].receive(&other).unwrap().data, *b"other");
    }
}

#[test]
fn what_does_not_verify_uses_nothing_up() {
    let mut members = members(2);
    let message = members[0].send(b"data");
    let mut forged = message.clone();
    let mut ciphertext = forged.ciphertext.to_vec();
    *ciphertext.last_mut().unwrap() ^= 1;
    forged.ciphertext = ciphertext.into();
    let before = members[1].records.iter().count();
    assert_eq!(
        members[1].receive(&forged),
        Err(CryptoError::DecryptionFailed.into())
    );

    // Another member knows all keys, but not the sender's signature key.
    let signer = members[0].signer.clone();
    members[0].signer = members[1].signer.clone();
    let impostor = members[0].send(b"data");
    members[0].signer = signer;
    assert_eq!(
        members[1].receive(&impostor),
        Err(CryptoError::InvalidSignature.into())
    );

    assert_eq!(members[1].records.iter().count(), before);
    members[1].receive(&message).unwrap();
}

#[test]
fn messages_of_another_group_or_epoch_are_told_apart() {
    let mut members = members(2);
    let message = members[0].send(b"data");
    let elsewhere = PrivateMessage {
        group_id: Bytes::from([9]),
        ..message.clone()
    };
    assert_eq!(members[1].receive(&elsewhere), Err(Error::WrongGroup));
    let current = message.epoch;
    let later = PrivateMessage {
        epoch: current + 1,
        ..message
    };
    let wrong = Error::WrongEpoch {
        message: current + 1,
        current,
    };
    assert_eq!(members[1].receive(&later), Err(wrong));
}

#[test]
fn a_message_touches_one_small_record() {
    let mut members = members(100);
    members[7].send(b"first");
    let (_, changes) = {
        let Member {
            keys, signer, rng, ..
        } = &mut members[7];
        keys.encrypt(signer, &[], b"second", 0, rng).unwrap()
    };
    assert!(changes.delete.is_empty());
    assert_eq!(changes.put.len(), 1);
    assert!(changes.put[0].1.len() < 200);
}

#[test]
fn an_epoch_leaves_no_record_behind() {
    let mut members = members(5);
    let message = members[3].send(b"data");
    members[0].receive(&message).unwrap();
    members[0].send(b"data");
    let (_, changes) = members[0].keys.safe_export(ComponentID(0x8000)).unwrap();
    members[0].records.apply(&changes);
    let deletion = members[0].keys.deletion();
    members[0].records.apply(&deletion);
    assert!(members[0].records.is_empty());
}

#[test]
fn damaged_storage_is_an_error() {
    let mut members = members(4);
    let message = members[1].send(b"data");
    members[0].receive(&message).unwrap();
    let all: Vec<RecordKey> = members[0]
        .records
        .iter()
        .map(|(key, _)| key.clone())
        .collect();
    for key in all {
        let load = |records: &MemoryRecords| {
            let keys: Arc<dyn SignatureKeys> = members[0].members.clone();
            MessageKeys::load(&PROVIDER, members[0].keys.epoch(), records, keys)
        };
        let mut missing = members[0].records.clone();
        missing.apply(&Changes {
            put: vec![],
            delete: vec![key.clone()],
        });
        assert!(
            matches!(load(&missing), Err(Error::DamagedRecord(_))),
            "{key:?}"
        );
        let mut cut = members[0].records.clone();
        let mut value = cut.get(&key).unwrap();
        value.pop();
        cut.apply(&Changes {
            put: vec![(key.clone(), value)],
            delete: vec![],
        });
        assert!(
            matches!(load(&cut), Err(Error::DamagedRecord(_))),
            "{key:?}"
        );
    }
}

/// What may happen in a group of three.
#[derive(Clone, Debug)]
enum Event {
    Send(usize),
    /// A member reads one of all messages so far.
    Receive(usize, prop::sample::Index),
    Restart(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..3_usize).prop_map(Event::Send),
        6 => (0..3_usize, any::<prop::sample::Index>())
            .prop_map(|(reader, message)| Event::Receive(reader, message)),
        1 => (0..3_usize).prop_map(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every message is read once by each other member, in any order and across restarts.
    #[test]
    fn each_message_is_read_exactly_once(events in prop::collection::vec(event(), 1..80)) {
        let mut members = members(3);
        let mut sent: Vec<(usize, PrivateMessage)> = Vec::new();
        let mut read = std::collections::BTreeSet::new();
        for event in events {
            match event {
                Event::Send(sender) => {
                    let data = (sent.len() as u32).to_be_bytes();
                    sent.push((sender, members[sender].send(&data)));
                }
                Event::Receive(_, _) if sent.is_empty() => {}
                Event::Receive(reader, index) => {
                    let index = index.index(sent.len());
                    let (sender, message) = &sent[index];
                    match members[reader].receive(message) {
                        Ok(decrypted) => {
                            prop_assert!(read.insert((reader, index)));
                            prop_assert_eq!(decrypted.sender.0 as usize, *sender);
                            prop_assert_eq!(&*decrypted.data, &(index as u32).to_be_bytes());
                        }
                        Err(Error::OwnMessage) => prop_assert_eq!(reader, *sender),
                        Err(Error::KeyGone { .. }) => {
                            prop_assert!(read.contains(&(reader, index)));
                        }
                        Err(other) => prop_assert!(false, "{other}"),
                    }
                }
                Event::Restart(member) => members[member].restart(),
            }
        }
    }

    /// Damaged storage is an error or other keys, never a panic.
    #[test]
    fn damaged_records_do_no_harm(
        record in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        bits in 1..=u8::MAX,
    ) {
        let mut members = members(4);
        let messages = [members[1].send(b"1"), members[1].send(b"2"), members[2].send(b"3")];
        members[0].receive(&messages[1]).unwrap();
        let keys: Vec<RecordKey> = members[0].records.iter().map(|(key, _)| key.clone()).collect();
        let key = record.get(&keys).clone();
        let mut value = members[0].records.get(&key).unwrap();
        let place = place.index(value.len());
        value[place] ^= bits;
        members[0].records.apply(&Changes { put: vec![(key, value)], delete: vec![] });
        let epoch = members[0].keys.epoch();
        let signature_keys: Arc<dyn SignatureKeys> = members[0].members.clone();
        let loaded = MessageKeys::load(&PROVIDER, epoch, &members[0].records, signature_keys);
        if let Ok(keys) = loaded {
            members[0].keys = keys;
            for message in &messages {
                drop(members[0].receive(message));
            }
            let Member { keys, signer, rng, .. } = &mut members[0];
            drop(keys.encrypt(signer, &[], b"data", 0, rng));
            drop(keys.safe_export(ComponentID(1)));
            drop(keys.deletion());
        }
    }
}
