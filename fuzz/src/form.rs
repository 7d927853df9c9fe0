//! What must hold for data forms (XEP-0004).

use vorpal_proto::form::{Form, MAX_FIELDS, MAX_TEXT, MAX_VALUES};
use vorpal_proto::parse::{Limits, StreamContext, parse_element, parse_fragment};

use crate::random::Random;
use crate::run::{Reached, Target};

/// Forms.
pub struct Forms;

const KINDS: &[&str] = &[
    "boolean",
    "fixed",
    "hidden",
    "jid-multi",
    "jid-single",
    "list-multi",
    "list-single",
    "text-multi",
    "text-private",
    "text-single",
];

const TEXTS: &[&str] =
    &["", "1", "true", "0", "a &amp; b", "&lt;x&gt;", " ", "\n", "\u{E4}\u{1F600}", "urn:x", "<![CDATA[<]]>", "&#13;"];

/// Something wrong, so many times in a hundred.
fn odd(random: &mut Random, odd: usize) -> bool {
    random.below(100) < odd
}

fn times(random: &mut Random, usual: usize, limit: usize) -> usize {
    if random.one_in(400) { limit - 1 + random.below(3) } else { random.below(usual) }
}

fn element(random: &mut Random, name: &str, out: &mut String) {
    let text = random.pick(TEXTS);
    let many = if random.one_in(600) { MAX_TEXT / 16 + random.below(MAX_TEXT / 4) } else { 1 };
    let filler = if many > 1 { "x&amp;yz".repeat(many) } else { String::new() };
    out.push_str(&format!("<{name}>{text}{filler}</{name}>"));
}

fn field(random: &mut Random, n: usize, slips: usize, out: &mut String) {
    out.push_str("<field");
    let kind = if odd(random, slips) { "odd" } else { random.pick(KINDS) };
    let untyped = random.one_in(4);
    if !untyped {
        out.push_str(&format!(" type='{kind}'"));
    }
    let nameless = kind == "fixed" && !untyped && random.one_in(2);
    if !nameless && !odd(random, slips) {
        let name = if odd(random, slips) { 0 } else { n };
        out.push_str(&if random.one_in(6) && name == 0 {
            " var='FORM_TYPE'".to_owned()
        } else {
            format!(" var='f{name}'")
        });
    }
    if random.one_in(4) {
        out.push_str(random.pick(&[" label='L'", " label=''", " label='&lt;&quot;&#10;'", " a='b'"]));
    }
    out.push('>');
    if random.one_in(4) {
        element(random, "desc", out);
    }
    if random.one_in(4) {
        out.push_str(random.pick(&["<required/>", "<required>x</required>", "<required xmlns='urn:x'/>"]));
    }
    let multi = untyped || kind.ends_with("multi") || kind == "fixed" || kind == "hidden";
    let values = if multi { times(random, 4, MAX_VALUES) } else { random.below(2) };
    for _ in 0..values + usize::from(odd(random, slips)) {
        element(random, "value", out);
    }
    if kind.starts_with("list") {
        for _ in 0..times(random, 4, MAX_VALUES) {
            out.push_str(random.pick(&["<option>", "<option label='L'>"]));
            if !odd(random, slips / 4) {
                element(random, "value", out);
            }
            out.push_str("</option>");
        }
    }
    if random.one_in(10) {
        out.push_str(random.pick(&[
            "text",
            "<media xmlns='urn:xmpp:media-element'/>",
            "<value xmlns='urn:x'>y</value>",
            "<odd/>",
        ]));
    }
    out.push_str("</field>");
}

impl Target for Forms {
    const NAME: &'static str = "form";
    const MUST: &'static [&'static str] = &[
        "read",
        "refused",
        "form type",
        "options",
        "boolean",
        "most fields",
        "most values",
        "much text",
        "odd type",
        "too many fields",
        "too many values",
        "too long",
        "two of one name",
        "no name",
        "two values",
    ];

    fn make(&self, random: &mut Random) -> Vec<u8> {
        let slips = [0, 0, 2, 10][random.below(4)];
        let kind = if odd(random, slips) { "odd" } else { random.pick(&["form", "submit", "cancel", "result"]) };
        let mut out = format!("<x xmlns='jabber:x:data' type='{kind}'>");
        if random.one_in(3) {
            element(random, "title", &mut out);
        }
        for _ in 0..random.below(3) {
            element(random, "instructions", &mut out);
        }
        for n in 0..times(random, 6, MAX_FIELDS) {
            field(random, n, slips, &mut out);
        }
        out.push_str("</x>");
        out.into_bytes()
    }

    fn check(&self, input: &[u8], _: &mut Random, reached: &mut Reached) -> Result<(), String> {
        let Ok(x) = parse_element(input, &StreamContext::default(), &Limits::default()) else {
            reached.here("not xml");
            return Ok(());
        };
        let form = match Form::read(&x) {
            Ok(form) => form,
            Err(error) => {
                reached.here("refused");
                let said = error.to_xml();
                for (text, place) in [
                    ("unknown field type", "odd type"),
                    ("too many fields", "too many fields"),
                    ("too many values", "too many values"),
                    ("too long", "too long"),
                    ("two fields", "two of one name"),
                    ("a field has a name", "no name"),
                    ("one value", "two values"),
                ] {
                    if said.contains(text) {
                        reached.here(place);
                    }
                }
                return Ok(());
            }
        };
        reached.here("read");
        if form.form_type().is_some() {
            reached.here("form type");
        }
        limits(&form, reached)?;
        let written = form.element();
        if Form::read(&written).as_ref() != Ok(&form) {
            return Err(format!("written is another: {form:?}"));
        }
        for ns in ["", "jabber:client", "jabber:x:data"] {
            let text = written.to_string_in(ns);
            let text = if ns == "jabber:x:data" { format!("<a xmlns='{ns}'>{text}</a>") } else { text };
            let read = parse_fragment(&text).map_err(|e| format!("what we wrote is not xml: {e}: {text}"))?;
            let read = if ns == "jabber:x:data" { read.elements().next().cloned() } else { Some(read) };
            if read.map(|x| Form::read(&x)) != Some(Ok(form.clone())) {
                return Err(format!("read again it is another: {text}"));
            }
        }
        Ok(())
    }
}

fn limits(form: &Form, reached: &mut Reached) -> Result<(), String> {
    let mut text = form.title.iter().chain(&form.instructions).map(String::len).sum::<usize>();
    let mut names: Vec<_> = form.fields.iter().filter_map(|field| field.var.as_ref()).collect();
    names.sort();
    names.dedup();
    if names.len() != form.fields.iter().filter(|field| field.var.is_some()).count() {
        return Err(format!("names: two are the same in {form:?}"));
    }
    for field in &form.fields {
        text += field.values.iter().chain(field.options.iter().map(|(_, value)| value)).map(String::len).sum::<usize>();
        text += field.desc.as_ref().map_or(0, String::len);
        if field.values.len() > MAX_VALUES || field.options.len() > MAX_VALUES {
            return Err("limit of values".to_owned());
        }
        if field.values.len() == MAX_VALUES {
            reached.here("most values");
        }
        if !field.options.is_empty() {
            reached.here("options");
        }
        if field.boolean().is_some() {
            reached.here("boolean");
        }
    }
    if form.fields.len() == MAX_FIELDS {
        reached.here("most fields");
    }
    if text > MAX_TEXT / 2 {
        reached.here("much text");
    }
    if form.fields.len() > MAX_FIELDS || form.instructions.len() > MAX_FIELDS {
        return Err("limit of fields".to_owned());
    }
    if text > MAX_TEXT {
        return Err(format!("limit of text: {text}"));
    }
    Ok(())
}
