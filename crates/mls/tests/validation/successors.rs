//! ReInit, what follows it, and branches (RFC 9420, sections 8.6, 11.2, 11.3, 12.1.5, 12.4.2 and
//! 12.4.3.1).

use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::context::Context;
use folkmoot_mls::crypto::{CipherSuite, CryptoError, CryptoProvider, PROVIDER, Secret, Suite};
use folkmoot_mls::error::{Error, InvalidMessage};
use folkmoot_mls::extension::{Extensions, RequiredCapabilities};
use folkmoot_mls::framing::Content;
use folkmoot_mls::group::{
    Group, GroupParameters, JoinError, Joined, ProposalError, SuccessorError,
};
use folkmoot_mls::key_package::KeyPackageBundle;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{PreSharedKey, Proposal, ReInit};
use folkmoot_mls::psk::{PreSharedKeyID, PskType, ResumptionPSKUsage, ResumptionPsk};
use folkmoot_mls::tree_math::LeafIndex;

use crate::group_harness::{Client, SUITE};
use crate::insider::{Forged, Insider};
use crate::welcome::Invitation;
use crate::{ALICE, Around, CHARLIE, MALLORY, context, group, process, refuses_commit};

rules! {
    "12.1.5" "ReInit: the version is not less than the group's" => reinit_version;
    "12.4.2" "after a ReInit we send nothing in the group" => suspended_sender;
    "12.4.2" "after a ReInit nobody sends anything in the group" => suspended_committer;
    "12.4.3.1" "a Welcome that follows a group is joined from that group" => needs_predecessor;
    "11.2" "who waits for the group after a ReInit joins no other" => not_linked;
    "12.4.3.1" "a Welcome has no second PSK that ties it to a group" => second_link;
    "11.2" "the PSK of a ReInit names the old group" => wrong_predecessor;
    "11.2" "the PSK of a ReInit names the epoch after it" => wrong_epoch;
    "12.4.3.1" "the old group ended with a ReInit" => not_reinitialized;
    "8.6" "the PSK of a ReInit is the old group's" => wrong_psk;
    "11.2" "after a ReInit the epoch is 1" => epoch;
    "11.2" "after a ReInit the group's id is the one in it" => group_id;
    "11.2" "after a ReInit the version is the one in it" => version;
    "11.2" "after a ReInit the cipher suite is the one in it" => cipher_suite;
    "11.2" "after a ReInit the extensions are those in it" => extensions;
    "12.4.3.1" "after a ReInit all old members are in the new group" => missing_member;
    "11.2" "after a ReInit there is no branch" => branch_after_reinit;
    "11.3" "a branch's group id is not the group's" => branch_group_id;
    "11.3" "a branch's epoch is 1" => branch_epoch;
    "11.3" "a branch's version is the group's" => branch_version;
    "11.3" "a branch's cipher suite is the group's" => branch_cipher_suite;
    "11.3" "a branch's members are the group's" => branch_of_strangers;
}

const REINIT: ResumptionPSKUsage = ResumptionPSKUsage::ReInit;
const BRANCH: ResumptionPSKUsage = ResumptionPSKUsage::Branch;

fn reinit() -> ReInit {
    ReInit {
        group_id: Bytes::from(*b"group"),
        version: ProtocolVersion::MLS10,
        cipher_suite: SUITE,
        extensions: Extensions::default(),
    }
}

/// Alice, Mallory and Charlie, after this ReInit.
fn clients_after(reinit: ReInit) -> Vec<Client> {
    let mut clients = group().0;
    let pending = clients[MALLORY]
        .commit(|commit| commit.reinit(reinit))
        .unwrap();
    for client in [ALICE, CHARLIE] {
        clients[client].receive(&pending.message).unwrap();
    }
    clients[MALLORY].merge(pending);
    clients
}

/// Alice's view of that group.
fn ended(reinit: ReInit) -> Group {
    clients_after(reinit)[ALICE].group().clone()
}

/// Alice's view of a group that goes on.
fn going_on() -> Group {
    group().0[ALICE].group().clone()
}

/// A new group that Mallory founds, and what ties it to the old one.
struct Founding {
    predecessor: Group,
    mallory: Insider,
    alice: Client,
    others: Vec<Client>,
    links: Vec<(PreSharedKeyID, Secret)>,
}

fn link(usage: ResumptionPSKUsage, group_id: &[u8], epoch: u64) -> PreSharedKeyID {
    PreSharedKeyID {
        psktype: PskType::Resumption(ResumptionPsk {
            usage,
            psk_group_id: Bytes::from(group_id),
            psk_epoch: epoch,
        }),
        psk_nonce: Bytes::from([epoch as u8; 32]),
    }
}

/// The founder's new group has these extensions; the old clients come with a new key each.
fn founding(
    predecessor: Group,
    usage: ResumptionPSKUsage,
    extensions: Extensions,
    others: &[&str],
) -> Founding {
    let group_id: &[u8] = if usage == BRANCH { b"branch" } else { b"group" };
    founding_of(group_id, predecessor, usage, extensions, others)
}

fn founding_of(
    group_id: &[u8],
    predecessor: Group,
    usage: ResumptionPSKUsage,
    extensions: Extensions,
    others: &[&str],
) -> Founding {
    let renewed = |name: &str| {
        let mut client = Client::new(name);
        client.signer = Client::new(&format!("{name} again")).signer;
        client
    };
    let mut mallory = renewed("mallory");
    mallory.group_id = Bytes::from(group_id);
    mallory.create(extensions);
    let psk = predecessor.resumption_psk().clone();
    let id = link(usage, predecessor.group_id(), predecessor.epoch());
    Founding {
        mallory: Insider::of(&mallory),
        alice: renewed("alice"),
        others: others.iter().map(|name| renewed(name)).collect(),
        links: vec![(id, psk)],
        predecessor,
    }
}

impl Founding {
    /// The first commit: Alice and the others are added.
    fn commit(&mut self) -> Forged {
        let mut proposals = vec![Proposal::add(self.alice.key_package())];
        for other in &mut self.others {
            proposals.push(Proposal::add(other.key_package()));
        }
        let ids = self.links.iter().map(|(psk, _)| psk.clone());
        proposals.extend(ids.map(|psk| Proposal::PreSharedKey(PreSharedKey { psk })));
        let mut plan = self.mallory.plan(proposals);
        plan.psks = self
            .links
            .iter()
            .map(|(_, secret)| secret.clone())
            .collect();
        self.mallory.commit(&plan)
    }

    /// Alice joins by what comes of it.
    fn join(
        &mut self,
        change: impl FnOnce(&mut Invitation),
        knows_predecessor: bool,
    ) -> Result<Joined, Error> {
        let forged = self.commit();
        let secrets: Vec<_> = self
            .links
            .iter()
            .map(|(_, secret)| secret.clone())
            .collect();
        let mut invitation = forged.invitation(&secrets);
        change(&mut invitation);
        let welcome = invitation.seal(&forged);
        let bundle: KeyPackageBundle = self.alice.bundle.clone().unwrap();
        let mut rng = self.alice.rng.clone();
        let ctx = &mut context(None, &mut rng);
        if knows_predecessor {
            Group::join_successor(ctx, &welcome, &bundle, None, &self.predecessor)
        } else {
            Group::join(ctx, &welcome, &bundle, None)
        }
    }

    fn refused(mut self, change: impl FnOnce(&mut Invitation), error: impl Into<JoinError>) {
        let refused = self.join(change, true).map(drop);
        assert_eq!(refused, Err(Error::Join(error.into())));
    }
}

fn after(reinit: ReInit) -> Founding {
    founding(ended(reinit), REINIT, Extensions::default(), &["charlie"])
}

fn branch() -> Founding {
    founding(going_on(), BRANCH, Extensions::default(), &["charlie"])
}

#[test]
fn what_follows_a_group_as_it_should_is_joined() {
    for (mut founding, usage) in [(after(reinit()), REINIT), (branch(), BRANCH)] {
        let Joined { group, link, .. } = founding.join(|_| {}, true).unwrap();
        assert_eq!((group.epoch(), group.member_count()), (1, 3));
        assert_eq!(link, Some(usage));
    }
    // A branch may leave members out.
    let mut smaller = founding(going_on(), BRANCH, Extensions::default(), &[]);
    let smaller = smaller.join(|_| {}, true).unwrap().group;
    assert_eq!(smaller.member_count(), 2);
    // After a ReInit others may be there as well.
    let mut larger = founding(
        ended(reinit()),
        REINIT,
        Extensions::default(),
        &["charlie", "dave"],
    );
    let larger = larger.join(|_| {}, true).unwrap().group;
    assert_eq!(larger.member_count(), 4);
}

fn reinit_version() {
    let (mut clients, mallory) = group();
    let version = ProtocolVersion(0);
    let older = ReInit {
        version,
        ..reinit()
    };
    let plan = mallory.plan(vec![Proposal::ReInit(older.clone())]);
    let error = ProposalError::ReInitVersion(version);
    refuses_commit(&mut clients, &mallory, &plan, error.clone());
    let refused = clients[ALICE]
        .commit(|commit| commit.reinit(older))
        .map(drop);
    assert_eq!(refused, Err(error.into()));
}

fn suspended_sender() {
    let mut clients = clients_after(reinit());
    for client in [ALICE, MALLORY, CHARLIE] {
        let client = &mut clients[client];
        let refused = client.commit(|commit| commit).map(drop);
        assert_eq!(refused, Err(Error::GroupSuspended));
        let remove = Proposal::remove(LeafIndex(2));
        let refused = client.propose(remove, WireFormat::PRIVATE_MESSAGE);
        assert_eq!(refused.map(drop), Err(Error::GroupSuspended));
        let member = client.member.as_mut().unwrap();
        let word = (member.keys).encrypt(&client.signer, b"", b"word", 0, &mut client.rng);
        assert_eq!(word.map(drop), Err(Error::GroupSuspended));
    }
}

/// Neither in clear nor encrypted, and no message of any other kind.
fn suspended_committer() {
    // Mallory keeps what a client drops with its own commit.
    let (mut clients, mallory) = group();
    let ending = mallory.commit(&mallory.plan(vec![Proposal::ReInit(reinit())]));
    let message = ending.private(&mut clients[MALLORY]);
    clients[ALICE].receive(&message).unwrap();
    assert_eq!(clients[ALICE].group().reinit(), Some(&reinit()));
    let mallory = ending.next;
    let mut plan = mallory.plan(Vec::new());
    plan.wire_format = WireFormat::PUBLIC_MESSAGE;
    let commit = mallory.commit(&plan).public(&mallory);
    let sealed = |content| {
        let content = mallory.content(content);
        mallory.sealed(&mallory.signer, content).message(&mallory)
    };
    let removal = Proposal::remove(LeafIndex(CHARLIE as u32));
    let removal = Content::Proposal(Box::new(removal));
    let in_clear = mallory.public(mallory.content(removal.clone()));
    let in_clear = MlsMessage::PublicMessage(Box::new(in_clear));
    let removal = sealed(removal);
    let word = sealed(Content::Application(Bytes::from(*b"word")));
    for message in [commit, in_clear, removal, word] {
        let refused = process(&mut clients[ALICE], &message, Around::default());
        let error = InvalidMessage::GroupSuspended.into();
        assert_eq!(refused.map(drop), Err(error));
    }
}

fn needs_predecessor() {
    for (mut founding, usage, epoch) in [(after(reinit()), REINIT, 2), (branch(), BRANCH, 1)] {
        let error = SuccessorError::NeedsPredecessor {
            usage,
            group_id: Bytes::from(*b"group"),
            epoch,
        };
        let refused = founding.join(|_| {}, false).map(drop);
        assert_eq!(refused, Err(error.into()));
    }
}

fn not_linked() {
    let mut founding = after(reinit());
    founding.links.clear();
    founding.refused(|_| {}, SuccessorError::NotLinked);
}

fn second_link() {
    let mut founding = after(reinit());
    let (mut second, psk) = founding.links[0].clone();
    second.psk_nonce = Bytes::from([9; 32]);
    founding.links.push((second, psk));
    founding.refused(|_| {}, SuccessorError::SecondLink);
}

fn wrong_predecessor() {
    for (mut founding, usage, epoch) in [(after(reinit()), REINIT, 2), (branch(), BRANCH, 1)] {
        founding.links[0].0 = link(usage, b"other", epoch);
        founding.refused(|_| {}, SuccessorError::WrongPredecessor);
    }
}

fn wrong_epoch() {
    let mut founding = after(reinit());
    let psk = founding.predecessor.resumption_psk_of(1).unwrap().clone();
    founding.links = vec![(link(REINIT, b"group", 1), psk)];
    founding.refused(|_| {}, SuccessorError::PskEpoch(1));
}

fn not_reinitialized() {
    let founding = founding(going_on(), REINIT, Extensions::default(), &["charlie"]);
    founding.refused(|_| {}, SuccessorError::NotReinitialized);
}

/// Somebody outside the old group who knows its members' KeyPackages.
fn wrong_psk() {
    for mut founding in [after(reinit()), branch()] {
        founding.links[0].1 = Secret::zero(32);
        let error = JoinError::GroupInfoDecryption(CryptoError::DecryptionFailed);
        founding.refused(|_| {}, error);
    }
}

fn other_epoch(invitation: &mut Invitation) {
    invitation.group_info.group_context.epoch = 2;
}

fn epoch() {
    after(reinit()).refused(other_epoch, SuccessorError::Epoch(2));
}

fn group_id() {
    let other = ReInit {
        group_id: Bytes::from(*b"another"),
        ..reinit()
    };
    after(other).refused(|_| {}, SuccessorError::GroupId);
}

fn version() {
    let other = ReInit {
        version: ProtocolVersion(2),
        ..reinit()
    };
    after(other).refused(|_| {}, SuccessorError::Version);
}

fn cipher_suite() {
    let other = ReInit {
        cipher_suite: CipherSuite(3),
        ..reinit()
    };
    after(other).refused(|_| {}, SuccessorError::CipherSuite);
}

fn extensions() {
    let other = Extensions::default().with(&RequiredCapabilities::default());
    let founding = founding(ended(reinit()), REINIT, other.clone(), &["charlie"]);
    founding.refused(|_| {}, SuccessorError::Extensions);
    let asked = ReInit {
        extensions: other,
        ..reinit()
    };
    after(asked).refused(|_| {}, SuccessorError::Extensions);
}

fn missing_member() {
    let founding = founding(ended(reinit()), REINIT, Extensions::default(), &["dave"]);
    let error = SuccessorError::MissingMember(LeafIndex(CHARLIE as u32));
    founding.refused(|_| {}, error);
}

/// As weak as the group that was to end for a stronger one, say.
fn branch_after_reinit() {
    let stronger = ReInit {
        cipher_suite: CipherSuite(3),
        ..reinit()
    };
    let old = ended(stronger);
    let refused = old.branch(*b"branch").map(drop);
    assert_eq!(refused, Err(Error::GroupSuspended));
    let last = founding(old.clone(), BRANCH, Extensions::default(), &["charlie"]);
    last.refused(|_| {}, SuccessorError::BranchAfterReInit);
    // Nor with the PSK of an earlier epoch.
    let mut earlier = founding(old, BRANCH, Extensions::default(), &["charlie"]);
    let psk = earlier.predecessor.resumption_psk_of(1).unwrap().clone();
    earlier.links = vec![(link(BRANCH, b"group", 1), psk)];
    earlier.refused(|_| {}, SuccessorError::BranchAfterReInit);
}

fn branch_group_id() {
    let same = going_on().branch(*b"group").map(drop);
    let error = SuccessorError::OldGroupId;
    assert_eq!(same, Err(error.clone().into()));
    let same = founding_of(b"group", going_on(), BRANCH, Extensions::default(), &[]);
    same.refused(|_| {}, error);
}

fn branch_epoch() {
    branch().refused(other_epoch, SuccessorError::Epoch(2));
}

/// Knows a second version of the protocol.
struct TwoVersions;

impl CryptoProvider for TwoVersions {
    fn versions(&self) -> &'static [ProtocolVersion] {
        &[ProtocolVersion(2), ProtocolVersion::MLS10]
    }

    fn suites(&self) -> &'static [CipherSuite] {
        PROVIDER.suites()
    }

    fn suite(&self, cipher_suite: CipherSuite) -> Option<&'static dyn Suite> {
        PROVIDER.suite(cipher_suite)
    }
}

fn branch_version() {
    let mut alice = Client::new("alice");
    let mut leaf = alice.parameters();
    leaf.capabilities.versions.push(ProtocolVersion(2));
    let parameters = GroupParameters {
        version: ProtocolVersion(2),
        cipher_suite: SUITE,
        group_id: Bytes::from(*b"group"),
        extensions: Extensions::default(),
    };
    let ctx = &mut Context {
        provider: &TwoVersions,
        ..context(None, &mut alice.rng)
    };
    let old = Group::create(ctx, parameters, &alice.signer, leaf)
        .unwrap()
        .group;
    let founding = founding(old, BRANCH, Extensions::default(), &[]);
    founding.refused(|_| {}, SuccessorError::Version);
}

fn branch_cipher_suite() {
    let mut alice = Client::with_suite("alice", CipherSuite(3));
    alice.create(Extensions::default());
    let old = alice.group().clone();
    let founding = founding(old, BRANCH, Extensions::default(), &[]);
    founding.refused(|_| {}, SuccessorError::CipherSuite);
}

fn branch_of_strangers() {
    let founding = founding(going_on(), BRANCH, Extensions::default(), &["dave"]);
    founding.refused(|_| {}, SuccessorError::NotInPredecessor(2));
}
