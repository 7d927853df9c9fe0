//! The sockets of the server: TLS, what one network may do, and the connections of clients.

pub mod accept;
pub mod c2s;
pub mod http;
pub mod limits;
pub mod proxy;
pub mod tls;
