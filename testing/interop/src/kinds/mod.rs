//! The kinds of official vectors, one module each. A case is deserialized and then verified by the
//! implementation of its suite.

use folkmoot_mls::crypto::{CipherSuite, CryptoProvider, Secret, Suite};
use rand_core::CryptoRng;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::check::{Failure, Hex};

pub mod crypto_basics;
pub mod deserialization;
pub mod key_schedule;
pub mod message_protection;
pub mod messages;
pub mod passive_client;
pub mod psk_secret;
pub mod secret_tree;
pub mod transcript_hashes;
pub mod tree_math;
pub mod tree_operations;
pub mod tree_validation;
pub mod treekem;
pub mod welcome;

/// A kind of vectors.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its name, which is that of the official file.
    pub name: &'static str,
    /// Fields that every case of this kind has, and together none of another.
    fields: &'static [&'static str],
    run: fn(Value, &'static dyn CryptoProvider, &mut dyn CryptoRng) -> Result<(), Failure>,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Kind {
    /// The kind whose fields a case has.
    #[must_use]
    pub fn recognise(case: &Value) -> Option<&'static Self> {
        KINDS
            .iter()
            .find(|kind| kind.fields.iter().all(|field| case.get(field).is_some()))
    }

    /// Verifies one case.
    ///
    /// # Errors
    /// [`Failure`]: what is not as the vector says, or that the provider lacks the case's suite.
    pub fn run(
        &self,
        case: Value,
        provider: &'static dyn CryptoProvider,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Failure> {
        (self.run)(case, provider, rng)
    }
}

/// All kinds.
pub static KINDS: &[Kind] = &[
    Kind {
        name: "tree-math",
        fields: &["n_leaves", "n_nodes"],
        run: |case, _, _| run(case, |case: tree_math::Case| case.verify()),
    },
    Kind {
        name: "crypto-basics",
        fields: &["ref_hash", "expand_with_label", "encrypt_with_label"],
        run: |case, provider, rng| {
            run_with_suite(case, provider, |case: crypto_basics::Case, suite| {
                case.verify(suite, rng)
            })
        },
    },
    Kind {
        name: "deserialization",
        fields: &["vlbytes_header"],
        run: |case, _, _| run(case, |case: deserialization::Case| case.verify()),
    },
    Kind {
        name: "key-schedule",
        fields: &["initial_init_secret", "epochs"],
        run: |case, provider, _| {
            run_with_suite(case, provider, |case: key_schedule::Case, suite| {
                case.verify(suite)
            })
        },
    },
    Kind {
        name: "transcript-hashes",
        fields: &["interim_transcript_hash_before"],
        run: |case, provider, _| {
            run_with_suite(case, provider, |case: transcript_hashes::Case, suite| {
                case.verify(suite)
            })
        },
    },
    Kind {
        name: "secret-tree",
        fields: &["sender_data", "leaves"],
        run: |case, provider, _| {
            run_with_suite(case, provider, |case: secret_tree::Case, suite| {
                case.verify(suite)
            })
        },
    },
    Kind {
        name: "message-protection",
        fields: &["proposal_priv", "application_priv"],
        run: |case, provider, rng| {
            run_with_suite(case, provider, |case: message_protection::Case, suite| {
                case.verify(suite, rng)
            })
        },
    },
    Kind {
        name: "messages",
        fields: &["mls_welcome", "public_message_application"],
        run: |case, _, _| run(case, |case: messages::Case| case.verify()),
    },
    Kind {
        name: "psk_secret",
        fields: &["psks", "psk_secret"],
        run: |case, provider, _| {
            run_with_suite(case, provider, |case: psk_secret::Case, suite| {
                case.verify(suite)
            })
        },
    },
    Kind {
        name: "tree-operations",
        fields: &["tree_before", "proposal_sender"],
        run: |case, provider, _| {
            run_with_suite(case, provider, |case: tree_operations::Case, suite| {
                case.verify(suite)
            })
        },
    },
    Kind {
        name: "tree-validation",
        fields: &["resolutions", "tree_hashes"],
        run: |case, provider, rng| {
            run_with_suite(case, provider, |case: tree_validation::Case, suite| {
                case.verify(suite, rng)
            })
        },
    },
    Kind {
        name: "treekem",
        fields: &["leaves_private", "update_paths"],
        run: |case, provider, rng| {
            run_with_suite(case, provider, |case: treekem::Case, suite| {
                case.verify(suite, rng)
            })
        },
    },
    Kind {
        name: "welcome",
        fields: &["signer_pub", "welcome"],
        run: |case, provider, _| {
            run_with_suite(case, provider, |case: welcome::Case, suite| {
                case.verify(suite)
            })
        },
    },
    Kind {
        name: "passive-client",
        fields: &["initial_epoch_authenticator"],
        run: |case, provider, rng| {
            run_with_suite(case, provider, |case: passive_client::Case, suite| {
                case.verify(provider, suite, rng)
            })
        },
    },
];

fn run<C: DeserializeOwned>(
    case: Value,
    verify: impl FnOnce(C) -> Result<(), Failure>,
) -> Result<(), Failure> {
    verify(serde_json::from_value(case)?)
}

/// As [`run`], for cases of one suite. A case of a suite that the provider lacks fails.
fn run_with_suite<C: DeserializeOwned>(
    case: Value,
    provider: &'static dyn CryptoProvider,
    verify: impl FnOnce(C, &'static dyn Suite) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let suite = case
        .get("cipher_suite")
        .and_then(Value::as_u64)
        .and_then(|number| u16::try_from(number).ok())
        .and_then(|number| provider.suite(CipherSuite(number)))
        .ok_or(Failure::Mismatch("cipher_suite"))?;
    run(case, |case| verify(case, suite))
}

/// A private key of a vector. Some files hold the scalars of NIST curves as numbers, without the
/// leading zeros that `SerializePrivateKey` writes (RFC 9180, section 7.1.2).
fn private_key(suite: &dyn Suite, key: &Hex) -> Secret {
    let length = match suite.id() {
        CipherSuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256
        | CipherSuite::MLS_256_DHKEMP521_AES256GCM_SHA512_P521
        | CipherSuite::MLS_256_DHKEMP384_AES256GCM_SHA384_P384 => suite.kem_private_key_length(),
        _ => key.len(),
    };
    let mut bytes = vec![0; length.saturating_sub(key.len())];
    bytes.extend_from_slice(key);
    bytes.into()
}
