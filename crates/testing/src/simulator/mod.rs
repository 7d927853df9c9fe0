//! A world played at random, by a seed: accounts on one or two hosts, clients of different manners that come and go, a
//! network that holds back and cuts, a disk that waits, fails and forgets, a server that is killed. See docs/decisions/0009.
//!
//! What has to hold, each a function of this name in [`checks`]:
//!
//! - `counts_go_forward`: the server's count of what it has handled never goes back, also over a crash, and never beyond what
//!   was sent.
//! - `acknowledged_is_stored`: what is acknowledged is in a log by then, as it was sent or as the error that it came to; and a
//!   stream that was closed in order has acknowledged everything.
//! - `answered_is_stored`: a change of the roster is on the disk before its answer is heard.
//! - `nothing_acknowledged_is_lost`: in the end it was received, or came back. Where no crash, no failed batch and no lost
//!   connection excuses it this holds for everything but what is never promised.
//! - `nobody_gets_what_is_for_others`: a message arrives at the account it is for, with the body it was sent with; an error at
//!   the account that sent it; a copy at an account that sent or got it.
//! - `nothing_comes_twice`: in one session without a crash between a message comes once, and so does a copy of it. Sent anew
//!   in a new session it may come again.
//! - `live_messages_keep_their_order`: those that come without a delay from one managed session.
//! - `what_is_addressed_keeps_its_order`: messages of all kinds, presence and IQs that one session sent to this very session, with
//!   a delay or without, live, resumed and after a restart.
//! - `an_orderly_stop_repeats_nothing`: what a client had before the server was stopped and started does not come again.
//! - `nobody_sees_a_session_blink`: over a resumption, also after a crash, no contact is told that the session went.
//! - `nobody_hears_who_is_blocked`: whatever comes and however long it has waited, once a block is known to be in force nothing from
//!   the blocked account is received, but for errors.
//! - `nobody_oversleeps`: in a world at rest no connection would have something to do if it were woken.
//! - `no_batch_breaks_a_rule`: a batch fails because of the disk, and never because the store does not accept it.
//! - `memory_is_counted_and_bounded`: sessions know what they hold, and hold no more than they may.
//! - `everything_drains`: when all clients are here and have read, nothing waits, is held, or is missed by anybody.
//! - `presence_agrees`: server and client agree on the client's presence, and clients on that of their contacts.
//! - `rosters_agree`: both sides of a subscription fit each other, and each client's picture of its roster the server's.
//! - `nothing_is_left_behind`: when everybody has gone no session, row or untaken entry is left, and idle accounts are let go.
//!
//! *Not promised, and not checked:* that nothing comes again after a kill; the order of what another session left behind.
//!
//! Every step draws from its own source of chance. So a run can be played again without some of its steps, and most of what is
//! left stays as it was: that is how [`shrink`] finds a shorter story.

mod blocks;
pub mod book;
pub mod checks;
mod ending;
mod hearing;
pub mod player;
pub mod shrink;
mod steps;
pub mod taste;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use vorpal_core::module::Module;
use vorpal_core::store::{Kind, LogQuery};
use vorpal_core::trace::{Step, Trace};
use vorpal_proto::jid::BareJid;
use vorpal_store::memory::{Disk, Fault};

use crate::disk::Medium;
use crate::link::Bell;
use crate::random::Random;
use crate::world::{HOST, Secrets, Setup, World};
use blocks::Blocks;
use book::{Directed, Message, ids_in};
use player::{Phase, Player, PlayerId};
use taste::Taste;

/// The hosts there may be.
const HOSTS: [&str; 2] = [HOST, "example.org"];

/// The accounts there may be.
const NAMES: [&str; 4] = ["romeo", "juliet", "tybalt", "nurse"];

/// So many of the latest commits a disk may forget.
const FORGETFUL: usize = 4;

/// What to play.
#[derive(Clone, Debug)]
pub struct Plan {
    /// chooses everything
    pub seed: u64,
    /// so many things happen
    pub steps: usize,
    /// these do not
    pub skip: BTreeSet<usize>,
    /// what the server decides is told in the story
    pub traced: bool,
}

/// Something does not hold.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// what does not
    pub rule: &'static str,
    /// in which way
    pub why: String,
    /// the step after which it did not; none at the end
    pub step: Option<usize>,
    /// what had happened
    pub story: Vec<String>,
}

/// What holds, or what does not.
pub type Check = Result<(), Wrong>;

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// messages sent
    pub messages: usize,
    /// times the server was killed
    pub crashes: usize,
    /// sessions that were resumed
    pub resumptions: usize,
}

/// A run. See the module's text.
pub struct Simulator {
    world: World,
    plan: Plan,
    taste: Taste,
    accounts: Vec<(String, &'static str)>,
    players: Vec<Player>,
    /// whose client is gone without a word, and whether what it was sent is counted: as [`World::ghosts`]
    ghosts: Vec<(PlayerId, bool)>,
    /// who ever left a connection without a word
    haunted: BTreeSet<PlayerId>,
    book: Vec<Message>,
    /// contacts whose subscription was changed, or who were blocked
    touched: BTreeSet<(usize, usize)>,
    /// the same, only for blocking
    blocked: BTreeSet<(usize, usize)>,
    /// what is known of blocks for certain
    blocks: Blocks,
    /// sessions that somebody saw go
    blinked: BTreeSet<(PlayerId, u32)>,
    /// full addresses, for ever: whose
    addresses: BTreeMap<String, (PlayerId, u32)>,
    crashes: u32,
    resumptions: usize,
    questions: u64,
    statuses: u64,
    /// stanzas sent by anybody
    orders: u64,
    /// presence and IQs to a session, by their ids
    directed: BTreeMap<String, Directed>,
    /// so many commits were made before the first step
    settled: u64,
    /// what was found where nobody could be told at once
    found: Option<Wrong>,
    log: Vec<String>,
    /// what follows the accounts
    traces: Vec<Trace>,
}

fn wrong(rule: &'static str, why: impl Into<String>) -> Wrong {
    Wrong { rule, why: why.into(), step: None, story: Vec::new() }
}

/// Plays a run. A panic is wrong as well.
///
/// # Errors
/// What does not hold, with the story that led to it.
pub fn play(plan: &Plan, modules: &'static [&'static Module], secrets: &Arc<Secrets>) -> Result<Tally, Wrong> {
    let taste = Taste::of(plan.seed);
    let disk = if taste.forgets { Disk::forgetful(FORGETFUL) } else { Disk::new() };
    let world = World::with(Setup {
        seed: plan.seed,
        medium: Medium::Memory(disk),
        passthrough: plan.seed & 1 == 0,
        modules: modules.to_vec(),
        sections: Vec::new(),
        hosts: &HOSTS[..taste.hosts],
        bounds: taste.bounds,
        secrets: secrets.clone(),
    });
    let mut simulator = Simulator {
        world,
        plan: plan.clone(),
        taste,
        accounts: Vec::new(),
        players: Vec::new(),
        ghosts: Vec::new(),
        haunted: BTreeSet::new(),
        book: Vec::new(),
        touched: BTreeSet::new(),
        blocked: BTreeSet::new(),
        blocks: Blocks::default(),
        blinked: BTreeSet::new(),
        addresses: BTreeMap::new(),
        crashes: 0,
        resumptions: 0,
        questions: 0,
        statuses: 0,
        orders: 0,
        directed: BTreeMap::new(),
        settled: 0,
        found: None,
        log: Vec::new(),
        traces: Vec::new(),
    };
    let end = catch_unwind(AssertUnwindSafe(|| simulator.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
        Err(wrong("nothing_panics", text))
    });
    match end {
        Ok(()) => Ok(Tally {
            messages: simulator.book.len(),
            crashes: simulator.crashes as usize,
            resumptions: simulator.resumptions,
        }),
        Err(wrong) => {
            simulator.tell_steps();
            Err(Wrong { story: std::mem::take(&mut simulator.log), ..wrong })
        }
    }
}

/// A step in one line.
fn brief(step: &Step) -> String {
    let text = format!("{step:?}");
    let parts = text.trim_start_matches("Step { ").trim_end_matches(" }").split(", ");
    let said = parts.filter(|part| !part.ends_with(": None") && !part.ends_with(": []") && !part.starts_with("at: "));
    said.collect::<Vec<_>>().join(", ").replace("Some(", "").replace([')', '"'], "")
}

impl Simulator {
    fn run(&mut self) -> Check {
        let taste = format!("{:?}", self.taste);
        self.note(|| taste);
        self.world.mood.homes.lock().watched = true;
        for (at, name) in NAMES.iter().take(self.taste.accounts).enumerate() {
            let host = HOSTS[at % self.taste.hosts];
            assert!(self.world.create_account_at(name, host));
            self.accounts.push(((*name).to_owned(), host));
            for base in ["a", "b", "c"].into_iter().take(self.taste.clients) {
                self.world.client_at(name, host, base);
                self.players.push(Player::new(at, base));
            }
        }
        self.follow();
        self.befriend()?;
        if let Medium::Memory(disk) = self.world.medium() {
            self.settled = disk.commits();
        }
        for at in (0..self.plan.steps).filter(|at| !self.plan.skip.contains(at)).collect::<Vec<_>>() {
            let mut random = Random::new(self.plan.seed.wrapping_mul(0x0010_0000_01B3).wrapping_add(at as u64));
            self.note(|| format!("-- {at}"));
            let done = self.step(&mut random).and_then(|()| self.hear().map(|_| ())).and_then(|()| self.told());
            done.map_err(|wrong| Wrong { step: Some(at), ..wrong })?;
        }
        self.end()
    }

    /// Everybody is everybody's friend.
    fn befriend(&mut self) -> Check {
        let first: Vec<PlayerId> =
            (0..self.accounts.len()).filter_map(|at| self.players.iter().position(|p| p.account == at)).collect();
        for id in &first {
            self.connect(*id, &mut Random::new(0));
            self.rest()?;
        }
        for kind in ["subscribe", "subscribed"] {
            for (at, id) in first.iter().enumerate() {
                for other in (0..self.accounts.len()).filter(|other| *other != at) {
                    let to = self.bare(other);
                    if self.players[*id].is_away() {
                        self.connect(*id, &mut Random::new(0));
                        self.rest()?;
                    }
                    self.send(*id, format!("<presence type='{kind}' to='{to}'/>"), None);
                    self.rest()?;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        self.tell_steps();
        self.log.push(what());
    }

    /// What the server decides is told from here on, if it is to be.
    fn follow(&mut self) {
        if !self.plan.traced {
            return;
        }
        let jids: Vec<BareJid> =
            (0..self.accounts.len()).map(|at| self.bare(at).parse().expect("an address")).collect();
        let follow = |jid| self.world.core().trace(jid, Arc::new(Bell::default())).expect("there is room for all");
        self.traces = jids.into_iter().map(follow).collect();
    }

    fn tell_steps(&mut self) {
        for (at, trace) in self.traces.iter().enumerate() {
            let of = &self.accounts[at].0;
            let steps = trace.take().0.into_iter().map(|step| format!("    {of}: {}", brief(&step)));
            self.log.extend(steps);
        }
    }

    fn name(&self, id: PlayerId) -> String {
        self.world.name(id)
    }

    fn bare(&self, account: usize) -> String {
        let (name, host) = &self.accounts[account];
        format!("{name}@{host}")
    }

    fn full(&self, id: PlayerId) -> String {
        format!("{}/{}", self.bare(self.players[id].account), self.world.clients[id].resource)
    }

    /// Goes on until nobody has anything to do.
    fn rest(&mut self) -> Check {
        loop {
            self.settle();
            if !self.hear()? {
                break;
            }
        }
        self.told()?;
        self.no_batch_breaks_a_rule()?;
        self.memory_is_counted_and_bounded()?;
        self.nobody_oversleeps()?;
        self.settle();
        Ok(())
    }

    /// What was found meanwhile.
    fn told(&mut self) -> Check {
        self.found.take().map_or(Ok(()), Err)
    }

    /// What a client has read it takes note of, before it loses its connection.
    fn hear_out(&mut self, id: PlayerId) {
        if let Err(wrong) = self.hear_one(id) {
            self.found.get_or_insert(wrong);
        }
    }

    fn settle(&mut self) {
        while !self.world.settle_or_die() {
            self.note(|| "the server died at a commit".into());
            self.crash(0);
        }
    }

    fn commit(&mut self) {
        if self.world.write_or_die().is_none() {
            self.note(|| "the server died at a commit".into());
            self.crash(0);
        }
    }

    fn tick(&mut self, time: Duration) {
        self.world.advance(time);
        self.world.tick();
    }

    /// The server is stopped by its operator, and starts again. It may be killed on the way.
    fn stop(&mut self) {
        self.note(|| "the server is stopped".into());
        self.world.mood.waits.store(false, Ordering::Relaxed);
        let mut alive = self.world.settle_or_die();
        if alive {
            self.world.core().suspend(self.world.now);
            alive = self.world.settle_or_die();
        }
        if alive {
            self.world.tick();
            alive = self.world.settle_or_die();
        }
        // A disk that fails may have kept the last word from being written.
        self.begin_anew(0, alive && !self.taste.failures);
    }

    /// The process dies, and the latest commits are forgotten.
    fn crash(&mut self, forget: usize) {
        self.begin_anew(forget, false);
    }

    /// The process ends, and a new one starts.
    fn begin_anew(&mut self, forget: usize, orderly: bool) {
        self.crashes += u32::from(!orderly);
        for at in (0..self.ghosts.len()).rev() {
            self.excuse_ghost(at);
        }
        self.ghosts.clear();
        for id in 0..self.players.len() {
            self.hear_out(id);
        }
        let lost: Vec<PlayerId> = (0..self.players.len()).filter(|id| self.world.clients[*id].is_connected()).collect();
        for id in &lost {
            self.excuse(*id);
        }
        // The accounts stay.
        let since = match self.world.medium() {
            Medium::Memory(disk) => disk.commits().saturating_sub(self.settled),
            Medium::Sqlite(_) => 0,
        };
        let forget = forget.min(since as usize);
        self.tell_steps();
        self.traces.clear();
        self.world.lose_power(forget);
        self.follow();
        self.look_for_homes();
        for id in lost {
            self.lost(id);
        }
        for player in &mut self.players {
            player.restarted(orderly);
        }
        if forget > 0 {
            self.blocks.forget();
            // What was promised may be gone; from here on everything is promised again.
            for (player, client) in self.players.iter_mut().zip(&mut self.world.clients) {
                player.end();
                player.again.clear();
                client.smacks = None;
            }
            for message in &mut self.book {
                message.excused = true;
            }
            for one in 0..self.accounts.len() {
                self.touched.extend((0..self.accounts.len()).map(|other| (one, other)));
            }
        }
    }

    /// What was committed when the server died, and nobody was told of.
    fn look_for_homes(&mut self) {
        let mut found = Vec::new();
        for (name, host) in self.accounts.clone() {
            let mut reader = self.world.reader();
            let owner = reader.find(Kind::Account, host, &name).expect("the store can be read");
            let Some(owner) = owner.map(|row| row.owner) else { continue };
            let all = LogQuery { limit: usize::MAX, ..LogQuery::default() };
            found.extend(reader.log_range(owner, all).expect("the store can be read").into_iter().map(|e| e.body));
            for row in reader.load(owner, usize::MAX).expect("the store can be read") {
                self.world.mood.homes.lock().note_row(&row.row);
            }
        }
        found.iter().for_each(|body| self.world.mood.homes.lock().note_entry(body));
    }

    /// What is on the way to a client without stream management is lost with its connection: by then it counts as taken.
    fn excuse(&mut self, id: PlayerId) {
        let client = &self.world.clients[id];
        let counted = client.smacks.as_ref().is_some_and(|smacks| smacks.enabled);
        let Some(link) = client.link.as_ref().filter(|_| !counted) else { return };
        let bytes = [client.unread(), &link.down].concat();
        self.excuse_bytes(&bytes);
    }

    fn excuse_ghost(&mut self, at: usize) {
        if let (Some((_, false)), Some(ghost)) = (self.ghosts.get(at), self.world.ghosts.get(at)) {
            let bytes = ghost.down.clone();
            self.excuse_bytes(&bytes);
        }
    }

    fn excuse_bytes(&mut self, bytes: &[u8]) {
        let end = bytes.windows(8).position(|w| w == b"<enabled").unwrap_or(bytes.len());
        let lost = ids_in(&bytes[..end]);
        if !lost.is_empty() {
            self.note(|| format!("lost on the way: {lost:?}"));
        }
        for number in lost {
            if let Some(message) = self.book.get_mut(number as usize) {
                message.excused = true;
            }
        }
    }

    /// The client has no connection any more; [`Simulator::excuse`] comes before.
    fn lost(&mut self, id: PlayerId) {
        self.world.clients[id].link = None;
        let smacks = self.world.clients[id].smacks.as_ref();
        let resumable = smacks.is_some_and(|smacks| smacks.enabled && smacks.token.is_some());
        let closing = matches!(self.players[id].phase, Phase::Closing);
        self.players[id].phase = Phase::Away;
        if !resumable || closing {
            self.players[id].end();
            self.world.clients[id].smacks = None;
        }
    }

    /// The disk has a moment of peace.
    fn soothe(&mut self) {
        self.world.mood.refuses.store(false, Ordering::Relaxed);
        self.world.mood.waits.store(false, Ordering::Relaxed);
        if let Medium::Memory(disk) = self.world.medium() {
            // A delay that is over takes the place of whatever was planned.
            disk.next(Fault::Delay);
            disk.release();
        }
    }
}
