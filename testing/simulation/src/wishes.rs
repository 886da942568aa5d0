//! Shorthands for what people ask for.

use folkmoot_client::logic::Intent;
use folkmoot_credential::LinkMode;
use folkmoot_protocol::door::Link;
use folkmoot_protocol::ids::LogId;

/// A message.
#[must_use]
pub fn send(log: LogId, text: &str) -> Intent {
    Intent::Send {
        log,
        media_type: "text/plain".into(),
        content: text.into(),
    }
}

/// Whatever comes, as it comes.
#[must_use]
pub fn follow(log: LogId) -> Intent {
    Intent::Follow { log }
}

/// A conversation with others.
#[must_use]
pub fn new(title: &str, users: &[&str]) -> Intent {
    Intent::New {
        title: title.into(),
        users: names(users),
    }
}

/// More people.
#[must_use]
pub fn add(log: LogId, users: &[&str]) -> Intent {
    Intent::Add {
        log,
        users: names(users),
    }
}

/// One person less.
#[must_use]
pub fn leave(log: LogId) -> Intent {
    Intent::Leave { log }
}

/// Fewer people.
#[must_use]
pub fn remove(log: LogId, users: &[&str]) -> Intent {
    Intent::Remove {
        log,
        users: names(users),
    }
}

/// A link, or none.
#[must_use]
pub fn link(log: LogId, mode: Option<LinkMode>) -> Intent {
    Intent::Link { log, mode }
}

/// To be let in where a link leads, in place of all that the user has there.
#[must_use]
pub fn knock(link: &Link) -> Intent {
    Intent::Knock {
        link: Box::new(link.clone()),
        only_device: true,
    }
}

/// To let somebody in who knocked.
#[must_use]
pub fn accept(log: LogId, user: &str) -> Intent {
    let user = user.to_owned();
    Intent::Accept { log, user }
}

/// Not to.
#[must_use]
pub fn decline(log: LogId, user: &str) -> Intent {
    let user = user.to_owned();
    Intent::Decline { log, user }
}

fn names(users: &[&str]) -> Vec<String> {
    users.iter().map(|user| (*user).to_owned()).collect()
}
