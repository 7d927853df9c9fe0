//! UTS 39 §5: names that mix scripts, as those that imitate another name do.
//!
//! `аdmin` with a Cyrillic а looks like `admin`. Most names are of one script; of those that are not, most are Japanese,
//! Korean or Chinese ones, which have several by nature (§5.2, "Highly Restrictive").
//!
//! Not: names of one script that look like one of another (`сосо`, all Cyrillic), and letters that look alike within a
//! script. Telling these needs the table of confusables.

use icu_properties::props::Script;
use icu_properties::script::ScriptWithExtensions;
use icu_properties::{CodePointMapData, PropertyNamesLong};

/// The scripts that a language mixes, each with Latin beside it (§5.2).
const MIXED_BY_NATURE: [&[Script]; 3] = [
    &[Script::Latin, Script::Han, Script::Hiragana, Script::Katakana],
    &[Script::Latin, Script::Han, Script::Bopomofo],
    &[Script::Latin, Script::Han, Script::Hangul],
];

/// The names of the scripts of a name's letters, in the order of their first letters, if no single script has all of them and no
/// language mixes them. Characters that all scripts share, such as digits, do not count.
pub fn mixed_scripts(name: &str) -> Option<Vec<&'static str>> {
    let scripts = ScriptWithExtensions::new();
    let has = |c: char, script: Script| scripts.has_script(c, script);
    let letters: Vec<char> = name.chars().filter(|c| !has(*c, Script::Common) && !has(*c, Script::Inherited)).collect();
    // §5.1: one script that each letter belongs to, by its extensions.
    let of_one = letters.first().is_none_or(|first| {
        scripts.get_script_extensions_val(*first).iter().any(|script| letters.iter().all(|c| has(*c, script)))
    });
    let by_nature =
        || MIXED_BY_NATURE.iter().any(|set| letters.iter().all(|c| set.iter().any(|script| has(*c, *script))));
    if of_one || by_nature() {
        return None;
    }
    let mut found = Vec::new();
    for c in letters {
        let script = CodePointMapData::<Script>::new().get(c);
        let script = PropertyNamesLong::<Script>::new().get(script).unwrap_or("Unknown");
        if !found.contains(&script) {
            found.push(script);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_one_script_is_not_mixed() {
        for name in [
            "juliet",
            "juliet.capulet-7_x",
            "j\u{fc}rgen",
            "\u{430}\u{434}\u{43c}\u{438}\u{43d}",
            "2026",
            "",
            "\u{5d0}\u{5d1}",
            "\u{3b1}\u{3b2}3",
            "e\u{301}a",
        ] {
            assert_eq!(mixed_scripts(name), None, "{name}");
        }
    }

    #[test]
    fn a_letter_of_another_script_is_noticed() {
        assert_eq!(mixed_scripts("\u{430}dmin"), Some(vec!["Cyrillic", "Latin"]));
        assert_eq!(mixed_scripts("p\u{430}ypal"), Some(vec!["Latin", "Cyrillic"]));
        assert_eq!(mixed_scripts("r\u{3bf}meo"), Some(vec!["Latin", "Greek"]));
        assert_eq!(mixed_scripts("\u{5d0}1a"), Some(vec!["Hebrew", "Latin"]));
    }

    #[test]
    fn languages_that_mix_scripts_are_not_mixed() {
        for name in
            ["\u{6771}\u{4eac}\u{30bf}\u{30ef}\u{30fc}\u{306e}tokyo", "\u{d55c}\u{56fd}korea", "\u{6f22}\u{3105}a"]
        {
            assert_eq!(mixed_scripts(name), None, "{name}");
        }
        assert!(mixed_scripts("\u{d55c}\u{30ab}").is_some(), "Korean and Japanese");
        assert!(mixed_scripts("\u{6771}\u{430}").is_some(), "Han and Cyrillic");
    }
}
