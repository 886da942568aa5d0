//! What commands answer, as data. `Display` is the text for people; the demo reads the data back.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::output::{Line, Said, Time};

/// `register`
#[derive(Debug, Serialize, Deserialize)]
pub struct Registered {
    pub user: String,
    pub server: String,
}

impl Display for Registered {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "You are {} on {}.", self.user, self.server)
    }
}

/// A group as a member sees it: the answer of every command that changes or shows one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupState {
    pub group: String,
    /// The log's id, in hexadecimal.
    pub log: String,
    pub epoch: u64,
    /// Hexadecimal; equal for all members of an epoch.
    pub epoch_authenticator: String,
    pub members: Vec<Member>,
    /// Who was to be added and could not be, or a device of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

/// Somebody who was to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub user: String,
    /// Which device, in hexadecimal, if others of the user's were added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    pub reason: String,
}

impl Display for LeftOut {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.device {
            Some(device) => {
                let device = device.get(..16).unwrap_or(device);
                write!(f, "device {device} of {} was left out", Line(&self.user))?;
            }
            None => write!(f, "{} was left out", Line(&self.user))?,
        }
        write!(f, ": {}", Line(&self.reason))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub user: String,
    /// The device's signature key, in hexadecimal.
    pub device: String,
    pub you: bool,
}

impl Display for GroupState {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' at epoch {}", Line(&self.group), self.epoch)?;
        for member in &self.members {
            let device = member.device.get(..16).unwrap_or(&member.device);
            let you = if member.you { "  (you)" } else { "" };
            write!(f, "\n  {}  device {device}{you}", member.user)?;
        }
        write!(f, "\nepoch authenticator {}", self.epoch_authenticator)?;
        for left_out in &self.left_out {
            write!(f, "\n{left_out}")?;
        }
        Ok(())
    }
}

/// `groups`
#[derive(Debug, Serialize, Deserialize)]
pub struct Groups {
    pub groups: Vec<GroupLine>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct GroupLine {
    pub group: String,
    pub log: String,
    pub state: State,
    pub epoch: u64,
    /// How many commands wait to be done.
    pub waiting: usize,
}

/// How a group stands with this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not confirmed by the server yet.
    Opening,
    Member,
    /// We asked to leave, and another member has to confirm it.
    Leaving,
    /// Left: the history stays, nothing comes any more.
    Left,
    /// Removed: the history stays, nothing comes any more.
    Removed,
    /// Away for longer than the service keeps entries: somebody has to add us again.
    Behind,
    /// Stopped at an invalid commit, with the evidence kept.
    Stopped,
}

impl Display for Groups {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.groups.is_empty() {
            return f.write_str("No groups yet: `folkmoot new NAME` starts one.");
        }
        for (at, line) in self.groups.iter().enumerate() {
            let log = line.log.get(..16).unwrap_or(&line.log);
            let line_end = if at == 0 { "" } else { "\n" };
            write!(f, "{line_end}{}  {log}  ", Line(&line.group))?;
            match line.state {
                State::Opening => f.write_str("not confirmed by the server yet")?,
                State::Member => write!(f, "epoch {}", line.epoch)?,
                State::Leaving => f.write_str("leaving, as soon as another member is online")?,
                State::Left => f.write_str("you left")?,
                State::Removed => f.write_str("you were removed")?,
                State::Behind => f.write_str("away too long: somebody has to add you again")?,
                State::Stopped => f.write_str("stopped at an invalid commit")?,
            }
            if line.waiting > 0 {
                write!(f, "  ({} waiting)", line.waiting)?;
            }
        }
        Ok(())
    }
}

/// `leave`
#[derive(Debug, Serialize, Deserialize)]
pub struct Left {
    pub group: String,
    /// `leaving`, or `left` if nobody else was there.
    pub state: State,
}

impl Display for Left {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let group = Line(&self.group);
        if self.state == State::Left {
            write!(f, "You left '{group}'.")
        } else {
            write!(
                f,
                "You are leaving '{group}': it is done as soon as another member is online."
            )
        }
    }
}

/// `invite --link`
#[derive(Debug, Serialize, Deserialize)]
pub struct Link {
    pub group: String,
    /// None once it was taken back.
    pub link: Option<String>,
    /// Whether members are asked about each who knocks.
    pub asks: bool,
}

impl Display for Link {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let group = Line(&self.group);
        match &self.link {
            Some(link) => {
                let who = if self.asks {
                    "members are asked about each who knocks"
                } else {
                    "the next member that is online lets them in"
                };
                write!(
                    f,
                    "Whoever has this link can knock at '{group}'; {who}:\n{link}"
                )
            }
            None => write!(f, "'{group}' has no link any more."),
        }
    }
}

/// `knock`
#[derive(Debug, Serialize, Deserialize)]
pub struct Knocked {}

impl Display for Knocked {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Knocked. `folkmoot sync` joins as soon as a member has answered.")
    }
}

/// `knocks`
#[derive(Debug, Serialize, Deserialize)]
pub struct Knocks {
    pub group: String,
    pub knocks: Vec<Knock>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock {
    pub user: String,
    /// The device's signature key, in hexadecimal.
    pub device: String,
    /// When this device heard it, milliseconds since 1970.
    pub since: u64,
    /// Whether it is on its way in.
    pub answering: bool,
}

impl Display for Knocks {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let group = Line(&self.group);
        if self.knocks.is_empty() {
            return write!(f, "Nobody waits at '{group}'.");
        }
        write!(f, "At '{group}':")?;
        for knock in &self.knocks {
            let device = knock.device.get(..16).unwrap_or(&knock.device);
            let answering = if knock.answering {
                "  (on the way in)"
            } else {
                ""
            };
            let (since, user) = (Time(knock.since), &knock.user);
            write!(f, "\n  {since}  {user}  device {device}{answering}")?;
        }
        Ok(())
    }
}

/// `decline`
#[derive(Debug, Serialize, Deserialize)]
pub struct Declined {
    pub user: String,
}

impl Display for Declined {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not let in.", Line(&self.user))
    }
}

/// `send`
#[derive(Debug, Serialize, Deserialize)]
pub struct Sent {
    pub group: String,
    pub epoch: u64,
}

impl Display for Sent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Sent to '{}'.", Line(&self.group))
    }
}

/// `sync`
#[derive(Debug, Serialize, Deserialize)]
pub struct Synced {
    pub events: Vec<Event>,
}

/// Something that happened while syncing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    Joined {
        group: String,
        inviter: String,
    },
    Message {
        group: String,
        from: String,
    },
    Changed {
        group: String,
        epoch: u64,
    },
    Removed {
        group: String,
        by: String,
    },
    Left {
        group: String,
    },
    /// `accept` or `decline` answers.
    Knocked {
        group: String,
        user: String,
    },
    /// The old link is no longer good.
    NewLink {
        group: String,
        link: String,
    },
    Waiting {
        what: String,
    },
    /// Somebody whom this device wanted to add could not be added.
    LeftOut {
        group: String,
        #[serde(flatten)]
        who: LeftOut,
    },
    Failed {
        what: String,
    },
}

impl Display for Synced {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.events.is_empty() {
            return f.write_str("Nothing new.");
        }
        for (at, event) in self.events.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            match event {
                Event::Joined { group, inviter } => {
                    write!(
                        f,
                        "You joined '{}', invited by {}.",
                        Line(group),
                        Line(inviter)
                    )?;
                }
                Event::Message { group, from } => {
                    write!(f, "A message in '{}' from {}.", Line(group), Line(from))?;
                }
                Event::Changed { group, epoch } => {
                    write!(f, "'{}' is at epoch {epoch}.", Line(group))?;
                }
                Event::Removed { group, by } => {
                    write!(
                        f,
                        "You were removed from '{}' by {}.",
                        Line(group),
                        Line(by)
                    )?;
                }
                Event::Left { group } => write!(f, "You left '{}'.", Line(group))?,
                Event::Knocked { group, user } => write!(
                    f,
                    "{} knocks at '{}': `accept` or `decline`.",
                    Line(user),
                    Line(group)
                )?,
                Event::NewLink { group, link } => {
                    write!(f, "'{}' has a new link: {}", Line(group), Line(link))?;
                }
                Event::Waiting { what } => write!(f, "Waiting: {}.", Line(what))?,
                Event::LeftOut { group, who } => write!(f, "'{}': {who}.", Line(group))?,
                Event::Failed { what } => write!(f, "Failed: {}.", Line(what))?,
            }
        }
        Ok(())
    }
}

/// `read`
#[derive(Debug, Serialize, Deserialize)]
pub struct History {
    pub group: String,
    pub entries: Vec<Entry>,
}

impl Display for History {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.entries.is_empty() {
            return write!(f, "Nothing in '{}' yet.", Line(&self.group));
        }
        for (at, entry) in self.entries.iter().enumerate() {
            write!(f, "{}{entry}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// One thing that was said or done, in the log's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub sequence: u64,
    /// Milliseconds since 1970, the Delivery Service's clock.
    pub time: u64,
    pub epoch: u64,
    pub from: String,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// Text, of any textual media type.
    Text {
        text: String,
        media_type: String,
    },
    /// Anything else, in hexadecimal.
    Data {
        data: String,
        media_type: String,
    },
    /// The group began.
    Created,
    /// This device was added; what was before is not its to read.
    Joined,
    Added {
        user: String,
    },
    Removed {
        user: String,
    },
    /// A device of the user's took the place of what was there of them.
    Replaced {
        user: String,
    },
    /// Somebody whom this device wanted to add could not be added; the others were.
    LeftOut(LeftOut),
    /// Somebody left.
    Left,
    /// Keys were renewed.
    Updated,
    /// An epoch began.
    Epoch {
        authenticator: String,
    },
    /// Something that cannot be read.
    Unreadable {
        reason: String,
    },
    /// `from` has seen another log than this device: the server has shown different ones.
    Contradiction {
        sequence: u64,
    },
    /// The server has signed two different logs.
    TwoLogs {
        sequence: u64,
    },
}

impl Display for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}  epoch {}  {}",
            Time(self.time),
            self.epoch,
            Line(&self.from)
        )?;
        match &self.what {
            What::Text { text, .. } => write!(f, ": {}", Said(text)),
            What::Data { data, media_type } => {
                write!(f, " sent {} bytes of {}", data.len() / 2, Line(media_type))
            }
            What::Created => f.write_str(" started the group"),
            What::Joined => f.write_str(" added you"),
            What::Added { user } => write!(f, " added {user}"),
            What::Removed { user } => write!(f, " removed {user}"),
            What::Replaced { user } => write!(f, " replaced the device of {user}"),
            What::LeftOut(left_out) => write!(f, "{left_out}"),
            What::Left => f.write_str(" left"),
            What::Updated => f.write_str(" renewed keys"),
            What::Epoch { authenticator } => {
                write!(
                    f,
                    "authenticator {}",
                    authenticator.get(..16).unwrap_or(authenticator)
                )
            }
            What::Unreadable { reason } => write!(f, "(unreadable: {})", Line(reason)),
            What::Contradiction { sequence } => write!(
                f,
                " HAS SEEN ANOTHER LOG than you, from number {sequence} on: the server has shown \
                 you different things. Compare notes in person."
            ),
            What::TwoLogs { sequence } => write!(
                f,
                "THE SERVER HAS SIGNED TWO DIFFERENT LOGS, at number {sequence} at the latest. \
                 Compare notes in person; the proof is kept."
            ),
        }
    }
}
