//! The log of logins and refused connections: a line for each login that succeeds, fails or is put off, and one for each connection
//! that a limit refuses, in a format that programs such as fail2ban read. The texts and fields of these lines are part of the interface
//! (docs/handbook/monitoring.md).

#![expect(clippy::disallowed_methods, reason = "a task sums up what was not told one by one")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use vorpal_core::session::{Peer, Tls};
use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::{Mechanism, SaslError};

use crate::limits::{Line, Lines};

/// How long lines are omitted before their number is logged.
const SUMMARY: Duration = Duration::from_secs(60);

/// Writes the lines. Clones share the state.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    began: Instant,
    /// logins that failed
    failed: Mutex<Lines>,
    /// connections and logins that a limit refused
    turned_away: Mutex<Lines>,
}

/// Which kind of line is omitted and counted.
#[derive(Clone, Copy)]
enum Lot {
    Failed,
    TurnedAway,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit(Arc::new(Inner { began: Instant::now(), failed: Mutex::default(), turned_away: Mutex::default() }))
    }
}

impl Audit {
    fn failed(&self, peer: SocketAddr, account: &str, mechanism: &str, reason: &str) {
        let (address, port) = (peer.ip().to_canonical(), peer.port());
        if self.may_say(Lot::Failed, address) {
            tracing::warn!(peer = %address, port, account, mechanism, reason, "login failed");
        }
    }

    fn succeeded(&self, peer: SocketAddr, account: &str, mechanism: &str) {
        let (address, port) = (peer.ip().to_canonical(), peer.port());
        tracing::info!(peer = %address, port, account, mechanism, "logged in");
    }

    fn put_off(&self, peer: SocketAddr, account: &str, mechanism: &str) {
        let (address, port) = (peer.ip().to_canonical(), peer.port());
        if self.may_say(Lot::TurnedAway, address) {
            let reason = "too many log in at the same time";
            tracing::info!(peer = %address, port, account, mechanism, reason, "login put off");
        }
    }

    /// A connection was closed before anything was read.
    pub(super) fn refused(&self, peer: SocketAddr, reason: &str) {
        let (address, port) = (peer.ip().to_canonical(), peer.port());
        if self.may_say(Lot::TurnedAway, address) {
            tracing::info!(peer = %address, port, reason, "connection refused");
        }
    }

    /// A connection was closed after its first byte: the listener is for another kind. A warning, as the operator can correct it.
    pub(super) fn misdirected(&self, peer: SocketAddr) {
        if self.may_say(Lot::TurnedAway, peer.ip().to_canonical()) {
            tracing::warn!(%peer, "a connection is closed: TLS came to c2s_plain, which is for a proxy that has ended TLS");
        }
    }

    /// Whether a line about this address may be written. If not, it is counted, and the count is logged later.
    fn may_say(&self, lot: Lot, address: IpAddr) -> bool {
        match self.lines(lot).lock().line(self.0.began.elapsed(), address) {
            Line::Write => return true,
            Line::Count(false) => {}
            Line::Count(true) => drop(tokio::spawn(summary(self.clone(), lot))),
        }
        false
    }

    fn lines(&self, lot: Lot) -> &Mutex<Lines> {
        match lot {
            Lot::Failed => &self.0.failed,
            Lot::TurnedAway => &self.0.turned_away,
        }
    }
}

/// Logs the number of omitted lines after a while.
async fn summary(audit: Audit, lot: Lot) {
    sleep(SUMMARY).await;
    let left_out = audit.lines(lot).lock().left_out();
    for (network, count) in left_out.networks {
        match lot {
            Lot::Failed => tracing::warn!(%network, count, "more logins failed"),
            Lot::TurnedAway => tracing::info!(%network, count, "more connections refused"),
        }
    }
    let count = left_out.others;
    match lot {
        _ if count == 0 => {}
        Lot::Failed => tracing::warn!(count, "more logins failed, from other networks"),
        Lot::TurnedAway => tracing::info!(count, "more connections refused, from other networks"),
    }
}

/// The data of a login attempt, until it has ended.
#[derive(Default)]
pub(super) struct Trail {
    to: Option<(Audit, SocketAddr)>,
    /// what protects the connection
    tls: Option<Tls>,
    /// how the client has logged in
    proven: Option<Mechanism>,
    account: Option<String>,
    mechanism: Option<&'static str>,
    reason: Option<&'static str>,
}

impl Trail {
    /// For a connection from this address, with this protection.
    pub fn new(audit: Audit, peer: SocketAddr, tls: Tls) -> Trail {
        Trail { to: Some((audit, peer)), tls: Some(tls), ..Trail::default() }
    }

    /// The connection's data for its session.
    pub fn peer(&self) -> Peer {
        match &self.to {
            Some((_, peer)) => {
                let address = match peer.ip() {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => address,
                };
                Peer { address: address.octets(), tls: self.tls.unwrap_or(Tls::None), mechanism: self.proven }
            }
            None => Peer::default(),
        }
    }

    /// An attempt begins.
    pub fn begins(&mut self, mechanism: &'static str) {
        *self = Trail { to: self.to.take(), tls: self.tls, mechanism: Some(mechanism), ..Trail::default() };
    }

    /// Sets the account. A name that cannot be an account's may contain anything, and is logged as a hash.
    pub fn names(&mut self, name: &str, jid: Option<&BareJid>) {
        self.account = Some(jid.map_or_else(|| hash(name), ToString::to_string));
    }

    /// Sets the reason of a failure: the first one set is kept. It is never sent to the peer.
    pub fn because(&mut self, reason: &'static str) {
        self.reason.get_or_insert(reason);
    }

    /// It has failed.
    pub fn failed(&mut self, error: SaslError) {
        let reason = self.reason.unwrap_or(error.element());
        if let Some((audit, peer)) = &self.to {
            audit.failed(*peer, self.account.as_deref().unwrap_or("-"), self.mechanism.unwrap_or("-"), reason);
        }
        (self.account, self.mechanism, self.reason) = (None, None, None);
    }

    /// It was refused before it named an account: no line for programs that count guesses.
    pub fn unheard(&mut self, reason: &'static str) {
        if let Some((_, peer)) = &self.to {
            let mechanism = self.mechanism.unwrap_or("-");
            tracing::debug!(%peer, mechanism, reason, "a login was refused before it named an account");
        }
        (self.account, self.mechanism, self.reason) = (None, None, None);
    }

    /// It was not checked, and may be retried.
    pub fn put_off(&self) {
        if let Some((audit, peer)) = &self.to {
            audit.put_off(*peer, self.account.as_deref().unwrap_or("-"), self.mechanism.unwrap_or("-"));
        }
    }

    /// It has succeeded.
    pub fn succeeded(&mut self, account: &str, mechanism: Mechanism) {
        self.proven = Some(mechanism);
        if let Some((audit, peer)) = &self.to {
            audit.succeeded(*peer, account, mechanism.name());
        }
    }
}

/// The first 64 bits.
fn hash(name: &str) -> String {
    let digest = Sha256::digest(name);
    digest.iter().take(8).fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
