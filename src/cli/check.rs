//! `hookgate check`: everything that starting would find out, without starting.

use std::io::{self, Write};
use std::path::Path;

use comfy_table::Table;
use serde_json::{Value, json};

use crate::config::diagnostic::Diagnostic;
use crate::config::surroundings::Surroundings;
use crate::config::{Config, Summary};

/// How to print.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// For machines.
    pub json: bool,
    /// With colours; not for JSON.
    pub coloured: bool,
}

/// Loads a configuration and prints its sources, what is remarkable and what is wrong. True when
/// it will run.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn check(path: &Path, style: Style, out: &mut dyn Write) -> io::Result<bool> {
    check_in(path, &Surroundings::of_process(), style, out)
}

/// The same, with another environment.
///
/// # Errors
///
/// As [`check`].
pub fn check_in(
    path: &Path,
    surroundings: &Surroundings,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let (summaries, problems) = match Config::load_in(path, surroundings) {
        Ok(loaded) => (loaded.summaries, loaded.warnings),
        Err(invalid) => (Vec::new(), invalid.problems),
    };
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let report = Report {
        path,
        summaries: &summaries,
        problems: &problems,
        errors,
    };
    if style.json {
        writeln!(out, "{:#}", report.json())?;
    } else {
        report.print(style.coloured, out)?;
    }
    Ok(errors == 0)
}

struct Report<'a> {
    path: &'a Path,
    summaries: &'a [Summary],
    problems: &'a [Diagnostic],
    errors: usize,
}

impl Report<'_> {
    fn print(&self, coloured: bool, out: &mut dyn Write) -> io::Result<()> {
        for problem in self.problems {
            writeln!(out, "{}\n", problem.render(coloured))?;
        }
        if !self.summaries.is_empty() {
            writeln!(out, "{}", table(self.summaries))?;
        }
        for summary in self.summaries.iter().filter(|it| !it.calls.is_empty()) {
            let (name, hosts) = (&summary.name, summary.calls.join(", "));
            writeln!(out, "{name} may call {hosts}")?;
        }
        for summary in self.summaries.iter().filter(|summary| summary.is_insecure) {
            writeln!(
                out,
                "!!! {} takes anything from anyone (insecure-none)",
                summary.name
            )?;
        }
        let path = self.path.display();
        let warnings = counted(self.problems.len() - self.errors, "warning");
        if self.errors == 0 {
            let sources = counted(self.summaries.len(), "source");
            writeln!(out, "{path} is good: {sources}, {warnings}")
        } else {
            writeln!(
                out,
                "{path} is not good: {}, {warnings}",
                counted(self.errors, "error")
            )
        }
    }

    fn json(&self) -> Value {
        json!({
            "file": self.path.to_string_lossy(),
            "good": self.errors == 0,
            "errors": self.errors,
            "warnings": self.problems.len() - self.errors,
            "problems": self.problems.iter().map(problem).collect::<Vec<Value>>(),
            "sources": self.summaries.iter().map(source).collect::<Vec<Value>>(),
        })
    }
}

fn problem(diagnostic: &Diagnostic) -> Value {
    let place = diagnostic.place.as_ref();
    let snippet = place.and_then(|place| place.snippet.as_ref());
    json!({
        "severity": if diagnostic.is_error() { "error" } else { "warning" },
        "file": place.map(|place| &place.file),
        "line": snippet.map(|snippet| snippet.line),
        "column": snippet.map(|snippet| snippet.column),
        "key": diagnostic.problem.path.join("."),
        "message": diagnostic.problem.what,
        "help": diagnostic.problem.help,
    })
}

fn source(summary: &Summary) -> Value {
    json!({
        "name": summary.name,
        "path": summary.path,
        "provider": summary.provider,
        "verification": summary.verification,
        "insecure": summary.is_insecure,
        "enforce": summary.enforce,
        "secrets": summary.secrets,
        "schema": summary.schema,
        "ack": summary.ack,
        "calls": summary.calls,
    })
}

fn table(summaries: &[Summary]) -> Table {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .force_no_tty();
    table.set_header([
        "SOURCE",
        "PATH",
        "PROVIDER",
        "VERIFICATION",
        "SECRETS",
        "SCHEMA",
        "ACK",
    ]);
    for summary in summaries {
        let mut verification = summary.verification.clone();
        if !summary.enforce {
            verification.push_str(" (not enforced)");
        }
        table.add_row([
            &*summary.name,
            &summary.path,
            summary.provider.as_deref().unwrap_or("-"),
            &verification,
            &summary.secrets.join(", "),
            summary.schema.as_deref().unwrap_or("-"),
            &summary.ack,
        ]);
    }
    table
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

#[cfg(test)]
mod tests;
