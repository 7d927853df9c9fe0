//! The features of the server, one home each.
//!
//! A module is a constant and a function; [`ALL`] is the list, and its order breaks ties within a phase. A module sees the
//! words of XMPP and the kernel, and never another module.

pub mod blocking;
mod caps;
pub mod carbons;
pub mod csi;
pub mod disco;
pub mod mam;
pub mod offline;
pub mod ping;
pub mod private;
pub mod roster;
pub mod server_contact_info;
pub mod session;
pub mod smacks;
pub mod time;
pub mod uptime;
pub mod vcard;
pub mod version;

mod prelude {
    pub use vorpal_core::module::hook::{Dir, Flow, IqCx, MessageCx};
    pub use vorpal_core::module::{At, Module, Phase, Result, Setup, Stage, Xep};
    pub use vorpal_core::owner::state::Map;
    pub use vorpal_core::session::Flag;
    pub use vorpal_core::session::inquiries::{ok, ok_with};
    pub use vorpal_proto::element::{Element, el};
    pub use vorpal_proto::error::StanzaError;
    pub use vorpal_proto::ns;
    pub use vorpal_proto::stanza::{Stanza, Type};
}

use vorpal_core::module::Module;

/// Every module there is, in the order in which their handlers run within a phase.
pub static ALL: &[&Module] = &[
    &blocking::MODULE,
    &offline::MODULE,
    &mam::MODULE,
    &carbons::MODULE,
    &csi::MODULE,
    &smacks::MODULE,
    &roster::MODULE,
    &private::MODULE,
    &vcard::MODULE,
    &session::MODULE,
    &disco::MODULE,
    &ping::MODULE,
    &version::MODULE,
    &time::MODULE,
    &uptime::MODULE,
    &server_contact_info::MODULE,
];

/// The sections of the configuration that modules read, by the names of the modules. A module that is not here has no
/// keys of its own.
pub const SECTIONS: &[vorpal_config::Module] = &[
    vorpal_config::Module::of::<mam::Config>("mam"),
    vorpal_config::Module::of::<private::Config>("private"),
    vorpal_config::Module::of::<smacks::Config>("smacks"),
    vorpal_config::Module::of::<server_contact_info::Config>("server_contact_info"),
    vorpal_config::Module::of::<vcard::Config>("vcard"),
];
