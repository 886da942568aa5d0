//! `folkmoot serve` as its operator and its clients meet it: a process, a socket, a folder.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Deadline, ended, output};
use folkmoot_client::transport::{Grpc, ServerUrl, ServiceAddress, Transport, TransportError};
use folkmoot_credential::keys::SigningKey;
use folkmoot_credential::{
    CERTIFICATE_SECONDS, DeliveryAddress, DeviceCertificate, DeviceRecord, MailboxKey,
    Registration, ShelfKey, UserId, Validity, Version,
};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::authentication::LookUpRequest;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::NonceRequest;
use folkmoot_protocol::directory::{DirectoryEntry, read_registered, register_request};
use folkmoot_protocol::keys::PublicKey;

const PATIENCE: Duration = Duration::from_secs(20);

fn serve(data: &Path, more: &[&str]) -> Command {
    serve_at("127.0.0.1:0", data, more)
}

fn serve_at(address: &str, data: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_folkmoot"));
    command
        .args(["serve", "--listen", address, "--data"])
        .arg(data)
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A running server, ended with its test.
struct Server {
    process: Child,
    out: BufReader<ChildStdout>,
    line: String,
}

impl Server {
    fn start(data: &Path, more: &[&str]) -> Self {
        Self::started(serve(data, more))
    }

    fn started(mut command: Command) -> Self {
        let mut process = command.spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        let deadline = Deadline::of(&process);
        out.read_line(&mut line).unwrap();
        drop(deadline);
        let line = line.trim_end().to_owned();
        assert!(!line.is_empty(), "{:?}", ended(process));
        Self { process, out, line }
    }

    /// The address in the ready line.
    fn url(&self) -> ServerUrl {
        let address = self.line.strip_prefix("folkmoot register NAME --server ");
        address.unwrap().parse().unwrap()
    }

    /// Tells it to stop, and waits. Returns also what it printed after the ready line.
    fn stop(mut self, signal: &str) -> (ExitStatus, String) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not stop");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (status, rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let in_time = async { tokio::time::timeout(PATIENCE, future).await };
    runtime
        .unwrap()
        .block_on(in_time)
        .expect("an answer in time")
}

fn well_known(url: &ServerUrl) -> folkmoot_protocol::well_known::WellKnown {
    run(Grpc::new().well_known(url)).unwrap()
}

/// The lines that come, for whoever will not wait for ever.
fn lines_of(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (lines, taken) = mpsc::channel();
    std::thread::spawn(move || {
        let mut from = BufReader::new(from).lines().map_while(Result::ok);
        from.all(|line| lines.send(line).is_ok());
    });
    taken
}

/// The one line that a server says when it does not start.
fn refusal(mut command: Command) -> String {
    let output = output(&mut command);
    assert!(!output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn a_server_publishes_what_it_runs_under_the_pin_that_it_prints() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--domain", "example.org"]);
    let url = server.url();
    assert!(url.url.starts_with("https://localhost:"), "{}", url.url);
    let document = well_known(&url);
    assert_eq!(document.version, 1);
    assert_eq!(document.domain, "example.org");
    assert_eq!(document.authentication.unwrap().url, url.url);
    assert_eq!(document.delivery.unwrap().url, url.url);

    // Another pin is another server.
    let other = ServerUrl {
        pin: Some([0; 32]),
        ..url.clone()
    };
    assert_eq!(
        run(Grpc::new().well_known(&other)),
        Err(TransportError::WrongCertificate { url: url.url })
    );
}

#[test]
fn keys_pin_and_users_survive_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let url = server.url();
    let before = well_known(&url);
    let key = before.authentication.as_ref().unwrap().key;
    let alice = Person::new("alice@localhost", 10);
    alice.register(&url, key).unwrap();
    let (status, rest) = server.stop("-TERM");
    assert!(status.success());
    assert_eq!(rest, "", "one line and nothing else");

    // The same port, so that the addresses are the same too.
    let port = url.url.rsplit(':').next().unwrap();
    let address = format!("127.0.0.1:{port}");
    let server = Server::started(serve_at(&address, data.path(), &[]));
    assert_eq!(server.url(), url);
    assert_eq!(well_known(&url), before);
    let entry = alice.look_up(&url, key).unwrap();
    assert_eq!(
        entry.binding.statement.identity_key,
        alice.identity.public()
    );
    let (status, _) = server.stop("-INT");
    assert!(status.success());
}

#[test]
fn a_user_registers_and_is_found_over_the_wire() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--domain", "example.org"]);
    let url = server.url();
    let key = well_known(&url).authentication.unwrap().key;
    let alice = Person::new("alice@example.org", 10);
    assert_eq!(
        alice.look_up(&url, key),
        Err(TransportError::Refused(Refusal::UnknownUser))
    );
    alice.register(&url, key).unwrap();
    alice.register(&url, key).unwrap();
    assert_eq!(
        Person::new("alice@example.org", 20).register(&url, key),
        Err(TransportError::Refused(Refusal::NameTaken))
    );
    let entry = alice.look_up(&url, key).unwrap();
    assert_eq!(entry.devices, [alice.registration(key).device]);
}

#[test]
fn each_service_runs_without_the_other() {
    let nonce = || Call::LogNonce(NonceRequest {});
    let look_up = || Call::LookUp(LookUpRequest::default());
    for (role, runs, rests) in [
        ("authentication", look_up(), nonce()),
        ("delivery", nonce(), look_up()),
    ] {
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path(), &["--roles", role]);
        let url = server.url();
        let document = well_known(&url);
        assert_eq!(document.authentication.is_some(), role == "authentication");
        assert_eq!(document.delivery.is_some(), role == "delivery");
        for other in ["authentication", "delivery"] {
            let path = data.path().join(format!("{other}.sqlite"));
            assert_eq!(path.exists(), other == role, "{other} in {role}");
        }
        let key = PublicKey([0; 32]);
        match ask(&url, key, runs) {
            Ok(Answer::LogNonce(_)) => assert_eq!(role, "delivery"),
            Err(TransportError::Refused(Refusal::UnknownUser)) => {
                assert_eq!(role, "authentication");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            ask(&url, key, rests),
            Err(TransportError::Protocol { url: url.url })
        );
    }
}

#[test]
fn tls_1_2_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let url = server.url();
    let port: u16 = url.url.rsplit(':').next().unwrap().parse().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&tls_1_2_client_hello()).unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).unwrap();
    // A fatal alert: protocol_version (RFC 8446, section 6.2).
    assert_eq!((answer[0], &answer[5..]), (21, [2, 70].as_slice()));
    // And plain HTTP gets nothing out of it.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /.well-known/folkmoot HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
}

#[test]
fn the_ready_line_can_be_data() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--json"]);
    let line: serde_json::Value = serde_json::from_str(&server.line).unwrap();
    let url: ServerUrl = line["server"].as_str().unwrap().parse().unwrap();
    assert_eq!(line["url"], url.url);
    assert_eq!(line["domain"], "localhost");
    assert_eq!(line["pin"].as_str().unwrap().len(), 64);
    well_known(&url);
    // A new database has a new key to look after; later there is nothing new.
    let made = data.path().join("delivery.at-rest.key");
    assert_eq!(line["made_key"], made.to_str().unwrap());
    assert!(made.exists());
    server.stop("-TERM");
    let again = Server::start(data.path(), &["--json"]);
    let line: serde_json::Value = serde_json::from_str(&again.line).unwrap();
    assert_eq!(line["made_key"], serde_json::Value::Null);
}

#[test]
fn the_operator_s_certificate_is_used_where_it_is_given() {
    let data = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap();
    let certificate = files.path().join("cert.pem");
    let key = files.path().join("key.pem");
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let given = ["--tls-cert", certificate, "--tls-key", key];
    let server = Server::start(data.path(), &given);
    let url = server.url();
    well_known(&url);
    drop(server);
    assert!(!data.path().join("tls.key.pem").exists());

    let empty = files.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();
    let missing = files.path().join("missing.pem");
    let missing = missing.to_str().unwrap();
    let other = rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap();
    let wrong = files.path().join("wrong.pem");
    fs::write(&wrong, other.signing_key.serialize_pem()).unwrap();
    let wrong = wrong.to_str().unwrap();
    for (certificate, key, expected) in [
        (missing, key, "cannot read"),
        (certificate, missing, "cannot read"),
        (empty, key, "no usable certificate"),
        (certificate, empty, "no usable private key"),
        (certificate, wrong, "cannot be used together"),
    ] {
        let given = ["--tls-cert", certificate, "--tls-key", key];
        let text = refusal(serve(data.path(), &given));
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn one_line_says_why_it_does_not_start() {
    let data = tempfile::tempdir().unwrap();
    let running = Server::start(data.path(), &[]);
    let text = refusal(serve(data.path(), &[]));
    assert!(text.contains("another server runs"), "{text}");
    drop(running);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let at = |address: &str| refusal(serve_at(address, data.path(), &[]));
    let text = at(&address);
    assert!(text.contains("already listens"), "{text}");
    let text = at("0.0.0.0:0");
    assert!(text.contains("--tls-cert"), "{text}");

    let text = refusal(serve(data.path(), &["--domain", "example.org"]));
    assert!(text.contains("localhost, not example.org"), "{text}");

    let key = data.path().join("authentication.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let text = refusal(serve(data.path(), &[]));
    assert!(text.contains("chmod 600"), "{text}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let content = fs::read(&key).unwrap();
    fs::write(&key, &content[..31]).unwrap();
    let text = refusal(serve(data.path(), &[]));
    assert!(text.contains("is damaged"), "{text}");
    fs::write(&key, content).unwrap();

    let database = data.path().join("authentication.sqlite");
    fs::write(&database, "no database ".repeat(100)).unwrap();
    let text = refusal(serve(data.path(), &[]));
    assert!(text.contains("authentication.sqlite"), "{text}");

    let file = data.path().join("lock");
    let text = refusal(serve(&file, &[]));
    assert!(text.contains("cannot make the folder"), "{text}");
}

#[test]
fn secrets_are_the_owner_s_alone() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("deep/data");
    let _server = Server::start(&data, &[]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for name in [
        "authentication.key",
        "authentication.sqlite",
        "authentication.sqlite-wal",
        "delivery.at-rest.key",
        "delivery.key",
        "delivery.sqlite",
        "delivery.sqlite-wal",
        "tls.key.pem",
    ] {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }
}

#[test]
fn the_key_of_the_database_changes_while_it_serves() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("delivery.at-rest.key");
    let mut server = Server::start(data.path(), &[]);
    let lines = lines_of(server.process.stderr.take().unwrap());
    // Whether it says so before it ends or PATIENCE does.
    let said = |what: &str| {
        std::iter::from_fn(|| lines.recv_timeout(PATIENCE).ok()).any(|line| line.contains(what))
    };
    let old = fs::read_to_string(&path).unwrap();
    let new = "5a".repeat(32);
    let tell = |server: &Server| {
        let id = server.process.id().to_string();
        let sent = Command::new("kill").args(["-USR1", &id]).status().unwrap();
        assert!(sent.success());
    };
    // Nonsense changes nothing.
    fs::write(&path, "no key").unwrap();
    tell(&server);
    assert!(said("the keys stay as they were"));
    fs::write(&path, format!("# the new one\n{new}\n{old}")).unwrap();
    tell(&server);
    assert!(said("keys of the delivery service's database"));
    assert!(said("is encrypted under its first key"));
    let key = well_known(&server.url()).delivery.unwrap().key;
    let nonce = Call::LogNonce(NonceRequest {});
    assert!(ask(&server.url(), key, nonce).is_ok(), "it goes on");
    server.stop("-TERM");

    // The old one alone does not do any more; the new one does, from wherever it comes.
    fs::write(&path, &old).unwrap();
    let text = refusal(serve(data.path(), &[]));
    assert!(text.contains("is encrypted under the key"), "{text}");
    fs::remove_file(&path).unwrap();
    let text = refusal(serve(data.path(), &[]));
    assert!(text.contains("delivery.at-rest.key is not there"), "{text}");
    let mut by_env = serve(data.path(), &["--at-rest-key-env", "MOOT_KEY"]);
    by_env.env("MOOT_KEY", &new);
    Server::started(by_env).stop("-TERM");
    let command = format!("echo {new}");
    Server::start(data.path(), &["--at-rest-key-command", &command]).stop("-TERM");
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("key");
    let file = ["--at-rest-key-file", path.to_str().unwrap()];
    let text = refusal(serve(data.path(), &file));
    assert!(text.contains("is not there"), "{text}");
    fs::write(&path, &new).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let text = refusal(serve(data.path(), &file));
    assert!(text.contains("chmod 600"), "{text}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Server::start(data.path(), &file).stop("-TERM");
    let failing = ["--at-rest-key-command", "exit 3"];
    let text = refusal(serve(data.path(), &failing));
    assert!(text.contains("command for the keys"), "{text}");
}

/// A ClientHello of RFC 5246: no supported_versions, so it offers TLS 1.2 and nothing newer.
fn tls_1_2_client_hello() -> Vec<u8> {
    fn with_length(bytes: usize, body: &[u8]) -> Vec<u8> {
        let length = body.len().to_be_bytes();
        [&length[8 - bytes..], body].concat()
    }
    let suites = [0xc0, 0x2b, 0xc0, 0x2f]; // ECDHE with ECDSA or RSA, AES-128-GCM
    let groups = [&[0, 10][..], &with_length(2, &with_length(2, &[0, 29]))].concat();
    let schemes = [&[0, 13][..], &with_length(2, &with_length(2, &[4, 3]))].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &with_length(2, &suites),
        &[1, 0],
        &with_length(2, &[groups, schemes].concat()),
    ]
    .concat();
    let handshake = [&[1][..], &with_length(3, &body)].concat();
    [&[22, 3, 1][..], &with_length(2, &handshake)].concat()
}

/// A user with one device.
struct Person {
    user: UserId,
    identity: SigningKey,
    device: SigningKey,
    now: u64,
}

impl Person {
    fn new(user: &str, seed: u8) -> Self {
        let key = |seed: u8| SigningKey::from_seed([seed; 32].into());
        Self {
            user: user.parse().unwrap(),
            identity: key(seed),
            device: key(seed + 1),
            now: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_secs(),
        }
    }

    fn registration(&self, authentication_service: PublicKey) -> Registration {
        let device = DeviceRecord {
            version: Version,
            user: self.user.clone(),
            certificate: DeviceCertificate::issue(
                self.user.clone(),
                self.device.public(),
                Validity::starting(self.now, CERTIFICATE_SECONDS),
                &self.identity,
            ),
            issued: self.now,
            delivery: DeliveryAddress {
                url: b"https://localhost:1".to_vec().into(),
                key: self.device.public(),
                pin: [3; 32].into(),
            },
            mailbox: [4; 32],
            mailbox_key: MailboxKey {
                version: 1,
                key: [5; 32],
            },
            shelf_key: ShelfKey {
                version: 1,
                key: [6; 32],
            },
        };
        Registration {
            version: Version,
            domain: self.user.domain.clone(),
            authentication_service,
            name: self.user.name.clone(),
            identity_key: self.identity.public(),
            device_signature: device.sign(&self.device),
            device,
        }
    }

    fn register(&self, server: &ServerUrl, key: PublicKey) -> Result<(), TransportError> {
        let registration = self.registration(key);
        let request = register_request(&registration, &self.identity, &self.device);
        match ask(server, key, Call::Register(request))? {
            Answer::Register(response) => {
                read_registered(&response, &registration, self.now).unwrap();
                Ok(())
            }
            other => panic!("{other:?}"),
        }
    }

    fn look_up(
        &self,
        server: &ServerUrl,
        key: PublicKey,
    ) -> Result<DirectoryEntry, TransportError> {
        let request = LookUpRequest {
            name: self.user.name.to_string(),
            ..LookUpRequest::default()
        };
        match ask(server, key, Call::LookUp(request))? {
            Answer::LookUp(response) => {
                Ok(DirectoryEntry::read(&response, &self.user, &key, self.now).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }
}

fn ask(server: &ServerUrl, key: PublicKey, call: Call) -> Result<Answer, TransportError> {
    let address = ServiceAddress {
        url: server.url.clone(),
        key,
        pin: server.pin,
    };
    run(Grpc::new().call(&address, call))
}
