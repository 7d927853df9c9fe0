//! What must hold for logging in (RFC 4616, RFC 5802) and for what is stored for it (RFC 5803).
//!
//! An input is the letter of a case and the payloads that the client sends, a line each; or `$` and the text of
//! credentials. Nonces are fixed, so that the honest messages of a case are known.
//!
//! A client gets in only with the honest messages of a case that may, byte for byte. Where an RFC lets them differ:
//! - nothing, and on the empty challenge what would have been the initial response (RFC 4422 §5.1);
//! - PLAIN with any authzid that names the account, or none (RFC 4616 §2);
//! - PLAIN with a username or password that is the same after SASLprep (RFC 4616 §2), and a username that is the same
//!   localpart (RFC 7622 §3.3).

use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::client::{Binding, Client, Keys, Secret};
use vorpal_proto::sasl::{
    Account, Authenticated, ChannelBindings, Credentials, Exchange, Hash, Iterations, Mechanism, Nonce, Offered,
    Settings, Shown, Step, TLS_EXPORTER, TLS_SERVER_END_POINT, decode_payload, encode_payload, prep,
};

use crate::make::mutate;
use crate::random::Random;
use crate::run::{Reached, Target};

const HOST: &str = "example.net";
const PASSWORD: &str = "pencil";
const CLIENT_NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";
const SERVER_NONCE: &str = "3rfcNHYJY1ZVvBRhMBhpwAAA";

/// Logins.
pub struct Logins {
    /// alice's and bob's, by hash
    stored: Vec<(String, Credentials)>,
    cases: Vec<Case>,
}

/// One honest client and the server it talks to.
struct Case {
    mechanism: Mechanism,
    settings: Settings,
    nonce: &'static str,
    /// whether this client gets in
    right: bool,
    /// what it says
    lines: Vec<String>,
    /// what the server says last
    data: Option<Vec<u8>>,
}

impl Case {
    fn is_one_to_the_server(&self, other: &Case) -> bool {
        let settings = |case: &Case| format!("{:?}", case.settings);
        self.mechanism == other.mechanism && self.nonce == other.nonce && settings(self) == settings(other)
    }
}

fn names_account(authzid: &str, account: &str) -> bool {
    BareJid::parse(authzid).is_ok_and(|authzid| authzid.as_str() == account)
}

fn nonce(text: &str) -> Nonce {
    Nonce::from_text(text).expect("a nonce")
}

impl Default for Logins {
    fn default() -> Logins {
        let mut stored = Vec::new();
        for hash in Hash::ALL {
            for (name, password) in [("alice", PASSWORD), ("bob", "eraser")] {
                let credentials = Credentials::derive(hash, password, b"0123456789abcdef", Iterations::MIN);
                stored.push((format!("{name}@{HOST}"), credentials.expect("good ones")));
            }
        }
        let mut logins = Logins { stored, cases: Vec::new() };
        let bindings = ChannelBindings { exporter: Some([7; 32]), server_end_point: Some(vec![9; 32]) };
        for mechanism in Mechanism::ALL {
            let mut add = |binding: Binding, bindings: &ChannelBindings, plus_offered: bool, what: &str| {
                let settings = Settings {
                    bindings: bindings.clone(),
                    plus_offered,
                    names_account,
                    offered: (what == "offered").then(|| Offered::new(["SCRAM-SHA-1"], None)),
                };
                let case = logins.case(mechanism, binding, settings, what);
                logins.cases.push(case);
            };
            let usable =
                |name: &str| Binding::Use { name: name.to_owned(), data: bindings.data(name).expect("there").to_vec() };
            if mechanism.is_plus() {
                for what in ["right", "authzid", "offered", "password", "replay", "bob's authzid"] {
                    add(usable(TLS_EXPORTER), &bindings, true, what);
                }
                add(usable(TLS_SERVER_END_POINT), &bindings, true, "right");
                // Somebody in the middle: the client is bound to another channel.
                let other = ChannelBindings { exporter: Some([8; 32]), server_end_point: None };
                add(usable(TLS_EXPORTER), &other, true, "other channel");
                add(usable(TLS_SERVER_END_POINT), &other, true, "other channel");
            } else {
                for what in ["right", "authzid", "password", "replay", "bob's authzid"] {
                    // Deriving for PLAIN takes most of the time.
                    if mechanism != Mechanism::Plain || what != "replay" {
                        add(Binding::Unsupported, &bindings, true, what);
                    }
                }
                if mechanism != Mechanism::Plain {
                    add(Binding::NotOffered, &ChannelBindings::default(), false, "right");
                    add(Binding::NotOffered, &bindings, true, "downgrade");
                }
            }
        }
        assert!(logins.cases.iter().filter(|case| case.right).count() > 15, "honest clients get in");
        logins
    }
}

/// How an exchange went.
struct Went {
    success: Option<Authenticated>,
    looked_up: Option<String>,
    challenges: Vec<Vec<u8>>,
}

impl Logins {
    /// The honest exchange, until it fails or not.
    fn case(&self, mechanism: Mechanism, binding: Binding, settings: Settings, what: &str) -> Case {
        let password = if what == "password" { "wrong" } else { PASSWORD };
        let secret = match mechanism.hash() {
            None => Secret::Password(password.to_owned()),
            Some(hash) => {
                let keys = Keys::derive(hash, password, b"0123456789abcdef", Iterations::MIN);
                Secret::Keys(keys.expect("good ones"))
            }
        };
        let mut client = Client::new(mechanism, "alice", secret, nonce(CLIENT_NONCE)).with_binding(binding);
        if what.ends_with("authzid") {
            client = client.with_authzid(if what == "authzid" { "alice@example.net" } else { "bob@example.net" });
        }
        let mut lines = vec![encode_payload(Some(&client.first().expect("a first message")))];
        let right = matches!(what, "right" | "authzid" | "offered");
        let mut case = Case { mechanism, settings, nonce: SERVER_NONCE, right, lines: lines.clone(), data: None };
        let went = self.exchange(&case, &lines, &mut Reached::default()).expect("no fault");
        if let Some(challenge) = went.challenges.first() {
            lines.push(encode_payload(Some(&client.respond(challenge).expect("an answer"))));
        }
        case.lines.clone_from(&lines);
        let went = self.exchange(&case, &lines, &mut Reached::default()).expect("no fault");
        // A replay is what was right once.
        assert_eq!(went.success.is_some(), right || what == "replay", "{what} with {mechanism:?}");
        if let Some(success) = went.success {
            client.finish(success.data()).expect("the server knows us");
            case.data = success.data().map(<[u8]>::to_vec);
        }
        if what == "replay" {
            case.nonce = "another";
        }
        case
    }

    fn exchange(&self, case: &Case, lines: &[String], reached: &mut Reached) -> Result<Went, String> {
        let mut exchange = Exchange::new(case.mechanism, case.settings.clone(), nonce(case.nonce));
        let mut went = Went { success: None, looked_up: None, challenges: Vec::new() };
        let mut over = false;
        for line in lines {
            let data = match decode_payload(line) {
                Ok(data) => data,
                Err(refusal) => {
                    reached.here(refusal.condition.element());
                    reached.here(refusal.reason);
                    return Ok(went);
                }
            };
            if data.as_ref().is_some_and(|data| encode_payload(Some(data)) != *line) {
                return Err(format!("two texts are one payload: {line}"));
            }
            let mut step = exchange.receive(data.as_deref().map(Vec::as_slice));
            loop {
                match step {
                    _ if over && !matches!(step, Step::Failure(_)) => {
                        return Err(format!("it was over and goes on: {step:?}"));
                    }
                    Step::NeedCredentials(query) => {
                        if query.hash != case.mechanism.hash() {
                            return Err(format!("another hash: {query:?}"));
                        }
                        let account = self.account(&query.username, query.hash.unwrap_or(Hash::Sha1), reached);
                        went.looked_up = Some(account.address.clone());
                        step = exchange.account(account);
                    }
                    Step::NeedDerivation(check) => {
                        reached.here("derived");
                        step = exchange.verdict(check.run());
                    }
                    Step::Challenge(challenge) => {
                        reached.here(if challenge.is_empty() { "prompted" } else { "challenged" });
                        if !challenge.is_empty() {
                            went.challenges.push(challenge);
                        }
                        break;
                    }
                    Step::Success(success) => {
                        went.success = Some(success);
                        over = true;
                        break;
                    }
                    Step::Failure(refusal) => {
                        if !over {
                            reached.here(refusal.condition.element());
                        }
                        reached.here(refusal.reason);
                        over = true;
                        break;
                    }
                }
            }
        }
        Ok(went)
    }

    fn account(&self, username: &str, hash: Hash, reached: &mut Reached) -> Account {
        let jid = BareJid::new(username, HOST).ok();
        let address = jid.as_ref().map_or_else(|| username.to_owned(), |jid| jid.to_string());
        // What cannot be a localpart is nobody's name, also if it looks like an address.
        let stored = self.stored.iter().find(|(name, c)| jid.is_some() && *name == address && c.hash() == hash);
        if stored.is_none() {
            reached.here("no such account");
        }
        let credentials = stored.map_or_else(
            || Credentials::fake(&[1; 32], &address, hash, Shown::new(Iterations::MIN)),
            |(_, stored)| stored.clone(),
        );
        Account { address, credentials }
    }
}

/// What the server proves to somebody with these lines, if they are honest ones of a case that is the same to the server
/// as this one, or differ only as the RFC lets them.
fn may<'a>(cases: &'a [Case], case: &'a Case, lines: &[String], reached: &mut Reached) -> Option<Option<&'a [u8]>> {
    let prompted = lines.first().is_some_and(String::is_empty);
    let lines = if prompted { &lines[1..] } else { lines };
    for honest in cases.iter().filter(|honest| honest.right && honest.is_one_to_the_server(case)) {
        if lines.starts_with(&honest.lines) {
            reached.here(if prompted { "success after a prompt" } else { "honest success" });
            return Some(honest.data.as_deref());
        }
    }
    if case.mechanism != Mechanism::Plain {
        return None;
    }
    let text = String::from_utf8(decode_payload(lines.first()?).ok()??.to_vec()).ok()?;
    let [authzid, username, password] = text.split('\0').collect::<Vec<_>>()[..] else { return None };
    let alice = |jid: Result<BareJid, _>| jid.is_ok_and(|jid| jid.as_str() == "alice@example.net");
    let same = (authzid.is_empty() || alice(BareJid::parse(authzid)))
        && prep::query(username).is_ok_and(|username| alice(BareJid::new(&username, HOST)))
        && prep::query(password).is_ok_and(|password| password == PASSWORD);
    if same {
        reached.here("equivalent success");
    }
    same.then_some(None)
}

const ATTRIBUTES: &[&str] = &[
    "m=x",
    "a=alice@example.net",
    "a=bob@example.net",
    "n=alice",
    "n=bob",
    "n=ALICE",
    "n=al=2Cice",
    "n=a=3D",
    "n=a=",
    "n=",
    "r=",
    "r=fyko+d2lbbFgONRv9qkxdawL",
    "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvBRhMBhpwAAA",
    "c=biws",
    "c=eSws",
    "c=",
    "p=",
    "p=tls-exporter",
    "p=tls-server-end-point",
    "p=tls-unique",
    "p=AAAA",
    "v=x",
    "e=x",
    "s=x",
    "i=1",
    "x=1",
    "x=",
    "=",
    "n",
    "y",
    "",
    "h=x",
    "n=\u{FF41}lice",
    "n=al\u{AD}ice",
    "t=\0",
    "n=no-one",
];

const FIELDS: &[&str] = &[
    "",
    "alice",
    "ALICE",
    "bob",
    "pencil",
    "\u{FF50}encil",
    "pen\u{AD}cil",
    "alice@example.net",
    "ALICE@EXAMPLE.NET",
    "alice@example.net/x",
    "bob@example.net",
    "al\u{AD}ice",
    "\u{378}",
    "\u{7}",
    "no-one",
    "Pencil",
];

/// Changes what is in a payload, by its own grammar.
fn inside(random: &mut Random, plain: bool, line: &str) -> String {
    let Ok(Some(data)) = decode_payload(line) else { return line.to_owned() };
    let separator = if plain { "\0" } else { "," };
    let text = String::from_utf8_lossy(&data).into_owned();
    let mut parts: Vec<String> = text.split(separator).map(str::to_owned).collect();
    for _ in 0..1 + random.below(2) {
        let at = random.below(parts.len());
        let new = random.pick(if plain { FIELDS } else { ATTRIBUTES }).to_owned();
        match random.below(7) {
            _ if parts.is_empty() => parts.push(new),
            0 => parts[at] = new,
            1 => parts.insert(at, new),
            2 => drop(parts.remove(at)),
            3 => {
                let other = random.below(parts.len());
                parts.swap(at, other);
            }
            4 => parts.insert(at, parts[at].clone()),
            5 => parts.push(new),
            _ => {
                let most = if random.one_in(3) { 8000 } else { 3 };
                parts[at].push_str(&"x".repeat(random.below(most)));
            }
        }
    }
    let data = parts.join(separator).into_bytes();
    let data = if random.one_in(6) { mutate(random, &data, b"") } else { data };
    encode_payload(Some(&data))
}

fn letter(case: usize) -> char {
    char::from_u32(u32::from('A') + u32::try_from(case).unwrap_or(0)).unwrap_or('A')
}

fn lines_of(input: &[u8]) -> (char, Vec<String>) {
    let text = String::from_utf8_lossy(input);
    let mut chars = text.chars();
    let letter = chars.next().unwrap_or('A');
    (letter, chars.as_str().split('\n').take(6).map(str::to_owned).collect())
}

impl Target for Logins {
    const NAME: &'static str = "sasl";
    const MUST: &'static [&'static str] = &[
        "honest success",
        "equivalent success",
        "success after a prompt",
        "not-authorized",
        "malformed-request",
        "incorrect-encoding",
        "invalid-authzid",
        "no such account",
        "nonce differs",
        "channel binding or GS2 header differs",
        "no such account or wrong proof",
        "no such account or wrong password",
        "downgrade: -PLUS was offered (y)",
        "unsupported channel-binding type",
        "attribute out of order",
        "message too long",
        "message out of turn",
        "text read",
        "text refused",
    ];

    fn make(&self, random: &mut Random) -> Vec<u8> {
        if random.one_in(8) {
            let (_, stored) = &self.stored[random.below(self.stored.len())];
            return format!("${}", stored.to_text()).into_bytes();
        }
        let at = random.below(self.cases.len());
        let case = &self.cases[at];
        let mut lines = case.lines.clone();
        if random.one_in(10) {
            lines.insert(0, String::new());
        }
        if random.one_in(2) {
            let which = random.below(lines.len());
            lines[which] = inside(random, case.mechanism == Mechanism::Plain, &lines[which]);
        }
        match random.below(30) {
            0 => drop(lines.pop()),
            1 => lines.push(lines[0].clone()),
            2 => lines.reverse(),
            3 => lines.push(String::new()),
            // The answer of another case: another key, another channel.
            4 => lines[0] = self.cases[random.below(self.cases.len())].lines[0].clone(),
            5 => {
                let other = &self.cases[random.below(self.cases.len())].lines;
                lines.truncate(1);
                lines.extend(other.iter().skip(1).cloned());
            }
            _ => {}
        }
        format!("{}{}", letter(at), lines.join("\n")).into_bytes()
    }

    fn check(&self, input: &[u8], _: &mut Random, reached: &mut Reached) -> Result<(), String> {
        if let Some(text) = input.strip_prefix(b"$") {
            return stored(&String::from_utf8_lossy(text), reached);
        }
        let (letter, lines) = lines_of(input);
        let at = u32::from(letter).wrapping_sub(u32::from('A')) as usize;
        let Some(case) = self.cases.get(at) else {
            reached.here("no case");
            return Ok(());
        };
        let went = self.exchange(case, &lines, reached)?;
        let Some(success) = went.success else {
            if case.right && lines == case.lines {
                return Err("honest and refused: ".to_owned());
            }
            return Ok(());
        };
        let wrong = |what: &str| Err(format!("{what}: {:?} with {lines:?}", case.mechanism));
        if Some(success.account()) != went.looked_up.as_deref() || success.account() != "alice@example.net" {
            return wrong("another account");
        }
        let Some(data) = may(&self.cases, case, &lines, reached) else {
            return wrong("a message is taken that nobody honest wrote");
        };
        if success.mechanism() != case.mechanism || success.binding().is_some() != case.mechanism.is_plus() {
            return wrong("another mechanism");
        }
        if success.data() != data {
            return wrong("the server proves something else");
        }
        Ok(())
    }
}

fn stored(text: &str, reached: &mut Reached) -> Result<(), String> {
    match Credentials::from_text(text) {
        Ok(credentials) if credentials.to_text() == text => reached.here("text read"),
        Ok(credentials) => return Err(format!("text changes: {text} is {}", credentials.to_text())),
        Err(_) => reached.here("text refused"),
    }
    Ok(())
}
