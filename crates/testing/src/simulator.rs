//! A world played at random, by a seed: accounts, clients that come and go, a disk that waits and fails, a server that is
//! killed. When all is quiet again every message is accounted for.
//!
//! Checked: what was acknowledged to its sender arrives, at the right account and nowhere else; nothing arrives twice in one
//! stream session without a crash between; what one session sent to one account arrives in each session in its order; the
//! server's count never goes back, also over a crash, and never beyond what was sent; the world gets quiet.
//!
//! *Not promised, and not checked:* that nothing arrives again after a crash; the order of what another session left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use vorpal_proto::element::Element;
use vorpal_proto::ns;

use crate::client::Heard;
use crate::disk::{Medium, Store};
use crate::random::Random;
use crate::world::{ClientId, HOST, World};
use vorpal_store::memory::Fault;

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// chooses everything
    pub seed: u64,
    /// so many things happen
    pub steps: usize,
    /// so many accounts
    pub accounts: usize,
    /// whether commits fail
    pub failures: bool,
    /// whether the server is killed
    pub crashes: bool,
}

/// What is known of a message.
#[derive(Clone, Debug)]
struct Sent {
    from: ClientId,
    to: String,
    /// its number among what its sender's session has sent with stream management, from 1
    number: Option<u32>,
    /// which life of the sender's session
    life: u32,
    /// the client it was addressed to, and which life of it: what another session left behind comes in no order
    target: Option<(ClientId, u32)>,
    /// it came back as an error
    bounced: bool,
    acked: bool,
}

/// A stanza that a client has sent and that is not acknowledged.
#[derive(Clone, Debug)]
struct Unacked {
    number: u32,
    xml: String,
    message: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Player {
    managed: bool,
    available: bool,
    /// rises with each session that is not a resumption
    life: u32,
    sent: u32,
    acked: u32,
    unacked: Vec<Unacked>,
    /// messages received in this life, by sender and the sender's life: the newest number
    newest: BTreeMap<(ClientId, u32), u64>,
    seen: BTreeSet<u64>,
}

/// A run. See the module's text.
pub struct Simulator {
    world: World,
    random: Random,
    plan: Plan,
    players: Vec<Player>,
    messages: Vec<Sent>,
    received: BTreeMap<u64, Vec<ClientId>>,
    crashes: u32,
    log: Vec<String>,
}

/// Plays a run.
///
/// # Errors
/// What does not hold, with the story that led to it.
pub fn play(plan: Plan, modules: &'static [&'static vorpal_core::module::Module]) -> Result<usize, String> {
    // With an archive everything is written; without one some of it only when it has to be.
    let archive = plan.seed & 2 == 0;
    let modules: Vec<_> = modules.iter().copied().filter(|module| archive || module.name != "mam").collect();
    let world = World::new(plan.seed, Store::Memory, plan.seed & 1 == 0, &modules);
    let mut simulator = Simulator {
        world,
        random: Random::new(plan.seed ^ 0xABCD_EF01),
        plan,
        players: Vec::new(),
        messages: Vec::new(),
        received: BTreeMap::new(),
        crashes: 0,
        log: Vec::new(),
    };
    simulator.run().map_err(|why| {
        let tail = simulator.log.len().saturating_sub(400);
        format!("seed {}: {why}\n{}", plan.seed, simulator.log[tail..].join("\n"))
    })?;
    Ok(simulator.messages.len())
}

const NAMES: [&str; 4] = ["romeo", "juliet", "tybalt", "nurse"];

impl Simulator {
    fn run(&mut self) -> Result<(), String> {
        for name in &NAMES[..self.plan.accounts.min(NAMES.len())] {
            assert!(self.world.create_account(name));
            for resource in ["a", "b"] {
                self.world.client(name, resource);
                self.players.push(Player::default());
            }
        }
        for _ in 0..self.plan.steps {
            self.step()?;
            self.hear()?;
        }
        self.quiet()
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        self.log.push(format!("{} {}", self.world.now.as_millis() % 10_000_000, what()));
    }

    fn step(&mut self) -> Result<(), String> {
        let id = self.random.below(self.players.len());
        let name = self.world.name(id);
        if !self.world.clients[id].is_connected() {
            match self.random.below(4) {
                0 | 1 => self.come(id)?,
                _ => self.tick(),
            }
            return Ok(());
        }
        match self.random.below(40) {
            0..20 => self.message(id),
            20..22 => self.presence(id),
            22..25 if self.players[id].managed => {
                self.note(|| format!("{name} asks"));
                self.world.clients[id].send("<r xmlns='urn:xmpp:sm:3'/>");
            }
            25 => {
                self.note(|| format!("{name} loses its connection"));
                self.leave(id);
            }
            26 if self.players[id].managed => {
                self.note(|| format!("{name} hears nothing"));
                self.world.clients[id].deaf = true;
            }
            27 if self.random.one_in(2) => {
                self.note(|| format!("{name} closes"));
                self.world.clients[id].send("</stream:stream>");
                self.settle();
                self.hear_one(id)?;
                self.ended(id);
            }
            28 if self.plan.crashes && self.random.one_in(3) => {
                self.note(|| "the server is killed".into());
                self.crash();
            }
            29 if self.plan.crashes && self.random.one_in(3) => {
                let fault = if self.random.one_in(2) { Fault::CrashBefore } else { Fault::CrashAfter };
                self.note(|| format!("the next commit: {fault:?}"));
                if let Medium::Memory(disk) = self.world.medium() {
                    disk.next(fault);
                }
            }
            30 if self.plan.failures => {
                let on = self.random.one_in(2);
                self.note(|| format!("disk refuses: {on}"));
                self.world.mood.refuses.store(on, Ordering::Relaxed);
            }
            31 | 32 => {
                let on = self.random.one_in(2);
                self.note(|| format!("disk waits: {on}"));
                self.world.mood.waits.store(on, Ordering::Relaxed);
            }
            33 => {
                let state = if self.random.one_in(2) { "active" } else { "inactive" };
                self.note(|| format!("{name} {state}"));
                self.world.clients[id].send(&format!("<{state} xmlns='urn:xmpp:csi:0'/>"));
            }
            34 => self.tick(),
            _ => {
                self.world.pump(id);
            }
        }
        // Whether anything is done at once is chance as well.
        match self.random.below(3) {
            0 => self.settle(),
            1 => {
                let id = self.random.below(self.players.len());
                self.world.pump(id);
                self.write();
            }
            _ => {}
        }
        Ok(())
    }

    fn tick(&mut self) {
        self.world.now = self.world.now.plus(Duration::from_millis(self.random.number() % 1_500));
        self.world.tick();
    }

    fn settle(&mut self) {
        while !self.world.settle_or_die() {
            self.died();
        }
    }

    fn write(&mut self) {
        if self.world.write_or_die().is_none() {
            self.died();
        }
    }

    fn died(&mut self) {
        self.note(|| "the server died at a commit".into());
        self.crash();
    }

    fn crash(&mut self) {
        self.crashes += 1;
        for id in 0..self.players.len() {
            let _ = self.hear_one(id);
        }
        self.world.crash();
        for id in 0..self.players.len() {
            if !self.players[id].managed {
                self.ended(id);
            }
        }
    }

    fn leave(&mut self, id: ClientId) {
        self.world.clients[id].deaf = false;
        if let Some(mut link) = self.world.clients[id].link.take() {
            link.connection.gone(self.world.now);
        }
        if !self.players[id].managed {
            self.ended(id);
        }
    }

    /// The session is over: what was not acknowledged may have come to nothing.
    fn ended(&mut self, id: ClientId) {
        self.world.clients[id].link = None;
        self.world.clients[id].smacks = None;
        let life = self.players[id].life + 1;
        self.players[id] = Player { life, ..Player::default() };
    }

    fn come(&mut self, id: ClientId) -> Result<(), String> {
        // Coming takes several commits: the disk has a moment of peace.
        self.world.mood.refuses.store(false, Ordering::Relaxed);
        self.world.mood.waits.store(false, Ordering::Relaxed);
        self.settle();
        self.hear()?;
        if let Medium::Memory(disk) = self.world.medium() {
            // A delay that is over takes the place of whatever was planned.
            disk.next(Fault::Delay);
            disk.release();
        }
        let name = self.world.name(id);
        if self.players[id].managed {
            match self.world.resume(id) {
                Ok(h) => {
                    self.note(|| format!("{name} resumes at {h}"));
                    self.counted(id, h)?;
                    let player = &mut self.players[id];
                    player.sent = player.acked;
                    for unacked in std::mem::take(&mut self.players[id].unacked) {
                        self.send(id, unacked.xml, unacked.message);
                    }
                    self.settle();
                    return Ok(());
                }
                Err(_) => {
                    self.note(|| format!("{name} cannot resume"));
                    self.ended(id);
                }
            }
        }
        self.players[id].managed = self.random.one_in(2);
        self.note(|| format!("{name} comes"));
        self.world.bind(id);
        if self.players[id].managed {
            self.world.enable(id);
        }
        if !self.random.one_in(6) {
            self.presence(id);
        }
        self.settle();
        Ok(())
    }

    fn presence(&mut self, id: ClientId) {
        let name = self.world.name(id);
        let priority = [0, 0, 0, 5, -1][self.random.below(5)];
        let away = self.random.one_in(5);
        self.players[id].available = !away;
        self.note(|| format!("{name} {}", if away { "goes" } else { "is available" }));
        let xml = if away {
            "<presence type='unavailable'/>".to_owned()
        } else {
            format!("<presence><priority>{priority}</priority></presence>")
        };
        self.send(id, xml, None);
    }

    fn message(&mut self, id: ClientId) {
        let to = NAMES[self.random.below(self.plan.accounts.min(NAMES.len()))];
        let number = self.messages.len() as u64;
        let resource = ["", "", "/a", "/b"][self.random.below(4)];
        let name = self.world.name(id);
        let life = self.players[id].life;
        self.note(|| format!("{name} > {number} to {to}{resource}"));
        let managed = self.players[id].managed;
        let counted = managed.then_some(self.players[id].sent + 1);
        let addressed =
            |c: &crate::client::Client| resource.strip_prefix('/') == Some(c.resource.as_str()) && c.account == to;
        let at = self.world.clients.iter().position(addressed);
        // Only while it has a session: what comes for a resource that is nobody's waits with what was missed.
        let has_session = |at: &ClientId| self.players[*at].managed || self.world.clients[*at].is_connected();
        let target = at.filter(has_session).map(|at| (at, self.players[at].life));
        let sent = Sent { from: id, to: to.into(), number: counted, life, target, bounced: false, acked: false };
        self.messages.push(sent);
        let xml =
            format!("<message to='{to}@{HOST}{resource}' type='chat' id='{number}'><body>{number}</body></message>");
        self.send(id, xml, Some(number));
    }

    fn send(&mut self, id: ClientId, xml: String, message: Option<u64>) {
        if !self.world.clients[id].is_connected() {
            return;
        }
        self.world.clients[id].send(&xml);
        let player = &mut self.players[id];
        if player.managed {
            player.sent += 1;
            player.unacked.push(Unacked { number: player.sent, xml, message });
        }
    }

    /// The server says how far it is.
    fn counted(&mut self, id: ClientId, h: u32) -> Result<(), String> {
        let name = self.world.name(id);
        let player = &mut self.players[id];
        if h < player.acked {
            return Err(format!("{name}: the count goes back from {} to {h}", player.acked));
        }
        if h > player.sent {
            return Err(format!("{name}: {h} are handled, and only {} were sent", player.sent));
        }
        player.acked = h;
        let (done, rest) = std::mem::take(&mut player.unacked).into_iter().partition(|unacked| unacked.number <= h);
        player.unacked = rest;
        let done: Vec<Unacked> = done;
        for message in done.into_iter().filter_map(|unacked| unacked.message) {
            self.messages[message as usize].acked = true;
        }
        Ok(())
    }

    fn hear(&mut self) -> Result<(), String> {
        (0..self.players.len()).try_for_each(|id| self.hear_one(id))
    }

    fn hear_one(&mut self, id: ClientId) -> Result<(), String> {
        while let Some(heard) = self.world.clients[id].inbox.pop_front() {
            match heard {
                Heard::Element(element) => self.element(id, &element)?,
                Heard::End => self.ended(id),
                Heard::Cut if !self.players[id].managed => self.ended(id),
                Heard::Cut => {}
            }
        }
        Ok(())
    }

    fn element(&mut self, id: ClientId, element: &Element) -> Result<(), String> {
        let name = self.world.name(id);
        if element.is(ns::STREAM, "error") {
            return Err(format!("{name} is sent away: {element:?}"));
        }
        if element.is(ns::SM, "a") {
            let h = element.get("h").and_then(|h| h.parse().ok()).ok_or("a count")?;
            self.note(|| format!("{name} < a {h}"));
            return self.counted(id, h);
        }
        if !element.is(ns::CLIENT, "message") {
            return Ok(());
        }
        let number: u64 = element.get("id").and_then(|id| id.parse().ok()).ok_or(format!("{name}: {element:?}"))?;
        let delayed = element.has(ns::DELAY, "delay");
        self.note(|| format!("{name} < {number}{}", if delayed { " delayed" } else { "" }));
        let sent = &mut self.messages[number as usize];
        if element.get("type") == Some("error") {
            sent.bounced = true;
            return Ok(());
        }
        if self.world.clients[id].account != sent.to {
            return Err(format!("{name} received {number}, which is for {}", sent.to));
        }
        let player = &mut self.players[id];
        if self.crashes > 0 {
            self.received.entry(number).or_default().push(id);
            return Ok(());
        }
        if !player.seen.insert(number) {
            return Err(format!("{name} received {number} twice"));
        }
        if sent.target != Some((id, player.life)) {
            self.received.entry(number).or_default().push(id);
            return Ok(());
        }
        let newest = player.newest.entry((sent.from, sent.life)).or_insert(number);
        if *newest > number {
            return Err(format!("{name} received {number} after {newest}"));
        }
        *newest = (*newest).max(number);
        self.received.entry(number).or_default().push(id);
        Ok(())
    }

    /// Everybody comes, everything is read: what was promised is here.
    fn quiet(&mut self) -> Result<(), String> {
        self.note(|| "the end begins".into());
        for round in 0..3 {
            for id in 0..self.players.len() {
                self.leave(id);
                self.come(id)?;
                self.hear()?;
            }
            // A session whose end could not be written is there again after a crash, until its time is over.
            self.world.now = self.world.now.plus(Duration::from_secs(if round == 1 { 700 } else { 2 }));
            self.world.tick();
            self.settle();
            self.hear()?;
        }
        for id in 0..self.players.len() {
            self.world.clients[id].send("<active xmlns='urn:xmpp:csi:0'/>");
            self.send(id, "<presence/>".into(), None);
            if self.players[id].managed {
                self.world.clients[id].send("<r xmlns='urn:xmpp:sm:3'/>");
            }
            self.settle();
            self.hear()?;
        }
        self.world.now = self.world.now.plus(Duration::from_secs(2));
        self.world.tick();
        self.settle();
        self.hear()?;
        let mut lost = String::new();
        for (number, sent) in self.messages.iter().enumerate() {
            if sent.acked && !sent.bounced && !self.received.contains_key(&(number as u64)) {
                let _ = write!(lost, " {number} (to {}, number {:?})", sent.to, sent.number);
            }
        }
        for (id, player) in self.players.iter().enumerate() {
            if player.managed && player.acked != player.sent {
                return Err(format!("{}: {} were sent and {} handled", self.world.name(id), player.sent, player.acked));
            }
        }
        if lost.is_empty() { Ok(()) } else { Err(format!("acknowledged and lost:{lost}")) }
    }
}
