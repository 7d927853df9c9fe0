//! Which certificate a connection gets, and the configuration that goes with it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use super::{certificate::Certificate, names::parent};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ServerSessionMemoryCache, StoresServerSessions},
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};

/// XEP-0368 §7: the ALPN of direct TLS for clients.
pub const ALPN_CLIENT: &[u8] = b"xmpp-client";

/// Number of sessions remembered for resumption, for all hosts together: resumption saves a phone the certificates, but the server no
/// work, and remembering all sessions would cost 0.6 KB each.
const SESSIONS: usize = 256;
/// A client has one connection and needs one ticket to resume.
const TICKETS: usize = 1;

/// The oldest TLS version that is accepted. Versions older than 1.2 are not supported (RFC 7590 §3, RFC 8996).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246, with the extended master secret (RFC 7627) only.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// TLS settings for all hosts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    /// The oldest version.
    pub min: TlsVersion,
}

/// How a connection started TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// With STARTTLS: the client's ALPN is ignored.
    Starttls,
    /// From the first byte (XEP-0368): a client that sends ALPN must offer [`ALPN_CLIENT`], so that a connection for another protocol
    /// on the same port is not taken for XMPP. A client without ALPN is accepted.
    Direct,
}

/// Why the hosts cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No host.
    #[error("there is no certificate to serve")]
    NoCertificate,
    /// Two certificates for one host.
    #[error("there are two certificates for {0}")]
    Twice(String),
    /// The TLS library refuses the configuration.
    #[error("the TLS library refuses the settings")]
    Library(#[from] rustls::Error),
}

/// A host with its certificate. Connections hold it until their handshake is done.
pub struct Host {
    certificate: Certificate,
    starttls: Arc<ServerConfig>,
    direct: Arc<ServerConfig>,
}

/// The hosts of a server, replaceable as a whole.
pub struct TlsHosts {
    provider: Arc<CryptoProvider>,
    sessions: Arc<ServerSessionMemoryCache>,
    current: RwLock<Arc<Hosts>>,
}

/// One immutable set of hosts.
struct Hosts {
    default: Arc<Host>,
    /// In the order in which they were given.
    all: Vec<Arc<Host>>,
    /// By the name of the host, as addresses and as TLS write it.
    hosts: HashMap<String, Arc<Host>>,
    /// By the names in the certificates, and by the part after the asterisk of wildcards.
    exact: HashMap<String, Arc<Host>>,
    wildcards: HashMap<String, Arc<Host>>,
}

impl TlsHosts {
    /// Serves these certificates; the first is that of the default host.
    pub fn new(certificates: Vec<Certificate>, policy: Policy) -> Result<TlsHosts, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let sessions = ServerSessionMemoryCache::new(SESSIONS);
        let hosts = Hosts::new(certificates, policy, &provider, &sessions)?;
        Ok(TlsHosts { provider, sessions, current: RwLock::new(Arc::new(hosts)) })
    }

    /// Serves these certificates instead, from the next ClientHello on. Existing connections stay, and handshakes under way end with
    /// the certificate they began with. After an error nothing has changed.
    pub fn reload(&self, certificates: Vec<Certificate>, policy: Policy) -> Result<(), TlsError> {
        let hosts = Arc::new(Hosts::new(certificates, policy, &self.provider, &self.sessions)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = hosts;
        Ok(())
    }

    /// Serves these certificates instead of those of the same hosts, and keeps all others.
    ///
    /// # Errors
    /// The TLS library refuses one of them. Nothing has changed then.
    pub fn renew(&self, certificates: Vec<Certificate>, policy: Policy) -> Result<(), TlsError> {
        let new: Result<Vec<Arc<Host>>, TlsError> = certificates
            .into_iter()
            .map(|certificate| Ok(Arc::new(Host::new(certificate, policy, &self.provider, &self.sessions)?)))
            .collect();
        let new = new?;
        // A concurrent replacement is not lost.
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let renewed = |host: &Arc<Host>| {
            new.iter().find(|new| new.certificate.host() == host.certificate.host()).unwrap_or(host).clone()
        };
        let all = current.all.iter().map(renewed).collect();
        *current = Arc::new(Hosts::of(all)?);
        Ok(())
    }

    /// The hosts that are served, in their order.
    pub fn all(&self) -> Vec<Arc<Host>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// The host for a connection: the one that SNI names; else the one the stream was addressed to (`to`, after enforcement); else one whose certificate
    /// matches the SNI; else the default.
    ///
    /// An unknown SNI is not refused: clients that follow an SRV record may send the name of its target, and a client that gets a
    /// certificate can tell its user what is wrong with it, while an alert would look like a server that is down.
    pub fn select(&self, sni: Option<&str>, to: Option<&str>) -> Arc<Host> {
        let hosts = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let sni = sni.map(str::to_ascii_lowercase);
        let named = |name: &str| hosts.hosts.get(name);
        let good_for =
            |name: &str| hosts.exact.get(name).or_else(|| parent(name).and_then(|parent| hosts.wildcards.get(parent)));
        let sni = sni.as_deref();
        let found = sni.and_then(named).or_else(|| to.and_then(named)).or_else(|| sni.and_then(good_for));
        found.unwrap_or(&hosts.default).clone()
    }
}

impl Hosts {
    fn new(
        certificates: Vec<Certificate>,
        policy: Policy,
        provider: &Arc<CryptoProvider>,
        sessions: &Arc<ServerSessionMemoryCache>,
    ) -> Result<Hosts, TlsError> {
        let mut all = Vec::with_capacity(certificates.len());
        for certificate in certificates {
            all.push(Arc::new(Host::new(certificate, policy, provider, sessions)?));
        }
        Hosts::of(all)
    }

    fn of(all: Vec<Arc<Host>>) -> Result<Hosts, TlsError> {
        let default = all.first().ok_or(TlsError::NoCertificate)?.clone();
        let (hosts, exact, wildcards) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut found = Hosts { default, all: all.clone(), hosts, exact, wildcards };
        for host in all {
            let Certificate { names, .. } = &host.certificate;
            for name in &names.exact {
                found.exact.entry(name.clone()).or_insert_with(|| host.clone());
            }
            for name in &names.wildcards {
                found.wildcards.entry(name.clone()).or_insert_with(|| host.clone());
            }
            let given = host.certificate.host().to_owned();
            let ascii = host.certificate.ascii().to_owned();
            if found.hosts.insert(ascii, host.clone()).is_some() {
                return Err(TlsError::Twice(given));
            }
            found.hosts.insert(given, host);
        }
        Ok(found)
    }
}

impl Host {
    fn new(
        certificate: Certificate,
        policy: Policy,
        provider: &Arc<CryptoProvider>,
        sessions: &Arc<ServerSessionMemoryCache>,
    ) -> Result<Host, TlsError> {
        let sessions = Sessions { shared: sessions.clone(), certificate: certificate.fingerprint };
        let starttls = server_config(&certificate, policy.min, provider, Arc::new(sessions))?;
        let mut direct = starttls.clone();
        direct.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
        Ok(Host { certificate, starttls: Arc::new(starttls), direct: Arc::new(direct) })
    }

    /// The certificate of connections with this host's configuration.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The TLS configuration.
    pub fn config(&self, entry: Entry) -> Arc<ServerConfig> {
        match entry {
            Entry::Starttls => self.starttls.clone(),
            Entry::Direct => self.direct.clone(),
        }
    }

    /// RFC 5929 §4: the `tls-server-end-point` of its certificate, if that is defined for it.
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        self.certificate.server_end_point.clone()
    }
}

/// A configuration that shows one certificate: TLS 1.2 and 1.3, no client certificates, no early data.
///
/// TLS 1.2 is refused without the extended master secret, because `tls-exporter` would not be unique (RFC 9266 §4.2) and rustls
/// does not report afterwards whether it was used. All TLS libraries since about 2016 support it.
fn server_config(
    certificate: &Certificate,
    min: TlsVersion,
    provider: &Arc<CryptoProvider>,
    sessions: Arc<dyn StoresServerSessions>,
) -> Result<ServerConfig, TlsError> {
    let versions: &[&SupportedProtocolVersion] = match min {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate.key.clone())));
    config.require_ems = true;
    config.max_early_data_size = 0;
    config.send_tls13_tickets = TICKETS;
    config.session_storage = sessions;
    Ok(config)
}

/// The sessions of one certificate, within a shared cache.
///
/// Invariant: a session is resumed only with the certificate it began with, because a resumed session does not send one and a client
/// computes `tls-server-end-point` from the one it remembers.
#[derive(Debug)]
struct Sessions {
    shared: Arc<ServerSessionMemoryCache>,
    certificate: [u8; 32],
}

impl Sessions {
    fn own(&self, key: &[u8]) -> Vec<u8> {
        [self.certificate.as_slice(), key].concat()
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.shared.put(self.own(&key), value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.shared.get(&self.own(key))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.shared.take(&self.own(key))
    }

    fn can_cache(&self) -> bool {
        self.shared.can_cache()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("host", &self.certificate.host()).finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsHosts").finish_non_exhaustive()
    }
}
