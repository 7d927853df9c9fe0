//! What a chat message costs on its way in: nanoseconds, the best of many rounds.
//!
//! `cargo bench -p vorpal-proto --bench xml`. For instructions, which do not depend on what else the machine does:
//! `valgrind --tool=callgrind --toggle-collect='*::measured' <the built bench> scan` divides by `ROUNDS`.

#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use vorpal_proto::frame::{Frame, Framer};
use vorpal_proto::parse::{Limits, StreamContext, parse_element};
use vorpal_proto::scan::scan;

const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
/// A message as clients send it: 429 bytes.
const MESSAGE: &str = include_str!("../../../fuzz/corpus/xml/message-chat");
const OMEMO: &str = include_str!("../../../fuzz/corpus/xml/message-omemo");

const ROUNDS: usize = 10_000;

/// Runs it so often that the clock can be read. Its own function, for callgrind.
#[inline(never)]
fn measured(run: &mut dyn FnMut()) {
    for _ in 0..ROUNDS {
        run();
    }
}

fn bench(wanted: &[String], name: &str, mut run: impl FnMut()) {
    if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
        return;
    }
    let best = (0..if wanted.is_empty() { 50 } else { 1 }).map(|_| {
        let begin = Instant::now();
        measured(&mut run);
        begin.elapsed().as_nanos() / ROUNDS as u128
    });
    println!("{name:20} {:6} ns", best.min().unwrap_or_default());
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let (limits, context) = (Limits::DEFAULT, StreamContext::default());

    bench(&wanted, "scan", || {
        black_box(scan(black_box(MESSAGE.as_bytes()), &limits));
    });
    bench(&wanted, "scan-omemo", || {
        black_box(scan(black_box(OMEMO.as_bytes()), &limits));
    });
    bench(&wanted, "parse", || {
        black_box(parse_element(black_box(MESSAGE.as_bytes()), &context, &limits).is_ok());
    });
    let tree = parse_element(MESSAGE.as_bytes(), &context, &limits).expect("a message");
    let mut out = Vec::new();
    bench(&wanted, "write", || {
        out.clear();
        black_box(&tree).write(&mut out, "jabber:client");
        black_box(&out);
    });

    // As a connection does it: bytes arrive in the buffer, leave it as a frame, and the frame is judged.
    let (mut framer, mut buf) = (Framer::new(1 << 18), BytesMut::with_capacity(16 << 10));
    buf.extend_from_slice(HEADER.as_bytes());
    assert!(matches!(framer.next(&mut buf), Ok(Some(Frame::Open(_)))));
    bench(&wanted, "frame", || {
        buf.extend_from_slice(MESSAGE.as_bytes());
        black_box(framer.next(&mut buf).is_ok());
    });
    bench(&wanted, "frame-and-scan", || {
        buf.extend_from_slice(MESSAGE.as_bytes());
        if let Ok(Some(Frame::Element(frame))) = framer.next(&mut buf) {
            black_box(scan(&frame, &limits));
        }
    });
}
