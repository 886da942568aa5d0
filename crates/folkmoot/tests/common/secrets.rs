//! What people's homes hold and others must not learn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use folkmoot_client::key::StoreKey;
use folkmoot_client::store::{MemoryStore, Row, Sqlite, Store, StoreError, Table, Transaction};
use folkmoot_client::transport::{Grpc, ServerUrl};
use folkmoot_client::{Client, Event, System};
use folkmoot_credential::Version;
use folkmoot_mls::codec::{Bytes, Decode, Encode, Reader};
use folkmoot_mls::crypto::aws_lc::PROVIDER;
use folkmoot_mls::framing::ContentType;
use folkmoot_mls::group::Group;
use folkmoot_mls::key_package::KeyPackageBundle;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::records::{RecordKey, Records};
use folkmoot_protocol::delivery::AppendRequest;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::log::Append;
use prost::Message;
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use super::tap::Request;
use super::{Person, Server};

/// All rows of a table in somebody's home.
fn rows(person: &Person, table: Table) -> Vec<(Vec<u8>, Zeroizing<Vec<u8>>)> {
    let key = StoreKey::from_file(&person.home.with_extension("key")).unwrap();
    let mut store = Sqlite::open(&person.home.join("state.sqlite"), &key).unwrap();
    store
        .transaction::<_, StoreError>(|tx| tx.scan(table, &[], None, usize::MAX))
        .unwrap()
}

/// Whether this text is in somebody's outbox.
pub fn waits_to_be_sent(person: &Person, text: &str) -> bool {
    let content = Bytes::from(text.as_bytes()).to_bytes();
    rows(person, Table::Outbox)
        .iter()
        .any(|(_, row)| row.windows(content.len()).any(|part| part == content))
}

/// The engine's records of a group, the log's id in front of each key.
struct Stored {
    log: LogId,
    rows: BTreeMap<Vec<u8>, Zeroizing<Vec<u8>>>,
}

impl Records for Stored {
    fn get(&self, key: &RecordKey) -> Option<Zeroizing<Vec<u8>>> {
        self.rows
            .get(&[self.log.as_ref(), key.as_slice()].concat())
            .cloned()
    }
}

/// The only group of somebody, as it is now.
pub fn group(person: &Person) -> Group {
    groups(person).into_iter().next().expect("a group")
}

/// The groups of somebody, as they are now.
pub fn groups(person: &Person) -> Vec<Group> {
    let mut of: BTreeMap<LogId, BTreeMap<_, _>> = BTreeMap::new();
    for (key, row) in rows(person, Table::Records) {
        let log = LogId(*key.first_chunk().unwrap());
        of.entry(log).or_default().insert(key, row);
    }
    let load = |(log, rows)| Group::load(&PROVIDER, &Stored { log, rows }).unwrap();
    of.into_iter().map(load).collect()
}

/// The KeyPackages that somebody offers, by reference.
pub fn packages(person: &Person) -> Vec<(Vec<u8>, KeyPackageBundle)> {
    let read = |value: &[u8]| {
        let mut reader = Reader::new(value);
        Version::<1>::decode(&mut reader)?;
        KeyPackageBundle::decode(&mut reader)
    };
    rows(person, Table::Packages)
        .into_iter()
        .map(|(reference, value)| (reference, read(&value).unwrap()))
        .collect()
}

/// A member of a group, in this process, who forgets no key of an epoch. So it can tell of each message
/// under which key it was encrypted.
pub struct Witness {
    client: Client<Hoard, Grpc, System>,
    runtime: Runtime,
    kept: Arc<Mutex<Kept>>,
}

/// How many different messages were received.
#[derive(Debug)]
pub struct Used {
    pub applications: usize,
    pub handshakes: usize,
}

impl Witness {
    /// Gets an account of the name `witness`, and starts a group of the people with these names.
    pub fn of_new_group(server: &Server, title: &str, names: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let kept = Arc::new(Mutex::new(Kept::default()));
        let store = Hoard {
            store: MemoryStore::default(),
            kept: kept.clone(),
        };
        let transport = Grpc::new();
        let url: ServerUrl = server.url.parse().unwrap();
        let well_known = runtime.block_on(transport.well_known(&url)).unwrap();
        let mut client = Client::new(store, transport, System::new());
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        runtime.block_on(async {
            let registered = client.register("witness", &url, &well_known).await;
            registered.unwrap();
            client.new_conversation(title, &names).await.unwrap();
        });
        Self {
            client,
            runtime,
            kept,
        }
    }

    /// Checks that of all messages that the service received, taken or not, no two were encrypted under
    /// the same key.
    pub fn used(&mut self, received: &[Request]) -> Used {
        // The connection of long ago may have been given up; the second time it is another.
        self.runtime.block_on(self.client.sync()).unwrap();
        let events = self.runtime.block_on(self.client.sync()).unwrap();
        let blocked = |event: &&Event| matches!(event, Event::Blocked { .. });
        assert_eq!(events.iter().find(blocked), None);
        let log = self.client.conversations().unwrap()[0].log;
        let kept = self.kept.lock().unwrap();
        let of = |rows: &Rows| {
            let rows = rows.clone();
            Stored { log, rows }
        };
        let group = Group::load(&PROVIDER, &of(&kept.now)).unwrap();
        let stored = of(&kept.ever);
        let keys: Vec<MessageKeys> = (0..=group.epoch())
            .map(|epoch| group.load_keys(&PROVIDER, epoch, &stored).unwrap())
            .collect();

        let appends = received
            .iter()
            .filter(|request| request.path().ends_with("Logs/Append"));
        let mut used = BTreeMap::new();
        for message in appends.filter_map(Request::message) {
            let request = AppendRequest::decode(message).unwrap();
            let append = Append::from_bytes(&request.append).unwrap();
            let message = MlsMessage::from_bytes(&append.message).unwrap();
            let MlsMessage::PrivateMessage(message) = message else {
                panic!("only encrypted messages are appended")
            };
            let sender = keys[message.epoch as usize].sender(&message).unwrap();
            let is_application = message.content_type == ContentType::Application;
            let (leaf, generation) = (sender.leaf_index.0, sender.generation);
            let key = (message.epoch, leaf, is_application, generation);
            let first = used.entry(key).or_insert_with(|| append.message.clone());
            assert_eq!(
                *first, append.message,
                "two messages under one key: {key:?}"
            );
        }
        let applications = used
            .keys()
            .filter(|(_, _, is_application, _)| *is_application);
        let applications = applications.count();
        Used {
            applications,
            handshakes: used.len() - applications,
        }
    }
}

type Rows = BTreeMap<Vec<u8>, Zeroizing<Vec<u8>>>;

/// The engine's records.
#[derive(Default)]
struct Kept {
    /// Those that are there now.
    now: Rows,
    /// All that were ever written.
    ever: Rows,
}

/// A store that tells of its records, and keeps those that it is told to delete.
struct Hoard {
    store: MemoryStore,
    kept: Arc<Mutex<Kept>>,
}

impl Store for Hoard {
    fn transaction<R, E: From<StoreError>>(
        &mut self,
        body: impl FnOnce(&mut dyn Transaction) -> Result<R, E>,
    ) -> Result<R, E> {
        let kept = &mut *self.kept.lock().unwrap();
        self.store
            .transaction(|transaction| body(&mut Hoarding { transaction, kept }))
    }
}

struct Hoarding<'a> {
    transaction: &'a mut dyn Transaction,
    kept: &'a mut Kept,
}

impl Transaction for Hoarding<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.transaction.get(table, key)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        if table == Table::Records {
            for rows in [&mut self.kept.now, &mut self.kept.ever] {
                rows.insert(key.to_vec(), value.to_vec().into());
            }
        }
        self.transaction.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        if table == Table::Records {
            self.kept.now.remove(key);
        }
        self.transaction.delete(table, key)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.transaction.scan(table, prefix, after, limit)
    }

    fn last(&self, table: Table, prefix: &[u8]) -> Result<Option<Row>, StoreError> {
        self.transaction.last(table, prefix)
    }

    fn delete_prefix(&mut self, table: Table, prefix: &[u8]) -> Result<(), StoreError> {
        assert_ne!(table, Table::Records, "a group is left");
        self.transaction.delete_prefix(table, prefix)
    }
}
