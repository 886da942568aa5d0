//! Our engine as a client of the working group's interop service, for a test runner to drive.

use std::net::IpAddr;

use clap::Parser;
use folkmoot_interop::server::{Client, serve};
use folkmoot_mls::crypto::aws_lc::PROVIDER;
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
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { host, port } = Arguments::parse();
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let client = Client::new(&PROVIDER, ChaCha20Rng::from_seed(seed));
    let listener = TcpListener::bind((host, port)).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(serve(client, listener).await?)
}
