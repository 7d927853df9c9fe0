//! The sections of modules: which modules exist, whether they are enabled, and how a host overrides the common section.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{At, ConfigError, Problem, Report, Source};
use crate::nearest::nearest;
use crate::table::{Keys, Shape, Table};
use crate::tree::{Branch, Node, Section, Value, merge};

/// A module as the configuration knows it.
#[derive(Clone, Copy)]
pub struct Module {
    name: &'static str,
    on: bool,
    table: Option<Table>,
    check: fn(&Section) -> Result<(), Vec<ConfigError>>,
}

impl Module {
    /// A module without keys of its own: its section takes `enabled` and nothing else.
    pub const fn plain(name: &'static str) -> Module {
        Module { name, on: true, table: None, check: nothing }
    }

    /// A module that reads its section itself. The check gets the section of each host, without `enabled`.
    pub const fn with(name: &'static str, check: fn(&Section) -> Result<(), Vec<ConfigError>>) -> Module {
        Module { name, on: true, table: None, check }
    }

    /// A module whose section [`section!`](crate::section) declares: known to the documentation and the environment.
    ///
    /// The section's path is `modules.` and the name of the module.
    pub const fn of<T: Keys>(name: &'static str) -> Module {
        Module { name, on: true, table: Some(T::TABLE), check: |section| section.read::<T>().map(drop) }
    }

    /// The same, disabled by default.
    #[must_use]
    pub const fn off(self) -> Module {
        Module { on: false, ..self }
    }

    /// The name of the module and of its section.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it is enabled by default.
    pub const fn is_on(&self) -> bool {
        self.on
    }

    /// Its keys, if they are known.
    pub const fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// The variables of its keys, with the path each one sets.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (String, [&'static str; 3], Shape)> {
        let keys = self.table.map_or(&[][..], |table| table.keys).iter().map(|key| (key.name, key.shape));
        let name = self.name;
        keys.chain([("enabled", Shape::Boolean)]).map(move |(key, shape)| {
            (format!("VORPAL_MODULES_{name}_{key}").to_ascii_uppercase(), ["modules", name, key], shape)
        })
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("name", &self.name).field("on", &self.on).finish_non_exhaustive()
    }
}

/// Compared by name: a server's list never has two modules of one name.
impl PartialEq for Module {
    fn eq(&self, other: &Module) -> bool {
        self.name == other.name
    }
}

fn nothing(section: &Section) -> Result<(), Vec<ConfigError>> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    section.read::<Nothing>().map(|Nothing {}| ())
}

/// The content of `[modules]`, for all hosts or for one.
#[derive(Default)]
pub(crate) struct Sections(BTreeMap<String, Part>);

struct Part {
    at: At,
    enabled: Option<bool>,
    keys: Branch,
}

impl Sections {
    /// Reads `[modules]`. `path` is its path in the file.
    pub fn read(path: &str, node: Option<Node>, known: &[Module], source: &Source, errors: &mut Report) -> Sections {
        let mut sections = Sections::default();
        let Some(node) = node else { return sections };
        let mut report = |at: &At, problem| errors.push(source.place(at), problem);
        let wrong = |key, message: &str| Problem::Value { key, message: message.into() };
        let Value::Table(table) = node.value else {
            report(&node.at, wrong(path.into(), "has to be a table, such as [modules.ping]"));
            return sections;
        };
        for (name, node) in table {
            if !known.iter().any(|module| module.name == name) {
                let meant = nearest(&name, known.iter().map(|module| module.name)).map(Into::into);
                report(&node.key_at, Problem::Unknown { what: "module", name, meant });
                continue;
            }
            let Value::Table(mut keys) = node.value else {
                report(&node.at, wrong(format!("{path}.{name}"), "has to be a table, with its keys below"));
                continue;
            };
            let enabled = match keys.remove("enabled") {
                None => None,
                Some(Node { value: Value::Boolean(enabled), .. }) => Some(enabled),
                Some(other) => {
                    report(&other.at, wrong(format!("{path}.{name}.enabled"), "has to be true or false"));
                    None
                }
            };
            sections.0.insert(name, Part { at: node.at, enabled, keys });
        }
        sections
    }

    /// The modules of a host with the sections they read: the host's own keys, `own`, override those of all hosts.
    ///
    /// Sections of disabled modules are checked as well.
    pub fn resolve(
        &self,
        own: &Sections,
        known: &[Module],
        source: &Arc<Source>,
        errors: &mut Report,
    ) -> Vec<(&'static str, Section)> {
        let mut resolved = Vec::new();
        let empty = Branch::new();
        for module in known {
            let (all, own) = (self.0.get(module.name), own.0.get(module.name));
            let section = Section {
                path: format!("modules.{}", module.name),
                keys: merge(all.map_or(&empty, |part| &part.keys), own.map_or(&empty, |part| &part.keys)),
                at: own.or(all).map(|part| part.at.clone()),
                source: Arc::clone(source),
            };
            let enabled = own.and_then(|part| part.enabled).or(all.and_then(|part| part.enabled));
            let enabled = enabled.unwrap_or(module.on);
            // A disabled module without a section may lack required keys.
            if (enabled || all.is_some() || own.is_some())
                && let Err(wrong) = (module.check)(&section)
            {
                errors.extend(wrong);
            }
            if enabled {
                resolved.push((module.name, section));
            }
        }
        resolved
    }
}
