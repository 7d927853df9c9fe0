//! A TLS connection over a socket.
//!
//! While idle it holds no buffer: bytes are read into one that the caller lends, encrypted in one of the worker, and kept only if
//! they are incomplete or the socket does not accept them.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use rustls::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vorpal_core::session::Tls;
use vorpal_proto::sasl::ChannelBindings;

use super::{
    hosts::{Entry, TlsHosts},
    machine::{Hello, Machine},
};

/// Maximum number of bytes encrypted at once: two records.
const CHUNK: usize = 2 << 14;

thread_local! {
    /// Scratch buffer of a worker, never kept across an await: encrypted output.
    static SEALED: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(CHUNK + 1024));
}

/// One connection. Its handshake is done.
pub struct Stream<S> {
    socket: S,
    tls: Machine,
    /// output that the socket did not accept
    unsent: BytesMut,
    /// close_notify was sent
    closing: bool,
    failed: bool,
}

impl TlsHosts {
    /// Does the handshake of a client that begins TLS, with the certificate of the host that it names, or of `to`. Data that it has
    /// already sent within TLS is in `plain`: no event will announce it.
    ///
    /// Not cancel-safe: a handshake that is dropped is lost, with its connection.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut socket: S,
        to: Option<&str>,
        entry: Entry,
        plain: &mut BytesMut,
    ) -> io::Result<(Stream<S>, ChannelBindings)> {
        let mut hello = Hello::default();
        let mut out = BytesMut::new();
        let mut bytes = vec![0; 2048];
        let (name, mut seen) = loop {
            let n = read(&mut socket, &mut bytes).await?;
            match hello.feed(bytes.get(..n).unwrap_or_default(), &mut out) {
                Ok(None) => {}
                Ok(Some(whole)) => break whole,
                Err(error) => {
                    let _ = poll_fn(|cx| poll_unsent(&mut socket, &mut out, cx)).await;
                    return Err(bad(error));
                }
            }
        };
        drop(hello);
        let host = self.select(name.as_deref(), to);
        let tls = Machine::new(&host.config(entry)).map_err(bad)?;
        let mut stream = Stream { socket, tls, unsent: out, closing: false, failed: false };
        let mut fed = stream.tls.feed(&mut seen, plain, &mut stream.unsent);
        drop(seen);
        loop {
            poll_fn(|cx| stream.poll_flush(cx)).await?;
            fed.map_err(bad)?;
            if !stream.tls.is_handshaking() {
                break;
            }
            if stream.tls.has_ended() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let n = read(&mut stream.socket, &mut bytes).await?;
            fed = stream.tls.feed(bytes.get_mut(..n).unwrap_or_default(), plain, &mut stream.unsent);
        }
        let exporter = stream.tls.take_exporter();
        Ok((stream, ChannelBindings { exporter, server_end_point: host.server_end_point() }))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// The negotiated version and cipher.
    pub fn encryption(&self) -> Tls {
        self.tls.encryption()
    }

    /// Reads once. Appends the client's data, possibly none, to `plain`, and returns the number of bytes read from the socket: with
    /// padding and empty records they may be many times more. 0 is the end. `scratch` is the read buffer.
    ///
    /// # Errors
    /// Those of the socket, those of TLS, and an end of the socket without close_notify, which anybody on the path may cause.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        plain: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        if self.tls.has_ended() {
            return Poll::Ready(Ok(0));
        }
        if self.failed {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let mut buf = ReadBuf::new(scratch);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf))?;
        let read = buf.filled().len();
        if read == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let before = plain.len();
        let fed = self.tls.feed(buf.filled_mut(), plain, &mut self.unsent);
        // Records of TLS itself do not wait for other output. Pending output is written first.
        if !self.unsent.is_empty() {
            let _ = self.poll_flush(cx)?;
        }
        if let Err(error) = fed {
            self.failed = true;
            // Data from before is delivered first.
            return Poll::Ready(if plain.len() > before { Ok(read) } else { Err(bad(error)) });
        }
        Poll::Ready(Ok(read))
    }

    /// Reads once and discards the data without processing it: for use after [`Stream::poll_shutdown`]. 0 is the end.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(scratch);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Number of encrypted bytes that the socket did not accept.
    pub fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// Encrypts and writes. Returns how many bytes were accepted; they are all written only when [`Stream::poll_flush`] is ready.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let bytes = bytes.get(..CHUNK).unwrap_or(bytes);
        SEALED.with_borrow_mut(|sealed| {
            sealed.clear();
            self.tls.encrypt(bytes, sealed).map_err(bad)?;
            let mut rest: &[u8] = sealed;
            while !rest.is_empty() {
                match Pin::new(&mut self.socket).poll_write(cx, rest)? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(n) => rest = rest.get(n..).unwrap_or_default(),
                    Poll::Pending => {
                        self.unsent.extend_from_slice(rest);
                        break;
                    }
                }
            }
            Poll::Ready(Ok(bytes.len()))
        })
    }

    /// Writes the output that the socket did not accept.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_unsent(&mut self.socket, &mut self.unsent, cx)
    }

    /// Ends TLS, then the socket.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            self.closing = true;
            if !self.failed {
                self.tls.close(&mut self.unsent).map_err(bad)?;
            }
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

fn poll_unsent<S: AsyncWrite + Unpin>(
    socket: &mut S,
    unsent: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if unsent.is_empty() {
        return Poll::Ready(Ok(()));
    }
    while !unsent.is_empty() {
        match ready!(Pin::new(&mut *socket).poll_write(cx, unsent))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            n => unsent.advance(n),
        }
    }
    *unsent = BytesMut::new();
    Poll::Ready(Ok(()))
}

/// At least one byte.
async fn read<S: AsyncRead + Unpin>(socket: &mut S, bytes: &mut [u8]) -> io::Result<usize> {
    let n = poll_fn(|cx| {
        let mut buf = ReadBuf::new(bytes);
        ready!(Pin::new(&mut *socket).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok::<_, io::Error>(buf.filled().len()))
    })
    .await?;
    if n == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(n) }
}

fn bad(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
