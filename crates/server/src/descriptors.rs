//! File descriptors: as many as the system allows, some reserved for the server itself, and one for the control socket.

use std::fs::File;
use std::io::Error;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that client connections never take: for the database and its readers, listeners, monitoring, orders, and
/// certificates while they are read. About 40 are in use on a busy server.
pub(crate) const SPARE: usize = 64;

/// Raises the soft limit to the hard limit. The server uses epoll, which has no maximum descriptor.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of file descriptors cannot be raised");
    }
}

/// Number of descriptors that client connections may take.
pub(crate) fn for_connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)).saturating_sub(SPARE).max(1)
}

/// Whether an error means that no descriptor is left, for this process or for the system.
pub(crate) fn are_used_up(error: &Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A reserved descriptor, so that one more connection can be accepted when no other descriptor is left.
#[derive(Default)]
pub(crate) struct Reserve(Option<File>);

impl Reserve {
    /// Releases the descriptor for the next accept. False if it is already released.
    pub fn lend(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Reserves a descriptor again, if one is free.
    pub fn restore(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_lent_once_until_it_is_restored() {
        let mut reserve = Reserve::default();
        assert!(!reserve.lend());
        reserve.restore();
        assert!(reserve.lend() && !reserve.lend());
        reserve.restore();
        assert!(reserve.lend());
    }

    #[test]
    fn the_errors_for_want_of_descriptors_are_known() {
        assert!(are_used_up(&Error::from(Errno::MFILE)) && are_used_up(&Error::from(Errno::NFILE)));
        assert!(!are_used_up(&Error::from(Errno::CONNABORTED)));
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert!(for_connections() >= 1);
    }
}
