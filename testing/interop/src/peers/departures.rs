//! Where a peer lacks a feature, or departs from the RFC. The driver does not ask for what stands here.

use std::fmt;

use super::coverage::Operation;
use super::member::Peer;

/// A part in an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Does it.
    Makes,
    /// Reads it and does the same.
    Follows,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Makes => "makes",
            Self::Follows => "follows",
        })
    }
}

/// Something that a peer cannot do, or does in its own way.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// The peer, at the version in this crate's manifest.
    pub peer: Peer,
    /// The section that it is about.
    pub section: &'static str,
    /// What it is.
    pub what: &'static str,
    /// What the peer is therefore not asked for. Empty if the driver works around it.
    pub lacks: &'static [(Operation, Role)],
}

/// All of them.
pub const DEPARTURES: &[Departure] = &[
    Departure {
        peer: Peer::OpenMls,
        section: "RFC 9420, 11.2 and 12.1.5",
        what: "A ReInit is decoded, but not acted on: there is no call that proposes one, and none for \
               the group that follows.",
        lacks: &[
            (Operation::ReInitByValue, Role::Makes),
            (Operation::ReInitByValue, Role::Follows),
            (Operation::ReInitByReference, Role::Makes),
            (Operation::ReInitByReference, Role::Follows),
            (Operation::ReInitGroup, Role::Makes),
            (Operation::ReInitGroup, Role::Follows),
            (Operation::ReInitSuite, Role::Makes),
            (Operation::ReInitSuite, Role::Follows),
        ],
    },
    Departure {
        peer: Peer::OpenMls,
        section: "RFC 9420, 11.3",
        what: "There is no call that branches a subgroup, and a Welcome with a resumption PSK of another \
               group is not opened.",
        lacks: &[
            (Operation::Branch, Role::Makes),
            (Operation::Branch, Role::Follows),
        ],
    },
    Departure {
        peer: Peer::OpenMls,
        section: "RFC 9420, 7.2",
        what: "The capabilities that it lists by default name extension types that the RFC defines, which \
               the section forbids and mls-rs refuses. Its members here list theirs explicitly.",
        lacks: &[],
    },
    Departure {
        peer: Peer::OpenMls,
        section: "RFC 9420, 12.1.7 and 13.4",
        what: "A GroupContextExtensions proposal is refused if an extension in it is not listed in the \
               required_capabilities beside it, where the RFC asks that all members support it. Groups \
               with OpenMLS here always list theirs.",
        lacks: &[],
    },
    Departure {
        peer: Peer::OpenMls,
        section: "RFC 9420, 12.1.4",
        what: "A resumption PSK can be committed, by value and by reference, but there is no call that \
               proposes one.",
        lacks: &[(Operation::ResumptionPskByReference, Role::Makes)],
    },
    Departure {
        peer: Peer::OpenMls,
        section: "RFC 9420, 8.4 and 12.4.1",
        what: "A commit with PSKs both by reference and by value mixes those by value in first, though they \
               come last in it, so that nobody can follow. Its members here do not commit both at once.",
        lacks: &[],
    },
    Departure {
        peer: Peer::MlsRs,
        section: "RFC 9420, 11.2",
        what: "Whether the group after a ReInit has all members is judged by the width of both trees, so it is \
               refused if the closed group had blank leaves. Groups with mls-rs are reinitialised here only \
               when they have none.",
        lacks: &[],
    },
    Departure {
        peer: Peer::MlsRs,
        section: "RFC 9420, 8.4 and 11.2",
        what: "The nonce of the PSK that ties a group to the closed one is as long as the closed group's hash, \
               not as the new group's. Groups with mls-rs go here only to suites of the same hash length.",
        lacks: &[],
    },
    Departure {
        peer: Peer::MlsRs,
        section: "RFC 9420, 12.4.2 and 15.3",
        what: "A message of a past epoch is refused if its sender has left since or has another signature \
               key, though the epoch's keys are still there. The RFC lets members keep keys for late messages, \
               but does not ask for it. Members on mls-rs get no such message here.",
        lacks: &[],
    },
    Departure {
        peer: Peer::MlsRs,
        section: "draft-ietf-mls-extensions, 6.3",
        what: "SelfRemove has the private value 0xf003 instead of 0x000a, so nobody else can read it.",
        lacks: &[
            (Operation::SelfRemove, Role::Makes),
            (Operation::SelfRemove, Role::Follows),
        ],
    },
    Departure {
        peer: Peer::MlsRs,
        section: "draft-ietf-mls-extensions, 4.4",
        what: "There is no safe exporter.",
        lacks: &[(Operation::SafeExport, Role::Makes)],
    },
];

/// Whether a peer is said not to do something.
#[must_use]
pub fn lacks(peer: Peer, operation: Operation, role: Role) -> bool {
    DEPARTURES
        .iter()
        .any(|departure| departure.peer == peer && departure.lacks.contains(&(operation, role)))
}

/// The table as it is printed.
#[must_use]
pub fn table() -> String {
    let mut table = String::from("| Peer | Section | What |\n| --- | --- | --- |\n");
    for Departure {
        peer,
        section,
        what,
        ..
    } in DEPARTURES
    {
        table.push_str(&format!("| {peer} | {section} | {what} |\n"));
    }
    table
}
