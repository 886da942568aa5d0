//! Scripts in the working group's format: who does what, step by step.
//!
//! A file is an object with `scripts`, each a list of steps under a name. A step names its `action`, most
//! an `actor`, and refers to what earlier steps gave by their number, from 0.
//!
//! Fields that nobody reads are refused: else a slip of the pen makes a step that does less than it says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

/// A file of scripts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptFile {
    /// How actors are to be assigned, by the file's author; the runner's options say it too.
    pub mode: Option<String>,
    /// Each by its name.
    pub scripts: BTreeMap<String, Script>,
}

/// Why a file of scripts cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is no file of scripts.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl ScriptFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ScriptError`].
    pub fn read(path: &Path) -> Result<Self, ScriptError> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}

/// One script.
pub type Script = Vec<Action>;

/// Everybody whom a script names.
#[must_use]
pub fn actors(script: &[Action]) -> BTreeSet<String> {
    script.iter().flat_map(Action::names).collect()
}

/// One step. Numbers are those of earlier steps, but for epochs.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    tag = "action",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
#[allow(missing_docs, reason = "the words of the format")]
pub enum Action {
    /// Starts a group, and adds members by one commit.
    CreateGroup {
        actor: String,
        #[serde(default)]
        members: Vec<String>,
    },
    CreateKeyPackage {
        actor: String,
    },
    JoinGroup {
        actor: String,
        welcome: usize,
    },
    /// The joiner commits from outside, by the actor's GroupInfo; actor and members follow.
    ExternalJoin {
        actor: String,
        joiner: String,
        #[serde(default)]
        members: Vec<String>,
        #[serde(default, alias = "external_tree")]
        external_tree: bool,
        #[serde(default)]
        remove_prior: bool,
        #[serde(default)]
        psks: Vec<usize>,
    },
    /// Gives some clients the same fresh key.
    #[serde(rename = "installExternalPSK")]
    InstallExternalPsk {
        clients: Vec<String>,
    },
    GroupInfo {
        actor: String,
        #[serde(default, alias = "external_tree")]
        external_tree: bool,
    },
    AddProposal {
        actor: String,
        key_package: usize,
    },
    UpdateProposal {
        actor: String,
    },
    RemoveProposal {
        actor: String,
        removed: String,
    },
    #[serde(rename = "externalPSKProposal")]
    ExternalPskProposal {
        actor: String,
        #[serde(rename = "pskID")]
        psk_id: usize,
    },
    #[serde(rename = "resumptionPSKProposal")]
    ResumptionPskProposal {
        actor: String,
        #[serde(rename = "epochID")]
        epoch_id: u64,
    },
    GroupContextExtensionsProposal {
        actor: String,
        extensions: Vec<Extension>,
    },
    /// Commits; the actor and the members follow, the joiners join.
    FullCommit {
        actor: String,
        #[serde(default)]
        by_reference: Vec<usize>,
        #[serde(default)]
        by_value: Vec<Described>,
        #[serde(default)]
        members: Vec<String>,
        #[serde(default)]
        joiners: Vec<String>,
        #[serde(default, alias = "force_path")]
        force_path: bool,
        #[serde(default, alias = "external_tree")]
        external_tree: bool,
    },
    Commit {
        actor: String,
        #[serde(default)]
        by_reference: Vec<usize>,
        #[serde(default)]
        by_value: Vec<Described>,
        #[serde(default, alias = "force_path")]
        force_path: bool,
        #[serde(default, alias = "external_tree")]
        external_tree: bool,
    },
    HandleCommit {
        actor: String,
        commit: usize,
        #[serde(default)]
        by_reference: Vec<usize>,
    },
    HandlePendingCommit {
        actor: String,
    },
    Protect {
        actor: String,
        authenticated_data: String,
        plaintext: String,
    },
    Unprotect {
        actor: String,
        ciphertext: usize,
    },
    /// Ends the group, by a proposal of the proposer or an external one, and starts the next.
    Reinit {
        proposer: Option<String>,
        committer: String,
        welcomer: String,
        #[serde(default)]
        members: Vec<String>,
        // The working group's own scripts say the other, and its runner reads both.
        #[serde(default, alias = "changeCiphersuite")]
        change_cipher_suite: bool,
        #[serde(default, rename = "changeGroupID")]
        change_group_id: bool,
        #[serde(default)]
        extensions: Vec<Extension>,
        #[serde(default, alias = "force_path")]
        force_path: bool,
        #[serde(default, alias = "external_tree")]
        external_tree: bool,
        #[serde(default)]
        external_reinit_proposal: usize,
    },
    /// The actor starts a group with some members of its group.
    Branch {
        actor: String,
        members: Vec<String>,
        #[serde(default)]
        extensions: Vec<Extension>,
        #[serde(default, alias = "force_path")]
        force_path: bool,
        #[serde(default, alias = "external_tree")]
        external_tree: bool,
    },
    /// The joiner proposes, by the actor's GroupInfo, to be added.
    NewMemberAddProposal {
        actor: String,
        joiner: String,
    },
    /// The actor proposes to let the signer propose.
    AddExternalSigner {
        actor: String,
        signer: String,
    },
    /// The actor, an external signer, proposes by the member's GroupInfo.
    ExternalSignerProposal {
        actor: String,
        member: String,
        description: Described,
    },
}

/// A proposal that is not made yet.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    tag = "proposalType",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
#[allow(missing_docs, reason = "the words of the format")]
pub enum Described {
    Add {
        key_package: usize,
    },
    Remove {
        removed: String,
    },
    #[serde(rename = "externalPSK")]
    ExternalPsk {
        #[serde(rename = "pskID")]
        psk_id: usize,
    },
    #[serde(rename = "resumptionPSK")]
    ResumptionPsk {
        #[serde(rename = "epochID")]
        epoch_id: u64,
    },
    GroupContextExtensions {
        extensions: Vec<Extension>,
    },
    Reinit {
        #[serde(default)]
        extensions: Vec<Extension>,
        #[serde(default, rename = "changeGroupID")]
        change_group_id: bool,
        #[serde(default, alias = "changeCiphersuite")]
        change_cipher_suite: bool,
    },
}

/// An extension, its data in Base64.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// The kind.
    pub extension_type: u32,
    /// The content.
    #[serde(deserialize_with = "from_base64")]
    pub extension_data: Vec<u8>,
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

impl Action {
    /// Whom the step names.
    fn names(&self) -> Vec<String> {
        let (some, lists): (Vec<&String>, Vec<&Vec<String>>) = match self {
            Self::CreateGroup { actor, members } | Self::Branch { actor, members, .. } => {
                (vec![actor], vec![members])
            }
            Self::ExternalJoin {
                actor,
                joiner,
                members,
                ..
            } => (vec![actor, joiner], vec![members]),
            Self::InstallExternalPsk { clients } => (vec![], vec![clients]),
            Self::FullCommit {
                actor,
                members,
                joiners,
                ..
            } => (vec![actor], vec![members, joiners]),
            Self::Reinit {
                proposer,
                committer,
                welcomer,
                members,
                ..
            } => {
                let mut some = vec![committer, welcomer];
                some.extend(proposer);
                (some, vec![members])
            }
            Self::NewMemberAddProposal { actor, joiner } => (vec![actor, joiner], vec![]),
            Self::AddExternalSigner { actor, signer } => (vec![actor, signer], vec![]),
            Self::ExternalSignerProposal { actor, member, .. } => (vec![actor, member], vec![]),
            Self::CreateKeyPackage { actor }
            | Self::JoinGroup { actor, .. }
            | Self::GroupInfo { actor, .. }
            | Self::AddProposal { actor, .. }
            | Self::UpdateProposal { actor }
            | Self::RemoveProposal { actor, .. }
            | Self::ExternalPskProposal { actor, .. }
            | Self::ResumptionPskProposal { actor, .. }
            | Self::GroupContextExtensionsProposal { actor, .. }
            | Self::Commit { actor, .. }
            | Self::HandleCommit { actor, .. }
            | Self::HandlePendingCommit { actor }
            | Self::Protect { actor, .. }
            | Self::Unprotect { actor, .. } => (vec![actor], vec![]),
        };
        let lists = lists.into_iter().flatten();
        some.into_iter().chain(lists).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_nobody_reads_is_refused() {
        let step = r#"{"action": "fullCommit", "actor": "alice", "force_paths": true}"#;
        let error = serde_json::from_str::<Action>(step).unwrap_err();
        assert!(error.to_string().contains("force_paths"), "{error}");
    }

    #[test]
    fn both_spellings_are_read() {
        for name in ["force_path", "forcePath"] {
            let step = format!(r#"{{"action": "commit", "actor": "alice", "{name}": true}}"#);
            let step = serde_json::from_str::<Action>(&step).unwrap();
            assert!(matches!(
                step,
                Action::Commit {
                    force_path: true,
                    ..
                }
            ));
        }
    }

    #[test]
    fn everybody_is_found() {
        let script = r#"[
            {"action": "createGroup", "actor": "alice", "members": ["bob"]},
            {"action": "addExternalSigner", "actor": "alice", "signer": "ds"},
            {"action": "reinit", "committer": "bob", "welcomer": "charlie"}
        ]"#;
        let script: Script = serde_json::from_str(script).unwrap();
        let names = ["alice", "bob", "charlie", "ds"].map(str::to_owned);
        assert_eq!(actors(&script), BTreeSet::from(names));
    }
}
