//! Transcripts: what clients send and what they must receive (`tests/scenarios/*.txt`).
//!
//! ```text
//! # a comment
//! scene what happens
//!   account mercutio
//!   romeo and juliet are friends
//!   romeo/orchard, romeo/home: online, carbons
//!   romeo/orchard > <message to='juliet@x' type='chat'><body>hi</body></message>
//!   juliet/balcony < <message from='romeo@x/orchard' type='chat'><body>hi</body></message>
//!   +5m
//! ```
//!
//! `@x` and `'x'` stand for the first host. `>` sends the text as it is; `<` receives: see [`crate::pattern`]. A line with deeper
//! indentation continues the line before. The order is strict within an actor and free between actors. A scene must end without
//! unread stanzas. An account exists from the first mention of one of its actors.
//!
//! The server has the configuration that it has without a file: all modules that are on by default, and all defaults. A scene that
//! needs something else says so, in its first lines:
//!
//! - `without mam` switches a module off.
//! - `setting modules.mam.keep = '30d'` sets a key, as a line at the top of the file does.
//! - `host example.net` adds a host. Its accounts and clients are called `rosaline@example.net` and `rosaline@example.net/balcony`.
//!
//! `actor: state, option, …` brings an actor to a state. States: `connected` (nothing is sent), `opened` (a stream),
//! `authenticated`, `bound`, `online` (bound and available). Options: `carbons`, `smacks` (the server's `<r/>` is answered and not
//! shown), `mute` (not answered), `roster`, `blocklist` (requested), `inactive` (XEP-0352), `priority -1`.
//! The consequences are not shown: answers, and presence from and to these actors; messages and requests are.
//!
//! Events: `+1h5m3s`, `server restarts`, `server crashes`, `disk refuses writes`,
//! `disk refuses one write` (only the next batch), `disk waits`, `disk recovers`, `actor loses connection`,
//! `operator removes romeo`, `operator adds romeo`, `operator disables romeo`, `operator enables romeo`,
//! `actor hears nothing` (everything sent to it is lost), `actor resumes`,
//! `actor resumes at 3` (with the server's count). The token of an actor's
//! session is `{romeo/orchard}`. `actor < (closed)` is a socket closed without an end of the stream.
//!
//! With `UPDATE=1` in the environment, received stanzas are written into the file. Ids that an archive gave to messages are written as
//! names: `{m1.juliet}` is the id of the message `m1` in the archive of juliet. Different names stand for different ids.

mod archive_ids;
mod settings;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use vorpal::Program;
use vorpal_proto::element::Element;
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns;

use crate::client::Heard;
use crate::disk::{Medium, Store};
use crate::pattern::{self, Captures};
use crate::world::{ClientId, HOST, Secrets, Setup, World, configuration};

/// How scenes are run.
#[derive(Clone, Copy)]
pub struct Stage {
    /// where the server stores
    pub store: Store,
    /// whether bytes pass through
    pub passthrough: bool,
    /// the modules of each host
    pub program: Program,
    /// whether the expected stanzas are rewritten
    pub update: bool,
}

/// A line, with its continuation lines.
#[derive(Clone, Debug)]
struct Line {
    /// its line number, from 0
    at: usize,
    /// the line after it
    end: usize,
    text: String,
}

#[derive(Clone, Debug)]
struct Scene {
    name: String,
    lines: Vec<Line>,
}

/// Changes to the file: replaced lines, with optional insertions before them.
#[derive(Debug, Default)]
struct Edits(Vec<(usize, usize, String)>);

/// Runs all scenes of a file. Returns their number.
///
/// # Errors
/// The failures, scene by scene.
pub fn play_file(path: &Path, stage: Stage) -> Result<usize, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let scenes = read(&text).map_err(|(line, why)| format!("{name}:{}: {why}", line + 1))?;
    let (mut wrong, mut edits) = (Vec::new(), Edits::default());
    for scene in &scenes {
        let mut player = Player::new(stage, scene)?;
        if let Err((line, why)) = player.play(scene) {
            wrong.push(format!("{name}:{}: scene {}\n{why}", line + 1, scene.name));
        }
        edits.0.append(&mut player.edits.0);
    }
    if stage.update && !edits.0.is_empty() {
        std::fs::write(path, edits.apply(&text)).map_err(|error| format!("{name}: {error}"))?;
    }
    if wrong.is_empty() { Ok(scenes.len()) } else { Err(wrong.join("\n\n")) }
}

type Wrong = (usize, String);

fn read(text: &str) -> Result<Vec<Scene>, Wrong> {
    let mut scenes: Vec<Scene> = Vec::new();
    let mut depth = 0;
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        let indent = line.len() - line.trim_start().len();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix("scene ").filter(|_| indent == 0) {
            scenes.push(Scene { name: name.to_owned(), lines: Vec::new() });
            continue;
        }
        let scene = scenes.last_mut().ok_or((at, "a line before the first scene".to_owned()))?;
        match scene.lines.last_mut() {
            Some(before) if indent > depth => {
                if !trimmed.starts_with('<') {
                    before.text.push(' ');
                }
                before.text.push_str(trimmed);
                before.end = at + 1;
            }
            _ => {
                depth = indent;
                scene.lines.push(Line { at, end: at + 1, text: trimmed.to_owned() });
            }
        }
    }
    Ok(scenes)
}

impl Edits {
    fn apply(mut self, text: &str) -> String {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        self.0.sort_by_key(|(at, end, _)| (*at, *end));
        for (at, end, new) in self.0.into_iter().rev() {
            lines.splice(at..end, new.lines().map(str::to_owned));
        }
        lines.join("\n") + "\n"
    }
}

/// The host's name for its short form: `x` alone after `@`, or as a value or the domain of one.
fn expand(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let begins = out.ends_with('@') || out.ends_with("='");
        let ends = text[at + c.len_utf8()..].chars().next().is_none_or(|next| "/'\"<> ".contains(next));
        if c == 'x' && begins && ends {
            out.push_str(HOST);
        } else {
            out.push(c);
        }
    }
    out
}

fn shorten(text: &str) -> String {
    text.replace(&format!("@{HOST}"), "@x")
        .replace(&format!("='{HOST}'"), "='x'")
        .replace(&format!("='{HOST}/"), "='x/")
}

/// The address of an account by its name in a scene: `romeo`, or `romeo@example.org` on a host that the scene declares.
fn address(account: &str) -> String {
    if account.contains('@') { account.to_owned() } else { format!("{account}@{HOST}") }
}

struct Player {
    world: World,
    update: bool,
    captures: Captures,
    actors: Vec<String>,
    accounts: Vec<String>,
    edits: Edits,
}

impl Player {
    fn new(stage: Stage, scene: &Scene) -> Result<Player, String> {
        let lines = scene.lines.iter().map(|line| line.text.as_str());
        let settings = settings::of(lines).map_err(|error| format!("scene {}: {error}", scene.name))?;
        let settings = format!("xml.passthrough = {}\n{settings}", stage.passthrough);
        let config =
            configuration(stage.program, &settings).map_err(|error| format!("scene {}: {error}", scene.name))?;
        let (medium, secrets) = (Medium::new(stage.store), Arc::new(Secrets::derive()));
        let setup = Setup { seed: 1, medium, program: stage.program, config, bounds: None, secrets };
        Ok(Player {
            world: World::with(setup),
            update: stage.update,
            captures: Captures::new(),
            actors: Vec::new(),
            accounts: Vec::new(),
            edits: Edits::default(),
        })
    }

    fn play(&mut self, scene: &Scene) -> Result<(), Wrong> {
        for line in &scene.lines {
            let receives = is_receive(&line.text);
            if self.update && !receives {
                self.write_unread(line.at);
            }
            if let Err(why) = self.line(line) {
                if self.update && receives {
                    continue;
                }
                return Err((line.at, why));
            }
        }
        let last = scene.lines.last().map_or(0, |line| line.end);
        if self.update {
            self.write_unread(last);
        }
        let mut unread = String::new();
        for (id, client) in self.world.clients.iter().enumerate() {
            for heard in &client.inbox {
                let _ = writeln!(unread, "  {} < {}", self.actors[id], show(heard));
            }
        }
        if unread.is_empty() { Ok(()) } else { Err((last, format!("received and not expected:\n{unread}"))) }
    }

    fn write_unread(&mut self, at: usize) {
        let mut new = String::new();
        for (id, client) in self.world.clients.iter_mut().enumerate() {
            for heard in client.inbox.drain(..) {
                let _ = writeln!(new, "  {} < {}", self.actors[id], named(&heard, &mut self.captures));
            }
        }
        if !new.is_empty() {
            self.edits.0.push((at, at, new));
        }
    }

    fn line(&mut self, line: &Line) -> Result<(), String> {
        let text = line.text.as_str();
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        if first.contains('/') && !first.ends_with([',', ':']) {
            let id = self.actor(first)?;
            return self.acts(line, id, rest.trim_start());
        }
        if let Some((actors, options)) = text.split_once(':').filter(|_| first.contains('/')) {
            let ids: Vec<ClientId> = actors.split(',').map(|name| self.actor(name.trim())).collect::<Result<_, _>>()?;
            return self.bring(&ids, options);
        }
        if let Some(time) = text.strip_prefix('+') {
            self.world.pass(duration(time)?);
            return Ok(());
        }
        match text {
            // Done before the server started.
            _ if settings::is_one(text) => {}
            "server restarts" => self.world.restart(),
            "server crashes" | "server crashes, starts" => self.world.crash(),
            "disk refuses writes" => self.world.mood.refuses.store(true, Ordering::Relaxed),
            "disk refuses one write" => self.world.mood.refuses_one.store(true, Ordering::Relaxed),
            "disk waits" => self.world.mood.waits.store(true, Ordering::Relaxed),
            "disk recovers" => {
                self.world.mood.refuses.store(false, Ordering::Relaxed);
                self.world.mood.waits.store(false, Ordering::Relaxed);
                self.world.settle();
            }
            _ => match text.split(' ').collect::<Vec<_>>()[..] {
                ["account", name] => self.account(name),
                ["operator", what, name] => self.operates(what, name)?,
                ["disk", "has", mib, "MiB", "left"] => {
                    let mib = mib.parse().map_err(|_| format!("{mib} is no number"))?;
                    self.world.mood.free_mib.store(mib, Ordering::Relaxed);
                    self.world.tick();
                    self.world.settle();
                }
                [one, "and", other, "are", "friends"] => self.befriend(one, other),
                _ => return Err(format!("nobody knows what this means: {text}")),
            },
        }
        Ok(())
    }

    fn operates(&mut self, what: &str, name: &str) -> Result<(), String> {
        let jid: BareJid = address(name).parse().map_err(|_| format!("{name} is no name"))?;
        let done = match what {
            "removes" => self.world.remove_account(&jid),
            "disables" => self.world.disable_account(&jid, true),
            "enables" => self.world.disable_account(&jid, false),
            "adds" => self.world.create_account_at(jid.local().unwrap_or_default(), jid.domain()),
            _ => return Err(format!("nobody knows what an operator does who {what}")),
        };
        if done { Ok(()) } else { Err(format!("it was not done: {what} {name}")) }
    }

    fn acts(&mut self, line: &Line, id: ClientId, what: &str) -> Result<(), String> {
        if let Some(xml) = what.strip_prefix('>') {
            let mut xml = expand(xml.trim());
            for (name, value) in &self.captures {
                xml = xml.replace(&format!("{{{name}}}"), value);
            }
            if !self.world.clients[id].is_connected() {
                return Err("it has no connection".to_owned());
            }
            self.world.clients[id].send(&xml);
            self.world.settle();
            return Ok(());
        }
        if let Some(xml) = what.strip_prefix('<') {
            return self.receives(line, id, xml.trim());
        }
        match what {
            "loses connection" => {
                self.world.cut(id);
                self.world.settle();
            }
            "hears nothing" => self.world.clients[id].deaf = true,
            "resumes" => {
                self.world.resume(id).map_err(|failed| format!("it could not resume: {failed:?}"))?;
            }
            _ => {
                let expected = what.strip_prefix("resumes at ").and_then(|h| h.parse().ok());
                let expected: u32 = expected.ok_or_else(|| format!("nobody knows what this means: {what}"))?;
                let h = self.world.resume(id).map_err(|failed| format!("it could not resume: {failed:?}"))?;
                if h != expected {
                    return Err(format!("the server has handled {h}, not {expected}"));
                }
            }
        }
        Ok(())
    }

    fn receives(&mut self, line: &Line, id: ClientId, expected: &str) -> Result<(), String> {
        let inbox = &mut self.world.clients[id].inbox;
        let Some(got) = inbox.front().cloned() else {
            if self.update {
                self.edits.0.push((line.at, line.end, String::new()));
            }
            return Err(format!("expected {expected}\nand received nothing{}", self.elsewhere(id)));
        };
        let expanded = expand(expected);
        let verdict = match (expected, &got) {
            ("(closed)", Heard::Cut) | ("</stream:stream>", Heard::End) => Ok(()),
            (_, Heard::Element(got)) if expected.starts_with('<') && !expected.starts_with("</") => {
                pattern::parse(&expanded)
                    .map_err(|error| format!("the expectation is no XML: {error}"))
                    .and_then(|wanted| pattern::fits(&wanted, got, &mut self.captures))
            }
            _ => Err("something else".to_owned()),
        };
        if self.update || verdict.is_ok() {
            self.world.clients[id].inbox.pop_front();
        }
        if let (Err(why), true) = (&verdict, self.update) {
            let _ = why;
            let new = format!("  {} < {}", self.actors[id], named(&got, &mut self.captures));
            self.edits.0.push((line.at, line.end, new));
        }
        verdict.map_err(|why| {
            format!("expected {expected}\ngot      {}\n         {why}{}", show(&got), self.elsewhere(id))
        })
    }

    /// The remaining unread stanzas.
    fn elsewhere(&self, id: ClientId) -> String {
        let mut out = String::new();
        for (other, client) in self.world.clients.iter().enumerate() {
            for heard in client.inbox.iter().skip(usize::from(other == id)) {
                let _ = write!(out, "\nalso     {} < {}", self.actors[other], show(heard));
            }
        }
        out
    }

    fn account(&mut self, name: &str) {
        if !self.accounts.iter().any(|known| known == name) {
            let address = address(name);
            let (local, host) = address.split_once('@').unwrap_or((name, HOST));
            assert!(self.world.create_account_at(local, host), "{name} is created");
            self.accounts.push(name.to_owned());
        }
    }

    fn actor(&mut self, name: &str) -> Result<ClientId, String> {
        if let Some(at) = self.actors.iter().position(|known| known == name) {
            return Ok(at);
        }
        let (account, resource) = name.split_once('/').ok_or_else(|| format!("{name} is no actor"))?;
        self.account(account);
        self.actors.push(name.to_owned());
        Ok(self.client(account, resource))
    }

    fn client(&mut self, account: &str, resource: &str) -> ClientId {
        let address = address(account);
        let (local, host) = address.split_once('@').unwrap_or((account, HOST));
        self.world.client_at(local, host, resource)
    }

    /// Each sees the other's presence.
    fn befriend(&mut self, one: &str, other: &str) {
        self.account(one);
        self.account(other);
        let ids = [one, other].map(|name| self.client(name, "matchmaker"));
        ids.iter().for_each(|id| self.world.bind(*id));
        for kind in ["subscribe", "subscribed"] {
            for (id, to) in ids.iter().zip([other, one]) {
                self.world.clients[*id].send(&format!("<presence type='{kind}' to='{}'/>", address(to)));
                self.world.settle();
            }
        }
        ids.iter().for_each(|id| self.world.cut(*id));
        self.world.settle();
        self.world.clients.truncate(ids[0]);
    }

    fn bring(&mut self, ids: &[ClientId], options: &str) -> Result<(), String> {
        let options: Vec<&str> = options.split(',').map(str::trim).collect();
        let has = |name: &str| options.contains(&name);
        let state = *options.first().unwrap_or(&"");
        let before: Vec<usize> = self.world.clients.iter().map(|client| client.inbox.len()).collect();
        for &id in ids {
            match state {
                "connected" => self.world.connect(id),
                "opened" => self.world.open(id),
                "authenticated" => self.world.authenticate(id),
                "bound" | "online" => {
                    self.world.bind(id);
                    self.prepare(id, &options)?;
                }
                _ => return Err(format!("{state} is no state")),
            }
        }
        if state == "online" {
            let priority = options.iter().find_map(|option| option.strip_prefix("priority "));
            let priority = priority.map(|p| format!("<priority>{p}</priority>")).unwrap_or_default();
            for &id in ids {
                self.world.clients[id].send(&format!("<presence>{priority}</presence>"));
                self.world.settle();
            }
        }
        for &id in ids {
            if has("inactive") {
                self.world.clients[id].send("<inactive xmlns='urn:xmpp:csi:0'/>");
            }
        }
        self.world.settle();
        self.hide(ids, &before);
        Ok(())
    }

    fn prepare(&mut self, id: ClientId, options: &[&str]) -> Result<(), String> {
        for option in options.iter().skip(1) {
            let payload = match *option {
                "smacks" | "mute" => {
                    if self.world.clients[id].smacks.is_none() {
                        self.world.enable(id);
                    }
                    if let Some(smacks) = &mut self.world.clients[id].smacks {
                        smacks.mute |= *option == "mute";
                        let token = smacks.token.clone().unwrap_or_default();
                        self.captures.insert(self.actors[id].clone(), token);
                    }
                    continue;
                }
                "carbons" => "<iq type='set' id='option'><enable xmlns='urn:xmpp:carbons:2'/></iq>",
                "roster" => "<iq type='get' id='option'><query xmlns='jabber:iq:roster'/></iq>",
                "blocklist" => "<iq type='get' id='option'><blocklist xmlns='urn:xmpp:blocking'/></iq>",
                "inactive" => continue,
                other if other.starts_with("priority ") => continue,
                other => return Err(format!("{other} is no option")),
            };
            self.world.clients[id].send(payload);
            self.world.settle();
        }
        Ok(())
    }

    /// Hides what every login causes.
    fn hide(&mut self, ids: &[ClientId], before: &[usize]) {
        let full = |id: &ClientId| {
            let (account, resource) = self.actors[*id].split_once('/').unwrap_or_default();
            format!("{}/{resource}", address(account))
        };
        let names: Vec<String> = ids.iter().map(full).collect();
        for (at, client) in self.world.clients.iter_mut().enumerate() {
            let skip = before.get(at).copied().unwrap_or(0).min(client.inbox.len());
            let fresh: Vec<Heard> = client.inbox.drain(skip..).collect();
            let keep = |heard: &Heard| {
                let Heard::Element(e) = heard else { return true };
                let own = ids.contains(&at);
                let option = own && e.is(ns::CLIENT, "iq") && matches!(e.get("id"), Some("option"));
                let presence = e.is(ns::CLIENT, "presence") && e.get("type").is_none();
                let theirs = e.get("from").is_some_and(|from| names.iter().any(|name| name == from));
                !(option || presence && (own || theirs))
            };
            client.inbox.extend(fresh.into_iter().filter(keep));
        }
    }
}

fn is_receive(text: &str) -> bool {
    text.split_once(' ').is_some_and(|(first, rest)| first.contains('/') && rest.trim_start().starts_with('<'))
}

fn show(heard: &Heard) -> String {
    match heard {
        Heard::Element(element) => shorten(&print(element)),
        Heard::End => "</stream:stream>".to_owned(),
        Heard::Cut => "(closed)".to_owned(),
    }
}

/// As [`show`], for the transcript: with names for the ids of archives.
fn named(heard: &Heard, captures: &mut Captures) -> String {
    match heard {
        Heard::Element(element) => archive_ids::name(element, show(heard), captures),
        _ => show(heard),
    }
}

fn print(element: &Element) -> String {
    let text = pattern::print(element);
    let Some(rest) = text.strip_prefix(&format!("<{} xmlns='{}'", element.name(), ns::STREAM.as_str())) else {
        return text;
    };
    let rest = rest.replace(&format!("</{}>", element.name()), &format!("</stream:{}>", element.name()));
    format!("<stream:{}{rest}", element.name())
}

fn duration(text: &str) -> Result<Duration, String> {
    let (mut seconds, mut number) = (0, String::new());
    for c in text.trim().chars() {
        let unit = match c {
            '0'..='9' => {
                number.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(format!("{text} is no time")),
        };
        seconds += unit * number.parse::<u64>().map_err(|_| format!("{text} is no time"))?;
        number.clear();
    }
    if number.is_empty() { Ok(Duration::from_secs(seconds)) } else { Err(format!("{text} has no unit")) }
}
