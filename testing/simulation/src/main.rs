//! Runs with faults by hand: `cargo run --release -p folkmoot-simulation -- --seed N [--runs M]`.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use folkmoot_simulation::faults::{Counts, Settings, replay, run};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Simulated runs with faults. One run is told step by step; of many, those that fail.
#[derive(Parser)]
struct Arguments {
    /// The seed of the first run. Everything about a run follows from its seed.
    #[arg(long)]
    seed: u64,
    /// How many runs, with one seed after the other.
    #[arg(long, default_value_t = 1)]
    runs: u64,
}

fn main() -> ExitCode {
    let Arguments { seed, runs } = Arguments::parse();
    let settings = Settings {
        trace: runs == 1,
        ..Settings::default()
    };
    let bar = ProgressBar::new(runs);
    if runs == 1 || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} runs, {eta} left {msg}") {
        bar.set_style(style);
    }
    let (mut counts, mut failed) = (Counts::default(), 0);
    for seed in seed..seed.saturating_add(runs) {
        let outcome = run(seed, &settings);
        for line in &outcome.trace {
            println!("{line}");
        }
        counts.add(&outcome.counts);
        if let Err(violation) = outcome.result {
            failed += 1;
            bar.suspend(|| println!("seed {seed}: {violation}\n    {}", replay(seed)));
            bar.set_message(format!("({failed} failed)"));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("{runs} runs, {failed} failed: {counts}");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
