//! The plain grammar: what may pass, what may not, and that the parser agrees with every answer.

use allocation_counter::measure;
use vorpal_proto::element::Element;
use vorpal_proto::ns::{self, Ns};
use vorpal_proto::parse::{Limits, StreamContext, parse_element, parse_fragment};
use vorpal_proto::scan::{Plain, scan};

/// A message as clients send it: 429 bytes.
const MESSAGE: &str = "<message xml:lang='en' to='juliet@capulet.example/balcony' type='chat' \
    id='2f1c7b3e-8a6d-4f0b-9c5e-1d2a3b4c5d6e'><body>Wherefore art thou Romeo? Deny thy father &amp; refuse thy name, or if \
    thou wilt not, be but sworn my love, and be mine!!!!!!</body><active xmlns='http://jabber.org/protocol/chatstates'/><request \
    xmlns='urn:xmpp:receipts'/><origin-id xmlns='urn:xmpp:sid:0' id='2f1c7b3e-8a6d-4f0b-9c5e-1d2a3b4c5d6e'/></message>";

fn slice(frame: &str, range: &std::ops::Range<u32>) -> String {
    frame[range.start as usize..range.end as usize].to_owned()
}

/// What the scanner found, put together again, is what the parser reads in the whole.
fn check(frame: &str, plain: &Plain) -> Element {
    let whole = parse_fragment(frame).unwrap_or_else(|e| panic!("plain, but {e}: {frame}"));
    let name = slice(frame, &plain.name);
    assert!(whole.is(ns::CLIENT, &name), "{frame}");
    // From before the name to behind the closing quote, as it was written.
    let attrs = plain.attrs.iter().map(|a| slice(frame, &(a.name.start - 1..a.value.end + 1)));
    let again = format!("<{name}{}>{}</{name}>", attrs.collect::<String>(), slice(frame, &plain.body));
    assert_eq!(parse_fragment(&again).as_ref(), Ok(&whole), "{frame}");
    assert_eq!(plain.children.len(), whole.elements().count(), "{frame}");
    for (child, element) in plain.children.iter().zip(whole.elements()) {
        assert_eq!((child.ns, slice(frame, &child.name)), (element.ns_id(), element.name().to_owned()), "{frame}");
        assert_eq!(parse_fragment(&slice(frame, &child.range)).as_ref(), Ok(element), "{frame}");
    }
    for attr in &plain.attrs {
        assert_eq!(attr.has_entities, slice(frame, &attr.value).contains('&'));
    }
    whole
}

#[test]
fn a_chat_message_is_found_with_its_header_and_children() {
    assert_eq!(MESSAGE.len(), 429);
    let plain = scan(MESSAGE.as_bytes(), &Limits::DEFAULT).unwrap();
    check(MESSAGE, &plain);
    let attrs: Vec<_> = plain.attrs.iter().map(|a| slice(MESSAGE, &a.name)).collect();
    assert_eq!(attrs, ["xml:lang", "to", "type", "id"]);
    let children: Vec<_> =
        plain.children.iter().map(|c| (Ns::known(c.ns).unwrap().as_str(), slice(MESSAGE, &c.name))).collect();
    let expected =
        [(ns::CLIENT, "body"), (ns::CHAT_STATES, "active"), (ns::RECEIPTS, "request"), (ns::STANZA_ID, "origin-id")];
    assert_eq!(children, expected.map(|(ns, name)| (ns.as_str(), name.to_owned())));
}

#[test]
fn scanning_a_message_allocates_nothing() {
    let cost = measure(|| assert!(scan(MESSAGE.as_bytes(), &Limits::DEFAULT).is_some()));
    assert_eq!(cost.count_total, 0);
}

#[test]
fn the_plain_grammar_is_accepted() {
    for plain in [
        "<presence/>",
        "<presence></presence>",
        "<message xmlns='jabber:client'/>",
        "<message to=\"it's\" from='say \"x\"'/>",
        "<message to='a&amp;b&lt;&gt;&apos;&quot;'/>",
        "<message> <body>a > b ]] > &gt;</body>\n\ttext<x xmlns='urn:example:x'><y><z a='1' b='2'/></y>t</x> </message>",
        "<message xml:lang='en'><body xml:lang='de' lang='x'>ä€😀\u{FFFD}\u{FEFF}\u{1FFFE}\u{85}\u{7F}</body></message>",
        "<iq><query xmlns='jabber:iq:roster'/></iq>",
        "<_a-b.c9/>",
    ] {
        check(plain, &scan(plain.as_bytes(), &Limits::DEFAULT).unwrap_or_else(|| panic!("{plain}")));
    }
}

#[test]
fn legal_xml_outside_the_plain_grammar_goes_to_the_parser() {
    for xml in [
        "<c:message xmlns:c='jabber:client'/>",
        "<message xmlns:x='urn:x'/>",
        "<message><stream:x/></message>",
        "<message xml:space='preserve'/>",
        "<message a:b='c' xmlns:a='urn:a'/>",
        "<message><![CDATA[x]]></message>",
        "<message>&#65;</message>",
        "<message a='&#65;'/>",
        "<message  a='b'/>",
        "<message\na='b'/>",
        "<message\ta='b'/>",
        "<message a='b' />",
        "<message />",
        "<message ></message>",
        "<message></message >",
        "<message a ='b'/>",
        "<message a= 'b'/>",
        "<message a='b\tc'/>",
        "<message a='b\nc'/>",
        "<message a='b>c'/>",
        "<message>a\rb</message>",
        "<message a='b\r'/>",
        "<message xmlns='urn:x'/>",
        "<message xmlns=''/>",
        "<message><body xmlns='jabber:client'/></message>",
        "<message><x xmlns='urn:x'><message xmlns='jabber:client'/></x></message>",
        "<message><body xmlns='jabber:server'/></message>",
        "<message><body xmlns='jabber:component:accept'/></message>",
        "<message><body xmlns=''/></message>",
        "<message><x xmlns='urn:a&amp;b'/></message>",
        "<message><x xmlns='urn:a b'/></message>",
        "<message><x xmlns='urn:é'/></message>",
        "<message><é/></message>",
        "<message é='1'/>",
        "<message><xmlfoo/></message>",
        "<message XMLfoo='1'/>",
    ] {
        assert!(
            parse_fragment(xml).is_ok() || xml.contains("xmlns='urn:x'/>") || xml.contains("<message xmlns=''"),
            "{xml}"
        );
        assert!(scan(xml.as_bytes(), &Limits::DEFAULT).is_none(), "{xml}");
    }
}

#[test]
fn what_is_not_xml_is_never_plain() {
    for bad in [
        "",
        "<",
        "<a",
        "<a>",
        "x<a/>",
        " <a/>",
        "\u{FEFF}<a/>",
        "<a/> ",
        "<a/><b/>",
        "a></a>",
        "a/>",
        "<a>b></b></a>",
        "<a></b>",
        "<a><b></a></b>",
        "<a></a",
        "</a>",
        "<a>]]></a>",
        "<a>x]]></a>",
        "<a>&</a>",
        "<a>&lt</a>",
        "<a>&foo;</a>",
        "<a b='<'/>",
        "<a b/>",
        "<a b=c/>",
        "<a b='c/>",
        "<a b='1' b='2'/>",
        "<a xmlns='jabber:client' xmlns='jabber:client'/>",
        "<a b='1'c='2'/>",
        "<1/>",
        "<-a/>",
        "<.a/>",
        "<a -b='1'/>",
        "<a>\u{FFFE}</a>",
        "<a b='\u{FFFF}'/>",
        "<a>\u{0}</a>",
        "<a>\u{B}</a>",
        "<a>\u{1F}</a>",
        "<!-- --><a/>",
        "<a><!-- --></a>",
        "<a><?x?></a>",
        "<?xml version='1.0'?><a/>",
        "<a></a></a>",
        "<a><b xmlns='http://www.w3.org/XML/1998/namespace'/></a>",
        "<a><b xmlns='http://www.w3.org/2000/xmlns/'/></a>",
        "<a xml:lang='a' xml:lang='b'/>",
        "<a xml:lang/>",
        "<a xml:='x'/>",
        "<xml:a/>",
        "<a/ >",
        "<a>\u{1}",
        "<a/",
        "<a></",
    ] {
        assert!(scan(bad.as_bytes(), &Limits::DEFAULT).is_none(), "{bad}");
        assert!(parse_fragment(bad).is_err() || bad.starts_with(' ') || bad.ends_with(' '), "{bad}");
    }
    for bad in [&b"<a>\xC3</a>"[..], b"<a>\xED\xA0\x80</a>", b"<a b='\xC0\x80'/>", b"<a>\xF8\x88\x80\x80\x80</a>"] {
        assert!(scan(bad, &Limits::DEFAULT).is_none());
    }
}

#[test]
fn only_the_content_namespace_of_the_stream_may_be_said_on_the_stanza() {
    for content in [ns::CLIENT, ns::SERVER, ns::COMPONENT] {
        let context = StreamContext::new(content);
        for said in [ns::CLIENT, ns::SERVER, ns::COMPONENT] {
            let frame = format!("<iq xmlns='{}'><ping xmlns='urn:xmpp:ping'/></iq>", said.as_str());
            let plain = context.scan(frame.as_bytes(), &Limits::DEFAULT);
            assert_eq!(plain.is_some(), said == content);
            assert_eq!(parse_element(frame.as_bytes(), &context, &Limits::DEFAULT).is_ok(), said == content);
        }
        assert!(context.scan(b"<iq><error/></iq>", &Limits::DEFAULT).is_some());
    }
    let header = b"<stream xmlns='http://etherx.jabber.org/streams'>";
    let (_, context) = vorpal_proto::parse::parse_open(header, &Limits::DEFAULT).unwrap();
    assert!(context.scan(b"<iq/>", &Limits::DEFAULT).is_none());
    assert!(context.scan(b"<iq xmlns='jabber:client'/>", &Limits::DEFAULT).is_some());
}

#[test]
fn the_limits_are_those_of_the_parser() {
    let limits = Limits { depth: 3, attributes: 3, declarations: 2, nodes: 10, name: 8, ..Limits::DEFAULT };
    for (good, bad) in [
        ("<a><b><c/></b></a>", "<a><b><c><d/></c></b></a>"),
        ("<a b='' c='' d=''/>", "<a b='' c='' d='' e=''/>"),
        (
            "<a><b xmlns='x'><c xmlns='y'/></b><b xmlns='x'/></a>",
            "<a xmlns='jabber:client'><b xmlns='x'><c xmlns='y'/></b></a>",
        ),
        ("<abcdefgh/>", "<abcdefghi/>"),
        ("<a bcdefghi=''/>", "<a bcdefghij=''/>"),
    ] {
        assert!(scan(good.as_bytes(), &limits).is_some(), "{good}");
        assert!(scan(bad.as_bytes(), &limits).is_none(), "{bad}");
    }
    for n in 0..40 {
        for unit in ["<b/>", "x<b/>", "<b c=''/>", "<b xmlns='x'/>"] {
            let frame = format!("<a>{}</a>", unit.repeat(n));
            let parsed = parse_element(frame.as_bytes(), &StreamContext::default(), &limits);
            assert_eq!(scan(frame.as_bytes(), &limits).is_some(), parsed.is_ok(), "{n} {unit}");
        }
    }
}
