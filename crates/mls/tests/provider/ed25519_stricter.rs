//! AWS-LC's check of Ed25519 signatures is stricter than ZIP 215 and asked first. What the provider
//! accepts has to be what ZIP 215 accepts all the same, for every odd key and signature there is.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_zebra::{Signature, VerificationKey};
use folkmoot_mls::crypto::{CipherSuite, CryptoProvider, SignedData, aws_lc};

use super::ed25519::SMALL_ORDER;
use super::{rng, unhex};

/// A key, data and a signature.
type Case = ([u8; 32], Vec<u8>, [u8; 64]);

fn small_order() -> impl Iterator<Item = [u8; 32]> + Clone {
    SMALL_ORDER
        .iter()
        .map(|point| unhex(point).try_into().unwrap())
}

/// The signature that holds up to points of small order, for any encodings of key and commitment.
fn signed(key: [u8; 32], a: Scalar, commitment: [u8; 32], r: Scalar, data: &[u8]) -> Case {
    let hash = digest::digest(&digest::SHA512, &[&commitment, &key, data].concat());
    let k = Scalar::from_bytes_mod_order_wide(hash.as_ref().try_into().unwrap());
    let s = (r + k * a).to_bytes();
    let signature = [commitment, s].concat().try_into().unwrap();
    (key, data.to_vec(), signature)
}

/// Keys and commitments with every part of small order, none included, in every encoding.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for data in 0..4_u8 {
        let a = Scalar::from(1_000_003_u64 + u64::from(data));
        let r = Scalar::from(2_000_003_u64 + u64::from(data));
        let mixed = |scalar: Scalar| {
            EIGHT_TORSION.map(|small| {
                let point = EdwardsPoint::mul_base(&scalar) + small;
                (point.compress().to_bytes(), scalar)
            })
        };
        let small = small_order().map(|point| (point, Scalar::ZERO));
        for (key, a) in mixed(a).into_iter().chain(small.clone()) {
            for (commitment, r) in mixed(r).into_iter().chain(small.clone()) {
                cases.push(signed(key, a, commitment, r, &[data]));
            }
        }
    }
    cases
}

/// The same, damaged: other data, other scalars, the scalar's other encoding, no points.
fn damaged((key, data, signature): &Case) -> Vec<Case> {
    let with_s = |s: [u8; 32]| {
        let signature = [&signature[..32], &s].concat();
        (*key, data.clone(), signature.try_into().unwrap())
    };
    let s: [u8; 32] = signature[32..].try_into().unwrap();
    let plus_one = Scalar::from_canonical_bytes(s).unwrap() + Scalar::ONE;
    let mut plus_order = s;
    let mut carry = 0;
    let highest = (-Scalar::ONE).to_bytes();
    for (place, (byte, order)) in plus_order.iter_mut().zip(highest).enumerate() {
        carry += u16::from(*byte) + u16::from(order) + u16::from(place == 0);
        *byte = carry as u8;
        carry >>= 8;
    }
    let mut high_bits = s;
    high_bits[31] |= 0x80;
    let mut no_commitment = *signature;
    no_commitment[..32].copy_from_slice(&[&[2][..], &[0; 31]].concat());
    let mut no_key = *key;
    no_key.copy_from_slice(&[&[2][..], &[0; 31]].concat());
    let mut other_sign = *key;
    other_sign[31] ^= 0x80;
    vec![
        (*key, b"other".to_vec(), *signature),
        with_s(plus_one.to_bytes()),
        with_s(plus_order),
        with_s(high_bits),
        (*key, data.clone(), no_commitment),
        (no_key, data.clone(), *signature),
        (other_sign, data.clone(), *signature),
    ]
}

#[test]
fn what_aws_lc_accepts_or_zebra_accepts_is_what_zebra_accepts() {
    let suite = CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519;
    let suite = aws_lc::PROVIDER.suite(suite).unwrap();
    let whole = cases();
    assert_eq!(whole.len(), 4 * 22 * 22);
    let broken: Vec<_> = whole.iter().flat_map(damaged).collect();
    let mut valid = Vec::new();
    let (mut by_both, mut by_zebra, mut by_none) = (0, 0, 0);
    for case @ (key, data, signature) in whole.iter().chain(&broken) {
        let zebra = VerificationKey::try_from(*key)
            .and_then(|key| key.verify(&Signature::from(*signature), data))
            .is_ok();
        let aws_lc = UnparsedPublicKey::new(&ED25519, key)
            .verify(data, signature)
            .is_ok();
        assert!(zebra || !aws_lc, "{case:x?}");
        let ours = suite.verify(key, data, signature).is_ok();
        assert_eq!(ours, zebra, "{case:x?}");
        match (aws_lc, zebra) {
            (true, _) => by_both += 1,
            (false, true) => by_zebra += 1,
            (false, false) => by_none += 1,
        }
        if zebra {
            valid.push(case);
        }
    }
    // All were made to hold, and each of the three ways is gone many times.
    let holds = |case: &Case| valid.iter().any(|valid| std::ptr::eq(*valid, case));
    assert!(whole.iter().all(holds));
    assert!(
        by_both > 100 && by_zebra > 100 && by_none > 1000,
        "{by_both} {by_zebra} {by_none}"
    );
    let items: Vec<_> = valid
        .iter()
        .map(|(key, data, signature)| SignedData {
            public_key: key,
            data: data.into(),
            signature,
        })
        .collect();
    assert_eq!(suite.verify_batch(&items, &mut rng(1)), Ok(()));
}

/// The library reads keys in X.509's form too, which are none of MLS.
#[test]
fn a_key_in_another_form_is_refused() {
    let suite = CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519;
    let suite = aws_lc::PROVIDER.suite(suite).unwrap();
    let pair = suite.signature_key_pair(&mut rng(1));
    let signature = suite.sign(&pair, b"data").unwrap();
    let head = unhex("302a300506032b6570032100");
    let certified = [&head[..], pair.public_key()].concat();
    let library = UnparsedPublicKey::new(&ED25519, &certified);
    assert!(library.verify(b"data", &signature).is_ok());
    assert!(suite.verify(&certified, b"data", &signature).is_err());
}
