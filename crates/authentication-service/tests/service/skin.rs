//! The same service behind gRPC.

use std::sync::Arc;

use folkmoot_authentication_service::grpc::add_to;
use folkmoot_authentication_service::store::MemoryStore;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::authentication::LookUpRequest;
use folkmoot_protocol::authentication::accounts_client::AccountsClient;
use folkmoot_protocol::authentication::directory_client::DirectoryClient;
use folkmoot_protocol::rate::Rate;
use tonic::service::Routes;

use crate::people::{NOW, Person, service};

fn routes(rate: Rate) -> Routes {
    let service = Arc::new(service(MemoryStore::default()));
    add_to(Routes::default(), service, || NOW * 1000, rate)
}

fn refusal(status: &tonic::Status) -> Option<Refusal> {
    Refusal::from_bytes(status.details())
}

fn look_up(name: &str) -> LookUpRequest {
    LookUpRequest {
        name: name.into(),
        ..LookUpRequest::default()
    }
}

#[tokio::test]
async fn calls_and_refusals_pass() {
    let routes = routes(Rate::default());
    let mut accounts = AccountsClient::new(routes.clone());
    let mut directory = DirectoryClient::new(routes);
    let alice = Person::new("alice@example.org", 10);
    let status = directory.look_up(look_up("alice")).await.unwrap_err();
    assert_eq!(refusal(&status), Some(Refusal::UnknownUser));
    let registered = accounts.register(alice.request()).await.unwrap();
    let found = directory.look_up(look_up("alice")).await.unwrap();
    assert_eq!(found.get_ref().binding, registered.get_ref().binding);
    assert_eq!(found.get_ref().devices.len(), 1);

    let mut large = alice.request();
    large.registration = vec![0; 1 << 20];
    let status = accounts.register(large).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange);
}

#[tokio::test]
async fn an_address_may_ask_so_often() {
    let rate = Rate {
        burst: 2,
        per_second: 4,
    };
    let mut directory = DirectoryClient::new(routes(rate));
    for expected in [
        Refusal::UnknownUser,
        Refusal::UnknownUser,
        Refusal::Rate(250),
    ] {
        let status = directory.look_up(look_up("bob")).await.unwrap_err();
        assert_eq!(refusal(&status), Some(expected));
    }
}
