//! The SDK as an application uses it, with its state in encrypted files, and never more than one device
//! running at a time.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use folkmoot_client::key::StoreKey;
use folkmoot_client::store::Sqlite;
use folkmoot_client::transport::{ServerUrl, ServiceAddress, Transport, TransportError};
use folkmoot_client::{Client, Error, Event, Standing, What, World};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::well_known::{Service, WellKnown};
use folkmoot_simulation::{BEGINNING, DOMAIN, Sim, URL};
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, SeedableRng};

/// The services, one call at a time.
struct Wire<'a> {
    sim: &'a Mutex<Sim>,
    down: bool,
}

impl Transport for Wire<'_> {
    async fn call(&self, to: &ServiceAddress, call: Call) -> Result<Answer, TransportError> {
        if self.down {
            let (url, reason) = (to.url.clone(), "down".into());
            return Err(TransportError::Unreachable { url, reason });
        }
        self.sim
            .lock()
            .unwrap()
            .serve(to, &call)
            .map_err(TransportError::Refused)
    }
}

struct Clock(ChaCha20Rng);

impl World for Clock {
    fn now(&self) -> u64 {
        BEGINNING
    }

    fn rng(&mut self) -> &mut dyn CryptoRng {
        &mut self.0
    }

    async fn sleep(&self, _milliseconds: u64) {}
}

/// Nothing here ever waits.
fn now<T>(future: impl Future<Output = T> + Send) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

/// A device, for one command.
fn device<'a>(home: &Path, sim: &'a Mutex<Sim>, seed: u64) -> Client<Sqlite, Wire<'a>, Clock> {
    std::fs::create_dir_all(home).unwrap();
    let key = StoreKey::from_bytes([7; 32].into());
    let store = Sqlite::open(&home.join("store"), &key).unwrap();
    Client::new(
        store,
        Wire { sim, down: false },
        Clock(ChaCha20Rng::seed_from_u64(seed)),
    )
}

/// What the domain publishes.
fn well_known(sim: &Mutex<Sim>) -> WellKnown {
    let sim = sim.lock().unwrap();
    let service = |key| {
        let url = URL.into();
        Some(Service { url, key })
    };
    WellKnown {
        version: 1,
        domain: DOMAIN.into(),
        authentication: service(sim.authentication_key()),
        delivery: service(sim.delivery_key()),
        token_keys: Vec::new(),
    }
}

#[test]
fn three_homes_talk_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let sim = Mutex::new(Sim::empty(1));
    let mut seed = 0;
    let mut open = |name: &str| {
        seed += 1;
        device(&folder.path().join(name), &sim, seed)
    };
    let server = ServerUrl {
        url: URL.into(),
        pin: None,
    };
    let well_known = well_known(&sim);
    for name in ["alice", "bob", "charlie"] {
        let account = now(open(name).register(name, &server, &well_known)).unwrap();
        assert!(account.ready);
        assert_eq!(account.user.to_string(), format!("{name}@{DOMAIN}"));
    }
    let again = now(open("alice").register("alice", &server, &well_known));
    assert!(matches!(again, Err(Error::AlreadyRegistered(_))));

    let users = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let moot = now(open("alice").new_conversation("moot", &users(&["bob"]))).unwrap();
    assert_eq!((moot.epoch, moot.standing), (1, Standing::Member));
    let news = now(open("bob").sync()).unwrap();
    let joined = |event: &Event| matches!(event, Event::News { entry, .. } if matches!(entry.what, What::Joined(_)));
    assert!(news.iter().any(joined));
    now(open("alice").add("moot", &users(&["charlie"]))).unwrap();
    for name in ["bob", "charlie"] {
        now(open(name).sync()).unwrap();
        now(open(name).send("moot", "text/plain", name.as_bytes())).unwrap();
    }
    now(open("bob").update("moot")).unwrap();
    now(open("alice").remove("moot", &users(&["charlie"]))).unwrap();
    now(open("alice").send("moot", "text/plain", b"secret")).unwrap();
    let mut seen = Vec::new();
    for name in ["alice", "bob", "charlie"] {
        let mut client = open(name);
        now(client.sync()).unwrap();
        let history = client.history("moot", None).unwrap();
        let said: Vec<_> = history
            .iter()
            .filter_map(|line| match &line.what {
                What::Message(message) => Some(String::from_utf8_lossy(&message.content).into()),
                _ => None,
            })
            .collect::<Vec<String>>();
        let middle = history[history.len() / 2].position();
        let rest = client.history("moot", Some(middle)).unwrap();
        assert_eq!(rest, history[history.len() / 2 + 1..]);
        seen.push((
            said,
            client.conversation("moot").unwrap(),
            client.members("moot"),
        ));
    }
    assert_eq!(seen[0].0, ["bob", "charlie", "secret"]);
    assert_eq!(seen[1].0, ["bob", "charlie", "secret"]);
    assert_eq!(seen[2].0, ["bob", "charlie"]);
    assert_eq!(seen[0].1, seen[1].1);
    assert_eq!(seen[2].1.standing, Standing::Removed);
    let members = seen[0].2.clone().unwrap();
    let names: Vec<_> = members
        .members
        .iter()
        .map(|m| (m.user.name.as_str(), m.own))
        .collect();
    assert_eq!(names, [("alice", true), ("bob", false)]);
    assert_eq!(members.epoch_authenticator, seen[0].1.epoch_authenticator);
    assert!(matches!(seen[2].2, Err(Error::NoLongerMember(_))));
}

#[test]
fn what_cannot_be_sent_now_is_sent_later() {
    let folder = tempfile::tempdir().unwrap();
    let sim = Mutex::new(Sim::empty(2));
    let server = ServerUrl {
        url: URL.into(),
        pin: None,
    };
    let well_known = well_known(&sim);
    let mut alice = device(folder.path(), &sim, 1);
    alice.transport_mut().down = true;
    let registered = now(alice.register("alice", &server, &well_known));
    assert!(
        matches!(registered, Err(Error::Pending(_))),
        "{registered:?}"
    );
    alice.transport_mut().down = false;
    now(alice.sync()).unwrap();
    assert!(alice.account().unwrap().unwrap().ready);

    now(alice.new_conversation("moot", &[])).unwrap();
    alice.transport_mut().down = true;
    let sent = now(alice.send("moot", "text/plain", b"later"));
    assert!(matches!(sent, Err(Error::Pending(_))), "{sent:?}");
    assert_eq!(alice.conversation("moot").unwrap().waiting, 1);
    drop(alice);
    let mut alice = device(folder.path(), &sim, 2);
    let done = now(alice.sync()).unwrap();
    assert!(done.iter().any(|event| matches!(event, Event::Done { .. })));
    assert_eq!(alice.conversation("moot").unwrap().waiting, 0);
    assert!(matches!(
        alice.conversation("mood"),
        Err(Error::UnknownConversation(_))
    ));
}

#[test]
fn a_command_that_was_given_up_does_not_stand_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let sim = Mutex::new(Sim::empty(3));
    let server = ServerUrl {
        url: URL.into(),
        pin: None,
    };
    let well_known = well_known(&sim);
    /// Never answers the first call.
    struct Stuck<'a>(Wire<'a>, std::sync::atomic::AtomicBool);
    impl Transport for Stuck<'_> {
        async fn call(&self, to: &ServiceAddress, call: Call) -> Result<Answer, TransportError> {
            if !self.1.swap(true, std::sync::atomic::Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            self.0.call(to, call).await
        }
    }
    let key = StoreKey::from_bytes([7; 32].into());
    let store = Sqlite::open(&folder.path().join("store"), &key).unwrap();
    let stuck = Stuck(
        Wire {
            sim: &sim,
            down: false,
        },
        false.into(),
    );
    let mut alice = Client::new(store, stuck, Clock(ChaCha20Rng::seed_from_u64(1)));
    {
        let mut first = pin!(alice.register("alice", &server, &well_known));
        assert!(
            first
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }
    assert!(
        now(alice.register("alice", &server, &well_known))
            .unwrap()
            .ready
    );
}

#[test]
fn two_processes_share_a_home() {
    let folder = tempfile::tempdir().unwrap();
    let sim = Mutex::new(Sim::empty(4));
    let server = ServerUrl {
        url: URL.into(),
        pin: None,
    };
    let well_known = well_known(&sim);
    let open = |name: &str, seed| device(&folder.path().join(name), &sim, seed);
    let mut bob = open("bob", 1);
    now(bob.register("bob", &server, &well_known)).unwrap();
    let mut first = open("alice", 2);
    now(first.register("alice", &server, &well_known)).unwrap();
    now(first.new_conversation("moot", &["bob".into()])).unwrap();
    now(bob.sync()).unwrap();

    // Both hold the group in memory, and each moves it on behind the other's back.
    let mut second = open("alice", 3);
    for (round, text) in ["one", "two", "three", "four"].into_iter().enumerate() {
        let client = if round % 2 == 0 {
            &mut first
        } else {
            &mut second
        };
        now(client.send("moot", "text/plain", text.as_bytes())).unwrap();
        if round == 1 {
            now(first.update("moot")).unwrap();
        }
    }
    now(second.update("moot")).unwrap();
    now(first.send("moot", "text/plain", b"five")).unwrap();
    now(bob.sync()).unwrap();
    let said = |client: &mut Client<Sqlite, Wire<'_>, Clock>| -> Vec<String> {
        let history = client.history("moot", None).unwrap();
        let text = |line: folkmoot_client::HistoryEntry| match line.what {
            What::Message(message) => Some(String::from_utf8_lossy(&message.content).into()),
            _ => None,
        };
        history.into_iter().filter_map(text).collect()
    };
    let expected = ["one", "two", "three", "four", "five"];
    assert_eq!(said(&mut first), expected);
    assert_eq!(said(&mut second), expected);
    assert_eq!(said(&mut bob), expected);
    let alices = first.conversation("moot").unwrap();
    assert_eq!(alices, second.conversation("moot").unwrap());
    assert_eq!(alices, bob.conversation("moot").unwrap());
}
