//! One mistake in the configuration: where, what, and what would be right.

/// Whether the gateway can run with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but an operator should know.
    Warning,
}

/// A mistake, by the path of the key it is about. `config/locate.rs` finds file, line and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Keys from the top of the configuration: `["sources", "erp", "verify", "signature"]`. An
    /// element of a list is its index.
    pub path: Vec<String>,
    /// What is wrong, lower case, without a full stop.
    pub what: String,
    /// What would be right, where that can be said.
    pub help: Option<String>,
    /// Whether the gateway can run with it.
    pub severity: Severity,
}

impl Problem {
    /// An error at a key.
    pub fn error(path: &[&str], what: impl Into<String>) -> Self {
        Self {
            path: path.iter().map(|&key| key.to_owned()).collect(),
            what: what.into(),
            help: None,
            severity: Severity::Error,
        }
    }

    /// An error at what was read, wherever that stands: see [`Problem::under`].
    pub fn here(what: impl Into<String>) -> Self {
        Self::error(&[], what)
    }

    /// A warning at a key.
    pub fn warning(path: &[&str], what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(path, what)
        }
    }

    /// The same, but the gateway can run with it.
    #[must_use]
    pub fn into_warning(self) -> Self {
        Self {
            severity: Severity::Warning,
            ..self
        }
    }

    /// Says what would be right.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    /// The same problem, seen from further up: `prefix` goes before its path.
    #[must_use]
    pub fn under(mut self, prefix: &[&str]) -> Self {
        self.path
            .splice(0..0, prefix.iter().map(|&key| key.to_owned()));
        self
    }
}

impl From<String> for Problem {
    fn from(what: String) -> Self {
        Self::here(what)
    }
}
