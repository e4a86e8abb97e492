//! Reads a TOML table key by key and collects every mistake on the way.
//!
//! Deriving a deserializer would stop at the first mistake and lose the places of the others.
//! Here a wrong value is reported and read as "not said"; since one reported error keeps the whole
//! configuration from loading, no reader has to care what stands in for it.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::config::problem::{Problem, Severity};
use crate::config::value::{self, Shown, ShownSize, Wrong, quote};

/// Most errors, and most warnings, that are shown of one run.
const PROBLEMS_MAX: usize = 1_000;

/// Which end of `key = value` a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The key: it is not known, so its value may be anything, also a secret.
    Unknown,
    /// The key.
    Key,
    /// The value: it should be another.
    Value,
}

/// A problem, the file it is in, and which end of its key it is about.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) file: usize,
    pub(crate) at: At,
    pub(crate) problem: Problem,
}

/// All problems of one load, in the order found. Beyond a number they are only counted.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    errors: RefCell<Kept>,
    warnings: RefCell<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    found: Vec<Found>,
    more: usize,
}

impl Kept {
    fn push(&mut self, found: Found) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(found);
        } else {
            self.more += 1;
        }
    }
}

impl Problems {
    /// What was found.
    pub(crate) fn into_found(self) -> Vec<Found> {
        let mut all = Vec::new();
        for (kept, noun) in [(self.errors, "errors"), (self.warnings, "warnings")] {
            let Kept { found, more } = kept.into_inner();
            all.extend(found);
            if more > 0 {
                let problem = Problem::warning(&[], format!("{more} more {noun} are not shown"));
                all.push(Found {
                    file: 0,
                    at: At::Key,
                    problem,
                });
            }
        }
        all
    }
}

/// Where the readers of one file leave its problems.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sink<'a> {
    /// Number of the file among those loaded.
    pub(crate) file: usize,
    /// The problems of all files.
    pub(crate) problems: &'a Problems,
}

impl Sink<'_> {
    /// Leaves a problem.
    pub(crate) fn push(&self, at: At, problem: Problem) {
        let kept = match problem.severity {
            Severity::Error => &self.problems.errors,
            Severity::Warning => &self.problems.warnings,
        };
        kept.borrow_mut().push(Found {
            file: self.file,
            at,
            problem,
        });
    }
}

/// One value with the path that leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    path: Vec<String>,
    value: &'a DeValue<'a>,
    sink: Sink<'a>,
}

impl<'a> Node<'a> {
    /// Reports an error about this value.
    pub(crate) fn error(&self, wrong: impl Into<Wrong>) {
        self.sink.push(At::Value, problem(&self.path, wrong.into()));
    }

    /// Reports a warning about this value.
    pub(crate) fn warning(&self, what: impl Into<String>, help: impl Into<String>) {
        let problem = problem(&self.path, Wrong::new(what, help));
        self.sink.push(At::Value, problem.into_warning());
    }

    /// Gives what is right; reports what is not.
    pub(crate) fn accept<T>(&self, result: Result<T, impl Into<Wrong>>) -> Option<T> {
        result.map_err(|wrong| self.error(wrong)).ok()
    }

    /// The text of a string; reports anything else.
    pub(crate) fn text(&self) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.mistyped("a string");
        }
        text
    }

    /// An owned text that is not empty.
    pub(crate) fn string(&self) -> Option<String> {
        let text = self.text()?;
        if text.is_empty() {
            self.error(format!("`{}` is empty", self.name()));
            return None;
        }
        Some(text.to_owned())
    }

    /// A string that `parse` understands.
    pub(crate) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        self.accept(parse(self.text()?))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> Option<bool> {
        let boolean = self.value.as_bool();
        if boolean.is_none() {
            self.mistyped("`true` or `false`");
        }
        boolean
    }

    /// A whole number within a range.
    pub(crate) fn count(&self, range: &RangeInclusive<u64>) -> Option<u64> {
        let Some(integer) = self.value.as_integer() else {
            self.mistyped("a whole number");
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(number),
            None => {
                self.beyond(integer, range.start(), range.end());
                None
            }
        }
    }

    /// A size within a range, in bytes.
    pub(crate) fn size(&self, range: &RangeInclusive<u64>) -> Option<u64> {
        if self.value.is_integer() {
            self.mistyped("a size with its unit, such as \"64KiB\"");
            return None;
        }
        let size = self.parse(value::size)?;
        if range.contains(&size) {
            return Some(size);
        }
        self.beyond(
            &ShownSize(size),
            &ShownSize(*range.start()),
            &ShownSize(*range.end()),
        );
        None
    }

    /// A duration within a range.
    pub(crate) fn duration(&self, range: &RangeInclusive<Duration>) -> Option<Duration> {
        if self.value.is_integer() {
            self.mistyped("a duration with its unit, such as \"5s\"");
            return None;
        }
        let duration = self.parse(value::duration)?;
        if range.contains(&duration) {
            return Some(duration);
        }
        self.beyond(
            &Shown(duration),
            &Shown(*range.start()),
            &Shown(*range.end()),
        );
        None
    }

    /// One of a closed set of words.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let chosen = choices.iter().find(|(word, _)| *word == text);
        if chosen.is_none() {
            let words: Vec<&str> = choices.iter().map(|&(word, _)| word).collect();
            self.error(Wrong::new(
                format!("`{}` cannot be {}", self.name(), quote(text)),
                format!(
                    "{}it can be {}",
                    did_you_mean(text, &words),
                    enumerate(&words, "\"", "or")
                ),
            ));
        }
        chosen.map(|&(_, value)| value)
    }

    /// The elements of a list; reports anything else.
    pub(crate) fn items(&self) -> Vec<Self> {
        let Some(array) = self.value.as_array() else {
            self.mistyped("a list");
            return Vec::new();
        };
        let items = array.iter().enumerate();
        items
            .map(|(index, item)| self.child(index.to_string(), item.get_ref()))
            .collect()
    }

    /// The elements of a list, or the value alone.
    pub(crate) fn one_or_more(&self) -> Vec<Self> {
        if self.value.is_array() {
            self.items()
        } else {
            vec![self.clone()]
        }
    }

    /// A list of strings, or one string. An empty list is refused.
    pub(crate) fn strings(&self) -> Option<Vec<String>> {
        let items = self.one_or_more();
        if items.is_empty() && self.value.is_array() {
            self.error(format!("`{}` is an empty list", self.name()));
        }
        let strings: Vec<String> = items.iter().filter_map(Self::string).collect();
        if strings.is_empty() {
            None
        } else {
            Some(strings)
        }
    }

    /// A table; reports anything else.
    pub(crate) fn table(&self) -> Option<Table<'a>> {
        let Some(entries) = self.value.as_table() else {
            self.mistyped("a table");
            return None;
        };
        Some(Table::new(self.path.clone(), Some(entries), self.sink))
    }

    /// Whether this is a table.
    pub(crate) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// Whether this is a string.
    pub(crate) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    /// Whether this is exactly this word.
    pub(crate) fn text_is(&self, word: &str) -> bool {
        self.is_text() && self.text() == Some(word)
    }

    /// Whether this is a list.
    pub(crate) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    /// Whether this is `false`.
    pub(crate) fn is_false(&self) -> bool {
        self.value.as_bool() == Some(false)
    }

    /// Reports a value of another type.
    pub(crate) fn mistyped(&self, wanted: &str) {
        let article = match self.value {
            DeValue::Integer(_) | DeValue::Array(_) => "an",
            DeValue::String(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => "a",
        };
        let found = self.value.type_str();
        self.error(format!(
            "`{}` must be {wanted}, not {article} {found}",
            self.name()
        ));
    }

    fn beyond(&self, got: &impl ToString, low: &impl ToString, high: &impl ToString) {
        let got = value::cut(&got.to_string());
        self.error(Wrong::new(
            format!("`{}` cannot be {got}", self.name()),
            format!("it can be from {} to {}", low.to_string(), high.to_string()),
        ));
    }

    fn child(&self, key: String, value: &'a DeValue<'a>) -> Self {
        let mut path = self.path.clone();
        path.push(key);
        Self {
            path,
            value,
            sink: self.sink,
        }
    }

    /// The key, or for an element the key of its list.
    pub(crate) fn name(&self) -> String {
        let is_index = |key: &&String| key.bytes().all(|byte| byte.is_ascii_digit());
        let key = self.path.iter().rev().find(|key| !is_index(key));
        key.map(|key| value::cut(key).escape_debug().to_string())
            .unwrap_or_default()
    }
}

/// One table, read key by key. Which keys were asked for is what [`Table::finish`] knows.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    path: Vec<String>,
    entries: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
    /// It stands in for something that is no table: what is missing in it is not worth a word.
    is_stand_in: bool,
    sink: Sink<'a>,
}

impl<'a> Table<'a> {
    /// The top of a file.
    pub(crate) fn root(entries: &'a DeTable<'a>, sink: Sink<'a>) -> Self {
        Self::new(Vec::new(), Some(entries), sink)
    }

    fn new(path: Vec<String>, entries: Option<&'a DeTable<'a>>, sink: Sink<'a>) -> Self {
        Self {
            path,
            entries,
            known: Vec::new(),
            is_stand_in: false,
            sink,
        }
    }

    /// The value of a key, if it is there.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<Node<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let value = self.entries?.get(key)?;
        Some(self.node(key, value.get_ref()))
    }

    /// The value of a key that has to be there; `help` says how to write it.
    pub(crate) fn require(&mut self, key: &'static str, help: &str) -> Option<Node<'a>> {
        let node = self.get(key);
        if node.is_none() && !self.is_stand_in {
            self.error(Wrong::new(
                format!("{}`{key}` is missing", self.title()),
                help,
            ));
        }
        node
    }

    /// A table under a key; when it is not there, an empty one, so that defaults have one place.
    pub(crate) fn section(&mut self, key: &'static str) -> Self {
        let node = self.get(key);
        if let Some(table) = node.as_ref().and_then(Node::table) {
            return table;
        }
        let mut path = self.path.clone();
        path.push(key.to_owned());
        let is_stand_in = node.is_some() || self.is_stand_in;
        Table {
            is_stand_in,
            ..Table::new(path, None, self.sink)
        }
    }

    /// Whether a key is there, whatever its value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries
            .is_some_and(|entries| entries.contains_key(key))
    }

    /// Every entry, for tables whose keys are the user's own.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Node<'a>)> {
        let Some(entries) = self.entries else {
            return Vec::new();
        };
        let nodes = entries.iter();
        nodes
            .map(|(key, value)| (&**key.get_ref(), self.node(key.get_ref(), value.get_ref())))
            .collect()
    }

    /// Every text in it, however deep.
    pub(crate) fn texts(&self) -> Vec<&'a str> {
        let mut texts = Vec::new();
        let mut rest: Vec<&'a DeValue<'a>> = Vec::new();
        let entries = self.entries.into_iter().flat_map(|table| table.values());
        rest.extend(entries.map(|value| value.get_ref()));
        while let Some(value) = rest.pop() {
            match value {
                DeValue::String(text) => texts.push(&**text),
                DeValue::Array(items) => rest.extend(items.iter().map(|item| item.get_ref())),
                DeValue::Table(table) => rest.extend(table.values().map(|value| value.get_ref())),
                _ => {}
            }
        }
        texts
    }

    /// Reports an error about this table.
    pub(crate) fn error(&self, wrong: impl Into<Wrong>) {
        self.sink.push(At::Key, problem(&self.path, wrong.into()));
    }

    /// Reports a warning about this table.
    pub(crate) fn warning(&self, what: impl Into<String>, help: impl Into<String>) {
        let problem = problem(&self.path, Wrong::new(what, help));
        self.sink.push(At::Key, problem.into_warning());
    }

    /// Somewhere to report what turns out once this table has been read.
    pub(crate) fn reporter(&self) -> Reporter<'a> {
        Reporter {
            path: self.path.clone(),
            sink: self.sink,
        }
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(self) {
        let Some(entries) = self.entries else { return };
        for key in entries.keys() {
            let key: &str = key.get_ref();
            if self.known.contains(&key) {
                continue;
            }
            let mut path = self.path.clone();
            path.push(key.to_owned());
            let wrong = Wrong::new(
                format!("unknown key {}", quote(key).replace('"', "`")),
                format!(
                    "{}{} can have {}",
                    did_you_mean(key, &self.known),
                    self.kind(),
                    enumerate(&self.known, "`", "and")
                ),
            );
            self.sink.push(At::Unknown, problem(&path, wrong));
        }
    }

    fn node(&self, key: &str, value: &'a DeValue<'a>) -> Node<'a> {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        Node {
            path,
            value,
            sink: self.sink,
        }
    }

    /// `[server.tls]: `, for messages that may stand without their place.
    fn title(&self) -> String {
        if self.path.is_empty() {
            String::new()
        } else {
            format!("{}: ", self.kind())
        }
    }

    fn kind(&self) -> String {
        if self.path.is_empty() {
            return "the file".to_owned();
        }
        format!("[{}]", value::cut(&self.path.join(".")).escape_debug())
    }
}

/// Takes problems whose paths begin at one table, which may have been finished long before.
#[derive(Clone, Debug)]
pub(crate) struct Reporter<'a> {
    path: Vec<String>,
    sink: Sink<'a>,
}

impl Reporter<'_> {
    /// Reports an error about a key below the table.
    pub(crate) fn error(&self, below: &[&str], wrong: impl Into<Wrong>) {
        self.push(problem_at(below, wrong.into()));
    }

    /// Reports a warning about a key below the table.
    pub(crate) fn warning(&self, below: &[&str], what: impl Into<String>, help: impl Into<String>) {
        self.push(problem_at(below, Wrong::new(what, help)).into_warning());
    }

    /// Reports a key below the table that should not be there. Its value may be anything.
    pub(crate) fn unknown(&self, below: &[&str], wrong: Wrong) {
        let prefix: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let problem = problem_at(below, wrong).under(&prefix);
        self.sink.push(At::Unknown, problem);
    }

    /// Gives what is right; reports what is not.
    pub(crate) fn accept<T>(
        &self,
        below: &[&str],
        result: Result<T, impl Into<Wrong>>,
    ) -> Option<T> {
        result.map_err(|wrong| self.error(below, wrong)).ok()
    }

    /// Reports a problem whose path begins at the table.
    pub(crate) fn push(&self, problem: Problem) {
        let prefix: Vec<&str> = self.path.iter().map(String::as_str).collect();
        self.sink.push(At::Value, problem.under(&prefix));
    }
}

/// "did you mean `x`? ", or nothing.
pub(crate) fn did_you_mean(word: &str, candidates: &[&str]) -> String {
    // A third of the letters may be wrong: enough for slips, too little for another word.
    let distance_max = (word.chars().count() / 3).max(1);
    let near = candidates
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= distance_max)
        .min();
    near.map(|(_, candidate)| format!("did you mean `{candidate}`? "))
        .unwrap_or_default()
}

/// `"a", "b" or "c"`.
pub(crate) fn enumerate(words: &[&str], mark: &str, conjunction: &str) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("{mark}{word}{mark}"))
        .collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} {conjunction} {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn problem(path: &[String], wrong: Wrong) -> Problem {
    let keys: Vec<&str> = path.iter().map(String::as_str).collect();
    problem_at(&keys, wrong)
}

fn problem_at(path: &[&str], wrong: Wrong) -> Problem {
    let problem = Problem::error(path, wrong.what);
    match wrong.help {
        Some(help) => problem.help(help),
        None => problem,
    }
}

#[cfg(test)]
mod tests;
