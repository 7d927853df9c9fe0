//! Deleted content leaves the files.
//!
//! `PRAGMA secure_delete` overwrites a row or a page with zeros when it is deleted. Two kinds of copies escape it:
//!
//! - The write-ahead log holds earlier versions of pages. Its file is emptied when the writer rests ([`Options::erase_rest`]),
//!   and at the latest after [`Options::erase_busy`].
//! - When SQLite moves rows between neighbouring pages (`rebuildPage` in its source), old copies of rows stay in the unused
//!   middle of a page. So every page that was written is checked before the log is emptied, and its unused bytes are
//!   overwritten. The log's frames tell which pages these are.
//!
//! *Invariant:* the log is emptied only when no written page is left to check. A store whose log has content when it is opened
//! was not closed; then the whole file is checked in small steps, as is a file that was written without `secure_delete`.
//!
//! [`Options::erase_rest`]: super::Options::erase_rest
//! [`Options::erase_busy`]: super::Options::erase_busy

#![expect(clippy::disallowed_methods, reason = "the time for erasing at the end")]

use super::write::set_meta;
use super::{Durability, LOCK_WAIT, Sqlite, error};
use crate::shape::{Millis, Result, StoreError};
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the writer waits for readers when it empties the write-ahead log. If they stay, it tries again later.
const READER_WAIT: Duration = Duration::from_millis(100);

/// How long a store that is closed goes on with the removal of what deleted owners left.
const CLOSING: Duration = Duration::from_secs(10);

/// How long a store that is closed waits for readers.
const CLOSING_READERS: Duration = Duration::from_secs(2);

/// Number of pages up to which a page's first byte tells a b-tree page from any other: overflow pages and pages of the free
/// list begin with the number of another page, whose first byte is 0 or 1 below. A larger file (128 GiB) is not checked.
const MAX_PAGES: u32 = 1 << 25;

/// The position of the check of the whole file: the next page, or 0.
const SCAN: &str = "scan";

/// Bytes of the write-ahead log's header, and of each frame's.
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// What a write-ahead log begins with, but for the last bit.
const LOG_MAGIC: u32 = 0x377f_0682;

const READ: &str = "SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?1";
const WRITE: &str = "UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1 AND schema = 'main'";

type Sql<T> = rusqlite::Result<T>;

/// What is known of copies that are to be erased.
#[derive(Debug)]
pub(super) struct Erasing {
    /// Pages that were written since their unused bytes were checked. Bounded by what is written within `erase_busy`.
    written: BTreeSet<u32>,
    /// How many frames of the write-ahead log are in `written`, and the salt of that log.
    noted: ([u8; 8], u64),
    /// The next page of the check of the whole file; 0 when it is done.
    scan: u32,
    /// What is stored of `scan`.
    stored: Option<u32>,
    /// Pages in the log when idle work ended: it differs if there was a commit since.
    seen: u64,
    /// When a commit was last noticed.
    last: Millis,
    /// When the first commit was noticed after the log had been emptied.
    since: Option<Millis>,
    /// Bytes of a page.
    page_size: u32,
    /// The file has pages that map others (`auto_vacuum`), which nothing here makes.
    mapped: bool,
}

impl Erasing {
    /// What a store begins with; `unclosed` if its write-ahead log had content.
    ///
    /// # Errors
    /// Those of the database. This build of SQLite cannot read and write pages.
    pub fn begin(sql: &Connection, unclosed: bool) -> Result<Erasing> {
        // It would leave copies of what is deleted, and nobody would notice.
        let doing = "preparing to erase: SQLite was built without -DSQLITE_ENABLE_DBPAGE_VTAB (see .cargo/config.toml)";
        sql.prepare(WRITE).map_err(|e| StoreError::Io { doing, source: Arc::new(e) })?;
        let read = || -> Sql<Erasing> {
            let stored = "SELECT value FROM meta WHERE name = ?1";
            let stored: Option<u32> = sql.query_row(stored, [SCAN], |r| r.get(0)).optional()?;
            Ok(Erasing {
                written: BTreeSet::new(),
                noted: ([0; 8], 0),
                scan: if unclosed { 1 } else { stored.unwrap_or(1) },
                stored,
                seen: 0,
                last: 0,
                since: Some(0),
                page_size: sql.query_row("PRAGMA page_size", [], |r| r.get(0))?,
                mapped: sql.query_row("PRAGMA auto_vacuum", [], |r| r.get::<_, u32>(0))? != 0,
            })
        };
        read().map_err(|e| error::from("preparing to erase", e))
    }
}

/// Whether the write-ahead log of a database has content: whoever wrote it last did not close it.
pub(super) fn is_unclosed(database: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(log_path(database)).and_then(|file| file.read_exact_at(&mut magic, 0)).is_ok() && is_log(magic)
}

fn is_log(magic: [u8; 4]) -> bool {
    u32::from_be_bytes(magic) & !1 == LOG_MAGIC
}

fn log_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

impl Sqlite {
    /// Does a piece of the erasing, if it is due. Returns whether there is more.
    pub(super) fn erase(&mut self, now: Millis, busy: bool) -> Result<bool> {
        let pages = self.wal.load(Ordering::Relaxed);
        let Erasing { seen, last, since, .. } = &mut self.erasing;
        let quiet = !busy && pages == *seen;
        if pages != *seen {
            *last = now;
        }
        if pages > 0 {
            since.get_or_insert(now);
        }
        let rested = quiet && now.saturating_sub(*last) >= self.options.erase_rest;
        let due = since.is_some_and(|since| rested || now.saturating_sub(since) >= self.options.erase_busy);
        let done = if due {
            self.erase_log(now)
        } else if !busy && self.erasing.scan > 0 {
            self.scan().map_err(|e| error::from("checking the file for deleted content", e))
        } else {
            Ok(false)
        };
        // Not at once again: the disk may be full.
        done.inspect_err(|_| self.postpone(now))
    }

    /// The idle work is over: what is written from now on is somebody else's.
    pub(super) fn rested(&mut self) {
        self.erasing.seen = self.wal.load(Ordering::Relaxed);
    }

    fn postpone(&mut self, now: Millis) {
        self.erasing.last = now;
        self.erasing.since = Some(now);
    }

    /// Checks some of the pages that were written, or empties the log when there are none. Returns whether there is more.
    fn erase_log(&mut self, now: Millis) -> Result<bool> {
        self.note_written()?;
        let failed = |e| error::from("erasing deleted content", e);
        if self.check_written().map_err(failed)? {
            return Ok(true);
        }
        self.store_scan().map_err(failed)?;
        let used = self.wal.load(Ordering::Relaxed);
        if self.empty_log(READER_WAIT).map_err(failed)? {
            self.erasing.since = None;
            self.prepare_log(used);
        } else {
            self.postpone(now);
        }
        Ok(false)
    }

    /// Everything that can be erased is, before the store is closed.
    pub(super) fn close(&mut self) -> Result<()> {
        let end = Instant::now() + CLOSING;
        // Whatever has expired is removed after the next start: it was not deleted by anybody.
        while self.tidy(0)? && Instant::now() < end {}
        let failed = |e| error::from("erasing deleted content", e);
        self.note_written()?;
        while self.check_written().map_err(failed)? {
            if Instant::now() >= end {
                self.erasing.scan = 1;
                break;
            }
        }
        self.store_scan().map_err(failed)?;
        self.empty_log(CLOSING_READERS).map_err(failed)?;
        Ok(())
    }

    // --- the log ----------------------------------------------------------------------------------------------------

    /// Notes the pages of which the write-ahead log has new versions. To be called before the log may start over.
    pub(super) fn note_written(&mut self) -> Result<()> {
        let io = |source| StoreError::Io { doing: "reading the write-ahead log", source: Arc::new(source) };
        self.read_log().map_err(io)
    }

    fn read_log(&mut self) -> io::Result<()> {
        let frames = self.wal.load(Ordering::Relaxed);
        if frames == 0 {
            return Ok(());
        }
        let file = File::open(log_path(&self.path))?;
        let mut header = [0; LOG_HEADER as usize];
        file.read_exact_at(&mut header, 0)?;
        let salt = <[u8; 8]>::try_from(&header[16..24]).unwrap_or_default();
        let Erasing { written, noted, page_size, .. } = &mut self.erasing;
        if noted.0 != salt {
            *noted = (salt, 0);
        }
        while noted.1 < frames {
            let mut page = [0; 4];
            file.read_exact_at(&mut page, LOG_HEADER + noted.1 * (FRAME_HEADER + u64::from(*page_size)))?;
            written.insert(u32::from_be_bytes(page));
            noted.1 += 1;
        }
        Ok(())
    }

    /// Copies the write-ahead log to the database, and makes its file empty. False if a reader is in the middle of it.
    pub(super) fn empty_log(&mut self, wait: Duration) -> Sql<bool> {
        self.sql.busy_timeout(wait)?;
        let result = self.sql.wal_checkpoint_v2(None::<&str>, CheckpointMode::TRUNCATE);
        self.sql.busy_timeout(LOCK_WAIT)?;
        match result {
            Ok(_) => {
                self.wal.store(0, Ordering::Relaxed);
                self.wal_retry = 0;
                Ok(true)
            }
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Fills the empty file with zeros for as many pages as were used. A commit into a file that has to grow takes twice as
    /// long: the file system syncs its own journal as well. A log that begins with zeros is empty.
    fn prepare_log(&self, used: u64) {
        let pages = used.min(u64::from(self.options.wal_rest));
        let bytes = LOG_HEADER + pages * (FRAME_HEADER + u64::from(self.erasing.page_size));
        let fill = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).open(log_path(&self.path))?;
            let zeros = vec![0; usize::try_from(bytes).unwrap_or(0)];
            file.write_all_at(&zeros, 0)?;
            match self.options.durability {
                Durability::Power => file.sync_data(),
                Durability::Crash => Ok(()),
            }
        };
        // Without it everything works as well.
        let _ = fill();
    }

    // --- pages ------------------------------------------------------------------------------------------------------

    /// Checks some of the pages that were written. Returns whether there are more. What it writes itself needs no check.
    fn check_written(&mut self) -> Sql<bool> {
        let pages: Vec<u32> = self.erasing.written.iter().copied().take(self.options.erase_pages).collect();
        if pages.is_empty() {
            return Ok(false);
        }
        self.execute("BEGIN IMMEDIATE")?;
        let checked = self.page_count()? < MAX_PAGES;
        for page in pages.iter().filter(|_| checked) {
            self.wipe(*page, |bytes| unused(bytes, *page))?;
        }
        self.execute("COMMIT")?;
        pages.iter().for_each(|page| {
            self.erasing.written.remove(page);
        });
        Ok(!self.erasing.written.is_empty())
    }

    /// Checks some pages of the whole file: also those of the free list. Returns whether there is more.
    fn scan(&mut self) -> Sql<bool> {
        self.execute("BEGIN IMMEDIATE")?;
        let count = self.page_count()?;
        let step = u32::try_from(self.options.erase_pages).unwrap_or(u32::MAX);
        let end = self.erasing.scan.saturating_add(step).min(count.saturating_add(1));
        if count < MAX_PAGES {
            let free = self.free_pages()?;
            for page in self.erasing.scan..end {
                match free.get(&page) {
                    Some(used) => self.wipe(page, |bytes| Some(std::iter::once(*used..bytes.len()).collect()))?,
                    None => self.wipe(page, |bytes| unused(bytes, page))?,
                }
            }
        }
        let next = if end > count || count >= MAX_PAGES { 0 } else { end };
        if next == 0 {
            set_meta(&self.sql, SCAN, 0)?;
        }
        self.execute("COMMIT")?;
        self.erasing.scan = next;
        if next == 0 {
            self.erasing.stored = Some(0);
        }
        Ok(next > 0)
    }

    /// Stores how far the check of the whole file has come.
    fn store_scan(&mut self) -> Sql<()> {
        let scan = self.erasing.scan;
        if self.erasing.stored != Some(scan) {
            set_meta(&self.sql, SCAN, u64::from(scan))?;
            self.erasing.stored = Some(scan);
        }
        Ok(())
    }

    fn page_count(&self) -> Sql<u32> {
        self.sql.prepare_cached("PRAGMA page_count")?.query_row([], |r| r.get(0))
    }

    /// The pages of the free list, and how many bytes of each are used: those that say which others are free.
    fn free_pages(&self) -> Sql<BTreeMap<u32, usize>> {
        let mut free = BTreeMap::new();
        let number = |bytes: &[u8], at: usize| {
            let bytes = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u32::from_be_bytes)
        };
        let mut next = self.page(1, |first| number(first, 32))?.unwrap_or(0);
        while next != 0 && !free.contains_key(&next) {
            let trunk = next;
            let leaves = self.page(trunk, |bytes| {
                next = number(bytes, 0);
                let count = usize::try_from(number(bytes, 4)).unwrap_or(0).min(bytes.len() / 4 - 2);
                (0..count).map(|leaf| number(bytes, 8 + 4 * leaf)).collect::<Vec<_>>()
            })?;
            let Some(leaves) = leaves else { break };
            free.insert(trunk, 8 + 4 * leaves.len());
            free.extend(leaves.into_iter().map(|leaf| (leaf, 0)));
        }
        Ok(free)
    }

    /// Overwrites ranges of a page with zeros, if they hold anything else.
    fn wipe(&self, page: u32, ranges: impl Fn(&[u8]) -> Option<Ranges>) -> Sql<()> {
        if self.is_map(page) {
            return Ok(());
        }
        let erased = self.page(page, |bytes| {
            let dirty = |range: &Range<usize>| bytes.get(range.clone()).is_some_and(|b| b.iter().any(|b| *b != 0));
            let ranges = ranges(bytes)?;
            ranges.iter().any(dirty).then(|| {
                let mut erased = bytes.to_vec();
                for range in ranges {
                    if let Some(unused) = erased.get_mut(range) {
                        unused.fill(0);
                    }
                }
                erased
            })
        })?;
        match erased.flatten() {
            Some(bytes) => self.sql.prepare_cached(WRITE)?.execute(params![page, bytes]).map(|_| ()),
            None => Ok(()),
        }
    }

    /// What `read` makes of a page; none if the file has no such page.
    fn page<T>(&self, page: u32, read: impl FnOnce(&[u8]) -> T) -> Sql<Option<T>> {
        let mut statement = self.sql.prepare_cached(READ)?;
        let mut rows = statement.query([page])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(read(row.get_ref(0)?.as_blob()?)))
    }

    /// Whether the page maps others: each such page is followed by as many as it has entries of five bytes.
    fn is_map(&self, page: u32) -> bool {
        let group = self.erasing.page_size / 5 + 1;
        // The page after it stands in for one where SQLite keeps its locks.
        self.erasing.mapped && page >= 2 && matches!((page - 2) % group, 0 | 1)
    }
}

type Ranges = SmallVec<[Range<usize>; 4]>;

/// The bytes of a b-tree page that belong to no row: between the pointers to rows and the first row, and those of rows that were
/// deleted. None if it is no b-tree page, or one that cannot be understood.
fn unused(page: &[u8], number: u32) -> Option<Ranges> {
    let short = |at: usize| Some(usize::from(u16::from_be_bytes(page.get(at..at + 2)?.try_into().ok()?)));
    // The first page begins with the header of the file.
    let header = if number == 1 { 100 } else { 0 };
    let pointers = match page.get(header)? {
        0x0a | 0x0d => header + 8,
        0x02 | 0x05 => header + 12,
        _ => return None,
    };
    let content = match short(header + 5)? {
        0 => 65_536,
        start => start,
    };
    let rows = short(header + 3)?;
    let begin = pointers + 2 * rows;
    if begin > content || content > page.len() {
        return None;
    }
    for row in 0..rows {
        let at = short(pointers + 2 * row)?;
        if at < content || at >= page.len() {
            return None;
        }
    }
    let mut ranges = Ranges::new();
    ranges.push(begin..content);
    let (mut at, mut least) = (short(header + 1)?, content);
    while at != 0 {
        let (next, size) = (short(at)?, short(at + 2)?);
        if at < least || size < 4 || at + size > page.len() {
            return None;
        }
        ranges.push(at + 4..at + size);
        (at, least) = (next, at + size);
    }
    Some(ranges)
}

#[cfg(test)]
mod tests;
