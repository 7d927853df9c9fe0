use std::path::Path;

use super::*;
use crate::{Config, Errors, section};

section! {
    /// A module of the tests.
    struct Echo in "modules.echo" {
        /// How often it answers.
        times: crate::Bounded<u32, 1, 9> = crate::Bounded::clamp(1), example 2;
    }
}

const MODULES: &[Module] = &[Module::plain("ping"), Module::of::<Echo>("echo").off()];

fn read(text: &str) -> Result<Config, Errors> {
    Config::read(Path::new(""), text.into(), [], MODULES)
}

/// The default file with every key switched on.
fn uncommented() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    default_file(MODULES).lines().map(on).collect()
}

#[test]
fn the_default_file_configures_the_default() {
    let default = read("").expect("the default");
    assert_eq!(read(&default_file(MODULES)).as_ref(), Ok(&default));
    assert_eq!(read(&uncommented()).as_ref(), Ok(&default));
}

#[test]
fn the_default_file_has_every_key() {
    let text = uncommented();
    let table: toml::Table = text.parse().expect("TOML");
    for key in tables(MODULES).iter().flat_map(|table| table.keys) {
        let section = if key.section.is_empty() { Some(&table) } else { None };
        let section =
            section.or_else(|| key.section.split('.').try_fold(&table, |table, name| table.get(name)?.as_table()));
        match (key.default)() {
            Some(default) => {
                let value = section.and_then(|section| section.get(key.name)).map(toml::Value::to_string);
                assert_eq!(value, Some(default), "{}", key.path());
            }
            None => assert!(text.contains(&format!("# {} = {}\n", key.name, key.example)), "{}", key.path()),
        }
    }
}

#[test]
fn every_example_and_every_default_is_a_value_of_its_key() {
    for key in tables(MODULES).iter().flat_map(|table| table.keys) {
        for value in [Some(key.example.to_owned()), (key.default)()].into_iter().flatten() {
            let section = example_path(key.section);
            let head = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
            let pair = match key.name {
                "certificate" => "key = \"k\"\n",
                "key" => "certificate = \"c\"\n",
                _ => "",
            };
            let text = format!("{head}{pair}{} = {value}\n", key.name);
            read(&text).unwrap_or_else(|errors| panic!("{text}{errors}"));
        }
        assert_ne!((key.default)().as_deref(), Some(key.example), "{} has its default as example", key.path());
    }
}

#[test]
fn every_key_is_described_and_has_its_place() {
    for table in tables(MODULES) {
        assert!(!table.doc.is_empty() && !table.keys.is_empty(), "[{}]", table.path);
        for key in table.keys {
            assert!(key.doc.concat().ends_with('.'), "{}", key.path());
            assert!(key.doc.iter().all(|line| line.len() < 120), "{}", key.path());
            assert_eq!(key.section, table.path);
        }
    }
}

#[test]
fn no_two_keys_share_a_variable() {
    let tables = tables(MODULES);
    let mut variables: Vec<_> = tables.iter().flat_map(|table| table.keys).filter_map(Key::variable).collect();
    let count = variables.len();
    variables.sort();
    variables.dedup();
    assert_eq!(variables.len(), count);
    assert!(variables.contains(&"VORPAL_LISTEN_C2S_TLS".into()) && variables.contains(&"VORPAL_DATA".into()));
}

#[test]
fn a_key_is_explained_with_all_there_is_to_know() {
    assert_eq!(
        explain("limits.login_time", MODULES).expect("a key"),
        "limits.login_time\n  Timeout for logging in, including the TLS handshake.\n  \
         Value:        a period between \"1s\" and \"1h\"\n  Default:      \"30s\"\n  Example:      \"1m\"\n  \
         Variable:     VORPAL_LIMITS_LOGIN_TIME\n  Takes effect: with a reload\n"
    );
    let key = explain("host.\"chat.example.org\".certificate", MODULES).expect("a key of a host");
    assert!(key.starts_with("host.NAME.certificate\n") && !key.contains("Variable"), "{key}");
    let key = explain("host.example.org.modules.echo.times", MODULES).expect("a key of a host's module");
    assert!(key.starts_with("modules.echo.times\n") && key.contains("VORPAL_MODULES_ECHO_TIMES"), "{key}");
    assert!(explain("modules.ping.enabled", MODULES).expect("enabled").starts_with("modules.NAME.enabled\n"));
}

#[test]
fn a_section_is_explained_key_by_key() {
    let text = explain("limits", MODULES).expect("a section");
    assert!(text.starts_with("[limits]\n"));
    for key in Limits::TABLE.keys {
        assert!(text.contains(&format!("\n{}\n", key.path())), "{}", key.name);
    }
    let text = explain("modules", MODULES).expect("the modules");
    assert_eq!(
        text,
        "[modules]\n  ping                 enabled by default\n  echo                 disabled by default\n"
    );
}

#[test]
fn a_key_that_is_not_there_is_told_with_the_nearest_one() {
    for (asked, meant) in [
        ("limits.login-time", "limits.login_time"),
        ("login_tme", "limits.login_time"),
        ("login_bytes", "limits.login_bytes"),
        ("durabilty", "durability"),
    ] {
        let text = explain(asked, MODULES).map_err(|unknown| unknown.to_string());
        assert_eq!(text, Err(format!("there is no key `{asked}`; did you mean `{meant}`?")));
    }
    for asked in ["", "telepathy", "."] {
        let text = explain(asked, MODULES).map_err(|unknown| unknown.to_string());
        assert_eq!(text, Err(format!("there is no key `{asked}`")));
    }
    for asked in ["modules.nothing.enabled", "modules.nothing"] {
        let text = explain(asked, MODULES).map_err(|unknown| unknown.to_string());
        assert_eq!(text, Err(format!("there is no key `{asked}`; the modules are ping, echo")));
    }
}

#[test]
fn a_module_is_explained_with_the_key_that_all_have_and_its_own() {
    let ping = explain("modules.ping", MODULES).expect("a module without keys of its own");
    assert!(ping.starts_with("[modules.ping]\nmodules.ping.enabled\n  Whether the module is enabled."), "{ping}");
    let echo = explain("modules.echo", MODULES).expect("a module with keys");
    let at = |text: &str| echo.find(text).unwrap_or_else(|| panic!("{text}: {echo}"));
    assert!(echo.starts_with("[modules.echo]\n") && at("modules.echo.enabled\n") < at("\nmodules.echo.times\n"));
}

#[test]
fn the_overview_has_a_line_for_each_key() {
    let text = overview(MODULES);
    for key in tables(MODULES).iter().flat_map(|table| table.keys) {
        let path = format!("{} ", key.path());
        assert_eq!(text.lines().filter(|line| line.starts_with(&path)).count(), 1, "{path}: {text}");
    }
    assert!(text.lines().all(|line| line.ends_with(')') && !line.contains("..")), "{text}");
    assert!(text.contains("Timeout for logging in, including the TLS handshake  (default: \"30s\")\n"));
}

#[test]
fn the_page_has_every_key_and_every_variable() {
    let page = markdown(MODULES);
    for key in tables(MODULES).iter().flat_map(|table| table.keys) {
        assert!(page.contains(&format!("### `{}`\n", example_path(&key.path()))), "{}", key.path());
        assert!(key.variable().is_none_or(|variable| page.contains(&format!("- Variable: `{variable}`\n"))));
    }
}

#[test]
fn the_committed_page_is_that_of_the_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let committed = std::fs::read_to_string(&path).expect("docs/config.md");
    // The modules' sections come after the server's.
    assert!(committed.starts_with(&markdown(&[])), "run: UPDATE=1 cargo test -p vorpal pages");
}
