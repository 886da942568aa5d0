//! External commits, and the GroupInfo that they start from (RFC 9420, sections 8.3, 12.2 and
//! 12.4.3.2).

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::context::CredentialError;
use folkmoot_mls::credential::Credential;
use folkmoot_mls::crypto::{CipherSuite, CryptoError, Secret};
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::{ExtensionType, Extensions};
use folkmoot_mls::framing::{AuthenticatedContent, Content};
use folkmoot_mls::group::{CommitError, Group, GroupInfoOptions, JoinError, ProposalError};
use folkmoot_mls::group_info::{GROUP_INFO_TBS, GroupInfo};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::leaf_node::LeafNodeSource;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{
    ExternalInit, PreSharedKey, Proposal, ProposalOrRef, ProposalType, ReInit,
};
use folkmoot_mls::psk::{ExternalPsk, PreSharedKeyID, PskType};
use folkmoot_mls::tree::path::PathError;
use folkmoot_mls::tree::{LeafNodeError, TreeError};
use folkmoot_mls::tree_math::{LeafIndex, NodeIndex};

use crate::group_harness::{Client, SUITE};
use crate::insider::{Insider, Plan, sign_leaf, unknown_extension};
use crate::{
    ALICE, Around, CHARLIE, CUSTOM, LENIENT, MALLORY, custom, goes_on, group, newcomer, refuses,
    refuses_around,
};

rules! {
    "12.4.3.2" "an external commit has a path" => path;
    "12.4.3.2" "an external commit refers to no proposal but SelfRemoves" => references;
    "12.4.2" "what an external commit refers to is known" => unknown_reference;
    "12.4.3.2" "an external commit is signed by the key in its path" => signature;
    "6.1" "the signature of an external commit covers the GroupContext" => signature_covers_the_context;
    "12.2" "an external commit has an ExternalInit" => no_external_init;
    "12.2" "an external commit has no second ExternalInit" => two_external_inits;
    "12.2" "an external commit has no second Remove" => two_removes;
    "12.2" "an external commit has no Add" => no_add;
    "12.2" "an external commit has no Update" => no_update;
    "12.2" "an external commit has no ReInit" => no_reinit;
    "12.2" "an external commit has no GroupContextExtensions" => no_extensions;
    "12.1.3" "an external commit removes a member, if anybody" => remove_names_a_member;
    "12.2" "who takes a leaf's place is its successor" => successor;
    "12.2" "who takes a leaf's place has another encryption key" => renewed_key;
    "8.3" "the kem_output opens" => kem_output;
    "8.3" "the init secret is that of the ExternalInit" => init_secret;
    "12.4.2" "an external commit's PSKs are known" => psk_is_known;
    "12.2" "an external commit has no PSK twice" => psk_twice;
    "12.4.2" "an external commit is of this epoch" => epoch;
    "12.4.2" "an external commit's confirmation tag is right" => confirmation_tag;
    "7.3" "external commit: the leaf's credential is valid" => credential;
    "7.2" "external commit: the leaf's signature covers the leftmost free place" => place;
    "7.3" "external commit: the leaf's source is a commit" => source;
    "7.5" "external commit: the parent hash is that of the path" => parent_hash;
    "7.3" "external commit: the extensions are in the leaf's capabilities" => extensions_listed;
    "7.3" "external commit: all members support the credential's type" => credential_of_all;
    "7.3" "external commit: the signature key is no member's" => signature_key;
    "12.4.2" "external commit: the leaf's encryption key is no node's" => encryption_key;
    "7.5" "external commit: the path has one node for each of the filtered direct path" => length;
    "12.4.3.2" "the GroupInfo has an external_pub" => external_pub;
    "13.4" "the GroupInfo's external_pub is well-formed" => external_pub_is_read;
    "8.3" "the external_pub is a key of the suite" => external_pub_is_a_key;
    "12.4.3" "the signature of a GroupInfo to join by is valid" => group_info_signature;
    "12.4.3" "the signer of a GroupInfo to join by is a member" => group_info_signer;
    "7.8" "the tree beside a GroupInfo has the hash in it" => group_info_tree;
    "12.4.3.3" "there is a tree to a GroupInfo to join by" => group_info_without_tree;
    "12.4.3.2" "the GroupInfo is of a version that we have" => group_info_version;
    "5.1" "the GroupInfo is of a cipher suite that we have" => group_info_cipher_suite;
    "12.2" "who joins again was a member" => former_leaf;
}

/// A newcomer who joins Mallory's way, by a plan.
fn joining(proposals: Vec<Proposal>) -> (Vec<Client>, Insider, Plan<'static>) {
    joining_as(&newcomer(), proposals)
}

fn joining_as(
    (client, package): &(Client, KeyPackage),
    proposals: Vec<Proposal>,
) -> (Vec<Client>, Insider, Plan<'static>) {
    let (clients, mallory) = group();
    let plan = mallory.external_plan(client, package, proposals);
    (clients, mallory, plan)
}

fn refused_plan(
    (mut clients, mallory, plan): (Vec<Client>, Insider, Plan<'_>),
    error: impl Into<Error>,
    around: Around<'_>,
) {
    let message = mallory.commit(&plan).public(&mallory);
    refuses_around(&mut clients, &message, error, around);
}

fn refused(change: impl FnOnce(&mut Plan<'_>), error: impl Into<Error>) {
    let mut joining = joining(Vec::new());
    change(&mut joining.2);
    refused_plan(joining, error, Around::default());
}

fn refused_with(proposals: Vec<Proposal>, error: ProposalError) {
    refused_plan(joining(proposals), error, Around::default());
}

fn remove(leaf: usize) -> Proposal {
    Proposal::remove(LeafIndex(leaf as u32))
}

#[test]
fn external_commits_that_are_right_are_taken() {
    let (mut clients, mallory, plan) = joining(Vec::new());
    let forged = mallory.commit(&plan);
    assert_eq!(forged.next.own, LeafIndex(3));
    clients[ALICE].receive(&forged.public(&mallory)).unwrap();
    let authenticator = clients[ALICE].group().epoch_authenticator().clone();
    clients[CHARLIE].receive(&forged.public(&mallory)).unwrap();
    assert_eq!(
        *clients[CHARLIE].group().epoch_authenticator(),
        authenticator
    );
    assert_eq!(
        clients[ALICE].group().confirmation_tag(),
        &*forged.next.confirmation_tag
    );

    // Charlie comes back, with a new key.
    let mut charlie = Client::new("charlie");
    charlie.signer = Client::new("another key").signer;
    let package = charlie.key_package();
    let (mut clients, mallory, plan) = joining_as(&(charlie, package), vec![remove(CHARLIE)]);
    let forged = mallory.commit(&plan);
    assert_eq!(forged.next.own, LeafIndex(CHARLIE as u32));
    clients[ALICE].receive(&forged.public(&mallory)).unwrap();
    assert_eq!(
        clients[ALICE].group().confirmation_tag(),
        &*forged.next.confirmation_tag
    );
}

fn path() {
    refused(|plan| plan.path = false, CommitError::MissingPath);
}

/// Alice knows the proposal; whoever is outside could not judge it.
fn references() {
    let (mut clients, mallory, mut plan) = joining(Vec::new());
    let content = mallory.content(Content::Proposal(Box::new(remove(CHARLIE))));
    let message = mallory.public(content);
    let signed = AuthenticatedContent {
        wire_format: folkmoot_mls::code_point::WireFormat::PUBLIC_MESSAGE,
        content: message.content.clone(),
        auth: message.auth.clone(),
    };
    let message = MlsMessage::PublicMessage(Box::new(message));
    clients[ALICE].receive(&message).unwrap();
    let reference = signed.proposal_ref(mallory.suite).into();
    plan.proposals.push(ProposalOrRef::Reference(reference));
    plan.effects.push((mallory.own, remove(CHARLIE)));
    let error = ProposalError::ReferenceInExternalCommit;
    refused_plan((clients, mallory, plan), error, Around::default());
}

/// It may be a SelfRemove that did not reach Alice.
fn unknown_reference() {
    let (clients, mallory, mut plan) = joining(Vec::new());
    let reference = Bytes::from([7; 32]);
    plan.proposals.push(ProposalOrRef::Reference(reference));
    let error = ProposalError::UnknownReference;
    refused_plan((clients, mallory, plan), error, Around::default());
}

fn signature() {
    let other = Client::new("other").signer;
    refused(|plan| plan.signer = other, CryptoError::InvalidSignature);
}

fn signature_covers_the_context() {
    let (mut clients, mallory, plan) = joining(Vec::new());
    let mut elsewhere = mallory.clone();
    elsewhere.context.extensions = unknown_extension();
    let message = elsewhere.commit(&plan).public(&elsewhere);
    refuses(&mut clients, &message, CryptoError::InvalidSignature);
}

fn no_external_init() {
    let (clients, mallory, mut plan) = joining(Vec::new());
    plan.proposals.clear();
    plan.effects.clear();
    plan.init_secret = None;
    let error = ProposalError::MissingExternalInit;
    refused_plan((clients, mallory, plan), error, Around::default());
}

fn two_external_inits() {
    let (clients, mallory, mut plan) = joining(Vec::new());
    plan.proposals.push(plan.proposals[0].clone());
    let error = ProposalError::SecondExternalInit;
    refused_plan((clients, mallory, plan), error, Around::default());
}

fn two_removes() {
    let error = ProposalError::SecondRemoveInExternalCommit;
    refused_with(vec![remove(CHARLIE), remove(MALLORY)], error);
}

fn not_in(proposal: Proposal, kind: ProposalType) {
    let error = ProposalError::NotInExternalCommit(kind);
    refused_with(vec![proposal], error);
}

fn no_add() {
    let (_, package) = crate::newcomer_named("somebody else");
    not_in(Proposal::add(package), ProposalType::ADD);
}

fn no_update() {
    let (clients, mallory, mut plan) = joining(Vec::new());
    let mut leaf = mallory.nodes.leaf(mallory.own).unwrap().clone();
    leaf.encryption_key = Client::new("other").key_package().init_key;
    leaf.leaf_node_source = LeafNodeSource::Update;
    let leaf = sign_leaf(mallory.suite, &mallory.signer, leaf, mallory.position());
    let update = Proposal::update(leaf);
    plan.proposals
        .push(ProposalOrRef::Proposal(Box::new(update)));
    let error = ProposalError::NotInExternalCommit(ProposalType::UPDATE);
    refused_plan((clients, mallory, plan), error, Around::default());
}

fn no_reinit() {
    let reinit = Proposal::ReInit(ReInit {
        group_id: Bytes::from(*b"next"),
        version: ProtocolVersion::MLS10,
        cipher_suite: SUITE,
        extensions: Extensions::default(),
    });
    not_in(reinit, ProposalType::REINIT);
}

fn no_extensions() {
    let replace = Proposal::group_context_extensions(Extensions::default());
    not_in(replace, ProposalType::GROUP_CONTEXT_EXTENSIONS);
}

fn remove_names_a_member() {
    for leaf in [3, 9] {
        let error = ProposalError::NoSuchMember(LeafIndex(leaf as u32));
        refused_with(vec![remove(leaf)], error);
    }
}

fn successor() {
    let error = CommitError::LeafNode(LeafNodeError::NotSuccessor);
    refused_plan(joining(vec![remove(CHARLIE)]), error, Around::default());
}

fn renewed_key() {
    let mut charlie = Client::new("charlie");
    charlie.signer = Client::new("another key").signer;
    let package = charlie.key_package();
    let mut joining = joining_as(&(charlie, package), vec![remove(CHARLIE)]);
    let old = joining.1.nodes.leaf(LeafIndex(CHARLIE as u32)).unwrap();
    let kept = old.encryption_key.clone();
    joining.2.edit_leaf = Box::new(move |leaf| leaf.encryption_key = kept.clone());
    let error = CommitError::LeafNode(LeafNodeError::EncryptionKeyNotRenewed);
    refused_plan(joining, error, Around::default());
}

fn kem_output() {
    for output in [&[7; 31][..], &[0; 32]] {
        let (clients, mallory, mut plan) = joining(Vec::new());
        let kem_output = Bytes::from(output);
        let init = Proposal::ExternalInit(ExternalInit { kem_output });
        plan.proposals[0] = ProposalOrRef::Proposal(Box::new(init));
        let error = CommitError::ExternalInit(CryptoError::InvalidPublicKey);
        refused_plan((clients, mallory, plan), error, Around::default());
    }
}

fn init_secret() {
    // Not even that of the last epoch, which members commit with.
    let other = |plan: &mut Plan<'_>| plan.init_secret = None;
    refused(other, CommitError::ConfirmationTag);
    let other = |plan: &mut Plan<'_>| plan.init_secret = Some(Secret::zero(32));
    refused(other, CommitError::ConfirmationTag);
}

fn psk() -> Proposal {
    let psk = PreSharedKeyID {
        psktype: PskType::External(ExternalPsk {
            psk_id: Bytes::from(*b"psk"),
        }),
        psk_nonce: Bytes::from([7; 32]),
    };
    Proposal::PreSharedKey(PreSharedKey { psk })
}

fn refused_psks(psks: Vec<Proposal>, error: ProposalError) {
    let mut joining = joining(psks);
    joining.2.psks = vec![Secret::zero(32); 2];
    refused_plan(joining, error, Around::default());
}

fn psk_is_known() {
    refused_psks(vec![psk()], ProposalError::UnknownPsk);
}

fn psk_twice() {
    refused_psks(vec![psk(), psk()], ProposalError::RepeatedPsk);
}

fn epoch() {
    let (message, current) = (2, 1);
    let later = |plan: &mut Plan<'_>| plan.edit_content = Box::new(|content| content.epoch += 1);
    refused(later, Error::WrongEpoch { message, current });
}

fn confirmation_tag() {
    let spoil = |plan: &mut Plan<'_>| plan.edit_tag = Box::new(|tag| *tag = Bytes::from([0; 32]));
    refused(spoil, CommitError::ConfirmationTag);
}

fn credential() {
    let mut joining = joining(Vec::new());
    joining.2.edit_leaf = Box::new(|leaf| leaf.credential = Credential::basic(*b"forbidden"));
    let error = LeafNodeError::Credential(CredentialError::NotAuthentic);
    refused_plan(joining, CommitError::LeafNode(error), LENIENT);
}

fn place() {
    let (clients, mallory, mut plan) = joining(Vec::new());
    let signer = plan.leaf_signer.clone();
    let suite = mallory.suite;
    plan.edit_signed_leaf = Box::new(move |leaf| {
        let position = folkmoot_mls::leaf_node::LeafPosition {
            group_id: b"group",
            leaf_index: LeafIndex(4),
        };
        *leaf = sign_leaf(suite, &signer, leaf.clone(), position);
    });
    let error = LeafNodeError::Signature(CryptoError::InvalidSignature);
    let error = CommitError::LeafNode(error);
    refused_plan((clients, mallory, plan), error, Around::default());
}

fn source() {
    let change = |plan: &mut Plan<'_>| {
        plan.edit_leaf = Box::new(|leaf| leaf.leaf_node_source = LeafNodeSource::Update);
    };
    refused(change, CommitError::Path(PathError::LeafNodeSource));
}

fn parent_hash() {
    let change = |plan: &mut Plan<'_>| {
        plan.edit_leaf = Box::new(|leaf| {
            leaf.leaf_node_source = LeafNodeSource::Commit(Bytes::from([1; 32]));
        });
    };
    refused(change, CommitError::Path(PathError::ParentHash));
}

fn extensions_listed() {
    let change = |plan: &mut Plan<'_>| {
        plan.edit_leaf = Box::new(|leaf| leaf.extensions = unknown_extension());
    };
    let error = LeafNodeError::UnlistedExtension(ExtensionType(0xf00d));
    refused(change, CommitError::LeafNode(error));
}

fn credential_of_all() {
    let mut joining = joining(Vec::new());
    joining.2.edit_leaf = Box::new(|leaf| {
        leaf.credential = custom(b"newcomer");
        leaf.capabilities.credentials.push(CUSTOM);
    });
    let error = CommitError::UnsupportedCredential(CUSTOM);
    refused_plan(joining, error, LENIENT);
}

/// Charlie, who is in the group, joins again without leaving it.
fn signature_key() {
    let mut charlie = Client::new("charlie");
    let package = charlie.key_package();
    let joining = joining_as(&(charlie, package), Vec::new());
    let error = TreeError::DuplicateSignatureKey(LeafIndex(3));
    let error = CommitError::Path(error.into());
    refused_plan(joining, error, Around::default());
}

fn encryption_key() {
    let mut joining = joining(Vec::new());
    let taken = joining
        .1
        .nodes
        .leaf(LeafIndex(0))
        .unwrap()
        .encryption_key
        .clone();
    joining.2.edit_leaf = Box::new(move |leaf| leaf.encryption_key = taken.clone());
    let error = CommitError::Path(PathError::RepeatedKey(NodeIndex(6)));
    refused_plan(joining, error, Around::default());
}

fn length() {
    let shorter = |plan: &mut Plan<'_>| plan.edit_path = Box::new(|path| drop(path.nodes.pop()));
    let (expected, found) = (2, 1);
    refused(
        shorter,
        CommitError::Path(PathError::Length { expected, found }),
    );
}

/// Joins by what Mallory publishes, with a change that she signs; then by what is right.
fn refused_info(change: impl FnOnce(&mut GroupInfo), error: impl Into<Error>) {
    let (mut clients, _) = group();
    let (joiner, _) = newcomer();
    let options = GroupInfoOptions {
        ratchet_tree: true,
        external_pub: true,
        extensions: unknown_extension(),
    };
    let signer = &clients[MALLORY].signer;
    let good = clients[MALLORY]
        .group()
        .group_info(signer, options)
        .unwrap();
    let mut info = good.clone();
    info.signature = Bytes::default();
    change(&mut info);
    if info.signature.is_empty() {
        let tbs = info.tbs();
        let suite = crate::suite(SUITE);
        info.signature = suite.sign_with_label(signer, GROUP_INFO_TBS, &tbs).unwrap();
    }
    let join = |info: GroupInfo| {
        let mut rng = joiner.rng.clone();
        let ctx = &mut crate::context(None, &mut rng);
        Group::join_external(info, joiner.parameters()).build(&joiner.signer, ctx)
    };
    assert_eq!(join(info).map(drop), Err(error.into()));
    let pending = join(good).unwrap();
    clients[ALICE].receive(&pending.message).unwrap();
    let joined = pending.group.epoch_authenticator();
    assert_eq!(joined, clients[ALICE].group().epoch_authenticator());
}

fn without(info: &mut GroupInfo, kind: ExtensionType) {
    let extensions = info.extensions.iter().cloned();
    info.extensions = extensions.filter(|e| e.extension_type != kind).collect();
}

fn external_pub() {
    let change = |info: &mut GroupInfo| without(info, ExtensionType::EXTERNAL_PUB);
    refused_info(change, JoinError::MissingExternalPub);
}

fn external_pub_is_read() {
    let kind = ExtensionType::EXTERNAL_PUB;
    let change = |info: &mut GroupInfo| info.extensions.set_data(kind, vec![9]);
    refused_info(change, JoinError::MalformedExtension(kind));
}

fn external_pub_is_a_key() {
    for key in [&[7; 31][..], &[0; 32]] {
        let key = Bytes::from(key).to_bytes();
        let change = |info: &mut GroupInfo| {
            info.extensions.set_data(ExtensionType::EXTERNAL_PUB, key);
        };
        let error = JoinError::ExternalPub(CryptoError::InvalidPublicKey);
        refused_info(change, error);
    }
}

fn group_info_signature() {
    let error = JoinError::Signature(CryptoError::InvalidSignature);
    refused_info(|info| info.signature = Bytes::from([0; 64]), error.clone());
    refused_info(|info| info.signer = LeafIndex(0), error);
}

fn group_info_signer() {
    for leaf in [3, 9] {
        let leaf = LeafIndex(leaf);
        let error = JoinError::NoSigner(leaf);
        refused_info(|info| info.signer = leaf, error);
    }
}

fn group_info_tree() {
    let change = |info: &mut GroupInfo| info.group_context.tree_hash = Bytes::from([7; 32]);
    refused_info(change, JoinError::Tree(TreeError::TreeHash));
}

fn group_info_without_tree() {
    let change = |info: &mut GroupInfo| without(info, ExtensionType::RATCHET_TREE);
    refused_info(change, JoinError::MissingTree);
}

fn group_info_version() {
    let change = |info: &mut GroupInfo| info.group_context.version = ProtocolVersion(2);
    refused_info(change, JoinError::Version);
}

fn group_info_cipher_suite() {
    let suite = CipherSuite(0xf077);
    let change = |info: &mut GroupInfo| info.group_context.cipher_suite = suite;
    refused_info(change, Error::UnsupportedCipherSuite(suite));
}

fn former_leaf() {
    let (mut clients, _) = group();
    let (joiner, _) = newcomer();
    let options = GroupInfoOptions {
        ratchet_tree: true,
        external_pub: true,
        ..GroupInfoOptions::default()
    };
    let signer = &clients[MALLORY].signer;
    let info = clients[MALLORY]
        .group()
        .group_info(signer, options)
        .unwrap();
    let mut rng = joiner.rng.clone();
    let ctx = &mut crate::context(None, &mut rng);
    let joining = Group::join_external(info.clone(), joiner.parameters());
    let refused = joining.resync_own().build(&joiner.signer, ctx);
    assert_eq!(refused.map(drop), Err(JoinError::NoFormerLeaf.into()));
    let joining = Group::join_external(info, joiner.parameters());
    let refused = joining.resync(LeafIndex(2)).build(&joiner.signer, ctx);
    let error = CommitError::LeafNode(LeafNodeError::NotSuccessor);
    assert_eq!(refused.map(drop), Err(error.into()));
    goes_on(&mut clients);
}
