//! XEP-0198: Stream Management.
//!
//! Acknowledges what is handled and stored, and lets a session go on over another connection, also after the server was
//! killed. The counting is done in the kernel (`ledger.rs`, `resume.rs`); here are its words.
//!
//! Hooks:  nonza
//! Stores: nothing of its own: the kernel's rows of sessions
//! Config: `resume_time`
//! Limits: queues of 512 KiB for each session, then the log is read instead

use serde::Deserialize;
use vorpal_core::hook::SessionCx;

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "smacks", xeps: &[Xep(198, "1.6.3")], setup };

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// For how long a session is kept without a connection, in seconds.
    resume_time: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config { resume_time: 600 }
    }
}

fn setup(m: &mut Setup<'_>) -> Result {
    let keep = m.config::<Config>()?.resume_time;
    m.stream_feature(Stage::Authenticated, || el("sm", ns::SM));
    m.on_nonza(Stage::Bound, ns::SM, "enable", move |cx, enable| begin(cx, enable, keep));
    m.on_nonza(Stage::Bound, ns::SM, "r", |cx, _| cx.fx.say_ack());
    m.on_nonza(Stage::Bound, ns::SM, "a", acknowledged);
    // §5: too late, the session has a resource already.
    m.on_nonza(Stage::Bound, ns::SM, "resume", |cx, _| fail(cx));
    Ok(())
}

/// §3: once for each stream.
fn begin(cx: &mut SessionCx<'_>, enable: &Element, keep: u64) {
    if cx.stream.managed {
        return fail(cx);
    }
    let wants = matches!(enable.get("resume"), Some("true" | "1"));
    // §5: the client may want less time than we give.
    let keep = enable.get("max").and_then(|max| max.parse().ok()).map_or(keep, |max: u64| max.min(keep));
    cx.fx.enable_management(wants && keep > 0, keep * 1000);
}

fn fail(cx: &mut SessionCx<'_>) {
    cx.say(&el("failed", ns::SM).child(el("unexpected-request", ns::STANZA_ERROR)));
}

/// §4: a count that is none is taken as none.
fn acknowledged(cx: &mut SessionCx<'_>, a: &Element) {
    if let Some(h) = a.get("h").and_then(|h| h.parse().ok()) {
        cx.fx.acked(h);
    }
}
