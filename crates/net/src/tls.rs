//! TLS (RFC 6120 §5, RFC 7590) and XEP-0368: SRV records for XMPP over TLS.
//!
//! A certificate for every host, exchanged while connections go on; TLS 1.2 and 1.3 by rustls with aws-lc-rs, named in every
//! builder; and what a login can be bound to. No sockets here: who accepts a connection reads the ClientHello
//! (`rustls::server::Acceptor`), lets [`TlsHosts::select`] choose, and goes on with [`Host::config`]:
//!
//! ```
//! # use rustls::server::Accepted;
//! # use vorpal_net::tls::{Entry, Host, TlsHosts};
//! # use std::sync::Arc;
//! # fn go_on(hosts: &TlsHosts, accepted: Accepted, to: Option<&str>) -> Option<(Arc<Host>, rustls::ServerConnection)> {
//! let host = hosts.select(accepted.client_hello().server_name(), to);
//! let connection = accepted.into_connection(host.config(Entry::Starttls)).ok()?;
//! // … after the handshake: host.channel_bindings(&connection)
//! # Some((host, connection))
//! # }
//! ```
//!
//! So a connection knows for certain which certificate it has shown, also when another is loaded during its handshake.
//!
//! Limits: a PEM file of 1 MiB, 16 certificates in a chain, 256 sessions remembered for resumption
//! Not:    client certificates, OCSP stapling, ACME

mod binding;
mod certificate;
mod hosts;
mod names;
mod self_signed;
#[cfg(test)]
mod tests;

pub use binding::{channel_bindings, server_end_point};
pub use certificate::{Certificate, CertificateError, Warning};
pub use hosts::{ALPN_CLIENT, Entry, Host, Policy, TlsError, TlsHosts, TlsVersion};
