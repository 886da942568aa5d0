//! Runs scripts of the working group's format against clients that speak its interop service.
//!
//! Prints a line for each script, and why runs failed on the error stream. Exits with 1 if anything failed
//! or nothing ran.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use folkmoot_interop::report::files;
use folkmoot_interop::runner::script::ScriptFile;
use folkmoot_interop::runner::{Options, Peer, describe, run_script};
use folkmoot_interop::server::{Client, serve};
use folkmoot_mls::crypto::PROVIDER;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::net::TcpListener;

/// Drives clients through scripts.
#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// A client, as HOST:PORT; may come more than once. Without any, our own engine plays all.
    #[arg(long)]
    client: Vec<String>,
    /// A file of scripts or a folder of them; may come more than once.
    #[arg(long, required = true)]
    configs: Vec<PathBuf>,
    /// Only this cipher suite.
    #[arg(long)]
    suite: Option<u32>,
    /// Only with handshakes encrypted.
    #[arg(long, conflicts_with = "public")]
    private: bool,
    /// Only with handshakes in clear.
    #[arg(long)]
    public: bool,
    /// One random assignment of clients to roles, not all.
    #[arg(long)]
    random: bool,
    /// Compare only what the calls of the scripts themselves answer.
    #[arg(long)]
    no_compare: bool,
    /// What ids, keys and assignments come from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let options = Options {
        suite: arguments.suite,
        encrypt: match (arguments.private, arguments.public) {
            (true, _) => vec![true],
            (_, true) => vec![false],
            _ => vec![true, false],
        },
        random: arguments.random,
        compare: !arguments.no_compare,
        seed: arguments.seed,
    };
    let mut addresses = arguments.client;
    if addresses.is_empty() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        addresses.push(listener.local_addr()?.to_string());
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let client = Client::new(&PROVIDER, ChaCha20Rng::from_seed(seed));
        tokio::spawn(serve(client, listener));
    }
    let mut peers = Vec::new();
    for address in addresses {
        let peer = Peer::connect(&address).await?;
        println!("{address}: {}, suites {:?}", peer.name, peer.suites);
        peers.push(peer);
    }
    let (mut ran, mut failed) = (0, 0);
    for configs in arguments.configs {
        for path in files(&configs)? {
            let file = path.file_stem().unwrap_or_default().display().to_string();
            for (name, script) in ScriptFile::read(&path)?.scripts {
                let outcomes = run_script(&peers, &script, &options).await;
                let mut bad = 0;
                for outcome in &outcomes {
                    let Some((step, error)) = &outcome.failure else {
                        continue;
                    };
                    bad += 1;
                    let handshakes = if outcome.encrypt { "private" } else { "public" };
                    eprintln!(
                        "{file}/{name}, suite {}, {handshakes}, roles {:?}, step {step}: {error}\n  {}",
                        outcome.suite,
                        outcome.roles,
                        describe(&script, *step),
                    );
                }
                println!(
                    "{file}/{name}: {} of {} runs passed",
                    outcomes.len() - bad,
                    outcomes.len()
                );
                ran += outcomes.len();
                failed += bad;
            }
        }
    }
    println!("{ran} runs, {failed} failed");
    Ok(ExitCode::from(u8::from(ran == 0 || failed > 0)))
}
