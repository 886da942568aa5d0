//! `messages`: one of every structure, decoded and encoded again.

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_mls::commit::Commit;
use folkmoot_mls::framing::ContentType;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::node::RatchetTree;
use folkmoot_mls::proposal::{
    Add, ExternalInit, GroupContextExtensions, PreSharedKey, ReInit, Remove, Update,
};
use folkmoot_mls::welcome::GroupSecrets;
use serde::Deserialize;

use crate::check::{Failure, Hex, check};

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    mls_welcome: Hex,
    mls_group_info: Hex,
    mls_key_package: Hex,
    ratchet_tree: Hex,
    group_secrets: Hex,
    add_proposal: Hex,
    update_proposal: Hex,
    remove_proposal: Hex,
    pre_shared_key_proposal: Hex,
    re_init_proposal: Hex,
    external_init_proposal: Hex,
    group_context_extensions_proposal: Hex,
    commit: Hex,
    public_message_application: Hex,
    public_message_proposal: Hex,
    public_message_commit: Hex,
    private_message: Hex,
}

impl Case {
    /// Decodes and encodes every structure.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(&self) -> Result<(), Failure> {
        message(&self.mls_welcome, WireFormat::WELCOME, None)?;
        message(&self.mls_group_info, WireFormat::GROUP_INFO, None)?;
        message(&self.mls_key_package, WireFormat::KEY_PACKAGE, None)?;
        let public = WireFormat::PUBLIC_MESSAGE;
        let public_message = |bytes, content_type| message(bytes, public, Some(content_type));
        public_message(&self.public_message_application, ContentType::Application)?;
        public_message(&self.public_message_proposal, ContentType::Proposal)?;
        public_message(&self.public_message_commit, ContentType::Commit)?;
        message(&self.private_message, WireFormat::PRIVATE_MESSAGE, None)?;

        identity::<RatchetTree>(&self.ratchet_tree, "ratchet_tree")?;
        identity::<GroupSecrets>(&self.group_secrets, "group_secrets")?;
        identity::<Add>(&self.add_proposal, "add_proposal")?;
        identity::<Update>(&self.update_proposal, "update_proposal")?;
        identity::<Remove>(&self.remove_proposal, "remove_proposal")?;
        identity::<PreSharedKey>(&self.pre_shared_key_proposal, "pre_shared_key_proposal")?;
        identity::<ReInit>(&self.re_init_proposal, "re_init_proposal")?;
        identity::<ExternalInit>(&self.external_init_proposal, "external_init_proposal")?;
        identity::<GroupContextExtensions>(
            &self.group_context_extensions_proposal,
            "group_context_extensions_proposal",
        )?;
        identity::<Commit>(&self.commit, "commit")?;
        Ok(())
    }
}

fn identity<T: Decode + Encode>(bytes: &[u8], name: &'static str) -> Result<T, Failure> {
    let value = T::from_bytes(bytes)?;
    check(value.to_bytes() == bytes, name)?;
    Ok(value)
}

fn message(
    bytes: &[u8],
    wire_format: WireFormat,
    content_type: Option<ContentType>,
) -> Result<(), Failure> {
    let message: MlsMessage = identity(bytes, "message")?;
    check(message.wire_format() == wire_format, "wire format")?;
    match (message, content_type) {
        (MlsMessage::PublicMessage(message), Some(content_type)) => check(
            message.content.content.content_type() == content_type,
            "content type",
        ),
        (_, expected) => check(expected.is_none(), "content type"),
    }
}
