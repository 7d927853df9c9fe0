//! Detection of vanished peers by the operating system.

use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// Idle time after which the system sends a keepalive probe (RFC 9293 §3.8.4). A probe wakes a phone, so it is not sent often.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15 * 60);

/// Interval of further probes without an answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// Number of unanswered probes after which the connection is closed.
const KEEPALIVE_PROBES: u32 = 5;

/// Makes the system close a connection whose peer does not answer keepalive probes, or has not acknowledged sent data for
/// `write_timeout` (RFC 5482), including a peer with a zero window.
///
/// # Errors
/// Those of the system. The connection works nevertheless.
pub(super) fn notice(socket: &TcpStream, write_timeout: Duration) -> std::io::Result<()> {
    let millis = u32::try_from(write_timeout.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(socket, millis)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_watches_every_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_client, (server, _)) = (client.expect("connected"), server.expect("accepted"));
        notice(&server, Duration::from_secs(300)).expect("options");
        assert!(sockopt::socket_keepalive(&server).expect("an option"));
        assert_eq!(sockopt::tcp_keepidle(&server).expect("an option"), KEEPALIVE_IDLE);
        assert_eq!(sockopt::tcp_user_timeout(&server).expect("an option"), 300_000);
    }
}
