//! What the server counts: plain numbers, and the one table of their names.
//!
//! Counting is one relaxed addition in memory that the core at hand has for itself: every thread has a shard, and no two
//! shards share a cache line. Reading adds the shards up. Nothing is allocated, and labels are places in the table.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use vorpal_proto::error::Condition;
use vorpal_proto::sasl::{Mechanism, SaslError};
use vorpal_proto::stanza::Kind;

/// Number of threads that count without contention; more share.
const SHARDS: usize = 8;

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// It only grows while the server runs.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// Numbers of one name, which differ in a label.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// as Prometheus calls it, unit included
    pub name: &'static str,
    /// what it is, in one sentence
    pub help: &'static str,
    /// whether it only grows
    pub sort: Sort,
    /// the label by which its rows differ; empty if it has one row
    pub label: &'static str,
    /// the numbers, each with the label's value
    pub rows: &'static [(Count, &'static str)],
}

macro_rules! counts {
    ($($sort:ident $name:literal $help:literal $(by $label:literal)? { $($count:ident $(= $value:literal)?),* $(,)? })*) => {
        /// A number that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Count {
            $($(#[doc = concat!("Of `", $name, "`.")] $count,)*)*
        }

        /// All that is counted, in the order in which it is told.
        pub static FAMILIES: &[Family] = &[$(Family {
            name: $name,
            help: $help,
            sort: Sort::$sort,
            label: concat!("" $(, $label)?),
            rows: &[$((Count::$count, concat!("" $(, $value)?))),*],
        }),*];

        const LEN: usize = [$($(Count::$count),*),*].len();
    };
}

counts! {
    Counter "vorpal_stanzas_received_total" "Stanzas that sessions sent." by "kind" {
        Messages = "message", Presences = "presence", Iqs = "iq",
    }
    Counter "vorpal_messages_delivered_total" "Messages given to sessions to be written: themselves, or as carbon copies." by "as" {
        Delivered = "itself", Copied = "copy",
    }
    Counter "vorpal_log_entries_written_total" "Entries handed to the store for the logs of accounts." { Entries }
    Counter "vorpal_messages_bounced_total" "Messages of sessions that were answered with an error." by "condition" {
        BouncedBadRequest = "bad-request", BouncedForbidden = "forbidden", BouncedInternal = "internal-server-error",
        BouncedNotFound = "item-not-found", BouncedNotAcceptable = "not-acceptable", BouncedNotAllowed = "not-allowed",
        BouncedPolicy = "policy-violation", BouncedNoServer = "remote-server-not-found",
        BouncedTimeout = "remote-server-timeout", BouncedConstraint = "resource-constraint",
        BouncedUnavailable = "service-unavailable", BouncedOther = "other",
    }
    Counter "vorpal_messages_dropped_total" "Messages of sessions that went nowhere, in silence." { Dropped }
    Counter "vorpal_reserve_refusals_total" "Stanzas answered with resource-constraint because free space was below storage.reserve." {
        Reserved,
    }
    Counter "vorpal_backlog_refusals_total" "Stanzas answered with resource-constraint because too much waited to be written." {
        BehindDisk,
    }
    Counter "vorpal_quota_refusals_total" "Messages refused because too much waited for their receivers, or too much was in an archive." {
        OverQuota,
    }
    Counter "vorpal_sessions_bound_total" "Sessions that began." { Bound }
    Counter "vorpal_sessions_ended_total" "Sessions that ended for good." { Ended }
    Counter "vorpal_sessions_detached_total" "Connections that went and left a session behind that can be resumed." { Detached }
    Counter "vorpal_resumptions_total" "Attempts to resume a session." by "result" {
        Resumed = "done", Revived = "done-after-restart", NotResumed = "refused",
    }
    Counter "vorpal_logins_total" "Logins that succeeded." by "mechanism" {
        LoginSha512Plus = "SCRAM-SHA-512-PLUS", LoginSha256Plus = "SCRAM-SHA-256-PLUS", LoginSha1Plus = "SCRAM-SHA-1-PLUS",
        LoginSha512 = "SCRAM-SHA-512", LoginSha256 = "SCRAM-SHA-256", LoginSha1 = "SCRAM-SHA-1", LoginPlain = "PLAIN",
        LoginOther = "other",
    }
    Counter "vorpal_login_failures_total" "Attempts to log in that failed, by what the client was told." by "reason" {
        FailedNotAuthorized = "not-authorized", FailedMechanism = "invalid-mechanism", FailedMalformed = "malformed-request",
        FailedTemporary = "temporary-auth-failure", FailedAborted = "aborted", FailedOther = "other",
    }
    Counter "vorpal_logins_throttled_total" "Attempts to log in that were refused unseen: too many had failed before." { Throttled }
    Counter "vorpal_logins_put_off_total" "Attempts to log in that were refused unseen: too many waited already." { PutOff }
    Counter "vorpal_connections_total" "Connections that were accepted." by "entrance" {
        CameStarttls = "starttls", CameDirectTls = "direct-tls", CamePlain = "plain",
    }
    Gauge "vorpal_connections" "Connections that are there." by "entrance" {
        HereStarttls = "starttls", HereDirectTls = "direct-tls", HerePlain = "plain",
    }
    Counter "vorpal_connections_refused_total" "Connections that were closed at once because of a limit, or to make room." by "reason" {
        RefusedFull = "server-full", RefusedNetworkFull = "network-full", RefusedTooFast = "too-fast",
        RefusedForOther = "made-room", RefusedCrowded = "crowded",
    }
    Counter "vorpal_tls_handshakes_total" "TLS handshakes." by "result" { TlsDone = "done", TlsFailed = "failed" }
    Counter "vorpal_network_received_bytes_total" "Bytes read from clients, without TLS." { BytesIn }
    Counter "vorpal_network_sent_bytes_total" "Bytes written to clients, without TLS." { BytesOut }
    Counter "vorpal_store_batches_total" "Batches of writes, by what became of them." by "result" {
        BatchesCommitted = "committed", BatchesRefused = "refused", BatchesFull = "full", BatchesBroken = "failed",
        BatchesStale = "stale",
    }
    Counter "vorpal_store_committed_bytes_total" "Bytes of the batches that were committed, before the database's own." { BytesCommitted }
    Counter "vorpal_store_reads_total" "Reads from the store: accounts, and pages of logs." by "of" {
        ReadAccount = "account", ReadLog = "log",
    }
    Counter "vorpal_panics_total" "Panics that were caught. Each is a bug, and is logged." { Panics }
}

/// One thread's numbers. Aligned to two lines, as processors fetch lines in pairs.
#[repr(align(128))]
#[derive(Debug)]
struct Shard([AtomicU64; LEN]);

/// All numbers of a server.
#[derive(Debug)]
pub struct Counts {
    shards: Box<[Shard]>,
    /// how long commits took, in microseconds
    pub commit_micros: Histogram,
    /// how many batches went into a commit
    pub commit_batches: Histogram,
    /// how long reads took, in microseconds
    pub read_micros: Histogram,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            shards: (0..SHARDS).map(|_| Shard([const { AtomicU64::new(0) }; LEN])).collect(),
            commit_micros: Histogram::new(MICROS),
            commit_batches: Histogram::new(BATCHES),
            read_micros: Histogram::new(MICROS),
        }
    }
}

/// The next thread's shard. Not of one server: a thread keeps its place whichever it works for.
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

impl Counts {
    fn place(&self, count: Count) -> Option<&AtomicU64> {
        self.shards.get(SHARD.with(|shard| *shard))?.0.get(count as usize)
    }

    /// Counts one.
    pub fn one(&self, count: Count) {
        self.add(count, 1);
    }

    /// Counts so many.
    pub fn add(&self, count: Count, n: u64) {
        if let Some(place) = self.place(count) {
            place.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// One less, of a gauge; on whichever thread.
    pub fn one_less(&self, count: Count) {
        if let Some(place) = self.place(count) {
            place.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The number as it is now. Others may be a moment older or newer.
    pub fn get(&self, count: Count) -> u64 {
        let places = self.shards.iter().filter_map(|shard| shard.0.get(count as usize));
        places.fold(0, |sum, place| sum.wrapping_add(place.load(Ordering::Relaxed)))
    }
}

/// Microseconds, in steps of 1, 2 and 5 from 50 µs to 10 s.
static MICROS: &[u64] = &[
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
    5_000_000, 10_000_000,
];

/// Batches in a commit, up to the most there can be.
static BATCHES: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 512];

/// A histogram. It has no shards, so it is for at most some thousand values a second.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// not cumulative; the last is of what is above all bounds
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a histogram says at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// the upper bounds of the buckets but the last, which has none
    pub bounds: &'static [u64],
    /// how many were in each bucket, not cumulative
    pub buckets: Vec<u64>,
    /// the sum of all
    pub sum: u64,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Histogram {
        Histogram { bounds, buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Counts one of this size.
    pub fn record(&self, size: u64) {
        let at = self.bounds.partition_point(|bound| *bound < size);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
            self.sum.fetch_add(size, Ordering::Relaxed);
        }
    }

    /// What it says now.
    pub fn read(&self) -> Reading {
        let buckets = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        Reading { bounds: self.bounds, buckets, sum: self.sum.load(Ordering::Relaxed) }
    }
}

impl Count {
    /// Stanzas of a kind.
    pub fn of_kind(kind: Kind) -> Count {
        match kind {
            Kind::Message => Count::Messages,
            Kind::Presence => Count::Presences,
            Kind::Iq => Count::Iqs,
        }
    }

    /// Messages that were answered with an error of this condition.
    pub fn of_bounce(condition: &Condition) -> Count {
        match condition {
            Condition::BadRequest => Count::BouncedBadRequest,
            Condition::Forbidden => Count::BouncedForbidden,
            Condition::InternalServerError => Count::BouncedInternal,
            Condition::ItemNotFound => Count::BouncedNotFound,
            Condition::NotAcceptable => Count::BouncedNotAcceptable,
            Condition::NotAllowed => Count::BouncedNotAllowed,
            Condition::PolicyViolation => Count::BouncedPolicy,
            Condition::RemoteServerNotFound => Count::BouncedNoServer,
            Condition::RemoteServerTimeout => Count::BouncedTimeout,
            Condition::ResourceConstraint => Count::BouncedConstraint,
            Condition::ServiceUnavailable => Count::BouncedUnavailable,
            _ => Count::BouncedOther,
        }
    }

    /// Logins by this mechanism.
    pub fn of_login(mechanism: Mechanism) -> Count {
        match mechanism.name() {
            "SCRAM-SHA-512-PLUS" => Count::LoginSha512Plus,
            "SCRAM-SHA-256-PLUS" => Count::LoginSha256Plus,
            "SCRAM-SHA-1-PLUS" => Count::LoginSha1Plus,
            "SCRAM-SHA-512" => Count::LoginSha512,
            "SCRAM-SHA-256" => Count::LoginSha256,
            "SCRAM-SHA-1" => Count::LoginSha1,
            "PLAIN" => Count::LoginPlain,
            _ => Count::LoginOther,
        }
    }

    /// Logins that failed so.
    pub fn of_failure(error: SaslError) -> Count {
        match error {
            SaslError::NotAuthorized => Count::FailedNotAuthorized,
            SaslError::InvalidMechanism => Count::FailedMechanism,
            SaslError::MalformedRequest => Count::FailedMalformed,
            SaslError::TemporaryAuthFailure => Count::FailedTemporary,
            SaslError::Aborted => Count::FailedAborted,
            _ => Count::FailedOther,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_is_added_up_and_a_gauge_goes_down_where_it_did_not_go_up() {
        let counts = Counts::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..1_000).for_each(|_| counts.one(Count::Messages)));
            }
            scope.spawn(|| counts.add(Count::HerePlain, 3));
        });
        std::thread::scope(|scope| {
            scope.spawn(|| counts.one_less(Count::HerePlain));
        });
        assert_eq!(counts.get(Count::Messages), 20_000);
        assert_eq!(counts.get(Count::HerePlain), 2);
        assert_eq!(counts.get(Count::Iqs), 0);
    }

    #[test]
    fn no_two_shards_share_a_line() {
        assert_eq!(align_of::<Shard>(), 128);
        assert_eq!(size_of::<Shard>() % 128, 0);
    }

    #[test]
    fn a_histogram_counts_a_bound_below_itself_and_what_is_above_all_at_the_end() {
        let histogram = Histogram::new(&[10, 20]);
        [0, 10, 11, 20, 21, 1_000].into_iter().for_each(|size| histogram.record(size));
        assert_eq!(histogram.read(), Reading { bounds: &[10, 20], buckets: vec![2, 2, 2], sum: 1_062 });
    }

    #[test]
    fn the_table_is_as_prometheus_wants_it() {
        let mut names = std::collections::BTreeSet::new();
        for family in FAMILIES {
            assert!(names.insert(family.name), "{} is there twice", family.name);
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(family.name.starts_with("vorpal_") && family.name.chars().all(plain), "{}", family.name);
            assert_eq!(family.name.ends_with("_total"), family.sort == Sort::Counter, "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains(['\\', '\n']), "{}", family.name);
            assert_eq!(family.label.is_empty(), family.rows.len() == 1, "{}", family.name);
            for (_, value) in family.rows {
                assert_eq!(value.is_empty(), family.label.is_empty(), "{}", family.name);
                assert!(!value.contains(['"', '\\', '\n']), "{}", family.name);
            }
        }
    }
}
