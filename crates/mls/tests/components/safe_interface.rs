//! Components use the group's keys (sections 4.2 to 4.5).

use crate::clients;
use crate::group_harness::deliver;
use folkmoot_mls::component::ComponentID;
use folkmoot_mls::crypto::CryptoError;
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::GroupKey;
use folkmoot_mls::tree_math::{LeafIndex, NodeIndex};

const ONE: ComponentID = ComponentID(0x8001);
const OTHER: ComponentID = ComponentID(0x8002);

#[test]
fn a_component_signs_as_a_member() {
    let clients = clients(Extensions::default());
    let [alice, bob] = [0, 1].map(|index: usize| clients[index].group());
    let signer = &clients[0].signer;
    let signature = alice
        .safe_sign_with_label(signer, ONE, b"vote", b"yes")
        .unwrap();
    let verify = |signer, component, content: &[u8]| {
        bob.safe_verify_with_label(LeafIndex(signer), component, b"vote", content, &signature)
    };
    assert_eq!(verify(0, ONE, b"yes"), Ok(()));
    let invalid = Err(Error::Crypto(CryptoError::InvalidSignature));
    assert_eq!(verify(0, OTHER, b"yes"), invalid);
    assert_eq!(verify(0, ONE, b"no"), invalid);
    assert_eq!(verify(2, ONE, b"yes"), invalid);
    assert_eq!(verify(7, ONE, b"yes"), Err(Error::NoKey));
    assert_eq!(
        bob.safe_sign_with_label(signer, ONE, b"vote", b"yes"),
        Err(Error::WrongSigner)
    );
}

#[test]
fn a_component_encrypts_to_a_member_to_a_subtree_and_to_all() {
    let mut clients = clients(Extensions::default());
    // Bob's path gives the node above him and Alice a key.
    let pending = clients[1].commit(|commit| commit).unwrap();
    deliver(&mut clients, 1, pending);
    let mut rng = clients[2].rng.clone();
    let charlie = clients[2].group().clone();
    let mut seal =
        |key| charlie.safe_encrypt_with_label(key, ONE, b"label", b"context", b"word", &mut rng);
    let group = |index: usize| clients[index].group();
    let of_bob = GroupKey::member(LeafIndex(1)).unwrap();
    let above = GroupKey::Node(NodeIndex(1));
    for (key, readers) in [
        (of_bob, [false, true, false]),
        (above, [true, true, false]),
        (GroupKey::External, [true, true, true]),
    ] {
        let sealed = seal(key).unwrap();
        for (index, reads) in readers.into_iter().enumerate() {
            let opened =
                group(index).safe_decrypt_with_label(key, ONE, b"label", b"context", &sealed);
            match opened {
                Ok(word) => assert!(reads && word.as_slice() == b"word", "{key:?} {index}"),
                Err(error) => assert!(!reads && error == Error::NoKey, "{key:?} {index}"),
            }
        }
        let failed = Error::Crypto(CryptoError::DecryptionFailed);
        for (component, label, context) in [
            (OTHER, b"label".as_slice(), b"context".as_slice()),
            (ONE, b"other", b"context"),
            (ONE, b"label", b"another"),
        ] {
            assert_eq!(
                group(1).safe_decrypt_with_label(key, component, label, context, &sealed),
                Err(failed.clone())
            );
        }
    }
    let blank = GroupKey::member(LeafIndex(3)).unwrap();
    assert_eq!(seal(blank), Err(Error::NoKey));
    // The external key lasts one epoch.
    let sealed = seal(GroupKey::External).unwrap();
    let pending = clients[0].commit(|commit| commit).unwrap();
    deliver(&mut clients, 0, pending);
    let later = clients[1].group();
    let opened =
        later.safe_decrypt_with_label(GroupKey::External, ONE, b"label", b"context", &sealed);
    assert_eq!(opened, Err(Error::Crypto(CryptoError::DecryptionFailed)));
}
