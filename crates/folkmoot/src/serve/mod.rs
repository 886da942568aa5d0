//! `folkmoot serve`: both services, or one, on one port over TLS 1.3.
//!
//! All state is in one data folder: the services' signing keys, the certificate that is made on
//! loopback, one SQLite file for each service, and the key of the Delivery Service's, unless that comes
//! from elsewhere.

mod answers;
mod at_rest;
mod budget;
mod data;
mod error;
mod issuers;
mod limits;
mod listen;
mod tls;

use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use folkmoot_authentication_service as authentication;
use folkmoot_credential::Domain;
use folkmoot_delivery_service as delivery;
use folkmoot_delivery_service::Retention;
use folkmoot_delivery_service::blobs::Objects;
use folkmoot_delivery_service::store::StoreError;
use folkmoot_protocol::rate::Rate;
use folkmoot_protocol::well_known::{self, Service, WellKnown};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tonic::service::Routes;

use at_rest::{AtRest, Source};
use data::Data;
pub use error::ServeError;
use issuers::Issuers;
use tls::Identity;

/// How often what has expired is deleted.
const SWEEP: Duration = Duration::from_secs(60);

/// How often what has changed goes into the transparency log.
const EPOCH: Duration = Duration::from_millis(authentication::transparency::EPOCH_MS);

/// How often it is looked for bytes of blobs that a crash has left behind.
const TIDY: Duration = Duration::from_secs(24 * 60 * 60);

/// What to serve, and where.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The folder for keys and databases. It is made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The address to listen on. Port 0 takes a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// The part after the @ of the users here, and the host name outside of loopback [default:
    /// localhost]. It cannot change later.
    #[arg(long, value_name = "NAME")]
    domain: Option<Domain>,
    /// Which services to run.
    #[arg(long, value_enum, default_value_t = Roles::All)]
    roles: Roles,
    /// The certificate chain (PEM). On loopback the server makes its own.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    #[command(flatten)]
    at_rest: AtRest,
    /// Days for which the Delivery Service keeps entries and what belongs to them. Whoever was away
    /// for longer has to be added again.
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    retention: u32,
    /// Issue no anonymous tokens and take none: then a rate for each address is all that limits what
    /// strangers can open, take and make.
    #[arg(long, conflicts_with = "issuer")]
    no_tokens: bool,
    /// Take another domain's tokens too: its /.well-known/folkmoot, as a file. It is read again once
    /// a minute, so it can be kept fresh; it has to be fetched once a week at least.
    #[arg(long, value_name = "FILE")]
    issuer: Vec<PathBuf>,
    /// Where encrypted attachments go: a folder, or s3://BUCKET/PREFIX with credentials from the environment
    /// (AWS_ACCESS_KEY_ID and the like) [default: the folder blobs in the data folder].
    #[arg(long, value_name = "PLACE")]
    blobs: Option<String>,
    /// How many MiB of encrypted attachments are kept.
    #[arg(long, value_name = "MIB", default_value_t = 64 << 10)]
    blobs_quota: u64,
    /// Bound what loopback may ask for as anybody else. Else it is the operator's own machine.
    #[arg(long)]
    limit_loopback: bool,
}

/// Which services to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Roles {
    /// Both.
    All,
    /// The Authentication Service.
    Authentication,
    /// The Delivery Service.
    Delivery,
}

/// Serves until it is told to stop (ctrl-c or SIGTERM).
///
/// # Errors
/// [`ServeError`]: the operator is to blame, or the machine.
pub fn run(options: &Options, json: bool) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    runtime.block_on(serve(options, json))
}

async fn serve(options: &Options, json: bool) -> Result<(), ServeError> {
    let stop = stop_signal()?;
    let data = Data::open(&options.data)?;
    let domain = data.domain(options.domain.as_ref())?;
    let identity = identity(options, &data)?;

    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| ServeError::listen(options.listen, &error))?;
    let address = listener
        .local_addr()
        .map_err(|error| ServeError::listen(options.listen, &error))?;
    let url = public_url(address, &domain);

    let trusts_loopback = !options.limit_loopback;
    let is_own = address.ip().is_loopback() && trusts_loopback;
    let keys = options.at_rest.source(&data);
    let missing = keys.missing_file();
    let services = Services::open(options, &data, &domain, &url, is_own)?;
    let made_key = missing.filter(|path| path.exists());
    let rate = if is_own {
        Rate::UNLIMITED
    } else {
        Rate::default()
    };
    let router = services.router(rate);
    let _upkeep = services.upkeep();
    announce(&url, &identity, &domain, made_key, json);
    let stop = async {
        stop.await;
        // Streams would not end by themselves.
        if let Some(delivery) = &services.delivery {
            delivery.end_streams();
        }
    };
    listen::serve(listener, identity.config, router, trusts_loopback, stop).await;
    Ok(())
}

/// Ends when the process is told to stop.
fn stop_signal() -> Result<impl Future<Output = ()>, ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Runtime)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn identity(options: &Options, data: &Data) -> Result<Identity, ServeError> {
    match (&options.tls_cert, &options.tls_key) {
        (Some(certificate), Some(key)) => Identity::read(certificate, key),
        _ if options.listen.ip().is_loopback() => Identity::own(data, options.listen.ip()),
        _ => Err(ServeError::NeedsCertificate(options.listen)),
    }
}

/// Where clients find the server: on loopback by its address, elsewhere by the domain.
fn public_url(address: SocketAddr, domain: &Domain) -> String {
    let port = address.port();
    match address.ip() {
        ip if ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST => {
            format!("https://localhost:{port}")
        }
        ip if ip.is_loopback() => format!("https://{address}"),
        _ => format!("https://{domain}:{port}"),
    }
}

/// The services that run.
struct Services {
    authentication: Option<Arc<AuthenticationService>>,
    delivery: Option<Arc<DeliveryService>>,
    /// Of the Delivery Service's database.
    keys: Source,
    issuers: Arc<Issuers>,
    blobs: Option<Objects>,
}

type AuthenticationService =
    authentication::AuthenticationService<authentication::store::SqliteStore>;
type DeliveryService = delivery::DeliveryService<delivery::SqliteStore>;

impl Services {
    /// Without bounds on what is asked of one log or mailbox where all who ask are the operator's own.
    fn open(
        options: &Options,
        data: &Data,
        domain: &Domain,
        url: &str,
        is_own: bool,
    ) -> Result<Self, ServeError> {
        let (roles, keys) = (options.roles, options.at_rest.source(data));
        let authentication = || {
            let path = data.database("authentication.sqlite")?;
            let store = authentication::store::SqliteStore::open(&path)
                .map_err(|error| ServeError::database(&path, &error))?;
            let key = data.signing_key("authentication.key")?;
            let mut service = AuthenticationService::new(store, key, domain.clone());
            if !options.no_tokens {
                service = service.with_tokens(authentication::KeySchedule::default());
            }
            Ok(Arc::new(service))
        };
        let delivery = || {
            let path = data.database("delivery.sqlite")?;
            let is_new = path.metadata().is_ok_and(|file| file.len() == 0);
            let store = delivery::SqliteStore::open(&path, &keys.open(is_new)?)
                .map_err(|error| ServeError::database(&path, &error))?;
            let key = data.signing_key("delivery.key")?;
            let rates = if is_own {
                delivery::Rates::UNLIMITED
            } else {
                delivery::Rates::default()
            };
            let service = DeliveryService::new(store, key, &mut rand::rng())
                .on_failure(reports())
                .keep_for(Retention {
                    entries: u64::from(options.retention) * 24 * 60 * 60 * 1000,
                    ..Retention::default()
                })
                .rates(rates);
            Ok(Arc::new(service))
        };
        let authentication: Option<Arc<AuthenticationService>> = (roles != Roles::Delivery)
            .then(authentication)
            .transpose()?;
        let delivery: Option<Arc<DeliveryService>> = (roles != Roles::Authentication)
            .then(delivery)
            .transpose()?;
        let blobs = || {
            let own = || data.path("blobs").to_string_lossy().into_owned();
            let place = options.blobs.clone().unwrap_or_else(own);
            Objects::open(&place, options.blobs_quota.saturating_mul(1 << 20))
                .map_err(|error| ServeError::Blobs(place, error))
        };
        let blobs = (roles != Roles::Authentication).then(blobs).transpose()?;
        let published = |key| Service {
            url: url.to_owned(),
            key,
        };
        let document = WellKnown {
            version: 1,
            domain: domain.to_string(),
            authentication: authentication
                .as_ref()
                .map(|service| published(service.public_key())),
            delivery: delivery
                .as_ref()
                .map(|service| published(service.public_key())),
            token_keys: Vec::new(),
        };
        let issuers = Issuers::new(document, options.issuer.clone());
        issuers.refresh(authentication.as_deref(), delivery.as_deref(), now())?;
        if let Some(service) = &authentication {
            // What was promised before the service ended. It reports failures itself, and the next
            // epoch tries again.
            let _ = service.publish(now(), &mut rand::rng());
        }
        Ok(Self {
            authentication,
            delivery,
            keys,
            issuers,
            blobs,
        })
    }

    /// Everything that is served.
    fn router(&self, rate: Rate) -> Router {
        let mut routes = Routes::default();
        if let Some(service) = &self.authentication {
            routes = authentication::grpc::add_to(routes, service.clone(), now, rate);
        }
        if let Some(service) = &self.delivery {
            routes = delivery::grpc::add_to(routes, service.clone(), now, rate);
            if let Some(blobs) = &self.blobs {
                let (service, blobs) = (service.clone(), blobs.clone());
                routes = delivery::grpc::add_blobs_to(routes, service, blobs, now, rate);
            }
        }
        let issuers = self.issuers.clone();
        let page =
            move || async move { ([(CONTENT_TYPE, "application/json")], issuers.document()) };
        routes
            .prepare()
            .into_axum_router()
            .route(well_known::PATH, get(page))
    }

    /// From time to time, until this is dropped: looks which issuer keys there are, and lets the
    /// Delivery Service delete what has expired and encrypt what is to be encrypted anew.
    fn upkeep(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let (authentication, delivery) = (self.authentication.clone(), self.delivery.clone());
        let issuers = self.issuers.clone();
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(SWEEP);
            // The first tick is at once, and the keys are known.
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let (authentication, delivery) = (authentication.clone(), delivery.clone());
                let issuers = issuers.clone();
                let refresh = tokio::task::spawn_blocking(move || {
                    issuers.refresh(authentication.as_deref(), delivery.as_deref(), now())
                });
                if let Ok(Err(error)) = refresh.await {
                    eprintln!("{error}");
                }
            }
        });
        if let Some(service) = self.authentication.clone() {
            tasks.spawn(async move {
                let mut ticks = tokio::time::interval(EPOCH);
                // At once, which was before the service began.
                ticks.tick().await;
                loop {
                    ticks.tick().await;
                    let service = service.clone();
                    // It reports failures itself, and the next tick tries again.
                    let publish = move || service.publish(now(), &mut rand::rng());
                    let _ = tokio::task::spawn_blocking(publish).await;
                }
            });
        }
        if let Some(service) = self.delivery.clone() {
            tasks.spawn(at_rest::renew(service.clone(), self.keys.clone()));
            tasks.spawn(async move {
                let mut ticks = tokio::time::interval(SWEEP);
                loop {
                    ticks.tick().await;
                    // Appends come in between. It reports failures itself, and the next tick tries
                    // again.
                    loop {
                        let service = service.clone();
                        let sweep = tokio::task::spawn_blocking(move || service.sweep(now()));
                        if !matches!(sweep.await, Ok(Ok(1..))) {
                            break;
                        }
                    }
                }
            });
        }
        if let (Some(service), Some(blobs)) = (self.delivery.clone(), self.blobs.clone()) {
            tasks.spawn(async move {
                let mut tidy = tokio::time::interval(TIDY);
                let mut sweep = tokio::time::interval(SWEEP);
                loop {
                    // Failures are reported already.
                    tokio::select! {
                        _ = tidy.tick() => {
                            let _ = delivery::grpc::tidy_blobs(&service, &blobs, now).await;
                        }
                        _ = sweep.tick() => {
                            let _ = delivery::grpc::sweep_blobs(&service, &blobs, now).await;
                        }
                    }
                }
            });
        }
        tasks
    }
}

/// Prints why the store failed, once in a while: while a disk is full, each request says so.
fn reports() -> impl Fn(&StoreError) + Send + Sync {
    const EVERY: Duration = Duration::from_secs(10);
    let last: Mutex<Option<(String, Instant)>> = Mutex::default();
    move |error| {
        let text = error.to_string();
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let said = |(said, at): &(String, Instant)| *said == text && at.elapsed() < EVERY;
        if !last.as_ref().is_some_and(said) {
            eprintln!("delivery service: {text}");
            *last = Some((text, Instant::now()));
        }
    }
}

/// Prints the one line that a client needs; and, for a person, that there is a new key to look after.
fn announce(url: &str, identity: &Identity, domain: &Domain, made_key: Option<&Path>, json: bool) {
    let pin = hex::encode(identity.pin);
    let server = format!("{url}#{pin}");
    let line = if json {
        serde_json::json!({
            "server": server,
            "url": url,
            "pin": pin,
            "domain": domain.as_str(),
            "made_key": made_key,
        })
        .to_string()
    } else {
        format!("folkmoot register NAME --server {server}")
    };
    if let Some(path) = made_key
        && std::io::stderr().is_terminal()
    {
        eprintln!(
            "made the key of the delivery service's database, {}: keep a copy apart from the database, \
             which is lost without it",
            path.display()
        );
    }
    let mut out = std::io::stdout().lock();
    // Nobody reads it if that fails; the server serves all the same.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
