//! A random world, determined by a seed: accounts on one or two hosts, clients of different kinds that come and go, a network that
//! delays and breaks connections, a disk that is slow, fails and loses data, a server that is killed. See docs/decisions/0009.
//!
//! The rules, each a function of this name in [`checks`]:
//!
//! - `counts_go_forward`: the server's count of handled stanzas never decreases, not even across a crash, and never exceeds the number
//!   sent.
//! - `acknowledged_is_stored`: an acknowledged stanza is in a log by then, as it was sent or as the error that it resulted in; and a
//!   stream that was closed in order has acknowledged everything.
//! - `whatever_is_handled_is_answered`: a session's request gets an answer in that session, and if nobody killed the server
//!   `nothing_is_answered_twice`.
//! - `answered_is_stored`: a roster change is on the disk before its answer is received.
//! - `nothing_acknowledged_is_lost`: in the end it was received, or returned as an error. Without a crash, a failed batch or a lost
//!   connection this holds for everything except stanzas that are never promised.
//! - `nobody_gets_what_is_for_others`: a message arrives at the account it is for, with the body it was sent with; an error at
//!   the account that sent it; a copy at an account that sent or got it.
//! - `nothing_comes_twice`: within one session, without a crash in between, a message arrives once, and so does a copy of it. If it is
//!   resent in a new session it may arrive again.
//! - `live_messages_keep_their_order`: messages without a delay from one managed session arrive in order.
//! - `what_is_addressed_keeps_its_order`: messages of all kinds, presence and IQs from one session to this very session arrive in
//!   order, with a delay or without, live, resumed and after a restart.
//! - `an_orderly_stop_repeats_nothing`: stanzas that a client had before the server was stopped and started do not arrive again.
//! - `nobody_sees_a_session_blink`: during a resumption, even after a crash, no contact is told that the session went away.
//! - `nobody_hears_who_is_blocked`: once a block is known to be in force, nothing from the blocked account is received except
//!   errors, whatever it is and however long it has waited.
//! - `nobody_oversleeps`: in a settled world no connection would have something to do if it were woken.
//! - `no_batch_breaks_a_rule`: a batch fails because of the disk, and never because the store does not accept it.
//! - `memory_is_counted_and_bounded`: sessions know what they hold, and do not exceed their limits.
//! - `everything_drains`: when all clients are connected and have read, nothing waits, is held, or is missed.
//! - `presence_agrees`: server and client agree on the client's presence, and clients on that of their contacts.
//! - `rosters_agree`: both sides of a subscription match, and each client's view of its roster matches the server's.
//! - `answered_once`: an IQ gets one answer and no second one; if nothing was lost on the way, it gets one.
//! - `who_may_not_come_in_does_not`: nobody logs in, binds or resumes with a wrong password, to an account that is disabled or
//!   deleted, or to a session that ended with either or with a new password; and whoever may, can.
//! - `a_new_owner_inherits_nothing`: nothing that was for, or of, a deleted account reaches the next account of its name: messages,
//!   errors and copies, contacts and requests, rows and entries.
//! - `who_is_gone_is_gone`: no contact has a subscription to or from a deleted account, sees a session of it, or is told of one
//!   later; and a disabled or deleted account answers IQs like one that never existed.
//! - `strangers_see_nothing`: no presence and no request reaches anybody without a subscription.
//! - `a_name_is_given_once`: an account is created if its name is free, and only then.
//! - `nothing_is_left_behind`: when all clients have gone, no session, row or untaken entry is left, and idle accounts are evicted.
//!
//! *Not promised, and not checked:* that nothing is repeated after a kill; the order of stanzas that another session left behind.
//!
//! Every step has its own source of randomness. So a run can be replayed without some of its steps, and most of the rest stays the
//! same: that is how [`shrink`] finds a shorter story.

mod blocks;
pub mod book;
pub mod checks;
mod ending;
mod hearing;
mod operator;
mod owners;
pub mod player;
pub mod shrink;
mod steps;
pub mod taste;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use vorpal::Program;
use vorpal_core::core::watched::Trace;
use vorpal_core::module::Module;
use vorpal_core::store::{EntryId, Kind, LogQuery, Owner};
use vorpal_core::watch::trace::Step;
use vorpal_proto::jid::BareJid;
use vorpal_store::memory::{Disk, Fault};

use crate::disk::Medium;
use crate::link::Bell;
use crate::random::Random;
use crate::world::{HOST, Secrets, Setup, World, configuration};
use blocks::Blocks;
use book::{Directed, Message, Question, ids_in};
use owners::Name;
use player::{Phase, Player, PlayerId};
use taste::Taste;

/// The possible hosts.
const HOSTS: [&str; 2] = [HOST, "example.org"];

/// The possible accounts.
const NAMES: [&str; 4] = ["romeo", "juliet", "tybalt", "nurse"];

/// Maximum number of commits that a power failure loses.
const FORGETFUL: usize = 4;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// determines everything
    pub seed: u64,
    /// number of steps
    pub steps: usize,
    /// steps to leave out
    pub skip: BTreeSet<usize>,
    /// the operator does nothing, as when the stories that are always played were first found
    pub quiet: bool,
    /// whether the story contains the server's decisions
    pub traced: bool,
}

/// A violated rule.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// the name of the rule
    pub rule: &'static str,
    /// how it was violated
    pub why: String,
    /// the step after which it was violated; `None` at the end
    pub step: Option<usize>,
    /// the events before
    pub story: Vec<String>,
}

/// The result of a check.
pub type Check = Result<(), Wrong>;

/// The result of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// messages sent
    pub messages: usize,
    /// times the server was killed
    pub crashes: usize,
    /// sessions that were resumed
    pub resumptions: usize,
    /// accounts that were deleted
    pub deletions: usize,
    /// what the operator asked for and was done
    pub orders: usize,
}

/// A run. See the module's text.
pub struct Simulator {
    world: World,
    plan: Plan,
    taste: Taste,
    accounts: Vec<(String, &'static str)>,
    /// what is known of them, by the same numbers
    names: Vec<Name>,
    /// what the operator waits for
    jobs: Vec<operator::Job>,
    /// accounts that were deleted, by their numbers in the store
    deleted: BTreeSet<Owner>,
    /// what is logged from here on is not for those that are being removed, by the same numbers
    leaving: BTreeMap<Owner, EntryId>,
    /// orders that were carried out
    obeyed: usize,
    /// no more faults, and nobody tries what must fail
    ending: bool,
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
    /// times the server was started anew, after a crash or in order
    restarts: u32,
    resumptions: usize,
    questions: u64,
    statuses: u64,
    /// stanzas sent by anybody
    orders: u64,
    /// presence and IQs to a session, by their ids
    directed: BTreeMap<String, Directed>,
    /// IQs to others, by their ids
    asked: BTreeMap<String, Question>,
    /// by address: with which password its session was bound last
    admitted: BTreeMap<String, usize>,
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

/// Runs a seed. A panic counts as a violation.
///
/// # Errors
/// The violated rule, with the story that led to it.
pub fn play(plan: &Plan, modules: &'static [&'static Module], secrets: &Arc<Secrets>) -> Result<Tally, Wrong> {
    let taste = Taste { operator: Taste::of(plan.seed).operator && !plan.quiet, ..Taste::of(plan.seed) };
    let disk = if taste.forgets { Disk::forgetful(FORGETFUL) } else { Disk::new() };
    let program = Program { modules, sections: vorpal_modules::SECTIONS };
    let settings = format!("hosts = {:?}\nxml.passthrough = {}", &HOSTS[..taste.hosts], plan.seed & 1 == 0);
    let world = World::with(Setup {
        seed: plan.seed,
        medium: Medium::Memory(disk),
        program,
        config: configuration(program, &settings).expect("a configuration"),
        bounds: Some(taste.bounds),
        secrets: secrets.clone(),
    });
    let mut simulator = Simulator {
        world,
        plan: plan.clone(),
        taste,
        accounts: Vec::new(),
        names: Vec::new(),
        jobs: Vec::new(),
        deleted: BTreeSet::new(),
        leaving: BTreeMap::new(),
        obeyed: 0,
        ending: false,
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
        restarts: 0,
        resumptions: 0,
        questions: 0,
        statuses: 0,
        orders: 0,
        directed: BTreeMap::new(),
        asked: BTreeMap::new(),
        admitted: BTreeMap::new(),
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
            deletions: simulator.deleted.len(),
            orders: simulator.obeyed,
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
        self.names_begin();
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

    /// Makes all accounts contacts of each other.
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

    /// Traces the server's decisions from here on, if requested.
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

    /// Runs until nothing is left to do.
    fn rest(&mut self) -> Check {
        loop {
            self.settle();
            let worked = self.operate();
            if !(self.hear()? || worked) {
                break;
            }
        }
        self.told()?;
        self.who_may_not_come_in_does_not()?;
        self.no_batch_breaks_a_rule()?;
        self.memory_is_counted_and_bounded()?;
        self.nobody_oversleeps()?;
        self.settle();
        Ok(())
    }

    /// The violations found meanwhile.
    fn told(&mut self) -> Check {
        self.found.take().map_or(Ok(()), Err)
    }

    /// A client processes what it has read, before it loses its connection.
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
        self.take_facts();
    }

    fn commit(&mut self) {
        if self.world.write_or_die().is_none() {
            self.note(|| "the server died at a commit".into());
            self.crash(0);
        }
        self.take_facts();
    }

    fn tick(&mut self, time: Duration) {
        self.world.beat_for(time);
    }

    /// The operator stops and starts the server. It may be killed in between.
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
        // A failing disk may have prevented the final checkpoint from being written.
        self.begin_anew(0, alive && !self.taste.failures);
    }

    /// The process dies, and the latest commits are lost.
    fn crash(&mut self, forget: usize) {
        self.begin_anew(forget, false);
    }

    /// The process ends, and a new one starts.
    fn begin_anew(&mut self, forget: usize, orderly: bool) {
        self.crashes += u32::from(!orderly);
        self.restarts += 1;
        // What clients hear last may be of what was committed last.
        self.take_facts();
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
        self.names_after_a_crash(forget > 0);
        self.jobs.clear();
        for id in lost {
            self.lost(id);
        }
        for player in &mut self.players {
            player.restarted(orderly);
        }
        if forget > 0 {
            self.blocks.forget();
            // Promised stanzas may be lost; from here on promises are checked again.
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

    /// Commits that were made when the server died, and were not reported.
    fn look_for_homes(&mut self) {
        let mut found = Vec::new();
        for (name, host) in self.accounts.clone() {
            let mut reader = self.world.reader();
            let owner = reader.find(Kind::Account, host, &name).expect("the store can be read");
            let Some(owner) = owner.map(|row| row.owner) else { continue };
            let all = LogQuery { limit: usize::MAX, ..LogQuery::default() };
            let entries = reader.log_range(owner, all).expect("the store can be read");
            found.extend(entries.into_iter().map(|entry| (entry, owner)));
            for row in reader.load(owner, usize::MAX).expect("the store can be read") {
                self.world.mood.homes.lock().note_row(&row.row);
            }
        }
        found.iter().for_each(|(entry, owner)| self.world.mood.homes.lock().note_entry(entry, *owner));
    }

    /// Stanzas in transit to a client without stream management are lost with its connection: they already count as taken.
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

    /// The client has no connection any more; [`Simulator::excuse`] must be called before.
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

    /// The disk works normally for a moment.
    fn soothe(&mut self) {
        self.world.mood.refuses.store(false, Ordering::Relaxed);
        self.world.mood.waits.store(false, Ordering::Relaxed);
        if let Medium::Memory(disk) = self.world.medium() {
            // The end of a delay replaces any planned fault.
            disk.next(Fault::Delay);
            disk.release();
        }
    }
}
