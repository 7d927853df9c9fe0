//! Errors in a configuration, and where they are.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Maximum number of errors reported for one file.
pub(crate) const MAX_ERRORS: usize = 100;

/// Where an error is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file as a whole, as when it cannot be read.
    Whole {
        /// The name of the file.
        file: String,
    },
    /// In a line of the file.
    Line {
        /// The name of the file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
    },
    /// In an environment variable.
    Variable {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Whole { file } => f.write_str(file),
            Place::Line { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Place::Variable { name } => f.write_str(name),
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file does not exist, is too large, is not UTF-8, or access is denied.
    #[error("cannot read it: {0}")]
    Read(String),
    /// It is not valid TOML: the text near the error, and the parser's message.
    #[error("in `{near}`: {message}")]
    Syntax {
        /// The line.
        near: String,
        /// What the parser says.
        message: String,
    },
    /// A key or section is given twice.
    #[error("`{key}` is given a second time")]
    Duplicate {
        /// As it is written.
        key: String,
    },
    /// There is no such key, section or module.
    #[error("unknown {what} `{name}`{}", suggestion(meant))]
    Unknown {
        /// "key", "section", "module".
        what: &'static str,
        /// As it is written, with its section.
        name: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// The value is not valid for its key.
    #[error("`{key}` {message}")]
    Value {
        /// The path of the key.
        key: String,
        /// The expected and the found value, as the rest of a sentence that begins with the key.
        message: String,
    },
}

fn suggestion(meant: &Option<String>) -> String {
    meant.as_ref().map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"))
}

/// One error in a configuration. Its text is one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub problem: Problem,
}

/// All errors of a configuration, at most a hundred, in the order of the file. Their text is one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(Vec<ConfigError>);

impl Errors {
    /// The errors, ordered and without duplicates; `None` if there are none.
    pub fn new(mut errors: Vec<ConfigError>) -> Option<Errors> {
        errors.sort_by_cached_key(|error| (error.place.clone(), error.problem.to_string()));
        errors.dedup();
        errors.truncate(MAX_ERRORS);
        (!errors.is_empty()).then_some(Errors(errors))
    }

    /// The errors.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for Errors {
    fn from(error: ConfigError) -> Errors {
        Errors(vec![error])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            let gap = if number == 0 { "" } else { "\n" };
            write!(f, "{gap}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The errors found so far, at most a hundred: further ones are dropped.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<ConfigError>);

impl Report {
    pub fn push(&mut self, place: Place, problem: Problem) {
        self.extend([ConfigError { place, problem }]);
    }

    pub fn extend(&mut self, errors: impl IntoIterator<Item = ConfigError>) {
        self.0.extend(errors.into_iter().take(MAX_ERRORS.saturating_sub(self.0.len())));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn into_inner(self) -> Vec<ConfigError> {
        self.0
    }
}

/// A file's name and text, for converting offsets to lines.
#[derive(Debug)]
pub(crate) struct Source {
    pub name: String,
    pub text: String,
    /// The offset after each line feed.
    starts: Vec<usize>,
}

/// Where a part of the tree comes from.
#[derive(Clone, Debug)]
pub(crate) enum At {
    /// Bytes of the file.
    File(Range<usize>),
    /// An environment variable.
    Variable(Arc<str>),
}

impl Source {
    pub fn new(name: String, text: String) -> Source {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        Source { name, text, starts }
    }

    pub fn place(&self, at: &At) -> Place {
        match at {
            At::File(span) => {
                let (line, start) = self.line_at(span.start);
                let before = self.text.get(start..).unwrap_or_default().char_indices();
                let column = before.take_while(|(at, _)| start + at < span.start).count() + 1;
                Place::Line { file: self.name.clone(), line, column }
            }
            At::Variable(name) => Place::Variable { name: name.to_string() },
        }
    }

    /// The line that contains the byte, without surrounding space.
    pub fn line(&self, offset: usize) -> &str {
        let (_, start) = self.line_at(offset);
        self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default().trim()
    }

    /// The number of the line, from 1, and where it starts.
    fn line_at(&self, offset: usize) -> (usize, usize) {
        let before = self.starts.partition_point(|start| *start <= offset);
        let start = before.checked_sub(1).and_then(|last| self.starts.get(last)).copied().unwrap_or(0);
        (before + 1, start)
    }
}
