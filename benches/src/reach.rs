//! What we want to reach, and whether this run shows it.

use std::fmt::Write as _;

use crate::cell::{Contestant, Row};
use crate::member::CredentialKind;
use crate::run::Measured;

/// What a row is compared with.
#[derive(Clone, Copy, Debug)]
enum Against {
    /// The best peer.
    Peer,
    /// The floor of the same run.
    Floor,
    /// The same row at another size.
    Size(u32),
    /// Another row at the same size.
    Row(Row),
    /// Nothing: milliseconds, or bytes.
    Nothing,
}

use Against::{Floor, Nothing, Peer, Row as Other, Size};

/// A row at a size is to be at most this many times what it is compared with.
type Goal = (Row, u32, Against, f64);

const GOALS: &[Goal] = &[
    (Row::CreateInside, 10_000, Peer, 1.0 / 15.0),
    (Row::CreateInside, 10_000, Floor, 1.3),
    (Row::CreateInside, 50_000, Peer, 1.0 / 15.0),
    (Row::CreateInside, 50_000, Floor, 1.3),
    (Row::CreateApart, 10_000, Peer, 2.0 / 3.0),
    (Row::CreateApart, 10_000, Floor, 1.3),
    (Row::CreateApart, 50_000, Peer, 2.0 / 3.0),
    (Row::CreateApart, 50_000, Floor, 1.3),
    (
        Row::CreateTwoThreads,
        10_000,
        Other(Row::CreateOneThread),
        0.6,
    ),
    (
        Row::CreateTwoThreads,
        50_000,
        Other(Row::CreateOneThread),
        0.6,
    ),
    (Row::JoinInside, 10_000, Peer, 0.5),
    (Row::JoinInside, 10_000, Floor, 1.4),
    (Row::JoinInside, 50_000, Floor, 1.4),
    (Row::JoinApart, 10_000, Peer, 0.5),
    (Row::JoinApart, 10_000, Floor, 1.4),
    (Row::JoinApart, 50_000, Floor, 1.4),
    (Row::FilledProcess, 1_000, Peer, 1.0 / 8.0),
    (Row::FilledProcess, 10_000, Peer, 1.0 / 8.0),
    (Row::FilledProcess, 1_000, Floor, 2.0),
    (Row::FilledProcess, 10_000, Floor, 2.0),
    (Row::FilledProcess, 50_000, Size(1_000), 1.5),
    (Row::FilledProcessStored, 1_000, Peer, 1.0 / 15.0),
    (Row::FilledProcessStored, 10_000, Peer, 1.0 / 15.0),
    (Row::FilledCreate, 1_000, Peer, 1.0 / 8.0),
    (Row::FilledCreate, 10_000, Peer, 1.0 / 8.0),
    (Row::FilledCreate, 1_000, Floor, 2.0),
    (Row::FilledCreate, 10_000, Floor, 2.0),
    (Row::BlankCreate, 10_000, Peer, 0.85),
    (Row::BlankCreate, 10_000, Floor, 1.15),
    (Row::BlankProcess, 10_000, Peer, 0.2),
    (Row::BlankProcess, 10_000, Floor, 2.0),
    (Row::Encrypt, 10_000, Peer, 1.0),
    (Row::Encrypt, 10_000, Floor, 1.25),
    (Row::Decrypt, 10_000, Peer, 1.0),
    (Row::Decrypt, 10_000, Floor, 1.25),
    (Row::EncryptStored, 10_000, Peer, 1.0 / 15.0),
    (Row::DecryptStored, 10_000, Peer, 1.0 / 15.0),
    (Row::MessageBytes, 50_000, Nothing, 1024.0),
    (Row::CommitBytes, 50_000, Nothing, 65_536.0),
    (Row::OwnCommitBytes, 50_000, Nothing, 65_536.0),
    (Row::Resident, 50_000, Peer, 0.5),
    (Row::Resident, 50_000, Other(Row::TreeBytes), 4.0),
    (Row::Clone, 50_000, Nothing, 0.1),
    (Row::Open, 50_000, Peer, 0.25),
    (Row::WelcomeOwn, 50_000, Nothing, 500.0),
];

/// All goals whose rows were measured, and how far we are; then the same against the floor with our own
/// credential.
#[must_use]
pub fn table(measured: &Measured) -> String {
    let mut text = String::from(
        "## What is to be reached\n\nPeers store as they document; where another encoding makes one quicker, \
         the ratio to that follows.\n\n| | members | compared with | at most | measured | |\n\
         | --- | ---: | --- | ---: | ---: | --- |\n",
    );
    for goal in GOALS {
        let (row, members, against, most) = goal;
        if measured.value(*row, *members, Contestant::Ours).is_none() {
            continue;
        }
        let compared = match against {
            Peer => "best peer".to_string(),
            Floor => "floor".to_string(),
            Size(size) => format!("at {size}"),
            Other(row) => row.title().to_lowercase(),
            Nothing if row.is_bytes() => "bytes".to_string(),
            Nothing => "milliseconds".to_string(),
        };
        let (reached, verdict) = match reached(measured, goal) {
            Some(reached) => (short(reached), verdict(measured, goal, reached)),
            None => ("-".to_string(), "no peer came to an end".to_string()),
        };
        let _ = writeln!(
            text,
            "| {} | {members} | {compared} | {} | {reached} | {verdict} |",
            row.title(),
            short(*most),
        );
    }
    text.push_str(&own_credential(measured));
    text.push('\n');
    text
}

fn verdict(measured: &Measured, goal: &Goal, reached: f64) -> String {
    let (row, members, against, most) = goal;
    let mut verdict = match reached <= *most {
        true => "reached".to_string(),
        false => "**missed**".to_string(),
    };
    if let (Peer, Some(documented), Some(best)) = (
        against,
        measured.best_peer(*row, *members),
        measured.best_of_all_peers(*row, *members),
    ) && best < documented
    {
        let ratio = reached * documented / best;
        let _ = write!(verdict, "; stored compactly {}", short(ratio));
    }
    if let (true, Some(alone)) = (reached > *most, alone(measured, goal)) {
        let _ = write!(verdict, "; the primitives alone {}", short(alone));
    }
    verdict
}

fn own_credential(measured: &Measured) -> String {
    let mut text = String::new();
    for (row, members, against, most) in GOALS {
        let Floor = against else { continue };
        let value = measured.value(*row, *members, Contestant::OwnCredential);
        let floor = measured.floor(*row, *members, CredentialKind::Own);
        if let (Some(value), Some(floor)) = (value, floor) {
            let verdict = match value / floor <= *most {
                true => "reached",
                false => "**missed**",
            };
            let _ = writeln!(
                text,
                "| {}, own credential | {members} | floor | {} | {} | {verdict} |",
                row.title(),
                short(*most),
                short(value / floor),
            );
        }
    }
    text
}

/// How far an operation would be that cost its primitives and nothing else, storing included.
fn alone(measured: &Measured, (row, members, against, _): &Goal) -> Option<f64> {
    let computed = match (row, against) {
        (Row::EncryptStored, Peer) => Row::Encrypt,
        (Row::DecryptStored, Peer) => Row::Decrypt,
        (Row::FilledProcessStored, Peer) => Row::FilledProcess,
        (row, Peer) => *row,
        _ => return None,
    };
    let floor = measured.floor(computed, *members, CredentialKind::Basic)?;
    Some(floor / measured.best_peer(*row, *members)?)
}

fn reached(measured: &Measured, (row, members, against, _): &Goal) -> Option<f64> {
    let ours = |row, members| measured.value(row, members, Contestant::Ours);
    let below = match against {
        Peer => measured.best_peer(*row, *members)?,
        Floor => measured.floor(*row, *members, CredentialKind::Basic)?,
        Size(size) => ours(*row, *size)?,
        Other(row) => ours(*row, *members)?,
        Nothing => 1.0,
    };
    Some(ours(*row, *members)? / below)
}

fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 0.01 => format!("{value:.3}"),
        value => format!("{value:.6}"),
    }
}
