//! XEP-0198: Stream Management.
//!
//! Acknowledges stanzas that are handled and stored, and lets a client resume its session over another connection, even after
//! the server was killed. The kernel does the counting (`ledger.rs`, `resume.rs`); this module handles the elements.
//!
//! Hooks:  stream features, nonza
//! Stores: nothing of its own: the kernel's rows of sessions
//! Config: `resume_time`
//! Limits: queues of 512 KiB for each session, then the log is read instead

use vorpal_config::{Bounded, DAY, MINUTE, Period, SECOND, section};
use vorpal_core::module::hook::SessionCx;

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "smacks", xeps: &[Xep(198, "1.6.3")], setup };

section! {
    /// Stream management (XEP-0198): sessions that outlive their connection.
    pub(crate) struct Config in "modules.smacks" {
        /// Maximum time that a session without a connection waits to be resumed by its client.
        resume_time: Bounded<Period, SECOND, {7 * DAY}> = Bounded::clamp(Period::from_millis(10 * MINUTE)), example "1h";
    }
}

fn setup(m: &mut Setup<'_>) -> Result {
    let keep = m.config::<Config>()?.resume_time.get().as_millis() / 1000;
    m.stream_feature(Stage::Authenticated, || el("sm", ns::SM));
    m.on_nonza(ns::SM, "enable", move |cx, enable| begin(cx, enable, keep));
    m.on_nonza(ns::SM, "r", |cx, _| cx.fx.say_ack());
    m.on_nonza(ns::SM, "a", |cx, a| cx.fx.acked(a));
    // §5: too late, the session has a resource already.
    m.on_nonza(ns::SM, "resume", |cx, _| fail(cx));
    Ok(())
}

/// §3: once for each stream.
fn begin(cx: &mut SessionCx<'_>, enable: &Element, keep: u64) {
    if cx.stream.is_managed() {
        return fail(cx);
    }
    let wants = matches!(enable.get("resume"), Some("true" | "1"));
    // §5: the client may request less time than the server offers.
    let keep = enable.get("max").and_then(|max| max.parse().ok()).map_or(keep, |max: u64| max.min(keep));
    cx.fx.enable_management(wants && keep > 0, keep * 1000);
}

fn fail(cx: &mut SessionCx<'_>) {
    cx.say(&el("failed", ns::SM).child(el("unexpected-request", ns::STANZA_ERROR)));
}
