//! The parent: starts a child for each cell, in turn for each contestant, and gathers what they print.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::cell::{Contestant, Row, Task};
use crate::clock::median;
use crate::floor::{Counts, Lengths, Primitives};
use crate::member::{CredentialKind, Failure};
use crate::setting::SettingError;
use crate::task::Samples;

/// The seconds from which on a cell takes one turn only.
const LONG: f64 = 3.0;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sizes of groups, ascending.
    pub sizes: Vec<u32>,
    /// In the order in which they take turns.
    pub contestants: Vec<Contestant>,
    /// Which tasks.
    pub tasks: Vec<Task>,
    /// How long a peer's cell may take on the clock.
    pub limit: Duration,
    /// The limit of a cell that is expected to take longer than the limit, if it is not to be given all
    /// of it.
    pub short_limit: Option<Duration>,
    /// How often contestants take turns where a cell is short.
    pub turns: u32,
}

/// What came out of a cell.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Samples of each row, milliseconds or bytes.
    pub samples: BTreeMap<Row, Vec<f64>>,
    /// Why rows are missing.
    pub missing: Option<Missing>,
}

/// Why a cell has no value.
#[derive(Clone, Debug, PartialEq)]
pub enum Missing {
    /// It was killed after this time.
    TimeLimit {
        /// On the clock, with what had to be made first.
        limit: Duration,
        /// Less than others get, since it was expected not to come to an end.
        short: bool,
    },
    /// The contestant failed, and said this.
    Failed(String),
}

/// All cells.
pub type Outcomes = BTreeMap<(Task, u32, Contestant), Outcome>;

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The primitives.
    pub primitives: Primitives,
    /// What members with basic credentials weigh, and with our own.
    pub lengths: Option<[Lengths; 2]>,
    /// The cells.
    pub outcomes: Outcomes,
}

impl Measured {
    /// The median of a row.
    #[must_use]
    pub fn value(&self, row: Row, members: u32, contestant: Contestant) -> Option<f64> {
        let outcome = self.outcome(row, members, contestant)?;
        median(outcome.samples.get(&row)?)
    }

    /// The milliseconds that a row's primitives cost.
    #[must_use]
    pub fn floor(&self, row: Row, members: u32, credential: CredentialKind) -> Option<f64> {
        let [basic, own] = self.lengths.as_ref()?;
        let lengths = match credential {
            CredentialKind::Basic => basic,
            CredentialKind::Own => own,
        };
        Some(Counts::of(row, members, lengths)?.cost(&self.primitives))
    }

    /// The quickest, or smallest, of the peers as they document themselves.
    #[must_use]
    pub fn best_peer(&self, row: Row, members: u32) -> Option<f64> {
        self.best(row, members, Contestant::is_documented_peer)
    }

    /// The same with ways of storing that no documentation shows.
    #[must_use]
    pub fn best_of_all_peers(&self, row: Row, members: u32) -> Option<f64> {
        self.best(row, members, Contestant::is_peer)
    }

    fn best(&self, row: Row, members: u32, among: fn(Contestant) -> bool) -> Option<f64> {
        let peers = Contestant::ALL.iter().filter(|peer| among(**peer));
        peers
            .filter_map(|peer| self.value(row, members, *peer))
            .min_by(f64::total_cmp)
    }

    /// Whether the same implementation is quicker on its other provider, as smaller groups have shown.
    fn is_beaten(&self, task: Task, members: u32, contestant: Contestant) -> bool {
        const ENOUGH: u32 = 1000;
        let other = match contestant {
            Contestant::OpenMlsLibcrux => Contestant::OpenMlsRustCrypto,
            Contestant::OpenMlsRustCrypto => Contestant::OpenMlsLibcrux,
            _ => return false,
        };
        let sizes = self.outcomes.keys().map(|(_, size, _)| *size);
        let smaller = sizes.filter(|size| (ENOUGH..members).contains(size)).min();
        let value = |contestant| self.value(*task.rows().first()?, smaller?, contestant);
        match (value(contestant), value(other)) {
            (Some(own), Some(other)) => own > other,
            _ => false,
        }
    }

    /// The cell that has the row.
    #[must_use]
    pub fn outcome(&self, row: Row, members: u32, contestant: Contestant) -> Option<&Outcome> {
        let task = Task::ALL.iter().find(|task| task.rows().contains(&row))?;
        self.outcomes.get(&(*task, members, contestant))
    }
}

/// One line of a child.
#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Samples { row: String, samples: Vec<f64> },
    Primitives(Primitives),
    Failed(String),
}

/// A run that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A process or a file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What all cells need.
    #[error("{0}")]
    Setting(#[from] SettingError),
    /// The engine, on what the floor is reckoned from.
    #[error("{0}")]
    Failure(#[from] Failure),
    /// A child that measures what all need.
    #[error("the child that measures {0} failed")]
    Child(&'static str),
}

/// Prints a child's samples as lines for the parent.
#[derive(Debug)]
pub struct Printer;

impl Samples for Printer {
    fn take(&mut self, row: Row, samples: &[f64]) {
        print_line(&Line::Samples {
            row: row.id().to_string(),
            samples: samples.to_vec(),
        });
    }
}

/// Prints the primitives for the parent.
pub fn print_primitives(primitives: Primitives) {
    print_line(&Line::Primitives(primitives));
}

/// Prints why a child has failed.
pub fn print_failure(error: &dyn std::error::Error) {
    print_line(&Line::Failed(error.to_string()));
}

fn print_line(line: &Line) {
    let line = serde_json::to_string(line).unwrap_or_default();
    println!("{line}");
    // At once, since the child may be killed.
    let _ = io::stdout().flush();
}

/// Runs it all.
///
/// # Errors
/// [`RunError`]; what a contestant cannot do is in the outcomes.
pub fn run(plan: &Plan, folder: &Path) -> Result<Measured, RunError> {
    let bar = progress(plan);
    let kinds = [CredentialKind::Basic, CredentialKind::Own];
    let [basic, own] = kinds.map(Lengths::of);
    let mut measured = Measured {
        lengths: Some([basic?, own?]),
        ..Measured::default()
    };
    bar.set_message("primitives");
    let lines = child(folder, &["primitives"], Duration::from_secs(120), |_| {})?.1;
    measured.primitives = lines
        .into_iter()
        .find_map(|line| match line {
            Line::Primitives(primitives) => Some(primitives),
            _ => None,
        })
        .ok_or(RunError::Child("the primitives"))?;
    let mut took: BTreeMap<(Task, Contestant), (u32, f64)> = BTreeMap::new();
    for &members in &plan.sizes {
        bar.set_message(format!("{members} key packages"));
        let own = plan.contestants.contains(&Contestant::OwnCredential);
        let kinds = [
            Some(CredentialKind::Basic),
            own.then_some(CredentialKind::Own),
        ];
        for kind in kinds.into_iter().flatten() {
            let args = ["key-packages", kind.id(), &members.to_string()];
            child(folder, &args, Duration::from_secs(600), |_| {})?;
        }
        for &task in &plan.tasks {
            for turn in 0..plan.turns {
                for &contestant in &plan.contestants {
                    if !task.includes(contestant) {
                        continue;
                    }
                    if measured.is_beaten(task, members, contestant) {
                        continue;
                    }
                    // What takes long is repeated within its child, or once is enough.
                    let known = took.get(&(task, contestant));
                    if turn > 0 && known.is_some_and(|(_, seconds)| *seconds > LONG) {
                        continue;
                    }
                    bar.set_message(format!("{task}, {members}, {contestant}"));
                    let limit = plan.limit_of(known, members, contestant);
                    let key = (task, members, contestant);
                    let before = measured.outcomes.entry(key).or_default();
                    if before.missing.is_none() {
                        let started = Instant::now();
                        *before = cell(folder, key, limit, std::mem::take(before))?;
                        let seconds = started.elapsed().as_secs_f64();
                        let known = took.entry((task, contestant)).or_insert((members, seconds));
                        *known = match before.missing {
                            Some(Missing::TimeLimit { .. }) => (members, f64::INFINITY),
                            _ => (members, seconds),
                        };
                    }
                }
                if turn == 0 {
                    let included = |contestant: &&Contestant| task.includes(**contestant);
                    bar.inc(plan.contestants.iter().filter(included).count() as u64);
                }
            }
        }
    }
    bar.finish_and_clear();
    Ok(measured)
}

impl Plan {
    /// The time limit of a cell, and whether it is a short one.
    fn limit_of(
        &self,
        before: Option<&(u32, f64)>,
        members: u32,
        contestant: Contestant,
    ) -> (Duration, bool) {
        if !contestant.is_peer() {
            return (Duration::from_secs(600), false);
        }
        let expected = before.map_or(0.0, |(smaller, seconds)| {
            let growth = f64::from(members) / f64::from(*smaller);
            match growth > 1.0 {
                // Short ones are mostly the start of the process and what is repeated.
                true if *seconds < 2.0 => 0.0,
                true => seconds * growth,
                false => *seconds,
            }
        });
        match self.short_limit {
            Some(short) if expected > self.limit.as_secs_f64() => (short, true),
            _ => (self.limit, false),
        }
    }
}

fn progress(plan: &Plan) -> ProgressBar {
    let cells: usize = plan
        .tasks
        .iter()
        .map(|task| {
            let included = |contestant: &&Contestant| task.includes(**contestant);
            plan.contestants.iter().filter(included).count()
        })
        .sum();
    let bar = ProgressBar::new((cells * plan.sizes.len()) as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

fn cell(
    folder: &Path,
    (task, members, contestant): (Task, u32, Contestant),
    (limit, short): (Duration, bool),
    mut outcome: Outcome,
) -> Result<Outcome, RunError> {
    let args = ["cell", task.id(), contestant.id(), &members.to_string()];
    let (ended, lines) = child(folder, &args, limit, |command| {
        // mls-rs splits its work by default.
        command.env("RAYON_NUM_THREADS", "1");
        if task == Task::Resident {
            // What is freed goes back to the system, whoever frees it.
            command.env("MALLOC_MMAP_THRESHOLD_", "65536");
            command.env("MALLOC_TRIM_THRESHOLD_", "0");
        }
    })?;
    let mut failed = None;
    for line in lines {
        match line {
            Line::Samples { row, samples } => {
                if let Some(row) = Row::of_id(&row) {
                    outcome.samples.entry(row).or_default().extend(samples);
                }
            }
            Line::Failed(error) => failed = Some(error),
            Line::Primitives(_) => {}
        }
    }
    outcome.missing = match (ended, failed) {
        (Ended::TimeLimit, _) => Some(Missing::TimeLimit { limit, short }),
        (_, Some(error)) => Some(Missing::Failed(error)),
        (Ended::Failed, None) => Some(Missing::Failed("ended without a word".to_string())),
        (Ended::Well, None) => None,
    };
    Ok(outcome)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Well,
    Failed,
    TimeLimit,
}

/// Runs this program as a child until it ends or the limit is over, and reads its lines.
fn child(
    folder: &Path,
    args: &[&str],
    limit: Duration,
    configure: impl FnOnce(&mut Command),
) -> Result<(Ended, Vec<Line>), RunError> {
    let mut command = Command::new(std::env::current_exe()?);
    let (name, rest) = args.split_first().ok_or(RunError::Child("nothing"))?;
    command
        .arg(name)
        .arg(folder)
        .args(rest)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // So that what it has started ends with it.
        .process_group(0);
    configure(&mut command);
    let mut process = command.spawn()?;
    let deadline = Instant::now() + limit;
    let (sender, receiver) = mpsc::channel();
    let stdout = process.stdout.take();
    let reader = std::thread::spawn(move || {
        for line in stdout
            .into_iter()
            .flat_map(|out| BufReader::new(out).lines())
        {
            let line = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            if line.is_some_and(|line: Line| sender.send(line).is_err()) {
                break;
            }
        }
    });
    let mut lines = Vec::new();
    let mut late = false;
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => lines.push(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                late = true;
                kill(&mut process)?;
                break;
            }
        }
    }
    let status = process.wait()?;
    let _ = reader.join();
    let ended = match (late, status.success()) {
        (true, _) => Ended::TimeLimit,
        (false, true) => Ended::Well,
        (false, false) => Ended::Failed,
    };
    Ok((ended, lines))
}

fn kill(process: &mut Child) -> io::Result<()> {
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    match pid {
        Some(pid) => Ok(kill_process_group(pid, Signal::KILL)?),
        None => process.kill(),
    }
}
