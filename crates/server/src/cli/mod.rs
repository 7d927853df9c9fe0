//! The commands.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use vorpal_config::Config;
use vorpal_core::module::Module;

use crate::control::{self, Answer, Order};
use crate::run::Server;

mod user;

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
    /// Lists and ends sessions.
    Session {
        #[command(subcommand)]
        command: Session,
    },
}

#[derive(Subcommand)]
enum Session {
    /// Lists all sessions.
    List,
    /// Ends a session.
    Kick {
        /// Its full address.
        jid: String,
    },
}

/// Runs the command that the process was given, with the modules of this program.
pub fn main() -> ExitCode {
    run(vorpal_modules::ALL)
}

/// Runs the command with these modules: for a program with modules of its own.
pub fn run(modules: &'static [&'static Module]) -> ExitCode {
    let cli = Cli::parse();
    match execute(cli, modules) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vorpal: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli, modules: &'static [&'static Module]) -> Result<()> {
    let config = load(cli.config.as_deref(), modules)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve => crate::run::serve(config, modules).await,
            Command::User { command } => show(give(config, modules, command.order()?).await?, cli.json),
            Command::Status => show(give_running(&config, Order::Status).await?, cli.json),
            Command::Session { command } => {
                let order = match command {
                    Session::List => Order::SessionList,
                    Session::Kick { jid } => Order::SessionKick { jid },
                };
                show(give_running(&config, order).await?, cli.json)
            }
        }
    })
}

fn load(path: Option<&Path>, modules: &'static [&'static Module]) -> Result<Config> {
    let from_env = std::env::var_os("VORPAL_CONFIG").map(PathBuf::from);
    let path = path.map(Path::to_owned).or(from_env);
    let known: Vec<_> = modules.iter().map(|m| vorpal_config::Module::plain(m.name)).collect();
    Config::load(path.as_deref(), std::env::vars(), &known).map_err(|errors| anyhow::anyhow!("{errors}"))
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
