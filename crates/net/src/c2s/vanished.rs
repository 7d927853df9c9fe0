//! What the system is asked to watch for: peers that are gone without a word.

use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// After this time of silence the system asks whether the peer is still there (RFC 9293 §3.8.4). A phone is woken by the
/// question, so it is not asked often.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15 * 60);

/// If there is no answer it asks again after this time.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// After this many questions without an answer the connection is closed.
const KEEPALIVE_PROBES: u32 = 5;

/// Has the system close a connection whose peer does not answer to keepalives, or has not acknowledged what was sent to it for
/// `write_timeout` (RFC 5482), which includes a peer with a window of zero.
///
/// # Errors
/// Those of the system. The connection works all the same.
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
