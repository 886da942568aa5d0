//! Folkmoot: private group messaging. This crate is the binary: `serve`, the client's commands,
//! `inspect` and `demo`.

mod commands;
mod demo;
mod error;
mod home;
mod options;
mod output;
mod report;
mod serve;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use error::CliError;
use options::{Command, Options};
use output::Printer;

/// What takes longer shows that it is under way.
const PATIENCE: Duration = Duration::from_millis(400);

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => return usage(&error),
    };
    let printer = Printer::new(options.json);
    match run(options, &printer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer.fail(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says what is wrong with the command line, or gives the help that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && wants_json {
        Printer::new(true).fail(&error.to_string().trim_end());
    } else {
        // Nothing is left to tell if even this cannot be written.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(options: Options, printer: &Printer) -> Result<(), CliError> {
    let home = &options.home;
    match options.command {
        Command::Serve(options) => Ok(serve::run(&options, printer.json)?),
        Command::Register { name, server } => {
            online(printer, commands::register(home, &name, &server, printer))
        }
        Command::New { group, with } => {
            online(printer, commands::new(home, &group, &with, printer))
        }
        Command::Add { group, users } => {
            online(printer, commands::add(home, &group, &users, printer))
        }
        Command::Remove { group, users } => {
            online(printer, commands::remove(home, &group, &users, printer))
        }
        Command::Leave { group } => online(printer, commands::leave(home, &group, printer)),
        Command::Invite {
            group, ask, stop, ..
        } => online(printer, commands::invite(home, &group, ask, stop, printer)),
        Command::Knock { link, beside } => {
            online(printer, commands::knock(home, &link, !beside, printer))
        }
        Command::Knocks { group } => commands::knocks(home, &group, printer),
        Command::Accept { group, user } => {
            online(printer, commands::accept(home, &group, &user, printer))
        }
        Command::Decline { group, user } => {
            online(printer, commands::decline(home, &group, &user, printer))
        }
        Command::Update { group } => online(printer, commands::update(home, &group, printer)),
        Command::Send { group, text } => online(
            printer,
            commands::send(home, &group, text.as_deref(), printer),
        ),
        Command::Sync => online(printer, commands::sync(home, printer)),
        Command::Read { group, follow } => {
            online(printer, commands::read(home, &group, follow, printer))
        }
        Command::Groups => commands::groups(home, printer),
        Command::Members { group } => commands::members(home, &group, printer),
        Command::Inspect { file } => commands::inspect(&file, printer),
        Command::Demo(options) => Ok(demo::run(&options)?),
    }
}

/// Runs a command that speaks with a server, and shows that it is under way when it takes long.
fn online(
    printer: &Printer,
    command: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(CliError::Runtime)?.block_on(async {
        tokio::pin!(command);
        if let Ok(result) = tokio::time::timeout(PATIENCE, &mut command).await {
            return result;
        }
        let _busy = printer.busy();
        command.await
    })
}
