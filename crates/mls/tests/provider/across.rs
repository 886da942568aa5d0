//! What one provider makes, every other one takes: a group's members need not have the same.

use folkmoot_mls::capabilities::Capabilities;
use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::crypto::{CipherSuite, CryptoError, CryptoProvider, SignatureKeyPair, Suite};
use folkmoot_mls::negotiation::{NegotiationError, Preference};

use super::{PROVIDERS, rng, suite, suites};

/// Each suite of each provider, with the same suite of each provider.
fn pairs() -> impl Iterator<Item = (&'static dyn Suite, &'static dyn Suite)> {
    suites().flat_map(|one| suite(one.id()).map(move |other| (one, other)))
}

#[test]
fn lengths_and_numbers_are_the_same() {
    for (one, other) in pairs() {
        let all = |suite: &dyn Suite| {
            (
                suite.hpke_ids(),
                suite.hash_length(),
                suite.aead_key_length(),
                suite.aead_nonce_length(),
                suite.aead_tag_length(),
                suite.kem_private_key_length(),
            )
        };
        assert_eq!(all(one), all(other));
    }
}

#[test]
fn every_provider_has_the_suites_of_the_library_that_has_most() {
    if cfg!(feature = "rust-crypto") {
        for provider in PROVIDERS {
            assert_eq!(provider.suites().len(), 11);
            assert_eq!(provider.suites(), PROVIDERS[0].suites());
        }
    }
    for provider in PROVIDERS {
        for number in 1..=7 {
            let listed = provider.suites().contains(&CipherSuite(number));
            assert_eq!(provider.suite(CipherSuite(number)).is_some(), listed);
        }
    }
}

#[test]
fn the_best_suite_is_the_strongest_of_those_that_are_settled() {
    let numbers = |provider: &dyn CryptoProvider| -> Vec<u16> {
        let preference = Preference::from(provider);
        preference
            .cipher_suites
            .iter()
            .map(|suite| suite.0)
            .collect()
    };
    for provider in PROVIDERS {
        let numbers = numbers(*provider);
        let all = [7, 5, 1, 3, 2, 0x4e, 0x4d, 0x4f, 4, 6, 65100];
        assert_eq!(numbers, all[..numbers.len()]);
        let best = |numbers: &[u16]| {
            let client = Capabilities {
                versions: vec![ProtocolVersion::MLS10],
                cipher_suites: numbers.iter().copied().map(CipherSuite).collect(),
                ..Capabilities::default()
            };
            let choice = Preference::from(*provider).best_for([&client]);
            choice.map(|choice| choice.cipher_suite.0)
        };
        assert_eq!(best(&numbers), Ok(7));
        assert_eq!(best(&[1, 2, 3, 4, 5, 6, 65100]), Ok(5));
        assert_eq!(best(&[65100, 6, 4, 0x4e, 2, 3, 1]), Ok(1));
        // The rest only where there is nothing else.
        let rest = if numbers.contains(&4) {
            Ok(4)
        } else {
            Err(NegotiationError::NoCommonCipherSuite)
        };
        assert_eq!(best(&[65100, 6, 4]), rest);
    }
}

#[test]
fn the_same_bytes_come_of_hashing_and_deriving() {
    for (one, other) in pairs() {
        let all = |suite: &'static dyn Suite| {
            (
                suite.hash(b"data"),
                suite.hmac(&[7; 200], b"data"),
                suite.expand_with_label(&[8; 32], "label", b"context", 300),
            )
        };
        assert_eq!(all(one), all(other));
    }
}

#[test]
fn the_same_seed_gives_the_same_keys() {
    for (one, other) in pairs() {
        for seed in 0..4 {
            let keys = |suite: &'static dyn Suite| {
                let mut rng = rng(seed);
                (
                    suite.kem_key_pair(&mut rng),
                    suite.signature_key_pair(&mut rng),
                    suite.kem_derive_key_pair(b"some input of any length"),
                )
            };
            assert_eq!(keys(one), keys(other));
            let (kem, signature, _) = keys(one);
            let (kem_key, signature_key) = (kem.private_key(), signature.private_key());
            assert_eq!(kem_key.len(), other.kem_private_key_length());
            assert_eq!(other.kem_public_key(kem_key), Ok(kem.public_key().clone()));
            let public_key = other.signature_public_key(signature_key);
            assert_eq!(public_key.as_ref(), Ok(signature.public_key()));
        }
    }
}

#[test]
fn what_one_signs_the_other_verifies() {
    for (one, other) in pairs() {
        for seed in 0..4 {
            let pair = one.signature_key_pair(&mut rng(seed));
            let signature = one.sign(&pair, b"data").unwrap();
            let verify =
                |signature: &[u8], data: &[u8]| other.verify(pair.public_key(), data, signature);
            assert_eq!(verify(&signature, b"data"), Ok(()));
            let wrong = Err(CryptoError::InvalidSignature);
            assert_eq!(verify(&signature, b"other"), wrong);
            for place in (0..signature.len()).step_by(7) {
                let mut changed = signature.to_vec();
                changed[place] ^= 1;
                assert_eq!(verify(&changed, b"data"), wrong, "{}", place);
            }
            let longer = [&*signature, &[0]].concat();
            assert_eq!(verify(&longer, b"data"), wrong);
        }
    }
}

#[test]
fn what_one_seals_the_other_opens() {
    for (one, other) in pairs() {
        let (key, nonce) = (vec![1; one.aead_key_length()], [2; 12]);
        let sealed = one.aead_seal(&key, &nonce, b"aad", b"plaintext");
        assert_eq!(sealed, other.aead_seal(&key, &nonce, b"aad", b"plaintext"));
        let opened = other.aead_open(&key, &nonce, b"aad", &sealed);
        assert_eq!(*opened.unwrap(), *b"plaintext");

        let pair = other.kem_key_pair(&mut rng(1));
        assert_eq!(one.kem_check_public_key(pair.public_key()), Ok(()));
        // The same randomness gives the same encapsulation.
        let seal = |suite: &'static dyn Suite| {
            suite
                .encrypt_with_label(pair.public_key(), "L", b"context", b"secret", &mut rng(2))
                .unwrap()
        };
        let sealed = seal(one);
        assert_eq!(sealed, seal(other));
        let opened = other.decrypt_with_label(&pair, "L", b"context", &sealed);
        assert_eq!(*opened.unwrap(), *b"secret");
        let mut changed = sealed.clone();
        let mut kem_output = changed.kem_output.to_vec();
        kem_output[40 % sealed.kem_output.len()] ^= 1;
        changed.kem_output = Bytes::from(kem_output);
        assert!(
            other
                .decrypt_with_label(&pair, "L", b"context", &changed)
                .is_err()
        );
    }
}

/// What is no key of the suite's, by its length alone.
#[test]
fn keys_have_one_length() {
    for suite in suites() {
        let kem = suite.kem_key_pair(&mut rng(1));
        let signer = suite.signature_key_pair(&mut rng(2));
        let signature = suite.sign(&signer, b"data").unwrap();
        let longer = |bytes: &[u8]| [&[0], bytes].concat();
        for public_key in [&longer(kem.public_key())[..], &kem.public_key()[1..], &[]] {
            let refused = Err(CryptoError::InvalidPublicKey);
            assert_eq!(suite.kem_check_public_key(public_key), refused);
            let encapsulated = suite.kem_encap(public_key, &mut rng(3)).map(|_| ());
            assert_eq!(encapsulated, refused);
            assert_eq!(suite.kem_decap(&kem, public_key).map(|_| ()), refused);
        }
        let refused = CryptoError::InvalidPrivateKey;
        for private_key in [&longer(kem.private_key())[..], &kem.private_key()[1..], &[]] {
            assert_eq!(suite.kem_public_key(private_key), Err(refused));
        }
        let keys = [
            longer(signer.private_key()),
            signer.private_key()[1..].to_vec(),
            Vec::new(),
        ];
        for private_key in keys {
            assert_eq!(suite.signature_public_key(&private_key), Err(refused));
            let pair = SignatureKeyPair::new(private_key.into(), signer.public_key().clone());
            assert_eq!(suite.sign(&pair, b"data"), Err(refused));
        }
        for public_key in [&longer(signer.public_key())[..], &signer.public_key()[1..]] {
            assert!(suite.verify(public_key, b"data", &signature).is_err());
        }
    }
}
