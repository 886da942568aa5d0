//! Whatever a member sends, nothing breaks.

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_mls::commit::Commit;
use folkmoot_mls::error::Error;
use folkmoot_mls::framing::Content;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{Proposal, ProposalOrRef};
use folkmoot_mls::tree_math::LeafIndex;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::insider::Insider;
use crate::{ALICE, MALLORY, goes_on, group, newcomer};

/// A commit that Mallory signs and encrypts, whatever it says. Its confirmation tag is wrong.
fn forge(
    mallory: &mut crate::group_harness::Client,
    insider: &Insider,
    commit: Commit,
) -> MlsMessage {
    let content = insider.content(Content::Commit(Box::new(commit)));
    let (format, context) = (WireFormat::PRIVATE_MESSAGE, &insider.context);
    let mut signed = folkmoot_mls::framing::AuthenticatedContent::sign(
        insider.suite,
        &insider.signer,
        format,
        content,
        context,
    )
    .unwrap();
    signed.auth.confirmation_tag = Some([0; 32].into());
    let keys = &mut mallory.member.as_mut().unwrap().keys;
    let message = keys.protect(&signed, 0, &mut mallory.rng).unwrap().0;
    MlsMessage::PrivateMessage(message)
}

#[test]
fn no_commit_of_a_member_makes_a_panic() {
    let (mut clients, mallory) = group();
    let (_, package) = newcomer();
    let public = WireFormat::PUBLIC_MESSAGE;
    let pending = clients[MALLORY]
        .commit(|commit| commit.add(package).remove(LeafIndex(2)).wire_format(public))
        .unwrap();
    let MlsMessage::PublicMessage(message) = pending.message else {
        panic!("it is in clear")
    };
    let Content::Commit(good) = message.content.content else {
        panic!("it is a commit")
    };
    let good = good.to_bytes();
    let rng = &mut ChaCha20Rng::seed_from_u64(0);
    let mut read = 0;
    for _ in 0..1_000 {
        let mut bytes = good.clone();
        for _ in 0..rng.next_u32() % 3 + 1 {
            let place = rng.next_u32() as usize % bytes.len();
            bytes[place] = if rng.next_u32() % 2 == 0 {
                rng.next_u32() as u8
            } else {
                bytes[place] ^ 1
            };
        }
        let Ok(commit) = Commit::from_bytes(&bytes) else {
            continue;
        };
        let removes_alice = |proposal: &ProposalOrRef| {
            let alice = Proposal::remove(LeafIndex(ALICE as u32));
            *proposal == ProposalOrRef::Proposal(Box::new(alice))
        };
        if commit.proposals.iter().any(removes_alice) {
            continue;
        }
        read += 1;
        let group = clients[ALICE].group().clone();
        let forged = forge(&mut clients[MALLORY], &mallory, commit);
        let refused = clients[ALICE].receive(&forged);
        // If nothing else is wrong, the tag is.
        assert!(
            matches!(refused, Err(Error::Proposal(_) | Error::Commit(_))),
            "{refused:?}"
        );
        assert_eq!(
            clients[ALICE].group().epoch_authenticator(),
            group.epoch_authenticator()
        );
    }
    assert!(read > 300, "{read}");
    goes_on(&mut clients);
}
