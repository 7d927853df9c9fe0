//! The commands.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use vorpal_config::Config;
use vorpal_core::module::Module;

use crate::Program;
use crate::control::{self, Answer, Order};
use crate::run::Server;

mod config;
mod flow;
mod top;
mod trace;
mod user;
mod xep;

/// An XMPP server that keeps its word: acknowledged means durable.
#[derive(Parser)]
#[command(name = "vorpal", version)]
struct Cli {
    /// The configuration; without one, localhost is served with defaults. Also VORPAL_CONFIG.
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answers in JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves until it is told to stop.
    Serve,
    /// Creates, changes and lists accounts.
    User {
        #[command(subcommand)]
        command: user::Command,
    },
    /// How the server is.
    Status,
    /// What the server does, live: refreshed each second until it is interrupted. With --json, a line for each second.
    Top {
        /// Shows one second, and ends.
        #[arg(long)]
        once: bool,
    },
    /// Follows what is decided about one account's stanzas, and why, until it is interrupted. Shows addresses and ids, never
    /// what people write.
    Trace {
        /// Its address: name@host.
        jid: String,
    },
    /// Lists and ends sessions.
    Session {
        #[command(subcommand)]
        command: Session,
    },
    /// Checks, explains and applies the configuration.
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// Which module takes part in what, in the order in which they run.
    Flow {
        /// As configured for this host; without one, every module there is.
        host: Option<String>,
    },
    /// Where an extension is implemented, and what it takes part in.
    Xep {
        /// Its number.
        number: u16,
    },
}

#[derive(Subcommand)]
enum Session {
    /// Lists all sessions.
    List,
    /// Ends a session, or all sessions of an account.
    Kick {
        /// The full address of the session, or the address of the account.
        jid: String,
    },
}

/// Runs the command that the process was given, with the modules of this program.
pub fn main() -> ExitCode {
    run(Program::VORPAL)
}

/// Runs the command with these modules: for a program with modules of its own.
pub fn run(program: Program) -> ExitCode {
    crate::files::keep_private();
    let cli = Cli::parse();
    match execute(cli, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vorpal: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli, program: Program) -> Result<()> {
    let (path, json) = (cli.config, cli.json);
    let read = || program.read(path.as_deref()).map_err(|errors| anyhow::anyhow!("{errors}"));
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let running = |order| anyhow::Ok(runtime()?.block_on(give_running(&read()?, order))?);
    if matches!(cli.command, Command::Serve | Command::User { .. }) {
        crate::secret::protect_memory();
    }
    match cli.command {
        Command::Serve => runtime()?.block_on(crate::run::serve(read()?, path.clone(), program)),
        Command::User { command } => {
            let (config, order) = (read()?, command.order()?);
            let advice = user::advice(&config, &order);
            show(runtime()?.block_on(give(config, program.modules, order))?, json)?;
            advice.iter().for_each(|line| eprintln!("vorpal: {line}"));
            Ok(())
        }
        Command::Top { once } => runtime()?.block_on(top::run(&read()?, once, json)),
        Command::Trace { jid } => runtime()?.block_on(trace::run(&read()?, &jid, json)),
        Command::Status => show(running(Order::Status)?, json),
        Command::Session { command: Session::List } => show(running(Order::SessionList)?, json),
        Command::Session { command: Session::Kick { jid } } => show(running(Order::SessionKick { jid })?, json),
        Command::Config { command: config::Command::Apply } => show(running(Order::Reload)?, json),
        Command::Config { command } => config::run(command, path.as_deref(), program, json),
        Command::Flow { host } => flow::run(host.as_deref(), path.as_deref(), program, json),
        Command::Xep { number } => xep::run(number, program, json),
    }
}

/// To a running server by its socket; to the data of a stopped one by its lock.
async fn give(config: Config, modules: &'static [&'static Module], order: Order) -> Result<Answer> {
    let socket = config.listen.admin.under(&config.base);
    if let Ok(answer) = control::order(&socket, &order).await {
        return Ok(answer);
    }
    let server = Server::open(config, modules)?;
    let answer = control::execute(&server.runtime, order).await;
    server.close().await;
    Ok(answer)
}

async fn give_running(config: &Config, order: Order) -> Result<Answer> {
    let socket = config.listen.admin.under(&config.base);
    control::order(&socket, &order).await.with_context(|| format!("no server answers at {}", socket.display()))
}

fn show(answer: Answer, json: bool) -> Result<()> {
    match answer {
        Answer::Error(error) => bail!("{error}"),
        Answer::Done if json => println!("{{\"done\":true}}"),
        Answer::Done => {}
        Answer::Noted(notes) if json => println!("{}", serde_json::json!({ "done": true, "notes": notes })),
        Answer::Noted(notes) => notes.iter().for_each(|note| eprintln!("vorpal: {note}")),
        Answer::Rows(rows) if json => println!("{}", serde_json::to_string_pretty(&rows)?),
        Answer::Rows(rows) => rows.iter().for_each(print),
    }
    Ok(())
}

fn print(row: &serde_json::Value) {
    let Some(fields) = row.as_object() else { return println!("{row}") };
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if fields.len() > 3 {
        for (name, value) in fields {
            println!("{name:>16}  {}", text(value));
        }
        return;
    }
    let words: Vec<String> = fields
        .iter()
        .filter(|(_, value)| **value != serde_json::Value::Bool(false) && !value.is_null())
        .map(|(name, value)| if value.is_boolean() { name.clone() } else { text(value) })
        .collect();
    println!("{}", words.join("  "));
}
