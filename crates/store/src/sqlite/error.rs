//! What SQLite's errors mean here.

use crate::shape::StoreError;
use rusqlite::{Error, ErrorCode, ffi};
use std::sync::Arc;

/// The error of a statement, as this crate tells it.
pub(super) fn from(doing: &'static str, error: Error) -> StoreError {
    if breaks(&error) {
        return StoreError::Broken { doing, source: Arc::new(error) };
    }
    match error.sqlite_error() {
        Some(code) if code.code == ErrorCode::DiskFull => StoreError::Full,
        // The index of the write-ahead log could not grow: that, too, is a file that needs room.
        Some(code) if code.extended_code == ffi::SQLITE_IOERR_SHMSIZE => StoreError::Full,
        _ => StoreError::Io { doing, source: Arc::new(error) },
    }
}

/// Whether nothing may be written after this error.
pub(super) fn breaks(error: &Error) -> bool {
    let Error::SqliteFailure(code, _) = error else {
        // A value of the wrong type: not what this program wrote.
        return true;
    };
    match code.code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => true,
        // After a failed sync the kernel may have dropped the pages it could not write, and a later sync says nothing of them.
        ErrorCode::SystemIoFailure => {
            let breaking = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC, ffi::SQLITE_IOERR_CORRUPTFS];
            breaking.contains(&code.extended_code)
        }
        _ => false,
    }
}

/// Whether a commit that failed with this may be in the write-ahead log, whole and with a valid mark: the frames are written
/// before the log is synced and before its index grows. A disk without room fails earlier, at a frame.
pub(super) fn may_be_written(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory))
}

/// Whether a commit that failed with this is in the write-ahead log for certain: all its frames were written.
pub(super) fn is_written(error: &Error) -> bool {
    let after = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_SHMMAP];
    error.sqlite_error().is_some_and(|code| after.contains(&code.extended_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: i32) -> StoreError {
        from("testing", Error::SqliteFailure(ffi::Error::new(code), None))
    }

    #[test]
    fn a_failed_sync_and_damage_break_the_store_and_other_weather_does_not() {
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_SHMSIZE] {
            assert!(matches!(told(code), StoreError::Full), "{code}");
        }
        for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC, ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB] {
            assert!(matches!(told(code), StoreError::Broken { .. }), "{code}");
        }
        for code in [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_READ, ffi::SQLITE_BUSY, ffi::SQLITE_NOMEM] {
            assert!(matches!(told(code), StoreError::Io { .. }), "{code}");
        }
    }

    #[test]
    fn only_what_fails_behind_the_frames_may_have_written_them() {
        let fails = |code: i32| Error::SqliteFailure(ffi::Error::new(code), None);
        for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_SHMSIZE] {
            assert!(may_be_written(&fails(code)) && is_written(&fails(code)), "{code}");
        }
        for code in [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_NOMEM] {
            assert!(may_be_written(&fails(code)) && !is_written(&fails(code)), "{code}");
        }
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_BUSY, ffi::SQLITE_CORRUPT] {
            assert!(!may_be_written(&fails(code)), "{code}");
        }
    }
}
