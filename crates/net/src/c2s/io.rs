//! The bytes of a connection, with or without TLS.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use vorpal_core::session::Tls;

use crate::tls;

/// See the module's text.
pub(super) enum Io {
    /// without TLS
    Plain(TcpStream),
    /// with TLS
    Tls(Box<tls::Stream<TcpStream>>),
    /// between the two, for a moment
    Gone,
}

impl Io {
    /// The protection of the connection.
    pub(super) fn encryption(&self) -> Tls {
        match self {
            Io::Tls(io) => io.encryption(),
            Io::Plain(_) | Io::Gone => Tls::None,
        }
    }

    /// Reads once. Appends the client's data to `input`, and returns the number of bytes read from the socket; 0 is the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        input: &mut BytesMut,
    ) -> Poll<std::io::Result<usize>> {
        match self {
            Io::Plain(io) => {
                let mut buf = ReadBuf::new(scratch);
                ready!(Pin::new(io).poll_read(cx, &mut buf))?;
                input.extend_from_slice(buf.filled());
                Poll::Ready(Ok(buf.filled().len()))
            }
            Io::Tls(io) => io.poll_read(cx, scratch, input),
            Io::Gone => Poll::Ready(Ok(0)),
        }
    }

    /// Reads once and discards the data: for use after [`Io::poll_shutdown`]. Returns the number of bytes; 0 is the end.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<std::io::Result<usize>> {
        match self {
            Io::Plain(io) => {
                let mut buf = ReadBuf::new(scratch);
                ready!(Pin::new(io).poll_read(cx, &mut buf))?;
                Poll::Ready(Ok(buf.filled().len()))
            }
            Io::Tls(io) => io.poll_discard(cx, scratch),
            Io::Gone => Poll::Ready(Ok(0)),
        }
    }

    /// Returns how many bytes were accepted; they are written only when [`Io::poll_flush`] is ready.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self {
            Io::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Io::Tls(io) => io.poll_write(cx, bytes),
            Io::Gone => Poll::Ready(Ok(0)),
        }
    }

    /// Writes pending output of TLS.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self {
            Io::Plain(_) | Io::Gone => Poll::Ready(Ok(())),
            Io::Tls(io) => io.poll_flush(cx),
        }
    }

    /// Number of accepted bytes that are not written yet.
    pub(super) fn unsent(&self) -> usize {
        match self {
            Io::Plain(_) | Io::Gone => 0,
            Io::Tls(io) => io.unsent(),
        }
    }

    /// Ends TLS, then the socket.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => io.poll_shutdown(cx),
            Io::Gone => Poll::Ready(Ok(())),
        }
    }
}
