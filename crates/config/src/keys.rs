//! Every key of the server, with its default and its description. The keys of the modules are defined in the modules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use vorpal_proto::sasl::Iterations;

use crate::units::{Bounded, Bytes, GIB, HOUR, KIB, MIB, Per, Period, Rate, SECOND, TIB};
use crate::{Address, FilePath, HostName, LoopbackAddress, choice, section};

choice! {
    /// What an acknowledged stanza survives.
    pub enum Durability {
        /// A crash of the server and a loss of power.
        Power = "power",
        /// A crash of the server, not of the machine.
        Crash = "crash",
    }
}

choice! {
    /// A version of TLS.
    pub enum TlsVersion {
        /// TLS 1.2 and everything newer.
        V12 = "1.2",
        /// TLS 1.3 and everything newer.
        V13 = "1.3",
    }
}

choice! {
    /// A SASL mechanism. Each SCRAM value includes its variant with channel binding.
    pub enum Mechanism {
        /// SCRAM with SHA-512.
        ScramSha512 = "SCRAM-SHA-512",
        /// SCRAM with SHA-256.
        ScramSha256 = "SCRAM-SHA-256",
        /// SCRAM with SHA-1.
        ScramSha1 = "SCRAM-SHA-1",
        /// The password itself.
        Plain = "PLAIN",
    }
}

choice! {
    /// How much is logged: each level includes those before it.
    pub enum LogLevel {
        /// The operator must act.
        Error = "error",
        /// Something is wrong, and the server goes on.
        Warn = "warn",
        /// Start, stop, reload and other events of the server.
        Info = "info",
        /// Decisions.
        Debug = "debug",
        /// Headers of stanzas.
        Trace = "trace",
    }
}

choice! {
    /// The format of a log entry.
    pub enum LogFormat {
        /// One line of text.
        Text = "text",
        /// One line of JSON.
        Json = "json",
    }
}

section! {
    /// At the top of the file, before the first section.
    pub struct Top in "" {
        /// The data directory: the server stores everything in it. It is created if it does not exist. A directory that
        /// contains files of other programs is refused.
        data: FilePath = FilePath::new("data"), example "/var/lib/vorpal", restart;
        /// What an acknowledged stanza survives: with "power" a loss of power, with "crash" only a crash of the server
        /// process. "crash" saves one disk sync for each group of stanzas.
        durability: Durability = Durability::Power, example "crash", restart;
        /// The domains that are served. Without this key, the hosts that have a section of their own; if there are none,
        /// only localhost.
        hosts: Vec<HostName> = vec![HostName::localhost()], example ["example.org", "example.net"];
    }
}

section! {
    /// Addresses on which connections are accepted. An empty list disables a listener.
    ///
    /// Until hosts are configured the server listens on the loopback addresses only, so that a first trial cannot be
    /// reached from outside. Once hosts are configured, it listens on the same ports of all addresses, `[::]` and
    /// `0.0.0.0`, unless the key says otherwise. `[::]` is IPv6 only.
    pub struct Listen in "listen" {
        /// Addresses for clients that connect without TLS and must start it (STARTTLS, RFC 6120 §5).
        c2s: Vec<Address> = loopback(C2S), example ["0.0.0.0:5222"], restart;
        /// Addresses for clients that connect with TLS from the first byte (direct TLS, XEP-0368).
        c2s_tls: Vec<Address> = loopback(C2S_TLS), example ["0.0.0.0:5223", "[::]:5223"], restart;
        /// Addresses for a proxy on the same machine that terminates TLS. Connections to them are not encrypted, may log in
        /// without TLS, and are not offered TLS. Only loopback addresses are allowed. Channel binding (SCRAM-PLUS) is not
        /// available, and PLAIN only if `login.plain_without_tls` allows it.
        c2s_plain: Vec<LoopbackAddress> = Vec::new(), example ["127.0.0.1:5280"], restart;
        /// Whether each connection to `c2s_plain` begins with a PROXY protocol header, version 2, that contains the address of
        /// the client (HAProxy: `send-proxy-v2`). Limits and the log then use that address. A connection without such a
        /// header is closed.
        c2s_plain_proxy: bool = false, example true, restart;
        /// Addresses for monitoring over HTTP: `/metrics` in the Prometheus text format, and `/health`. There is no password
        /// and no TLS: anybody who can reach the address sees how many users are online and how much they send, but no
        /// names and no message texts. Use a loopback address unless a firewall or a separate network protects it.
        metrics: Vec<Address> = Vec::new(), example ["127.0.0.1:5281"], restart;
        /// The control socket, through which `vorpal` commands reach the running server. By default `admin.sock` in the data
        /// directory.
        admin: FilePath = FilePath::new("data/admin.sock"), example "/run/vorpal/admin.sock", restart;
    }
}

section! {
    /// TLS, which is required on every connection except those to `listen.c2s_plain`.
    pub struct Tls in "tls" {
        /// The oldest TLS version that is accepted.
        min_version: TlsVersion = TlsVersion::V12, example "1.3";
        /// The PEM file with the certificate and its chain, for all hosts that have no certificate of their own. A host
        /// without any certificate gets a self-signed one, which clients do not trust by default.
        certificate: Option<FilePath> = None, example "/etc/vorpal/fullchain.pem";
        /// The PEM file with the certificate's private key. A certificate and its key must be given together.
        key: Option<FilePath> = None, example "/etc/vorpal/privkey.pem";
    }
}

section! {
    /// Logging in.
    pub struct Login in "login" {
        /// SASL mechanisms offered to clients, on hosts without `mechanisms` of their own. SCRAM is offered with and without
        /// channel binding. A client picks the strongest mechanism that it supports: an account without keys for it, for
        /// example one that was imported with keys of another hash, then cannot log in (see `vorpal user import`). Passwords
        /// are stored as SCRAM keys for the hashes named here only. A host with mechanisms of its own stores keys for those,
        /// and for stronger hashes named here; if that gives none, for SHA-512. Keys that are no longer needed are deleted
        /// at the account's next login with PLAIN, or when it gets a new password.
        mechanisms: Vec<Mechanism> = vec![Mechanism::ScramSha512, Mechanism::ScramSha256, Mechanism::ScramSha1, Mechanism::Plain], example ["SCRAM-SHA-1", "PLAIN"];
        /// Number of PBKDF2 iterations for the SCRAM keys that are derived from passwords: the cost of one guess to somebody
        /// who has stolen the data. The client computes them at each login with SCRAM (many clients cache the result), the
        /// server at each login with PLAIN and for each new password. The default takes a core 6 ms with SHA-1 or SHA-256
        /// and 20 ms with SHA-512, and a phone about ten times as long; more than 200,000 causes a noticeable delay there.
        /// Accounts with fewer iterations get new keys at their next login with PLAIN, or with a new password.
        iterations: Bounded<u32, {Iterations::MIN.count() as u64}, {Iterations::MAX_NEW.count() as u64}> = Bounded::clamp(Iterations::DEFAULT.count()), example 100000;
        /// Whether PLAIN, if `mechanisms` contains it, is also offered on connections to `listen.c2s_plain`. The password
        /// is then readable between the proxy and the server.
        plain_without_tls: bool = false, example true;
    }
}

section! {
    /// The log, which goes to standard error. It never contains message texts or secrets.
    pub struct Log in "log" {
        /// The log level.
        level: LogLevel = LogLevel::Info, example "debug";
        /// The log format: lines of text, or JSON for programs.
        format: LogFormat = LogFormat::Text, example "json", restart;
    }
}

section! {
    /// Limits for one address, account or connection. An address is an IPv4 address or the /64 network of an IPv6
    /// address. All addresses of a /56 together may use four times as much, and those of a /48 sixteen times as much.
    pub struct Limits in "limits" {
        /// Maximum number of simultaneous connections from one address.
        connections: Bounded<u32, 1, 1_000_000> = Bounded::clamp(1_000), example 50;
        /// Maximum number of simultaneous connections from all addresses; not less than `connections`. Each takes a file
        /// descriptor: if the system allows the process fewer descriptors, fewer connections are accepted, and a warning is
        /// logged at the start. At the limit, connections that have not logged in are closed to make room; if there are
        /// none, new connections are refused.
        connections_total: Bounded<u32, 1, 1_000_000> = Bounded::clamp(50_000), example 5000;
        /// Maximum number of connections, from all addresses, that have not logged in yet. At the limit, new connections wait
        /// until others have logged in, or have had two seconds and are closed: those of the address with the most first.
        logging_in_total: Bounded<u32, 1, 1_000_000> = Bounded::clamp(1_000), example 200;
        /// Maximum connection rate of one address. Connections beyond it are closed at once. The number in it, but at least
        /// 30, is also the maximum number of connections of one address that may be logging in at the same time; one more
        /// closes the oldest of them.
        connection_rate: Rate<u32> = Rate::new(600, Per::Minute), example "30/min";
        /// Maximum rate of failed logins from one address. Beyond it, further logins fail without being checked. Failures
        /// from an address of this machine are not counted here, because a proxy may send all clients from it;
        /// `login_failures_account` applies to them as well.
        login_failures: Rate<u32> = Rate::new(30, Per::Minute), example "10/h";
        /// Maximum sustained rate of failed logins from one address to one account; a burst of twice the number is allowed.
        /// Beyond it, further logins fail without being checked, even with the correct password. With PLAIN, each of the
        /// last four wrong passwords counts only once however often it is tried, so a device with an old password locks
        /// nobody out. With SCRAM the server cannot tell whether two wrong passwords are the same, and each attempt counts.
        login_failures_account: Rate<u32> = Rate::new(5, Per::Minute), example "20/h";
        /// Maximum number of login attempts on one connection. After that it is closed.
        login_tries: Bounded<u32, 1, 100> = Bounded::clamp(5), example 3;
        /// Timeout for logging in, including the TLS handshake.
        login_time: Bounded<Period, SECOND, HOUR> = Bounded::clamp(Period::from_secs(30)), example "1m";
        /// Maximum number of bytes that a connection may send until it is logged in, and again until it has a session, not
        /// counting TLS overhead. Beyond it the connection is closed.
        login_bytes: Bounded<Bytes, {4 * KIB}, MIB> = Bounded::clamp(Bytes::new(10 * KIB)), example "20 KiB";
        /// Maximum size of a stanza from a client that is logged in. RFC 6120 §13.12 forbids less than 10,000 bytes.
        stanza_size: Bounded<Bytes, 10_000, {16 * MIB}> = Bounded::clamp(Bytes::new(256 * KIB)), example "1 MiB";
        /// Maximum sustained rate at which the clients of one account may send together, including TLS overhead. The server
        /// reads faster clients more slowly; nothing is lost. A connection that is not logged in has a separate budget of
        /// the same size.
        traffic: Rate<Bytes> = Rate::new(Bytes::new(50_000), Per::Second), example "1 MB/s";
        /// Size of the burst that the clients of one account may send before their traffic is slowed down.
        traffic_burst: Bounded<Bytes, {10 * KIB}, GIB> = Bounded::clamp(Bytes::new(MIB)), example "256 KiB";
        /// Write timeout: a connection is closed when its client has not accepted any data for this long. A session that can
        /// be resumed stays.
        write_timeout: Bounded<Period, {10 * SECOND}, HOUR> = Bounded::clamp(Period::from_secs(300)), example "2m";
        /// Maximum number of sessions of one account, including those that wait for resumption. One more ends the oldest
        /// session that waits for resumption; if there is none, the new session is refused.
        sessions: Bounded<u32, 1, 10_000> = Bounded::clamp(50), example 10;
        /// Maximum number of entries in the roster of one account.
        roster_entries: Bounded<u32, 1, 100_000> = Bounded::clamp(5_000), example 1000;
        /// Maximum size of the roster of one account, as it is written to a client: addresses, names and groups. A contact
        /// takes 64 bytes plus its data. A client can request the whole roster with one short stanza, and the roster of an
        /// account is in memory as long as the account is in use: 10,000 accounts that use all of the default take 10 GiB. A
        /// roster that is already larger is kept, and may only shrink.
        roster_bytes: Bounded<Bytes, {64 * KIB}, {64 * MIB}> = Bounded::clamp(Bytes::new(MIB)), example "256 KiB";
        /// Maximum size of the messages that wait for one account until one of its clients receives them (offline messages).
        /// Beyond it, messages to the account are answered with the error `service-unavailable` (XEP-0160). One contact may
        /// use half of it, any other sender a quarter; once half is used, only contacts may send more. It bounds what 50
        /// clients of one account can make the server store for an offline user.
        offline_bytes: Bounded<Bytes, {64 * KIB}, {64 * GIB}> = Bounded::clamp(Bytes::new(32 * MIB)), example "128 MiB";
    }
}

section! {
    /// The disk with the data directory.
    pub struct Storage in "storage" {
        /// Free disk space reserved for stanzas that are already acknowledged or accepted. Below it, messages that would have
        /// to be stored, and new contacts or settings, are refused with the error `resource-constraint`; waiting messages are
        /// still delivered, acknowledgements are stored, and deletions go on. Refusal ends once free space is 25 % above the
        /// reserve. A warning is logged below twice the reserve. The database itself may temporarily need 100 MiB of it. "0 B"
        /// disables the reserve.
        reserve: Bounded<Bytes, 0, TIB> = Bounded::clamp(Bytes::new(256 * MIB)), example "1 GiB";
    }
}

section! {
    /// XML processing.
    pub struct Xml in "xml" {
        /// Whether stanzas in plain form are passed through as the bytes that were received, which is faster. If false, all
        /// stanzas are parsed and rewritten: for diagnosis, if you suspect a bug in the pass-through.
        passthrough: bool = true, example false;
    }
}

section! {
    /// Settings of one host. If `hosts` is given, it must contain each host that has a section.
    pub struct HostKeys in "host.NAME" {
        /// SASL mechanisms offered on this host, instead of `login.mechanisms`.
        mechanisms: Option<Vec<Mechanism>> = None, example ["SCRAM-SHA-1", "PLAIN"];
        /// The PEM file with the certificate of this host and its chain.
        certificate: Option<FilePath> = None, example "/etc/vorpal/example.org/fullchain.pem";
        /// The PEM file with the certificate's private key.
        key: Option<FilePath> = None, example "/etc/vorpal/example.org/privkey.pem";
    }
}

section! {
    /// Settings of a module, for all hosts. The same section below a host, `[host."example.org".modules.NAME]`, overrides
    /// it key by key.
    pub struct ModuleKeys in "modules.NAME" {
        /// Whether the module is enabled. Most are enabled by default; `vorpal config explain modules` names the others.
        enabled: Option<bool> = None, example false;
    }
}

/// The port for clients that use STARTTLS (RFC 6120 §14.7).
pub(crate) const C2S: u16 = 5222;
/// The customary port for clients that use direct TLS.
pub(crate) const C2S_TLS: u16 = 5223;

fn loopback(port: u16) -> Vec<Address> {
    both(Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), port)
}

/// The port on all addresses of the machine.
pub(crate) fn everywhere(port: u16) -> Vec<Address> {
    both(Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into(), port)
}

fn both(v4: IpAddr, v6: IpAddr, port: u16) -> Vec<Address> {
    vec![Address(SocketAddr::new(v4, port)), Address(SocketAddr::new(v6, port))]
}
