//! Those outside a group: who join by an external commit, and who only propose (RFC 9420, sections
//! 12.1.8 and 12.4.3.2).
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]

mod group_harness;

use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::commit::Commit;
use folkmoot_mls::component::{AppDataDictionary, ComponentID};
use folkmoot_mls::credential::Credential;
use folkmoot_mls::crypto::CryptoError;
use folkmoot_mls::error::{Error, InvalidMessage};
use folkmoot_mls::extension::{
    ExtensionType, Extensions, ExternalPub, ExternalSender, ExternalSenders,
};
use folkmoot_mls::framing::{AuthenticatedContent, Content, FramedContent, PublicMessage, Sender};
use folkmoot_mls::group::{
    CommitError, ExternalCommitBuilder, Group, GroupInfoOptions, JoinError, PendingCommit,
    ProposalError, propose_as_external_sender, propose_join,
};
use folkmoot_mls::group_info::GroupInfo;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{ExternalInit, Proposal, ProposalOrRef, ProposalType, ReInit};
use folkmoot_mls::tree::path::PathError;
use folkmoot_mls::tree::{LeafNodeError, TreeError};
use folkmoot_mls::tree_math::LeafIndex;
use group_harness::{Client, Received, SUITE, assert_agreement, context, deliver, group_of, suite};

/// What a member publishes for those who want to join.
fn published(client: &Client) -> GroupInfo {
    let options = GroupInfoOptions {
        ratchet_tree: true,
        external_pub: true,
        extensions: Extensions::default(),
    };
    client.group().group_info(&client.signer, options).unwrap()
}

fn join(
    client: &mut Client,
    group_info: GroupInfo,
    change: impl FnOnce(ExternalCommitBuilder) -> ExternalCommitBuilder,
) -> Result<PendingCommit, Error> {
    let builder = change(Group::join_external(group_info, client.parameters()));
    let signer = client.signer.clone();
    builder.build(&signer, &mut context(client.now, &mut client.rng))
}

/// The newcomer takes its place, and everybody else reads its commit.
fn arrive(clients: &mut [Client], newcomer: usize, pending: PendingCommit) {
    let message = pending.message.clone();
    clients[newcomer].enter(pending.group, pending.keys, &pending.changes);
    for (index, client) in clients.iter_mut().enumerate() {
        if index != newcomer && client.member.is_some() {
            client.receive(&message).unwrap();
        }
    }
    assert_agreement(&*clients);
}

fn everybody_commits(clients: &mut [Client]) {
    for committer in 0..clients.len() {
        if clients[committer].member.is_some() {
            let pending = clients[committer].commit(|commit| commit).unwrap();
            deliver(clients, committer, pending);
        }
    }
}

#[test]
fn somebody_joins_without_being_asked() {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    for name in ["dora", "emil", "fred"] {
        clients.push(Client::new(name));
        let newcomer = clients.len() - 1;
        let info = published(&clients[newcomer % 3]);
        let pending = join(&mut clients[newcomer], info, |commit| {
            commit.authenticated_data(*b"knock knock")
        })
        .unwrap();
        assert_eq!(pending.effects.sender, Sender::NewMemberCommit);
        assert_eq!(pending.effects.committer, LeafIndex(newcomer as u32));
        assert!(pending.welcome.is_none() && pending.sent.is_empty());
        let message = pending.message.clone();
        let effects = pending.effects.clone();
        let Received::Commit(seen) = clients[0].peek(&message).unwrap() else {
            panic!("a commit")
        };
        assert_eq!(*seen, effects);
        arrive(&mut clients, newcomer, pending);
        clients[newcomer].restart();
        let (word, _) = clients[newcomer].send(b"here I am");
        assert!(matches!(
            clients[0].receive(&word).unwrap(),
            Received::Data(_)
        ));
    }
    everybody_commits(&mut clients);
    // The tree may come from elsewhere.
    clients.push(Client::new("gina"));
    let mut info = published(&clients[0]);
    info = clients[0]
        .group()
        .group_info(
            &clients[0].signer,
            GroupInfoOptions {
                ratchet_tree: false,
                external_pub: true,
                extensions: info.extensions.clone(),
            },
        )
        .map(|mut info| {
            info.extensions = info
                .extensions
                .iter()
                .filter(|extension| extension.extension_type == ExtensionType::EXTERNAL_PUB)
                .cloned()
                .collect();
            info
        })
        .unwrap();
    info = resigned(&clients[0], info);
    let tree = clients[0].group().tree_bytes();
    let missing = join(&mut clients[6], info.clone(), |commit| commit).unwrap_err();
    assert_eq!(missing, Error::Join(JoinError::MissingTree));
    let pending = join(&mut clients[6], info, |commit| commit.tree(tree)).unwrap();
    arrive(&mut clients, 6, pending);
    everybody_commits(&mut clients);
}

/// A GroupInfo after a change by a member.
fn resigned(client: &Client, info: GroupInfo) -> GroupInfo {
    GroupInfo::sign(
        suite(SUITE),
        &client.signer,
        info.group_context,
        info.extensions,
        info.confirmation_tag,
        client.group().own_index(),
    )
    .unwrap()
}

#[test]
fn somebody_joins_again() {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    // Charlie lost everything but his signature key.
    let lost = clients[2].member.take().unwrap();
    let info = published(&clients[0]);
    let pending = join(&mut clients[2], info, ExternalCommitBuilder::resync_own).unwrap();
    assert_eq!(pending.effects.removed[0].0, LeafIndex(2));
    assert_eq!(pending.effects.committer, LeafIndex(2));
    // What is left of him elsewhere sees that it is out.
    let mut old = Client::new("charlie");
    old.member = Some(lost);
    let removed = old.receive(&pending.message).unwrap();
    assert!(matches!(
        removed,
        Received::Removed(Sender::NewMemberCommit)
    ));
    arrive(&mut clients, 2, pending);
    // With another signature key, he is found by his credential.
    clients[2].signer = suite(SUITE).signature_key_pair(&mut clients[2].rng);
    clients[2].member = None;
    let info = published(&clients[1]);
    let pending = join(&mut clients[2], info, ExternalCommitBuilder::resync_own).unwrap();
    arrive(&mut clients, 2, pending);
    everybody_commits(&mut clients);

    let info = published(&clients[0]);
    let mut stranger = Client::new("stranger");
    let error = join(
        &mut stranger,
        info.clone(),
        ExternalCommitBuilder::resync_own,
    )
    .unwrap_err();
    assert_eq!(error, Error::Join(JoinError::NoFormerLeaf));
    // Nobody removes somebody else this way.
    let error = join(&mut stranger, info, |commit| commit.resync(LeafIndex(1))).unwrap_err();
    assert_eq!(error, Error::Commit(LeafNodeError::NotSuccessor.into()));
}

#[test]
fn a_leaf_is_taken_where_one_is_free() {
    let mut clients = group_of(&["alice", "bob", "charlie", "dora", "emil"]);
    // Emil's goes, so the tree is halved; Bob's goes, so his leaf is free.
    let pending = clients[0]
        .commit(|commit| commit.remove(LeafIndex(1)).remove(LeafIndex(4)))
        .unwrap();
    deliver(&mut clients, 0, pending);
    for (newcomer, leaf) in [(1, 1), (4, 4)] {
        clients[newcomer].member = None;
        let info = published(&clients[3]);
        let pending = join(&mut clients[newcomer], info, |commit| commit).unwrap();
        assert_eq!(pending.effects.committer, LeafIndex(leaf));
        arrive(&mut clients, newcomer, pending);
    }
    everybody_commits(&mut clients);
}

#[test]
fn a_group_info_that_nobody_can_join_by() {
    let clients = group_of(&["alice", "bob"]);
    let good = published(&clients[0]);
    let mut dora = Client::new("dora");
    let mut refuse = |info: GroupInfo, error: JoinError| {
        let refused = join(&mut dora, info, |commit| commit).unwrap_err();
        assert_eq!(refused, Error::Join(error));
    };
    let without_key = clients[0].group().group_info(
        &clients[0].signer,
        GroupInfoOptions {
            ratchet_tree: true,
            ..GroupInfoOptions::default()
        },
    );
    refuse(without_key.unwrap(), JoinError::MissingExternalPub);
    let changed = |change: &dyn Fn(&mut GroupInfo)| {
        let mut info = good.clone();
        change(&mut info);
        resigned(&clients[0], info)
    };
    let external_pub = Bytes::from([0; 31]);
    let short = changed(&|info| {
        let external_pub = external_pub.clone().into();
        info.extensions.set(&ExternalPub { external_pub });
    });
    refuse(short, JoinError::ExternalPub(CryptoError::InvalidPublicKey));
    let malformed = changed(&|info| {
        info.extensions.set_data(ExtensionType::EXTERNAL_PUB, [9]);
    });
    let error = JoinError::MalformedExtension(ExtensionType::EXTERNAL_PUB);
    refuse(malformed, error);
    // What components keep in a GroupContext is another thing in a GroupInfo.
    let components = changed(&|info| {
        let data = AppDataDictionary::default().with_data(ComponentID::APP_COMPONENTS, [7]);
        info.extensions.set(&data);
    });
    join(&mut Client::new("emma"), components, |commit| commit).unwrap();
    let tree = group_of(&["somebody", "else"])[0].group().tree_bytes();
    let other_tree = changed(&|info| {
        info.extensions
            .set_data(ExtensionType::RATCHET_TREE, tree.clone());
    });
    refuse(other_tree, TreeError::TreeHash.into());
    let mut forged = good.clone();
    forged.confirmation_tag = Bytes::from([0; 32]);
    refuse(forged, JoinError::Signature(CryptoError::InvalidSignature));
    let mut nobody = good.clone();
    nobody.signer = LeafIndex(7);
    refuse(nobody, JoinError::NoSigner(LeafIndex(7)));
    let version = changed(&|info| info.group_context.version.0 = 2);
    refuse(version, JoinError::Version);
}

/// An external commit after a change, signed again. Its confirmation tag is wrong.
fn forged(
    newcomer: &Client,
    group: &Group,
    message: &MlsMessage,
    change: impl FnOnce(&mut Commit),
) -> MlsMessage {
    let MlsMessage::PublicMessage(message) = message.clone() else {
        panic!("external commits are in clear")
    };
    let Content::Commit(mut commit) = message.content.content else {
        panic!("it is a commit")
    };
    change(&mut commit);
    let content = FramedContent {
        content: Content::Commit(commit),
        ..message.content
    };
    let (public, context) = (WireFormat::PUBLIC_MESSAGE, group.group_context());
    let signer = &newcomer.signer;
    let mut content =
        AuthenticatedContent::sign(suite(SUITE), signer, public, content, context).unwrap();
    content.auth.confirmation_tag = Some(Bytes::from([0; 32]));
    let message = PublicMessage::protect(suite(SUITE), &[], context, content).unwrap();
    MlsMessage::PublicMessage(Box::new(message))
}

fn by_value(proposal: Proposal) -> ProposalOrRef {
    ProposalOrRef::Proposal(Box::new(proposal))
}

fn remove(leaf: u32) -> ProposalOrRef {
    by_value(Proposal::remove(LeafIndex(leaf)))
}

#[test]
fn external_commits_that_members_refuse() {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    let mut dora = Client::new("dora");
    let package = dora.key_package();
    let info = published(&clients[0]);
    let pending = join(&mut dora, info, |commit| commit).unwrap();
    let good = pending.message.clone();
    let group = clients[0].group().clone();
    let init = || {
        by_value(Proposal::ExternalInit(ExternalInit {
            kem_output: Bytes::from([9; 32]),
        }))
    };
    let update = by_value(Proposal::update(group.own_leaf()));
    let mut refuse = |change: &dyn Fn(&mut Commit), error: Error| {
        let message = forged(&dora, &group, &good, change);
        assert_eq!(clients[1].receive(&message).unwrap_err(), error);
    };
    let not_here = |kind| ProposalError::NotInExternalCommit(kind).into();
    refuse(
        &|commit| commit.proposals.clear(),
        ProposalError::MissingExternalInit.into(),
    );
    refuse(
        &|commit| commit.proposals.push(init()),
        ProposalError::SecondExternalInit.into(),
    );
    refuse(
        &|commit| commit.proposals.extend([remove(1), remove(2)]),
        ProposalError::SecondRemoveInExternalCommit.into(),
    );
    refuse(
        &|commit| commit.proposals.push(remove(9)),
        ProposalError::NoSuchMember(LeafIndex(9)).into(),
    );
    refuse(
        &|commit| {
            commit
                .proposals
                .push(ProposalOrRef::Reference(Bytes::from([1; 32])))
        },
        ProposalError::UnknownReference.into(),
    );
    refuse(
        &|commit| {
            commit
                .proposals
                .push(by_value(Proposal::add(package.clone())))
        },
        not_here(ProposalType::ADD),
    );
    refuse(
        &|commit| commit.proposals.push(update.clone()),
        not_here(ProposalType::UPDATE),
    );
    let extensions = Proposal::group_context_extensions(Extensions::default());
    refuse(
        &|commit| commit.proposals.push(by_value(extensions.clone())),
        not_here(ProposalType::GROUP_CONTEXT_EXTENSIONS),
    );
    refuse(
        &|commit| commit.proposals.push(by_value(reinit())),
        not_here(ProposalType::REINIT),
    );
    refuse(
        &|commit| commit.path = None,
        CommitError::MissingPath.into(),
    );
    // Of all the rules for paths, the signature stands for the rest.
    refuse(
        &|commit| {
            let path = commit.path.as_mut().unwrap();
            path.leaf_node.credential = Credential::basic(*b"alice");
        },
        CommitError::LeafNode(LeafNodeError::Signature(CryptoError::InvalidSignature)).into(),
    );
    refuse(
        &|commit| drop(commit.path.as_mut().unwrap().nodes.pop()),
        CommitError::Path(PathError::Length {
            expected: 2,
            found: 1,
        })
        .into(),
    );
    refuse(
        &|commit| commit.proposals[0] = init(),
        CommitError::ConfirmationTag.into(),
    );
    refuse(
        &|commit| {
            commit.proposals[0] = by_value(Proposal::ExternalInit(ExternalInit {
                kem_output: Bytes::from([9; 31]),
            }));
        },
        CommitError::ExternalInit(CryptoError::InvalidPublicKey).into(),
    );
    // Charlie's own old leaf it is not, whoever asks him or the others.
    let theft = forged(&dora, &group, &good, |commit| {
        commit.proposals.push(remove(2))
    });
    for reader in [1, 2] {
        assert!(matches!(
            clients[reader].receive(&theft).unwrap_err(),
            Error::Commit(CommitError::LeafNode(_) | CommitError::Path(_))
        ));
    }
    // Another key than the leaf's signed it.
    let stranger = Client::new("stranger");
    let message = forged(&stranger, &group, &good, |_| {});
    assert_eq!(
        clients[1].receive(&message).unwrap_err(),
        CryptoError::InvalidSignature.into()
    );
    // Nobody is in the group twice with one signature key.
    let info = published(&clients[0]);
    let error = join(&mut clients[2], info, |commit| commit).unwrap_err();
    let twice = TreeError::DuplicateSignatureKey(LeafIndex(3));
    assert_eq!(error, CommitError::Path(twice.into()).into());

    clients[1].receive(&good).unwrap();
}

#[test]
fn a_member_cannot_commit_as_a_new_one_does() {
    let mut clients = group_of(&["alice", "bob"]);
    let init = Proposal::ExternalInit(ExternalInit {
        kem_output: Bytes::from([9; 32]),
    });
    assert_eq!(
        clients[0]
            .commit(|commit| commit.proposal(init))
            .unwrap_err(),
        ProposalError::ExternalInit.into()
    );
}

fn reinit() -> Proposal {
    Proposal::ReInit(ReInit {
        group_id: Bytes::from(*b"next"),
        version: ProtocolVersion::MLS10,
        cipher_suite: SUITE,
        extensions: Extensions::default(),
    })
}

/// A group whose only external sender is the client, which is in no group.
fn watched(client: &Client) -> Vec<Client> {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    let sender = ExternalSender {
        signature_key: client.signer.public_key().clone(),
        credential: client.parameters().credential,
    };
    let extensions = Extensions::default().with(&ExternalSenders {
        external_senders: vec![sender],
    });
    let pending = clients[0]
        .commit(|commit| commit.group_context_extensions(extensions))
        .unwrap();
    deliver(&mut clients, 0, pending);
    clients
}

fn propose(watcher: &mut Client, to: &Group, place: u32, proposal: Proposal) -> MlsMessage {
    let (signer, to) = (watcher.signer.clone(), to.group_context().into());
    let ctx = &context(None, &mut watcher.rng);
    propose_as_external_sender(ctx, &to, place, &signer, proposal, b"").unwrap()
}

#[test]
fn external_senders_propose() {
    let mut watcher = Client::new("watcher");
    let mut clients = watched(&watcher);
    let group = clients[0].group().clone();
    let mut dora = Client::new("dora");
    let package = dora.key_package();
    clients.push(dora);
    for proposal in [Proposal::remove(LeafIndex(1)), Proposal::add(package)] {
        let message = propose(&mut watcher, &group, 0, proposal);
        group_harness::broadcast(&mut clients, 3, &message);
    }
    for client in &mut clients[..3] {
        client.restart();
        let pending = client.group().pending_proposals();
        assert!(pending.iter().all(|(_, p)| p.sender == Sender::External(0)));
    }
    // Bob is to be removed, so he does not commit that.
    let by_bob = clients[1].commit(|commit| commit).unwrap();
    assert_eq!(by_bob.effects.proposals.len(), 1);
    let pending = clients[2].commit(|commit| commit).unwrap();
    assert_eq!(pending.effects.removed[0].0, LeafIndex(1));
    assert_eq!(pending.effects.added, [LeafIndex(1)]);
    let senders = pending.effects.proposals.iter().map(|(sender, _)| *sender);
    assert!(
        senders
            .into_iter()
            .all(|sender| sender == Sender::External(0))
    );
    let message = pending.message.clone();
    let removed = clients[1].receive(&message).unwrap();
    assert!(matches!(
        removed,
        Received::Removed(Sender::Member(LeafIndex(2)))
    ));
    deliver(&mut clients, 2, pending);
    assert_eq!(clients[3].group().own_index(), LeafIndex(1));
}

#[test]
fn what_external_senders_may_not() {
    let mut watcher = Client::new("watcher");
    let mut clients = watched(&watcher);
    let group = clients[0].group().clone();
    let remove = || Proposal::remove(LeafIndex(1));
    let mut refuse = |message: &MlsMessage, error: Error| {
        assert_eq!(clients[0].receive(message).unwrap_err(), error);
    };
    let message = propose(&mut watcher, &group, 1, remove());
    refuse(&message, InvalidMessage::UnknownExternalSender(1).into());
    let stranger = &mut Client::new("stranger");
    let message = propose(stranger, &group, 0, remove());
    refuse(&message, CryptoError::InvalidSignature.into());
    let update = Proposal::update(group.own_leaf());
    let error = Error::from(InvalidMessage::SenderProposal(ProposalType::UPDATE));
    let (signer, to) = (watcher.signer.clone(), group.group_context().into());
    let ctx = &context(None, &mut watcher.rng);
    let made = propose_as_external_sender(ctx, &to, 0, &signer, update.clone(), b"");
    assert_eq!(made.unwrap_err(), error);
    let MlsMessage::PublicMessage(mut message) = propose(&mut watcher, &group, 0, remove()) else {
        panic!("in clear")
    };
    message.content.content = Content::Proposal(Box::new(update));
    refuse(&MlsMessage::PublicMessage(message), error);
    // A group without the extension has none.
    let mut others = group_of(&["alice", "bob"]);
    let message = propose(&mut watcher, &others[0].group().clone(), 0, remove());
    assert_eq!(
        others[0].receive(&message).unwrap_err(),
        InvalidMessage::UnknownExternalSender(0).into()
    );
}

#[test]
fn somebody_asks_to_be_added() {
    let mut clients = group_of(&["alice", "bob"]);
    let mut dora = Client::new("dora");
    let package = dora.key_package();
    let to = clients[0].group().group_context().into();
    let signer = dora.signer.clone();
    let ctx = &context(None, &mut dora.rng);
    let message = propose_join(ctx, &to, &signer, package.clone(), b"please").unwrap();
    let stranger = Client::new("stranger").signer;
    let error = propose_join(ctx, &to, &stranger, package, b"").unwrap_err();
    assert_eq!(error, Error::WrongSigner);

    let MlsMessage::PublicMessage(mut forged) = message.clone() else {
        panic!("in clear")
    };
    forged.content.authenticated_data = Bytes::from(*b"PLEASE");
    assert_eq!(
        clients[0]
            .receive(&MlsMessage::PublicMessage(forged.clone()))
            .unwrap_err(),
        CryptoError::InvalidSignature.into()
    );
    forged.content.content = Content::Proposal(Box::new(Proposal::remove(LeafIndex(1))));
    assert_eq!(
        clients[0]
            .receive(&MlsMessage::PublicMessage(forged))
            .unwrap_err(),
        InvalidMessage::SenderProposal(ProposalType::REMOVE).into()
    );

    clients.push(dora);
    group_harness::broadcast(&mut clients, 2, &message);
    let pending = clients[1].commit(|commit| commit).unwrap();
    assert_eq!(pending.effects.proposals[0].0, Sender::NewMemberProposal);
    deliver(&mut clients, 1, pending);
    assert_eq!(clients[2].group().own_index(), LeafIndex(2));
}
