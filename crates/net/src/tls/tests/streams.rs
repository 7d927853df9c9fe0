//! Our end over a socket, against a client of its own.

use std::future::poll_fn;

use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A client over its half of a pipe.
struct Client {
    tls: ClientConnection,
    pipe: DuplexStream,
    heard: Vec<u8>,
}

impl Client {
    async fn write(&mut self) {
        let mut wire = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut wire).expect("memory");
        }
        // Nobody may be there any more.
        let _ = self.pipe.write_all(&wire).await;
    }

    /// Reads once. False at the end of the pipe.
    async fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let n = self.pipe.read(&mut bytes).await.expect("a pipe");
        let mut rest = &bytes[..n];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).expect("memory");
            self.tls.process_new_packets().expect("no fault");
            // It has not said everything yet, or it has.
            let _ = io::Read::read_to_end(&mut self.tls.reader(), &mut self.heard);
        }
        n > 0
    }
}

/// Both ends. The client has said `first` as soon as it could.
async fn meet(
    version: &'static SupportedProtocolVersion,
    room: usize,
    first: &[u8],
) -> (Client, Stream<DuplexStream>, BytesMut) {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    let config = Arc::new(authority.client(&[version]));
    let name = ServerName::try_from("example.org").expect("a name");
    let (pipe, ours) = duplex(room);
    let mut client = Client { tls: ClientConnection::new(config, name).expect("a client"), pipe, heard: Vec::new() };
    io::Write::write_all(&mut client.tls.writer(), first).expect("memory");
    let mut plain = BytesMut::new();
    let server = async {
        let accepted = hosts.accept(ours, None, Entry::Direct, &mut plain).await;
        accepted.expect("a connection")
    };
    let shake = async {
        client.write().await;
        while client.tls.is_handshaking() {
            assert!(client.read().await);
            client.write().await;
        }
    };
    let ((stream, bindings), ()) = tokio::join!(server, shake);
    let exported = client.tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).expect("done");
    assert_eq!(bindings.exporter, Some(exported));
    let certificates = client.tls.peer_certificates().expect("a certificate");
    assert_eq!(bindings.server_end_point, server_end_point(&certificates[0]));
    (client, stream, plain)
}

async fn hear(stream: &mut Stream<DuplexStream>, plain: &mut BytesMut) -> io::Result<usize> {
    let mut scratch = [0; 777];
    let before = plain.len();
    // Reading may bring nothing that the client says.
    while poll_fn(|cx| stream.poll_read(cx, &mut scratch, plain)).await? > 0 && plain.len() == before {}
    Ok(plain.len() - before)
}

#[tokio::test]
async fn what_comes_with_the_end_of_the_handshake_is_not_lost() {
    for version in BOTH {
        let (mut client, mut stream, mut plain) = meet(version, 65_536, b"<stream:stream>").await;
        client.write().await;
        while plain.len() < 15 {
            hear(&mut stream, &mut plain).await.expect("heard");
        }
        assert_eq!(&plain[..], b"<stream:stream>");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_us_and_gets_everything_in_the_end() {
    for version in BOTH {
        let (mut client, mut stream, _) = meet(version, 3_000, b"").await;
        let text: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let mut taken = 0;
        let stopped = poll_fn(|cx| {
            while let std::task::Poll::Ready(n) = stream.poll_write(cx, &text[taken..]) {
                taken += n.expect("written");
            }
            std::task::Poll::Ready(taken)
        })
        .await;
        assert!((1..100_000).contains(&stopped), "{stopped} were taken");

        // While it does not read, it is heard.
        io::Write::write_all(&mut client.tls.writer(), b"still here").expect("memory");
        client.write().await;
        let mut plain = BytesMut::new();
        hear(&mut stream, &mut plain).await.expect("heard");
        assert_eq!(&plain[..], b"still here");

        let rest = &text[taken..];
        let writes = async {
            let mut rest = rest;
            while !rest.is_empty() {
                let n = poll_fn(|cx| stream.poll_write(cx, rest)).await.expect("written");
                rest = &rest[n..];
            }
            poll_fn(|cx| stream.poll_shutdown(cx)).await.expect("closed");
        };
        let reads = async { while client.read().await {} };
        tokio::join!(writes, reads);
        assert!(client.heard == text);
        let state = client.tls.process_new_packets().expect("no fault");
        assert!(state.peer_has_closed(), "the end is one of TLS");
    }
}

#[tokio::test]
async fn an_end_of_tls_is_an_end_and_one_of_the_socket_alone_is_an_error() {
    for version in BOTH {
        let (mut client, mut stream, mut plain) = meet(version, 65_536, b"").await;
        io::Write::write_all(&mut client.tls.writer(), b"last words").expect("memory");
        client.tls.send_close_notify();
        client.write().await;
        assert_eq!(hear(&mut stream, &mut plain).await.expect("heard"), 10);
        assert_eq!(hear(&mut stream, &mut plain).await.expect("the end"), 0);
        assert_eq!(hear(&mut stream, &mut plain).await.expect("the end"), 0);
        poll_fn(|cx| stream.poll_shutdown(cx)).await.expect("closed");

        let (client, mut stream, mut plain) = meet(version, 65_536, b"").await;
        drop(client);
        let error = hear(&mut stream, &mut plain).await.expect_err("cut off");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[tokio::test]
async fn broken_bytes_end_the_connection_after_what_was_said_before() {
    for version in BOTH {
        let (mut client, mut stream, mut plain) = meet(version, 65_536, b"").await;
        io::Write::write_all(&mut client.tls.writer(), b"right").expect("memory");
        client.write().await;
        client.pipe.write_all(&[23, 3, 3, 0, 32]).await.expect("written");
        client.pipe.write_all(&[7; 32]).await.expect("written");
        assert_eq!(hear(&mut stream, &mut plain).await.expect("heard"), 5);
        assert!(hear(&mut stream, &mut plain).await.is_err());
        assert!(hear(&mut stream, &mut plain).await.is_err());
        poll_fn(|cx| stream.poll_shutdown(cx)).await.expect("the socket is closed all the same");
    }
}

#[tokio::test]
async fn a_client_that_is_refused_or_goes_away_during_the_handshake_is_an_error() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    let (mut pipe, ours) = duplex(4096);
    pipe.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    assert!(hosts.accept(ours, None, Entry::Direct, &mut BytesMut::new()).await.is_err());
    let mut alert = [0; 7];
    pipe.read_exact(&mut alert).await.expect("an alert");
    assert_eq!(alert[0], 21);

    // No protocol in common: the alert comes from the handshake itself.
    let mut config = authority.client(&[&TLS13]);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("example.org").expect("a name");
    let (pipe, ours) = duplex(4096);
    let mut client =
        Client { tls: ClientConnection::new(Arc::new(config), name).expect("a client"), pipe, heard: Vec::new() };
    client.write().await;
    assert!(hosts.accept(ours, None, Entry::Direct, &mut BytesMut::new()).await.is_err());
    let mut wire = Vec::new();
    client.pipe.read_to_end(&mut wire).await.expect("an alert");
    feed(&wire, |bytes| client.tls.read_tls(bytes));
    let told = client.tls.process_new_packets().err();
    assert_eq!(told, Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)));

    let (mut pipe, ours) = duplex(4096);
    pipe.write_all(&[22, 3, 1, 2]).await.expect("written");
    drop(pipe);
    let error = hosts.accept(ours, None, Entry::Direct, &mut BytesMut::new()).await.err().expect("gone");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn what_is_read_is_counted_as_the_socket_gave_it() {
    for version in BOTH {
        let (mut client, mut stream, mut plain) = meet(version, 65_536, b"").await;
        for _ in 0..50 {
            io::Write::write_all(&mut client.tls.writer(), b" ").expect("memory");
            client.write().await;
        }
        let (mut scratch, mut read, before) = ([0; 777], 0, plain.len());
        while plain.len() < before + 50 {
            read += poll_fn(|cx| stream.poll_read(cx, &mut scratch, &mut plain)).await.expect("read");
        }
        assert!(read >= 50 * (1 + 5 + 16), "{read} bytes for fifty records of one each");
    }
}
