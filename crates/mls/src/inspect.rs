//! Any MLS message, field by field, for people and for programs that write it down.
//!
//! [`inspect`] gives a tree of [`Field`]s, which prints itself as indented text. Names are the RFC's.
//! Nothing is decrypted or verified: it says what the bytes say.

use std::fmt;

use crate::capabilities::Capabilities;
use crate::code_point::ProtocolVersion;
use crate::codec::{Bytes, Decode, DecodeError};
use crate::commit::{Commit, HpkeCiphertext, UpdatePath, UpdatePathNode};
use crate::component::{AppDataDictionary, RequiredWireFormats, SupportedWireFormats};
use crate::credential::{Certificate, Credential, CredentialType};
use crate::crypto::{CipherSuite, HpkePublicKey, SignaturePublicKey};
use crate::extension::{
    ApplicationId, Extension, ExtensionType, Extensions, ExternalPub, ExternalSender,
    ExternalSenders, RequiredCapabilities,
};
use crate::framing::{
    Content, ContentType, FramedContent, FramedContentAuthData, PrivateMessage, PublicMessage,
    Sender,
};
use crate::group_context::GroupContext;
use crate::group_info::GroupInfo;
use crate::key_package::KeyPackage;
use crate::leaf_node::{LeafNode, LeafNodeSource, Lifetime};
use crate::message::MlsMessage;
use crate::node::{Node, ParentNode, RatchetTree};
use crate::proposal::{
    Add, ExternalInit, GroupContextExtensions, PreSharedKey, Proposal, ProposalOrRef, ProposalType,
    ReInit, Remove, Update,
};
use crate::psk::{ExternalPsk, PreSharedKeyID, PskType, ResumptionPSKUsage, ResumptionPsk};
use crate::tree_math::LeafIndex;
use crate::welcome::{EncryptedGroupSecrets, Welcome};

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name in the RFC.
    pub name: &'static str,
    /// What it holds.
    pub value: Value,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A registry's name for a number, or the number where it has none.
    Name(String),
    /// Bytes that are text, at least by their look.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A vector.
    List(Vec<Value>),
    /// A structure.
    Fields(Vec<Field>),
    /// An optional value that is absent.
    Absent,
}

/// Decodes an `MLSMessage` and gives it field by field.
///
/// # Errors
/// [`DecodeError`]: the bytes are no MLS message.
///
/// ```
/// use folkmoot_mls::inspect::inspect;
///
/// assert!(inspect(b"no message").is_err());
/// ```
pub fn inspect(bytes: &[u8]) -> Result<Field, DecodeError> {
    MlsMessage::from_bytes(bytes).map(|message| inspect_message(&message))
}

/// Gives a decoded message field by field.
#[must_use]
pub fn inspect_message(message: &MlsMessage) -> Field {
    let body = match message {
        MlsMessage::PublicMessage(message) => field("public_message", message),
        MlsMessage::PrivateMessage(message) => field("private_message", message),
        MlsMessage::Welcome(welcome) => field("welcome", welcome),
        MlsMessage::GroupInfo(group_info) => field("group_info", group_info),
        MlsMessage::KeyPackage(key_package) => field("key_package", key_package),
    };
    let wire_format = Value::Name(message.wire_format().to_string());
    let fields = vec![
        field("version", &ProtocolVersion::MLS10),
        Field {
            name: "wire_format",
            value: wire_format,
        },
        body,
    ];
    Field {
        name: "MLSMessage",
        value: Value::Fields(fields),
    }
}

/// Bytes of a longer value that are shown in text.
const SHOWN_BYTES: usize = 40;

/// Indented lines, one for each field. Long values are cut, with their length behind.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl Field {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        write!(f, "{:indent$}{}:", "", self.name, indent = depth * 2)?;
        self.value.write(f, depth)
    }
}

impl Value {
    /// Writes what follows the colon after a name at `depth`, and ends the line.
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        match self {
            Self::Number(number) => writeln!(f, " {number}"),
            Self::Name(name) => writeln!(f, " {name}"),
            Self::Text(text) => writeln!(f, " {text:?}"),
            Self::Absent => writeln!(f, " absent"),
            Self::Bytes(bytes) if bytes.is_empty() => writeln!(f, " empty"),
            Self::Bytes(bytes) => {
                f.write_str(" ")?;
                bytes
                    .iter()
                    .take(SHOWN_BYTES)
                    .try_for_each(|byte| write!(f, "{byte:02x}"))?;
                let dots = if bytes.len() > SHOWN_BYTES { "..." } else { "" };
                writeln!(f, "{dots} ({} bytes)", bytes.len())
            }
            Self::List(items) if items.is_empty() => writeln!(f, " none"),
            Self::List(items) => {
                writeln!(f)?;
                items.iter().enumerate().try_for_each(|(place, item)| {
                    write!(f, "{:indent$}[{place}]:", "", indent = depth * 2 + 2)?;
                    item.write(f, depth + 1)
                })
            }
            Self::Fields(fields) => {
                writeln!(f)?;
                fields
                    .iter()
                    .try_for_each(|field| field.write(f, depth + 1))
            }
        }
    }
}

/// What can be shown.
trait Inspect {
    fn value(&self) -> Value;
}

fn field(name: &'static str, content: &impl Inspect) -> Field {
    Field {
        name,
        value: content.value(),
    }
}

/// A structure with its kind in front of its fields.
fn variant(name: &'static str, kind: &'static str, content: Option<Field>) -> Value {
    let mut fields = vec![Field {
        name,
        value: Value::Name(kind.to_owned()),
    }];
    fields.extend(content);
    Value::Fields(fields)
}

/// Shows structures by their fields. Every field has to be named, so none is forgotten.
macro_rules! inspect_structs {
    ($( $type:ident { $($field:ident),* $(,)? } )*) => {$(
        impl Inspect for $type {
            fn value(&self) -> Value {
                let Self { $($field),* } = self;
                Value::Fields(vec![ $( field(stringify!($field), $field) ),* ])
            }
        }
    )*};
}

inspect_structs! {
    Add { key_package }
    ApplicationId { application_id }
    Capabilities { versions, cipher_suites, extensions, proposals, credentials }
    Certificate { cert_data }
    Commit { proposals, path }
    EncryptedGroupSecrets { new_member, encrypted_group_secrets }
    ExternalInit { kem_output }
    ExternalPsk { psk_id }
    ExternalPub { external_pub }
    ExternalSender { signature_key, credential }
    ExternalSenders { external_senders }
    GroupContext {
        version, cipher_suite, group_id, epoch, tree_hash, confirmed_transcript_hash, extensions
    }
    GroupContextExtensions { extensions }
    GroupInfo { group_context, extensions, confirmation_tag, signer, signature }
    HpkeCiphertext { kem_output, ciphertext }
    KeyPackage { version, cipher_suite, init_key, leaf_node, extensions, signature }
    LeafNode {
        encryption_key, signature_key, credential, capabilities, leaf_node_source, extensions,
        signature
    }
    Lifetime { not_before, not_after }
    ParentNode { encryption_key, parent_hash, unmerged_leaves }
    PreSharedKey { psk }
    PreSharedKeyID { psktype, psk_nonce }
    PrivateMessage {
        group_id, epoch, content_type, authenticated_data, encrypted_sender_data, ciphertext
    }
    PublicMessage { content, auth, membership_tag }
    ReInit { group_id, version, cipher_suite, extensions }
    Remove { removed }
    RequiredCapabilities { extension_types, proposal_types, credential_types }
    ResumptionPsk { usage, psk_group_id, psk_epoch }
    Update { leaf_node }
    UpdatePath { leaf_node, nodes }
    UpdatePathNode { encryption_key, encrypted_path_secret }
    Welcome { cipher_suite, secrets, encrypted_group_info }
    FramedContent { group_id, epoch, sender, authenticated_data, content }
    FramedContentAuthData { signature, confirmation_tag }
}

macro_rules! inspect_names {
    ($($type:ty),*) => {$(
        impl Inspect for $type {
            fn value(&self) -> Value {
                Value::Name(format!("{self:?}"))
            }
        }
    )*};
}

inspect_names!(
    CipherSuite,
    CredentialType,
    ExtensionType,
    ProposalType,
    ProtocolVersion
);

mod components;

impl Inspect for ContentType {
    fn value(&self) -> Value {
        Value::Name(format!("{self:?}").to_lowercase())
    }
}

impl Inspect for ResumptionPSKUsage {
    fn value(&self) -> Value {
        Value::Name(format!("{self:?}").to_lowercase())
    }
}

impl Inspect for u64 {
    fn value(&self) -> Value {
        Value::Number(*self)
    }
}

impl Inspect for LeafIndex {
    fn value(&self) -> Value {
        Value::Number(self.0.into())
    }
}

impl Inspect for Bytes {
    fn value(&self) -> Value {
        Value::Bytes(self.to_vec())
    }
}

impl Inspect for HpkePublicKey {
    fn value(&self) -> Value {
        self.0.value()
    }
}

impl Inspect for SignaturePublicKey {
    fn value(&self) -> Value {
        self.0.value()
    }
}

impl<T: Inspect> Inspect for Vec<T> {
    fn value(&self) -> Value {
        Value::List(self.iter().map(Inspect::value).collect())
    }
}

impl<T: Inspect> Inspect for Option<T> {
    fn value(&self) -> Value {
        self.as_ref().map_or(Value::Absent, Inspect::value)
    }
}

impl<T: Inspect> Inspect for Box<T> {
    fn value(&self) -> Value {
        (**self).value()
    }
}

impl Inspect for Extensions {
    fn value(&self) -> Value {
        Value::List(self.iter().map(Inspect::value).collect())
    }
}

impl Inspect for Extension {
    fn value(&self) -> Value {
        let data = &self.extension_data;
        let content = match self.extension_type {
            ExtensionType::APPLICATION_ID => content::<ApplicationId>(data),
            ExtensionType::RATCHET_TREE => content::<RatchetTree>(data),
            ExtensionType::REQUIRED_CAPABILITIES => content::<RequiredCapabilities>(data),
            ExtensionType::EXTERNAL_PUB => content::<ExternalPub>(data),
            ExtensionType::EXTERNAL_SENDERS => content::<ExternalSenders>(data),
            ExtensionType::APP_DATA_DICTIONARY => content::<AppDataDictionary>(data),
            ExtensionType::SUPPORTED_WIRE_FORMATS => content::<SupportedWireFormats>(data),
            ExtensionType::REQUIRED_WIRE_FORMATS => content::<RequiredWireFormats>(data),
            _ => data.value(),
        };
        Value::Fields(vec![
            field("extension_type", &self.extension_type),
            Field {
                name: "extension_data",
                value: content,
            },
        ])
    }
}

/// An extension's content; its bytes if they are malformed.
fn content<T: Decode + Inspect>(data: &Bytes) -> Value {
    T::from_bytes(data).map_or_else(|_| data.value(), |content| content.value())
}

impl Inspect for RatchetTree {
    fn value(&self) -> Value {
        self.0.value()
    }
}

impl Inspect for Node {
    fn value(&self) -> Value {
        match self {
            Self::Leaf(leaf) => variant("node_type", "leaf", Some(field("leaf_node", leaf))),
            Self::Parent(parent) => {
                variant("node_type", "parent", Some(field("parent_node", parent)))
            }
        }
    }
}

impl Inspect for Credential {
    fn value(&self) -> Value {
        let content = match self {
            Self::Basic { identity } => Field {
                name: "identity",
                value: text_or_bytes(identity),
            },
            Self::X509 { certificates } => field("certificates", certificates),
            Self::Custom { data, .. } => field("data", data),
        };
        Value::Fields(vec![
            field("credential_type", &self.credential_type()),
            content,
        ])
    }
}

/// Text only if it cannot disturb a terminal.
fn text_or_bytes(bytes: &Bytes) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.contains(char::is_control) => {
            Value::Text(text.to_owned())
        }
        _ => bytes.value(),
    }
}

impl Inspect for LeafNodeSource {
    fn value(&self) -> Value {
        const NAME: &str = "leaf_node_source";
        match self {
            Self::KeyPackage(lifetime) => {
                variant(NAME, "key_package", Some(field("lifetime", lifetime)))
            }
            Self::Update => variant(NAME, "update", None),
            Self::Commit(hash) => variant(NAME, "commit", Some(field("parent_hash", hash))),
        }
    }
}

impl Inspect for Proposal {
    fn value(&self) -> Value {
        let content = match self {
            Self::Add(add) => field("add", add),
            Self::Update(update) => field("update", update),
            Self::Remove(remove) => field("remove", remove),
            Self::PreSharedKey(psk) => field("psk", psk),
            Self::ReInit(reinit) => field("reinit", reinit),
            Self::ExternalInit(external_init) => field("external_init", external_init),
            Self::GroupContextExtensions(extensions) => {
                field("group_context_extensions", extensions)
            }
        };
        Value::Fields(vec![field("proposal_type", &self.proposal_type()), content])
    }
}

impl Inspect for ProposalOrRef {
    fn value(&self) -> Value {
        match self {
            Self::Proposal(proposal) => {
                variant("type", "proposal", Some(field("proposal", proposal)))
            }
            Self::Reference(reference) => {
                variant("type", "reference", Some(field("reference", reference)))
            }
        }
    }
}

impl Inspect for PskType {
    fn value(&self) -> Value {
        match self {
            Self::External(psk) => variant("psktype", "external", Some(field("external", psk))),
            Self::Resumption(psk) => {
                variant("psktype", "resumption", Some(field("resumption", psk)))
            }
            Self::Application(psk) => {
                variant("psktype", "application", Some(field("application", psk)))
            }
        }
    }
}

impl Inspect for Sender {
    fn value(&self) -> Value {
        let number = |name, number: u32| Field {
            name,
            value: Value::Number(number.into()),
        };
        match self {
            Self::Member(leaf) => {
                variant("sender_type", "member", Some(number("leaf_index", leaf.0)))
            }
            Self::External(index) => variant(
                "sender_type",
                "external",
                Some(number("sender_index", *index)),
            ),
            Self::NewMemberProposal => variant("sender_type", "new_member_proposal", None),
            Self::NewMemberCommit => variant("sender_type", "new_member_commit", None),
        }
    }
}

impl Inspect for Content {
    fn value(&self) -> Value {
        let content = match self {
            Self::Application(data) => field("application_data", data),
            Self::Proposal(proposal) => field("proposal", proposal),
            Self::Commit(commit) => field("commit", commit),
        };
        Value::Fields(vec![field("content_type", &self.content_type()), content])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Encode;

    #[test]
    fn a_message_is_shown_with_the_names_of_the_rfc() {
        let message = MlsMessage::PrivateMessage(PrivateMessage {
            group_id: Bytes::from([0xab; 32]),
            epoch: 7,
            content_type: ContentType::Commit,
            authenticated_data: Bytes::default(),
            encrypted_sender_data: Bytes::from([4; 28]),
            ciphertext: Bytes::from([5; 99]),
        });
        let text = inspect(&message.to_bytes()).unwrap().to_string();
        let expected = "\
MLSMessage:
  version: mls10
  wire_format: mls_private_message
  private_message:
    group_id: abababababababababababababababababababababababababababababababab (32 bytes)
    epoch: 7
    content_type: commit
    authenticated_data: empty
";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("... (99 bytes)\n"), "{text}");
    }

    #[test]
    fn identities_that_could_disturb_a_terminal_stay_bytes() {
        let shown = |identity: &[u8]| text_or_bytes(&Bytes::from(identity));
        assert_eq!(shown(b"alice"), Value::Text("alice".to_owned()));
        assert_eq!(shown(b"\x1b[2J"), Value::Bytes(b"\x1b[2J".to_vec()));
        assert_eq!(shown(&[0xff]), Value::Bytes(vec![0xff]));
    }

    #[test]
    fn a_known_extension_is_shown_decoded() {
        let id = ApplicationId {
            application_id: Bytes::from([1]),
        };
        let mut extensions = Extensions::default().with(&id);
        extensions.set_data(ExtensionType::EXTERNAL_SENDERS, vec![9]);
        let Value::List(shown) = extensions.value() else {
            panic!("a list")
        };
        let data = |place: usize| match &shown[place] {
            Value::Fields(fields) => fields[1].value.clone(),
            _ => panic!("a structure"),
        };
        assert_eq!(
            data(0),
            Value::Fields(vec![field("application_id", &id.application_id)])
        );
        assert_eq!(data(1), Value::Bytes(vec![9]));
    }
}
