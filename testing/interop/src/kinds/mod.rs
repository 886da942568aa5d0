//! The kinds of official vectors, one module each. A case is deserialized and then verified by the
//! implementation of its suite.

use folkmoot_mls::crypto::aws_lc::PROVIDER;
use folkmoot_mls::crypto::{CipherSuite, CryptoProvider, Suite};
use rand_core::CryptoRng;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::check::Failure;

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

/// What became of one case.
#[derive(Debug)]
pub enum Outcome {
    /// Everything is as the vector says.
    Passed,
    /// Something is not.
    Failed(Failure),
    /// It was not tried.
    Skipped(Skip),
}

/// Why a case was not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// We do not implement its suite.
    CipherSuite(CipherSuite),
    /// It needs something that the engine reads but does not act on yet.
    NotActedOn(&'static str),
}

impl From<Result<(), Failure>> for Outcome {
    fn from(result: Result<(), Failure>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Passed)
    }
}

/// A kind of vectors.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its name, which is that of the official file.
    pub name: &'static str,
    /// Fields that every case of this kind has, and together none of another.
    fields: &'static [&'static str],
    run: fn(Value, &mut dyn CryptoRng) -> Outcome,
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
    pub fn run(&self, case: Value, rng: &mut dyn CryptoRng) -> Outcome {
        (self.run)(case, rng)
    }
}

/// All kinds.
pub static KINDS: &[Kind] = &[
    Kind {
        name: "tree-math",
        fields: &["n_leaves", "n_nodes"],
        run: |case, _| run(case, |case: tree_math::Case| case.verify()),
    },
    Kind {
        name: "crypto-basics",
        fields: &["ref_hash", "expand_with_label", "encrypt_with_label"],
        run: |case, rng| {
            run_with_suite(case, |case: crypto_basics::Case, suite| {
                case.verify(suite, rng)
            })
        },
    },
    Kind {
        name: "deserialization",
        fields: &["vlbytes_header"],
        run: |case, _| run(case, |case: deserialization::Case| case.verify()),
    },
    Kind {
        name: "key-schedule",
        fields: &["initial_init_secret", "epochs"],
        run: |case, _| run_with_suite(case, |case: key_schedule::Case, suite| case.verify(suite)),
    },
    Kind {
        name: "transcript-hashes",
        fields: &["interim_transcript_hash_before"],
        run: |case, _| {
            run_with_suite(case, |case: transcript_hashes::Case, suite| {
                case.verify(suite)
            })
        },
    },
    Kind {
        name: "secret-tree",
        fields: &["sender_data", "leaves"],
        run: |case, _| run_with_suite(case, |case: secret_tree::Case, suite| case.verify(suite)),
    },
    Kind {
        name: "message-protection",
        fields: &["proposal_priv", "application_priv"],
        run: |case, rng| {
            run_with_suite(case, |case: message_protection::Case, suite| {
                case.verify(suite, rng)
            })
        },
    },
    Kind {
        name: "messages",
        fields: &["mls_welcome", "public_message_application"],
        run: |case, _| run(case, |case: messages::Case| case.verify()),
    },
    Kind {
        name: "psk_secret",
        fields: &["psks", "psk_secret"],
        run: |case, _| run_with_suite(case, |case: psk_secret::Case, suite| case.verify(suite)),
    },
    Kind {
        name: "tree-operations",
        fields: &["tree_before", "proposal_sender"],
        run: |case, _| {
            run_with_suite(case, |case: tree_operations::Case, suite| {
                case.verify(suite)
            })
        },
    },
    Kind {
        name: "tree-validation",
        fields: &["resolutions", "tree_hashes"],
        run: |case, rng| {
            run_with_suite(case, |case: tree_validation::Case, suite| {
                case.verify(suite, rng)
            })
        },
    },
    Kind {
        name: "treekem",
        fields: &["leaves_private", "update_paths"],
        run: |case, rng| run_with_suite(case, |case: treekem::Case, suite| case.verify(suite, rng)),
    },
    Kind {
        name: "welcome",
        fields: &["signer_pub", "welcome"],
        run: |case, _| run_with_suite(case, |case: welcome::Case, suite| case.verify(suite)),
    },
    Kind {
        name: "passive-client",
        fields: &["initial_epoch_authenticator"],
        run: |case, rng| {
            run_with_suite(case, |case: passive_client::Case, suite| {
                case.verify(suite, rng)
            })
        },
    },
];

fn run<C: DeserializeOwned>(case: Value, verify: impl FnOnce(C) -> Result<(), Failure>) -> Outcome {
    serde_json::from_value(case)
        .map_err(Failure::from)
        .and_then(verify)
        .into()
}

/// As [`run`], for cases of one suite. A case of a suite that we lack is not read further.
fn run_with_suite<C: DeserializeOwned>(
    case: Value,
    verify: impl FnOnce(C, &'static dyn Suite) -> Result<(), Failure>,
) -> Outcome {
    let number = case.get("cipher_suite").and_then(Value::as_u64);
    let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else {
        return Outcome::Failed(Failure::Mismatch("cipher_suite"));
    };
    match PROVIDER.suite(CipherSuite(number)) {
        Some(suite) => run(case, |case| verify(case, suite)),
        None => Outcome::Skipped(Skip::CipherSuite(CipherSuite(number))),
    }
}
