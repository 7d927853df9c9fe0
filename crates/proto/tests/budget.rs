//! What a stanza becomes is bounded by what it was, whatever a peer declares once and uses often.

use bytes::Bytes;
use proptest::prelude::*;
use vorpal_proto::budget::{MAX_ID, MAX_LANG, output_for};
use vorpal_proto::error::Condition;
use vorpal_proto::parse::{Limits, StreamContext, XmlError, parse_element, parse_open};
use vorpal_proto::stanza::{Stanza, StanzaFault};

fn read_in(cx: &StreamContext, frame: &str, passthrough: bool) -> Result<Stanza, StanzaFault> {
    Stanza::read(&Bytes::copy_from_slice(frame.as_bytes()), cx, &Limits::DEFAULT, passthrough)
}

fn read(frame: &str) -> Result<Stanza, StanzaFault> {
    read_in(&StreamContext::default(), frame, true)
}

fn condition(read: Result<Stanza, StanzaFault>) -> Condition {
    match read {
        Err(StanzaFault::Header(fault)) => fault.error.condition,
        other => panic!("{other:?}"),
    }
}

fn open(attrs: &str) -> Result<StreamContext, XmlError> {
    let header = format!(
        "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams' {attrs}>"
    );
    parse_open(header.as_bytes(), &Limits::BEFORE_LOGIN).map(|(_, context)| context)
}

#[test]
fn a_namespace_that_is_declared_once_and_written_often_is_refused() {
    let uri = format!("urn:{}", "n".repeat(1_000));
    for used in ["<p:ab/>", "<p:ab c=''/>", "<ab p:c=''/>", "<p:ab>x</p:ab>"] {
        let stanza = |times: usize| {
            let used = used.repeat(times);
            format!("<message to='d@localhost/none'><z xmlns:p='{uri}' xmlns='urn:z'>{used}</z></message>")
        };
        assert!(read(&stanza(1)).is_ok(), "{used}");
        assert_eq!(condition(read(&stanza(300))), Condition::NotAcceptable, "{used}");
    }
}

#[test]
fn a_prefix_of_the_stream_header_is_no_way_around_it() {
    let uri = format!("urn:{}", "n".repeat(200));
    let cx = open(&format!("xmlns:p='{uri}'")).expect("a header");
    assert!(read_in(&cx, "<message><p:ab/></message>", true).is_ok());
    let bomb = format!("<message>{}</message>", "<p:ab/>".repeat(500));
    assert_eq!(condition(read_in(&cx, &bomb, true)), Condition::NotAcceptable);
}

#[test]
fn prefixes_of_ordinary_namespaces_are_no_bomb() {
    let candidates = "<p:rtcp-fb type='nack' subtype='pli'/>".repeat(50);
    let stanza = format!(
        "<iq id='1' type='set'><jingle xmlns='urn:xmpp:jingle:1' xmlns:p='urn:xmpp:jingle:apps:rtp:rtcp-fb:0'>\
         {candidates}</jingle></iq>"
    );
    assert!(read(&stanza).is_ok());
    let quotes = format!("<message><body>{}</body><x/></message>", "He said \"it's 1 > 0\". ".repeat(500));
    let anew = read_in(&StreamContext::default(), &quotes, false).expect("a message");
    assert!(anew.to_xml().len() > quotes.len());
}

#[test]
fn namespaces_have_a_length_each_and_in_all() {
    let context = StreamContext::default();
    let parse = |xml: &str| parse_element(xml.as_bytes(), &context, &Limits::DEFAULT).map(drop);
    let declared = |length: usize| format!("<a xmlns='urn:{}'/>", "n".repeat(length - 4));
    assert_eq!(parse(&declared(1_024)), Ok(()));
    assert_eq!(parse(&declared(1_025)), Err(XmlError::TooMany("bytes of a namespace")));
    let many = |count: usize| {
        let all: String = (0..count).map(|n| format!(" xmlns:p{n}='urn:{}'", "n".repeat(1_020))).collect();
        format!("<a{all}/>")
    };
    assert_eq!(parse(&many(8)), Ok(()));
    assert_eq!(parse(&many(9)), Err(XmlError::TooMany("bytes of namespaces")));
    // What is out of force again does not count.
    let after_each_other = format!("<a>{}</a>", declared(1_024).repeat(100));
    assert_eq!(parse(&after_each_other), Ok(()));
    // Both ways of reading draw the same line.
    for (length, plain) in [(1_024, true), (1_025, false)] {
        let message = format!("<message>{}</message>", declared(length));
        assert_eq!(read(&message).is_ok(), plain);
        assert_eq!(read_in(&context, &message, false).is_ok(), plain);
    }
    let deep = |depth: usize| {
        let start = format!("<a xmlns='urn:{}'>", "n".repeat(1_020));
        format!("<message>{}{}</message>", start.repeat(depth), "</a>".repeat(depth))
    };
    for passthrough in [true, false] {
        assert!(read_in(&context, &deep(8), passthrough).is_ok());
        assert!(read_in(&context, &deep(9), passthrough).is_err());
    }
}

#[test]
fn the_header_of_a_stream_has_the_limits_of_strangers() {
    assert!(open(&format!("xmlns:p='urn:{}'", "n".repeat(252))).is_ok());
    assert!(open(&format!("xmlns:p='urn:{}'", "n".repeat(253))).is_err());
    let many: String = (0..8).map(|n| format!(" xmlns:p{n}='urn:{}'", "n".repeat(252))).collect();
    assert!(open(&many).is_err());
}

#[test]
fn a_language_that_is_none_is_copied_to_nothing() {
    let (short, long) = ("x".repeat(MAX_LANG), "x".repeat(MAX_LANG + 1));
    let of = |header: &str, stanza: &str| {
        let cx = open(&format!("xml:lang='{header}'")).expect("a header");
        let both = [true, false].map(|passthrough| {
            read_in(&cx, &format!("<message{stanza}><body>n</body></message>"), passthrough)
                .expect("a message")
                .head
                .lang
        });
        assert_eq!(both[0], both[1]);
        both[0].clone().map(String::from)
    };
    assert_eq!(of(&short, ""), Some(short.clone()));
    assert_eq!(of(&long, ""), None);
    assert_eq!(of("de", &format!(" xml:lang='{short}'")), Some(short));
    assert_eq!(of("de", &format!(" xml:lang='{long}'")), Some("de".into()));
}

#[test]
fn an_id_has_a_length() {
    for passthrough in [true, false] {
        let of = |length: usize| {
            let frame = format!("<message id='{}'><body>n</body></message>", "i".repeat(length));
            read_in(&StreamContext::default(), &frame, passthrough)
        };
        assert!(of(MAX_ID).is_ok());
        assert_eq!(condition(of(MAX_ID + 1)), Condition::BadRequest);
    }
}

#[test]
fn what_was_stored_before_there_were_limits_is_still_read() {
    let uri = format!("urn:{}", "n".repeat(5_000));
    let id = "i".repeat(2_000);
    let stored = format!("<message id='{id}'><x xmlns='{uri}'/><y xmlns='{uri}'/></message>");
    assert_eq!(Stanza::parse(&stored).expect("a message").to_xml(), stored);
}

#[test]
fn what_is_stored_keeps_its_bytes() {
    let quotes = format!("<message><body>{}</body></message>", "'\"".repeat(10_000));
    let stanza = read(&quotes).expect("a message");
    assert_eq!(stanza.to_xml(), quotes);
    assert_eq!(Stanza::parse(&quotes).expect("a message").to_xml(), quotes);
}

/// Pieces out of which bombs are made: prefixes of all lengths, quotes, entities, CDATA, attributes with a prefix.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("<p:a/>".to_owned()),
        Just("<q:a b=''/>".to_owned()),
        Just("<a p:b='' q:b=''/>".to_owned()),
        Just("<p:a><q:a/></p:a>".to_owned()),
        Just("<a b=\"''''''''\"/>".to_owned()),
        Just("<![CDATA[&&&&<<<<>>>>]]>".to_owned()),
        Just("''''\"\"\"\"".to_owned()),
        Just("\r".to_owned()),
        Just("<b xmlns='jabber:client'/>".to_owned()),
        Just("<h:a h:b=''/>".to_owned()),
        (1..900usize).prop_map(|n| format!("<a xmlns='urn:{}'><p:b/></a>", "u".repeat(n))),
        (1..200usize).prop_map(|n| "x".repeat(n)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_written_is_a_small_multiple_of_what_was_read(
        (p, q, header) in (1..1_000usize, 1..1_000usize, 1..250usize),
        pieces in proptest::collection::vec((piece(), 1..60usize), 1..12),
        (lang, id) in (0..100usize, 0..1_200usize),
        passthrough: bool,
    ) {
        let cx = open(&format!("xmlns:h='urn:{}' xml:lang='{}'", "h".repeat(header), "l".repeat(lang))).unwrap();
        let body: String = pieces.iter().map(|(piece, times)| piece.repeat(*times)).collect();
        let frame = format!(
            "<message id='{}' to='a@b/c'><z xmlns:p='urn:{}' xmlns:q='urn:{}' xmlns='urn:z'>{body}</z></message>",
            "i".repeat(id), "p".repeat(p), "q".repeat(q),
        );
        if let Ok(stanza) = read_in(&cx, &frame, passthrough) {
            let written = stanza.to_xml().len();
            // Its `to` is an address and has a bound of its own.
            prop_assert!(written <= output_for(frame.len()) + 16, "{} of {}", written, frame.len());
            prop_assert!(stanza.weight() <= output_for(frame.len()) + 64);
        }
    }
}
