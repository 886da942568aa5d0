//! Leaf nodes in Updates and in paths (RFC 9420, sections 5.3.1, 7.3 and 12.1.2). Each row holds for
//! both.

use folkmoot_mls::codec::Bytes;
use folkmoot_mls::context::CredentialError;
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::{CryptoError, SignatureKeyPair};
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::{ExtensionType, Extensions, RequiredCapabilities};
use folkmoot_mls::framing::Content;
use folkmoot_mls::group::{CommitError, ProposalError};
use folkmoot_mls::leaf_node::{LeafNode, LeafNodeSource, Lifetime};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{Proposal, ProposalOrRef};
use folkmoot_mls::tree::path::PathError;
use folkmoot_mls::tree::{Capability, LeafNodeError, TreeError};
use folkmoot_mls::tree_math::{LeafIndex, NodeIndex};

use crate::group_harness::{Client, SUITE, suite};
use crate::insider::{Insider, Plan, sign_leaf, unknown_extension};
use crate::{
    ALICE, Around, CHARLIE, CUSTOM, LENIENT, MALLORY, custom, group, refuses_commit_around,
};

rules! {
    "5.3.1" "Update: a new credential is valid" => update_credential;
    "5.3.1" "path: a new credential is valid" => path_credential;
    "5.3.1" "Update: a new credential is a successor of the old one" => update_successor;
    "5.3.1" "path: a new credential is a successor of the old one" => path_successor;
    "7.3" "Update: the leaf's signature is valid" => update_signature;
    "7.3" "path: the leaf's signature is valid" => path_signature;
    "7.2" "Update: the leaf's signature covers the group" => update_covers_the_group;
    "7.2" "path: the leaf's signature covers the group" => path_covers_the_group;
    "7.2" "Update: the leaf's signature covers its place" => update_covers_the_place;
    "7.2" "path: the leaf's signature covers its place" => path_covers_the_place;
    "7.3" "Update: the leaf's source is an Update" => update_source;
    "7.3" "path: the leaf's source is a commit" => path_source;
    "7.3" "Update: the encryption key is another than before" => update_renews_the_key;
    "12.4.2" "path: the encryption key is another than before" => path_renews_the_key;
    "7.3" "Update: the encryption key is one of the suite" => update_key;
    "7.3" "path: the encryption key is one of the suite" => path_key;
    "7.3" "Update: the extensions are in the leaf's capabilities" => update_extensions;
    "7.3" "path: the extensions are in the leaf's capabilities" => path_extensions;
    "7.3" "Update: the credential's type is in the leaf's capabilities" => update_credential_listed;
    "7.3" "path: the credential's type is in the leaf's capabilities" => path_credential_listed;
    "7.3" "Update: the group's cipher suite is supported" => update_supports;
    "7.3" "path: the group's cipher suite is supported" => path_supports;
    "11.1" "Update: required capabilities are supported" => update_required;
    "11.1" "path: required capabilities are supported" => path_required;
    "7.3" "Update: all members support the credential's type" => update_credential_of_all;
    "7.3" "path: all members support the credential's type" => path_credential_of_all;
    "7.3" "Update: the signature key is no other member's" => update_signature_key;
    "7.3" "path: the signature key is no other member's" => path_signature_key;
    "7.3" "Update: the encryption key is no other node's" => update_encryption_key;
    "12.4.2" "path: the encryption key of the leaf is no other node's" => path_encryption_key;
}

/// A change of a leaf that is to be signed.
type Change<'a> = &'a dyn Fn(&mut LeafNode);

/// An Update of Charlie's that Mallory commits: a plan, once Alice has the proposal.
fn update_plan<'a>(
    clients: &mut [Client],
    mallory: &Insider,
    signer: &SignatureKeyPair,
    change: Change<'_>,
    after: Change<'_>,
) -> Plan<'a> {
    let charlie = Insider::of(&clients[CHARLIE]);
    let mut leaf = charlie.nodes.leaf(charlie.own).unwrap().clone();
    leaf.encryption_key = charlie
        .suite
        .kem_key_pair(&mut charlie.rng.clone())
        .public_key()
        .clone();
    leaf.signature_key = signer.public_key().clone();
    leaf.leaf_node_source = LeafNodeSource::Update;
    change(&mut leaf);
    let mut leaf = sign_leaf(charlie.suite, signer, leaf, charlie.position());
    after(&mut leaf);
    let proposal = Proposal::update(leaf);
    let content = charlie.content(Content::Proposal(Box::new(proposal.clone())));
    let message = charlie.public(content);
    let reference = folkmoot_mls::framing::AuthenticatedContent {
        wire_format: folkmoot_mls::code_point::WireFormat::PUBLIC_MESSAGE,
        content: message.content.clone(),
        auth: message.auth.clone(),
    }
    .proposal_ref(charlie.suite);
    let message = MlsMessage::PublicMessage(Box::new(message));
    clients[ALICE].receive(&message).unwrap();
    let mut plan = mallory.plan(Vec::new());
    plan.proposals = vec![ProposalOrRef::Reference(reference.into())];
    plan.effects = vec![(charlie.own, proposal)];
    plan
}

fn update_refused(around: Around<'_>, change: Change<'_>, error: LeafNodeError) {
    let (mut clients, mallory) = group();
    let signer = clients[CHARLIE].signer.clone();
    let plan = update_plan(&mut clients, &mallory, &signer, change, &|_| {});
    let leaf = LeafIndex(CHARLIE as u32);
    let error = ProposalError::Update { leaf, error };
    refuses_commit_around(&mut clients, &mallory, &plan, error, around);
}

fn path_refused(around: Around<'_>, change: Change<'_>, error: impl Into<CommitError>) {
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(Vec::new());
    plan.edit_leaf = Box::new(change);
    refuses_commit_around(&mut clients, &mallory, &plan, error.into(), around);
}

#[test]
fn updates_and_paths_that_are_right_are_taken() {
    let (mut clients, mallory) = group();
    let signer = suite(SUITE).signature_key_pair(&mut mallory.rng.clone());
    let rename: Change<'_> = &|leaf| leaf.credential = Credential::basic(*b"new name");
    let mut plan = update_plan(&mut clients, &mallory, &signer, rename, &|_| {});
    plan.edit_leaf = Box::new(rename);
    let message = mallory.commit(&plan).private(&mut clients[MALLORY]);
    crate::process(&mut clients[ALICE], &message, LENIENT).unwrap();
    crate::goes_on(&mut clients);
}

const FORBIDDEN: Change<'static> = &|leaf| leaf.credential = Credential::basic(*b"forbidden");
const STRANGER: Change<'static> = &|leaf| leaf.credential = Credential::basic(*b"stranger");

fn update_credential() {
    let error = LeafNodeError::Credential(CredentialError::NotAuthentic);
    update_refused(LENIENT, FORBIDDEN, error);
}

fn path_credential() {
    let error = LeafNodeError::Credential(CredentialError::NotAuthentic);
    path_refused(LENIENT, FORBIDDEN, error);
}

fn update_successor() {
    update_refused(LENIENT, STRANGER, LeafNodeError::NotSuccessor);
}

fn path_successor() {
    path_refused(LENIENT, STRANGER, LeafNodeError::NotSuccessor);
}

const INVALID: LeafNodeError = LeafNodeError::Signature(CryptoError::InvalidSignature);

fn update_signed_wrongly(spoil: Change<'_>) {
    let (mut clients, mallory) = group();
    let signer = clients[CHARLIE].signer.clone();
    let plan = update_plan(&mut clients, &mallory, &signer, &|_| {}, spoil);
    let leaf = LeafIndex(CHARLIE as u32);
    let error = ProposalError::Update {
        leaf,
        error: INVALID,
    };
    refuses_commit_around(&mut clients, &mallory, &plan, error, Around::default());
}

fn path_signed_wrongly(spoil: impl Fn(&mut LeafNode)) {
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(Vec::new());
    plan.edit_signed_leaf = Box::new(spoil);
    let error = CommitError::from(INVALID);
    refuses_commit_around(&mut clients, &mallory, &plan, error, Around::default());
}

fn update_signature() {
    update_signed_wrongly(&|leaf| leaf.signature = Bytes::from([0; 64]));
}

fn path_signature() {
    path_signed_wrongly(|leaf| leaf.signature = Bytes::from([0; 64]));
}

/// Signed for the same place in another group, or for another place in this one.
fn elsewhere(insider: &Insider, group_id: &[u8], leaf_index: u32) -> impl Fn(&mut LeafNode) {
    let (suite, signer) = (insider.suite, insider.signer.clone());
    let group_id = group_id.to_vec();
    move |leaf| {
        let position = folkmoot_mls::leaf_node::LeafPosition {
            group_id: &group_id,
            leaf_index: LeafIndex(leaf_index),
        };
        *leaf = sign_leaf(suite, &signer, leaf.clone(), position);
    }
}

fn update_covers_the_group() {
    let charlie = Insider::of(&group().0[CHARLIE]);
    update_signed_wrongly(&elsewhere(&charlie, b"other", CHARLIE as u32));
}

fn path_covers_the_group() {
    path_signed_wrongly(elsewhere(&group().1, b"other", MALLORY as u32));
}

fn update_covers_the_place() {
    let charlie = Insider::of(&group().0[CHARLIE]);
    update_signed_wrongly(&elsewhere(&charlie, b"group", CHARLIE as u32 + 1));
}

fn path_covers_the_place() {
    path_signed_wrongly(elsewhere(&group().1, b"group", MALLORY as u32 + 1));
}

fn update_source() {
    let always = Lifetime {
        not_before: 0,
        not_after: u64::MAX,
    };
    for source in [
        LeafNodeSource::KeyPackage(always),
        LeafNodeSource::Commit(Bytes::default()),
    ] {
        let change: Change<'_> = &|leaf| leaf.leaf_node_source = source.clone();
        update_refused(Around::default(), change, LeafNodeError::Source);
    }
}

/// The parent hash is a commit's alone, so such a leaf has none, and is refused for that.
fn path_source() {
    let change: Change<'_> = &|leaf| leaf.leaf_node_source = LeafNodeSource::Update;
    path_refused(Around::default(), change, PathError::LeafNodeSource);
}

fn update_renews_the_key() {
    let kept = group()
        .1
        .nodes
        .leaf(LeafIndex(CHARLIE as u32))
        .unwrap()
        .encryption_key
        .clone();
    let change: Change<'_> = &|leaf| leaf.encryption_key = kept.clone();
    let error = LeafNodeError::EncryptionKeyNotRenewed;
    update_refused(Around::default(), change, error);
}

fn path_renews_the_key() {
    let kept = group()
        .1
        .nodes
        .leaf(LeafIndex(MALLORY as u32))
        .unwrap()
        .encryption_key
        .clone();
    let change: Change<'_> = &|leaf| leaf.encryption_key = kept.clone();
    path_refused(Around::default(), change, PathError::LeafKeyNotRenewed);
}

const NO_KEY: Change<'static> = &|leaf| leaf.encryption_key = Bytes::from([0; 31]).into();

fn update_key() {
    let error = LeafNodeError::EncryptionKey(CryptoError::InvalidPublicKey);
    update_refused(Around::default(), NO_KEY, error);
}

fn path_key() {
    let (node, error) = (NodeIndex(2), CryptoError::InvalidPublicKey);
    path_refused(
        Around::default(),
        NO_KEY,
        PathError::InvalidKey { node, error },
    );
}

const UNLISTED: Change<'static> = &|leaf| leaf.extensions = unknown_extension();

fn update_extensions() {
    let error = LeafNodeError::UnlistedExtension(ExtensionType(0xf00d));
    update_refused(Around::default(), UNLISTED, error);
}

fn path_extensions() {
    let error = LeafNodeError::UnlistedExtension(ExtensionType(0xf00d));
    path_refused(Around::default(), UNLISTED, error);
}

const CUSTOM_ONLY: Change<'static> = &|leaf| leaf.capabilities.credentials = vec![CUSTOM];

fn update_credential_listed() {
    let error = LeafNodeError::UnlistedCredential(CredentialType::BASIC);
    update_refused(Around::default(), CUSTOM_ONLY, error);
}

fn path_credential_listed() {
    let error = LeafNodeError::UnlistedCredential(CredentialType::BASIC);
    path_refused(Around::default(), CUSTOM_ONLY, error);
}

const NO_SUITE: Change<'static> = &|leaf| leaf.capabilities.cipher_suites.clear();

fn update_supports() {
    let error = LeafNodeError::Lacks(Capability::CipherSuite(SUITE));
    update_refused(Around::default(), NO_SUITE, error);
}

fn path_supports() {
    let error = LeafNodeError::Lacks(Capability::CipherSuite(SUITE));
    path_refused(Around::default(), NO_SUITE, error);
}

/// A group that requires support of an extension.
fn demanding() -> (Vec<Client>, Insider, LeafNodeError) {
    let mut clients = group().0;
    let required = RequiredCapabilities {
        extension_types: vec![ExtensionType(0xf00d)],
        ..RequiredCapabilities::default()
    };
    for client in &mut clients {
        client.member = None;
    }
    let supporting = |client: &Client| {
        let mut parameters = client.parameters();
        parameters
            .capabilities
            .extensions
            .push(ExtensionType(0xf00d));
        parameters
    };
    let always = Lifetime {
        not_before: 0,
        not_after: u64::MAX,
    };
    let alice = supporting(&clients[ALICE]);
    clients[ALICE].create_with(Extensions::default().with(&required), alice);
    for index in 1..3 {
        let parameters = supporting(&clients[index]);
        let package = clients[index].key_package_with(parameters, always);
        let pending = clients[ALICE].commit(|commit| commit.add(package)).unwrap();
        crate::group_harness::deliver(&mut clients, ALICE, pending);
    }
    let mallory = Insider::of(&clients[MALLORY]);
    let error = LeafNodeError::Lacks(Capability::Extension(ExtensionType(0xf00d)));
    (clients, mallory, error)
}

const UNSUPPORTING: Change<'static> = &|leaf| leaf.capabilities.extensions.clear();

fn update_required() {
    let (mut clients, mallory, error) = demanding();
    let signer = clients[CHARLIE].signer.clone();
    let plan = update_plan(&mut clients, &mallory, &signer, UNSUPPORTING, &|_| {});
    let leaf = LeafIndex(CHARLIE as u32);
    let error = ProposalError::Update { leaf, error };
    refuses_commit_around(&mut clients, &mallory, &plan, error, Around::default());
}

fn path_required() {
    let (mut clients, mallory, error) = demanding();
    let mut plan = mallory.plan(Vec::new());
    plan.edit_leaf = Box::new(UNSUPPORTING);
    let error = CommitError::from(error);
    refuses_commit_around(&mut clients, &mallory, &plan, error, Around::default());
}

const CUSTOM_CREDENTIAL: Change<'static> = &|leaf| {
    leaf.credential = custom(b"somebody");
    leaf.capabilities.credentials.push(CUSTOM);
};

fn update_credential_of_all() {
    let (mut clients, mallory) = group();
    let signer = clients[CHARLIE].signer.clone();
    let plan = update_plan(&mut clients, &mallory, &signer, CUSTOM_CREDENTIAL, &|_| {});
    let error = ProposalError::UnsupportedCredential(CUSTOM);
    refuses_commit_around(&mut clients, &mallory, &plan, error, LENIENT);
}

fn path_credential_of_all() {
    let error = CommitError::UnsupportedCredential(CUSTOM);
    path_refused(LENIENT, CUSTOM_CREDENTIAL, error);
}

/// Charlie takes Alice's key: only somebody who has it could, but nobody may.
fn update_signature_key() {
    let (mut clients, mallory) = group();
    let signer = clients[ALICE].signer.clone();
    let plan = update_plan(&mut clients, &mallory, &signer, &|_| {}, &|_| {});
    let error = TreeError::DuplicateSignatureKey(LeafIndex(CHARLIE as u32));
    let error = Error::Proposal(error.into());
    refuses_commit_around(&mut clients, &mallory, &plan, error, Around::default());
}

fn path_signature_key() {
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(Vec::new());
    plan.leaf_signer = clients[ALICE].signer.clone();
    let error = TreeError::DuplicateSignatureKey(LeafIndex(MALLORY as u32));
    let error = CommitError::Path(error.into());
    refuses_commit_around(&mut clients, &mallory, &plan, error, Around::default());
}

fn update_encryption_key() {
    let (mut clients, mallory) = group();
    let signer = clients[CHARLIE].signer.clone();
    let taken = mallory
        .nodes
        .leaf(LeafIndex(0))
        .unwrap()
        .encryption_key
        .clone();
    let change: Change<'_> = &|leaf| leaf.encryption_key = taken.clone();
    let plan = update_plan(&mut clients, &mallory, &signer, change, &|_| {});
    let error = TreeError::DuplicateEncryptionKey(NodeIndex(4));
    let error = Error::Proposal(error.into());
    refuses_commit_around(&mut clients, &mallory, &plan, error, Around::default());
}

fn path_encryption_key() {
    let taken = group()
        .1
        .nodes
        .leaf(LeafIndex(0))
        .unwrap()
        .encryption_key
        .clone();
    let change: Change<'_> = &|leaf| leaf.encryption_key = taken.clone();
    path_refused(
        Around::default(),
        change,
        PathError::RepeatedKey(NodeIndex(2)),
    );
}

/// An Update of Charlie's that is right, and Mallory's plan to commit it.
pub fn good_update<'a>(clients: &mut [Client], mallory: &Insider) -> Plan<'a> {
    let signer = clients[CHARLIE].signer.clone();
    update_plan(clients, mallory, &signer, &|_| {}, &|_| {})
}
