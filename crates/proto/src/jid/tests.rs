use std::collections::HashMap;
use std::error::Error;

use proptest::prelude::*;

use super::*;

fn parts(s: &str) -> (Option<String>, String, Option<String>) {
    let jid = Jid::parse(s).unwrap_or_else(|e| panic!("{s:?}: {e:?}"));
    assert_eq!(Jid::parse(jid.as_str()).as_ref(), Ok(&jid));
    (jid.local().map(str::to_owned), jid.domain().to_owned(), jid.resource().map(str::to_owned))
}

fn text(s: &str) -> String {
    Jid::parse(s).unwrap_or_else(|e| panic!("{s:?}: {e:?}")).to_string()
}

fn error(s: &str) -> JidError {
    Jid::parse(s).expect_err(s)
}

/// RFC 7622 §3.5, table 1.
#[test]
fn the_addresses_of_the_rfc_are_addresses() {
    for (n, given, local, domain, resource) in [
        (1, "juliet@example.com", "juliet", "example.com", ""),
        (2, "juliet@example.com/foo", "juliet", "example.com", "foo"),
        (3, "juliet@example.com/foo bar", "juliet", "example.com", "foo bar"),
        (4, "juliet@example.com/foo@bar", "juliet", "example.com", "foo@bar"),
        (5, "foo\\20bar@example.com", "foo\\20bar", "example.com", ""),
        (6, "fussball@example.com", "fussball", "example.com", ""),
        (7, "fu\u{df}ball@example.com", "fu\u{df}ball", "example.com", ""),
        (8, "\u{3c0}@example.com", "\u{3c0}", "example.com", ""),
        (9, "\u{3a3}@example.com/foo", "\u{3c3}", "example.com", "foo"),
        (10, "\u{3c3}@example.com/foo", "\u{3c3}", "example.com", "foo"),
        (11, "\u{3c2}@example.com/foo", "\u{3c2}", "example.com", "foo"),
        (12, "king@example.com/\u{265a}", "king", "example.com", "\u{265a}"),
        (13, "example.com", "", "example.com", ""),
        (14, "example.com/foobar", "", "example.com", "foobar"),
        (15, "a.example.com/b@example.net", "", "a.example.com", "b@example.net"),
    ] {
        let some = |s: &str| (!s.is_empty()).then(|| s.to_owned());
        assert_eq!(parts(given), (some(local), domain.to_owned(), some(resource)), "example {n}");
    }
    // "would result in matching the JIDs in examples 9 and 10"; not 9 and 11; 6 and 7 "are different"
    assert_eq!(text("\u{3a3}@example.com/foo"), text("\u{3c3}@example.com/foo"));
    assert_ne!(text("\u{3a3}@example.com/foo"), text("\u{3c2}@example.com/foo"));
    assert_ne!(text("fussball@example.com"), text("fu\u{df}ball@example.com"));
}

/// RFC 7622 §3.5, table 2.
#[test]
fn the_other_strings_of_the_rfc_are_not() {
    assert_eq!(error("\"juliet\"@example.com"), JidError::Excluded('"'), "example 16");
    assert_eq!(error("foo bar@example.com"), JidError::Local(PrecisError::Disallowed(' ')), "example 17");
    // Example 18 contradicts the rules it illustrates: OpaqueString allows a space anywhere. Rooms of other servers have
    // occupants with such names, and refusing them would cut those off.
    assert_eq!(parts("juliet@example.com/ foo").2.as_deref(), Some(" foo"), "example 18");
    assert_eq!(error("@example.com/"), JidError::Empty(Part::Local), "example 19");
    assert_eq!(error("henry\u{2163}@example.com"), JidError::Local(PrecisError::Disallowed('\u{2163}')), "example 20");
    assert_eq!(error("\u{265a}@example.com"), JidError::Local(PrecisError::Disallowed('\u{265a}')), "example 21");
    assert_eq!(error("juliet@"), JidError::Empty(Part::Domain), "example 22");
    assert_eq!(error("/foobar"), JidError::Empty(Part::Domain), "example 23");
}

#[test]
fn the_first_slash_and_the_first_at_before_it_divide() {
    assert_eq!(parts("d/a@b/c"), (None, "d".into(), Some("a@b/c".into())));
    assert_eq!(parts("a@d//@"), (Some("a".into()), "d".into(), Some("/@".into())));
    assert_eq!(error("a@b@c"), JidError::Domain(DomainError::Name));
    assert_eq!(error("a@b/"), JidError::Empty(Part::Resource));
    assert_eq!(error("@b"), JidError::Empty(Part::Local));
    assert_eq!(error("@"), JidError::Empty(Part::Local));
    assert_eq!(error("/"), JidError::Empty(Part::Domain));
    assert_eq!(error(""), JidError::Empty(Part::Domain));
}

#[test]
fn eight_characters_stay_out_of_the_localpart_also_as_full_width_twins() {
    for (c, wide) in [('"', '＂'), ('&', '＆'), ('\'', '＇'), (':', '：'), ('<', '＜'), ('>', '＞')] {
        assert_eq!(error(&format!("a{c}b@d")), JidError::Excluded(c));
        assert_eq!(error(&format!("a{wide}b@d")), JidError::Excluded(c));
    }
    // These two divide an address, but only as themselves.
    assert_eq!(error("a＠b@d"), JidError::Excluded('@'));
    assert_eq!(error("a／b@d"), JidError::Excluded('/'));
    assert_eq!(Jid::new(Some("a/b"), "d", None), Err(JidError::Excluded('/')));
    assert_eq!(Jid::new(Some("a@b"), "d", None), Err(JidError::Excluded('@')));
    assert!(Jid::parse("a＠d").is_err());
    assert_eq!(error("d／r"), JidError::Domain(DomainError::Name));
}

#[test]
fn an_address_in_other_case_or_width_is_the_same_address() {
    assert_eq!(text("BOB@EXAMPLE.COM/Desk"), "bob@example.com/Desk");
    assert_eq!(text("ＢＯＢ@ｅｘａｍｐｌｅ．com/Desk"), "bob@example.com/Desk");
    assert_eq!(text("ı@d"), "ı@d");
    assert_ne!(text("ı@d"), text("I@d"));
    assert_eq!(text("e\u{301}@e\u{301}.d/e\u{301}"), "é@é.d/é");
    assert_eq!(text("a@d/Ａ\u{a0}B"), "a@d/Ａ B", "a resource keeps its width");
}

#[test]
fn a_resource_may_hold_symbols_but_nothing_invisible() {
    for r in ["\u{1f600}", "🦀 Crab", "a/b", "<'\">&", "Ⅳ", "ｗｉｄｅ", "שa1", "\u{1faea}"] {
        assert_eq!(parts(&format!("a@d/{r}")).2.as_deref(), Some(r));
    }
    for c in ['\u{fe0f}', '\u{200b}', '\u{202e}', '\u{ad}', '\u{feff}', '\n', '\0', '\u{7f}', '\u{85}', '\u{fffe}'] {
        assert_eq!(error(&format!("a@d/x{c}")), JidError::Resource(PrecisError::Disallowed(c)));
    }
    assert_eq!(error("a@d/👨\u{200d}👩"), JidError::Resource(PrecisError::Context('\u{200d}')));
    assert_eq!(parts("a@d/क\u{94d}\u{200d}ष").2.as_deref(), Some("क\u{94d}\u{200d}ष"));
}

#[test]
fn a_localpart_does_not_mix_directions() {
    assert_eq!(text("שלום1@d"), "שלום1@d");
    assert_eq!(error("aש@d"), JidError::Local(PrecisError::Bidi));
    assert_eq!(error("1ש@d"), JidError::Local(PrecisError::Bidi));
}

#[test]
fn a_part_has_1023_bytes_after_enforcement() {
    let long = |s: &str, n: usize| s.repeat(n);
    assert!(Jid::parse(&format!("{}@d/{}", long("a", 1023), long("b", 1023))).is_ok());
    assert_eq!(error(&format!("{}@d", long("a", 1024))), JidError::TooLong(Part::Local));
    assert_eq!(error(&format!("d/{}", long("b", 1024))), JidError::TooLong(Part::Resource));
    // 3 bytes each before, 1 after
    assert_eq!(parts(&format!("{}@d", long("ａ", 1023))).0.unwrap().len(), 1023);
    assert_eq!(error(&format!("{}@d", long("ａ", 1024))), JidError::TooLong(Part::Local));
    assert_eq!(parts(&format!("d/{}", long("\u{3000}", 1023))).2.unwrap().len(), 1023);
    // 2 bytes before, 3 after
    assert_eq!(error(&format!("{}@d", long("İ", 500))), JidError::TooLong(Part::Local));
    // What cannot come out right is not tried.
    assert_eq!(error(&format!("{}@d", long("ａ", 3000))), JidError::TooLong(Part::Local));
    assert_eq!(error(&format!("d/{}", long("\t", 9000))), JidError::TooLong(Part::Resource));
    assert_eq!(error(&long("a.", 5000)), JidError::TooLong(Part::Domain));
    let longest = Jid::parse(&format!("{}@{}/{}", long("a", 1023), long("d.", 127), long("b", 1023))).unwrap();
    assert_eq!((longest.local().unwrap().len(), longest.resource().unwrap().len()), (1023, 1023));
}

#[test]
fn one_trailing_dot_is_dropped() {
    assert_eq!(text("a@example.net."), "a@example.net");
    assert_eq!(text("A.Example.nEt./x"), "a.example.net/x");
    assert_eq!(text("BÜCHER.example."), "bücher.example");
    assert_eq!(text("127.0.0.1."), "127.0.0.1");
    assert_eq!(text("[::1]."), "[::1]");
    assert_eq!(error("example.net.."), JidError::Domain(DomainError::EmptyLabel));
    assert_eq!(error("bücher.."), JidError::Domain(DomainError::EmptyLabel));
    assert_eq!(error("bücher。."), JidError::Domain(DomainError::EmptyLabel));
    assert_eq!(error("a@."), JidError::Empty(Part::Domain));
}

#[test]
fn an_a_label_and_its_u_label_are_one_domain() {
    assert_eq!(text("a@xn--bcher-kva.example"), "a@bücher.example");
    assert_eq!(text("a@XN--BCHER-KVA.Example"), "a@bücher.example");
    assert_eq!(text("a@Bücher.Example"), "a@bücher.example");
    assert_eq!(text("a@bu\u{308}cher.example"), "a@bücher.example");
    assert_eq!(text("faß.de"), "faß.de", "IDNA2008 keeps the sharp s");
    assert_eq!(text("xn--fa-hia.de"), "faß.de");
    assert_eq!(text("例え。テスト"), "例え.テスト");
    for s in ["xn--", "xn--a", "xn--bcher-kva-", "xn--abc-", "a.xn--é", "xn--fa-hia-"] {
        assert!(matches!(Jid::parse(s), Err(JidError::Domain(_))), "{s}");
    }
}

#[test]
fn a_domain_is_letters_digits_and_hyphens_of_idna2008() {
    for s in ["localhost", "xmpp-1.example", "1.example", "r3---sn.example", "256.1.1.1", "يونيكود.com"] {
        assert_eq!(text(s), s);
    }
    for s in
        ["a_b", "a b", "-a", "a-", "é-", "a..b", ".a", "a:5222", "a%b", "a\\b", "a\u{0}b", "é_", "℀.com", "a\u{fffd}"]
    {
        assert!(matches!(Jid::parse(s), Err(JidError::Domain(_))), "{s}");
    }
    // UTS 46 lets these pass; xn--i-7iq is i♥ as another program would write it.
    for s in ["☃.net", "i♥.ws", "xn--i-7iq.ws", "💩.la", "a・b.com", "٠۰.com"] {
        let error = Jid::parse(s).expect_err(s);
        assert!(matches!(error, JidError::Domain(DomainError::Label(_) | DomainError::Name)), "{s}: {error:?}");
    }
    assert_eq!(error("☃.net"), JidError::Domain(DomainError::Label(PrecisError::Disallowed('☃'))));
    assert_eq!(error("1.א.a1א"), JidError::Domain(DomainError::Name), "the bidi rule holds for the whole name");
}

#[test]
fn a_label_has_63_octets_and_a_name_253_in_ascii_form() {
    let label = "a".repeat(63);
    assert!(Jid::parse(&label).is_ok());
    assert_eq!(error(&"a".repeat(64)), JidError::Domain(DomainError::TooLong));
    assert_eq!(error(&format!("{}.ü", "a".repeat(64))), JidError::Domain(DomainError::TooLong));
    assert_eq!(error(&format!("ü{}", "a".repeat(60))), JidError::Domain(DomainError::TooLong));
    assert!(Jid::parse(&format!("ü{}", "a".repeat(40))).is_ok());
    let name = [label.as_str(), &label, &label, &"a".repeat(61)].join(".");
    assert_eq!(name.len(), 253);
    assert!(Jid::parse(&name).is_ok() && Jid::parse(&format!("{name}.")).is_ok());
    assert_eq!(error(&format!("{name}a")), JidError::Domain(DomainError::TooLong));
}

#[test]
fn ip_addresses_are_domains() {
    assert_eq!(parts("a@127.0.0.1/r").1, "127.0.0.1");
    assert_eq!(parts("a@[::1]/r").1, "[::1]");
    assert_eq!(parts("[2001:DB8:0:0:0:0:0:1]").1, "[2001:db8::1]", "one form for one address");
    assert_eq!(parts("[::ffff:192.0.2.1]").1, "[::ffff:192.0.2.1]");
    assert_eq!(parts("[fe80::1%25eth0]").1, "[fe80::1%25eth0]");
    assert_eq!(parts("[FE80::1%25en%2D1]").1, "[fe80::1%25en%2D1]");
    for s in
        ["[::1", "[]", "[::g]", "[127.0.0.1]", "[::1]x", "[[::1]]", "[fe80::1%eth0]", "[fe80::1%25]", "[::1%25a%2]"]
    {
        assert_eq!(error(s), JidError::Domain(DomainError::Literal), "{s}");
    }
    assert_eq!(error("::1"), JidError::Domain(DomainError::Name), "not without brackets");
    assert_eq!(error("[v1.a]"), JidError::Domain(DomainError::Literal), "there is no such address yet");
}

#[test]
fn parts_are_taken_and_put_together() {
    let full = Jid::parse("juliet@example.com/balcony").unwrap();
    assert!(full.is_full() && !full.is_bare() && !full.is_domain());
    assert_eq!(full.bare_str(), "juliet@example.com");
    let bare = full.bare();
    assert_eq!(bare, "juliet@example.com");
    assert!(bare.is_bare() && bare.resource().is_none() && bare.local() == Some("juliet"));
    assert_eq!(bare.domain_jid(), "example.com");
    assert!(bare.domain_jid().is_domain() && bare.domain_jid().local().is_none());
    assert_eq!(full.domain_jid(), BareJid::of_domain("EXAMPLE.com").unwrap());
    assert_eq!(bare.with_resource("balcony").unwrap(), full);
    assert_eq!(full.with_resource("a\u{a0}b").unwrap(), "juliet@example.com/a b");
    assert_eq!(full.with_resource(""), Err(JidError::Empty(Part::Resource)));
    assert_eq!(full.domain_jid().with_resource("x/y").unwrap(), "example.com/x/y");
    assert_eq!(BareJid::new("JULIET", "example.com.").unwrap(), bare);
    assert_eq!(BareJid::parse("juliet@example.com/balcony"), Err(JidError::NotBare));
    assert_eq!("juliet@example.com".parse::<BareJid>().as_ref(), Ok(&bare));
    assert_eq!("juliet@example.com/balcony".parse::<Jid>().as_ref(), Ok(&full));
    assert_eq!(Jid::new(Some("juliet"), "example.com", Some("a/b@c")).unwrap(), "juliet@example.com/a/b@c");
    assert_eq!(Jid::from(bare.clone()), *bare.as_jid());
    assert_eq!(format!("{full} {bare:?}"), "juliet@example.com/balcony \"juliet@example.com\"");
}

#[test]
fn a_map_by_bare_address_is_asked_without_making_one() {
    let mut map = HashMap::new();
    map.insert(BareJid::new("juliet", "example.com").unwrap(), 1);
    map.insert(BareJid::new("ромео", "bücher.example").unwrap(), 2);
    let full = Jid::parse("Juliet@Example.com/balcony").unwrap();
    assert_eq!(map.get(full.bare_str()), Some(&1));
    assert_eq!(map.get(Jid::parse("РОМЕО@xn--bcher-kva.example/x").unwrap().bare_str()), Some(&2));
    assert_eq!(map.get(full.as_str()), None);
}

#[test]
fn addresses_are_ordered_as_their_texts() {
    let mut jids: Vec<Jid> = ["b@d", "a@d/z", "a@d", "a@d/b", "d"].map(|s| Jid::parse(s).unwrap()).into();
    jids.sort();
    let texts: Vec<&str> = jids.iter().map(Jid::as_str).collect();
    assert_eq!(texts, ["a@d", "a@d/b", "a@d/z", "b@d", "d"]);
}

#[test]
fn an_address_is_small() {
    assert_eq!(size_of::<Jid>(), 24);
    assert_eq!(size_of::<Option<BareJid>>(), 24);
}

#[test]
fn a_plain_address_costs_one_allocation_and_a_clone_none() {
    let count = |f: &mut dyn FnMut()| allocation_counter::measure(f).count_total;
    for s in ["juliet@example.com/balcony", "juliet@example.com", "example.com", "a@127.0.0.1/foo bar"] {
        let mut jid = None;
        assert_eq!(count(&mut || jid = Jid::parse(s).ok()), 1, "{s}");
        let jid = jid.unwrap();
        assert_eq!(count(&mut || drop(jid.clone())), 0);
        assert_eq!(count(&mut || drop(jid.bare())), u64::from(jid.is_full()));
        assert_eq!(count(&mut || assert!(jid.bare_str().len() + jid.domain().len() > 0)), 0);
    }
    assert_eq!(count(&mut || drop(Jid::parse("юлия@example.com/Балкон"))), 1, "letters of other scripts as well");
    assert_eq!(count(&mut || assert!(Jid::parse("a b@example.com").is_err())), 0, "an error costs nothing");
}

#[test]
fn an_error_says_what_is_wrong_in_two_steps() {
    let error = error("a b@example.com");
    assert_eq!(error.to_string(), "the localpart is not allowed");
    assert_eq!(error.source().unwrap().to_string(), "U+0020 is not allowed");
    assert_eq!(Jid::parse("a@☃").unwrap_err().source().unwrap().source().unwrap().to_string(), "U+2603 is not allowed");
}

/// What holds of every address, whatever it was made of.
fn assert_sound(jid: &Jid) {
    let text = jid.as_str();
    let again = Jid::parse(text).unwrap_or_else(|e| panic!("{text:?} does not parse again: {e:?}"));
    assert_eq!(again.as_str(), text);
    assert_eq!((again.at, again.slash), (jid.at, jid.slash), "{text:?}");
    let parts = Jid::new(jid.local(), jid.domain(), jid.resource()).unwrap();
    assert_eq!(parts.as_str(), text);
    for part in [jid.local(), Some(jid.domain()), jid.resource()].into_iter().flatten() {
        assert!((1..=MAX_PART).contains(&part.len()), "{text:?}");
    }
    assert!(
        !jid.domain().ends_with('.') && !jid.domain().split('.').any(|label| label.starts_with("xn--")),
        "{text:?}"
    );
    assert_eq!(BareJid::parse(jid.bare_str()).as_ref(), Ok(&jid.bare()));
    assert_eq!(jid.bare().domain(), jid.domain());
}

/// Characters that have been somebody's bug: separators and their twins, dots, case pairs that grow or shrink, marks,
/// joiners, directions, jamo, singletons, invisible and unassigned ones.
const NASTY: &str = "@|/|.|-|a|B|x|xn--|1|[|]|:|%25|\u{20}|\\20|'|\"|&|<|＠|／|．|。|｡|＆|Ａ|ｱ|ﾞ|ￗ|￣|\u{3000}|\u{a0}|\u{1680}|ß|\
    ẞ|İ|ı|Σ|ς|Ⅳ|ﬁ|\u{212a}|Å|e\u{301}|\u{301}|\u{323}|\u{302}|\u{344}|\u{340}|\u{387}|·|l|L|\u{37e}|\
    \u{1fef}|\u{2126}|\u{958}|\u{f73}|\u{200d}|\u{200c}|\u{94d}|क|ب|ا|\u{64b}|ש|\u{5b8}|׳|״|٣|۳|・|ツ|\
    漢|\u{375}|α|\u{1100}|\u{1161}|\u{11a8}|가|\u{3164}|\u{ffa0}|\u{ad}|\u{200b}|\u{feff}|\u{202e}|\
    \u{fe0f}|👨|♚|💩|🏴|\u{e0067}|\u{378}|\u{fffe}|\u{fffd}|\u{e000}|\0|\t|\u{7f}|\u{85}|\u{2028}|ǅ|ŉ|\
    ΐ|ᾳ|ᾼ|\u{345}|Ა|Ꭰ|ꭰ|\u{1e9e}|bücher|-kva|bcher-kva|fa-hia|127.0.0.1|::1|\u{2f800}|豈|\u{1d15e}|\
    \u{20dd}|ϔ|ﷺ|℀";

/// A small generator of numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

#[test]
fn two_hundred_thousand_nasty_strings_parse_to_themselves_or_not_at_all() {
    let nasty: Vec<&str> = NASTY.split('|').collect();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut good, mut full, mut international) = (0, 0, 0);
    for round in 0..200_000 {
        let mut s = String::new();
        let word = |dice: &mut Dice, s: &mut String| {
            for _ in 0..dice.roll(5) {
                s.push_str(nasty[dice.roll(nasty.len())]);
            }
        };
        // Half are wholly wild; the other half have a plain part or two, so that the rest is reached.
        match round % 4 {
            0 | 1 => {
                word(&mut dice, &mut s);
                word(&mut dice, &mut s);
            }
            2 => {
                word(&mut dice, &mut s);
                s.push_str("@example.com/");
                word(&mut dice, &mut s);
            }
            _ => {
                s.push_str("a@");
                word(&mut dice, &mut s);
                s.push_str("/r");
            }
        }
        if let Ok(jid) = Jid::parse(&s) {
            assert_sound(&jid);
            good += 1;
            full += usize::from(jid.is_full());
            international += usize::from(!jid.domain().is_ascii());
        }
    }
    assert!(good > 5_000 && full > 2_000 && international > 1_000, "{good} {full} {international}");
}

#[test]
fn every_single_character_is_sound_in_every_part() {
    for c in '\0'..=char::MAX {
        for s in [format!("{c}"), format!("l{c}l@d"), format!("d/l{c}l")] {
            if let Ok(jid) = Jid::parse(&s) {
                assert_sound(&jid);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_parses_to_itself(s in any::<String>()) {
        if let Ok(jid) = Jid::parse(&s) {
            assert_sound(&jid);
        }
    }

    #[test]
    fn parts_of_letters_make_an_address(local in "\\PC{1,8}", domain in "[\\p{L}\\p{N}.-]{1,12}", resource in "\\PC{1,8}") {
        if let Ok(jid) = Jid::new(Some(&local), &domain, Some(&resource)) {
            assert_sound(&jid);
        }
    }

    #[test]
    fn a_plain_address_is_taken_as_it_is(s in "[a-z0-9.+_-]{1,20}@[a-z0-9]{1,20}(\\.[a-z][a-z0-9]{0,8}){0,3}/[ -~]{1,20}") {
        prop_assert_eq!(text(&s), s);
    }

    #[test]
    fn the_ascii_path_of_domains_says_what_the_long_one_says(s in "[a-cX-Z0-9.-]{1,12}") {
        if let Some(short) = domain::plain(&s) {
            let long = domain::international(&s);
            prop_assert_eq!(short.is_ok(), long.is_ok());
            if let Ok(long) = long {
                prop_assert_eq!(domain::enforce(&s).unwrap(), long);
            }
        }
    }

    #[test]
    fn case_does_not_matter_before_the_slash(s in "[a-zA-Z]{1,9}@[a-zA-Z]{1,9}\\.[a-zA-Z]{1,5}") {
        prop_assert_eq!(text(&s), s.to_ascii_lowercase());
        prop_assert_eq!(text(&s.to_ascii_uppercase()), s.to_ascii_lowercase());
    }
}

/// What stands for another character is mapped to it first: the rules must hold for the result.
#[test]
fn nothing_in_a_bare_address_needs_a_reference() {
    let chars = (0..=0xFFFF).filter_map(char::from_u32).filter(|c| !matches!(c, '/' | '@'));
    let (mut found, mut written) = (0, Vec::new());
    for c in chars {
        for s in [format!("a{c}b@example.org"), format!("a@x{c}y.org")] {
            let Ok(jid) = Jid::parse(&s) else { continue };
            found += 1;
            written.clear();
            crate::write::escape_attr(&mut written, jid.bare_str());
            assert_eq!(written, jid.bare_str().as_bytes(), "{s:?}");
        }
    }
    assert!(found > 50_000);
}
