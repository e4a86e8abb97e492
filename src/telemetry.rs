//! What the program says while it runs: one line per event on stderr, whatever a sender wrote.
//!
//! On a terminal lines are for people, else they are JSON. `RUST_LOG` decides what is said, but
//! not what libraries may say: see [`may_be_said`]. A value may hold anything that a stranger sent,
//! so every control character is escaped, by serde_json or here: nobody can begin a line of their
//! own, or speak to a terminal.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::panic::PanicHookInfo;

use tracing::field::Field;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What is said when `RUST_LOG` does not say otherwise.
pub const FILTER: &str = "info";

/// Targets that begin so are never heard: lapin warns of returned messages with their bodies, and
/// traces every frame, the password's among them.
const NEVER: [&str; 2] = ["lapin", "amq_protocol"];

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// For people.
    Text {
        /// With colours.
        colour: bool,
    },
}

/// Whether colours are welcome on a terminal (<https://no-color.org>).
pub fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Says nothing unless `RUST_LOG` asks for it: for commands that run a gateway and have a table
/// of their own to show.
pub fn init_quiet() {
    if std::env::var_os("RUST_LOG").is_some() {
        init();
    }
}

/// Sets it up for the process, and has panics logged. What was set up before stays.
pub fn init() {
    let wanted = std::env::var("RUST_LOG").ok();
    let (filter, mistake) = filter(wanted.as_deref());
    let format = if io::stderr().is_terminal() {
        Format::Text {
            colour: wants_colour(),
        }
    } else {
        Format::Json
    };
    if subscriber(format, filter, io::stderr).try_init().is_err() {
        return;
    }
    std::panic::set_hook(Box::new(log_panic));
    if let Some(error) = mistake {
        tracing::warn!(error, "RUST_LOG makes no sense: using the default");
    }
}

/// A subscriber that writes lines to `writer`.
pub fn subscriber<W>(
    format: Format,
    filter: EnvFilter,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        Format::Json => Box::new(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_writer(Escaped(writer))
                .finish()
                .with(filter_fn(may_be_said)),
        ),
        Format::Text { colour } => Box::new(
            builder
                .compact()
                .with_ansi(colour)
                .fmt_fields(debug_fn(write_field).delimited(" "))
                .with_writer(writer)
                .finish()
                .with(filter_fn(may_be_said)),
        ),
    }
}

/// Whatever `RUST_LOG` asks for: of libraries, warnings and errors at most. What they say besides
/// may quote requests, messages and secrets, and they do not promise otherwise.
fn may_be_said(what: &Metadata<'_>) -> bool {
    let target = what.target();
    let is_ours = target == "hookgate" || target.starts_with("hookgate::");
    is_ours || (*what.level() <= Level::WARN && !NEVER.iter().any(|name| target.starts_with(name)))
}

/// The filter, and what is wrong with the one that was wanted.
fn filter(wanted: Option<&str>) -> (EnvFilter, Option<String>) {
    let default = || EnvFilter::new(FILTER);
    match wanted.filter(|wanted| !wanted.is_empty()) {
        None => (default(), None),
        Some(wanted) => match EnvFilter::try_new(wanted) {
            Ok(filter) => (filter, None),
            Err(error) => (default(), Some(error.to_string())),
        },
    }
}

// === text ===

/// `name=value`; the message is the one value without a name.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        let dim = writer.has_ansi_escapes();
        let (on, off) = if dim {
            ("\x1b[2m", "\x1b[0m")
        } else {
            ("", "")
        };
        write!(writer, "{on}{}={off}", field.name())?;
    }
    // Strings come quoted and escaped; what was recorded by `Display` comes as it is.
    for c in format!("{value:?}").chars() {
        if is_harmful(c) {
            write!(writer, "{}", c.escape_unicode())?;
        } else {
            writer.write_char(c)?;
        }
    }
    Ok(())
}

/// A text that somebody sent, for a terminal: in one line, and with nothing that it would obey.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Begins a line, speaks to a terminal, or turns text around.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

// === JSON ===

/// serde_json escapes what JSON asks for: everything below U+0020. Some terminals also obey what
/// comes after U+007E.
struct Escaped<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Escaped<W> {
    type Writer = EscapedWriter<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        EscapedWriter(self.0.make_writer())
    }
}

/// Gets whole lines, so no character comes in two parts.
struct EscapedWriter<W>(W);

impl<W: Write> Write for EscapedWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if is_plain(line) {
            self.0.write_all(line)?;
            return Ok(line.len());
        }
        match std::str::from_utf8(line) {
            Ok(text) if text.chars().any(is_harmful_in_json) => {
                self.0.write_all(escaped(text).as_bytes())?;
            }
            _ => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Almost every line is, and a look at its bytes shows it.
fn is_plain(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b'\n' | b' '..=b'~'))
}

/// The line's own end is the one control character that is meant.
fn is_harmful_in_json(c: char) -> bool {
    c != '\n' && is_harmful(c)
}

/// The same for lines of JSON, which stay what they are.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful_in_json(c) {
            // All of them are in the first plane, so four digits will do.
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

// === panics ===

/// Where it happened. What it said may quote what it was working on, a body for instance, so that
/// is for those who ask for it.
fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(
        place,
        thread = thread.name(),
        "a defect in hookgate: please report it; RUST_LOG=hookgate=debug tells more"
    );
    tracing::debug!(said = info.payload_as_str(), "the defect's own words");
}

#[cfg(test)]
pub(crate) mod tests;
