//! The post-quantum suites: published values of X-Wing, and keys as the peers derive them.

use folkmoot_mls::crypto::{CipherSuite, CryptoError, HpkeKeyPair};

use super::{Given, rng, suite, suites, unhex};

const X_WING: [CipherSuite; 3] = [
    CipherSuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_ED25519,
    CipherSuite::MLS_128_MLKEM768X25519_AES256GCM_SHA384_ED25519,
    CipherSuite::MLS_256_XWING_CHACHA20POLY1305_SHA256_ED25519,
];

/// draft-connolly-cfrg-xwing-kem, appendix C, the first vector. Of public key and ciphertext, which
/// are long, the SHA-256.
#[test]
fn x_wing_gives_the_published_values() {
    let seed = unhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26");
    let randomness = "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2\
                      35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2";
    let secret = "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384";
    let public_key_hash = "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb";
    let kem_output_hash = "17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33";
    for suite in suite(X_WING[0]) {
        let public_key = suite.kem_public_key(&seed).unwrap();
        assert_eq!(public_key.len(), 1216);
        assert_eq!(*suite.hash(&public_key), *unhex(public_key_hash));
        let mut rng = Given(unhex(randomness));
        let (encapsulated, kem_output) = suite.kem_encap(&public_key, &mut rng).unwrap();
        assert_eq!(*encapsulated, *unhex(secret));
        assert_eq!(kem_output.len(), 1120);
        assert_eq!(*suite.hash(&kem_output), *unhex(kem_output_hash));
        let pair = HpkeKeyPair::new(seed.clone().into(), public_key);
        assert_eq!(
            *suite.kem_decap(&pair, &kem_output).unwrap(),
            *unhex(secret)
        );
    }
}

/// SHAKE256 of the input is the seed, as in OpenMLS and draft-ietf-hpke-pq.
#[test]
fn x_wing_keys_are_derived_by_shake256() {
    for suite in X_WING.into_iter().flat_map(suite) {
        // SHAKE256 of nothing.
        let seed = unhex("46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762f");
        assert_eq!(**suite.kem_derive_key_pair(b"").private_key(), *seed);
    }
}

#[test]
fn the_numbers_are_those_of_the_peers() {
    let ids = |number| suite(CipherSuite(number)).map(|suite| suite.hpke_ids());
    assert!(ids(0x004d).all(|ids| ids == [0x647a, 1, 3]));
    assert!(ids(0x004e).all(|ids| ids == [0x647a, 2, 2]));
    assert!(ids(0x004f).all(|ids| ids == [0x647a, 1, 1]));
    assert!(ids(65100).all(|ids| ids == [15, 1, 1]));
}

/// FIPS 203, section 7.2: the coefficients of an encapsulation key are below the modulus.
#[test]
fn a_key_out_of_range_is_refused() {
    for suite in suites().filter(|suite| suite.id().0 > 7) {
        let pair = suite.kem_key_pair(&mut rng(1));
        assert_eq!(suite.kem_check_public_key(pair.public_key()), Ok(()));
        let mut public_key = pair.public_key().to_vec();
        public_key[..2].fill(0xff);
        let refused = Err(CryptoError::InvalidPublicKey);
        assert_eq!(suite.kem_check_public_key(&public_key), refused);
        assert_eq!(
            suite.kem_encap(&public_key, &mut rng(2)).map(|_| ()),
            refused
        );
    }
}

/// A changed ciphertext gives another secret, whichever half was changed.
#[test]
fn both_halves_count() {
    for suite in suites().filter(|suite| suite.id().0 > 7) {
        let pair = suite.kem_key_pair(&mut rng(1));
        let (secret, kem_output) = suite.kem_encap(pair.public_key(), &mut rng(2)).unwrap();
        assert_eq!(suite.kem_decap(&pair, &kem_output).as_ref(), Ok(&secret));
        for place in [0, 1087, 1088, 1119] {
            let mut changed = kem_output.clone();
            changed[place] ^= 1;
            assert_ne!(suite.kem_decap(&pair, &changed).unwrap(), secret, "{place}");
        }
    }
}
