//! What must hold for addresses (RFC 7622).

use std::time::{Duration, Instant};

use vorpal_proto::jid::{BareJid, Jid, MAX_PART};

use crate::random::Random;
use crate::run::{Reached, Target};

/// The longest an address may take, however nasty it is. Only where the code is optimised.
const PATIENCE: Duration = Duration::from_millis(5);

/// Addresses.
pub struct Jids;

/// Characters that rules of PRECIS, of bidi, of joining, of normalisation and of IDNA are about.
const NASTY: &[&str] = &[
    "\u{200C}",
    "\u{200D}",
    "\u{B7}",
    "l\u{B7}l",
    "\u{375}",
    "\u{375}\u{3B1}",
    "\u{5F3}",
    "\u{5D0}\u{5F3}",
    "\u{30FB}",
    "\u{30FB}\u{30A2}",
    "\u{661}",
    "\u{6F1}",
    "\u{661}\u{6F1}",
    "\u{94D}\u{200D}",
    "\u{915}\u{94D}\u{200D}",
    "\u{628}\u{200C}\u{628}",
    "\u{5D0}",
    "\u{5D0}1",
    "1\u{5D0}",
    "a\u{5D0}",
    "\u{627}\u{628}",
    "\u{627}\u{661}",
    "\u{DF}",
    "\u{1E9E}",
    "\u{3C2}",
    "\u{3A3}",
    "\u{130}",
    "\u{131}",
    "\u{212A}",
    "\u{212B}",
    "\u{C5}",
    "A\u{30A}",
    "a\u{30A}",
    "\u{301}",
    "\u{327}\u{301}",
    "\u{301}\u{327}",
    "\u{FF21}",
    "\u{FF41}",
    "\u{FF20}",
    "\u{FF0F}",
    "\u{FF0E}",
    "\u{3002}",
    "\u{FF61}",
    "\u{FF76}\u{FF9E}",
    "\u{FFE6}",
    "\u{3000}",
    "\u{A0}",
    "\u{1680}",
    "\u{2003}",
    "\u{AD}",
    "\u{34F}",
    "\u{1806}",
    "\u{FEFF}",
    "\u{202E}",
    "\u{2066}",
    "\u{2028}",
    "\u{85}",
    "\0",
    "\u{1F}",
    "\u{7F}",
    "\u{FFFE}",
    "\u{FFFF}",
    "\u{1FFFE}",
    "\u{E0041}",
    "\u{1F600}",
    "\u{1F468}\u{200D}\u{1F469}",
    "\u{10FFFF}",
    "\u{E000}",
    "\u{378}",
    "\u{2126}",
    "\u{FB01}",
    "\u{2168}",
    "\u{1D400}",
    "\u{1100}\u{1161}\u{11A8}",
    "\u{AC01}",
    "\u{1112}",
    "\u{3131}",
    "\u{FFA1}",
    "\u{10400}",
    "\u{10428}",
    "\u{1C4}",
    "\u{149}",
    "\u{390}",
    "\u{3B0}",
    "\u{1E98}",
    "\u{1F52}",
    "\u{FDFA}",
    "\u{2F868}",
    "\u{958}",
    "\u{915}\u{93C}",
    "\u{E33}",
    "\u{17D2}\u{200C}",
    "\u{6DD}",
    "\u{621}",
    "\u{640}",
    "\u{302E}",
    "\u{303B}",
    "\"",
    "&",
    "'",
    "/",
    ":",
    "<",
    ">",
    "@",
    " ",
    "\\20",
    "%",
    "`",
    "~",
    "!",
    ".",
    "..",
    "-",
    "--",
    "_",
    "[",
    "]",
    "xn--",
];

const USUAL: &[&str] = &[
    "juliet",
    "a",
    "B",
    "Z9",
    "x.y",
    "o-k",
    "m\u{FC}ller",
    "\u{436}\u{430}",
    "\u{65E5}\u{672C}",
    "\u{3B1}\u{3B2}",
    "7",
];

const DOMAINS: &[&str] = &[
    "example.net",
    "EXAMPLE.net",
    "example.net.",
    "a.b.c.d.e",
    "localhost",
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "1.2.3.4.",
    "256.1.1.1",
    "1.2.3",
    "[::1]",
    "[::ffff:1.2.3.4]",
    "[FE80::A]",
    "[0:0:0:0:0:0:0:1]",
    "[fe80::1%25eth0]",
    "[::1",
    "::1]",
    "[]",
    "[1.2.3.4]",
    "[v1.a]",
    "xn--mller-kva.example",
    "XN--MLLER-KVA.example",
    "xn--a",
    "xn--",
    "xn--a-",
    "xn--99999999999",
    "xn--strae-oqa.de",
    "xn--zca.de",
    "xn--1ch.x",
    "xn--80ak6aa92e.com",
    "m\u{FC}ller.example",
    "stra\u{DF}e.de",
    "\u{5D0}\u{5D1}.x",
    "\u{5D0}1.1x",
    "1.\u{5D0}",
    "a\u{200D}b.x",
    "\u{915}\u{94D}\u{200D}\u{937}.x",
    "example\u{3002}net",
    "a..b",
    ".a",
    "a.",
    ".",
    "..",
    "a-.b",
    "-a.b",
    "ab--c.d",
    "a_b.c",
    "*.a",
    "a b",
    "\u{FF21}.x",
    "faß.de",
    "x.\u{2260}",
    "\u{338}.x",
    "xn--a.xn--b",
    "xn--mller-kva.\u{5D0}",
];

fn text(random: &mut Random, odd: usize, out: &mut String) {
    let pieces = match random.below(40) {
        0 => 300 + random.below(900),
        1 => 3000,
        _ => 1 + random.below(4),
    };
    // A long part is mostly of one piece: near the limit the number of its bytes matters, before and after mapping.
    let nasty = random.below(100) < odd;
    let same = random.pick(if nasty { NASTY } else { USUAL });
    for _ in 0..pieces {
        let odd = random.below(100) < odd;
        out.push_str(if pieces > 4 && !random.one_in(50) {
            same
        } else {
            random.pick(if odd { NASTY } else { USUAL })
        });
    }
    if pieces > 4 && random.one_in(2) {
        let mut end = (MAX_PART - 3 + random.below(6)).min(out.len());
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
    }
}

impl Target for Jids {
    const NAME: &'static str = "jid";
    const MUST: &'static [&'static str] = &[
        "parsed",
        "local",
        "resource",
        "bare",
        "changed",
        "long",
        "case twin",
        "width twin",
        "ip literal",
        "beyond ascii",
        "too long",
        "excluded",
        "bad local",
        "bad domain",
        "bad resource",
        "empty",
        "joiner",
    ];

    fn make(&self, random: &mut Random) -> Vec<u8> {
        let odd = [0, 3, 15, 50][random.below(4)];
        let mut out = String::new();
        if !random.one_in(4) {
            text(random, odd, &mut out);
            out.push('@');
        }
        match random.below(6) {
            0 => {
                let mut domain = String::new();
                text(random, odd, &mut domain);
                out.push_str(&domain);
            }
            1 => {
                let most = if random.one_in(10) { 80 } else { 4 };
                for _ in 0..1 + random.below(most) {
                    text(random, odd / 4, &mut out);
                    out.push('.');
                }
                out.push_str("net");
            }
            _ => {
                let any = random.below(100) < odd + 30;
                out.push_str(random.pick(if any { DOMAINS } else { &DOMAINS[..3] }));
            }
        }
        if random.one_in(2) {
            out.push('/');
            text(random, odd, &mut out);
        }
        out.into_bytes()
    }

    fn change(&self, random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
        if random.one_in(3) {
            return crate::make::mutate(random, input, other);
        }
        let mut chars: Vec<char> = String::from_utf8_lossy(input).chars().collect();
        for _ in 0..1 + random.below(3) {
            let at = random.below(chars.len() + 1);
            match random.below(3) {
                0 if at < chars.len() => drop(chars.remove(at)),
                1 if at < chars.len() => {
                    // Any character at all, mostly of the first two planes.
                    let end = if random.one_in(8) { 0x11_0000 } else { 0x2_0000 };
                    let any = random.below(end);
                    chars[at] = u32::try_from(any).ok().and_then(char::from_u32).unwrap_or('x');
                }
                _ => drop(chars.splice(at..at, random.pick(NASTY).chars())),
            }
        }
        chars.into_iter().collect::<String>().into_bytes()
    }

    fn check(&self, input: &[u8], _: &mut Random, reached: &mut Reached) -> Result<(), String> {
        let Ok(text) = std::str::from_utf8(input) else {
            reached.here("not utf-8");
            return Ok(());
        };
        let began = Instant::now();
        let parsed = Jid::parse(text);
        let mut took = began.elapsed();
        // The machine has other work: slow is what is slow every time.
        for _ in 0..3 {
            if took > PATIENCE && !cfg!(test) {
                let began = Instant::now();
                let _ = Jid::parse(text);
                took = took.min(began.elapsed());
            }
        }
        if took > PATIENCE && !cfg!(test) {
            return Err(format!("slow: {took:?}"));
        }
        let jid = match parsed {
            Ok(jid) => jid,
            Err(error) => {
                use vorpal_proto::jid::JidError::{Domain, Empty, Excluded, Local, Resource, TooLong};
                reached.here(match error {
                    Empty(_) => "empty",
                    TooLong(_) => "too long",
                    Excluded(_) => "excluded",
                    Local(_) => "bad local",
                    Domain(_) => "bad domain",
                    Resource(_) => "bad resource",
                    _ => "refused",
                });
                return Ok(());
            }
        };
        reached.here("parsed");
        if jid.as_str() != text {
            reached.here("changed");
        }
        if !jid.as_str().is_ascii() {
            reached.here("beyond ascii");
        }
        if text.contains(['\u{200C}', '\u{200D}']) {
            reached.here("joiner");
        }
        if jid.domain().starts_with('[') || jid.domain().starts_with(|c: char| c.is_ascii_digit()) {
            reached.here("ip literal");
        }
        whole(&jid, reached)?;
        parts(&jid)?;
        twins(&jid, text, reached)
    }
}

fn wrong(property: &str, detail: impl std::fmt::Debug) -> Result<(), String> {
    Err(format!("{property}: {detail:?}"))
}

/// What is printed parses to itself, as a whole and in parts.
fn whole(jid: &Jid, reached: &mut Reached) -> Result<(), String> {
    let again = Jid::parse(jid.as_str());
    if again.as_ref() != Ok(jid) {
        return wrong("not idempotent", (jid, again));
    }
    let again = Jid::new(jid.local(), jid.domain(), jid.resource());
    if again.as_ref() != Ok(jid) {
        return wrong("parts make another", (jid, again));
    }
    let bare = jid.bare();
    if BareJid::parse(bare.as_str()).as_ref() != Ok(&bare) || bare.as_str() != jid.bare_str() {
        return wrong("bare", (jid, bare));
    }
    let domain = jid.domain_jid();
    if BareJid::of_domain(jid.domain()).as_ref() != Ok(&domain) || !domain.is_domain() {
        return wrong("domain alone", (jid, domain));
    }
    match jid.resource() {
        None => reached.here("bare"),
        Some(resource) => {
            reached.here("resource");
            for base in [jid, bare.as_jid()] {
                let same = base.with_resource(resource);
                if same.as_ref() != Ok(jid) {
                    return wrong("with_resource", (jid, same));
                }
            }
        }
    }
    if jid.local().is_some() {
        reached.here("local");
    }
    if jid.as_str().len() > 900 {
        reached.here("long");
    }
    Ok(())
}

fn parts(jid: &Jid) -> Result<(), String> {
    for part in [jid.local(), Some(jid.domain()), jid.resource()].into_iter().flatten() {
        if part.is_empty() || part.len() > MAX_PART {
            return wrong("length", (jid, part.len()));
        }
        if part.chars().any(char::is_control) {
            return wrong("control character", jid);
        }
    }
    let spaces = |c: char| c.is_whitespace() || c.is_ascii_uppercase();
    if jid.local().is_some_and(|l| l.contains(['"', '&', '\'', '/', ':', '<', '>', '@']) || l.contains(spaces)) {
        return wrong("forbidden in the localpart", jid);
    }
    // The zone of an IPv6 address is compared as it stands (RFC 6874 §2), so letters may be large there.
    let domain = jid.domain().split("%25").next().unwrap_or_default();
    if jid.domain().contains(['/', '@', '<', '>', '&', '\'', '"', ' ']) || domain.contains(spaces) {
        return wrong("forbidden in the domainpart", jid);
    }
    // RFC 7622 §3.2.1: U-labels, never A-labels.
    if jid.domain().split('.').any(|label| label.starts_with("xn--")) {
        return wrong("A-label", jid);
    }
    // OpaqueString maps every space to the one of ASCII.
    if jid.resource().is_some_and(|r| r.contains(|c: char| c.is_whitespace() && c != ' ')) {
        return wrong("forbidden in the resourcepart", jid);
    }
    Ok(())
}

/// Texts that must be the same address, and texts that must not.
fn twins(jid: &Jid, text: &str, reached: &mut Reached) -> Result<(), String> {
    let (bare, resource) = text.split_once('/').map_or((text, None), |(bare, resource)| (bare, Some(resource)));
    let with = |bare: &str| resource.map_or(bare.to_owned(), |resource| format!("{bare}/{resource}"));
    for case in [bare.to_ascii_uppercase(), bare.to_ascii_lowercase()] {
        // A zone is compared as it stands; and the rule for the middle dot is about small letters (RFC 5892 A.3), and
        // asked before any are made so (RFC 8265 §3.3.1).
        if jid.domain().starts_with('[') && bare.contains("%25") || bare.contains('\u{B7}') {
            break;
        }
        let twin = Jid::parse(&with(&case));
        if twin.as_ref() != Ok(jid) {
            return wrong("case twin", (jid, twin));
        }
        reached.here("case twin");
    }
    // UsernameCaseMapped maps wide letters first (RFC 8265 §3.3.2); eight bytes of three are more, hence the limit.
    if let Some((local, domain)) = bare.split_once('@')
        && local.len() < MAX_PART
    {
        let wide = |c: char| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' => char::from_u32(c as u32 + 0xFEE0).unwrap_or(c),
            c => c,
        };
        let local: String = local.chars().map(wide).collect();
        let twin = Jid::parse(&with(&format!("{local}@{domain}")));
        if twin.as_ref() != Ok(jid) {
            return wrong("width twin", (jid, twin));
        }
        reached.here("width twin");
    }
    if let Some(resource) = jid.resource() {
        for other in [resource.to_ascii_uppercase(), format!("{resource}x")] {
            if let Ok(twin) = jid.with_resource(&other)
                && (twin == *jid) != (other == resource)
            {
                return wrong("resources are one", (jid, twin));
            }
        }
    }
    Ok(())
}
