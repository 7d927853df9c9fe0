//! The words of XMPP: addresses, XML, stanzas, data forms, SASL.
//!
//! Pure: nothing here waits, reads a clock, opens a socket or knows of the server.

mod chars;
pub mod element;
pub mod frame;
pub mod ns;
pub mod parse;
mod portable;
mod reader;
pub mod scan;
mod space;
pub mod write;
mod xml_error;
