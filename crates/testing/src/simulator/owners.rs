//! Whose a name is: what has been committed of each account, and what has to hold when it is disabled, deleted, and given to
//! another.

use std::collections::{BTreeMap, BTreeSet};

use vorpal_core::life::users::Sessions;
use vorpal_core::owner::roster::RosterItem;
use vorpal_core::session::SessionId;
use vorpal_core::store::{Kind, LogQuery, Owner};
use vorpal_proto::element::Element;
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns;

use super::operator::Order;
use super::player::{Attempt, Contact, Phase, PlayerId, Relic};
use super::{Check, Simulator, wrong};
use crate::disk::{Fact, Homes};
use crate::random::Random;

/// What is committed of an account, as far as the story has come.
#[derive(Debug, Default)]
pub(super) struct Name {
    /// its number in the store; none if there is no such account
    pub owner: Option<Owner>,
    /// the same, or of the account that was deleted last: that of its clients until there is another
    pub latest: Option<Owner>,
    /// may not log in
    pub disabled: bool,
    /// its password
    pub key: usize,
    /// the password that is given out next
    pub next_key: usize,
    /// how many owners it had before this one
    pub generation: u32,
    /// a removal has begun, and has not come to its end
    pub half_removed: bool,
    /// how often sessions were to end, and logins of before to come to nothing
    pub submitted: u32,
    /// the last of these that is committed
    pub revoked: u32,
    /// passwords with which sessions may be there
    pub keys: BTreeSet<usize>,
    /// sessions that ended with it
    pub over: BTreeSet<SessionId>,
    /// sessions that end when what was submitted is committed, by the number of the revocation
    pub to_end: BTreeMap<u32, Vec<SessionId>>,
    /// rises with each of these changes
    pub changes: u32,
    /// the number of the last question before it was created
    pub questions: u64,
    /// the number of the last presence before it was created
    pub met: u64,
    /// how many accounts had been deleted when it was created
    pub born: usize,
    /// nobody was asked anything, and nobody asked, since it was created: accounts by number
    pub strangers: BTreeSet<usize>,
}

impl Simulator {
    /// What is there when the story begins.
    pub(super) fn names_begin(&mut self) {
        self.names = (0..self.accounts.len()).map(|_| Name { next_key: 1, ..Name::default() }).collect();
        for account in 0..self.names.len() {
            let owner = self.stored_owner(account).map(|(owner, _)| owner);
            (self.names[account].owner, self.names[account].latest) = (owner, owner);
            self.names[account].keys.insert(0);
        }
        self.world.mood.homes.lock().facts.clear();
    }

    fn stored_owner(&mut self, account: usize) -> Option<(Owner, bool)> {
        let (name, host) = self.accounts[account].clone();
        let row = self.world.reader().find(Kind::Account, host, &name).expect("the store can be read");
        row.map(|row| (row.owner, row.disabled))
    }

    /// Commits of which nobody was told.
    pub(super) fn names_after_a_crash(&mut self, forgotten: bool) {
        self.take_facts();
        for account in 0..self.accounts.len() {
            let found = self.stored_owner(account);
            let known = self.names[account].owner;
            if let Some(owner) = known.filter(|owner| found.is_none_or(|(now, _)| now != *owner)) {
                self.happened(Fact::Deleted(owner));
            }
            let Some((owner, disabled)) = found else { continue };
            if known != Some(owner) {
                self.created(account, owner);
            }
            let mut reader = self.world.reader();
            let maps = reader.maps().expect("the store can be read");
            let credentials = maps.iter().find(|(_, name)| &**name == "credentials").map(|(map, _)| *map);
            let rows = reader.load(owner, usize::MAX).expect("the store can be read");
            for row in rows.iter().filter(|row| Some(row.map) == credentials) {
                self.happened(Fact::Key(owner, row.row.value.clone()));
            }
            if self.names[account].disabled != disabled {
                self.happened(Fact::Disabled(owner, disabled));
            }
            let name = &mut self.names[account];
            name.to_end.clear();
            if forgotten {
                // What had ended may be back, and the password of before.
                name.over.clear();
                name.keys.extend(0..self.world.secrets().count());
                name.revoked = 0;
            }
        }
        if forgotten {
            self.deleted.clear();
        }
    }

    /// An order is about to be submitted. Its number, if it ends sessions.
    pub(super) fn submitted(
        &mut self,
        account: usize,
        order: Order,
        lock: Option<&vorpal_core::owner::account::AccountRef>,
    ) -> u32 {
        let name = &mut self.names[account];
        name.changes += 1;
        if let (Order::Remove, Some(owner)) = (order, name.owner) {
            self.leaving.insert(owner, self.world.queue().next_id());
        }
        if order.revokes() {
            name.submitted += 1;
            let ids = lock.map(|lock| lock.lock().sessions.iter().map(|session| session.id).collect());
            name.to_end.insert(name.submitted, ids.unwrap_or_default());
        }
        let number = name.submitted;
        let opens = match order {
            Order::Enable => Some(name.key),
            Order::Create(key) | Order::Password(key, _) => Some(key),
            _ => None,
        };
        self.attempts_change(account, opens, order == Order::Disable || order == Order::Remove);
        number
    }

    /// An order came to nothing: sessions have ended all the same, and may be back after a crash.
    pub(super) fn refused(&mut self, at: usize) {
        let (account, revocation) = (self.jobs[at].account, self.jobs[at].revocation);
        let name = &mut self.names[account];
        name.changes += 1;
        name.to_end.remove(&revocation);
        let free = self.jobs[at].free && self.names[account].owner.is_none();
        if matches!(self.jobs[at].order, Order::Create(_)) && free && !self.taste.failures {
            let why = format!("{} is free, and could not be created", self.bare(account));
            self.found.get_or_insert(wrong("a_name_is_given_once", why));
        }
    }

    /// Takes note of what was committed of accounts.
    pub(super) fn take_facts(&mut self) {
        let facts = std::mem::take(&mut self.world.mood.homes.lock().facts);
        if !self.names.is_empty() {
            facts.into_iter().for_each(|fact| self.happened(fact));
        }
    }

    fn happened(&mut self, fact: Fact) {
        let named = |owner: Owner| self.names.iter().position(|name| name.owner == Some(owner));
        match fact {
            Fact::Created(row) => {
                let account = self.accounts.iter().position(|(name, host)| **name == *row.name && **host == *row.host);
                let Some(account) = account else { return };
                if let Some(before) = self.names[account].owner {
                    let why = format!("{} is given to {}, and is of {before}", self.bare(account), row.owner);
                    self.found.get_or_insert(wrong("a_name_is_given_once", why));
                }
                self.created(account, row.owner);
            }
            Fact::Deleted(owner) => {
                let Some(account) = named(owner) else { return };
                self.note(|| format!("* {owner} is deleted"));
                self.deleted.insert(owner);
                self.blocks.ends(account);
                let name = &mut self.names[account];
                (name.owner, name.half_removed, name.disabled) = (None, false, false);
                self.revoke(account, Order::Remove);
            }
            Fact::Disabled(owner, disabled) => {
                let Some(account) = named(owner) else { return };
                self.note(|| format!("* {owner} is disabled: {disabled}"));
                self.names[account].disabled = disabled;
                if disabled {
                    let removes = self.jobs.iter().any(|job| job.account == account && job.order == Order::Remove);
                    self.revoke(account, if removes { Order::Remove } else { Order::Disable });
                    self.names[account].half_removed |= removes;
                } else {
                    self.names[account].half_removed = false;
                    self.attempts_change(account, None, false);
                }
            }
            Fact::Key(owner, stored) => {
                let Some(account) = named(owner) else { return };
                let Some(key) = self.world.secrets().key_of(&stored) else { return };
                if self.names[account].key == key {
                    self.names[account].keys.insert(key);
                    return;
                }
                self.note(|| format!("* {owner} has password {key}"));
                let name = &mut self.names[account];
                let before = std::mem::replace(&mut name.key, key);
                let ends = |job: &super::operator::Job| {
                    job.account == account && job.order == Order::Password(key, Sessions::End)
                };
                if self.jobs.iter().any(ends) {
                    name.keys.clear();
                    self.revoke(account, Order::Password(key, Sessions::End));
                }
                self.names[account].keys.insert(key);
                for player in self.players.iter_mut().filter(|player| player.account == account) {
                    player.old_key = Some(before);
                }
                self.attempts_change(account, None, false);
            }
        }
    }

    /// What ends sessions is committed.
    fn revoke(&mut self, account: usize, order: Order) {
        let number =
            self.jobs.iter().find(|job| job.account == account && job.order == order).map(|job| job.revocation);
        let name = &mut self.names[account];
        name.changes += 1;
        if let Some(number) = number {
            name.revoked = name.revoked.max(number);
            let ended = name.to_end.remove(&number).unwrap_or_default();
            name.over.extend(ended);
        }
        self.attempts_change(account, None, order == Order::Disable || order == Order::Remove);
    }

    /// Somebody new has the name.
    fn created(&mut self, account: usize, owner: Owner) {
        // What has arrived was for the owner before.
        let clients: Vec<PlayerId> =
            (0..self.players.len()).filter(|id| self.players[*id].account == account).collect();
        clients.iter().for_each(|id| self.hear_out(*id));
        self.note(|| format!("* {owner} is created"));
        let others: BTreeSet<usize> = (0..self.accounts.len()).filter(|other| *other != account).collect();
        // What is on the way may ask the new owner for something.
        let quiet = |other: &usize| {
            let mut theirs = self.players.iter().enumerate().filter(|(_, player)| player.account == *other);
            theirs.all(|(id, player)| {
                let link = self.world.clients[id].link.as_ref();
                player.unacked.iter().all(|unacked| unacked.message.is_some())
                    && link.is_none_or(|link| link.up.is_empty())
            })
        };
        // Where the disk forgets, nobody is known to be a stranger: see `are_parted`.
        let knows = self.world.ghosts.is_empty() && !self.taste.forgets;
        let strangers: BTreeSet<usize> = others.iter().copied().filter(|other| knows && quiet(other)).collect();
        for other in &others {
            let pairs = [(account, *other), (*other, account)];
            let was_touched = self.touched.contains(&(*other, account));
            for pair in pairs {
                self.touched.insert(pair);
                if strangers.contains(other) {
                    self.touched.remove(&pair);
                }
            }
            if was_touched {
                // Who had blocked the one before, or was no contact, may not have heard that its sessions went.
                let of_before = format!("{}/", self.bare(account));
                for player in self.players.iter_mut().filter(|player| player.account == *other) {
                    player.presences.retain(|address, _| !address.starts_with(&of_before));
                }
            }
            self.names[*other].strangers.remove(&account);
            if strangers.contains(other) {
                self.names[*other].strangers.insert(account);
            }
        }
        let before = self.names[account].key;
        let (questions, met, born) = (self.questions, self.statuses, self.deleted.len());
        let name = &mut self.names[account];
        (name.owner, name.latest) = (Some(owner), Some(owner));
        (name.disabled, name.half_removed) = (false, false);
        (name.generation, name.changes) = (name.generation + 1, name.changes + 1);
        (name.questions, name.met, name.born, name.strangers) = (questions, met, born, strangers);
        name.keys.clear();
        clients.into_iter().for_each(|id| self.belongs_to_another(id, before));
        self.attempts_change(account, None, false);
    }

    /// The client is that of a new owner; whoever had it before writes into nothing.
    fn belongs_to_another(&mut self, id: PlayerId, before: usize) {
        let mut r = Random::new(self.plan.seed ^ ((id as u64) << 16) ^ self.questions);
        let relic = self.relic(id);
        if self.world.clients[id].is_connected() {
            if self.taste.network && !self.ending && r.one_in(2) {
                self.vanish(id, &mut r)
            } else {
                self.lose(id, &mut r)
            }
        }
        let generation = self.names[self.players[id].account].generation;
        self.world.clients[id].smacks = None;
        let player = &mut self.players[id];
        player.end();
        player.again.clear();
        player.relic = relic.or(player.relic.take());
        player.old_key = Some(before);
        player.generation = generation;
        player.refused = true;
    }

    /// Something changes of what may become of logins that are under way. `opens`: this password may fit from now on.
    fn attempts_change(&mut self, account: usize, opens: Option<usize>, bars: bool) {
        let name = &self.names[account];
        let busy = self.jobs.iter().any(|job| job.account == account) || opens.is_some() || bars;
        for player in self.players.iter_mut().filter(|player| player.account == account) {
            let attempt = &mut player.attempt;
            let valid = name.owner.is_some() && !name.disabled && attempt.key == name.key;
            attempt.could |= valid || opens == Some(attempt.key);
            attempt.always &= valid && !busy;
            attempt.barred |= (name.disabled || bars) && attempt.key == name.key;
        }
    }

    /// The client decides with which password it comes.
    pub(super) fn chooses_password(&mut self, id: PlayerId, r: &mut Random) {
        let account = self.players[id].account;
        let busy = self.jobs.iter().any(|job| job.account == account);
        let opening: Vec<usize> = self
            .jobs
            .iter()
            .filter(|job| job.account == account)
            .filter_map(|job| match job.order {
                Order::Create(key) | Order::Password(key, _) => Some(key),
                Order::Enable => Some(self.names[account].key),
                _ => None,
            })
            .collect();
        let (name, player) = (&self.names[account], &mut self.players[id]);
        let known = self.world.clients[id].key;
        let key = match player.old_key {
            None => known,
            Some(_) if self.ending => name.key,
            // Somebody else tries.
            Some(old) if r.one_in(5) => old,
            Some(_) if player.refused || r.one_in(3) => name.key,
            Some(_) => known,
        };
        player.refused = false;
        let valid = name.owner.is_some() && !name.disabled && key == name.key;
        player.attempt = Attempt {
            key,
            could: valid || opening.contains(&key),
            always: valid && !busy,
            barred: (name.disabled || busy) && key == name.key,
            revoked: name.revoked,
            submitted: name.submitted,
        };
        self.world.clients[id].key = key;
    }

    pub(super) fn who_is_let_in_may_come(&self, id: PlayerId) -> Check {
        let player = &self.players[id];
        if player.attempt.could {
            return Ok(());
        }
        let why = format!("{} logs in with {:?}, {:?}", self.name(id), player.attempt, self.names[player.account]);
        Err(wrong("who_may_not_come_in_does_not", why))
    }

    /// A login is refused.
    pub(super) fn who_is_refused_may_not(&mut self, id: PlayerId, element: &Element) -> Check {
        const RULE: &str = "who_may_not_come_in_does_not";
        let name = self.name(id);
        let condition = element.elements().next().map(|e| e.name().to_owned()).unwrap_or_default();
        self.note(|| format!("{name} < failure: {condition}"));
        let attempt = self.players[id].attempt;
        if attempt.always {
            return Err(wrong(RULE, format!("{name} is refused by {condition}, and may log in: {attempt:?}")));
        }
        if condition == "account-disabled" && !attempt.barred {
            return Err(wrong(RULE, format!("{name} is told that the account is disabled: {attempt:?}")));
        }
        self.hangs_up(id);
        self.players[id].refused = true;
        Ok(())
    }

    /// The stream ends with an error: whether it is because the operator wanted it.
    pub(super) fn is_sent_away(&self, id: PlayerId, element: &Element) -> bool {
        let (name, attempt) = (&self.names[self.players[id].account], &self.players[id].attempt);
        // A new password ends sessions when it is submitted, and those that came after that when it is stored.
        let ended = name.submitted > attempt.submitted || name.revoked > attempt.revoked;
        element.has(ns::STREAM_ERROR, "not-authorized") && ended
    }

    /// The session it has now, if it could be resumed.
    pub(super) fn relic(&self, id: PlayerId) -> Option<Relic> {
        let (player, smacks) = (&self.players[id], self.world.clients[id].smacks.as_ref()?);
        let (token, generation, bound_at) = (smacks.token.clone()?, player.generation, player.bound_at);
        Some(Relic { token, h: smacks.received, generation, bound_at })
    }

    /// It has a session again: none that ended before it came.
    pub(super) fn nobody_resumes_what_is_over(&self, id: PlayerId) -> Check {
        let player = &self.players[id];
        let over = match &player.digs {
            Some(relic) => relic.generation < player.generation || player.attempt.revoked > relic.bound_at,
            None => player.attempt.revoked > player.bound_at,
        };
        if over && !self.taste.forgets {
            let why = format!("{} resumes a session that is over: {:?}", self.name(id), player.attempt);
            return Err(wrong("who_may_not_come_in_does_not", why));
        }
        Ok(())
    }

    /// What the server has in memory of those who may not be there.
    pub(super) fn who_may_not_come_in_does_not(&mut self) -> Check {
        const RULE: &str = "who_may_not_come_in_does_not";
        if !self.taste.operator {
            return Ok(());
        }
        self.take_facts();
        for lock in self.world.core().all_loaded() {
            let Some(at) = (0..self.accounts.len()).find(|at| self.bare(*at) == lock.jid.as_str()) else { continue };
            let name = &self.names[at];
            let report = self.world.core().report(&lock);
            let opening = self.jobs.iter().any(|job| job.account == at && job.order == Order::Enable);
            if (name.disabled && !opening || name.owner.is_none()) && !report.sessions.is_empty() {
                return Err(wrong(RULE, format!("{} is {name:?}, and has sessions: {report:?}", lock.jid)));
            }
            for session in &report.sessions {
                let key = self.admitted.get(session.jid.as_str());
                if name.over.contains(&session.id) || key.is_some_and(|key| !name.keys.contains(key)) {
                    let why =
                        format!("a session of {} is there that is over: {session:?}, {key:?}, {name:?}", lock.jid);
                    return Err(wrong(RULE, why));
                }
            }
        }
        Ok(())
    }

    /// A message, an error or a copy arrives. `own`: it is what its sender gets.
    pub(super) fn a_new_owner_inherits_nothing(&mut self, id: PlayerId, number: u64, own: bool) -> Check {
        let Some(message) = self.book.get(number as usize) else { return Ok(()) };
        let player = &self.players[id];
        let former = if own {
            // What was in no log waits in a queue, and goes back to the address that sent it.
            message.generation != player.generation && message.promised && message.managed
        } else {
            let homes = self.world.mood.homes.lock();
            // What was written to a client before its account was deleted may arrive after that.
            let current = self.names[player.account].latest;
            let held = homes.held.get(&number.to_string());
            let of_another = held.is_some_and(|held| {
                held.keys().any(|owner| self.deleted.contains(owner))
                    && !current.is_some_and(|owner| held.contains_key(&owner))
            });
            let handled = message.handled.is_some_and(|generation| generation < player.generation);
            message.copies == 1 && (of_another && player.generation > 0 || handled)
        };
        if !former || self.taste.forgets {
            return Ok(());
        }
        let why = format!("{} received {number}, of the time of another: {message:?}", self.name(id));
        Err(wrong("a_new_owner_inherits_nothing", why))
    }

    /// A message of the archive.
    pub(super) fn archived_heard(&mut self, id: PlayerId, result: &Element) -> Check {
        let message = result.find(ns::FORWARD, "forwarded").and_then(|f| f.find(ns::CLIENT, "message"));
        let Some(message) = message else { return Ok(()) };
        let Some(number) = message.get("id").and_then(|n| n.parse().ok()) else { return Ok(()) };
        let name = self.name(id);
        self.note(|| format!("{name} < {number} of the archive"));
        let sent =
            self.book.get(number as usize).is_some_and(|m| self.players[m.from].account == self.players[id].account);
        let error = message.get("type") == Some("error");
        let to_itself = self.book.get(number as usize).is_some_and(|m| m.to == Some(self.players[id].account));
        self.a_new_owner_inherits_nothing(id, number, error || sent && !to_itself)
    }

    /// Presence of a session arrives.
    pub(super) fn may_be_seen(&self, id: PlayerId, from: &str, status: u64) -> Check {
        let Some(&(other, _)) = self.addresses.get(from) else { return Ok(()) };
        let (mine, theirs) = (self.players[id].account, self.players[other].account);
        if mine != theirs && self.are_parted(mine, theirs) && status > self.parted_since(mine, theirs) {
            let why = format!("{} is told of {from} ({status}), a stranger", self.name(id));
            return Err(wrong("strangers_see_nothing", why));
        }
        Ok(())
    }

    /// A question of another arrives.
    pub(super) fn may_be_asked(&self, id: PlayerId, element: &Element) -> Check {
        let asked = element.get("id").and_then(|question| self.asked.get(question));
        let Some(asked) = asked else { return Ok(()) };
        let (mine, theirs) = (self.players[id].account, self.players[asked.from].account);
        if mine != theirs && self.are_parted(mine, theirs) && asked.changes == self.names[mine].changes {
            let why = format!("{} is asked by {}, a stranger", self.name(id), self.full(asked.from));
            return Err(wrong("strangers_see_nothing", why));
        }
        Ok(())
    }

    /// An answer to a question arrives.
    pub(super) fn answered_once(&mut self, id: PlayerId, question: &str, element: &Element) -> Check {
        let name = self.name(id);
        let (restarts, life) = (self.restarts, self.players[id].life);
        let Some(asked) = self.asked.get_mut(question) else { return Ok(()) };
        if asked.from != id {
            return Err(wrong("answered_once", format!("{name} hears the answer to {question}, which another asked")));
        }
        asked.answers += 1;
        let asked = asked.clone();
        // A session that ends after it has answered, and has not acknowledged the question, is answered for once more.
        let ended = self.names[asked.account].changes != asked.changes;
        let is_over = |(id, life): (PlayerId, u32)| {
            // Its session may have ended while it was away, or before its client knows.
            self.players[id].life != life || !matches!(self.players[id].phase, Phase::In) || !self.has_session(id)
        };
        let twice = asked.answers > 1 && asked.life == life && asked.epoch == restarts;
        if twice && !self.taste.failures && !ended && !asked.target.is_some_and(is_over) {
            return Err(wrong("answered_once", format!("{name} hears {} answers to {question}", asked.answers)));
        }
        let of = &self.names[asked.account];
        let gone = of.owner.is_none() || of.disabled;
        let unavailable = element.has(ns::CLIENT, "error")
            && element.find(ns::CLIENT, "error").is_some_and(|e| e.has(ns::STANZA_ERROR, "service-unavailable"));
        let own = asked.account == self.players[id].account;
        // Whoever blocks an address is told so, whether it exists or not.
        let blocked = self.blocked.contains(&(asked.account, self.players[id].account));
        if gone && asked.changes == of.changes && asked.epoch == restarts && !own && !blocked && !unavailable {
            let why = format!("{name} is answered by {}, which is {of:?}: {element:?}", self.bare(asked.account));
            return Err(wrong("who_is_gone_is_gone", why));
        }
        Ok(())
    }

    /// Whether the server has a session with the client's address.
    fn has_session(&self, id: PlayerId) -> bool {
        let account = self.world.core().loaded(&self.bare(self.players[id].account));
        account.is_some_and(|lock| lock.lock().by_resource(&self.world.clients[id].resource).is_some())
    }

    /// Whoever asked and lost nothing on the way has an answer.
    pub(super) fn every_question_is_answered(&self) -> Check {
        for (question, asked) in &self.asked {
            let whole = |(id, life): (PlayerId, u32)| self.players[id].life == life;
            let kept = whole((asked.from, asked.life)) && asked.epoch == self.restarts;
            // An answer that waited when the asked account was blocked is withheld.
            let blocked = self.blocks.was_asked((self.players[asked.from].account, asked.account));
            let excused = self.taste.failures || self.taste.tiny || blocked;
            if kept && asked.target.is_none_or(whole) && asked.answers == 0 && !excused {
                let why = format!("{} asked {question} and has no answer: {asked:?}", self.name(asked.from));
                return Err(wrong("answered_once", why));
            }
        }
        Ok(())
    }

    /// Nobody of the one has asked the other for anything since one of them is new.
    pub(super) fn are_parted(&self, one: usize, other: usize) -> bool {
        let strangers = self.names[one].strangers.contains(&other) || self.names[other].strangers.contains(&one);
        strangers
            && !self.touched.contains(&(one, other))
            && !self.touched.contains(&(other, one))
            && !self.taste.forgets
    }

    fn parted_since(&self, one: usize, other: usize) -> u64 {
        self.names[one].met.max(self.names[other].met)
    }

    /// The roster of a client.
    pub(super) fn contacts_are_its_own(&self, id: PlayerId, roster: &BTreeMap<String, Contact>) -> Check {
        let own = self.players[id].account;
        for (jid, contact) in roster {
            let Some(other) = (0..self.accounts.len()).find(|at| self.bare(*at) == *jid) else { continue };
            // What is left of a contact who is new is the roster's own.
            if !self.are_parted(own, other) || self.names[own].born <= self.names[other].born {
                continue;
            }
            let named: u64 = contact.name.trim_start_matches('n').parse().unwrap_or(0);
            if contact.ask || contact.subscription != "none" || named <= self.names[own].questions {
                let why = format!("{} is new, and has {jid}: {contact:?}", self.name(id));
                return Err(wrong("a_new_owner_inherits_nothing", why));
            }
        }
        Ok(())
    }

    /// A removal is done: what others hold of the account, as it is committed.
    pub(super) fn nobody_holds_anything_of(&mut self, account: usize) {
        if let Err(wrong) = self.who_is_gone_is_gone(account) {
            self.found.get_or_insert(wrong);
        }
    }

    fn who_is_gone_is_gone(&mut self, account: usize) -> Check {
        // The next owner may have been asked already.
        if self.names[account].owner.is_some() {
            return Ok(());
        }
        let gone: BareJid = self.bare(account).parse().expect("an address");
        for other in (0..self.accounts.len()).filter(|other| *other != account) {
            let Some(item) = self.stored_item(other, &gone) else { continue };
            if item.subscription.as_str() != "none" || item.request.is_some() {
                let why = format!("{} is removed, and {} has {item:?}", gone, self.bare(other));
                return Err(wrong("who_is_gone_is_gone", why));
            }
        }
        Ok(())
    }

    /// What the store has in one's roster of another.
    fn stored_item(&mut self, account: usize, contact: &BareJid) -> Option<RosterItem> {
        let jid: BareJid = self.bare(account).parse().expect("an address");
        let lock = self.world.load(&jid)?;
        let core = self.world.core();
        let state = lock.lock();
        let (_, rows) = core.roster(&state);
        rows.get(contact.as_str()).cloned()
    }

    /// A message was in the log of an account that is deleted, and got there before its removal was begun.
    pub(super) fn went_with_its_account(&self, homes: &Homes, number: usize) -> bool {
        let Some(held) = homes.held.get(&number.to_string()) else { return false };
        held.iter().any(|(owner, entry)| {
            self.deleted.contains(owner) && self.leaving.get(owner).is_none_or(|first| entry < first)
        })
    }

    /// A new owner asks for contacts; who is asked by one agrees.
    pub(super) fn answers_request(&mut self, id: PlayerId, kind: &str, from: &str) {
        let Some(other) = (0..self.accounts.len()).find(|at| self.bare(*at) == from) else { return };
        let own = self.players[id].account;
        if kind != "subscribe"
            || !self.players[id].is_in()
            || self.names[own].generation + self.names[other].generation == 0
        {
            return;
        }
        self.touched.extend([(own, other), (other, own)]);
        let name = self.name(id);
        self.note(|| format!("{name} > subscribed and subscribe to {from}"));
        for kind in ["subscribed", "subscribe"] {
            self.send(id, format!("<presence type='{kind}' to='{from}'/>"), None);
        }
    }

    /// A new owner may want contacts.
    pub(super) fn makes_friends(&mut self, id: PlayerId, r: &mut Random) {
        let own = self.players[id].account;
        if self.names[own].generation == 0 || !r.one_in(2) {
            return;
        }
        let name = self.name(id);
        for other in (0..self.accounts.len()).filter(|other| *other != own) {
            let to = self.bare(other);
            self.touched.extend([(own, other), (other, own)]);
            self.note(|| format!("{name} > subscribe to {to}"));
            self.send(id, format!("<presence type='subscribe' to='{to}'/>"), None);
        }
    }

    /// The operator brings everything to an end, and every name has an owner who may log in.
    pub(super) fn all_accounts_are_there(&mut self) -> Check {
        self.ending = true;
        for _ in 0..8 {
            self.rest()?;
            for account in 0..self.accounts.len() {
                let name = &self.names[account];
                if self.jobs.iter().any(|job| job.account == account) {
                    continue;
                }
                let order = match (name.owner, name.half_removed, name.disabled) {
                    (None, ..) => Order::Create(name.next_key),
                    (_, true, _) => Order::Remove,
                    (_, _, true) => Order::Enable,
                    _ => continue,
                };
                self.begin_order(account, order);
            }
            self.rest()?;
        }
        let missing = (0..self.accounts.len()).find(|at| self.names[*at].owner.is_none() || self.names[*at].disabled);
        if let Some(account) = missing.or_else(|| self.jobs.first().map(|job| job.account)) {
            let why = format!("{} is {:?}, {} orders wait", self.bare(account), self.names[account], self.jobs.len());
            return Err(wrong("a_name_is_given_once", why));
        }
        // What the log of an account that was deleted held is gone: nothing of it is left in the store.
        for owner in self.deleted.clone() {
            let mut reader = self.world.reader();
            let row = reader.owner(owner).expect("the store can be read");
            if row.is_some() {
                return Err(wrong(
                    "a_new_owner_inherits_nothing",
                    format!("{owner} is deleted, and is there: {row:?}"),
                ));
            }
        }
        Ok(())
    }

    /// At the very end: of accounts that were deleted the store has nothing.
    pub(super) fn nothing_of_the_deleted_is_left(&mut self) -> Check {
        let mut reader = self.world.reader();
        for owner in &self.deleted {
            let rows = reader.load(*owner, 10).expect("the store can be read");
            let query = LogQuery { limit: 10, ..LogQuery::default() };
            let entries = reader.log_range(*owner, query).expect("the store can be read");
            if !rows.is_empty() || !entries.is_empty() {
                let why = format!("{owner} was deleted, and has {rows:?} and {entries:?}");
                return Err(wrong("nothing_is_left_behind", why));
            }
        }
        Ok(())
    }
}
