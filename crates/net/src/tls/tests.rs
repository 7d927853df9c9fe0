//! A client of rustls against our end and our configurations, over buffers in memory.

mod files;
mod handshakes;
mod records;
mod streams;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, crypto::aws_lc_rs,
    time_provider::TimeProvider,
};
use rustls_pki_types::{ServerName, UnixTime};
use tempfile::TempDir;

use super::*;
use machine::{Hello, Machine};
use vorpal_proto::{datetime::Timestamp, sasl::ChannelBindings};

/// 2026-11-22T08:00:00Z.
const NOW: Timestamp = Timestamp::from_millis(1_795_334_400_000);

/// An authority and a folder for what it issues.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: rcgen::Certificate,
    folder: TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a root");
        Authority { issuer: Issuer::new(params, key), root, folder: TempDir::new().expect("a folder") }
    }

    /// Writes `<file>.crt` and `<file>.key` for these names, valid from 2026 to 2027.
    fn issue(&self, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let mut params =
            CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).expect("names");
        params.distinguished_name.push(DnType::CommonName, file);
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (chain, private) = (self.file(file, "crt"), self.file(file, "key"));
        fs::write(&chain, certificate.pem() + &self.root.pem()).expect("written");
        fs::write(&private, key.serialize_pem()).expect("written");
        (chain, private)
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.{extension}"))
    }

    fn certificate(&self, host: &str) -> Certificate {
        self.certificate_for(host, &[host])
    }

    fn certificate_for(&self, host: &str, names: &[&str]) -> Certificate {
        let (chain, key) = self.issue(host, names);
        Certificate::load(host, &chain, &key).expect("loads")
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        client(self.root.der().clone(), versions, NOW)
    }
}

fn client(
    root: rustls_pki_types::CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    now: Timestamp,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root).expect("a root");
    ClientConfig::builder_with_details(Arc::new(aws_lc_rs::default_provider()), Arc::new(Clock(now)))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[derive(Debug)]
struct Clock(Timestamp);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.as_millis())))
    }
}

/// Both ends of a connection.
struct Pair {
    client: ClientConnection,
    server: Machine,
    /// What the client has said, and what our end has to say.
    heard: BytesMut,
    out: BytesMut,
    host: Arc<Host>,
}

/// Who gave up, and why.
#[derive(Debug)]
enum Failed {
    Client(rustls::Error),
    Server(rustls::Error),
}

/// The client's first flight, changed by `tamper`, and what the server makes of it.
fn begin(
    hosts: &TlsHosts,
    config: &Arc<ClientConfig>,
    sni: &str,
    entry: Entry,
    tamper: impl Fn(&mut Vec<u8>),
) -> Result<Pair, Failed> {
    let name = ServerName::try_from(sni.to_owned()).expect("a name");
    let mut client = ClientConnection::new(config.clone(), name).expect("a client");
    let mut flight = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut flight).expect("memory");
    }
    tamper(&mut flight);
    let (mut hello, mut heard, mut out) = (Hello::default(), BytesMut::new(), BytesMut::new());
    let whole = hello.feed(&flight, &mut out).map_err(Failed::Server)?;
    let (name, mut seen) = whole.expect("the first message is whole");
    let host = hosts.select(name.as_deref(), None);
    let mut server = Machine::new(&host.config(entry)).map_err(Failed::Server)?;
    server.feed(&mut seen, &mut heard, &mut out).map_err(Failed::Server)?;
    Ok(Pair { client, server, heard, out, host })
}

impl Pair {
    /// Carries bytes both ways until neither side has any.
    fn carry(&mut self) -> Result<(), Failed> {
        while self.client.wants_write() || !self.out.is_empty() {
            let wire = self.out.split();
            feed(&wire, |bytes| self.client.read_tls(bytes));
            self.client.process_new_packets().map_err(Failed::Client)?;
            let mut wire = self.flight();
            self.server.feed(&mut wire, &mut self.heard, &mut self.out).map_err(Failed::Server)?;
        }
        Ok(())
    }

    /// What the client has to write.
    fn flight(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut wire).expect("memory");
        }
        wire
    }

    /// What our end can bind a login to.
    fn bindings(&mut self) -> ChannelBindings {
        ChannelBindings { exporter: self.server.take_exporter(), server_end_point: self.host.server_end_point() }
    }

    /// Says something in both directions and sees it arrive.
    fn talk(&mut self) {
        use io::{Read, Write};
        let mut heard = [0; 5];
        self.client.writer().write_all(b"hello").expect("memory");
        self.carry().expect("a connection");
        assert_eq!(&self.heard.split()[..], b"hello");
        self.server.encrypt(b"world", &mut self.out).expect("encrypted");
        self.carry().expect("a connection");
        self.client.reader().read_exact(&mut heard).expect("heard");
        assert_eq!(&heard, b"world");
    }

    /// The certificate that the client has seen.
    fn seen(&self) -> &[u8] {
        self.client.peer_certificates().expect("a certificate").first().expect("a certificate")
    }
}

fn feed(wire: &[u8], mut read: impl FnMut(&mut &[u8]) -> io::Result<usize>) {
    let mut rest = wire;
    while !rest.is_empty() {
        read(&mut rest).expect("memory");
    }
}

fn connect(hosts: &TlsHosts, config: &Arc<ClientConfig>, sni: &str, entry: Entry) -> Result<Pair, Failed> {
    let mut pair = begin(hosts, config, sni, entry, |_| ())?;
    pair.carry()?;
    assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
    Ok(pair)
}

fn hosts(certificates: Vec<Certificate>) -> TlsHosts {
    TlsHosts::new(certificates, Policy::default()).expect("hosts")
}

fn write(path: &Path, parts: &[&Path]) {
    let text: String = parts.iter().map(|part| fs::read_to_string(part).expect("there")).collect();
    fs::write(path, text).expect("written");
}
