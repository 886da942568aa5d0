//! How each structure is read: its fields with their names, in the order in which they are written.
//!
//! Reads exactly what [`Decode`] reads; that both accept the same bytes is tested.

use std::collections::BTreeSet;

use super::{Field, List, Value};
use crate::capabilities::Capabilities;
use crate::code_point::{ProtocolVersion, WireFormat};
use crate::codec::{Bytes, Decode, DecodeError, Reader};
use crate::commit::{Commit, HpkeCiphertext, HpkeCiphertexts, UpdatePath, UpdatePathNode};
use crate::component::{
    AppDataDictionary, ApplicationFraming, ComponentID, RequiredWireFormats, SafeAAD,
    SupportedWireFormats,
};
use crate::credential::{Certificate, Credential, CredentialType};
use crate::crypto::{CipherSuite, HpkePublicKey, SignaturePublicKey};
use crate::evidence::{Evidence, EvidenceVersion};
use crate::extension::{
    ApplicationId, Extension, ExtensionType, Extensions, ExternalPub, ExternalSender,
    ExternalSenders, RequiredCapabilities,
};
use crate::framing::{
    AuthenticatedContent, Content, ContentType, FramedContent, FramedContentAuthData,
    PrivateMessage, PublicMessage, Sender,
};
use crate::group_context::GroupContext;
use crate::group_info::GroupInfo;
use crate::key_package::KeyPackage;
use crate::leaf_node::{LeafNode, LeafNodeSource, Lifetime};
use crate::message::MlsMessage;
use crate::node::{Node, ParentNode, RatchetTree};
use crate::proposal::{
    Add, AppDataUpdate, AppDataUpdateOperation, AppEphemeral, ExternalInit, GroupContextExtensions,
    PreSharedKey, Proposal, ProposalOrRef, ProposalType, ReInit, Remove, Update,
};
use crate::psk::{
    ApplicationPsk, ExternalPsk, PreSharedKeyID, PskType, ResumptionPSKUsage, ResumptionPsk,
};
use crate::tree::{LeafProof, ProofStep};
use crate::tree_math::LeafIndex;
use crate::welcome::{EncryptedGroupSecrets, Welcome};

/// What can be shown.
pub trait Inspect {
    /// Reads one of it.
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError>;
}

/// Reads a field of type `T`.
pub fn field<'a, T: Inspect>(
    name: &'static str,
    reader: &mut Reader<'a>,
) -> Result<Field<'a>, DecodeError> {
    let value = T::read(reader)?;
    Ok(Field { name, value })
}

pub fn named<'a>(name: &'static str, content: &impl std::fmt::Debug) -> Field<'a> {
    let value = Value::Name(format!("{content:?}"));
    Field { name, value }
}

/// Bytes that may be anything, shown once more under `name` as a `T` if they are one and no more. Whether
/// they are meant as one, the group's context says, which is not at hand.
pub fn also<T: Inspect>(name: &'static str, fields: &mut Vec<Field<'_>>) {
    if let Some(Value::Bytes(bytes)) = fields.last().map(|field| &field.value)
        && let Some(value) = whole_content::<T>(bytes)
    {
        fields.push(Field { name, value });
    }
}

/// Structures by their fields. None can be forgotten or be of another type: that would not compile.
/// Bytes that may be a structure say which behind `as`.
macro_rules! inspect_structs {
    ($( $type:ident { $($field:ident: $field_type:ty $(as $also:ident)?),* $(,)? } )*) => {$(
        impl Inspect for $type {
            fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
                const _: fn($type) = |value| {
                    let $type { $($field),* } = value;
                    $( let _: $field_type = $field; )*
                };
                let mut fields = Vec::new();
                $(
                    fields.extend([field::<$field_type>(stringify!($field), reader)?]);
                    $(
                        let name = concat!(stringify!($field), " as ", stringify!($also));
                        also::<$also>(name, &mut fields);
                    )?
                )*
                Ok(Value::Fields(fields))
            }
        }
    )*};
}

pub(super) use inspect_structs;

inspect_structs! {
    Add { key_package: KeyPackage }
    AppDataUpdate { component_id: ComponentID, op: AppDataUpdateOperation }
    ApplicationId { application_id: Bytes }
    Capabilities {
        versions: Vec<ProtocolVersion>,
        cipher_suites: Vec<CipherSuite>,
        extensions: Vec<ExtensionType>,
        proposals: Vec<ProposalType>,
        credentials: Vec<CredentialType>,
    }
    Certificate { cert_data: Bytes }
    Commit { proposals: Vec<ProposalOrRef>, path: Option<UpdatePath> }
    Evidence {
        version: EvidenceVersion,
        group_context: GroupContext,
        leaf_node: LeafNode,
        leaf_proof: LeafProof,
        content: AuthenticatedContent,
    }
    EncryptedGroupSecrets { new_member: Bytes, encrypted_group_secrets: HpkeCiphertext }
    ExternalInit { kem_output: Bytes }
    ExternalPsk { psk_id: Bytes }
    ExternalPub { external_pub: HpkePublicKey }
    ExternalSender { signature_key: SignaturePublicKey, credential: Credential }
    ExternalSenders { external_senders: Vec<ExternalSender> }
    FramedContent {
        group_id: Bytes,
        epoch: u64,
        sender: Sender,
        authenticated_data: Bytes as SafeAAD,
        content: Content,
    }
    GroupContext {
        version: ProtocolVersion,
        cipher_suite: CipherSuite,
        group_id: Bytes,
        epoch: u64,
        tree_hash: Bytes,
        confirmed_transcript_hash: Bytes,
        extensions: Extensions,
    }
    GroupContextExtensions { extensions: Extensions }
    GroupInfo {
        group_context: GroupContext,
        extensions: Extensions,
        confirmation_tag: Bytes,
        signer: LeafIndex,
        signature: Bytes,
    }
    HpkeCiphertext { kem_output: Bytes, ciphertext: Bytes }
    KeyPackage {
        version: ProtocolVersion,
        cipher_suite: CipherSuite,
        init_key: HpkePublicKey,
        leaf_node: LeafNode,
        extensions: Extensions,
        signature: Bytes,
    }
    LeafNode {
        encryption_key: HpkePublicKey,
        signature_key: SignaturePublicKey,
        credential: Credential,
        capabilities: Capabilities,
        leaf_node_source: LeafNodeSource,
        extensions: Extensions,
        signature: Bytes,
    }
    Lifetime { not_before: u64, not_after: u64 }
    LeafProof { steps: Vec<ProofStep> }
    ProofStep { parent_node: Option<ParentNode>, sibling_hash: Bytes }
    ParentNode {
        encryption_key: HpkePublicKey,
        parent_hash: Bytes,
        unmerged_leaves: Vec<LeafIndex>,
    }
    PreSharedKey { psk: PreSharedKeyID }
    PreSharedKeyID { psktype: PskType, psk_nonce: Bytes }
    PrivateMessage {
        group_id: Bytes,
        epoch: u64,
        content_type: ContentType,
        authenticated_data: Bytes as SafeAAD,
        encrypted_sender_data: Bytes,
        ciphertext: Bytes,
    }
    ReInit {
        group_id: Bytes,
        version: ProtocolVersion,
        cipher_suite: CipherSuite,
        extensions: Extensions,
    }
    Remove { removed: LeafIndex }
    RequiredCapabilities {
        extension_types: Vec<ExtensionType>,
        proposal_types: Vec<ProposalType>,
        credential_types: Vec<CredentialType>,
    }
    ResumptionPsk { usage: ResumptionPSKUsage, psk_group_id: Bytes, psk_epoch: u64 }
    Update { leaf_node: LeafNode }
    UpdatePath { leaf_node: LeafNode, nodes: Vec<UpdatePathNode> }
    UpdatePathNode {
        encryption_key: HpkePublicKey,
        encrypted_path_secret: HpkeCiphertexts,
    }
    Welcome {
        cipher_suite: CipherSuite,
        secrets: Vec<EncryptedGroupSecrets>,
        encrypted_group_info: Bytes,
    }
}

/// Structures that begin with their kind: the field's name and type, and for each number the kind's
/// name and what follows.
macro_rules! inspect_enums {
    ($( $type:ident, $kind:literal: $repr:ty {
        $( $number:literal => $name:literal
            $(, $field:ident: $field_type:ty $(as $also:ident)?)?; )*
    } )*) => {$(
        impl Inspect for $type {
            fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
                let mut fields = Vec::with_capacity(2);
                match <$repr>::decode(reader)? {
                    $( $number => {
                        let value = Value::Name($name.to_owned());
                        fields.push(Field { name: $kind, value });
                        $(
                            fields.push(field::<$field_type>(stringify!($field), reader)?);
                            $(
                                let name = concat!(stringify!($field), " as ", stringify!($also));
                                also::<$also>(name, &mut fields);
                            )?
                        )?
                    } )*
                    _ => return Err(DecodeError::InvalidValue(stringify!($type))),
                }
                Ok(Value::Fields(fields))
            }
        }
    )*};
}

inspect_enums! {
    AppDataUpdateOperation, "op": u8 {
        1 => "update", update: Bytes;
        2 => "remove";
    }
    Content, "content_type": u8 {
        1 => "application", application_data: Bytes as ApplicationFraming;
        2 => "proposal", proposal: Proposal;
        3 => "commit", commit: Commit;
    }
    LeafNodeSource, "leaf_node_source": u8 {
        1 => "key_package", lifetime: Lifetime;
        2 => "update";
        3 => "commit", parent_hash: Bytes;
    }
    Node, "node_type": u8 {
        1 => "leaf", leaf_node: LeafNode;
        2 => "parent", parent_node: ParentNode;
    }
    Proposal, "proposal_type": u16 {
        1 => "add", add: Add;
        2 => "update", update: Update;
        3 => "remove", remove: Remove;
        4 => "psk", psk: PreSharedKey;
        5 => "reinit", reinit: ReInit;
        6 => "external_init", external_init: ExternalInit;
        7 => "group_context_extensions", group_context_extensions: GroupContextExtensions;
        8 => "app_data_update", app_data_update: AppDataUpdate;
        9 => "app_ephemeral", app_ephemeral: AppEphemeral;
        10 => "self_remove";
    }
    ProposalOrRef, "type": u8 {
        1 => "proposal", proposal: Proposal;
        2 => "reference", reference: Bytes;
    }
    PskType, "psktype": u8 {
        1 => "external", external: ExternalPsk;
        2 => "resumption", resumption: ResumptionPsk;
        3 => "application", application: ApplicationPsk;
    }
    Sender, "sender_type": u8 {
        1 => "member", leaf_index: LeafIndex;
        2 => "external", sender_index: u32;
        3 => "new_member_proposal";
        4 => "new_member_commit";
    }
}

/// Numbers with names.
macro_rules! inspect_names {
    ($($type:ty),* $(,)?) => {$(
        impl Inspect for $type {
            fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
                Ok(Value::Name(format!("{:?}", <$type>::decode(reader)?)))
            }
        }
    )*};
}

pub(super) use inspect_names;

inspect_names!(
    CipherSuite,
    CredentialType,
    ExtensionType,
    ProposalType,
    ProtocolVersion,
);

impl Inspect for ContentType {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        let name = format!("{:?}", Self::decode(reader)?);
        Ok(Value::Name(name.to_lowercase()))
    }
}

impl Inspect for EvidenceVersion {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        Self::decode(reader).map(|version| match version {
            Self::One => Value::Number(1),
        })
    }
}

impl Inspect for ResumptionPSKUsage {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        let name = format!("{:?}", Self::decode(reader)?);
        Ok(Value::Name(name.to_lowercase()))
    }
}

impl Inspect for u32 {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        Ok(Value::Number(Self::decode(reader)?.into()))
    }
}

impl Inspect for u64 {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        Ok(Value::Number(Self::decode(reader)?))
    }
}

impl Inspect for LeafIndex {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        Ok(Value::Number(Self::decode(reader)?.0.into()))
    }
}

/// Whatever is an `opaque<V>`.
macro_rules! inspect_bytes {
    ($($type:ty),*) => {$(
        impl Inspect for $type {
            fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
                reader.prefixed().map(Value::Bytes)
            }
        }
    )*};
}

inspect_bytes!(Bytes, HpkePublicKey, SignaturePublicKey);

impl Inspect for HpkeCiphertexts {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        Vec::<HpkeCiphertext>::read(reader)
    }
}

impl<T: Inspect> Inspect for Vec<T> {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        List::checked(reader.prefixed()?, T::read).map(Value::List)
    }
}

impl<T: Inspect> Inspect for Option<T> {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        match u8::decode(reader)? {
            0 => Ok(Value::Absent),
            1 => T::read(reader),
            _ => Err(DecodeError::InvalidOptional),
        }
    }
}

impl Inspect for MlsMessage {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        let version = ProtocolVersion::decode(reader)?;
        if version != ProtocolVersion::MLS10 {
            return Err(DecodeError::InvalidValue("version"));
        }
        let wire_format = WireFormat::decode(reader)?;
        let body = match wire_format {
            WireFormat::PUBLIC_MESSAGE => field::<PublicMessage>("public_message", reader)?,
            WireFormat::PRIVATE_MESSAGE => field::<PrivateMessage>("private_message", reader)?,
            WireFormat::WELCOME => field::<Welcome>("welcome", reader)?,
            WireFormat::GROUP_INFO => field::<GroupInfo>("group_info", reader)?,
            WireFormat::KEY_PACKAGE => {
                if ProtocolVersion::decode(&mut reader.clone())? != version {
                    return Err(DecodeError::InvalidValue("KeyPackage.version"));
                }
                field::<KeyPackage>("key_package", reader)?
            }
            _ => return Err(DecodeError::InvalidValue("wire_format")),
        };
        let version = named("version", &version);
        let wire_format = named("wire_format", &wire_format);
        Ok(Value::Fields(vec![version, wire_format, body]))
    }
}

impl Inspect for PublicMessage {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        const _: fn(PublicMessage) = |message| {
            let PublicMessage {
                content: _,
                auth: _,
                membership_tag: _,
            } = message;
        };
        let (content, auth, sender) = signed_content(reader)?;
        let from_member = matches!(sender, Sender::Member(_));
        let membership_tag = tag("membership_tag", from_member, reader)?;
        Ok(Value::Fields(vec![content, auth, membership_tag]))
    }
}

impl Inspect for AuthenticatedContent {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        const _: fn(AuthenticatedContent) = |content| {
            let AuthenticatedContent {
                wire_format: _,
                content: _,
                auth: _,
            } = content;
        };
        let wire_format = field::<WireFormat>("wire_format", reader)?;
        let (content, auth, _) = signed_content(reader)?;
        Ok(Value::Fields(vec![wire_format, content, auth]))
    }
}

/// Content and what proves it, and who says to have sent it. What is behind the content depends on what
/// it is.
fn signed_content<'a>(
    reader: &mut Reader<'a>,
) -> Result<(Field<'a>, Field<'a>, Sender), DecodeError> {
    const _: fn(FramedContentAuthData) = |auth| {
        let FramedContentAuthData {
            signature: _,
            confirmation_tag: _,
        } = auth;
    };
    let mut ahead = reader.clone();
    ahead.prefixed()?;
    u64::decode(&mut ahead)?;
    let sender = Sender::decode(&mut ahead)?;
    ahead.prefixed()?;
    let content_type = ContentType::decode(&mut ahead)?;

    let content = field::<FramedContent>("content", reader)?;
    let signature = field::<Bytes>("signature", reader)?;
    let confirmation_tag = tag(
        "confirmation_tag",
        content_type == ContentType::Commit,
        reader,
    )?;
    let auth = Field {
        name: "auth",
        value: Value::Fields(vec![signature, confirmation_tag]),
    };
    Ok((content, auth, sender))
}

/// A tag that is written as it is where it is present, and not at all elsewhere.
fn tag<'a>(
    name: &'static str,
    present: bool,
    reader: &mut Reader<'a>,
) -> Result<Field<'a>, DecodeError> {
    if present {
        return field::<Bytes>(name, reader);
    }
    let value = Value::Absent;
    Ok(Field { name, value })
}

impl Inspect for Extensions {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        let body = reader.prefixed()?;
        let mut rest = Reader::new(body);
        let mut seen = BTreeSet::new();
        while !rest.is_empty() {
            let extension_type = ExtensionType::decode(&mut rest)?;
            rest.prefixed()?;
            if !seen.insert(extension_type) {
                return Err(DecodeError::InvalidValue("extensions"));
            }
        }
        List::checked(body, Extension::read).map(Value::List)
    }
}

impl Inspect for Extension {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        const _: fn(Extension) = |extension| {
            let Extension {
                extension_type: _,
                extension_data: _,
            } = extension;
        };
        let extension_type = ExtensionType::decode(reader)?;
        let data = reader.prefixed()?;
        let content = match extension_type {
            ExtensionType::APPLICATION_ID => content::<ApplicationId>(data),
            ExtensionType::RATCHET_TREE => content::<RatchetTree>(data),
            ExtensionType::REQUIRED_CAPABILITIES => content::<RequiredCapabilities>(data),
            ExtensionType::EXTERNAL_PUB => content::<ExternalPub>(data),
            ExtensionType::EXTERNAL_SENDERS => content::<ExternalSenders>(data),
            ExtensionType::APP_DATA_DICTIONARY => content::<AppDataDictionary>(data),
            ExtensionType::SUPPORTED_WIRE_FORMATS => content::<SupportedWireFormats>(data),
            ExtensionType::REQUIRED_WIRE_FORMATS => content::<RequiredWireFormats>(data),
            _ => Value::Bytes(data),
        };
        let extension_data = Field {
            name: "extension_data",
            value: content,
        };
        Ok(Value::Fields(vec![
            named("extension_type", &extension_type),
            extension_data,
        ]))
    }
}

/// The content of an extension or of a component; its bytes if they are malformed.
pub fn content<T: Inspect>(data: &[u8]) -> Value<'_> {
    whole_content::<T>(data).unwrap_or(Value::Bytes(data))
}

fn whole_content<T: Inspect>(data: &[u8]) -> Option<Value<'_>> {
    let mut reader = Reader::new(data);
    let value = T::read(&mut reader).ok()?;
    reader.is_empty().then_some(value)
}

impl Inspect for RatchetTree {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        Vec::<Option<Node>>::read(reader)
    }
}

impl Inspect for Credential {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        let credential_type = CredentialType::decode(reader)?;
        let content = match credential_type {
            CredentialType::BASIC => Field {
                name: "identity",
                value: text_or_bytes(reader.prefixed()?),
            },
            CredentialType::X509 => field::<Vec<Certificate>>("certificates", reader)?,
            _ => field::<Bytes>("data", reader)?,
        };
        let credential_type = named("credential_type", &credential_type);
        Ok(Value::Fields(vec![credential_type, content]))
    }
}

/// Text only if it cannot disturb a terminal.
pub fn text_or_bytes(bytes: &[u8]) -> Value<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.contains(char::is_control) => Value::Text(text),
        _ => Value::Bytes(bytes),
    }
}
