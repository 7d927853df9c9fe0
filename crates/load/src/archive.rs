//! XEP-0313: is there an archive, and its pages. `page` measures what a page of 50 costs.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::enter::Door;
use crate::number::Number;
use crate::options::{Extras, Page};
use crate::process::Process;
use crate::report::{Report, percentile};
use crate::scan::{attribute, between, has};
use crate::session::{Session, name};

const NS: &str = "urn:xmpp:mam:2";
/// What clients ask for at once.
const PAGE: usize = 50;
/// Pages read before the measurement.
const WARM_UP: u32 = 10;

/// Fails if the account's archive is not advertised (§3).
pub async fn require(session: &mut Session) -> Result<()> {
    let own = session.bare().to_owned();
    session.put(
        format!("<iq type='get' id='disco' to='{own}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
            .as_bytes(),
    );
    let answer = session.answer_to("disco").await?;
    ensure!(has(&answer, NS), "the server does not advertise {NS}");
    Ok(())
}

/// Fails if the newest message of the session's archive is not the last one of either side, which sent so many.
pub async fn require_newest(session: &mut Session, sent: [u32; 2]) -> Result<()> {
    let found = ask(session, "<max>1</max><before/>").await?;
    let newest = found.messages.last().with_context(|| format!("the archive of {} is empty", session.bare()))?;
    let last = usize::try_from(newest.side).ok().and_then(|side| sent.get(side)?.checked_sub(1));
    ensure!(last == Some(newest.sequence), "the newest message in the archive of {} is {newest:?}", session.bare());
    Ok(())
}

/// Reads an archive page by page, from both its ends towards the middle, and checks that each page is full and new.
pub async fn run(door: &Rc<Door>, server: Process, options: &Page) -> Result<Report> {
    let mut session = door.enter(options.account, "page", Extras::default()).await?;
    ensure!(options.span > 0, "no page before it begins again");
    require(&mut session).await?;
    let mut reader = Reader::default();
    for _ in 0..WARM_UP.min(options.span) {
        reader.read(&mut session).await?;
    }
    reader = Reader::default();
    let before = server.quiet().await?;
    for number in 0..options.pages {
        if number.is_multiple_of(options.span) {
            reader = Reader { took: reader.took, ..Reader::default() };
        }
        reader.read(&mut session).await.with_context(|| format!("page {number}"))?;
    }
    let used = server.quiet().await? - before;
    session.close().await?;
    reader.took.sort_unstable();
    let mut report = Report::default();
    report
        .add("page_pages", options.pages.into())
        .add("page_cpu_ms", used as f64 / 1000.0 / f64::from(options.pages))
        .add("page_wall_p50_ms", percentile(&reader.took, 0.5) / 1000.0)
        .add("page_wall_p99_ms", percentile(&reader.took, 0.99) / 1000.0);
    Ok(report)
}

/// Where the next pages begin, what was seen, and how long each took in microseconds.
#[derive(Default)]
struct Reader {
    backwards: bool,
    before: String,
    after: Option<String>,
    seen: HashSet<String>,
    took: Vec<u32>,
}

impl Reader {
    async fn read(&mut self, session: &mut Session) -> Result<()> {
        self.backwards = !self.backwards;
        let place = match (self.backwards, &self.after) {
            (true, _) => format!("<max>{PAGE}</max><before>{}</before>", self.before),
            (false, Some(after)) => format!("<max>{PAGE}</max><after>{after}</after>"),
            (false, None) => format!("<max>{PAGE}</max>"),
        };
        let began = Instant::now();
        let found = ask(session, &place).await?;
        self.took.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
        ensure!(found.ids.len() == PAGE, "{} messages instead of {PAGE}", found.ids.len());
        for id in &found.ids {
            ensure!(self.seen.insert(id.clone()), "{id} comes twice");
        }
        match self.backwards {
            true => self.before = found.first.context("no <first/>")?,
            false => self.after = Some(found.last.context("no <last/>")?),
        }
        Ok(())
    }
}

/// What a query found.
struct Found {
    ids: Vec<String>,
    messages: Vec<Number>,
    first: Option<String>,
    last: Option<String>,
}

/// Asks for a page; `place` is the inside of the result set's request (XEP-0059).
async fn ask(session: &mut Session, place: &str) -> Result<Found> {
    session.put(
        format!(
            "<iq type='set' id='page'><query xmlns='{NS}' queryid='q'><set xmlns='http://jabber.org/protocol/rsm'>{place}\
             </set></query></iq>"
        )
        .as_bytes(),
    );
    session.end_stanza();
    session.flush().await?;
    let mut found = Found { ids: Vec::new(), messages: Vec::new(), first: None, last: None };
    loop {
        while let Some(range) = session.take()? {
            let stanza = session.get(range);
            if name(stanza) == b"iq" && attribute(stanza, "id") == Some(b"page") {
                ensure!(has(stanza, "<fin"), "{}", String::from_utf8_lossy(stanza));
                found.first = element(stanza, b"<first");
                found.last = element(stanza, b"<last");
                return Ok(found);
            }
            let Some(result) = memchr::memmem::find(stanza, b"<result").and_then(|at| stanza.get(at..)) else {
                continue;
            };
            let id = attribute(result, "id").context("a result without id")?;
            found.ids.push(String::from_utf8(id.to_vec())?);
            found.messages.extend(Number::read(result));
        }
        session.fill().await?;
    }
}

/// The text of the first element whose tag begins so.
fn element(stanza: &[u8], tag: &[u8]) -> Option<String> {
    let at = memchr::memmem::find(stanza, tag)?;
    Some(String::from_utf8_lossy(between(stanza.get(at..)?, b">", b'<')?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_page_are_found_with_and_without_attributes() {
        let fin = b"<iq><fin><set><first index='0'>a1</first><last>b2</last></set></fin></iq>";
        assert_eq!(element(fin, b"<first").as_deref(), Some("a1"));
        assert_eq!(element(fin, b"<last").as_deref(), Some("b2"));
        assert_eq!(element(b"<iq><fin/></iq>", b"<last"), None);
    }
}
