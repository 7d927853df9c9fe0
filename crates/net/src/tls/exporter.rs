//! RFC 9266 (`tls-exporter`) for a connection of rustls' unbuffered API, which cannot export keying material itself.
//!
//! rustls passes the secret that exports are derived from to a key log. Each handshake gets its own log, which keeps only that
//! secret, and is dropped with the handshake. The value is computed by rustls' own functions: RFC 8446 §7.5 for TLS 1.3, RFC 5705 §4
//! for TLS 1.2.

use std::sync::{Mutex, PoisonError};

use rustls::{KeyLog, SupportedCipherSuite, crypto::tls13::OkmBlock};
use zeroize::Zeroizing;

/// RFC 9266 §5.2.
const LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The labels in NSS' key log format of the exporter secret of TLS 1.3, and of the master secret of TLS 1.2.
const EXPORTER_SECRET: &str = "EXPORTER_SECRET";
const MASTER_SECRET: &str = "CLIENT_RANDOM";

/// The key log of one handshake.
#[derive(Default)]
pub(super) struct Secrets(Mutex<Option<Heard>>);

struct Heard {
    client_random: Vec<u8>,
    secret: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

impl KeyLog for Secrets {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        if self.will_log(label) {
            let heard = Heard { client_random: client_random.to_vec(), secret: Zeroizing::new(secret.to_vec()) };
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER_SECRET || label == MASTER_SECRET
    }
}

impl Secrets {
    /// RFC 9266 §2: 32 bytes for the label and an empty context, of a completed handshake. The server's random number is needed for
    /// TLS 1.2 only.
    pub(super) fn export(&self, suite: SupportedCipherSuite, server_random: Option<[u8; 32]>) -> Option<[u8; 32]> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let mut value = [0; 32];
        match suite {
            SupportedCipherSuite::Tls13(suite) => {
                let hash = suite.common.hash_provider;
                let nothing = hash.hash(&[]);
                if heard.secret.len() != nothing.as_ref().len() {
                    return None;
                }
                // Derive-Secret(exporter_secret, label, ""), then HKDF-Expand-Label(…, "exporter", Hash(context), 32).
                let expander = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(&heard.secret));
                let mut derived = Zeroizing::new(vec![0; nothing.as_ref().len()]);
                expand(&*expander, LABEL, nothing.as_ref(), &mut derived)?;
                let expander = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(&derived));
                expand(&*expander, b"exporter", nothing.as_ref(), &mut value)?;
            }
            SupportedCipherSuite::Tls12(suite) => {
                // An empty context and no context give different values (RFC 5705 §4); RFC 9266 §2 requires the empty one.
                let no_context = 0u16.to_be_bytes();
                let seed = [heard.client_random.as_slice(), &server_random?, &no_context].concat();
                suite.prf_provider.for_secret(&mut value, &heard.secret, LABEL, &seed);
            }
        }
        Some(value)
    }
}

/// HKDF-Expand-Label (RFC 8446 §7.1).
fn expand(
    expander: &dyn rustls::crypto::tls13::HkdfExpander,
    label: &[u8],
    context: &[u8],
    output: &mut [u8],
) -> Option<()> {
    const PREFIX: &[u8] = b"tls13 ";
    let length = u16::try_from(output.len()).ok()?.to_be_bytes();
    let label_length = u8::try_from(PREFIX.len() + label.len()).ok()?;
    let context_length = u8::try_from(context.len()).ok()?;
    expander.expand_slice(&[&length, &[label_length], PREFIX, label, &[context_length], context], output).ok()
}

/// The server's random number in its first flight under TLS 1.2 (RFC 5246 §7.4.1.3): a record that begins with the ServerHello.
pub(super) fn server_random(flight: &[u8]) -> Option<[u8; 32]> {
    const HANDSHAKE: u8 = 22;
    const SERVER_HELLO: u8 = 2;
    match flight {
        // Type, version and length of the record; type and length of the message; version.
        [HANDSHAKE, _, _, _, _, SERVER_HELLO, _, _, _, 3, 3, rest @ ..] => rest.first_chunk().copied(),
        _ => None,
    }
}
