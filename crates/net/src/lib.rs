//! The sockets of the server: TLS, network limits, and client connections.

pub mod accept;
pub mod c2s;
pub mod http;
pub mod limits;
pub mod proxy;
pub mod tls;
mod wire;
