//! The lock file of a data directory: the process that opens a store holds the lock for as long as the store is open.

use crate::shape::{Result, StoreError};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

/// The file's name in the data directory. The file is never removed; only the lock on it matters.
pub const LOCK_FILE: &str = "vorpal.lock";

/// The lock; released when dropped, or when the process ends for whatever reason.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a data directory, and leaves this process' id in it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] with the holder's process id if another process holds it; [`StoreError::Io`].
    pub fn take(directory: &Path) -> Result<Lock> {
        let io = |source| StoreError::Io { doing: "locking the data directory", source: Arc::new(source) };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(directory.join(LOCK_FILE)).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked {
                    path: directory.display().to_string().into(),
                    pid: holder(&mut file).unwrap_or(0),
                });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Lock { _file: file })
    }
}

/// The process id in the file, unless its holder has not written it yet.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn a_second_taker_is_told_who_has_it() {
        let folder = Folder::new();
        let lock = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err();
        assert!(matches!(error, StoreError::Locked { pid, .. } if pid == std::process::id()), "{error}");
        assert!(error.to_string().contains(&format!("locked by pid {}", std::process::id())), "{error}");
        drop(lock);
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn what_an_earlier_holder_left_does_not_matter() {
        let folder = Folder::new();
        std::fs::write(folder.path().join(LOCK_FILE), "999999999999\n garbage").unwrap();
        let _lock = Lock::take(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join(LOCK_FILE)).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
    }
}
