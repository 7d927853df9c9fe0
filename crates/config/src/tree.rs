//! The file as a tree in which every key and value knows where it was written.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{At, ConfigError, MAX_ERRORS, Place, Problem, Source};
use crate::scalar::excerpt;
use crate::table::join;

/// A value and its place. Equal to another with the same value, wherever that was written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where the key is written, or the item of a list.
    pub key_at: At,
    /// Where the value is written; for `[section]`, its heading.
    pub at: At,
    pub value: Value,
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.value == other.value
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A date or a time, which no key takes; as it is written.
    Date(toml::value::Datetime),
    /// A number beyond 64 bits, as it is written.
    Huge(String),
    List(Vec<Node>),
    Table(Branch),
}

/// The keys of a table.
pub(crate) type Branch = BTreeMap<String, Node>;

/// One step on the way to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Item(usize),
}

/// The tree of a TOML text, as far as it can be parsed, and the errors.
///
/// The errors are in the order of the file, at most a hundred.
pub(crate) fn parse(source: &Source) -> (Branch, Vec<Mistake>) {
    let (root, mut errors) = DeTable::parse_recoverable(&source.text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    errors.truncate(MAX_ERRORS);
    (branch(root.into_inner()), errors.iter().map(|error| Mistake::new(error, source)).collect())
}

/// A parser error, and whether the tree after it can be trusted.
pub(crate) struct Mistake {
    pub error: ConfigError,
    /// The structure is valid: only this value, or the second of two, is an error.
    pub local: bool,
}

impl Mistake {
    /// The line in which it is.
    pub fn line(&self) -> usize {
        if let Place::Line { line, .. } = self.error.place { line } else { 0 }
    }

    fn new(error: &toml::de::Error, source: &Source) -> Mistake {
        let span = error.span().unwrap_or(0..0);
        let text = source.text.get(span.clone()).unwrap_or_default();
        let near = excerpt(source.line(span.start));
        let (problem, local) = match error.message() {
            "duplicate key" => (Problem::Duplicate { key: text.into() }, true),
            message if message.starts_with("string values must be quoted") => {
                (Problem::Syntax { near, message: "text has to be in quotes".into() }, !text.is_empty())
            }
            message => (Problem::Syntax { near, message: message.into() }, false),
        };
        Mistake { error: ConfigError { place: source.place(&At::File(span)), problem }, local }
    }
}

fn branch(table: DeTable<'_>) -> Branch {
    let entry = |(key, value): (Spanned<std::borrow::Cow<'_, str>>, _)| {
        let key_at = At::File(key.span());
        (key.into_inner().into_owned(), node(key_at, value))
    };
    table.into_iter().map(entry).collect()
}

fn node(key_at: At, value: Spanned<DeValue<'_>>) -> Node {
    let at = At::File(value.span());
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::Huge(number.to_string()), Value::Integer),
        DeValue::Float(number) => {
            number.as_str().parse().map_or_else(|_| Value::Huge(number.to_string()), Value::Float)
        }
        DeValue::Boolean(truth) => Value::Boolean(truth),
        DeValue::Datetime(date) => Value::Date(date),
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| node(At::File(item.span()), item)).collect()),
        DeValue::Table(table) => Value::Table(branch(table)),
    };
    Node { key_at, at, value }
}

/// Sets the value at the path, replacing the existing one. Does nothing if the path leads through a value that is not a table:
/// that error of the file is reported anyway.
pub(crate) fn insert(root: &mut Branch, path: &[&str], node: Node) {
    match path {
        [] => {}
        [name] => {
            root.insert((*name).into(), node);
        }
        [section, rest @ ..] => {
            let empty =
                || Node { key_at: node.key_at.clone(), at: node.at.clone(), value: Value::Table(Branch::new()) };
            let section = root.entry((*section).into()).or_insert_with(empty);
            if let Value::Table(table) = &mut section.value {
                insert(table, rest, node);
            }
        }
    }
}

/// Removes the node at the path. Returns whether there was one.
pub(crate) fn remove(root: &mut Branch, path: &[Step]) -> bool {
    match path {
        [Step::Key(name)] => root.remove(name).is_some(),
        [Step::Key(name), rest @ ..] => root.get_mut(name).is_some_and(|node| remove_below(&mut node.value, rest)),
        _ => false,
    }
}

fn remove_below(value: &mut Value, path: &[Step]) -> bool {
    match (value, path) {
        (Value::Table(table), path) => remove(table, path),
        (Value::List(items), [Step::Item(index)]) if *index < items.len() => {
            items.remove(*index);
            true
        }
        (Value::List(items), [Step::Item(index), rest @ ..]) => {
            items.get_mut(*index).is_some_and(|item| remove_below(&mut item.value, rest))
        }
        _ => false,
    }
}

/// `under` overridden by `over`: tables key by key, everything else as a whole.
pub(crate) fn merge(under: &Branch, over: &Branch) -> Branch {
    let mut merged = under.clone();
    for (name, node) in over {
        let value = match (under.get(name).map(|node| &node.value), &node.value) {
            (Some(Value::Table(below)), Value::Table(above)) => Value::Table(merge(below, above)),
            _ => node.value.clone(),
        };
        merged.insert(name.clone(), Node { value, ..node.clone() });
    }
    merged
}

/// A section of a module, as it was written, with the places of its keys. Equal to another with the same values.
#[derive(Clone, Debug)]
pub struct Section {
    pub(crate) path: String,
    pub(crate) keys: Branch,
    /// The heading of the section: the place of errors about missing keys.
    pub(crate) at: Option<At>,
    pub(crate) source: Arc<Source>,
}

impl PartialEq for Section {
    fn eq(&self, other: &Section) -> bool {
        self.keys == other.keys
    }
}

impl Section {
    /// The path of the section in the file: `modules.upload`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether nothing is configured.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The values without their positions.
    pub fn table(&self) -> toml::Table {
        plain(&self.keys)
    }

    /// A caller's error about the value of `key`, at the position of that value.
    ///
    /// The message continues a sentence that begins with the key: "has to be …, not …".
    pub fn error(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let at = self.keys.get(key).map(|node| &node.at).or(self.at.as_ref());
        ConfigError {
            place: self.place(at),
            problem: Problem::Value { key: join(&self.path, key), message: message.into() },
        }
    }

    pub(crate) fn place(&self, at: Option<&At>) -> Place {
        at.map_or_else(|| Place::Whole { file: self.source.name.clone() }, |at| self.source.place(at))
    }
}

pub(crate) fn plain(table: &Branch) -> toml::Table {
    table.iter().map(|(name, node)| (name.clone(), plain_value(&node.value))).collect()
}

fn plain_value(value: &Value) -> toml::Value {
    match value {
        Value::Text(text) | Value::Huge(text) => toml::Value::String(text.clone()),
        Value::Integer(number) => toml::Value::Integer(*number),
        Value::Float(number) => toml::Value::Float(*number),
        Value::Boolean(truth) => toml::Value::Boolean(*truth),
        Value::Date(date) => toml::Value::Datetime(*date),
        Value::List(items) => toml::Value::Array(items.iter().map(|item| plain_value(&item.value)).collect()),
        Value::Table(table) => toml::Value::Table(plain(table)),
    }
}
