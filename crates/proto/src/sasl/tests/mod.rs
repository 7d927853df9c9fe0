//! The exchange as a whole: both sides together, the examples of the specifications, the table, hostile input.

mod exchange;
mod hostile;
mod properties;
mod table;
mod vectors;

use super::client::{Binding, Client, Secret};
use super::*;

pub(super) const SECRET: [u8; 32] = [9; 32];
pub(super) const SALT: [u8; SALT_BYTES] = *b"0123456789abcdef";
pub(super) const USER: &str = "user@example.org";
pub(super) const EXPORTER: [u8; 32] = [0xe1; 32];

/// Settings of a connection with both channel-binding types, on which -PLUS was offered.
pub(super) fn bound() -> Settings {
    Settings {
        bindings: ChannelBindings { exporter: Some(EXPORTER), server_end_point: Some(vec![0xce; 32]) },
        plus_offered: true,
        names_account: |authzid, account| authzid.eq_ignore_ascii_case(account),
        offered: None,
    }
}

/// Settings of a connection that cannot be bound.
pub(super) fn unbound() -> Settings {
    Settings { bindings: ChannelBindings::default(), plus_offered: false, ..bound() }
}

pub(super) fn nonce(text: &str) -> Nonce {
    Nonce::from_text(text).unwrap()
}

pub(super) fn scram(hash: Hash) -> Mechanism {
    Mechanism::Scram { hash, plus: false }
}

pub(super) fn plus(hash: Hash) -> Mechanism {
    Mechanism::Scram { hash, plus: true }
}

pub(super) fn exporter() -> Binding {
    Binding::Use { name: TLS_EXPORTER.to_owned(), data: EXPORTER.to_vec() }
}

/// A host with one account: "user", whose password is "pencil". Everybody else is faked.
pub(super) struct Host {
    keys: Vec<Credentials>,
}

impl Host {
    pub(super) fn new() -> Host {
        let derive = |hash| Credentials::derive(hash, "pencil", &SALT, Iterations::MIN).unwrap();
        Host { keys: Hash::ALL.into_iter().map(derive).collect() }
    }

    pub(super) fn look_up(&self, query: &Query) -> Account {
        let hash = query.hash.unwrap_or(Hash::Sha256);
        let address = format!("{}@example.org", query.username);
        let credentials = if address == USER {
            self.keys.iter().find(|keys| keys.hash() == hash).unwrap().clone()
        } else {
            Credentials::fake(&SECRET, &address, hash, Shown::new(Iterations::MIN))
        };
        Account { address, credentials }
    }

    /// Answers all questions of the server until it has something for the client.
    pub(super) fn drive(&self, exchange: &mut Exchange, mut step: Step) -> Step {
        loop {
            step = match step {
                Step::NeedCredentials(query) => exchange.account(self.look_up(&query)),
                Step::NeedDerivation(check) => exchange.verdict(check.run()),
                other => return other,
            };
        }
    }

    pub(super) fn receive(&self, exchange: &mut Exchange, data: &[u8]) -> Step {
        let step = exchange.receive(Some(data));
        self.drive(exchange, step)
    }

    /// A whole attempt, with a client that also checks the server.
    pub(super) fn attempt(&self, settings: Settings, mut client: Client, mechanism: Mechanism) -> Outcome {
        let mut exchange = Exchange::new(mechanism, settings, nonce("server"));
        let first = client.first().unwrap();
        let mut step = self.receive(&mut exchange, &first);
        if let Step::Challenge(challenge) = &step {
            let last = client.respond(challenge).unwrap();
            step = self.receive(&mut exchange, &last);
        }
        match step {
            Step::Success(success) => {
                client.finish(success.data()).unwrap();
                Ok(success)
            }
            Step::Failure(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) type Outcome = Result<Authenticated, Refusal>;

pub(super) fn client(mechanism: Mechanism, username: &str, password: &str) -> Client {
    let client = Client::new(mechanism, username, Secret::Password(password.to_owned()), nonce("client"));
    if mechanism.is_plus() { client.with_binding(exporter()) } else { client }
}

pub(super) fn refusal(step: Step) -> Refusal {
    match step {
        Step::Failure(refusal) => refusal,
        other => panic!("no failure but {other:?}"),
    }
}

pub(super) fn challenge(step: Step) -> String {
    match step {
        Step::Challenge(data) => String::from_utf8(data).unwrap(),
        other => panic!("no challenge but {other:?}"),
    }
}
