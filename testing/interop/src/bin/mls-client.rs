//! Our engine as a client of the working group's interop service, for a test runner to drive.

use std::net::IpAddr;

use clap::{Parser, ValueEnum};
use folkmoot_interop::server::{Client, serve};
use folkmoot_mls::crypto::{CryptoProvider, aws_lc, rust_crypto};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::net::TcpListener;

/// Serves the interop service: HTTP/2 in clear, for test machines only.
#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port; 0 takes a free one, which is printed.
    #[arg(long, default_value_t = 50001)]
    port: u16,
    /// Whose cryptography.
    #[arg(long, value_enum, default_value_t = Provider::AwsLc)]
    provider: Provider,
}

#[derive(Clone, Copy, ValueEnum)]
enum Provider {
    AwsLc,
    RustCrypto,
}

impl Provider {
    fn suites(self) -> &'static dyn CryptoProvider {
        match self {
            Self::AwsLc => &aws_lc::PROVIDER,
            Self::RustCrypto => &rust_crypto::PROVIDER,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments {
        host,
        port,
        provider,
    } = Arguments::parse();
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let client = Client::new(provider.suites(), ChaCha20Rng::from_seed(seed));
    let listener = TcpListener::bind((host, port)).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(serve(client, listener).await?)
}
