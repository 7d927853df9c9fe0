//! XEP-0202: Entity Time, and XEP-0090, its forerunner.
//!
//! Answers with the server's time, in UTC.
//!
//! Hooks:  none
//! Stores: nothing
//! Config: none

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "time", xeps: &[Xep(202, "2.0"), Xep(90, "1.2")], setup };

fn setup(m: &mut Setup<'_>) -> Result {
    m.feature(ns::TIME);
    m.feature(ns::TIME_OLD);
    m.iq_get(At::Host, ns::TIME, "time", |cx, _| {
        let utc = el("utc", ns::TIME).text(cx.now.to_string());
        ok_with(el("time", ns::TIME).child(el("tzo", ns::TIME).text("+00:00")).child(utc))
    });
    // COMPAT(clients of XEP-0090, 2026-11): `CCYYMMDDThh:mm:ss`.
    m.iq_get(At::Host, ns::TIME_OLD, "query", |cx, _| {
        let child = |name: &'static str, text: String| el(name, ns::TIME_OLD).text(text);
        let query = el("query", ns::TIME_OLD).child(child("utc", cx.now.legacy().to_string()));
        ok_with(query.child(child("tz", "UTC".into())).child(child("display", cx.now.to_string())))
    });
    Ok(())
}
