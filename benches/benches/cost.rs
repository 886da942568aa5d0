//! What groups cost, of all sizes and of all contestants: see the crate's documentation.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use folkmoot_benches::cell::{Contestant, Task};
use folkmoot_benches::member::CredentialKind;
use folkmoot_benches::run::{self, Plan, Printer};
use folkmoot_benches::setting::{self, Setting, Shape};
use folkmoot_benches::task::{self, Job};
use folkmoot_benches::{floor, plot, report};

/// Measures what operations on MLS groups cost, side by side with OpenMLS, mls-rs and the primitives,
/// and writes RESULTS.md and cost.svg.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    child: Option<ChildTask>,

    /// Sizes of groups.
    #[arg(long, value_delimiter = ',', default_value = "2,100,1000,10000,50000")]
    sizes: Vec<u32>,

    /// Who is measured, by the beginning of the name: ours, own-credential, openmls, openmls-libcrux,
    /// openmls-rustcrypto, mls-rs.
    #[arg(long, value_delimiter = ',')]
    contestants: Vec<String>,

    /// What is measured, by the beginning of the name: create, join, blank, filled, messages, stored, open,
    /// resident, values, threads.
    #[arg(long, value_delimiter = ',')]
    tasks: Vec<String>,

    /// How many seconds a peer's cell may take, with what has to be made before.
    #[arg(long, default_value_t = 48)]
    limit: u64,

    /// Gives each cell of a peer five minutes, also where it is not expected to end by then.
    #[arg(long)]
    full: bool,

    /// How often contestants take turns where a cell is short.
    #[arg(long, default_value_t = 3)]
    turns: u32,

    /// The folder for RESULTS.md and cost.svg.
    #[arg(long, default_value = env!("CARGO_MANIFEST_DIR"))]
    output: PathBuf,

    /// What cargo says.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What this program does for itself in processes of their own.
#[derive(Subcommand)]
enum ChildTask {
    #[command(hide = true)]
    Primitives { folder: PathBuf },
    #[command(hide = true)]
    KeyPackages {
        folder: PathBuf,
        credential: String,
        members: u32,
    },
    #[command(hide = true)]
    Setting {
        folder: PathBuf,
        shape: String,
        credential: String,
        members: u32,
        #[arg(action = clap::ArgAction::Set)]
        tree_apart: bool,
        file: PathBuf,
    },
    #[command(hide = true)]
    Cell {
        folder: PathBuf,
        task: String,
        contestant: String,
        members: u32,
    },
}

type Failed = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let options = Options::parse();
    let is_child = options.child.is_some();
    match start(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if is_child {
                run::print_failure(&*error);
            }
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: Options) -> Result<(), Failed> {
    match options.child {
        Some(child) => perform(child),
        None => measure(&options),
    }
}

fn perform(child: ChildTask) -> Result<(), Failed> {
    match child {
        ChildTask::Primitives { .. } => {
            run::print_primitives(floor::measure()?);
            Ok(())
        }
        ChildTask::KeyPackages {
            folder,
            credential,
            members,
        } => {
            let credential = CredentialKind::of_id(&credential).ok_or("no such credential")?;
            Ok(setting::write_key_packages(&folder, credential, members)?)
        }
        ChildTask::Setting {
            folder,
            shape,
            credential,
            members,
            tree_apart,
            file,
        } => {
            let setting = Setting {
                folder: &folder,
                shape: Shape::of_id(&shape).ok_or("no such shape")?,
                members,
                credential: CredentialKind::of_id(&credential).ok_or("no such credential")?,
                tree_apart,
            };
            Ok(setting.make(&file)?)
        }
        ChildTask::Cell {
            folder,
            task,
            contestant,
            members,
        } => {
            let job = Job {
                folder: &folder,
                task: Task::of_id(&task).ok_or("no such task")?,
                contestant: Contestant::of_id(&contestant).ok_or("no such contestant")?,
                members,
            };
            Ok(task::perform(&job, &mut Printer)?)
        }
    }
}

fn measure(options: &Options) -> Result<(), Failed> {
    let named = |id: &str, names: &[String]| {
        names.is_empty() || names.iter().any(|name| id.starts_with(name.as_str()))
    };
    let contestants = Contestant::ALL.iter().copied();
    let tasks = Task::ALL.iter().copied();
    let mut sizes = options.sizes.clone();
    sizes.sort_unstable();
    let (limit, short_limit) = match options.full {
        true => (300, None),
        false => (options.limit, Some(options.limit / 4)),
    };
    let plan = Plan {
        sizes,
        contestants: contestants
            .filter(|contestant| named(contestant.id(), &options.contestants))
            .collect(),
        tasks: tasks
            .filter(|task| named(task.id(), &options.tasks))
            .collect(),
        limit: Duration::from_secs(limit),
        short_limit: short_limit.map(Duration::from_secs),
        turns: options.turns,
    };
    let folder = tempfile::tempdir()?;
    let started = std::time::Instant::now();
    let measured = run::run(&plan, folder.path())?;
    let report = report::report(&plan, &measured, started.elapsed());
    std::fs::write(options.output.join("RESULTS.md"), report)?;
    plot::write(&plan, &measured, &options.output.join("cost.svg"))?;
    println!("{}", options.output.join("RESULTS.md").display());
    Ok(())
}
