//! The rules that must hold during a run. See the list in [`super`].

use vorpal_core::session::inquiries::MAX_FOUND;

use super::book::Directed;
use super::player::PlayerId;
use super::{Check, Simulator, wrong};

/// What a session may hold beyond its limit: stanzas in flight when it began to read, and a page of the log.
const SLACK: usize = 96 * 1024;

/// What a page of the archive may add: it is sent as a whole to a session that holds little. So many messages, each with what the
/// queue takes for it, and their bytes.
const ARCHIVE_PAGE: usize = 250 * 448 + MAX_FOUND;

impl Simulator {
    /// The server has sent an acknowledgement.
    pub(super) fn counts_go_forward(&mut self, id: PlayerId, h: u32) -> Check {
        let name = self.name(id);
        let player = &mut self.players[id];
        if h < player.acked {
            return Err(wrong(
                "counts_go_forward",
                format!("{name}: the count goes back from {} to {h}", player.acked),
            ));
        }
        if h > player.sent {
            let why = format!("{name}: {h} are handled, and only {} were sent", player.sent);
            return Err(wrong("counts_go_forward", why));
        }
        player.acked = h;
        let at = player.unacked.iter().take_while(|unacked| unacked.number <= h).count();
        let done: Vec<u64> = player.unacked.drain(..at).filter_map(|unacked| unacked.message).collect();
        done.into_iter().try_for_each(|number| self.acknowledged_is_stored(id, number))
    }

    /// The stream was closed in order: everything is handled.
    pub(super) fn handled_all(&mut self, id: PlayerId) -> Check {
        let all = std::mem::take(&mut self.players[id].unacked);
        // The error of a failed batch was sent before the end.
        let bounced = |number: &u64| self.book.get(*number as usize).is_some_and(|message| message.bounced);
        let messages: Vec<u64> =
            all.into_iter().filter_map(|unacked| unacked.message).filter(|number| !bounced(number)).collect();
        messages.into_iter().try_for_each(|number| self.acknowledged_is_stored(id, number))
    }

    fn acknowledged_is_stored(&mut self, id: PlayerId, number: u64) -> Check {
        let name = self.name(id);
        let Some(message) = self.book.get_mut(number as usize) else { return Ok(()) };
        message.acked = true;
        if let Some(to) = message.to {
            message.handled.get_or_insert(self.names[to].generation);
        }
        if !message.promised {
            return Ok(());
        }
        if self.world.mood.homes.lock().committed.contains(&number.to_string()) {
            return Ok(());
        }
        Err(wrong("acknowledged_is_stored", format!("{name} is told that {number} is handled, and no log has it")))
    }

    /// The answer to a roster change was received.
    pub(super) fn answered_is_stored(&mut self, id: PlayerId, stored: &str) -> Check {
        {
            let homes = self.world.mood.homes.lock();
            // The answer comes after a crash only if it was stored, and was with the change; which may have been changed again.
            let unknown = homes.unknown.contains(stored) && self.players[id].crashes > 0;
            if unknown || homes.names.contains(stored) {
                return Ok(());
            }
        }
        let name = self.name(id);
        Err(wrong("answered_is_stored", format!("{name} is told that {stored} is stored, and it is not")))
    }

    /// An answer is heard.
    pub(super) fn nothing_is_answered_twice(&mut self, id: PlayerId, question: &str) -> Check {
        let name = self.name(id);
        let Some(known) = self.players[id].questions.get_mut(question) else { return Ok(()) };
        known.answers += 1;
        if known.answers <= known.sent + known.kills {
            return Ok(());
        }
        Err(wrong("nothing_is_answered_twice", format!("{name} has {} answers to {question}", known.answers)))
    }

    /// Everybody is in a session, and has read everything: each question that was asked in it was answered, whatever became of
    /// connections and processes.
    pub(super) fn whatever_is_handled_is_answered(&self) -> Check {
        for (id, player) in self.players.iter().enumerate() {
            let open = player.questions.iter().find(|(_, question)| question.answers == 0);
            if let Some((question, _)) = open {
                let name = self.name(id);
                return Err(wrong("whatever_is_handled_is_answered", format!("{name} has no answer to {question}")));
            }
        }
        Ok(())
    }

    pub(super) fn nobody_gets_what_is_for_others(
        &self,
        id: PlayerId,
        number: u64,
        error: bool,
        body: Option<&str>,
    ) -> Check {
        const RULE: &str = "nobody_gets_what_is_for_others";
        let name = self.name(id);
        let Some(message) = self.book.get(number as usize) else {
            return Err(wrong(RULE, format!("{name} received {number}, which nobody has sent")));
        };
        let own = self.players[id].account;
        let right = if error { self.players[message.from].account == own } else { message.to == Some(own) };
        if !right {
            return Err(wrong(RULE, format!("{name} received {number}, which is for another")));
        }
        if body.is_some_and(|body| body != number.to_string()) {
            return Err(wrong(RULE, format!("{name} received {number} with the body {body:?}")));
        }
        Ok(())
    }

    pub(super) fn copy_heard(&mut self, id: PlayerId, number: u64, received: bool, error: bool) -> Check {
        let name = self.name(id);
        self.note(|| format!("{name} < copy of {number}"));
        let own = self.players[id].account;
        let right = self.book.get(number as usize).is_some_and(|message| {
            if received && !error { message.to == Some(own) } else { self.players[message.from].account == own }
        });
        if !right {
            return Err(wrong("nobody_gets_what_is_for_others", format!("{name} got a copy of {number}")));
        }
        self.a_new_owner_inherits_nothing(id, number, error || !received)?;
        if let Some(message) = self.book.get_mut(number as usize) {
            // A copy counts as the message; of one to oneself also that of what was sent. So does one of the error.
            message.received |= !error && message.to == Some(own);
            message.bounced |= error && received;
        }
        let copies = self.book.get(number as usize).map_or(1, |message| message.copies);
        let excused = copies > 1 || self.may_come_twice(number);
        if !self.players[id].copied.insert((received, error, number)) && !excused {
            return Err(wrong("nothing_comes_twice", format!("{name} got a copy of {number} twice")));
        }
        Ok(())
    }

    pub(super) fn nothing_comes_twice(&mut self, id: PlayerId, number: u64) -> Check {
        let name = self.name(id);
        let copies = self.book.get(number as usize).map_or(1, |message| message.copies);
        let seen = self.players[id].seen.entry(number).or_default();
        *seen += 1;
        let seen = *seen;
        if seen > copies && !self.may_come_twice(number) {
            return Err(wrong("nothing_comes_twice", format!("{name} received {number} {seen} times")));
        }
        Ok(())
    }

    /// A never-promised stanza may have been handled although the row that says so could not be written, or was not written before
    /// the server was killed.
    fn may_come_twice(&self, number: u64) -> bool {
        let Some(message) = self.book.get(number as usize) else { return false };
        !message.promised && (self.taste.failures || message.epoch < self.crashes)
    }

    /// Delayed or not: a message that one session sent to the address of this one.
    pub(super) fn an_addressed_message_keeps_its_order(&mut self, id: PlayerId, number: u64) -> Check {
        let Some(message) = self.book.get(number as usize).filter(|message| message.copies == 1) else { return Ok(()) };
        let Some(target) = message.target else { return Ok(()) };
        // A stanza that does not fit into a full queue and is not promised goes to another session, and may come back from there.
        if self.taste.tiny && !message.promised {
            return Ok(());
        }
        let directed = Directed { from: message.from, life: message.life, target, order: message.order };
        self.what_is_addressed_keeps_its_order(id, directed, &number.to_string())
    }

    pub(super) fn what_is_addressed_keeps_its_order(&mut self, id: PlayerId, it: Directed, name: &str) -> Check {
        // A message whose batch failed may be sent again, and unlogged ones then arrive in any order.
        if it.target != (id, self.players[id].life) || self.taste.failures {
            return Ok(());
        }
        let newest = self.players[id].own.entry((it.from, it.life)).or_insert(it.order);
        let before = std::mem::replace(newest, it.order.max(*newest));
        self.follows("what_is_addressed_keeps_its_order", id, name, it.order >= before)
    }

    pub(super) fn live_messages_keep_their_order(&mut self, id: PlayerId, number: u64, delayed: bool) -> Check {
        let Some(message) = self.book.get(number as usize) else { return Ok(()) };
        if delayed || message.copies > 1 || !message.promised || !message.managed {
            return Ok(());
        }
        let order = message.order;
        let newest = self.players[id].live.entry((message.from, message.life)).or_insert(order);
        let before = std::mem::replace(newest, order.max(*newest));
        self.follows("live_messages_keep_their_order", id, &number.to_string(), order >= before)
    }

    fn follows(&self, rule: &'static str, id: PlayerId, number: &str, in_order: bool) -> Check {
        if in_order {
            return Ok(());
        }
        Err(wrong(rule, format!("{} received {number} after a later one of the same sender", self.name(id))))
    }

    /// A contact is told that a session is gone.
    pub(super) fn saw_go(&mut self, id: PlayerId, address: &str) {
        let Some(&(other, life)) = self.addresses.get(address) else { return };
        let (mine, theirs) = (self.players[id].account, self.players[other].account);
        let player = &self.players[other];
        // With the same resource, each life looks like the one before.
        if self.taste.fresh && player.life == life && !player.left && !self.touched.contains(&(mine, theirs)) {
            self.blinked.insert((other, life));
        }
    }

    /// It has resumed its session: then no contact was told that it went.
    pub(super) fn nobody_sees_a_session_blink(&self, id: PlayerId) -> Check {
        let player = &self.players[id];
        // A session that ended, and whose rows the disk did not delete, is restored after a crash.
        let undead = self.taste.failures && player.crashes > 0;
        // The operator has ended it, and what it was told before that is still on its way.
        let ended = self.names[player.account].submitted > player.attempt.submitted;
        if undead || ended || !self.blinked.contains(&(id, player.life)) {
            return Ok(());
        }
        let name = self.name(id);
        Err(wrong("nobody_sees_a_session_blink", format!("{name} has its session, and somebody was told it went")))
    }

    /// In a settled world no connection would have something to do if it were woken.
    pub(super) fn nobody_oversleeps(&mut self) -> Check {
        match self.world.overslept() {
            None => Ok(()),
            Some(id) => Err(wrong("nobody_oversleeps", format!("{} was not woken", self.name(id)))),
        }
    }

    /// A batch may fail because of the disk, and for no other reason.
    pub(super) fn no_batch_breaks_a_rule(&self) -> Check {
        let broken = self.world.mood.homes.lock().broken.clone();
        broken.map_or(Ok(()), |why| Err(wrong("no_batch_breaks_a_rule", why)))
    }

    pub(super) fn memory_is_counted_and_bounded(&self) -> Check {
        const RULE: &str = "memory_is_counted_and_bounded";
        let core = self.world.core();
        for lock in core.all_loaded() {
            let account = core.report(&lock);
            // Only who has the name of another asks for the archive.
            let asks =
                self.names.iter().enumerate().any(|(at, name)| name.generation > 0 && self.bare(at) == account.jid);
            let slack = if asks { ARCHIVE_PAGE.max(SLACK) } else { SLACK };
            for session in &account.sessions {
                let stream = &session.stream;
                if stream.weight != stream.weighed {
                    return Err(wrong(RULE, format!("a session miscounts what it holds: {session:?}")));
                }
                if stream.weight > self.taste.bounds.queued + slack {
                    return Err(wrong(RULE, format!("a session holds too much: {session:?}")));
                }
                if stream.unsettled > vorpal_core::session::ledger::MAX_UNSETTLED {
                    return Err(wrong(RULE, format!("a session has sent too much: {session:?}")));
                }
            }
            if account.sessions.len() > self.taste.bounds.sessions {
                return Err(wrong(RULE, format!("too many sessions: {account:?}")));
            }
        }
        Ok(())
    }
}
