//! Epochs that prove something later: resumption PSKs, groups that take another one's place, branches
//! (RFC 9420, sections 8.6, 11.2 and 11.3).
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]

mod group_harness;

use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::component::ComponentID;
use folkmoot_mls::crypto::{CipherSuite, PROVIDER};
use folkmoot_mls::error::{Error, InvalidMessage};
use folkmoot_mls::extension::{ExtensionType, Extensions};
use folkmoot_mls::group::{
    Group, GroupInfoOptions, GroupKey, JoinError, Processed, ProposalError, Successor,
    SuccessorBuilder, SuccessorError,
};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{Proposal, ReInit};
use folkmoot_mls::psk::{PreSharedKeyID, ResumptionPSKUsage};
use folkmoot_mls::records::{Changes, DamagedRecord, RecordKind};
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::welcome::Welcome;
use group_harness::{Client, Received, SUITE, assert_agreement, broadcast, context, deliver};
use group_harness::{group_of, suite};

const OTHER: CipherSuite = CipherSuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256;

fn resumption(usage: ResumptionPSKUsage, epoch: u64) -> PreSharedKeyID {
    let mut rng = Client::new("nonces").rng;
    PreSharedKeyID::resumption(suite(SUITE), usage, *b"group", epoch, &mut rng)
}

fn application(epoch: u64) -> PreSharedKeyID {
    resumption(ResumptionPSKUsage::Application, epoch)
}

#[test]
fn past_epochs_come_into_a_commit() {
    let mut clients = group_of(&["alice", "bob"]);
    for _ in 0..6 {
        let pending = clients[0].commit(|commit| commit).unwrap();
        deliver(&mut clients, 0, pending);
    }
    // It is epoch 7, and 2 to 6 are kept.
    for client in &mut clients {
        client.restart();
        let kept: Vec<_> = (0..9)
            .filter(|epoch| client.group().resumption_psk_of(*epoch).is_some())
            .collect();
        assert_eq!(kept, [2, 3, 4, 5, 6, 7]);
    }
    let too_old = clients[0].commit(|commit| commit.psk(application(1)));
    let unknown = ProposalError::UnknownResumptionPsk { epoch: 1 };
    assert_eq!(too_old.unwrap_err(), unknown.into());
    let pending = clients[0]
        .commit(|commit| commit.psk(application(2)).psk(application(7)))
        .unwrap();
    deliver(&mut clients, 0, pending);

    // By reference, too. Charlie was in none of these epochs.
    let proposed = clients[1]
        .propose(Proposal::psk(application(7)), WireFormat::PUBLIC_MESSAGE)
        .unwrap();
    broadcast(&mut clients, 1, &proposed.message);
    let mut charlie = Client::new("charlie");
    let package = charlie.key_package();
    let pending = clients[0].commit(|commit| commit.add(package)).unwrap();
    assert_eq!(pending.effects.proposals.len(), 2);
    let welcome = pending.welcome.clone().unwrap();
    let unknown = ProposalError::UnknownResumptionPsk { epoch: 7 };
    assert_eq!(
        charlie.join(&welcome, None).unwrap_err(),
        JoinError::Psk(unknown).into()
    );
    // Who has an old view of the group brings it.
    let bundle = charlie.bundle.clone().unwrap();
    let mut ctx = context(None, &mut charlie.rng);
    let old = clients[1].group().clone();
    ctx.psks = &old;
    let joined = Group::join(&mut ctx, &welcome, &bundle, None).unwrap();
    assert_eq!(
        joined.group.epoch_authenticator(),
        pending.group.epoch_authenticator()
    );
}

#[test]
fn how_many_past_epochs_are_kept_is_told() {
    let mut clients = group_of(&["alice", "bob"]);
    let alice = clients[0].member.as_mut().unwrap();
    let (group, changes) = alice.group.keep_resumption_psks(1);
    alice.group = group;
    alice.records.apply(&changes);
    for _ in 0..3 {
        let pending = clients[0].commit(|commit| commit).unwrap();
        deliver(&mut clients, 0, pending);
        clients[0].restart();
    }
    let group = clients[0].group();
    assert!(group.resumption_psk_of(3).is_some() && group.resumption_psk_of(2).is_none());
    assert!(clients[1].group().resumption_psk_of(2).is_some());
    // Bob's commit is valid; only Alice cannot follow.
    let pending = clients[1].commit(|commit| commit.psk(application(2)));
    let unknown = ProposalError::UnknownResumptionPsk { epoch: 2 };
    assert_eq!(
        clients[0].receive(&pending.unwrap().message).unwrap_err(),
        unknown.into()
    );
    let (group, _) = clients[1].group().keep_resumption_psks(0);
    assert!(group.resumption_psk_of(3).is_none() && group.resumption_psk_of(4).is_some());
}

fn reinit(cipher_suite: CipherSuite) -> ReInit {
    let mut extensions = Extensions::default();
    extensions.set_data(ExtensionType::APPLICATION_ID, *b"the next one");
    ReInit {
        group_id: Bytes::from(*b"the next group"),
        version: ProtocolVersion::MLS10,
        cipher_suite,
        extensions,
    }
}

/// The same people with keys for a suite, each with a KeyPackage.
fn offers(clients: &[Client], cipher_suite: CipherSuite) -> (Vec<Client>, Vec<KeyPackage>) {
    let offer = |old: &Client| {
        let mut new = Client::with_suite(&old.name, cipher_suite);
        let package = new.key_package();
        (new, package)
    };
    clients.iter().map(offer).unzip()
}

fn found(
    founder: &mut Client,
    builder: SuccessorBuilder,
    others: impl IntoIterator<Item = KeyPackage>,
) -> Result<Successor, Error> {
    let builder = others
        .into_iter()
        .fold(builder, |builder, package| builder.add(package));
    let (signer, leaf) = (founder.signer.clone(), founder.parameters());
    builder.build(&signer, leaf, &mut context(None, &mut founder.rng))
}

fn follow(client: &mut Client, welcome: &Welcome, old: &Group) -> Result<(), Error> {
    let bundle = client.bundle.clone().unwrap();
    let mut ctx = context(None, &mut client.rng);
    let joined = Group::join_successor(&mut ctx, welcome, &bundle, None, old)?;
    client.enter(joined.group, joined.keys, &joined.changes);
    Ok(())
}

fn refused(error: SuccessorError) -> Error {
    Error::Join(JoinError::Successor(error))
}

#[test]
fn a_group_ends_in_favour_of_another() {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    let before = clients[1].group().clone();
    let pending = clients[0]
        .commit(|commit| commit.reinit(reinit(OTHER)))
        .unwrap();
    assert_eq!(
        before.successor().unwrap_err(),
        refused(SuccessorError::NotReinitialized)
    );
    deliver(&mut clients, 0, pending);

    // Nothing is sent any more, also not after a restart.
    for client in &mut clients {
        client.restart();
        assert_eq!(client.group().reinit(), Some(&reinit(OTHER)));
        let (signer, mut rng) = (client.signer.clone(), client.rng.clone());
        assert_eq!(client.commit(|c| c).unwrap_err(), Error::GroupSuspended);
        let leave = Proposal::remove(client.group().own_index());
        let format = WireFormat::PUBLIC_MESSAGE;
        assert_eq!(
            client.propose(leave, format).unwrap_err(),
            Error::GroupSuspended
        );
        let member = client.member.as_mut().unwrap();
        let word = member.keys.encrypt(&signer, b"", b"word", 0, &mut rng);
        assert_eq!(word.unwrap_err(), Error::GroupSuspended);
        let info = member
            .group
            .group_info(&signer, GroupInfoOptions::default());
        assert_eq!(info.unwrap_err(), Error::GroupSuspended);
    }

    // Bob founds the new group, whoever ended the old one.
    let (mut people, packages) = offers(&clients, OTHER);
    let others = || [packages[0].clone(), packages[2].clone()];
    let builder = clients[1].group().successor().unwrap();
    let founded = found(&mut people[1], builder.clone(), others()).unwrap();
    assert_eq!(founded.created.group.epoch(), 0);
    let welcome = founded.pending.welcome.clone().unwrap();
    people[1].enter(
        founded.created.group,
        founded.created.keys,
        &founded.created.changes,
    );
    people[1].merge(founded.pending);
    let needs = SuccessorError::NeedsPredecessor {
        usage: ResumptionPSKUsage::ReInit,
        group_id: Bytes::from(*b"group"),
        epoch: 2,
    };
    assert_eq!(people[0].join(&welcome, None).unwrap_err(), refused(needs));
    let error = follow(&mut people[0], &welcome, &before).unwrap_err();
    assert_eq!(error, refused(SuccessorError::NotReinitialized));
    let elsewhere = people[1].group().clone();
    let error = follow(&mut people[0], &welcome, &elsewhere).unwrap_err();
    assert_eq!(error, refused(SuccessorError::WrongPredecessor));
    for index in [0, 2] {
        follow(&mut people[index], &welcome, clients[index].group()).unwrap();
        people[index].restart();
    }
    assert_agreement(&people);
    let group = people[2].group();
    assert_eq!((group.epoch(), group.cipher_suite()), (1, OTHER));
    assert_eq!(group.group_id(), b"the next group");
    assert_eq!(*group.extensions(), reinit(OTHER).extensions);
    for committer in 0..3 {
        let pending = people[committer].commit(|commit| commit).unwrap();
        deliver(&mut people, committer, pending);
    }

    // What a founder does not get away with itself.
    let mut missing =
        |others: Vec<KeyPackage>| found(&mut people[1], builder.clone(), others).unwrap_err();
    let error = missing(vec![packages[0].clone()]);
    assert_eq!(error, refused(SuccessorError::MissingMember(LeafIndex(2))));
    let stranger = Client::with_suite("stranger", OTHER).key_package();
    let error = missing(others().into_iter().chain([stranger]).collect());
    assert_eq!(error, refused(SuccessorError::NotInPredecessor(3)));
    let other = builder.clone().extensions(Extensions::default());
    let error = found(&mut people[1], other, others()).unwrap_err();
    assert_eq!(error, refused(SuccessorError::Extensions));
}

/// What takes no more than the secrets that are left goes on; what takes others is refused, before and
/// after a restart.
#[test]
fn what_is_left_of_a_group_that_ended() {
    let component = ComponentID(0x8001);
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    let late = clients[1].send(b"late").0;
    let old_keys = |client: &Client| {
        let member = client.member();
        let (group, epoch) = (member.group.clone(), member.group.epoch());
        (group, epoch, member.records.clone())
    };
    let (before, old_epoch, mut stored) = old_keys(&clients[0]);
    let pending = clients[2]
        .commit(|commit| commit.reinit(reinit(OTHER)))
        .unwrap();
    let exported = pending.group.exporter("label", b"", 32).unwrap();
    let message = pending.message.clone();
    // Alice keeps the message keys of the epoch before for a while.
    let mut keys = before.load_keys(&PROVIDER, old_epoch, &stored).unwrap();
    let ctx = &mut context(None, &mut clients[0].rng);
    let Processed::Commit { changes, .. } = before.process(&mut keys, &message, ctx).unwrap()
    else {
        panic!("a commit")
    };
    stored.apply(&changes);
    let ended = Group::load(&PROVIDER, &stored).unwrap();
    let mut keys = ended.load_keys(&PROVIDER, old_epoch, &stored).unwrap();
    let MlsMessage::PrivateMessage(late) = &late else {
        panic!("encrypted")
    };
    assert_eq!(&*keys.decrypt(late).unwrap().0.data, b"late");
    deliver(&mut clients, 2, pending);

    let mut component_secrets = Vec::new();
    for (index, client) in clients.iter_mut().enumerate() {
        if index != 1 {
            client.restart();
        }
        let signer = client.signer.clone();
        let member = client.member.as_mut().unwrap();
        let (group, keys) = (&member.group, &mut member.keys);
        assert_eq!(group.exporter("label", b"", 32), Ok(exported.clone()));
        assert_eq!(group.epoch_authenticator(), ended.epoch_authenticator());
        assert!(group.resumption_psk_of(old_epoch).is_some());
        component_secrets.push(keys.safe_export(component).unwrap().0);
        let (label, leaf) = (b"label", group.own_index());
        let signature = group.safe_sign_with_label(&signer, component, label, b"content");
        group
            .safe_verify_with_label(leaf, component, label, b"content", &signature.unwrap())
            .unwrap();

        let own = GroupKey::member(leaf).unwrap();
        let rng = &mut client.rng;
        for key in [own, GroupKey::External] {
            let sealed = before
                .safe_encrypt_with_label(key, component, label, b"", b"word", rng)
                .unwrap();
            let opened = group.safe_decrypt_with_label(key, component, label, b"", &sealed);
            assert_eq!(opened.map(drop), Err(Error::GroupSuspended));
            let sealed = group.safe_encrypt_with_label(key, component, label, b"", b"", rng);
            assert_eq!(sealed.map(drop), Err(Error::GroupSuspended));
        }
        let external = GroupInfoOptions {
            external_pub: true,
            ..GroupInfoOptions::default()
        };
        let info = group.group_info(&signer, external).map(drop);
        assert_eq!(info, Err(Error::GroupSuspended));
        let MlsMessage::PrivateMessage(mut word) = message.clone() else {
            panic!("encrypted")
        };
        word.epoch = group.epoch();
        let suspended = Error::from(InvalidMessage::GroupSuspended);
        assert_eq!(keys.sender(&word).map(drop), Err(suspended.clone()));
        assert_eq!(keys.open(&word).map(drop), Err(suspended));
        let format = WireFormat::PRIVATE_MESSAGE;
        let ctx = &mut context(None, rng);
        let update = group.propose_update(keys, &signer, None, b"", format, ctx);
        assert_eq!(update.map(drop), Err(Error::GroupSuspended));
        // What is wrong in itself is not even looked at.
        let wrong = Proposal::remove(LeafIndex(9));
        let wrong = group.propose(keys, &signer, wrong, b"", format, ctx);
        assert_eq!(wrong.map(drop), Err(Error::GroupSuspended));
        let (kept, changes) = group.keep_resumption_psks(0);
        member.records.apply(&changes);
        member.group = kept;
        client.restart();
        assert_eq!(client.group().resumption_psk_of(old_epoch), None);
    }
    assert!(
        component_secrets
            .iter()
            .all(|one| *one == component_secrets[0])
    );
}

/// A record that says otherwise does not bring a group back that ended.
#[test]
fn records_agree_on_whether_the_group_ended() {
    let mut clients = group_of(&["alice", "bob"]);
    let pending = clients[0].commit(|commit| commit.reinit(reinit(SUITE)));
    clients[0].merge(pending.unwrap());
    let records = &clients[0].member().records;
    let mut all = records.iter();
    let (key, value) = all
        .find(|(key, _)| key.as_slice() == [RecordKind::Group as u8])
        .unwrap();
    let ended = [&[1][..], &reinit(SUITE).to_bytes()].concat();
    let going_on = [value.strip_suffix(&*ended).unwrap(), &[0]].concat();
    let mut changes = Changes::default();
    changes.put(key.clone(), going_on);
    let mut changed = records.clone();
    changed.apply(&changes);
    let loaded = Group::load(&PROVIDER, &changed).map(drop);
    assert_eq!(loaded, Err(DamagedRecord(key.clone()).into()));
}

#[test]
fn a_reinit_waits_for_everything_else() {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    let format = WireFormat::PRIVATE_MESSAGE;
    let propose = |clients: &mut Vec<Client>, from: usize, proposal| {
        let proposed = clients[from].propose(proposal, format).unwrap();
        broadcast(clients, from, &proposed.message);
    };
    propose(&mut clients, 1, Proposal::reinit(reinit(SUITE)));
    propose(&mut clients, 1, Proposal::remove(LeafIndex(2)));
    let pending = clients[0].commit(|commit| commit).unwrap();
    assert_eq!(pending.effects.removed.len(), 1);
    deliver(&mut clients, 0, pending);
    clients.pop();
    assert_eq!(clients[0].group().reinit(), None);

    propose(&mut clients, 1, Proposal::reinit(reinit(SUITE)));
    let pending = clients[0].commit(|commit| commit.without_path()).unwrap();
    assert!(pending.effects.path.is_none(), "a ReInit needs no path");
    deliver(&mut clients, 0, pending);
    assert!(
        clients
            .iter()
            .all(|client| client.group().reinit().is_some())
    );

    // To an older version there is no way back.
    let mut clients = group_of(&["alice", "bob"]);
    let version = ProtocolVersion(0);
    let older = ReInit {
        version,
        ..reinit(SUITE)
    };
    let error = Error::Proposal(ProposalError::ReInitVersion(version));
    let by_value = clients[0].commit(|commit| commit.reinit(older.clone()));
    assert_eq!(by_value.unwrap_err(), error);
    let by_reference = clients[0].propose(Proposal::reinit(older), format);
    assert_eq!(by_reference.unwrap_err(), error);
}

#[test]
fn a_group_moves_to_another_suite_in_one_call() {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    let (mut people, packages) = offers(&clients, OTHER);
    let upgrade = clients[0].group().upgrade(reinit(OTHER));
    let few = upgrade.clone().add(packages[1].clone());
    let upgrade = packages[1..]
        .iter()
        .fold(upgrade, |upgrade, package| upgrade.add(package.clone()));
    let (old, new) = (clients[0].signer.clone(), people[0].signer.clone());
    let Client { member, rng, .. } = &mut clients[0];
    let alice = member.as_mut().unwrap();
    let leaf = people[0].parameters();
    let mut ctx = context(None, rng);
    let error = few.build(&mut alice.keys, &old, &new, leaf.clone(), &mut ctx);
    let missing = SuccessorError::MissingMember(LeafIndex(2));
    assert_eq!(error.unwrap_err(), refused(missing));
    let made = upgrade
        .build(&mut alice.keys, &old, &new, leaf, &mut ctx)
        .unwrap();

    alice.records.apply(&made.reinit.sent);
    deliver(&mut clients, 0, made.reinit);
    let welcome = made.successor.pending.welcome.clone().unwrap();
    let created = made.successor.created;
    people[0].enter(created.group, created.keys, &created.changes);
    people[0].merge(made.successor.pending);
    for index in [1, 2] {
        follow(&mut people[index], &welcome, clients[index].group()).unwrap();
    }
    assert_agreement(&people);
    assert_eq!(people[1].group().cipher_suite(), OTHER);
    let (word, _) = people[1].send(b"here we are");
    assert!(matches!(
        people[2].receive(&word).unwrap(),
        Received::Data(_)
    ));
}

#[test]
fn some_members_branch_off() {
    let mut clients = group_of(&["alice", "bob", "charlie", "dora"]);
    let (mut people, packages) = offers(&clients, SUITE);
    let old_id = clients[3].group().branch(*b"group").map(drop);
    assert_eq!(old_id, Err(refused(SuccessorError::OldGroupId)));
    let builder = clients[3].group().branch(*b"the branch").unwrap();
    let founded = found(&mut people[3], builder.clone(), [packages[1].clone()]).unwrap();
    let welcome = founded.pending.welcome.clone().unwrap();
    people[3].enter(
        founded.created.group,
        founded.created.keys,
        &founded.created.changes,
    );
    people[3].merge(founded.pending);
    let needs = SuccessorError::NeedsPredecessor {
        usage: ResumptionPSKUsage::Branch,
        group_id: Bytes::from(*b"group"),
        epoch: 1,
    };
    assert_eq!(people[1].join(&welcome, None).unwrap_err(), refused(needs));
    // The old group goes on meanwhile.
    let pending = clients[0].commit(|commit| commit).unwrap();
    deliver(&mut clients, 0, pending);
    follow(&mut people[1], &welcome, clients[1].group()).unwrap();
    let mut branch = vec![people.remove(3), people.remove(1)];
    assert_agreement(&branch);
    let pending = branch[1].commit(|commit| commit).unwrap();
    deliver(&mut branch, 1, pending);

    let stranger = Client::new("stranger").key_package();
    let error = found(&mut branch[0], builder.clone(), [stranger]).unwrap_err();
    assert_eq!(error, refused(SuccessorError::NotInPredecessor(1)));
    let mut imposter = Client::new("imposter");
    let error = found(&mut imposter, builder, [packages[1].clone()]).unwrap_err();
    assert_eq!(error, refused(SuccessorError::NotInPredecessor(0)));

    // An ordinary Welcome is not taken for one of a branch.
    let package = people[0].key_package();
    let pending = branch[0].commit(|commit| commit.add(package)).unwrap();
    let welcome = pending.welcome.clone().unwrap();
    let error = follow(&mut people[0], &welcome, clients[0].group()).unwrap_err();
    assert_eq!(error, refused(SuccessorError::NotLinked));
    people[0].join(&welcome, None).unwrap();
}

#[test]
fn links_are_for_first_commits_only() {
    let mut clients = group_of(&["alice", "bob"]);
    for usage in [ResumptionPSKUsage::ReInit, ResumptionPSKUsage::Branch] {
        let psk = resumption(usage, 1);
        let error = Error::Proposal(ProposalError::PskUsage);
        let by_value = clients[0].commit(|commit| commit.psk(psk.clone()));
        assert_eq!(by_value.unwrap_err(), error);
        let by_reference = clients[0].propose(Proposal::psk(psk), WireFormat::PRIVATE_MESSAGE);
        assert_eq!(by_reference.unwrap_err(), error);
    }
}
