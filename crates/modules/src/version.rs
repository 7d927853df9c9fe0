//! XEP-0092: Software Version.
//!
//! Answers with the name and the version of the program. The operating system is not revealed.
//!
//! Hooks:  none
//! Stores: nothing
//! Config: none

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "version", xeps: &[Xep(92, "1.1")], setup };

fn setup(m: &mut Setup<'_>) -> Result {
    m.feature(ns::VERSION);
    m.iq_get(At::Host, ns::VERSION, "query", |_, _| {
        let child = |name: &'static str, text: &str| el(name, ns::VERSION).text(text);
        let query = el("query", ns::VERSION).child(child("name", "Vorpal"));
        ok_with(query.child(child("version", env!("CARGO_PKG_VERSION"))))
    });
    Ok(())
}
