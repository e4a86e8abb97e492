//! A problem as a person or a machine gets to see it.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet as Source};

use crate::config::problem::{Problem, Severity};

/// Longest line of a help, in characters.
const HELP_CHARS_MAX: usize = 88;

/// Longest line that is shown, in characters. More is cut off.
const LINE_CHARS_MAX: usize = 400;

/// A problem with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The problem; its path is from the top of the configuration.
    pub problem: Problem,
    /// Where it is; `None` for what no file is to blame for.
    pub place: Option<Place>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's path.
    pub file: String,
    /// The line; `None` when it is about something that is not in the file.
    pub snippet: Option<Snippet>,
}

/// A line of a file, with secrets masked, and a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// Number of the line, from 1.
    pub line: usize,
    /// Number of the character in `text`, from 1: beyond a masked secret not that in the file,
    /// which would say how long the secret is.
    pub column: usize,
    /// The line itself.
    pub text: String,
    /// Bytes of `text` that the problem is about.
    pub span: Range<usize>,
}

impl Place {
    /// The first line of a span of bytes in a text that has no secrets (any more).
    pub(crate) fn new(file: String, text: &str, span: Range<usize>) -> Self {
        Self {
            file,
            snippet: Snippet::new(text, span),
        }
    }
}

impl Snippet {
    fn new(whole: &str, span: Range<usize>) -> Option<Self> {
        let before = whole.get(..span.start)?;
        let line = before.matches('\n').count();
        let column = before
            .chars()
            .rev()
            .take_while(|&letter| letter != '\n')
            .count();
        let marked = whole.get(span)?;
        let width = marked.chars().take_while(|&letter| letter != '\n').count();

        let text: String = whole
            .lines()
            .nth(line)
            .unwrap_or_default()
            .chars()
            .take(LINE_CHARS_MAX)
            .collect();
        let offset = |chars| {
            text.char_indices()
                .nth(chars)
                .map_or(text.len(), |(offset, _)| offset)
        };
        let span = offset(column)..offset(column + width);
        Some(Self {
            line: line + 1,
            column: column + 1,
            text,
            span,
        })
    }
}

impl Diagnostic {
    /// Whether the gateway can run with it.
    pub fn is_error(&self) -> bool {
        self.problem.severity == Severity::Error
    }

    /// The text for a person, over several lines, without a line end.
    pub fn render(&self, coloured: bool) -> String {
        let renderer = if coloured {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let level = match self.problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&self.problem.what);
        let file = self.place.as_ref().map(|place| place.file.as_str());
        let snippet = self.place.as_ref().and_then(|place| place.snippet.as_ref());
        let mut report = match snippet {
            Some(snippet) => title.element(
                Source::source(&snippet.text)
                    .line_start(snippet.line)
                    .path(file)
                    .annotation(AnnotationKind::Primary.span(snippet.span.clone())),
            ),
            None => title.elements(file.map(Origin::path)),
        };
        if let Some(help) = &self.problem.help {
            report = report.element(Level::HELP.message(wrap(help)));
        }
        renderer.render(&[report])
    }
}

/// Breaks a long help between words.
fn wrap(text: &str) -> String {
    let mut wrapped = String::with_capacity(text.len());
    let mut width = 0;
    for word in text.split(' ') {
        let chars = word.chars().count();
        if width > 0 && width + 1 + chars > HELP_CHARS_MAX {
            wrapped.push('\n');
            width = 0;
        } else if width > 0 {
            wrapped.push(' ');
            width += 1;
        }
        wrapped.push_str(word);
        width += chars;
    }
    wrapped
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

#[cfg(test)]
mod tests;
