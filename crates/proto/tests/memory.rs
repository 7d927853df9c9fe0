//! What a frame costs in memory once it is a tree, against the bound that `parse.rs` states.

use allocation_counter::measure;
use bytes::BytesMut;
use vorpal_proto::element::el;
use vorpal_proto::frame::{Frame, Framer};
use vorpal_proto::ns;
use vorpal_proto::parse::{Limits, StreamContext, parse_element};
use vorpal_proto::scan::scan;
use vorpal_proto::stanza::Stanza;

/// Bytes of memory kept for each byte of a frame, and for each of `Limits::nodes`.
const KEPT: (u64, u64) = (16, 128);
/// The same while the tree grows.
const PEAK: (u64, u64) = (40, 400);

#[test]
fn the_memory_of_a_tree_is_a_small_multiple_of_its_bytes() {
    let context = StreamContext::default();
    for limits in [Limits::DEFAULT, Limits::BEFORE_LOGIN] {
        for (dense, start, unit, end) in [
            (true, "<a>", "<a/>", "</a>"),
            (true, "<a>", "x<a/>", "</a>"),
            (true, "<a>", "<a>x</a>", "</a>"),
            (true, "<a>", "<a b=''/>", "</a>"),
            (true, "<a>", "<a a='' b='' c='' d='' e='' f='' g='' h=''/>", "</a>"),
            (true, "<a>", "<a xmlns='u'/>", "</a>"),
            (true, "<a>", "<a xmlns:b='u' b:b=''/>", "</a>"),
            (false, "<a>", "<a>0123456789012345678901234</a>", "</a>"),
            (false, "<a>", "&amp;", "</a>"),
            (false, "<a>", "\r", "</a>"),
            (false, "<a>", "<![CDATA[]]>x<b/>", "</a>"),
            (false, "<a b='", "&amp;", "'/>"),
        ] {
            let (mut parsed, mut refused) = (0, 0);
            for copies in [1, 10, 60, 130, 300, 600, 1_000, 3_000, 30_000] {
                let frame = format!("{start}{}{end}", unit.repeat(copies));
                let mut tree = None;
                let cost = measure(|| tree = parse_element(frame.as_bytes(), &context, &limits).ok());
                if tree.is_some() {
                    parsed += 1
                } else {
                    refused += 1
                }
                let (len, base) = (frame.len() as u64, limits.nodes as u64);
                let current = u64::try_from(cost.bytes_current).unwrap();
                assert!(current <= KEPT.0 * len + KEPT.1 * base, "{current} kept of {len}: {copies} {unit}");
                assert!(
                    cost.bytes_max <= PEAK.0 * len + PEAK.1 * base,
                    "{} for {len}: {copies} {unit}",
                    cost.bytes_max
                );
            }
            assert!(parsed > 0, "{unit}");
            assert_eq!(refused > 0, dense, "what has a node for less than eight bytes is refused in the end: {unit}");
        }
    }
}

#[test]
fn a_compacted_stanza_keeps_nothing_of_what_was_read_with_it() {
    let text = "<presence><show>away</show><c xmlns='http://jabber.org/protocol/caps' node='n' ver='v'/></presence>";
    let mut kept = None;
    let cost = measure(|| {
        let mut read = BytesMut::from(format!("<stream>{text}<message/>{}", " ".repeat(16_000)).as_bytes());
        let mut framer = Framer::new(10_000);
        let mut presence = None;
        while let Ok(Some(frame)) = framer.next(&mut read) {
            if let Frame::Element(bytes) = frame
                && presence.is_none()
            {
                presence = Stanza::read(&bytes, &StreamContext::default(), &Limits::DEFAULT, true).ok();
            }
        }
        kept = presence.map(|stanza| stanza.compacted());
    });
    assert_eq!(kept.map(|stanza| stanza.to_xml()).as_deref(), Some(text));
    assert!(cost.bytes_current < 500, "{} are kept", cost.bytes_current);
}

#[test]
fn writing_a_small_tree_allocates_only_for_the_output() {
    let stanza = el("iq", ns::CLIENT).attr("type", "result").attr("id", "a&b").child(el("query", ns::ROSTER).text("x"));
    let mut out = Vec::with_capacity(1000);
    let cost = measure(|| stanza.write(&mut out, "jabber:client"));
    assert_eq!(cost.count_total, 0);
    assert_eq!(out, b"<iq type='result' id='a&amp;b'><query xmlns='jabber:iq:roster'>x</query></iq>");
}

#[test]
fn framing_and_scanning_a_message_allocates_nothing_once_the_buffer_is_shared() {
    let message = include_bytes!("../../../fuzz/corpus/xml/message-chat");
    let (mut framer, mut buf) = (Framer::new(10_000), BytesMut::with_capacity(16 << 10));
    buf.extend_from_slice(b"<a>");
    assert!(matches!(framer.next(&mut buf), Ok(Some(Frame::Open(_)))));
    let cost = measure(|| {
        for _ in 0..1000 {
            buf.extend_from_slice(message);
            match framer.next(&mut buf) {
                Ok(Some(Frame::Element(frame))) => assert!(scan(&frame, &Limits::DEFAULT).is_some()),
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(cost.count_total, 0);
}
