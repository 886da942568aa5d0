//! From the fields of calls to values, and back.

use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_mls::credential::Credential;
use folkmoot_mls::crypto::{CipherSuite, Suite};
use folkmoot_mls::extension::{Extension, ExtensionType, Extensions};
use folkmoot_mls::group_info::GroupInfo;
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::leaf_node::LeafNode;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{PreSharedKey, Proposal, ReInit};
use folkmoot_mls::psk::{ExternalPsk, PreSharedKeyID, PskType, ResumptionPSKUsage, ResumptionPsk};
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::welcome::Welcome;
use rand_core::Rng;

use super::error::ClientError;
use crate::proto;

/// A 16-bit number, which protobuf has no type for.
pub fn number(field: &'static str, value: u32) -> Result<u16, ClientError> {
    u16::try_from(value).map_err(|_| ClientError::NumberTooLarge { field, value })
}

/// A cipher suite, which need not be one that is implemented.
pub fn cipher_suite(value: u32) -> Result<CipherSuite, ClientError> {
    number("cipher_suite", value).map(CipherSuite)
}

/// Any structure.
pub fn decode<T: Decode>(field: &'static str, bytes: &[u8]) -> Result<T, ClientError> {
    T::from_bytes(bytes).map_err(|error| ClientError::Malformed { field, error })
}

/// A KeyPackage in its MLSMessage.
pub fn key_package(bytes: &[u8]) -> Result<KeyPackage, ClientError> {
    match decode("key_package", bytes)? {
        MlsMessage::KeyPackage(key_package) => Ok(*key_package),
        other => Err(wrong("key_package", &other)),
    }
}

/// A Welcome in its MLSMessage.
pub fn welcome(bytes: &[u8]) -> Result<Welcome, ClientError> {
    match decode("welcome", bytes)? {
        MlsMessage::Welcome(welcome) => Ok(welcome),
        other => Err(wrong("welcome", &other)),
    }
}

/// A GroupInfo in its MLSMessage.
pub fn group_info(bytes: &[u8]) -> Result<GroupInfo, ClientError> {
    match decode("group_info", bytes)? {
        MlsMessage::GroupInfo(group_info) => Ok(*group_info),
        other => Err(wrong("group_info", &other)),
    }
}

fn wrong(field: &'static str, message: &MlsMessage) -> ClientError {
    let wire_format = message.wire_format();
    ClientError::WrongMessage { field, wire_format }
}

/// A Welcome as an answer holds it: empty if there is none.
pub fn welcome_bytes(welcome: Option<Welcome>) -> Vec<u8> {
    welcome.map_or_else(Vec::new, |welcome| MlsMessage::Welcome(welcome).to_bytes())
}

/// A field that is left out by being empty.
pub fn optional(bytes: &[u8]) -> Option<&[u8]> {
    Some(bytes).filter(|bytes| !bytes.is_empty())
}

/// How a member frames its handshake messages.
pub fn wire_format(encrypt_handshake: bool) -> WireFormat {
    if encrypt_handshake {
        WireFormat::PRIVATE_MESSAGE
    } else {
        WireFormat::PUBLIC_MESSAGE
    }
}

/// Extensions.
pub fn extensions(list: &[proto::Extension]) -> Result<Extensions, ClientError> {
    let extensions: Extensions = list
        .iter()
        .map(|extension| {
            let extension_type = number("extension_type", extension.extension_type)?;
            Ok(Extension {
                extension_type: ExtensionType(extension_type),
                extension_data: extension.extension_data.as_slice().into(),
            })
        })
        .collect::<Result<_, ClientError>>()?;
    if extensions.iter().count() == list.len() {
        Ok(extensions)
    } else {
        Err(ClientError::RepeatedExtension)
    }
}

/// Whether a leaf is of a basic credential with this identity.
pub fn has_identity(leaf: &LeafNode, identity: &[u8]) -> bool {
    matches!(&leaf.credential, Credential::Basic { identity: own } if **own == *identity)
}

/// What a described proposal is made from: a group as a member or somebody outside sees it.
pub struct Subject<'a> {
    /// The group's algorithms.
    pub suite: &'static dyn Suite,
    /// Its id.
    pub group_id: &'a [u8],
    /// Its members.
    pub members: &'a mut dyn Iterator<Item = (LeafIndex, LeafNode)>,
}

/// The proposal that is described, but for a ReInit.
pub fn proposal(
    description: &proto::ProposalDescription,
    subject: Subject<'_>,
    rng: &mut impl Rng,
) -> Result<Proposal, ClientError> {
    let Subject {
        suite,
        group_id,
        members,
    } = subject;
    match description.proposal_type.as_slice() {
        b"add" => key_package(&description.key_package).map(Proposal::add),
        b"remove" => member(members, &description.removed_id).map(Proposal::remove),
        b"externalPSK" => Ok(external_psk(suite, &description.psk_id, rng)),
        b"resumptionPSK" => Ok(resumption_psk(suite, group_id, description.epoch_id, rng)),
        b"groupContextExtensions" => {
            extensions(&description.extensions).map(Proposal::group_context_extensions)
        }
        other => {
            let name = String::from_utf8_lossy(other).into_owned();
            Err(ClientError::ProposalType(name))
        }
    }
}

/// Ends a group in favour of one with these parameters.
pub fn re_init(
    group_id: &[u8],
    suite: u32,
    list: &[proto::Extension],
) -> Result<Proposal, ClientError> {
    Ok(Proposal::ReInit(ReInit {
        group_id: group_id.into(),
        version: ProtocolVersion::MLS10,
        cipher_suite: cipher_suite(suite)?,
        extensions: extensions(list)?,
    }))
}

/// The member with an identity; the leftmost if there are several.
pub fn member(
    members: &mut dyn Iterator<Item = (LeafIndex, LeafNode)>,
    identity: &[u8],
) -> Result<LeafIndex, ClientError> {
    for (index, leaf) in members {
        if has_identity(&leaf, identity) {
            return Ok(index);
        }
    }
    let identity = String::from_utf8_lossy(identity).into_owned();
    Err(ClientError::UnknownMember(identity))
}

/// Brings in a key of the application.
pub fn external_psk(suite: &dyn Suite, psk_id: &[u8], rng: &mut impl Rng) -> Proposal {
    let psk_id = psk_id.into();
    psk(suite, PskType::External(ExternalPsk { psk_id }), rng)
}

/// Brings in the key of a past epoch.
pub fn resumption_psk(
    suite: &dyn Suite,
    group_id: &[u8],
    psk_epoch: u64,
    rng: &mut impl Rng,
) -> Proposal {
    let resumption = ResumptionPsk {
        usage: ResumptionPSKUsage::Application,
        psk_group_id: group_id.into(),
        psk_epoch,
    };
    psk(suite, PskType::Resumption(resumption), rng)
}

fn psk(suite: &dyn Suite, psktype: PskType, rng: &mut impl Rng) -> Proposal {
    let mut nonce = vec![0; suite.hash_length()];
    rng.fill_bytes(&mut nonce);
    let psk_nonce = nonce.into();
    Proposal::PreSharedKey(PreSharedKey {
        psk: PreSharedKeyID { psktype, psk_nonce },
    })
}
