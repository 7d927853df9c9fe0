//! Monitoring over HTTP: `/metrics` in the Prometheus text format, and `/health`.

#![expect(clippy::disallowed_methods, reason = "a sample asks the operating system")]

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use vorpal_core::watch::counts::{FAMILIES, Sort};

use crate::gauges::{Buckets, Gauges, Sample};

/// The content type of the Prometheus text format (version 0.0.4).
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The two pages.
pub(crate) fn router(gauges: Arc<Gauges>) -> Router {
    let health = gauges.clone();
    Router::new()
        .route(
            "/metrics",
            get(move || async move {
                match tokio::task::spawn_blocking(move || text(&gauges.sample(false))).await {
                    Ok(text) => ([(header::CONTENT_TYPE, FORMAT)], text).into_response(),
                    Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                }
            }),
        )
        .route(
            "/health",
            get(move || async move {
                match health.trouble() {
                    None => (StatusCode::OK, "ok\n".to_owned()),
                    Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n")),
                }
            }),
        )
}

/// All metrics, in the order of the tables.
fn text(sample: &Sample) -> String {
    let mut out = String::with_capacity(16 * 1024);
    for family in FAMILIES {
        let sort = if family.sort == Sort::Counter { "counter" } else { "gauge" };
        head(&mut out, family.name, sort, family.help);
        for (_, value) in family.rows {
            let (key, labels) = match *value {
                "" => (family.name.to_owned(), String::new()),
                value => (format!("{}:{value}", family.name), format!("{{{}=\"{value}\"}}", family.label)),
            };
            let _ = writeln!(out, "{}{labels} {}", family.name, sample.counts.get(&key).copied().unwrap_or(0));
        }
    }
    let commits = sample.commit_micros.counts.iter().sum();
    let takes = u64::from(sample.trouble.is_none());
    let some = |value: u64| Some(value);
    for (name, sort, help, value) in [
        ("vorpal_sessions_attached", "gauge", "Sessions with a connection.", some(sample.attached)),
        (
            "vorpal_sessions_detached",
            "gauge",
            "Sessions without a connection, which can be resumed.",
            some(sample.detached),
        ),
        ("vorpal_sessions_available", "gauge", "Sessions that have sent presence.", some(sample.available)),
        (
            "vorpal_sessions_reading",
            "gauge",
            "Sessions that read the log: stanzas that they missed, or that did not fit into their queue.",
            some(sample.reading),
        ),
        (
            "vorpal_sessions_restored",
            "gauge",
            "Sessions from before the restart that have not been resumed yet.",
            some(sample.restored),
        ),
        (
            "vorpal_sessions_queued_bytes",
            "gauge",
            "Bytes in sessions that wait to be written or acknowledged.",
            some(sample.queued_bytes),
        ),
        (
            "vorpal_stanzas_unsettled",
            "gauge",
            "Stanzas that were read and are not settled (not yet safe to acknowledge).",
            some(sample.unsettled),
        ),
        ("vorpal_connections_logging_in", "gauge", "Connections that have not logged in yet.", some(sample.logging_in)),
        (
            "vorpal_connections_waiting",
            "gauge",
            "Connections that wait to be accepted, because too many have not logged in yet.",
            some(sample.connections_waiting),
        ),
        ("vorpal_logins_waiting", "gauge", "Logins that wait in the queue to be checked.", some(sample.logins_waiting)),
        (
            "vorpal_binds_waiting",
            "gauge",
            "Logins that wait for a new session behind logins that may resume one.",
            some(sample.binds_waiting),
        ),
        ("vorpal_accounts_loaded", "gauge", "Accounts in memory.", some(sample.accounts_loaded)),
        ("vorpal_store_commits_total", "counter", "Commits.", some(commits)),
        ("vorpal_store_backlog_batches", "gauge", "Batches that wait for the writer.", some(sample.backlog_batches)),
        (
            "vorpal_store_backlog_bytes",
            "gauge",
            "Bytes of the batches that wait for the writer.",
            some(sample.backlog_bytes),
        ),
        (
            "vorpal_store_takes_writes",
            "gauge",
            "1 if the store accepts new writes; 0 if not: /health gives the reason.",
            some(takes),
        ),
        ("vorpal_store_database_bytes", "gauge", "The size of the database file.", sample.database_bytes),
        ("vorpal_store_wal_bytes", "gauge", "The size of the database's write-ahead log.", sample.wal_bytes),
        ("vorpal_disk_free_bytes", "gauge", "Free space on the disk of the data directory.", sample.disk_free_bytes),
        ("vorpal_disk_size_bytes", "gauge", "The size of the disk of the data directory.", sample.disk_bytes),
        (
            "vorpal_disk_reserve_bytes",
            "gauge",
            "storage.reserve: with less free space, stanzas that would have to be stored are refused.",
            some(sample.reserve_bytes),
        ),
        ("vorpal_uptime_seconds", "gauge", "How long the server has been up.", some(sample.uptime_seconds)),
        ("process_resident_memory_bytes", "gauge", "Resident memory.", sample.memory_bytes),
        ("process_open_fds", "gauge", "Open files and sockets.", sample.open_fds),
    ] {
        let Some(value) = value else { continue };
        head(&mut out, name, sort, help);
        let _ = writeln!(out, "{name} {value}");
    }
    if !sample.certificates.is_empty() {
        let name = "vorpal_certificate_expires_seconds";
        head(&mut out, name, "gauge", "Time until the certificate of a host expires; negative once it has expired.");
        for (host, seconds) in &sample.certificates {
            let _ = writeln!(out, "{name}{{host=\"{host}\"}} {seconds}");
        }
    }
    histogram(
        &mut out,
        "vorpal_store_commit_seconds",
        "Duration of commits, including the sync.",
        &sample.commit_micros,
        1e6,
    );
    histogram(&mut out, "vorpal_store_commit_batches", "Number of batches in a commit.", &sample.commit_batches, 1.0);
    histogram(
        &mut out,
        "vorpal_store_read_seconds",
        "Duration of reads, including the wait for a reader.",
        &sample.read_micros,
        1e6,
    );
    head(&mut out, "vorpal_build_info", "gauge", "1, with the version of the server.");
    let _ = writeln!(out, "vorpal_build_info{{version=\"{}\"}} 1", sample.version);
    out
}

fn head(out: &mut String, name: &str, sort: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {sort}");
}

/// Bounds are divided by `unit`: microseconds are shown as seconds.
fn histogram(out: &mut String, name: &str, help: &str, buckets: &Buckets, unit: f64) {
    head(out, name, "histogram", help);
    let mut below = 0;
    let bounds = buckets.bounds.iter().map(|bound| (*bound as f64 / unit).to_string()).chain(["+Inf".to_owned()]);
    for (bound, count) in bounds.zip(&buckets.counts) {
        below += count;
        let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {below}");
    }
    let _ = writeln!(out, "{name}_sum {}\n{name}_count {below}", buckets.sum as f64 / unit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_every_number_once_with_its_help_and_sort() {
        let mut sample = Sample { version: "1.2.3".into(), disk_free_bytes: Some(7), ..Sample::default() };
        sample.counts.insert("vorpal_stanzas_received_total:iq".into(), 3);
        sample.certificates = vec![("a.example".into(), 86_400), ("b.example".into(), -1)];
        let text = text(&sample);
        assert!(text.contains(
            " gauge\nvorpal_certificate_expires_seconds{host=\"a.example\"} 86400\n\
             vorpal_certificate_expires_seconds{host=\"b.example\"} -1\n"
        ));
        assert!(text.contains(
            "# HELP vorpal_stanzas_received_total Stanzas that sessions sent.\n# TYPE vorpal_stanzas_received_total counter\n\
             vorpal_stanzas_received_total{kind=\"message\"} 0\nvorpal_stanzas_received_total{kind=\"presence\"} 0\n\
             vorpal_stanzas_received_total{kind=\"iq\"} 3\n"
        ));
        assert!(text.contains("\nvorpal_disk_free_bytes 7\n") && !text.contains("vorpal_disk_size_bytes"));
        assert!(text.contains("\nvorpal_build_info{version=\"1.2.3\"} 1\n"));
        let mut series: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.rsplit_once(' ')?.0))
            .collect();
        let all = series.len();
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), all, "a series is there twice");
        for name in series.iter().map(|name| name.split('{').next().unwrap_or_default()) {
            let of = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(text.contains(&format!("# TYPE {of} ")), "{name} has no type");
        }
    }

    #[test]
    fn buckets_are_told_cumulatively_and_in_seconds() {
        let mut out = String::new();
        let buckets = Buckets { bounds: vec![50, 1_000], counts: vec![2, 3, 1], sum: 12_500 };
        histogram(&mut out, "x_seconds", "X.", &buckets, 1e6);
        assert_eq!(
            out,
            "# HELP x_seconds X.\n# TYPE x_seconds histogram\nx_seconds_bucket{le=\"0.00005\"} 2\nx_seconds_bucket{le=\"0.001\"} 5\n\
             x_seconds_bucket{le=\"+Inf\"} 6\nx_seconds_sum 0.0125\nx_seconds_count 6\n"
        );
    }
}
