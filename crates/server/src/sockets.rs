//! Listening sockets: passed by the service manager (systemd's socket activation), or opened by the server.
//!
//! A socket that is passed stays open when the server has ended: clients that connect meanwhile wait in the system's queue, and
//! the next process serves them.

use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::{Context, Error, Result, anyhow, bail};
use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket};
use vorpal_config::Config;

use crate::holder;

/// Maximum number of connections in the system's accept queue, if the system allows it: after a restart all clients connect at once.
const BACKLOG: u32 = 4096;

/// A listener's key in the configuration, and the name of a socket that is passed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    C2s,
    C2sTls,
    C2sPlain,
    Metrics,
}

impl Key {
    pub const ALL: [Key; 4] = [Key::C2s, Key::C2sTls, Key::C2sPlain, Key::Metrics];

    pub fn name(self) -> &'static str {
        match self {
            Key::C2s => "c2s",
            Key::C2sTls => "c2s_tls",
            Key::C2sPlain => "c2s_plain",
            Key::Metrics => "metrics",
        }
    }

    pub fn addresses(self, config: &Config) -> Vec<SocketAddr> {
        let listen = &config.listen;
        match self {
            Key::C2s => listen.c2s.iter().map(|address| **address).collect(),
            Key::C2sTls => listen.c2s_tls.iter().map(|address| **address).collect(),
            Key::C2sPlain => listen.c2s_plain.iter().map(|address| **address).collect(),
            Key::Metrics => listen.metrics.iter().map(|address| **address).collect(),
        }
    }

    /// The key of a socket: by its name, else the key that lists its address. A dash counts as an underscore.
    fn of(name: &str, address: SocketAddr, config: &Config) -> Option<Key> {
        let name = name.replace('-', "_");
        let named = Key::ALL.into_iter().find(|key| key.name() == name);
        named.or_else(|| Key::ALL.into_iter().find(|key| key.addresses(config).iter().any(|own| covers(*own, address))))
    }
}

/// Whether `own` is the same address, or all addresses with the same port.
pub(crate) fn covers(own: SocketAddr, address: SocketAddr) -> bool {
    let same_kind = own.is_ipv4() == address.is_ipv4();
    own.port() == address.port() && (own.ip() == address.ip() || own.ip().is_unspecified() && same_kind)
}

/// Sockets that were passed and are not used yet.
#[derive(Default)]
pub(crate) struct Sockets(Vec<(Key, TcpListener)>);

impl Sockets {
    /// Takes the sockets passed to this process. Must be called within the runtime, once.
    ///
    /// # Errors
    /// A socket is not a TCP socket, or its purpose is not known.
    pub fn take(config: &Config) -> Result<Sockets> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for at in 0..handed.len() {
            let name = names.next().unwrap_or_default();
            let told = || format!("socket {at} of the service manager, '{name}'");
            let Some(listener) = handed.take_tcp_listener(at).with_context(told)? else { continue };
            listener.set_nonblocking(true).with_context(told)?;
            let address = listener.local_addr().with_context(told)?;
            let Some(key) = Key::of(name, address, config) else {
                let known = Key::ALL.map(Key::name).join(", ");
                bail!("{} at {address}: its name is none of {known}, and no key of [listen] has its address", told());
            };
            if key == Key::C2sPlain && !address.ip().is_loopback() {
                bail!("{} at {address}: unencrypted connections are accepted on loopback addresses only", told());
            }
            sockets.push((key, TcpListener::from_std(listener).with_context(told)?));
        }
        Ok(Sockets(sockets))
    }

    /// The listeners of a key: those that were passed for it, or else one for each of its addresses.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub fn listeners(&mut self, key: Key, config: &Config) -> Result<Vec<(SocketAddr, TcpListener)>> {
        let handed: Vec<_> = self.0.extract_if(.., |(of, _)| *of == key).collect();
        if handed.is_empty() {
            let own = key.addresses(config).into_iter().map(|address| Ok(listen(address)?.map(|own| (address, own))));
            return own.filter_map(Result::transpose).collect();
        }
        handed.into_iter().map(|(_, listener)| Ok((listener.local_addr()?, listener))).collect()
    }
}

/// Skips an IPv6 address on a machine without IPv6.
fn listen(address: SocketAddr) -> Result<Option<TcpListener>> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => match TcpSocket::new_v6() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%address, %error, "not listening: no IPv6 here");
                return Ok(None);
            }
        },
    };
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // `[::]` is IPv6 only, whatever the system's default (RFC 3493 §5.3): `0.0.0.0` may use the same port.
        rustix::net::sockopt::set_ipv6_v6only(&socket, true).context("IPV6_V6ONLY")?;
    }
    if let Err(error) = socket.bind(address) {
        if error.kind() == ErrorKind::AddrNotAvailable && address.is_ipv6() {
            tracing::warn!(%address, %error, "not listening: no such address here");
            return Ok(None);
        }
        return Err(unheard(address, &error));
    }
    Ok(Some(socket.listen(BACKLOG).map_err(|error| unheard(address, &error))?))
}

/// Why an address cannot be listened on, and what to do.
fn unheard(address: SocketAddr, error: &std::io::Error) -> Error {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => match holder::of(address) {
            Some(holder) => format!("; {holder}"),
            None => "; `ss -ltnp`, as root, shows who has it".into(),
        },
        ErrorKind::AddrNotAvailable => "; `ip address` shows the addresses of this machine".into(),
        ErrorKind::PermissionDenied if address.port() < 1024 => {
            "; for a port below 1024 let the service manager open the socket, or grant CAP_NET_BIND_SERVICE".into()
        }
        _ => String::new(),
    };
    anyhow!("cannot listen on {address}: {error}{advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_known_by_its_name_or_by_its_address() {
        let config = Config::read(std::path::Path::new(""), String::new(), [], &[]).unwrap();
        let key = |name: &str, address: &str| Key::of(name, address.parse().unwrap(), &config);
        assert_eq!(key("c2s-tls", "192.0.2.1:443"), Some(Key::C2sTls));
        assert_eq!(key("c2s_plain", "127.0.0.1:9"), Some(Key::C2sPlain));
        // By default the ports of the registry, at loopback addresses.
        assert_eq!(key("vorpal.socket", "127.0.0.1:5222"), Some(Key::C2s));
        assert_eq!(key("", "127.0.0.1:5223"), Some(Key::C2sTls));
        assert_eq!(key("vorpal.socket", "127.0.0.1:80"), None);
    }

    #[tokio::test]
    async fn an_address_that_somebody_else_has_is_told_with_who_it_is() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let told = listen(address).unwrap_err().to_string();
        assert!(told.starts_with(&format!("cannot listen on {address}: ")), "{told}");
        assert!(told.contains(&format!("; process {} (", std::process::id())) && told.ends_with(" has it"), "{told}");
    }

    #[tokio::test]
    async fn all_addresses_of_both_kinds_are_listened_on_with_one_port() {
        let v4 = listen("0.0.0.0:0".parse().unwrap()).unwrap().expect("IPv4");
        let port = v4.local_addr().unwrap().port();
        let v6 = listen(format!("[::]:{port}").parse().unwrap()).unwrap();
        // A machine may have no IPv6.
        if let Some(v6) = v6 {
            assert_eq!(v6.local_addr().unwrap().port(), port);
            let own = ("127.0.0.1", port);
            drop(std::net::TcpStream::connect(own).unwrap());
            assert!(v4.accept().await.is_ok(), "IPv4 comes to its own listener");
        }
    }

    #[test]
    fn an_address_for_all_covers_each_of_its_kind() {
        let covers = |own: &str, address: &str| covers(own.parse().unwrap(), address.parse().unwrap());
        assert!(
            covers("0.0.0.0:1", "192.0.2.1:1") && covers("[::]:1", "[::]:1") && covers("127.0.0.1:1", "127.0.0.1:1")
        );
        assert!(
            !covers("0.0.0.0:1", "[::1]:1")
                && !covers("127.0.0.1:1", "0.0.0.0:1")
                && !covers("0.0.0.0:1", "127.0.0.1:2")
        );
    }
}
