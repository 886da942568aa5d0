//! Folkmoot: private group messaging.

mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Private group messaging.
#[derive(Debug, Parser)]
#[command(name = "folkmoot", version)]
struct Arguments {
    /// Print data (JSON) instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the services for a community.
    Serve(serve::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Command::Serve(options) => serve::run(options, arguments.json),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("folkmoot: {error}");
            ExitCode::FAILURE
        }
    }
}
