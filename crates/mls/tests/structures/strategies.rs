//! Any value of every structure. Values need not make sense to a group, only have a form that can be
//! written.

use folkmoot_mls::capabilities::Capabilities;
use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::commit::{Commit, HpkeCiphertext, UpdatePath, UpdatePathNode};
use folkmoot_mls::component::{
    AppAck, AppDataDictionary, ApplicationFraming, ComponentID, MediaType, MediaTypeList, SafeAAD,
};
use folkmoot_mls::credential::{Certificate, Credential, CredentialType};
use folkmoot_mls::crypto::{CipherSuite, HpkePublicKey, Secret, SignaturePublicKey};
use folkmoot_mls::extension::{
    Extension, ExtensionType, Extensions, ExternalSender, ExternalSenders, RequiredCapabilities,
};
use folkmoot_mls::framing::{
    AuthenticatedContent, Content, ContentType, FramedContent, FramedContentAuthData,
    PrivateMessage, PublicMessage, Sender, SenderData,
};
use folkmoot_mls::group_context::GroupContext;
use folkmoot_mls::group_info::GroupInfo;
use folkmoot_mls::key_package::{KeyPackage, KeyPackageBundle};
use folkmoot_mls::leaf_node::{LeafNode, LeafNodeSource, Lifetime};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::node::{Node, ParentNode, RatchetTree};
use folkmoot_mls::proposal::{
    Add, ExternalInit, GroupContextExtensions, PreSharedKey, Proposal, ProposalOrRef, ProposalType,
    ReInit, Remove, Update,
};
use folkmoot_mls::psk::{
    ApplicationPsk, ExternalPsk, PreSharedKeyID, PskType, ResumptionPSKUsage, ResumptionPsk,
};
use folkmoot_mls::records::{Changes, RecordKey, RecordKind};
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::welcome::{EncryptedGroupSecrets, GroupSecrets, PathSecret, Welcome};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Short bytes, and sometimes so many that their length takes two bytes.
fn bytes() -> impl Strategy<Value = Bytes> {
    let length = prop_oneof![8 => 0..40_usize, 1 => 60..70_usize];
    length
        .prop_flat_map(|length| vec(any::<u8>(), length))
        .prop_map(Bytes::from)
}

fn secret() -> impl Strategy<Value = Secret> {
    vec(any::<u8>(), 0..40).prop_map(Secret::from)
}

fn hpke_key() -> impl Strategy<Value = HpkePublicKey> {
    bytes().prop_map(HpkePublicKey)
}

fn signature_key() -> impl Strategy<Value = SignaturePublicKey> {
    bytes().prop_map(SignaturePublicKey)
}

fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![
        Just(ProtocolVersion::MLS10),
        any::<u16>().prop_map(ProtocolVersion)
    ]
}

fn cipher_suite() -> impl Strategy<Value = CipherSuite> {
    (0..9_u16).prop_map(CipherSuite)
}

fn extension_type() -> impl Strategy<Value = ExtensionType> {
    prop_oneof![
        (0..8_u16).prop_map(ExtensionType),
        any::<u16>().prop_map(ExtensionType)
    ]
}

fn proposal_type() -> impl Strategy<Value = ProposalType> {
    any::<u16>().prop_map(ProposalType)
}

fn credential_type() -> impl Strategy<Value = CredentialType> {
    prop_oneof![
        (0..4_u16).prop_map(CredentialType),
        any::<u16>().prop_map(CredentialType)
    ]
}

fn leaf_index() -> impl Strategy<Value = LeafIndex> {
    any::<u32>().prop_map(LeafIndex)
}

pub fn extensions() -> BoxedStrategy<Extensions> {
    let extension =
        (extension_type(), bytes()).prop_map(|(extension_type, extension_data)| Extension {
            extension_type,
            extension_data,
        });
    vec(extension, 0..4)
        .prop_map(|extensions| extensions.into_iter().collect())
        .boxed()
}

pub fn credential() -> BoxedStrategy<Credential> {
    let certificate = bytes().prop_map(|cert_data| Certificate { cert_data });
    prop_oneof![
        bytes().prop_map(|identity| Credential::Basic { identity }),
        vec(certificate, 0..3).prop_map(|certificates| Credential::X509 { certificates }),
        (3..=u16::MAX, bytes()).prop_map(|(number, data)| {
            Credential::Custom {
                credential_type: CredentialType(number),
                data,
            }
        }),
    ]
    .boxed()
}

pub fn capabilities() -> BoxedStrategy<Capabilities> {
    let lists = (
        vec(version(), 0..3),
        vec(cipher_suite(), 0..4),
        vec(extension_type(), 0..4),
        vec(proposal_type(), 0..4),
        vec(credential_type(), 0..4),
    );
    lists
        .prop_map(
            |(versions, cipher_suites, extensions, proposals, credentials)| Capabilities {
                versions,
                cipher_suites,
                extensions,
                proposals,
                credentials,
            },
        )
        .boxed()
}

pub fn required_capabilities() -> BoxedStrategy<RequiredCapabilities> {
    (
        vec(extension_type(), 0..4),
        vec(proposal_type(), 0..4),
        vec(credential_type(), 0..4),
    )
        .prop_map(
            |(extension_types, proposal_types, credential_types)| RequiredCapabilities {
                extension_types,
                proposal_types,
                credential_types,
            },
        )
        .boxed()
}

pub fn external_senders() -> BoxedStrategy<ExternalSenders> {
    let sender =
        (signature_key(), credential()).prop_map(|(signature_key, credential)| ExternalSender {
            signature_key,
            credential,
        });
    vec(sender, 0..3)
        .prop_map(|external_senders| ExternalSenders { external_senders })
        .boxed()
}

pub fn leaf_node_source() -> BoxedStrategy<LeafNodeSource> {
    prop_oneof![
        any::<(u64, u64)>().prop_map(|(not_before, not_after)| {
            LeafNodeSource::KeyPackage(Lifetime {
                not_before,
                not_after,
            })
        }),
        Just(LeafNodeSource::Update),
        bytes().prop_map(LeafNodeSource::Commit),
    ]
    .boxed()
}

pub fn leaf_node() -> BoxedStrategy<LeafNode> {
    let parts = (
        hpke_key(),
        signature_key(),
        credential(),
        capabilities(),
        leaf_node_source(),
        extensions(),
        bytes(),
    );
    parts
        .prop_map(
            |(
                encryption_key,
                signature_key,
                credential,
                capabilities,
                leaf_node_source,
                extensions,
                signature,
            )| LeafNode {
                encryption_key,
                signature_key,
                credential,
                capabilities,
                leaf_node_source,
                extensions,
                signature,
            },
        )
        .boxed()
}

pub fn node() -> BoxedStrategy<Node> {
    let parent = (hpke_key(), bytes(), vec(leaf_index(), 0..4)).prop_map(
        |(encryption_key, parent_hash, unmerged_leaves)| ParentNode {
            encryption_key,
            parent_hash,
            unmerged_leaves,
        },
    );
    prop_oneof![
        leaf_node().prop_map(|leaf| Node::Leaf(Box::new(leaf))),
        parent.prop_map(|parent| Node::Parent(Box::new(parent))),
    ]
    .boxed()
}

pub fn ratchet_tree() -> BoxedStrategy<RatchetTree> {
    vec(option::of(node()), 0..8).prop_map(RatchetTree).boxed()
}

pub fn key_package() -> BoxedStrategy<KeyPackage> {
    (
        version(),
        cipher_suite(),
        hpke_key(),
        leaf_node(),
        extensions(),
        bytes(),
    )
        .prop_map(
            |(version, cipher_suite, init_key, leaf_node, extensions, signature)| KeyPackage {
                version,
                cipher_suite,
                init_key,
                leaf_node,
                extensions,
                signature,
            },
        )
        .boxed()
}

pub fn key_package_bundle() -> BoxedStrategy<KeyPackageBundle> {
    (key_package(), secret(), secret())
        .prop_map(
            |(key_package, init_private_key, encryption_private_key)| KeyPackageBundle {
                key_package,
                init_private_key,
                encryption_private_key,
            },
        )
        .boxed()
}

/// One that is defined, or any other.
pub fn component_id() -> BoxedStrategy<ComponentID> {
    prop_oneof![0..7u16, any::<u16>()]
        .prop_map(ComponentID)
        .boxed()
}

pub fn app_data_dictionary() -> BoxedStrategy<AppDataDictionary> {
    prop::collection::vec((component_id(), bytes()), 0..4)
        .prop_map(|entries| {
            let dictionary = AppDataDictionary::default();
            let with = |dictionary: AppDataDictionary, (id, data)| dictionary.with_data(id, data);
            entries.into_iter().fold(dictionary, with)
        })
        .boxed()
}

pub fn safe_aad() -> BoxedStrategy<SafeAAD> {
    prop::collection::vec((component_id(), bytes()), 0..4)
        .prop_map(|items| {
            let with = |aad: SafeAAD, (id, data): (ComponentID, Bytes)| aad.with(id, data);
            items.into_iter().fold(SafeAAD::default(), with)
        })
        .boxed()
}

fn text() -> impl Strategy<Value = String> {
    "[a-z/+.]{0,12}"
}

pub fn media_type() -> BoxedStrategy<MediaType> {
    (text(), prop::collection::vec((text(), text()), 0..3))
        .prop_map(|(kind, parameters)| {
            let with = |kind: MediaType, (name, value): (String, String)| {
                kind.with_parameter(&name, &value)
            };
            parameters.into_iter().fold(MediaType::new(&kind), with)
        })
        .boxed()
}

pub fn media_type_list() -> BoxedStrategy<MediaTypeList> {
    (media_type(), prop::collection::vec(media_type(), 0..3))
        .prop_map(|(first, rest)| {
            let first = MediaTypeList::new(first);
            rest.into_iter().fold(first, MediaTypeList::with)
        })
        .boxed()
}

pub fn application_framing() -> BoxedStrategy<ApplicationFraming> {
    (media_type(), bytes())
        .prop_map(
            |(media_type, inner_application_content)| ApplicationFraming {
                media_type,
                inner_application_content,
            },
        )
        .boxed()
}

pub fn app_ack() -> BoxedStrategy<AppAck> {
    prop::collection::vec((leaf_index(), any::<u32>()), 0..6)
        .prop_map(AppAck::of)
        .boxed()
}

pub fn pre_shared_key_id() -> BoxedStrategy<PreSharedKeyID> {
    let usage = prop_oneof![
        Just(ResumptionPSKUsage::Application),
        Just(ResumptionPSKUsage::ReInit),
        Just(ResumptionPSKUsage::Branch),
    ];
    let psktype = prop_oneof![
        bytes().prop_map(|psk_id| PskType::External(ExternalPsk { psk_id })),
        (usage, bytes(), any::<u64>()).prop_map(|(usage, psk_group_id, psk_epoch)| {
            PskType::Resumption(ResumptionPsk {
                usage,
                psk_group_id,
                psk_epoch,
            })
        }),
        (component_id(), bytes()).prop_map(|(component_id, psk_id)| {
            PskType::Application(ApplicationPsk {
                component_id,
                psk_id,
            })
        }),
    ];
    (psktype, bytes())
        .prop_map(|(psktype, psk_nonce)| PreSharedKeyID { psktype, psk_nonce })
        .boxed()
}

pub fn add() -> BoxedStrategy<Add> {
    key_package()
        .prop_map(|key_package| Add { key_package })
        .boxed()
}

pub fn proposal() -> BoxedStrategy<Proposal> {
    prop_oneof![
        add().prop_map(|add| Proposal::Add(Box::new(add))),
        leaf_node().prop_map(|leaf_node| Proposal::Update(Box::new(Update { leaf_node }))),
        leaf_index().prop_map(|removed| Proposal::Remove(Remove { removed })),
        pre_shared_key_id().prop_map(|psk| Proposal::PreSharedKey(PreSharedKey { psk })),
        (bytes(), version(), cipher_suite(), extensions()).prop_map(
            |(group_id, version, cipher_suite, extensions)| {
                Proposal::ReInit(ReInit {
                    group_id,
                    version,
                    cipher_suite,
                    extensions,
                })
            }
        ),
        bytes().prop_map(|kem_output| Proposal::ExternalInit(ExternalInit { kem_output })),
        extensions().prop_map(|extensions| {
            Proposal::GroupContextExtensions(GroupContextExtensions { extensions })
        }),
        (component_id(), bytes()).prop_map(|(id, data)| Proposal::app_data_update(id, data)),
        component_id().prop_map(Proposal::app_data_removal),
        (component_id(), bytes()).prop_map(|(id, data)| Proposal::app_ephemeral(id, data)),
        Just(Proposal::SelfRemove),
    ]
    .boxed()
}

pub fn proposal_or_ref() -> BoxedStrategy<ProposalOrRef> {
    prop_oneof![
        proposal().prop_map(|proposal| ProposalOrRef::Proposal(Box::new(proposal))),
        bytes().prop_map(ProposalOrRef::Reference),
    ]
    .boxed()
}

pub fn hpke_ciphertext() -> BoxedStrategy<HpkeCiphertext> {
    (bytes(), bytes())
        .prop_map(|(kem_output, ciphertext)| HpkeCiphertext {
            kem_output,
            ciphertext,
        })
        .boxed()
}

pub fn update_path() -> BoxedStrategy<UpdatePath> {
    let node = (hpke_key(), vec(hpke_ciphertext(), 0..3)).prop_map(
        |(encryption_key, encrypted_path_secret)| UpdatePathNode {
            encryption_key,
            encrypted_path_secret: encrypted_path_secret.into(),
        },
    );
    (leaf_node(), vec(node, 0..3))
        .prop_map(|(leaf_node, nodes)| UpdatePath { leaf_node, nodes })
        .boxed()
}

pub fn commit() -> BoxedStrategy<Commit> {
    (vec(proposal_or_ref(), 0..3), option::of(update_path()))
        .prop_map(|(proposals, path)| Commit { proposals, path })
        .boxed()
}

pub fn welcome() -> BoxedStrategy<Welcome> {
    let secrets = (bytes(), hpke_ciphertext()).prop_map(|(new_member, encrypted_group_secrets)| {
        EncryptedGroupSecrets {
            new_member,
            encrypted_group_secrets,
        }
    });
    (cipher_suite(), vec(secrets, 0..3), bytes())
        .prop_map(|(cipher_suite, secrets, encrypted_group_info)| Welcome {
            cipher_suite,
            secrets,
            encrypted_group_info,
        })
        .boxed()
}

pub fn group_secrets() -> BoxedStrategy<GroupSecrets> {
    let path_secret = secret().prop_map(|path_secret| PathSecret { path_secret });
    (
        secret(),
        option::of(path_secret),
        vec(pre_shared_key_id(), 0..3),
    )
        .prop_map(|(joiner_secret, path_secret, psks)| GroupSecrets {
            joiner_secret,
            path_secret,
            psks,
        })
        .boxed()
}

pub fn group_context() -> BoxedStrategy<GroupContext> {
    (
        version(),
        cipher_suite(),
        bytes(),
        any::<u64>(),
        bytes(),
        bytes(),
        extensions(),
    )
        .prop_map(
            |(
                version,
                cipher_suite,
                group_id,
                epoch,
                tree_hash,
                confirmed_transcript_hash,
                extensions,
            )| GroupContext {
                version,
                cipher_suite,
                group_id,
                epoch,
                tree_hash,
                confirmed_transcript_hash,
                extensions,
            },
        )
        .boxed()
}

pub fn group_info() -> BoxedStrategy<GroupInfo> {
    (
        group_context(),
        extensions(),
        bytes(),
        leaf_index(),
        bytes(),
    )
        .prop_map(
            |(group_context, extensions, confirmation_tag, signer, signature)| GroupInfo {
                group_context,
                extensions,
                confirmation_tag,
                signer,
                signature,
            },
        )
        .boxed()
}

pub fn sender() -> BoxedStrategy<Sender> {
    prop_oneof![
        4 => leaf_index().prop_map(Sender::Member),
        1 => any::<u32>().prop_map(Sender::External),
        1 => Just(Sender::NewMemberProposal),
        1 => Just(Sender::NewMemberCommit),
    ]
    .boxed()
}

pub fn content() -> BoxedStrategy<Content> {
    prop_oneof![
        bytes().prop_map(Content::Application),
        proposal().prop_map(|proposal| Content::Proposal(Box::new(proposal))),
        commit().prop_map(|commit| Content::Commit(Box::new(commit))),
    ]
    .boxed()
}

pub fn framed_content() -> BoxedStrategy<FramedContent> {
    (bytes(), any::<u64>(), sender(), bytes(), content())
        .prop_map(
            |(group_id, epoch, sender, authenticated_data, content)| FramedContent {
                group_id,
                epoch,
                sender,
                authenticated_data,
                content,
            },
        )
        .boxed()
}

/// Content with a tag exactly if it is a commit.
fn proven_content() -> BoxedStrategy<(FramedContent, FramedContentAuthData)> {
    (framed_content(), bytes(), bytes())
        .prop_map(|(content, signature, tag)| {
            let is_commit = content.content.content_type() == ContentType::Commit;
            let confirmation_tag = is_commit.then_some(tag);
            (
                content,
                FramedContentAuthData {
                    signature,
                    confirmation_tag,
                },
            )
        })
        .boxed()
}

pub fn authenticated_content() -> BoxedStrategy<AuthenticatedContent> {
    (any::<u16>(), proven_content())
        .prop_map(|(wire_format, (content, auth))| AuthenticatedContent {
            wire_format: WireFormat(wire_format),
            content,
            auth,
        })
        .boxed()
}

pub fn public_message() -> BoxedStrategy<PublicMessage> {
    (proven_content(), bytes())
        .prop_map(|((content, auth), tag)| {
            let membership_tag = matches!(content.sender, Sender::Member(_)).then_some(tag);
            PublicMessage {
                content,
                auth,
                membership_tag,
            }
        })
        .boxed()
}

pub fn private_message() -> BoxedStrategy<PrivateMessage> {
    let content_type = prop_oneof![
        Just(ContentType::Application),
        Just(ContentType::Proposal),
        Just(ContentType::Commit),
    ];
    (
        bytes(),
        any::<u64>(),
        content_type,
        bytes(),
        bytes(),
        bytes(),
    )
        .prop_map(
            |(
                group_id,
                epoch,
                content_type,
                authenticated_data,
                encrypted_sender_data,
                ciphertext,
            )| {
                PrivateMessage {
                    group_id,
                    epoch,
                    content_type,
                    authenticated_data,
                    encrypted_sender_data,
                    ciphertext,
                }
            },
        )
        .boxed()
}

pub fn sender_data() -> BoxedStrategy<SenderData> {
    (leaf_index(), any::<u32>(), any::<[u8; 4]>())
        .prop_map(|(leaf_index, generation, reuse_guard)| SenderData {
            leaf_index,
            generation,
            reuse_guard,
        })
        .boxed()
}

pub fn mls_message() -> BoxedStrategy<MlsMessage> {
    prop_oneof![
        public_message().prop_map(|message| MlsMessage::PublicMessage(Box::new(message))),
        private_message().prop_map(MlsMessage::PrivateMessage),
        welcome().prop_map(MlsMessage::Welcome),
        group_info().prop_map(|group_info| MlsMessage::GroupInfo(Box::new(group_info))),
        // One that travels is of its message's version.
        key_package().prop_map(|mut key_package| {
            key_package.version = ProtocolVersion::MLS10;
            MlsMessage::KeyPackage(Box::new(key_package))
        }),
    ]
    .boxed()
}

pub fn changes() -> BoxedStrategy<Changes> {
    let key = |number: u64| RecordKey::new(RecordKind::Ratchet, &number);
    let put = (any::<u64>(), vec(any::<u8>(), 0..80));
    (vec(put, 0..4), vec(any::<u64>(), 0..4))
        .prop_map(move |(put, delete)| {
            let mut changes = Changes::default();
            put.into_iter()
                .for_each(|(number, value)| changes.put(key(number), value));
            delete
                .into_iter()
                .for_each(|number| changes.delete(key(number)));
            changes
        })
        .boxed()
}
