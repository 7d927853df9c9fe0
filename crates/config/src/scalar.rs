//! Scalar values: read from a string or a number, with error messages that name the expected value.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde::de::{Error, Visitor};
use vorpal_proto::jid;

/// Maximum number of characters of an invalid value that a message quotes.
const MAX_QUOTE: usize = 40;

/// A value written as one string or one number.
///
/// The errors continue a sentence that begins with the key: "has to be …, not …".
pub trait Scalar: Sized {
    /// Whether it is written without quotes.
    const BARE: bool = false;
    /// The expected value, with an article, bounds or an example.
    fn expected() -> String;
    /// Reads a string.
    fn from_text(text: &str) -> Result<Self, String>;
    /// Reads a number without quotes.
    fn from_integer(number: i64) -> Result<Self, String> {
        Err(format!("has to be {}, not the number {number}", Self::expected()))
    }
    /// The value as it is written, without quotes.
    fn text(&self) -> String;
}

/// Reads a [`Scalar`], with that type's error messages.
pub(crate) struct ScalarVisitor<T>(pub PhantomData<T>);

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&T::expected())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::from_integer(number).map_err(E::custom)
    }
}

/// Makes a [`Scalar`] usable in a struct that serde reads, and in a table of keys.
macro_rules! scalar_serde {
    ($type:ty $(, $($generics:tt)*)?) => {
        impl<'de, $($($generics)*)?> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any($crate::scalar::ScalarVisitor(std::marker::PhantomData))
            }
        }

        impl<$($($generics)*)?> $crate::table::Setting for $type {
            const SHAPE: $crate::table::Shape =
                if <Self as $crate::Scalar>::BARE { $crate::table::Shape::Integer } else { $crate::table::Shape::Text };

            fn expected() -> String {
                <Self as $crate::Scalar>::expected()
            }

            fn to_toml(&self) -> Option<String> {
                let text = $crate::Scalar::text(self);
                Some(if <Self as $crate::Scalar>::BARE { text } else { $crate::scalar::toml_string(&text) })
            }
        }
    };
}
pub(crate) use scalar_serde;

/// An enum whose variants are words in the file: `choice!{ /// … pub enum Name { /// … Variant = "word", } }`.
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            const WORDS: &[&str] = &[$($word),+];

            /// The word in the file.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl<'de> $crate::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Words;
                impl $crate::serde::de::Visitor<'_> for Words {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(&<$name as $crate::Setting>::expected())
                    }

                    fn visit_str<E: $crate::serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        match text {
                            $($word => Ok($name::$variant),)+
                            _ => Err(E::unknown_variant(text, $name::WORDS)),
                        }
                    }
                }
                deserializer.deserialize_any(Words)
            }
        }

        impl $crate::Setting for $name {
            const SHAPE: $crate::Shape = $crate::Shape::Text;

            fn expected() -> String {
                $crate::one_of($name::WORDS)
            }

            fn to_toml(&self) -> Option<String> {
                Some(format!("\"{}\"", self.as_str()))
            }
        }
    };
}

/// `"a", "b" or "c"`.
#[doc(hidden)]
pub fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// An address and port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub SocketAddr);

impl Deref for Address {
    type Target = SocketAddr;

    fn deref(&self) -> &SocketAddr {
        &self.0
    }
}

impl Scalar for Address {
    fn expected() -> String {
        "an IP address with a port, such as \"127.0.0.1:5222\" or \"[::]:5222\"".into()
    }

    fn from_text(text: &str) -> Result<Address, String> {
        text.parse().map(Address).map_err(|_| format!("has to be {}, not {}", Self::expected(), quote(text)))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// An address and port to listen on that can be reached from this machine only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoopbackAddress(SocketAddr);

impl Deref for LoopbackAddress {
    type Target = SocketAddr;

    fn deref(&self) -> &SocketAddr {
        &self.0
    }
}

impl Scalar for LoopbackAddress {
    fn expected() -> String {
        "a loopback address with a port, such as \"127.0.0.1:5280\" or \"[::1]:5280\"".into()
    }

    fn from_text(text: &str) -> Result<LoopbackAddress, String> {
        let address = text.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback());
        address.map(LoopbackAddress).ok_or_else(|| format!("has to be {}, not {}", Self::expected(), quote(text)))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// The path of a file or directory as written in the configuration, never empty. Relative paths are relative to the directory of
/// the configuration file, which only the loader knows: files are opened by the [`AbsolutePath`] that it makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(PathBuf);

impl FilePath {
    /// The path `path`; for the empty path, the directory itself.
    pub fn new(path: impl Into<PathBuf>) -> FilePath {
        let path = path.into();
        FilePath(if path.as_os_str().is_empty() { PathBuf::from(".") } else { path })
    }

    /// The file `name` in this directory.
    pub(crate) fn join(&self, name: &str) -> FilePath {
        FilePath(self.0.join(name))
    }

    /// The absolute path: a relative one is resolved against `base`.
    pub(crate) fn under(&self, base: &Base) -> AbsolutePath {
        AbsolutePath(base.0.join(&self.0))
    }
}

/// The base directory of relative paths. Always absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base(PathBuf);

impl Base {
    /// The directory of `file`, or the working directory if `file` is empty: there is no file.
    pub(crate) fn of(file: &Path) -> io::Result<Base> {
        let directory = file.parent().unwrap_or(Path::new(""));
        if directory.as_os_str().is_empty() {
            return std::env::current_dir().map(Base);
        }
        std::path::absolute(directory).map(Base)
    }
}

/// The absolute path of a file or directory: independent of the working directory. Only the loader creates one, so no relative
/// path is joined to a directory twice, or not at all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbsolutePath(PathBuf);

impl Deref for AbsolutePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for AbsolutePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl From<&AbsolutePath> for FilePath {
    fn from(path: &AbsolutePath) -> FilePath {
        FilePath(path.0.clone())
    }
}

impl Scalar for FilePath {
    fn expected() -> String {
        "the path of a file or directory".into()
    }

    fn from_text(text: &str) -> Result<FilePath, String> {
        // Not quoted: the value may be the secret key itself.
        if text.contains("-----BEGIN") {
            return Err("has to be the path of a file; its contents do not belong here".into());
        }
        if text.is_empty() || text.contains(['\0', '\n']) {
            return Err(format!("has to be {}, not {}", Self::expected(), quote(text)));
        }
        Ok(FilePath(PathBuf::from(text)))
    }

    fn text(&self) -> String {
        self.0.display().to_string()
    }
}

/// The domain of a host, in the one form of RFC 7622 §3.2: lower case, U-labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// The default host.
    pub fn localhost() -> HostName {
        HostName("localhost".into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Scalar for HostName {
    fn expected() -> String {
        "the name of a host, such as \"example.org\"".into()
    }

    fn from_text(text: &str) -> Result<HostName, String> {
        match jid::enforce_domain(text) {
            Ok(name) => Ok(HostName(name.into_owned())),
            Err(error) => {
                let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                Err(format!("has to be {}, not {}: {cause}", Self::expected(), quote(text)))
            }
        }
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

impl Scalar for String {
    fn expected() -> String {
        "text in quotes".into()
    }

    fn from_text(text: &str) -> Result<String, String> {
        Ok(text.into())
    }

    fn text(&self) -> String {
        self.clone()
    }
}

scalar_serde!(Address);
scalar_serde!(LoopbackAddress);
scalar_serde!(FilePath);
scalar_serde!(HostName);

/// `text` in quotes for a message, with control characters escaped, truncated if it is long.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTE) {
        Some((cut, _)) => format!("{:?}…", text.get(..cut).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// The same without quotes around it, and with quotes inside left as they are.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTE).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MAX_QUOTE).is_some() {
        short.push('…');
    }
    short
}

/// `text` as a string of TOML.
pub(crate) fn toml_string(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}
