//! `vorpal user`: accounts.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Read};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use vorpal_config::{Config, Mechanism};
use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::MAX_INPUT_BYTES;
use zeroize::Zeroizing;

use crate::control::Order;
use crate::secret::Password;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Creates an account. The password is asked for, or read from standard input.
    Add {
        /// Its address: name@host.
        jid: String,
        /// The password; visible to others on this machine while the command runs.
        #[arg(long)]
        password: Option<String>,
    },
    /// Creates accounts from a file: in each line an address, then what is stored of its password, as RFC 5803 writes it
    /// (`SCRAM-SHA-1$iterations:salt$stored-key:server-key`), once or for several mechanisms. Says what to set if that is
    /// less than the host offers.
    Import {
        /// The file.
        file: std::path::PathBuf,
    },
    /// Sets another password. The account's sessions go on unless --end-sessions is given.
    Passwd {
        /// Whose.
        jid: String,
        /// Ends all sessions of the account, and lets none of them be resumed: for a password that somebody else knows.
        #[arg(long)]
        end_sessions: bool,
        /// The password; visible to others on this machine while the command runs.
        #[arg(long)]
        password: Option<String>,
    },
    /// Lists accounts.
    List {
        /// Of this host only.
        host: Option<String>,
    },
    /// Deletes an account and everything it has.
    Rm {
        /// Which.
        jid: String,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Lets nobody log in to an account, and ends its sessions.
    Disable {
        /// Which.
        jid: String,
    },
    /// Lets a disabled account log in again.
    Enable {
        /// Which.
        jid: String,
    },
}

impl Command {
    pub(super) fn order(self) -> Result<Order> {
        Ok(match self {
            Command::Add { jid, password } => Order::UserAdd { jid, password: secret(password)? },
            Command::Import { file } => {
                let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
                let users = text.lines().filter_map(|line| {
                    let mut words = line.split_whitespace().map(str::to_owned);
                    Some((words.next()?, words.collect()))
                });
                Order::UserImport { users: users.collect() }
            }
            Command::Passwd { jid, end_sessions, password } => {
                Order::UserPasswd { jid, password: secret(password)?, end_sessions }
            }
            Command::List { host } => Order::UserList { host },
            Command::Rm { jid, yes } => {
                if !yes && !sure(&jid)? {
                    bail!("nothing was deleted");
                }
                Order::UserRm { jid }
            }
            Command::Disable { jid } => Order::UserDisable { jid, disabled: true },
            Command::Enable { jid } => Order::UserDisable { jid, disabled: false },
        })
    }
}

/// What to set so that accounts can log in that are imported with keys of fewer hashes than their host offers: clients
/// pick the strongest that is offered, and never try another.
pub(super) fn advice(config: &Config, order: &Order) -> Vec<String> {
    let Order::UserImport { users } = order else { return Vec::new() };
    let mut lines = Vec::new();
    for host in &config.hosts {
        let of_host = |jid: &str| BareJid::parse(jid).is_ok_and(|jid| jid.domain() == host.name.as_str());
        let scheme = |text: &String| text.split('$').next().map(str::to_owned);
        let users: Vec<BTreeSet<String>> = users
            .iter()
            .filter(|(jid, _)| of_host(jid))
            .map(|(_, credentials)| credentials.iter().filter_map(scheme).collect())
            .collect();
        let scram = host.mechanisms.iter().filter(|m| **m != Mechanism::Plain).map(|m| m.as_str());
        let lacks = |name: &str| users.iter().filter(|has| !has.contains(name)).count();
        let lacking: Vec<&str> = scram.filter(|name| lacks(name) > 0).collect();
        if lacking.is_empty() {
            continue;
        }
        let count = users.iter().filter(|has| lacking.iter().any(|name| !has.contains(*name))).count();
        let all = |name: &&str| lacks(name) == 0;
        let common = [Mechanism::ScramSha512, Mechanism::ScramSha256, Mechanism::ScramSha1].map(Mechanism::as_str);
        let keep: Vec<String> =
            common.iter().copied().filter(all).chain(["PLAIN"]).map(|name| format!("\"{name}\"")).collect();
        lines.push(format!(
            "{count} accounts of {name} have no keys for {missing}: clients that pick these cannot log in. Set\n\n    \
             [host.\"{name}\"]\n    mechanisms = [{keep}]\n\nin the configuration, then `vorpal config apply`. The keys are made \
             when somebody logs in with PLAIN or is given a new password; when all have, take the line out again.",
            name = host.name.as_str(),
            missing = lacking.join(" and "),
            keep = keep.join(", "),
        ));
    }
    lines
}

fn secret(given: Option<String>) -> Result<Password> {
    if let Some(password) = given {
        return Ok(password.into());
    }
    if !std::io::stdin().is_terminal() {
        // With room for any password: a buffer that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(2 * MAX_INPUT_BYTES));
        std::io::stdin().take(2 * MAX_INPUT_BYTES as u64).read_to_string(&mut text).context("reading the password")?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned().into());
    }
    let password = Password::from(rpassword::prompt_password("Password: ")?);
    let again = Password::from(rpassword::prompt_password("Again: ")?);
    if password.as_str() != again.as_str() {
        bail!("the two are not the same");
    }
    Ok(password)
}

fn sure(jid: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("deleting {jid} needs --yes");
    }
    eprint!("Delete {jid} and everything it has? [y/N] ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const SHA1: &str = "SCRAM-SHA-1$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=";

    fn advised(config: &str, users: &[&str]) -> Vec<String> {
        let config = Config::read(Path::new("v.toml"), config.into(), [], &[]).expect("a configuration");
        let users = users.iter().map(|jid| ((*jid).to_owned(), vec![SHA1.to_owned()])).collect();
        advice(&config, &Order::UserImport { users })
    }

    #[test]
    fn an_import_of_fewer_hashes_than_are_offered_is_told_what_to_set() {
        let lines = advised("hosts = [\"a.example\", \"b.example\"]", &["x@a.example", "y@a.example"]);
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(
            line.starts_with("2 accounts of a.example have no keys for SCRAM-SHA-512 and SCRAM-SHA-256: "),
            "{line}"
        );
        assert!(line.contains("[host.\"a.example\"]\n    mechanisms = [\"SCRAM-SHA-1\", \"PLAIN\"]\n"), "{line}");
    }

    #[test]
    fn what_it_says_is_enough() {
        let config = "hosts = [\"a.example\"]\n[host.\"a.example\"]\nmechanisms = [\"SCRAM-SHA-1\", \"PLAIN\"]";
        assert_eq!(advised(config, &["x@a.example"]), Vec::<String>::new());
        assert_eq!(advised("[login]\nmechanisms = [\"PLAIN\"]", &["x@localhost"]), Vec::<String>::new());
        assert_eq!(advised("", &["x@elsewhere.example"]), Vec::<String>::new());
    }
}
