//! Ed448 and X448 (suites 4 and 6) give the published values, and refuse what they must.

use folkmoot_mls::crypto::{CipherSuite, CryptoError, HpkeKeyPair, SignatureKeyPair};

use super::{rng, suite, unhex};

const SUITE: CipherSuite = CipherSuite::MLS_256_DHKEMX448_AES256GCM_SHA512_ED448;

/// RFC 8032, section 7.4, the first two tests without context.
const PUBLISHED: [[&str; 4]; 2] = [
    [
        "6c82a562cb808d10d632be89c8513ebf6c929f34ddfa8c9f63c9960ef6e348a3528c8a3fcc2f044e39a3fc5b94\
         492f8f032e7549a20098f95b",
        "5fd7449b59b461fd2ce787ec616ad46a1da1342485a70e1f8a0ea75d80e96778edf124769b46c7061bd6783df1\
         e50f6cd1fa1abeafe8256180",
        "",
        "533a37f6bbe457251f023c0d88f976ae2dfb504a843e34d2074fd823d41a591f2b233f034f628281f2fd7a22dd\
         d47d7828c59bd0a21bfd3980ff0d2028d4b18a9df63e006c5d1c2d345b925d8dc00b4104852db99ac5c7cdda85\
         30a113a0f4dbb61149f05a7363268c71d95808ff2e652600",
    ],
    [
        "c4eab05d357007c632f3dbb48489924d552b08fe0c353a0d4a1f00acda2c463afbea67c5e8d2877c5e3bc397a6\
         59949ef8021e954e0a12274e",
        "43ba28f430cdff456ae531545f7ecd0ac834a55d9358c0372bfa0c6c6798c0866aea01eb00742802b8438ea4cb\
         82169c235160627b4c3a9480",
        "03",
        "26b8f91727bd62897af15e41eb43c377efb9c610d48f2335cb0bd0087810f4352541b143c4b981b7e18f62de8c\
         cdf633fc1bf037ab7cd779805e0dbcc0aae1cbcee1afb2e027df36bc04dcecbf154336c19f0af7e0a6472905e7\
         99f1953d2a0ff3348ab21aa4adafd1d234441cf807c03a00",
    ],
];

#[test]
fn signatures_are_the_published_ones() {
    for suite in suite(SUITE) {
        for [seed, public_key, data, signature] in PUBLISHED {
            let pair = SignatureKeyPair::new(
                unhex(seed).into(),
                suite.signature_public_key(&unhex(seed)).unwrap(),
            );
            assert_eq!(**pair.public_key(), *unhex(public_key));
            let data = unhex(data);
            assert_eq!(*suite.sign(&pair, &data).unwrap(), *unhex(signature));
            let verified = suite.verify(pair.public_key(), &data, &unhex(signature));
            assert_eq!(verified, Ok(()));
        }
    }
}

/// A second encoding of the scalar, by adding the group's order, would be a second signature.
#[test]
fn a_scalar_has_one_encoding() {
    let order = "f34458ab92c27823558fc58d72c26c219036d6ae49db4ec4e923ca7cffffffffffffffffffffffffff\
                 ffffffffffffffffffffffffffff3f00";
    for suite in suite(SUITE) {
        let [_, public_key, data, signature] = PUBLISHED[1];
        let mut signature = unhex(signature);
        let mut carry = 0;
        for (byte, order) in signature[57..].iter_mut().zip(unhex(order)) {
            carry += u16::from(*byte) + u16::from(order);
            *byte = carry as u8;
            carry >>= 8;
        }
        let verified = suite.verify(&unhex(public_key), &unhex(data), &signature);
        assert_eq!(verified, Err(CryptoError::InvalidSignature));
    }
}

/// RFC 7748, section 6.2.
#[test]
fn x448_keys_are_the_published_ones() {
    for suite in suite(SUITE) {
        let private_key = unhex(
            "9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28dd9c9baf574a9419744897391006382\
             a6f127ab1d9ac2d8c0a598726b",
        );
        let public_key = unhex(
            "9b08f7cc31b7e3e67d22d5aea121074a273bd2b83de09c63faa73d2c22c5d9bbc836647241d953d40c5b12\
             da88120d53177f80e532c41fa0",
        );
        assert_eq!(*suite.kem_public_key(&private_key).unwrap(), *public_key);
    }
}

/// Points of order 1, 2 and 4, canonical or not: every Diffie-Hellman with them is zero (RFC 9180,
/// section 7.1.4).
#[test]
fn a_point_of_small_order_is_no_key() {
    let p = [vec![0xff; 28], vec![0xfe], vec![0xff; 27]].concat();
    let near_p = |add: i16| {
        let mut bytes = p.clone();
        match add {
            -1 => bytes[0] = 0xfe,
            0 => {}
            // p + 1 = 2^448 - 2^224.
            _ => bytes = [vec![0; 28], vec![0xff; 28]].concat(),
        }
        bytes
    };
    let mut one = vec![0; 56];
    one[0] = 1;
    let points = [vec![0; 56], one, near_p(-1), near_p(0), near_p(1)];
    for suite in suite(SUITE) {
        let pair: HpkeKeyPair = suite.kem_key_pair(&mut rng(1));
        let refused = CryptoError::InvalidPublicKey;
        for point in &points {
            assert_eq!(
                suite.kem_check_public_key(point),
                Err(refused),
                "{point:x?}"
            );
            let encapsulated = suite.kem_encap(point, &mut rng(2)).map(|_| ());
            assert_eq!(encapsulated, Err(refused));
            assert_eq!(suite.kem_decap(&pair, point), Err(refused));
        }
        assert_eq!(suite.kem_check_public_key(pair.public_key()), Ok(()));
    }
}
