//! A commit that failed must not come back.
//!
//! SQLite writes a transaction's frames to the write-ahead log, the last one with the mark of a commit, and then syncs the log and
//! enters the frames in its index, which is a file in shared memory that may have to grow. If that fails, the transaction is
//! reported as failed and this process does not see it; but a process that is started after a crash reads the log itself, and
//! finds it. Any commit that follows is written in the same place, and as each frame's checksum is built on the one
//! before, nothing behind it is valid any more. So after such a failure one is written at once that says nothing.

use super::{Sqlite, error};
use crate::shape::Result;
use std::time::Duration;

/// How long the writer waits for readers when the log can only be emptied.
const READER_WAIT: Duration = Duration::from_millis(100);

/// Says nothing, and never the same twice: the frame must differ from the one it is written over.
const NOTHING: &str = "INSERT INTO meta (name, value) VALUES ('superseded', 1) \
                       ON CONFLICT (name) DO UPDATE SET value = value + 1";

impl Sqlite {
    /// Writes over what a commit that failed may have left. Needs no room: its place is in the file already.
    ///
    /// # Errors
    /// It could not be done, and has to be before anything else is written.
    pub(super) fn supersede(&mut self) -> Result<()> {
        if !self.undone {
            return Ok(());
        }
        let failed = match self.execute(NOTHING) {
            Ok(()) => None,
            // It failed just as the other one did, but it stands in its place.
            Err(e) if error::is_written(&e) => None,
            Err(e) => Some(e),
        };
        self.abandon();
        if let Some(e) = failed {
            // Else the log can be emptied, if no reader is in the middle of it.
            self.note_written()?;
            if !matches!(self.empty_log(READER_WAIT), Ok(true)) {
                return Err(error::from("taking back a failed commit", e));
            }
        }
        self.undone = false;
        Ok(())
    }
}
