//! A vandal, what it spoils, and what that costs the others.

use folkmoot_client::logic::Intent;
use folkmoot_client::store::{Store, StoreError, Table};
use folkmoot_client::{Standing, What};
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_mls::framing::PrivateMessage;
use folkmoot_mls::message::MlsMessage;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::AppendRequest;
use folkmoot_protocol::ids::{LogId, PageAddress};
use folkmoot_protocol::keys::SigningKey;
use folkmoot_protocol::log::Append;
use folkmoot_protocol::proof::{CommitterProof, FenceProof, Method};
use folkmoot_protocol::{Refusal, VERSION};
use folkmoot_simulation::{Sim, new, send};
use zeroize::Zeroizing;

pub const ALICE: usize = 0;
pub const EIGHT: [&str; 8] = [
    "alice", "bob", "charlie", "dora", "emil", "frida", "georg", "hanna",
];

/// A key that somebody's device holds.
pub fn stolen(sim: &mut Sim, who: usize, table: Table, key: &[u8]) -> Option<SigningKey> {
    let row = sim
        .person(who)
        .store
        .transaction::<_, StoreError>(|tx| tx.get(table, key));
    let seed: [u8; 32] = row.unwrap()?.as_slice().try_into().unwrap();
    Some(SigningKey::from_seed(Zeroizing::new(seed)))
}

/// Who spoils, and with what.
pub struct Vandal {
    pub who: usize,
    pub log: LogId,
}

/// What a spoilt commit cost the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub rounds: u64,
    pub milliseconds: u64,
    pub commits: u64,
    pub bytes: u64,
    pub tokens: u64,
}

/// A commit that the vandal's device made, before it is changed.
pub struct Made {
    pub append: Append,
    pub request: AppendRequest,
    pub fence: SigningKey,
    pub committer: Option<SigningKey>,
}

impl Vandal {
    /// Has the vandal's device make a commit, and puts the device back to where it was.
    pub fn make(&self, sim: &mut Sim, wish: Intent) -> Made {
        self.try_make(sim, wish)
            .expect("the vandal's device commits")
    }

    /// The same, if the device has something to commit.
    pub fn try_make(&self, sim: &mut Sim, wish: Intent) -> Option<Made> {
        let copy = sim.person(self.who).store.copy().unwrap();
        let begun = sim.begin(self.who, wish);
        sim.deliver_until_append();
        let call = sim.next_call(self.who);
        let (Ok(()), Some(Call::Append(request))) = (begun, call) else {
            sim.restore(self.who, copy);
            return None;
        };
        let append = Append::from_bytes(&request.append).unwrap();
        let key = [self.log.as_ref(), &append.epoch.to_be_bytes()].concat();
        let fence = stolen(sim, self.who, Table::Fences, &key).unwrap();
        let committer = stolen(sim, self.who, Table::CommitterKeys, self.log.as_ref());
        sim.restore(self.who, copy);
        Some(Made {
            append,
            request,
            fence,
            committer,
        })
    }

    /// Makes a commit, changes it and offers it. Returns what the service says.
    pub fn spoil(
        &self,
        sim: &mut Sim,
        wish: Intent,
        change: impl Fn(&mut Append),
    ) -> Result<(), Refusal> {
        self.make(sim, wish).offer(sim, change)
    }
}

impl Made {
    /// Changes the commit, signs and offers it. Returns what the service says.
    pub fn offer(self, sim: &mut Sim, change: impl Fn(&mut Append)) -> Result<(), Refusal> {
        let Self {
            mut append,
            request,
            fence,
            committer,
        } = self;
        change(&mut append);
        let (log, commit, delivery_service) = (append.log, append.id(), sim.delivery_key());
        let proof = FenceProof {
            version: VERSION,
            delivery_service,
            log,
            branch: append.branch,
            epoch: append.epoch,
            method: Method::Append,
            subject: commit.0.into(),
        };
        let by = CommitterProof {
            version: VERSION,
            delivery_service,
            log,
            commit,
        };
        let request = AppendRequest {
            append: append.to_bytes(),
            fence_signature: proof.sign(&fence).to_vec(),
            committer_signature: committer.map(|key| by.sign(&key)).unwrap_or_default(),
            ..request
        };
        sim.ask_delivery(Call::Append(request)).map(drop)
    }
}

/// Bytes that nobody can read.
pub fn junk(append: &mut Append) {
    let Ok(MlsMessage::PrivateMessage(message)) = MlsMessage::from_bytes(&append.message) else {
        panic!("not private");
    };
    let junk = PrivateMessage {
        encrypted_sender_data: vec![3; 28].into(),
        ciphertext: vec![7; 500].into(),
        ..message
    };
    append.message = MlsMessage::PrivateMessage(junk).to_bytes().into();
}

pub fn foreign_fence(append: &mut Append) {
    if let Some(commit) = &mut append.commit {
        commit.next_fence_key.0[0] ^= 1;
    }
}

/// Lets the service forget a page, perhaps, that the tree still has.
pub fn foreign_pages(append: &mut Append) {
    if let Some(commit) = &mut append.commit {
        commit.replaced = vec![PageAddress([7; 32])];
    }
}

/// Shuts the log for an hour after each commit.
pub fn slow(append: &mut Append) {
    if let Some(commit) = &mut append.commit {
        commit.commit_interval = Some(3600);
    }
}

pub fn unmarked(append: &mut Append) {
    if let Some(commit) = &mut append.commit {
        commit.cut = false;
    }
}

/// What the members do until one of them has said something again; who is awake first, acts.
pub fn goes_on(sim: &mut Sim, awake: &[usize], log: LogId, text: &str, cost: &mut Cost) {
    let (begun, heard) = (sim.now(), sim.heard().len());
    sim.sync(awake[0]);
    sim.ask(awake[0], send(log, text)).unwrap();
    cost.rounds += 1;
    cost.milliseconds += sim.now() - begun;
    for call in &sim.heard()[heard..] {
        cost.bytes += call.encode().len() as u64;
        if let Call::Append(request) = call {
            let append = Append::from_bytes(&request.append).unwrap();
            cost.commits += u64::from(append.commit.is_some());
            cost.tokens += u64::from(append.is_paid());
        }
    }
    for who in awake {
        sim.sync(*who);
        assert!(
            sim.said(*who, "moot")
                .iter()
                .any(|line| line.ends_with(text)),
            "{who} reads on"
        );
    }
    agree(sim, awake);
}

pub fn agree(sim: &mut Sim, who: &[usize]) {
    let first = sim.conversation(who[0], "moot");
    for who in who {
        let seen = sim.conversation(*who, "moot");
        assert_eq!(seen.standing, Standing::Member, "{who}");
        assert_eq!(seen.contested, None, "{who}");
        assert_eq!(seen.epoch_authenticator, first.epoch_authenticator, "{who}");
    }
}

/// Whether a vandal is no member any more. Its device was put back to before what it made: if that is signed by
/// it, it takes itself for an old copy, and says nothing any more.
pub fn is_out(sim: &mut Sim, who: usize) -> bool {
    let standing = sim.conversation(who, "moot").standing;
    matches!(standing, Standing::Removed | Standing::Stopped)
}

/// Whom the members name as the author of the last invalid commit.
pub fn named(sim: &mut Sim, who: usize) -> Option<String> {
    let lines = sim.history(who, "moot").into_iter().rev();
    let mut invalid = lines.filter_map(|line| match line.what {
        What::Invalid(invalid) => Some(invalid.by.map(|user| user.name.to_string())),
        _ => None,
    });
    invalid.next().expect("a commit was invalid")
}

pub fn eight(seed: u64) -> (Sim, LogId) {
    let mut sim = Sim::new(seed, &EIGHT);
    sim.ask(ALICE, new("moot", &EIGHT[1..])).unwrap();
    sim.sync_all();
    let log = sim.conversation(ALICE, "moot").log;
    sim.listen();
    (sim, log)
}

/// A commit beside the one that is there.
pub fn contesting(append: &mut Append) {
    if let Some(commit) = &mut append.commit {
        (commit.contest, commit.cut) = (true, true);
    }
}

/// A group of `size` people with committers, of whom a dozen are ever there: the log, and those live
/// members but the founder who are committers.
pub fn large(seed: u64, size: usize) -> (Sim, LogId, Vec<usize>) {
    let names: Vec<String> = (0..size).map(|number| format!("m{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut sim = Sim::new(seed, &names);
    sim.ask(0, new("moot", &names[1..])).unwrap();
    let log = sim.conversation(0, "moot").log;
    for _ in 0..3 {
        for who in 0..LIVE {
            sim.pass(61_000);
            sim.sync(who);
        }
    }
    sim.listen();
    let mut committers: Vec<usize> = (1..LIVE).collect();
    committers.retain(|who| {
        stolen(&mut sim, *who, Table::CommitterKeys, log.as_ref()).is_some()
            && sim.conversation(*who, "moot").standing == Standing::Member
    });
    assert!(
        committers.len() >= 4,
        "others offer themselves: {committers:?}"
    );
    (sim, log, committers)
}

/// So many of a large group ever come.
pub const LIVE: usize = 12;

/// A group that is just large enough to have committers.
pub fn committers(seed: u64) -> (Sim, LogId, Vec<usize>) {
    large(seed, 66)
}
