//! What handlers get, and what they may answer. Each hook point once, with its rules.
//!
//! Handlers do not act: they judge, edit the stanza, and push effects. The core commits the writes, then carries out
//! the rest, then settles (see `commit.rs`).

use std::collections::HashSet;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::element::Element;
use vorpal_proto::error::StanzaError;
use vorpal_proto::jid::{BareJid, Jid};
use vorpal_proto::stanza::{Kind, Stanza, Type};

use crate::module::effects::Effects;
use crate::module::facade::Server;
use crate::module::host::Host;
use crate::owner::account::Account;
use crate::owner::plan::Plan;
use crate::owner::roster::RosterItem;
use crate::owner::state::{Cell, Key, Map, States, Value};
use crate::session::guard::{OpenSession, Outgoing, Verdict};
use crate::session::inquiries::{Answer, Said};
use crate::session::{Flag, Slot, Stream};

/// On which side of a stanza a handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// The account is the sender.
    Sent,
    /// The account is the receiver.
    Received,
}

impl Dir {
    /// Its name, as `vorpal trace` and the log write it.
    pub fn name(self) -> &'static str {
        match self {
            Dir::Sent => "Sent",
            Dir::Received => "Received",
        }
    }
}

/// What a handler says of a stanza.
#[derive(Debug)]
pub enum Flow {
    /// On to the next handler.
    Next,
    /// The stanza ends here, in silence. The reason is logged.
    Drop(&'static str),
    /// The stanza is answered with an error. Where no error may be answered (RFC 6120 §8.3.1) it is dropped. The reason
    /// is logged.
    Bounce(&'static str, StanzaError),
}

impl Flow {
    /// What it decides, and why, for the log.
    pub(crate) fn decision(&self) -> (&'static str, &'static str) {
        match self {
            Flow::Next => ("next", ""),
            Flow::Drop(reason) => ("drop", reason),
            Flow::Bounce(reason, _) => ("bounce", reason),
        }
    }
}

/// What a handler of messages gets; also of presence, and of IQs at the gate.
pub struct MessageCx<'a> {
    /// on which side
    pub dir: Dir,
    /// the account on that side
    pub account: &'a Account,
    /// the other side; the account itself if the stanza has no other
    pub peer: &'a Jid,
    /// the session that sent it, if it is this account's
    pub origin: Option<OpenSession<'a>>,
    /// what becomes of it: empty until Record
    pub plan: &'a Plan,
    /// what shall happen
    pub fx: &'a mut Effects,
    /// the account's host
    pub host: &'a Host,
    /// the time
    pub now: Timestamp,
}

/// What a handler of presence gets.
pub type PresenceCx<'a> = MessageCx<'a>;

/// What may be asked of an account while what is on the stream of one of its sessions is locked: nothing that looks at its sessions.
#[derive(Clone, Copy)]
pub struct OpenAccount<'a> {
    /// its address
    pub jid: &'a BareJid,
    /// what modules keep
    pub states: &'a States,
}

/// What a handler of an IQ gets.
pub struct IqCx<'a> {
    /// the account that is asked; none at the host
    pub account: Option<&'a mut Account>,
    /// the session that asks, if it is this account's or, at the host, a session of ours
    pub session: Option<OpenSession<'a>>,
    /// who asks
    pub asker: &'a Jid,
    /// the stanza itself
    pub iq: &'a Stanza,
    /// what shall happen
    pub fx: &'a mut Effects,
    /// the host that is asked
    pub host: &'a Host,
    /// what may be asked of the whole server
    pub server: Server<'a>,
    /// the time
    pub now: Timestamp,
}

impl IqCx<'_> {
    /// The account that is asked. Handlers registered at an account always have one.
    pub fn account(&mut self) -> Result<&mut Account, StanzaError> {
        self.account.as_deref_mut().ok_or_else(StanzaError::internal_server_error)
    }

    /// The committed rows of a list.
    pub fn rows<K: Key, V: Value>(&mut self, map: Map<K, V>) -> Result<&crate::small::rows::Rows<K, V>, StanzaError> {
        Ok(self.account()?.states.rows(map))
    }

    /// Changes one row, seen at its newest: gives what it shall be, or nothing to remove it. Written before the answer
    /// is said; if the write fails the answer is an error.
    pub fn update<K: Key, V: Value>(
        &mut self,
        map: Map<K, V>,
        key: K,
        change: impl FnOnce(Option<&V>) -> Result<Option<V>, StanzaError>,
    ) -> Result<(), StanzaError> {
        let account = self.account()?;
        let value = change(account.states.newest(map, &key))?;
        account.states.stage(map, key, value);
        Ok(())
    }

    /// Changes a single value.
    pub fn update_cell<T: Value>(
        &mut self,
        cell: Cell<T>,
        change: impl FnOnce(Option<&T>) -> Result<Option<T>, StanzaError>,
    ) -> Result<(), StanzaError> {
        self.update(cell, (), change)
    }

    /// Changes a contact, and pushes it to the sessions that asked for the roster (RFC 6121 §2.1.6).
    pub fn store_contact(&mut self, contact: &BareJid, item: RosterItem) -> Result<(), StanzaError> {
        self.account()?;
        self.fx.further().contacts.push((contact.clone(), item));
        Ok(())
    }

    /// Sends an IQ set to the session that asks, behind the answer.
    pub fn push_here(&mut self, payload: Element) {
        let Some(session) = self.session else { return };
        let push = Stanza::new(Kind::Iq, Type::Set).id(self.server.random_id()).to(session.jid().clone());
        self.fx.further().behind.push((session.id(), push.child(payload)));
    }

    /// The contacts that some of these addresses stand for and that may see the account's presence: an address stands for
    /// one, or for all of a domain. Each once, in order. The roster is gone through once if a domain is named, else not at all.
    pub fn contacts_within<'j>(
        &mut self,
        jids: impl IntoIterator<Item = &'j Jid>,
    ) -> Result<Vec<BareJid>, StanzaError> {
        let roster = self.server.0.tables().roster;
        let rows = self.account()?.states.rows(roster);
        let (of_one, of_domain): (Vec<&Jid>, Vec<&Jid>) = jids.into_iter().partition(|jid| jid.local().is_some());
        let shown = |item: &RosterItem| item.state().shows_presence();
        let mut contacts: Vec<BareJid> =
            of_one.iter().filter(|jid| rows.get(jid.bare_str()).is_some_and(shown)).map(|jid| jid.bare()).collect();
        if !of_domain.is_empty() {
            let domains: HashSet<&str> = of_domain.iter().map(|jid| jid.domain()).collect();
            let within = rows.iter().filter(|(contact, item)| domains.contains(contact.domain()) && shown(item));
            contacts.extend(within.map(|(contact, _)| contact.clone()));
        }
        contacts.sort_unstable();
        contacts.dedup();
        Ok(contacts)
    }

    /// Sends an IQ set to each session of the account that has the flag (RFC 6121 §2.1.6, XEP-0191 §3.3).
    pub fn push(&mut self, flag: Flag, payload: Element) -> Result<(), StanzaError> {
        let id = self.server.random_id();
        let account = self.account.as_deref_mut().ok_or_else(StanzaError::internal_server_error)?;
        for session in account.sessions.iter().filter(|s| s.has(flag)) {
            let push = Stanza::new(Kind::Iq, Type::Set).id(id.as_str()).to(session.jid.clone());
            self.fx.send(session.id, push.child(payload.clone()));
        }
        Ok(())
    }
}

/// What a handler of the life of a session gets: bind, resume, close, nonzas.
pub struct SessionCx<'a> {
    /// its account
    pub account: OpenAccount<'a>,
    /// the session
    pub session: OpenSession<'a>,
    /// what is on its stream
    pub stream: &'a mut Stream,
    /// what shall happen
    pub fx: &'a mut Effects,
    /// the host
    pub host: &'a Host,
    /// what may be asked of the whole server
    pub server: Server<'a>,
    /// the time
    pub now: Timestamp,
}

impl SessionCx<'_> {
    /// Writes an element that is no stanza.
    pub fn say(&mut self, nonza: &Element) {
        let mut bytes = Vec::new();
        nonza.write(&mut bytes, vorpal_proto::ns::CLIENT.as_str());
        self.stream.push_nonza(bytes);
    }

    /// Sends an IQ set to the session.
    pub fn push(&mut self, payload: Element) {
        let push = Stanza::new(Kind::Iq, Type::Set).id(self.server.random_id()).to(self.session.jid().clone());
        self.fx.send(self.session.id(), push.child(payload));
    }

    /// Sends the stanzas that [`Setup::on_outbound`](crate::module::Setup::on_outbound) held back.
    pub fn flush(&mut self) {
        self.stream.flush();
    }

    /// The module's value in this session.
    pub fn slot<T: Default + Send + 'static>(&mut self, slot: Slot<T>) -> &mut T {
        self.stream.slot(slot)
    }
}

pub(crate) type MessageHandler = Box<dyn Fn(&mut MessageCx<'_>, &mut Stanza) -> Flow + Send + Sync>;
type Handles<T> = Box<dyn Fn(&mut IqCx<'_>, &Element) -> T + Send + Sync>;

/// Who answers an IQ: at once, or when the store was read.
pub(crate) enum IqHandler {
    Answers(Handles<Answer>),
    Reads(Handles<Result<Said, StanzaError>>),
}

pub(crate) type OutboundHandler = Box<dyn Fn(&Outgoing<'_>, &mut Stanza) -> Verdict + Send + Sync>;
pub(crate) type WithholdHandler = Box<dyn Fn(OpenAccount<'_>, &Stanza) -> bool + Send + Sync>;
pub(crate) type SessionHandler = Box<dyn Fn(&mut SessionCx<'_>) + Send + Sync>;
pub(crate) type NonzaHandler = Box<dyn Fn(&mut SessionCx<'_>, &Element) + Send + Sync>;
pub(crate) type FeatureMaker = Box<dyn Fn(&crate::module::registry::Registry) -> Element + Send + Sync>;
pub(crate) type FormMaker = Box<dyn Fn() -> Element + Send + Sync>;
