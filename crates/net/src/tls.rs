//! TLS (RFC 6120 §5, RFC 7590) and XEP-0368: SRV records for XMPP over TLS.
//!
//! A certificate for every host, exchanged while connections go on; TLS 1.2 and 1.3 by rustls with aws-lc-rs, named in every
//! builder; and what a login can be bound to. Who has accepted a connection gives it to [`TlsHosts::accept`], which reads what the
//! client says first, chooses with [`TlsHosts::select`], and gives a [`Stream`]: so a connection is bound for certain to the
//! certificate that it has shown, also when another is loaded during its handshake. `Machine` is the same without a socket.
//!
//! Limits: a PEM file of 1 MiB, 16 certificates in a chain, 256 sessions remembered for resumption, 18 KiB of what is not
//!         whole yet
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
