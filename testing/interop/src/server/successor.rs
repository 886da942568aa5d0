//! Calls on groups that follow another: in its place after a ReInit, or beside it as a branch.

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::Encode;
use folkmoot_mls::credential::Credential;
use folkmoot_mls::group::{Group, Successor, SuccessorBuilder};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::Proposal;

use super::client::{Client, Entry, Transaction, has_re_init, tree_beside};
use super::error::ClientError;
use super::member::Member;
use super::wire;
use crate::proto;

/// A group that a ReInit has ended, for one of its members, who offers itself to the next.
pub struct Ended {
    group: Group,
    wire_format: WireFormat,
    offer: Transaction,
}

impl Client {
    /// Proposes to end the group in favour of another.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn re_init_proposal(
        &mut self,
        request: &proto::ReInitProposalRequest,
    ) -> Result<proto::ProposalResponse, ClientError> {
        let suite = request.cipher_suite;
        let proposal = wire::re_init(&request.group_id, suite, &request.extensions)?;
        self.propose(request.state_id, |_, _| Ok(proposal))
    }

    /// Makes the commit that ends the group.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::WrongCommit`] if it does not end the group.
    pub fn re_init_commit(
        &mut self,
        request: &proto::CommitRequest,
    ) -> Result<proto::CommitResponse, ClientError> {
        let (member, world) = self.member(request.state_id)?;
        let pending = member.commit(request, world)?;
        if pending.group.reinit().is_none() {
            member.give_up();
            return Err(ENDS_NOTHING);
        }
        Ok(proto::CommitResponse {
            commit: pending.message.to_bytes(),
            ..proto::CommitResponse::default()
        })
    }

    /// Follows the member's own commit that ends the group.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn handle_pending_re_init_commit(
        &mut self,
        request: &proto::HandlePendingCommitRequest,
    ) -> Result<proto::HandleReInitCommitResponse, ClientError> {
        let (member, _) = self.member(request.state_id)?;
        if member.pending()?.group.reinit().is_none() {
            return Err(ENDS_NOTHING);
        }
        member.merge()?;
        self.ended(request.state_id)
    }

    /// Follows another's commit that ends the group.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn handle_re_init_commit(
        &mut self,
        request: &proto::HandleCommitRequest,
    ) -> Result<proto::HandleReInitCommitResponse, ClientError> {
        let (member, world) = self.member(request.state_id)?;
        let allowed = |proposals: &[Proposal]| match has_re_init(proposals) {
            true => Ok(()),
            false => Err(ENDS_NOTHING),
        };
        member.handle_commit(&request.proposal, &request.commit, allowed, world)?;
        self.ended(request.state_id)
    }

    /// Starts the group that takes the place of one that ended.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn re_init_welcome(
        &mut self,
        request: &proto::ReInitWelcomeRequest,
    ) -> Result<proto::CreateSubgroupResponse, ClientError> {
        let ended = self.ended_group(request.reinit_id)?;
        let (builder, offer) = (ended.group.successor()?, ended.offer.clone());
        let wire_format = ended.wire_format;
        let plan = Plan {
            key_packages: &request.key_package,
            force_path: request.force_path,
            external_tree: request.external_tree,
            wire_format,
        };
        self.start(builder, offer, &plan)
    }

    /// Joins the group that takes the place of one that ended.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn handle_re_init_welcome(
        &mut self,
        request: &proto::HandleReInitWelcomeRequest,
    ) -> Result<proto::JoinGroupResponse, ClientError> {
        let ended = self.ended_group(request.reinit_id)?;
        let (group, offer) = (ended.group.clone(), ended.offer.clone());
        let wire_format = ended.wire_format;
        let tree = &request.ratchet_tree;
        let joined = self.follow(&group, offer, &request.welcome, tree, wire_format)?;
        self.forget(request.reinit_id);
        Ok(joined)
    }

    /// Starts a group with some members of another.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn create_branch(
        &mut self,
        request: &proto::CreateBranchRequest,
    ) -> Result<proto::CreateSubgroupResponse, ClientError> {
        let (member, _) = self.member(request.state_id)?;
        let (group, wire_format) = (member.group.clone(), member.wire_format);
        let extensions = wire::extensions(&request.extensions)?;
        let builder = group
            .branch(request.group_id.as_slice())?
            .extensions(extensions);
        let offer = self.offer(&group, group.cipher_suite())?;
        let plan = Plan {
            key_packages: &request.key_packages,
            force_path: request.force_path,
            external_tree: request.external_tree,
            wire_format,
        };
        self.start(builder, offer, &plan)
    }

    /// Joins a group of some members of another.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn handle_branch(
        &mut self,
        request: &proto::HandleBranchRequest,
    ) -> Result<proto::HandleBranchResponse, ClientError> {
        let (member, _) = self.member(request.state_id)?;
        let (group, wire_format) = (member.group.clone(), member.wire_format);
        let offer = self.waiting(request.transaction_id)?.clone();
        let tree = &request.ratchet_tree;
        let joined = self.follow(&group, offer, &request.welcome, tree, wire_format)?;
        self.forget(request.transaction_id);
        Ok(proto::HandleBranchResponse {
            state_id: joined.state_id,
            epoch_authenticator: joined.epoch_authenticator,
        })
    }

    /// Keeps what is needed for the next group, with a key package for it.
    fn ended(&mut self, state_id: u32) -> Result<proto::HandleReInitCommitResponse, ClientError> {
        let (member, _) = self.member(state_id)?;
        let (group, wire_format) = (member.group.clone(), member.wire_format);
        let (epoch_authenticator, psks) = (member.epoch_authenticator(), member.psks.clone());
        let cipher_suite = group.reinit().ok_or(ENDS_NOTHING)?.cipher_suite;
        let mut offer = self.offer(&group, cipher_suite)?;
        offer.psks = psks;
        let key_package = Box::new(offer.bundle.key_package.clone());
        let ended = Ended {
            group,
            wire_format,
            offer,
        };
        Ok(proto::HandleReInitCommitResponse {
            reinit_id: self.keep(Entry::Ended(Box::new(ended)))?,
            key_package: MlsMessage::KeyPackage(key_package).to_bytes(),
            epoch_authenticator,
        })
    }

    /// A key package of a group's member, for another group.
    fn offer(
        &mut self,
        group: &Group,
        cipher_suite: folkmoot_mls::crypto::CipherSuite,
    ) -> Result<Transaction, ClientError> {
        let Credential::Basic { identity } = group.own_leaf().credential else {
            return Err(ClientError::Missing("identity"));
        };
        self.transaction(cipher_suite, &identity)
    }

    /// Starts a group that follows another.
    fn start(
        &mut self,
        mut builder: SuccessorBuilder,
        offer: Transaction,
        plan: &Plan<'_>,
    ) -> Result<proto::CreateSubgroupResponse, ClientError> {
        let Transaction {
            bundle,
            signer,
            psks,
        } = offer;
        for key_package in plan.key_packages {
            builder = builder.add(wire::key_package(key_package)?);
        }
        if !plan.force_path {
            builder = builder.without_path();
        }
        let leaf = bundle.key_package.leaf_node.parameters();
        let Successor { pending, .. } = builder
            .tree_in_welcome(!plan.external_tree)
            .wire_format(plan.wire_format)
            .build(&signer, leaf, &mut self.world.context(&psks))?;
        let ratchet_tree = tree_beside(&pending.group, plan.external_tree);
        let encrypt = plan.wire_format == WireFormat::PRIVATE_MESSAGE;
        let member = Member::new(pending.group, pending.keys, signer, encrypt, psks);
        let epoch_authenticator = member.epoch_authenticator();
        Ok(proto::CreateSubgroupResponse {
            state_id: self.keep_member(member)?,
            welcome: wire::welcome_bytes(pending.welcome),
            ratchet_tree,
            epoch_authenticator,
        })
    }

    /// Joins a group that follows another.
    fn follow(
        &mut self,
        predecessor: &Group,
        offer: Transaction,
        welcome: &[u8],
        tree: &[u8],
        wire_format: WireFormat,
    ) -> Result<proto::JoinGroupResponse, ClientError> {
        let Transaction {
            bundle,
            signer,
            psks,
        } = offer;
        let welcome = wire::welcome(welcome)?;
        let tree = wire::optional(tree);
        let ctx = &mut self.world.context(&psks);
        let joined = Group::join_successor(ctx, &welcome, &bundle, tree, predecessor)?;
        let encrypt = wire_format == WireFormat::PRIVATE_MESSAGE;
        let member = Member::new(joined.group, joined.keys, signer, encrypt, psks);
        let epoch_authenticator = member.epoch_authenticator();
        Ok(proto::JoinGroupResponse {
            state_id: self.keep_member(member)?,
            epoch_authenticator,
        })
    }
}

/// How the first commit of a group is to be made.
struct Plan<'a> {
    key_packages: &'a [Vec<u8>],
    force_path: bool,
    external_tree: bool,
    wire_format: WireFormat,
}

const ENDS_NOTHING: ClientError = ClientError::WrongCommit("does not end the group");
