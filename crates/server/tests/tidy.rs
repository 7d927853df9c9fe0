//! The house rules that a program can check.

mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use sources::{Source, root, sources};
use vorpal::Program;
use vorpal_config::Module;

/// Files that may have more than 900 lines, with the reason.
const LONG: &[(&str, &str)] = &[];

/// What is an invariant of our own: file, and why it holds.
const EXPECTED: &[(&str, &str)] = &[
    ("crates/core/src/core/mod.rs", "the first flag of all"),
    ("crates/core/src/session/stream.rs", "a slot is made with its type"),
    ("crates/core/src/owner/state.rs", "a handle is made with its table's types"),
    ("crates/proto/src/jid.rs", "parts are limited before they are joined"),
    ("crates/proto/src/sasl/crypto.rs", "HMAC takes a key of any length (RFC 2104 §2)"),
    ("crates/runtime/src/start.rs", "the system has random numbers"),
    ("crates/store/src/readers.rs", "it is returned only by the drop below"),
];

/// Files that write elements out as bytes, and so have namespaces in their text.
const WRITERS: &[&str] = &[
    "crates/core/src/session/nonzas.rs",
    "crates/core/src/session/wire.rs",
    "crates/core/src/owner/stanza_id.rs",
    "crates/modules/src/mam/query.rs",
    "crates/net/src/wire/tcp.rs",
];

/// What each crate may depend on, of ours.
const ARROWS: &[(&str, &[&str])] = &[
    ("vorpal-proto", &[]),
    ("vorpal-config", &["vorpal-proto"]),
    ("vorpal-core", &["vorpal-proto"]),
    ("vorpal-modules", &["vorpal-config", "vorpal-core", "vorpal-proto"]),
    ("vorpal-store", &["vorpal-core", "vorpal-proto"]),
    ("vorpal-runtime", &["vorpal-core", "vorpal-proto", "vorpal-store"]),
    ("vorpal-net", &["vorpal-core", "vorpal-proto", "vorpal-runtime"]),
    ("vorpal-load", &[]),
];

/// What nothing at or below the modules may bring in: a runtime, a database, sockets.
const FOREIGN: &[&str] = &["tokio", "rusqlite", "libsqlite3-sys", "mio", "socket2", "rustls"];

#[test]
fn no_file_is_longer_than_a_reader_bears() {
    for source in sources() {
        let lines = source.text.lines().count();
        let allowed = LONG.iter().any(|(path, _)| *path == source.path);
        assert!(lines <= 900 || allowed, "{} has {lines} lines", source.path);
        assert!(lines > 900 || !allowed, "{} needs no exception any more", source.path);
    }
}

#[test]
fn nothing_but_our_own_invariants_is_unwrapped() {
    let mut used = BTreeSet::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (line, code) in source.code() {
            let place = || format!("{}:{line}: {code}", source.path);
            assert!(!code.contains(".unwrap()"), "{}", place());
            for rest in code.split(".expect(\"").skip(1) {
                let Some((why, tail)) = rest.split_once('"') else { continue };
                // With more than one argument it is a method of ours.
                if !tail.starts_with(')') {
                    continue;
                }
                let known = EXPECTED.iter().find(|known| **known == (source.path.as_str(), why));
                used.insert(*known.unwrap_or_else(|| panic!("{}", place())));
            }
        }
    }
    assert_eq!(used, EXPECTED.iter().copied().collect(), "the list names what is not there any more");
}

#[test]
fn namespaces_are_named_in_one_file() {
    for source in sources().iter().filter(|source| !source.is_test() && source.path != "crates/proto/src/ns.rs") {
        for (line, code) in source.code() {
            for literal in ["\"urn:xmpp", "\"jabber:", "\"http://jabber.org"] {
                assert!(!code.contains(literal), "{}:{line}: {code}", source.path);
            }
            let written = ["='urn:xmpp", "='jabber:"].iter().any(|text| code.contains(text));
            assert!(!written || WRITERS.contains(&source.path.as_str()), "{}:{line}: {code}", source.path);
        }
    }
}

#[test]
fn a_module_says_in_its_header_what_it_takes_part_in() {
    let (sources, program) = (sources(), Program::VORPAL);
    let registry = program.registry().expect("modules that get along");
    for module in program.modules {
        let source = home(&sources, module.name);
        let first = source.header().next().unwrap_or_default();
        assert!(first.starts_with("XEP-") || first.starts_with("RFC "), "{}: {first}", source.path);
        for xep in module.xeps {
            let number = format!("XEP-{:04}", xep.0);
            assert!(source.header().any(|line| line.contains(&number)), "{}: {number}", source.path);
        }
        assert!(source.says("Stores").is_some_and(|text| !text.is_empty()), "{}: Stores", source.path);
        let hooks: BTreeSet<String> = registry.hooks_of(module.name).into_iter().filter_map(in_header).collect();
        assert_eq!(listed(source, "Hooks"), hooks, "{}: Hooks", source.path);
        let sections = program.sections.iter().filter(|section| section.name() == module.name);
        let keys = sections.filter_map(Module::table).flat_map(|table| table.keys);
        assert_eq!(listed(source, "Config"), keys.map(|key| key.name.to_owned()).collect(), "{}: Config", source.path);
    }
}

/// A row of the flow in the words of a header; answers to IQs are not listed there.
fn in_header(hook: String) -> Option<String> {
    let first = hook.split(" when ").next().unwrap_or_default();
    match first.split(' ').next() {
        Some("iq") => None,
        Some("nonza") => Some("nonza".into()),
        _ => Some(first.into()),
    }
}

/// The list of a line of a header; `none` is empty.
fn listed(source: &Source, name: &str) -> BTreeSet<String> {
    let text = source.says(name).unwrap_or_else(|| panic!("{} has no line {name}", source.path));
    let items = text.split(", ").map(|item| item.trim_matches('`').to_owned());
    items.filter(|item| item != "none").collect()
}

fn home<'a>(sources: &'a [Source], module: &str) -> &'a Source {
    let paths = [format!("crates/modules/src/{module}.rs"), format!("crates/modules/src/{module}/mod.rs")];
    sources.iter().find(|source| paths.contains(&source.path)).expect("a module has the file of its name")
}

#[test]
fn modules_and_the_kernel_know_no_socket() {
    for source in sources() {
        if source.path.starts_with("crates/modules/") || source.path.starts_with("crates/core/") {
            for (line, code) in source.code() {
                for word in ["std::net", "std::fs", "SystemTime", "Instant::now", "std::thread"] {
                    assert!(!code.contains(word), "{}:{line}: {code}", source.path);
                }
            }
        }
    }
}

/// What is logged looks the same as text and as JSON: no value as Rust writes it for debugging, `?value` or `{:?}`.
#[test]
fn nothing_is_logged_as_rust_writes_it() {
    for source in sources().iter().filter(|source| !source.is_test()) {
        for call in source.text.split("tracing::").skip(1) {
            let name = call.split(['!', '(']).next().unwrap_or_default();
            if !["error", "warn", "info", "debug", "trace"].contains(&name.trim_end_matches("_span")) {
                continue;
            }
            let end = call.find([';', '}']).unwrap_or(call.len());
            let call = &call[..end];
            let debugs = call.contains(":?")
                || call.split('?').zip(call.split('?').skip(1)).any(|(before, after)| {
                    before.ends_with([' ', '(']) && after.starts_with(|c: char| c.is_ascii_lowercase())
                });
            assert!(!debugs, "{}: {call}", source.path);
        }
    }
}

/// The faults of the simulator (`crates/testing/faults/try`) are changes to the sources as they are now.
#[test]
fn the_planted_faults_can_be_put_into_the_sources() {
    let folder = root().join("crates/testing/faults");
    let files = std::fs::read_dir(&folder).expect("the faults").map(|file| file.expect("a file").path());
    let faults: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "patch")).collect();
    assert!(faults.len() >= 6, "{faults:?}");
    for fault in faults {
        let mut command = Command::new("git");
        let output = command.args(["apply", "--check"]).arg(&fault).current_dir(root()).output().expect("git runs");
        assert!(output.status.success(), "{}: {}", fault.display(), String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_arrows_between_the_crates_are_those_of_the_design() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let name_of =
        |id: &Value| packages.iter().find(|package| package["id"] == *id).map(|package| package["name"].clone());
    let nodes = metadata["resolve"]["nodes"].as_array().expect("nodes");
    let direct = |krate: &str| -> BTreeSet<String> {
        let node = nodes.iter().find(|node| name_of(&node["id"]).is_some_and(|name| name == krate)).expect("a crate");
        let deps = node["deps"].as_array().into_iter().flatten();
        let normal =
            deps.filter(|dep| dep["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].is_null()));
        normal.filter_map(|dep| Some(name_of(&dep["pkg"])?.as_str()?.to_owned())).collect()
    };
    for (krate, allowed) in ARROWS {
        let ours: BTreeSet<String> = direct(krate).into_iter().filter(|name| name.starts_with("vorpal")).collect();
        assert!(ours.iter().all(|name| allowed.contains(&name.as_str())), "{krate} depends on {ours:?}");
    }
    let (mut seen, mut next) = (BTreeSet::new(), vec!["vorpal-modules".to_owned()]);
    while let Some(krate) = next.pop() {
        if seen.insert(krate.clone()) {
            next.extend(direct(&krate));
        }
    }
    assert!(seen.contains("vorpal-core") && seen.contains("toml"), "the graph is not what it was");
    for name in FOREIGN {
        assert!(!seen.contains(*name), "the modules bring in {name}");
    }
}

/// Each file of the server can be read after those that it imports. `cli` is above all of them.
#[test]
fn the_files_of_the_server_do_not_import_each_other_in_a_circle() {
    const FOLDER: &str = "crates/server/src/";
    let sources: Vec<Source> = sources().into_iter().filter(|source| source.path.starts_with(FOLDER)).collect();
    let place = |source: &Source| {
        let path = source.path.strip_prefix(FOLDER).expect("it begins so");
        path.split(['/', '.']).next().expect("a first part").to_owned()
    };
    let modules: BTreeSet<String> = sources.iter().map(place).filter(|name| name != "lib" && name != "main").collect();
    // What `lib.rs` exports, by the names under which files import it from there.
    let homes = [("Program", "program"), ("Reload", "reload"), ("Gauges", "gauges"), ("Server", "run")];
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test() && modules.contains(&place(source))) {
        let own = place(source);
        for (_, code) in source.code() {
            for path in code.split("crate::").skip(1) {
                let words = match path.strip_prefix('{') {
                    Some(list) => list.split('}').next().unwrap_or_default().split(", ").collect(),
                    None => vec![path],
                };
                for word in words {
                    let first = word.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                    let home = homes.iter().find(|(name, _)| *name == first).map_or(first, |(_, home)| *home);
                    if home != own && modules.contains(home) {
                        imports.entry(own.clone()).or_default().insert(home.to_owned());
                    }
                }
            }
        }
    }
    assert!(imports["run"].contains("assemble") && imports["assemble"].contains("program"), "{imports:?}");
    let mut left = modules;
    while let Some(last) = left.iter().find(|name| imports.get(*name).is_none_or(|of| of.is_disjoint(&left))).cloned() {
        left.remove(&last);
    }
    assert!(left.is_empty(), "{:?}", left.iter().map(|name| (name, &imports[name])).collect::<Vec<_>>());
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Only what is built here has been downloaded: a dependency may have others for other systems.
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let about = String::from_utf8_lossy(&rustc.stdout).into_owned();
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc says for what it builds");
    let arguments = ["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", host];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_files_that_the_architecture_names_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("it is there");
    let sources = sources();
    let mut named = 0;
    for file in text.split('`').filter(|word| word.ends_with(".rs") && !word.contains([' ', '*'])) {
        named += 1;
        let known = |source: &Source| source.path == file || source.path.ends_with(&format!("/{file}"));
        assert!(
            sources.iter().any(known) || root().join(file).exists() || root().join("benches/src").join(file).exists(),
            "{file}"
        );
    }
    assert!(named > 100, "{named}");
}
