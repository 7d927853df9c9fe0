//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures an XMPP server by its own CPU time and memory.
///
/// Accounts are made beforehand: PREFIX0, PREFIX1, … with one password. The server runs on this machine; its figures are
/// those of the process given and of its children.
#[derive(Debug, Parser)]
#[command(name = "vorpal-load", version)]
pub struct Options {
    /// What every mode needs to know.
    #[command(flatten)]
    pub target: Target,
    /// What to measure.
    #[command(subcommand)]
    pub mode: Mode,
}

/// The server, and how to talk to it.
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
    /// User names are this and a number from 0.
    #[arg(long, global = true, default_value = "u")]
    pub user_prefix: String,
    /// Everybody's password.
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
    /// Give up after so many seconds.
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
    /// Memory per session that does nothing.
    Idle(Idle),
    /// CPU per message between pairs of users, with latency and a check that each came once and in order.
    Chat(Chat),
    /// Memory of a server that nobody uses.
    Fresh,
    /// CPU per page of 50 messages of an archive, which `chat --archived` has filled.
    Page(Page),
    /// CPU per subscription made in both directions. The accounts must not know each other yet.
    Subscribe(Subscribe),
    /// CPU per user and contact when all become available at once. `subscribe` has to come first, with the same ring.
    Storm(Storm),
    /// CPU per message for somebody who is not there: to store, and to deliver.
    Missed(Missed),
    /// CPU and core time per message of work that lies ready, while nothing else runs. For one core against two.
    Burst(Burst),
    /// Memory and descriptors before and after connections that end at every stage of login.
    Churn(Churn),
}

/// Options of `login`.
#[derive(Debug, Args)]
pub struct Login {
    /// How many accounts log in, in each of the two passes.
    #[arg(long, default_value_t = 500)]
    pub users: u32,
    /// How many at a time in the second pass.
    #[arg(long, default_value_t = 16)]
    pub width: u32,
}

/// Options of `idle`.
#[derive(Debug, Args)]
pub struct Idle {
    /// How many sessions.
    #[arg(long, default_value_t = 1000)]
    pub sessions: u32,
    /// Over how many accounts they are spread; all, if not given.
    #[arg(long)]
    pub accounts: Option<u32>,
    /// Logins made and closed before, so that what the server sets up once is not counted.
    #[arg(long, default_value_t = 50)]
    pub warm_up: u32,
    /// What the sessions turn on.
    #[command(flatten)]
    pub extras: Extras,
}

/// Options of `chat`.
#[derive(Debug, Args)]
pub struct Chat {
    /// Pairs of users; two accounts each.
    #[arg(long, default_value_t = 10)]
    pub pairs: u32,
    /// Messages that each pair exchanges, both directions together.
    #[arg(long, default_value_t = 1000)]
    pub messages: u32,
    /// Messages under way per pair; each one that arrives is answered by one.
    #[arg(long, default_value_t = 1)]
    pub in_flight: u32,
    /// The server must archive: an archive has to be advertised, and its newest message to be the last one.
    #[arg(long)]
    pub archived: bool,
    /// With `--carbons` each user has a second session that gets copies; with `--sm` all acks are awaited.
    #[command(flatten)]
    pub extras: Extras,
}

/// What a session turns on between binding and presence.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Extras {
    /// XEP-0198 with resumption, and a request for an ack after so many stanzas.
    #[arg(long, value_name = "EVERY", value_parser = clap::value_parser!(u32).range(1..))]
    pub sm: Option<u32>,
    /// XEP-0280; in a chat each user then has a second session that gets copies.
    #[arg(long)]
    pub carbons: bool,
    /// Ask for the roster, so that its changes are told.
    #[arg(skip)]
    pub roster: bool,
    /// Send no presence.
    #[arg(skip)]
    pub silent: bool,
}

/// Options of `page`.
#[derive(Debug, Args)]
pub struct Page {
    /// How many pages, from both ends in turn.
    #[arg(long, default_value_t = 300)]
    pub pages: u32,
    /// After so many it begins again at the ends; the archive has to hold as many.
    #[arg(long, default_value_t = 30)]
    pub span: u32,
    /// The number of the account whose archive is read.
    #[arg(long, default_value_t = 0)]
    pub account: u32,
}

/// A ring of users in which neighbours are contacts.
#[derive(Debug, Clone, Copy, Args)]
pub struct Ring {
    /// How many users.
    #[arg(long, default_value_t = 500)]
    pub users: u32,
    /// How many contacts each has, half of them on either side.
    #[arg(long, default_value_t = 20)]
    pub contacts: u32,
}

/// Options of `subscribe`.
#[derive(Debug, Args)]
pub struct Subscribe {
    /// Who subscribes to whom.
    #[command(flatten)]
    pub ring: Ring,
    /// How many at a time.
    #[arg(long, default_value_t = 16)]
    pub width: u32,
}

/// Options of `storm`.
#[derive(Debug, Args)]
pub struct Storm {
    /// As it was for `subscribe`.
    #[command(flatten)]
    pub ring: Ring,
    /// How often everybody comes and goes.
    #[arg(long, default_value_t = 3)]
    pub times: u32,
}

/// Options of `missed`.
#[derive(Debug, Args)]
pub struct Missed {
    /// Pairs of users; even accounts send, odd ones are not there.
    #[arg(long, default_value_t = 50)]
    pub pairs: u32,
    /// Messages that wait for each.
    #[arg(long, default_value_t = 100)]
    pub messages: u32,
    /// What the sessions turn on.
    #[command(flatten)]
    pub extras: Extras,
}

/// Options of `burst`.
#[derive(Debug, Args)]
pub struct Burst {
    /// Pairs of users; even accounts send to odd ones.
    #[arg(long, default_value_t = 100)]
    pub pairs: u32,
    /// Messages of each pair in one burst; they have to fit into the sockets' buffers.
    #[arg(long, default_value_t = 200)]
    pub messages: u32,
    /// How many bursts are measured, after one that is not.
    #[arg(long, default_value_t = 5)]
    pub times: u32,
}

/// Options of `churn`.
#[derive(Debug, Args)]
pub struct Churn {
    /// How many connections, spread over the stages.
    #[arg(long, default_value_t = 10_000)]
    pub count: u32,
    /// How many at a time.
    #[arg(long, default_value_t = 16)]
    pub width: u32,
}
