//! The words of XMPP: addresses, XML, stanzas, data forms, SASL.
//!
//! Pure: nothing here waits, reads a clock, opens a socket or knows of the server.

pub mod ns;
pub mod sasl;
