//! What the driver asks of us.

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::Encode;
use folkmoot_mls::component::ComponentID;
use folkmoot_mls::credential::Credential;
use folkmoot_mls::crypto::Secret;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{
    Destination, Group, GroupInfoOptions, GroupParameters, Processed, propose_join,
};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::leaf_node::Lifetime;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::psk::{ExternalPsk, PskType};
use folkmoot_mls::tree_math::LeafIndex;

use super::{Ours, at, ctx, decode, now};
use crate::peers::member::{
    Change, Committed, Event, Member, NextGroup, Peer, PeerError, Plan, RawExtension, View,
    group_context, raw_extensions,
};

impl Member for Ours {
    fn peer(&self) -> Peer {
        Peer::Ours
    }

    fn create(&mut self, group_id: &[u8], list: &[RawExtension]) -> Result<(), PeerError> {
        let parameters = GroupParameters {
            version: ProtocolVersion::MLS10,
            cipher_suite: self.suite.id(),
            group_id: group_id.into(),
            extensions: raw_extensions(list),
        };
        let leaf = self.leaf();
        let created =
            Group::create(&mut ctx!(self), parameters, &self.signer, leaf).map_err(at("create"))?;
        self.enter(created.group, created.keys, &created.changes);
        Ok(())
    }

    fn key_package(&mut self) -> Result<Vec<u8>, PeerError> {
        let lifetime = Lifetime {
            not_before: now() - 3600,
            not_after: now() + 28 * 24 * 3600,
        };
        let leaf = self.leaf();
        let extensions = Extensions::default();
        let (suite, rng) = (self.suite, &mut self.rng);
        let bundle = KeyPackage::create(suite, &self.signer, leaf, lifetime, extensions, rng)
            .map_err(at("make a KeyPackage"))?;
        let message = MlsMessage::KeyPackage(Box::new(bundle.key_package.clone()));
        self.bundle = Some(bundle);
        Ok(message.to_bytes())
    }

    fn join(&mut self, welcome: &[u8], tree: Option<&[u8]>) -> Result<(), PeerError> {
        let MlsMessage::Welcome(welcome) = decode(welcome)? else {
            return Err(at("find the Welcome")(()));
        };
        let bundle = self.bundle.take().ok_or(()).map_err(at("find its keys"))?;
        let joined = Group::join(&mut ctx!(self), &welcome, &bundle, tree).map_err(at("join"))?;
        self.enter(joined.group, joined.keys, &joined.changes);
        Ok(())
    }

    fn join_external(
        &mut self,
        group_info: &[u8],
        tree: Option<&[u8]>,
        resync: Option<u32>,
        psk: Option<&[u8]>,
    ) -> Result<Vec<u8>, PeerError> {
        let MlsMessage::GroupInfo(group_info) = decode(group_info)? else {
            return Err(at("find the GroupInfo")(()));
        };
        let mut builder = Group::join_external(*group_info, self.leaf());
        if let Some(tree) = tree {
            builder = builder.tree(tree);
        }
        if let Some(leaf) = resync {
            builder = builder.resync(LeafIndex(leaf));
        }
        if let Some(psk) = psk {
            builder = builder.psk(self.psk(PskType::External(ExternalPsk { psk_id: psk.into() })));
        }
        let pending = builder
            .build(&self.signer, &mut ctx!(self))
            .map_err(at("commit externally"))?;
        self.enter(pending.group, pending.keys, &pending.changes);
        Ok(pending.message.to_bytes())
    }

    fn propose_join(&mut self, group_info: &[u8], _tree: &[u8]) -> Result<Vec<u8>, PeerError> {
        let context = group_context(group_info).map_err(at("find a group"))?;
        let MlsMessage::KeyPackage(key_package) = decode(&self.key_package()?)? else {
            return Err(at("find its own KeyPackage")(()));
        };
        let (to, signer) = (Destination::from(&context), &self.signer);
        propose_join(&ctx!(self), &to, signer, *key_package, b"")
            .map(|message| message.to_bytes())
            .map_err(at("propose to join"))
    }

    fn add_psk(&mut self, id: &[u8], secret: &[u8]) -> Result<(), PeerError> {
        self.psks
            .external
            .insert(id.into(), Secret::from(secret.to_vec()));
        Ok(())
    }

    fn propose(&mut self, change: &Change) -> Result<Vec<u8>, PeerError> {
        let wire_format = self.wire_format();
        let proposal = match change {
            Change::Update => None,
            change => Some(self.proposal(change)?),
        };
        let joined = self
            .joined
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let (group, keys) = (&joined.group, &mut joined.keys);
        let (signer, ctx) = (&self.signer, &mut ctx!(self));
        let proposed = match proposal {
            None => group.propose_update(keys, signer, None, b"", wire_format, ctx),
            Some(proposal) => group.propose(keys, signer, proposal, b"", wire_format, ctx),
        }
        .map_err(at("propose"))?;
        joined.records.apply(&proposed.changes);
        joined.group = proposed.group;
        Ok(proposed.message.to_bytes())
    }

    fn commit(&mut self, plan: &Plan) -> Result<Committed, PeerError> {
        let (wire_format, padding) = (self.wire_format(), self.padding());
        let mut proposals = Vec::new();
        for change in &plan.changes {
            proposals.push(self.proposal(change)?);
        }
        self.next_signer = plan
            .new_signature_key
            .then(|| self.suite.signature_key_pair(&mut self.rng));
        let joined = self
            .joined
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let mut builder = joined
            .group
            .commit()
            .wire_format(wire_format)
            .padding(padding)
            .authenticated_data(plan.authenticated_data.as_slice())
            .tree_in_welcome(!plan.tree_apart);
        for proposal in proposals {
            builder = builder.proposal(proposal);
        }
        if plan.without_path {
            builder = builder.without_path();
        }
        if let Some(next_signer) = &self.next_signer {
            builder = builder.signature_key(next_signer.clone());
        }
        let pending = builder
            .build(&mut joined.keys, &self.signer, &mut ctx!(self))
            .map_err(at("commit"))?;
        joined.records.apply(&pending.sent);
        let committed = Committed {
            commit: pending.message.to_bytes(),
            welcome: pending
                .welcome
                .clone()
                .map(|welcome| MlsMessage::Welcome(welcome).to_bytes()),
        };
        self.pending = Some(pending);
        Ok(committed)
    }

    fn merge(&mut self) -> Result<(), PeerError> {
        let pending = self
            .pending
            .take()
            .ok_or(())
            .map_err(at("find its commit"))?;
        if let Some(joined) = &mut self.joined {
            joined.records.apply(&joined.group.proposals_deletion());
        }
        if let Some(next_signer) = self.next_signer.take() {
            self.signer = next_signer;
        }
        self.advance(pending.group, pending.keys, &pending.changes);
        Ok(())
    }

    fn discard(&mut self) -> Result<(), PeerError> {
        self.pending = None;
        self.next_signer = None;
        Ok(())
    }

    fn process(&mut self, message: &[u8]) -> Result<Event, PeerError> {
        let message: MlsMessage = decode(message)?;
        let joined = self
            .joined
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        // Application messages of past epochs.
        if let MlsMessage::PrivateMessage(private) = &message
            && private.epoch != joined.group.epoch()
            && let Some(keys) = joined.past.iter_mut().find(|k| k.epoch() == private.epoch)
        {
            let (decrypted, changes) = keys.decrypt(private).map_err(at("decrypt"))?;
            joined.records.apply(&changes);
            return Ok(Event::Application {
                sender: decrypted.sender.0,
                data: decrypted.data.to_vec(),
                authenticated_data: decrypted.authenticated_data.to_vec(),
            });
        }
        let processed = joined
            .group
            .process(&mut joined.keys, &message, &mut ctx!(self))
            .map_err(at("process"))?;
        match processed {
            Processed::Application {
                sender,
                authenticated_data,
                data,
                changes,
            } => {
                joined.records.apply(&changes);
                Ok(Event::Application {
                    sender: sender.0,
                    data: data.to_vec(),
                    authenticated_data: authenticated_data.to_vec(),
                })
            }
            Processed::Proposal { group, changes, .. } => {
                joined.records.apply(&changes);
                joined.group = group;
                Ok(Event::Proposal)
            }
            Processed::Commit {
                group,
                keys,
                changes,
                ..
            } => {
                self.advance(group, keys, &changes);
                Ok(Event::Commit)
            }
            Processed::Removed { .. } => {
                self.joined = None;
                Ok(Event::Removed)
            }
            other => Err(at("understand")(other)),
        }
    }

    fn encrypt(&mut self, data: &[u8], authenticated_data: &[u8]) -> Result<Vec<u8>, PeerError> {
        let padding = self.padding();
        let joined = self
            .joined
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let (message, changes) = joined
            .keys
            .encrypt(
                &self.signer,
                authenticated_data,
                data,
                padding,
                &mut self.rng,
            )
            .map_err(at("encrypt"))?;
        joined.records.apply(&changes);
        Ok(MlsMessage::PrivateMessage(message).to_bytes())
    }

    fn group_info(&mut self, with_tree: bool) -> Result<Vec<u8>, PeerError> {
        let group_info = self
            .joined()?
            .group
            .group_info(
                &self.signer,
                GroupInfoOptions {
                    ratchet_tree: with_tree,
                    external_pub: true,
                    ..GroupInfoOptions::default()
                },
            )
            .map_err(at("make a GroupInfo"))?;
        Ok(MlsMessage::GroupInfo(Box::new(group_info)).to_bytes())
    }

    fn tree(&self) -> Result<Vec<u8>, PeerError> {
        Ok(self.joined()?.group.tree_bytes())
    }

    fn view(&self) -> Result<View, PeerError> {
        let group = &self.joined()?.group;
        let members = group
            .members()
            .map(|(leaf, node)| {
                let identity = match node.credential {
                    Credential::Basic { identity } => identity.to_vec(),
                    other => other.to_bytes(),
                };
                (leaf.0, identity, node.signature_key.to_vec())
            })
            .collect();
        let exported = group
            .exporter("interop", b"context", 42)
            .map_err(at("export"))?;
        let context = group.group_context().to_bytes();
        let authenticator = group.epoch_authenticator().to_vec();
        View::new(context, members, authenticator, exported.to_vec())
            .map_err(at("read its own GroupContext"))
    }

    fn own_leaf(&self) -> u32 {
        self.joined
            .as_ref()
            .map_or(u32::MAX, |j| j.group.own_index().0)
    }

    fn signature_key(&self) -> Vec<u8> {
        self.signer.public_key().to_vec()
    }

    fn restart(&mut self) -> Result<(), PeerError> {
        let joined = self
            .joined
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let provider = self.provider;
        let group = Group::load(provider, &joined.records).map_err(at("load"))?;
        joined.keys = group
            .load_keys(provider, group.epoch(), &joined.records)
            .map_err(at("load keys"))?;
        for past in &mut joined.past {
            *past = group
                .load_keys(provider, past.epoch(), &joined.records)
                .map_err(at("load keys of a past epoch"))?;
        }
        joined.group = group;
        Ok(())
    }

    fn safe_export(&mut self, component: u16) -> Result<Vec<u8>, PeerError> {
        let joined = self
            .joined
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let (secret, changes) = joined
            .keys
            .safe_export(ComponentID(component))
            .map_err(at("export safely"))?;
        joined.records.apply(&changes);
        Ok(secret.to_vec())
    }

    fn successor_key_package(
        &mut self,
        next: &NextGroup,
        branch: bool,
    ) -> Result<Vec<u8>, PeerError> {
        if !branch {
            self.renew(next.suite)?;
        }
        self.key_package()
    }

    fn start_successor(
        &mut self,
        next: &NextGroup,
        branch: bool,
        key_packages: &[Vec<u8>],
    ) -> Result<Vec<u8>, PeerError> {
        let predecessor = self.joined()?.group.clone();
        let mut builder = if branch {
            predecessor
                .branch(next.group_id.as_slice())
                .map_err(at("branch"))?
                .extensions(raw_extensions(&next.extensions))
        } else {
            self.renew(next.suite)?;
            predecessor
                .successor()
                .map_err(at("leave a closed group"))?
        };
        for key_package in key_packages {
            builder = match decode(key_package)? {
                MlsMessage::KeyPackage(key_package) => builder.add(*key_package),
                other => return Err(at("find the KeyPackage")(other)),
            };
        }
        let leaf = self.leaf();
        let successor = builder
            .wire_format(self.wire_format())
            .build(&self.signer, leaf, &mut ctx!(self))
            .map_err(at("start the next group"))?;
        self.enter(
            successor.created.group,
            successor.created.keys,
            &successor.created.changes,
        );
        let pending = successor.pending;
        let welcome = pending.welcome.ok_or(()).map_err(at("make a Welcome"))?;
        self.advance(pending.group, pending.keys, &pending.changes);
        Ok(MlsMessage::Welcome(welcome).to_bytes())
    }

    fn join_successor(&mut self, _branch: bool, welcome: &[u8]) -> Result<(), PeerError> {
        let MlsMessage::Welcome(welcome) = decode(welcome)? else {
            return Err(at("find the Welcome")(()));
        };
        let predecessor = self.joined()?.group.clone();
        let bundle = self.bundle.take().ok_or(()).map_err(at("find its keys"))?;
        let ctx = &mut ctx!(self);
        let joined = Group::join_successor(ctx, &welcome, &bundle, None, &predecessor)
            .map_err(at("join the next group"))?;
        self.enter(joined.group, joined.keys, &joined.changes);
        Ok(())
    }
}
