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
use folkmoot_mls::node::{Node, ParentNode, RatchetTree};
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

/// A ratchet tree as an array of 2^(d+1) - 1 nodes (RFC 9420, appendix C).
#[derive(Clone)]
pub struct Nodes(pub Vec<Option<Node>>);

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

impl Nodes {
    pub fn of(bytes: &[u8]) -> Self {
        let mut nodes = RatchetTree::from_bytes(bytes).unwrap().0;
        let width = (nodes.len() + 1).next_power_of_two() - 1;
        nodes.resize(width, None);
        Self(nodes)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let last = self.0.iter().rposition(Option::is_some).unwrap();
        RatchetTree(self.0[..=last].to_vec()).to_bytes()
    }

    fn depth(&self) -> u32 {
        (self.0.len() + 1).trailing_zeros() - 1
    }

    pub fn get(&self, node: NodeIndex) -> Option<&Node> {
        self.0.get(node.0 as usize)?.as_ref()
    }

    pub fn leaf(&self, leaf: LeafIndex) -> Option<&LeafNode> {
        match self.get(NodeIndex(leaf.0.checked_mul(2)?))? {
            Node::Leaf(leaf) => Some(leaf),
            Node::Parent(_) => None,
        }
    }

    pub fn set(&mut self, node: NodeIndex, content: Option<Node>) {
        self.0[node.0 as usize] = content;
    }

    pub fn edit_parent(&mut self, node: NodeIndex, edit: impl FnOnce(&mut ParentNode)) {
        let Some(Node::Parent(parent)) = &mut self.0[node.0 as usize] else {
            panic!("node {} is no parent", node.0)
        };
        edit(parent);
    }

    pub fn edit_leaf(&mut self, leaf: LeafIndex, edit: impl FnOnce(&mut LeafNode)) {
        let Some(Node::Leaf(leaf)) = &mut self.0[leaf.0 as usize * 2] else {
            panic!("nobody is at leaf {leaf}")
        };
        edit(leaf);
    }

    fn direct_path(&self, leaf: LeafIndex) -> Vec<NodeIndex> {
        NodeIndex(leaf.0 * 2).direct_path(self.depth()).collect()
    }

    fn blank_path(&mut self, leaf: LeafIndex) {
        for node in self.direct_path(leaf) {
            self.set(node, None);
        }
    }

    /// Section 12.3, but that what is not valid is passed over.
    fn apply(&mut self, effects: &[(LeafIndex, Proposal)]) -> Vec<(LeafIndex, KeyPackage)> {
        for (sender, proposal) in effects {
            if let Proposal::Update(update) = proposal {
                self.set(
                    NodeIndex(sender.0 * 2),
                    Some(Node::Leaf(update.leaf_node.clone().into())),
                );
                self.blank_path(*sender);
            }
        }
        for (_, proposal) in effects {
            if let Proposal::Remove(remove) = proposal
                && self.leaf(remove.removed).is_some()
            {
                self.set(NodeIndex(remove.removed.0 * 2), None);
                self.blank_path(remove.removed);
            }
        }
        while self.depth() > 0 && self.0[self.0.len() / 2 + 1..].iter().all(Option::is_none) {
            self.0.truncate(self.0.len() / 2);
        }
        let mut added = Vec::new();
        for (_, proposal) in effects {
            if let Proposal::Add(add) = proposal {
                let leaf = self.first_blank();
                for node in self.direct_path(leaf) {
                    if self.get(node).is_some() {
                        self.edit_parent(node, |parent| {
                            parent.unmerged_leaves.push(leaf);
                            parent.unmerged_leaves.sort();
                        });
                    }
                }
                let node = Node::Leaf(add.key_package.leaf_node.clone().into());
                self.set(NodeIndex(leaf.0 * 2), Some(node));
                added.push((leaf, add.key_package.clone()));
            }
        }
        added
    }

    /// Where the next member goes; the tree grows if it has to.
    pub fn first_blank(&mut self) -> LeafIndex {
        let blank = self.0.iter().step_by(2).position(Option::is_none);
        let leaf = blank.unwrap_or_else(|| {
            let leaf = self.0.len().div_ceil(2);
            self.0.resize(self.0.len() * 2 + 1, None);
            leaf
        });
        LeafIndex(leaf as u32)
    }

    /// Section 4.1.1.
    pub fn resolution(&self, node: NodeIndex) -> Vec<NodeIndex> {
        match (self.get(node), node.left(), node.right()) {
            (Some(Node::Parent(parent)), ..) => {
                let unmerged = parent.unmerged_leaves.iter();
                [node]
                    .into_iter()
                    .chain(unmerged.map(|leaf| NodeIndex(leaf.0 * 2)))
                    .collect()
            }
            (Some(Node::Leaf(_)), ..) => vec![node],
            (None, Some(left), Some(right)) => {
                [self.resolution(left), self.resolution(right)].concat()
            }
            (None, ..) => Vec::new(),
        }
    }

    /// Section 4.1.2: nodes of the filtered direct path with their copath children.
    pub fn filtered_direct_path(&self, leaf: LeafIndex) -> Vec<(NodeIndex, NodeIndex)> {
        let mut below = NodeIndex(leaf.0 * 2);
        let mut path = Vec::new();
        for node in self.direct_path(leaf) {
            let copath = below.sibling();
            if !self.resolution(copath).is_empty() {
                path.push((node, copath));
            }
            below = node;
        }
        path
    }

    /// Section 7.8.
    pub fn tree_hash(&self, suite: &dyn Suite, node: NodeIndex) -> Bytes {
        let mut input = Vec::new();
        match (node.left(), node.right()) {
            (Some(left), Some(right)) => {
                2_u8.encode(&mut input);
                let parent = self.get(node).and_then(|node| match node {
                    Node::Parent(parent) => Some(parent.clone()),
                    Node::Leaf(_) => None,
                });
                parent.encode(&mut input);
                self.tree_hash(suite, left).encode(&mut input);
                self.tree_hash(suite, right).encode(&mut input);
            }
            _ => {
                1_u8.encode(&mut input);
                (node.0 / 2).encode(&mut input);
                self.leaf(LeafIndex(node.0 / 2)).encode(&mut input);
            }
        }
        suite.hash(&input).into()
    }

    pub fn root_hash(&self, suite: &dyn Suite) -> Bytes {
        self.tree_hash(suite, NodeIndex::root(self.depth()))
    }

    /// Section 7.9, for a parent without unmerged leaves.
    pub fn parent_hash(&self, suite: &dyn Suite, node: NodeIndex, sibling: NodeIndex) -> Bytes {
        let Some(Node::Parent(parent)) = self.get(node) else {
            panic!("node {} is no parent", node.0)
        };
        assert!(parent.unmerged_leaves.is_empty());
        let mut input = parent.encryption_key.to_bytes();
        parent.parent_hash.encode(&mut input);
        self.tree_hash(suite, sibling).encode(&mut input);
        suite.hash(&input).into()
    }

    /// Blanks a path, puts keys on the filtered one with their parent hashes, and gives the leaf's.
    fn set_path(&mut self, suite: &dyn Suite, leaf: LeafIndex, keys: &[HpkePublicKey]) -> Bytes {
        let path = self.filtered_direct_path(leaf);
        self.blank_path(leaf);
        let mut above = Bytes::default();
        for ((node, copath), key) in path.iter().zip(keys).rev() {
            let parent = ParentNode {
                encryption_key: key.clone(),
                parent_hash: above,
                unmerged_leaves: Vec::new(),
            };
            self.set(*node, Some(Node::Parent(parent.into())));
            above = self.parent_hash(suite, *node, *copath);
        }
        above
    }
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
        Vec::<Bytes>::decode(reader).unwrap();
        let mut secret = || Secret::decode(reader).unwrap();
        let [_exporter, external_secret, membership_key] = [secret(), secret(), secret()];
        let [_resumption, _authenticator, init_secret] = [secret(), secret(), secret()];
        let keys = record(RecordKind::MessageKeys);
        let mut reader = Reader::new(&keys[1..]);
        assert_eq!(GroupContext::decode(&mut reader).unwrap(), context);
        u32::decode(&mut reader).unwrap();
        u8::decode(&mut reader).unwrap();
        let sender_data_secret = Secret::decode(&mut reader).unwrap();
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
        let external_pub = external_key_pair(self.suite, &self.external_secret).public_key;
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
            let mut secret = suite.derive_secret(&leaf_key.private_key, "of the insider");
            let (mut secrets, mut keys) = (Vec::new(), Vec::new());
            for (node, _) in &steps {
                keys.push(node_key_pair(suite, &secret).public_key);
                path_secrets.insert(*node, secret.clone());
                secrets.push(secret.clone());
                secret = suite.derive_secret(&secret, "path");
            }
            commit_secret = secret;
            (plan.edit_keys)(&mut keys);
            (plan.edit_path_secrets)(&mut secrets);
            let parent_hash = next.nodes.set_path(suite, own, &keys);
            let mut leaf = old_leaf.clone().unwrap();
            leaf.encryption_key = leaf_key.public_key;
            leaf.signature_key = plan.leaf_signer.public_key.clone();
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

pub fn encryption_key(node: &Node) -> &HpkePublicKey {
    match node {
        Node::Leaf(leaf) => &leaf.encryption_key,
        Node::Parent(parent) => &parent.encryption_key,
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
