//! RFC 3921 §3: session establishment, which RFC 6121 removed.
//!
//! Old clients request a session after they have bound a resource. The server answers with success and does nothing.
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
