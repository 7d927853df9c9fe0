//! `vorpal top`: what the server does, second by second.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::orders::Target;
use crate::control::{Answer, Order};
use crate::gauges::{Buckets, Named, Sample, SlowCommit, SlowRead};

/// What a terminal has at least, in lines and columns.
const LINES: usize = 24;
const COLUMNS: usize = 80;

pub(super) async fn run(target: &Target, once: bool, json: bool) -> Result<()> {
    let mut before = sample(target).await?;
    let screen = !once && !json && std::io::stdout().is_terminal();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = sample(target).await?;
        let view = View::between(&before, &after);
        match (json, screen) {
            (true, _) => println!("{}", serde_json::to_string(&view)?),
            // To the corner, then what is there is written over, and the rest of it taken away.
            (_, true) => print!("\x1b[H{}\x1b[J", frame(&view).replace('\n', "\x1b[K\n")),
            _ => print!("{}", frame(&view)),
        }
        std::io::Write::flush(&mut std::io::stdout())?;
        if once {
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
        _ => bail!("the server's answer is none"),
    }
}

/// A second of a server.
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
            commit_ms_p50: quantile(&commits, 0.5).map(|micros| tenth(micros / 100.0) / 10.0),
            commit_ms_p99: quantile(&commits, 0.99).map(|micros| tenth(micros / 100.0) / 10.0),
            read_ms_p99: quantile(&reads, 0.99).map(|micros| tenth(micros / 100.0) / 10.0),
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

fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// What came between two moments.
fn since(before: &Buckets, after: &Buckets) -> Buckets {
    let old = before.counts.iter().copied().chain(std::iter::repeat(0));
    let counts = after.counts.iter().zip(old).map(|(new, old)| new.saturating_sub(old)).collect();
    Buckets { bounds: after.bounds.clone(), counts, sum: after.sum.saturating_sub(before.sum) }
}

/// Below what so large a part lies, as if numbers lay evenly within a bucket; none without any.
fn quantile(buckets: &Buckets, part: f64) -> Option<f64> {
    let all: u64 = buckets.counts.iter().sum();
    let wanted = all as f64 * part;
    let (mut below, mut low) = (0.0, 0.0);
    for (at, count) in buckets.counts.iter().enumerate().filter(|_| all > 0) {
        // What is above all bounds is told as the last of them.
        let high = buckets.bounds.get(at).map_or(low, |bound| *bound as f64);
        let count = *count as f64;
        if count > 0.0 && below + count >= wanted {
            return Some(low + (high - low) * (wanted - below) / count);
        }
        (below, low) = (below + count, high);
    }
    None
}

/// A screen of at most 24 lines of 80 columns.
fn frame(view: &View) -> String {
    let mut lines = vec![format!(
        "vorpal {}  up {}  {}",
        view.version,
        span(view.uptime_seconds),
        view.trouble.as_ref().map_or("takes writes".to_owned(), |trouble| format!("TROUBLE: {trouble}"))
    )];
    lines.push(format!(
        "sessions  {} connected, {} waiting, {} available, {} reading, {} logging in, {} queued for that",
        view.attached,
        view.detached,
        view.available,
        view.reading,
        view.logging_in,
        view.logins_waiting + view.binds_waiting
    ));
    lines.push(format!(
        "in /s     {} messages, {} presence, {} iq, {} logins, {} failed logins",
        view.messages_per_second,
        view.presences_per_second,
        view.iqs_per_second,
        view.logins_per_second,
        view.login_failures_per_second
    ));
    lines.push(format!(
        "out /s    {} delivered, {} copies, {} into logs, {} bounced",
        view.deliveries_per_second, view.copies_per_second, view.entries_per_second, view.bounced_per_second
    ));
    lines.push(format!(
        "store     {} commits/s of {} batches, p50 {} ms, p99 {} ms; reads p99 {} ms",
        view.commits_per_second,
        or_dash(view.batches_per_commit),
        or_dash(view.commit_ms_p50),
        or_dash(view.commit_ms_p99),
        or_dash(view.read_ms_p99)
    ));
    lines.push(format!(
        "waiting   {} batches ({}), {} unsettled, {} in sessions; {} batches/s failed",
        view.backlog_batches,
        size(Some(view.backlog_bytes)),
        view.unsettled,
        size(Some(view.queued_bytes)),
        tenth(view.failed_batches_per_second)
    ));
    lines.push(format!(
        "network   {}/s in, {}/s out; {} accounts loaded, {} panics",
        size(Some(view.bytes_in_per_second as u64)),
        size(Some(view.bytes_out_per_second as u64)),
        view.accounts_loaded,
        view.panics
    ));
    lines.push(format!(
        "memory    {}; disk {} free of {} ({} reserved), database {} + {}",
        size(view.memory_bytes),
        size(view.disk_free_bytes),
        size(view.disk_bytes),
        size(Some(view.reserve_bytes)),
        size(view.database_bytes),
        size(view.wal_bytes)
    ));
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
    for (title, most, list) in [
        ("slowest commits of the last minute", 2, commits.collect::<Vec<_>>()),
        ("slowest reads of the last minute", 2, reads.collect()),
        ("longest queues", 2, queues.collect()),
        ("most stanzas", 2, busiest.collect()),
        ("most unsettled", 1, unsettled.collect()),
    ] {
        lines.push(format!("{title}{}", if list.is_empty() { ": none" } else { "" }));
        lines.extend(list.into_iter().take(most).map(|line| format!("  {line}")));
    }
    let mut text = String::new();
    for line in lines.iter().take(LINES - 1) {
        let shown: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).take(COLUMNS - 1).collect();
        let _ = writeln!(text, "{shown}");
    }
    text
}

fn or_dash(number: Option<f64>) -> String {
    number.map_or("-".to_owned(), |number| number.to_string())
}

fn size(bytes: Option<u64>) -> String {
    let Some(bytes) = bytes else { return "?".into() };
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{} {unit}", tenth(bytes as f64 / (1_u64 << shift) as f64)),
        None => format!("{bytes} B"),
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
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

    #[test]
    fn a_full_screen_fits_the_smallest_terminal_and_shows_no_control_characters() {
        let long = || vec![Named { jid: format!("{}\x1b[2J@example.org", "x".repeat(300)), value: 1e9 }; 5];
        let view = View {
            trouble: Some("the disk ".repeat(30)),
            slow_commits: vec![SlowCommit { ms: 12_345.678, seconds_ago: 59, batches: 512, bytes: 1 << 22 }; 5],
            slow_reads: vec![SlowRead { ms: 1.0, seconds_ago: 1, what: "account x".repeat(40) }; 5],
            queues: long(),
            busiest: long(),
            busiest_unsettled: long(),
            ..View::default()
        };
        let text = frame(&view);
        assert!(text.lines().count() < LINES, "{text}");
        assert!(text.lines().all(|line| line.chars().count() < COLUMNS), "{text}");
        assert!(!text.contains('\x1b') && text.contains("most unsettled"), "{text}");
    }
}
