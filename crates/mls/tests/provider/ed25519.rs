//! Which Ed25519 signatures are valid. All who verify have to agree, alone and in batches: a group in
//! which they do not falls apart. The set is ZIP 215's: any encodings of points, the cofactored
//! equation, and a canonical scalar.

use folkmoot_mls::crypto::{CipherSuite, CryptoError, SignedData, Suite};
use proptest::prelude::*;

use super::{rng, suite, unhex};

const SUITES: [CipherSuite; 2] = [
    CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519,
    CipherSuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_ED25519,
];

/// The eight points of small order in their one canonical encoding, then the other encodings that a
/// decoder which reduces the coordinate accepts.
const SMALL_ORDER: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// The order of the base point, little-endian.
const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

/// A signature with what it is over.
#[derive(Clone, Debug)]
struct Signed {
    public_key: Vec<u8>,
    data: Vec<u8>,
    signature: Vec<u8>,
}

impl Signed {
    fn honest(suite: &dyn Suite, seed: u64) -> Self {
        let pair = suite.signature_key_pair(&mut rng(seed));
        let data = seed.to_be_bytes().to_vec();
        let signature = suite.sign(&pair, &data).unwrap().into_vec();
        Self {
            public_key: pair.public_key.to_vec(),
            data,
            signature,
        }
    }

    /// Key and R are points of small order and S is zero: valid for any data.
    fn small_order(key: usize, r: usize, data: &[u8]) -> Self {
        let signature = [unhex(SMALL_ORDER[r]), vec![0; 32]].concat();
        Self {
            public_key: unhex(SMALL_ORDER[key]),
            data: data.to_vec(),
            signature,
        }
    }

    /// The scalar plus the order: the same equation, another encoding.
    fn add_order(&mut self) {
        let mut carry = 0;
        for (byte, order) in self.signature[32..].iter_mut().zip(unhex(ORDER)) {
            carry += u16::from(*byte) + u16::from(order);
            *byte = carry as u8;
            carry >>= 8;
        }
    }

    fn verify(&self, suite: &dyn Suite) -> Result<(), CryptoError> {
        suite.verify(&self.public_key, &self.data, &self.signature)
    }
}

fn verify_batch(suite: &dyn Suite, batch: &[Signed]) -> Result<(), (usize, CryptoError)> {
    let items: Vec<_> = batch
        .iter()
        .map(
            |Signed {
                 public_key,
                 data,
                 signature,
             }| SignedData {
                public_key,
                data: data.into(),
                signature,
            },
        )
        .collect();
    suite.verify_batch(&items, &mut rng(99))
}

fn ed25519_suites() -> impl Iterator<Item = &'static dyn Suite> {
    SUITES.into_iter().flat_map(suite)
}

/// RFC 8032, section 7.1, test 2.
#[test]
fn signatures_are_the_published_ones() {
    for suite in ed25519_suites() {
        let seed = unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let public_key = suite.signature_public_key(&seed).unwrap();
        let expected = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(*public_key, *unhex(expected));
        let pair = folkmoot_mls::crypto::SignatureKeyPair {
            private_key: seed.into(),
            public_key,
        };
        let expected = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                        085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(*suite.sign(&pair, &[0x72]).unwrap(), *unhex(expected));
    }
}

#[test]
fn points_of_small_order_are_judged_alike_alone_and_in_a_batch() {
    for suite in ed25519_suites() {
        let places = 0..SMALL_ORDER.len();
        let all: Vec<_> = places
            .clone()
            .flat_map(|key| {
                places
                    .clone()
                    .map(move |r| Signed::small_order(key, r, b"data"))
            })
            .collect();
        assert!(all.iter().all(|signed| signed.verify(suite) == Ok(())));
        assert_eq!(verify_batch(suite, &all), Ok(()));
    }
}

#[test]
fn a_mixed_batch_accepts_what_each_alone_is_accepted() {
    for suite in ed25519_suites() {
        let honest = (0..20).map(|seed| Signed::honest(suite, seed));
        let odd = (0..14).map(|place| Signed::small_order(place, 13 - place, &[place as u8]));
        let batch: Vec<_> = honest.chain(odd).collect();
        assert_eq!(verify_batch(suite, &batch), Ok(()));
        for bad in 0..batch.len() {
            let mut batch = batch.clone();
            batch[bad].signature[32] ^= 1;
            assert_eq!(batch[bad].verify(suite), Err(CryptoError::InvalidSignature));
            let found = verify_batch(suite, &batch);
            assert_eq!(found, Err((bad, CryptoError::InvalidSignature)));
        }
    }
}

#[test]
fn a_scalar_has_one_encoding() {
    for suite in ed25519_suites() {
        let mut batch: Vec<_> = (0..10).map(|seed| Signed::honest(suite, seed)).collect();
        batch[6].add_order();
        assert_eq!(batch[6].verify(suite), Err(CryptoError::InvalidSignature));
        assert_eq!(
            verify_batch(suite, &batch),
            Err((6, CryptoError::InvalidSignature))
        );
    }
}

#[test]
fn a_key_that_is_no_point_is_refused_in_a_batch_too() {
    for suite in ed25519_suites() {
        let mut batch: Vec<_> = (0..10).map(|seed| Signed::honest(suite, seed)).collect();
        // y = 2 is on no point of the curve.
        batch[9].public_key = [&[2][..], &[0; 31]].concat();
        assert_eq!(batch[9].verify(suite), Err(CryptoError::InvalidPublicKey));
        assert_eq!(
            verify_batch(suite, &batch),
            Err((9, CryptoError::InvalidPublicKey))
        );
    }
}

/// How a signature is damaged, if at all.
fn damage() -> impl Strategy<Value = Option<(u8, usize)>> {
    prop_oneof![
        8 => Just(None),
        1 => (0..3_u8, 0..64_usize).prop_map(Some),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A batch is accepted exactly if each alone is, and else names the first that is not.
    #[test]
    fn a_batch_is_the_sum_of_its_parts(
        kinds in prop::collection::vec((0..40_u64, damage()), 1..24),
    ) {
        for suite in ed25519_suites() {
            let batch: Vec<_> = kinds.iter().map(|(kind, damage)| {
                let mut signed = match *kind {
                    small @ 0..14 => Signed::small_order(small as usize, 5, b"any"),
                    seed => Signed::honest(suite, seed),
                };
                match *damage {
                    Some((0, place)) => signed.signature[place] ^= 1,
                    Some((1, place)) => signed.public_key[place / 2] ^= 4,
                    Some(_) => signed.add_order(),
                    None => {}
                }
                signed
            }).collect();
            let first_bad = batch.iter().enumerate().find_map(|(place, signed)| {
                signed.verify(suite).err().map(|error| (place, error))
            });
            prop_assert_eq!(verify_batch(suite, &batch), first_bad.map_or(Ok(()), Err));
        }
    }
}
