//! The PROXY protocol, version 2: the header that a proxy sends before the client's first byte (the specification is HAProxy's,
//! `proxy-protocol.txt`, §2.2).
//!
//! The header contains the client's address. It is trusted only on listeners that are configured for a proxy: anybody could send one.
//!
//! Pure: bytes in, an answer out.
//!
//! Limits: [`MAX_HEADER`] bytes
//! Not:    version 1, which is text; additional fields (TLVs) are skipped, including the checksum

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Maximum length of a header, in bytes: addresses and everything before them take at most 52, the rest is for additional fields.
pub const MAX_HEADER: usize = 2_048;

/// The signature that every header begins with. No client protocol begins like this.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, the version with the command, the family with the transport, and the length of the rest.
const PREFIX: usize = 16;

/// What the bytes read so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The beginning of a header: this is how many bytes it has at least.
    Part(usize),
    /// A complete header. The bytes after it belong to the client.
    Whole {
        /// how many bytes it has
        length: usize,
        /// the client's address; `None` if the connection is the proxy's own, or the address is not known
        client: Option<SocketAddr>,
    },
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Something else came.
    #[error("no header of the PROXY protocol, version 2")]
    Signature,
    /// The high half of byte 13.
    #[error("another version of the PROXY protocol")]
    Version,
    /// The low half of byte 13.
    #[error("an unknown command of the PROXY protocol")]
    Command,
    /// Byte 14.
    #[error("a family or transport that the PROXY protocol does not know, or that is not a stream")]
    Family,
    /// More than [`MAX_HEADER`].
    #[error("a header of the PROXY protocol that is too long")]
    TooLong,
    /// Less than the addresses take.
    #[error("a header of the PROXY protocol that is too short for its addresses")]
    TooShort,
}

/// Parses a header at the beginning of the input.
///
/// # Errors
/// It is not a header, or not one that this server accepts. Reported as early as possible.
pub fn read(bytes: &[u8]) -> Result<Header, Malformed> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes.get(..begun) != SIGNATURE.get(..begun) {
        return Err(Malformed::Signature);
    }
    let Some([command, family, high, low]) = bytes.get(SIGNATURE.len()..).and_then(|rest| rest.first_chunk()) else {
        return Ok(Header::Part(PREFIX));
    };
    if command >> 4 != 2 {
        return Err(Malformed::Version);
    }
    let length = PREFIX + usize::from(u16::from_be_bytes([*high, *low]));
    if length > MAX_HEADER {
        return Err(Malformed::TooLong);
    }
    let local = match command & 15 {
        0 => true,
        1 => false,
        _ => return Err(Malformed::Command),
    };
    let Some(rest) = bytes.get(PREFIX..length) else { return Ok(Header::Part(length)) };
    let client = match family {
        // LOCAL: a connection of the proxy itself, for instance a health check. Its addresses are ignored.
        _ if local => None,
        0x00 => None,
        0x11 => Some(client_v4(rest).ok_or(Malformed::TooShort)?),
        0x21 => Some(client_v6(rest).ok_or(Malformed::TooShort)?),
        // A Unix socket has a path and no address.
        0x31 if rest.len() >= 216 => None,
        0x31 => return Err(Malformed::TooShort),
        _ => return Err(Malformed::Family),
    };
    Ok(Header::Whole { length, client })
}

/// The two addresses, then the two ports.
fn client_v4(rest: &[u8]) -> Option<SocketAddr> {
    let rest: &[u8; 12] = rest.first_chunk()?;
    let [a, b, c, d, _, _, _, _, high, low, ..] = *rest;
    Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into())
}

fn client_v6(rest: &[u8]) -> Option<SocketAddr> {
    let rest: &[u8; 36] = rest.first_chunk()?;
    let address: [u8; 16] = *rest.first_chunk()?;
    let [high, low, ..] = *rest.last_chunk::<4>()?;
    Some((Ipv6Addr::from(address), u16::from_be_bytes([high, low])).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    /// From 192.0.2.1:40000 to 127.0.0.1:5280.
    const V4: [u8; 12] = [192, 0, 2, 1, 127, 0, 0, 1, 0x9c, 0x40, 0x14, 0xa0];

    fn v6() -> Vec<u8> {
        let address = |text: &str| text.parse::<Ipv6Addr>().expect("an address").octets();
        [&address("2001:db8::7")[..], &address("::1"), &[0x9c, 0x40, 0x14, 0xa0]].concat()
    }

    #[test]
    fn the_client_of_a_proxy_is_known_by_its_address() {
        let whole = |bytes: &[u8]| match read(bytes) {
            Ok(Header::Whole { length, client }) => (length, client.map(|client| client.to_string())),
            other => panic!("{other:?}"),
        };
        assert_eq!(whole(&header(0x21, 0x11, &V4)), (28, Some("192.0.2.1:40000".into())));
        assert_eq!(whole(&header(0x21, 0x21, &v6())), (52, Some("[2001:db8::7]:40000".into())));
        // What is told beside the addresses belongs to the header, what follows it does not.
        let more = [&V4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        let followed = [&header(0x21, 0x11, &more)[..], b"<stream:stream"].concat();
        assert_eq!(whole(&followed), (34, Some("192.0.2.1:40000".into())));
    }

    #[test]
    fn a_proxy_may_speak_for_itself_or_not_know_the_client() {
        for bytes in [
            header(0x20, 0x00, &[]),
            header(0x20, 0x11, &V4),
            header(0x20, 0xff, &[1]),
            header(0x21, 0x00, &[]),
            header(0x21, 0x00, &V4),
            header(0x21, 0x31, &[b'/'; 216]),
        ] {
            assert_eq!(read(&bytes), Ok(Header::Whole { length: bytes.len(), client: None }), "{bytes:02x?}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused_as_soon_as_it_is_known() {
        let long = u16::try_from(MAX_HEADER - PREFIX + 1).expect("short").to_be_bytes();
        for (bytes, expected) in [
            (b"<".to_vec(), Malformed::Signature),
            (b"PROXY TCP4 192.0.2.1 127.0.0.1 40000 5280\r\n".to_vec(), Malformed::Signature),
            (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Malformed::Signature),
            (header(0x11, 0x11, &V4), Malformed::Version),
            (header(0x31, 0x11, &V4), Malformed::Version),
            (header(0x22, 0x11, &V4), Malformed::Command),
            (header(0x2f, 0x00, &[]), Malformed::Command),
            // A datagram is no stream; 0x41 is no family.
            (header(0x21, 0x12, &V4), Malformed::Family),
            (header(0x21, 0x22, &v6()), Malformed::Family),
            (header(0x21, 0x10, &V4), Malformed::Family),
            (header(0x21, 0x41, &V4), Malformed::Family),
            (header(0x21, 0x11, &V4[..11]), Malformed::TooShort),
            (header(0x21, 0x21, &v6()[..35]), Malformed::TooShort),
            (header(0x21, 0x21, &V4), Malformed::TooShort),
            (header(0x21, 0x31, &[b'/'; 215]), Malformed::TooShort),
            ([&SIGNATURE[..], &[0x21, 0x11], &long].concat(), Malformed::TooLong),
            ([&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat(), Malformed::TooLong),
        ] {
            assert_eq!(read(&bytes), Err(expected), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_header_of_the_greatest_length_is_taken() {
        let rest = vec![0; MAX_HEADER - PREFIX];
        assert!(matches!(read(&header(0x21, 0x00, &rest)), Ok(Header::Whole { length: MAX_HEADER, client: None })));
    }

    proptest! {
        #[test]
        fn a_header_in_pieces_is_asked_for_until_it_is_whole(
            v6 in any::<bool>(), address in any::<[u8; 16]>(), port in any::<u16>(), beside in prop::collection::vec(any::<u8>(), 0..200),
            after in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let [high, low] = port.to_be_bytes();
            let (family, rest) = if v6 {
                (0x21, [&address[..], &[0; 16], &[high, low, 0, 0], &beside].concat())
            } else {
                (0x11, [&address[..4], &[0; 4], &[high, low, 0, 0], &beside].concat())
            };
            let header = header(0x21, family, &rest);
            for end in 0..header.len() {
                match read(&header[..end]) {
                    Ok(Header::Part(length)) => prop_assert!(length > end && length <= header.len()),
                    other => prop_assert!(false, "{:?} after {}", other, end),
                }
            }
            let Ok(Header::Whole { length, client: Some(client) }) = read(&[header.clone(), after].concat()) else {
                return Err(TestCaseError::fail("not whole"));
            };
            prop_assert_eq!((length, client.port(), client.is_ipv6()), (header.len(), port, v6));
        }

        #[test]
        fn no_bytes_make_it_panic_or_ask_for_more_than_the_bound(
            signed in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            match read(&bytes) {
                Ok(Header::Part(length)) => prop_assert!(bytes.len() < length && length <= MAX_HEADER),
                Ok(Header::Whole { length, .. }) => prop_assert!((PREFIX..=bytes.len()).contains(&length)),
                Err(_) => {}
            }
        }
    }
}
