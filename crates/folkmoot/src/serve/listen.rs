//! Connections: accepted, shaken hands with, served, and let go.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tower::ServiceExt;

use super::answers::paced;
use super::budget::{Budget, Counted};
use super::limits::{self, Addresses};

/// After accepting has failed, mostly for want of file descriptors.
const BREATH: Duration = Duration::from_millis(50);

/// Serves `router` until `stop` ends; then gives requests under way a little time.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    stop: impl Future<Output = ()>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let addresses = Arc::new(Addresses::default());
    let budgets = Budgets {
        requests: Budget::new(limits::REQUEST_BYTES),
        answers: Budget::new(limits::ANSWER_BYTES),
    };
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, peer, place)) = accepted else {
            sleep(BREATH).await;
            continue;
        };
        if let Some(counted) = addresses.count(peer.ip()) {
            let visit = Visit {
                peer,
                budgets: budgets.clone(),
                _counted: counted,
                _place: place,
            };
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(attend(stream, acceptor, router, visit, graceful.watcher()));
        }
    }
    drop(listener);
    // Whoever is not done by then is cut off: what was acknowledged is durable.
    let _ = timeout(limits::GRACE, graceful.shutdown()).await;
}

/// Waits for a place, then for a connection.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = places
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, place))
}

/// Memory for what is asked and for what is answered.
#[derive(Clone)]
struct Budgets {
    requests: Arc<Budget>,
    answers: Arc<Budget>,
}

/// A connection's place among all, and among its address's.
struct Visit {
    peer: SocketAddr,
    budgets: Budgets,
    _counted: limits::Counted,
    _place: OwnedSemaphorePermit,
}

/// One connection, from handshake to end. What goes wrong here is the peer's affair.
async fn attend(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    visit: Visit,
    watcher: Watcher,
) {
    let Ok(Ok(stream)) = timeout(limits::HANDSHAKE, acceptor.accept(stream)).await else {
        return;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    let first = Arc::new(Notify::new());
    let came = first.clone();
    let service = service_fn(move |request| {
        came.notify_one();
        answer(request, router.clone(), visit.peer, visit.budgets.clone())
    });
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(limits::KEEP_ALIVE)
            .keep_alive_timeout(limits::KEEP_ALIVE)
            .max_concurrent_streams(limits::STREAMS)
            .max_header_list_size(limits::HEADER_BYTES)
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .serve_connection(stream, service);
        converse(watcher.watch(connection), &first).await;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEADER)
            .keep_alive(false)
            .max_buf_size(limits::HEADER_BYTES as usize)
            .serve_connection(stream, service);
        converse(watcher.watch(connection), &first).await;
    }
}

/// A connection, as long as it lasts; a short time only if no request comes. An error ends it, and
/// that is all there is to do about it.
async fn converse<T>(connection: impl Future<Output = T>, first: &Notify) {
    tokio::pin!(connection);
    let came = tokio::select! {
        _ = &mut connection => return,
        came = timeout(limits::FIRST_REQUEST, first.notified()) => came,
    };
    if came.is_ok() {
        let _ = connection.await;
    }
}

/// One request. The services count some calls by the address that they come from. The share of
/// memory is held until the answer begins.
async fn answer(
    request: Request<Incoming>,
    router: Router,
    peer: SocketAddr,
    budgets: Budgets,
) -> Result<Response<Body>, Infallible> {
    let share = budgets.requests.share();
    let held = share.clone();
    let mut request = request.map(|body| Counted { body, share });
    request.extensions_mut().insert(peer);
    let response = timeout(limits::REQUEST, router.oneshot(request)).await;
    drop(held);
    let Ok(response) = response else {
        return Ok(Status::deadline_exceeded("the request took too long").into_http());
    };
    response.map(|response| paced(response, &budgets.answers))
}

#[cfg(test)]
mod tests {
    use folkmoot_authentication_service::store::MemoryStore;
    use folkmoot_authentication_service::{AuthenticationService, grpc};
    use folkmoot_credential::keys::SigningKey;
    use folkmoot_protocol::Refusal;
    use folkmoot_protocol::authentication::RegisterRequest;
    use folkmoot_protocol::authentication::accounts_client::AccountsClient;
    use folkmoot_protocol::rate::Rate;
    use tonic::service::Routes;
    use tonic::transport::Endpoint;

    use super::*;

    #[tokio::test]
    async fn a_request_that_finds_no_memory_is_told_to_come_again() {
        let key = SigningKey::from_seed([1; 32].into());
        let domain = "localhost".parse().unwrap();
        let service = Arc::new(AuthenticationService::new(
            MemoryStore::default(),
            key,
            domain,
        ));
        let router = grpc::add_to(Routes::default(), service, || 0, Rate::default())
            .prepare()
            .into_axum_router();
        let budgets = Budgets {
            requests: Budget::new(1000),
            answers: Budget::new(1000),
        };
        let peer = SocketAddr::from(([203, 0, 113, 1], 1));

        let (here, there) = tokio::io::duplex(1 << 16);
        let service =
            service_fn(move |request| answer(request, router.clone(), peer, budgets.clone()));
        tokio::spawn(
            http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(there), service),
        );
        let mut here = Some(TokioIo::new(here));
        let connector = tower::service_fn(move |_| {
            let connection = here.take().ok_or(io::ErrorKind::NotConnected);
            async { connection.map_err(io::Error::from) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .unwrap();
        let mut accounts = AccountsClient::new(channel);

        for (length, expected) in [
            (2000, Refusal::Busy(1000)),
            (500, Refusal::Malformed("registration".into())),
            (990, Refusal::Malformed("registration".into())),
        ] {
            let request = RegisterRequest {
                registration: vec![7; length],
                ..RegisterRequest::default()
            };
            let status = accounts.register(request).await.unwrap_err();
            assert_eq!(Refusal::from_bytes(status.details()), Some(expected));
        }
    }
}
