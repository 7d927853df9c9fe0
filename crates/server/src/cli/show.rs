//! The output of commands: what was done, or the requested data.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::orders::By;
use super::out;
use super::text::{counted, grouped, moment, printable, size, span, table};
use crate::orders::{Answer, Imported, Order};

/// How to present the answer to an order.
pub(super) struct Told {
    /// what was done; `None` for an order that only reads
    pub did: Option<String>,
    form: Form,
}

/// The text form of an answer.
enum Form {
    Status,
    User,
    Users,
    Sessions,
    Changes,
}

impl Told {
    /// The presentation for this order.
    pub fn of(order: &Order) -> Told {
        let form = match order {
            Order::Status | Order::Top | Order::Trace { .. } => Form::Status,
            Order::UserShow { .. } => Form::User,
            Order::SessionList { .. } => Form::Sessions,
            Order::Reload => Form::Changes,
            _ => Form::Users,
        };
        Told { did: did(order), form }
    }
}

fn did(order: &Order) -> Option<String> {
    Some(match order {
        Order::UserAdd { jid, .. } => format!("created the account {jid}"),
        Order::UserPasswd { jid, end_sessions: false, .. } => format!("set the new password of {jid}"),
        Order::UserPasswd { jid, .. } => format!("set the new password of {jid}, and ended its sessions"),
        Order::UserRm { jid } => format!("deleted the account {jid} with everything it had"),
        Order::UserDisable { jid, disabled: true } => {
            format!("disabled {jid}: nobody can log in, its sessions have ended")
        }
        Order::UserDisable { jid, .. } => format!("enabled {jid}: its user can log in again"),
        Order::SessionKick { jid } if jid.contains('/') => format!("ended the session {jid}"),
        Order::SessionKick { jid } => format!("ended all sessions of {jid}"),
        Order::Reload => "applied the configuration".into(),
        // The answer contains what it did.
        Order::UserImport { .. } => return None,
        Order::UserList { .. }
        | Order::UserShow { .. }
        | Order::Status
        | Order::Top
        | Order::Trace { .. }
        | Order::CertList
        | Order::SessionList { .. } => return None,
    })
}

/// A summary of the changes of a configuration.
fn changes(rows: &[Value]) -> String {
    let waiting = rows.iter().filter(|row| row["needs_restart"] == true).count();
    match (rows.len(), waiting) {
        (0, _) => "no changes".into(),
        (all, 0) => counted(all, "change"),
        (all, waiting) => format!("{}, of which {} effect with the next start", counted(all, "change"), takes(waiting)),
    }
}

fn takes(number: usize) -> String {
    format!("{} {}", grouped(number), if number == 1 { "takes" } else { "take" })
}

/// Who carried out an order: as the key and value of a JSON object, and as text.
fn place(by: &By) -> (&'static str, &PathBuf, String) {
    match by {
        By::Server(socket) => ("server", socket, format!("by the server at {}", socket.display())),
        By::Command(data) => ("data", data, format!("in the data at {}; no server runs on them", data.display())),
        By::Creator(data) => ("data", data, format!("in new data, created at {}", data.display())),
    }
}

/// Prints the result of an order.
///
/// # Errors
/// The order was refused.
pub(super) fn show((answer, by): (Answer, By), told: Told, json: bool) -> Result<()> {
    let (key, at, place) = place(&by);
    let Told { mut did, form } = told;
    if let (Answer::Rows(rows), Form::Changes, Some(did)) = (&answer, &form, &mut did) {
        *did = format!("{did}: {}", changes(rows));
    }
    let object = |more: Option<(&str, Value)>| {
        let mut object = json!({ "done": true, "did": did, key: at });
        if let (Some((name, value)), Some(object)) = (more, object.as_object_mut()) {
            object.insert(name.into(), value);
        }
        object
    };
    let say = || did.iter().try_for_each(|did| out::line(format_args!("{did} ({place})")));
    match answer {
        // A multi-line error stands alone.
        Answer::Error(error) if error.contains('\n') => bail!("{error}"),
        Answer::Error(error) => bail!("{error} ({place})"),
        Answer::Done if json => out::line(object(None)),
        Answer::Noted(notes) if json => out::line(object(Some(("notes", json!(notes))))),
        Answer::Rows(rows) if json && did.is_some() => out::line(object(Some(("changes", json!(rows))))),
        Answer::Rows(rows) if json => out::line(serde_json::to_string_pretty(&rows)?),
        Answer::Object(object) if json => out::line(serde_json::to_string_pretty(&object)?),
        Answer::Imported(_) => bail!("unexpected answer of an import: this is a bug"),
        Answer::Done => say(),
        Answer::Noted(notes) => {
            say()?;
            notes.iter().for_each(|note| eprintln!("vorpal: {note}"));
            Ok(())
        }
        Answer::Rows(rows) => {
            match form {
                Form::Sessions => out::write(sessions(&rows)).map(drop)?,
                Form::Changes => rows.iter().try_for_each(|row| out::line(change(row)))?,
                _ => rows.iter().try_for_each(|row| out::line(user_line(row)))?,
            }
            say()
        }
        Answer::Object(object) => out::write(match form {
            Form::User => user(&object),
            _ => status(&object, at),
        })
        .map(drop),
    }
}

/// Prints the result of an import from this file, and what to configure so that all imported accounts can log in.
///
/// # Errors
/// The order was refused, or a line failed.
pub(super) fn imported(
    (answer, by): (Answer, By),
    file: &str,
    advice: impl FnOnce(&Imported) -> Vec<String>,
    json: bool,
) -> Result<()> {
    let (key, at, place) = place(&by);
    let imported = match answer {
        Answer::Imported(imported) => imported,
        Answer::Error(error) => bail!("{error} ({place})"),
        _ => bail!("the answer is not that of an import: this is a bug"),
    };
    let advice = advice(&imported);
    let Imported { created, existing, failed, problems } = imported;
    let exist = match existing {
        0 => String::new(),
        1 => "1 exists already, ".to_owned(),
        more => format!("{} exist already, ", grouped(more)),
    };
    let did = format!("imported {file}: {} created, {exist}{} failed", grouped(created), grouped(failed));
    if json {
        let object = json!({
            "done": failed == 0, "did": did, "created": created, "existing": existing, "failed": failed, "problems": problems,
            "notes": advice, key: at,
        });
        out::line(object)?;
    } else {
        for problem in &problems {
            let what = match (&problem.error, &problem.warning) {
                (Some(error), _) => error.clone(),
                (_, Some(warning)) => format!("warning: {warning}"),
                _ => continue,
            };
            eprintln!("{file}:{}: {}: {}", problem.line, printable(&problem.jid), printable(&what));
        }
        out::line(format_args!("{did} ({place})"))?;
        if existing > 0 {
            eprintln!("vorpal: accounts that exist already were left as they are; with --json they are named");
        }
        advice.iter().for_each(|line| eprintln!("vorpal: {line}"));
    }
    if failed > 0 {
        bail!("{} of {file} failed; correct them and import them again", counted(failed, "line"));
    }
    Ok(())
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

fn number(row: &Value, name: &str) -> usize {
    row[name].as_u64().and_then(|number| number.try_into().ok()).unwrap_or(0)
}

fn user_line(row: &Value) -> String {
    let disabled = if row["disabled"] == true { "  disabled" } else { "" };
    format!("{}{disabled}", text(row, "jid"))
}

fn change(row: &Value) -> String {
    let restart = if row["needs_restart"] == true { "  (needs a restart)" } else { "" };
    format!("{}{restart}", text(row, "change"))
}

/// The state of a session, in one word.
fn state(row: &Value) -> &str {
    if row["connected"] == true { text(row, "show") } else { "detached" }
}

fn encryption(row: &Value) -> String {
    match (text(row, "tls"), text(row, "cipher")) {
        ("", _) => String::new(),
        (version, cipher) => format!("{version}/{cipher}"),
    }
}

fn sessions(rows: &[Value]) -> String {
    let row = |row: &Value| {
        vec![
            text(row, "jid").to_owned(),
            text(row, "address").to_owned(),
            moment(text(row, "since")),
            text(row, "client").to_owned(),
            encryption(row),
            text(row, "mechanism").to_owned(),
            state(row).to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
    table(&["SESSION", "ADDRESS", "SINCE", "CLIENT", "TLS", "MECHANISM", "STATE"], &rows)
}

/// Lines with a name and its values; the name is printed once.
fn lines(facts: &[(&str, Vec<String>)]) -> String {
    let mut told = String::new();
    for (name, values) in facts {
        for (at, value) in values.iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            told.push_str(&format!("{name:<14}{}\n", printable(value)));
        }
    }
    told
}

fn user(object: &Value) -> String {
    let none = Vec::new();
    let sessions = object["sessions"].as_array().unwrap_or(&none);
    let session = |row: &Value| {
        let jid = text(row, "jid");
        let resource = jid.split_once('/').map_or(jid, |(_, resource)| resource);
        let since = moment(text(row, "since"));
        let from = match text(row, "address") {
            "" => String::new(),
            address => format!(" from {address}"),
        };
        format!("{resource}: {}, since {since}{from}", state(row))
    };
    let disabled = object["disabled"] == true;
    let keys: Vec<&str> = object["keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let seen = match (sessions.is_empty(), text(object, "last_seen")) {
        (false, _) => "now".to_owned(),
        (true, "") => "never".to_owned(),
        (true, seen) => moment(seen),
    };
    lines(&[
        ("account", vec![text(object, "jid").to_owned()]),
        ("state", vec![if disabled { "disabled: nobody can log in" } else { "enabled" }.to_owned()]),
        ("created", vec![moment(text(object, "created"))]),
        ("last seen", vec![seen]),
        ("keys", vec![if keys.is_empty() { "none: nobody can log in".to_owned() } else { keys.join(", ") }]),
        ("roster", vec![format!("{} contacts", grouped(number(object, "roster_entries")))]),
        ("archive", vec![size(object["archive_bytes"].as_u64())]),
        (
            "waiting",
            vec![format!(
                "{}, {}",
                counted(number(object, "waiting_messages"), "message"),
                size(object["waiting_bytes"].as_u64())
            )],
        ),
        ("sessions", if sessions.is_empty() { vec!["none".into()] } else { sessions.iter().map(session).collect() }),
    ])
}

fn status(object: &Value, at: &Path) -> String {
    let list = |name: &str| object[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let by_host = object["accounts_by_host"].as_object().into_iter().flatten();
    let by_host: Vec<String> = by_host.map(|(host, count)| format!("{host} {count}")).collect();
    let (sessions, connected) = (number(object, "sessions"), number(object, "connected"));
    let listener = |row: &Value| format!("{:10}{}", text(row, "key"), text(row, "address"));
    let certificate = |row: &Value| {
        let word = if row["expired"] == true { "EXPIRED" } else { "until" };
        let signed = if row["self_signed"] == true { ", self-signed" } else { "" };
        format!("{} {word} {}{signed}", text(row, "host"), moment(text(row, "until")))
    };
    let free = format!(
        "{} free of {}, {} reserved",
        size(object["disk_free_bytes"].as_u64()),
        size(object["disk_bytes"].as_u64()),
        size(object["reserve_bytes"].as_u64())
    );
    let store = format!(
        "{}, write-ahead log {}, in {}",
        size(object["database_bytes"].as_u64()),
        size(object["wal_bytes"].as_u64()),
        text(object, "data")
    );
    lines(&[
        ("server", vec![format!("vorpal {}, at {}", text(object, "version"), at.display())]),
        ("uptime", vec![span(object["uptime_seconds"].as_u64().unwrap_or(0))]),
        (
            "trouble",
            vec![match object["trouble"].as_str() {
                Some(trouble) => trouble.to_owned(),
                None => "none: takes writes".to_owned(),
            }],
        ),
        ("accounts", vec![format!("{} ({})", grouped(number(object, "accounts")), by_host.join(", "))]),
        (
            "sessions",
            vec![format!(
                "{}: {} connected, {} waiting to be resumed",
                grouped(sessions),
                grouped(connected),
                grouped(sessions.saturating_sub(connected))
            )],
        ),
        ("listeners", list("listeners").iter().map(listener).collect()),
        ("certificates", list("certificates").iter().map(certificate).collect()),
        ("disk", vec![free]),
        ("store", vec![store, format!("writes waiting: {}", grouped(number(object, "writes_waiting")))]),
        ("memory", vec![size(object["memory_bytes"].as_u64())]),
    ])
}
