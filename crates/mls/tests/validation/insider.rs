//! A member who keeps to no rule: it knows all that a member knows, makes its messages from the
//! primitives alone, and gets everything right but what a test has it get wrong. Written from the RFC
//! without the engine's groups and trees, so it is a second opinion on them too.

use std::collections::BTreeMap;

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::{Bytes, Decode, Encode, Reader};
use folkmoot_mls::commit::{Commit, HpkeCiphertext, UpdatePath, UpdatePathNode};
use folkmoot_mls::crypto::{HpkeKeyPair, HpkePublicKey, Secret, SignatureKeyPair, Suite};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::framing::{
    AuthenticatedContent, Content, ContentType, FramedContent, PrivateMessage, PublicMessage,
    Sender, SenderData, sender_data_key,
};
use folkmoot_mls::group_context::GroupContext;
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::key_schedule::{
    EpochSecrets, external_init, external_key_pair, joiner_secret, member_secret,
};
use folkmoot_mls::leaf_node::{LeafNode, LeafNodeSource, LeafPosition};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::node::Node;
use folkmoot_mls::proposal::{ExternalInit, Proposal, ProposalOrRef};
use folkmoot_mls::psk::{PreSharedKeyID, psk_secret};
use folkmoot_mls::ratchet::{MessageKey, Ratchet, RatchetKind};
use folkmoot_mls::records::{RecordKey, RecordKind, Records};
use folkmoot_mls::secret_tree::SecretTree;
use folkmoot_mls::transcript::{
    confirmation_tag, confirmed_transcript_hash, interim_transcript_hash,
};
use folkmoot_mls::tree_math::{LeafIndex, NodeIndex};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::group_harness::{Client, suite};
pub use crate::nodes::{Nodes, encryption_key};

/// What a member knows in one epoch.
#[derive(Clone)]
pub struct Insider {
    pub suite: &'static dyn Suite,
    pub context: GroupContext,
    pub nodes: Nodes,
    pub own: LeafIndex,
    pub signer: SignatureKeyPair,
    pub interim_transcript_hash: Bytes,
    pub confirmation_tag: Bytes,
    pub membership_key: Secret,
    pub external_secret: Secret,
    pub init_secret: Secret,
    pub sender_data_secret: Secret,
    /// The root of the secret tree, if nothing was sent yet in the epoch.
    pub encryption_secret: Option<Secret>,
    pub rng: ChaCha20Rng,
}

type Edit<'a, T> = Box<dyn Fn(&mut T) + 'a>;

/// A commit that an insider makes. What is not changed is right.
pub struct Plan<'a> {
    pub sender: Sender,
    pub proposals: Vec<ProposalOrRef>,
    /// What the proposals do, and who made them.
    pub effects: Vec<(LeafIndex, Proposal)>,
    pub psks: Vec<Secret>,
    pub path: bool,
    pub wire_format: WireFormat,
    /// Who signs the leaf of the path, and is in it.
    pub leaf_signer: SignatureKeyPair,
    /// Who signs the message.
    pub signer: SignatureKeyPair,
    /// In place of the last epoch's.
    pub init_secret: Option<Secret>,
    /// In place of the committer's leaf, for an external commit.
    pub leaf: Option<LeafNode>,
    pub edit_leaf: Edit<'a, LeafNode>,
    pub edit_signed_leaf: Edit<'a, LeafNode>,
    pub edit_keys: Edit<'a, Vec<HpkePublicKey>>,
    /// What is encrypted, by the place of its node in the path.
    pub edit_path_secrets: Edit<'a, Vec<Secret>>,
    pub edit_path: Edit<'a, UpdatePath>,
    pub edit_content: Edit<'a, FramedContent>,
    pub edit_tag: Edit<'a, Bytes>,
}

/// What came of a plan.
pub struct Forged {
    pub content: AuthenticatedContent,
    /// The insider in the next epoch.
    pub next: Insider,
    pub joiner_secret: Secret,
    pub path_secrets: BTreeMap<NodeIndex, Secret>,
    pub added: Vec<(LeafIndex, KeyPackage)>,
    pub psks: Vec<PreSharedKeyID>,
}

fn node_key_pair(suite: &dyn Suite, path_secret: &Secret) -> HpkeKeyPair {
    suite.kem_derive_key_pair(&suite.derive_secret(path_secret, "node"))
}

impl Insider {
    /// What this client knows, from what it stored.
    pub fn of(client: &Client) -> Self {
        // The last of its kind: keys end with the epoch.
        let record = |kind: RecordKind| {
            let records = &client.member().records;
            let of_kind = records
                .iter()
                .filter(|(key, _)| key.as_slice()[0] == kind as u8);
            let (_, value) = of_kind.last().unwrap();
            value.to_vec()
        };
        let group = record(RecordKind::Group);
        // The version, then the fields as far as they are of use here.
        let mut reader = Reader::new(&group[1..]);
        let reader = &mut reader;
        let context = GroupContext::decode(reader).unwrap();
        let confirmation_tag = Bytes::decode(reader).unwrap();
        let interim_transcript_hash = Bytes::decode(reader).unwrap();
        u8::decode(reader).unwrap();
        u32::decode(reader).unwrap();
        let mut secret = || Secret::decode(reader).unwrap();
        let _exporter_resumption_and_authenticator = [(); 3].map(|()| secret());
        assert_eq!(u8::decode(reader), Ok(1), "the group goes on");
        let mut secret = || Secret::decode(reader).unwrap();
        let [external_secret, membership_key, init_secret] = [(); 3].map(|()| secret());
        let keys = record(RecordKind::MessageKeys);
        let mut reader = Reader::new(&keys[1..]);
        assert_eq!(GroupContext::decode(&mut reader).unwrap(), context);
        u32::decode(&mut reader).unwrap();
        u8::decode(&mut reader).unwrap();
        let sender_data_secret = Option::<Secret>::decode(&mut reader).unwrap().unwrap();
        let root = RecordKey::new(RecordKind::SecretTreeNode, &(context.epoch, 1_u32));
        let root = client.member().records.get(&root);
        let encryption_secret = root.map(|value| Secret::from_bytes(&value[1..]).unwrap());
        let group = client.group();
        assert_eq!(*group.group_context(), context);
        Self {
            suite: suite(context.cipher_suite),
            nodes: Nodes::of(&group.tree_bytes()),
            own: group.own_index(),
            signer: client.signer.clone(),
            context,
            interim_transcript_hash,
            confirmation_tag,
            membership_key,
            external_secret,
            init_secret,
            sender_data_secret,
            encryption_secret,
            rng: ChaCha20Rng::seed_from_u64(9420 + u64::from(group.own_index().0)),
        }
    }

    pub fn position(&self) -> LeafPosition<'_> {
        LeafPosition {
            group_id: &self.context.group_id,
            leaf_index: self.own,
        }
    }

    /// Content of ours in this epoch.
    pub fn content(&self, content: Content) -> FramedContent {
        FramedContent {
            group_id: self.context.group_id.clone(),
            epoch: self.context.epoch,
            sender: Sender::Member(self.own),
            authenticated_data: Bytes::default(),
            content,
        }
    }

    /// A plan for a commit of these proposals by value, with a path.
    pub fn plan<'a>(&self, proposals: Vec<Proposal>) -> Plan<'a> {
        let mut plan = Plan {
            sender: Sender::Member(self.own),
            proposals: Vec::new(),
            effects: Vec::new(),
            psks: Vec::new(),
            path: true,
            wire_format: WireFormat::PRIVATE_MESSAGE,
            leaf_signer: self.signer.clone(),
            signer: self.signer.clone(),
            init_secret: None,
            leaf: None,
            edit_leaf: Box::new(|_| {}),
            edit_signed_leaf: Box::new(|_| {}),
            edit_keys: Box::new(|_| {}),
            edit_path_secrets: Box::new(|_| {}),
            edit_path: Box::new(|_| {}),
            edit_content: Box::new(|_| {}),
            edit_tag: Box::new(|_| {}),
        };
        for proposal in proposals {
            plan.effects.push((self.own, proposal.clone()));
            plan.proposals
                .push(ProposalOrRef::Proposal(Box::new(proposal)));
        }
        plan
    }

    /// A plan for an external commit by this client, with an ExternalInit in front of the proposals.
    pub fn external_plan<'a>(
        &self,
        client: &Client,
        package: &KeyPackage,
        proposals: Vec<Proposal>,
    ) -> Plan<'a> {
        let external_pub = external_key_pair(self.suite, &self.external_secret)
            .public_key()
            .clone();
        let mut rng = client.rng.clone();
        let (kem_output, init_secret) = external_init(self.suite, &external_pub, &mut rng).unwrap();
        let init = Proposal::ExternalInit(ExternalInit { kem_output });
        let mut plan = self.plan([vec![init], proposals].concat());
        plan.sender = Sender::NewMemberCommit;
        plan.wire_format = WireFormat::PUBLIC_MESSAGE;
        plan.signer = client.signer.clone();
        plan.leaf_signer = client.signer.clone();
        plan.leaf = Some(package.leaf_node.clone());
        plan.init_secret = Some(init_secret);
        plan
    }

    /// Makes the commit.
    pub fn commit(&self, plan: &Plan<'_>) -> Forged {
        let suite = self.suite;
        let mut rng = self.rng.clone();
        let mut next = self.clone();
        let old_leaf = self.nodes.leaf(self.own);
        let old_leaf = plan.leaf.as_ref().or(old_leaf).cloned();
        let added = next.nodes.apply(&plan.effects);
        if plan.sender == Sender::NewMemberCommit {
            next.own = next.nodes.first_blank();
        }
        let own = next.own;
        let position = LeafPosition {
            group_id: &self.context.group_id,
            leaf_index: own,
        };
        let mut provisional = self.context.clone();
        provisional.epoch += 1;
        let mut psks = Vec::new();
        for (_, proposal) in &plan.effects {
            match proposal {
                Proposal::GroupContextExtensions(new) => {
                    provisional.extensions = new.extensions.clone();
                }
                Proposal::PreSharedKey(psk) => psks.push(psk.psk.clone()),
                _ => {}
            }
        }
        let mut commit_secret = Secret::zero(suite.hash_length());
        let mut path_secrets = BTreeMap::new();
        let path = plan.path.then(|| {
            let leaf_key = suite.kem_key_pair(&mut rng);
            let steps = next.nodes.filtered_direct_path(own);
            let mut secret = suite.derive_secret(leaf_key.private_key(), "of the insider");
            let (mut secrets, mut keys) = (Vec::new(), Vec::new());
            for (node, _) in &steps {
                keys.push(node_key_pair(suite, &secret).public_key().clone());
                path_secrets.insert(*node, secret.clone());
                secrets.push(secret.clone());
                secret = suite.derive_secret(&secret, "path");
            }
            commit_secret = secret;
            (plan.edit_keys)(&mut keys);
            (plan.edit_path_secrets)(&mut secrets);
            let parent_hash = next.nodes.set_path(suite, own, &keys);
            let mut leaf = old_leaf.clone().unwrap();
            leaf.encryption_key = leaf_key.public_key().clone();
            leaf.signature_key = plan.leaf_signer.public_key().clone();
            leaf.leaf_node_source = LeafNodeSource::Commit(parent_hash);
            (plan.edit_leaf)(&mut leaf);
            let mut leaf = sign_leaf(suite, &plan.leaf_signer, leaf, position);
            (plan.edit_signed_leaf)(&mut leaf);
            let place = NodeIndex(own.0 * 2);
            next.nodes.set(place, Some(Node::Leaf(leaf.clone().into())));
            provisional.tree_hash = next.nodes.root_hash(suite);
            let mut nodes = Vec::new();
            for (((_, copath), key), secret) in steps.iter().zip(&keys).zip(&secrets) {
                let mut to = next.nodes.resolution(*copath);
                to.retain(|node| !added.iter().any(|(leaf, _)| leaf.0 * 2 == node.0));
                let seal = |node: &NodeIndex| {
                    let key = encryption_key(next.nodes.get(*node).unwrap());
                    let (label, info) = ("UpdatePathNode", provisional.to_bytes());
                    let mut rng = ChaCha20Rng::seed_from_u64(node.0.into());
                    // Nothing can be encrypted to a key that is none.
                    suite
                        .encrypt_with_label(key, label, &info, secret, &mut rng)
                        .unwrap_or_else(|_| HpkeCiphertext {
                            kem_output: Bytes::from([0; 32]),
                            ciphertext: Bytes::from([0; 48]),
                        })
                };
                nodes.push(UpdatePathNode {
                    encryption_key: key.clone(),
                    encrypted_path_secret: to.iter().map(seal).collect(),
                });
            }
            let leaf_node = leaf;
            let mut path = UpdatePath { leaf_node, nodes };
            (plan.edit_path)(&mut path);
            path
        });
        provisional.tree_hash = next.nodes.root_hash(suite);
        let proposals = plan.proposals.clone();
        let commit = Content::Commit(Box::new(Commit { proposals, path }));
        let mut content = self.content(commit);
        content.sender = plan.sender;
        (plan.edit_content)(&mut content);
        let mut content = AuthenticatedContent::sign(
            suite,
            &plan.signer,
            plan.wire_format,
            content,
            &self.context,
        )
        .unwrap();
        let confirmed = confirmed_transcript_hash(suite, &self.interim_transcript_hash, &content);
        next.context = GroupContext {
            confirmed_transcript_hash: confirmed.into(),
            ..provisional
        };
        let pairs: Vec<_> = psks
            .iter()
            .cloned()
            .zip(plan.psks.iter().cloned())
            .collect();
        let psk_secret = psk_secret(suite, &pairs).unwrap();
        let init_secret = plan.init_secret.as_ref().unwrap_or(&self.init_secret);
        let joiner_secret = joiner_secret(suite, init_secret, &commit_secret, &next.context);
        let member_secret = member_secret(suite, &joiner_secret, &psk_secret);
        next.enter(&member_secret);
        let mut tag = next.confirmation_tag.clone();
        (plan.edit_tag)(&mut tag);
        content.auth.confirmation_tag = Some(tag);
        Forged {
            content,
            next,
            joiner_secret,
            path_secrets,
            added,
            psks,
        }
    }

    /// Derives an epoch's secrets once its context is there.
    pub fn enter(&mut self, member_secret: &Secret) {
        let secrets = EpochSecrets::derive(self.suite, member_secret, &self.context);
        let confirmed = &self.context.confirmed_transcript_hash;
        let tag = confirmation_tag(self.suite, &secrets.confirmation_key, confirmed);
        self.interim_transcript_hash = interim_transcript_hash(self.suite, confirmed, &tag).into();
        self.confirmation_tag = tag;
        self.membership_key = secrets.membership_key;
        self.external_secret = secrets.external_secret;
        self.init_secret = secrets.init_secret;
        self.sender_data_secret = secrets.sender_data_secret;
        self.encryption_secret = Some(secrets.encryption_secret);
    }

    /// Signs content, and frames it as a PublicMessage with a membership tag.
    pub fn public(&self, content: FramedContent) -> PublicMessage {
        let format = WireFormat::PUBLIC_MESSAGE;
        let signed =
            AuthenticatedContent::sign(self.suite, &self.signer, format, content, &self.context);
        self.tagged(signed.unwrap())
    }

    /// A PublicMessage of signed content, with a membership tag if a member sends it.
    pub fn tagged(&self, signed: AuthenticatedContent) -> PublicMessage {
        let mut tbm = signed.tbs(&self.context);
        signed.auth.encode(&mut tbm);
        let tag = self.suite.mac(&self.membership_key, &tbm);
        let membership_tag = matches!(signed.content.sender, Sender::Member(_)).then_some(tag);
        PublicMessage {
            content: signed.content,
            auth: signed.auth,
            membership_tag,
        }
    }

    /// The first key of somebody's ratchet.
    pub fn message_key(&self, of: LeafIndex, kind: RatchetKind, generation: u32) -> MessageKey {
        let root = self.encryption_secret.clone().unwrap();
        let leaves = self.nodes.0.len().div_ceil(2) as u32;
        let leaf = SecretTree::with_leaves(root, leaves)
            .leaf(self.suite, of.0)
            .unwrap();
        let ratchet = Ratchet::new(self.suite, kind, of, &leaf);
        ratchet.key(self.suite, generation).unwrap()
    }

    /// Signs content by any key, to be encrypted under the first key of its sender.
    pub fn sealed(&self, signer: &SignatureKeyPair, content: FramedContent) -> Sealed {
        let Sender::Member(leaf_index) = content.sender else {
            panic!("only members encrypt")
        };
        let content_type = content.content.content_type();
        let key = self.message_key(leaf_index, content_type.into(), 0);
        let authenticated_data = content.authenticated_data.clone();
        let format = WireFormat::PRIVATE_MESSAGE;
        let signed =
            AuthenticatedContent::sign(self.suite, signer, format, content, &self.context).unwrap();
        let mut plaintext = match &signed.content.content {
            Content::Application(data) => data.to_bytes(),
            Content::Proposal(proposal) => proposal.to_bytes(),
            Content::Commit(commit) => commit.to_bytes(),
        };
        signed.auth.encode(&mut plaintext);
        let sender_data = SenderData {
            leaf_index,
            generation: 0,
            reuse_guard: [1, 2, 3, 4],
        };
        Sealed {
            sender_data,
            key,
            content_type,
            authenticated_data,
            plaintext,
        }
    }
}

/// A PrivateMessage made by hand.
pub struct Sealed {
    pub sender_data: SenderData,
    pub key: MessageKey,
    pub content_type: ContentType,
    pub authenticated_data: Bytes,
    /// The PrivateMessageContent, padding and all.
    pub plaintext: Vec<u8>,
}

impl Sealed {
    /// Section 6.3.
    pub fn message(&self, insider: &Insider) -> MlsMessage {
        let suite = insider.suite;
        let mut message = PrivateMessage {
            group_id: insider.context.group_id.clone(),
            epoch: insider.context.epoch,
            content_type: self.content_type,
            authenticated_data: self.authenticated_data.clone(),
            encrypted_sender_data: Bytes::default(),
            ciphertext: Bytes::default(),
        };
        let mut aad = message.group_id.to_bytes();
        message.epoch.encode(&mut aad);
        message.content_type.encode(&mut aad);
        let sender_data_aad = aad.clone();
        message.authenticated_data.encode(&mut aad);
        let mut nonce = self.key.nonce.to_vec();
        let guard = self.sender_data.reuse_guard;
        nonce.iter_mut().zip(guard).for_each(|(n, g)| *n ^= g);
        let ciphertext = suite.aead_seal(&self.key.key, &nonce, &aad, &self.plaintext);
        let (key, nonce) = sender_data_key(suite, &insider.sender_data_secret, &ciphertext);
        let sender_data = self.sender_data.to_bytes();
        message.encrypted_sender_data = suite
            .aead_seal(&key, &nonce, &sender_data_aad, &sender_data)
            .into();
        message.ciphertext = ciphertext.into();
        MlsMessage::PrivateMessage(message)
    }
}

impl Forged {
    /// As a PublicMessage.
    pub fn public(&self, before: &Insider) -> MlsMessage {
        MlsMessage::PublicMessage(Box::new(before.tagged(self.content.clone())))
    }

    /// As a PrivateMessage under the client's next key.
    pub fn private(&self, client: &mut Client) -> MlsMessage {
        let keys = &mut client.member.as_mut().unwrap().keys;
        let message = keys.protect(&self.content, 0, &mut client.rng).unwrap().0;
        MlsMessage::PrivateMessage(message)
    }
}

/// Signs a leaf as it stands, whatever it says.
pub fn sign_leaf(
    suite: &dyn Suite,
    signer: &SignatureKeyPair,
    mut leaf: LeafNode,
    position: LeafPosition<'_>,
) -> LeafNode {
    let tbs = leaf.tbs(&leaf.to_bytes(), Some(position));
    leaf.signature = suite.sign_with_label(signer, "LeafNodeTBS", &tbs).unwrap();
    leaf
}

/// Extensions of a kind that nobody knows.
pub fn unknown_extension() -> Extensions {
    let mut extensions = Extensions::default();
    extensions.set_data(folkmoot_mls::extension::ExtensionType(0xf00d), vec![1]);
    extensions
}
