//! RFC 5802 and 7677: SCRAM, the side of the server.
//!
//! Every rule of RFC 5802 §5 to §7 that can be broken is broken once in `tests/table.rs`.
//!
//! Not: the server-error attribute `e=` (§5.1). On failure the server-final-message is optional, and XMPP has its own
//! way: `<failure/>` with a condition (RFC 6120 §6.5) and no data, so a challenge carrying `e=` would cost a round trip
//! and tell a stranger more than `not-authorized` does.

use base64::{Engine, engine::general_purpose::STANDARD};
use subtle::ConstantTimeEq;

use super::{
    Account, ChannelBindings, MAX_AUTHZID_BYTES, MAX_USERNAME_BYTES, Nonce, Offered, Proven, Refusal, TLS_EXPORTER,
    TLS_SERVER_END_POINT, prep,
};

/// What the first message is judged by.
pub(super) struct Terms<'a> {
    pub(super) plus: bool,
    pub(super) plus_offered: bool,
    pub(super) bindings: &'a ChannelBindings,
}

/// The client-first-message, checked.
pub(super) struct First {
    authzid: Option<String>,
    username: String,
    nonce: String,
    /// The GS2 header as received and the channel-binding data: what `c=` must contain (`cbind-input`).
    cbind_input: Vec<u8>,
    binding: Option<&'static str>,
    /// client-first-message-bare, as received: part of what is signed.
    bare: String,
}

impl First {
    /// §7: `gs2-header client-first-message-bare`.
    pub(super) fn parse(data: &[u8], terms: &Terms<'_>) -> Result<First, Refusal> {
        let text = std::str::from_utf8(data).map_err(|_| Refusal::malformed("message is not UTF-8"))?;
        let (flag, rest) = text.split_once(',').ok_or(Refusal::malformed("GS2 header incomplete"))?;
        let (authzid, bare) = rest.split_once(',').ok_or(Refusal::malformed("GS2 header incomplete"))?;

        let binding = binding(flag, terms)?;
        let authzid = match authzid.strip_prefix("a=") {
            Some(name) => Some(saslname(name, MAX_AUTHZID_BYTES)?),
            None if authzid.is_empty() => None,
            None => return Err(Refusal::malformed("GS2 header has something else than an authzid")),
        };
        let mut attributes = bare.split(',');
        let name = attributes.next().unwrap_or_default();
        if name.starts_with("m=") {
            return Err(Refusal::malformed("mandatory extension (m=)"));
        }
        let name = name.strip_prefix("n=").ok_or(Refusal::malformed("username (n=) missing"))?;
        let name = saslname(name, MAX_USERNAME_BYTES)?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        let nonce = nonce.ok_or(Refusal::malformed("nonce (r=) missing"))?;
        if !Nonce::is_valid(nonce) {
            return Err(Refusal::malformed("nonce is empty or not printable"));
        }
        attributes.try_for_each(extension)?;

        let username = prep::query(&name).map_err(|_| Refusal::unauthorized("username fails SASLprep"))?;
        let mut cbind_input = text.strip_suffix(bare).unwrap_or_default().as_bytes().to_vec();
        cbind_input.extend_from_slice(binding.and_then(|name| terms.bindings.data(name)).unwrap_or_default());
        Ok(First {
            authzid,
            username: username.into_owned(),
            nonce: nonce.to_owned(),
            cbind_input,
            binding,
            bare: bare.to_owned(),
        })
    }

    /// The name to look up, after SASLprep.
    pub(super) fn username(&self) -> &str {
        &self.username
    }

    /// The server-first-message, and what waits for the client's answer to it.
    pub(super) fn challenge(self, account: Account, nonce: &Nonce, offered: Option<&Offered>) -> (Vec<u8>, Pending) {
        let credentials = &account.credentials;
        let nonce = format!("{}{}", self.nonce, nonce.as_str());
        let mut message =
            format!("r={nonce},s={},i={}", STANDARD.encode(credentials.salt()), credentials.iterations().count());
        if let Some(offered) = offered {
            // XEP-0474 §6.1
            message.push_str(",h=");
            message.push_str(&offered.attribute(credentials.hash()));
        }
        let challenge = message.clone().into_bytes();
        (challenge, Pending { first: self, account, nonce, server_first: message })
    }
}

/// An exchange between the server-first-message and the client-final-message.
pub(super) struct Pending {
    first: First,
    account: Account,
    /// The client's part and ours.
    nonce: String,
    server_first: String,
}

impl Pending {
    /// §7: `channel-binding "," nonce ["," extensions] "," proof`.
    pub(super) fn finish(self, data: &[u8]) -> Result<Proven, Refusal> {
        let text = std::str::from_utf8(data).map_err(|_| Refusal::malformed("message is not UTF-8"))?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Refusal::malformed("proof (p=) missing"))?;
        let proof = STANDARD.decode(proof).map_err(|_| Refusal::malformed("proof is not base64 or not last"))?;
        let mut attributes = without_proof.split(',');
        let cbind = attributes.next().and_then(|cbind| cbind.strip_prefix("c="));
        let cbind = cbind.ok_or(Refusal::malformed("channel binding (c=) missing"))?;
        let cbind = STANDARD.decode(cbind).map_err(|_| Refusal::malformed("channel binding is not base64"))?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        let nonce = nonce.ok_or(Refusal::malformed("nonce (r=) missing"))?;
        attributes.try_for_each(extension)?;

        if !bool::from(cbind.ct_eq(&self.first.cbind_input)) {
            return Err(Refusal::unauthorized("channel binding or GS2 header differs"));
        }
        if !bool::from(nonce.as_bytes().ct_eq(self.nonce.as_bytes())) {
            return Err(Refusal::unauthorized("nonce differs"));
        }
        let auth_message =
            [self.first.bare.as_bytes(), b",", self.server_first.as_bytes(), b",", without_proof.as_bytes()];
        let signature = self
            .account
            .credentials
            .check_proof(&auth_message, &proof)
            .ok_or(Refusal::unauthorized("no such account or wrong proof"))?;
        if self.account.credentials.is_barred() {
            return Err(Refusal::BARRED);
        }
        Ok(Proven {
            account: self.account.address,
            authzid: self.first.authzid,
            binding: self.first.binding,
            data: Some(format!("v={}", STANDARD.encode(signature.bytes())).into_bytes()),
        })
    }
}

/// §6: what the client says of channel binding, against what we know. The type to bind to, if any.
fn binding(flag: &str, terms: &Terms<'_>) -> Result<Option<&'static str>, Refusal> {
    match flag {
        "n" | "y" if terms.plus => Err(Refusal::malformed("-PLUS without channel binding")),
        "y" if terms.plus_offered => Err(Refusal::DOWNGRADE),
        "n" | "y" => Ok(None),
        _ => {
            let name = flag.strip_prefix("p=").ok_or(Refusal::malformed("GS2 flag is not n, y or p"))?;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-') {
                return Err(Refusal::malformed("channel-binding type is no name"));
            }
            if !terms.plus {
                return Err(Refusal::malformed("channel binding without -PLUS"));
            }
            let known = [TLS_EXPORTER, TLS_SERVER_END_POINT].into_iter().find(|known| *known == name);
            match known.filter(|name| terms.bindings.data(name).is_some()) {
                Some(name) => Ok(Some(name)),
                None => Err(Refusal::unauthorized("unsupported channel-binding type")),
            }
        }
    }
}

/// §7: `saslname`, with `=2C` and `=3D` undone. §5.1: any other `=` fails.
fn saslname(raw: &str, max: usize) -> Result<String, Refusal> {
    let mut pieces = raw.split('=');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (escaped, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(Refusal::malformed("name has = without 2C or 3D")),
        };
        name.push(escaped);
        name.push_str(rest);
    }
    if name.is_empty() || name.contains('\0') {
        return Err(Refusal::malformed("name is empty or contains NUL"));
    }
    if name.len() > max {
        return Err(Refusal::malformed("username or authzid too long"));
    }
    Ok(name)
}

/// §5.1: an unknown optional attribute is ignored, `m=` fails; an attribute that has its own place fails elsewhere.
fn extension(attribute: &str) -> Result<(), Refusal> {
    let mut chars = attribute.chars();
    let name = chars.next().filter(char::is_ascii_alphabetic);
    let (Some(name), Some('='), Some(_)) = (name, chars.next(), chars.next()) else {
        return Err(Refusal::malformed("extension is no attribute"));
    };
    match name {
        'm' => Err(Refusal::malformed("mandatory extension (m=)")),
        'a' | 'n' | 'r' | 'c' | 's' | 'i' | 'p' | 'v' | 'e' => Err(Refusal::malformed("attribute out of order")),
        _ if attribute.contains('\0') => Err(Refusal::malformed("extension contains NUL")),
        _ => Ok(()),
    }
}
