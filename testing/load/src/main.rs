//! Loads a Delivery Service: many writers append to their own logs as fast as receipts come back,
//! then everything is read again and compared with the receipts.
//!
//!     cargo run --release -p folkmoot-load -- appends --server https://localhost:8443#PIN --logs 64
//!
//! Opening logs has to be free: the server runs with `serve --no-tokens`.
//!
//! Or takes a large group through all that a group goes through, and writes down what it took:
//!
//!     cargo build --release && cargo run --release -p folkmoot-load -- group \
//!         --folkmoot target/release/folkmoot --output testing/load/RESULTS.md

mod actor;
mod counting;
mod group;
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use folkmoot_client::transport::{Grpc, ServerUrl, ServiceAddress, TransportError};
use indicatif::{ProgressBar, ProgressStyle};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use writer::{Fault, Writer};

/// Loads the services.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Appends to many logs at once and prints how many receipts came back, and how fast.
    Appends(Appends),
    /// Takes a large group through all that a group goes through.
    Group(group::Options),
    /// One device, which does what it is told.
    #[command(hide = true)]
    Actor {
        #[arg(long)]
        server: ServerUrl,
        #[arg(long)]
        state: PathBuf,
    },
}

#[derive(clap::Args)]
struct Appends {
    /// The server, as `folkmoot serve` prints it.
    #[arg(long)]
    server: ServerUrl,
    /// Logs written at the same time, each by one writer that waits for its receipts.
    #[arg(long, default_value_t = 16)]
    logs: usize,
    /// Seconds of writing.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Bytes of each message.
    #[arg(long, default_value_t = 300)]
    size: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result: Result<(), Box<dyn std::error::Error>> = match Options::parse().command {
        Command::Appends(options) => run(options).await.map_err(Into::into),
        Command::Group(options) => match group::run(options).await {
            Ok(page) => {
                println!("{page}");
                Ok(())
            }
            Err(failed) => Err(failed.into()),
        },
        Command::Actor { server, state } => actor::act(&state, &server).await.map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("load: {fault}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Appends) -> Result<(), Fault> {
    let published = Grpc::new().well_known(&options.server).await?;
    let delivery = published.delivery.ok_or_else(|| TransportError::Protocol {
        url: options.server.url.clone(),
    })?;
    let to = ServiceAddress {
        url: delivery.url,
        key: delivery.key,
        pin: options.server.pin,
    };

    let bar = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {pos} receipts, {per_sec}").expect("a template"),
    );
    let until = Instant::now() + Duration::from_secs(options.seconds);
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..options.logs {
        let (to, bar) = (to.clone(), bar.clone());
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| Fault::Randomness)?;
        writers.spawn(async move {
            // One transport each: writers share no connection, as clients do not.
            let mut writer =
                Writer::open(Grpc::new(), to, &mut ChaCha20Rng::from_seed(seed)).await?;
            let mut waits = Vec::new();
            while Instant::now() < until {
                let start = Instant::now();
                writer.append(&vec![0x5a; options.size]).await?;
                waits.push(start.elapsed());
                bar.inc(1);
            }
            writer.read_back().await?;
            Ok::<_, Fault>(waits)
        });
    }
    let mut waits = Vec::new();
    while let Some(result) = writers.join_next().await {
        waits.extend(result.map_err(|_| Fault::Panicked)??);
    }
    bar.finish_and_clear();
    waits.sort_unstable();
    if waits.is_empty() {
        return Err(Fault::Nothing);
    }
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "{} appends of {} B to {} logs: {:.0}/s, wait p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms; \
         all read back",
        waits.len(),
        options.size,
        options.logs,
        waits.len() as f64 / options.seconds as f64,
        at(0.5),
        at(0.99),
        at(1.0),
    );
    Ok(())
}
