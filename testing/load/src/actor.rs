//! One device in a process of its own, so that its memory can be told from that of others.
//!
//! It reads a command from each line of its standard input and answers each with a line: what it took, or
//! why it failed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use folkmoot_client::key::StoreKey;
use folkmoot_client::store::Sqlite;
use folkmoot_client::transport::ServerUrl;
use folkmoot_client::{Client, System};

use crate::counting::Counting;
use crate::group::{Failed, TEXT, TITLE, peak};

/// A device with its state in a file.
pub type Device = Client<Sqlite, Counting, System>;

/// What something took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    pub seconds: f64,
    /// Bytes.
    pub up: u64,
    pub down: u64,
    /// The most memory that the process has had so far, bytes.
    pub peak: u64,
}

/// Opens a device's state.
pub fn open(state: &Path, transport: Counting) -> Result<Device, Failed> {
    // Nobody's secrets are in these files.
    let key = StoreKey::from_bytes([7; 32].into());
    let store = Sqlite::open(state, &key).map_err(folkmoot_client::Error::from)?;
    Ok(Client::new(store, transport, System::new()))
}

/// Does what is said on standard input, one line at a time.
pub async fn act(state: &Path, server: &ServerUrl) -> Result<(), Failed> {
    let transport = Counting::default();
    let bytes = transport.bytes.clone();
    let well_known = folkmoot_client::transport::Grpc::new()
        .well_known(server)
        .await?;
    let mut device = open(state, transport)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let begun = Instant::now();
        let done = match command {
            "register" => device.register(rest, server, &well_known).await.map(drop),
            "new" => {
                let users = std::fs::read_to_string(rest)?;
                let users: Vec<String> = users.lines().map(str::to_owned).collect();
                device.new_conversation(TITLE, &users).await.map(drop)
            }
            "sync" => device.refresh().await.map(drop),
            "update" => device.update(TITLE).await,
            "leave" => device.leave(TITLE).await.map(drop),
            "send" => device.send(TITLE, TEXT, rest.as_bytes()).await,
            _ => return Err(Failed::Command),
        };
        let seconds = begun.elapsed().as_secs_f64();
        let (up, down) = bytes.take();
        let peak = peak(std::process::id());
        match done {
            Ok(()) => println!("ok {seconds} {up} {down} {peak}"),
            Err(error) => println!("failed {error}"),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// A device's process.
pub struct Actor {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Actor {
    pub fn start(state: &Path, server: &ServerUrl) -> Result<Self, Failed> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["actor", "--server", &server.to_string(), "--state"])
            .arg(state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or(Failed::Command)?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// Has something done, and waits for it.
    pub fn ask(&mut self, command: &str) -> Result<Took, Failed> {
        writeln!(self.input, "{command}")?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let failed = || Failed::Actor(line.trim().to_owned());
        let rest = line.trim().strip_prefix("ok ").ok_or_else(failed)?;
        let numbers: Vec<f64> = rest
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        match numbers[..] {
            [seconds, up, down, peak] => Ok(Took {
                seconds,
                up: up as u64,
                down: down as u64,
                peak: peak as u64,
            }),
            _ => Err(failed()),
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
