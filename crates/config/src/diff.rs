//! What a reload changes, and which changes need a restart.

use std::collections::BTreeMap;
use std::fmt;

use crate::keys::{Listen, Tls, Top};
use crate::load::{Certificate, Config, Host};
use crate::scalar::{FilePath, quote};
use crate::table::{Keys, Setting};
use crate::tree::Section;

/// One key whose value has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path of the key, or of a module's section.
    pub key: String,
    /// The old value, in TOML; `None` if it was not set, or the module was disabled.
    pub from: Option<String>,
    /// The new value, likewise.
    pub to: Option<String>,
    /// Whether it takes effect only with a restart.
    pub needs_restart: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
        let restart = if self.needs_restart { " (needs a restart)" } else { "" };
        write!(f, "{}: {} -> {}{restart}", self.key, show(&self.from), show(&self.to))
    }
}

impl Config {
    /// The differences to `new`: keys in the order of their paths, then certificates and modules host by host.
    ///
    /// A module's section that changed in the same way for all remaining hosts is listed once.
    pub fn diff(&self, new: &Config) -> Vec<Change> {
        let mut changes = Vec::new();
        let after = new.by_path();
        for (key, (from, needs_restart)) in self.by_path() {
            let to = after.get(&key).and_then(|(to, _)| to.clone());
            if from != to {
                changes.push(Change { key, from, to, needs_restart });
            }
        }
        let pairs =
            self.hosts.iter().filter_map(|old| Some((old, new.hosts.iter().find(|host| host.name == old.name)?)));
        let pairs: Vec<(&Host, &Host)> = pairs.collect();
        for (old, host) in &pairs {
            let shared = old.certificate == self.shared() && host.certificate == new.shared();
            if old.certificate != host.certificate && !shared {
                let files = |host: &Host| host.certificate.as_ref().map(|files| quote(&files.chain.to_string_lossy()));
                let key = format!("host.{}.certificate", quote(host.name.as_str()));
                changes.push(Change { key, from: files(old), to: files(host), needs_restart: false });
            }
            let shared = old.mechanisms == self.login.mechanisms && host.mechanisms == new.login.mechanisms;
            if old.mechanisms != host.mechanisms && !shared {
                let key = format!("host.{}.mechanisms", quote(host.name.as_str()));
                let (from, to) = (old.mechanisms.to_toml(), host.mechanisms.to_toml());
                changes.push(Change { key, from, to, needs_restart: false });
            }
        }
        changes.extend(modules(&pairs));
        changes
    }

    /// The configuration in effect after a reload of `new`: all of it except keys that need a restart.
    pub fn reloaded(&self, new: Config) -> Config {
        let log = crate::Log { format: self.log.format, ..new.log };
        let (data, admin, listen) = (self.data.clone(), self.admin.clone(), self.listen.clone());
        Config { data, admin, durability: self.durability, listen, log, ..new }
    }

    fn shared(&self) -> Option<Certificate> {
        let (chain, key) = (self.tls.certificate.as_ref()?, self.tls.key.as_ref()?);
        Some(Certificate { chain: chain.under(&self.base), key: key.under(&self.base) })
    }

    /// The keys of the server, by path: the value in TOML, with absolute paths, and whether a change needs a restart.
    fn by_path(&self) -> BTreeMap<String, (Option<String>, bool)> {
        fn add<T: Keys>(values: &T, all: &mut BTreeMap<String, (Option<String>, bool)>) {
            let keys = T::TABLE.keys.iter().zip(values.values());
            all.extend(keys.map(|(key, value)| (key.path(), (value, key.restart))));
        }
        let hosts = self.hosts.iter().map(|host| host.name.clone()).collect();
        let mut all = BTreeMap::new();
        let file = |path: &Option<FilePath>| path.as_ref().map(|path| FilePath::from(&path.under(&self.base)));
        let (certificate, key) = (file(&self.tls.certificate), file(&self.tls.key));
        add(&Top { data: (&self.data).into(), durability: self.durability, hosts }, &mut all);
        add(&Listen { admin: (&self.admin).into(), ..self.listen.clone() }, &mut all);
        add(&Tls { certificate, key, ..self.tls.clone() }, &mut all);
        add(&self.login, &mut all);
        add(&self.log, &mut all);
        add(&self.limits, &mut all);
        add(&self.storage, &mut all);
        add(&self.xml, &mut all);
        all
    }
}

type Values<'a> = Option<&'a Section>;

fn modules(pairs: &[(&Host, &Host)]) -> Vec<Change> {
    let mut by_module: BTreeMap<&str, Vec<(&Host, Values<'_>, Values<'_>)>> = BTreeMap::new();
    for (old, new) in pairs {
        let names = old.modules.iter().chain(&new.modules).map(|(name, _)| *name);
        for name in names.collect::<std::collections::BTreeSet<_>>() {
            let from = old.modules.iter().find(|(other, _)| *other == name).map(|(_, section)| section);
            let to = new.modules.iter().find(|(other, _)| *other == name).map(|(_, section)| section);
            if from != to {
                by_module.entry(name).or_default().push((new, from, to));
            }
        }
    }
    let mut changes = Vec::new();
    for (name, hosts) in by_module {
        let change = |key, from: Values<'_>, to: Values<'_>| {
            let text = |section: Values<'_>| section.map(|section| toml::Value::Table(section.table()).to_string());
            Change { key, from: text(from), to: text(to), needs_restart: false }
        };
        let alike = hosts.windows(2).all(|pair| matches!(pair, [a, b] if (a.1, a.2) == (b.1, b.2)));
        match hosts.first() {
            Some((_, from, to)) if alike && hosts.len() == pairs.len() => {
                changes.push(change(format!("modules.{name}"), *from, *to));
            }
            _ => changes.extend(hosts.iter().map(|(host, from, to)| {
                change(format!("host.{}.modules.{name}", quote(host.name.as_str())), *from, *to)
            })),
        }
    }
    changes
}

#[cfg(test)]
mod tests;
