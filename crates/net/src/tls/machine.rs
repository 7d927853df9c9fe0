//! The server's side of one TLS connection, without a socket: over rustls' unbuffered API, which buffers neither input nor output.
//! Only incomplete input is kept here; otherwise nothing is allocated.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rustls::{
    Error, ProtocolVersion, ServerConfig,
    server::{Acceptor, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus},
};

use vorpal_core::session::{Cipher, Tls};

use super::exporter::{Secrets, server_random};

/// Maximum size of incomplete input: a TLS 1.2 record with its header (RFC 5246 §6.2.3), which is larger than one of TLS 1.3.
/// Handshake messages of a client are far shorter.
const MAX_UNREAD: usize = 5 + (1 << 14) + 2048;
/// Maximum overhead of a record over its content.
const OVERHEAD: usize = 64;

/// The ClientHello, as far as it was read: it names the host, and thus selects the configuration.
#[derive(Default)]
pub(super) struct Hello {
    acceptor: Acceptor,
    seen: BytesMut,
}

impl Hello {
    /// Takes input. When the message is complete, returns the name in it (RFC 6066 §3) and all bytes so far, for
    /// [`Machine::feed`].
    ///
    /// # Errors
    /// It is not a ClientHello: the alert to send is in `out`.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        out: &mut BytesMut,
    ) -> Result<Option<(Option<String>, BytesMut)>, Error> {
        self.seen.extend_from_slice(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.seen.len() > MAX_UNREAD || self.acceptor.read_tls(&mut rest).is_err() {
                return Err(too_large());
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(str::to_owned);
                    return Ok(Some((name, std::mem::take(&mut self.seen))));
                }
                Err((error, mut alert)) => {
                    let mut said = Vec::new();
                    if alert.write_all(&mut said).is_ok() {
                        out.extend_from_slice(&said);
                    }
                    return Err(error);
                }
            }
        }
        Ok(None)
    }
}

/// A connection. See the module's text.
pub(super) struct Machine {
    connection: UnbufferedServerConnection,
    /// incomplete input: a record, or a handshake message. rustls works in these bytes, so they are not changed
    unread: BytesMut,
    /// until the exporter value was requested
    handshake: Option<Box<Handshake>>,
    /// the peer has sent close_notify
    ended: bool,
}

struct Handshake {
    secrets: Arc<Secrets>,
    server_random: Option<[u8; 32]>,
}

impl Machine {
    /// A new connection.
    pub(super) fn new(config: &ServerConfig) -> Result<Machine, Error> {
        let secrets = Arc::new(Secrets::default());
        let mut config = config.clone();
        config.key_log = secrets.clone();
        let connection = UnbufferedServerConnection::new(Arc::new(config))?;
        let handshake = Some(Box::new(Handshake { secrets, server_random: None }));
        Ok(Machine { connection, unread: BytesMut::new(), handshake, ended: false })
    }

    /// The negotiated version and cipher.
    pub(super) fn encryption(&self) -> Tls {
        use rustls::CipherSuite as Suite;
        let cipher = match self.connection.negotiated_cipher_suite().map(|suite| suite.suite()) {
            Some(
                Suite::TLS13_AES_128_GCM_SHA256
                | Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            ) => Cipher::Aes128Gcm,
            Some(
                Suite::TLS13_AES_256_GCM_SHA384
                | Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
                | Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            ) => Cipher::Aes256Gcm,
            Some(
                Suite::TLS13_CHACHA20_POLY1305_SHA256
                | Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ) => Cipher::ChaCha20Poly1305,
            _ => Cipher::Other,
        };
        match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Tls::V12(cipher),
            _ => Tls::V13(cipher),
        }
    }

    /// Takes input and decrypts it in place. The client's data is appended to `plain`, records of TLS itself to `out`, even after an
    /// error.
    ///
    /// # Errors
    /// Errors that end the connection. Must not be called again after one.
    pub(super) fn feed(&mut self, bytes: &mut [u8], plain: &mut BytesMut, out: &mut BytesMut) -> Result<(), Error> {
        if self.unread.is_empty() {
            let used = self.process(bytes, plain, out)?;
            self.unread.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            let mut unread = std::mem::take(&mut self.unread);
            unread.extend_from_slice(bytes);
            let used = self.process(&mut unread, plain, out)?;
            unread.advance(used.min(unread.len()));
            if !unread.is_empty() {
                self.unread = unread;
            }
        }
        if self.unread.len() > MAX_UNREAD { Err(too_large()) } else { Ok(()) }
    }

    /// Returns how many of the bytes are processed.
    fn process(&mut self, bytes: &mut [u8], plain: &mut BytesMut, out: &mut BytesMut) -> Result<usize, Error> {
        let mut used = 0;
        while !self.ended {
            let rest = bytes.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(rest);
            let has_data = matches!(state, Ok(ConnectionState::ReadTraffic(_)));
            let stays = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    false
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    let flight = encode(data, out)?;
                    if let Some(handshake) = &mut self.handshake
                        && handshake.server_random.is_none()
                    {
                        handshake.server_random = server_random(out.get(flight..).unwrap_or_default());
                    }
                    false
                }
                // It is already in `out`, in the right order.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    false
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.ended = true;
                    false
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                    true
                }
                // Early data, which our configurations never allow, or a state of a later rustls version.
                Ok(_) => return Err(Error::General("an unknown state".into())),
                Err(error) => {
                    self.say_why(rest, out);
                    return Err(error);
                }
            };
            used += discard;
            // To ask again would only tell that more input is needed.
            let all = has_data && used >= bytes.len() && !self.connection.wants_write();
            if stays || all {
                break;
            }
        }
        // Bytes after the end are discarded.
        Ok(if self.ended { bytes.len() } else { used })
    }

    /// The alert of an error. Only data that is ready is requested: the input must not be processed again.
    fn say_why(&mut self, bytes: &mut [u8], out: &mut BytesMut) {
        while self.connection.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(data)) = self.connection.process_tls_records(bytes).state else {
                return;
            };
            if encode(data, out).is_err() {
                return;
            }
        }
    }

    /// Encrypts, after pending records of TLS itself.
    ///
    /// # Errors
    /// The handshake is not done, this side was closed, or the keys are used up.
    pub(super) fn encrypt(&mut self, plain: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        let records = plain.len().div_ceil(1 << 14).max(1);
        let room = plain.len() + records * OVERHEAD;
        self.seal(out, room, |traffic, room| traffic.encrypt(plain, room))
    }

    /// Sends close_notify (RFC 8446 §6.1).
    pub(super) fn close(&mut self, out: &mut BytesMut) -> Result<(), Error> {
        self.seal(out, OVERHEAD, |traffic, room| traffic.queue_close_notify(room))
    }

    fn seal(
        &mut self,
        out: &mut BytesMut,
        mut room: usize,
        mut write: impl FnMut(&mut WriteTraffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        loop {
            // There is no new input: the incomplete input is passed because rustls works in it.
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.unread);
            let done = match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let at = out.len();
                    out.resize(at + room, 0);
                    let written = write(&mut traffic, out.get_mut(at..).unwrap_or_default());
                    out.truncate(at + written.as_ref().map_or(0, |n| *n));
                    match written {
                        Ok(_) => true,
                        Err(EncryptError::InsufficientSize(size)) if size.required_size > room => {
                            room = size.required_size;
                            false
                        }
                        Err(error) => return Err(Error::General(error.to_string())),
                    }
                }
                ConnectionState::EncodeTlsData(data) => {
                    encode(data, out)?;
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                _ => return Err(Error::General("nothing can be said".into())),
            };
            self.unread.advance(discard.min(self.unread.len()));
            if done {
                return Ok(());
            }
        }
    }

    /// RFC 9266: the exporter value for channel binding. Available once, after the handshake.
    pub(super) fn take_exporter(&mut self) -> Option<[u8; 32]> {
        if self.is_handshaking() {
            return None;
        }
        let Handshake { secrets, server_random } = *self.handshake.take()?;
        secrets.export(self.connection.negotiated_cipher_suite()?, server_random)
    }

    /// Whether the handshake is under way.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the client has sent close_notify.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// rustls' state of the connection.
    #[cfg(test)]
    pub(super) fn state(&self) -> &rustls::CommonState {
        &self.connection
    }

    /// Number of bytes that are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.unread.capacity()
    }
}

fn too_large() -> Error {
    Error::General("a message is too large".into())
}

type WriteTraffic<'c> = rustls::unbuffered::WriteTraffic<'c, rustls::server::ServerConnectionData>;

/// Appends records of TLS itself. Returns where they begin.
fn encode(
    mut data: EncodeTlsData<'_, rustls::server::ServerConnectionData>,
    out: &mut BytesMut,
) -> Result<usize, Error> {
    let at = out.len();
    let mut room = 0;
    loop {
        out.resize(at + room, 0);
        match data.encode(out.get_mut(at..).unwrap_or_default()) {
            Ok(written) => {
                out.truncate(at + written);
                return Ok(at);
            }
            Err(EncodeError::InsufficientSize(size)) if size.required_size > room => room = size.required_size,
            Err(error) => return Err(Error::General(error.to_string())),
        }
    }
}
