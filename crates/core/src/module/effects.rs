//! What shall happen because of a stanza. Pushed by handlers, carried out by the core: writes first, then words.

use smallvec::SmallVec;
use vorpal_proto::element::Element;
use vorpal_proto::error::{StreamCondition, StreamError};
use vorpal_proto::jid::BareJid;
use vorpal_proto::stanza::Stanza;

use crate::owner::cold::{ColdWrites, Staged};
use crate::owner::judge::{Judge, Withdrawal};
use crate::owner::roster::RosterItem;
use crate::session::{Flag, SessionId};

/// Effects of one handler, or of all handlers of one side of a stanza.
#[derive(Default)]
pub struct Effects {
    pub(crate) keep: bool,
    pub(crate) archive: bool,
    pub(crate) look_after: bool,
    pub(crate) over_quota: bool,
    pub(crate) copies: SmallVec<[Flag; 1]>,
    pub(crate) excluded: SmallVec<[SessionId; 1]>,
    pub(crate) each_session: bool,
    /// what few handlers ask for
    pub(crate) further: Option<Box<Further>>,
    /// the session's flags or slots changed and are worth keeping
    pub(crate) save: bool,
    /// lifecycle requests of stream management
    pub(crate) manage: Option<Manage>,
}

/// Effects that take room, and that few handlers ask for: of the others each stanza would pay for making and dropping them.
#[derive(Default)]
pub(crate) struct Further {
    pub sends: Vec<(SessionId, Stanza)>,
    /// what a session gets behind the answer to its question
    pub behind: Vec<(SessionId, Stanza)>,
    pub routes: Vec<Stanza>,
    pub visibility: Vec<Visibility>,
    /// changed contacts
    pub contacts: Vec<(BareJid, RosterItem)>,
    /// changes of rows and blobs that are not loaded, and conditions
    pub cold: Vec<Staged>,
}

/// What had been asked for when a handler began: numbers alone, so that it costs nothing where no handler panics.
pub(crate) struct Mark {
    keep: bool,
    archive: bool,
    look_after: bool,
    over_quota: bool,
    save: bool,
    manages: bool,
    copies: usize,
    excluded: usize,
    further: Option<[usize; 6]>,
}

impl Effects {
    /// Taken before a handler runs.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            keep: self.keep,
            archive: self.archive,
            look_after: self.look_after,
            over_quota: self.over_quota,
            save: self.save,
            manages: self.manage.is_some(),
            copies: self.copies.len(),
            excluded: self.excluded.len(),
            further: self.further.as_deref().map(Further::lens),
        }
    }

    /// The handler panicked: what it asked for since is dropped.
    pub(crate) fn undo_since(&mut self, mark: &Mark) {
        self.keep = mark.keep;
        self.archive = mark.archive;
        self.look_after = mark.look_after;
        self.over_quota = mark.over_quota;
        self.save = mark.save;
        self.manage = self.manage.take().filter(|_| mark.manages);
        self.copies.truncate(mark.copies);
        self.excluded.truncate(mark.excluded);
        match (mark.further, &mut self.further) {
            (Some(lens), Some(further)) => further.truncate(lens),
            _ => self.further = None,
        }
    }

    /// What is asked for of [`Further`].
    pub(crate) fn further(&mut self) -> &mut Further {
        self.further.get_or_insert_default()
    }

    /// The changes of rows that are not loaded.
    pub(crate) fn take_cold(&mut self) -> Option<Box<ColdWrites>> {
        ColdWrites::of(std::mem::take(&mut self.further.as_mut()?.cold))
    }

    /// What was asked for of [`Further`].
    pub(crate) fn take_further(&mut self) -> Further {
        self.further.take().map_or_else(Further::default, |further| *further)
    }
}

impl Further {
    fn lens(&self) -> [usize; 6] {
        let Further { sends, behind, routes, visibility, contacts, cold } = self;
        [sends.len(), behind.len(), routes.len(), visibility.len(), contacts.len(), cold.len()]
    }

    fn truncate(&mut self, [sends, behind, routes, visibility, contacts, cold]: [usize; 6]) {
        self.sends.truncate(sends);
        self.behind.truncate(behind);
        self.routes.truncate(routes);
        self.visibility.truncate(visibility);
        self.contacts.truncate(contacts);
        self.cold.truncate(cold);
    }
}

/// A contact shall see the account go, or come, without any change of subscription (XEP-0191 §3.3, §3.4): all of its sessions,
/// or those that a judge names.
pub(crate) enum Visibility {
    Hide(BareJid, Option<Judge>),
    Show(BareJid, Option<Judge>),
    Withdraw(Withdrawal),
}

/// What a stream management nonza asks of the core.
pub(crate) enum Manage {
    Enable { keep: u64, resumable: bool },
    Acked(u32),
    SayAck,
    End(Box<StreamError>),
}

impl Effects {
    /// Record: keeps a received message for a session that is not there yet. Without it a message that finds no session
    /// is answered with an error.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Record: the archive keeps it, with an id that stays (XEP-0359).
    pub fn archive(&mut self) {
        self.archive = true;
    }

    /// Record: the message is refused because the account keeps too much; for the operator's figures.
    pub fn over_quota(&mut self) {
        self.over_quota = true;
    }

    /// Record: the account is looked after ([`crate::module::Setup::each_account`]) with the next tick.
    pub fn look_after(&mut self) {
        self.look_after = true;
    }

    /// Copy: every session with the flag that does not get, and did not send, the message itself gets a wrapped copy
    /// (XEP-0280). Of two requests for one session one copy is made.
    pub fn copy(&mut self, flag: Flag) {
        self.copies.push(flag);
    }

    /// Gate: the stanza may not pass to this session.
    pub fn exclude(&mut self, session: SessionId) {
        self.excluded.push(session);
    }

    /// Sends to one session of the account.
    pub fn send(&mut self, session: SessionId, stanza: Stanza) {
        self.further().sends.push((session, stanza));
    }

    /// Sends a stanza from this account or host on its way, with everything that happens to a stanza there. Carries no
    /// promise of its own.
    pub fn route(&mut self, stanza: Stanza) {
        self.further().routes.push(stanza);
    }

    /// The contact sees every session of the account go; with a judge, those of the contact's sessions that it names.
    pub fn hide_from(&mut self, contact: BareJid, whom: Option<Judge>) {
        self.further().visibility.push(Visibility::Hide(contact, whom));
    }

    /// The contact sees the account's presence again, if its subscription allows it; with a judge, those of the contact's
    /// sessions that it names.
    pub fn show_to(&mut self, contact: BareJid, whom: Option<Judge>) {
        self.further().visibility.push(Visibility::Show(contact, whom));
    }

    /// What was sent directly to some addresses, of any session of the account, is taken back: who is there sees the session go, and
    /// hears no more of it. Whom the account's contacts are told about ([`Effects::hide_from`]) is not told twice.
    pub fn withdraw_from(&mut self, whom: Withdrawal) {
        self.further().visibility.push(Visibility::Withdraw(whom));
    }

    /// Gate, of presence to a bare address: each session there is judged by its own address when it gets there.
    pub fn judge_each_session(&mut self) {
        self.each_session = true;
    }

    /// XEP-0198 §3: stream management from here on.
    pub fn enable_management(&mut self, resumable: bool, keep: u64) {
        self.manage = Some(Manage::Enable { keep, resumable });
    }

    /// XEP-0198 §4: the client says with `<a/>` how many stanzas it has handled. `h` is required, and an `xs:unsignedInt` (§14).
    /// Without it the client and the server do not agree on what was handled, so the stream ends.
    pub fn acked(&mut self, a: &Element) {
        match a.get("h").and_then(|h| h.trim_matches([' ', '\t', '\n', '\r']).parse().ok()) {
            Some(h) => self.manage = Some(Manage::Acked(h)),
            None => {
                let error = StreamError::from(StreamCondition::BadFormat);
                self.end_stream(error.with_text("<a/> needs an h that is a number below 2^32"));
            }
        }
    }

    /// What the client sent ends its stream with this error (RFC 6120 §4.9), and its session.
    pub fn end_stream(&mut self, error: StreamError) {
        self.manage = Some(Manage::End(Box::new(error)));
    }

    /// XEP-0198 §4: the client wants to know how much was handled.
    pub fn say_ack(&mut self) {
        self.manage = Some(Manage::SayAck);
    }

    /// The session's flags changed: they are stored with it, so that they are there when it is resumed.
    pub fn save_session(&mut self) {
        self.save = true;
    }
}
