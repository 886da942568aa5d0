//! What a member's device knows, for one who makes its messages by hand.

use folkmoot_client::sabotage;
use folkmoot_client::store::{Store, Table};
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::commit::UpdatePath;
use folkmoot_mls::crypto::{
    CipherSuite, CryptoProvider, PROVIDER, Secret, SignatureKeyPair, Suite,
};
use folkmoot_mls::framing::{AuthenticatedContent, Content, Sender, SenderData};
use folkmoot_mls::group::Group;
use folkmoot_mls::key_schedule::{EpochSecrets, member_secret};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::psk::psk_secret;
use folkmoot_mls::records::{Changes, MemoryRecords, RecordKey};
use folkmoot_mls::safe_exporter::SafeExporter;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_protocol::fence;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::keys::PublicKey;
use folkmoot_simulation::Sim;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::insider::{Forged, Insider, Plan, Sealed};

/// A device, as far as an [`Insider`] needs it.
pub struct Client {
    pub signer: SignatureKeyPair,
    pub rng: ChaCha20Rng,
    pub member: Option<Member>,
}

/// Its part in the group.
pub struct Member {
    pub group: Group,
    pub keys: MessageKeys,
    pub records: MemoryRecords,
}

pub fn suite(suite: CipherSuite) -> &'static dyn Suite {
    PROVIDER.suite(suite).unwrap()
}

impl Client {
    /// What somebody's device holds in this epoch, in which it has sent and read nothing yet.
    pub fn of(sim: &mut Sim, who: usize, log: LogId) -> Self {
        let store = &mut sim.person(who).store;
        let mut changes = Changes::default();
        for (key, value) in store.rows(Table::Records).unwrap() {
            if let Some(key) = key.strip_prefix(&log.0[..]) {
                let key = RecordKey::from_bytes(&Bytes::from(key).to_bytes()).unwrap();
                changes.put(key, value.to_vec());
            }
        }
        let mut records = MemoryRecords::default();
        records.apply(&changes);
        let signer = store.transaction(|tx| sabotage::signer(tx)).unwrap();
        let group = Group::load(&PROVIDER, &records).unwrap();
        let keys = group.load_keys(&PROVIDER, group.epoch(), &records).unwrap();
        Self {
            signer,
            rng: ChaCha20Rng::from_seed([42; 32]),
            member: Some(Member {
                group,
                keys,
                records,
            }),
        }
    }

    pub fn member(&self) -> &Member {
        self.member.as_ref().unwrap()
    }

    pub fn group(&self) -> &Group {
        &self.member().group
    }
}

/// The fence key of the epoch that a commit makes.
pub fn next_fence(forged: &Forged) -> PublicKey {
    let suite = forged.next.suite;
    let none = psk_secret(suite, &[]).unwrap();
    let member = member_secret(suite, &forged.joiner_secret, &none);
    let secrets = EpochSecrets::derive(suite, &member, &forged.next.context);
    let exported: Secret = SafeExporter::new(secrets.application_export_secret)
        .export(suite, fence::COMPONENT)
        .unwrap();
    fence::fence_key(suite, &exported).public()
}

/// A commit of new keys whose path does not open at some places: which node of the path, and which of those
/// that it is encrypted for.
pub fn unopenable<'a>(insider: &Insider, places: &'a [(usize, usize)]) -> Plan<'a> {
    let mut plan = insider.plan(Vec::new());
    plan.edit_path = Box::new(move |path: &mut UpdatePath| {
        for (node, place) in places {
            let list = &mut path.nodes[*node].encrypted_path_secret;
            let mut edited = list.to_vec();
            edited[*place].ciphertext = Bytes::from([0; 48]);
            *list = edited.into();
        }
    });
    plan
}

/// Content that somebody has signed, encrypted in the name of another, as every member can.
pub fn in_the_name_of(
    insider: &Insider,
    of: LeafIndex,
    signed: &AuthenticatedContent,
) -> MlsMessage {
    let content_type = signed.content.content.content_type();
    assert_eq!(signed.content.sender, Sender::Member(of));
    let mut plaintext = match &signed.content.content {
        Content::Application(data) => data.to_bytes(),
        Content::Proposal(proposal) => proposal.to_bytes(),
        Content::Commit(commit) => commit.to_bytes(),
    };
    signed.auth.encode(&mut plaintext);
    let sealed = Sealed {
        sender_data: SenderData {
            leaf_index: of,
            generation: 0,
            reuse_guard: [1, 2, 3, 4],
        },
        key: insider.message_key(of, content_type.into(), 0),
        content_type,
        authenticated_data: Bytes::default(),
        plaintext,
    };
    sealed.message(insider)
}
