//! Repeats seeds of the mixed groups: `peers --seed N [--steps M] [--runs K]`. With one run it tells each
//! step; the coverage comes at the end. `peers --departures` prints the table of departures.

use std::process::ExitCode;

use folkmoot_interop::peers::coverage::Coverage;
use folkmoot_interop::peers::departures;
use folkmoot_interop::peers::driver::{Scenario, run};

fn main() -> ExitCode {
    let (mut seed, mut steps, mut runs) = (0_u64, 40_u32, 1_u64);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|number| number.parse().ok());
        let known = match argument.as_str() {
            "--departures" => {
                print!("{}", departures::table());
                return ExitCode::SUCCESS;
            }
            "--seed" => number().map(|number| seed = number),
            "--steps" => number().map(|number| steps = u32::try_from(number).unwrap_or(u32::MAX)),
            "--runs" => number().map(|number| runs = number),
            _ => None,
        };
        if known.is_none() {
            eprintln!("usage: peers --seed N [--steps M] [--runs K] | --departures");
            return ExitCode::from(2);
        }
    }
    let mut coverage = Coverage::default();
    for seed in seed..seed.saturating_add(runs) {
        match run(&Scenario::of_seed(seed), steps, &mut coverage) {
            Ok(log) if runs == 1 => println!("{}\n", log.join("\n")),
            Ok(_) => {}
            Err(failure) => {
                eprintln!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    print!("{coverage}");
    ExitCode::SUCCESS
}
