//! Welcomes that cannot be used (RFC 9420, section 12.4.3.1).

use crate::*;
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::crypto::{CipherSuite, CryptoError};
use folkmoot_mls::error::Error;
use folkmoot_mls::group::JoinError;
use folkmoot_mls::tree::TreeError;

#[test]
fn welcomes() {
    let mut clients = clients();
    let (mut joiner, package) = newcomer();
    let pending = clients[MALLORY]
        .commit(|commit| commit.add(package).tree_in_welcome(false))
        .unwrap();
    let welcome = pending.welcome.clone().unwrap();
    let tree = pending.group.tree_bytes();
    let mut refuse = |welcome: &_, tree: Option<&[u8]>, error: Error| {
        assert_eq!(joiner.join(welcome, tree).unwrap_err(), error);
    };
    refuse(&welcome, None, JoinError::MissingTree.into());
    let other_tree = clients[ALICE].group().tree_bytes();
    refuse(
        &welcome,
        Some(&other_tree),
        JoinError::Tree(TreeError::TreeHash).into(),
    );
    let blank = [1, 0];
    refuse(
        &welcome,
        Some(&blank),
        JoinError::Tree(TreeError::TrailingBlank).into(),
    );
    let mut changed = welcome.clone();
    changed.secrets[0].new_member = Bytes::from([0; 32]);
    refuse(&changed, Some(&tree), JoinError::NotForUs.into());
    let mut changed = welcome.clone();
    changed.cipher_suite = CipherSuite(3);
    refuse(&changed, Some(&tree), JoinError::CipherSuite.into());
    changed.cipher_suite = CipherSuite(77);
    refuse(
        &changed,
        Some(&tree),
        Error::UnsupportedCipherSuite(CipherSuite(77)),
    );
    let mut changed = welcome.clone();
    let mut info = changed.encrypted_group_info.into_vec();
    info[0] ^= 1;
    changed.encrypted_group_info = info.into();
    // The GroupInfo is the context of each part's encryption.
    let decryption = JoinError::Decryption(CryptoError::DecryptionFailed);
    refuse(&changed, Some(&tree), decryption.into());
    let mut bundle = joiner.bundle.clone().unwrap();
    std::mem::swap(
        &mut bundle.init_private_key,
        &mut bundle.encryption_private_key,
    );
    let good = joiner.bundle.replace(bundle);
    assert_eq!(
        joiner.join(&welcome, Some(&tree)).unwrap_err(),
        Error::Join(JoinError::PrivateKeys)
    );
    joiner.bundle = good;
    joiner.join(&welcome, Some(&tree)).unwrap();
    let bytes = welcome.to_bytes();
    assert!(folkmoot_mls::welcome::Welcome::from_bytes(&bytes[..bytes.len() - 1]).is_err());
}
