//! What must hold of every input: what it becomes, however it is written, stored, copied or answered, is a small multiple of it.

use bytes::Bytes;
use vorpal_proto::budget::{MAX_ID, MAX_LANG, output_for};
use vorpal_proto::error::{Condition, StanzaError};
use vorpal_proto::ns;
use vorpal_proto::parse::{Limits, StreamContext, parse_open};
use vorpal_proto::stanza::{Stanza, StanzaFault, Type};

use crate::make;
use crate::random::Random;
use crate::run::{Reached, Target};

/// Stream headers, each with a stanza behind it.
pub struct Budgets;

/// What wrapping a stanza twice adds (XEP-0280, XEP-0297), and the addresses that the server writes.
const WRAPPED: usize = 512;

fn many(random: &mut Random) -> usize {
    match random.below(24) {
        0..12 => 1,
        12..20 => random.below(20),
        20..23 => random.below(200),
        _ => random.below(2_000),
    }
}

/// Names of namespaces are short, or at the edge of what is allowed.
fn length(random: &mut Random) -> usize {
    match random.below(4) {
        0 => random.below(20),
        1 => random.below(300),
        2 => 240 + random.below(20),
        _ => 1_000 + random.below(40),
    }
}

fn uri(random: &mut Random) -> String {
    format!("urn:{}", "n".repeat(length(random)))
}

fn stanza(random: &mut Random, out: &mut String) {
    let kind = random.pick(&["message", "presence", "iq"]);
    out.push_str(&format!("<{kind} to='a@b/c' type='{}'", random.pick(&["chat", "get", "set", "error", ""])));
    if !random.one_in(3) {
        let id = if random.one_in(6) { MAX_ID - 3 + random.below(6) } else { 1 + random.below(20) };
        out.push_str(&format!(" id='{}'", "i".repeat(id)));
    }
    if random.one_in(3) {
        out.push_str(&format!(" xml:lang='{}'", "l".repeat(MAX_LANG - 3 + random.below(6))));
    }
    out.push_str(&format!("><z xmlns='urn:z' xmlns:p='{}' xmlns:q='{}'>", uri(random), uri(random)));
    for _ in 0..1 + random.below(5) {
        let piece = random.pick(&[
            "<p:a/>",
            "<q:a b=''/>",
            "<a p:b='' q:b=''/>",
            "<p:a><q:a/></p:a>",
            "<h:a h:b=''/>",
            "<a b=\"''''''''\"/>",
            "<![CDATA[&&&&<<<<>>>>]]>",
            "''''\"\"\"\"",
            "text that is only text, as it mostly is",
            "\r",
            "<b xmlns='jabber:client'/>",
            "<b xmlns='urn:b'><p:b/></b>",
        ]);
        out.push_str(&piece.repeat(many(random)));
    }
    out.push_str(&format!("</z></{kind}>"));
}

fn header(random: &mut Random, out: &mut String) {
    let lang = if random.one_in(2) { MAX_LANG - 3 + random.below(6) } else { random.below(500) };
    out.push_str(&format!(
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='b' version='1.0' \
         xml:lang='{}' xmlns:h='{}'>",
        "l".repeat(lang),
        uri(random)
    ));
}

impl Target for Budgets {
    const NAME: &'static str = "budget";
    const MUST: &'static [&'static str] = &[
        "written",
        "over budget",
        "grown",
        "id too long",
        "header refused",
        "language of the stream ignored",
        "language of the stanza ignored",
        "answered",
        "xml fault",
    ];

    fn make(&self, random: &mut Random) -> Vec<u8> {
        let mut out = String::new();
        header(random, &mut out);
        if random.one_in(5) {
            let mut out = out.into_bytes();
            out.extend_from_slice(&make::stanza(random, 3));
            return out;
        }
        stanza(random, &mut out);
        out.into_bytes()
    }

    fn check(&self, input: &[u8], random: &mut Random, reached: &mut Reached) -> Result<(), String> {
        let end = input.iter().position(|byte| *byte == b'>').map_or(input.len(), |at| at + 1);
        let (head, frame) = input.split_at(end);
        let cx = match parse_open(head, &Limits::BEFORE_LOGIN) {
            Ok((_, cx)) => {
                if cx.kept() > head.len() + 64 {
                    return Err(format!("kept: {} bytes of a header of {}", cx.kept(), head.len()));
                }
                if cx.lang().is_none() && head.windows(8).any(|part| part == b"xml:lang") {
                    reached.here("language of the stream ignored");
                }
                cx
            }
            Err(_) => {
                reached.here("header refused");
                StreamContext::default()
            }
        };
        let frame = Bytes::copy_from_slice(frame);
        let budget = output_for(frame.len());
        let stanza = match Stanza::read(&frame, &cx, &Limits::DEFAULT, random.one_in(2)) {
            Ok(stanza) => stanza,
            Err(StanzaFault::Header(fault)) => {
                match fault.error.condition {
                    Condition::NotAcceptable => reached.here("over budget"),
                    Condition::BadRequest if fault.id.as_ref().is_some_and(|id| id.len() > MAX_ID) => {
                        reached.here("id too long");
                    }
                    _ => {}
                }
                let answer = fault.answer().map_or(0, |answer| answer.to_xml().len());
                return within("answer", answer, budget);
            }
            Err(StanzaFault::NotAStanza) => return Ok(()),
            Err(StanzaFault::Xml(_)) => {
                reached.here("xml fault");
                return Ok(());
            }
        };
        reached.here("written");
        let written = stanza.to_xml();
        // Addresses have a bound of their own.
        let head = &stanza.head;
        let addresses = [&head.to, &head.from].into_iter().flatten();
        let budget = budget + addresses.map(|jid| " from=''".len() + jid.as_str().len()).sum::<usize>();
        within("written", written.len(), budget)?;
        within("weighed", stanza.weight(), budget + 64)?;
        if written.len() > frame.len() * 2 {
            reached.here("grown");
        }
        if stanza.head.lang.is_none() && cx.lang().is_none() && frame.windows(8).any(|part| part == b"xml:lang") {
            reached.here("language of the stanza ignored");
        }
        // What is stored grows no more, however often it is read and written.
        let again = Stanza::parse(&written).map_err(|error| format!("stored: {error}: {written}"))?;
        if again.to_xml().len() > written.len() {
            return Err(format!("stored: it grows from {} to {}", written.len(), again.to_xml().len()));
        }
        let mut copy = Stanza::message(Type::Chat);
        copy.append_around(&stanza, &[(ns::CARBONS, "received"), (ns::FORWARD, "forwarded")]);
        within("copied", copy.to_xml().len(), written.len() + WRAPPED)?;
        if stanza.is_answerable() {
            reached.here("answered");
            within("answer", stanza.error(&StanzaError::service_unavailable()).to_xml().len(), budget)?;
        }
        Ok(())
    }
}

fn within(what: &str, bytes: usize, budget: usize) -> Result<(), String> {
    if bytes <= budget { Ok(()) } else { Err(format!("{what}: {bytes} bytes of {budget}")) }
}
