//! The server's configuration: one short TOML file, the environment over it, defaults under it.
//!
//! One table (`keys`) defines every key. The struct that is read, the text of `config explain`, the default file and
//! `docs/config.md` are derived from it, so a new key is added there and nowhere else. Errors are reported with their lines,
//! up to a hundred at once; after a syntax error, only those before it. A file with an error configures nothing.
//!
//! *Invariant:* no text causes a panic, and reading time is bounded by [`MAX_FILE`].

// The macros use this crate by its name, also inside the crate.
extern crate self as vorpal_config;

mod de;
mod diff;
mod docs;
mod error;
mod keys;
mod load;
mod modules;
mod nearest;
mod scalar;
mod table;
mod tree;
mod units;

pub use de::read_section;
pub use diff::Change;
pub use docs::{Unknown, default_file, explain, markdown, overview};
pub use error::{ConfigError, Errors, Place, Problem};
pub use keys::{Durability, Limits, Listen, Log, LogFormat, LogLevel, Login, Mechanism, Storage, Tls, TlsVersion, Xml};
pub use load::{Certificate, Config, Host, MAX_FILE, MAX_HOSTS, UnknownVariable};
pub use modules::Module;
pub use scalar::{AbsolutePath, Address, FilePath, HostName, LoopbackAddress, Scalar};
pub use table::{Key, Keys, Setting, Shape, Table};
pub use tree::Section;
pub use units::{Amount, Bounded, Bytes, DAY, GIB, HOUR, KIB, MIB, MINUTE, Measure, Per, Period, Rate, SECOND, TIB};

#[doc(hidden)]
pub use scalar::one_of;
#[doc(hidden)]
pub use serde;
