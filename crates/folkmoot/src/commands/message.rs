//! Commands about messages.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

use folkmoot_client::{Event as ClientEvent, HistoryEntry, HistoryPosition, What as ClientWhat};
use folkmoot_credential::UserId;
use folkmoot_protocol::limits::APPLICATION_MESSAGE;

use crate::error::CliError;
use crate::home::{self, LocalClient};
use crate::options::HomeOptions;
use crate::output::Printer;
use crate::report::{Entry, Event, History, Sent, Synced, What};

const TEXT: &str = "text/plain;charset=utf-8";
const DATA: &str = "application/octet-stream";

pub async fn send(
    home: &HomeOptions,
    group: &str,
    text: Option<&str>,
    printer: &Printer,
) -> Result<(), CliError> {
    let mut client = home::open(home)?;
    let content = match text {
        Some(text) if text != "-" => text.as_bytes().to_vec(),
        _ => read_input(Path::new("-"), APPLICATION_MESSAGE as u64)?.1,
    };
    let media_type = if std::str::from_utf8(&content).is_ok() {
        TEXT
    } else {
        DATA
    };
    client.send(group, media_type, &content).await?;
    let conversation = client.conversation(group)?;
    let sent = Sent {
        group: conversation.title,
        epoch: conversation.epoch,
    };
    printer.print(&sent).map_err(CliError::Output)
}

pub async fn sync(home: &HomeOptions, printer: &Printer) -> Result<(), CliError> {
    let mut client = home::open(home)?;
    let events = client.sync().await?;
    let (events, blocked) = sorted(&mut client, events)?;
    printer
        .print(&Synced { events })
        .map_err(CliError::Output)?;
    blocked.map_or(Ok(()), |error| Err(error.into()))
}

pub async fn read(
    home: &HomeOptions,
    group: &str,
    follow: bool,
    printer: &Printer,
) -> Result<(), CliError> {
    let mut client = home::open(home)?;
    // What is here can be read without a server too; what went wrong is said after it.
    let (_, mut blocked) = refreshed(&mut client).await?;
    let conversation = client.conversation(group)?;
    let mut last = None;
    let entries = entries_after(&mut client, group, &mut last)?;
    let history = History {
        group: conversation.title,
        entries,
    };
    printer.print(&history).map_err(CliError::Output)?;
    if !follow || blocked.is_some() {
        return blocked.map_or(Ok(()), |error| Err(error.into()));
    }
    let mut events = client.follow(group).await?;
    loop {
        blocked = events.into_iter().find_map(|event| match event {
            ClientEvent::Blocked { error } => Some(error),
            _ => None,
        });
        for entry in entries_after(&mut client, group, &mut last)? {
            printer.print(&entry).map_err(CliError::Output)?;
        }
        if printer.is_closed() {
            return Ok(());
        }
        match client.news().await? {
            Some(news) => events = news,
            None => return blocked.map_or(Ok(()), |error| Err(error.into())),
        }
    }
}

/// A file, or standard input for `-`, with the name to call it by. At most `limit` bytes.
pub fn read_input(file: &Path, limit: u64) -> Result<(String, Vec<u8>), CliError> {
    let standard = file == Path::new("-");
    let name = if standard {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    };
    let failed = |error| CliError::Input {
        name: name.clone(),
        error,
    };
    let mut bytes = Vec::new();
    let reader: &mut dyn Read = if standard {
        &mut stdin().lock()
    } else {
        &mut File::open(file).map_err(failed)?
    };
    reader
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(CliError::InputTooLong { name, limit });
    }
    Ok((name, bytes))
}

type Sorted = (Vec<Event>, Option<folkmoot_client::Error>);

async fn refreshed(client: &mut LocalClient) -> Result<Sorted, CliError> {
    let events = client.refresh().await?;
    sorted(client, events)
}

/// What happened, and what could not be done.
fn sorted(client: &mut LocalClient, told_of: Vec<ClientEvent>) -> Result<Sorted, CliError> {
    let mut blocked = None;
    let mut events = Vec::new();
    let account = client
        .account()?
        .ok_or(folkmoot_client::Error::NotRegistered)?;
    for event in told_of {
        match event {
            ClientEvent::Blocked { error } => blocked = Some(error),
            ClientEvent::NewLink { title, .. } => {
                // Of several, the last one is good.
                let link = client.link(&title).ok().flatten();
                events.retain(
                    |event| !matches!(event, Event::NewLink { group, .. } if *group == title),
                );
                events.extend(link.map(|link| Event::NewLink {
                    group: title,
                    link: link.link.to_string(),
                }));
            }
            other => events.extend(told(other, &account.user)),
        }
    }
    Ok((events, blocked))
}

fn entries_after(
    client: &mut LocalClient,
    group: &str,
    last: &mut Option<HistoryPosition>,
) -> Result<Vec<Entry>, CliError> {
    let entries = client.history(group, *last)?;
    *last = entries.last().map(HistoryEntry::position).or(*last);
    Ok(entries.into_iter().map(shown).collect())
}

/// What an event means to people; nothing, if it only says how a command went on.
fn told(event: ClientEvent, own: &UserId) -> Option<Event> {
    Some(match event {
        ClientEvent::News {
            title: group,
            entry,
            ..
        } => match entry.what {
            ClientWhat::Message(message) if message.own => return None,
            ClientWhat::Message(message) => Event::Message {
                group,
                from: message.sender.to_string(),
            },
            ClientWhat::Joined(change) => Event::Joined {
                group,
                inviter: change.by.to_string(),
            },
            ClientWhat::TwoLogs(found) => Event::Failed {
                what: format!(
                    "THE SERVER HAS SIGNED TWO DIFFERENT LOGS of '{group}', at number {} at the \
                     latest: compare notes in person; the proof is kept",
                    found.sequence
                ),
            },
            ClientWhat::Invalid(invalid) => Event::Failed {
                what: format!("'{group}': {}", not_followed(&invalid)),
            },
            ClientWhat::Unopened(report) => Event::Failed {
                what: format!("'{group}': {}", not_opened(&report)),
            },
            ClientWhat::Removed(change) if change.user == *own => Event::Removed {
                group,
                by: change.by.to_string(),
            },
            ClientWhat::Left(left) if left.by == *own => Event::Left { group },
            ClientWhat::LeftOut(who) => Event::LeftOut {
                group,
                who: super::conversation::left_out(&who),
            },
            _ => Event::Changed {
                group,
                epoch: entry.epoch,
            },
        },
        ClientEvent::Knocked { title, user, .. } => Event::Knocked {
            group: title,
            user: user.to_string(),
        },
        ClientEvent::Uninvited { inviter, reason } => Event::Failed {
            what: format!("an invitation of {inviter}: {reason}"),
        },
        ClientEvent::Behind { title, .. } => Event::Failed {
            what: format!(
                "you were away from '{title}' for so long that its log no longer reaches back to \
                 where you stopped: somebody has to remove you and add you again"
            ),
        },
        ClientEvent::Stopped { title, reason, .. } => Event::Failed {
            what: format!("'{title}' is stopped: {reason}"),
        },
        ClientEvent::Failed { error, .. } => Event::Failed {
            what: error.to_string(),
        },
        _ => return None,
    })
}

/// What is said of a commit that is not followed.
fn not_followed(invalid: &folkmoot_client::Invalid) -> String {
    let who = invalid.by.as_ref().map_or_else(
        || "nobody can prove whose it was".to_owned(),
        |by| format!("{by} made it"),
    );
    let then = if invalid.cut_off {
        "others may be able to follow it: a member has to add you again (if the group has a link, \
         they have been asked)"
    } else {
        "another one takes its place"
    };
    format!(
        "a commit is not followed ({}); {who}; {then}",
        invalid.reason
    )
}

/// What is said of a commit that did not open for somebody.
fn not_opened(report: &folkmoot_client::Unopened) -> String {
    let whose = report
        .by
        .as_ref()
        .map_or_else(|| "a commit".to_owned(), |by| format!("a commit of {by}"));
    format!(
        "{} says that {whose} did not open on their device, and had to be added again; when two people say \
         so of one commit, whoever made it is removed",
        report.user
    )
}

fn shown(entry: HistoryEntry) -> Entry {
    let (from, what) = match entry.what {
        ClientWhat::Message(message) => {
            let media_type = message.media_type.to_string();
            let what = match String::from_utf8(message.content.to_vec()) {
                Ok(text) if media_type.starts_with("text/") => What::Text { text, media_type },
                _ => What::Data {
                    data: hex::encode(&message.content),
                    media_type,
                },
            };
            (message.sender.to_string(), what)
        }
        ClientWhat::Created(founded) => (founded.by.to_string(), What::Created),
        ClientWhat::Joined(change) => (change.by.to_string(), What::Joined),
        ClientWhat::Added(change) => (
            change.by.to_string(),
            What::Added {
                user: change.user.to_string(),
            },
        ),
        ClientWhat::Removed(change) => (
            change.by.to_string(),
            What::Removed {
                user: change.user.to_string(),
            },
        ),
        ClientWhat::Replaced(change) => (
            change.by.to_string(),
            What::Replaced {
                user: change.user.to_string(),
            },
        ),
        ClientWhat::LeftOut(who) => (
            String::new(),
            What::LeftOut(super::conversation::left_out(&who)),
        ),
        ClientWhat::Left(left) => (left.by.to_string(), What::Left),
        ClientWhat::Updated(update) => (update.by.to_string(), What::Updated),
        ClientWhat::Epoch(epoch) => (
            String::new(),
            What::Epoch {
                authenticator: hex::encode(&epoch.authenticator),
            },
        ),
        ClientWhat::Unreadable(unreadable) => (
            String::new(),
            What::Unreadable {
                reason: unreadable.reason.to_string(),
            },
        ),
        ClientWhat::Contradiction(found) => (
            found.with.to_string(),
            What::Contradiction {
                sequence: found.sequence,
            },
        ),
        ClientWhat::TwoLogs(found) => (
            String::new(),
            What::TwoLogs {
                sequence: found.sequence,
            },
        ),
        ClientWhat::Unopened(report) => (
            report.user.to_string(),
            What::Unreadable {
                reason: not_opened(&report),
            },
        ),
        ClientWhat::Invalid(invalid) => (
            invalid
                .by
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            What::Unreadable {
                reason: not_followed(&invalid),
            },
        ),
        _ => (
            String::new(),
            What::Unreadable {
                reason: "of a newer version".to_owned(),
            },
        ),
    };
    Entry {
        sequence: entry.sequence,
        time: entry.time,
        epoch: entry.epoch,
        from,
        what,
    }
}
