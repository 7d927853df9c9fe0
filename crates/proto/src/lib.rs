//! The data types and syntax of XMPP: addresses, XML, stanzas, data forms, SASL.
//!
//! Pure: nothing here blocks, reads a clock, opens a socket or depends on the server.

pub mod archive;
pub mod budget;
mod chars;
pub mod confusable;
pub mod datetime;
pub mod element;
pub mod error;
pub mod form;
pub mod frame;
pub mod jid;
pub mod kept;
pub mod ns;
pub mod parse;
mod portable;
pub mod precis;
mod reader;
pub mod rsm;
pub mod sasl;
pub mod scan;
mod space;
pub mod stanza;
pub mod write;
mod xml_error;
