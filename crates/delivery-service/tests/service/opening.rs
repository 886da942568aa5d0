//! Opening logs.

use folkmoot_delivery_service::store::Store;
use folkmoot_mls::codec::Encode;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::ids::ChainHash;

use crate::world::{Group, World};

crate::on_every_store! {
    opens_once;
    refuses_what_is_wrong;
}

fn opens_once<S: Store>(mut world: World<S>) {
    let group = Group::new(folkmoot_protocol::ids::LogId([1; 32]), world.key());
    let first = world.open(group.open_request()).unwrap();
    assert_eq!(first.sequence, 0);
    assert_eq!((first.log, first.branch), (group.log, group.branch));
    assert_eq!((first.entry_time, first.issued), (world.now, world.now));
    let chain = ChainHash::START.next(group.log, 0, world.now, group.branch);
    assert_eq!(first.chain, chain);

    // The same bytes again, later: the first receipt.
    world.now += 5_000;
    assert_eq!(world.open(group.open_request()), Ok(first));

    // Another Open of the id.
    let other = Group::new(group.log, world.key());
    assert_eq!(world.open(other.open_request()), Err(Refusal::Taken));
}

fn refuses_what_is_wrong<S: Store>(mut world: World<S>) {
    let (log, fence, other) = (world.bytes(), world.key(), world.key());
    let group = Group::new(folkmoot_protocol::ids::LogId(log), fence);
    let good = group.open_request();

    let mut request = good.clone();
    let proof = group.proof(folkmoot_protocol::proof::Method::Open, 0, &group.branch.0);
    request.fence_signature = proof.sign(&other).to_vec();
    assert_eq!(world.open(request), Err(Refusal::BadProof));

    // A signature for an append is none for an Open.
    let mut request = good.clone();
    let proof = group.proof(folkmoot_protocol::proof::Method::Append, 0, &group.branch.0);
    request.fence_signature = proof.sign(&group.fences[0]).to_vec();
    assert_eq!(world.open(request), Err(Refusal::BadProof));

    let mut request = good.clone();
    request.open = 2u16.to_bytes();
    request.open.extend_from_slice(&good.open[2..]);
    let malformed = Err(Refusal::Malformed("open".into()));
    assert_eq!(world.open(request), malformed);
    let mut request = good.clone();
    request.open.push(0);
    assert_eq!(world.open(request), malformed);

    assert!(world.open(good).is_ok());
}
