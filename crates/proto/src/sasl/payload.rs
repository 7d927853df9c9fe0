//! RFC 6120 §6.3.5 and §6.4.2: how SASL data stands in XML, as base64, with `=` for "present but empty".

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{MAX_INPUT_BYTES, Refusal, SaslError};

/// Reads the character data of `<auth/>` or `<response/>`. `None`: there was none.
///
/// What comes out may hold a password, and is wiped when dropped.
///
/// Strict: no white space, full padding, its bits zero (§6.3.5).
///
/// # Errors
/// `incorrect-encoding` if it is not base64, `malformed-request` if it is more than [`MAX_INPUT_BYTES`] decoded.
pub fn decode_payload(text: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    if text == "=" {
        return Ok(Some(Zeroizing::default()));
    }
    if text.len() > MAX_INPUT_BYTES.div_ceil(3) * 4 {
        return Err(Refusal::malformed("message too long"));
    }
    let wrong = Refusal { condition: SaslError::IncorrectEncoding, reason: "payload is not base64" };
    // In one piece: a buffer that grows leaves copies behind.
    let mut data = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let len = STANDARD.decode_slice(text, &mut data).map_err(|_| wrong)?;
    data.truncate(len);
    if data.len() > MAX_INPUT_BYTES {
        return Err(Refusal::malformed("message too long"));
    }
    Ok(Some(data))
}

/// Writes the character data of `<challenge/>`, `<success/>` or `<auth/>`. `None`: none at all; empty data is `=`.
///
/// An empty challenge is to be written with `None`: the element alone says all (RFC 4422 §5.1).
pub fn encode_payload(data: Option<&[u8]>) -> String {
    match data {
        None => String::new(),
        Some([]) => "=".to_owned(),
        Some(data) => STANDARD.encode(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_empty_are_not_the_same() {
        assert_eq!(decode_payload(""), Ok(None));
        assert_eq!(decode_payload("="), Ok(Some(Zeroizing::default())));
        assert_eq!(encode_payload(None), "");
        assert_eq!(encode_payload(Some(b"")), "=");
        assert_eq!(encode_payload(Some(b"biws")), "Yml3cw==");
    }

    #[test]
    fn sloppy_base64_is_an_incorrect_encoding() {
        for text in ["==", "Yml3cw", "Yml3cw=", "Yml3cx==", " Yml3cw==", "Yml3\ncw==", "Yml3cw===", "Yml_cw==", "Y"] {
            let refusal = decode_payload(text).unwrap_err();
            assert_eq!(refusal.condition, SaslError::IncorrectEncoding, "{text:?}");
        }
    }

    #[test]
    fn the_limit_is_exact() {
        let longest = encode_payload(Some(&vec![0; MAX_INPUT_BYTES]));
        assert_eq!(decode_payload(&longest).unwrap().unwrap().len(), MAX_INPUT_BYTES);
        for more in [1, 2, 3, 100_000] {
            let text = encode_payload(Some(&vec![0; MAX_INPUT_BYTES + more]));
            assert_eq!(decode_payload(&text).unwrap_err().condition, SaslError::MalformedRequest);
        }
    }
}
