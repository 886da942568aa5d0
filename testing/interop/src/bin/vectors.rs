//! Runs files of test vectors.
//!
//! Prints `FILE: P passed, F failed, S skipped` for each file, and why cases failed on the error stream.
//! All cases of a file of a known kind are run. Exits with 1 if anything failed or nothing ran, with 2
//! without arguments.

use std::path::Path;
use std::process::ExitCode;

use folkmoot_interop::report::{FileError, Report, files};
use folkmoot_mls::crypto::PROVIDER;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.is_empty() {
        eprintln!("usage: vectors FILE_OR_FOLDER...");
        return ExitCode::from(2);
    }
    let (mut ran, mut failed) = (0, 0);
    for argument in &arguments {
        let found = match files(Path::new(argument)) {
            Ok(found) => found,
            Err(error) => {
                println!("{}: cannot be read: {error}", argument.display());
                failed += 1;
                continue;
            }
        };
        for file in found {
            // The same numbers each time: a failure can be repeated.
            match Report::of_file(&file, &PROVIDER, &mut ChaCha20Rng::seed_from_u64(0)) {
                Ok(report) => {
                    println!("{}: {report}", file.display());
                    for (place, failure) in &report.failures {
                        eprintln!("  case {place}: {failure}");
                    }
                    ran += report.passed + report.failures.len();
                    failed += report.failures.len();
                }
                Err(error @ FileError::UnknownKind) => {
                    println!(
                        "{}: 0 passed, 0 failed, 1 skipped ({error})",
                        file.display()
                    );
                }
                Err(error) => {
                    println!(
                        "{}: 0 passed, 1 failed, 0 skipped ({error})",
                        file.display()
                    );
                    failed += 1;
                }
            }
        }
    }
    if failed > 0 {
        ExitCode::FAILURE
    } else if ran == 0 {
        eprintln!("no test vector was run");
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
