//! How a session comes about: TCP, TLS, SASL, resource, presence. Nothing is pipelined; common clients wait for each answer.

use std::cell::Cell;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::options::{Extras, Mechanism, Target};
use crate::scan::{between, has};
use crate::scram;
use crate::session::Session;
use crate::wire::{Tls, Wire};

/// Makes sessions.
pub struct Door {
    target: Target,
    tls: Tls,
    keys: scram::Cache,
}

impl Door {
    /// A door to this server.
    pub fn new(target: Target) -> Result<Door> {
        Ok(Door { target, tls: Tls::new()?, keys: scram::Cache::default() })
    }

    /// Logs in `count` sessions, `width` at a time, in the order of their numbers; `who` gives account and resource.
    pub async fn many(
        self: &Rc<Door>,
        count: u32,
        width: u32,
        extras: Extras,
        who: impl Fn(u32) -> (u32, String) + Copy + 'static,
    ) -> Result<Vec<Session>> {
        let next = Rc::new(Cell::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..width.min(count) {
            let (door, next) = (self.clone(), next.clone());
            workers.spawn_local(async move {
                let mut made = Vec::new();
                while next.get() < count {
                    let number = next.replace(next.get() + 1);
                    let (account, resource) = who(number);
                    let session = door.enter(account, &resource, extras).await;
                    made.push((number, session.with_context(|| format!("session {number}, account {account}"))?));
                }
                Ok::<_, anyhow::Error>(made)
            });
        }
        let mut all = Vec::new();
        while let Some(made) = workers.join_next().await {
            all.extend(made??);
        }
        all.sort_unstable_by_key(|(number, _)| *number);
        Ok(all.into_iter().map(|(_, session)| session).collect())
    }

    /// What user names begin with.
    pub fn prefix(&self) -> &str {
        &self.target.user_prefix
    }

    /// The domain of all accounts.
    pub fn domain(&self) -> &str {
        &self.target.domain
    }

    /// The client's side of TLS.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Logs one session in, up to the return of its own initial presence (RFC 6121 §4.2.2) unless it is to be silent.
    pub async fn enter(&self, account: u32, resource: &str, extras: Extras) -> Result<Session> {
        let mut session = self.secure().await?;
        self.authenticate(&mut session, account).await?;
        session.restart()?;
        self.open(&mut session);
        session.expect("urn:ietf:params:xml:ns:xmpp-bind").await.context("features after SASL")?;
        let bind = format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>"
        );
        session.put(bind.as_bytes());
        let answer = session.expect("<jid>").await.context("binding")?;
        session.jid = String::from_utf8(between(answer, b"<jid>", b'<').context("no JID")?.to_vec())?;
        if let Some(every) = extras.sm {
            session.enable_sm(every).await?;
        }
        if extras.carbons {
            session.put(b"<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
            session.end_stanza();
            session.await_stanza("carbons").await?;
        }
        if extras.roster {
            session.put(b"<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>");
            session.end_stanza();
            session.answer_to("roster").await?;
        }
        if !extras.silent {
            session.put(b"<presence/>");
            session.end_stanza();
            session.flush().await?;
            let own = session.jid.clone();
            session.await_stanza(&own).await.context("own presence")?;
        }
        session.flush().await?;
        Ok(session)
    }

    /// TCP, without a byte sent.
    pub async fn connect(&self) -> Result<TcpStream> {
        let Target { host, port, .. } = &self.target;
        let tcp =
            TcpStream::connect((host.as_str(), *port)).await.with_context(|| format!("connecting to {host}:{port}"))?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    /// Connects, as far as the features that offer SASL have been asked for.
    async fn secure(&self) -> Result<Session> {
        let (tcp, domain) = (self.connect().await?, &self.target.domain);
        let wire = match (self.target.plain, self.target.direct_tls) {
            (true, _) => Wire::Tcp(tcp),
            (_, true) => self.tls.over(Wire::Tcp(tcp), domain).await?,
            _ => self.tls.over(self.starttls(tcp).await?, domain).await?,
        };
        let mut session = Session::new(wire);
        self.open(&mut session);
        Ok(session)
    }

    /// RFC 6120 §5.4: up to `<proceed/>`.
    pub async fn starttls(&self, tcp: TcpStream) -> Result<Wire> {
        let mut session = Session::new(Wire::Tcp(tcp));
        self.open(&mut session);
        session.expect("urn:ietf:params:xml:ns:xmpp-tls").await.context("STARTTLS is not offered")?;
        session.put(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        session.expect("<proceed").await?;
        session.into_wire()
    }

    /// RFC 6120 §6.4, all of it, on a stream that has been opened.
    pub async fn authenticate(&self, session: &mut Session, account: u32) -> Result<()> {
        let (mut client, challenge) = self.challenge(session, account).await?;
        let response = BASE64.encode(client.respond(&challenge)?);
        session.put(format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{response}</response>").as_bytes());
        client.finish(&payload(session.answer().await?, "success")?)
    }

    /// The same up to the server's challenge, which is returned.
    pub async fn challenge(&self, session: &mut Session, account: u32) -> Result<(scram::Client, Vec<u8>)> {
        let hash = match self.target.mechanism {
            Mechanism::ScramSha1 => scram::Hash::Sha1,
            Mechanism::ScramSha256 => scram::Hash::Sha256,
        };
        let mechanism = hash.mechanism();
        session.expect(&format!(">{mechanism}<")).await.context("the mechanism is not offered")?;
        let mut nonce = [0; 18];
        self.tls.random(&mut nonce)?;
        let user = format!("{}{account}", self.target.user_prefix);
        let client = scram::Client::new(hash, &user, &self.target.password, &nonce, &self.keys);
        let first = BASE64.encode(client.first());
        let auth = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{first}</auth>");
        session.put(auth.as_bytes());
        let challenge = payload(session.answer().await?, "challenge")?;
        Ok((client, challenge))
    }

    /// Puts a stream's opening tag into the output.
    pub fn open(&self, session: &mut Session) {
        let domain = &self.target.domain;
        let open = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
             to='{domain}' version='1.0'>"
        );
        session.put(open.as_bytes());
    }
}

/// The decoded data of a SASL element, which must have this name.
fn payload(element: &[u8], name: &str) -> Result<Vec<u8>> {
    ensure!(element.starts_with(format!("<{name}").as_bytes()), "{}", String::from_utf8_lossy(element));
    if has(element, "/>") {
        bail!("{name} without data");
    }
    Ok(BASE64.decode(between(element, b">", b'<').context("no data")?)?)
}
