//! Calls from outside of a group: external commits, proposals by external senders and by those who ask
//! to be added.

use folkmoot_mls::codec::Encode;
use folkmoot_mls::credential::Credential;
use folkmoot_mls::crypto::{CipherSuite, SignatureKeyPair};
use folkmoot_mls::extension::{ExtensionType, ExternalSender, ExternalSenders};
use folkmoot_mls::group::{Destination, Group, propose_as_external_sender, propose_join};
use folkmoot_mls::group_info::GroupInfo;
use folkmoot_mls::leaf_node::LeafNode;
use folkmoot_mls::node::{Node, RatchetTree};
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::psk::PreSharedKeyID;
use folkmoot_mls::tree_math::LeafIndex;

use super::client::{Client, Entry};
use super::error::ClientError;
use super::member::{Member, Psks, suite};
use super::wire::{self, Subject};
use crate::proto;

/// Somebody who may propose from outside.
pub struct Signer {
    cipher_suite: CipherSuite,
    key_pair: SignatureKeyPair,
}

impl Client {
    /// Joins by an external commit.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn external_join(
        &mut self,
        request: &proto::ExternalJoinRequest,
    ) -> Result<proto::ExternalJoinResponse, ClientError> {
        let group_info = wire::group_info(&request.group_info)?;
        let cipher_suite = group_info.group_context.cipher_suite;
        let signer = self.signer(cipher_suite)?;
        let suite = suite(&self.world, cipher_suite)?;
        let tree = wire::optional(&request.ratchet_tree);
        let mut psks = Psks::default();
        let mut ids = Vec::with_capacity(request.psks.len());
        for psk in &request.psks {
            psks.store(&psk.psk_id, &psk.psk_secret)?;
            let proposal = wire::external_psk(suite, &psk.psk_id, &mut self.world.rng);
            ids.extend(psk_id(proposal));
        }
        let former = if request.remove_prior {
            let members = members(&group_info, tree)?;
            Some(wire::member(&mut members.into_iter(), &request.identity)?)
        } else {
            None
        };
        let mut commit = Group::join_external(group_info, self.leaf(&request.identity));
        if let Some(tree) = tree {
            commit = commit.tree(tree);
        }
        if let Some(former) = former {
            commit = commit.resync(former);
        }
        for id in ids {
            commit = commit.psk(id);
        }
        let pending = commit.build(&signer, &mut self.world.context(&psks))?;
        let commit = pending.message.to_bytes();
        let encrypt = request.encrypt_handshake;
        let member = Member::new(pending.group, pending.keys, signer, encrypt, psks);
        let epoch_authenticator = member.epoch_authenticator();
        Ok(proto::ExternalJoinResponse {
            state_id: self.keep_member(member)?,
            commit,
            epoch_authenticator,
        })
    }

    /// Asks to be added.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new_member_add_proposal(
        &mut self,
        request: &proto::NewMemberAddProposalRequest,
    ) -> Result<proto::NewMemberAddProposalResponse, ClientError> {
        let group_info = wire::group_info(&request.group_info)?;
        let to = Destination::from(&group_info.group_context);
        let transaction = self.transaction(to.cipher_suite, &request.identity)?;
        let bundle = transaction.bundle.clone();
        let ctx = self.world.context(&transaction.psks);
        let proposal = propose_join(&ctx, &to, &transaction.signer, bundle.key_package, b"")?;
        let signature_priv = transaction.signer.private_key().to_vec();
        Ok(proto::NewMemberAddProposalResponse {
            transaction_id: self.keep(Entry::Transaction(Box::new(transaction)))?,
            proposal: proposal.to_bytes(),
            init_priv: bundle.init_private_key.to_vec(),
            encryption_priv: bundle.encryption_private_key.to_vec(),
            signature_priv,
        })
    }

    /// Makes a key by which proposals can be signed from outside.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn create_external_signer(
        &mut self,
        request: &proto::CreateExternalSignerRequest,
    ) -> Result<proto::CreateExternalSignerResponse, ClientError> {
        let cipher_suite = wire::cipher_suite(request.cipher_suite)?;
        let key_pair = self.signer(cipher_suite)?;
        let external_sender = ExternalSender {
            signature_key: key_pair.public_key().clone(),
            credential: Credential::basic(request.identity.as_slice()),
        };
        let signer = Signer {
            cipher_suite,
            key_pair,
        };
        Ok(proto::CreateExternalSignerResponse {
            signer_id: self.keep(Entry::Signer(Box::new(signer)))?,
            external_sender: external_sender.to_bytes(),
        })
    }

    /// Proposes to let somebody propose from outside, behind those who may already.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn add_external_signer(
        &mut self,
        request: &proto::AddExternalSignerRequest,
    ) -> Result<proto::ProposalResponse, ClientError> {
        let sender = wire::decode("external_sender", &request.external_sender)?;
        self.propose(request.state_id, |member, _| {
            let mut extensions = member.group.extensions().clone();
            let mut senders = external_senders(&extensions)?;
            senders.external_senders.push(sender);
            extensions.set(&senders);
            Ok(Proposal::group_context_extensions(extensions))
        })
    }

    /// Proposes from outside. The signer's place is where the group lists its key; what the request says
    /// counts only if the group does not list it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn external_signer_proposal(
        &mut self,
        request: &proto::ExternalSignerProposalRequest,
    ) -> Result<proto::ProposalResponse, ClientError> {
        let (signer, world) = self.external_signer(request.signer_id)?;
        let group_info = wire::group_info(&request.group_info)?;
        let tree = wire::optional(&request.ratchet_tree);
        let description = request
            .description
            .as_ref()
            .ok_or(ClientError::Missing("description"))?;
        let context = &group_info.group_context;
        let proposal = if description.proposal_type == b"reinit" {
            let suite = description.cipher_suite;
            wire::re_init(&description.group_id, suite, &description.extensions)?
        } else {
            // Only a Remove looks at the members, so only that needs a tree.
            let members = match description.proposal_type.as_slice() {
                b"remove" => members(&group_info, tree)?,
                _ => Vec::new(),
            };
            let subject = Subject {
                suite: suite(world, signer.cipher_suite)?,
                group_id: &context.group_id,
                members: &mut members.into_iter(),
            };
            wire::proposal(description, subject, &mut world.rng)?
        };
        let listed = external_senders(&context.extensions)?.external_senders;
        let place = listed
            .iter()
            .position(|sender| sender.signature_key == *signer.key_pair.public_key())
            .and_then(|place| u32::try_from(place).ok())
            .unwrap_or(request.signer_index);
        let psks = Psks::default();
        let message = propose_as_external_sender(
            &world.context(&psks),
            &Destination::from(context),
            place,
            &signer.key_pair,
            proposal,
            b"",
        )?;
        Ok(proto::ProposalResponse {
            proposal: message.to_bytes(),
        })
    }
}

fn psk_id(proposal: Proposal) -> Option<PreSharedKeyID> {
    match proposal {
        Proposal::PreSharedKey(psk) => Some(psk.psk),
        _ => None,
    }
}

fn external_senders(
    extensions: &folkmoot_mls::extension::Extensions,
) -> Result<ExternalSenders, ClientError> {
    let field = "external_senders";
    let senders = extensions
        .get()
        .map_err(|error| ClientError::Malformed { field, error })?;
    Ok(senders.unwrap_or_default())
}

/// The members as the tree has them that came with a GroupInfo, or in it. Nobody has checked it yet.
fn members(
    group_info: &GroupInfo,
    tree: Option<&[u8]>,
) -> Result<Vec<(LeafIndex, LeafNode)>, ClientError> {
    let inside = group_info.extensions.data(ExtensionType::RATCHET_TREE);
    let tree = tree
        .or(inside.map(|bytes| bytes.as_slice()))
        .ok_or(ClientError::Missing("ratchet_tree"))?;
    let RatchetTree(nodes) = wire::decode("ratchet_tree", tree)?;
    // Leaves are at even places (RFC 9420, appendix C).
    let leaves = nodes.into_iter().step_by(2).zip(0..);
    Ok(leaves
        .filter_map(|(node, index)| match node {
            Some(Node::Leaf(leaf)) => Some((LeafIndex(index), *leaf)),
            _ => None,
        })
        .collect())
}
