//! Hash, HMAC, HKDF, AEAD, signatures.

use folkmoot_mls::crypto::{CipherSuite, CryptoError, SignatureKeyPair};

use super::{PROVIDERS, rng, suite, suites, unhex};

/// The suites with NIST curves.
const NIST: [CipherSuite; 3] = [
    CipherSuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
    CipherSuite::MLS_256_DHKEMP384_AES256GCM_SHA384_P384,
    CipherSuite::MLS_256_DHKEMP521_AES256GCM_SHA512_P521,
];

#[test]
fn a_provider_gives_the_suites_that_it_lists() {
    for provider in PROVIDERS {
        for cipher_suite in provider.suites() {
            assert_eq!(
                provider.suite(*cipher_suite).map(|suite| suite.id()),
                Some(*cipher_suite)
            );
        }
        assert!(provider.suite(CipherSuite(0xf001)).is_none());
        assert!(provider.suite(CipherSuite(0)).is_none());
    }
}

#[test]
fn parts_are_hashed_as_one() {
    for suite in suites() {
        let whole = suite.hash(b"one two three");
        assert_eq!(suite.hash_parts(&[b"one ", b"", b"two", b" three"]), whole);
        assert_eq!(whole.len(), suite.hash_length());
        let mac = suite.hmac(b"key", b"one two three");
        assert_eq!(suite.hmac_parts(b"key", &[b"one", b" two three"]), mac);
        assert_eq!(suite.hash_parts(&[]), suite.hash(b""));
    }
}

/// RFC 5869, appendix A.1, and RFC 4231, section 4.3, for the suites with SHA-256.
#[test]
fn hkdf_and_hmac_give_the_published_values() {
    for suite in suites().filter(|suite| suite.hash_length() == 32) {
        let mac = suite.hmac(b"Jefe", b"what do ya want for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(*mac, *unhex(expected));

        let prk = suite.extract(&unhex("000102030405060708090a0b0c"), &[0x0b; 22]);
        let expected = "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5";
        assert_eq!(*prk, *unhex(expected));
        let info = unhex("f0f1f2f3f4f5f6f7f8f9");
        let okm = suite.expand(&prk, &[&info[..4], &info[4..]], 42);
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf\
                        34007208d5b887185865";
        assert_eq!(*okm, *unhex(expected));
        assert_eq!(suite.expand(&prk, &[], 255 * 32).len(), 255 * 32);
    }
}

#[test]
fn a_mac_is_verified_in_full() {
    for suite in suites() {
        let mac = suite.mac(b"key", b"data");
        assert_eq!(suite.verify_mac(b"key", b"data", &mac), Ok(()));
        let wrong = Err(CryptoError::InvalidMac);
        assert_eq!(suite.verify_mac(b"key", b"data", &mac[1..]), wrong);
        assert_eq!(suite.verify_mac(b"key", b"data", &[]), wrong);
        assert_eq!(suite.verify_mac(b"key", b"other", &mac), wrong);
    }
}

#[test]
fn a_changed_ciphertext_does_not_open() {
    for suite in suites() {
        let key = vec![1; suite.aead_key_length()];
        let nonce = vec![2; suite.aead_nonce_length()];
        let open = |ciphertext: &[u8], aad: &[u8]| suite.aead_open(&key, &nonce, aad, ciphertext);
        let sealed = suite.aead_seal(&key, &nonce, b"aad", b"plaintext");
        assert_eq!(sealed.len(), 9 + suite.aead_tag_length());
        assert_eq!(*open(&sealed, b"aad").unwrap(), *b"plaintext");
        let failed = Err(CryptoError::DecryptionFailed);
        assert_eq!(open(&sealed, b"other"), failed);
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 0x80;
            assert_eq!(open(&changed, b"aad"), failed);
            assert_eq!(open(&sealed[..place], b"aad"), failed);
        }
        assert_eq!(suite.aead_open(&key[1..], &nonce, b"aad", &sealed), failed);
        assert_eq!(suite.aead_open(&key, &nonce[1..], b"aad", &sealed), failed);
    }
}

#[test]
fn signatures_are_bound_to_key_label_and_content() {
    for suite in suites() {
        let [pair, other] = [1, 2].map(|seed| suite.signature_key_pair(&mut rng(seed)));
        let signature = suite.sign_with_label(&pair, "Label", b"content").unwrap();
        let verify = |key: &SignatureKeyPair, label, content| {
            suite.verify_with_label(key.public_key(), label, content, &signature)
        };
        assert_eq!(verify(&pair, "Label", b"content"), Ok(()));
        let wrong = Err(CryptoError::InvalidSignature);
        assert_eq!(verify(&other, "Label", b"content"), wrong);
        assert_eq!(verify(&pair, "Other", b"content"), wrong);
        assert_eq!(verify(&pair, "Label", b"contents"), wrong);
        let public_key = suite.signature_public_key(pair.private_key());
        assert_eq!(public_key.as_ref(), Ok(pair.public_key()));
        let cut = &signature[..signature.len() - 1];
        assert_eq!(suite.verify(pair.public_key(), b"content", cut), wrong);
        assert!(
            suite
                .verify(&pair.public_key()[1..], b"content", &signature)
                .is_err()
        );
        let short = SignatureKeyPair::new(vec![1; 31].into(), pair.public_key().clone());
        assert_eq!(
            suite.sign(&short, b"content"),
            Err(CryptoError::InvalidPrivateKey)
        );
    }
}

#[test]
fn key_pairs_follow_from_the_randomness() {
    for suite in suites() {
        let keys = |seed| {
            let mut rng = rng(seed);
            (
                suite.signature_key_pair(&mut rng),
                suite.kem_key_pair(&mut rng),
            )
        };
        assert_eq!(keys(7), keys(7));
        assert_ne!(keys(7).0, keys(8).0);
        assert_ne!(keys(7).1, keys(8).1);
    }
}

#[test]
fn a_batch_names_the_first_bad_signature() {
    use folkmoot_mls::crypto::{SignedData, labels::signed_data};
    for suite in suites() {
        let mut rng = rng(3);
        let pairs: Vec<_> = (0..20)
            .map(|_| suite.signature_key_pair(&mut rng))
            .collect();
        let data: Vec<_> = (0..20_u8).map(|i| signed_data("Label", &[i])).collect();
        let sign = |(pair, data): (&SignatureKeyPair, &Vec<u8>)| suite.sign(pair, data).unwrap();
        let signatures: Vec<_> = pairs.iter().zip(&data).map(sign).collect();
        let items: Vec<_> = (0..20)
            .map(|i| SignedData {
                public_key: pairs[i].public_key(),
                data: (&data[i]).into(),
                signature: &signatures[i],
            })
            .collect();
        assert_eq!(suite.verify_batch(&items, &mut rng), Ok(()));
        assert_eq!(suite.verify_batch(&items[..1], &mut rng), Ok(()));
        assert_eq!(suite.verify_batch(&[], &mut rng), Ok(()));
        for bad in [0, 7, 19] {
            let mut items = items.clone();
            items[bad].data = b"something else".into();
            items[19].data = b"something else".into();
            let error = (bad, CryptoError::InvalidSignature);
            assert_eq!(suite.verify_batch(&items, &mut rng), Err(error));
        }
        let mut items = items.clone();
        items[4].signature = &[];
        items[5].public_key = &[];
        let error = (4, CryptoError::InvalidSignature);
        assert_eq!(suite.verify_batch(&items, &mut rng), Err(error));
        items[4] = items[3].clone();
        let Err((5, _)) = suite.verify_batch(&items, &mut rng) else {
            panic!("an empty key")
        };
    }
}

#[test]
fn points_of_nist_curves_have_one_encoding() {
    for suite in NIST.into_iter().flat_map(suite) {
        let pair = suite.signature_key_pair(&mut rng(1));
        let signature = suite.sign(&pair, b"data").unwrap();
        assert_eq!(suite.verify(pair.public_key(), b"data", &signature), Ok(()));
        let last = pair.public_key().len() - 1;
        let half = last / 2;
        let parity = pair.public_key()[last] & 1;
        let compressed = [&[2 + parity], &pair.public_key()[1..=half]].concat();
        let mut hybrid = pair.public_key().to_vec();
        hybrid[0] = 6 + parity;
        let mut off_curve = pair.public_key().to_vec();
        off_curve[last] ^= 1;
        for key in [compressed, hybrid, off_curve, vec![0]] {
            assert!(suite.verify(&key, b"data", &signature).is_err());
            let refused = Err(CryptoError::InvalidPublicKey);
            assert_eq!(suite.kem_check_public_key(&key), refused);
            assert_eq!(suite.kem_encap(&key, &mut rng(2)).map(|_| ()), refused);
        }
    }
}

/// ECDSA signatures are DER, and the shortest DER (RFC 9420, section 5.1.2).
#[test]
fn ecdsa_signatures_have_one_encoding() {
    for suite in NIST.into_iter().flat_map(suite) {
        let pair = suite.signature_key_pair(&mut rng(1));
        let signature = suite.sign(&pair, b"data").unwrap().into_vec();
        // Those of P-521 are longer than 127 bytes, so that their length takes two.
        let head = if signature[1] == 0x81 { 3 } else { 2 };
        let [tag, r_length] = [signature[head], signature[head + 1]];
        assert_eq!([signature[0], tag], [0x30, 0x02]);
        let wrap = |body: &[u8]| match u8::try_from(body.len()).unwrap() {
            length @ 0..0x80 => [&[0x30, length], body].concat(),
            length => [&[0x30, 0x81, length], body].concat(),
        };
        assert_eq!(wrap(&signature[head..]), signature);
        // A zero in front of r.
        let r_and_s = &signature[head + 2..];
        let padded = wrap(&[&[0x02, r_length + 1, 0][..], r_and_s].concat());
        let long_form = [
            &[0x30, 0x82, 0, (signature.len() - head) as u8],
            &signature[head..],
        ];
        let (r, s) = r_and_s.split_at(r_length.into());
        let raw = [r, &s[2..]].concat();
        for other in [padded, long_form.concat(), raw, wrap(&[2, 1, 0, 2, 1, 0])] {
            let verified = suite.verify(pair.public_key(), b"data", &other);
            assert_eq!(verified, Err(CryptoError::InvalidSignature), "{other:x?}");
        }
    }
}
