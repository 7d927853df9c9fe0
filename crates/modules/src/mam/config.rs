//! The configuration of archives.

use serde::{Deserialize, Deserializer};
use vorpal_config::{Bounded, Bytes, DAY, HOUR, MIB, Period, Setting, Shape, TIB, choice, section};
use vorpal_proto::archive;

section! {
    /// The archive of each account's messages (XEP-0313).
    pub(crate) struct Config in "modules.mam" {
        /// Default for users without archive preferences of their own: messages with everybody, with nobody, or with contacts in the roster are archived.
        default: Rule = Rule::Always, example "roster";
        /// How long messages are kept in the archive. After that they are deleted within about an hour.
        keep: Keep = Keep::Forever, example "365d";
        /// Maximum size of the archive of one account. Each message counts for its sender and for its receiver with all its
        /// bytes and about 200 more, although it is stored only once. 512 MiB are about a million text messages. A user who
        /// sends 20 messages a day adds 4 MB in a year, so a disk of 100 GB has room for 10,000 such users for a year, and for
        /// a hundred accounts that use the whole maximum besides.
        max_bytes: Bounded<Bytes, MIB, TIB> = Bounded::clamp(Bytes::new(512 * MIB)), example "2 GiB";
        /// What happens when an archive is full: the oldest messages are deleted, or new ones are refused with the error `resource-constraint`.
        full: Full = Full::DropOldest, example "refuse";
        /// Maximum number of messages in one page of results. A client gets the rest by asking for further pages.
        max_page: Bounded<u32, 1, 1_000> = Bounded::clamp(250), example 100;
    }
}

choice! {
    /// Which messages are archived.
    pub(crate) enum Rule {
        /// Messages with everybody.
        Always = "always",
        /// No messages.
        Never = "never",
        /// Messages with contacts in the roster.
        Roster = "roster",
    }
}

choice! {
    /// What happens when an archive is full.
    pub(crate) enum Full {
        /// The oldest messages are deleted, within seconds, until a sixteenth is free.
        DropOldest = "drop-oldest",
        /// New messages are refused, including those that the account sends.
        Refuse = "refuse",
    }
}

impl From<Rule> for archive::Rule {
    fn from(rule: Rule) -> archive::Rule {
        match rule {
            Rule::Always => archive::Rule::Always,
            Rule::Never => archive::Rule::Never,
            Rule::Roster => archive::Rule::Roster,
        }
    }
}

/// How long messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Forever,
    For(Bounded<Period, HOUR, { 36_500 * DAY }>),
}

impl Setting for Keep {
    const SHAPE: Shape = Shape::Text;

    fn expected() -> String {
        "\"forever\", or a period such as \"30d\" of at least an hour".into()
    }

    fn to_toml(&self) -> Option<String> {
        match self {
            Keep::Forever => Some("\"forever\"".into()),
            Keep::For(period) => period.to_toml(),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Keep, D::Error> {
        use serde::de::{Error, IntoDeserializer};
        let text = String::deserialize(deserializer)?;
        if text == "forever" {
            return Ok(Keep::Forever);
        }
        let text: serde::de::value::StrDeserializer<'_, D::Error> = text.as_str().into_deserializer();
        let period = Bounded::deserialize(text);
        period.map(Keep::For).map_err(|_| D::Error::custom(format!("has to be {}", Keep::expected())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_messages_are_kept_is_a_period_or_forever() {
        let read = |text: &str| toml::from_str::<Config>(&format!("keep = {text}")).map(|config| config.keep);
        assert_eq!(read("\"forever\"").expect("a word"), Keep::Forever);
        let Keep::For(period) = read("\"365d\"").expect("a period") else { panic!("not a period") };
        assert_eq!(period.get(), Period::from_millis(365 * DAY));
        for wrong in ["\"1m\"", "\"\"", "\"never\"", "30", "true"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
