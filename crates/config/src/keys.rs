//! Every key of the server, with its default and its description. Those of the modules stand in the modules.

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
    /// A way to log in (SASL). SCRAM stands for its variant with channel binding, too.
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
        /// Somebody misbehaves and things go on.
        Warn = "warn",
        /// The server's life.
        Info = "info",
        /// Decisions.
        Debug = "debug",
        /// Headers of stanzas.
        Trace = "trace",
    }
}

choice! {
    /// The form of a log entry.
    pub enum LogFormat {
        /// A line for people.
        Text = "text",
        /// A line of JSON.
        Json = "json",
    }
}

section! {
    /// At the top of the file, before the first section.
    pub struct Top in "" {
        /// The directory of everything the server keeps. It is created if it is not there; one in which other files are than
        /// the server's is refused.
        data: FilePath = FilePath::new("data"), example "/var/lib/vorpal", restart;
        /// What an acknowledged stanza survives: with "power" a loss of power, with "crash" only a crash of the server
        /// itself. The latter saves a disk sync for each group of stanzas.
        durability: Durability = Durability::Power, example "crash", restart;
        /// The domains that are served. Without this key, the hosts that have a section of their own; without those,
        /// localhost alone.
        hosts: Vec<HostName> = vec![HostName::localhost()], example ["example.org", "example.net"];
    }
}

section! {
    /// Where connections are accepted. An empty list switches a listener off.
    ///
    /// Until hosts are configured the server listens on the loopback addresses only, so that a first try cannot be
    /// reached from outside. Once they are, it listens on the same ports of all addresses, `[::]` and `0.0.0.0`, unless
    /// the key says otherwise. `[::]` is IPv6 alone.
    pub struct Listen in "listen" {
        /// Addresses for clients that begin without TLS and must turn it on (STARTTLS, RFC 6120 §5).
        c2s: Vec<Address> = loopback(C2S), example ["0.0.0.0:5222"], restart;
        /// Addresses for clients that begin with TLS (XEP-0368).
        c2s_tls: Vec<Address> = loopback(C2S_TLS), example ["0.0.0.0:5223", "[::]:5223"], restart;
        /// Addresses for a proxy on the same machine that has ended TLS already: what comes there is not encrypted, may log
        /// in as it is, and is not offered TLS. Only loopback addresses can be given. There is nothing that a login could
        /// be bound to (SCRAM-PLUS), and no PLAIN unless `login.plain_without_tls` allows it.
        c2s_plain: Vec<LoopbackAddress> = Vec::new(), example ["127.0.0.1:5280"], restart;
        /// Whether each connection to `c2s_plain` begins with a header of the PROXY protocol, version 2, by which the proxy says
        /// where its client comes from (HAProxy: `send-proxy-v2`). Limits and the log then go by that address. A connection
        /// without such a header is closed.
        c2s_plain_proxy: bool = false, example true, restart;
        /// Addresses at which the server answers monitoring over HTTP: `/metrics` in the text format of Prometheus, and
        /// `/health`. There is no password and no TLS: whoever reaches the address sees how many people are here and how
        /// much they write, though no names and no texts. Keep to a loopback address unless a firewall or a network of its
        /// own stands before it.
        metrics: Vec<Address> = Vec::new(), example ["127.0.0.1:5281"], restart;
        /// The socket through which `vorpal` commands reach the running server. Unless given, `admin.sock` in the data
        /// directory.
        admin: FilePath = FilePath::new("data/admin.sock"), example "/run/vorpal/admin.sock", restart;
    }
}

section! {
    /// TLS, which every connection has to use.
    pub struct Tls in "tls" {
        /// The oldest version that is accepted.
        min_version: TlsVersion = TlsVersion::V12, example "1.3";
        /// The file with the certificate and its chain, in PEM, of all hosts that have none of their own. Without any, a
        /// host gets a self-signed one, which no client trusts by itself.
        certificate: Option<FilePath> = None, example "/etc/vorpal/fullchain.pem";
        /// The file with the certificate's private key, in PEM. A certificate and its key are given together.
        key: Option<FilePath> = None, example "/etc/vorpal/privkey.pem";
    }
}

section! {
    /// Logging in.
    pub struct Login in "login" {
        /// What clients may log in with, on hosts that do not say otherwise. SCRAM is offered with channel binding and
        /// without. A client picks the best it knows: an account that has no keys for it, as one that was imported with
        /// those of another hash, then cannot log in (see `vorpal user import`). Of passwords, keys are kept for the hashes
        /// named here and no others. A host with mechanisms of its own keeps keys for these, and for stronger hashes named
        /// here; without any, for SHA-512. Keys that are not kept any more are deleted at the account's next login with
        /// PLAIN, or with a new password.
        mechanisms: Vec<Mechanism> = vec![Mechanism::ScramSha512, Mechanism::ScramSha256, Mechanism::ScramSha1, Mechanism::Plain], example ["SCRAM-SHA-1", "PLAIN"];
        /// The number of PBKDF2 iterations in the keys that are made of passwords: what one guess costs somebody who has
        /// stolen the data. The client computes them at each login with SCRAM (many keep the result), the server at each
        /// login with PLAIN and for each new password. The default takes a core 6 ms with SHA-1 or SHA-256 and 20 ms with
        /// SHA-512, and a phone about ten times as long; more than 200,000 is noticed there. Accounts with fewer iterations
        /// get new keys at their next login with PLAIN, or with a new password.
        iterations: Bounded<u32, {Iterations::MIN.count() as u64}, {Iterations::MAX_NEW.count() as u64}> = Bounded::clamp(Iterations::DEFAULT.count()), example 100000;
        /// Whether PLAIN is offered, if it is at all, to what comes to `listen.c2s_plain`: the password then stands
        /// readable between the proxy and the server.
        plain_without_tls: bool = false, example true;
    }
}

section! {
    /// The log, which goes to standard error. It never holds what people write, nor secrets.
    pub struct Log in "log" {
        /// How much is logged.
        level: LogLevel = LogLevel::Info, example "debug";
        /// A line for people, or one of JSON for machines.
        format: LogFormat = LogFormat::Text, example "json", restart;
    }
}

section! {
    /// What one address, account or connection may use. An address is an IPv4 address or the /64 network of an IPv6
    /// address. All addresses of a /56 together may use four times as much, and those of a /48 sixteen times.
    pub struct Limits in "limits" {
        /// The most connections of one address at the same time.
        connections: Bounded<u32, 1, 1_000_000> = Bounded::clamp(1_000), example 50;
        /// The most connections of all addresses at the same time; not fewer than `connections`. Each takes a file
        /// descriptor: if the system allows the process fewer of them, fewer connections are accepted, and the log says so
        /// at the start. Beyond it, connections that have not logged in are closed to make room, and then further ones are
        /// refused.
        connections_total: Bounded<u32, 1, 1_000_000> = Bounded::clamp(50_000), example 5000;
        /// The most connections of all addresses that have not logged in yet. Beyond it the next ones wait until others have
        /// logged in, or have had two seconds and are closed: those of the address with the most first.
        logging_in_total: Bounded<u32, 1, 1_000_000> = Bounded::clamp(1_000), example 200;
        /// How often one address may connect. Connections beyond it are closed at once. The number, but at least 30, is also
        /// how many connections of one address may be logging in at the same time; one more closes the oldest of them.
        connection_rate: Rate<u32> = Rate::new(600, Per::Minute), example "30/min";
        /// How often logins of one address may fail. Beyond it, further ones fail without being looked at. Failures that come
        /// from an address of this machine are not counted here, as they may be those of everybody behind a proxy;
        /// `login_failures_account` holds for them as well.
        login_failures: Rate<u32> = Rate::new(30, Per::Minute), example "10/h";
        /// How often logins of one address to one account may fail in the long run; twice as many at once. Beyond it,
        /// further ones fail without being looked at, also those with the right password. With PLAIN the last four wrong
        /// passwords count once however often they are tried, so a device with an old password locks nobody out; with
        /// SCRAM the server cannot tell that a wrong password is the same, and each attempt counts.
        login_failures_account: Rate<u32> = Rate::new(5, Per::Minute), example "20/h";
        /// How often a login may be tried on one connection before it is closed.
        login_tries: Bounded<u32, 1, 100> = Bounded::clamp(5), example 3;
        /// How long a connection may take until it is logged in, TLS included.
        login_time: Bounded<Period, SECOND, HOUR> = Bounded::clamp(Period::from_secs(30)), example "1m";
        /// How many bytes a connection may send until it is logged in, and again until it has a session, TLS not counted.
        /// Beyond it the connection is closed.
        login_bytes: Bounded<Bytes, {4 * KIB}, MIB> = Bounded::clamp(Bytes::new(10 * KIB)), example "20 KiB";
        /// The largest stanza of a client that is logged in. RFC 6120 §13.12 forbids less than 10,000 bytes.
        stanza_size: Bounded<Bytes, 10_000, {16 * MIB}> = Bounded::clamp(Bytes::new(256 * KIB)), example "1 MiB";
        /// How much the clients of one account may send together in the long run, TLS included. Faster ones are read more
        /// slowly; nothing is lost. A connection that is not logged in has a budget of its own of the same size.
        traffic: Rate<Bytes> = Rate::new(Bytes::new(50_000), Per::Second), example "1 MB/s";
        /// How much the clients of one account may send at once before their traffic is slowed down.
        traffic_burst: Bounded<Bytes, {10 * KIB}, GIB> = Bounded::clamp(Bytes::new(MIB)), example "256 KiB";
        /// How long a client may take nothing of what is sent to it before its connection is closed. Its session waits for it,
        /// if it can be resumed.
        write_timeout: Bounded<Period, {10 * SECOND}, HOUR> = Bounded::clamp(Period::from_secs(300)), example "2m";
        /// The most sessions of one account, those that wait for resumption included. One more ends the oldest of those
        /// that wait, or else is refused.
        sessions: Bounded<u32, 1, 10_000> = Bounded::clamp(50), example 10;
        /// The most entries in the roster of one account.
        roster_entries: Bounded<u32, 1, 100_000> = Bounded::clamp(5_000), example 1000;
        /// The most bytes of the roster of one account, as it is written to a client: addresses, names and groups. A
        /// contact takes 64 bytes and what is said of it. A client asks for all of it with one short request, and as long
        /// as an account is in use its roster is in memory: 10,000 accounts that use all of the default take 10 GiB. A
        /// roster that is larger already stays as it is, and may only shrink.
        roster_bytes: Bounded<Bytes, {64 * KIB}, {64 * MIB}> = Bounded::clamp(Bytes::new(MIB)), example "256 KiB";
        /// The most bytes of messages that wait for one account until a client of it takes them. Beyond it, messages to it are
        /// answered with the error `service-unavailable` (XEP-0160). One contact may take half of it, anybody else a
        /// quarter; and when half is taken, only contacts may send more. This is what 50 clients of one account can
        /// make somebody else store who is not there.
        offline_bytes: Bounded<Bytes, {64 * KIB}, {64 * GIB}> = Bounded::clamp(Bytes::new(32 * MIB)), example "128 MiB";
    }
}

section! {
    /// The disk on which the data are.
    pub struct Storage in "storage" {
        /// How much free space is kept for what is promised already. Below it, messages that would have to be stored, and
        /// contacts or settings that are added, are refused with the error `resource-constraint`; what waits is still
        /// delivered, acknowledgements are stored, and whatever deletes goes on. With a quarter more it ends. A warning is
        /// logged at twice as much. The database itself may need 100 MiB of it for a while; "0 B" switches this off.
        reserve: Bounded<Bytes, 0, TIB> = Bounded::clamp(Bytes::new(256 * MIB)), example "1 GiB";
    }
}

section! {
    /// How stanzas are handled as text.
    pub struct Xml in "xml" {
        /// Whether stanzas in plain form are passed on as the bytes that came, which is faster. Switched off, all are
        /// written anew: for those who suspect the pass-through of a mistake.
        passthrough: bool = true, example false;
    }
}

section! {
    /// What is particular to one host. A host with a section has to stand in `hosts`, if that is given.
    pub struct HostKeys in "host.NAME" {
        /// What clients may log in with on this host, in place of `login.mechanisms`.
        mechanisms: Option<Vec<Mechanism>> = None, example ["SCRAM-SHA-1", "PLAIN"];
        /// The file with the certificate of this host and its chain, in PEM.
        certificate: Option<FilePath> = None, example "/etc/vorpal/example.org/fullchain.pem";
        /// The file with the certificate's private key, in PEM.
        key: Option<FilePath> = None, example "/etc/vorpal/example.org/privkey.pem";
    }
}

section! {
    /// The settings of a module, for all hosts. The same section below a host, `[host."example.org".modules.NAME]`, goes
    /// over it key by key.
    pub struct ModuleKeys in "modules.NAME" {
        /// Whether the module is there. Most are unless switched off; `vorpal config explain modules` names the others.
        enabled: Option<bool> = None, example false;
    }
}

/// The port for clients that turn TLS on (RFC 6120 §14.7).
pub(crate) const C2S: u16 = 5222;
/// The port for clients that begin with TLS, by custom.
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
