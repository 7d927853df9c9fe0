//! The documentation of the keys: `config explain`, the default file, and the page of all keys.

use std::fmt::Write;

use crate::keys::{HostKeys, ModuleKeys, Top};
use crate::nearest::nearest;
use crate::table::{Key, Keys, Table};
use crate::{Limits, Listen, Log, Login, Module, Storage, Tls, Xml};

/// The description of the file format, at the head of the page and of the default file.
const INTRODUCTION: &[&str] = &[
    "Every key is optional, and so is the file: without it the server serves localhost, on loopback, with a self-signed",
    "certificate. Unknown keys and invalid values are errors. All errors are reported at once, up to a hundred, with line",
    "numbers.",
    "",
    "Periods have a unit: \"90s\", \"10m\", \"7d\" or \"1h 30m\" (ms, s, m, h, d). So have sizes: \"10 KiB\" or \"100 MB\" (B, KB,",
    "KiB, MB, MiB, GB, GiB, TB, TiB), and rates: \"50 KB/s\" or \"5/min\" (s, min, h, d).",
    "Relative paths are relative to the directory of the file; without a file, to the working directory.",
    "",
    "An environment variable overrides its key. Its name is VORPAL_ and the path in capitals: VORPAL_LIMITS_LOGIN_TIME for",
    "limits.login_time. Items of a list are separated by commas. VORPAL_CONFIG is the path of the file; without it and",
    "without -c the file is /etc/vorpal/vorpal.toml, if it exists. An empty VORPAL_CONFIG means no file.",
];

/// No key or section of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no key `{name}`{}{}", asks(meant.as_deref()), lists(modules))]
pub struct Unknown {
    /// The name that was requested.
    pub name: String,
    /// What was probably meant.
    pub meant: Option<String>,
    /// The existing modules, if a module was requested.
    pub modules: Vec<&'static str>,
}

fn asks(meant: Option<&str>) -> String {
    meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"))
}

fn lists(modules: &[&str]) -> String {
    if modules.is_empty() { String::new() } else { format!("; the modules are {}", modules.join(", ")) }
}

/// All sections: the server's in the order of the file, then those of the modules that have keys.
pub(crate) fn tables(modules: &[Module]) -> Vec<Table> {
    let server =
        [Top::TABLE, Listen::TABLE, Tls::TABLE, Login::TABLE, Log::TABLE, Limits::TABLE, Storage::TABLE, Xml::TABLE];
    let many = [HostKeys::TABLE, ModuleKeys::TABLE];
    server.into_iter().chain(many).chain(modules.iter().filter_map(|module| module.table().copied())).collect()
}

/// All keys, one line each: the path, the default, and the first sentence of the description.
pub fn overview(modules: &[Module]) -> String {
    let mut text = String::new();
    for key in tables(modules).iter().flat_map(|table| table.keys) {
        let default = (key.default)().unwrap_or_else(|| "not set".into());
        let _ = writeln!(text, "{:<34} {}  (default: {default})", key.path(), first_sentence(key.doc));
    }
    text
}

/// The first sentence of a description, without its full stop.
fn first_sentence(doc: &[&str]) -> String {
    let whole = lines(doc).take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let end = whole.find(". ").unwrap_or(whole.len());
    whole.get(..end).unwrap_or_default().trim_end_matches('.').to_owned()
}

/// Explains a key, all keys of a section, a module (`modules.mam`), or which modules there are (`modules`).
///
/// # Errors
/// There is no such key. Suggests the one that was probably meant.
pub fn explain(key: &str, modules: &[Module]) -> Result<String, Unknown> {
    let asked = general(key);
    let tables = tables(modules);
    if asked == "modules" {
        return Ok(module_list(modules));
    }
    let is_module = |name: &str| modules.iter().any(|module| module.name() == name);
    let name = asked.strip_prefix("modules.").filter(|name| is_module(name));
    let table = tables.iter().find(|table| table.path == asked && !asked.is_empty());
    if table.is_some() || name.is_some() {
        let (doc, own) = table.map_or((String::new(), &[][..]), |table| (indented(table.doc) + "\n", table.keys));
        // Every module can be disabled.
        let general = name
            .iter()
            .flat_map(|name| ModuleKeys::TABLE.keys.iter().map(|key| explain_key(key).replacen("NAME", name, 1)));
        let keys: Vec<String> = general.chain(own.iter().map(explain_key)).collect();
        return Ok(format!("[{asked}]\n{doc}{}", keys.join("\n")));
    }
    let mut keys = tables.iter().flat_map(|table| table.keys);
    if let Some(key) = keys.find(|key| key.path() == asked) {
        return Ok(explain_key(key));
    }
    // A module of its own keys or none: `enabled` is explained once for all.
    let of_module = asked.strip_prefix("modules.").and_then(|rest| rest.split_once('.'));
    if let Some((name, "enabled")) = of_module
        && is_module(name)
    {
        return Ok(ModuleKeys::TABLE.keys.iter().map(explain_key).collect());
    }
    let all = tables.iter().flat_map(|table| table.keys).map(Key::path);
    let paths: Vec<String> = all.filter(|path| !path.contains(".NAME")).collect();
    let whole = nearest(&asked, paths.iter().map(String::as_str));
    // The bare name of a key, as it stands in its section.
    let name = |path: &'_ String| path.rsplit('.').next().unwrap_or_default().to_owned();
    let names: Vec<String> = paths.iter().map(name).collect();
    let bare = nearest(&asked, names.iter().map(String::as_str));
    let meant = whole.or_else(|| paths.iter().find(|path| Some(name(path).as_str()) == bare).map(String::as_str));
    let modules = if asked.starts_with("modules.") { modules.iter().map(Module::name).collect() } else { Vec::new() };
    Err(Unknown { name: key.into(), meant: meant.map(Into::into), modules })
}

/// The path with the name of a host taken out: `host."example.org".key` is `host.NAME.key`.
fn general(key: &str) -> String {
    let Some(rest) = key.strip_prefix("host.") else { return key.into() };
    if let Some((_, module)) = rest.split_once(".modules.") {
        return format!("modules.{module}");
    }
    let keys = HostKeys::TABLE.keys.iter().map(|key| key.name);
    keys.into_iter()
        .find(|name| rest.rsplit_once('.').is_some_and(|(_, last)| last == *name))
        .map_or_else(|| "host.NAME".into(), |name| format!("host.NAME.{name}"))
}

fn module_list(modules: &[Module]) -> String {
    let mut text = String::from("[modules]\n");
    for module in modules {
        let state = if module.is_on() { "enabled by default" } else { "disabled by default" };
        let _ = writeln!(text, "  {:<20} {state}", module.name());
    }
    text
}

fn explain_key(key: &Key) -> String {
    let mut text = format!("{}\n{}", key.path(), indented(key.doc));
    for (name, value) in facts(key) {
        let _ = writeln!(text, "  {:<13} {value}", format!("{name}:"));
    }
    text
}

/// The properties of a key other than its description.
fn facts(key: &Key) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("Value", (key.expected)()),
        ("Default", (key.default)().unwrap_or_else(|| "not set".into())),
        ("Example", key.example.into()),
    ];
    facts.extend(key.variable().map(|variable| ("Variable", variable)));
    let takes = if key.restart { "with a restart" } else { "with a reload" };
    facts.push(("Takes effect", takes.into()));
    facts
}

fn lines<'a>(doc: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    doc.iter().map(|line| line.trim())
}

fn indented(doc: &[&str]) -> String {
    let indented = lines(doc).map(|line| if line.is_empty() { "\n".into() } else { format!("  {line}\n") });
    indented.collect()
}

/// A file of all keys with their defaults and descriptions. The keys are commented out, so that a new default of a later
/// version also takes effect where this file is used.
pub fn default_file(modules: &[Module]) -> String {
    let mut text = String::from("# The configuration of vorpal. To set a key, remove the # before it.\n#\n");
    text.push_str(&comment(INTRODUCTION));
    for table in tables(modules) {
        text.push('\n');
        // One section of many is an example, and so is everything in it.
        let many = table.path.contains("NAME");
        if !table.path.is_empty() && !many {
            let _ = writeln!(text, "[{}]", table.path);
        }
        text.push_str(&comment(table.doc));
        if many {
            let _ = writeln!(text, "#\n# [{}]", example_path(table.path));
        }
        for key in table.keys {
            text.push_str(if many { "#\n" } else { "\n" });
            text.push_str(&comment(key.doc));
            if !many {
                let _ = writeln!(text, "# Value: {}.", (key.expected)());
            }
            let _ = match (key.default)() {
                Some(default) if !many => writeln!(text, "#{} = {default}", key.name),
                _ => writeln!(text, "# {} = {}", key.name, key.example),
            };
        }
    }
    text
}

fn comment(doc: &[&str]) -> String {
    lines(doc).map(|line| if line.is_empty() { "#\n".into() } else { format!("# {line}\n") }).collect()
}

fn example_path(path: &str) -> String {
    path.replace("host.NAME", "host.\"example.org\"").replace("modules.NAME", "modules.ping")
}

/// The page of all keys, in Markdown: `docs/config.md`.
pub fn markdown(modules: &[Module]) -> String {
    let mut text = String::from("# Configuration\n\n<!-- Generated from the table of keys. Do not edit. -->\n\n");
    text.push_str(&paragraphs(INTRODUCTION));
    for table in tables(modules) {
        let path = example_path(table.path);
        let head = if path.is_empty() { "Top of the file".into() } else { format!("`[{path}]`") };
        let _ = write!(text, "\n## {head}\n\n{}", paragraphs(table.doc));
        for key in table.keys {
            let _ = write!(text, "\n### `{}`\n\n{}\n", crate::table::join(&path, key.name), paragraphs(key.doc));
            for (name, value) in facts(key) {
                let code = matches!(name, "Default" | "Example" | "Variable") && value != "not set";
                let value = if code { format!("`{value}`") } else { value };
                let _ = writeln!(text, "- {name}: {value}");
            }
        }
    }
    text
}

fn paragraphs(doc: &[&str]) -> String {
    lines(doc).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests;
