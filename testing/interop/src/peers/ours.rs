//! Our own engine as a member.

mod member;
mod outsider;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use folkmoot_mls::capabilities::Capabilities;
use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::{Bytes, Decode};
use folkmoot_mls::context::PskStore;
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::{
    CipherSuite, CryptoProvider, Secret, SignatureKeyPair, Suite, aws_lc, rust_crypto,
};
use folkmoot_mls::extension::{ExtensionType, Extensions};
use folkmoot_mls::group::{Group, PendingCommit};
use folkmoot_mls::key_package::KeyPackageBundle;
use folkmoot_mls::leaf_node::LeafParameters;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::proposal::{PreSharedKey, Proposal, ProposalType, ReInit};
use folkmoot_mls::psk::{ExternalPsk, PreSharedKeyID, PskType, ResumptionPSKUsage, ResumptionPsk};
use folkmoot_mls::records::{Changes, MemoryRecords};
use folkmoot_mls::tree_math::LeafIndex;
use rand_chacha::ChaCha20Rng;

use super::dice::Dice;
use super::member::{CUSTOM_EXTENSION, Change, Peer, PeerError, Settings, raw_extensions};

pub use outsider::Outsider;

/// How many epochs' message keys are kept beside the current one's.
const PAST_EPOCHS: usize = 3;

type Provider = &'static dyn CryptoProvider;

/// The suites that our providers have.
pub fn suites() -> Vec<u16> {
    let both = [&aws_lc::PROVIDER as Provider, &rust_crypto::PROVIDER];
    let mut suites: Vec<u16> = both
        .iter()
        .flat_map(|provider| provider.suites().iter().map(|suite| suite.0))
        .collect();
    suites.sort_unstable();
    suites.dedup();
    suites
}

/// The provider of a client: either, if both have the suite.
fn provider(suite: u16, rng: &mut ChaCha20Rng) -> Provider {
    let suite = CipherSuite(suite);
    if rng.chance(2) && aws_lc::PROVIDER.suite(suite).is_some() {
        &aws_lc::PROVIDER
    } else {
        &rust_crypto::PROVIDER
    }
}

/// A client on our engine.
pub struct Ours {
    name: Vec<u8>,
    settings: Settings,
    provider: Provider,
    suite: &'static dyn Suite,
    rng: ChaCha20Rng,
    signer: SignatureKeyPair,
    next_signer: Option<SignatureKeyPair>,
    psks: Psks,
    bundle: Option<KeyPackageBundle>,
    joined: Option<Joined>,
    pending: Option<PendingCommit>,
}

struct Joined {
    group: Group,
    keys: MessageKeys,
    /// Oldest first.
    past: Vec<MessageKeys>,
    records: MemoryRecords,
}

#[derive(Default)]
struct Psks {
    external: BTreeMap<Bytes, Secret>,
    resumption: BTreeMap<(Bytes, u64), Secret>,
}

impl PskStore for Psks {
    fn psk(&self, id: &PreSharedKeyID) -> Option<Secret> {
        match &id.psktype {
            PskType::External(psk) => self.external.get(&psk.psk_id).cloned(),
            PskType::Resumption(psk) => {
                let id = (psk.psk_group_id.clone(), psk.psk_epoch);
                self.resumption.get(&id).cloned()
            }
            PskType::Application(_) => None,
        }
    }
}

fn at<E: std::fmt::Debug>(call: &'static str) -> impl FnOnce(E) -> PeerError {
    PeerError::at(Peer::Ours, call)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The arguments of a call, from fields that it does not otherwise use.
macro_rules! ctx {
    ($self:ident) => {
        ::folkmoot_mls::context::Context {
            provider: $self.provider,
            authentication_service: &::folkmoot_mls::context::BasicCredentials,
            psks: &$self.psks,
            components: &::folkmoot_mls::component::NoComponents,
            now: Some($crate::peers::ours::now()),
            workers: &::folkmoot_mls::context::OneThread,
            rng: &mut $self.rng,
        }
    };
}
use ctx;

impl Ours {
    /// A client with this name.
    ///
    /// # Errors
    /// If we do not have the suite.
    pub fn new(name: &str, settings: &Settings, mut rng: ChaCha20Rng) -> Result<Self, PeerError> {
        let provider = provider(settings.suite, &mut rng);
        let suite = provider
            .suite(CipherSuite(settings.suite))
            .ok_or(settings.suite)
            .map_err(at("use a suite"))?;
        Ok(Self {
            name: name.as_bytes().to_vec(),
            settings: settings.clone(),
            provider,
            suite,
            signer: suite.signature_key_pair(&mut rng),
            rng,
            next_signer: None,
            psks: Psks::default(),
            bundle: None,
            joined: None,
            pending: None,
        })
    }

    /// Moves to a suite, with a new key if it is another one.
    fn renew(&mut self, suite: u16) -> Result<(), PeerError> {
        if self.settings.suite == suite {
            return Ok(());
        }
        self.provider = provider(suite, &mut self.rng);
        self.suite = self
            .provider
            .suite(CipherSuite(suite))
            .ok_or(suite)
            .map_err(at("use a suite"))?;
        self.settings.suite = suite;
        self.signer = self.suite.signature_key_pair(&mut self.rng);
        Ok(())
    }

    fn leaf(&self) -> LeafParameters {
        LeafParameters {
            credential: Credential::basic(&*self.name),
            capabilities: Capabilities {
                versions: vec![ProtocolVersion::MLS10],
                cipher_suites: self.provider.suites().to_vec(),
                extensions: vec![ExtensionType(CUSTOM_EXTENSION)],
                proposals: vec![ProposalType::SELF_REMOVE],
                credentials: vec![CredentialType::BASIC],
            },
            extensions: Extensions::default(),
        }
    }

    fn wire_format(&self) -> WireFormat {
        if self.settings.public_handshakes {
            WireFormat::PUBLIC_MESSAGE
        } else {
            WireFormat::PRIVATE_MESSAGE
        }
    }

    fn padding(&self) -> usize {
        if self.settings.padding { 33 } else { 0 }
    }

    fn joined(&self) -> Result<&Joined, PeerError> {
        self.joined
            .as_ref()
            .ok_or("not in a group")
            .map_err(at("find its group"))
    }

    fn enter(&mut self, group: Group, keys: MessageKeys, changes: &Changes) {
        let mut records = MemoryRecords::default();
        records.apply(changes);
        self.psks.resumption.clear();
        self.joined = Some(Joined {
            group,
            keys,
            past: Vec::new(),
            records,
        });
        self.pending = None;
        self.remember_resumption_psk();
    }

    fn advance(&mut self, group: Group, keys: MessageKeys, changes: &Changes) {
        if let Some(joined) = &mut self.joined {
            joined.records.apply(changes);
            joined.group = group;
            joined.past.push(std::mem::replace(&mut joined.keys, keys));
            if joined.past.len() > PAST_EPOCHS {
                joined.records.apply(&joined.past.remove(0).deletion());
            }
        }
        self.pending = None;
        self.remember_resumption_psk();
    }

    fn remember_resumption_psk(&mut self) {
        if let Some(Joined { group, .. }) = &self.joined {
            let id = (group.group_id().into(), group.epoch());
            let psk = group.resumption_psk().clone();
            self.psks.resumption.insert(id, psk);
        }
    }

    fn proposal(&mut self, change: &Change) -> Result<Proposal, PeerError> {
        Ok(match change {
            Change::Add(key_package) => match MlsMessage::from_bytes(key_package) {
                Ok(MlsMessage::KeyPackage(key_package)) => Proposal::add(*key_package),
                other => return Err(at("read a KeyPackage")(other)),
            },
            Change::Remove(leaf) => Proposal::remove(LeafIndex(*leaf)),
            Change::ExternalPsk(id) => self.psk_proposal(PskType::External(ExternalPsk {
                psk_id: id.as_slice().into(),
            })),
            Change::ResumptionPsk(epoch) => {
                let psk_group_id = self.joined()?.group.group_id().into();
                self.psk_proposal(PskType::Resumption(ResumptionPsk {
                    usage: ResumptionPSKUsage::Application,
                    psk_group_id,
                    psk_epoch: *epoch,
                }))
            }
            Change::Extensions(list) => Proposal::group_context_extensions(raw_extensions(list)),
            Change::Update => return Err(PeerError::missing(Peer::Ours, "update by value")),
            Change::ReInit(next) => Proposal::ReInit(ReInit {
                group_id: next.group_id.as_slice().into(),
                version: ProtocolVersion::MLS10,
                cipher_suite: CipherSuite(next.suite),
                extensions: raw_extensions(&next.extensions),
            }),
            Change::SelfRemove => Proposal::SelfRemove,
        })
    }

    fn psk_proposal(&mut self, psktype: PskType) -> Proposal {
        let psk = self.psk(psktype);
        Proposal::PreSharedKey(PreSharedKey { psk })
    }

    fn psk(&mut self, psktype: PskType) -> PreSharedKeyID {
        PreSharedKeyID {
            psktype,
            psk_nonce: self.rng.bytes(self.suite.hash_length()).into(),
        }
    }
}

fn decode(message: &[u8]) -> Result<MlsMessage, PeerError> {
    MlsMessage::from_bytes(message).map_err(at("read a message"))
}
