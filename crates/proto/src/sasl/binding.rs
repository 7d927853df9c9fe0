//! Channel binding (RFC 5802 §6): what ties an exchange to the TLS connection it runs over.

/// RFC 9266: 32 bytes exported with the label `EXPORTER-Channel-Binding` and an empty context.
pub const TLS_EXPORTER: &str = "tls-exporter";

/// RFC 5929 §4: the hash of the server's certificate.
pub const TLS_SERVER_END_POINT: &str = "tls-server-end-point";

/// What this connection can be bound to. Empty without TLS, and over TLS that something in front of us has ended.
///
/// `tls-unique` is not here: it is undefined for TLS 1.3, and RFC 9266 §3 puts `tls-exporter` in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelBindings {
    /// The value for [`TLS_EXPORTER`]. Under TLS 1.2 only with the extended master secret (RFC 9266 §4.2).
    pub exporter: Option<[u8; 32]>,
    /// The value for [`TLS_SERVER_END_POINT`]: the hash of the certificate that was actually shown.
    pub server_end_point: Option<Vec<u8>>,
}

impl ChannelBindings {
    /// The types to announce (XEP-0440), the strongest first.
    pub fn types(&self) -> impl Iterator<Item = &'static str> {
        [TLS_EXPORTER, TLS_SERVER_END_POINT].into_iter().filter(|name| self.data(name).is_some())
    }

    /// Whether there is nothing to bind to, so that no `-PLUS` mechanism may be offered.
    pub fn is_empty(&self) -> bool {
        self.types().next().is_none()
    }

    /// The bytes for a type, named as on the wire; `None` if we do not have it. Never empty (RFC 5802 §7: `1*OCTET`).
    pub fn data(&self, name: &str) -> Option<&[u8]> {
        match name {
            TLS_EXPORTER => self.exporter.as_ref().map(<[u8; 32]>::as_slice),
            TLS_SERVER_END_POINT => self.server_end_point.as_deref().filter(|data| !data.is_empty()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_announced() {
        assert!(ChannelBindings::default().is_empty());
        let both = ChannelBindings { exporter: Some([7; 32]), server_end_point: Some(vec![1; 32]) };
        assert!(both.types().eq(["tls-exporter", "tls-server-end-point"]));
        assert_eq!(both.data("tls-exporter"), Some([7; 32].as_slice()));
        assert_eq!(both.data("tls-unique"), None);
        assert_eq!(both.data("TLS-EXPORTER"), None);
    }

    #[test]
    fn an_empty_value_is_no_value() {
        let empty = ChannelBindings { exporter: None, server_end_point: Some(Vec::new()) };
        assert!(empty.is_empty());
    }
}
