//! Creates many accounts at once from another server's SCRAM keys.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use vorpal_core::life::users::NewUser;
use vorpal_core::store::Kind;
use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::{Credentials, CredentialsError, Iterations, MAX_SALT_BYTES};
use vorpal_runtime::{Runtime, now};

use super::address;
use super::users::{has_room, key_policy, mixed_scripts};

/// Maximum number of accounts that are submitted before the first is awaited, so that the writer commits them in few groups.
const TOGETHER: usize = 256;

/// One account to be imported.
#[derive(Clone, Serialize, Deserialize)]
pub struct Line {
    /// its line number in the file, from 1
    pub line: usize,
    /// its address
    pub jid: String,
    /// its keys, in the format of RFC 5803
    pub credentials: Vec<String>,
}

/// The result of an import.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Imported {
    /// number of accounts created
    pub created: usize,
    /// number of accounts that already existed and were left unchanged
    #[serde(default)]
    pub existing: usize,
    /// number of lines that failed
    pub failed: usize,
    /// errors and warnings about single lines, in their order
    pub problems: Vec<Problem>,
}

/// An error or warning about one line of an import.
#[derive(Debug, Serialize, Deserialize)]
pub struct Problem {
    /// the line number, from 1
    pub line: usize,
    /// the address in that line
    pub jid: String,
    /// whether the account existed already: then this is no error, and nothing was changed
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exists: bool,
    /// why the account was not created
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// a warning about the account that was created
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// An account to be created, checked.
struct Ready {
    line: Line,
    user: NewUser,
    credentials: Vec<Credentials>,
}

/// Creates all accounts that can be created.
pub(super) async fn import(runtime: &Arc<Runtime>, users: Vec<Line>) -> Imported {
    let mut imported = Imported::default();
    // An address that is in the file twice is created from its first line.
    let mut seen: HashMap<BareJid, usize> = HashMap::new();
    let mut users = users.into_iter().peekable();
    while users.peek().is_some() {
        let mut ready = Vec::new();
        for line in users.by_ref().take(TOGETHER) {
            match prepare(runtime, &line, &mut seen) {
                Ok((user, credentials)) => ready.push(Ready { line, user, credentials }),
                Err(error) => imported.failed(line, &error),
            }
        }
        create(runtime, ready, &mut imported).await;
    }
    imported.problems.sort_by_key(|problem| problem.line);
    imported
}

impl Imported {
    fn failed(&mut self, line: Line, error: &anyhow::Error) {
        self.failed += 1;
        let error = Some(format!("{error:#}"));
        self.problems.push(Problem { line: line.line, jid: line.jid, exists: false, error, warning: None });
    }

    fn exists(&mut self, line: Line) {
        self.existing += 1;
        self.problems.push(Problem { line: line.line, jid: line.jid, exists: true, error: None, warning: None });
    }
}

/// Checks a line without the store.
fn prepare(runtime: &Runtime, line: &Line, seen: &mut HashMap<BareJid, usize>) -> Result<(NewUser, Vec<Credentials>)> {
    has_room(runtime)?;
    let user = NewUser::new(address(runtime, &line.jid)?)?;
    if line.credentials.is_empty() {
        bail!("the address is not followed by credentials: nobody could log in");
    }
    let credentials = line.credentials.iter().map(|text| Credentials::from_text(text));
    let credentials: Vec<Credentials> = credentials.collect::<Result<_, _>>().map_err(malformed)?;
    if let Some(first) = seen.get(user.jid()) {
        bail!("the address is already in line {first}");
    }
    seen.insert(user.jid().clone(), line.line);
    Ok((user.clone(), key_policy(runtime, user.jid()).of_import(credentials)))
}

/// Why a key is invalid, as an error message for the operator.
fn malformed(error: CredentialsError) -> anyhow::Error {
    let CredentialsError::Text(part) = error else { return error.into() };
    match part {
        "scheme" => anyhow!("the mechanism has to be SCRAM-SHA-1, SCRAM-SHA-256 or SCRAM-SHA-512"),
        "iterations" => anyhow!(
            "the number of iterations has to be between {} and {}",
            Iterations::MIN.count(),
            Iterations::MAX.count()
        ),
        "salt" => anyhow!("the salt has to be in base64, of at most {MAX_SALT_BYTES} bytes"),
        "StoredKey" | "ServerKey" => {
            anyhow!("the {part} has to be in base64, and as long as the hash of its mechanism")
        }
        _ => anyhow!("expected SCRAM-SHA-1$ITERATIONS:SALT$STORED-KEY:SERVER-KEY after the address (RFC 5803)"),
    }
}

/// Creates these accounts, except those that exist, and waits until they are stored.
async fn create(runtime: &Arc<Runtime>, ready: Vec<Ready>, imported: &mut Imported) {
    let names: Vec<BareJid> = ready.iter().map(|ready| ready.user.jid().clone()).collect();
    let find = move |reader: &mut dyn vorpal_core::store::Reader| {
        let find = |jid: &BareJid| reader.find(Kind::Account, jid.domain(), jid.local().unwrap_or_default());
        names.iter().map(find).map(|found| found.map(|row| row.is_some())).collect::<Result<Vec<bool>, _>>()
    };
    let exist = match runtime.readers().read(find).await.context("the store cannot be read") {
        Ok(exist) => exist,
        Err(error) => return ready.into_iter().for_each(|ready| imported.failed(ready.line, &error)),
    };
    let mut submitted = Vec::new();
    for (ready, exists) in ready.into_iter().zip(exist) {
        let Ready { line, user, credentials } = ready;
        if exists {
            imported.exists(line);
            continue;
        }
        let (tell, hear) = oneshot::channel();
        let done = Box::new(move |stored| {
            let _ = tell.send(stored);
        });
        runtime.core.create_user(now(), &user, &credentials, done);
        submitted.push((line, user, hear));
    }
    for (line, user, hear) in submitted {
        if !matches!(hear.await, Ok(true)) {
            imported.failed(line, &anyhow!("the account could not be stored"));
            continue;
        }
        imported.created += 1;
        if let Some(warning) = mixed_scripts(&user) {
            let (Line { line, jid, .. }, warning) = (line, Some(warning));
            imported.problems.push(Problem { line, jid, exists: false, error: None, warning });
        }
    }
}
