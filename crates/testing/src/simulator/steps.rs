//! The events: one for each step, chosen by the step's own randomness and the taste of the seed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use vorpal_core::store::StoreError;
use vorpal_store::memory::Fault;

use super::book::{Directed, Message, Question, Unacked};
use super::player::{Phase, PlayerId};
use super::{Check, Simulator};
use crate::disk::Medium;
use crate::link::Weather;
use crate::random::Random;

#[derive(Clone, Copy)]
enum Action {
    Message,
    Presence,
    Ask,
    Ack,
    Lose,
    Vanish,
    Notice,
    Close,
    Weather,
    Trickle,
    Read,
    Kill,
    Stop,
    DieAtCommit,
    PowerFails,
    Refuse,
    FailBatch,
    Stall,
    State,
    Carbons,
    Roster,
    Block,
    Directed,
    Ping,
    Tick,
    Wait,
}

impl Simulator {
    pub(super) fn step(&mut self, r: &mut Random) -> Check {
        self.order(&mut Random::new(r.clone().number() ^ 0x0BE7_0BE7));
        let id = r.below(self.players.len());
        if self.players[id].is_away() {
            match r.below(4) {
                0..3 => self.connect(id, r),
                _ => self.tick(Duration::from_millis(r.number() % 1_500)),
            }
        } else {
            let action = self.choose(r);
            self.act(id, action, r);
        }
        // Whether the event takes effect at once is random as well.
        if r.one_in(self.taste.calm) {
            return self.rest();
        }
        self.operate();
        for _ in 0..r.below(4) {
            match r.below(4) {
                0 => self.commit(),
                1 if !self.ghosts.is_empty() => {
                    let at = r.below(self.ghosts.len());
                    self.world.haunt(at);
                }
                _ => {
                    let id = r.below(self.players.len());
                    self.world.pump(id);
                }
            }
        }
        Ok(())
    }

    fn choose(&self, r: &mut Random) -> Action {
        use Action::*;
        let taste = &self.taste;
        let on = |on: bool, weight: usize| if on { weight } else { 0 };
        let weights = [
            (Message, 40),
            (Presence, 4),
            (Ask, 6),
            (Ack, 2),
            (Lose, 3),
            (Vanish, on(taste.network, 3)),
            (Notice, on(taste.network, 2)),
            (Close, 1),
            (Weather, on(taste.network, 5)),
            (Trickle, on(taste.network, 4)),
            (Read, on(taste.network, 4)),
            (Kill, on(taste.crashes, 1)),
            (Stop, on(taste.crashes, 1)),
            (DieAtCommit, on(taste.crashes, 1)),
            (PowerFails, on(taste.forgets, 1)),
            (Refuse, on(taste.failures, 2)),
            (FailBatch, on(taste.failures, 3)),
            (Stall, on(taste.stalls, 4)),
            (State, 3),
            (Carbons, on(taste.carbons, 1)),
            (Roster, on(taste.rosters, 8)),
            (Block, on(taste.blocking, 4)),
            (Directed, 1),
            (Ping, 1),
            (Tick, 3),
            (Wait, on(taste.short, 1)),
        ];
        let mut at = r.below(weights.iter().map(|(_, weight)| weight).sum());
        for (action, weight) in weights {
            if at < weight {
                return action;
            }
            at -= weight;
        }
        Tick
    }

    fn act(&mut self, id: PlayerId, action: Action, r: &mut Random) {
        let name = self.name(id);
        let is_in = self.players[id].is_in();
        match action {
            Action::Message if is_in => self.message(id, r),
            Action::Presence if is_in => self.presence(id, r),
            Action::Ask if is_in && self.players[id].counting => {
                self.note(|| format!("{name} > r"));
                self.say(id, "<r xmlns='urn:xmpp:sm:3'/>");
            }
            Action::Ack if is_in => self.acknowledge(id),
            Action::Lose => self.lose(id, r),
            Action::Vanish => self.vanish(id, r),
            Action::Notice => self.notice(r),
            Action::Close if is_in => {
                self.note(|| format!("{name} closes"));
                self.say(id, "</stream:stream>");
                self.players[id].phase = Phase::Closing;
            }
            Action::Weather => self.weather(id, r),
            Action::Trickle => {
                let bytes = r.below(300);
                self.note(|| format!("{name}: {bytes} bytes reach the server"));
                self.world.trickle(id, bytes);
            }
            Action::Read => {
                let bytes = r.below(600);
                self.note(|| format!("{name} reads {bytes} bytes"));
                self.world.hear(id, bytes);
            }
            Action::Kill => {
                self.note(|| "the server is killed".into());
                self.crash(0);
            }
            Action::Stop => self.stop(),
            Action::DieAtCommit => {
                let fault = match r.below(4) {
                    0 => Fault::CrashBefore,
                    1 => Fault::CrashAmid(r.below(4)),
                    _ => Fault::CrashAfter,
                };
                self.fault(fault);
            }
            Action::PowerFails => {
                let commits = 1 + r.below(super::FORGETFUL);
                self.note(|| format!("the power fails: {commits} commits are forgotten"));
                self.crash(commits);
            }
            Action::Refuse => {
                let on = r.one_in(2);
                self.note(|| format!("disk refuses: {on}"));
                self.world.mood.refuses.store(on, Ordering::Relaxed);
            }
            Action::FailBatch => {
                let fault = if r.one_in(4) {
                    Fault::Fail(StoreError::Full)
                } else {
                    Fault::FailOne(r.below(4), StoreError::Full)
                };
                self.fault(fault);
            }
            Action::Stall => {
                let on = r.one_in(2);
                self.note(|| format!("disk waits: {on}"));
                self.world.mood.waits.store(on, Ordering::Relaxed);
            }
            Action::State if is_in => {
                let state = if r.one_in(2) { "active" } else { "inactive" };
                self.note(|| format!("{name} {state}"));
                self.say(id, &format!("<{state} xmlns='urn:xmpp:csi:0'/>"));
            }
            Action::Carbons if is_in => {
                let way = if r.one_in(3) { "disable" } else { "enable" };
                self.ask(id, &format!("{way} carbons"), "set", &format!("<{way} xmlns='urn:xmpp:carbons:2'/>"));
            }
            Action::Roster if is_in => self.roster(id, r),
            Action::Block if is_in => self.block(id, r),
            Action::Directed if is_in => {
                let to = self.somebody(id, r);
                let way = if r.one_in(2) { " type='unavailable'" } else { "" };
                let account = self.players[id].account;
                // A contact then no longer sees the broadcast presence.
                let other = to.1;
                self.touched.extend([(account, other), (other, account)]);
                self.questions += 1;
                let n = format!("d{}", self.questions);
                self.note(|| format!("{name} > presence{way} {n} to {}", to.0));
                self.note_directed(id, &n, &to.0);
                self.send(id, format!("<presence id='{n}' to='{}'{way}/>", to.0), None);
            }
            Action::Ping if is_in => {
                let (to, account) = self.somebody(id, r);
                self.questions += 1;
                let n = format!("p{}", self.questions);
                self.note(|| format!("{name} > {n} to {to}"));
                self.note_directed(id, &n, &to);
                self.note_question(id, &n, &to, account);
                self.send(id, format!("<iq type='get' id='{n}' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>"), None);
            }
            Action::Tick => self.tick(Duration::from_millis(r.number() % 1_500)),
            Action::Wait => {
                let seconds = [3, 10, 70][r.below(3)];
                self.note(|| format!("{seconds} s pass"));
                for _ in 0..seconds.min(4) {
                    self.tick(Duration::from_secs(seconds / seconds.min(4)));
                }
            }
            _ => {
                self.world.pump(id);
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.note(|| format!("at the next commit: {fault:?}"));
        if let Medium::Memory(disk) = self.world.medium() {
            disk.next(fault);
        }
    }

    /// It begins to reconnect.
    pub(super) fn connect(&mut self, id: PlayerId, r: &mut Random) {
        let name = self.name(id);
        self.note(|| format!("{name} comes"));
        self.blocks.connects(id);
        self.chooses_password(id, r);
        self.world.connect(id);
        let host = self.world.clients[id].host.clone();
        self.world.clients[id].open_stream(&host);
        self.players[id].phase = Phase::Greeting;
        let slow = self.taste.slow_reads && r.one_in(2);
        let window = if self.taste.network && r.one_in(3) { 400 + r.below(4_000) } else { usize::MAX };
        if let Some(link) = &mut self.world.clients[id].link {
            link.weather = Weather { slow, window, ..Weather::default() };
        }
    }

    /// The connection breaks: a part of the sent bytes arrives, maybe ending in the middle of a stanza, and both ends notice.
    pub(super) fn lose(&mut self, id: PlayerId, r: &mut Random) {
        let name = self.name(id);
        if r.one_in(2) {
            let bytes = r.below(400);
            self.note(|| format!("{name} loses its connection after {bytes} bytes"));
            self.world.trickle(id, bytes);
        } else {
            self.note(|| format!("{name} loses its connection"));
        }
        self.hear_out(id);
        self.excuse(id);
        if let Some(mut link) = self.world.clients[id].link.take() {
            link.driver.gone(self.world.now);
            self.lost(id);
        }
    }

    /// The connection vanishes, and the server does not notice: it reads what was sent before, and its output is lost.
    pub(super) fn vanish(&mut self, id: PlayerId, r: &mut Random) {
        let name = self.name(id);
        self.note(|| format!("{name} is gone without a word"));
        self.hear_out(id);
        let counted = self.world.clients[id].smacks.as_ref().is_some_and(|smacks| smacks.enabled);
        self.excuse(id);
        if !self.world.clients[id].is_connected() {
            return;
        }
        self.world.vanish(id);
        self.ghosts.push((id, counted));
        self.haunted.insert(id);
        if let Some(ghost) = self.world.ghosts.last_mut() {
            ghost.weather.window = ghost.down.len() + r.below(2_000);
            ghost.weather.up_held = r.one_in(2);
        }
        self.lost(id);
    }

    /// Bytes that a vanished client had sent arrive, or the server notices.
    fn notice(&mut self, r: &mut Random) {
        if self.ghosts.is_empty() {
            return;
        }
        let at = r.below(self.ghosts.len());
        if r.one_in(2) {
            self.note(|| format!("what was sent on old connection {at} arrives"));
            self.world.ghosts[at].weather.up_held = false;
            return;
        }
        self.note(|| format!("the server notices that connection {at} is gone"));
        self.exorcise(at);
    }

    pub(super) fn exorcise(&mut self, at: usize) {
        self.excuse_ghost(at);
        self.ghosts.swap_remove(at);
        self.world.notice(at);
    }

    fn weather(&mut self, id: PlayerId, r: &mut Random) {
        let name = self.name(id);
        let Some(link) = &mut self.world.clients[id].link else { return };
        let weather = &mut link.weather;
        match r.below(6) {
            0 => weather.up_held = true,
            1 => weather.down_held = true,
            2 => weather.window = 200 + r.below(2_000),
            3 => weather.up_held = false,
            _ => *weather = Weather { slow: weather.slow, ..Weather::default() },
        }
        let weather = *weather;
        self.note(|| format!("{name}: {weather:?}"));
    }

    /// It sends an acknowledgement.
    pub(super) fn acknowledge(&mut self, id: PlayerId) {
        let Some(h) = self.world.clients[id].smacks.as_ref().filter(|s| s.enabled).map(|s| s.received) else { return };
        let name = self.name(id);
        self.note(|| format!("{name} > a {h}"));
        self.say(id, &format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
    }

    pub(super) fn presence(&mut self, id: PlayerId, r: &mut Random) {
        let priority = [0, 0, 0, 5, -1][r.below(5)];
        let away = r.one_in(5);
        self.announce(id, (!away).then_some(priority));
    }

    /// It sends available presence with a priority, or unavailable presence.
    pub(super) fn announce(&mut self, id: PlayerId, priority: Option<i8>) {
        self.statuses += 1;
        let (name, status) = (self.name(id), self.statuses);
        self.note(|| format!("{name} > presence {priority:?} ({status})"));
        let player = &mut self.players[id];
        player.priority = priority;
        player.status = status;
        let xml = match priority {
            None => {
                player.left = true;
                "<presence type='unavailable'/>".to_owned()
            }
            Some(p) => format!("<presence><status>{status}</status><priority>{p}</priority></presence>"),
        };
        self.send(id, xml, None);
    }

    /// An address of an account, bare or full, and whose it is.
    fn somebody(&self, id: PlayerId, r: &mut Random) -> (String, usize) {
        let other = r.below(self.players.len());
        let account = self.players[other].account;
        let to = if r.one_in(2) { self.full(other) } else { self.bare(account) };
        let _ = id;
        (to, account)
    }

    pub(super) fn message(&mut self, id: PlayerId, r: &mut Random) {
        let number = self.book.len() as u64;
        let other = r.below(self.players.len());
        let account = self.players[other].account;
        let full = r.one_in(2);
        let nobody = r.one_in(40);
        let to = match (nobody, full) {
            (true, _) => format!("nobody@{}", self.accounts[0].1),
            (_, true) => self.full(other),
            (_, false) => self.bare(account),
        };
        let target = (full && !nobody && self.players[other].is_in()).then(|| (other, self.players[other].life));
        let body = format!("<body>{number}</body>");
        let (kind, payload, promised) = match r.below(16) {
            0 => ("headline", body, false),
            1 => ("chat", "<composing xmlns='http://jabber.org/protocol/chatstates'/>".to_owned(), false),
            2 => ("chat", format!("{body}<no-store xmlns='urn:xmpp:hints'/>"), false),
            3..6 => ("normal", body, true),
            // In a form that is parsed and rewritten.
            6 => ("chat", format!("<x:thing xmlns:x='urn:example:x'><x:y/></x:thing>{body}"), true),
            _ => ("chat", body, true),
        };
        let name = self.name(id);
        self.note(|| format!("{name} > {number} ({kind}{}) to {to}", if promised { "" } else { ", not promised" }));
        let player = &self.players[id];
        self.book.push(Message {
            from: id,
            life: player.life,
            generation: player.generation,
            handled: None,
            to: (!nobody).then_some(account),
            target,
            order: 0,
            copies: 1,
            promised,
            managed: player.counting,
            epoch: self.crashes,
            bounced: false,
            acked: false,
            received: false,
            excused: false,
        });
        self.send(id, format!("<message to='{to}' type='{kind}' id='{number}'>{payload}</message>"), Some(number));
    }

    /// Writes bytes, if it has a connection. Returns whether it has.
    pub(super) fn say(&mut self, id: PlayerId, bytes: &str) -> bool {
        let here = self.world.clients[id].is_connected();
        if here {
            self.world.clients[id].send(bytes);
        }
        here
    }

    /// It will send this to another address.
    fn note_directed(&mut self, id: PlayerId, name: &str, to: &str) {
        let Some(&target) = self.addresses.get(to) else { return };
        let life = self.players[id].life;
        self.directed.insert(name.to_owned(), Directed { from: id, life, target, order: 0 });
    }

    fn note_question(&mut self, id: PlayerId, name: &str, to: &str, account: usize) {
        let target =
            if to.contains('/') { Some(self.addresses.get(to).copied().unwrap_or((id, u32::MAX))) } else { None };
        let (life, epoch, changes) = (self.players[id].life, self.restarts, self.names[account].changes);
        self.asked.insert(name.to_owned(), Question { from: id, life, target, account, epoch, changes, answers: 0 });
    }

    /// Sends a stanza. If the connection is gone and the client has not noticed, the stanza is lost.
    pub(super) fn send(&mut self, id: PlayerId, xml: String, message: Option<u64>) {
        let here = self.say(id, &xml);
        self.orders += 1;
        let player = &mut self.players[id];
        if let Some(question) = id_of(&xml)
            && let Some((pair, blocks)) = self.blocks.question(question)
        {
            self.blocks.asks(question, pair, blocks);
        }
        message.into_iter().for_each(|number| self.blocks.sends(number));
        if let Some(message) = message.and_then(|number| self.book.get_mut(number as usize)) {
            message.order = self.orders;
            message.excused |= !here && !player.counting;
        } else if let Some(name) = id_of(&xml).filter(|_| !xml.contains("type='result'"))
            && let Some(directed) = self.directed.get_mut(name).filter(|directed| directed.from == id)
        {
            directed.order = self.orders;
        }
        let asks = xml.starts_with("<iq") && !xml.contains("type='result'");
        if let Some(name) = id_of(&xml).filter(|name| asks && name.starts_with('q')) {
            player.questions.entry(name.to_owned()).or_default().sent += 1;
        }
        if player.counting {
            player.sent += 1;
            player.unacked.push(Unacked { number: player.sent, xml, message });
        }
    }

    /// An IQ to its own account.
    pub(super) fn ask(&mut self, id: PlayerId, what: &str, kind: &str, payload: &str) -> String {
        self.questions += 1;
        let (name, question) = (self.name(id), format!("q{}", self.questions));
        self.note(|| format!("{name} > {question} {what}"));
        self.send(id, format!("<iq type='{kind}' id='{question}'>{payload}</iq>"), None);
        question
    }

    fn roster(&mut self, id: PlayerId, r: &mut Random) {
        let account = self.players[id].account;
        let other = r.below(self.accounts.len());
        if other == account {
            return;
        }
        let to = self.bare(other);
        match r.below(10) {
            0..6 => {
                let kind =
                    ["subscribe", "subscribed", "unsubscribe", "unsubscribed", "subscribe", "subscribed"][r.below(6)];
                self.touched.extend([(account, other), (other, account)]);
                let name = self.name(id);
                self.note(|| format!("{name} > {kind} to {to}"));
                self.send(id, format!("<presence type='{kind}' to='{to}'/>"), None);
            }
            6..9 => {
                let name = format!("n{}", self.questions + 1);
                let query = format!("<query xmlns='jabber:iq:roster'><item jid='{to}' name='{name}'/></query>");
                let question = self.ask(id, &format!("calls {to} {name}"), "set", &query);
                self.players[id].names.insert(question, (to, name));
            }
            _ => {
                self.touched.extend([(account, other), (other, account)]);
                let query = format!("<query xmlns='jabber:iq:roster'><item jid='{to}' subscription='remove'/></query>");
                self.ask(id, &format!("removes {to}"), "set", &query);
            }
        }
    }

    fn block(&mut self, id: PlayerId, r: &mut Random) {
        let account = self.players[id].account;
        let other = r.below(self.accounts.len());
        let way = if r.one_in(2) { "block" } else { "unblock" };
        let to = self.bare(other);
        self.touched.extend([(account, other), (other, account)]);
        self.blocked.extend([(account, other), (other, account)]);
        let payload = format!("<{way} xmlns='urn:xmpp:blocking'><item jid='{to}'/></{way}>");
        let question = self.ask(id, &format!("{way} {to}"), "set", &payload);
        self.blocks.asks(&question, (account, other), way == "block");
    }
}

/// The id of a stanza as clients here write it.
fn id_of(xml: &str) -> Option<&str> {
    let (_, rest) = xml.split_once(" id='")?;
    Some(rest.split_once('\'')?.0)
}
