//! `demo`: three people, three clients in processes of their own, one real server.
//!
//! The steps are those of the architecture document (RFC 9750, section 3): accounts and credentials,
//! initial keying material, adding, messages, a key update, a removal. Each step checks what it
//! claims and the demo ends at the first that does not hold.

mod actor;
pub mod error;
mod server;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args;

use crate::report::{Entry, Event, State, What};
use actor::{Actor, all};
use error::{DemoError, check};
use server::Server;

/// How the demo runs.
#[derive(Args)]
pub struct DemoOptions {
    /// Never more than one client process alive at a time.
    #[arg(long)]
    one_at_a_time: bool,
}

/// Prints a line of the transcript. If nobody reads it any more the demo goes on: what it has shown
/// is in its exit status.
macro_rules! say {
    ($($text:tt)*) => {
        drop(writeln!(std::io::stdout(), $($text)*))
    };
}

const GROUP: &str = "weekend";
/// A real text, sent as a message: this project's licence.
const FILE: &str = include_str!("../../../../LICENSE-APACHE");

/// Runs the demo and prints its transcript.
pub fn run(options: &DemoOptions) -> Result<(), DemoError> {
    let start = Instant::now();
    let interrupted = watch_for_interruption()?;
    let folder = tempfile::Builder::new()
        .prefix("folkmoot-demo-")
        .tempdir()?;
    say!("Three people talk, end to end encrypted, through a real server.\n");
    let server = Server::start(&folder.path().join("server"))?;
    say!(
        "  The server is process {} at {}\n",
        server.id(),
        server.url()
    );
    let moot = Moot::new(folder.path(), &server, options.one_at_a_time, &interrupted)?;
    let result = moot.run().and_then(|()| server.stop());
    // Ctrl-C ends the children too, which is no failure of theirs.
    if interrupted.load(Ordering::Relaxed) {
        return Err(DemoError::Interrupted);
    }
    result?;
    say!(
        "\nEvery step held, in {:.1} s.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Notices Ctrl-C instead of ending at once, so that processes and folders are cleaned up.
fn watch_for_interruption() -> Result<Arc<AtomicBool>, DemoError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let seen = interrupted.clone();
    std::thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            seen.store(true, Ordering::Relaxed);
        }
    });
    Ok(interrupted)
}

struct Moot {
    alice: Actor,
    bob: Actor,
    charlie: Actor,
    server: String,
    one_at_a_time: bool,
    interrupted: Arc<AtomicBool>,
    steps: u32,
}

impl Moot {
    fn new(
        folder: &Path,
        server: &Server,
        one_at_a_time: bool,
        interrupted: &Arc<AtomicBool>,
    ) -> Result<Self, DemoError> {
        Ok(Self {
            alice: Actor::new("alice", folder)?,
            bob: Actor::new("bob", folder)?,
            charlie: Actor::new("charlie", folder)?,
            server: server.url().to_owned(),
            one_at_a_time,
            interrupted: interrupted.clone(),
            steps: 0,
        })
    }

    fn run(mut self) -> Result<(), DemoError> {
        self.accounts()?;
        self.alice_adds_bob()?;
        self.alice_adds_charlie()?;
        self.messages()?;
        let before = self.key_update()?;
        self.removal(&before)
    }

    fn accounts(&mut self) -> Result<(), DemoError> {
        self.step("Accounts, credentials, and KeyPackages on the shelf")?;
        let server = self.server.clone();
        for user in all(&self.everyone(), self.one_at_a_time, |actor| {
            actor.register(&server)
        })? {
            say!("    {} has a credential and a stocked shelf", user.user);
        }
        Ok(())
    }

    fn alice_adds_bob(&mut self) -> Result<(), DemoError> {
        self.step("Alice starts a group and adds Bob")?;
        let created = self.alice.group_command(&["new", GROUP])?;
        check(
            created.epoch == 0 && created.members.len() == 1,
            "a new group has one member",
        )?;
        let added = self.alice.group_command(&["add", GROUP, "bob"])?;
        check(added.members.len() == 2, "Alice sees two members")?;
        let events = self.bob.sync()?;
        let joined = events
            .iter()
            .any(|event| matches!(event, Event::Joined { .. }));
        check(joined, "Bob joins by his invitation")?;
        self.agree(&[&self.alice, &self.bob]).map(drop)
    }

    fn alice_adds_charlie(&mut self) -> Result<(), DemoError> {
        self.step("Alice adds Charlie")?;
        let old = self.agree(&[&self.alice, &self.bob])?;
        self.alice
            .send(GROUP, "Charlie is not here yet and cannot read this.")?;
        let added = self.alice.group_command(&["add", GROUP, "charlie"])?;
        check(added.members.len() == 3, "Alice sees three members")?;
        self.sync_all()?;
        let new = self.agree(&self.everyone())?;
        check(old != new, "the new epoch has new secrets")?;
        let early = self.charlie.read(GROUP)?;
        check(
            texts(&early).is_empty(),
            "Charlie reads nothing from before he joined",
        )?;
        say!("    Charlie reads nothing from before he joined");
        Ok(())
    }

    fn messages(&mut self) -> Result<(), DemoError> {
        self.step("Messages from each, and a text file")?;
        self.alice.send(GROUP, "Shall we meet on Saturday?")?;
        self.bob.send(GROUP, "Yes, at noon.")?;
        self.charlie.send(GROUP, "Under the tree, as always.")?;
        self.charlie.send_file(GROUP, FILE)?;
        self.sync_all()?;
        self.same_messages(&self.everyone())?;
        let entries = self.alice.read(GROUP)?;
        let file = entries
            .iter()
            .any(|e| matches!(&e.what, What::Text { text, .. } if text == FILE));
        check(file, "the file arrives byte for byte")?;
        transcript(&entries);
        Ok(())
    }

    fn key_update(&mut self) -> Result<String, DemoError> {
        self.step("Bob renews his keys: a new epoch")?;
        let before = self.agree(&self.everyone())?;
        let updated = self.bob.group_command(&["update", GROUP])?;
        self.sync_all()?;
        let after = self.agree(&self.everyone())?;
        check(before != after, "the epoch authenticator changes")?;
        say!(
            "    epoch {} begins; what was secret before it helps nobody now",
            updated.epoch
        );
        Ok(after)
    }

    fn removal(&mut self, before: &str) -> Result<(), DemoError> {
        self.step("Alice removes Charlie, who can read nothing after that")?;
        let left = self.alice.group_command(&["remove", GROUP, "charlie"])?;
        check(left.members.len() == 2, "two members are left")?;
        let secret = "Charlie must not read this.";
        self.alice.send(GROUP, secret)?;
        self.bob.sync()?;
        self.bob.send(GROUP, "Nor this.")?;
        let events = self.charlie.sync()?;
        let told = events
            .iter()
            .any(|event| matches!(event, Event::Removed { .. }));
        check(told, "Charlie is told that he was removed")?;
        self.alice.sync()?;

        let after = self.agree(&[&self.alice, &self.bob])?;
        check(
            after != before,
            "the epoch after the removal has new secrets",
        )?;
        let seen = self.charlie.read(GROUP)?;
        let last = seen
            .last()
            .ok_or(DemoError::Unmet("Charlie keeps his history"))?;
        let removal = matches!(&last.what, What::Removed { user } if user.starts_with("charlie@"));
        check(removal, "Charlie's log ends at the commit that removed him")?;
        let theirs = self.alice.read(GROUP)?;
        let later = theirs.iter().filter(|entry| entry.sequence > last.sequence);
        let later: Vec<Entry> = later.cloned().collect();
        check(
            texts(&later).len() == 2,
            "Alice and Bob have two messages after it",
        )?;
        check(
            self.charlie.send(GROUP, "May I?").is_err(),
            "Charlie cannot send any more",
        )?;
        let groups = self.charlie.groups()?;
        let outside = groups
            .first()
            .is_some_and(|group| group.state == State::Removed);
        check(outside, "Charlie's client knows that it is outside")?;
        say!(
            "    Charlie's log ends at number {}, the commit that removed him;",
            last.sequence
        );
        say!("    the server gives his keys nothing more, and Alice and Bob go on:");
        transcript(&later);
        Ok(())
    }

    fn step(&mut self, title: &str) -> Result<(), DemoError> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(DemoError::Interrupted);
        }
        self.steps += 1;
        say!("\n{}. {title}", self.steps);
        Ok(())
    }

    fn everyone(&self) -> [&Actor; 3] {
        [&self.alice, &self.bob, &self.charlie]
    }

    fn sync_all(&self) -> Result<(), DemoError> {
        all(&self.everyone(), self.one_at_a_time, Actor::sync).map(drop)
    }

    /// All are in the same epoch and derive the same authenticator, which is returned.
    fn agree(&self, members: &[&Actor]) -> Result<String, DemoError> {
        let states = all(members, self.one_at_a_time, |actor| {
            actor.group_command(&["members", GROUP])
        })?;
        let first = states
            .first()
            .ok_or(DemoError::Unmet("there are members"))?;
        check(
            !first.epoch_authenticator.is_empty(),
            "there is an epoch authenticator",
        )?;
        for (actor, state) in members.iter().zip(&states) {
            say!(
                "    {:8} epoch {}  authenticator {}…",
                actor.name(),
                state.epoch,
                state.epoch_authenticator.get(..16).unwrap_or_default()
            );
            let same = state.epoch == first.epoch
                && state.epoch_authenticator == first.epoch_authenticator
                && state.members.len() == first.members.len();
            check(
                same,
                "all members agree on epoch, authenticator and members",
            )?;
        }
        Ok(first.epoch_authenticator.clone())
    }

    /// Who joined last has read the last of the messages that the first has; there all agree.
    fn same_messages(&self, members: &[&Actor]) -> Result<(), DemoError> {
        let histories = all(members, self.one_at_a_time, |actor| actor.read(GROUP))?;
        let messages: Vec<Vec<&Entry>> = histories.iter().map(|all| texts(all)).collect();
        let shortest = messages.iter().map(Vec::len).min().unwrap_or_default();
        let tails: Vec<_> = messages
            .iter()
            .map(|all| &all[all.len() - shortest..])
            .collect();
        check(shortest == 4, "everybody has read the four messages")?;
        check(
            tails.windows(2).all(|pair| pair[0] == pair[1]),
            "all read the same, in one order",
        )
    }
}

fn texts(entries: &[Entry]) -> Vec<&Entry> {
    entries
        .iter()
        .filter(|entry| matches!(entry.what, What::Text { .. }))
        .collect()
}

fn transcript(entries: &[Entry]) {
    for entry in entries {
        let line = match &entry.what {
            What::Text { text, .. } if text.lines().count() > 1 => {
                format!(
                    "(a text of {} lines, {} bytes)",
                    text.lines().count(),
                    text.len()
                )
            }
            What::Text { text, .. } => text.clone(),
            What::Created => "(started the group)".to_owned(),
            What::Added { user } => format!("(added {user})"),
            What::Removed { user } => format!("(removed {user})"),
            What::Updated => "(renewed keys)".to_owned(),
            _ => continue,
        };
        let name = entry.from.split('@').next().unwrap_or_default();
        say!(
            "    epoch {}  #{:<3} {name:8} {line}",
            entry.epoch,
            entry.sequence
        );
    }
}
