//! Scripts through the interop service: our server in every role, every suite, on loopback.
//!
//! Those of the working group are run too where `$MLS_CONFIGS` names their folder.

use std::path::{Path, PathBuf};

use folkmoot_interop::report::files;
use folkmoot_interop::runner::script::ScriptFile;
use folkmoot_interop::runner::{Options, Peer, describe, run_script};
use folkmoot_interop::server::{Client, serve};
use folkmoot_mls::crypto::{CryptoProvider, PROVIDER, aws_lc, rust_crypto};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::net::TcpListener;

/// A server of ours, and a connection to it.
async fn peer(provider: &'static dyn CryptoProvider, seed: u64) -> Peer {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = Client::new(provider, ChaCha20Rng::seed_from_u64(seed));
    tokio::spawn(serve(client, listener));
    Peer::connect(&address).await.unwrap()
}

fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join(name)
        .with_extension("json")
}

/// Runs a file of scripts; everything has to pass, in every suite that the provider has.
async fn pass(path: &Path, peers: &[Peer], options: &Options) {
    let file = ScriptFile::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(!file.scripts.is_empty());
    for (name, script) in file.scripts {
        let outcomes = run_script(peers, &script, options).await;
        for outcome in &outcomes {
            let Some((step, error)) = &outcome.failure else {
                continue;
            };
            let step_text = describe(&script, *step);
            let (suite, encrypt) = (outcome.suite, outcome.encrypt);
            panic!(
                "{}/{name}, suite {suite}, encrypted: {encrypt}, step {step}: {error}\n{step_text}",
                path.display()
            );
        }
        let expected = match options.suite {
            Some(_) => 1,
            None => PROVIDER.suites().len(),
        };
        assert!(outcomes.len() >= expected * options.encrypt.len(), "{name}");
    }
}

macro_rules! own_scripts {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let peers = [peer(&PROVIDER, 0).await];
                pass(&own(stringify!($name)), &peers, &Options::default()).await;
            }
        )*

        #[test]
        fn no_file_is_forgotten() {
            let folder = own("").with_file_name("");
            let found: Vec<_> = files(&folder)
                .unwrap()
                .iter()
                .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            let mut named = vec![$(stringify!($name)),*];
            named.sort_unstable();
            assert_eq!(found, named);
        }
    };
}

own_scripts! {
    extensions,
    external_commits,
    keys,
    members,
    messages,
    outside_proposals,
    successors,
    together,
}

/// One on each provider, in all roles: what one signs or seals, the other verifies or opens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_in_all_roles() {
    let peers = [
        peer(&aws_lc::PROVIDER, 1).await,
        peer(&rust_crypto::PROVIDER, 2).await,
    ];
    let all = Options {
        suite: Some(1),
        ..Options::default()
    };
    pass(&own("keys"), &peers, &all).await;
    // In the other suites who plays whom is drawn by lot.
    let some = Options {
        encrypt: vec![true],
        random: true,
        ..Options::default()
    };
    pass(&own("keys"), &peers, &some).await;
    pass(&own("members"), &peers, &some).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_working_groups() {
    let Some(folder) = std::env::var_os("MLS_CONFIGS") else {
        println!("skipped: $MLS_CONFIGS names no folder with the working group's scripts");
        return;
    };
    let peers = [peer(&PROVIDER, 0).await];
    for path in files(Path::new(&folder)).unwrap() {
        pass(&path, &peers, &Options::default()).await;
    }
}
