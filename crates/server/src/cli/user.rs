//! `vorpal user`: accounts.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use vorpal_config::{Config, Mechanism};
use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::MAX_INPUT_BYTES;
use zeroize::Zeroizing;

use super::text::counted;
use crate::orders::{Imported, Line, Order};
use crate::secret::Password;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Creates an account. Prompts for the password, or reads it from standard input.
    Add {
        /// Its address.
        #[arg(value_name = "NAME@HOST")]
        jid: String,
        /// The password; other users of this machine can see it while the command runs.
        #[arg(long)]
        password: Option<String>,
    },
    /// Creates accounts from a file. Each line has an address, then one or more keys in the format of RFC 5803:
    /// `SCRAM-SHA-1$ITERATIONS:SALT$STORED-KEY:SERVER-KEY`, with salt and keys in base64. Reports each line that fails,
    /// creates all other accounts, leaves existing ones unchanged, and says which mechanisms to offer until the accounts have keys for more.
    Import {
        /// The file; `-` reads standard input.
        file: PathBuf,
    },
    /// Sets a new password. The account's sessions stay connected unless --end-sessions is given.
    Passwd {
        /// Its address.
        #[arg(value_name = "NAME@HOST")]
        jid: String,
        /// Ends all sessions of the account, so that none of them can be resumed: for a password that somebody else knows.
        #[arg(long)]
        end_sessions: bool,
        /// The password; other users of this machine can see it while the command runs.
        #[arg(long)]
        password: Option<String>,
    },
    /// Lists accounts.
    List {
        /// Only those of this host.
        host: Option<String>,
    },
    /// Shows one account: when it was created, its sessions, and what is stored for it.
    Show {
        /// Its address.
        #[arg(value_name = "NAME@HOST")]
        jid: String,
    },
    /// Deletes an account and everything it has.
    Rm {
        /// Its address.
        #[arg(value_name = "NAME@HOST")]
        jid: String,
        /// Does not ask for confirmation.
        #[arg(long)]
        yes: bool,
    },
    /// Disables an account: nobody can log in, and its sessions end. Its stored data is kept.
    Disable {
        /// Its address.
        #[arg(value_name = "NAME@HOST")]
        jid: String,
    },
    /// Enables a disabled account: its user can log in again.
    Enable {
        /// Its address.
        #[arg(value_name = "NAME@HOST")]
        jid: String,
    },
}

impl Command {
    pub(super) fn order(self) -> Result<Order> {
        Ok(match self {
            Command::Add { jid, password } => Order::UserAdd { jid, password: secret(password)? },
            Command::Import { file } => Order::UserImport { users: lines(&file)? },
            Command::Passwd { jid, end_sessions, password } => {
                Order::UserPasswd { jid, password: secret(password)?, end_sessions }
            }
            Command::List { host } => Order::UserList { host },
            Command::Show { jid } => Order::UserShow { jid },
            Command::Rm { jid, yes } => {
                if !yes && !sure(&jid)? {
                    bail!("not confirmed: nothing was deleted");
                }
                Order::UserRm { jid }
            }
            Command::Disable { jid } => Order::UserDisable { jid, disabled: true },
            Command::Enable { jid } => Order::UserDisable { jid, disabled: false },
        })
    }
}

/// The name under which messages show a file.
pub(super) fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

/// The accounts in a file, with their line numbers. Empty lines are skipped.
fn lines(file: &Path) -> Result<Vec<Line>> {
    let told = || format!("{} cannot be read", shown(file));
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.with_context(told)?;
    let line = |(at, line): (usize, &str)| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some(Line { line: at + 1, jid: words.next()?, credentials: words.collect() })
    };
    let lines: Vec<Line> = text.trim_start_matches('\u{feff}').lines().enumerate().filter_map(line).collect();
    if lines.is_empty() {
        bail!("{} has no accounts in it: nothing was imported", shown(file));
    }
    Ok(lines)
}

/// Advice for accounts that were imported with keys for fewer hashes than their host offers. They could not log in: clients pick
/// the strongest mechanism that is offered, and never try another.
pub(super) fn advice(config: &Config, users: &[Line], imported: &Imported) -> Vec<String> {
    let others = imported.problems.iter().filter(|problem| problem.exists || problem.error.is_some());
    let others: BTreeSet<usize> = others.map(|problem| problem.line).collect();
    let mut lines = Vec::new();
    for host in &config.hosts {
        let of_host = |jid: &str| BareJid::parse(jid).is_ok_and(|jid| jid.domain() == host.name.as_str());
        let scheme = |text: &String| text.split('$').next().map(str::to_owned);
        let users: Vec<BTreeSet<String>> = users
            .iter()
            .filter(|line| of_host(&line.jid) && !others.contains(&line.line))
            .map(|line| line.credentials.iter().filter_map(scheme).collect())
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
            "{count} of {name} {have} no keys for {missing}: clients that pick these cannot log in. Set\n\n    \
             [host.\"{name}\"]\n    mechanisms = [{keep}]\n\nin the configuration, then `vorpal config apply`. An account gets \
             the missing keys when its user logs in with PLAIN or gets a new password. Remove the line when all have them.",
            count = counted(count, "account"),
            have = if count == 1 { "has" } else { "have" },
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
        // Large enough for any password: a buffer that grows leaves copies in memory.
        let mut text = Zeroizing::new(String::with_capacity(2 * MAX_INPUT_BYTES));
        std::io::stdin().take(2 * MAX_INPUT_BYTES as u64).read_to_string(&mut text).context("reading the password")?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned().into());
    }
    let password = Password::from(rpassword::prompt_password("Password: ")?);
    let again = Password::from(rpassword::prompt_password("Again: ")?);
    if password.as_str() != again.as_str() {
        bail!("the two passwords are not the same: nothing was changed");
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
    use super::*;

    const SHA1: &str = "SCRAM-SHA-1$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=";

    fn advised(config: &str, users: &[&str]) -> Vec<String> {
        let config = Config::read(Path::new("v.toml"), config.into(), [], &[]).expect("a configuration");
        let line = |jid: &&str| Line { line: 1, jid: (*jid).to_owned(), credentials: vec![SHA1.to_owned()] };
        advice(&config, &users.iter().map(line).collect::<Vec<_>>(), &Imported::default())
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
