//! The parser against the rules of XML 1.0, Namespaces in XML 1.0 and RFC 6120 §4.7–4.9 and §11.

use vorpal_proto::element::{Element, Node, el};
use vorpal_proto::ns::{self, Ns};
use vorpal_proto::parse::{Limits, StreamContext, XmlError, parse_element, parse_fragment, parse_open};

const MINE: Ns = Ns::private("urn:example:mine");

fn condition(xml: &str) -> &'static str {
    parse_fragment(xml).map(|tree| format!("{tree:?}")).expect_err(xml).condition()
}

/// What the parser makes of it, in the one form.
fn canonical(xml: &str) -> String {
    parse_fragment(xml).unwrap_or_else(|e| panic!("{xml}: {e}")).to_string_in("jabber:client")
}

#[test]
fn a_stanza_becomes_a_tree() {
    let tree = parse_fragment(
        "<message to=\"a&amp;b\"\n  xml:lang='en' ><body>x &lt; y</body><x xmlns='urn:example:mine'><y/> </x></message>",
    );
    let expected = el("message", ns::CLIENT)
        .attr("to", "a&b")
        .with_lang("en")
        .child(el("body", ns::CLIENT).text("x < y"))
        .child(el("x", MINE).child(el("y", MINE)).text(" "));
    assert_eq!(tree, Ok(expected));
}

#[test]
fn white_space_around_a_fragment_does_not_matter() {
    assert_eq!(parse_fragment("\r\n\t <a/>\n"), parse_fragment("<a/>"));
}

#[test]
fn text_references_and_sections_become_one_text() {
    let tree = parse_fragment("<a>1<![CDATA[<b>]]>&#x32;\r\n3<![CDATA[]]></a>").unwrap();
    assert_eq!(tree.nodes(), [Node::Text("1<b>2\n3".into())]);
    assert_eq!(tree.to_string_in("jabber:client"), "<a>1&lt;b&gt;2\n3</a>");
    assert!(parse_fragment("<a><![CDATA[]]></a>").unwrap().nodes().is_empty());
}

#[test]
fn prefixes_disappear_and_namespaces_stay() {
    for (written, canon) in [
        ("<c:a xmlns:c='jabber:client'><c:b/><b/></c:a>", "<a><b/><b/></a>"),
        ("<a xmlns:p='urn:p'><p:b><c/><p:d/></p:b></a>", "<a><b xmlns='urn:p'><c xmlns='jabber:client'/><d/></b></a>"),
        (
            "<a xmlns='urn:p'><b xmlns=''><c xmlns='urn:p'/></b></a>",
            "<a xmlns='urn:p'><b xmlns=''><c xmlns='urn:p'/></b></a>",
        ),
        (
            "<a xmlns:p='urn:1'><b xmlns:p='urn:2'><p:c/></b><p:d/></a>",
            "<a><b><c xmlns='urn:2'/></b><d xmlns='urn:1'/></a>",
        ),
        ("<a p:b='1' xmlns:p='urn:p'/>", "<a xmlns:ns0='urn:p' ns0:b='1'/>"),
        ("<p:a p:b='1' b='2' xmlns:p='urn:p'/>", "<a xmlns='urn:p' xmlns:ns0='urn:p' ns0:b='1' b='2'/>"),
        ("<a xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:lang='en'/>", "<a xml:lang='en'/>"),
        ("<xmlfoo xmlfoo='1'/>", "<xmlfoo xmlfoo='1'/>"),
        ("<a xmlns:p=' urn:p'><p:b/></a>", "<a><b xmlns=' urn:p'/></a>"),
        ("<stream:error/>", "<error xmlns='http://etherx.jabber.org/streams'/>"),
    ] {
        assert_eq!(canonical(written), canon, "{written}");
        assert_eq!(canonical(canon), canon);
    }
}

#[test]
fn what_is_not_well_formed_is_refused() {
    for bad in [
        "",
        "a",
        "<",
        "<a",
        "<a>",
        "<a/",
        "</a>",
        "<a></b>",
        "<a></a",
        "<a></a>b",
        "<a/><b/>",
        "<a/>x",
        "x<a/>",
        "<a><b></a></b>",
        "<a></ a>",
        "< a/>",
        "<a / >",
        "<a/ >",
        "<1a/>",
        "<-a/>",
        "<.a/>",
        "<a\u{D7}/>",
        "<:a/>",
        "<a:/>",
        "<a:b:c/>",
        "<a b/>",
        "<a b=/>",
        "<a b=c/>",
        "<a b='c/>",
        "<a b='<'/>",
        "<a b='c'd='e'/>",
        "<a b='1' b='2'/>",
        "<a -b='1'/>",
        "<a 1='1'/>",
        "<a ='1'/>",
        "<a b='&'/>",
        "<a>&</a>",
        "<a>]]></a>",
        "<a>\u{0}</a>",
        "<a>\u{1F}</a>",
        "<a>\u{FFFE}</a>",
        "<a b='\u{FFFF}'/>",
        "<a><![CDATA[\u{0}]]></a>",
        "<a><![CDATA[</a>",
        "<a>&#0;</a>",
        "<a>&#xFFFF;</a>",
        "<a></a ></a>",
        "<a></a b='c'>",
        "\u{FEFF}<a/>",
        "\u{C}<a/>",
        "<p:a/>",
        "<a p:b='1'/>",
        "<a xmlns:p=''/>",
        "<a xmlns:xml='urn:x'/>",
        "<a xmlns:xmlns='urn:x'/>",
        "<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>",
        "<a xmlns='http://www.w3.org/XML/1998/namespace'/>",
        "<a xmlns:p='http://www.w3.org/2000/xmlns/'/>",
        "<a xmlns='http://www.w3.org/2000/xmlns/'/>",
        "<xmlns:a/>",
        "<a xmlns='urn:1' xmlns='urn:2'/>",
        "<a xmlns:p='urn:p' xmlns:q='urn:p' p:b='1' q:b='2'/>",
        "<a xmlns:p='urn:p'><b/></a><p:c/>",
        "<a><b xmlns:p='urn:p'/><p:c/></a>",
        "<a xmlns:='x'/>",
        "<a xmlns:p='urn:p'><p:b></q:b></a>",
        "<a xmlns:p='urn:p' xmlns:q='urn:p'><p:b></q:b></a>",
    ] {
        assert_eq!(condition(bad), "not-well-formed", "{bad}");
    }
}

#[test]
fn what_rfc_6120_forbids_is_refused_as_restricted() {
    for bad in [
        "<!DOCTYPE a><a/>",
        "<!-- --><a/>",
        "<?xml version='1.0'?><a/>",
        "<?pi?><a/>",
        "<a><!-- --></a>",
        "<a><?pi?></a>",
        "<a>x<!ENTITY></a>",
        "<a>&nbsp;</a>",
        "<a b='&x;'/>",
        "<a><b/><!----></a>",
        "<a><![cdata[]]></a>",
    ] {
        assert_eq!(condition(bad), "restricted-xml", "{bad}");
    }
}

#[test]
fn the_two_legal_forms_that_cannot_be_passed_on_safely_are_refused() {
    assert_eq!(condition("<a xmlns:p='urn:p' p:xmlns='urn:x'/>"), "bad-namespace-prefix");
    assert_eq!(condition("<xml:a/>"), "bad-namespace-prefix");
    assert_eq!(condition("<a><xml:a/></a>"), "bad-namespace-prefix");
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_before_anything_else() {
    let parsed = parse_element(b"<a>\xC3</a>", &StreamContext::default(), &Limits::DEFAULT);
    assert_eq!(parsed, Err(XmlError::Encoding));
    assert_eq!(XmlError::Encoding.condition(), "unsupported-encoding");
}

#[test]
fn writing_and_parsing_gives_the_same_tree() {
    let all: String = ('\0'..=char::MAX).filter(|&c| vorpal_chars(c)).collect();
    let tree = el("a", ns::CLIENT)
        .attr("b", &all)
        .text(&all)
        .child(el("b", Ns::private("urn:<'\"&\r\n\t>")).child(el("c", ns::SERVER)).child(el("d", Ns::private(""))));
    let mut bytes = Vec::new();
    tree.write(&mut bytes, "jabber:client");
    assert!(parse_element(&bytes, &StreamContext::default(), &Limits::DEFAULT) == Ok(tree));
}

/// XML 1.0 §2.2.
fn vorpal_chars(c: char) -> bool {
    !matches!(c, '\0'..='\u{8}' | '\u{B}' | '\u{C}' | '\u{E}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}')
}

fn on(content: Ns, xml: &str) -> Result<Element, XmlError> {
    parse_element(xml.as_bytes(), &StreamContext::new(content), &Limits::DEFAULT)
}

#[test]
fn the_content_namespace_of_any_stream_is_one_in_the_tree() {
    let expected = parse_fragment("<message><body>x</body><x xmlns='urn:example:mine'/></message>").unwrap();
    for content in [ns::CLIENT, ns::SERVER, ns::COMPONENT] {
        assert_eq!(on(content, "<message><body>x</body><x xmlns='urn:example:mine'/></message>").unwrap(), expected);
        let explicit = expected.to_string_in("").replace("jabber:client", content.as_str());
        assert_eq!(on(content, &explicit).unwrap(), expected);
    }
}

#[test]
fn stanzas_of_another_kind_of_stream_are_refused_on_the_first_level_and_kept_below() {
    for (content, other) in [(ns::CLIENT, ns::SERVER), (ns::SERVER, ns::CLIENT), (ns::COMPONENT, ns::SERVER)] {
        let stanza = format!("<message xmlns='{}'/>", other.as_str());
        assert_eq!(on(content, &stanza).unwrap_err().condition(), "invalid-namespace");
        let prefixed = format!("<o:message xmlns:o='{}'/>", other.as_str());
        assert_eq!(on(content, &prefixed).unwrap_err().condition(), "invalid-namespace");
        let tree = on(content, &format!("<message><f xmlns='urn:example:mine'>{stanza}</f></message>")).unwrap();
        assert!(tree.find(MINE, "f").unwrap().has(other, "message"));
    }
}

const HEADER: &str = "<?xml version='1.0' encoding=\"utf-8\" standalone='yes' ?>\n<stream:stream from='juliet@im.example.com' \
    to='im.example.com' id='x&amp;y' version='1.0' xml:lang='en' xmlns='jabber:client' foo='bar' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback'>";

#[test]
fn a_stream_header_is_read() {
    let (header, context) = parse_open(HEADER.as_bytes(), &Limits::BEFORE_LOGIN).unwrap();
    assert_eq!(header.to.as_deref(), Some("im.example.com"));
    assert_eq!(header.from.as_deref(), Some("juliet@im.example.com"));
    assert_eq!(header.id.as_deref(), Some("x&y"));
    assert_eq!((header.version, header.lang.as_deref()), (Some((1, 0)), Some("en")));
    assert_eq!((header.content, context.content(), context.lang()), (Some(ns::CLIENT), ns::CLIENT, Some("en")));
    assert!(context.declares(Ns::private("jabber:server:dialback")) && !context.declares(ns::PING));
    let nonza = parse_element(b"<db:result to='a'/>", &context, &Limits::DEFAULT).unwrap();
    assert!(nonza.is(Ns::private("jabber:server:dialback"), "result"));
}

#[test]
fn the_stream_may_have_any_prefix_or_none() {
    let header = "<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns='jabber:server'>";
    let (header, context) = parse_open(header.as_bytes(), &Limits::DEFAULT).unwrap();
    assert_eq!((header.version, header.content), (None, Some(ns::SERVER)));
    assert!(parse_element(b"<s:features/>", &context, &Limits::DEFAULT).unwrap().is(ns::STREAM, "features"));
    assert!(parse_element(b"<iq/>", &context, &Limits::DEFAULT).unwrap().is(ns::CLIENT, "iq"));
    assert!(parse_element(b"<stream:features/>", &context, &Limits::DEFAULT).is_err());

    let header = "<stream xmlns='http://etherx.jabber.org/streams'>";
    let (header, mut context) = parse_open(header.as_bytes(), &Limits::DEFAULT).unwrap();
    assert_eq!(header.content, None);
    context.set_content(ns::SERVER);
    assert!(parse_element(b"<features/>", &context, &Limits::DEFAULT).unwrap().is(ns::STREAM, "features"));
    assert!(parse_element(b"<iq xmlns='jabber:server'/>", &context, &Limits::DEFAULT).unwrap().is(ns::CLIENT, "iq"));
}

#[test]
fn headers_that_open_no_xmpp_stream_are_refused_with_the_right_condition() {
    let stream = "xmlns:stream='http://etherx.jabber.org/streams'";
    for (header, condition) in [
        (format!("<stream:stream xmlns='jabber:client' {stream}/>"), "bad-format"),
        (format!("<stream:open xmlns='jabber:client' {stream}>"), "bad-format"),
        (format!("<stream:stream xmlns='jabber:client' {stream} version='1'>"), "bad-format"),
        (format!("<stream:stream xmlns='jabber:client' {stream} version='1.x'>"), "bad-format"),
        (format!("<stream:stream xmlns='jabber:client' {stream} version='.'>"), "bad-format"),
        (format!("<stream:stream xmlns='urn:example:mine' {stream}>"), "invalid-namespace"),
        (format!("<stream:stream xmlns='jabber:iq:roster' {stream}>"), "invalid-namespace"),
        ("<stream:stream xmlns='jabber:client' xmlns:stream='urn:wrong'>".into(), "invalid-namespace"),
        ("<stream xmlns='jabber:client'>".into(), "invalid-namespace"),
        ("<stream:stream xmlns='jabber:client'>".into(), "bad-namespace-prefix"),
        (format!(" <?xml version='1.0'?><stream:stream {stream}>"), "restricted-xml"),
        (format!("<?xml version='1.1'?><stream:stream {stream}>"), "bad-format"),
        (format!("<?xml version='1.0' encoding='UTF-16'?><stream:stream {stream}>"), "unsupported-encoding"),
        (format!("<?xml version='1.0' encoding='latin1'?><stream:stream {stream}>"), "unsupported-encoding"),
        (format!("<?xml?><stream:stream {stream}>"), "not-well-formed"),
        (format!("<?xml encoding='utf-8'?><stream:stream {stream}>"), "not-well-formed"),
        (format!("<?xml version='1.0'encoding='utf-8'?><stream:stream {stream}>"), "not-well-formed"),
        (format!("<?xml version='1.0' standalone='maybe'?><stream:stream {stream}>"), "not-well-formed"),
        (format!("<?xml version='1.0' standalone='no' encoding='utf-8'?><stream:stream {stream}>"), "not-well-formed"),
        (format!("<?xml version='1.0\"?><stream:stream {stream}>"), "not-well-formed"),
        (format!("<stream:stream {stream}>x"), "not-well-formed"),
        (format!("<stream:stream {stream} to='a' to='b'>"), "not-well-formed"),
        (format!("<!DOCTYPE x><stream:stream {stream}>"), "restricted-xml"),
    ] {
        let error = parse_open(header.as_bytes(), &Limits::DEFAULT).map(|(header, _)| header).unwrap_err();
        assert_eq!(error.condition(), condition, "{header}");
    }
}

#[test]
fn versions_are_two_numbers() {
    for (text, version) in [("1.0", (1, 0)), ("06.010", (6, 10)), ("1.99999999999", (1, 255)), ("00.0", (0, 0))] {
        let header = HEADER.replace("version='1.0' xml", &format!("version='{text}' xml"));
        assert_eq!(parse_open(header.as_bytes(), &Limits::DEFAULT).unwrap().0.version, Some(version));
    }
}

#[test]
fn every_limit_is_reached_and_not_passed() {
    let limits = Limits { depth: 3, attributes: 3, declarations: 2, nodes: 10, name: 8, ..Limits::DEFAULT };
    let parse = |xml: &str| parse_element(xml.as_bytes(), &StreamContext::default(), &limits).map(drop);
    for (good, bad) in [
        ("<a><b><c/></b></a>", "<a><b><c><d/></c></b></a>"),
        ("<a b='' c='' d=''/>", "<a b='' c='' d='' e=''/>"),
        ("<a xmlns='x'><b xmlns='x'/><b xmlns='x'/></a>", "<a xmlns='x'><b xmlns='x' xmlns:y='x'/></a>"),
        ("<abcdefgh/>", "<abcdefghi/>"),
        ("<a bcdefghi=''/>", "<a bcdefghij=''/>"),
    ] {
        assert_eq!(parse(good), Ok(()));
        assert_eq!(parse(bad).map_err(|e| e.condition()), Err("policy-violation"), "{bad}");
    }
    // 10 and one more for each 8 bytes: the elements of `<a>...</a>` with n children are 4n + 7 bytes.
    let children = |n: usize| format!("<a>{}</a>", "<b/>".repeat(n));
    assert_eq!(parse(&children(18)), Ok(()));
    assert_eq!(parse(&children(22)), Err(XmlError::TooMany("elements, texts and attributes")));
}
