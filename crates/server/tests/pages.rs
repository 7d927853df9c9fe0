//! The generated pages are committed, and true. `UPDATE=1 cargo test -p vorpal pages` writes them.

mod sources;

use std::collections::BTreeSet;
use std::fmt::Write;

use sources::{Source, root, sources};
use vorpal::Program;

const GENERATED: &str = "<!-- Generated from the sources. Do not edit: UPDATE=1 cargo test -p vorpal pages -->";

#[test]
fn the_committed_pages_are_those_of_the_code() {
    let pages = [
        ("docs/xeps.md", xeps()),
        ("docs/modules.md", modules()),
        ("docs/flow.md", flow()),
        ("docs/config.md", config()),
    ];
    let mut stale = Vec::new();
    for (path, text) in pages {
        let file = root().join(path);
        if std::fs::read_to_string(&file).is_ok_and(|committed| committed == text) {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, text).expect("the page can be written");
        } else {
            stale.push(path);
        }
    }
    assert!(stale.is_empty(), "not true any more: {stale:?}; run: UPDATE=1 cargo test -p vorpal pages");
}

fn config() -> String {
    vorpal_config::markdown(&Program::VORPAL.known())
}

fn flow() -> String {
    let mut text = format!("# Which module handles what\n\n{GENERATED}\n\n");
    text.push_str(
        "All modules, set up with their defaults; `vorpal flow HOST` shows those of a host. Within a row they run from\n\
         left to right: by phase, then in the order of `modules::ALL`. Each IQ is answered by exactly one module.\n\n\
         | Hook | Modules |\n|---|---|\n",
    );
    for (hook, modules) in Program::VORPAL.registry().expect("modules that get along").flow() {
        let _ = writeln!(text, "| `{hook}` | {} |", modules.join(", "));
    }
    text
}

/// The header of each module: what it does, and what there is to know of it.
fn modules() -> String {
    let sources = sources();
    let mut text = format!("# What the modules do\n\n{GENERATED}\n\n");
    text.push_str(
        "Modules in the order in which their handlers run within a phase. `vorpal config explain modules.NAME` prints the same with\n\
         the keys of the module, and `enabled = false` in `[modules.NAME]` disables it.\n",
    );
    for module in Program::VORPAL.modules {
        let _ = writeln!(text, "\n## {}\n", module.name);
        let header = home(&sources, module.name).header().collect::<Vec<_>>().join("\n");
        let mut listed = false;
        for line in header.trim().lines() {
            let fact =
                ["Hooks:", "Stores:", "Config:", "Limits:", "Not:"].into_iter().find(|fact| line.starts_with(fact));
            let _ = match fact {
                Some(fact) => writeln!(text, "- {fact} {}", line.trim_start_matches(fact).trim_start()),
                None => writeln!(text, "{}{line}", if listed { "  " } else { "" }),
            };
            listed |= fact.is_some();
        }
    }
    text
}

fn xeps() -> String {
    let sources = sources();
    let mut rows = BTreeSet::new();
    for module in Program::VORPAL.modules {
        let source = home(&sources, module.name);
        let says = |name| source.says(name).unwrap_or_default().replace('|', "\\|");
        for xep in module.xeps {
            rows.insert(format!(
                "| XEP-{:04} | {} | `{}` | {} | {} | {} |",
                xep.0,
                xep.1,
                source.path,
                module.name,
                says("Stores"),
                says("Config")
            ));
        }
    }
    let is_module =
        |source: &Source| Program::VORPAL.modules.iter().any(|m| home(&sources, m.name).path == source.path);
    let mut rfcs = BTreeSet::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let first: String = source.header().take_while(|line| !line.is_empty()).fold(String::new(), |a, b| a + " " + b);
        for number in numbers(&first, "RFC ") {
            rfcs.insert(format!("| RFC {number:04} | `{}` |", source.path));
        }
        for number in numbers(&first, "XEP-").into_iter().filter(|_| !is_module(source)) {
            rows.insert(format!("| XEP-{number:04} | – | `{}` | – | – | – |", source.path));
        }
    }
    let mut text = format!("# Which specification is where\n\n{GENERATED}\n\n");
    text.push_str(
        "The version is that of the XEP text that a module implements. `vorpal xep 280` prints the same with the\n\
         hooks. A file without a module is a part of the kernel or of what lies beneath.\n\n\
         | XEP | Version | File | Module | Stores | Config |\n|---|---|---|---|---|---|\n",
    );
    rows.iter().for_each(|row| text.extend([row, "\n"]));
    text.push_str("\n| RFC | File |\n|---|---|\n");
    rfcs.iter().for_each(|row| text.extend([row, "\n"]));
    text
}

/// The file of a module: by its name alone.
fn home<'a>(sources: &'a [Source], module: &str) -> &'a Source {
    let paths = [format!("crates/modules/src/{module}.rs"), format!("crates/modules/src/{module}/mod.rs")];
    sources.iter().find(|source| paths.contains(&source.path)).expect("a module has the file of its name")
}

/// The numbers that follow a word in a text.
fn numbers(text: &str, word: &str) -> BTreeSet<u32> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    text.split(word).skip(1).filter_map(digits).collect()
}
