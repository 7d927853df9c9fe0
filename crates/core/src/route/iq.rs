//! IQs: who answers, and who may ask (RFC 6120 §8.2.3, §10.3.3; RFC 6121 §8.5).
//!
//! A question is dispatched by what it is for and by its child. What nobody claims is `service-unavailable`, and so is
//! everything that an account does not want a stranger to know: an account that exists, one that does not and one that
//! is disabled answer alike.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use smallvec::SmallVec;
use vorpal_proto::element::Element;
use vorpal_proto::error::StanzaError;
use vorpal_proto::jid::Jid;
use vorpal_proto::stanza::{Kind, Stanza, Type};

use crate::core::Core;
use crate::core::turn::Locked;
use crate::core::turn::Turn;
use crate::module::At;
use crate::module::effects::{Effects, Visibility};
use crate::module::facade::Server;
use crate::module::hook::{Dir, IqCx, IqHandler};
use crate::module::host::Host;
use crate::owner::account::{Account, AccountRef, lock_both, lock_pair};
use crate::owner::contacts;
use crate::owner::tables::Tables;
use crate::owner::words::{Mode, OrElse, Part, Say, Words, Work};
use crate::route::plan::{self, subscription_kind};
use crate::route::reading::busy;
use crate::route::stretch::Origin;
use crate::route::subscribe::{gone, here};
use crate::rules::delivery::Decision;
use crate::session::guard::OpenSession;
use crate::session::inquiries::{Asked, Said};
use crate::session::ledger::Pending;
use crate::session::{Session, SessionId};
use crate::watch::reserve::no_room;
use crate::watch::trace::Step;

/// An IQ that a session of ours sends, and what its `to` stands for.
pub(crate) struct Addressed {
    pub to: Jid,
    pub peer: Option<AccountRef>,
    pub refusal: Option<StanzaError>,
    pub at_host: bool,
    /// the account that a change of one's own roster is about: both are changed in one batch
    pub party: Option<AccountRef>,
}

/// A larger answer to a `get`, in bytes, is not stored: after a crash its client is told to ask again.
const KEPT: usize = 1 << 10;

/// One question to one handler.
struct Question<'a> {
    at: At,
    /// the account of who asks
    lock: &'a AccountRef,
    host: &'a Arc<Host>,
    session: &'a Arc<Session>,
    iq: &'a Stanza,
    payload: &'a Element,
}

/// A question that is being answered: who takes part in it, locked, and what they are going to say.
struct Hearing<'a> {
    origin: Origin<'a>,
    /// it is asked at one's own account
    own: bool,
    /// the account of who asks
    account: &'a mut Account,
    /// the account that is asked, or that a change of one's own roster is about
    peer: Option<&'a mut Account>,
    words: Words,
    peer_words: Words,
    /// what follows the answer
    behind: Vec<Say>,
}

impl Hearing<'_> {
    /// Whether the answer adds rows and removes none. Flags of sessions are kept whatever happens: their rows are there already.
    fn only_adds(&self, tables: &Tables) -> bool {
        let adds =
            |account: &Account, words: &Words| account.states.only_adds(tables.sessions.at, words.cold.as_deref());
        adds(self.account, &self.words) || self.peer.as_deref().is_some_and(|peer| adds(peer, &self.peer_words))
    }

    /// Nothing becomes of the answer.
    fn take_back(&mut self) {
        self.account.states.discard();
        if let Some(peer) = self.peer.as_deref_mut() {
            peer.states.discard();
        }
        (self.words.says, self.words.cold) = (SmallVec::new(), None);
        (self.peer_words, self.behind) = (Words::default(), Vec::new());
    }

    /// The answer takes reading: it comes, and the question is settled, when that is done.
    fn inquire(&mut self, asked: Asked) {
        let session = self.origin.session;
        session.stream().keep_answer(self.origin.pending.0, lost(&asked.iq));
        let say = Say::Inquire { session: session.clone(), asked: Box::new(asked) };
        let words = if self.peer.is_some() { &mut self.peer_words } else { &mut self.words };
        words.says.push(say);
        words.or_else = OrElse::Same;
        self.words.settles = None;
    }

    /// The answer, if there is one already, and what follows it; and what is said instead if nothing comes of a change.
    fn reply(&mut self, iq: Stanza, reply: Option<Stanza>) {
        let Origin { session, pending, .. } = self.origin;
        // An answer may be of changes that are not committed yet: if they come to nothing, so does it.
        let built = self.own && self.words.settles.is_some() && self.account.last_in_flight().is_some();
        let staged =
            self.account.states.is_staged() || self.peer.as_deref().is_some_and(|peer| peer.states.is_staged());
        let writes = staged || self.words.cold.is_some() || self.peer_words.cold.is_some();
        if let Some(reply) = reply {
            let weight = reply.weight();
            session.stream().charge_answer(weight);
            // A change is made once, and so is its answer; what was only asked may be asked again.
            let repeats = iq.type_() == Type::Get && weight > KEPT;
            let kept = repeats.then(|| lost(&iq));
            self.words.says.push(session.answer(pending, reply, kept));
        }
        self.words.says.extend(std::mem::take(&mut self.behind));
        if writes || built {
            self.words.or_else = OrElse::Bounce(Box::new(iq));
        }
        if writes {
            // RFC 6120 §10.1: what comes next sees what this has changed.
            session.stream().wait_for(pending);
        }
    }
}

impl Core {
    /// The session of a full address, if an IQ of this sender reaches it.
    fn addressed(
        &self,
        receiver: Option<&Account>,
        to: &Jid,
        from: &Jid,
        iq: &Stanza,
    ) -> Result<SessionId, Option<StanzaError>> {
        let session = to.resource().and_then(|resource| receiver?.by_resource(resource));
        let knows = |account: &Account| {
            account.jid.as_str() == from.bare_str() || contacts::shows_presence(&self.tables, account, from.bare_str())
        };
        let shares_presence =
            receiver.is_some_and(knows) || session.is_some_and(|session| session.has_shown_itself_to(from));
        match plan::plan_iq(iq, to, receiver.is_some(), session, shares_presence) {
            Decision::Deliver(_) => session.map(|session| session.id).ok_or(None),
            Decision::Bounce(condition) => Err(Some(condition.into())),
            Decision::Store | Decision::Ignore(_) | Decision::Handle(_) => Err(None),
        }
    }

    /// As what the asker stands before an account that is not its own.
    fn standing(&self, account: &Account, asker: &Jid, question: &Question<'_>) -> At {
        let registry = account.host.registry();
        let set = question.iq.type_() == Type::Set;
        let anyone = registry.iq(At::Anyone, set, question.payload.ns_id(), question.payload.name()).is_some();
        if !anyone && contacts::shows_presence(&self.tables, account, asker.bare_str()) {
            At::Contacts
        } else {
            At::Anyone
        }
    }
}

impl Turn<'_> {
    pub(crate) fn iq_sent(&mut self, origin: Origin<'_>, asked: Addressed, iq: Stanza) {
        let asks = matches!(iq.type_(), Type::Get | Type::Set);
        // §8.2.3 rules 5 and 6: a request has exactly one child, an answer at most one beside an error.
        if asks && iq.child_count() != 1 {
            let error = StanzaError::bad_request("a request has exactly one child");
            let answer = iq.to(asked.to).error(&error);
            self.answer(origin, Some(answer));
            return;
        }
        let iq = iq.to(asked.to.clone());
        if asked.to.is_full() && !asked.at_host {
            self.forward_iq(origin, asked, iq);
        } else if !asks && (asked.at_host || ends(&plan::plan_iq(&iq, &asked.to, true, None, false))) {
            // An answer to the server or to an account: to something that nobody asked, or no longer waits for.
            self.answer(origin, None);
        } else {
            self.ask(origin, asked, iq);
        }
    }

    /// To a session of somebody (RFC 6121 §8.5.3).
    fn forward_iq(&mut self, origin: Origin<'_>, asked: Addressed, mut iq: Stanza) {
        let Origin { lock, session, pending } = origin;
        let (mut a, mut b) = lock_pair(Some(lock), asked.peer.as_ref());
        let own = asked.peer.as_ref().is_some_and(|peer| Arc::ptr_eq(peer, lock));
        let Some(sender) = a.as_deref() else { return };
        let receiver = if own { Some(sender) } else { b.as_deref() };
        // Whether it may leave comes before whether it would arrive.
        let outcome = self.gate(Dir::Sent, sender, &asked.to, Some(session), &mut iq).and_then(|()| {
            match (receiver, asked.refusal) {
                (_, Some(error)) => Err(Some(error)),
                (None, None) => self.core.addressed(None, &asked.to, &session.jid, &iq),
                (Some(receiver), None) => self
                    .gate(Dir::Received, receiver, &session.jid, None, &mut iq)
                    .and_then(|()| self.core.addressed(Some(receiver), &asked.to, &session.jid, &iq)),
            }
        });
        let told = |decision: &str| Step::of("answered", &iq).decided(decision);
        self.step(&lock.jid, || match &outcome {
            Ok(_) => {
                let sessions = vec![asked.to.as_str().to_owned()];
                Step { sessions, ..Step::of("planned", &iq).decided("deliver") }
            }
            Err(Some(error)) => told(error.condition.as_str()),
            Err(None) => told("nothing"),
        });
        let mut words = Words::settling(session, pending);
        let mut peer_words = Words::default();
        match outcome {
            // RFC 6120 §10.1: behind what was sent to the receiver before and waits for its commit.
            Ok(to) => (if own { &mut words } else { &mut peer_words }).says.push(Say::Forward { to, stanza: iq }),
            Err(error) => {
                let answer = error.filter(|_| iq.is_answerable()).map(|error| iq.error(&error));
                words.says.extend(answer.map(|stanza| session.answer(pending, stanza, None)));
            }
        }
        let mut parts: SmallVec<[Part<'_>; 2]> = SmallVec::new();
        if let Some(account) = a.as_deref_mut() {
            parts.push(Part { lock, account, words });
        }
        if let (Some(lock), Some(account)) = (asked.peer.as_ref(), b.as_deref_mut()) {
            parts.push(Part { lock, account, words: peer_words });
        }
        self.finish(&mut parts, None, Vec::new());
    }

    /// To a host, to one's own account or to somebody else's: a handler answers.
    fn ask(&mut self, origin: Origin<'_>, mut asked: Addressed, mut iq: Stanza) {
        let Origin { lock, session, pending } = origin;
        let other = |account: &AccountRef| !Arc::ptr_eq(account, lock);
        let own = !asked.at_host && asked.refusal.is_none() && asked.to.bare_str() == lock.jid.as_str();
        let (peer, party) = (asked.peer.take().filter(other), asked.party.take());
        let peer = peer.or(party.filter(|party| own && other(party)));
        let (mut a, b) = lock_both(Some(lock), peer.as_ref());
        // Whoever is being removed hears only of what is taken back.
        let mut b = b.filter(|b| !b.leaving || own && !b.deleted);
        let peer = peer.as_ref().filter(|_| b.is_some());
        let Some(account) = a.as_deref_mut() else { return };
        if session.stream().debts() > 0 {
            // They do not ride on a batch that may be refused, and whether this will be one only its handler knows.
            self.pay(&mut Locked::new(lock, account));
        }
        let mut hearing = Hearing {
            origin,
            own,
            account,
            peer: b.as_deref_mut(),
            words: Words::settling(session, pending),
            peer_words: Words::default(),
            behind: Vec::new(),
        };
        let said = self.heard(&mut hearing, &asked, &mut iq);
        let reply = match said {
            Ok(Said::Reply(_)) if hearing.only_adds(&self.core.tables) && self.core.refuses_more() => {
                hearing.take_back();
                Some(iq.error(&no_room()))
            }
            Ok(Said::Reply(reply)) => Some(match reply.0 {
                Some(payload) => iq.result().child(payload),
                None => iq.result(),
            }),
            Ok(Said::Job(job)) if session.stream().open_inquiry() => {
                let of = if own { Some(lock) } else { peer };
                let asked = Asked { of: of.map(|account| account.jid.clone()), pending, iq: iq.clone(), job };
                hearing.inquire(asked);
                None
            }
            Ok(Said::Job(_)) => Some(iq.error(&busy("too many questions at once"))),
            Err(error) => error.map(|error| iq.error(&error)),
        };
        hearing.reply(iq, reply);
        let Hearing { account, peer: party, words, peer_words, .. } = hearing;
        let mut parts: SmallVec<[Part<'_>; 2]> = SmallVec::new();
        parts.push(Part { lock, account, words });
        if let (Some(lock), Some(account)) = (peer, party) {
            parts.push(Part { lock, account, words: peer_words });
        }
        self.finish(&mut parts, None, Vec::new());
    }

    /// What is said to a question, once it has passed the gates of both. `Err(None)`: nothing.
    fn heard(
        &mut self,
        hearing: &mut Hearing<'_>,
        asked: &Addressed,
        iq: &mut Stanza,
    ) -> Result<Said, Option<StanzaError>> {
        let Origin { lock, session, .. } = hearing.origin;
        if !hearing.own {
            self.gate(Dir::Sent, hearing.account, &asked.to, Some(session), iq)?;
        }
        if let Some(error) = &asked.refusal {
            return Err(Some(error.clone()));
        }
        if let Some(host) = self.core.host(asked.to.domain()).filter(|_| asked.at_host) {
            let question = Question { at: At::Host, lock, host: &host, session, iq, payload: &payload(iq)? };
            return Ok(self.put(question, None, &mut hearing.words, &mut hearing.behind)?);
        }
        if hearing.own {
            let host = hearing.account.host.clone();
            let question = Question { at: At::OwnAccount, lock, host: &host, session, iq, payload: &payload(iq)? };
            let said = self.put(question, Some(hearing.account), &mut hearing.words, &mut hearing.behind);
            if let Some(party) = hearing.peer.as_deref_mut() {
                self.presence_here(hearing.account, party, &mut hearing.words, &mut hearing.peer_words);
                // And what the party's side answers by itself.
                self.presence_here(party, hearing.account, &mut hearing.peer_words, &mut hearing.words);
            }
            return Ok(said?);
        }
        // A disabled one is as one that does not exist.
        let peer = hearing.peer.as_deref_mut().filter(|peer| !peer.disabled);
        if let Decision::Bounce(condition) = plan::plan_iq(iq, &asked.to, peer.is_some(), None, false) {
            return Err(Some(condition.into()));
        }
        let peer = peer.ok_or(None)?;
        self.gate(Dir::Received, peer, &session.jid, None, iq)?;
        let host = peer.host.clone();
        let mut question = Question { at: At::Anyone, lock, host: &host, session, iq, payload: &payload(iq)? };
        question.at = self.core.standing(peer, &session.jid, &question);
        Ok(self.put(question, Some(peer), &mut hearing.peer_words, &mut hearing.behind)?)
    }

    /// Puts a question to its handler, if it has one.
    fn put(
        &self,
        question: Question<'_>,
        account: Option<&mut Account>,
        words: &mut Words,
        behind: &mut Vec<Say>,
    ) -> Result<Said, StanzaError> {
        let registry = question.host.registry();
        let set = question.iq.type_() == Type::Set;
        let (ns, name) = (question.payload.ns_id(), question.payload.name());
        let Some((module, handler)) = registry.iq(question.at, set, ns, name) else {
            self.step(&question.lock.jid, || {
                Step::of("answered", question.iq).decided("service-unavailable").because("no module answers this there")
            });
            return Err(StanzaError::service_unavailable());
        };
        let mut fx = Effects::default();
        let mut account = account;
        let answer = {
            let mut cx = IqCx {
                account: account.as_deref_mut(),
                session: Some(OpenSession(question.session)),
                asker: &question.session.jid,
                iq: question.iq,
                fx: &mut fx,
                host: question.host,
                server: Server(self.core),
                now: self.now,
            };
            catch_unwind(AssertUnwindSafe(|| match handler {
                IqHandler::Answers(answer) => answer(&mut cx, question.payload).map(Said::Reply),
                IqHandler::Reads(ask) => ask(&mut cx, question.payload),
            }))
        };
        let answer = answer.unwrap_or_else(|_| {
            tracing::error!(module, "an IQ handler panicked");
            Err(StanzaError::internal_server_error())
        });
        self.step(&question.lock.jid, || {
            let step = Step { module: Some(module), ..Step::of("answered", question.iq) };
            match &answer {
                Ok(_) => step.decided("result"),
                Err(error) => step.decided(error.condition.as_str()),
            }
        });
        if answer.is_err() {
            // What it asked for before it refused, or panicked.
            fx = Effects::default();
        }
        behind.extend(
            fx.further
                .iter_mut()
                .flat_map(|further| further.behind.drain(..))
                .map(|(to, stanza)| Say::Send { to, stanza }),
        );
        let save = std::mem::take(&mut fx.save);
        if matches!(answer, Ok(Said::Reply(_))) {
            words.cold = fx.take_cold();
        }
        match (&answer, account) {
            (Ok(Said::Reply(_)), Some(account)) if save => {
                account.save_session(self.core, question.session);
                words.says.extend(self.said(fx, account));
            }
            (Ok(Said::Reply(_)), Some(account)) => words.says.extend(self.said(fx, account)),
            // One that reads changes nothing: its answer may come when nobody can be told any more.
            (Err(_) | Ok(Said::Job(_)), Some(account)) => account.states.discard(),
            _ => words.says.extend(fx.take_further().sends.into_iter().map(|(to, stanza)| Say::Send { to, stanza })),
        }
        answer
    }

    /// What a handler's effects come to, in the order: presence to a contact, stanzas on their way, pushes. What they say to a contact
    /// passes the account's gate, as everything that it sends (XEP-0191 §3.3).
    fn said(&self, mut fx: Effects, account: &mut Account) -> Vec<Say> {
        let mut says = Vec::new();
        let fx = fx.take_further();
        for visibility in fx.visibility {
            let (each, whom) = match visibility {
                // The gate judges by the lists as they are stored: whom a change of them hides still passes.
                Visibility::Hide(contact, None) => {
                    let each = gone(account, &contact);
                    says.extend(self.passing(account, &contact, each).map(|work| {
                        let mode = Mode::Subscriber { each: matches!(work.mode, Mode::EachSession) };
                        Say::Route(Work { mode, ..work })
                    }));
                    continue;
                }
                Visibility::Hide(contact, Some(whom)) => (gone(account, &contact), Some(whom)),
                Visibility::Show(contact, whom) => (here(account, &contact), whom),
                Visibility::Withdraw(whom) => {
                    says.push(Say::Withdraw(Box::new(whom)));
                    continue;
                }
            };
            let mode = whom.map_or(Mode::Subscriber { each: false }, Mode::To);
            let on = |stanza| Say::Route(Work { stanza, hops: 1, mode: mode.clone() });
            says.extend(each.into_iter().map(|(_, stanza)| on(stanza)));
        }
        says.extend(fx.routes.into_iter().map(|stanza| {
            let mode = if self.goes_silently(account, &stanza) { Mode::Silent } else { Mode::Onward };
            Say::Route(Work { stanza, hops: 1, mode })
        }));
        for (contact, item) in fx.contacts {
            says.extend(self.core.store_contact(account, &contact, item, true));
        }
        says.extend(fx.sends.into_iter().map(|(to, stanza)| Say::Send { to, stanza }));
        says
    }

    /// Whether a stanza that a handler sends changes the state of a subscription at a contact to whom nothing may be said.
    fn goes_silently(&self, account: &Account, stanza: &Stanza) -> bool {
        let Some(to) = stanza.head.to.as_ref().filter(|_| subscription_kind(stanza.type_()).is_some()) else {
            return false;
        };
        stanza.kind() == Kind::Presence && self.gate(Dir::Sent, account, to, None, &mut stanza.clone()).is_err()
    }
}

impl Session {
    /// The answer to an IQ of this number. After a crash, if its client has not had it, it is said again; or `kept` in its place.
    pub(crate) fn answer(&self, Pending(n): Pending, stanza: Stanza, kept: Option<Stanza>) -> Say {
        let mark = match stanza.kind() {
            Kind::Iq => self.stream().keep_answer(n, kept.unwrap_or_else(|| stanza.clone())),
            _ => 0,
        };
        Say::Answer { to: self.id, stanza, mark }
    }
}

/// What a request is about: its only child.
fn payload(iq: &Stanza) -> Result<Element, Option<StanzaError>> {
    iq.children().into_iter().next().ok_or(None)
}

/// What is said after a crash in the place of an answer that is not kept.
fn lost(iq: &Stanza) -> Stanza {
    iq.error(&busy("the server was restarted before the answer was read"))
}

/// Whether nothing becomes of it.
fn ends(decision: &Decision) -> bool {
    matches!(decision, Decision::Ignore(_))
}
