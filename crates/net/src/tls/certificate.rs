//! A host's certificate and key, loaded from files, and warnings about them.

use std::{
    fmt,
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{InconsistentKeys, crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use sha2::{Digest, Sha256};
use vorpal_proto::datetime::Timestamp;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
    time::ASN1Time,
};
use zeroize::Zeroizing;

use super::{
    binding::server_end_point,
    names::{self, Names},
};

/// Maximum size of a file; a chain with its key has a few kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Maximum number of certificates in a chain: clients refuse far shorter ones.
const MAX_CHAIN: usize = 16;
/// How long before expiry a warning is given, or in the last third of the certificate's lifetime if that is shorter. Let's Encrypt
/// certificates are renewed 30 days before expiry, short-lived ones in the middle of their six days.
const SOON: Duration = Duration::from_secs(21 * 86_400);

/// A certificate with its chain and its key, checked to belong together.
#[derive(Debug)]
pub struct Certificate {
    host: String,
    ascii: String,
    pub(super) names: Names,
    pub(super) key: Arc<CertifiedKey>,
    file: PathBuf,
    issuer: String,
    not_before: Timestamp,
    not_after: Timestamp,
    self_signed: bool,
    /// The hash of the certificate: sessions are resumed only under the same one.
    pub(super) fingerprint: [u8; 32],
    pub(super) server_end_point: Option<Vec<u8>>,
    /// The warnings that do not depend on time.
    lasting: Vec<Warning>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The host name is invalid.
    #[error("“{0}” is not the name of a host")]
    BadHost(String),
    /// A file cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file cannot be written.
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// A file is too large.
    #[error("{} is larger than 1 MiB and surely not what was meant", .0.display())]
    TooLarge(PathBuf),
    /// A file is damaged.
    #[error("{} is damaged: {}", .0.display(), PemFault(.1))]
    BadPem(PathBuf, pem::Error),
    /// No certificate.
    #[error("there is no certificate in {}", .0.display())]
    NoCertificate(PathBuf),
    /// Too many certificates for a chain.
    #[error("there are more than 16 certificates in {}; a chain is needed, not a list of authorities", .0.display())]
    ChainTooLong(PathBuf),
    /// A certificate that cannot be parsed. Counted from 1.
    #[error("certificate {number} in {} is damaged: {reason}", .file.display())]
    BadCertificate {
        /// Where it is.
        file: PathBuf,
        /// Which one in the file.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// No key.
    #[error("there is no private key in {} (an encrypted one cannot be used)", .0.display())]
    NoKey(PathBuf),
    /// A key that cannot be used.
    #[error("the key in {} cannot be used: RSA from 2048 bits, P-256, P-384, P-521 and Ed25519 can", .0.display())]
    BadKey(PathBuf),
    /// The key belongs to another certificate.
    #[error("the key in {} does not belong to the certificate in {}", .key.display(), .chain.display())]
    WrongKey {
        /// The file with the key.
        key: PathBuf,
        /// The file with the certificates.
        chain: PathBuf,
    },
    /// The certificates are in the wrong order.
    #[error(
        "the key in {} belongs to certificate {number} in {}; the certificate of the host has to come first",
        .key.display(), .chain.display()
    )]
    WrongOrder {
        /// The file with the key.
        key: PathBuf,
        /// The file with the certificates.
        chain: PathBuf,
        /// Which certificate it is, counted from 1.
        number: usize,
    },
    /// A certificate could not be created.
    #[error("cannot make a certificate for {0}: {1}")]
    Make(String, String),
}

/// A warning about a certificate. The server can use it anyway: clients decide whether to trust it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// It is for other hosts.
    #[error("the certificate of {host} is for {names}: clients will refuse it")]
    NotCovered {
        /// The host.
        host: String,
        /// What the certificate is for.
        names: String,
    },
    /// It has expired.
    #[error("the certificate of {0} has expired on {1}: clients will refuse it")]
    Expired(String, Timestamp),
    /// It is about to expire.
    #[error("the certificate of {0} expires on {1}")]
    ExpiresSoon(String, Timestamp),
    /// It is not valid yet.
    #[error("the certificate of {0} is not valid before {1}: is the clock right?")]
    NotYetValid(String, Timestamp),
    /// A certificate of the chain has not issued the one before it. Counted from 1.
    #[error("certificate {number} in {} was not issued by the one after it: some clients will refuse the chain", .file.display())]
    BrokenChain {
        /// The file with the chain.
        file: PathBuf,
        /// The certificate whose issuer is missing.
        number: usize,
    },
    /// Every user of the machine can read the key.
    #[error("the key in {} can be read by every user of this machine", .0.display())]
    KeyForAll(PathBuf),
    /// The members of a group can read the key, although the server does not need the group to read it.
    #[error("the key in {} can be read by its group, which the server does not need: `chmod 600` it", .0.display())]
    KeyForGroup(PathBuf),
    /// Channel binding is not possible with it.
    #[error("the certificate of {0} is signed in a way for which tls-server-end-point is not defined")]
    NoEndPoint(String),
}

impl Warning {
    /// Whether every client that checks certificates will reject it: such a certificate must not replace a good one.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Warning::NotCovered { .. } | Warning::Expired(..))
    }
}

impl Certificate {
    /// Reads the certificate of a host with its chain, and its key, from PEM files, which may be one and the same. The host's
    /// certificate comes first.
    ///
    /// Errors mean that it cannot be used; everything else is in [`Certificate::warnings`].
    pub fn load(host: &str, chain: &Path, key: &Path) -> Result<Certificate, CertificateError> {
        let (host, ascii) = names::host(host).ok_or_else(|| CertificateError::BadHost(host.to_owned()))?;
        let certificates = read_chain(chain)?;
        let parsed = certificates
            .iter()
            .enumerate()
            .map(|(index, der)| parse(der).map_err(|reason| bad(chain, index + 1, reason)))
            .collect::<Result<Vec<_>, _>>()?;
        let Some(own) = parsed.first() else {
            return Err(CertificateError::NoCertificate(chain.to_owned()));
        };
        let (private, found) = read_key(key)?;
        let certified = pair(&certificates, private, chain, key)?;

        let names = names_of(own).map_err(|reason| bad(chain, 1, reason))?;
        let server_end_point = certificates.first().and_then(|der| server_end_point(der));
        let mut lasting = Vec::new();
        if !names.cover(&ascii) {
            lasting.push(Warning::NotCovered { host: host.clone(), names: names.list() });
        }
        for (index, pair) in parsed.windows(2).enumerate() {
            if let [issued, issuer] = pair
                && issued.issuer().as_raw() != issuer.subject().as_raw()
            {
                lasting.push(Warning::BrokenChain { file: chain.to_owned(), number: index + 1 });
            }
        }
        lasting.extend(exposed(key, &found, rustix::process::geteuid().as_raw()));
        if server_end_point.is_none() {
            lasting.push(Warning::NoEndPoint(host.clone()));
        }
        Ok(Certificate {
            host,
            ascii,
            names,
            file: chain.to_owned(),
            issuer: issuer(own),
            not_before: timestamp(own.validity().not_before),
            not_after: timestamp(own.validity().not_after),
            self_signed: own.issuer().as_raw() == own.subject().as_raw(),
            fingerprint: Sha256::digest(certificates.first().map(AsRef::as_ref).unwrap_or_default()).into(),
            key: Arc::new(certified),
            server_end_point,
            lasting,
        })
    }

    /// The host, as addresses write it (RFC 7622 §3.2).
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host name in TLS: A-labels in lower case.
    pub fn ascii(&self) -> &str {
        &self.ascii
    }

    /// The file that it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The names in the certificate.
    pub fn names(&self) -> Vec<String> {
        self.names.all()
    }

    /// The issuer: the common name, else the whole name.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether both are the same certificate, byte for byte.
    pub fn is_same(&self, other: &Certificate) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// The start of its validity, in whole seconds.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The end of its validity, in whole seconds.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it names itself as its issuer.
    pub fn is_self_signed(&self) -> bool {
        self.self_signed
    }

    /// Whether the host is among the names of the certificate.
    pub fn covers_host(&self) -> bool {
        self.names.cover(&self.ascii)
    }

    /// The host's certificate as it is sent, in DER.
    pub fn der(&self) -> &[u8] {
        self.key.cert.first().map(AsRef::as_ref).unwrap_or_default()
    }

    /// The current warnings, for the start, reloads and the daily check.
    pub fn warnings(&self, now: Timestamp) -> Vec<Warning> {
        let mut warnings = self.lasting.clone();
        if now > self.not_after {
            warnings.push(Warning::Expired(self.host.clone(), self.not_after));
        } else if self.not_after.since(now) <= SOON.min(self.not_after.since(self.not_before) / 3) {
            warnings.push(Warning::ExpiresSoon(self.host.clone(), self.not_after));
        }
        if now < self.not_before {
            warnings.push(Warning::NotYetValid(self.host.clone(), self.not_before));
        }
        warnings
    }
}

/// Which other users can read a key file that this process has read.
///
/// A key of another owner is read through its group, which is intended where `root` owns all keys and a group shares them (`ssl-cert`
/// in Debian). The process's own key, or any key if the process is root, can be read without the group.
pub(super) fn exposed(key: &Path, found: &Metadata, user: u32) -> Option<Warning> {
    let mode = found.permissions().mode();
    if mode & 0o006 != 0 {
        return Some(Warning::KeyForAll(key.to_owned()));
    }
    let needs_group = user != 0 && found.uid() != user;
    (mode & 0o060 != 0 && !needs_group).then(|| Warning::KeyForGroup(key.to_owned()))
}

/// The content of a file of at most the maximum size, and its metadata. Wiped when dropped.
pub(super) fn read(file: &Path) -> Result<(Zeroizing<Vec<u8>>, Metadata), CertificateError> {
    let failed = |error| CertificateError::Read(file.to_owned(), error);
    let opened = File::open(file).map_err(failed)?;
    let found = opened.metadata().map_err(failed)?;
    // Allocated at once: a buffer that grows leaves copies of a key in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 * 1024));
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(CertificateError::TooLarge(file.to_owned()));
    }
    Ok((bytes, found))
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let (text, _) = read(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).take(MAX_CHAIN + 1).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(CertificateError::NoCertificate(file.to_owned())),
        Ok(chain) if chain.len() > MAX_CHAIN => Err(CertificateError::ChainTooLong(file.to_owned())),
        Ok(chain) => Ok(chain),
        Err(fault) => Err(CertificateError::BadPem(file.to_owned(), fault)),
    }
}

/// The key in a file, and the file's metadata.
pub(super) fn read_key(file: &Path) -> Result<(PrivateKeyDer<'static>, Metadata), CertificateError> {
    let (text, found) = read(file)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok((key, found)),
        Err(pem::Error::NoItemsFound) => Err(CertificateError::NoKey(file.to_owned())),
        Err(fault) => Err(CertificateError::BadPem(file.to_owned(), fault)),
    }
}

/// Combines key and chain, and reports the exact error if they do not match.
fn pair(
    certificates: &[CertificateDer<'static>],
    private: PrivateKeyDer<'static>,
    chain: &Path,
    key: &Path,
) -> Result<CertifiedKey, CertificateError> {
    let provider = aws_lc_rs::default_provider();
    let private =
        provider.key_provider.load_private_key(private).map_err(|_| CertificateError::BadKey(key.to_owned()))?;
    let certified = CertifiedKey::new(certificates.to_vec(), private);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        // A signer without a public key would have to be trusted blindly; all those of aws-lc-rs have one.
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch | InconsistentKeys::Unknown)) => {
            let fits = |der: &CertificateDer<'static>| {
                CertifiedKey::new(vec![der.clone()], certified.key.clone()).keys_match().is_ok()
            };
            Err(match certificates.iter().position(fits) {
                Some(index) => {
                    CertificateError::WrongOrder { key: key.to_owned(), chain: chain.to_owned(), number: index + 1 }
                }
                None => CertificateError::WrongKey { key: key.to_owned(), chain: chain.to_owned() },
            })
        }
        Err(error) => Err(bad(chain, 1, error.to_string())),
    }
}

fn bad(file: &Path, number: usize, reason: String) -> CertificateError {
    CertificateError::BadCertificate { file: file.to_owned(), number, reason }
}

fn parse<'a>(der: &'a CertificateDer<'static>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err("bytes follow its end".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn names_of(certificate: &X509Certificate) -> Result<Names, String> {
    let mut names = Names::default();
    let extension = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
    for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.add(name),
            GeneralName::IPAddress(bytes) => names.add_address(bytes),
            _ => {}
        }
    }
    Ok(names)
}

/// The common name of a certificate's issuer, or its whole name.
fn issuer(certificate: &X509Certificate) -> String {
    let common = certificate.issuer().iter_common_name().find_map(|name| name.as_str().ok());
    common.map_or_else(|| certificate.issuer().to_string(), str::to_owned)
}

fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp::from_millis(u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1000))
}

/// Describes an error in a PEM file without quoting the file: it may contain the key.
struct PemFault<'a>(&'a pem::Error);

impl fmt::Display for PemFault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            pem::Error::MissingSectionEnd { .. } => "an END line is missing",
            pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
            pem::Error::Base64Decode(_) => "what stands between BEGIN and END is not base64",
            _ => "it cannot be read",
        })
    }
}
