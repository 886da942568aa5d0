//! A server and people, all as processes of the real binary.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod secrets;
pub mod tap;
pub mod wire;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use serde_json::Value;

/// More of everything, for machines with time.
pub fn scale(few: usize, many: usize) -> usize {
    match std::env::var_os("FOLKMOOT_SCALE") {
        Some(_) => many,
        None => few,
    }
}

/// Kills a process that takes longer than any should, unless this is dropped before. So nobody waits for
/// ever, neither for its end nor for what it says.
pub struct Deadline {
    _in_time: Sender<()>,
}

impl Deadline {
    /// The time begins: a minute, or ten where there is more of everything.
    pub fn of(child: &Child) -> Self {
        let (in_time, wait) = channel();
        let (id, time) = (child.id().to_string(), scale(60, 600) as u64);
        std::thread::spawn(move || {
            let waited = wait.recv_timeout(Duration::from_secs(time));
            if waited == Err(RecvTimeoutError::Timeout) {
                eprintln!("a process was killed after {time} seconds");
                let _ = Command::new("kill").args(["-KILL", &id]).status();
            }
        });
        Self { _in_time: in_time }
    }
}

/// What a process prints until its end, which comes in time.
pub fn ended(child: Child) -> Output {
    let _deadline = Deadline::of(&child);
    child.wait_with_output().unwrap()
}

/// What a command prints until its end, which comes in time.
pub fn output(command: &mut Command) -> Output {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    ended(command.stdin(Stdio::null()).spawn().unwrap())
}

pub fn folkmoot() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_folkmoot"));
    command
        .env_remove("FOLKMOOT_HOME")
        .env_remove("FOLKMOOT_KEY_FILE");
    command.env_remove("FOLKMOOT_PASSPHRASE");
    command
}

pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    pub fn start(data: &Path) -> Self {
        Self::start_at(data, "127.0.0.1:0")
    }

    pub fn start_at(data: &Path, listen: &str) -> Self {
        Self::started_by(folkmoot(), data, listen)
    }

    /// Starts it by a command that takes the binary's arguments, and whose process becomes the server.
    pub fn started_by(command: Command, data: &Path, listen: &str) -> Self {
        Self::started_with(command, data, listen, &[])
    }

    /// As [`Server::started_by`], with more arguments.
    pub fn started_with(mut command: Command, data: &Path, listen: &str, more: &[&str]) -> Self {
        let mut child = command
            .args(["--json", "serve", "--listen", listen, "--data"])
            .arg(data)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Deadline::of(&child);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        drop(deadline);
        let ready: Value = serde_json::from_str(&line).expect("a ready line");
        Self {
            child,
            url: ready["server"].as_str().unwrap().to_owned(),
        }
    }

    /// Kills it: `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it as an operator does.
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
        let _deadline = Deadline::of(&self.child);
        assert!(self.child.wait().unwrap().success());
    }

    /// KiB of memory that the system says it has: `VmRSS`, or `VmHWM` for the most so far.
    pub fn memory(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Lets `VmHWM` begin again.
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// `127.0.0.1:PORT`, to start another one in the same place.
    pub fn listen(&self) -> String {
        let authority = self
            .url
            .trim_start_matches("https://")
            .split('#')
            .next()
            .unwrap();
        format!("127.0.0.1:{}", authority.rsplit(':').next().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Person {
    pub home: PathBuf,
}

impl Person {
    pub fn new(folder: &Path, name: &str) -> Self {
        Self {
            home: folder.join(name),
        }
    }

    pub fn registered(folder: &Path, name: &str, server: &Server) -> Self {
        let person = Self::new(folder, name);
        person.ok(&["register", name, "--server", &server.url]);
        person
    }

    /// So many people with accounts.
    pub fn all<const N: usize>(folder: &Path, server: &Server, names: [&str; N]) -> [Self; N] {
        names.map(|name| Self::registered(folder, name, server))
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, b"")
    }

    /// A command of this person's, to be started by the caller.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = folkmoot();
        command.arg("--home").arg(&self.home);
        command
            .arg("--key-file")
            .arg(self.home.with_extension("key"));
        command.args(arguments);
        command
    }

    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _deadline = Deadline::of(&child);
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// Runs a command that must succeed and returns its data.
    pub fn ok(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[&["--json"], arguments].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text}{errors}");
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }

    /// Runs a command that must fail with one clear line, and returns the line.
    pub fn fails(&self, arguments: &[&str]) -> String {
        one_line(&self.run(arguments))
    }
}

/// The one line that a failing command prints.
pub fn one_line(output: &Output) -> String {
    assert!(!output.status.success(), "it should fail");
    let line = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(line.trim_end().lines().count(), 1, "one line, not: {line}");
    assert!(line.starts_with("folkmoot: "), "{line}");
    assert!(!line.contains("panicked"), "{line}");
    line
}

/// The entries of a history that are of this kind.
pub fn of_kind<'a>(history: &'a Value, kind: &str) -> Vec<&'a Value> {
    let entries = history["entries"].as_array().unwrap().iter();
    entries.filter(|entry| entry["kind"] == kind).collect()
}

/// The texts of a history, in order.
pub fn texts(history: &Value) -> Vec<String> {
    let entries = history["entries"].as_array().unwrap();
    entries
        .iter()
        .filter(|entry| entry["kind"] == "text")
        .map(|entry| entry["text"].as_str().unwrap().to_owned())
        .collect()
}
