//! One person: a home folder, and a process of its own for each command.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

use super::error::DemoError;
use crate::report::{
    Entry, Event, GroupLine, GroupState, Groups, History, Registered, Sent, Synced,
};

/// A person with one device.
pub struct Actor {
    name: &'static str,
    home: PathBuf,
    program: PathBuf,
}

impl Actor {
    /// Somebody new, who will live in a folder inside `folder`.
    pub fn new(name: &'static str, folder: &Path) -> Result<Self, DemoError> {
        Ok(Self {
            name,
            home: folder.join(name),
            program: std::env::current_exe()?,
        })
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn register(&self, server: &str) -> Result<Registered, DemoError> {
        self.run(&["register", self.name, "--server", server], "")
    }

    /// A command that answers with the group's state.
    pub fn group_command(&self, arguments: &[&str]) -> Result<GroupState, DemoError> {
        self.run(arguments, "")
    }

    pub fn groups(&self) -> Result<Vec<GroupLine>, DemoError> {
        self.run::<Groups>(&["groups"], "")
            .map(|groups| groups.groups)
    }

    pub fn send(&self, group: &str, text: &str) -> Result<Sent, DemoError> {
        self.run(&["send", group, text], "")
    }

    /// Sends what stands in a file, through standard input.
    pub fn send_file(&self, group: &str, content: &str) -> Result<Sent, DemoError> {
        self.run(&["send", group, "-"], content)
    }

    pub fn sync(&self) -> Result<Vec<Event>, DemoError> {
        self.run::<Synced>(&["sync"], "")
            .map(|synced| synced.events)
    }

    pub fn read(&self, group: &str) -> Result<Vec<Entry>, DemoError> {
        self.run::<History>(&["read", group], "")
            .map(|history| history.entries)
    }

    fn run<T: DeserializeOwned>(&self, arguments: &[&str], input: &str) -> Result<T, DemoError> {
        let mut child = Command::new(&self.program)
            .arg("--json")
            .arg("--home")
            .arg(&self.home)
            .arg("--key-file")
            .arg(self.home.with_extension("key"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that reads no input closes it early.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        let failed = |message: String| DemoError::Command {
            actor: self.name.to_owned(),
            command: arguments.join(" "),
            message,
        };
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(failed(
                format!("{} {}", text.trim(), errors.trim())
                    .trim()
                    .to_owned(),
            ));
        }
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last).map_err(|error| failed(error.to_string()))
    }
}

/// Lets each of them do the same: at the same time, or one after the other.
pub fn all<T: Send>(
    actors: &[&Actor],
    one_at_a_time: bool,
    act: impl Fn(&Actor) -> Result<T, DemoError> + Sync,
) -> Result<Vec<T>, DemoError> {
    if one_at_a_time {
        return actors.iter().map(|actor| act(actor)).collect();
    }
    std::thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> = actors
            .iter()
            .map(|actor| scope.spawn(move || act(actor)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or(Err(DemoError::Unmet("no thread of the demo panics")))
            })
            .collect()
    })
}
