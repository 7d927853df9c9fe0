//! Differential fuzzing of `vorpal-proto`: what must hold for any input at all.
//!
//! [`xml`] is the property, [`tree`] the form in which parsers are compared, [`inputs`] the source of input. The same
//! property is driven by `vorpal-fuzz xml N` (deterministic, for CI) and by libFuzzer (`fuzz_targets/xml.rs`).
//!
//! The other targets are one file each, a [`run::Target`]: [`jid`], [`sasl`], [`form`], [`stanza`],
//! [`archive`], [`budget`].

pub mod archive;
pub mod budget;
pub mod form;
pub mod inputs;
pub mod jid;
pub mod make;
pub mod random;
pub mod run;
pub mod sasl;
pub mod stanza;
pub mod tree;
pub mod xml;
