use proptest::prelude::*;

use super::*;
use crate::parse::{Limits, StreamContext, parse_element};

const HEADER: &str = "<?xml version='1.0'?>\n<stream:stream xmlns='jabber:client' to=\"a>b\">";

fn show(frame: Frame) -> String {
    match frame {
        Frame::Open(bytes) => format!("open {}", std::str::from_utf8(&bytes).unwrap()),
        Frame::Element(bytes) => format!("element {}", std::str::from_utf8(&bytes).unwrap()),
        Frame::Close => "close".to_owned(),
    }
}

/// All frames of `input`, given in pieces of `size` bytes, and how the stream ended.
fn frames(input: &[u8], size: usize, limit: usize) -> (Vec<String>, Result<(), XmlError>, Framer) {
    let (mut framer, mut buf, mut found) = (Framer::new(limit), BytesMut::new(), Vec::new());
    for piece in input.chunks(size) {
        buf.extend_from_slice(piece);
        loop {
            match framer.next(&mut buf) {
                Ok(Some(frame)) => found.push(show(frame)),
                Ok(None) => break,
                Err(error) => return (found, Err(error), framer),
            }
        }
    }
    (found, Ok(()), framer)
}

fn error(after_header: &str) -> XmlError {
    frames(format!("{HEADER}{after_header}").as_bytes(), 1, 1000).1.unwrap_err()
}

#[test]
fn a_stream_comes_apart_into_its_frames_however_it_is_cut() {
    let stanzas = [
        "<presence/>",
        "<message to='>' from=\"'/>\"><body>1 > 0 ]]&gt; é</body><x><![CDATA[</message>]]]]><![CDATA[>]]></x></message>",
        "<a><b/><c ></c ></a>",
        "<iq\n/>",
    ];
    let input = format!("{HEADER}{}</stream:stream >\n", stanzas.join(" \n\t"));
    let mut expected = vec![format!("open {HEADER}")];
    expected.extend(stanzas.iter().map(|s| format!("element {s}")));
    expected.push("close".to_owned());
    for size in 1..input.len() {
        let (found, end, _) = frames(input.as_bytes(), size, 1000);
        assert_eq!((found, end), (expected.clone(), Ok(())), "in pieces of {size}");
    }
}

#[test]
fn no_byte_is_looked_at_twice() {
    let body = "x".repeat(100_000);
    let input = format!("{HEADER}  <message a='{body}'><body>{body}</body><![CDATA[{body}]]></message>  ");
    let input = input.replace("<![CDATA[", "<b><![CDATA[").replace("]]>", "]]></b>");
    for size in [1, 7, 4096, input.len()] {
        let (found, end, framer) = frames(input.as_bytes(), size, 1_000_000);
        assert_eq!((found.len(), end), (2, Ok(())));
        assert_eq!(framer.reads, input.len(), "in pieces of {size}");
    }
}

#[test]
fn white_space_between_stanzas_does_not_accumulate() {
    let (mut framer, mut buf) = (Framer::new(100), BytesMut::from(HEADER));
    assert!(framer.next(&mut buf).unwrap().is_some());
    for _ in 0..1000 {
        buf.extend_from_slice(b" \r\n\t ");
        assert_eq!(framer.next(&mut buf), Ok(None));
        assert!(buf.is_empty() && framer.is_idle());
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_while_it_arrives() {
    let exact = "<message><body>0123456789</body></message>";
    let input = format!("<a>{exact}{exact}");
    assert_eq!(frames(input.as_bytes(), 5, exact.len()).0.len(), 3);
    for size in [1, 10, 1000] {
        let (found, end, _) = frames(input.as_bytes(), size, exact.len() - 1);
        assert_eq!((found.len(), end), (1, Err(XmlError::TooLong)));
    }
    assert_eq!(frames(b"<", 1, 0).1, Err(XmlError::TooLong));
    let (mut framer, mut buf) = (Framer::new(100), BytesMut::from("<stream to='long enough"));
    assert_eq!(framer.next(&mut buf), Ok(None));
    framer.set_limit(10);
    assert_eq!(framer.next(&mut buf), Err(XmlError::TooLong));
    assert_eq!(framer.next(&mut buf), Err(XmlError::TooLong));
}

#[test]
fn what_can_never_become_a_stanza_is_refused_at_once() {
    for text in ["x", "\u{FEFF}", "&lt;", ">", "<a/>x"] {
        assert_eq!(error(text).condition(), "bad-format", "{text}");
    }
    for restricted in ["<!", "<?", "<a><?", "<a><!-", "<a><!D", "<a><![I", "<a><b/><!--"] {
        assert_eq!(error(restricted).condition(), "restricted-xml", "{restricted}");
    }
    for bad in ["< ", "<1", "<>", "<-", "<a <", "<a b='<", "<a/ ", "<a></a<", "<a><b/x"] {
        assert_eq!(error(bad).condition(), "not-well-formed", "{bad}");
    }
}

#[test]
fn an_end_tag_that_does_not_match_is_refused_when_it_comes() {
    let wrong = XmlError::NotWellFormed("an end tag of another name");
    for bad in [
        "<a></b",
        "<a></aa",
        "<ab></a>",
        "<ab></a ",
        "<a></>",
        "<a></ ",
        "<a><b></a",
        "<a><b/></b",
        "<a><b></b><c></b",
        "<a b='c'></a'",
        "</stream:strean",
        "</stream>",
        "</stream:stream2",
        "<a:b></b",
        "<\u{E9}></\u{E8}",
        "<a></A",
    ] {
        assert_eq!(error(bad), wrong, "{bad}");
    }
    assert_eq!(error("<a></a b"), XmlError::NotWellFormed("an unfinished end tag"));
    for good in
        ["<a></a>", "<a \n></a\t\r\n >", "<a b='/c>'><a></a></a>", "<\u{E9}:x\n></\u{E9}:x>", "</stream:stream\n>"]
    {
        let input = format!("{HEADER}{good}");
        for size in 1..input.len() {
            let (found, end, _) = frames(input.as_bytes(), size, 1000);
            assert_eq!((found.len(), end), (2, Ok(())), "{good} in pieces of {size}");
        }
    }
}

#[test]
fn the_end_of_a_stream_has_the_name_of_its_beginning() {
    for (name, other) in [("s:stream", "stream:stream"), ("stream", "s:stream"), ("stream:stream", "stream:strea")] {
        let stream = format!("<{name} a='b'><x><y></y></x></{name} >");
        for size in 1..stream.len() {
            let (found, end, _) = frames(stream.as_bytes(), size, 1000);
            assert_eq!((found.len(), end), (3, Ok(())), "{stream} in pieces of {size}");
        }
        let stream = format!("<{name}><x></x></{other}>");
        assert_eq!(frames(stream.as_bytes(), 7, 1000).1.map_err(|e| e.condition()), Err("not-well-formed"));
    }
}

#[test]
fn what_xml_forbids_is_refused_in_an_unfinished_stanza() {
    let forbidden = XmlError::NotWellFormed("a character that XML forbids");
    for place in ["<a>", "<a b='", "<a ", "<a", "<a><![CDATA[", "</", "<a>\u{20AC}</a", "<a>\u{20AC}"] {
        for bad in ["\0", "\u{1}", "\u{B}", "\u{1F}", "\u{FFFE}", "\u{FFFF}"] {
            // In the name of an end tag the first byte of the last two is wrong already.
            if bad.is_ascii() || !place.contains("</") {
                assert_eq!(error(&format!("{place}{bad}")), forbidden, "{place}{bad:?}");
            }
        }
        for bad in [&b"\xC0\xAF"[..], b"\xED\xA0", b"\xF4\x90", b"\xFF", b"\xE2\x82x", b"\x80"] {
            let input = [HEADER.as_bytes(), place.as_bytes(), bad].concat();
            for size in [1, 2, 3, input.len()] {
                let end = frames(&input, size, 1000).1.unwrap_err();
                let early = place.contains("</");
                assert!(end == XmlError::Encoding || early, "{place}{bad:?} in pieces of {size}: {end}");
            }
        }
    }
}

#[test]
fn elements_inside_each_other_have_a_bound() {
    let deep = |depth: usize| format!("{HEADER}{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    let end = |input: &str, size| frames(input.as_bytes(), size, 1_000_000).1;
    for size in [1, 100, 10_000] {
        assert_eq!(end(&deep(MAX_OPEN), size), Ok(()));
        assert_eq!(end(&deep(MAX_OPEN + 1), size), Err(XmlError::TooMany("elements inside each other")));
    }
    const { assert!(Limits::DEFAULT.depth <= MAX_OPEN) };
}

/// Pieces of streams, many of which do not fit together.
fn token() -> impl Strategy<Value = Vec<u8>> {
    let tokens: &[&[u8]] = &[
        b"<a>",
        b"</a>",
        b"<a",
        b"</a",
        b">",
        b"/>",
        b"<a:b c='",
        b"'",
        b"</a:b>",
        b" ",
        b"x",
        b"<",
        b"/",
        b"<![CDATA[",
        b"]]>",
        b"\"",
        b"<ab d=\">\">",
        b"</ab >",
        b"&amp;",
        b"&no;",
        b"\x01",
        b"\n",
        b"\xE2\x82\xAC",
        b"\xE2",
        b"\x82",
        b"\xEF\xBF\xBE",
        b"\xF0\x9F",
        b"<message>",
        b"</message>",
        b"</stream:stream>",
        b"<b/>",
        b"<\xC3\xA9>",
        b"</\xC3\xA9>",
        b"<!--",
        b"<?x",
    ];
    proptest::sample::select(tokens).prop_map(<[u8]>::to_vec)
}

proptest! {
    #[test]
    fn frames_and_errors_do_not_depend_on_the_pieces(
        tokens in proptest::collection::vec(token(), 0..24), limit in 20usize..200, sizes in proptest::collection::vec(1usize..9, 1..9),
    ) {
        let stream = [HEADER.as_bytes(), &tokens.concat()].concat();
        let limit = limit.max(HEADER.len());
        let (whole, end, _) = frames(&stream, stream.len(), limit);
        let (mut framer, mut buf, mut found, mut failed) = (Framer::new(limit), BytesMut::new(), Vec::new(), Ok(()));
        let (mut rest, mut sizes) = (&stream[..], sizes.iter().cycle());
        'stream: while let Some((now, later)) = rest.split_at_checked(sizes.next().map_or(1, |size| *size).min(rest.len())) {
            if now.is_empty() {
                break;
            }
            buf.extend_from_slice(now);
            rest = later;
            loop {
                match framer.next(&mut buf) {
                    Ok(Some(frame)) => found.push(show(frame)),
                    Ok(None) => break,
                    Err(error) => {
                        failed = Err(error);
                        break 'stream;
                    }
                }
            }
        }
        prop_assert_eq!((&found, failed), (&whole, end));
        for frame in whole.iter().filter_map(|frame| frame.strip_prefix("element ")) {
            let parsed = parse_element(frame.as_bytes(), &StreamContext::default(), &Limits::DEFAULT);
            let late = [
                "a character that XML forbids", "an end tag of another name", "an end tag without a start tag",
                "an element without an end", "something after the element", "an unfinished end tag",
            ];
            if let Err(error) = parsed {
                let known = late.iter().any(|rule| error == XmlError::NotWellFormed(rule));
                prop_assert!(!known && error != XmlError::Encoding, "{frame}: {error}");
            }
        }
    }
}

/// A piece of a stream: stanzas that are plain, nearly plain, or not.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let tokens = [
        "<message to='a@b/c' type='chat' id=\"1\"><body>hi &lt;you</body><x xmlns='urn:x'/></message>",
        "<message><body>\u{e9}\u{20ac}</body></message>",
        "<iq id='1'><a xmlns='urn:a'><b xmlns='urn:b'/></a></iq>",
        "<presence/>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<message><body>a\tb\nc</body></message>",
        "<message id='a\tb'/>",
        "<message\n/>",
        "<message id='>'/>",
        "<message><![CDATA[</message>]]></message>",
        "<message><body>",
        "</body></message>",
        "<a:b/>",
        " ",
        "\r\n",
        "text",
        "<a><b><c><d/></c></b></a>",
        "</stream:stream>",
    ];
    let bytes = tokens.map(|token| token.as_bytes().to_vec()).into_iter().chain([vec![0xff], vec![0xe2, 0x82]]);
    proptest::sample::select(bytes.collect::<Vec<_>>())
}

proptest! {
    /// The short way finds the frames that the long way finds, and judges them as the scanner does.
    #[test]
    fn a_plain_frame_is_found_and_judged_at_once_as_it_is_one_after_the_other(
        pieces in proptest::collection::vec(piece(), 0..12), limit in 60usize..300, size in 1usize..400, depth in 1usize..5,
    ) {
        let limits = Limits { depth, nodes: 8, ..Limits::DEFAULT };
        let cx = StreamContext::default();
        let header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
        let stream = [header.as_bytes(), &pieces.concat()].concat();
        let limit = limit.max(header.len());
        let (expected, expected_end, _) = frames(&stream, stream.len(), limit);
        let (mut framer, mut buf, mut found, mut end) = (Framer::new(limit), BytesMut::new(), Vec::new(), Ok(()));
        'stream: for piece in stream.chunks(size) {
            buf.extend_from_slice(piece);
            loop {
                let mut plain = Plain::default();
                if let Some(frame) = framer.next_plain(&mut buf, &cx, &limits, &mut plain) {
                    prop_assert!(framer.is_idle());
                    prop_assert_eq!(Some(plain), cx.scan(&frame, &limits));
                    found.push(show(Frame::Element(frame)));
                    continue;
                }
                match framer.next(&mut buf) {
                    Ok(Some(frame)) => found.push(show(frame)),
                    Ok(None) => break,
                    Err(error) => {
                        end = Err(error);
                        break 'stream;
                    }
                }
            }
        }
        prop_assert_eq!((found, end), (expected, expected_end));
    }
}

#[test]
fn a_plain_stanza_takes_the_short_way_and_is_looked_at_once() {
    let (mut framer, mut buf, cx) = (Framer::new(1000), BytesMut::from(HEADER), StreamContext::default());
    let next = |framer: &mut Framer, buf: &mut BytesMut| framer.next_stanza(buf, &cx, &Limits::DEFAULT);
    assert!(next(&mut framer, &mut buf).is_none());
    assert!(framer.next(&mut buf).unwrap().is_some());
    let stanza = "<message to='a@b'><body>hi</body></message>";
    let before = framer.reads;
    buf.extend_from_slice(format!(" {stanza}{stanza}\n").as_bytes());
    for _ in 0..2 {
        let read = next(&mut framer, &mut buf).expect("a plain stanza").expect("without fault");
        assert_eq!(read.to_xml(), stanza);
    }
    assert!(next(&mut framer, &mut buf).is_none() && buf.is_empty());
    assert_eq!(framer.reads - before, 2 * stanza.len() + 2);
    // One that has begun is not judged again with each piece.
    buf.extend_from_slice(&stanza.as_bytes()[..10]);
    assert!(next(&mut framer, &mut buf).is_none());
    assert_eq!(framer.next(&mut buf), Ok(None));
    buf.extend_from_slice(&stanza.as_bytes()[10..]);
    assert!(next(&mut framer, &mut buf).is_none());
    assert!(framer.next(&mut buf).unwrap().is_some());
}

#[test]
fn only_a_declaration_and_space_may_stand_before_the_header() {
    let end = |input: &str| frames(input.as_bytes(), 1, 1000).1.map_err(|e| e.condition());
    for good in ["<?xml version='1.0'?>", "\n <?xml ?>  <a>", "  <a>", "<?xml\t?>\n"] {
        assert_eq!(end(good), Ok(()), "{good}");
    }
    for bad in ["x", "\u{FEFF}<a>", "</a", "<?xml ?>x", "<?xml ?x", "<?xml <", "<?xml >"] {
        assert_eq!(end(bad), Err("not-well-formed"), "{bad}");
    }
    for bad in ["<?xm ", "<?xml-", "<?xml?", "<?php", "<?xml ?><?", "<!DOCTYPE", "<?xml ?><!"] {
        assert_eq!(end(bad), Err("restricted-xml"), "{bad}");
    }
}

#[test]
fn bytes_that_are_not_strict_utf_8_never_leave_the_framer() {
    for bad in [&b"\xC0\xAF"[..], b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xFF", b"\xE2\x82", b"\x80"] {
        let mut input = HEADER.as_bytes().to_vec();
        input.extend_from_slice(b"<a>");
        input.extend_from_slice(bad);
        input.extend_from_slice(b"</a>");
        assert_eq!(frames(&input, 2, 1000).1, Err(XmlError::Encoding));
    }
}

#[test]
fn a_reset_framer_expects_a_header_again() {
    let (mut framer, mut buf) = (Framer::new(1000), BytesMut::new());
    for _ in 0..2 {
        buf.extend_from_slice(HEADER.as_bytes());
        assert!(matches!(framer.next(&mut buf), Ok(Some(Frame::Open(_)))));
        buf.extend_from_slice(b"<auth/>");
        assert!(matches!(framer.next(&mut buf), Ok(Some(Frame::Element(_)))));
        assert!(framer.is_idle());
        framer.reset();
    }
}

#[test]
fn nothing_is_read_or_kept_after_the_end_of_the_stream() {
    let (mut framer, mut buf) = (Framer::new(1000), BytesMut::from("<a></a><b>x"));
    assert!(matches!(framer.next(&mut buf), Ok(Some(Frame::Open(_)))));
    assert_eq!(framer.next(&mut buf), Ok(Some(Frame::Close)));
    assert_eq!(framer.next(&mut buf), Ok(None));
    assert!(buf.is_empty());
}

#[test]
fn a_framer_stays_small() {
    assert!(size_of::<Framer>() - size_of::<usize>() <= 48);
    assert!(size_of::<Framer>() <= 56, "with the counter of the tests");
}
