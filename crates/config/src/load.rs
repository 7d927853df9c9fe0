//! Loads the configuration from the file and the environment, and reports all errors in them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::docs::tables;
use crate::error::{At, ConfigError, Errors, Place, Problem, Report, Source};
use crate::keys::{C2S, C2S_TLS, HostKeys, Top, everywhere};
use crate::modules::Sections;
use crate::nearest::nearest;
use crate::scalar::{Base, Scalar, quote};
use crate::table::{Keys, Shape};
use crate::tree::{Branch, Node, Section, Value, insert, parse};
use crate::{
    AbsolutePath, Durability, FilePath, HostName, Limits, Listen, Log, Login, Mechanism, Module, Storage, Tls, Xml,
};

/// Maximum size of the file, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// Maximum number of hosts of one server.
pub const MAX_HOSTS: usize = 1_000;

/// The prefix of the variables of keys.
const PREFIX: &str = "VORPAL_";

/// The variable that names the file.
const FILE_VARIABLE: &str = "VORPAL_CONFIG";

/// The configuration of a server: complete, checked, every path absolute.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The data directory.
    pub data: AbsolutePath,
    /// The socket for the server's commands: `listen.admin`.
    pub admin: AbsolutePath,
    /// What an acknowledged stanza survives.
    pub durability: Durability,
    /// The domains that are served, at least one, none twice, in the order of the file.
    pub hosts: Vec<Host>,
    /// Addresses on which connections are accepted.
    pub listen: Listen,
    /// TLS settings of all hosts. The certificate of a host is in [`Host`].
    pub tls: Tls,
    /// Login settings of all hosts. The mechanisms of a host are in [`Host`].
    pub login: Login,
    /// The log.
    pub log: Log,
    /// Limits for one address, account or connection.
    pub limits: Limits,
    /// XML processing.
    pub xml: Xml,
    /// The disk with the data directory.
    pub storage: Storage,
    /// Variables that begin with `VORPAL_` and belong to no key. They have no effect. Container platforms set such variables for
    /// a service of this name.
    pub unknown_variables: Vec<UnknownVariable>,
    /// The base of relative paths: the directory of the file, or the working directory without a file.
    pub(crate) base: Base,
}

/// An environment variable that looks like that of a key but is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVariable {
    /// Its name.
    pub name: String,
    /// The variable of a key that was probably meant.
    pub meant: Option<String>,
}

/// A domain that is served.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// Its own certificate, or that of all hosts; none if it needs a self-signed one.
    pub certificate: Option<Certificate>,
    /// SASL mechanisms, at least one.
    pub mechanisms: Vec<Mechanism>,
    /// Its enabled modules, in the order of the server's list.
    pub modules: Vec<(&'static str, Section)>,
}

/// The files of a certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, then its chain.
    pub chain: AbsolutePath,
    /// The private key.
    pub key: AbsolutePath,
}

impl Config {
    /// Reads the configuration: the file `path`, else the one that VORPAL_CONFIG names unless that is empty, else none. The
    /// environment overrides the file. Without a file and variables it is the default, localhost on loopback.
    ///
    /// # Errors
    /// All errors at once.
    pub fn load(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        modules: &[Module],
    ) -> Result<Config, Errors> {
        let env: Vec<_> = env.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        let named = env.iter().find(|(name, file)| name == FILE_VARIABLE && !file.is_empty());
        let named = named.map(|(_, file)| PathBuf::from(file));
        let Some(path) = path.map(Path::to_path_buf).or(named) else {
            return Config::read(Path::new(""), String::new(), env, modules);
        };
        let text = read(&path).map_err(|reason| {
            let place = Place::Whole { file: path.display().to_string() };
            Errors::from(ConfigError { place, problem: Problem::Read(reason) })
        })?;
        Config::read(&path, text, env, modules)
    }

    /// The same for a text that was already read. `path` names the file in messages and is the base of relative paths.
    ///
    /// # Errors
    /// All errors at once.
    pub fn read(
        path: &Path,
        text: String,
        env: impl IntoIterator<Item = (String, String)>,
        modules: &[Module],
    ) -> Result<Config, Errors> {
        let base = Base::of(path).map_err(|error| {
            let place = Place::Whole { file: path.display().to_string() };
            let problem =
                Problem::Read(format!("the working directory, the base of relative paths, is not known: {error}"));
            Errors::from(ConfigError { place, problem })
        })?;
        let source = Source::new(path.display().to_string(), text);
        let (mut root, mistakes) = parse(&source);
        let source = Arc::new(source);
        let mut wrong = Report::default();
        let unknown_variables = variables(&mut root, env, modules, &mut wrong);
        let mut reader = ConfigReader { source: Arc::clone(&source), modules, wrong };
        let config = Config { unknown_variables, ..reader.config(root, base) };

        // After a syntax error, keys may appear to be in the wrong section: only errors before it are reported.
        let end = mistakes.iter().filter(|mistake| !mistake.local).map(|mistake| mistake.line()).min();
        let mut told = reader.wrong.into_inner();
        told.retain(|error| match &error.place {
            Place::Line { line, .. } => {
                end.is_none_or(|end| *line < end) && mistakes.iter().all(|mistake| mistake.line() != *line)
            }
            Place::Whole { .. } | Place::Variable { .. } => true,
        });
        told.extend(mistakes.into_iter().map(|mistake| mistake.error));
        Errors::new(told).map_or(Ok(config), Err)
    }

    /// The enabled modules of a host, with their sections; nothing for a host that is not served.
    pub fn modules_of(&self, host: &str) -> impl Iterator<Item = (&'static str, &Section)> {
        let host = self.hosts.iter().find(|served| served.name.as_str() == host);
        host.into_iter().flat_map(|host| &host.modules).map(|(name, section)| (*name, section))
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE) {
        return Err(format!("it is larger than {}", crate::Bytes::new(MAX_FILE)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8")
    })
}

/// Applies the environment over the file. Returns the variables that belong to no key: their names may not have been chosen by
/// the operator, so they are no errors.
fn variables(
    root: &mut Branch,
    env: impl IntoIterator<Item = (String, String)>,
    modules: &[Module],
    wrong: &mut Report,
) -> Vec<UnknownVariable> {
    let ours = |(name, _): &(String, String)| name.starts_with(PREFIX) && name != FILE_VARIABLE;
    let mut env = env.into_iter().filter(ours).peekable();
    let mut unknown = Vec::new();
    if env.peek().is_none() {
        return unknown;
    }
    let mut known: Vec<(String, Vec<&'static str>, Shape)> = Vec::new();
    for key in tables(&[]).iter().flat_map(|table| table.keys) {
        if let Some(variable) = key.variable() {
            let section = Some(key.section).filter(|section| !section.is_empty());
            known.push((variable, section.into_iter().chain([key.name]).collect(), key.shape));
        }
    }
    known.extend(modules.iter().flat_map(Module::variables).map(|(name, path, shape)| (name, path.to_vec(), shape)));

    for (name, text) in env {
        let mut report = |problem| {
            wrong.push(Place::Variable { name: name.clone() }, problem);
        };
        let Some((_, path, shape)) = known.iter().find(|(variable, ..)| *variable == name) else {
            // Without the common prefix, which would make any two of them similar.
            let rest = |name| str::strip_prefix(name, PREFIX).unwrap_or(name);
            let meant = nearest(rest(&name), known.iter().map(|(variable, ..)| rest(variable)));
            let meant = meant.map(|meant| format!("{PREFIX}{meant}"));
            unknown.push(UnknownVariable { name, meant });
            continue;
        };
        let at = At::Variable(name.as_str().into());
        match variable(&at, *shape, &text) {
            Some(value) => insert(root, path, Node { key_at: at.clone(), at, value }),
            None => {
                let expected = if *shape == Shape::Integer { "a whole number" } else { "true or false" };
                let message = format!("has to be {expected}, not {}", quote(&text));
                report(Problem::Value { key: path.join("."), message });
            }
        }
    }
    unknown.sort_by(|a, b| a.name.cmp(&b.name));
    unknown
}

fn variable(at: &At, shape: Shape, text: &str) -> Option<Value> {
    let node = |text: &str| Node { key_at: at.clone(), at: at.clone(), value: Value::Text(text.into()) };
    match shape {
        Shape::Text => Some(Value::Text(text.into())),
        Shape::Integer => text.parse().ok().map(Value::Integer),
        Shape::Boolean => text.parse().ok().map(Value::Boolean),
        Shape::List if text.trim().is_empty() => Some(Value::List(Vec::new())),
        Shape::List => Some(Value::List(text.split(',').map(|item| node(item.trim())).collect())),
    }
}

/// The state while one file is read, with the errors so far.
struct ConfigReader<'a> {
    source: Arc<Source>,
    modules: &'a [Module],
    wrong: Report,
}

impl ConfigReader<'_> {
    /// Reads everything. An invalid value is replaced by its default, so that the rest can be checked.
    fn config(&mut self, mut root: Branch, base: Base) -> Config {
        let source = Arc::clone(&self.source);
        let all = Sections::read("modules", root.remove("modules"), self.modules, &source, &mut self.wrong);
        let own = self.host_sections(root.remove("host"));
        let given_listen = self.section_of("listen", &mut root);
        let given_tls = self.section_of("tls", &mut root);
        let given = |key| given_listen.keys.contains_key(key);

        let mut listen: Listen = self.values(&given_listen);
        let tls: Tls = self.values(&given_tls);
        let given_login = self.section_of("login", &mut root);
        let login: Login = self.values(&given_login);
        self.check_mechanisms(&given_login, &login.mechanisms);
        let log: Log = self.section(&mut root);
        let limits: Limits = self.section(&mut root);
        let storage: Storage = self.section(&mut root);
        let xml: Xml = self.section(&mut root);
        self.unknown_at_top(&mut root);
        let top_section = Section { path: String::new(), keys: root, at: None, source: Arc::clone(&source) };
        let before = self.wrong.len();
        let top: Top = self.values(&top_section);
        let understood = self.wrong.len() == before && top.hosts.len() <= MAX_HOSTS;
        let listed = top_section.keys.get("hosts").map(|node| (node, understood));
        if let Some(node) = listed.map(|(node, _)| node).filter(|_| top.hosts.len() > MAX_HOSTS) {
            self.value_error(&node.at, "hosts".into(), format!("has to name at most {MAX_HOSTS} hosts"));
        }

        let data = top.data.under(&base);
        if listed.is_some() || !own.is_empty() {
            for (key, addresses, port) in [("c2s", &mut listen.c2s, C2S), ("c2s_tls", &mut listen.c2s_tls, C2S_TLS)] {
                if !given(key) {
                    *addresses = everywhere(port);
                }
            }
        }
        if !given("admin") {
            listen.admin = top.data.join("admin.sock");
        }
        let admin = listen.admin.under(&base);
        let shared = self.certificate(&given_tls, tls.certificate.as_ref(), tls.key.as_ref(), &base);

        let names = match listed {
            Some((node, true)) => {
                self.check_list(node, &top.hosts);
                self.check_listed(&own, &top.hosts);
                top.hosts
            }
            // The list is invalid: the hosts with sections can still be checked.
            _ if own.is_empty() => vec![HostName::localhost()],
            _ => own.iter().map(|host| host.name.clone()).collect(),
        };
        let nothing = Sections::default();
        let hosts = names.into_iter().map(|name| {
            let own = own.iter().find(|own| own.name == name);
            let certificate = own.and_then(|own| {
                self.certificate(&own.section, own.keys.certificate.as_ref(), own.keys.key.as_ref(), &base)
            });
            let mechanisms = own.and_then(|own| {
                let mechanisms = own.keys.mechanisms.clone()?;
                self.check_mechanisms(&own.section, &mechanisms);
                Some(mechanisms)
            });
            let mechanisms = mechanisms.unwrap_or_else(|| login.mechanisms.clone());
            let own = own.map_or(&nothing, |own| &own.modules);
            let modules = all.resolve(own, self.modules, &source, &mut self.wrong);
            Host { name, certificate: certificate.or_else(|| shared.clone()), mechanisms, modules }
        });
        let hosts = hosts.collect();
        Config {
            data,
            admin,
            durability: top.durability,
            hosts,
            listen,
            tls,
            login,
            log,
            limits,
            storage,
            xml,
            unknown_variables: Vec::new(),
            base,
        }
    }

    /// Takes a section out of the file; an empty one if it does not exist or is not a table.
    fn section_of(&mut self, path: &str, root: &mut Branch) -> Section {
        let mut section =
            Section { path: path.into(), keys: Branch::new(), at: None, source: Arc::clone(&self.source) };
        match root.remove(path) {
            Some(Node { value: Value::Table(keys), at, .. }) => (section.keys, section.at) = (keys, Some(at)),
            Some(other) => self.value_error(&other.at, path.into(), format!("has to be a section: [{path}]")),
            None => {}
        }
        section
    }

    fn section<T: Keys>(&mut self, root: &mut Branch) -> T {
        let section = self.section_of(T::TABLE.path, root);
        self.values(&section)
    }

    fn values<T: Keys>(&mut self, section: &Section) -> T {
        section.read().unwrap_or_else(|wrong| {
            self.wrong.extend(wrong.into_iter().map(|mut error| {
                if let Problem::Unknown { what: "key", name, meant: meant @ None } = &mut error.problem {
                    *meant = elsewhere(name.rsplit('.').next().unwrap_or_default());
                }
                error
            }));
            T::default()
        })
    }

    /// Reports what is neither a top-level key nor a section.
    fn unknown_at_top(&mut self, root: &mut Branch) {
        let known = Top::TABLE.keys.iter().map(|key| key.name);
        let sections = tables(&[]).into_iter().map(|table| table.path.split('.').next().unwrap_or_default());
        let known: Vec<&str> = known.chain(sections).filter(|name| !name.is_empty()).collect();
        root.retain(|name, node| {
            if known.contains(&name.as_str()) {
                return true;
            }
            let what = if matches!(node.value, Value::Table(_)) { "section" } else { "key" };
            let meant = nearest(name, known.iter().copied()).map(Into::into).or_else(|| elsewhere(name));
            let problem = Problem::Unknown { what, name: name.clone(), meant };
            self.wrong.push(self.source.place(&node.key_at), problem);
            false
        });
    }

    /// Reads the sections of `[host]`, in the order of the file.
    fn host_sections(&mut self, node: Option<Node>) -> Vec<HostSection> {
        let mut hosts: Vec<HostSection> = Vec::new();
        let Some(node) = node else { return hosts };
        let Value::Table(table) = node.value else {
            let message = "has to be a section for each host: [host.\"example.org\"]";
            self.value_error(&node.at, "host".into(), message.into());
            return hosts;
        };
        if table.len() > MAX_HOSTS {
            self.value_error(&node.at, "host".into(), format!("has to have at most {MAX_HOSTS} sections"));
            return hosts;
        }
        for (text, node) in table {
            let path = format!("host.{}", quote(&text));
            let name = match HostName::from_text(&text) {
                Ok(name) => name,
                Err(message) => {
                    self.value_error(&node.key_at, path, message);
                    continue;
                }
            };
            let Value::Table(mut keys) = node.value else {
                let message = format!("has to be a section: [{path}]");
                self.value_error(&node.at, path, message);
                continue;
            };
            if hosts.iter().any(|host| host.name == name) {
                let place = self.source.place(&node.key_at);
                self.wrong.push(place, Problem::Duplicate { key: path });
                continue;
            }
            let modules = keys.remove("modules");
            let modules =
                Sections::read(&format!("{path}.modules"), modules, self.modules, &self.source, &mut self.wrong);
            let section = Section { path, keys, at: Some(node.at), source: Arc::clone(&self.source) };
            hosts.push(HostSection { name, key_at: node.key_at, keys: self.values(&section), section, modules });
        }
        hosts.sort_by_key(|host| if let At::File(span) = &host.key_at { span.start } else { 0 });
        hosts
    }

    /// Checks that the list of hosts names at least one host, and none twice.
    fn check_list(&mut self, node: &Node, hosts: &[HostName]) {
        if hosts.is_empty() {
            self.value_error(&node.at, "hosts".into(), "has to name at least one host".into());
        }
        let Value::List(items) = &node.value else { return };
        for (index, (name, item)) in hosts.iter().zip(items).enumerate() {
            if hosts.iter().take(index).any(|other| other == name) {
                self.value_error(&item.at, "hosts".into(), format!("names {} twice", quote(name.as_str())));
            }
        }
    }

    /// Checks that every host with a section is in the list.
    fn check_listed(&mut self, own: &[HostSection], hosts: &[HostName]) {
        for host in own.iter().filter(|host| !hosts.contains(&host.name)) {
            let name = host.name.as_str();
            let problem = match nearest(name, hosts.iter().map(HostName::as_str)) {
                Some(meant) => Problem::Unknown { what: "host", name: name.into(), meant: Some(meant.into()) },
                None => Problem::Value { key: host.section.path.clone(), message: "is not listed in `hosts`".into() },
            };
            self.wrong.push(self.source.place(&host.key_at), problem);
        }
    }

    /// Checks that there is at least one mechanism.
    fn check_mechanisms(&mut self, section: &Section, mechanisms: &[Mechanism]) {
        if mechanisms.is_empty() {
            self.wrong.extend([section.error("mechanisms", "has to name at least one")]);
        }
    }

    /// A certificate and its key, which must be given together.
    fn certificate(
        &mut self,
        section: &Section,
        chain: Option<&FilePath>,
        key: Option<&FilePath>,
        base: &Base,
    ) -> Option<Certificate> {
        let (given, missing) = match (chain, key) {
            (Some(chain), Some(key)) => return Some(Certificate { chain: chain.under(base), key: key.under(base) }),
            (None, None) => return None,
            (Some(_), None) => ("certificate", "key"),
            (None, Some(_)) => ("key", "certificate"),
        };
        // If the other is given and invalid, that is already reported.
        if !section.keys.contains_key(missing) {
            let message = format!("needs `{missing}` as well");
            self.wrong.extend([section.error(given, message)]);
        }
        None
    }

    fn value_error(&mut self, at: &At, key: String, message: String) {
        self.wrong.push(self.source.place(at), Problem::Value { key, message });
    }
}

/// `[host."…"]`.
struct HostSection {
    name: HostName,
    key_at: At,
    keys: HostKeys,
    section: Section,
    modules: Sections,
}

/// The key of this name in another section: it is probably below the wrong heading.
fn elsewhere(name: &str) -> Option<String> {
    let tables = tables(&[]);
    let mut keys = tables.iter().flat_map(|table| table.keys);
    keys.find(|key| key.name == name && key.variable().is_some()).map(|key| key.path())
}

#[cfg(test)]
mod tests;
