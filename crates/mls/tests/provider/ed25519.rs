//! Which Ed25519 signatures are valid. All who verify have to agree, alone and in batches: a group in
//! which they do not falls apart. The set is ZIP 215's: any encodings of points, the cofactored
//! equation, and a canonical scalar.

use folkmoot_mls::crypto::{CipherSuite, CryptoError, SignatureKeyPair, SignedData, Suite};
use proptest::prelude::*;

use super::{rng, suite, unhex};

const SUITES: [CipherSuite; 2] = [
    CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519,
    CipherSuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_ED25519,
];

/// The eight points of small order in their one canonical encoding, then the other encodings that a
/// decoder which reduces the coordinate accepts.
pub(super) const SMALL_ORDER: [&str; 14] = [
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
            public_key: pair.public_key().to_vec(),
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

    /// An honest key with an R of small order: S = k a. Only the cofactored equation holds, but where R
    /// is the neutral point.
    fn small_r(suite: &dyn Suite, seed: u64, r: usize) -> Self {
        let pair = suite.signature_key_pair(&mut rng(seed));
        let (r, data) = (unhex(SMALL_ORDER[r]), seed.to_be_bytes().to_vec());
        let k = sha512(&[&r[..], pair.public_key(), &data].concat());
        let s = to_bytes(times(&k, secret_scalar(&pair)));
        Self {
            public_key: pair.public_key().to_vec(),
            data,
            signature: [r, s].concat(),
        }
    }

    /// A key of small order with an honest R: S = r, for any data.
    fn small_key(suite: &dyn Suite, seed: u64, key: usize) -> Self {
        let pair = suite.signature_key_pair(&mut rng(seed));
        let s = to_bytes(secret_scalar(&pair));
        Self {
            public_key: unhex(SMALL_ORDER[key]),
            data: seed.to_be_bytes().to_vec(),
            signature: [pair.public_key().to_vec(), s].concat(),
        }
    }

    /// Adds to the scalar, modulo the order.
    fn shift(&mut self, by: Scalar) {
        let s = to_bytes(add(from_bytes(&self.signature[32..]), by));
        self.signature[32..].copy_from_slice(&s);
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

/// A scalar modulo the order, the lowest 64 bits first.
type Scalar = [u64; 4];

const ONE: Scalar = [1, 0, 0, 0];

fn from_bytes(bytes: &[u8]) -> Scalar {
    let mut limbs = bytes.chunks_exact(8);
    [(); 4].map(|()| u64::from_le_bytes(limbs.next().unwrap().try_into().unwrap()))
}

fn to_bytes(scalar: Scalar) -> Vec<u8> {
    scalar.iter().flat_map(|limb| limb.to_le_bytes()).collect()
}

fn add(a: Scalar, b: Scalar) -> Scalar {
    let mut carry = 0;
    let sum: Scalar = std::array::from_fn(|place| {
        let sum = u128::from(a[place]) + u128::from(b[place]) + carry;
        carry = sum >> 64;
        sum as u64
    });
    minus_order(sum).unwrap_or(sum)
}

/// `None` if it is below the order.
fn minus_order(scalar: Scalar) -> Option<Scalar> {
    let order = from_bytes(&unhex(ORDER));
    let mut borrow = false;
    let difference = std::array::from_fn(|place| {
        let (first, a) = scalar[place].overflowing_sub(order[place]);
        let (second, b) = first.overflowing_sub(borrow.into());
        borrow = a || b;
        second
    });
    (!borrow).then_some(difference)
}

/// The product with a number of any length, little-endian.
fn times(number: &[u8], scalar: Scalar) -> Scalar {
    let bits = number
        .iter()
        .rev()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    bits.fold([0; 4], |sum, bit| {
        let double = add(sum, sum);
        if bit == 1 {
            add(double, scalar)
        } else {
            double
        }
    })
}

fn sha512(data: &[u8]) -> Vec<u8> {
    let suite = suite(CipherSuite::MLS_256_DHKEMP521_AES256GCM_SHA512_P521).next();
    suite.unwrap().hash(data).to_vec()
}

/// RFC 8032, section 5.1.5.
fn secret_scalar(pair: &SignatureKeyPair) -> Scalar {
    let mut bytes = sha512(pair.private_key());
    bytes.truncate(32);
    bytes[0] &= 0xf8;
    bytes[31] = bytes[31] & 0x7f | 0x40;
    times(&bytes, ONE)
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
        let pair = SignatureKeyPair::new(seed.into(), public_key);
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

/// Where one of A and R is honest and the other of small order, in any encoding, a verifier without the
/// cofactor would refuse what a batch accepts.
#[test]
fn parts_of_small_order_are_judged_alike_alone_and_in_a_batch() {
    for suite in ed25519_suites() {
        let all: Vec<_> = (0..SMALL_ORDER.len())
            .flat_map(|place| {
                let seed = 100 + place as u64;
                let parts = [
                    Signed::small_r(suite, seed, place),
                    Signed::small_key(suite, seed, place),
                ];
                parts.into_iter().chain([Signed::honest(suite, seed)])
            })
            .collect();
        for signed in &all {
            assert_eq!(signed.verify(suite), Ok(()), "{signed:?}");
        }
        assert_eq!(verify_batch(suite, &all), Ok(()));
        // One more than k a or r: neither equation holds.
        for place in 0..all.len() {
            let mut batch = all.clone();
            batch[place].shift(ONE);
            let refused = CryptoError::InvalidSignature;
            assert_eq!(batch[place].verify(suite), Err(refused));
            assert_eq!(verify_batch(suite, &batch), Err((place, refused)));
        }
    }
}

/// Makes a signature a bad one.
type Damage = fn(&mut Signed);

/// Below the size from which a batch has its own equation, at it and above.
const SIZES: [usize; 8] = [1, 2, 6, 7, 8, 9, 16, 65];

#[test]
fn one_bad_signature_is_named_in_a_batch_of_any_size() {
    let damages: [(Damage, CryptoError); 9] = [
        (|signed| signed.data.push(0), CryptoError::InvalidSignature),
        (|signed| signed.shift(ONE), CryptoError::InvalidSignature),
        (Signed::add_order, CryptoError::InvalidSignature),
        (
            |signed| signed.signature[..32].fill(1),
            CryptoError::InvalidSignature,
        ),
        // y = 2 is on no point of the curve.
        (
            |signed| signed.signature[..32].copy_from_slice(&[&[2][..], &[0; 31]].concat()),
            CryptoError::InvalidSignature,
        ),
        (
            |signed| signed.signature.truncate(63),
            CryptoError::InvalidSignature,
        ),
        (
            |signed| signed.signature.push(0),
            CryptoError::InvalidSignature,
        ),
        (
            |signed| signed.public_key = [&[2][..], &[0; 31]].concat(),
            CryptoError::InvalidPublicKey,
        ),
        (
            |signed| signed.public_key.truncate(31),
            CryptoError::InvalidPublicKey,
        ),
    ];
    for suite in ed25519_suites() {
        for size in SIZES {
            let mixed = |place: usize| match place % 4 {
                0 => Signed::small_order(place % 14, 3, b"data"),
                1 => Signed::small_r(suite, place as u64, place % 14),
                _ => Signed::honest(suite, place as u64),
            };
            let good: Vec<_> = (0..size).map(mixed).collect();
            assert_eq!(verify_batch(suite, &good), Ok(()));
            for (number, (damage, error)) in damages.iter().enumerate() {
                let bad = number * 7 % size;
                let mut batch = good.clone();
                batch[bad] = Signed::honest(suite, bad as u64);
                damage(&mut batch[bad]);
                assert_eq!(batch[bad].verify(suite), Err(*error), "damage {number}");
                assert_eq!(verify_batch(suite, &batch), Err((bad, *error)));
                // With others after it, the first is still the one that is named.
                batch[bad + 1..]
                    .iter_mut()
                    .for_each(|signed| signed.shift(ONE));
                assert_eq!(verify_batch(suite, &batch), Err((bad, *error)));
            }
        }
        assert_eq!(verify_batch(suite, &[]), Ok(()));
    }
}

/// Two errors whose sum is nothing: without weights at random, the batch's equation would hold.
#[test]
fn errors_do_not_cancel_each_other_in_a_batch() {
    let mut minus_one = from_bytes(&unhex(ORDER));
    minus_one[0] -= 1;
    assert_eq!(add(minus_one, ONE), [0; 4]);
    for suite in ed25519_suites() {
        for size in [2, 8, 20] {
            let mut batch: Vec<_> = (0..size).map(|seed| Signed::honest(suite, seed)).collect();
            batch[1].shift(minus_one);
            batch[0].shift(ONE);
            let refused = CryptoError::InvalidSignature;
            assert_eq!(verify_batch(suite, &batch), Err((0, refused)));
            batch[0].shift(minus_one);
            assert_eq!(verify_batch(suite, &batch), Err((1, refused)));
            batch[1].shift(ONE);
            assert_eq!(verify_batch(suite, &batch), Ok(()));
        }
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
