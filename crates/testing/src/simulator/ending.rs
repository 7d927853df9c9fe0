//! The end of a run: all clients connect and read everything, then all disconnect; and the rules that must hold then.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use vorpal_core::owner::roster;
use vorpal_core::store::{Direction, Kind, LogQuery};
use vorpal_proto::jid::BareJid;

use super::player::{Contact, Phase, PlayerId};
use super::{Check, Simulator, wrong};
use crate::link::Weather;
use crate::random::Random;

/// Maximum number of login attempts of all clients before the run fails.
const ROUNDS: usize = 12;

impl Simulator {
    pub(super) fn end(&mut self) -> Check {
        self.note(|| "-- the end begins".into());
        self.calm_down()?;
        self.all_accounts_are_there()?;
        self.everybody_comes()?;
        // Sessions that their clients have forgotten have ended; connections that vanished have been noticed by now.
        self.tick(Duration::from_secs(3_600));
        self.rest()?;
        self.everybody_reads()?;
        self.everything_drains(false)?;
        self.whatever_is_handled_is_answered()?;
        for id in 0..self.players.len() {
            self.everybody_comes()?;
            self.announce(id, Some(0));
            self.rest()?;
        }
        self.everybody_reads()?;
        self.everything_drains(true)?;
        self.nothing_acknowledged_is_lost()?;
        self.every_question_is_answered()?;
        self.presence_agrees()?;
        self.rosters_agree()?;
        for id in 0..self.players.len() {
            self.nobody_sees_a_session_blink(id)?;
        }
        self.everybody_goes()?;
        self.nothing_of_the_deleted_is_left()?;
        self.nothing_is_left_behind()
    }

    /// No more faults.
    fn calm_down(&mut self) -> Check {
        self.soothe();
        for client in &mut self.world.clients {
            if let Some(link) = &mut client.link {
                link.weather = Weather::default();
            }
        }
        for ghost in &mut self.world.ghosts {
            ghost.weather.up_held = false;
        }
        self.rest()?;
        for at in (0..self.ghosts.len()).rev() {
            self.exorcise(at);
        }
        self.rest()
    }

    /// A session that its client does not resume ends after a while.
    fn everybody_comes(&mut self) -> Check {
        let mut lives = self.lives();
        for _ in 0..ROUNDS {
            let before = std::mem::replace(&mut lives, self.lives());
            if lives != before {
                self.tick(Duration::from_secs(3_600));
                self.rest()?;
            }
            if self.players.iter().all(super::player::Player::is_in) {
                return Ok(());
            }
            for id in 0..self.players.len() {
                if self.players[id].is_away() {
                    self.connect(id, &mut Random::new(id as u64));
                    if let Some(link) = &mut self.world.clients[id].link {
                        link.weather = Weather::default();
                    }
                    self.rest()?;
                }
            }
            self.tick(Duration::from_secs(1));
            self.rest()?;
        }
        let out = (0..self.players.len()).filter(|id| !self.players[*id].is_in()).map(|id| self.name(id));
        Err(wrong("everything_drains", format!("{:?} cannot come in", out.collect::<Vec<_>>())))
    }

    /// Number of new sessions, not counting resumptions.
    fn lives(&self) -> u32 {
        self.players.iter().map(|player| player.life).sum()
    }

    fn everybody_reads(&mut self) -> Check {
        // A client that is sent little at a time, and more only after an acknowledgement, needs many rounds.
        let mut heard = self.log.len();
        for round in 0..200 {
            if round > 2 && !self.log[heard..].iter().any(|line| line.contains(" < ") && !line.contains(" < a ")) {
                break;
            }
            heard = self.log.len();
            // With tiny limits, a client that is sent much at once loses its connection because of it.
            self.everybody_comes()?;
            for id in 0..self.players.len() {
                self.say(id, "<active xmlns='urn:xmpp:csi:0'/>");
                if self.players[id].counting {
                    self.say(id, "<r xmlns='urn:xmpp:sm:3'/>");
                }
            }
            self.rest()?;
            for id in 0..self.players.len() {
                self.acknowledge(id);
            }
            self.rest()?;
            self.tick(Duration::from_secs(2));
            self.rest()?;
        }
        Ok(())
    }

    /// Nothing waits, is held, or is missed. `all`: at any account; otherwise at accounts with a session that takes messages.
    fn everything_drains(&mut self, all: bool) -> Check {
        const RULE: &str = "everything_drains";
        for (id, player) in self.players.iter().enumerate() {
            if player.counting && player.acked != player.sent {
                let name = self.name(id);
                return Err(wrong(RULE, format!("{name}: {} were sent and {} handled", player.sent, player.acked)));
            }
        }
        let core = self.world.core().clone();
        if core.in_flight() != 0 {
            return Err(wrong(RULE, format!("{} batches never came back", core.in_flight())));
        }
        for lock in core.all_loaded() {
            let account = core.report(&lock);
            let busy = account.sessions.iter().any(|session| {
                let s = &session.stream;
                s.queued + s.held + s.unacked + s.deferred > 0
                    || s.reading
                    || s.unsettled > 0
                    || s.owes_ack
                    || !s.attached
            });
            let takes = account.sessions.iter().any(|session| session.priority.is_some_and(|p| p >= 0));
            if account.waiting > 0 || account.held > 0 || (all || takes) && (busy || account.missed) {
                return Err(wrong(RULE, format!("something waits, is held, or missed: {account:?}")));
            }
            let left = self.untaken(&account.jid, account.cursor)?;
            if (all || takes) && left > 0 {
                return Err(wrong(RULE, format!("somebody could take what is left, {left} entries: {account:?}")));
            }
        }
        Ok(())
    }

    /// Number of received entries of the account above the cursor.
    fn untaken(&mut self, jid: &str, cursor: u64) -> Result<usize, super::Wrong> {
        let broken = |error| wrong("the store can be read", format!("{error}"));
        let Some((name, host)) = jid.split_once('@') else { return Ok(0) };
        let mut reader = self.world.reader();
        let Some(row) = reader.find(Kind::Account, host, name).map_err(broken)? else { return Ok(0) };
        let query = LogQuery { after: cursor, limit: 10_000, ..LogQuery::default() };
        let left = reader.log_range(row.owner, query).map_err(broken)?;
        Ok(left.iter().filter(|entry| entry.dir != Direction::Sent).count())
    }

    fn nothing_acknowledged_is_lost(&self) -> Check {
        let mut lost = String::new();
        let homes = self.world.mood.homes.lock();
        for (number, message) in self.book.iter().enumerate() {
            let sender = &self.players[message.from];
            // If the session has continued, without a crash, its stanzas were handled, whatever its stream.
            let whole = sender.life == message.life && message.epoch == self.crashes && message.copies == 1;
            let due = message.promised && (message.acked || whole && !sender.manner.careless);
            // Without stream management the sender learns of a failed batch only from the error.
            let failed = !message.acked && homes.failed.contains(&number.to_string());
            // A message that waited when the receiver blocked its sender is withheld.
            let blocked = message.to.is_some_and(|to| self.blocks.may_have_caught(number as u64, (to, sender.account)));
            let excused = message.excused || failed || blocked || self.went_with_its_account(&homes, number);
            if due && !message.bounced && !message.received && !excused {
                let _ = write!(lost, " {number} ({message:?})");
            }
        }
        if lost.is_empty() { Ok(()) } else { Err(wrong("nothing_acknowledged_is_lost", format!("lost:{lost}"))) }
    }

    fn presence_agrees(&self) -> Check {
        const RULE: &str = "presence_agrees";
        let core = self.world.core();
        for (id, player) in self.players.iter().enumerate() {
            let name = self.name(id);
            let account = core.loaded(&self.bare(player.account));
            let account = account.ok_or_else(|| wrong(RULE, format!("{name} is here, and its account is not")))?;
            let account = account.lock();
            let session = account.by_resource(&self.world.clients[id].resource);
            let priority = session.and_then(|session| session.priority());
            if priority != player.priority {
                let why = format!("{name} is available with {:?}, for the server with {priority:?}", player.priority);
                return Err(wrong(RULE, why));
            }
        }
        if self.taste.tiny {
            // At the limit, presence is left out.
            return Ok(());
        }
        for (id, player) in self.players.iter().enumerate() {
            self.sees_who_is_there(id)?;
            // After a crash contacts are not told who did not come back.
            if player.crashes > 0 || player.left {
                continue;
            }
            for (address, status) in &player.presences {
                let Some(&(other, life)) = self.addresses.get(address) else { continue };
                let pair = (player.account, self.players[other].account);
                let here = self.players[other].life == life && self.full(other) == *address;
                if status.is_some() && !here && !self.touched.contains(&pair) {
                    let why = format!("{} still sees {address}, who is gone", self.name(id));
                    return Err(wrong(RULE, why));
                }
            }
        }
        Ok(())
    }

    fn sees_who_is_there(&self, id: PlayerId) -> Check {
        let player = &self.players[id];
        for (other, theirs) in self.players.iter().enumerate() {
            if player.account != theirs.account && self.are_parted(player.account, theirs.account) {
                let seen = player.presences.get(&self.full(other)).copied().flatten();
                if seen.is_some() && player.crashes == 0 && !player.left {
                    let why = format!("{} sees {}, a stranger, with {seen:?}", self.name(id), self.full(other));
                    return Err(wrong("strangers_see_nothing", why));
                }
                continue;
            }
            if self.touched.contains(&(player.account, theirs.account)) {
                continue;
            }
            let seen = player.presences.get(&self.full(other)).copied().flatten();
            if seen != Some(theirs.status) {
                let why = format!("{} sees {} with {seen:?}, not {}", self.name(id), self.full(other), theirs.status);
                return Err(wrong("presence_agrees", why));
            }
        }
        Ok(())
    }

    fn rosters_agree(&self) -> Check {
        const RULE: &str = "rosters_agree";
        let core = self.world.core();
        let mut rosters: Vec<BTreeMap<String, (Contact, bool)>> = Vec::new();
        for at in 0..self.accounts.len() {
            let Some(lock) = core.loaded(&self.bare(at)) else {
                return Err(wrong(RULE, format!("{} is not loaded", self.bare(at))));
            };
            let account = lock.lock();
            let (_, rows) = core.roster(&account);
            let row = |(jid, item): (&BareJid, &roster::RosterItem)| {
                let subscription = item.subscription.as_str().to_owned();
                let contact = Contact { subscription, ask: item.ask, name: item.name.clone() };
                (jid.to_string(), (contact, item.listed))
            };
            rosters.push(rows.iter().map(row).collect());
        }
        for one in 0..self.accounts.len() {
            for other in (0..self.accounts.len()).filter(|other| *other != one) {
                let state = |a: usize, b: usize| {
                    rosters[a]
                        .get(&self.bare(b))
                        .map_or("none", |(contact, _)| contact.subscription.as_str())
                        .to_owned()
                };
                let (mine, theirs) = (state(one, other), state(other, one));
                let sees = matches!(mine.as_str(), "to" | "both");
                let shows = matches!(theirs.as_str(), "from" | "both");
                let pair = (one, other);
                if sees != shows && !self.blocked.contains(&pair) {
                    let why = format!("{} has {mine} of {}, who has {theirs}", self.bare(one), self.bare(other));
                    return Err(wrong(RULE, why));
                }
            }
        }
        for (id, player) in self.players.iter().enumerate() {
            let Some(picture) = player.roster.as_ref().filter(|_| player.crashes == 0 && !self.taste.tiny) else {
                continue;
            };
            let listed: BTreeMap<String, Contact> = rosters[player.account]
                .iter()
                .filter(|(_, (_, listed))| *listed)
                .map(|(jid, (contact, _))| (jid.clone(), contact.clone()))
                .collect();
            if *picture != listed {
                let why = format!("{} believes {picture:?}, and the server {listed:?}", self.name(id));
                return Err(wrong(RULE, why));
            }
        }
        Ok(())
    }

    fn everybody_goes(&mut self) -> Check {
        for id in 0..self.players.len() {
            self.say(id, "</stream:stream>");
            self.players[id].phase = Phase::Closing;
            self.rest()?;
        }
        // Deleting from a log in pieces takes some rounds, and until then its account is in use.
        for round in 0..64 {
            self.tick(Duration::from_secs(3_600));
            self.rest()?;
            if round >= 2 && self.world.core().all_loaded().is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn nothing_is_left_behind(&mut self) -> Check {
        const RULE: &str = "nothing_is_left_behind";
        if let Some(id) = (0..self.players.len()).find(|id| !self.players[*id].is_away()) {
            return Err(wrong(RULE, format!("{} closed its stream and was not answered", self.name(id))));
        }
        let core = self.world.core().clone();
        for lock in core.all_loaded() {
            let account = core.report(&lock);
            if !account.sessions.is_empty() || account.waiting > 0 || account.dirty {
                return Err(wrong(RULE, format!("{account:?}")));
            }
        }
        if self.taste.bounds.idle_accounts == 0 && !core.all_loaded().is_empty() {
            let left: Vec<String> = core.all_loaded().iter().map(|lock| lock.jid.to_string()).collect();
            return Err(wrong(RULE, format!("accounts that nobody uses are still loaded: {left:?}")));
        }
        let accounts = self.accounts.clone();
        for (name, host) in accounts {
            let mut reader = self.world.reader();
            let broken = |error| wrong(RULE, format!("the store cannot be read: {error}"));
            let maps = reader.maps().map_err(broken)?;
            let Some(owner) = reader.find(Kind::Account, host, &name).map_err(broken)?.map(|row| row.owner) else {
                return Err(wrong(RULE, format!("{name} is gone")));
            };
            let rows = reader.load(owner, 10_000).map_err(broken)?;
            for row in &rows {
                let map = maps.iter().find(|(id, _)| *id == row.map).map_or("", |(_, map)| map);
                // A row of an ended session whose deletion failed stays: see 0009, "Known, and excluded from the checks".
                if (map == "session" || map == "progress") && !self.taste.failures {
                    return Err(wrong(RULE, format!("{name} has a row of {map} left: {row:?}")));
                }
            }
            let cursor = rows.iter().filter(|row| maps.iter().any(|(id, map)| *id == row.map && **map == *"cursor"));
            let taken = |text: &str| text.trim_matches(['[', ']']).split(',').next()?.parse::<u64>().ok();
            let cursor = cursor.filter_map(|row| taken(std::str::from_utf8(&row.row.value).ok()?)).max();
            let untaken = self.untaken(&format!("{name}@{host}"), cursor.unwrap_or(0))?;
            if untaken > 0 && !self.taste.failures {
                let rows: Vec<_> = rows.iter().map(|row| (row.map, String::from_utf8_lossy(&row.row.value))).collect();
                let why = format!("{name} has {untaken} entries that nobody took, cursor {cursor:?}, {rows:?}");
                return Err(wrong(RULE, why));
            }
        }
        Ok(())
    }
}
