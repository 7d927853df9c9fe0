//! The certificates of the hosts: where they come from, what is wrong with them, and how a running server handles their expiry.
//!
//! A certificate that no client would accept, because it has expired or is for another host, never replaces one that is served. At a
//! start there is none to keep: it is served, and an error is logged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use serde_json::{Value, json};
use vorpal_config::Config;
use vorpal_net::tls::{Certificate, CertificateError, Host, TlsHosts, Warning};
use vorpal_proto::datetime::Timestamp;
use vorpal_runtime::now;
use zeroize::Zeroizing;

use crate::files;

/// What an operator has to do about a self-signed certificate.
pub(crate) const TO_TRUST: &str = "clients must be told to trust it";

/// The directory of the certificates that the server makes, in its data directory.
const FOLDER: &str = "tls";

/// The word that marks a PEM key with a passphrase, in the old format and the new.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// The certificates: those of the configuration, else a self-signed one for each host, in `data`.
///
/// # Errors
/// The first that cannot be used.
pub(crate) fn load(config: &Config, data: &Path) -> Result<Vec<Certificate>> {
    let of_host = |host| given(host).unwrap_or_else(|| made(host, data));
    config.hosts.iter().map(of_host).collect()
}

/// The certificate that the server makes, or has made, for a host without one.
fn made(host: &vorpal_config::Host, data: &Path) -> Result<Certificate> {
    let name = host.name.as_str();
    Certificate::self_signed(name, &data.join(FOLDER), now()).with_context(|| format!("the certificate of {name}"))
}

/// The configured certificate of a host; `None` if the server makes one.
pub(crate) fn given(host: &vorpal_config::Host) -> Option<Result<Certificate>> {
    let files = host.certificate.as_ref()?;
    let name = host.name.as_str();
    let loaded = Certificate::load(name, &files.chain, &files.key).map_err(|error| told(error, &files.key));
    Some(loaded.with_context(|| format!("the certificate of {name}")))
}

/// The errors of the configured certificates, without making any.
pub(crate) fn check(config: &Config) -> Vec<Error> {
    config.hosts.iter().filter_map(|host| given(host)?.err()).collect()
}

/// Errors for configured certificates that can be loaded but that no client would accept.
pub(crate) fn refused_by_clients(config: &Config) -> Vec<Error> {
    let given = config.hosts.iter().filter_map(|host| given(host)?.ok());
    given.flat_map(|certificate| fatal(&certificate, now())).collect()
}

/// The same for certificates that would replace those of `served`. One that is already served is no error: there is nothing
/// better to keep.
pub(crate) fn refused(new: &[Certificate], served: &[Arc<Host>]) -> Vec<Error> {
    let is_served = |new: &&Certificate| {
        served.iter().map(|host| host.certificate()).any(|old| old.host() == new.host() && old.is_same(new))
    };
    new.iter().filter(|new| !is_served(new)).flat_map(|new| fatal(new, now())).collect()
}

fn fatal(certificate: &Certificate, now: Timestamp) -> Vec<Error> {
    let fatal = certificate.warnings(now).into_iter().filter(Warning::is_fatal);
    fatal.map(|warning| anyhow!("{}: {warning}", certificate.file().display())).collect()
}

/// The certificates that are new or replace another: "certificate of chat.example until 2027-02-27".
pub(crate) fn changed(new: &[Certificate], served: &[Arc<Host>]) -> Vec<String> {
    let is_served = |new: &&Certificate| {
        let old = served.iter().map(|host| host.certificate());
        old.filter(|old| old.host() == new.host()).any(|old| old.is_same(new))
    };
    let changed = new.iter().filter(|new| !is_served(new));
    changed.map(|new| format!("certificate of {} until {}", new.host(), day(new.not_after()))).collect()
}

/// Logs warnings about the certificates that are about to be served.
pub(crate) fn log(certificates: &[Certificate], config: &Config) {
    for certificate in certificates {
        let host = certificate.host();
        complain(certificate, now());
        if !certificate.is_self_signed() {
            continue;
        }
        if config.hosts.iter().any(|one| one.name.as_str() == host && one.certificate.is_some()) {
            tracing::warn!(host, "the certificate is self-signed: {TO_TRUST}");
        } else {
            tracing::info!(host, file = %certificate.file().display(), "using a self-signed certificate made by the server: {TO_TRUST}");
        }
    }
}

/// Logs a line for each warning: at `error` if no client would accept the certificate.
fn complain(certificate: &Certificate, now: Timestamp) {
    let (host, file) = (certificate.host(), certificate.file().display());
    for warning in certificate.warnings(now) {
        if warning.is_fatal() {
            tracing::error!(host, %file, %warning, "certificate: replace the file, then `vorpal config apply`");
        } else {
            tracing::warn!(host, %file, %warning, "certificate");
        }
    }
}

/// Renews the server's own certificates that are about to expire, and logs warnings about all that are served then.
pub(crate) fn look_after(config: &Config, data: &Path, tls: &TlsHosts, now: Timestamp) {
    let mut renewed = Vec::new();
    for host in config.hosts.iter().filter(|host| host.certificate.is_none()) {
        let name = host.name.as_str();
        match Certificate::self_signed(name, &data.join(FOLDER), now) {
            Ok(certificate) => renewed.push(certificate),
            Err(error) => {
                let error = Error::new(error);
                tracing::error!(host = name, "the server's own certificate cannot be renewed: {error:#}");
            }
        }
    }
    let served = tls.all();
    renewed.retain(|new| {
        let same = served.iter().map(|host| host.certificate()).any(|old| old.host() == new.host() && old.is_same(new));
        !same && fatal(new, now).is_empty()
    });
    for change in changed(&renewed, &served) {
        tracing::info!("renewed: {change}");
    }
    if !renewed.is_empty()
        && let Err(error) = tls.renew(renewed, crate::terms::policy(config))
    {
        tracing::error!(%error, "the server's own certificates cannot be renewed");
    }
    tls.all().iter().for_each(|host| complain(host.certificate(), now));
}

/// Number of seconds that a certificate is still valid; negative if it has expired.
pub(crate) fn seconds_left(certificate: &Certificate, now: Timestamp) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let end = certificate.not_after();
    if end >= now { seconds(end.since(now)) } else { -seconds(now.since(end)) - 1 }
}

/// The row of `vorpal cert list` for a certificate.
pub(crate) fn row(certificate: &Certificate) -> Value {
    let now = now();
    let warnings = certificate.warnings(now);
    json!({
        "host": certificate.host(),
        "names": certificate.names(),
        "issuer": certificate.issuer(),
        "self_signed": certificate.is_self_signed(),
        "until": day(certificate.not_after()),
        "days": seconds_left(certificate, now).div_euclid(24 * 3600),
        "file": certificate.file(),
        "warnings": warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// The row of a certificate that is being served. The file may hold another one by now, which a reload takes up or refuses.
pub(crate) fn row_of_served(served: &Certificate, config: &Config) -> Value {
    let mut row = row(served);
    let host = config.hosts.iter().find(|host| host.name.as_str() == served.host());
    let waiting = match host.and_then(given) {
        None => None,
        Some(Ok(new)) if new.is_same(served) => None,
        Some(Ok(new)) => Some(match fatal(&new, now()).into_iter().next() {
            None => {
                format!(
                    "the file holds another certificate, until {}: `vorpal config apply` takes it up",
                    day(new.not_after())
                )
            }
            Some(error) => format!("the file holds another certificate, which a reload refuses: {error:#}"),
        }),
        Some(Err(error)) => Some(format!("a reload would be refused: {error:#}")),
    };
    if let (Some(waiting), Some(warnings)) = (waiting, row["warnings"].as_array_mut()) {
        warnings.push(waiting.into());
    }
    row
}

/// The same without a server, from the files. For a host without a certificate, or with one that cannot be used, an error.
pub(crate) fn rows_of_files(config: &Config) -> Vec<Value> {
    let of_host = |host: &vorpal_config::Host| {
        let name = host.name.as_str();
        let found =
            given(host).or_else(|| Some(Certificate::made(name, &config.data.join(FOLDER))?.map_err(Error::new)));
        match found {
            Some(Ok(certificate)) => row(&certificate),
            Some(Err(error)) => json!({ "host": name, "error": format!("{error:#}") }),
            None => json!({ "host": name, "error": "none yet: the server makes one when it starts" }),
        }
    };
    config.hosts.iter().map(of_host).collect()
}

/// The day of a moment, in UTC.
fn day(at: Timestamp) -> String {
    at.to_string().split('T').next().unwrap_or_default().to_owned()
}

/// A more specific error, if there is one: the owner of a file without access, or that the key has a passphrase.
fn told(error: CertificateError, key: &Path) -> Error {
    if let CertificateError::Read(file, cause) = &error {
        return anyhow!("{error}: {}", files::told(cause, file));
    }
    let of_key = match &error {
        CertificateError::NoKey(file) | CertificateError::BadKey(file) | CertificateError::BadPem(file, _) => {
            file == key
        }
        _ => false,
    };
    let text = || Zeroizing::new(std::fs::read(key).unwrap_or_default());
    if !of_key || !text().windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) {
        return error.into();
    }
    let key = key.display();
    anyhow!(
        "the key in {key} is encrypted: the server needs one without a passphrase, `openssl pkey -in {key} -out FILE`"
    )
}

#[cfg(test)]
mod tests {
    use vorpal_net::tls::Policy;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn config(folder: &Path, text: &str) -> Config {
        Config::read(&folder.join("v.toml"), text.into(), [], &[]).expect("a configuration")
    }

    #[test]
    fn a_key_with_a_passphrase_is_named_as_such_in_either_form() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        drop(Certificate::self_signed("a.example", folder.path(), now()).expect("made"));
        let old = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
        let new = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (key, encrypted) in [(old, true), (new, true), ("nothing", false)] {
            std::fs::write(file("key.pem"), key).expect("written");
            let text = "hosts = [\"a.example\"]\n[tls]\ncertificate = \"a.example.crt\"\nkey = \"key.pem\"\n";
            let errors = check(&config(folder.path(), text));
            let [error] = errors.as_slice() else { panic!("{errors:?}") };
            let told = format!("the key in {} is encrypted", file("key.pem").display());
            assert_eq!(format!("{error:#}").contains(&told), encrypted, "{error:#}");
        }
    }

    #[test]
    fn a_certificate_of_our_own_is_renewed_while_it_is_served_and_before_it_expires() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config(folder.path(), "hosts = [\"a.example\", \"b.example\"]\ndata = \".\"\n");
        // Made so long ago that its end is near: of the other host everything is new.
        let began = now();
        let old =
            Certificate::self_signed("a.example", &folder.path().join(FOLDER), began.minus(DAY * 740)).expect("made");
        let (end, now) = (old.not_after(), began);
        assert!(end > now && end.since(now) < DAY * 90);
        let served = vec![old, made(&config.hosts[1], folder.path()).expect("made")];
        let tls = TlsHosts::new(served, Policy::default()).expect("served");
        let other = tls.all()[1].clone();
        look_after(&config, folder.path(), &tls, now);
        let all = tls.all();
        assert!(all[0].certificate().not_after() > end.plus(DAY * 365));
        assert!(Arc::ptr_eq(&all[1], &other), "nothing is done to one that is fresh");
        look_after(&config, folder.path(), &tls, now.plus(DAY));
        assert!(Arc::ptr_eq(&tls.all()[0], &all[0]));
    }

    #[test]
    fn what_is_left_of_a_certificate_is_counted_to_its_last_second_and_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let certificate = Certificate::self_signed("a.example", folder.path(), now()).expect("made");
        let end = certificate.not_after();
        let second = Duration::from_secs(1);
        assert_eq!(seconds_left(&certificate, end.minus(DAY)), 86_400);
        assert_eq!([end, end.plus(second)].map(|at| seconds_left(&certificate, at)), [0, -2]);
        assert_eq!(day(Timestamp::from_millis(1_795_334_400_000)), "2026-11-22");
    }
}
