//! Notifications to the service manager: sd_notify(3), for units with `Type=notify`.
//!
//! Each is a datagram to the socket that `NOTIFY_SOCKET` names, with one line for each assignment. Without the variable nothing is
//! sent. If sending fails, that is logged and has no other effect.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Maximum length of a status text, in bytes: one line of `systemctl status`.
const MAX_STATUS: usize = 512;

/// Notifies the service manager of the server's states.
#[derive(Default)]
pub(crate) struct Notify(Option<(UnixDatagram, SocketAddr)>);

impl Notify {
    /// The notifier for the manager that started this process, if it asked for notifications.
    pub fn from_env() -> Notify {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Notify::default();
        };
        let address = match name.to_string_lossy().strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&name),
        };
        match address.and_then(|address| Ok((UnixDatagram::unbound()?, address))) {
            Ok(to) => {
                // A manager that does not read must not block the server.
                let _ = to.0.set_nonblocking(true);
                Notify(Some(to))
            }
            Err(error) => {
                tracing::warn!(%error, socket = %name.display(), "the service manager cannot be notified (NOTIFY_SOCKET)");
                Notify::default()
            }
        }
    }

    /// The server is ready, after its start or after a reload.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\n{}", line(status)));
    }

    /// A reload begins. [`Notify::ready`] must follow, whatever the result.
    pub fn reloading(&self) {
        let time = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let micros = seconds * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n{}", line("reading the configuration again")));
    }

    /// The server is stopping.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\n{}", line(status)));
    }

    /// The interval of watchdog notifications; `None` if the manager has no watchdog for this process.
    pub fn watchdog(&self) -> Option<Duration> {
        self.0.as_ref()?;
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let pid = number("WATCHDOG_PID");
        if pid.is_some_and(|pid| pid != u64::from(std::process::id())) {
            return None;
        }
        let within = number("WATCHDOG_USEC").filter(|micros| *micros > 0)?;
        // Twice per period would be enough. It is sent more often, because a busy machine may be late.
        Some(Duration::from_micros(within) / 4)
    }

    /// The server is alive.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, text: &str) {
        let Some((socket, address)) = &self.0 else { return };
        if let Err(error) = socket.send_to_addr(text.as_bytes(), address) {
            tracing::warn!(%error, "a notification to the service manager was not sent");
        }
    }
}

/// The status as one line.
fn line(status: &str) -> String {
    let mut line: String = status.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.floor_char_boundary(MAX_STATUS));
    format!("STATUS={line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        assert_eq!(line("refused:\nREADY=1"), "STATUS=refused: READY=1");
        let long = line(&"\u{e9}".repeat(1_000));
        assert!(long.len() <= MAX_STATUS + "STATUS=".len() && long.ends_with('\u{e9}'));
    }
}
