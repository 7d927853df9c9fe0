use std::borrow::Cow;

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;
use precis_core::profile::PrecisFastInvocation;
use precis_core::{DerivedPropertyValue, FreeformClass, IdentifierClass, StringClass};
use proptest::prelude::*;

use super::class::{Derived, derived};
use super::*;

fn name(s: &str) -> Result<String, PrecisError> {
    username(s).map(Cow::into_owned)
}

fn ok(s: &str) -> Result<String, PrecisError> {
    Ok(s.to_owned())
}

#[test]
fn what_is_in_its_form_is_returned_borrowed() {
    for s in ["juliet", "foo\\20bar", "fußball", "π", "юлия", "中文", "שלום"] {
        assert!(matches!(username(s), Ok(Cow::Borrowed(t)) if t == s), "{s}");
    }
    for s in ["foo bar", "Юлия", "♚", "Ａ", " a ", "日本 語"] {
        assert!(matches!(opaque(s), Ok(Cow::Borrowed(t)) if t == s), "{s}");
    }
}

#[test]
fn a_username_is_lower_case_letter_by_letter() {
    assert_eq!(name("BOB"), ok("bob"));
    assert_eq!(name("ΣΑΣ"), ok("σασ"), "no final sigma");
    assert_eq!(name("σας"), ok("σας"), "which is kept where it is written");
    assert_eq!(name("ẞ"), ok("ß"));
    assert_eq!(name("fußball"), ok("fußball"));
    assert_eq!(name("I"), ok("i"));
    assert_eq!(name("ıI"), ok("ıi"), "the dotless i is a letter of its own");
    assert_eq!(name("İ"), ok("i\u{307}"), "the dot stays as a mark");
    assert_eq!(name("Ⴀ"), ok("ⴀ"));
}

#[test]
fn full_width_twins_are_the_same_username() {
    assert_eq!(name("ＢＯＢ"), ok("bob"));
    assert_eq!(name("ｊｕｌｉｅｔ１"), ok("juliet1"));
    assert_eq!(name("ｶﾞ"), ok("ガ"), "mapped, then composed");
    assert_eq!(name("a\u{3000}b"), Err(PrecisError::Disallowed(' ')));
    assert_eq!(name("ￗ"), Err(PrecisError::Disallowed('\u{1172}')));
    assert_eq!(name("￣"), Err(PrecisError::Disallowed(' ')));
}

#[test]
fn composed_and_decomposed_are_the_same_name() {
    assert_eq!(name("e\u{301}"), ok("é"));
    assert_eq!(name("E\u{301}"), ok("é"));
    assert_eq!(name("a\u{323}\u{302}"), ok("ậ"));
    assert_eq!(name("a\u{302}\u{323}"), ok("ậ"), "marks are sorted");
    assert_eq!(opaque("e\u{301}").unwrap(), "é");
}

#[test]
fn an_identifier_holds_letters_and_digits_only() {
    for c in [
        ' ',
        '\u{a0}',
        '\u{7}',
        '\u{7f}',
        '♚',
        '\u{1f600}',
        '€',
        '«',
        'Ⅳ',
        'ǅ',
        '\u{ad}',
        '\u{200b}',
        '\u{fe0f}',
        '\u{feff}',
        'ﬁ',
        '½',
        '\u{1100}',
        '\u{302e}',
        '\u{640}',
        '\u{fdd0}',
        '\u{fffe}',
        '\u{e000}',
        '\u{212a}',
        '\u{2028}',
    ] {
        assert_eq!(name(&format!("a{c}b")), Err(PrecisError::Disallowed(c)), "{c:?}");
    }
    assert_eq!(name("\u{378}"), Err(PrecisError::Unassigned('\u{378}')));
    assert_eq!(name("\u{1ffff}"), Err(PrecisError::Disallowed('\u{1ffff}')), "a noncharacter is not merely unassigned");
    assert_eq!(name(""), Err(PrecisError::Empty));
}

#[test]
fn letters_of_recent_unicode_versions_are_known() {
    // Unicode 11 (Georgian capitals), 15 (Kawi), 16 (Garay)
    assert_eq!(name("Ა"), ok("ა"));
    assert!(username("\u{11f12}").is_ok());
    assert_eq!(name("\u{10d50}"), ok("\u{10d70}"));
    // Unicode 15 and 16 emoji
    assert!(opaque("\u{1fae8}\u{1fae9}").is_ok());
}

/// The lower case is the standard library's, all else ICU4X's, and one may know letters that the other does not.
#[test]
fn no_capital_is_ever_let_through() {
    let capital = |c| CodePointMapData::<GeneralCategory>::new().get(c) == GeneralCategory::UppercaseLetter;
    let mut mapped = 0;
    for c in '\0'..=char::MAX {
        match username(c.encode_utf8(&mut [0; 4])) {
            Ok(s) => assert!(!s.contains(capital), "{c:?}"),
            Err(PrecisError::Unassigned(refused)) => assert!(refused == c && c > '\u{377}'),
            Err(_) => continue,
        }
        mapped += usize::from(capital(c));
    }
    assert!(mapped > 1_300, "{mapped}");
}

#[test]
fn a_joiner_needs_its_context() {
    assert!(username("क\u{94d}\u{200d}ष").is_ok(), "A.2: after a virama");
    assert_eq!(name("क\u{200d}ष"), Err(PrecisError::Context('\u{200d}')));
    assert_eq!(name("a\u{200d}"), Err(PrecisError::Context('\u{200d}')));
    assert_eq!(name("\u{200d}"), Err(PrecisError::Context('\u{200d}')));
    assert!(username("क\u{94d}\u{200c}ष").is_ok(), "A.1: after a virama");
    assert!(username("نامه\u{200c}ای").is_ok(), "A.1: between letters that join");
    assert!(username("ب\u{64b}\u{200c}\u{64b}ب").is_ok(), "A.1: marks are looked through");
    assert_eq!(name("ا\u{200c}ب"), Err(PrecisError::Context('\u{200c}')), "alef does not join to its left");
    assert_eq!(name("ب\u{200c}ا\u{200c}ا"), Err(PrecisError::Context('\u{200c}')), "each of them, not any of them");
    assert_eq!(name("a\u{200c}b"), Err(PrecisError::Context('\u{200c}')));
    assert_eq!(opaque("👨\u{200d}👩"), Err(PrecisError::Context('\u{200d}')), "also in free form");
}

#[test]
fn marks_that_belong_to_a_script_need_their_context() {
    assert!(username("col·legi").is_ok(), "A.3");
    assert_eq!(name("a·b"), Err(PrecisError::Context('·')));
    assert_eq!(name("l·"), Err(PrecisError::Context('·')));
    assert_eq!(name("L·L"), Err(PrecisError::Context('·')), "looked at before the case is mapped");
    assert!(username("͵α").is_ok(), "A.4");
    assert_eq!(name("α͵"), Err(PrecisError::Context('͵')));
    assert!(username("צ׳").is_ok() && username("צ״א").is_ok(), "A.5 and A.6");
    assert_eq!(opaque("a׳"), Err(PrecisError::Context('׳')));
    assert_eq!(opaque("״א"), Err(PrecisError::Context('״')));
    assert!(username("a・ツ").is_ok() && username("・漢").is_ok(), "A.7");
    assert_eq!(name("a・b"), Err(PrecisError::Context('・')));
    assert!(username("ب٠١").is_ok() && username("ب۰۱").is_ok(), "A.8 and A.9");
    assert_eq!(name("ب٠۰"), Err(PrecisError::Context('٠')));
    assert_eq!(opaque("۰٠"), Err(PrecisError::Context('٠')));
}

#[test]
fn directions_are_not_mixed() {
    for s in ["שלום", "שלום1", "ש-1", "علي", "علي٣", "ש1-ב", "שָ", "ש1\u{5b8}", "a1", "1a", "-é-", "\u{301}a"]
    {
        assert!(username(s).is_ok(), "{s:?}");
    }
    for s in ["aש", "שa", "1ש", "-ש", "ש-", "٣a", "٣", "ش1٣", "\u{5b8}ש", "שaב"] {
        assert_eq!(name(s), Err(PrecisError::Bidi), "{s:?}");
        assert!(opaque(s).is_ok(), "opaque strings have no such rule");
    }
}

/// RFC 8265 §3.5 (tables 1 and 2), as far as the profile is ours.
#[test]
fn the_usernames_of_the_rfc() {
    for (given, wanted) in [
        ("juliet@example.com", "juliet@example.com"),
        ("fussball", "fussball"),
        ("fußball", "fußball"),
        ("π", "π"),
        ("Σ", "σ"),
        ("σ", "σ"),
        ("ς", "ς"),
    ] {
        assert_eq!(name(given), ok(wanted));
    }
    assert_eq!(name("foo bar"), Err(PrecisError::Disallowed(' ')));
    assert_eq!(name(""), Err(PrecisError::Empty));
    assert_eq!(name("henryⅣ"), Err(PrecisError::Disallowed('Ⅳ')));
    assert_eq!(name("♚"), Err(PrecisError::Disallowed('♚')));
}

/// RFC 8265 §4.3, tables 3 and 4.
#[test]
fn the_opaque_strings_of_the_rfc() {
    for (given, wanted) in [
        ("correct horse battery staple", "correct horse battery staple"),
        ("Correct Horse Battery Staple", "Correct Horse Battery Staple"),
        ("πßå", "πßå"),
        ("Jack of ♦s", "Jack of ♦s"),
        ("foo\u{1680}bar", "foo bar"),
    ] {
        assert_eq!(opaque(given).unwrap(), wanted);
    }
    assert_eq!(opaque(""), Err(PrecisError::Empty));
    assert_eq!(opaque("my cat is a \tby"), Err(PrecisError::Disallowed('\t')));
}

#[test]
fn an_opaque_string_must_still_be_one_after_composition() {
    // The Greek ano teleia is a middle dot once composed, and that needs its context.
    assert_eq!(opaque("α\u{387}β"), Err(PrecisError::Context('·')));
    assert_eq!(opaque("l\u{387}l").unwrap(), "l·l");
    assert_eq!(opaque("a\u{37e}").unwrap(), "a;");
}

/// RFC 8266 §3, table 1.
#[test]
fn the_nicknames_of_the_rfc() {
    for (given, wanted) in [
        ("Foo", "foo"),
        ("foo", "foo"),
        ("Foo Bar", "foo bar"),
        ("foo bar", "foo bar"),
        ("Σ", "σ"),
        ("σ", "σ"),
        ("ς", "ς"),
        ("ϔ", "ϋ"),
        ("∞", "∞"),
        ("Richard Ⅳ", "richard iv"),
    ] {
        assert_eq!(nickname_key(given).unwrap(), wanted);
    }
}

#[test]
fn a_nickname_is_trimmed_and_keeps_its_case() {
    assert_eq!(nickname("  Swan \u{a0}\u{3000} of   Avon ").unwrap(), "Swan of Avon");
    assert_eq!(nickname("ＢＯＢ").unwrap(), "BOB");
    assert_eq!(nickname("Richard Ⅳ").unwrap(), "Richard IV");
    assert_eq!(nickname("\u{a8}").unwrap(), "\u{308}", "the space of the decomposition goes in the second round");
    assert_eq!(nickname(" "), Err(PrecisError::Empty));
    assert_eq!(nickname(""), Err(PrecisError::Empty));
    assert_eq!(nickname("a\nb"), Err(PrecisError::Disallowed('\n')));
    assert!(matches!(nickname("Thirdwitch"), Ok(Cow::Borrowed(_))));
}

#[test]
fn the_checks_are_linear() {
    // A quadratic one would take minutes.
    let dots = "・".repeat(300_000) + "ツ";
    assert!(opaque(&dots).is_ok());
    let joiners = "ب\u{64b}\u{200c}".repeat(200_000) + "ب";
    assert!(opaque(&joiners).is_ok());
    let marks = "ب".to_owned() + &"\u{64b}".repeat(300_000) + "\u{200c}ب";
    assert!(opaque(&marks).is_ok());
}

fn ours(c: char) -> &'static str {
    match derived(c) {
        Derived::Valid => "valid",
        Derived::FreeOnly => "free",
        Derived::Context => "context",
        Derived::Disallowed => "disallowed",
        Derived::Unassigned => "unassigned",
    }
}

/// The same five words for the oracle, which knows Unicode 6.3, the version of the IANA registry.
fn theirs(c: char) -> &'static str {
    use DerivedPropertyValue as D;
    let identifier = IdentifierClass::default().get_value_from_char(c);
    let freeform = FreeformClass::default().get_value_from_char(c);
    match (identifier, freeform) {
        (D::PValid, D::PValid) => "valid",
        (D::SpecClassDis, D::SpecClassPval) => "free",
        (D::ContextJ, D::ContextJ) | (D::ContextO, D::ContextO) => "context",
        (D::Disallowed, D::Disallowed) => "disallowed",
        (D::Unassigned, D::Unassigned) => "unassigned",
        other => panic!("U+{:04X}: {other:?}", u32::from(c)),
    }
}

#[test]
fn every_code_point_that_unicode_6_3_knew_has_the_class_that_the_oracle_says() {
    let mut differ = Vec::new();
    let mut compared = 0;
    for c in ('\0'..=char::MAX).filter(|&c| theirs(c) != "unassigned") {
        compared += 1;
        if ours(c) != theirs(c) {
            differ.push((c, theirs(c), ours(c)));
        }
    }
    assert!(compared > 240_000, "{compared}");
    let unexplained: Vec<_> = differ.iter().map(|(c, t, o)| format!("U+{:04X} {t} {o}", u32::from(*c))).collect();
    assert_eq!(unexplained, [] as [String; 0]);
}

#[test]
fn single_letters_are_enforced_as_the_oracle_enforces_them() {
    let mut differ = Vec::new();
    for c in ('\0'..='\u{ffff}').filter(|&c| theirs(c) != "unassigned") {
        let s = format!("l{c}l");
        let mut look = |profile: &str, theirs: Option<String>, ours: Option<String>| {
            if theirs != ours {
                differ.push(format!("{profile} U+{:04X} {theirs:?} {ours:?}", u32::from(c)));
            }
        };
        let own = |r: Result<Cow<'_, str>, PrecisError>| r.ok().map(Cow::into_owned);
        let their = |r: Result<Cow<'_, str>, precis_core::Error>| r.ok().map(Cow::into_owned);
        look("username", their(precis_profiles::UsernameCaseMapped::enforce(s.as_str())), own(username(&s)));
        look("opaque", their(precis_profiles::OpaqueString::enforce(s.as_str())), own(opaque(&s)));
        look("nickname", their(precis_profiles::Nickname::enforce(s.as_str())), own(nickname(&s)));
    }
    assert_eq!(differ, [] as [String; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn enforcing_twice_is_enforcing_once(s in any::<String>()) {
        for profile in [username, opaque, nickname, nickname_key] {
            if let Ok(once) = profile(&s) {
                prop_assert!(matches!(profile(&once), Ok(Cow::Borrowed(same)) if same == once));
            }
        }
    }

    #[test]
    fn the_ascii_path_says_what_the_long_one_says(s in "[ -~\t\u{7f}]{0,12}") {
        let long = |once: fn(&str) -> Result<Cow<'_, str>, PrecisError>| settle(&s, once).map(Cow::into_owned);
        prop_assert_eq!(username(&s).map(Cow::into_owned), long(username_once));
        prop_assert_eq!(opaque(&s).map(Cow::into_owned), long(opaque_once));
    }

    #[test]
    fn names_that_differ_in_case_only_have_one_key(s in "[a-zA-Z \u{e0}-\u{ff}\u{410}-\u{44f}]{1,10}") {
        let upper: String = s.chars().map(|c| c.to_uppercase().next().filter(|_| c != 'ß').unwrap_or(c)).collect();
        prop_assert_eq!(nickname_key(&s), nickname_key(&upper));
    }
}
