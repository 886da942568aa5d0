//! The official vectors. They lie in `$MLS_VECTORS`, or beside the project in `../shared/vectors`.

use std::io::Write;
use std::path::PathBuf;

use folkmoot_interop::report::Report;
use folkmoot_mls::crypto::{CryptoProvider, aws_lc, rust_crypto};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::Value;

/// The folder with the vectors. With `CI=true` it has to be there.
fn folder() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let folder = std::env::var_os("MLS_VECTORS").map_or_else(|| beside.into(), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    let message = format!("the official vectors are not in {}", folder.display());
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
    // Not `eprintln!`, whose output is shown for tests that fail only.
    let skipped = format!("\n*** SKIPPED: {message}; set MLS_VECTORS ***\n\n");
    std::io::stderr().write_all(skipped.as_bytes()).unwrap();
    None
}

/// Runs one file with each provider: every case passes.
fn run(name: &str) {
    let Some(folder) = folder() else { return };
    let path = folder.join(name).with_extension("json");
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let providers: [(&str, &'static dyn CryptoProvider); 2] = [
        ("aws-lc", &aws_lc::PROVIDER),
        ("RustCrypto", &rust_crypto::PROVIDER),
    ];
    for (provider_name, provider) in providers {
        let report = Report::of_file(&path, provider, &mut ChaCha20Rng::seed_from_u64(0))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        println!("{name}, {provider_name}: {report}");
        // The three files of passive clients are of one kind.
        assert!(
            name.starts_with(report.kind.name),
            "{name} was taken for {}",
            report.kind.name
        );
        assert!(report.failures.is_empty(), "{name}: {:?}", report.failures);
        assert!(!cases.is_empty(), "{name}");
        assert_eq!(report.passed, cases.len(), "{name}: {report}");
    }
}

macro_rules! official {
    ($($test:ident: $name:literal;)*) => {$(
        #[test]
        fn $test() {
            run($name);
        }
    )*};
}

official! {
    tree_math: "tree-math";
    crypto_basics: "crypto-basics";
    deserialization: "deserialization";
    key_schedule: "key-schedule";
    transcript_hashes: "transcript-hashes";
    secret_tree: "secret-tree";
    message_protection: "message-protection";
    messages: "messages";
    psk_secret: "psk_secret";
    tree_operations: "tree-operations";
    tree_validation: "tree-validation";
    treekem: "treekem";
    welcome: "welcome";
    passive_client_welcome: "passive-client-welcome";
    passive_client_handling_commit: "passive-client-handling-commit";
    passive_client_random: "passive-client-random";
}
