//! Reads a struct from the tree and reports all of its errors, not only the first.
//!
//! serde stops at the first error. So the key at which it stopped is removed and reading starts again, until there is no error
//! or no key left to remove. Every round removes a key, so there are at most as many rounds as keys, and a limit besides.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

use crate::error::{At, ConfigError, MAX_ERRORS, Problem};
use crate::nearest::nearest;
use crate::scalar::{one_of, quote};
use crate::table::join;
use crate::tree::{Branch, Node, Section, Step, Value, remove};

/// Reads a section into a struct of the caller.
///
/// For a struct with `#[serde(default, deny_unknown_fields)]` all errors are reported; for one with required keys, those up to
/// the first missing key. An unknown key is reported with the one that was probably meant.
///
/// # Errors
/// Every error, with file, line and column, or the environment variable.
pub fn read_section<T: DeserializeOwned>(section: &Section) -> Result<T, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let mut rest = section.keys.clone();
    let mut taken = Vec::new();
    loop {
        match T::deserialize(TableReader(&rest)) {
            Ok(value) if errors.is_empty() => return Ok(value),
            Ok(_) => return Err(errors),
            Err(mut fault) => {
                fault.path.reverse();
                // A key that was removed because it is invalid is not missing.
                if !fault.missing().is_some_and(|path| taken.contains(&path)) {
                    errors.push(fault.tell(section));
                }
                if errors.len() == MAX_ERRORS || !remove(&mut rest, &fault.path) {
                    return Err(errors);
                }
                taken.push(fault.path);
            }
        }
    }
}

impl Section {
    /// Reads the section into a struct of the caller: [`read_section`].
    ///
    /// # Errors
    /// Every error in it.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Vec<ConfigError>> {
        read_section(self)
    }
}

/// An error as serde reports it. The path is stored in reverse.
#[derive(Debug)]
struct Fault {
    path: Vec<Step>,
    at: Option<At>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Message(String),
    UnknownKey(&'static [&'static str]),
    Missing(&'static str),
}

impl Fault {
    fn message(message: String) -> Fault {
        Fault { path: Vec::new(), at: None, kind: Kind::Message(message) }
    }

    /// The error is below this key or item, at this place unless a more exact one is known.
    fn below(mut self, step: Step, at: &At) -> Fault {
        self.path.push(step);
        self.at.get_or_insert_with(|| at.clone());
        self
    }

    /// The path of the missing key.
    fn missing(&self) -> Option<Vec<Step>> {
        let Kind::Missing(name) = self.kind else { return None };
        Some(self.path.iter().cloned().chain([Step::Key(name.into())]).collect())
    }

    fn tell(&self, section: &Section) -> ConfigError {
        let mut key = section.path.clone();
        for step in &self.path {
            // Not the index of the item: it shifts when items before it are removed. The column identifies the item.
            if let Step::Key(name) = step {
                key = join(&key, name);
            }
        }
        let problem = match &self.kind {
            Kind::Message(message) => {
                let mut message = message.clone();
                // A custom type may say what it expects without the value it got. The value is quoted only if it looks like a
                // quantity: other texts may be secrets in the wrong place.
                if message.starts_with("has to be ")
                    && !message.contains(", not ")
                    && let Some(Value::Text(text)) = given(&section.keys, &self.path)
                    && is_quantity(text)
                {
                    message += &format!(", not {}", quote(text));
                }
                Problem::Value { key, message }
            }
            Kind::Missing(name) => Problem::Value { key: join(&key, name), message: "has to be given".into() },
            Kind::UnknownKey(known) => {
                let name = self.path.last().map_or("", |step| if let Step::Key(name) = step { name } else { "" });
                Problem::Unknown { what: "key", meant: nearest(name, known.iter().copied()).map(Into::into), name: key }
            }
        };
        ConfigError { place: section.place(self.at.as_ref().or(section.at.as_ref())), problem }
    }
}

/// Whether a text looks like a number with a unit, right or wrong.
fn is_quantity(text: &str) -> bool {
    let quantity = |c: char| c.is_ascii_alphanumeric() || " .,/".contains(c);
    text.len() <= 16 && text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(quantity)
}

/// The node at a path. `None` within a list, where indexes shift when items are removed.
fn given<'a>(keys: &'a Branch, path: &[Step]) -> Option<&'a Value> {
    let (Step::Key(name), rest) = path.split_first()? else { return None };
    let value = &keys.get(name)?.value;
    match (value, rest) {
        (_, []) => Some(value),
        (Value::Table(keys), rest) => given(keys, rest),
        _ => None,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Fault {
        Fault::message(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Fault {
        Fault::message(format!("has to be {}, not {}", plain_words(&expected.to_string()), found_words(&found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Fault {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Fault {
        let meant = nearest(found, known.iter().copied()).map(|meant| format!("; did you mean {}?", quote(meant)));
        Fault::message(format!("has to be {}, not {}{}", one_of(known), quote(found), meant.unwrap_or_default()))
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Fault {
        Fault { path: Vec::new(), at: None, kind: Kind::UnknownKey(known) }
    }

    fn missing_field(name: &'static str) -> Fault {
        Fault { path: Vec::new(), at: None, kind: Kind::Missing(name) }
    }
}

/// serde's description of what it expects, in TOML terms.
fn plain_words(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list in brackets",
        "a boolean" => "true or false",
        "a string" | "a character" => "text in quotes",
        "a map" => "a table",
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        struct_name if struct_name.starts_with("struct ") => "a table",
        other => other,
    }
}

fn found_words(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(truth) => truth.to_string(),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Float(number) => number.to_string(),
        Unexpected::Str(text) => quote(text),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a table".into(),
        Unexpected::Other(what) => (*what).into(),
        other => other.to_string(),
    }
}

/// A table of the tree for serde.
struct TableReader<'a>(&'a Branch);

/// A value of the tree for serde.
struct Reader<'a>(&'a Node);

impl<'de> Deserializer<'de> for TableReader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(Entries { entries: self.0.iter(), current: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let other = |what, visitor: V| Err(serde::de::Error::invalid_type(Unexpected::Other(what), &visitor));
        match &self.0.value {
            Value::Text(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(truth) => visitor.visit_bool(*truth),
            Value::Date(_) => other("a date", visitor),
            Value::Huge(_) => other("a number beyond 64 bits", visitor),
            Value::List(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Table(table) => TableReader(table).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Text(text) => {
                let word: StrDeserializer<'_, Fault> = text.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            _ => Err(Fault::message(format!("has to be {}", one_of(known)))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Entries<'a> {
    entries: std::collections::btree_map::Iter<'a, String, Node>,
    current: Option<(&'a String, &'a Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.current = self.entries.next();
        let Some((name, node)) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Fault> = name.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|fault| fault.below(Step::Key(name.clone()), &node.key_at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((name, node)) = self.current else { return Err(Fault::message("has no value".into())) };
        seed.deserialize(Reader(node)).map_err(|fault| fault.below(Step::Key(name.clone()), &node.at))
    }
}

struct Items<'a>(std::iter::Enumerate<std::slice::Iter<'a, Node>>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((index, item)) = self.0.next() else { return Ok(None) };
        seed.deserialize(Reader(item)).map(Some).map_err(|fault| fault.below(Step::Item(index), &item.at))
    }
}
