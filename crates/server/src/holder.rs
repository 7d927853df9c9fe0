//! The process that listens on a port, if the system lets this user see it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::files;

/// The state of a listening socket in the system's list.
const LISTENS: &str = "0A";

/// A listening socket from the system's list.
#[derive(Debug, PartialEq, Eq)]
struct Listener {
    address: SocketAddr,
    user: u32,
    inode: String,
}

/// Which process prevents this one from using an address, as the end of a sentence: "process 812 (prosody), of the user prosody,
/// has it"; `None` if it cannot be seen.
pub(crate) fn of(address: SocketAddr) -> Option<String> {
    let lists =
        ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(|list| std::fs::read_to_string(list).unwrap_or_default());
    let listener =
        lists.iter().flat_map(|list| listeners(list)).find(|listener| is_in_the_way(listener.address, address))?;
    let user = files::name(listener.user);
    Some(match process(&listener.inode) {
        Some((pid, name)) => format!("process {pid} ({name}), of the user {user}, has it"),
        // Only root sees the open files of other users' processes.
        None => format!("a process of the user {user} has it; `ss -ltnp`, as root, shows which"),
    })
}

/// Whether a socket that listens on `other` prevents listening on `address`.
fn is_in_the_way(other: SocketAddr, address: SocketAddr) -> bool {
    let (a, b) = (other.ip().to_canonical(), address.ip().to_canonical());
    // `[::]` may include IPv4.
    let wide = |ip: IpAddr, of: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || of.is_ipv4());
    other.port() == address.port() && (a == b || wide(a, b) || wide(b, a))
}

/// The listening sockets (proc_pid_net(5)).
fn listeners(list: &str) -> impl Iterator<Item = Listener> {
    list.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if *fields.get(3)? != LISTENS {
            return None;
        }
        let (user, inode) = (fields.get(7)?.parse().ok()?, (*fields.get(9)?).to_owned());
        Some(Listener { address: address(fields.get(1)?)?, user, inode })
    })
}

/// Parses an address of the list: 32-bit words in the processor's byte order, then the port, in hexadecimal digits.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for at in (0..ip.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => Ipv4Addr::from(v4).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).into(),
    };
    Some(SocketAddr::new(ip, port))
}

/// The process that has a socket open, and its name.
fn process(inode: &str) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?;
    let mut pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        let mut links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        links.any(|link| link.as_os_str() == wanted.as_str())
    };
    let pid = pids.find(has)?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = name.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    Some((pid, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_systems_lists_are_read() {
        let list = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                    0: 0100007F:1466 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 4711 1 0\n   \
                    1: 0100007F:1466 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n   \
                    2: B80D0120000000000000000001000000:1467 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 4713 1\n\
                    broken 0A\n";
        let found: Vec<Listener> = listeners(list).collect();
        let of = |address: &str, user, inode: &str| Listener {
            address: address.parse().unwrap(),
            user,
            inode: inode.into(),
        };
        assert_eq!(found, [of("127.0.0.1:5222", 998, "4711"), of("[2001:db8::1]:5223", 0, "4713")]);
    }

    #[test]
    fn who_listens_at_all_addresses_is_in_the_way_of_each() {
        let way = |other: &str, address: &str| is_in_the_way(other.parse().unwrap(), address.parse().unwrap());
        assert!(
            way("127.0.0.1:1", "127.0.0.1:1") && way("0.0.0.0:1", "127.0.0.1:1") && way("127.0.0.1:1", "0.0.0.0:1")
        );
        assert!(way("[::]:1", "127.0.0.1:1") && way("[::]:1", "[::1]:1"));
        assert!(!way("0.0.0.0:1", "[::1]:1") && !way("127.0.0.1:1", "127.0.0.2:1") && !way("0.0.0.0:1", "0.0.0.0:2"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_is_named() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let told = of(other.local_addr().unwrap()).unwrap();
        let begin = format!("process {} (", std::process::id());
        assert!(told.starts_with(&begin) && told.ends_with(", has it"), "{told}");
        let address = other.local_addr().unwrap();
        drop(other);
        assert_eq!(of(address), None);
    }
}
