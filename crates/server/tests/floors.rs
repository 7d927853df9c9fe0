//! The folders of the kernel are floors: each file uses what stands on its own floor or below. Few files use each other in a circle.

mod sources;

use std::collections::{BTreeMap, BTreeSet};

use sources::sources;

/// The folders and files below `crates/core/src`, from the ground up. Those in one line stand beside each other.
const FLOORS: &[&[&str]] = &[
    &["store", "rules", "bounds", "small"],
    &["session"],
    &["owner"],
    &["module", "watch"],
    &["core"],
    &["commit"],
    &["route"],
    &["life"],
];

/// Files that use a file of a higher floor, and why.
const UPWARDS: &[(&str, &str, &str)] = &[(
    "owner/account.rs",
    "module/host.rs",
    "an account knows its host, and with it the modules that judge its stanzas",
)];

/// Maximum number of files that use each other in a circle: nobody understands one of them without the others.
const CIRCLE: usize = 8;

const ROOT: &str = "crates/core/src/";

/// Files of the kernel with the files they use.
type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn a_folder_uses_its_own_floor_and_those_below() {
    let mut found = BTreeSet::new();
    for (file, uses) in uses() {
        for used in uses.iter().filter(|used| floor(used) > floor(&file)) {
            let known = UPWARDS.iter().any(|(from, to, _)| (*from, *to) == (file.as_str(), used.as_str()));
            assert!(known, "{file} uses {used}, which stands on a higher floor");
            found.insert((file.clone(), used.clone()));
        }
    }
    for (from, to, why) in UPWARDS {
        assert!(
            !why.is_empty() && found.contains(&((*from).into(), (*to).into())),
            "{from} does not use {to} any more"
        );
    }
}

#[test]
fn no_circle_of_files_is_longer_than_one_remembers() {
    let uses = uses();
    let reach: BTreeMap<&String, BTreeSet<&String>> = uses.keys().map(|file| (file, reached(&uses, file))).collect();
    for (file, reached) in &reach {
        let circle: Vec<_> = reached.iter().filter(|other| reach[**other].contains(file)).collect();
        assert!(circle.len() <= CIRCLE, "these use each other: {circle:?}");
    }
}

#[test]
fn paths_are_read_from_the_text() {
    let text = "use crate::a::{self, b::{C, d}};\n// crate::no::No\nlet x = crate::e::F::new(crate::g);\n";
    let paths: Vec<String> = paths(text).collect();
    assert_eq!(paths, ["a", "a::b::C", "a::b::d", "e::F::new", "g"]);
}

fn floor(file: &str) -> usize {
    let folder = file.split('/').next().unwrap_or(file).trim_end_matches(".rs");
    FLOORS.iter().position(|floor| floor.contains(&folder)).unwrap_or_else(|| panic!("{file} stands on no floor"))
}

fn reached<'a>(uses: &'a Uses, from: &'a String) -> BTreeSet<&'a String> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        next.extend(uses.get(file).into_iter().flatten().filter(|used| found.insert(*used)));
    }
    found
}

fn uses() -> Uses {
    let sources: Vec<_> =
        sources().into_iter().filter(|source| source.path.starts_with(ROOT) && !source.is_test()).collect();
    let files: BTreeSet<String> = sources.iter().map(|source| source.path[ROOT.len()..].to_owned()).collect();
    let mut uses = Uses::new();
    for source in sources.iter().filter(|source| !source.path.ends_with("/lib.rs")) {
        let file = &source.path[ROOT.len()..];
        let text: String = source.code().map(|(_, line)| format!("{line}\n")).collect();
        assert!(!text.contains("super::"), "{file}: a path from the crate's root says where something stands");
        let used = paths(&text).filter_map(|path| home(&files, &path)).filter(|used| used != file);
        uses.insert(file.to_owned(), used.collect());
    }
    assert!(uses.values().map(BTreeSet::len).sum::<usize>() > 300, "the paths are not where they were");
    uses
}

/// The file in which something with this path stands.
fn home(files: &BTreeSet<String>, path: &str) -> Option<String> {
    let (mut folder, mut found) = (String::new(), None);
    for part in path.split("::") {
        folder += part;
        found = [format!("{folder}.rs"), format!("{folder}/mod.rs")]
            .into_iter()
            .find(|file| files.contains(file))
            .or(found);
        folder += "/";
    }
    found
}

/// Every path of the crate that the text names, without `crate::`.
fn paths(text: &str) -> impl Iterator<Item = String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let starts: Vec<usize> = code.match_indices("crate::").map(|(at, word)| at + word.len()).collect();
    let mut found = Vec::new();
    for at in starts {
        leaves("", &mut code[at..].chars().peekable(), &mut found);
    }
    found.into_iter()
}

/// Reads one path, or a tree of them in braces, as after `use`.
fn leaves(before: &str, rest: &mut std::iter::Peekable<std::str::Chars<'_>>, found: &mut Vec<String>) {
    let mut path = before.to_owned();
    loop {
        let word: String = std::iter::from_fn(|| rest.next_if(|c| c.is_alphanumeric() || *c == '_')).collect();
        if !word.is_empty() && word != "self" {
            path = if path.is_empty() { word } else { format!("{path}::{word}") };
        }
        match rest.peek() {
            Some(':') => while rest.next_if_eq(&':').is_some() {},
            Some('{') => loop {
                rest.next();
                while rest.next_if(|c| c.is_whitespace()).is_some() {}
                if rest.peek() != Some(&'}') {
                    leaves(&path, rest, found);
                }
                while rest.next_if(|c| !matches!(c, ',' | '}')).is_some() {}
                if rest.peek() != Some(&',') {
                    rest.next();
                    return;
                }
            },
            _ => {
                found.push(path);
                return;
            }
        }
    }
}
