//! A self-signed certificate, created if a host has none.

use std::{
    ffi::OsString,
    fs::{DirBuilder, File, OpenOptions, Permissions, remove_file, rename, set_permissions},
    io::{self, Write},
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, date_time_ymd,
};
use vorpal_proto::datetime::Timestamp;
use zeroize::Zeroizing;

use super::{
    certificate::{Certificate, CertificateError, read_key},
    names,
};

const DAY: Duration = Duration::from_secs(86_400);
/// Apple's systems refuse TLS certificates that are valid for more than 825 days.
const VALID: Duration = DAY.saturating_mul(824);
/// Renewed when it expires within this time, so that it does not expire while the server is running.
const RENEW: Duration = DAY.saturating_mul(90);

impl Certificate {
    /// The certificate of a host in `<folder>/<host>.crt` and `.key`. A self-signed one on P-256 is created if there is none,
    /// if it is about to expire, or if it lacks the name.
    ///
    /// The key is kept when the certificate is renewed, so that users who have pinned it need not confirm it again, and no crash can
    /// leave a certificate without its key. A file that was not created here (it is not self-signed, or cannot be read) is never
    /// overwritten. The folder is created with mode 0700, the key with 0600. Blocks on files, and syncs them.
    pub fn self_signed(host: &str, folder: &Path, now: Timestamp) -> Result<Certificate, CertificateError> {
        let (_, ascii) = names::host(host).ok_or_else(|| CertificateError::BadHost(host.to_owned()))?;
        let chain = folder.join(format!("{ascii}.crt"));
        let key = folder.join(format!("{ascii}.key"));
        if chain.exists() {
            let found = Certificate::load(host, &chain, &key)?;
            let fresh = found.covers_host() && found.not_after().since(now) > RENEW;
            if fresh || !found.is_self_signed() {
                return Ok(found);
            }
        }
        let pair = if key.exists() { known(&ascii, &key)? } else { create(&ascii, folder, &key)? };
        let certificate = make(&ascii, &pair, now).map_err(|error| failed(&ascii, error))?;
        write(&chain, certificate.pem().as_bytes(), 0o644)?;
        Certificate::load(host, &chain, &key)
    }
}

impl Certificate {
    /// The existing certificate at the path that [`Certificate::self_signed`] uses; `None` if there is none. Creates nothing.
    pub fn made(host: &str, folder: &Path) -> Option<Result<Certificate, CertificateError>> {
        let (_, ascii) = names::host(host)?;
        let chain = folder.join(format!("{ascii}.crt"));
        chain.exists().then(|| Certificate::load(host, &chain, &folder.join(format!("{ascii}.key"))))
    }
}

fn failed(host: &str, error: rcgen::Error) -> CertificateError {
    CertificateError::Make(host.to_owned(), error.to_string())
}

fn known(host: &str, file: &Path) -> Result<KeyPair, CertificateError> {
    let (key, _) = read_key(file)?;
    KeyPair::try_from(&key).map_err(|error| failed(host, error))
}

fn create(host: &str, folder: &Path, file: &Path) -> Result<KeyPair, CertificateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| CertificateError::Write(folder.to_owned(), error))?;
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| failed(host, error))?;
    write(file, Zeroizing::new(pair.serialize_pem()).as_bytes(), 0o600)?;
    Ok(pair)
}

fn make(host: &str, pair: &KeyPair, now: Timestamp) -> Result<rcgen::Certificate, rcgen::Error> {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, host);
    let mut params = CertificateParams::new([host.to_owned()])?;
    if host == "localhost" {
        params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        params.subject_alt_names.push(SanType::IpAddress(Ipv6Addr::LOCALHOST.into()));
    }
    let epoch = date_time_ymd(1970, 1, 1);
    // One day of tolerance for clocks that are behind.
    params.not_before = epoch + Duration::from_millis(now.minus(DAY).as_millis());
    params.not_after = epoch + Duration::from_millis(now.plus(VALID).as_millis());
    // Not derived from the key, which stays the same: NSS refuses two certificates of one issuer with the same number.
    params.serial_number = Some(SerialNumber::from_slice(&now.as_millis().to_be_bytes()));
    params.distinguished_name = name;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.self_signed(pair)
}

/// Writes a file atomically and durably.
fn write(file: &Path, bytes: &[u8], mode: u32) -> Result<(), CertificateError> {
    let mut name = OsString::from(file);
    name.push(".new");
    write_as(file, Path::new(&name), bytes, mode).map_err(|error| CertificateError::Write(file.to_owned(), error))
}

fn write_as(file: &Path, temporary: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // A file left by a crash, or by somebody else, may have another mode, and another process may have it open.
    match remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    // A certificate is public, whatever the umask.
    set_permissions(temporary, Permissions::from_mode(mode))?;
    written.write_all(bytes)?;
    written.sync_all()?;
    rename(temporary, file)?;
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
