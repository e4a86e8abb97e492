use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;

#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `say` logs, in a format.
fn said(format: Format, say: impl FnOnce()) -> String {
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = subscriber(format, EnvFilter::new("trace"), move || writer.clone());
    tracing::subscriber::with_default(subscriber, say);
    sink.text()
}

const FORMATS: [Format; 3] = [
    Format::Json,
    Format::Text { colour: false },
    Format::Text { colour: true },
];

const HOSTILE: &[&str] = &[
    "a\nb",
    "a\r\n{\"level\":\"ERROR\"}",
    "\x1b[2J\x1b]0;title\x07",
    "\u{9b}31m",
    "\u{7f}\u{8}\u{c}",
    "\u{2028}\u{2029}\u{85}",
    "\u{202e}drow",
    "nul\0",
    "\"quoted\" \\ = {}",
    "\u{fffd}\u{1f980}",
];

#[test]
fn one_event_is_one_line_whatever_it_holds() {
    for format in FORMATS {
        for &hostile in HOSTILE {
            let line = said(format, || {
                tracing::info!(
                    text = hostile,
                    display = %hostile,
                    debug = ?hostile,
                    error = %io::Error::other(hostile),
                    "{hostile}"
                );
            });
            let Some(inner) = line.strip_suffix('\n') else {
                panic!("no line: {line:?}");
            };
            let inner = match format {
                Format::Text { colour: true } => without_own_colours(inner),
                _ => inner.to_owned(),
            };
            assert!(!inner.contains(is_harmful), "{format:?}: {inner:?}");
        }
    }
}

/// What tracing-subscriber and we write to colour levels, names and targets.
fn without_own_colours(line: &str) -> String {
    let codes = ["\x1b[0m", "\x1b[2m", "\x1b[3m", "\x1b[32m"];
    codes
        .iter()
        .fold(line.to_owned(), |line, code| line.replace(code, ""))
}

#[test]
fn json_stays_json() {
    for &hostile in HOSTILE {
        let line = said(Format::Json, || tracing::info!(text = hostile, "hello"));
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["text"], hostile);
        assert_eq!(event["message"], "hello");
        assert_eq!(event["level"], "INFO");
        assert_eq!(event["target"], "hookgate::telemetry::tests");
        assert!(event["timestamp"].is_string());
    }
}

#[test]
fn text_names_its_values() {
    let line = said(Format::Text { colour: false }, || {
        tracing::warn!(source = "shop", status = 202, none = None::<&str>, "hello");
    });
    let expected = "WARN hookgate::telemetry::tests: hello source=\"shop\" status=202\n";
    assert!(line.ends_with(expected), "{line:?}");
}

#[test]
fn a_filter_that_makes_no_sense_is_not_used() {
    assert_eq!(
        filter(None).0.to_string(),
        EnvFilter::new(FILTER).to_string()
    );
    assert_eq!(
        filter(Some("")).0.to_string(),
        EnvFilter::new(FILTER).to_string()
    );
    assert_eq!(filter(Some("debug")).0.to_string(), "debug");
    let (fallback, mistake) = filter(Some("a=b=c"));
    assert_eq!(fallback.to_string(), EnvFilter::new(FILTER).to_string());
    assert!(mistake.is_some());
}

#[test]
fn whoever_asks_libraries_say_no_more_than_warnings_and_lapin_nothing() {
    for wanted in [
        None,
        Some("trace"),
        Some("lapin=trace,h2=trace"),
        Some("lapin::channel=trace,h2::codec=trace,amq_protocol=trace"),
    ] {
        for format in FORMATS {
            let sink = Sink::default();
            let writer = sink.clone();
            let subscriber = subscriber(format, filter(wanted).0, move || writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(target: "lapin::channel", "Server returned us a message");
                tracing::error!(target: "lapin::channel", "the connection is gone");
                tracing::trace!(target: "lapin::channel", "a frame");
                tracing::error!(target: "amq_protocol::frame", "a frame");
                tracing::info!(target: "h2::codec", "a header");
                tracing::trace!(target: "h2::codec", "a header");
                tracing::info!(target: "hookgatecrash", "no relation");
                tracing::warn!(target: "h2::codec", "a warning");
            });
            let text = sink.text();
            assert!(text.lines().count() <= 1, "{wanted:?}: {text}");
            assert!(!text.contains("lapin"), "{text}");
        }
    }
}

#[test]
fn what_is_asked_of_our_own_is_said() {
    let sink = Sink::default();
    let writer = sink.clone();
    let filter = filter(Some("hookgate::edge=trace,h2=warn")).0;
    let subscriber = subscriber(Format::Json, filter, move || writer.clone());
    tracing::subscriber::with_default(subscriber, || {
        tracing::trace!(target: "hookgate::edge", "connection ended");
        tracing::warn!(target: "h2::codec", "a warning");
    });
    assert_eq!(sink.text().lines().count(), 2, "{}", sink.text());
}

#[test]
fn a_second_set_up_changes_nothing() {
    init();
    init();
}

#[test]
fn a_panic_is_one_line_without_its_words() {
    let line = said(Format::Json, || {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(|info| {
            log_panic(info);
        }));
        let caught = std::panic::catch_unwind(|| panic!("the body was s3cret"));
        std::panic::set_hook(before);
        assert!(caught.is_err());
    });
    let first = line.lines().next().unwrap();
    assert!(
        first.contains("a defect in hookgate") && !first.contains("s3cret"),
        "{line}"
    );
    assert!(first.contains("src/telemetry/tests.rs"), "{line}");
}
