//! `vorpal top`: the activity of the server, second by second.

#![expect(clippy::disallowed_methods, reason = "the screen is drawn anew each second")]

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::orders::Target;
use super::out;
use super::text::{size, span, tenth};
use crate::gauges::{Buckets, Named, Sample, SlowCommit, SlowRead};
use crate::orders::{Answer, Order};

/// Maximum number of lines of each list.
const LIST: usize = 5;

pub(super) async fn run(target: &Target, once: bool, json: bool) -> Result<()> {
    let mut before = sample(target).await?;
    let screen = !once && !json && std::io::stdout().is_terminal();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = sample(target).await?;
        let view = View::between(&before, &after);
        let text = match (json, screen) {
            (true, _) => serde_json::to_string(&view)? + "\n",
            // Moves to the top left corner, overwrites what is there, and erases the rest.
            (_, true) => format!("\x1b[H{}\x1b[J", frame(&view, Terminal::now()).replace('\n', "\x1b[K\n")),
            _ => frame(&view, Terminal::now()),
        };
        if !out::write(text)? || once {
            return Ok(());
        }
        before = after;
    }
}

async fn sample(target: &Target) -> Result<Sample> {
    match target.give_running(Order::Top).await?.0 {
        Answer::Rows(mut rows) if rows.len() == 1 => {
            serde_json::from_value(rows.remove(0)).context("the server's answer")
        }
        Answer::Error(error) => bail!("{error}"),
        _ => bail!("unexpected answer from the server"),
    }
}

/// One second of a server.
#[derive(Debug, Default, Serialize)]
struct View {
    at: u64,
    uptime_seconds: u64,
    version: String,
    trouble: Option<String>,
    sessions: u64,
    attached: u64,
    detached: u64,
    available: u64,
    reading: u64,
    restored: u64,
    logging_in: u64,
    logins_waiting: u64,
    binds_waiting: u64,
    accounts_loaded: u64,
    messages_per_second: f64,
    presences_per_second: f64,
    iqs_per_second: f64,
    deliveries_per_second: f64,
    copies_per_second: f64,
    entries_per_second: f64,
    bounced_per_second: f64,
    logins_per_second: f64,
    login_failures_per_second: f64,
    bytes_in_per_second: f64,
    bytes_out_per_second: f64,
    commits_per_second: f64,
    batches_per_commit: Option<f64>,
    commit_ms_p50: Option<f64>,
    commit_ms_p99: Option<f64>,
    read_ms_p99: Option<f64>,
    failed_batches_per_second: f64,
    backlog_batches: u64,
    backlog_bytes: u64,
    unsettled: u64,
    queued_bytes: u64,
    panics: u64,
    memory_bytes: Option<u64>,
    database_bytes: Option<u64>,
    wal_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
    disk_bytes: Option<u64>,
    reserve_bytes: u64,
    slow_commits: Vec<SlowCommit>,
    slow_reads: Vec<SlowRead>,
    queues: Vec<Named>,
    busiest_unsettled: Vec<Named>,
    busiest: Vec<Named>,
}

impl View {
    fn between(before: &Sample, after: &Sample) -> View {
        let seconds = after.at.saturating_sub(before.at).max(1) as f64 / 1e3;
        let count = |sample: &Sample, name: &str| -> u64 {
            let of = |key: &&String| *key == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
            sample.counts.iter().filter(|(key, _)| of(key)).map(|(_, count)| count).sum()
        };
        let rate = |name: &str| tenth(count(after, name).saturating_sub(count(before, name)) as f64 / seconds);
        let commits = since(&before.commit_micros, &after.commit_micros);
        let batches = since(&before.commit_batches, &after.commit_batches);
        let reads = since(&before.read_micros, &after.read_micros);
        let done: u64 = commits.counts.iter().sum();
        let failed =
            ["refused", "full", "failed", "stale"].map(|why| rate(&format!("vorpal_store_batches_total:{why}")));
        View {
            at: after.at,
            uptime_seconds: after.uptime_seconds,
            version: after.version.clone(),
            trouble: after.trouble.clone(),
            sessions: after.attached + after.detached,
            attached: after.attached,
            detached: after.detached,
            available: after.available,
            reading: after.reading,
            restored: after.restored,
            logging_in: after.logging_in,
            logins_waiting: after.logins_waiting,
            binds_waiting: after.binds_waiting,
            accounts_loaded: after.accounts_loaded,
            messages_per_second: rate("vorpal_stanzas_received_total:message"),
            presences_per_second: rate("vorpal_stanzas_received_total:presence"),
            iqs_per_second: rate("vorpal_stanzas_received_total:iq"),
            deliveries_per_second: rate("vorpal_messages_delivered_total:itself"),
            copies_per_second: rate("vorpal_messages_delivered_total:copy"),
            entries_per_second: rate("vorpal_log_entries_written_total"),
            bounced_per_second: rate("vorpal_messages_bounced_total"),
            logins_per_second: rate("vorpal_logins_total"),
            login_failures_per_second: rate("vorpal_login_failures_total"),
            bytes_in_per_second: rate("vorpal_network_received_bytes_total"),
            bytes_out_per_second: rate("vorpal_network_sent_bytes_total"),
            commits_per_second: tenth(done as f64 / seconds),
            batches_per_commit: (done > 0).then(|| tenth(batches.sum as f64 / done as f64)),
            commit_ms_p50: quantile(&commits, 0.5).map(|micros| hundredth(micros / 1e3)),
            commit_ms_p99: quantile(&commits, 0.99).map(|micros| hundredth(micros / 1e3)),
            read_ms_p99: quantile(&reads, 0.99).map(|micros| hundredth(micros / 1e3)),
            failed_batches_per_second: failed.iter().sum(),
            backlog_batches: after.backlog_batches,
            backlog_bytes: after.backlog_bytes,
            unsettled: after.unsettled,
            queued_bytes: after.queued_bytes,
            panics: count(after, "vorpal_panics_total"),
            memory_bytes: after.memory_bytes,
            database_bytes: after.database_bytes,
            wal_bytes: after.wal_bytes,
            disk_free_bytes: after.disk_free_bytes,
            disk_bytes: after.disk_bytes,
            reserve_bytes: after.reserve_bytes,
            slow_commits: after.slow_commits.clone(),
            slow_reads: after.slow_reads.clone(),
            queues: after.queues.clone(),
            busiest_unsettled: after.busiest_unsettled.clone(),
            busiest: after.busiest.clone(),
        }
    }
}

/// The difference of two samples.
fn since(before: &Buckets, after: &Buckets) -> Buckets {
    let old = before.counts.iter().copied().chain(std::iter::repeat(0));
    let counts = after.counts.iter().zip(old).map(|(new, old)| new.saturating_sub(old)).collect();
    Buckets { bounds: after.bounds.clone(), counts, sum: after.sum.saturating_sub(before.sum) }
}

/// A quantile, assuming that values are evenly distributed within a bucket; `None` if there are no values.
fn quantile(buckets: &Buckets, part: f64) -> Option<f64> {
    let all: u64 = buckets.counts.iter().sum();
    let wanted = all as f64 * part;
    let (mut below, mut low) = (0.0, 0.0);
    for (at, count) in buckets.counts.iter().enumerate().filter(|_| all > 0) {
        // A value above all bounds is shown as the last bound.
        let high = buckets.bounds.get(at).map_or(low, |bound| *bound as f64);
        let count = *count as f64;
        if count > 0.0 && below + count >= wanted {
            return Some(low + (high - low) * (wanted - below) / count);
        }
        (below, low) = (below + count, high);
    }
    None
}

/// A screen with fewer lines than the terminal, each shorter than its width.
fn frame(view: &View, terminal: Terminal) -> String {
    let facts: [(&str, Vec<String>); 7] = [
        (
            "sessions",
            vec![
                format!("{} connected", view.attached),
                format!("{} detached", view.detached),
                format!("{} available", view.available),
                format!("{} reading", view.reading),
                format!("{} logging in", view.logging_in),
                format!("{} queued", view.logins_waiting + view.binds_waiting),
            ],
        ),
        (
            "in /s",
            vec![
                format!("{} messages", view.messages_per_second),
                format!("{} presence", view.presences_per_second),
                format!("{} iq", view.iqs_per_second),
                format!("{} logins", view.logins_per_second),
                format!("{} failed", view.login_failures_per_second),
            ],
        ),
        (
            "out /s",
            vec![
                format!("{} delivered", view.deliveries_per_second),
                format!("{} copies", view.copies_per_second),
                format!("{} into logs", view.entries_per_second),
                format!("{} bounced", view.bounced_per_second),
            ],
        ),
        (
            "store",
            vec![
                format!("{} commits/s of {} batches", view.commits_per_second, or_dash(view.batches_per_commit)),
                format!("p50 {} ms", or_dash(view.commit_ms_p50)),
                format!("p99 {} ms", or_dash(view.commit_ms_p99)),
                format!("reads p99 {} ms", or_dash(view.read_ms_p99)),
            ],
        ),
        (
            "waiting",
            vec![
                format!("{} batches ({})", view.backlog_batches, size(Some(view.backlog_bytes))),
                format!("{} unsettled", view.unsettled),
                format!("{} in sessions", size(Some(view.queued_bytes))),
                format!("{} batches/s failed", tenth(view.failed_batches_per_second)),
            ],
        ),
        (
            "network",
            vec![
                format!("{}/s in", size(Some(view.bytes_in_per_second as u64))),
                format!("{}/s out", size(Some(view.bytes_out_per_second as u64))),
                format!("{} accounts loaded", view.accounts_loaded),
                format!("{} panics", view.panics),
            ],
        ),
        (
            "memory",
            vec![
                size(view.memory_bytes),
                format!("disk {} free of {}", size(view.disk_free_bytes), size(view.disk_bytes)),
                format!("{} reserved", size(Some(view.reserve_bytes))),
                format!("database {} + {}", size(view.database_bytes), size(view.wal_bytes)),
            ],
        ),
    ];
    let width = terminal.columns.saturating_sub(1);
    let mut lines = vec![format!(
        "vorpal {}  up {}  {}",
        view.version,
        span(view.uptime_seconds),
        view.trouble.as_ref().map_or("takes writes".to_owned(), |trouble| format!("TROUBLE: {trouble}"))
    )];
    for (name, parts) in facts {
        lines.extend(wrapped(name, &parts, width));
    }
    lines.push(String::new());
    let commits = view.slow_commits.iter().map(|slow| {
        format!(
            "{} ms  {} batches, {}, {} s ago",
            slow.ms,
            slow.batches,
            size(Some(slow.bytes as u64)),
            slow.seconds_ago
        )
    });
    let reads = view.slow_reads.iter().map(|slow| format!("{} ms  {}, {} s ago", slow.ms, slow.what, slow.seconds_ago));
    let queues = view.queues.iter().map(|named| format!("{}  {}", size(Some(named.value as u64)), named.jid));
    let busiest = view.busiest.iter().map(|named| format!("{}/s  {}", named.value, named.jid));
    let unsettled = view.busiest_unsettled.iter().map(|named| format!("{}  {}", named.value, named.jid));
    let lists = [
        ("slowest commits of the last minute", commits.collect::<Vec<_>>()),
        ("slowest reads of the last minute", reads.collect()),
        ("longest queues", queues.collect()),
        ("most stanzas", busiest.collect()),
        ("most unsettled", unsettled.collect()),
    ];
    // The remaining lines are given to the lists in turn, the first lists first.
    let mut room = terminal.lines.saturating_sub(1).saturating_sub(lines.len() + lists.len());
    let mut shown = [0; 5];
    for turn in 1..=LIST {
        for ((_, list), shown) in lists.iter().zip(&mut shown) {
            if room > 0 && list.len() >= turn {
                (*shown, room) = (turn, room - 1);
            }
        }
    }
    for ((title, list), shown) in lists.into_iter().zip(shown) {
        lines.push(format!("{title}{}", if list.is_empty() { ": none" } else { "" }));
        lines.extend(list.into_iter().take(shown).map(|line| format!("  {line}")));
    }
    let mut text = String::new();
    for line in lines.iter().take(terminal.lines.saturating_sub(1)) {
        let shown: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).take(width).collect();
        let _ = writeln!(text, "{shown}");
    }
    text
}

/// A name and its parts, on as many lines as needed; the parts are aligned with those above.
fn wrapped(name: &str, parts: &[String], width: usize) -> Vec<String> {
    const INDENT: usize = 10;
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + part.chars().count() <= width => {
                line.push_str(", ");
                line.push_str(part);
            }
            Some(_) => lines.push(format!("{:INDENT$}{part}", "")),
            None => lines.push(format!("{name:INDENT$}{part}")),
        }
    }
    lines
}

/// The size of the terminal.
#[derive(Clone, Copy, Debug)]
struct Terminal {
    lines: usize,
    columns: usize,
}

impl Terminal {
    /// The default, for a file or a terminal of unknown size.
    const USUAL: Terminal = Terminal { lines: 24, columns: 80 };

    /// The size of the terminal, if standard output is one.
    fn now() -> Terminal {
        match rustix::termios::tcgetwinsize(std::io::stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
                Terminal { lines: size.ws_row.into(), columns: size.ws_col.into() }
            }
            _ => Terminal::USUAL,
        }
    }
}

/// Rounded to two digits after the point.
fn hundredth(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn or_dash(number: Option<f64>) -> String {
    number.map_or("-".to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, messages: u64, commits: &[u64]) -> Sample {
        let counts = [("vorpal_stanzas_received_total:message", messages), ("vorpal_stanzas_received_total:iq", 7)];
        Sample {
            at,
            counts: counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
            commit_micros: Buckets { bounds: vec![1_000, 2_000], counts: commits.to_vec(), sum: 0 },
            commit_batches: Buckets { bounds: vec![1], counts: vec![0, 0], sum: commits.iter().sum::<u64>() * 3 },
            ..Sample::default()
        }
    }

    #[test]
    fn rates_are_what_came_between_two_samples() {
        let view = View::between(&sample(1_000, 100, &[4, 0, 0]), &sample(3_000, 151, &[4, 9, 1]));
        assert_eq!((view.messages_per_second, view.iqs_per_second), (25.5, 0.0));
        assert_eq!((view.commits_per_second, view.batches_per_commit), (5.0, Some(3.0)));
        assert_eq!((view.commit_ms_p50, view.commit_ms_p99), (Some(1.56), Some(2.0)));
        let still = View::between(&sample(1_000, 1, &[1, 0, 0]), &sample(2_000, 1, &[1, 0, 0]));
        assert_eq!((still.commit_ms_p50, still.batches_per_commit), (None, None));
    }

    /// As full as it gets.
    fn full() -> View {
        let long = || vec![Named { jid: format!("{}\x1b[2J@example.org", "x".repeat(300)), value: 1e9 }; 5];
        let some = Some(999 << 30);
        View {
            memory_bytes: some,
            disk_free_bytes: some,
            disk_bytes: some,
            database_bytes: some,
            wal_bytes: some,
            reserve_bytes: 999 << 20,
            slow_commits: vec![SlowCommit { ms: 12_345.678, seconds_ago: 59, batches: 512, bytes: 1 << 22 }; 5],
            slow_reads: vec![SlowRead { ms: 1.0, seconds_ago: 1, what: "account x".repeat(40) }; 5],
            queues: long(),
            busiest: long(),
            busiest_unsettled: long(),
            ..View::default()
        }
    }

    #[test]
    fn a_screen_fits_any_terminal_and_shows_no_control_characters() {
        let view = View { trouble: Some("the disk ".repeat(30)), ..full() };
        for (lines, columns) in [(24, 80), (24, 60), (50, 200), (10, 30), (3, 5), (2, 2), (1, 1), (0, 0)] {
            let text = frame(&view, Terminal { lines, columns });
            assert!(text.lines().count() <= lines.saturating_sub(1), "{lines}x{columns}: {text}");
            let width = columns.saturating_sub(1);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{lines}x{columns}: {text}");
            assert!(!text.contains('\x1b'), "{text}");
        }
        let text = frame(&view, Terminal { lines: 50, columns: 80 });
        assert_eq!(text.matches("xxxx").count() > 0, text.contains("most unsettled"), "{text}");
        assert_eq!(
            text.lines().filter(|line| line.starts_with("  12345.678 ms")).count(),
            5,
            "the room is used: {text}"
        );
    }

    #[test]
    fn no_number_is_cut_off() {
        for (lines, columns) in [(30, 80), (40, 60), (60, 40)] {
            let text = frame(&full(), Terminal { lines, columns });
            for part in
                ["0 queued", "0 failed", "reads p99 - ms", "0 batches/s failed", "0 panics", "999 GiB + 999 GiB\n"]
            {
                assert!(text.contains(part), "{part} in {lines}x{columns}: {text}");
            }
        }
        let usual = frame(&full(), Terminal::USUAL);
        assert!(usual.contains("database 999 GiB + 999 GiB\n") && usual.contains("most unsettled"), "{usual}");
    }
}
