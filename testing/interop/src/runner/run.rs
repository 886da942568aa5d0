//! One run of one script: what each action asks of whom, and what has to come of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand_core::Rng;

use super::Peer;
use super::script::{Action, Described, Extension};
use crate::proto;

/// Why a run failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A client refused a call.
    #[error("{actor} refuses {call}: {code:?}: {message}")]
    Call {
        /// Who.
        actor: String,
        /// What was asked.
        call: &'static str,
        /// Its kind.
        code: tonic::Code,
        /// Its words.
        message: String,
    },
    /// Two clients see the group differently.
    #[error("{actor} differs in its {what}")]
    Differs {
        /// Who.
        actor: String,
        /// In what.
        what: &'static str,
    },
    /// The script refers to what a step did not give.
    #[error("step {step} gave no {what}")]
    NothingThere {
        /// The step.
        step: usize,
        /// What was looked for.
        what: &'static str,
    },
    /// The script lets somebody act who is not in a position to.
    #[error("{actor} has no {what}")]
    NotInPosition {
        /// Who.
        actor: String,
        /// What is missing.
        what: &'static str,
    },
    /// A suite is to be changed and there is no other that all support.
    #[error("the clients have no other cipher suite in common")]
    NoOtherSuite,
}

/// Runs a script with a client for each actor. On failure, says in which step.
///
/// # Errors
/// The step's number, and [`RunError`].
pub async fn run(
    cast: BTreeMap<String, Peer>,
    script: &[Action],
    suite: u32,
    encrypt: bool,
    compare: bool,
    rng: &mut impl Rng,
) -> Result<(), (usize, RunError)> {
    let mut run = Run {
        cast,
        suite,
        encrypt,
        compare,
        states: BTreeMap::new(),
        transactions: BTreeMap::new(),
        signers: BTreeMap::new(),
        kept: HashMap::new(),
        rng,
    };
    let mut result = Ok(());
    for (step, action) in script.iter().enumerate() {
        result = run.step(step, action).await.map_err(|error| (step, error));
        if result.is_err() {
            break;
        }
    }
    let freed = run.free_all().await;
    result.and(freed.map_err(|error| (script.len(), error)))
}

struct Run<'a, R> {
    cast: BTreeMap<String, Peer>,
    suite: u32,
    encrypt: bool,
    compare: bool,
    states: BTreeMap<String, u32>,
    transactions: BTreeMap<String, u32>,
    signers: BTreeMap<String, u32>,
    /// What steps gave, for later ones.
    kept: HashMap<(usize, &'static str), Vec<u8>>,
    rng: &'a mut R,
}

/// Asks a client.
macro_rules! call {
    ($run:expr, $actor:expr, $call:ident, $request:expr) => {{
        let mut rpc = $run.peer($actor)?.rpc.clone();
        rpc.$call($request)
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| RunError::Call {
                actor: $actor.to_string(),
                call: stringify!($call),
                code: status.code(),
                message: status.message().to_owned(),
            })
    }};
}

impl<R: Rng> Run<'_, R> {
    fn peer(&self, actor: &str) -> Result<&Peer, RunError> {
        self.cast.get(actor).ok_or_else(|| RunError::NotInPosition {
            actor: actor.to_owned(),
            what: "client",
        })
    }

    fn state(&self, actor: &str) -> Result<u32, RunError> {
        position(&self.states, actor, "state")
    }

    fn keep(&mut self, step: usize, what: &'static str, bytes: Vec<u8>) {
        self.kept.insert((step, what), bytes);
    }

    fn kept(&self, step: usize, what: &'static str) -> Result<Vec<u8>, RunError> {
        let kept = self.kept.get(&(step, what)).cloned();
        kept.ok_or(RunError::NothingThere { step, what })
    }

    fn random(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 32];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// A group's id, as text, which some clients print.
    fn group_id(&mut self) -> Vec<u8> {
        hex::encode(self.random()).into_bytes()
    }

    /// The next group's id: that of the first step's group, or one made of it.
    fn next_group_id(&self, change: bool) -> Result<Vec<u8>, RunError> {
        let mut id = self.kept(0, "group_id")?;
        if change {
            id.extend_from_slice(b"++");
        }
        Ok(id)
    }

    /// Goes over to the next suite that all clients support, from the last to the first.
    fn change_cipher_suite(&mut self) -> Result<(), RunError> {
        let mut common = self.cast.values().map(|peer| peer.suites.clone());
        let first = common.next().unwrap_or_default();
        let common = common.fold(first, |all, some| &all & &some);
        let above = common.range(self.suite.saturating_add(1)..).next();
        let next = above.or(common.first()).copied();
        self.suite = next
            .filter(|suite| *suite != self.suite)
            .ok_or(RunError::NoOtherSuite)?;
        Ok(())
    }

    async fn step(&mut self, step: usize, action: &Action) -> Result<(), RunError> {
        match action {
            Action::CreateGroup { actor, members } => self.create_group(step, actor, members).await,
            Action::CreateKeyPackage { actor } => {
                let (transaction, key_package) = self.key_package(actor).await?;
                self.transactions.insert(actor.clone(), transaction);
                self.keep(step, "key_package", key_package);
                Ok(())
            }
            Action::JoinGroup { actor, welcome } => {
                let (welcome, tree) = (
                    self.kept(*welcome, "welcome")?,
                    self.kept(*welcome, "ratchet_tree").unwrap_or_default(),
                );
                let transaction = position(&self.transactions, actor, "transaction")?;
                self.join(actor, transaction, welcome, tree).await?;
                Ok(())
            }
            Action::ExternalJoin { .. } => self.external_join(step, action).await,
            Action::InstallExternalPsk { clients } => self.install_psk(step, clients).await,
            Action::GroupInfo {
                actor,
                external_tree,
            } => {
                let (group_info, tree) = self.group_info(actor, *external_tree).await?;
                self.keep(step, "group_info", group_info);
                self.keep(step, "ratchet_tree", tree);
                Ok(())
            }
            Action::FullCommit { .. } => self.full_commit(step, action).await,
            Action::Commit {
                actor,
                by_reference,
                by_value,
                force_path,
                external_tree,
            } => {
                let request = proto::CommitRequest {
                    state_id: self.state(actor)?,
                    by_reference: self.proposals(by_reference)?,
                    by_value: self.described(by_value)?,
                    force_path: *force_path,
                    external_tree: *external_tree,
                };
                self.commit(step, actor, request).await
            }
            Action::HandleCommit {
                actor,
                commit,
                by_reference,
            } => {
                let proposals = self.proposals(by_reference)?;
                let commit = self.kept(*commit, "commit")?;
                self.handle_commit(actor, proposals, commit).await?;
                Ok(())
            }
            Action::HandlePendingCommit { actor } => {
                self.handle_pending_commit(actor).await?;
                Ok(())
            }
            Action::Protect {
                actor,
                authenticated_data,
                plaintext,
            } => {
                let request = proto::ProtectRequest {
                    state_id: self.state(actor)?,
                    authenticated_data: authenticated_data.clone().into_bytes(),
                    plaintext: plaintext.clone().into_bytes(),
                };
                let answer = call!(self, actor, protect, request.clone())?;
                self.keep(step, "authenticated_data", request.authenticated_data);
                self.keep(step, "plaintext", request.plaintext);
                self.keep(step, "ciphertext", answer.ciphertext);
                Ok(())
            }
            Action::Unprotect { actor, ciphertext } => {
                let request = proto::UnprotectRequest {
                    state_id: self.state(actor)?,
                    ciphertext: self.kept(*ciphertext, "ciphertext")?,
                };
                let answer = call!(self, actor, unprotect, request)?;
                let authenticated_data = self.kept(*ciphertext, "authenticated_data")?;
                let plaintext = self.kept(*ciphertext, "plaintext")?;
                same(
                    actor,
                    "authenticated data",
                    &answer.authenticated_data,
                    &authenticated_data,
                )?;
                same(actor, "plaintext", &answer.plaintext, &plaintext)
            }
            Action::Reinit { .. } => self.reinit(action).await,
            Action::Branch { .. } => self.branch(action).await,
            Action::AddProposal { .. }
            | Action::UpdateProposal { .. }
            | Action::RemoveProposal { .. }
            | Action::ExternalPskProposal { .. }
            | Action::ResumptionPskProposal { .. }
            | Action::GroupContextExtensionsProposal { .. }
            | Action::NewMemberAddProposal { .. }
            | Action::AddExternalSigner { .. }
            | Action::ExternalSignerProposal { .. } => {
                let proposal = self.propose(action).await?;
                self.keep(step, "proposal", proposal);
                Ok(())
            }
        }
    }

    /// All actions that give one proposal.
    async fn propose(&mut self, action: &Action) -> Result<Vec<u8>, RunError> {
        let answer = match action {
            Action::AddProposal { actor, key_package } => {
                let request = proto::AddProposalRequest {
                    state_id: self.state(actor)?,
                    key_package: self.kept(*key_package, "key_package")?,
                };
                call!(self, actor, add_proposal, request)?
            }
            Action::UpdateProposal { actor } => {
                let state_id = self.state(actor)?;
                let request = proto::UpdateProposalRequest { state_id };
                call!(self, actor, update_proposal, request)?
            }
            Action::RemoveProposal { actor, removed } => {
                let request = proto::RemoveProposalRequest {
                    state_id: self.state(actor)?,
                    removed_id: removed.clone().into_bytes(),
                };
                call!(self, actor, remove_proposal, request)?
            }
            Action::ExternalPskProposal { actor, psk_id } => {
                let request = proto::ExternalPskProposalRequest {
                    state_id: self.state(actor)?,
                    psk_id: self.kept(*psk_id, "psk_id")?,
                };
                call!(self, actor, external_psk_proposal, request)?
            }
            Action::ResumptionPskProposal { actor, epoch_id } => {
                let request = proto::ResumptionPskProposalRequest {
                    state_id: self.state(actor)?,
                    epoch_id: *epoch_id,
                };
                call!(self, actor, resumption_psk_proposal, request)?
            }
            Action::GroupContextExtensionsProposal { actor, extensions } => {
                let request = proto::GroupContextExtensionsProposalRequest {
                    state_id: self.state(actor)?,
                    extensions: wire_extensions(extensions),
                };
                call!(self, actor, group_context_extensions_proposal, request)?
            }
            Action::NewMemberAddProposal { actor, joiner } => {
                let (group_info, _) = self.group_info(actor, false).await?;
                let request = proto::NewMemberAddProposalRequest {
                    group_info,
                    identity: joiner.clone().into_bytes(),
                };
                let answer = call!(self, joiner, new_member_add_proposal, request)?;
                self.transactions
                    .insert(joiner.clone(), answer.transaction_id);
                return Ok(answer.proposal);
            }
            Action::AddExternalSigner { actor, signer } => {
                let request = proto::CreateExternalSignerRequest {
                    cipher_suite: self.suite,
                    identity: signer.clone().into_bytes(),
                };
                let created = call!(self, signer, create_external_signer, request)?;
                self.signers.insert(signer.clone(), created.signer_id);
                let request = proto::AddExternalSignerRequest {
                    state_id: self.state(actor)?,
                    external_sender: created.external_sender,
                };
                call!(self, actor, add_external_signer, request)?
            }
            Action::ExternalSignerProposal {
                actor,
                member,
                description,
            } => {
                let (group_info, ratchet_tree) = self.group_info(member, true).await?;
                let description = self.description(description)?;
                let request = proto::ExternalSignerProposalRequest {
                    signer_id: position(&self.signers, actor, "signer")?,
                    // A client finds its own place by its key.
                    signer_index: 0,
                    group_info,
                    ratchet_tree,
                    description: Some(description),
                };
                call!(self, actor, external_signer_proposal, request)?
            }
            _ => unreachable!("the caller knows which actions give a proposal"),
        };
        Ok(answer.proposal)
    }

    async fn create_group(
        &mut self,
        step: usize,
        actor: &String,
        members: &[String],
    ) -> Result<(), RunError> {
        let group_id = self.group_id();
        let request = proto::CreateGroupRequest {
            group_id: group_id.clone(),
            cipher_suite: self.suite,
            encrypt_handshake: self.encrypt,
            identity: actor.clone().into_bytes(),
        };
        let created = call!(self, actor, create_group, request)?;
        self.states.insert(actor.clone(), created.state_id);
        self.keep(step, "group_id", group_id);
        if members.is_empty() {
            return Ok(());
        }
        let mut transactions = Vec::new();
        let mut by_value = Vec::new();
        for member in members {
            let (transaction, key_package) = self.key_package(member).await?;
            transactions.push(transaction);
            by_value.push(proto::ProposalDescription {
                proposal_type: b"add".to_vec(),
                key_package,
                ..Default::default()
            });
        }
        let request = proto::CommitRequest {
            state_id: created.state_id,
            by_value,
            ..Default::default()
        };
        let answer = call!(self, actor, commit, request)?;
        let authenticator = self.handle_pending_commit(actor).await?;
        for (member, transaction) in members.iter().zip(transactions) {
            let (welcome, tree) = (answer.welcome.clone(), Vec::new());
            let joined = self.join(member, transaction, welcome, tree).await?;
            same(member, "epoch authenticator", &joined, &authenticator)?;
        }
        self.compare([actor].into_iter().chain(members)).await
    }

    async fn external_join(&mut self, step: usize, action: &Action) -> Result<(), RunError> {
        let Action::ExternalJoin {
            actor,
            joiner,
            members,
            external_tree,
            remove_prior,
            psks,
        } = action
        else {
            return Ok(());
        };
        let (group_info, ratchet_tree) = self.group_info(actor, *external_tree).await?;
        let psks = psks
            .iter()
            .map(|psk| {
                Ok(proto::PreSharedKey {
                    psk_id: self.kept(*psk, "psk_id")?,
                    psk_secret: self.kept(*psk, "psk_secret")?,
                })
            })
            .collect::<Result<_, RunError>>()?;
        let request = proto::ExternalJoinRequest {
            group_info,
            ratchet_tree,
            encrypt_handshake: self.encrypt,
            identity: joiner.clone().into_bytes(),
            remove_prior: *remove_prior,
            psks,
        };
        let answer = call!(self, joiner, external_join, request)?;
        self.states.insert(joiner.clone(), answer.state_id);
        self.keep(step, "commit", answer.commit.clone());
        let followers: Vec<_> = members.iter().chain([actor]).collect();
        for member in &followers {
            let authenticator = self
                .handle_commit(member, Vec::new(), answer.commit.clone())
                .await?;
            let expected = &answer.epoch_authenticator;
            same(member, "epoch authenticator", &authenticator, expected)?;
        }
        self.compare(followers.into_iter().chain([joiner])).await
    }

    async fn install_psk(&mut self, step: usize, clients: &[String]) -> Result<(), RunError> {
        let (psk_id, psk_secret) = (self.random(), self.random());
        for client in clients {
            let id = match self.states.get(client) {
                Some(state) => *state,
                None => position(&self.transactions, client, "state or transaction")?,
            };
            let request = proto::StorePskRequest {
                state_or_transaction_id: id,
                psk_id: psk_id.clone(),
                psk_secret: psk_secret.clone(),
            };
            call!(self, client, store_psk, request)?;
        }
        self.keep(step, "psk_id", psk_id);
        self.keep(step, "psk_secret", psk_secret);
        Ok(())
    }

    async fn full_commit(&mut self, step: usize, action: &Action) -> Result<(), RunError> {
        let Action::FullCommit {
            actor,
            by_reference,
            by_value,
            members,
            joiners,
            force_path,
            external_tree,
        } = action
        else {
            return Ok(());
        };
        let proposals = self.proposals(by_reference)?;
        let request = proto::CommitRequest {
            state_id: self.state(actor)?,
            by_reference: proposals.clone(),
            by_value: self.described(by_value)?,
            force_path: *force_path,
            external_tree: *external_tree,
        };
        self.commit(step, actor, request).await?;
        let authenticator = self.handle_pending_commit(actor).await?;
        let commit = self.kept(step, "commit")?;
        for member in members {
            let followed = self
                .handle_commit(member, proposals.clone(), commit.clone())
                .await?;
            same(member, "epoch authenticator", &followed, &authenticator)?;
        }
        for joiner in joiners {
            let transaction = position(&self.transactions, joiner, "transaction")?;
            let welcome = self.kept(step, "welcome")?;
            let tree = self.kept(step, "ratchet_tree").unwrap_or_default();
            let joined = self.join(joiner, transaction, welcome, tree).await?;
            same(joiner, "epoch authenticator", &joined, &authenticator)?;
        }
        self.compare([actor].into_iter().chain(members).chain(joiners))
            .await
    }

    async fn reinit(&mut self, action: &Action) -> Result<(), RunError> {
        let Action::Reinit {
            proposer,
            committer,
            welcomer,
            members,
            change_cipher_suite,
            change_group_id,
            extensions,
            force_path,
            external_tree,
            external_reinit_proposal,
        } = action
        else {
            return Ok(());
        };
        let mut everybody: BTreeSet<&String> = members.iter().chain(proposer).collect();
        everybody.extend([committer, welcomer]);
        let group_id = self.next_group_id(*change_group_id)?;
        if *change_cipher_suite {
            self.change_cipher_suite()?;
        }
        let proposal = match proposer {
            Some(proposer) => {
                let request = proto::ReInitProposalRequest {
                    state_id: self.state(proposer)?,
                    cipher_suite: self.suite,
                    group_id,
                    extensions: wire_extensions(extensions),
                };
                call!(self, proposer, re_init_proposal, request)?.proposal
            }
            None => self.kept(*external_reinit_proposal, "proposal")?,
        };

        let state_id = self.state(committer)?;
        let request = proto::CommitRequest {
            state_id,
            by_reference: vec![proposal.clone()],
            ..Default::default()
        };
        let commit = call!(self, committer, re_init_commit, request)?.commit;
        let request = proto::HandlePendingCommitRequest { state_id };
        let ended = call!(self, committer, handle_pending_re_init_commit, request)?;
        let authenticator = ended.epoch_authenticator.clone();
        let mut all_ended = BTreeMap::from([(committer, ended)]);
        for member in everybody.iter().filter(|member| **member != committer) {
            let request = proto::HandleCommitRequest {
                state_id: self.state(member)?,
                proposal: vec![proposal.clone()],
                commit: commit.clone(),
            };
            let ended = call!(self, *member, handle_re_init_commit, request)?;
            let own = &ended.epoch_authenticator;
            same(member, "epoch authenticator", own, &authenticator)?;
            all_ended.insert(member, ended);
        }
        self.compare(everybody.iter().copied()).await?;

        let welcomers = all_ended
            .remove(welcomer)
            .map(|ended| ended.reinit_id)
            .unwrap_or_default();
        let request = proto::ReInitWelcomeRequest {
            reinit_id: welcomers,
            key_package: all_ended
                .values()
                .map(|ended| ended.key_package.clone())
                .collect(),
            force_path: *force_path,
            external_tree: *external_tree,
        };
        let started = call!(self, welcomer, re_init_welcome, request)?;
        self.states.insert(welcomer.clone(), started.state_id);
        for (member, ended) in all_ended {
            let request = proto::HandleReInitWelcomeRequest {
                reinit_id: ended.reinit_id,
                welcome: started.welcome.clone(),
                ratchet_tree: started.ratchet_tree.clone(),
            };
            let joined = call!(self, member, handle_re_init_welcome, request)?;
            let own = &joined.epoch_authenticator;
            same(
                member,
                "new group's authenticator",
                own,
                &started.epoch_authenticator,
            )?;
            self.states.insert(member.clone(), joined.state_id);
        }
        self.compare(everybody.into_iter()).await
    }

    async fn branch(&mut self, action: &Action) -> Result<(), RunError> {
        let Action::Branch {
            actor,
            members,
            extensions,
            force_path,
            external_tree,
        } = action
        else {
            return Ok(());
        };
        let mut transactions = Vec::new();
        let mut key_packages = Vec::new();
        for member in members {
            let (transaction, key_package) = self.key_package(member).await?;
            transactions.push(transaction);
            key_packages.push(key_package);
        }
        let request = proto::CreateBranchRequest {
            state_id: self.state(actor)?,
            group_id: self.group_id(),
            extensions: wire_extensions(extensions),
            key_packages,
            force_path: *force_path,
            external_tree: *external_tree,
        };
        let started = call!(self, actor, create_branch, request)?;
        let mut left = Vec::new();
        let old = self.states.insert(actor.clone(), started.state_id);
        left.extend(old.map(|state_id| (actor, state_id)));
        for (member, transaction_id) in members.iter().zip(transactions) {
            let request = proto::HandleBranchRequest {
                state_id: self.state(member)?,
                transaction_id,
                welcome: started.welcome.clone(),
                ratchet_tree: started.ratchet_tree.clone(),
            };
            let joined = call!(self, member, handle_branch, request)?;
            let own = &joined.epoch_authenticator;
            same(
                member,
                "epoch authenticator",
                own,
                &started.epoch_authenticator,
            )?;
            let old = self.states.insert(member.clone(), joined.state_id);
            left.extend(old.map(|state_id| (member, state_id)));
        }
        self.compare([actor].into_iter().chain(members)).await?;
        for (member, state_id) in left {
            call!(self, member, free, proto::FreeRequest { state_id })?;
        }
        Ok(())
    }

    async fn key_package(&mut self, actor: &String) -> Result<(u32, Vec<u8>), RunError> {
        let request = proto::CreateKeyPackageRequest {
            cipher_suite: self.suite,
            identity: actor.clone().into_bytes(),
        };
        let answer = call!(self, actor, create_key_package, request)?;
        Ok((answer.transaction_id, answer.key_package))
    }

    async fn group_info(
        &mut self,
        actor: &String,
        external_tree: bool,
    ) -> Result<(Vec<u8>, Vec<u8>), RunError> {
        let state_id = self.state(actor)?;
        let request = proto::GroupInfoRequest {
            state_id,
            external_tree,
        };
        let answer = call!(self, actor, group_info, request)?;
        Ok((answer.group_info, answer.ratchet_tree))
    }

    /// Joins by a Welcome, and gives the epoch's authenticator.
    async fn join(
        &mut self,
        actor: &String,
        transaction_id: u32,
        welcome: Vec<u8>,
        ratchet_tree: Vec<u8>,
    ) -> Result<Vec<u8>, RunError> {
        let request = proto::JoinGroupRequest {
            transaction_id,
            welcome,
            encrypt_handshake: self.encrypt,
            identity: actor.clone().into_bytes(),
            ratchet_tree,
        };
        let answer = call!(self, actor, join_group, request)?;
        self.states.insert(actor.clone(), answer.state_id);
        Ok(answer.epoch_authenticator)
    }

    async fn commit(
        &mut self,
        step: usize,
        actor: &String,
        request: proto::CommitRequest,
    ) -> Result<(), RunError> {
        let external_tree = request.external_tree;
        let answer = call!(self, actor, commit, request)?;
        self.keep(step, "commit", answer.commit);
        self.keep(step, "welcome", answer.welcome);
        if external_tree {
            self.keep(step, "ratchet_tree", answer.ratchet_tree);
        }
        Ok(())
    }

    async fn handle_pending_commit(&mut self, actor: &String) -> Result<Vec<u8>, RunError> {
        let state_id = self.state(actor)?;
        let request = proto::HandlePendingCommitRequest { state_id };
        let answer = call!(self, actor, handle_pending_commit, request)?;
        self.states.insert(actor.clone(), answer.state_id);
        Ok(answer.epoch_authenticator)
    }

    async fn handle_commit(
        &mut self,
        actor: &String,
        proposal: Vec<Vec<u8>>,
        commit: Vec<u8>,
    ) -> Result<Vec<u8>, RunError> {
        let request = proto::HandleCommitRequest {
            state_id: self.state(actor)?,
            proposal,
            commit,
        };
        let answer = call!(self, actor, handle_commit, request)?;
        self.states.insert(actor.clone(), answer.state_id);
        Ok(answer.epoch_authenticator)
    }

    /// Asks everybody for what members of one epoch have in common.
    async fn compare(&self, actors: impl Iterator<Item = &String>) -> Result<(), RunError> {
        if !self.compare {
            return Ok(());
        }
        let mut first: Option<(Vec<u8>, Vec<u8>)> = None;
        for actor in actors {
            let state_id = self.state(actor)?;
            let request = proto::StateAuthRequest { state_id };
            let authenticator = call!(self, actor, state_auth, request)?.state_auth_secret;
            let request = proto::ExportRequest {
                state_id,
                label: "folkmoot interop".to_owned(),
                context: b"after a step".to_vec(),
                key_length: 32,
            };
            let exported = call!(self, actor, export, request)?.exported_secret;
            let (expected, expected_export) =
                first.get_or_insert_with(|| (authenticator.clone(), exported.clone()));
            same(actor, "state authenticator", &authenticator, expected)?;
            same(actor, "exported secret", &exported, expected_export)?;
        }
        Ok(())
    }

    async fn free_all(&mut self) -> Result<(), RunError> {
        let mut result = Ok(());
        for (actor, state_id) in std::mem::take(&mut self.states) {
            let freed = call!(self, &actor, free, proto::FreeRequest { state_id });
            result = result.and(freed.map(drop));
        }
        result
    }

    fn proposals(&self, steps: &[usize]) -> Result<Vec<Vec<u8>>, RunError> {
        steps
            .iter()
            .map(|step| self.kept(*step, "proposal"))
            .collect()
    }

    fn described(
        &mut self,
        list: &[Described],
    ) -> Result<Vec<proto::ProposalDescription>, RunError> {
        list.iter().map(|item| self.description(item)).collect()
    }

    fn description(&mut self, item: &Described) -> Result<proto::ProposalDescription, RunError> {
        let mut description = proto::ProposalDescription::default();
        let proposal_type = match item {
            Described::Add { key_package } => {
                description.key_package = self.kept(*key_package, "key_package")?;
                "add"
            }
            Described::Remove { removed } => {
                description.removed_id = removed.clone().into_bytes();
                "remove"
            }
            Described::ExternalPsk { psk_id } => {
                description.psk_id = self.kept(*psk_id, "psk_id")?;
                "externalPSK"
            }
            Described::ResumptionPsk { epoch_id } => {
                description.epoch_id = *epoch_id;
                "resumptionPSK"
            }
            Described::GroupContextExtensions { extensions } => {
                description.extensions = wire_extensions(extensions);
                "groupContextExtensions"
            }
            Described::Reinit {
                extensions,
                change_group_id,
                change_cipher_suite,
            } => {
                if *change_cipher_suite {
                    self.change_cipher_suite()?;
                }
                description.extensions = wire_extensions(extensions);
                description.cipher_suite = self.suite;
                description.group_id = self.next_group_id(*change_group_id)?;
                "reinit"
            }
        };
        description.proposal_type = proposal_type.into();
        Ok(description)
    }
}

fn position(ids: &BTreeMap<String, u32>, actor: &str, what: &'static str) -> Result<u32, RunError> {
    ids.get(actor)
        .copied()
        .ok_or_else(|| RunError::NotInPosition {
            actor: actor.to_owned(),
            what,
        })
}

fn same(actor: &str, what: &'static str, own: &[u8], expected: &[u8]) -> Result<(), RunError> {
    if own == expected {
        return Ok(());
    }
    Err(RunError::Differs {
        actor: actor.to_owned(),
        what,
    })
}

fn wire_extensions(extensions: &[Extension]) -> Vec<proto::Extension> {
    extensions
        .iter()
        .map(|extension| proto::Extension {
            extension_type: extension.extension_type,
            extension_data: extension.extension_data.clone(),
        })
        .collect()
}
