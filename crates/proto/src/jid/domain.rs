//! The domainpart of an address (RFC 7622 §3.2): an IP address or an internationalized domain name, in one form only.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use crate::precis::{self, PrecisError};

/// The longest label, in octets of its ASCII form (RFC 1034 §3.1).
const MAX_LABEL: usize = 63;
/// The longest name, in octets of its ASCII form with dots and without the root's (RFC 1034 §3.1).
const MAX_NAME: usize = 253;

/// Why a string is not a domain: the rule that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// Two dots in a row, or one at the start.
    #[error("a label is empty")]
    EmptyLabel,
    /// A label of more than 63 octets, or a name of more than 253, in the form in which DNS sees it (RFC 1034 §3.1).
    #[error("it is too long for DNS")]
    TooLong,
    /// A bracket, and no IPv6 address in it (RFC 6874 §2).
    #[error("it is not an IPv6 address in brackets")]
    Literal,
    /// Not a name of letters, digits and hyphens, nor a name that UTS 46 would map to one; or a malformed A-label.
    #[error("it is not a domain name")]
    Name,
    /// UTS 46 lets it pass, IDNA2008 does not: symbols, emoji, characters out of context (RFC 5892).
    #[error("it is not a domain name of IDNA2008")]
    Label(#[source] PrecisError),
}

/// The one form of a domain: lower case, U-labels, no root dot; for IPv6, the text form of RFC 5952.
///
/// Borrowed where nothing had to change but the root dot.
pub(super) fn enforce(s: &str) -> Result<Cow<'_, str>, DomainError> {
    // §3.2: "before any other canonicalization steps".
    let s = s.strip_suffix('.').unwrap_or(s);
    if let Some(literal) = s.strip_prefix('[') {
        return ipv6(s, literal.strip_suffix(']').ok_or(DomainError::Literal)?);
    }
    if s.parse::<Ipv4Addr>().is_ok() {
        return Ok(Cow::Borrowed(s));
    }
    match plain(s) {
        Some(Ok(())) if s.bytes().any(|b| b.is_ascii_uppercase()) => Ok(Cow::Owned(s.to_ascii_lowercase())),
        Some(Ok(())) => Ok(Cow::Borrowed(s)),
        Some(Err(error)) => Err(error),
        None => international(s),
    }
}

/// An address between brackets, with a zone perhaps (RFC 6874 §2). Zones are compared as they stand.
fn ipv6<'a>(whole: &'a str, inner: &str) -> Result<Cow<'a, str>, DomainError> {
    let (address, zone) = match inner.split_once("%25") {
        Some((address, zone)) => (address, Some(zone)),
        None => (inner, None),
    };
    let address: Ipv6Addr = address.parse().map_err(|_| DomainError::Literal)?;
    let text = match zone {
        None => format!("[{address}]"),
        Some(zone) if is_zone(zone) => format!("[{address}%25{zone}]"),
        Some(_) => return Err(DomainError::Literal),
    };
    Ok(if text == whole { Cow::Borrowed(whole) } else { Cow::Owned(text) })
}

/// ZoneID: unreserved characters and percent escapes, at least one (RFC 6874 §2).
fn is_zone(s: &str) -> bool {
    let mut bytes = s.bytes();
    while let Some(b) = bytes.next() {
        let fits = match b {
            b'%' => {
                bytes.next().is_some_and(|b| b.is_ascii_hexdigit())
                    && bytes.next().is_some_and(|b| b.is_ascii_hexdigit())
            }
            _ => b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'),
        };
        if !fits {
            return false;
        }
    }
    !s.is_empty()
}

/// The verdict on a name of ASCII letters, digits and hyphens. `None`: not for us to say, there may be U-labels or A-labels.
pub(super) fn plain(s: &str) -> Option<Result<(), DomainError>> {
    let mut verdict = if s.len() > MAX_NAME { Err(DomainError::TooLong) } else { Ok(()) };
    for label in s.as_bytes().split(|&b| b == b'.') {
        if !label.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-') {
            return None;
        }
        if label.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(b"xn--")) {
            return None;
        }
        if label.is_empty() {
            verdict = Err(DomainError::EmptyLabel);
        } else if label.len() > MAX_LABEL {
            verdict = Err(DomainError::TooLong);
        } else if label.starts_with(b"-") || label.ends_with(b"-") {
            verdict = Err(DomainError::Name);
        }
    }
    Some(verdict)
}

/// UTS 46 to Unicode, nothing but letters, digits and hyphens in ASCII, then what IDNA2008 and DNS ask for besides.
pub(super) fn international(s: &str) -> Result<Cow<'_, str>, DomainError> {
    let uts46 = Uts46::new();
    let (name, verdict) = uts46.to_unicode(s.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast);
    verdict.map_err(|_| DomainError::Name)?;
    for label in name.split('.') {
        if label.is_empty() {
            return Err(DomainError::EmptyLabel);
        }
        precis::check_label(label).map_err(DomainError::Label)?;
    }
    uts46
        .to_ascii(name.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
        .map_err(|_| DomainError::TooLong)?;
    Ok(name)
}
