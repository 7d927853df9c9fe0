//! Secrets in the memory of the process: passwords in transit, and protection from core dumps and other processes.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A password from an operator. It is wiped when dropped, and its `Debug` output does not show it.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// The password.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Password {
    fn from(text: String) -> Password {
        Password(Zeroizing::new(text))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Serialize for Password {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Password, D::Error> {
        String::deserialize(deserializer).map(Password::from)
    }
}

/// Appends to a buffer with secrets. If it has to grow, the old memory is wiped before it is freed.
pub(crate) fn extend(buffer: &mut Zeroizing<Vec<u8>>, more: &[u8]) {
    let needed = buffer.len() + more.len();
    if needed > buffer.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two().max(ROOM)));
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
    buffer.extend_from_slice(more);
}

/// Initial capacity for a line with a password, in bytes.
const ROOM: usize = 8 * 1024;

/// Writes JSON for a secret into a buffer that is wiped.
pub(crate) fn to_json(value: &impl Serialize) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    struct Growing(Zeroizing<Vec<u8>>);
    impl std::io::Write for Growing {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            extend(&mut self.0, bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut buffer = Growing(Zeroizing::default());
    serde_json::to_writer(&mut buffer, value)?;
    Ok(buffer.0)
}

/// Prevents the memory of the process from being written to a core dump, or read by other processes of the same user (ptrace,
/// `/proc/PID/mem`). Must be called before a secret is read. If the system refuses, that is logged and the server goes on.
pub(crate) fn protect_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "core dumps cannot be switched off");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the memory of the process can be read by other processes of this user");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_over_the_socket_and_into_no_log() {
        let password = Password::from("a \"secret\"".to_owned());
        let json = to_json(&password).expect("JSON");
        assert_eq!(json.as_slice(), br#""a \"secret\"""#);
        let back: Password = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(back.as_str(), password.as_str());
        assert!(!format!("{back:?}").contains("secret"));
    }

    #[test]
    fn a_buffer_grows_to_any_length() {
        let mut buffer = Zeroizing::default();
        for _ in 0..1_000 {
            extend(&mut buffer, &[7; 100]);
        }
        assert_eq!(buffer.len(), 100_000);
        assert!(buffer.iter().all(|byte| *byte == 7));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_memory_is_protected() {
        use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
        protect_memory();
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert!(std::fs::read_to_string("/proc/self/status").is_ok(), "the gauges read it");
        assert!(std::fs::read_dir("/proc/self/fd").is_ok(), "and this");
    }
}
