//! Welcomes (RFC 9420, sections 8.4, 12.4.3 and 12.4.3.1). The tree has a file of its own.

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::crypto::{CipherSuite, CryptoError, Secret};
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::ExtensionType;
use folkmoot_mls::group::{JoinError, ProposalError};
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::psk::{ExternalPsk, PreSharedKeyID, PskType};
use folkmoot_mls::tree::path::PathError;
use folkmoot_mls::tree_math::{LeafIndex, NodeIndex};
use folkmoot_mls::welcome::{PathSecret, Welcome};

use crate::group_harness::{Client, assert_agreement};
use crate::insider::{Forged, unknown_extension};
use crate::welcome::Invitation;
use crate::{ALICE, MALLORY, group, newcomer};

rules! {
    "12.4.3.1" "the Welcome has a part for our KeyPackage" => part_for_us;
    "12.4.3.1" "the Welcome's cipher suite is the KeyPackage's" => cipher_suite;
    "5.1" "the Welcome's cipher suite is one that we have" => known_cipher_suite;
    "12.4.3.1" "the group secrets open" => group_secrets_open;
    "12.4.3.1" "the group secrets are bound to the GroupInfo" => group_secrets_are_bound;
    "12.4.3.1" "the GroupInfo opens" => group_info_opens;
    "12.4.3.1" "we have the PSKs" => psks_are_known;
    "8.4" "a Welcome's PSK has a nonce as long as the hash" => psk_nonce;
    "8.4" "a Welcome has no PSK twice" => psk_twice;
    "12.4.3" "the GroupInfo's signature is valid" => signature;
    "12.4.3.1" "the GroupInfo's signer is a member" => signer;
    "12.4.3.1" "the GroupInfo's cipher suite is the KeyPackage's" => group_info_cipher_suite;
    "12.4.3.1" "the GroupInfo's version is the KeyPackage's" => group_info_version;
    "12.4.3.1" "our leaf is in the tree as it is in the KeyPackage" => own_leaf;
    "12.4.3.1" "the path secret gives the tree's public keys" => path_secret;
    "12.4.3.1" "the confirmation tag is right" => confirmation_tag;
    "12.4.3.3" "the tree is there" => tree_is_there;
    "13.4" "unknown extensions of a GroupInfo are passed over" => unknown_extensions;
    "11.1" "the group's required_capabilities is well-formed" => required_capabilities;
    "12.4.3.1" "the private keys are those of the KeyPackage" => private_keys;
}

/// A newcomer whom Mallory adds, with or without a path.
pub fn invited(path: bool) -> (Vec<Client>, Client, Forged) {
    let (mut clients, mallory) = group();
    let (joiner, package) = newcomer();
    let mut plan = mallory.plan(vec![Proposal::add(package)]);
    plan.path = path;
    let forged = mallory.commit(&plan);
    let message = forged.private(&mut clients[MALLORY]);
    clients[ALICE].receive(&message).unwrap();
    (clients, joiner, forged)
}

/// The joiner refuses a Welcome, and takes the right one after it.
pub fn refuses(
    (clients, mut joiner, forged): (Vec<Client>, Client, Forged),
    psks: &[Secret],
    change: impl FnOnce(&mut Invitation),
    then: impl FnOnce(&mut Welcome),
    error: impl Into<Error>,
) {
    let mut invitation = forged.invitation(psks);
    change(&mut invitation);
    let mut welcome = invitation.seal(&forged);
    then(&mut welcome);
    let bundle = joiner.bundle.clone();
    assert_eq!(joiner.join(&welcome, None), Err(error.into()));
    assert!(joiner.member.is_none() && joiner.bundle == bundle);
    joiner
        .join(&forged.invitation(&[]).seal(&forged), None)
        .unwrap();
    assert_agreement([&clients[ALICE], &joiner]);
}

fn refused(change: impl FnOnce(&mut Invitation), error: impl Into<JoinError>) {
    refuses(invited(true), &[], change, |_| {}, error.into());
}

fn refused_welcome(then: impl FnOnce(&mut Welcome), error: impl Into<Error>) {
    refuses(invited(true), &[], |_| {}, then, error);
}

fn part_for_us() {
    let other = |welcome: &mut Welcome| welcome.secrets[0].new_member = Bytes::from([0; 32]);
    refused_welcome(other, JoinError::NotForUs);
    refused_welcome(|welcome| welcome.secrets.clear(), JoinError::NotForUs);
}

fn cipher_suite() {
    let other = |welcome: &mut Welcome| welcome.cipher_suite = CipherSuite(3);
    refused_welcome(other, JoinError::CipherSuite);
}

fn known_cipher_suite() {
    let suite = CipherSuite(0xf077);
    let other = |welcome: &mut Welcome| welcome.cipher_suite = suite;
    refused_welcome(other, Error::UnsupportedCipherSuite(suite));
}

fn flip(bytes: &mut Bytes) {
    let mut vec = std::mem::take(bytes).into_vec();
    vec[0] ^= 1;
    *bytes = vec.into();
}

fn group_secrets_open() {
    let spoil = |welcome: &mut Welcome| {
        flip(&mut welcome.secrets[0].encrypted_group_secrets.ciphertext);
    };
    let error = JoinError::Decryption(CryptoError::DecryptionFailed);
    refused_welcome(spoil, error);
}

/// The encrypted GroupInfo is the context of the other encryption.
fn group_secrets_are_bound() {
    let spoil = |welcome: &mut Welcome| flip(&mut welcome.encrypted_group_info);
    let error = JoinError::Decryption(CryptoError::DecryptionFailed);
    refused_welcome(spoil, error);
}

fn group_info_opens() {
    let change = |invitation: &mut Invitation| invitation.other_welcome_key = true;
    let error = JoinError::GroupInfoDecryption(CryptoError::DecryptionFailed);
    refused(change, error);
}

fn psk(nonce: usize) -> PreSharedKeyID {
    PreSharedKeyID {
        psktype: PskType::External(ExternalPsk {
            psk_id: Bytes::from(*b"psk"),
        }),
        psk_nonce: Bytes::from(vec![7; nonce]),
    }
}

fn refused_psks(psks: Vec<PreSharedKeyID>, error: ProposalError) {
    let secrets = vec![Secret::zero(32); psks.len()];
    let change = |invitation: &mut Invitation| invitation.group_secrets.psks = psks;
    let error = JoinError::Psk(error);
    refuses(invited(true), &secrets, change, |_| {}, error);
}

fn psks_are_known() {
    refused_psks(vec![psk(32)], ProposalError::UnknownPsk);
}

fn psk_nonce() {
    refused_psks(vec![psk(31)], ProposalError::PskNonce);
}

fn psk_twice() {
    refused_psks(vec![psk(32), psk(32)], ProposalError::RepeatedPsk);
}

fn signature() {
    let error = JoinError::Signature(CryptoError::InvalidSignature);
    refused(|invitation| invitation.unsigned = true, error.clone());
    // Mallory signs, but says that Alice did.
    refused(
        |invitation| invitation.group_info.signer = LeafIndex(0),
        error,
    );
}

fn signer() {
    for leaf in [4, 9, u32::MAX] {
        let leaf = LeafIndex(leaf);
        let change = |invitation: &mut Invitation| invitation.group_info.signer = leaf;
        refused(change, JoinError::NoSigner(leaf));
    }
}

fn group_info_cipher_suite() {
    let change = |invitation: &mut Invitation| {
        invitation.group_info.group_context.cipher_suite = CipherSuite(3);
    };
    refused(change, JoinError::GroupInfoCipherSuite);
}

fn group_info_version() {
    let change = |invitation: &mut Invitation| {
        invitation.group_info.group_context.version = ProtocolVersion(2);
    };
    refused(change, JoinError::Version);
}

/// What is in the tree is another offer of the same client.
fn own_leaf() {
    let (_, mallory) = group();
    let (mut joiner, first) = newcomer();
    let bundle = joiner.bundle.clone();
    let second = joiner.key_package();
    joiner.bundle = bundle;
    let plan = mallory.plan(vec![Proposal::add(second)]);
    let mut forged = mallory.commit(&plan);
    forged.added[0].1 = first;
    let welcome = forged.invitation(&[]).seal(&forged);
    assert_eq!(joiner.join(&welcome, None), Err(JoinError::NoLeaf.into()));
}

fn path_secret() {
    let path_secret = Secret::zero(32);
    let change = |invitation: &mut Invitation| {
        invitation.group_secrets.path_secret = Some(PathSecret { path_secret });
    };
    refused(change, PathError::WrongSecret(NodeIndex(3)));
}

fn confirmation_tag() {
    let error = JoinError::ConfirmationTag;
    refused(|invitation| invitation.unconfirmed = true, error.clone());
    // Or the GroupInfo speaks of another epoch than that of the secrets.
    let change = |invitation: &mut Invitation| invitation.stale_context = true;
    refused(change, error);
}

fn tree_is_there() {
    refused(
        |invitation| invitation.with_tree = false,
        JoinError::MissingTree,
    );
}

fn unknown_extensions() {
    let (clients, mut joiner, forged) = invited(true);
    let mut invitation = forged.invitation(&[]);
    invitation.group_info.extensions = unknown_extension();
    joiner.join(&invitation.seal(&forged), None).unwrap();
    assert_agreement([&clients[ALICE], &joiner]);
}

fn required_capabilities() {
    let kind = ExtensionType::REQUIRED_CAPABILITIES;
    let change = |invitation: &mut Invitation| {
        let extensions = &mut invitation.group_info.group_context.extensions;
        extensions.set_data(kind, vec![9]);
    };
    refused(change, JoinError::MalformedExtension(kind));
}

fn private_keys() {
    let (clients, mut joiner, forged) = invited(true);
    let good = joiner.bundle.clone().unwrap();
    let welcome = forged.invitation(&[]).seal(&forged);
    let (mut init, mut encryption) = (good.clone(), good.clone());
    init.init_private_key = good.encryption_private_key.clone();
    encryption.encryption_private_key = good.init_private_key.clone();
    for bundle in [init, encryption] {
        joiner.bundle = Some(bundle);
        let refused = joiner.join(&welcome, None);
        assert_eq!(refused, Err(JoinError::PrivateKeys.into()));
    }
    joiner.bundle = Some(good);
    joiner.join(&welcome, None).unwrap();
    assert_agreement([&clients[ALICE], &joiner]);
}
