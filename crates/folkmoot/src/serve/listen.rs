//! Connections: accepted, shaken hands with, served, and let go.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::rate::Limiter;
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
use tonic::{Code, Status};
use tower::ServiceExt;

use super::answers::{Holding, paced};
use super::budget::{Budget, Budgets, Counted};
use super::limits::{self, Addresses};

/// After accepting has failed, mostly for want of file descriptors.
const BREATH: Duration = Duration::from_millis(50);

/// When to come again if there are too many requests under way, in milliseconds.
const RETRY: u64 = 1000;

/// Serves `router` until `stop` ends; then gives requests under way a little time. Addresses of
/// loopback are trusted, or not.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    trusts_loopback: bool,
    stop: impl Future<Output = ()>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let edge = Arc::new(Edge::new(trusts_loopback));
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
        if let Some(counted) = edge.addresses.count(peer.ip()) {
            let visit = Arc::new(Visit {
                peer,
                edge: edge.clone(),
                counted,
                running: AtomicUsize::new(0),
                moved: Notify::new(),
                stalled: Arc::default(),
                _place: place,
            });
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

/// What all connections share.
struct Edge {
    addresses: Arc<Addresses>,
    calls: Limiter,
    request_bytes: Arc<Budget>,
    answer_bytes: Arc<Budget>,
    begun: Instant,
}

impl Edge {
    fn new(trusts_loopback: bool) -> Self {
        Self {
            addresses: Addresses::new(trusts_loopback),
            calls: Limiter::new(limits::CALLS),
            request_bytes: Budget::new(limits::REQUEST_BYTES),
            answer_bytes: Budget::new(limits::ANSWER_BYTES),
            begun: Instant::now(),
        }
    }

    /// Counts a request of an address.
    fn count(&self, ip: IpAddr) -> Result<(), Refusal> {
        if self.addresses.trusts(ip) {
            return Ok(());
        }
        let now = self.begun.elapsed().as_millis() as u64;
        self.calls.spend(Some(ip), 1, now)
    }
}

/// A connection: its place among all and among its address's, and what goes on there.
struct Visit {
    peer: SocketAddr,
    edge: Arc<Edge>,
    counted: limits::Counted,
    /// Requests under way, until their answers are taken.
    running: AtomicUsize,
    /// Whenever a request comes or is over.
    moved: Notify,
    /// An answer is not taken.
    stalled: Arc<Notify>,
    _place: OwnedSemaphorePermit,
}

/// A request that is under way until this is dropped.
struct Running {
    visit: Arc<Visit>,
    _place: OwnedSemaphorePermit,
}

impl Visit {
    /// A request begins, if its address may have one more.
    fn begin(self: &Arc<Self>) -> Result<Running, Refusal> {
        self.edge.count(self.peer.ip())?;
        let place = self.counted.bounds.request().ok_or(Refusal::Busy(RETRY))?;
        self.running.fetch_add(1, Ordering::Relaxed);
        self.moved.notify_one();
        Ok(Running {
            visit: self.clone(),
            _place: place,
        })
    }

    fn requests(&self) -> Budgets {
        let own = &self.counted.bounds.request_bytes;
        Budgets([own.clone(), self.edge.request_bytes.clone()])
    }

    fn answers(&self) -> Budgets {
        let own = &self.counted.bounds.answer_bytes;
        Budgets([own.clone(), self.edge.answer_bytes.clone()])
    }

    /// Ends when the connection is of no use: no request has come in time, or has been there for long.
    async fn idle(&self) {
        let mut patience = limits::FIRST_REQUEST;
        loop {
            let moved = timeout(patience, self.moved.notified()).await.is_ok();
            if !moved && self.running.load(Ordering::Relaxed) == 0 {
                return;
            }
            patience = limits::IDLE;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.visit.running.fetch_sub(1, Ordering::Relaxed);
        self.visit.moved.notify_one();
    }
}

/// One connection, from handshake to end. What goes wrong here is the peer's affair.
async fn attend(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    visit: Arc<Visit>,
    watcher: Watcher,
) {
    let Ok(Ok(stream)) = timeout(limits::HANDSHAKE, acceptor.accept(stream)).await else {
        return;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    let at = visit.clone();
    let service = service_fn(move |request| answer(request, router.clone(), at.clone()));
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(limits::KEEP_ALIVE)
            .keep_alive_timeout(limits::KEEP_ALIVE)
            .max_concurrent_streams(limits::STREAMS)
            .max_header_list_size(limits::HEADER_BYTES)
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .max_send_buf_size(limits::SEND_BUFFER)
            .serve_connection(stream, service);
        converse(watcher.watch(connection), &visit).await;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEADER)
            .keep_alive(false)
            .max_buf_size(limits::HEADER_BYTES as usize)
            .serve_connection(stream, service);
        converse(watcher.watch(connection), &visit).await;
    }
}

/// A connection, as long as it is of use. An error ends it, and that is all there is to do about it.
async fn converse<T>(connection: impl Future<Output = T>, visit: &Visit) {
    tokio::select! {
        _ = connection => {}
        () = visit.idle() => {}
        () = visit.stalled.notified() => {}
    }
}

/// One request. The services count some calls by the address that they come from. The share of
/// memory is held until the answer begins, the request's place until it has been taken.
async fn answer(
    request: Request<Incoming>,
    router: Router,
    visit: Arc<Visit>,
) -> Result<Response<Body>, Infallible> {
    let running = match visit.begin() {
        Ok(running) => running,
        Err(refusal) => return Ok(Status::from(refusal).into_http()),
    };
    let share = visit.requests().share();
    let held = share.clone();
    let mut request = request.map(|body| Counted::new(body, limits::LARGEST, share));
    request.extensions_mut().insert(visit.peer);
    let response = timeout(limits::REQUEST, router.oneshot(request)).await;
    drop(held);
    let Ok(response) = response else {
        return Ok(Status::from(Refusal::TooSlow).into_http());
    };
    response.map(|response| {
        let response = paced(typed(response), &visit.answers(), &visit.stalled);
        response.map(|body| {
            Body::new(Holding {
                body,
                _held: running,
            })
        })
    })
}

/// What gRPC itself refuses is told as the services tell it.
fn typed(response: Response<Body>) -> Response<Body> {
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    let refusal = match status.code() {
        _ if !status.details().is_empty() => return response,
        Code::OutOfRange => Refusal::TooLarge,
        Code::Internal | Code::InvalidArgument => Refusal::Malformed("message".into()),
        Code::DeadlineExceeded => Refusal::TooSlow,
        _ => return response,
    };
    Status::from(refusal).into_http()
}

#[cfg(test)]
mod tests {
    use folkmoot_authentication_service::store::MemoryStore;
    use folkmoot_authentication_service::{AuthenticationService, grpc};
    use folkmoot_credential::keys::SigningKey;
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
        let edge = Arc::new(Edge {
            request_bytes: Budget::new(1000),
            ..Edge::new(true)
        });
        let peer = SocketAddr::from(([203, 0, 113, 1], 1));
        let places = Arc::new(Semaphore::new(1));
        let visit = Arc::new(Visit {
            peer,
            counted: edge.addresses.count(peer.ip()).unwrap(),
            edge,
            running: AtomicUsize::new(0),
            moved: Notify::new(),
            stalled: Arc::default(),
            _place: places.acquire_owned().await.unwrap(),
        });

        let (here, there) = tokio::io::duplex(1 << 16);
        let service = service_fn(move |request| answer(request, router.clone(), visit.clone()));
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
