//! RFC 3921 §3: sessions as they were before RFC 6121.
//!
//! Old clients ask for a session after they have bound a resource. They get it; it means nothing.
//!
//! Hooks:  stream features
//! Stores: nothing
//! Config: none

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "session", xeps: &[], setup };

fn setup(m: &mut Setup<'_>) -> Result {
    // COMPAT(clients of RFC 3921, 2026-11): `optional` lets all others leave it out.
    m.stream_feature(Stage::Authenticated, || el("session", ns::SESSION).child(el("optional", ns::SESSION)));
    m.iq_set(At::OwnAccount, ns::SESSION, "session", |_, _| ok());
    m.iq_set(At::Host, ns::SESSION, "session", |_, _| ok());
    Ok(())
}
