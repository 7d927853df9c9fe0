//! XEP-0012: Last Activity.
//!
//! Answers how long the server has been running and, for those who may see an account's presence, when the account was last
//! online.
//!
//! Hooks:  none
//! Stores: nothing of its own: the kernel's `last_activity`
//! Config: none

use vorpal_core::session::inquiries::Answer;

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "uptime", xeps: &[Xep(12, "2.0")], setup };

fn setup(m: &mut Setup<'_>) -> Result {
    m.feature(ns::LAST);
    m.account_feature(ns::LAST);
    // §5
    m.iq_get(At::Host, ns::LAST, "query", |cx, _| {
        let seconds = cx.now.since(cx.server.started()).as_secs();
        ok_with(el("query", ns::LAST).attr("seconds", seconds))
    });
    // §4: a stranger learns nothing (§8), by the registration.
    m.iq_get(At::OwnAccount, ns::LAST, "query", last);
    m.iq_get(At::Contacts, ns::LAST, "query", last);
    Ok(())
}

/// §4: 0 while a session is available.
fn last(cx: &mut IqCx<'_>, _: &Element) -> Answer {
    let (server, now) = (cx.server, cx.now);
    let account = cx.account()?;
    let query = el("query", ns::LAST);
    if account.available().next().is_some() {
        return ok_with(query.attr("seconds", 0));
    }
    let last = server.last_activity(account).ok_or_else(StanzaError::not_found)?;
    let since = now.since(vorpal_proto::datetime::Timestamp::from_millis(last.time)).as_secs();
    ok_with(query.attr("seconds", since).text(last.status))
}
