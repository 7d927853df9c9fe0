//! XEP-0030: Service Discovery, and XEP-0115 for the server's own capabilities.
//!
//! Says what the server and an account can do. A stranger learns nothing of an account, not even whether it exists.
//!
//! Hooks:  none
//! Stores: nothing
//! Config: none

use vorpal_core::hook::Answer;

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "disco", xeps: &[Xep(30, "2.5.0")], setup };

fn setup(m: &mut Setup<'_>) -> Result {
    m.feature(ns::DISCO_INFO);
    m.feature(ns::DISCO_ITEMS);
    m.account_feature(ns::DISCO_INFO);
    m.account_feature(ns::DISCO_ITEMS);
    m.iq_get(At::Host, ns::DISCO_INFO, "query", |cx, query| {
        let registry = cx.host.registry();
        info(query, ("server", "im"), registry.features())
    });
    m.iq_get(At::Host, ns::DISCO_ITEMS, "query", items);
    for at in [At::OwnAccount, At::Contacts] {
        m.iq_get(at, ns::DISCO_INFO, "query", |cx, query| {
            let registry = cx.host.registry();
            info(query, ("account", "registered"), registry.account_features())
        });
        m.iq_get(at, ns::DISCO_ITEMS, "query", items);
    }
    Ok(())
}

/// §3.1. No node is known yet: asking for one is asking for what is not there.
fn info(query: &Element, (category, type_): (&str, &str), features: &[&str]) -> Answer {
    if query.get("node").is_some() {
        return Err(StanzaError::not_found());
    }
    let identity = el("identity", ns::DISCO_INFO).attr("category", category).attr("type", type_);
    let identity = if category == "server" { identity.attr("name", "Vorpal") } else { identity };
    let features = features.iter().map(|var| el("feature", ns::DISCO_INFO).attr("var", var));
    ok_with(el("query", ns::DISCO_INFO).child(identity).children(features))
}

/// §4.1: nothing hangs on the server or an account yet.
fn items(_: &mut IqCx<'_>, query: &Element) -> Answer {
    match query.get("node") {
        Some(_) => Err(StanzaError::not_found()),
        None => ok_with(el("query", ns::DISCO_ITEMS)),
    }
}
