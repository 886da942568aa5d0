//! The official vectors. They lie in `$MLS_VECTORS`, or beside the project in `../shared/vectors`.

use std::path::PathBuf;

use folkmoot_interop::report::Report;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// The folder with the vectors. With `CI=true` it has to be there.
fn folder() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let folder = std::env::var_os("MLS_VECTORS").map_or_else(|| beside.into(), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    let message = format!("the official vectors are not in {}", folder.display());
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
    eprintln!("\n*** SKIPPED: {message}; set MLS_VECTORS ***\n");
    None
}

/// Runs one file: nothing fails, and as many cases pass as have an implemented suite.
fn run(name: &str, passed: usize) {
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
    assert_eq!(report.passed, passed, "{name}: {report}");
}

macro_rules! official {
    ($($test:ident: $name:literal, $passed:literal;)*) => {$(
        #[test]
        fn $test() {
            run($name, $passed);
        }
    )*};
}

official! {
    tree_math: "tree-math", 10;
    crypto_basics: "crypto-basics", 3;
    deserialization: "deserialization", 14;
    key_schedule: "key-schedule", 3;
    transcript_hashes: "transcript-hashes", 3;
    secret_tree: "secret-tree", 9;
    message_protection: "message-protection", 3;
    messages: "messages", 300;
    psk_secret: "psk_secret", 33;
    tree_operations: "tree-operations", 5;
    tree_validation: "tree-validation", 42;
    treekem: "treekem", 33;
    welcome: "welcome", 3;
    passive_client_welcome: "passive-client-welcome", 24;
    passive_client_handling_commit: "passive-client-handling-commit", 39;
    passive_client_random: "passive-client-random", 1;
}
