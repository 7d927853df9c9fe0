//! Sockets: listeners, TLS, clients' connections.

pub mod c2s;
