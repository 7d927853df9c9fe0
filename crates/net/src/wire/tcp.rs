//! The framing of TCP: one XML document in each direction, whose root element is the stream (RFC 6120 §4).

use bytes::BytesMut;
use vorpal_core::session::Wire;
use vorpal_proto::element::Element;
use vorpal_proto::error::StreamError;
use vorpal_proto::frame::{Frame, Framer};
use vorpal_proto::ns;
use vorpal_proto::parse::{Limits, StreamContext, StreamHeader, XmlError, parse_open};
use vorpal_proto::stanza::{Stanza, StanzaFault};
use vorpal_proto::write::escape_attr;

use super::Opening;

/// The state of one connection.
pub(crate) struct Tcp {
    framer: Framer,
}

impl Tcp {
    pub fn new(limit: usize) -> Tcp {
        Tcp { framer: Framer::new(limit) }
    }

    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, XmlError> {
        self.framer.next(buf)
    }

    pub fn next_stanza(
        &mut self,
        buf: &mut BytesMut,
        cx: &StreamContext,
        limits: &Limits,
    ) -> Option<Result<Stanza, StanzaFault>> {
        self.framer.next_stanza(buf, cx, limits)
    }

    pub fn is_idle(&self) -> bool {
        self.framer.is_idle()
    }

    pub fn limit(&self) -> usize {
        self.framer.limit()
    }

    pub fn set_limit(&mut self, limit: usize) {
        self.framer.set_limit(limit);
    }

    pub fn restart(&mut self) {
        self.framer.reset();
    }
}

/// §4.7
pub(super) fn read_header(frame: &[u8], limits: &Limits) -> Result<(StreamHeader, StreamContext), XmlError> {
    parse_open(frame, limits)
}

/// §4.7. §4.7.4: the texts of the server are in English.
pub(super) fn open(out: &mut Vec<u8>, opening: Opening<'_>) {
    out.extend_from_slice(b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'");
    for (name, value) in [(" id='", Some(opening.id)), (" from='", opening.from), (" to='", opening.to)] {
        if let Some(value) = value {
            out.extend_from_slice(name.as_bytes());
            escape_attr(out, value);
            out.push(b'\'');
        }
    }
    out.extend_from_slice(b" xml:lang='en'>");
}

/// §4.4
pub(super) fn close(out: &mut Vec<u8>) {
    out.extend_from_slice(b"</stream:stream>");
}

/// §4.3.2. The stream header declares the prefix.
pub(super) fn features(out: &mut Vec<u8>, features: &Element) {
    out.extend_from_slice(b"<stream:features>");
    for feature in features.elements() {
        feature.write(out, ns::CLIENT.as_str());
    }
    out.extend_from_slice(b"</stream:features>");
}

/// §4.9
pub(super) fn error(out: &mut Vec<u8>, error: &StreamError) {
    out.extend_from_slice(error.to_xml().as_bytes());
}

/// Appends items to the document. The stream header declares the namespace of stanzas.
pub(crate) struct TcpOutput<'a>(pub(super) &'a mut Vec<u8>);

impl Wire for TcpOutput<'_> {
    fn stanza(&mut self, stanza: &Stanza) {
        stanza.write(self.0, None);
    }

    fn nonza(&mut self, xml: &[u8]) {
        self.0.extend_from_slice(xml);
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use vorpal_proto::element::el;
    use vorpal_proto::error::StreamCondition;
    use vorpal_proto::parse::parse_element;

    use super::*;

    #[test]
    fn what_is_written_is_one_stream_that_a_client_can_read() {
        let mut out = Vec::new();
        open(&mut out, Opening { id: "7", from: Some("example.org"), to: Some("a'<@example.org") });
        features(&mut out, &el("features", ns::STREAM).child(el("bind", ns::BIND)));
        TcpOutput(&mut out).stanza(&Stanza::parse("<message id='1'/>").expect("a stanza"));
        TcpOutput(&mut out).nonza(b"<r xmlns='urn:xmpp:sm:3'/>");
        error(&mut out, &StreamCondition::Conflict.into());
        close(&mut out);

        let (mut client, mut input) = (Framer::new(1024), BytesMut::from(&out[..]));
        let mut next = || client.next(&mut input).expect("a stream");
        let Some(Frame::Open(header)) = next() else { panic!("no header") };
        let (header, context) = read_header(&header, &Limits::DEFAULT).expect("a header");
        assert_eq!((header.id.as_deref(), header.version), (Some("7"), Some((1, 0))));
        assert_eq!((header.from.as_deref(), header.to.as_deref()), (Some("example.org"), Some("a'<@example.org")));
        for (namespace, name) in
            [(ns::STREAM, "features"), (ns::CLIENT, "message"), (ns::SM, "r"), (ns::STREAM, "error")]
        {
            let Some(Frame::Element(element)) = next() else { panic!("no <{name}/>") };
            let element = parse_element(&element, &context, &Limits::DEFAULT).expect("an element");
            assert!(element.is(namespace, name), "{element:?}");
        }
        assert_eq!(next(), Some(Frame::Close));
        assert_eq!(next(), None);
    }

    #[test]
    fn an_error_before_the_header_needs_no_attributes() {
        let mut out = Vec::new();
        open(&mut out, Opening { id: "7", ..Opening::default() });
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(text.ends_with(" version='1.0' id='7' xml:lang='en'>"), "{text}");
    }
}
