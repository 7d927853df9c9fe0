//! Connections: TCP, and TLS over it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What bytes go through.
pub enum Wire {
    /// Bare.
    Tcp(TcpStream),
    /// With TLS, boxed for its size.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// As in `AsyncRead`.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Wire::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Wire::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }

    /// Writes all of it out to the socket.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Wire::Tcp(tcp) => tcp.write_all(bytes).await,
            Wire::Tls(tls) => {
                tls.write_all(bytes).await?;
                tls.flush().await
            }
        }
    }

    /// Ends the sending side.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Wire::Tcp(tcp) => tcp.shutdown().await,
            Wire::Tls(tls) => tls.shutdown().await,
        }
    }
}

/// The client's side of TLS.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    /// Full handshakes only: resumption would measure something else.
    pub fn new() -> Result<Tls> {
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider.clone())))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![b"xmpp-client".to_vec()];
        Ok(Tls { connector: TlsConnector::from(Arc::new(config)), provider })
    }

    /// Handshake.
    pub async fn over(&self, wire: Wire, domain: &str) -> Result<Wire> {
        let Wire::Tcp(tcp) = wire else { bail!("TLS within TLS") };
        let name = ServerName::try_from(domain.to_owned()).context("the domain is no name for TLS")?;
        let tls = self.connector.connect(name, tcp).await.context("the TLS handshake failed")?;
        Ok(Wire::Tls(Box::new(tls)))
    }

    /// Fills `bytes` from the system's generator.
    pub fn random(&self, bytes: &mut [u8]) -> Result<()> {
        self.provider.secure_random.fill(bytes).map_err(|_| anyhow::anyhow!("no random numbers"))
    }
}

/// Takes any certificate, since test servers sign their own, but checks that the server holds its key, as clients do.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
