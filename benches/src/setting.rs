//! Groups to join, made by our engine in a process of their own, so that they leave nothing in the memory
//! of who is measured.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use folkmoot_mls::capabilities::Capabilities;
use folkmoot_mls::codec::Encode;
use folkmoot_mls::context::OneThread;
use folkmoot_mls::credential::Credential;
use folkmoot_mls::crypto::SignaturePublicKey;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{FilledGroup, PendingCommit};
use folkmoot_mls::leaf_node::LeafParameters;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::welcome::Welcome;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::contestant::credentials::{Basic, Credentials, Own};
use crate::contestant::ours::{self, context, suite};
use crate::member::{CredentialKind, Failure};

/// What a group to join looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// No node above the leaves has keys: nobody has committed with a path.
    Blank,
    /// As if every member had committed once.
    Filled,
}

impl Shape {
    /// The name between processes.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Blank => "blank",
            Self::Filled => "filled",
        }
    }

    /// The one with this id.
    #[must_use]
    pub fn of_id(id: &str) -> Option<Self> {
        [Self::Blank, Self::Filled]
            .into_iter()
            .find(|shape| shape.id() == id)
    }
}

/// A group to join.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The run's folder, with KeyPackages.
    pub folder: &'a Path,
    /// Its tree.
    pub shape: Shape,
    /// Its size, guests included.
    pub members: u32,
    /// The credentials in it.
    pub credential: CredentialKind,
    /// Whether guests get the tree beside the Welcome.
    pub tree_apart: bool,
}

/// What a guest gets: a Welcome with its own part alone, as a delivery service hands it out, and the
/// encoded tree if the Welcome does not hold it.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// An MLSMessage.
    pub welcome: Vec<u8>,
    /// The `ratchet_tree`.
    pub tree: Option<Vec<u8>>,
}

/// Why there is no setting.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// A file.
    #[error("a file of the run: {0}")]
    File(#[from] io::Error),
    /// The process that was to make the group.
    #[error("the group to join was not made: {0}")]
    Process(std::process::ExitStatus),
    /// The engine.
    #[error(transparent)]
    Failure(#[from] Failure),
}

/// The leaves at which guests sit in a group of `members`: one in each half of the tree.
#[must_use]
pub fn places(members: u32) -> [LeafIndex; 2] {
    let half = members.next_power_of_two() / 2;
    [
        LeafIndex((members / 3).max(1)),
        LeafIndex((half + (members - half) / 2).max(1)),
    ]
}

fn key_packages_file(folder: &Path, credential: CredentialKind, members: u32) -> PathBuf {
    folder.join(format!("key-packages-{}-{members}", credential.id()))
}

/// Writes the KeyPackages of all members but one.
///
/// # Errors
/// [`SettingError::File`].
pub fn write_key_packages(
    folder: &Path,
    credential: CredentialKind,
    members: u32,
) -> Result<(), SettingError> {
    let key_package = match credential {
        CredentialKind::Basic => encoded_key_package::<Basic>,
        CredentialKind::Own => encoded_key_package::<Own>,
    };
    let key_packages = (1..members).map(key_package);
    let key_packages = key_packages.collect::<Result<Vec<_>, Failure>>()?;
    let file = key_packages_file(folder, credential, members);
    Ok(write_list(&file, &key_packages)?)
}

fn encoded_key_package<C: Credentials>(index: u32) -> Result<Vec<u8>, Failure> {
    let mut rng = ChaCha20Rng::seed_from_u64(index.into());
    let signer = suite().signature_key_pair(&mut rng);
    let bundle = ours::key_package::<C>(&name(index), &signer, &mut rng)?;
    Ok(MlsMessage::KeyPackage(Box::new(bundle.key_package)).to_bytes())
}

/// All names have the same length.
fn name(index: u32) -> String {
    format!("member {index:05}")
}

/// Reads them back.
///
/// # Errors
/// [`SettingError::File`].
pub fn key_packages(
    folder: &Path,
    credential: CredentialKind,
    members: u32,
) -> Result<Vec<Vec<u8>>, SettingError> {
    Ok(read_list(&key_packages_file(folder, credential, members))?)
}

impl Setting<'_> {
    /// Asks for the group with these guests in it, made by another process of this program.
    ///
    /// # Errors
    /// Any.
    pub fn invite(&self, guests: &[Vec<u8>]) -> Result<Vec<Invitation>, SettingError> {
        let file = self.folder.join(format!("guests-{}", std::process::id()));
        write_list(&file, guests)?;
        let status = Command::new(std::env::current_exe()?)
            .arg("setting")
            .arg(self.folder)
            .arg(self.shape.id())
            .arg(self.credential.id())
            .arg(self.members.to_string())
            .arg(self.tree_apart.to_string())
            .arg(&file)
            .status()?;
        if !status.success() {
            return Err(SettingError::Process(status));
        }
        read_invitations(&file)
    }

    /// The other side of [`invite`](Self::invite): reads the guests' KeyPackages and writes invitations in
    /// their place.
    ///
    /// # Errors
    /// Any.
    pub fn make(&self, file: &Path) -> Result<(), SettingError> {
        let guests = read_list(file)?;
        let pending = match (self.shape, self.credential) {
            (Shape::Blank, CredentialKind::Basic) => self.blank::<Basic>(&guests),
            (Shape::Blank, CredentialKind::Own) => self.blank::<Own>(&guests),
            (Shape::Filled, CredentialKind::Basic) => self.filled::<Basic>(&guests),
            (Shape::Filled, CredentialKind::Own) => self.filled::<Own>(&guests),
        }?;
        let tree = match self.tree_apart {
            true => pending.group.tree_bytes(),
            false => Vec::new(),
        };
        let welcome = pending.welcome.ok_or(());
        let welcome = welcome.map_err(Failure::at("the setting", "make a Welcome"))?;
        let mut parts = Vec::new();
        for guest in &guests {
            let reference = ours::decode_key_package(guest)?.reference(suite());
            let own = welcome
                .secrets
                .iter()
                .find(|part| *part.new_member == *reference)
                .ok_or(())
                .map_err(Failure::at("the setting", "find a guest"))?;
            let welcome = Welcome {
                cipher_suite: welcome.cipher_suite,
                secrets: vec![own.clone()],
                encrypted_group_info: welcome.encrypted_group_info.clone(),
            };
            parts.push(MlsMessage::Welcome(welcome).to_bytes());
            parts.push(tree.clone());
        }
        Ok(write_list(file, &parts)?)
    }

    /// All are added by one commit without a path.
    fn blank<C: Credentials>(&self, guests: &[Vec<u8>]) -> Result<PendingCommit, SettingError> {
        let mut key_packages = key_packages(self.folder, self.credential, self.members)?;
        for (guest, place) in guests.iter().zip(places(self.members).iter().rev()) {
            key_packages[place.0 as usize - 1].clone_from(guest);
        }
        let mut rng = ChaCha20Rng::seed_from_u64(u64::MAX);
        let signer = suite().signature_key_pair(&mut rng);
        let (group, mut keys, _) = ours::found::<C>("founder", &signer, &mut rng)?;
        let commit = group.commit().without_path();
        let mut commit = commit.tree_in_welcome(!self.tree_apart);
        for key_package in &key_packages {
            commit = commit.add(ours::decode_key_package(key_package)?);
        }
        let pending = commit.build(&mut keys, &signer, &mut context::<C>(&mut rng, &OneThread));
        Ok(pending.map_err(Failure::at("the setting", "commit"))?)
    }

    /// Two of those who hold the whole tree's keys give their places to the guests, who are to commit once
    /// each before anything is measured.
    fn filled<C: Credentials>(&self, guests: &[Vec<u8>]) -> Result<PendingCommit, SettingError> {
        let mut rng = ChaCha20Rng::seed_from_u64(u64::MAX);
        let mut failed = None;
        let mut leaf = |index: LeafIndex, key: &SignaturePublicKey| {
            C::leaf(&name(index.0), key).unwrap_or_else(|error| {
                failed = Some(error);
                LeafParameters {
                    credential: Credential::basic([]),
                    capabilities: Capabilities::default(),
                    extensions: Extensions::default(),
                }
            })
        };
        let parameters = ours::parameters::<C>()?;
        let filled = FilledGroup::new(suite(), parameters, self.members, &mut leaf, &mut rng);
        if let Some(error) = failed {
            return Err(error.into());
        }
        let (group, mut keys, signer) = filled.member(LeafIndex(0));
        drop(filled);
        let mut commit = group.commit().tree_in_welcome(!self.tree_apart);
        for (place, guest) in places(self.members).into_iter().zip(guests.iter().rev()) {
            let key_package = ours::decode_key_package(guest)?;
            commit = commit.remove(place).add(key_package);
        }
        let pending = commit.build(&mut keys, &signer, &mut context::<C>(&mut rng, &OneThread));
        Ok(pending.map_err(Failure::at("the setting", "commit"))?)
    }
}

fn read_invitations(file: &Path) -> Result<Vec<Invitation>, SettingError> {
    let parts = read_list(file)?;
    fs::remove_file(file)?;
    let tree_of = |tree: &Vec<u8>| (!tree.is_empty()).then(|| tree.clone());
    let invitations = parts.chunks_exact(2).map(|pair| Invitation {
        welcome: pair[0].clone(),
        tree: tree_of(&pair[1]),
    });
    Ok(invitations.collect())
}

fn write_list(file: &Path, list: &[Vec<u8>]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(list.iter().map(|item| 4 + item.len()).sum());
    for item in list {
        let length = u32::try_from(item.len()).map_err(io::Error::other)?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(item);
    }
    fs::write(file, bytes)
}

fn read_list(file: &Path) -> io::Result<Vec<Vec<u8>>> {
    let bytes = fs::read(file)?;
    let mut rest = bytes.as_slice();
    let mut list = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((item, after)) = after.split_at_checked(length) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        list.push(item.to_vec());
        rest = after;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestant::mls_rs::MlsRs;
    use crate::contestant::openmls::{Libcrux, OpenMls, RustCrypto};
    use crate::contestant::ours::Ours;
    use crate::member::{Member, Options};

    /// Two guests of one implementation join, commit, follow, talk, and read their group back.
    fn meet<M: Member>(shape: Shape, tree_apart: bool) {
        let folder = tempfile::tempdir().unwrap();
        let setting = Setting {
            folder: folder.path(),
            shape,
            members: 9,
            credential: M::CREDENTIAL,
            tree_apart,
        };
        let mut guests = ["second", "first"].map(|name| {
            let options = Options {
                store: Some(folder.path().join(name)),
                ..Options::default()
            };
            M::new(name, &options).unwrap()
        });
        write_key_packages(folder.path(), M::CREDENTIAL, 9).unwrap();
        let key_packages = guests.each_mut().map(|guest| guest.key_package().unwrap());
        let file = folder.path().join("guests");
        write_list(&file, &key_packages).unwrap();
        setting.make(&file).unwrap();
        let invitations = read_invitations(&file).unwrap();
        for (guest, invitation) in guests.iter_mut().zip(&invitations) {
            assert_eq!(invitation.tree.is_some(), tree_apart);
            guest
                .join(&invitation.welcome, invitation.tree.as_deref())
                .unwrap();
        }
        let [one, other] = &mut guests;
        for _ in 0..2 {
            one.commit().unwrap();
            one.discard().unwrap();
            let commit = one.commit().unwrap();
            one.merge().unwrap();
            other.written();
            other.process(&commit).unwrap();
            assert!(other.written() > 0);
            assert_eq!(one.authenticator().unwrap(), other.authenticator().unwrap());
            let message = other.encrypt(b"hello").unwrap();
            assert_eq!(one.decrypt(&message).unwrap(), b"hello");
            one.reopen().unwrap();
            let message = one.encrypt(b"again").unwrap();
            assert_eq!(other.decrypt(&message).unwrap(), b"again");
            std::mem::swap(one, other);
        }
    }

    fn meet_in_all<M: Member>() {
        for shape in [Shape::Blank, Shape::Filled] {
            meet::<M>(shape, false);
            meet::<M>(shape, true);
        }
    }

    #[test]
    fn what_is_measured_works_with_us() {
        meet_in_all::<Ours<Basic>>();
        meet_in_all::<Ours<Own>>();
    }

    #[test]
    fn what_is_measured_works_with_openmls() {
        meet_in_all::<OpenMls<Libcrux>>();
        meet_in_all::<OpenMls<RustCrypto>>();
    }

    #[test]
    fn what_is_measured_works_with_mls_rs() {
        meet_in_all::<MlsRs>();
    }
}
