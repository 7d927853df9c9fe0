//! XEP-0199: XMPP Ping.
//!
//! Answers `<ping/>` sent to the server or to an account with an empty result.
//!
//! Hooks:  none
//! Stores: nothing
//! Config: none

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "ping", xeps: &[Xep(199, "2.0.1")], setup };

fn setup(m: &mut Setup<'_>) -> Result {
    m.feature(ns::PING);
    m.account_feature(ns::PING);
    m.iq_get(At::Host, ns::PING, "ping", |_, _| ok());
    m.iq_get(At::OwnAccount, ns::PING, "ping", |_, _| ok());
    m.iq_get(At::Contacts, ns::PING, "ping", |_, _| ok());
    Ok(())
}
