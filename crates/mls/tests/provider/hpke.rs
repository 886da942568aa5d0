//! HPKE: the values of RFC 9180, appendix A, and what is refused.

use folkmoot_mls::codec::Bytes;
use folkmoot_mls::commit::HpkeCiphertext;
use folkmoot_mls::crypto::{CipherSuite, CryptoError, HpkeKeyPair};

use super::{Given, rng, suite, suites, unhex};

/// One setup of base mode with its first message.
struct Published {
    cipher_suite: CipherSuite,
    ikm_e: &'static str,
    pk_e: &'static str,
    sk_r: &'static str,
    pk_r: &'static str,
    ciphertext: &'static str,
}

const INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
const AAD: &[u8] = b"Count-0";
const PLAINTEXT: &[u8] = b"Beauty is truth, truth beauty";

/// RFC 9180, appendices A.1.1, A.3.1 and A.6.1.
const PUBLISHED: [Published; 3] = [
    Published {
        cipher_suite: CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519,
        ikm_e: "7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234",
        pk_e: "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431",
        sk_r: "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8",
        pk_r: "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d",
        ciphertext: "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a9\
                     6d8770ac83d07bea87e13c512a",
    },
    Published {
        cipher_suite: CipherSuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
        ikm_e: "4270e54ffd08d79d5928020af4686d8f6b7d35dbe470265f1f5aa22816ce860e",
        pk_e: "04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325ac9\
               8536d7b61a1af4b78e5b7f951c0900be863c403ce65c9bfcb9382657222d18c4",
        sk_r: "f3ce7fdae57e1a310d87f1ebbde6f328be0a99cdbcadf4d6589cf29de4b8ffd2",
        pk_r: "04fe8c19ce0905191ebc298a9245792531f26f0cece2460639e8bc39cb7f706a82\
               6a779b4cf969b8a0e539c7f62fb3d30ad6aa8f80e30f1d128aafd68a2ce72ea0",
        ciphertext: "5ad590bb8baa577f8619db35a36311226a896e7342a6d836d8b7bcd2f20b6c7f\
                     9076ac232e3ab2523f39513434",
    },
    Published {
        cipher_suite: CipherSuite::MLS_256_DHKEMP521_AES256GCM_SHA512_P521,
        ikm_e: "7f06ab8215105fc46aceeb2e3dc5028b44364f960426eb0d8e4026c2f8b5d7e7a986688f1591abf5ab753c357a5d\
               6f0440414b4ed4ede71317772ac98d9239f70904",
        pk_e: "040138b385ca16bb0d5fa0c0665fbbd7e69e3ee29f63991d3e9b5fa740aab8900aaeed46ed73a49055758425a0ce\
               36507c54b29cc5b85a5cee6bae0cf1c21f2731ece2013dc3fb7c8d21654bb161b463962ca19e8c654ff24c94dd28\
               98de12051f1ed0692237fb02b2f8d1dc1c73e9b366b529eb436e98a996ee522aef863dd5739d2f29b0",
        sk_r: "01462680369ae375e4b3791070a7458ed527842f6a98a79ff5e0d4cbde83c27196a3916956655523a6a2556a7af6\
               2c5cadabe2ef9da3760bb21e005202f7b2462847",
        pk_r: "0401b45498c1714e2dce167d3caf162e45e0642afc7ed435df7902ccae0e84ba0f7d373f646b7738bbbdca11ed91\
               bdeae3cdcba3301f2457be452f271fa6837580e661012af49583a62e48d44bed350c7118c0d8dc861c238c72a2bd\
               a17f64704f464b57338e7f40b60959480c0e58e6559b190d81663ed816e523b6b6a418f66d2451ec64",
        ciphertext: "170f8beddfe949b75ef9c387e201baf4132fa7374593dfafa90768788b7b2b200aafcc6d80ea4c795a7c5b841a",
    },
];

#[test]
fn sealing_gives_the_published_ciphertexts() {
    for case in PUBLISHED {
        for suite in suite(case.cipher_suite) {
            let info = suite.hpke_info(&[&unhex(INFO)]);
            let public_key = unhex(case.pk_r);
            let derived = suite.kem_derive_key_pair(&unhex(case.ikm_e));
            assert_eq!(**derived.public_key(), *unhex(case.pk_e));
            // Random bytes are a key of X25519, and what a key of the other curves is derived from.
            let mut rng = match suite.id() {
                CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519 => {
                    Given(derived.private_key().to_vec())
                }
                _ => Given(unhex(case.ikm_e)),
            };
            let sealed = suite
                .hpke_seal(&public_key, &info, AAD, PLAINTEXT, &mut rng)
                .unwrap();
            assert_eq!(*sealed.kem_output, *unhex(case.pk_e));
            assert_eq!(*sealed.ciphertext, *unhex(case.ciphertext));

            let private_key = unhex(case.sk_r);
            assert_eq!(*suite.kem_public_key(&private_key).unwrap(), *public_key);
            let key_pair = HpkeKeyPair::new(private_key.into(), Bytes::from(public_key).into());
            let opened = suite.hpke_open(&key_pair, &info, AAD, &sealed).unwrap();
            assert_eq!(*opened, *PLAINTEXT);
        }
    }
}

#[test]
fn one_info_serves_many_recipients() {
    for suite in suites() {
        let info = suite.encrypt_info("Welcome", b"context");
        for seed in 0..5 {
            let pair = suite.kem_key_pair(&mut rng(seed));
            let (key, rng) = (pair.public_key(), &mut rng(100 + seed));
            let sealed = suite.hpke_seal(key, &info, &[], b"secret", rng).unwrap();
            let open =
                |label, context: &[u8]| suite.decrypt_with_label(&pair, label, context, &sealed);
            assert_eq!(*open("Welcome", b"context").unwrap(), *b"secret");
            let failed = Err(CryptoError::DecryptionFailed);
            assert_eq!(open("Welcome", b"contexts"), failed);
            assert_eq!(open("Other", b"context"), failed);
        }
    }
}

#[test]
fn what_was_sealed_for_another_does_not_open() {
    for suite in suites() {
        let [pair, other] = [1, 2].map(|seed| suite.kem_key_pair(&mut rng(seed)));
        let key = pair.public_key();
        let sealed = suite
            .encrypt_with_label(key, "L", b"", b"secret", &mut rng(3))
            .unwrap();
        let opened = suite.decrypt_with_label(&other, "L", b"", &sealed);
        assert_eq!(opened, Err(CryptoError::DecryptionFailed));
        let no_point = HpkeCiphertext {
            kem_output: Bytes::from([1; 7]),
            ..sealed
        };
        let opened = suite.decrypt_with_label(&pair, "L", b"", &no_point);
        assert_eq!(opened, Err(CryptoError::InvalidPublicKey));
    }
}

#[test]
fn both_sides_export_the_same_secret() {
    for suite in suites() {
        let pair = suite.kem_key_pair(&mut rng(1));
        let info = suite.hpke_info(&[]);
        let context = b"MLS 1.0 external init secret";
        let (kem_output, sent) = suite
            .hpke_export_sender(pair.public_key(), &info, context, 32, &mut rng(2))
            .unwrap();
        let received = suite.hpke_export_receiver(&pair, &kem_output, &info, context, 32);
        assert_eq!(received, Ok(sent));
    }
}

#[test]
fn an_export_that_is_too_long_is_refused() {
    for suite in suites() {
        let pair = suite.kem_key_pair(&mut rng(1));
        let info = suite.hpke_info(&[]);
        let most = 255 * suite.hash_length();
        let sender = |length| {
            suite.hpke_export_sender(pair.public_key(), &info, b"context", length, &mut rng(2))
        };
        let (kem_output, sent) = sender(most).unwrap();
        assert_eq!(sent.len(), most);
        let receiver =
            |length| suite.hpke_export_receiver(&pair, &kem_output, &info, b"context", length);
        assert_eq!(receiver(most), Ok(sent));
        for length in [most + 1, usize::MAX] {
            assert_eq!(sender(length).err(), Some(CryptoError::OutputTooLong));
            assert_eq!(receiver(length), Err(CryptoError::OutputTooLong));
        }
    }
}

/// A key whose Diffie-Hellman is zero for everybody (RFC 9180, section 7.1.4).
#[test]
fn a_point_of_small_order_is_no_key() {
    for suite in suite(CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519) {
        let zero = [0; 32];
        let mut one = zero;
        one[0] = 1;
        let order_8 = unhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
        let refused = CryptoError::InvalidPublicKey;
        for key in [&zero[..], &one, &order_8, &zero[..31]] {
            assert_eq!(suite.kem_check_public_key(key), Err(refused));
            assert_eq!(suite.kem_encap(key, &mut rng(1)).map(|_| ()), Err(refused));
            let pair = suite.kem_key_pair(&mut rng(2));
            assert_eq!(suite.kem_decap(&pair, key), Err(refused));
        }
        let good = suite.kem_key_pair(&mut rng(3)).public_key().clone();
        assert_eq!(suite.kem_check_public_key(&good), Ok(()));
    }
}

/// What a library made of a private key is kept beside it, for the curve that it was made for.
#[test]
fn a_key_pair_that_was_used_is_as_good_as_new() {
    let one = suite(CipherSuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256);
    let other = suite(CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519);
    for (p256, x25519) in one.into_iter().zip(other) {
        let used = p256.kem_key_pair(&mut rng(1));
        let (_, encapsulated) = p256.kem_encap(used.public_key(), &mut rng(2)).unwrap();
        let new = HpkeKeyPair::new(used.private_key().clone(), used.public_key().clone());
        let first = p256.kem_decap(&used, &encapsulated).unwrap();
        assert_eq!(
            p256.kem_decap(&used.clone(), &encapsulated),
            Ok(first.clone())
        );
        assert_eq!(p256.kem_decap(&new, &encapsulated), Ok(first));
        assert_eq!(p256.kem_check_key_pair(&used), Ok(()));
        // Both have 32 bytes.
        let (_, encapsulated) = x25519
            .kem_encap(x25519.kem_key_pair(&mut rng(3)).public_key(), &mut rng(4))
            .unwrap();
        let new = HpkeKeyPair::new(used.private_key().clone(), used.public_key().clone());
        let of_new = x25519.kem_decap(&new, &encapsulated).unwrap();
        assert_eq!(x25519.kem_decap(&used, &encapsulated), Ok(of_new));
        let invalid = Err(CryptoError::InvalidPrivateKey);
        assert_eq!(x25519.kem_check_key_pair(&used), invalid);
    }
}
