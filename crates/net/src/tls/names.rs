//! The names in certificates, and whether they match a host (RFC 6125 §6.4, RFC 9525 §6.3).

use std::net::IpAddr;

use vorpal_proto::jid::enforce_domain;

/// A host as addresses write it, and as DNS and certificates do: in A-labels (RFC 5890). Both in lower case and without the
/// last dot. `None` if it is not a host name. A host name can be used as a file name.
pub(super) fn host(host: &str) -> Option<(String, String)> {
    let host = enforce_domain(host).ok()?;
    let ascii = ascii(&host)?;
    Some((host.into_owned(), ascii))
}

fn ascii(host: &str) -> Option<String> {
    if host.parse::<IpAddr>().is_ok() {
        return Some(host.to_owned());
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(address) = bare.and_then(|host| host.parse::<IpAddr>().ok()) {
        return Some(address.to_string());
    }
    let ascii = idna::domain_to_ascii(host).ok()?;
    let legal = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (ascii.len() <= 253 && ascii.split('.').all(legal)).then_some(ascii)
}

/// The names a certificate is for, from its subject alternative names only: the subject is free text.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// Whole names, in lower case.
    pub(super) exact: Vec<String>,
    /// The parts after the `*.` of wildcards, in lower case.
    pub(super) wildcards: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
}

impl Names {
    /// Adds a dNSName. A wildcard is valid only as the whole first label with two labels after it; any other name with an asterisk
    /// matches nothing.
    pub(super) fn add(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(parent) if parent.contains('.') && !parent.contains('*') => self.wildcards.push(parent.to_owned()),
            None if !name.contains('*') => self.exact.push(name),
            _ => {}
        }
    }

    /// Adds an iPAddress: 4 or 16 bytes.
    pub(super) fn add_address(&mut self, bytes: &[u8]) {
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            self.addresses.push(v4.into());
        } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
            self.addresses.push(v6.into());
        }
    }

    /// Whether a host, in the form of [`ascii`], matches.
    pub(super) fn cover(&self, host: &str) -> bool {
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        self.exact.iter().any(|name| name == host)
            || parent(host).is_some_and(|parent| self.wildcards.iter().any(|name| name == parent))
    }

    /// All names, as in the certificate.
    pub(super) fn all(&self) -> Vec<String> {
        let names = self.exact.iter().cloned();
        let wildcards = self.wildcards.iter().map(|parent| format!("*.{parent}"));
        let addresses = self.addresses.iter().map(IpAddr::to_string);
        names.chain(wildcards).chain(addresses).collect()
    }

    /// For the operator: what the certificate is for instead.
    pub(super) fn list(&self) -> String {
        let all = self.all();
        if all.is_empty() { "no name at all".to_owned() } else { all.join(", ") }
    }
}

/// The part after the first label, which a wildcard cannot replace.
pub(super) fn parent(host: &str) -> Option<&str> {
    host.split_once('.').filter(|(first, _)| !first.is_empty()).map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Names {
        let mut names = Names::default();
        list.iter().for_each(|name| names.add(name));
        names
    }

    #[test]
    fn a_wildcard_stands_for_one_whole_label() {
        let names = names(&["*.Example.org"]);
        assert!(names.cover("chat.example.org"));
        assert!(!names.cover("example.org"));
        assert!(!names.cover("a.chat.example.org"));
        assert!(!names.cover(".example.org"));
        assert!(!names.cover("chat.example.com"));
    }

    #[test]
    fn a_wildcard_elsewhere_or_in_part_of_a_label_means_nobody() {
        let names = names(&["c*.example.org", "*t.example.org", "chat.*.org", "*.org", "*", "*.*.org", "x.*"]);
        for host in ["chat.example.org", "example.org", "x.example.org", "org", "x.org"] {
            assert!(!names.cover(host), "{host}");
        }
        assert_eq!(names.list(), "no name at all");
    }

    #[test]
    fn names_are_compared_without_regard_to_case_and_addresses_only_with_addresses() {
        let mut names = names(&["Chat.EXAMPLE.org", "127.0.0.2"]);
        names.add_address(&[127, 0, 0, 1]);
        names.add_address(&[1, 2, 3]);
        assert!(names.cover("chat.example.org"));
        assert!(names.cover("127.0.0.1"));
        assert!(!names.cover("127.0.0.2"));
        assert!(!names.cover("::1"));
    }

    #[test]
    fn hosts_are_written_as_dns_writes_them() {
        for (given, canonical, ascii) in [
            ("Bücher.Example.", "bücher.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "bücher.example", "xn--bcher-kva.example"),
            ("localhost", "localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]", "::1"),
        ] {
            assert_eq!(host(given), Some((canonical.to_owned(), ascii.to_owned())));
        }
        for bad in ["", "../etc", "a/b", "a..b", "*.example.org", "a b", ".", ".."] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }
}
