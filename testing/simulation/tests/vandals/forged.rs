//! What a member sends in the name of another. Everybody sees that the signature is not theirs; nobody is
//! blamed for it, and nobody is stopped by it.

use folkmoot_client::logic::Intent;
use folkmoot_client::{BadService, Error, Event, HistoryEntry, Standing, What};
use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::Encode;
use folkmoot_mls::framing::{AuthenticatedContent, Content, Sender};
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::log::Append;
use folkmoot_simulation::{Sim, add, new, send};

use crate::insider::Insider;
use crate::insiders::{Client, in_the_name_of};
use crate::world::{ALICE, Cost, EIGHT, Vandal, agree, eight, foreign_fence, goes_on, junk, named};

const BOB: usize = 1;

/// Alice encrypts this in Bob's name, and offers it.
fn forge(
    sim: &mut Sim,
    log: LogId,
    content: impl Fn(&Insider) -> AuthenticatedContent,
    change: impl Fn(&mut Append),
) {
    let insider = Insider::of(&Client::of(sim, ALICE, log));
    let message = in_the_name_of(&insider, LeafIndex(BOB as u32), &content(&insider));
    let made = Vandal { who: ALICE, log }.make(sim, Intent::Update { log });
    made.offer(sim, |append| {
        append.message = message.to_bytes().into();
        change(append);
    })
    .unwrap();
}

/// A commit that says it is Bob's, and is signed by Alice, removes nobody.
pub fn a_commit_in_anothers_name_names_nobody() {
    let (mut sim, log) = eight(71);
    let commit = |insider: &Insider| {
        let mut plan = insider.plan(Vec::new());
        plan.edit_content = Box::new(|content| content.sender = Sender::Member(LeafIndex(1)));
        insider.commit(&plan).content
    };
    forge(&mut sim, log, commit, |_| {});
    let mut cost = Cost::default();
    goes_on(&mut sim, &[3, BOB, 0, 2, 4, 5, 6, 7], log, "on", &mut cost);
    assert_eq!(cost.commits, 1, "one of them contests");
    assert_eq!(named(&mut sim, 3), None, "nobody can tell whose it was");
    assert_eq!(sim.members(3, "moot").unwrap().members.len(), 8);
}

/// Bob reads a message in his own name that he did not send, and goes on.
pub fn a_message_in_anothers_name_stops_nobody() {
    let (mut sim, log) = eight(72);
    let message = |insider: &Insider| {
        let content = Content::Application(b"not his".as_slice().into());
        let mut content = insider.content(content);
        content.sender = Sender::Member(LeafIndex(1));
        let format = WireFormat::PRIVATE_MESSAGE;
        AuthenticatedContent::sign(
            insider.suite,
            &insider.signer,
            format,
            content,
            &insider.context,
        )
        .unwrap()
    };
    forge(&mut sim, log, message, |append| {
        (append.content_type, append.commit) = (1, None);
    });
    sim.sync_all();
    for who in 0..8 {
        let unreadable = |line: &HistoryEntry| matches!(line.what, What::Unreadable(_));
        let lines = sim.history(who, "moot");
        assert_eq!(lines.iter().filter(|line| unreadable(line)).count(), 1);
        assert_eq!(sim.conversation(who, "moot").standing, Standing::Member);
    }
    sim.ask(BOB, send(log, "here")).unwrap();
    sim.sync_all();
    agree(&mut sim, &[0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(sim.said(ALICE, "moot"), ["bob: here"]);
}

/// A commit that was right when it was made, and came too late, is not followed; nobody is removed for it.
pub fn who_comes_too_late_is_not_removed() {
    let names = [&EIGHT[..], &["ivan"]].concat();
    let mut sim = Sim::new(73, &names);
    sim.ask(ALICE, new("moot", &EIGHT[1..])).unwrap();
    sim.sync_all();
    let log = sim.conversation(ALICE, "moot").log;
    sim.listen();
    let made = Vandal { who: ALICE, log }.make(&mut sim, add(log, &["ivan"]));
    // Ivan's KeyPackage is over by then.
    sim.pass(28 * 24 * 3600 * 1000 + 12 * 3600 * 1000);
    made.offer(&mut sim, |_| {}).unwrap();
    goes_on(&mut sim, &[2, 1, 3], log, "on", &mut Cost::default());
    assert_eq!(named(&mut sim, 2), None);
    assert_eq!(sim.members(2, "moot").unwrap().members.len(), 8);
}

/// The service shows Emil a list from which a contest is missing.
pub fn a_contest_cannot_be_hidden() {
    const EMIL: usize = 4;
    let (mut sim, log) = eight(74);
    let hanna = Vandal { who: 7, log };
    hanna.spoil(&mut sim, Intent::Update { log }, junk).unwrap();
    goes_on(&mut sim, &[2, 1], log, "on", &mut Cost::default());
    sim.twist = Some(Box::new(|who, _, answer| {
        if let (EMIL, Ok(Answer::Candidates(answer))) = (who, answer) {
            answer.entries.clear();
        }
    }));
    let heard = sim.heard().len();
    sim.ask(EMIL, Intent::Sync).unwrap();
    let expected = Event::Blocked {
        error: Error::BadService(BadService::Contradiction(log)),
    };
    assert!(sim.person(EMIL).events.contains(&expected));
    sim.pass(61_000);
    sim.ask(EMIL, Intent::Sync).unwrap();
    let appends = |call: &Call| matches!(call, Call::Append(_));
    assert!(!sim.heard()[heard..].iter().any(appends), "he waits");
    sim.twist = None;
    sim.sync(EMIL);
    agree(&mut sim, &[1, 2, EMIL]);
}

/// Who made a commit that is signed and wrong is removed by the one in its place.
pub fn whoever_is_proven_is_removed() {
    let (mut sim, log) = eight(75);
    let hanna = Vandal { who: 7, log };
    let update = Intent::Update { log };
    hanna.spoil(&mut sim, update, foreign_fence).unwrap();
    goes_on(&mut sim, &[2, 4, 0], log, "on", &mut Cost::default());
    assert_eq!(named(&mut sim, 2).as_deref(), Some("hanna"));
    assert_eq!(sim.members(2, "moot").unwrap().members.len(), 7);
}
