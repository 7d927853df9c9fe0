//! XEP-0030: Service Discovery; XEP-0115: Entity Capabilities; XEP-0128: Service Discovery Extensions.
//!
//! Answers what the server and an account support, and puts a hash of the server's answer into the stream features. A stranger
//! learns nothing about an account, not even whether it exists.
//!
//! Hooks:  stream features
//! Stores: nothing
//! Config: none
//! Not:    capabilities of clients: their presence is passed on unchanged

use vorpal_core::module::registry::Registry;
use vorpal_core::session::inquiries::Answer;

use crate::caps;
use crate::prelude::*;

/// The module.
pub static MODULE: Module =
    Module { name: "disco", xeps: &[Xep(30, "2.5.0"), Xep(115, "1.6.0"), Xep(128, "1.0.1")], setup };

fn setup(m: &mut Setup<'_>) -> Result {
    m.feature(ns::DISCO_INFO);
    m.feature(ns::DISCO_ITEMS);
    m.feature(ns::CAPS);
    m.account_feature(ns::DISCO_INFO);
    m.account_feature(ns::DISCO_ITEMS);
    m.stream_feature_of_host(Stage::Authenticated, |registry| caps::feature(&of_host(registry)));
    m.iq_get(At::Host, ns::DISCO_INFO, "query", host_info);
    m.iq_get(At::Host, ns::DISCO_ITEMS, "query", items);
    for at in [At::OwnAccount, At::Contacts] {
        m.iq_get(at, ns::DISCO_INFO, "query", account_info);
        m.iq_get(at, ns::DISCO_ITEMS, "query", items);
    }
    Ok(())
}

/// §3.1, and XEP-0115 §6.2 for the node of the capabilities hash.
fn host_info(cx: &mut IqCx<'_>, query: &Element) -> Answer {
    let info = of_host(&cx.host.registry());
    match query.get("node") {
        None => ok_with(info),
        Some(node) if caps::is_node(node, &info) => ok_with(info.attr("node", node)),
        Some(_) => Err(StanzaError::not_found()),
    }
}

/// §3.1. There are no nodes: a query with a node is `item-not-found`.
fn account_info(cx: &mut IqCx<'_>, query: &Element) -> Answer {
    match query.get("node") {
        None => ok_with(info(identity("account", "registered"), cx.host.registry().account_features())),
        Some(_) => Err(StanzaError::not_found()),
    }
}

fn of_host(registry: &Registry) -> Element {
    info(identity("server", "im").attr("name", "Vorpal"), registry.features()).children(registry.forms())
}

fn info(identity: Element, features: &[&str]) -> Element {
    let features = features.iter().map(|var| el("feature", ns::DISCO_INFO).attr("var", var));
    el("query", ns::DISCO_INFO).child(identity).children(features)
}

fn identity(category: &str, type_: &str) -> Element {
    el("identity", ns::DISCO_INFO).attr("category", category).attr("type", type_)
}

/// §4.1: the server and accounts have no items yet.
fn items(_: &mut IqCx<'_>, query: &Element) -> Answer {
    match query.get("node") {
        Some(_) => Err(StanzaError::not_found()),
        None => ok_with(el("query", ns::DISCO_ITEMS)),
    }
}
