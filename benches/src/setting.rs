//! Groups to join, made by our engine in a process of their own, so that they leave nothing in the memory
//! of who is measured.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use folkmoot_mls::codec::Encode;
use folkmoot_mls::crypto::SignaturePublicKey;
use folkmoot_mls::group::{FilledGroup, PendingCommit};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::welcome::Welcome;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::contestant::ours::{self, context, suite};
use crate::member::Failure;

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

fn key_packages_file(folder: &Path, members: u32) -> PathBuf {
    folder.join(format!("key-packages-{members}"))
}

/// Writes the KeyPackages of all members but one.
///
/// # Errors
/// [`SettingError::File`].
pub fn write_key_packages(folder: &Path, members: u32) -> Result<(), SettingError> {
    let key_packages = (1..members)
        .map(|index| {
            let mut rng = ChaCha20Rng::seed_from_u64(index.into());
            let signer = suite().signature_key_pair(&mut rng);
            let bundle = ours::key_package(&format!("member {index:05}"), &signer, &mut rng)?;
            Ok(MlsMessage::KeyPackage(Box::new(bundle.key_package)).to_bytes())
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    write_list(&key_packages_file(folder, members), &key_packages)?;
    Ok(())
}

/// Reads them back.
///
/// # Errors
/// [`SettingError::File`].
pub fn key_packages(folder: &Path, members: u32) -> Result<Vec<Vec<u8>>, SettingError> {
    Ok(read_list(&key_packages_file(folder, members))?)
}

/// Asks for a group of `members` in which the guests are, made by another process of this program.
///
/// # Errors
/// Any.
pub fn invite(
    folder: &Path,
    shape: Shape,
    members: u32,
    tree_apart: bool,
    guests: &[Vec<u8>],
) -> Result<Vec<Invitation>, SettingError> {
    let file = folder.join(format!("guests-{}", std::process::id()));
    write_list(&file, guests)?;
    let status = Command::new(std::env::current_exe()?)
        .arg("setting")
        .arg(folder)
        .arg(shape.id())
        .arg(members.to_string())
        .arg(tree_apart.to_string())
        .arg(&file)
        .status()?;
    if !status.success() {
        return Err(SettingError::Process(status));
    }
    let parts = read_list(&file)?;
    fs::remove_file(&file)?;
    let tree_of = |tree: &Vec<u8>| (!tree.is_empty()).then(|| tree.clone());
    Ok(parts
        .chunks_exact(2)
        .map(|pair| Invitation {
            welcome: pair[0].clone(),
            tree: tree_of(&pair[1]),
        })
        .collect())
}

/// The other side of [`invite`]: reads the guests' KeyPackages and writes invitations in their place.
///
/// # Errors
/// Any.
pub fn make(
    folder: &Path,
    shape: Shape,
    members: u32,
    tree_apart: bool,
    file: &Path,
) -> Result<(), SettingError> {
    let guests = read_list(file)?;
    let pending = match shape {
        Shape::Blank => blank(folder, members, tree_apart, &guests)?,
        Shape::Filled => filled(members, tree_apart, &guests)?,
    };
    let tree = match tree_apart {
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
    write_list(file, &parts)?;
    Ok(())
}

/// All are added by one commit without a path.
fn blank(
    folder: &Path,
    members: u32,
    tree_apart: bool,
    guests: &[Vec<u8>],
) -> Result<PendingCommit, SettingError> {
    let mut key_packages = key_packages(folder, members)?;
    for (guest, place) in guests.iter().zip(places(members).iter().rev()) {
        key_packages[place.0 as usize - 1].clone_from(guest);
    }
    let mut rng = ChaCha20Rng::seed_from_u64(u64::MAX);
    let signer = suite().signature_key_pair(&mut rng);
    let (group, mut keys, _) = ours::found("founder", &signer, &mut rng)?;
    let mut commit = group.commit().without_path().tree_in_welcome(!tree_apart);
    for key_package in &key_packages {
        commit = commit.add(ours::decode_key_package(key_package)?);
    }
    let pending = commit.build(&mut keys, &signer, &mut context(&mut rng));
    Ok(pending.map_err(Failure::at("the setting", "commit"))?)
}

/// Two of those who hold the whole tree's keys give their places to the guests, who are to commit once each
/// before anything is measured.
fn filled(
    members: u32,
    tree_apart: bool,
    guests: &[Vec<u8>],
) -> Result<PendingCommit, SettingError> {
    let mut rng = ChaCha20Rng::seed_from_u64(u64::MAX);
    let mut leaf =
        |index: LeafIndex, _: &SignaturePublicKey| ours::leaf(&format!("member {:05}", index.0));
    let filled = FilledGroup::new(suite(), ours::parameters(), members, &mut leaf, &mut rng);
    let (group, mut keys, signer) = filled.member(LeafIndex(0));
    drop(filled);
    let mut commit = group.commit().tree_in_welcome(!tree_apart);
    for (place, guest) in places(members).into_iter().zip(guests.iter().rev()) {
        let key_package = ours::decode_key_package(guest)?;
        commit = commit.remove(place).add(key_package);
    }
    let pending = commit.build(&mut keys, &signer, &mut context(&mut rng));
    Ok(pending.map_err(Failure::at("the setting", "commit"))?)
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
