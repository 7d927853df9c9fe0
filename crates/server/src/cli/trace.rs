//! `vorpal trace`: follows one account's stanzas, decision by decision.

use anyhow::Result;
use serde_json::Value;
use vorpal_proto::datetime::Timestamp;

use super::orders::Target;
use super::out;
use super::text::printable;
use crate::control;

pub(super) async fn run(target: &Target, jid: &str, json: bool) -> Result<()> {
    let socket = target.socket();
    let begun = || eprintln!("vorpal: following {}: stanzas are shown as they come; Ctrl-C ends it", printable(jid));
    let followed = control::follow(&socket, jid, begun, |line| {
        let line = if json { line.to_owned() } else { told(&serde_json::from_str(line)?) };
        out::write(format_args!("{}\n", printable(&line)))
    });
    followed.await.map_err(|error| if error.is::<control::Unreached>() { target.unanswered(error) } else { error })
}

/// A step on one line: the time, the step, the stanza, then the decision and where it was made.
fn told(step: &Value) -> String {
    let text = |name: &str| step[name].as_str();
    let time = Timestamp::from_millis(step["at"].as_u64().unwrap_or(0)).to_string();
    let time = time.split_once('T').map_or(time.as_str(), |(_, time)| time.trim_end_matches('Z'));
    let mut words = vec![format!("{time:12}"), format!("{:9}", text("step").unwrap_or("?"))];
    if let Some(kind) = text("kind") {
        let type_ = text("type").map(|type_| format!(" {type_}")).unwrap_or_default();
        let id = text("id").map(|_| format!(" {}", step["id"])).unwrap_or_default();
        words.push(format!("{kind}{type_}{id}"));
    }
    for (name, word) in [
        ("from", "from"),
        ("to", "to"),
        ("session", "session"),
        ("side", "side"),
        ("phase", "phase"),
        ("module", "module"),
    ] {
        words.extend(text(name).map(|value| format!("{word} {value}")));
    }
    for (name, word) in [("n", "number"), ("entry", "entry"), ("batch", "batch")] {
        words.extend(step[name].as_u64().map(|value| format!("{word} {value}")));
    }
    words.extend(step["commit_ms"].as_u64().map(|ms| format!("after {ms} ms")));
    words.extend(text("decision").map(|decision| format!("=> {decision}")));
    words.extend(text("reason").map(|reason| format!("({reason})")));
    for (name, word) in [("sessions", "sessions"), ("copies", "copies to")] {
        let list: Vec<&str> = step[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !list.is_empty() {
            words.push(format!("{word} {}", list.join(", ")));
        }
    }
    words.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_does_not_print() {
        let id = "a\u{9b}31m\u{7f}\u{202e}\u{200b}\u{1b}[2J\n\u{e0001}\u{feff} \u{e9}\u{4e2d}\u{1f600}";
        let line = serde_json::json!({ "step": "home", "kind": "message", "id": id }).to_string();
        let shown = printable(&line);
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), serde_json::from_str::<Value>(&line).unwrap());
        let text = printable(&told(&serde_json::from_str(&line).unwrap()));
        for shown in [shown, text] {
            let raw = |c: &char| c.is_control() || "\u{202e}\u{200b}\u{e0001}\u{feff}".contains(*c);
            assert_eq!(shown.chars().find(raw), None, "{shown:?}");
            assert!(
                shown.contains("a\\u009b31m\\u007f\\u202e\\u200b") && shown.contains("\u{e9}\u{4e2d}\u{1f600}"),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_step_is_a_line() {
        let step = serde_json::json!({
            "at": 1_767_225_600_123_u64, "step": "stopped", "kind": "message", "type": "chat", "id": "m1",
            "from": "romeo@x/o", "to": "juliet@x", "side": "Received", "phase": "Gate", "module": "blocking",
            "decision": "bounce", "reason": "blocked",
        });
        assert_eq!(
            told(&step),
            "00:00:00.123  stopped    message chat \"m1\"  from romeo@x/o  to juliet@x  side Received  phase Gate  \
             module blocking  => bounce  (blocked)"
        );
        let step = serde_json::json!({ "at": 1_767_225_600_000_u64, "step": "committed", "entry": 7, "batch": 3, "commit_ms": 4 });
        assert!(told(&step).ends_with("committed  entry 7  batch 3  after 4 ms"), "{}", told(&step));
    }
}
