//! The table of keys: type, default, example and description of each, next to the struct that is read.

use serde::de::DeserializeOwned;

use crate::scalar::toml_string;

/// How the text of an environment variable is converted to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As it stands.
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Strings with commas between them.
    List,
}

/// The type of a key.
pub trait Setting: Sized {
    /// How a variable is read.
    const SHAPE: Shape;
    /// The expected value, with an article: "a period between \"1s\" and \"1h\"".
    fn expected() -> String;
    /// The value in TOML, on one line; `None` if it is not set.
    fn to_toml(&self) -> Option<String>;
}

impl Setting for bool {
    const SHAPE: Shape = Shape::Boolean;

    fn expected() -> String {
        "true or false".into()
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for String {
    const SHAPE: Shape = Shape::Text;

    fn expected() -> String {
        "text in quotes".into()
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_string(self))
    }
}

impl<T: Setting> Setting for Option<T> {
    const SHAPE: Shape = T::SHAPE;

    fn expected() -> String {
        T::expected()
    }

    fn to_toml(&self) -> Option<String> {
        self.as_ref().and_then(T::to_toml)
    }
}

impl<T: Setting> Setting for Vec<T> {
    const SHAPE: Shape = Shape::List;

    fn expected() -> String {
        format!("a list in brackets, each {}", T::expected())
    }

    fn to_toml(&self) -> Option<String> {
        let items: Vec<String> = self.iter().filter_map(T::to_toml).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

/// A key and its documentation.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The path of its section, empty for the top of the file.
    pub section: &'static str,
    /// Its name in the section.
    pub name: &'static str,
    /// Its description, line by line.
    pub doc: &'static [&'static str],
    /// A value other than the default, in TOML.
    pub example: &'static str,
    /// Whether a change needs a restart rather than a reload.
    pub restart: bool,
    /// How its variable is read.
    pub shape: Shape,
    /// The expected value: type and bounds in words.
    pub expected: fn() -> String,
    /// The default in TOML; `None` if it is not set by default.
    pub default: fn() -> Option<String>,
}

impl Key {
    /// The section and the name, with a dot between: `limits.login_time`.
    pub fn path(&self) -> String {
        join(self.section, self.name)
    }

    /// The variable that sets it: `VORPAL_LIMITS_LOGIN_TIME`. `None` for a key whose section is one of many.
    pub fn variable(&self) -> Option<String> {
        let path = self.path();
        (!path.contains(".NAME")).then(|| format!("VORPAL_{}", path.replace('.', "_").to_ascii_uppercase()))
    }
}

/// A section of the file with its keys.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name in brackets, empty for the top of the file.
    pub path: &'static str,
    /// Its description, line by line.
    pub doc: &'static [&'static str],
    /// Its keys, in the order of the struct.
    pub keys: &'static [Key],
}

/// A struct that [`section!`](crate::section) made: a section of the file, and its table.
pub trait Keys: Default + DeserializeOwned {
    /// The table.
    const TABLE: Table;
    /// The value of each key in TOML, in the order of the table; `None` for keys that are not set.
    fn values(&self) -> Vec<Option<String>>;
}

/// Declares a section: the struct that serde reads, its defaults, and its table of keys.
///
/// Doc comments become the documentation for operators. Every key has a type that is a [`Setting`], a default and an
/// example; `restart` at the end means that a change needs a restart.
#[macro_export]
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $vis:vis struct $name:ident in $path:literal {
            $(
                $(#[doc = $doc:literal])*
                $field:ident: $type:ty = $default:expr, example $example:tt $(, $restart:ident)?;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, $crate::serde::Deserialize)]
        #[serde(crate = "vorpal_config::serde", default, deny_unknown_fields)]
        $vis struct $name {
            $($(#[doc = $doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* }
            }
        }

        impl $crate::Keys for $name {
            const TABLE: $crate::Table = $crate::Table {
                path: $path,
                doc: &[$($about),*],
                keys: &[$($crate::Key {
                    section: $path,
                    name: stringify!($field),
                    doc: &[$($doc),*],
                    example: stringify!($example),
                    restart: $crate::section!(@restart $($restart)?),
                    shape: <$type as $crate::Setting>::SHAPE,
                    expected: <$type as $crate::Setting>::expected,
                    default: || {
                        let value: $type = $default;
                        $crate::Setting::to_toml(&value)
                    },
                },)*],
            };

            fn values(&self) -> Vec<Option<String>> {
                vec![$($crate::Setting::to_toml(&self.$field),)*]
            }
        }
    };
    (@restart) => { false };
    (@restart restart) => { true };
}

/// `section.name`, or the name alone at the top of the file.
pub(crate) fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.into() } else { format!("{section}.{name}") }
}
