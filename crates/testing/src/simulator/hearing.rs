//! How clients process what they receive.

use vorpal_proto::element::Element;
use vorpal_proto::ns;
use vorpal_proto::sasl::decode_payload;

use super::player::{Contact, Manner, Phase, PlayerId};
use super::{Check, Simulator, Wrong, wrong};
use crate::client::{Heard, Smacks};
use crate::random::Random;

impl Simulator {
    /// All clients process what has arrived. Returns whether there was anything.
    pub(super) fn hear(&mut self) -> Result<bool, Wrong> {
        self.take_facts();
        // What comes after a violation would only hide it.
        self.told()?;
        let mut any = false;
        for id in 0..self.players.len() {
            any |= self.hear_one(id)?;
        }
        Ok(any)
    }

    pub(super) fn hear_one(&mut self, id: PlayerId) -> Result<bool, Wrong> {
        let mut any = false;
        while let Some(heard) = self.world.clients[id].inbox.pop_front() {
            any = true;
            match heard {
                Heard::Element(element) => self.element(id, &element)?,
                Heard::End => {
                    let name = self.name(id);
                    self.note(|| format!("{name} < the end"));
                    if matches!(self.players[id].phase, Phase::Closing) {
                        // RFC 6120 §4.4: the answer means that everything was handled.
                        self.handled_all(id)?;
                    }
                    // Input after the end is ignored; the session has ended, whichever side ended it.
                    self.players[id].phase = Phase::Closing;
                    self.lost(id);
                }
                Heard::Cut => {
                    let name = self.name(id);
                    self.note(|| format!("{name} is cut off"));
                    self.lost(id);
                }
            }
        }
        Ok(any)
    }

    fn element(&mut self, id: PlayerId, element: &Element) -> Check {
        let name = self.name(id);
        let closing = matches!(self.players[id].phase, Phase::Closing);
        let allowed = closing || self.taste.tiny;
        if allowed && element.is(ns::STREAM, "error") && element.has(ns::STREAM_ERROR, "resource-constraint") {
            // A commit failed, or too much was sent to it at once: the end does not say what was handled.
            self.note(|| format!("{name} is told that not everything was handled"));
            self.players[id].unacked.clear();
            self.players[id].phase = Phase::Closing;
            return Ok(());
        }
        if self.haunted.contains(&id) && element.is(ns::STREAM, "error") && element.has(ns::STREAM_ERROR, "conflict") {
            // Data that it had sent on an abandoned connection binds its resource, later than its own newer connection.
            self.note(|| format!("{name} is replaced by its own ghost"));
            self.players[id].unacked.clear();
            self.players[id].phase = Phase::Closing;
            return Ok(());
        }
        if element.is(ns::STREAM, "error") && self.is_sent_away(id, element) {
            self.note(|| format!("{name} is sent away"));
            self.players[id].relic = self.relic(id);
            if closing {
                // The end is no answer to its own.
                self.players[id].unacked.clear();
            }
            return Ok(());
        }
        if element.is(ns::STREAM, "error") {
            return Err(wrong("a stream ends in peace", format!("{name} is sent away: {element:?}")));
        }
        match std::mem::take(&mut self.players[id].phase) {
            Phase::Greeting if element.is(ns::STREAM, "features") => {
                let (sasl, auth) = self.world.sasl(id);
                self.say(id, &auth);
                self.players[id].phase = Phase::Proving(Box::new(sasl));
            }
            Phase::Proving(mut sasl) if element.is(ns::SASL, "challenge") => {
                let challenge = decode_payload(&element.content()).expect("base64").unwrap_or_default();
                let response = sasl.respond(&challenge).expect("a challenge");
                let response = vorpal_proto::sasl::encode_payload(Some(&response));
                self.say(id, &format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{response}</response>"));
                self.players[id].phase = Phase::Proven(sasl);
            }
            Phase::Proven(mut sasl) if element.is(ns::SASL, "success") => {
                let data = decode_payload(&element.content()).expect("base64");
                sasl.finish(data.as_deref().map(Vec::as_slice)).expect("the server proves itself");
                let host = self.world.clients[id].host.clone();
                self.world.clients[id].open_stream(&host);
                self.players[id].phase = Phase::Welcome;
                self.who_is_let_in_may_come(id)?;
            }
            Phase::Proving(_) | Phase::Proven(_) if element.is(ns::SASL, "failure") => {
                return self.who_is_refused_may_not(id, element);
            }
            Phase::Welcome if element.is(ns::STREAM, "features") => self.enter(id),
            Phase::Binding if element.is(ns::CLIENT, "iq") => {
                if element.get("type") == Some("result") {
                    self.begin(id);
                } else {
                    // Too many sessions: it tries again later.
                    self.note(|| format!("{name} gets no session"));
                    self.hangs_up(id);
                }
            }
            Phase::Resuming if element.is(ns::SM, "resumed") => {
                self.nobody_resumes_what_is_over(id)?;
                if self.players[id].digs.take().is_some() {
                    // It was back after a crash. Its client thinks no more of it.
                    self.hangs_up(id);
                    return Ok(());
                }
                return self.resumed(id, element);
            }
            Phase::Resuming if element.is(ns::SM, "failed") && self.players[id].digs.is_some() => {
                self.note(|| format!("{name} cannot resume what is over"));
                let relic = self.players[id].digs.take();
                let of_another = relic.is_some_and(|relic| relic.generation < self.players[id].generation);
                if of_another && element.get("h").is_some() && !self.taste.forgets {
                    let why = format!("{name} is told of a session of the owner before: {element:?}");
                    return Err(wrong("a_new_owner_inherits_nothing", why));
                }
                self.bind(id);
            }
            Phase::Resuming if element.is(ns::SM, "failed") => {
                let h: Option<u32> = element.get("h").and_then(|h| h.parse().ok());
                self.note(|| format!("{name} cannot resume, {h:?} were handled"));
                if let Some(h) = h {
                    self.counts_go_forward(id, h)?;
                }
                self.players[id].end();
                self.bind(id);
            }
            phase @ (Phase::In | Phase::Closing) => {
                self.players[id].phase = phase;
                return self.in_session(id, element);
            }
            _ => return Err(wrong("a stream begins in order", format!("{name} did not expect {element:?}"))),
        }
        Ok(())
    }

    /// It is authenticated: it resumes its session, or binds a new one.
    fn enter(&mut self, id: PlayerId) {
        let name = self.name(id);
        if let Some(relic) = self.players[id].relic.take().filter(|_| !self.ending) {
            self.note(|| format!("{name} > resume of what is over, at {}", relic.h));
            self.say(id, &format!("<resume xmlns='urn:xmpp:sm:3' previd='{}' h='{}'/>", relic.token, relic.h));
            self.players[id].phase = Phase::Resuming;
            self.players[id].digs = Some(relic);
            return;
        }
        let smacks = self.world.clients[id].smacks.as_ref();
        let token = smacks.and_then(|smacks| Some((smacks.token.clone()?, smacks.received)));
        let forgets = self.players[id].manner.forgets && self.players[id].sent.is_multiple_of(2);
        match token {
            Some((token, h)) if !forgets => {
                self.note(|| format!("{name} > resume at {h}"));
                let resume = format!("<resume xmlns='urn:xmpp:sm:3' previd='{token}' h='{h}'/>");
                self.say(id, &resume);
                self.players[id].phase = Phase::Resuming;
            }
            Some(_) => {
                self.players[id].end();
                self.bind(id);
            }
            None => self.bind(id),
        }
    }

    /// It gives up its connection.
    pub(super) fn hangs_up(&mut self, id: PlayerId) {
        if let Some(mut link) = self.world.clients[id].link.take() {
            link.driver.gone(self.world.now);
        }
        self.world.clients[id].inbox.clear();
        self.lost(id);
    }

    fn bind(&mut self, id: PlayerId) {
        let submitted = self.names[self.players[id].account].submitted;
        let player = &mut self.players[id];
        player.phase = Phase::Binding;
        player.bound_at = submitted;
        let resource =
            if self.taste.fresh { format!("{}{}", player.base, player.life) } else { player.base.to_owned() };
        let bind = format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>"
        );
        self.world.clients[id].smacks = None;
        self.world.clients[id].resource = resource;
        self.say(id, &bind);
        let (address, life) = (self.full(id), self.players[id].life);
        self.admitted.insert(address.clone(), self.players[id].attempt.key);
        self.addresses.insert(address, (id, life));
    }

    /// It has a new session, and enables features.
    fn begin(&mut self, id: PlayerId) {
        let life = self.players[id].life;
        let chance = self.plan.seed ^ ((id as u64) << 32) ^ (u64::from(life) << 40);
        let mut r = Random::new(chance);
        let manner = Manner::new(&self.taste, &mut r);
        let name = self.name(id);
        self.note(|| format!("{name} begins: {manner:?}"));
        let player = &mut self.players[id];
        player.phase = Phase::In;
        player.manner = manner;
        if manner.managed {
            let keep = manner.keep.map(|keep| format!(" max='{keep}'")).unwrap_or_default();
            let resume = if manner.resumes { " resume='true'" } else { "" };
            self.world.clients[id].smacks = Some(Smacks { mute: !manner.answers, ..Smacks::default() });
            self.say(id, &format!("<enable xmlns='urn:xmpp:sm:3'{resume}{keep}/>"));
            self.players[id].counting = true;
        }
        if manner.roster {
            self.ask(id, "the roster", "get", "<query xmlns='jabber:iq:roster'/>");
        }
        self.makes_friends(id, &mut r.clone());
        if self.names[self.players[id].account].generation > 0 {
            self.ask(id, "the archive", "set", "<query xmlns='urn:xmpp:mam:2'/>");
        }
        if manner.carbons {
            self.ask(id, "carbons", "set", "<enable xmlns='urn:xmpp:carbons:2'/>");
        }
        if !r.one_in(6) {
            self.presence(id, &mut r);
        }
        for again in std::mem::take(&mut self.players[id].again) {
            if let Some(message) = again.message.and_then(|number| self.book.get_mut(number as usize)) {
                message.copies += 1;
            }
            self.note(|| format!("{name} > {:?} anew", again.message));
            self.send(id, again.xml, again.message);
        }
    }

    fn resumed(&mut self, id: PlayerId, element: &Element) -> Check {
        self.resumptions += 1;
        let h = element.get("h").and_then(|h| h.parse().ok());
        let h = h.ok_or_else(|| wrong("counts_go_forward", format!("{element:?}")))?;
        let name = self.name(id);
        self.note(|| format!("{name} < resumed {h}"));
        self.players[id].phase = Phase::In;
        self.counts_go_forward(id, h)?;
        self.nobody_sees_a_session_blink(id)?;
        let life = self.players[id].life;
        let mut r = Random::new(self.plan.seed ^ ((id as u64) << 32) ^ (u64::from(life) << 40) ^ (u64::from(h) << 8));
        self.players[id].sent = self.players[id].acked;
        let careless = self.players[id].manner.careless;
        for unacked in std::mem::take(&mut self.players[id].unacked) {
            if careless && r.one_in(5) && unacked.message.is_some() {
                self.note(|| format!("{name} forgets {:?}", unacked.message));
                continue;
            }
            if careless && r.one_in(5) {
                self.message(id, &mut r);
            }
            self.note(|| format!("{name} > {} again", short(&unacked.xml)));
            self.send(id, unacked.xml, unacked.message);
        }
        Ok(())
    }

    fn in_session(&mut self, id: PlayerId, element: &Element) -> Check {
        if element.is(ns::SM, "a") && self.players[id].counting {
            let h = element.get("h").and_then(|h| h.parse().ok());
            let h = h.ok_or_else(|| wrong("counts_go_forward", format!("{element:?}")))?;
            let name = self.name(id);
            self.note(|| format!("{name} < a {h}"));
            return self.counts_go_forward(id, h);
        }
        if element.is(ns::SM, "failed") {
            // The row of the session could not be stored: it continues without stream management.
            let player = &mut self.players[id];
            player.counting = false;
            player.unacked.clear();
            player.sent = 0;
            self.world.clients[id].smacks = None;
            return Ok(());
        }
        self.nobody_hears_who_is_blocked(id, element)?;
        if element.is(ns::CLIENT, "message") {
            return self.message_heard(id, element);
        }
        if element.is(ns::CLIENT, "presence") {
            self.presence_heard(id, element)?;
            return self.directed_heard(id, element);
        } else if element.is(ns::CLIENT, "iq") {
            return self.iq_heard(id, element);
        }
        Ok(())
    }

    fn message_heard(&mut self, id: PlayerId, element: &Element) -> Check {
        if let Some(result) = element.find(ns::MAM, "result") {
            return self.archived_heard(id, result);
        }
        for (way, received) in [("received", true), ("sent", false)] {
            let Some(wrapper) = element.find(ns::CARBONS, way) else { continue };
            let copy = wrapper.find(ns::FORWARD, "forwarded").and_then(|f| f.find(ns::CLIENT, "message"));
            let error = copy.is_some_and(|copy| copy.get("type") == Some("error"));
            let number = copy.and_then(|copy| copy.get("id")).and_then(|n| n.parse().ok());
            let number = number.ok_or_else(|| wrong("nobody_gets_what_is_for_others", format!("{element:?}")))?;
            return self.copy_heard(id, number, received, error);
        }
        let number: Option<u64> = element.get("id").and_then(|id| id.parse().ok());
        let name = self.name(id);
        let number = number.ok_or_else(|| wrong("nobody_gets_what_is_for_others", format!("{name}: {element:?}")))?;
        let delayed = element.has(ns::DELAY, "delay");
        let error = element.get("type") == Some("error");
        let body = element.find(ns::CLIENT, "body").map(Element::content);
        self.note(|| {
            let how = if delayed { " delayed" } else { "" };
            format!("{name} < {}{number}{how}", if error { "error of " } else { "" })
        });
        self.nobody_gets_what_is_for_others(id, number, error, body.as_deref())?;
        self.a_new_owner_inherits_nothing(id, number, error)?;
        let Some(message) = self.book.get_mut(number as usize) else { return Ok(()) };
        if error {
            message.bounced = true;
            return Ok(());
        }
        message.received = true;
        self.nothing_comes_twice(id, number)?;
        self.an_addressed_message_keeps_its_order(id, number)?;
        self.live_messages_keep_their_order(id, number, delayed)
    }

    fn directed_heard(&mut self, id: PlayerId, element: &Element) -> Check {
        match element.get("id").and_then(|name| Some((name, *self.directed.get(name)?))) {
            Some((name, directed)) => self.what_is_addressed_keeps_its_order(id, directed, name),
            None => Ok(()),
        }
    }

    fn presence_heard(&mut self, id: PlayerId, element: &Element) -> Check {
        let Some(from) = element.get("from").map(str::to_owned) else { return Ok(()) };
        let name = self.name(id);
        match element.get("type") {
            None => {
                let status = element.find(ns::CLIENT, "status").and_then(|s| s.content().parse().ok());
                self.note(|| format!("{name} < {from} {status:?}"));
                if let Some(status) = status {
                    self.may_be_seen(id, &from, status)?;
                    self.players[id].presences.insert(from, Some(status));
                }
            }
            Some("unavailable") => {
                self.note(|| format!("{name} < {from} is gone"));
                self.saw_go(id, &from);
                self.players[id].presences.insert(from, None);
            }
            Some(kind) => {
                let kind = kind.to_owned();
                self.note(|| format!("{name} < {kind} of {from}"));
                self.answers_request(id, &kind, &from);
            }
        }
        Ok(())
    }

    fn iq_heard(&mut self, id: PlayerId, element: &Element) -> Check {
        let name = self.name(id);
        let question = element.get("id").unwrap_or_default().to_owned();
        match element.get("type") {
            Some("get") => {
                self.note(|| format!("{name} < {question} asks"));
                self.directed_heard(id, element)?;
                self.may_be_asked(id, element)?;
                let to = element.get("from").unwrap_or_default();
                let answer = format!("<iq type='result' id='{question}' to='{to}'/>");
                self.speak(id, answer);
            }
            Some("set") => {
                if let Some(query) = element.find(ns::ROSTER, "query") {
                    let items: Vec<(String, Contact)> = query.elements().map(contact).collect();
                    self.note(|| format!("{name} < roster push {items:?}"));
                    if let Some(roster) = &mut self.players[id].roster {
                        for (jid, item) in items {
                            if item.subscription == "remove" {
                                roster.remove(&jid);
                            } else {
                                roster.insert(jid, item);
                            }
                        }
                    }
                }
                self.speak(id, format!("<iq type='result' id='{question}'/>"));
            }
            Some("result") => {
                self.note(|| format!("{name} < {question} result"));
                self.nothing_is_answered_twice(id, &question)?;
                self.answered_once(id, &question, element)?;
                self.blocks.answered(id, &question, true);
                if let Some(query) = element.find(ns::ROSTER, "query") {
                    let roster: std::collections::BTreeMap<_, _> = query.elements().map(contact).collect();
                    self.contacts_are_its_own(id, &roster)?;
                    self.players[id].roster = Some(roster);
                }
                if let Some((_, stored)) = self.players[id].names.remove(&question) {
                    return self.answered_is_stored(id, &stored);
                }
            }
            _ => {
                self.note(|| format!("{name} < {question} error"));
                self.answered_once(id, &question, element)?;
                self.blocks.answered(id, &question, false);
                self.players[id].names.remove(&question);
                return self.nothing_is_answered_twice(id, &question);
            }
        }
        Ok(())
    }

    /// A stanza, if the stream is still open.
    fn speak(&mut self, id: PlayerId, xml: String) {
        if self.players[id].is_in() && self.world.clients[id].is_connected() {
            self.send(id, xml, None);
        }
    }
}

fn contact(item: &Element) -> (String, Contact) {
    let contact = Contact {
        subscription: item.get("subscription").unwrap_or_default().to_owned(),
        ask: item.get("ask").is_some(),
        name: item.get("name").unwrap_or_default().to_owned(),
    };
    (item.get("jid").unwrap_or_default().to_owned(), contact)
}

fn short(xml: &str) -> &str {
    xml.get(..60).unwrap_or(xml)
}
