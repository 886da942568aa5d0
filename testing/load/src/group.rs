//! A large group through the real services: created, joined, updated, messaged and left.
//!
//! The server, the founder and one joiner are processes of their own, whose memory is read from the
//! system. All the others are devices in this process. Most of them only register, as people do who have
//! not looked yet; some live, and follow everything.
//!
//! Everything is paid for with tokens, as a server asks by default, unless it is told otherwise. A fresh account
//! can take the packages of 640 devices, so a large group has several founders then: the first one makes it, the
//! others offer to be committers, and each adds its share.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use folkmoot_client::store::MemoryStore;
use folkmoot_client::transport::{Grpc, ServerUrl, TransportError};
use folkmoot_client::{Client, System};
use folkmoot_protocol::well_known::WellKnown;
use indicatif::{ProgressBar, ProgressStyle};

use crate::actor::{Actor, Device, Took, open};
use crate::counting::Counting;

/// What the group is called.
pub const TITLE: &str = "folk";
/// What is said in it is.
pub const TEXT: &str = "text/plain;charset=utf-8";

/// How many register at the same time.
const AT_ONCE: usize = 16;

/// Devices whose packages a fresh account has tokens for.
const SHARE: usize = 640;

/// How often those who do not agree look again.
const ROUNDS: usize = 4;

/// The most founders: a group names no more committers by itself.
const FOUNDERS: usize = 8;

/// How large.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// The `folkmoot` binary, which serves.
    #[arg(long)]
    folkmoot: PathBuf,
    /// Devices in the group; 50,000 if FOLKMOOT_SCALE is set.
    #[arg(long)]
    devices: Option<usize>,
    /// How many of them live; the others only register.
    #[arg(long, default_value_t = 50)]
    live: usize,
    /// Pay for nothing: then one founder adds all at once.
    #[arg(long)]
    no_tokens: bool,
    /// A file for the results, which go to standard output too.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Why there are no results.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Client(#[from] folkmoot_client::Error),
    #[error("a device failed: {0}")]
    Actor(String),
    #[error("a device was told what it does not know")]
    Command,
    #[error("the server did not start: {0}")]
    Server(String),
    #[error("a task panicked")]
    Panicked,
    #[error("{found} of {expected} devices are in the same epoch and have all messages")]
    Apart { found: usize, expected: usize },
    #[error("the group has {0} members")]
    Members(usize),
    #[error("a group needs {0} devices at least")]
    TooSmall(usize),
    #[error("tokens pay for a group of at most {0} devices here; larger ones run with --no-tokens")]
    TooManyToPayFor(usize),
}

/// The most memory that a process has had, bytes; 0 where the system does not tell.
pub fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// A running server with a fresh folder.
struct Server {
    child: Child,
    url: ServerUrl,
}

impl Server {
    fn start(binary: &Path, data: &Path, paid: bool) -> Result<Self, Failed> {
        let mut child = Command::new(binary)
            .args(["--json", "serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args((!paid).then_some("--no-tokens"))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let url = line
            .split("\"server\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let url = url.and_then(|url| url.parse().ok());
        match url {
            Some(url) => Ok(Self { child, url }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(Failed::Server(line.trim().to_owned()))
            }
        }
    }

    fn peak(&self) -> u64 {
        peak(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of the results.
struct Step {
    what: String,
    took: Took,
    /// The server's most so far.
    server: u64,
}

/// Everything, and the results as a page.
pub async fn run(options: Options) -> Result<String, Failed> {
    let scaled = std::env::var_os("FOLKMOOT_SCALE").is_some();
    let devices = options
        .devices
        .unwrap_or(if scaled { 50_000 } else { 5_000 });
    // The founder, a joiner in a process of its own, one who updates and one who leaves.
    let live = options.live.max(4);
    if devices < live {
        return Err(Failed::TooSmall(live));
    }
    let folder = std::env::temp_dir().join(format!("folkmoot-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let paid = !options.no_tokens;
    if paid && devices > FOUNDERS * SHARE {
        return Err(Failed::TooManyToPayFor(FOUNDERS * SHARE));
    }
    let result = Run::new(&options.folkmoot, &folder, paid).await;
    let result = match result {
        Ok(run) => run.all(devices, live).await,
        Err(error) => Err(error),
    };
    let _ = std::fs::remove_dir_all(&folder);
    let page = result?;
    if let Some(output) = &options.output {
        std::fs::write(output, &page)?;
    }
    Ok(page)
}

struct Run {
    folder: PathBuf,
    server: Server,
    well_known: WellKnown,
    paid: bool,
    steps: Vec<Step>,
}

impl Run {
    async fn new(binary: &Path, folder: &Path, paid: bool) -> Result<Self, Failed> {
        let server = Server::start(binary, &folder.join("server"), paid)?;
        let well_known = Grpc::new().well_known(&server.url).await?;
        Ok(Self {
            folder: folder.to_owned(),
            server,
            well_known,
            paid,
            steps: Vec::new(),
        })
    }

    fn note(&mut self, what: impl Into<String>, took: Took) {
        let (what, server) = (what.into(), self.server.peak());
        eprintln!(
            "{what}: {:.1} s, {} up, {} down, peak {}, server {}",
            took.seconds,
            size(took.up),
            size(took.down),
            size(took.peak),
            size(server),
        );
        self.steps.push(Step { what, took, server });
    }

    async fn all(mut self, devices: usize, live: usize) -> Result<String, Failed> {
        let begun = Instant::now();
        let transport = Counting::default();
        let names = self.register(devices - live, &transport).await?;
        // Those that live in this process; two more are processes of their own.
        let mut here = Vec::new();
        for number in 0..live - 2 {
            let state = self.folder.join(format!("live{number}.sqlite"));
            let mut device = open(&state, transport.beside())?;
            let name = format!("live{number}");
            device
                .register(&name, &self.server.url, &self.well_known)
                .await?;
            here.push(device);
        }
        let mut founder = Actor::start(&self.folder.join("founder.sqlite"), &self.server.url)?;
        let mut joiner = Actor::start(&self.folder.join("joiner.sqlite"), &self.server.url)?;
        founder.ask("register founder")?;
        joiner.ask("register joiner")?;
        let (up, down) = transport.bytes.take();
        let took = Took {
            seconds: begun.elapsed().as_secs_f64(),
            up,
            down,
            peak: 0,
        };
        self.note(format!("{devices} devices register"), took);

        // Those who live come last, so that they join the finished group; the founders first.
        let founders = match self.paid {
            true => devices.div_ceil(SHARE).min(here.len() + 1),
            false => 1,
        };
        let mut users: Vec<String> = (0..founders - 1).map(|n| format!("live{n}")).collect();
        users.extend(names);
        users.extend((founders - 1..live - 2).map(|number| format!("live{number}")));
        users.push("joiner".into());
        let shares: Vec<Vec<String>> = users
            .chunks(users.len().div_ceil(founders))
            .map(<[String]>::to_vec)
            .collect();
        let list = self.folder.join("users");
        std::fs::write(&list, shares[0].join("\n"))?;
        let took = founder.ask(&format!("new {}", list.display()))?;
        self.note(
            format!("the founder creates the group and adds {}", shares[0].len()),
            took,
        );
        let mut others = here.split_off(founders - 1);
        if founders > 1 {
            let begun = Instant::now();
            here = together(here).await?;
            let took = took_here(begun, &transport);
            self.note(
                format!("{} founders join and offer to commit", here.len()),
                took,
            );
            let took = founder.ask("update")?;
            self.note("the founder names them committers", took);
            for (device, share) in here.iter_mut().zip(&shares[1..]) {
                // They offer one after another: a minute each.
                for _ in 1..founders {
                    match device.update(TITLE).await {
                        Ok(()) => break,
                        Err(folkmoot_client::Error::NotCommitter(_)) => {}
                        Err(error) => return Err(error.into()),
                    }
                    device.sync().await?;
                    founder.ask("update")?;
                }
                transport.bytes.take();
                let begun = Instant::now();
                device.add(TITLE, share).await?;
                let took = took_here(begun, &transport);
                self.note(format!("one of them adds {}", share.len()), took);
            }
        }

        let took = joiner.ask("sync")?;
        self.note("one joins", took);
        let begun = Instant::now();
        for device in &mut others {
            device.refresh().await?;
        }
        let took = took_here(begun, &transport);
        self.note(
            format!("{} others join, one after another", others.len()),
            took,
        );
        here.append(&mut others);
        let took = founder.ask("sync")?;
        self.note("the founder reads what the others did", took);
        let took = sync(&mut here, &transport).await?;
        self.note(format!("{} others read what is new", here.len()), took);
        self.agree(&mut here, 0, &transport).await?;

        match here.first_mut().filter(|_| founders > 1) {
            Some(updater) => {
                let begun = Instant::now();
                updater.update(TITLE).await?;
                let took = took_here(begun, &transport);
                self.note("one renews its keys", took);
                let took = founder.ask("sync")?;
                self.note("the founder reads that", took);
            }
            None => {
                let took = founder.ask("update")?;
                self.note("the founder renews its keys", took);
            }
        }
        let took = joiner.ask("sync")?;
        self.note("the joiner reads that", took);
        let took = sync(&mut here, &transport).await?;
        self.note(format!("{} others read that", here.len()), took);
        self.agree(&mut here, 0, &transport).await?;

        let took = founder.ask("send Hello, folk")?;
        self.note("the founder sends a message", took);
        let took = joiner.ask("sync")?;
        self.note("the joiner reads it", took);
        let took = sync(&mut here, &transport).await?;
        self.note(format!("{} others read it", here.len()), took);
        self.agree(&mut here, 1, &transport).await?;

        let took = joiner.ask("leave")?;
        self.note("the joiner asks to leave", took);
        // A message of the founder's commits what was proposed first.
        let took = founder.ask("send Farewell")?;
        self.note("the founder commits that, and sends a message", took);
        let took = sync(&mut here, &transport).await?;
        self.note(format!("{} others read both", here.len()), took);
        self.agree(&mut here, 2, &transport).await?;
        let left = here.first_mut().ok_or(Failed::TooSmall(4))?;
        let members = left.members(TITLE)?.members.len();
        if members != devices - 1 {
            return Err(Failed::Members(members));
        }
        Ok(self.page(devices, live))
    }

    /// Makes accounts that nobody uses any further. Through the same calls as every account.
    async fn register(&self, count: usize, transport: &Counting) -> Result<Vec<String>, Failed> {
        let style = ProgressStyle::with_template("{spinner} {pos} of {len} accounts, {per_sec}")
            .expect("a template");
        let bar = ProgressBar::new(count as u64).with_style(style);
        let next = Arc::new(AtomicUsize::new(0));
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let (next, bar) = (next.clone(), bar.clone());
            let (url, well_known) = (self.server.url.clone(), self.well_known.clone());
            let transport = transport.beside();
            workers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok::<_, Failed>(());
                    }
                    let store = MemoryStore::default();
                    let mut device = Client::new(store, transport.clone(), System::new());
                    device
                        .register(&format!("user{number}"), &url, &well_known)
                        .await?;
                    bar.inc(1);
                }
            });
        }
        while let Some(result) = workers.join_next().await {
            result.map_err(|_| Failed::Panicked)??;
        }
        bar.finish_and_clear();
        Ok((0..count).map(|number| format!("user{number}")).collect())
    }

    /// All who live here are in the same epoch, and have all messages. Some may have been too early to see
    /// what others have done since, as naming committers: they look again.
    async fn agree(
        &self,
        here: &mut [Device],
        messages: usize,
        transport: &Counting,
    ) -> Result<(), Failed> {
        let expected = here.len();
        let mut found = 0;
        for _ in 0..ROUNDS {
            let mut first = None;
            found = 0;
            for device in here.iter_mut() {
                let at = device.conversation(TITLE)?;
                let stands = (at.epoch, at.epoch_authenticator);
                let history = device.history(TITLE, None)?;
                let said = history
                    .iter()
                    .filter(|entry| matches!(entry.what, folkmoot_client::What::Message(_)));
                let same = *first.get_or_insert_with(|| stands.clone()) == stands;
                found += usize::from(same && said.count() == messages);
            }
            if found == expected {
                return Ok(());
            }
            sync(here, transport).await?;
        }
        Err(Failed::Apart { found, expected })
    }

    fn page(&self, devices: usize, live: usize) -> String {
        let build = match cfg!(debug_assertions) {
            true => "a development build",
            false => "a release build",
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let paid = match self.paid {
            true => "Everything is paid for with tokens.",
            false => "Nothing is paid for (`--no-tokens`).",
        };
        let mut page = format!(
            "# A group of {devices} devices through the real services\n\n\
             Made by `folkmoot-load group`, {build}, on {cores} cores. {live} devices live, the others \
             have registered and were added. Server, founder and one joiner are processes of their own. \
             Bytes are those of calls and answers, without what gRPC and TLS add; of memory, the most that \
             the process has had until then. {paid}\n\n\
             | | seconds | up | down | memory | server's memory |\n\
             | --- | --- | --- | --- | --- | --- |\n"
        );
        for Step { what, took, server } in &self.steps {
            let memory = if took.peak == 0 {
                "".to_owned()
            } else {
                size(took.peak)
            };
            let (up, down, server) = (size(took.up), size(took.down), size(*server));
            let seconds = took.seconds;
            let _ = writeln!(
                page,
                "| {what} | {seconds:.2} | {up} | {down} | {memory} | {server} |"
            );
        }
        page
    }
}

/// All of them look at the same time, and wait for their turns.
async fn together(devices: Vec<Device>) -> Result<Vec<Device>, Failed> {
    let mut tasks = tokio::task::JoinSet::new();
    for (number, mut device) in devices.into_iter().enumerate() {
        tasks.spawn(async move { device.sync().await.map(|_| (number, device)) });
    }
    let mut done = Vec::new();
    while let Some(result) = tasks.join_next().await {
        done.push(result.map_err(|_| Failed::Panicked)??);
    }
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, device)| device).collect())
}

fn took_here(begun: Instant, transport: &Counting) -> Took {
    let (up, down) = transport.bytes.take();
    Took {
        seconds: begun.elapsed().as_secs_f64(),
        up,
        down,
        peak: 0,
    }
}

/// All of them read what is new, one after another. Nobody waits for its turn to do more.
async fn sync(here: &mut [Device], transport: &Counting) -> Result<Took, Failed> {
    let begun = Instant::now();
    for device in here {
        device.refresh().await?;
    }
    Ok(took_here(begun, transport))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.0} KB", bytes as f64 / 1e3),
        _ => format!("{:.0} MB", bytes as f64 / 1e6),
    }
}
