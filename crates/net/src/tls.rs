//! TLS (RFC 6120 §5, RFC 7590) and XEP-0368: SRV records for XMPP over TLS.
//!
//! A certificate for every host, replaceable while connections stay open; TLS 1.2 and 1.3 by rustls with aws-lc-rs, named in every
//! builder; and channel binding. An accepted connection is passed to [`TlsHosts::accept`], which reads the ClientHello, selects the
//! host with [`TlsHosts::select`], and returns a [`Stream`]. So a login is always bound to the certificate that its connection has
//! shown, even if another is loaded during the handshake. `Machine` is the same without a socket.
//!
//! Limits: a PEM file of 1 MiB, 16 certificates in a chain, 256 sessions remembered for resumption, 18 KiB of incomplete input
//! Not:    client certificates, OCSP stapling, ACME

mod binding;
mod certificate;
mod exporter;
mod hosts;
mod machine;
mod names;
mod self_signed;
mod stream;
#[cfg(test)]
mod tests;

pub use binding::server_end_point;
pub use certificate::{Certificate, CertificateError, Warning};
pub use hosts::{ALPN_CLIENT, Entry, Host, Policy, TlsError, TlsHosts, TlsVersion};
pub use stream::Stream;
