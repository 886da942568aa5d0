//! Welcomes that an insider makes by hand.

use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::crypto::Secret;
use folkmoot_mls::extension::{ExtensionType, Extensions};
use folkmoot_mls::group_info::{GROUP_INFO_TBS, GroupInfo};
use folkmoot_mls::key_schedule::{WelcomeKey, member_secret};
use folkmoot_mls::psk::psk_secret;
use folkmoot_mls::tree_math::NodeIndex;
use folkmoot_mls::welcome::{EncryptedGroupSecrets, GroupSecrets, PathSecret, WELCOME, Welcome};

use crate::insider::{Forged, Insider};

/// What a Welcome says, before it is signed and encrypted.
pub struct Invitation {
    /// The new epoch, whose secrets are derived again from the joiner secret when it is sealed.
    pub group: Insider,
    pub psk_secrets: Vec<Secret>,
    pub group_secrets: GroupSecrets,
    pub group_info: GroupInfo,
    pub with_tree: bool,
    /// Break the signature.
    pub unsigned: bool,
    /// Break the tag.
    pub unconfirmed: bool,
    /// Make the tag for the epoch as it was, before the GroupInfo was changed.
    pub stale_context: bool,
    /// Encrypt the GroupInfo under a key that nobody has.
    pub other_welcome_key: bool,
}

impl Forged {
    /// The invitation for the first who was added, all of it right, without the tree.
    pub fn invitation(&self, psk_secrets: &[Secret]) -> Invitation {
        let (leaf, _) = &self.added[0];
        let common = NodeIndex::common_ancestor(self.next.own, *leaf);
        let path_secret = self.path_secrets.get(&common).map(|secret| PathSecret {
            path_secret: secret.clone(),
        });
        Invitation {
            group: self.next.clone(),
            psk_secrets: psk_secrets.to_vec(),
            group_secrets: GroupSecrets {
                joiner_secret: self.joiner_secret.clone(),
                path_secret,
                psks: self.psks.clone(),
            },
            group_info: GroupInfo {
                group_context: self.next.context.clone(),
                extensions: Extensions::default(),
                confirmation_tag: Bytes::default(),
                signer: self.next.own,
                signature: Bytes::default(),
            },
            with_tree: true,
            unsigned: false,
            unconfirmed: false,
            stale_context: false,
            other_welcome_key: false,
        }
    }
}

impl Invitation {
    /// Hashes the tree, derives the epoch, signs and encrypts.
    pub fn seal(mut self, forged: &Forged) -> Welcome {
        let suite = self.group.suite;
        let ids = self.group_secrets.psks.iter().cloned();
        let psks: Vec<_> = ids.zip(self.psk_secrets.iter().cloned()).collect();
        let psk_secret = psk_secret(suite, &psks).unwrap();
        let member_secret = member_secret(suite, &self.group_secrets.joiner_secret, &psk_secret);
        self.group.context = self.group_info.group_context.clone();
        self.group.enter(&member_secret);
        self.group_info.confirmation_tag = self.group.confirmation_tag.clone();
        if self.stale_context {
            let extensions = &mut self.group_info.group_context.extensions;
            extensions.set_data(ExtensionType::APPLICATION_ID, vec![1, 7]);
        }
        if self.unconfirmed {
            self.group_info.confirmation_tag = Bytes::from([0; 32]);
        }
        if self.with_tree {
            let tree = self.group.nodes.to_bytes();
            self.group_info
                .extensions
                .set_data(ExtensionType::RATCHET_TREE, tree);
        }
        let tbs = self.group_info.tbs();
        self.group_info.signature = suite
            .sign_with_label(&self.group.signer, GROUP_INFO_TBS, &tbs)
            .unwrap();
        if self.unsigned {
            self.group_info.signature = Bytes::from([0; 64]);
        }
        let info = self.group_info.to_bytes();
        let mut welcome_key = WelcomeKey::derive(suite, &member_secret);
        if self.other_welcome_key {
            welcome_key.key = Secret::zero(welcome_key.key.len());
        }
        let sealed = welcome_key.seal(suite, &info);
        let (_, key_package) = &forged.added[0];
        let mut rng = self.group.rng.clone();
        let secrets = self.group_secrets.to_bytes();
        let part = EncryptedGroupSecrets {
            new_member: key_package.reference(suite).into(),
            encrypted_group_secrets: suite
                .encrypt_with_label(&key_package.init_key, WELCOME, &sealed, &secrets, &mut rng)
                .unwrap(),
        };
        Welcome {
            cipher_suite: key_package.cipher_suite,
            secrets: vec![part],
            encrypted_group_info: sealed.into(),
        }
    }

    /// Changes the tree and says its new hash.
    pub fn edit_tree(&mut self, edit: impl FnOnce(&mut crate::insider::Nodes)) {
        edit(&mut self.group.nodes);
        self.group_info.group_context.tree_hash = self.group.nodes.root_hash(self.group.suite);
    }
}
