//! Addresses: `local@domain/resource` (RFC 7622).
//!
//! A [`Jid`] can only be made by enforcing the rules, so two of them are the same address if and only if their texts are
//! the same bytes, and what is printed parses to itself. A [`BareJid`] is one that has no resource. Both are one shared
//! text with two offsets: a clone is a counter, the parts are slices.
//!
//! Not here: the escapes of XEP-0106, which are a matter of display.

mod domain;
mod usual;
/// As [`str::split_once`] with an ASCII character, for a short text at a fraction of its cost.
fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    let at = memchr::memchr(at, text.as_bytes())?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests;

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use crate::precis::{self, PrecisError};
pub use domain::DomainError;

/// The longest part, in bytes after enforcement (RFC 7622 §3.1).
pub const MAX_PART: usize = 1023;

/// The longest part we look at before enforcement, in bytes. Mapping and composition leave a third of a string or more,
/// so what is eight times too long cannot become short enough and must not cost us the trial. (A domain can lose more, to
/// characters that UTS 46 ignores; nobody needs thousands of those.)
const MAX_RAW: usize = 8 * MAX_PART;

/// A part of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Before the `@`: the account or the room.
    Local,
    /// The server or the service.
    Domain,
    /// After the `/`: the session or the occupant.
    Resource,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Local => "localpart",
            Part::Domain => "domainpart",
            Part::Resource => "resourcepart",
        })
    }
}

/// Why a string is not an address: the peer's mistake, `<jid-malformed/>` in a stanza (RFC 6120 §8.3.3.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JidError {
    /// The part is there and has no character, or it is the domain.
    #[error("the {0} is empty")]
    Empty(Part),
    /// More than [`MAX_PART`] bytes.
    #[error("the {0} is longer than 1023 bytes")]
    TooLong(Part),
    /// One of `" & ' / : < > @` in the localpart (RFC 7622 §3.3.1).
    #[error("the localpart must not contain {0:?}")]
    Excluded(char),
    /// The localpart is not a user name of PRECIS.
    #[error("the localpart is not allowed")]
    Local(#[source] PrecisError),
    /// The domainpart is neither an IP address nor a domain name.
    #[error("the domainpart is not allowed")]
    Domain(#[source] DomainError),
    /// The resourcepart is not an opaque string of PRECIS.
    #[error("the resourcepart is not allowed")]
    Resource(#[source] PrecisError),
    /// A resource where the address must be bare.
    #[error("the address has a resource")]
    NotBare,
}

/// An address, bare or full, always enforced. 24 bytes; a clone is a counter.
///
/// Compared, ordered and hashed as its text, also by `Borrow<str>`.
#[derive(Clone)]
pub struct Jid {
    /// Invariant: enforcing it gives it back.
    text: Arc<str>,
    /// Length of the localpart and so the place of the `@`; 0 for none, as a localpart is never empty.
    at: u16,
    /// Length of the bare address; the place of the `/` if there is a resource.
    slash: u16,
}

impl Jid {
    /// Enforces an address. One allocation if it is in its final form already and ASCII.
    ///
    /// The parts are told apart before anything is mapped (RFC 7622 §3.1): at the first `/`, then the first `@` before it.
    pub fn parse(s: &str) -> Result<Jid, JidError> {
        if let Some((at, slash)) = usual::parts(s) {
            return Ok(Jid { text: Arc::from(s), at: short(at), slash: short(slash) });
        }
        Jid::parse_any(s)
    }

    /// As [`Jid::parse`], by the rules of each part.
    fn parse_any(s: &str) -> Result<Jid, JidError> {
        let (bare, resource) = match cut(s, b'/') {
            Some((bare, resource)) => (bare, Some(resource)),
            None => (s, None),
        };
        let (local, domain) = match cut(bare, b'@') {
            Some((local, domain)) => (Some(local), domain),
            None => (None, bare),
        };
        Jid::of_parts(local, domain, resource, s)
    }

    /// An address of its parts, each enforced. A part is taken whole: a `/` in the resource does not matter.
    pub fn new(local: Option<&str>, domain: &str, resource: Option<&str>) -> Result<Jid, JidError> {
        Jid::of_parts(local, domain, resource, "")
    }

    /// `whole` is the text that the parts were cut from, taken over as it is if it is the result.
    fn of_parts(local: Option<&str>, domain: &str, resource: Option<&str>, whole: &str) -> Result<Jid, JidError> {
        let local = local.map(enforce_local).transpose()?;
        let domain = enforce_domain(domain)?;
        let resource = resource.map(enforce_resource).transpose()?;

        let at = local.as_ref().map_or(0, |l| l.len());
        let slash = if local.is_some() { at + 1 + domain.len() } else { domain.len() };
        let len = slash + resource.as_ref().map_or(0, |r| 1 + r.len());
        let kept = |part: &Cow<'_, str>| matches!(part, Cow::Borrowed(_));
        let text = if len == whole.len() && kept(&domain) && local.iter().chain(&resource).all(kept) {
            Arc::from(whole)
        } else {
            let mut text = String::with_capacity(len);
            if let Some(local) = &local {
                text.push_str(local);
                text.push('@');
            }
            text.push_str(&domain);
            if let Some(resource) = &resource {
                text.push('/');
                text.push_str(resource);
            }
            Arc::from(text)
        };
        Ok(Jid { text, at: short(at), slash: short(slash) })
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the `@`.
    pub fn local(&self) -> Option<&str> {
        match self.at {
            0 => None,
            at => self.text.get(..usize::from(at)),
        }
    }

    /// The domain, with U-labels. Always there.
    pub fn domain(&self) -> &str {
        let start = if self.at == 0 { 0 } else { usize::from(self.at) + 1 };
        self.text.get(start..usize::from(self.slash)).unwrap_or_default()
    }

    /// The part after the `/`.
    pub fn resource(&self) -> Option<&str> {
        self.text.get(usize::from(self.slash) + 1..)
    }

    /// The address without its resource.
    pub fn bare_str(&self) -> &str {
        self.text.get(..usize::from(self.slash)).unwrap_or_default()
    }

    /// The address without its resource: a counter if it has none, otherwise one allocation.
    pub fn bare(&self) -> BareJid {
        if self.is_bare() {
            return BareJid(self.clone());
        }
        BareJid(Jid { text: Arc::from(self.bare_str()), at: self.at, slash: self.slash })
    }

    /// Whether there is no resource.
    pub fn is_bare(&self) -> bool {
        self.text.len() == usize::from(self.slash)
    }

    /// Whether there is a resource.
    pub fn is_full(&self) -> bool {
        !self.is_bare()
    }

    /// Whether there is neither a localpart nor a resource: the address of a server.
    pub fn is_domain(&self) -> bool {
        self.at == 0 && self.is_bare()
    }

    /// The same bare address with this resource, enforced.
    pub fn with_resource(&self, resource: &str) -> Result<Jid, JidError> {
        let resource = enforce_resource(resource)?;
        let bare = self.bare_str();
        let mut text = String::with_capacity(bare.len() + 1 + resource.len());
        text.push_str(bare);
        text.push('/');
        text.push_str(&resource);
        Ok(Jid { text: Arc::from(text), at: self.at, slash: self.slash })
    }

    /// The address of the server it belongs to: the domain alone.
    pub fn domain_jid(&self) -> BareJid {
        if self.is_domain() {
            return BareJid(self.clone());
        }
        let text: Arc<str> = Arc::from(self.domain());
        BareJid(Jid { at: 0, slash: short(text.len()), text })
    }
}

/// An offset. Invariant: three parts within [`MAX_PART`] and two separators are 3071 bytes at most.
fn short(n: usize) -> u16 {
    u16::try_from(n).expect("parts are limited before they are joined")
}

/// Enforces a localpart: UsernameCaseMapped, without the eight characters of RFC 7622 §3.3.1, 1 to 1023 bytes.
pub fn enforce_local(s: &str) -> Result<Cow<'_, str>, JidError> {
    let local = within(s, Part::Local, |s| precis::username(s).map_err(JidError::Local))?;
    match local.chars().find(|c| matches!(c, '"' | '&' | '\'' | '/' | ':' | '<' | '>' | '@')) {
        Some(c) => Err(JidError::Excluded(c)),
        None => Ok(local),
    }
}

/// Enforces a domainpart: an IP address, or a name of IDNA2008 with U-labels, 63 octets a label and 253 in all in its
/// ASCII form.
pub fn enforce_domain(s: &str) -> Result<Cow<'_, str>, JidError> {
    within(s, Part::Domain, |s| match s {
        "." => Err(JidError::Empty(Part::Domain)),
        _ => domain::enforce(s).map_err(JidError::Domain),
    })
}

/// Enforces a resourcepart: OpaqueString, 1 to 1023 bytes.
///
/// A space at its start is allowed: OpaqueString has no rule against it, whatever example 18 of RFC 7622 says.
pub fn enforce_resource(s: &str) -> Result<Cow<'_, str>, JidError> {
    within(s, Part::Resource, |s| precis::opaque(s).map_err(JidError::Resource))
}

/// The limits of a part around its rules, before and after.
fn within<'a>(
    s: &'a str,
    part: Part,
    rules: impl Fn(&'a str) -> Result<Cow<'a, str>, JidError>,
) -> Result<Cow<'a, str>, JidError> {
    if s.is_empty() {
        return Err(JidError::Empty(part));
    }
    if s.len() > MAX_RAW {
        return Err(JidError::TooLong(part));
    }
    let s = rules(s)?;
    if s.len() > MAX_PART { Err(JidError::TooLong(part)) } else { Ok(s) }
}

impl FromStr for Jid {
    type Err = JidError;

    fn from_str(s: &str) -> Result<Jid, JidError> {
        Jid::parse(s)
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for Jid {
    fn eq(&self, other: &Jid) -> bool {
        self.text == other.text
    }
}

impl Eq for Jid {}

impl PartialEq<str> for Jid {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Jid {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl Ord for Jid {
    fn cmp(&self, other: &Jid) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl PartialOrd for Jid {
    fn partial_cmp(&self, other: &Jid) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Jid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Borrow<str> for Jid {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl AsRef<str> for Jid {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// An address without resource: an account, a room, a server. Reads like a [`Jid`].
///
/// A `HashMap<BareJid, _>` is looked up by `jid.bare_str()`, which allocates nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BareJid(Jid);

impl BareJid {
    /// Enforces an address that must have no resource; with one it is refused, not cut.
    pub fn parse(s: &str) -> Result<BareJid, JidError> {
        BareJid::try_from(Jid::parse(s)?)
    }

    /// `local@domain`, each enforced.
    pub fn new(local: &str, domain: &str) -> Result<BareJid, JidError> {
        Jid::new(Some(local), domain, None).map(BareJid)
    }

    /// A domain alone, enforced: the address of a server.
    pub fn of_domain(domain: &str) -> Result<BareJid, JidError> {
        Jid::new(None, domain, None).map(BareJid)
    }

    /// As an address of either kind.
    pub fn as_jid(&self) -> &Jid {
        &self.0
    }

    /// As an address of either kind, owned.
    pub fn into_jid(self) -> Jid {
        self.0
    }
}

impl Deref for BareJid {
    type Target = Jid;

    fn deref(&self) -> &Jid {
        &self.0
    }
}

impl TryFrom<Jid> for BareJid {
    type Error = JidError;

    fn try_from(jid: Jid) -> Result<BareJid, JidError> {
        if jid.is_bare() { Ok(BareJid(jid)) } else { Err(JidError::NotBare) }
    }
}

impl From<BareJid> for Jid {
    fn from(bare: BareJid) -> Jid {
        bare.0
    }
}

impl FromStr for BareJid {
    type Err = JidError;

    fn from_str(s: &str) -> Result<BareJid, JidError> {
        BareJid::parse(s)
    }
}

impl fmt::Display for BareJid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for BareJid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl PartialEq<str> for BareJid {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for BareJid {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl Borrow<str> for BareJid {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for BareJid {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}
