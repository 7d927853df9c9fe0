//! What must hold for questions to an archive (XEP-0313, XEP-0059) and for preferences (XEP-0441).

use vorpal_proto::archive::{Fin, MAX_JIDS, Prefs, Query};
use vorpal_proto::element::Element;
use vorpal_proto::parse::{Limits, StreamContext, parse_element, parse_fragment};
use vorpal_proto::rsm::{Page, Place};

use crate::random::Random;
use crate::run::{Reached, Target};

/// Queries, ends of results, preferences.
pub struct Archives;

const VARS: &[&str] = &[
    "with",
    "start",
    "end",
    "before-id",
    "after-id",
    "ids",
    "include-groupchat",
    "FORM_TYPE",
    "{urn:x}search",
    "withtext",
];

const VALUES: &[&str] = &[
    "",
    "a@b",
    "a@b/c",
    "b",
    "@",
    "2010-06-07T00:00:00Z",
    "2010-06-07T00:00:00.1234567+02:00",
    "2010-06-07",
    "9999-12-31T23:59:59.9999Z",
    "true",
    "0",
    "maybe",
    "28482-98726-73623",
    "&lt;&amp;&apos;",
    " a@b ",
];

const NUMBERS: &[&str] =
    &["0", "1", "10", " 50 ", "+7", "4294967296", "99999999999999999999999", "-1", "ten", "", "1.5"];

/// Mostly the usual one.
fn usual<'a>(random: &mut Random, usual: &'a str, others: &[&'a str]) -> &'a str {
    if random.one_in(12) { random.pick(others) } else { usual }
}

fn set(random: &mut Random, out: &mut String) {
    out.push_str("<set xmlns='http://jabber.org/protocol/rsm'>");
    for _ in 0..random.below(3) {
        let number = if random.one_in(3) { random.pick(NUMBERS) } else { "10" };
        out.push_str(&match random.below(8) {
            0 => format!("<index>{number}</index>"),
            1 => "<before/>".to_owned(),
            2 => format!("<before>{}</before>", random.pick(VALUES)),
            3 => format!("<after>{}</after>", random.pick(VALUES)),
            4 => format!("<first index='{number}'>a</first><last>b</last>"),
            5 => format!("<count>{number}</count>"),
            6 => "<odd xmlns='urn:x'/>".to_owned(),
            _ => format!("<max>{number}</max>"),
        });
    }
    out.push_str("</set>");
}

fn form(random: &mut Random, out: &mut String) {
    let kind = usual(random, "submit", &["form", "cancel", "odd"]);
    let form_type = usual(random, "urn:xmpp:mam:2", &["urn:xmpp:mam:1", ""]);
    out.push_str(&format!(
        "<x xmlns='jabber:x:data' type='{kind}'><field var='FORM_TYPE' type='hidden'><value>{form_type}</value></field>"
    ));
    for _ in 0..random.below(4) {
        let known = if random.one_in(10) { VARS.len() } else { 7 };
        let var = VARS[random.below(known)];
        out.push_str(&format!("<field var='{var}'>"));
        for _ in 0..if var == "ids" || random.one_in(12) { random.below(4) } else { 1 } {
            let fitting: &[&str] = match var {
                "with" => &["a@b", "a@b/c", "b"],
                "start" | "end" => &["2010-06-07T00:00:00Z", "2010-06-07T00:00:00.1234567+02:00"],
                "include-groupchat" => &["true", "0"],
                _ => VALUES,
            };
            let value = if random.one_in(8) { random.pick(VALUES) } else { random.pick(fitting) };
            out.push_str(&format!("<value>{value}</value>"));
        }
        out.push_str("</field>");
    }
    out.push_str("</x>");
}

fn prefs(random: &mut Random, out: &mut String) {
    let rule = random_rule(random);
    let default = usual(random, rule, &["", "sometimes"]);
    out.push_str(&format!("<prefs xmlns='urn:xmpp:mam:2' default='{default}'>"));
    for name in ["always", "never"] {
        for _ in 0..if random.one_in(20) { 2 } else { random.below(2) } {
            let many = if random.one_in(300) { MAX_JIDS - 1 + random.below(3) } else { random.below(4) };
            out.push_str(&format!("<{name}>"));
            for n in 0..many {
                let jid = if random.one_in(30 + many * 4) { random.pick(VALUES) } else { "u" };
                let jid = if jid == "u" { format!("u{n}@b") } else { jid.to_owned() };
                out.push_str(&format!("<jid>{jid}</jid>"));
            }
            out.push_str(&format!("</{name}>"));
        }
    }
    out.push_str("</prefs>");
}

fn random_rule(random: &mut Random) -> &'static str {
    ["always", "never", "roster"][random.below(3)]
}

impl Target for Archives {
    const NAME: &'static str = "archive";
    const MUST: &'static [&'static str] = &[
        "query",
        "with",
        "span of time",
        "ids",
        "groupchat",
        "after",
        "before",
        "last",
        "index",
        "flipped",
        "fin",
        "ends",
        "prefs",
        "unknown field",
        "malformed address",
        "bad request",
        "too many addresses",
    ];

    fn make(&self, random: &mut Random) -> Vec<u8> {
        let mut out = String::new();
        match random.below(8) {
            0 | 1 => prefs(random, &mut out),
            2 => {
                let complete = random.pick(&["", " complete='true'", " complete='0'"]);
                out.push_str(&format!("<fin xmlns='urn:xmpp:mam:2'{complete}>"));
                set(random, &mut out);
                out.push_str("</fin>");
            }
            _ => {
                let attrs = random.pick(&["", " queryid='f27'", " queryid='&lt;'", " node='n'"]);
                out.push_str(&format!("<query xmlns='urn:xmpp:mam:2'{attrs}>"));
                for _ in 0..if random.one_in(20) { 2 } else { random.below(2) } {
                    form(random, &mut out);
                }
                for _ in 0..if random.one_in(20) { 2 } else { random.below(2) } {
                    set(random, &mut out);
                }
                out.push_str(random.pick(&["", "<flip-page/>", "<odd/>"]));
                out.push_str("</query>");
            }
        }
        out.into_bytes()
    }

    fn check(&self, input: &[u8], _: &mut Random, reached: &mut Reached) -> Result<(), String> {
        let Ok(element) = parse_element(input, &StreamContext::default(), &Limits::default()) else {
            reached.here("not xml");
            return Ok(());
        };
        let refused = match element.name() {
            "fin" => fin(&element, reached)?,
            "prefs" => preferences(&element, reached)?,
            _ => query(&element, reached)?,
        };
        for (condition, place) in [
            ("feature-not-implemented", "unknown field"),
            ("jid-malformed", "malformed address"),
            ("bad-request", "bad request"),
            ("resource-constraint", "too many addresses"),
        ] {
            if refused.as_ref().is_some_and(|said| said.contains(condition)) {
                reached.here(place);
                return Ok(());
            }
        }
        match refused {
            Some(said) => Err(format!("condition: {said}")),
            None => Ok(()),
        }
    }
}

/// What we write of it means the same, wherever it is put.
fn again<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug + PartialEq>(
    value: &T,
    written: &Element,
    read: impl Fn(&Element) -> Result<T, E>,
) -> Result<(), String> {
    let text = written.to_string_in("jabber:client");
    let parsed = parse_fragment(&text).map_err(|e| format!("what we wrote is not xml: {e}: {text}"))?;
    match read(&parsed) {
        Ok(same) if same == *value => Ok(()),
        other => Err(format!("read again it is another: {other:?} of {text}")),
    }
}

fn query(element: &Element, reached: &mut Reached) -> Result<Option<String>, String> {
    let query = match Query::read(element) {
        Ok(query) => query,
        Err(error) => return Ok(Some(error.to_xml())),
    };
    reached.here("query");
    let filter = &query.filter;
    for (there, place) in [
        (filter.with.is_some(), "with"),
        (filter.start.is_some() && filter.end.is_some(), "span of time"),
        (filter.ids.len() > 1, "ids"),
        (filter.groupchat.is_some(), "groupchat"),
        (matches!(query.page.place, Place::After(_)), "after"),
        (matches!(query.page.place, Place::Before(_)), "before"),
        (query.page.place == Place::Last, "last"),
        (matches!(query.page.place, Place::At(_)), "index"),
        (query.flip, "flipped"),
    ] {
        if there {
            reached.here(place);
        }
    }
    if [&query.page.place].iter().any(|p| matches!(p, Place::After(id) | Place::Before(id) if id.is_empty())) {
        return Err("a place without an id".to_owned());
    }
    if [&filter.before_id, &filter.after_id].into_iter().flatten().any(String::is_empty) {
        return Err("an id without text".to_owned());
    }
    again(&query, &query.element(), Query::read).map(|()| None)
}

fn fin(element: &Element, reached: &mut Reached) -> Result<Option<String>, String> {
    let fin = match Fin::read(element) {
        Ok(fin) => fin,
        Err(error) => return Ok(Some(error.to_xml())),
    };
    reached.here("fin");
    if fin.page.ends.is_some() {
        reached.here("ends");
    }
    again(&fin, &fin.element(), Fin::read)?;
    again(&fin.page, &fin.page.element(), Page::read).map(|()| None)
}

fn preferences(element: &Element, reached: &mut Reached) -> Result<Option<String>, String> {
    let prefs = match Prefs::read(element) {
        Ok(prefs) => prefs,
        Err(error) => return Ok(Some(error.to_xml())),
    };
    reached.here("prefs");
    if prefs.always.len() > MAX_JIDS || prefs.never.len() > MAX_JIDS {
        return Err("limit of addresses".to_owned());
    }
    if prefs.never.iter().any(|jid| prefs.wants(jid, || true)) {
        return Err(format!("never: one is wanted in {prefs:?}"));
    }
    again(&prefs, &prefs.element(), Prefs::read).map(|()| None)
}
