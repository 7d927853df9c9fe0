//! The life of a session: bind, enable, detach, resume, restart, end (RFC 6120 §7, XEP-0198 §3, §5).
//!
//! A session that can be resumed outlives its connection; how it outlives the process stands in `revive.rs`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use smallvec::SmallVec;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::{StanzaError, StreamCondition, StreamError};
use vorpal_proto::ns;
use vorpal_proto::stanza::{Kind, Stanza, Type};

use crate::core::Core;
use crate::life::switched_off;
use crate::module::effects::{Effects, Manage};
use crate::module::facade::Server;
use crate::module::hook::{OpenAccount, SessionCx};
use crate::module::registry::Registry;
use crate::owner::account::{Account, AccountRef};
use crate::owner::log::LogMeta;
use crate::owner::plan::Targets;
use crate::owner::tables::{DirectedKey, Ended};
use crate::owner::words::{Draft, Mode, OrElse, Part, Say, Todo, Words, Work};
use crate::route::reading::LOST;
use crate::session::checkpoint;
use crate::session::guard::OpenSession;
use crate::session::{Carrier, Closing, Management, Out, Role, Session, SessionId, Shared, Taken};
use crate::store::{EntryId, Row, STORE, Write};
use crate::watch::counts::Count;
use crate::watch::trace::Step;

/// Number of ended sessions remembered for an account: the newest.
const MAX_ENDED: usize = 16;

/// What a connection asks for when it is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindError {
    /// Too many sessions (RFC 6120 §7.7.2.1).
    TooMany,
    /// The resource cannot be one (§7.7.2.2).
    BadResource,
    /// The login was revoked before it came to a session.
    Revoked,
}

/// Why a session cannot be resumed, with the count to tell the client if it is known (XEP-0198 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchSession {
    /// how many of its stanzas were handled
    pub h: Option<u32>,
}

impl Core {
    /// Binds a resource: the client's, or a random one (RFC 6120 §7.6, §7.7). A session of the same resource is replaced:
    /// its stream is closed with `conflict`. Gives the session and the number of the connection that carries it.
    pub(crate) fn bind(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        resource: Option<&str>,
        carrier: Carrier,
    ) -> Result<(Arc<Session>, u32), BindError> {
        let random;
        let resource = match resource.filter(|r| !r.is_empty()) {
            Some(resource) => resource,
            None => {
                random = self.random_id();
                &random
            }
        };
        let jid = lock.jid.as_jid().with_resource(resource).map_err(|_| BindError::BadResource)?;
        let mut todo = Todo::default();
        let bound = {
            let mut account = lock.lock();
            if account.revocations != carrier.revocations {
                return Err(BindError::Revoked);
            }
            let old = jid.resource().and_then(|resource| account.by_resource(resource)).cloned();
            if let Some(old) = &old {
                let error = StreamError::from(StreamCondition::Conflict).with_text("replaced by a new connection");
                self.end(now, lock, &mut account, old, Closing::Error(error), &mut todo);
            }
            if account.sessions.len() >= self.bounds().sessions {
                let Some(old) = longest_away(&account) else { return Err(BindError::TooMany) };
                tracing::debug!(session = %old.jid, "a detached session was ended to make room for a new one");
                self.end(now, lock, &mut account, &old, Closing::Normal, &mut todo);
            }
            let mut id = [0; 8];
            self.fill_random(&mut id);
            // Never 0, and never the sign bit of a signed column.
            let id = (u64::from_be_bytes(id) >> 1).max(1);
            let session = Arc::new(Session::new(id, jid, &self.bounds()));
            session.stream().since = now.as_millis();
            let epoch = session.attach(carrier);
            account.sessions.push(session.clone());
            account.guard_sessions();
            self.counts.one(Count::Bound);
            self.step(now, &account.jid, || Step::named("bound").in_session(&session));
            tracing::debug!(session = %session.jid, "bound");
            let registry = account.host.registry();
            self.session_event(now, lock, &mut account, &session, &registry.on_bind, &mut todo);
            (session, epoch)
        };
        self.run_todo(now, todo);
        Ok(bound)
    }

    /// An element that is no stanza, from a session's connection. False if nobody knows it.
    pub fn nonza(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        session: &Arc<Session>,
        epoch: u32,
        nonza: &vorpal_proto::element::Element,
    ) -> bool {
        let mut todo = Todo::default();
        let known = {
            let mut account = lock.lock();
            // The counts of a connection that was replaced mean nothing on the next one, and a session that is over has none.
            let over = session.stream().closing.is_some();
            if over || session.epoch() != epoch {
                return true;
            }
            let registry = account.host.registry();
            let handler = registry.nonza(nonza.ns_id(), nonza.name());
            let mut known = handler.is_some();
            self.in_session(now, lock, &mut account, session, &mut todo, |cx| match handler {
                Some((_, handler)) => handler(cx, nonza),
                None => known = switched_off::nonza(cx, &registry, nonza),
            });
            known
        };
        self.run_todo(now, todo);
        known
    }

    fn session_event(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        account: &mut Account,
        session: &Arc<Session>,
        list: &[(&'static str, crate::module::hook::SessionHandler)],
        todo: &mut Todo,
    ) {
        if !list.is_empty() {
            self.in_session(now, lock, account, session, todo, |cx| Registry::session_event(list, cx));
        }
    }

    pub(crate) fn in_session(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        account: &mut Account,
        session: &Arc<Session>,
        todo: &mut Todo,
        run: impl FnOnce(&mut SessionCx<'_>),
    ) {
        let host = account.host.clone();
        let mut fx = Effects::default();
        let panicked = {
            let mut stream = session.stream();
            let account = OpenAccount { jid: &account.jid, states: &account.states };
            let mut cx = SessionCx {
                account,
                session: OpenSession(session),
                stream: &mut stream,
                fx: &mut fx,
                host: &host,
                server: Server(self),
                now,
            };
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut cx))).is_err()
        };
        if panicked {
            tracing::error!(session = %session.jid, "a session handler panicked");
            return;
        }
        match fx.manage.take() {
            Some(Manage::Enable { keep, resumable }) => self.enable(now, lock, account, session, keep, resumable, todo),
            Some(Manage::Acked(h)) => self.acked(now, lock, account, session, h, todo),
            Some(Manage::End(error)) => self.end(now, lock, account, session, Closing::Error(*error), todo),
            Some(Manage::SayAck) => {
                {
                    let mut stream = session.stream();
                    stream.owes_ack = Some(stream.ledger.entered());
                }
                self.answer_ack(now, lock, account, session, todo);
            }
            None => {}
        }
        if fx.save {
            account.save_session(self, session);
        }
        let says = fx.take_further().sends.into_iter().map(|(to, stanza)| Say::Send { to, stanza });
        let words = Words::of_says(says);
        if fx.save || !words.says.is_empty() {
            self.finish(now, &mut [Part { lock, account, words }], None, Vec::new(), todo);
        }
    }

    /// XEP-0198 §3. `<enabled/>` waits for the session's row.
    #[allow(clippy::too_many_arguments)]
    fn enable(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        account: &mut Account,
        session: &Arc<Session>,
        keep: u64,
        resumable: bool,
        todo: &mut Todo,
    ) {
        // It began with a password that ends when the new one is stored, and the session with it. A row of it would outlive a
        // crash between that commit and the end.
        let resumable = resumable && !account.is_being_revoked();
        let token = resumable.then(|| self.random_id());
        let mut progress = Vec::new();
        {
            let mut stream = session.stream();
            stream.managed = true;
            stream.resumable = resumable;
            stream.token = token.clone();
            stream.keep = if resumable { keep } else { 0 };
            stream.ledger.begin(resumable);
            stream.cursor = account.log.written;
            let entered = stream.ledger.entered();
            if resumable {
                stream.progress_rows(self.progress, session.id, entered, &mut progress);
            }
        }
        let keep = if resumable { keep } else { 0 };
        let management = Box::new(Management { sent: 0, acked: 0, asked: false, unasked: 0 });
        let mut answer = String::from("<enabled xmlns='urn:xmpp:sm:3'");
        if let Some(token) = &token {
            answer.push_str(&format!(" id='{token}' resume='true' max='{}'", keep / 1000));
        }
        answer.push_str("/>");
        account.save_session(self, session);
        self.company_changes(lock, account, session, false);
        let says = [Say::Enabled { session: session.clone(), bytes: answer.into_bytes(), management }];
        let words = Words { says: says.into_iter().collect(), ..Words::default() };
        self.finish(now, &mut [Part { lock, account, words }], None, progress, todo);
    }

    fn acked(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        account: &mut Account,
        session: &Arc<Session>,
        h: u32,
        todo: &mut Todo,
    ) {
        let taken = session.stream().acked(h);
        match taken {
            Ok(entries) => self.took(lock, account, session, &entries),
            Err(sent) => {
                // §4: the client has counted what was never sent.
                let error = StreamError::from(StreamCondition::UndefinedCondition)
                    .with_app(
                        vorpal_proto::error::AppCondition::new(ns::SM, "handled-count-too-high")
                            .attr("h", h.to_string())
                            .attr("send-count", (sent as u32).to_string()),
                    )
                    .with_text("you acknowledged more than was sent");
                self.end(now, lock, account, session, Closing::Error(error), todo);
            }
        }
    }

    /// What was pulled is written to the socket: what is not counted is taken by that.
    pub fn written(&self, lock: &AccountRef, session: &Arc<Session>) {
        let (entries, due) = {
            let mut stream = session.stream();
            let entries = stream.written();
            // What was written without being counted made room, also where it is no entry that is taken.
            if stream.could_read_on() {
                stream.wake();
            }
            (entries, stream.falls_due())
        };
        if due {
            self.checkpoint_is_due(lock, session);
        }
        if !entries.is_empty() {
            self.took(lock, &mut lock.lock(), session, &entries);
        }
    }

    pub(crate) fn took(&self, lock: &AccountRef, account: &mut Account, session: &Arc<Session>, entries: &[Taken]) {
        let due = {
            let mut stream = session.stream();
            if stream.should_ask() {
                stream.ask();
            }
            if stream.could_read_on() {
                stream.wake();
            }
            stream.falls_due()
        };
        if due {
            self.checkpoint_is_due(lock, session);
        }
        if self.is_traced() {
            for (entry, role) in entries {
                let step = || Step { entry: Some(*entry), ..Step::named("taken").in_session(session) };
                self.step(Timestamp::from_millis(0), &account.jid, || {
                    step().because(format!("{role:?}").to_lowercase())
                });
            }
        }
        if !entries.is_empty() {
            // A session of negative priority takes nothing from the others by having a copy.
            let stands_for_all = session.priority().is_some_and(|p| p >= 0);
            let taken = entries.iter().filter(|(_, role)| role.is_owed() || stands_for_all);
            taken.for_each(|(entry, _)| account.log.take(*entry));
            self.mark_dirty(lock, account);
        }
    }

    /// XEP-0198 §4: says `<a/>` as soon as everything that was sent before the question is handled and stored.
    pub(crate) fn answer_ack(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        account: &mut Account,
        session: &Arc<Session>,
        todo: &mut Todo,
    ) {
        let handled = {
            let mut stream = session.stream();
            let Some(upto) = stream.owes_ack else { return };
            if stream.ledger.handled() < upto || stream.storing {
                return;
            }
            if !stream.ledger.ahead_of_disk() {
                stream.write_ack();
                return;
            }
            stream.ledger.handled()
        };
        self.store_handled(now, lock, account, session, handled, todo);
    }

    /// Asks for the row that lets all that is handled be said; for a resumption. True if nothing is to be waited for. What
    /// could not be stored is forgotten then: the client, told of less, sends it again.
    pub fn level(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>) -> bool {
        let mut todo = Todo::default();
        let level = {
            let mut account = lock.lock();
            let in_flight = account.has_in_flight(session);
            let mut stream = session.stream();
            let decided = stream.ledger.unsettled() <= stream.debts.len() as u64;
            let handled = stream.ledger.handled();
            if stream.storing || in_flight || !decided {
                false
            } else if !stream.debts.is_empty() || stream.refused {
                // A row that is on its way may say more than is said here.
                let quiet = account.last_in_flight().is_none();
                if quiet {
                    stream.forget_debts();
                } else {
                    account.troubled = true;
                }
                quiet
            } else if stream.ledger.ahead_of_disk() {
                drop(stream);
                self.store_handled(now, lock, &mut account, session, handled, &mut todo);
                false
            } else {
                true
            }
        };
        self.run_todo(now, todo);
        level
    }

    /// Writes the row that says so much is handled.
    fn store_handled(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        account: &mut Account,
        session: &Arc<Session>,
        handled: u64,
        todo: &mut Todo,
    ) {
        let mut rows = Vec::with_capacity(1);
        {
            let mut stream = session.stream();
            stream.storing = true;
            stream.progress_rows(self.progress, session.id, handled, &mut rows);
        }
        let words = Words::of_says([Say::Stored { session: session.clone(), handled }]);
        self.finish(now, &mut [Part { lock, account, words }], None, rows, todo);
    }

    /// XEP-0198 §5: a connection takes a session over. The old connection, if there is one, is closed; `<resumed/>` is
    /// said by [`Core::resumed`] when [`Core::level`] says so. Gives the session and the number of the connection that
    /// carries it.
    ///
    /// # Errors
    /// There is no such session of this account.
    pub(crate) fn resume(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        token: &str,
        h: u32,
        carrier: Carrier,
    ) -> Result<(Arc<Session>, u32), NoSuchSession> {
        let mut todo = Todo::default();
        let resumed = {
            let mut account = lock.lock();
            let found = account.sessions.iter().find(|s| s.stream().token.as_deref().is_some_and(|t| same(t, token)));
            // Checked before anything is taken over: an old connection may have had this in its buffers.
            let found = found.filter(|s| s.stream().can_have(h, &self.checkpoints.runs));
            // What its client wrote on a connection that it has given up since: it counts on the newer one by now.
            let found = found.filter(|s| s.stream().carried_by < carrier.order);
            let found = found.filter(|_| account.revocations == carrier.revocations);
            let Some(session) = found.cloned() else {
                // Committed, as everything that is said; and what is being deleted is not told any more.
                let ended = account.states.rows(self.tables.ended).get(token);
                let ended = ended.filter(|_| account.states.newest(self.tables.ended, &token.to_owned()).is_some());
                self.counts.one(Count::NotResumed);
                return Err(NoSuchSession { h: ended.map(|ended| ended.h) });
            };
            let old = session.stream().wake.take();
            if let Some(old) = old {
                session.stream().closing = Some(Closing::Replaced);
                old.wake();
            }
            self.refuse_inquiries(now, lock, &mut account, &session, LOST, &mut todo);
            self.log_what_is_not(now, lock, &mut account, &session, &mut todo);
            self.renumber(now, lock, &mut account, &session, h, &mut todo);
            let epoch = session.attach(carrier);
            self.deadlines.forget(session.id);
            (session, epoch)
        };
        self.run_todo(now, todo);
        Ok(resumed)
    }

    /// Somebody resumes a session for the first time after a restart: see [`Stream::renumber`]. [`Core::level`] waits for the row.
    ///
    /// [`Stream::renumber`]: crate::session::Stream::renumber
    fn renumber(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        account: &mut Account,
        session: &Arc<Session>,
        h: u32,
        todo: &mut Todo,
    ) {
        let (taken, row) = session.stream().renumber(h);
        self.took(lock, account, session, &taken);
        let Some(row) = row else { return };
        let mut rows = Vec::with_capacity(2);
        let handled = {
            let mut stream = session.stream();
            stream.storing = true;
            let handled = stream.ledger.handled();
            stream.progress_rows(self.progress, session.id, handled, &mut rows);
            handled
        };
        let row = Some(Row::from(row.encode()));
        rows.push(Write::Put { map: self.progress, owner: STORE, key: checkpoint::key(session.id), row });
        let words = Words::of_says([Say::Stored { session: session.clone(), handled }]);
        self.finish(now, &mut [Part { lock, account, words }], None, rows, todo);
    }

    /// The client says it has handled `h`: what it has not is sent again, behind `<resumed/>`. An error if it claims more
    /// than was sent.
    pub fn resumed(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>, h: u32) -> bool {
        let mut todo = Todo::default();
        let fine = {
            let mut account = lock.lock();
            if account.session(session.id).is_none() {
                // It has ended meanwhile, and its stream says so.
                return true;
            }
            let back = session.stream().is_restored();
            let taken = session.stream().acked_at_resumption(h);
            match taken {
                Err(_) => false,
                Ok(entries) => {
                    self.counts.one(if back { Count::Revived } else { Count::Resumed });
                    self.step(now, &account.jid, || Step::named("resumed").in_session(session));
                    tracing::debug!(session = %session.jid, "resumed");
                    self.took(lock, &mut account, session, &entries);
                    {
                        let mut stream = session.stream();
                        stream.rewind();
                        stream.answer_again(back);
                        let token = stream.token.clone().unwrap_or_default();
                        let answer =
                            format!("<resumed xmlns='urn:xmpp:sm:3' previd='{token}' h='{}'/>", stream.ledger.h());
                        stream.push_first(answer.into_bytes());
                    }
                    let registry = account.host.registry();
                    self.session_event(now, lock, &mut account, session, &registry.on_resume, &mut todo);
                    if back {
                        self.catch_up(&account, lock, session, &mut todo);
                        self.session_event(now, lock, &mut account, session, &registry.on_revive, &mut todo);
                    }
                    true
                }
            }
        };
        self.run_todo(now, todo);
        fine
    }

    /// The connection is gone. A session that can be resumed stays; any other ends.
    pub fn detach(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>, epoch: u32) {
        let mut todo = Todo::default();
        {
            let mut account = lock.lock();
            if session.stream().epoch != epoch || account.session(session.id).is_none() {
                return;
            }
            self.detach_locked(now, lock, &mut account, session, &mut todo);
        }
        self.run_todo(now, todo);
    }

    pub(crate) fn detach_locked(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        account: &mut Account,
        session: &Arc<Session>,
        todo: &mut Todo,
    ) {
        if !session.stream().can_wait() {
            self.end(now, lock, account, session, Closing::Normal, todo);
            return;
        }
        self.refuse_inquiries(now, lock, account, session, LOST, todo);
        self.log_what_is_not(now, lock, account, session, todo);
        let horizon = account.horizon();
        let mut stream = session.stream();
        stream.detach(self.steady());
        stream.received_before = account.log.received;
        for entry in stream.hibernate(horizon) {
            account.log.release(entry);
        }
        if stream.reading.is_none() {
            // What comes now is left to the log.
            stream.read_from(horizon, horizon);
        }
        session.set_attached(false);
        if let Some(at) = stream.deadline() {
            self.deadlines.set(&account.jid, session.id, at);
        }
        self.counts.one(Count::Detached);
        self.step(now, &account.jid, || Step::named("detached").in_session(session));
        tracing::debug!(session = %session.jid, "detached");
    }

    /// What a session holds and the log does not gets there now.
    fn log_what_is_not(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        account: &mut Account,
        session: &Arc<Session>,
        todo: &mut Todo,
    ) {
        let waiting: Vec<_> = account.waiting.iter_mut().flat_map(|w| w.take_unlogged(session.id)).collect();
        self.log_what_it_holds(now, lock, account, session, todo);
        // What waits behind a commit for this session goes to the end of what waits: ids ascend there.
        for (stanza, to) in waiting {
            let from = stanza.head.from.clone().unwrap_or_else(|| account.jid.as_jid().clone());
            let meta = LogMeta { targets: to.clone(), ..LogMeta::default() };
            let draft = Draft::new(&stanza, [Some(meta.received(account, &from)), None]);
            let words = Words { says: [Say::Deliver { stanza, to }].into_iter().collect(), ..Words::default() };
            self.finish(now, &mut [Part { lock, account, words }], Some(draft), Vec::new(), todo);
        }
    }

    /// What a session was given without a place in the log gets one, in its order; what several sessions hold gets it for all of
    /// them. Each list is gone through twice, however long it is.
    fn log_what_it_holds(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        account: &mut Account,
        session: &Arc<Session>,
        todo: &mut Todo,
    ) {
        let given = |out: &mut Out| (out.stanza.clone(), out.shared.clone(), out.since);
        let held: Vec<_> = session.stream().unlogged().map(given).collect();
        if held.is_empty() {
            return;
        }
        let place = |shared: &Arc<Shared>| Arc::as_ptr(shared) as usize;
        let mut holders: HashMap<usize, Targets> = HashMap::new();
        if held.iter().any(|(_, shared, _)| shared.is_some()) {
            for holder in &account.sessions {
                for shared in holder.stream().unlogged().filter_map(|out| out.shared.as_ref()) {
                    holders.entry(place(shared)).or_default().push(holder.id);
                }
            }
        }
        let mut own: VecDeque<EntryId> = VecDeque::new();
        let mut common: HashMap<usize, EntryId> = HashMap::new();
        for (stanza, shared, since) in &held {
            let shared = shared.as_ref().map(place);
            if shared.is_some_and(|shared| common.contains_key(&shared)) {
                continue;
            }
            let targets = shared.and_then(|shared| holders.remove(&shared));
            let targets = targets.unwrap_or_else(|| [session.id].into_iter().collect());
            let from = stanza.head.from.clone().unwrap_or_else(|| account.jid.as_jid().clone());
            let meta = LogMeta { targets, since: *since, ..LogMeta::default() };
            let draft = Draft::new(stanza, [Some(meta.received(account, &from)), None]);
            self.finish(now, &mut [Part { lock, account, words: Words::default() }], Some(draft), Vec::new(), todo);
            match shared {
                Some(shared) => drop(common.insert(shared, account.log.last)),
                None => own.push_back(account.log.last),
            }
        }
        for holder in account.sessions.clone() {
            let mut entries: Vec<EntryId> = Vec::new();
            let mut stream = holder.stream();
            for out in stream.unlogged() {
                out.entry = match &out.shared {
                    Some(shared) => common.get(&place(shared)).copied(),
                    None if holder.id == session.id => own.pop_front(),
                    None => None,
                };
                entries.extend(out.entry);
            }
            stream.had.extend(&entries);
            drop(stream);
            entries.into_iter().for_each(|entry| account.log.hold(entry));
        }
    }

    /// The client closed its stream. Not if the connection has been replaced: then the session is no longer its own to end. A
    /// clean end says that everything was handled; where something was not, it is an error.
    pub fn hang_up(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>, epoch: u32) {
        let mut todo = Todo::default();
        {
            let mut account = lock.lock();
            if session.epoch() != epoch {
                return;
            }
            let owes = !session.stream().debts.is_empty();
            let closing = match owes {
                true => Closing::Error(StreamCondition::ResourceConstraint.into()),
                false => Closing::Normal,
            };
            self.end(now, lock, &mut account, session, closing, &mut todo);
        }
        self.run_todo(now, todo);
    }

    /// The stream was closed by its client, or by us: the session ends (RFC 6120 §4.4).
    pub fn close(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>, error: Option<StreamError>) {
        let mut todo = Todo::default();
        {
            let mut account = lock.lock();
            let closing = error.map_or(Closing::Normal, Closing::Error);
            self.end(now, lock, &mut account, session, closing, &mut todo);
        }
        self.run_todo(now, todo);
    }

    /// A session reached its bound: its connection goes, and it is resumed later or ends.
    pub(crate) fn lagging(&self, now: Timestamp, lock: &AccountRef, id: SessionId, todo: &mut Todo) {
        let mut account = lock.lock();
        let Some(session) = account.session(id).cloned().filter(|s| s.is_attached()) else { return };
        tracing::warn!(session = %session.jid, "the client does not read: its connection is closed");
        let old = session.stream().wake.clone();
        if session.stream().can_wait() {
            self.detach_locked(now, lock, &mut account, &session, todo);
            session.stream().closing.get_or_insert(Closing::Detached);
        } else {
            // Said with an error: an end without one would answer a client that closes its stream.
            let error = StreamError::from(StreamCondition::ResourceConstraint).with_text("the client does not read");
            self.end(now, lock, &mut account, &session, Closing::Error(error), todo);
        }
        if let Some(old) = old {
            old.wake();
        }
    }

    /// Ends a session for good: what it held and nobody took goes elsewhere, contacts see it go.
    pub(crate) fn end(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        account: &mut Account,
        session: &Arc<Session>,
        closing: Closing,
        todo: &mut Todo,
    ) {
        if account.session(session.id).is_none() {
            return;
        }
        let registry = account.host.registry();
        self.session_event(now, lock, account, session, &registry.on_close, todo);
        let mut words = Words { or_else: OrElse::Same, ..Words::default() };
        let gone = Stanza::presence(Type::Unavailable).from(session.jid.clone());
        let was_here = session.is_available();
        self.unavailable(now, account, session, gone, &mut words);
        self.company_changes(lock, account, session, was_here);
        account.sessions.retain(|s| s.id != session.id);
        self.deadlines.forget(session.id);
        self.remember_ended(now, account, session, &closing);
        let (held, was_reading, resumable) = {
            let mut stream = session.stream();
            stream.closing = Some(closing);
            let wake = stream.wake.take();
            // What of it is still on its way to the disk must not bring its rows back.
            let resumable = std::mem::take(&mut stream.resumable);
            stream.owes_ack = None;
            let was_reading = stream.reading.take().is_some();
            let held = stream.drain();
            stream.inquiries = None;
            stream.untold = None;
            stream.stale = Default::default();
            if let Some(wake) = wake {
                wake.wake();
            }
            (held, was_reading, resumable)
        };
        session.set_attached(false);
        let mut orphans = was_reading && account.log.has_open();
        for out in held {
            match (out.entry, out.role, out.stanza.kind()) {
                (Some(entry), Role::Planned | Role::Missed, _) => orphans |= account.log.release(entry),
                // Another session holds it, or has taken it.
                (None, Role::Planned | Role::Missed, Kind::Message)
                    if out.shared.as_ref().is_some_and(|s| !s.is_last()) => {}
                (None, Role::Planned | Role::Missed, Kind::Message) => {
                    words.says.push(Say::Route(Work { stanza: out.stanza, hops: 1, mode: Mode::Again(out.since) }));
                }
                // RFC 6121 §8.5.3.2.3: whoever waits for an answer is told that none will come.
                (None, Role::Extra, Kind::Iq) if out.stanza.is_answerable() && out.stanza.head.from.is_some() => {
                    let stanza = out.stanza.error(&StanzaError::service_unavailable());
                    words.says.push(Say::Route(Work { stanza, hops: 1, mode: Mode::Onward }));
                }
                _ => {}
            }
        }
        if orphans {
            account.log.missed = true;
        }
        account.advance();
        let mut writes = Vec::new();
        if resumable {
            writes = self.forget_session(account, session.id, &mut words);
            session.stream().drop_answers(self.progress, session.id, &mut writes);
        }
        self.finish(now, &mut [Part { lock, account, words }], None, writes, todo);
        self.counts.one(Count::Ended);
        self.step(now, &account.jid, || Step::named("ended").in_session(session));
        tracing::debug!(session = %session.jid, "ended");
    }

    /// A session without a connection keeps in the log what its account receives, also where others have taken it: but no more
    /// than may wait for the account. One that is further behind ends.
    pub(crate) fn end_far_behind(&self, now: Timestamp, lock: &AccountRef, account: &mut Account, todo: &mut Todo) {
        let (received, most) = (account.log.received, self.offline_bytes());
        let behind = |session: &&Arc<Session>| {
            let stream = session.stream();
            stream.detached.is_some() && received.saturating_sub(stream.received_before) > most
        };
        let far: SmallVec<[Arc<Session>; 2]> = account.sessions.iter().filter(behind).cloned().collect();
        for session in far {
            tracing::info!(session = %session.jid, "the client missed too many messages: its session has ended");
            self.end(now, lock, account, &session, Closing::Normal, todo);
        }
    }

    /// Unless the client itself closed the stream, it may come back and ask.
    fn remember_ended(&self, now: Timestamp, account: &mut Account, session: &Session, closing: &Closing) {
        let (token, h) = {
            let stream = session.stream();
            let closed = stream.wake.is_some() && matches!(closing, Closing::Normal);
            let Some(token) = stream.token.clone().filter(|_| stream.resumable && !closed) else { return };
            (token, stream.h_at_end())
        };
        let ended = self.tables.ended;
        let known = account.states.newest_keys(ended);
        if known.len() >= MAX_ENDED {
            let at = |key: &String| account.states.newest(ended, key).map_or(0, |ended| ended.at);
            if let Some(oldest) = known.iter().min_by_key(|key| at(key)).cloned() {
                account.states.stage(ended, oldest, None);
            }
        }
        account.states.stage(ended, token, Some(Ended { h, at: now.as_millis() }));
    }

    /// The rows of a session that ended go.
    pub(crate) fn forget_session(&self, account: &mut Account, id: SessionId, words: &mut Words) -> Vec<Write> {
        account.states.stage(self.tables.sessions, id, None);
        for jid in account.directed_rows(self, id) {
            account.states.stage(self.tables.directed, DirectedKey(id, jid), None);
        }
        words.says.push(Say::Forgotten { id });
        let keys = [Bytes::copy_from_slice(&id.to_be_bytes()), checkpoint::key(id)];
        keys.map(|key| Write::Put { map: self.progress, owner: STORE, key, row: None }).into()
    }
}

/// The session that has been without a connection for the longest time: it gives way to a new one.
fn longest_away(account: &Account) -> Option<Arc<Session>> {
    let away = account.sessions.iter().filter_map(|session| Some((session.stream().detached?, session)));
    away.min_by_key(|(since, _)| *since).map(|(_, session)| session.clone())
}

/// Equal, in a time that does not tell where they differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
}
