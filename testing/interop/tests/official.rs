//! The official vectors. They lie in `$MLS_VECTORS`, or beside the project in `../shared/vectors`.

use std::io::Write;
use std::path::{Path, PathBuf};

use folkmoot_interop::report::Report;
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

/// The suites that are implemented; cases of another are skipped.
const SUITES: [u64; 3] = [1, 2, 3];

/// How many cases of a file have to pass: those of an implemented suite, or of none.
fn cases_to_pass(path: &Path) -> usize {
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let implemented = |case: &&Value| {
        let suite = case.get("cipher_suite");
        suite.is_none_or(|suite| suite.as_u64().is_some_and(|suite| SUITES.contains(&suite)))
    };
    cases.iter().filter(implemented).count()
}

/// Runs one file: nothing fails, and every case passes that can be tried.
fn run(name: &str) {
    let Some(folder) = folder() else { return };
    let path = folder.join(name).with_extension("json");
    let report = Report::of_file(&path, &mut ChaCha20Rng::seed_from_u64(0))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    println!("{name}: {report}");
    // The three files of passive clients are of one kind.
    assert!(
        name.starts_with(report.kind.name),
        "{name} was taken for {}",
        report.kind.name
    );
    assert!(report.failures.is_empty(), "{name}: {:?}", report.failures);
    assert!(report.passed > 0, "{name}: {report}");
    assert_eq!(report.passed, cases_to_pass(&path), "{name}: {report}");
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
