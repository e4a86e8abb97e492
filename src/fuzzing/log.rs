//! One event is one line, whatever a stranger wrote.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::Dispatch;
use tracing_subscriber::EnvFilter;

use crate::telemetry::{Format, harmless, subscriber};

/// Remembers what was logged.
#[derive(Clone, Debug, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log in each format; colours are ours and not the sender's.
fn logs() -> &'static [(Format, Dispatch, Sink)] {
    static LOGS: OnceLock<Vec<(Format, Dispatch, Sink)>> = OnceLock::new();
    LOGS.get_or_init(|| {
        let formats = [Format::Json, Format::Text { colour: false }];
        let log = |format| {
            let sink = Sink::default();
            let writer = sink.clone();
            let make = move || writer.clone();
            let subscriber = subscriber(format, EnvFilter::new("trace"), make);
            (format, Dispatch::new(subscriber), sink)
        };
        formats.into_iter().map(log).collect()
    })
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let hostile = [
        "a\nb",
        "a\r\n{\"level\":\"ERROR\"}",
        "\x1b[2J\x1b]0;title\x07",
        "\u{9b}31m",
        "\u{2028}\u{2029}\u{85}",
        "\u{202e}drow",
        "nul\0",
        "\"quoted\" \\ = {}",
        "\u{fffd}\u{1f980}",
    ];
    hostile
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect()
}

pub(super) fn run(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    for (format, log, sink) in logs() {
        sink.lock().clear();
        tracing::dispatcher::with_default(log, || {
            tracing::info!(
                text,
                display = %text,
                debug = ?text,
                error = %io::Error::other(text),
                "{text}"
            );
        });
        let logged = String::from_utf8(sink.lock().clone()).expect("UTF-8");
        let line = logged.strip_suffix('\n').expect("a whole line");
        assert_eq!(harmless(line), line, "{format:?}");
        if *format == Format::Json {
            let json: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(json.get("text").and_then(|said| said.as_str()), Some(text));
        }
    }
}
