//! Welcomes: how those added learn the group's secrets (RFC 9420, section 12.4.3.1).

use crate::codec::Bytes;
use crate::commit::HpkeCiphertext;
use crate::crypto::{CipherSuite, Secret};
use crate::key_package::KeyPackageRef;
use crate::psk::PreSharedKeyID;

/// Label of the encryption of GroupSecrets.
pub const WELCOME: &str = "Welcome";

crate::tls_struct! {
    /// A node's path secret.
    #[derive(Clone, Debug, PartialEq)]
    pub struct PathSecret {
        /// The secret.
        pub path_secret: Secret,
    }
}

crate::tls_struct! {
    /// What one new member gets for itself.
    #[derive(Clone, Debug, PartialEq)]
    pub struct GroupSecrets {
        /// The secret that the new epoch starts from.
        pub joiner_secret: Secret,
        /// That of the lowest common ancestor with the committer, if the commit had a path.
        pub path_secret: Option<PathSecret>,
        /// The PSKs that the commit brought in, in its order.
        pub psks: Vec<PreSharedKeyID>,
    }
}

crate::tls_struct! {
    /// One new member's part.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct EncryptedGroupSecrets {
        /// Whose it is.
        pub new_member: KeyPackageRef,
        /// [`GroupSecrets`], to the KeyPackage's init key.
        pub encrypted_group_secrets: HpkeCiphertext,
    }
}

crate::tls_struct! {
    /// The message to all who were added by one commit.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Welcome {
        /// The group's algorithms.
        pub cipher_suite: CipherSuite,
        /// Each new member's part.
        pub secrets: Vec<EncryptedGroupSecrets>,
        /// The [`GroupInfo`](crate::group_info::GroupInfo), under the welcome secret.
        pub encrypted_group_info: Bytes,
    }
}

crate::tls_struct! {
    /// The part of a [`Welcome`] that all new members share: small, if the tree is apart.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SharedWelcome {
        /// The group's algorithms.
        pub cipher_suite: CipherSuite,
        /// As in the Welcome.
        pub encrypted_group_info: Bytes,
    }
}

impl Welcome {
    /// Takes it apart, so that nobody has to fetch the parts of others: what all share, and one part of
    /// a few hundred bytes for each new member, in the order of the additions.
    #[must_use]
    pub fn split(self) -> (SharedWelcome, Vec<EncryptedGroupSecrets>) {
        let shared = SharedWelcome {
            cipher_suite: self.cipher_suite,
            encrypted_group_info: self.encrypted_group_info,
        };
        (shared, self.secrets)
    }
}

impl SharedWelcome {
    /// The Welcome for one new member.
    #[must_use]
    pub fn with_part(self, part: EncryptedGroupSecrets) -> Welcome {
        Welcome {
            cipher_suite: self.cipher_suite,
            secrets: vec![part],
            encrypted_group_info: self.encrypted_group_info,
        }
    }
}
