//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures an XMPP server by its own CPU time and memory.
///
/// The accounts must exist: PREFIX0, PREFIX1, … with the same password. The server runs on this machine; its figures are
/// those of the given process and its children.
#[derive(Debug, Parser)]
#[command(name = "vorpal-load", version)]
pub struct Options {
    /// Options of every mode.
    #[command(flatten)]
    pub target: Target,
    /// What to measure.
    #[command(subcommand)]
    pub mode: Mode,
}

/// The server, and how to connect to it.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Process id of the server.
    #[arg(long, global = true, default_value_t = 0)]
    pub pid: u32,
    /// Address to connect to.
    #[arg(long, global = true, default_value = "127.0.0.1")]
    pub host: String,
    /// Port to connect to.
    #[arg(long, global = true, default_value_t = 5222)]
    pub port: u16,
    /// The XMPP domain.
    #[arg(long, global = true, default_value = "localhost")]
    pub domain: String,
    /// User names are this prefix and a number from 0.
    #[arg(long, global = true, default_value = "u")]
    pub user_prefix: String,
    /// The password of all accounts.
    #[arg(long, global = true, default_value = "secret")]
    pub password: String,
    /// TLS after STARTTLS; this is the default.
    #[arg(long, global = true, conflicts_with_all = ["direct_tls", "plain"])]
    pub starttls: bool,
    /// TLS from the first byte (XEP-0368).
    #[arg(long, global = true, conflicts_with = "plain")]
    pub direct_tls: bool,
    /// No TLS.
    #[arg(long, global = true, visible_alias = "no-tls")]
    pub plain: bool,
    /// The SASL mechanism.
    #[arg(long, global = true, value_enum, default_value_t = Mechanism::ScramSha1)]
    pub mechanism: Mechanism,
    /// Timeout in seconds.
    #[arg(long, global = true, default_value_t = 300)]
    pub timeout: u64,
    /// Print one line of JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The SASL mechanisms known here.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Mechanism {
    /// SCRAM-SHA-1
    #[value(name = "scram-sha-1")]
    ScramSha1,
    /// SCRAM-SHA-256
    #[value(name = "scram-sha-256")]
    ScramSha256,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Mode {
    /// CPU per login with initial presence: one after the other, then several at a time.
    Login(Login),
    /// Memory per idle session.
    Idle(Idle),
    /// CPU per message between pairs of users, with latency and a check that each arrived once and in order.
    Chat(Chat),
    /// Memory of a server without users.
    Fresh,
    /// CPU per page of 50 messages of an archive, which `chat --archived` has filled.
    Page(Page),
    /// CPU per subscription made in both directions. The accounts must not know each other yet.
    Subscribe(Subscribe),
    /// CPU per user and contact when all become available at once. `subscribe` must be run before, with the same ring.
    Storm(Storm),
    /// CPU per message for an offline user: to store, and to deliver.
    Missed(Missed),
    /// CPU and core time per message for work that is already queued, while nothing else runs. For comparing one core with two.
    Burst(Burst),
    /// Memory and descriptors before and after connections that end at every stage of login.
    Churn(Churn),
}

/// Options of `login`.
#[derive(Debug, Args)]
pub struct Login {
    /// Number of accounts that log in, in each of the two passes.
    #[arg(long, default_value_t = 500)]
    pub users: u32,
    /// Number of simultaneous logins in the second pass.
    #[arg(long, default_value_t = 16)]
    pub width: u32,
}

/// Options of `idle`.
#[derive(Debug, Args)]
pub struct Idle {
    /// Number of sessions.
    #[arg(long, default_value_t = 1000)]
    pub sessions: u32,
    /// Number of accounts they are spread over; default: one account for each session.
    #[arg(long)]
    pub accounts: Option<u32>,
    /// Number of logins before the measurement, so that one-time initialization of the server is not counted.
    #[arg(long, default_value_t = 50)]
    pub warm_up: u32,
    /// Features that the sessions enable.
    #[command(flatten)]
    pub extras: Extras,
}

/// Options of `chat`.
#[derive(Debug, Args)]
pub struct Chat {
    /// Pairs of users; two accounts each.
    #[arg(long, default_value_t = 10)]
    pub pairs: u32,
    /// Number of messages that each pair exchanges, in both directions together.
    #[arg(long, default_value_t = 1000)]
    pub messages: u32,
    /// Number of messages in flight per pair; each one that arrives is answered by one.
    #[arg(long, default_value_t = 1)]
    pub in_flight: u32,
    /// Requires an archive: it must be advertised, and its newest message must be the last one sent.
    #[arg(long)]
    pub archived: bool,
    /// With `--carbons` each user has a second session that gets copies; with `--sm` all acks are awaited.
    #[command(flatten)]
    pub extras: Extras,
}

/// Features that a session enables between binding and presence.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Extras {
    /// XEP-0198 with resumption, and a request for an ack after this many stanzas.
    #[arg(long, value_name = "EVERY", value_parser = clap::value_parser!(u32).range(1..))]
    pub sm: Option<u32>,
    /// XEP-0280; in a chat each user then has a second session that gets copies.
    #[arg(long)]
    pub carbons: bool,
    /// Request the roster, so that changes are pushed.
    #[arg(skip)]
    pub roster: bool,
    /// Send no presence.
    #[arg(skip)]
    pub silent: bool,
}

/// Options of `page`.
#[derive(Debug, Args)]
pub struct Page {
    /// Number of pages, from both ends in turn.
    #[arg(long, default_value_t = 300)]
    pub pages: u32,
    /// Number of pages after which it starts again at the ends; the archive must contain as many.
    #[arg(long, default_value_t = 30)]
    pub span: u32,
    /// The number of the account whose archive is read.
    #[arg(long, default_value_t = 0)]
    pub account: u32,
}

/// A ring of users in which neighbours are contacts.
#[derive(Debug, Clone, Copy, Args)]
pub struct Ring {
    /// Number of users.
    #[arg(long, default_value_t = 500)]
    pub users: u32,
    /// Number of contacts of each user, half of them on either side.
    #[arg(long, default_value_t = 20)]
    pub contacts: u32,
}

/// Options of `subscribe`.
#[derive(Debug, Args)]
pub struct Subscribe {
    /// Who subscribes to whom.
    #[command(flatten)]
    pub ring: Ring,
    /// Number of simultaneous ones.
    #[arg(long, default_value_t = 16)]
    pub width: u32,
}

/// Options of `storm`.
#[derive(Debug, Args)]
pub struct Storm {
    /// The same as for `subscribe`.
    #[command(flatten)]
    pub ring: Ring,
    /// Number of rounds in which all users log in and out.
    #[arg(long, default_value_t = 3)]
    pub times: u32,
}

/// Options of `missed`.
#[derive(Debug, Args)]
pub struct Missed {
    /// Pairs of users; even accounts send, odd ones are offline.
    #[arg(long, default_value_t = 50)]
    pub pairs: u32,
    /// Number of messages that wait for each user.
    #[arg(long, default_value_t = 100)]
    pub messages: u32,
    /// Features that the sessions enable.
    #[command(flatten)]
    pub extras: Extras,
}

/// Options of `burst`.
#[derive(Debug, Args)]
pub struct Burst {
    /// Pairs of users; even accounts send to odd ones.
    #[arg(long, default_value_t = 100)]
    pub pairs: u32,
    /// Number of messages of each pair in one burst; they must fit into the sockets' buffers.
    #[arg(long, default_value_t = 200)]
    pub messages: u32,
    /// Number of measured bursts, after one that is not measured.
    #[arg(long, default_value_t = 5)]
    pub times: u32,
}

/// Options of `churn`.
#[derive(Debug, Args)]
pub struct Churn {
    /// Number of connections, spread over the stages.
    #[arg(long, default_value_t = 10_000)]
    pub count: u32,
    /// Number of simultaneous ones.
    #[arg(long, default_value_t = 16)]
    pub width: u32,
}
