//! Stanzas, from outside.

use bytes::Bytes;
use vorpal_proto::ns;
use vorpal_proto::parse::{Limits, StreamContext};
use vorpal_proto::stanza::Stanza;

#[test]
fn a_child_in_the_namespace_of_another_kind_of_stream_keeps_it() {
    let text = "<message><body xmlns='jabber:server'>forged</body></message>";
    for passthrough in [true, false] {
        let frame = Bytes::from_static(text.as_bytes());
        let stanza = Stanza::read(&frame, &StreamContext::default(), &Limits::DEFAULT, passthrough).unwrap();
        assert!(!stanza.has(ns::CLIENT, "body"));
        let body = stanza.get(ns::SERVER, "body").unwrap();
        assert_eq!((body.ns(), body.content().as_str()), ("jabber:server", "forged"));
        assert_eq!(stanza.children(), [body]);
        let rebuilt = Stanza::message(stanza.type_()).with_children(stanza.children());
        assert!(!rebuilt.has(ns::CLIENT, "body"));
    }
}

#[test]
fn text_that_a_hidden_child_kept_apart_stays_text() {
    for (text, is) in [
        ("]<q xmlns='urn:x'/>]>", "]]>"),
        ("]]<q xmlns='urn:x'/>>", "]]>"),
        ("]<q xmlns='urn:x'/>]<q xmlns='urn:x'/>>", "]]>"),
        ("<q xmlns='urn:x'/>>", ">"),
        ("]<q xmlns='urn:x'/>]", "]]"),
        ("a<q xmlns='urn:x'/>b", "ab"),
    ] {
        let frame = Bytes::from(format!("<message>{text}</message>"));
        let mut stanza = Stanza::read(&frame, &StreamContext::default(), &Limits::DEFAULT, true).unwrap();
        stanza.hide(ns::Ns::private("urn:x"), "q", |_| true);
        let read = Stanza::parse(&stanza.to_xml()).unwrap_or_else(|e| panic!("{e}: {}", stanza.to_xml()));
        assert_eq!(read.to_element().content(), is);
    }
}
