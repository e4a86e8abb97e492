//! `hookgate explain`: saved requests in, verdicts out. Reads no network and writes nothing.

use std::fs;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;

use super::output::{lines, table};
use super::{ConfigArg, Done, Exit, Failure, find_source, load_for, recall_enrolled, talk};
use crate::clock::Now;
use crate::config::Excerpt;
use crate::explain::{Element, Explanation, Folder, Neighbours, Verdict, explain_among};
use crate::pipeline::certificate::ClientCertificate;
use crate::pipeline::evidence::{Fetching, Nowhere};
use crate::telemetry;

/// Longest request file that is read: the longest body a source can take, and a head.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Saved raw HTTP/1.1 requests: request line, headers, an empty line, the body
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The source that they were meant for
    #[arg(long, value_name = "SOURCE")]
    source: String,
    /// When they came, in seconds since 1970 or as RFC 3339, to judge their timestamps [default: now]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = moment)]
    at: Option<i64>,
    /// A folder with what the gateway would fetch (certificates, keys), each in a file called as the
    /// last part of its URL's path
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
    /// The certificate that the client has shown, in PEM
    #[arg(long, value_name = "FILE")]
    client_certificate: Option<PathBuf>,
    /// One JSON object per file
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

/// Seconds since 1970, as they are or as a date.
fn moment(text: &str) -> Result<i64, String> {
    let seconds = text.parse().ok();
    let date = || text.parse::<Timestamp>().ok().map(Timestamp::as_second);
    let wanted = "write seconds since 1970, or a time such as 2026-01-31T12:00:00Z";
    seconds.or_else(date).ok_or_else(|| wanted.to_owned())
}

pub(super) fn run(args: &ExplainArgs, out: &mut dyn Write) -> Done {
    let Excerpt { config, paths } = load_for(&args.config.config, &args.source)?;
    recall_enrolled(&config);
    let source = find_source(&config, &args.source)?;
    let neighbours = Neighbours {
        sources: &config.sources,
        paths: &paths,
    };
    let now = match args.at {
        None => Now::read(),
        Some(seconds) => Now::at(Timestamp::from_second(seconds).map_err(|error| {
            Failure::new(
                Exit::Usage,
                format!("--at {seconds} is not a time: {error}"),
            )
        })?),
    };
    let folder = args.evidence.clone().map(Folder);
    let at_hand: &dyn Fetching = folder.as_ref().map_or(&Nowhere, |folder| folder);
    let certificate = args.client_certificate.as_deref().map(certificate);
    let certificate = certificate.transpose()?;
    let mut exit = Exit::Success;
    for file in &args.files {
        let name = file.display().to_string();
        let read = read(file);
        if let Err(why) = &read {
            talk(&format!("hookgate: {name}: {why}"));
        }
        let is_read = read.is_ok();
        let explanation = match read {
            Ok(request) => {
                let certificate = certificate.clone();
                explain_among(source, &neighbours, &request, certificate, at_hand, now)
            }
            Err(why) => Explanation::unread(why),
        };
        if explanation.verdict == Verdict::Reject {
            exit = Exit::Failure;
        }
        if args.json {
            writeln!(out, "{}", explanation.to_json(&name))?;
        } else if is_read {
            write!(out, "{}", text(&name, &explanation))?;
        }
    }
    Ok(exit)
}

/// A line with the verdict, one for each remark, and one for each event of a batch.
fn text(name: &str, explanation: &Explanation) -> String {
    let Explanation {
        verdict,
        status,
        reason,
        detail,
        remarks,
        events,
    } = explanation;
    let (verdict, detail) = (verdict.label(), telemetry::harmless(detail));
    let mut text = format!("{name}: {verdict} ({status} {reason}): {detail}\n");
    for remark in remarks {
        text.push_str(&format!("  - {}\n", telemetry::harmless(remark)));
    }
    if !events.is_empty() {
        text.push_str(&elements(events));
    }
    text
}

fn certificate(file: &Path) -> Result<Arc<ClientCertificate>, Failure> {
    let fail = |what: String| {
        let what = format!("--client-certificate {}: {what}", file.display());
        Failure::new(Exit::Usage, what)
    };
    let text = read(file).map_err(fail)?;
    let certificate = ClientCertificate::of_pem(&text).map(Arc::new);
    certificate.ok_or_else(|| fail("there is no certificate in PEM in it".to_owned()))
}

/// The events of a batch, a line each.
fn elements(events: &[Element]) -> String {
    let mut rows = table(&["#", "verdict", "bytes", "routing key", "event id", "detail"]);
    for event in events {
        rows.add_row([
            event.index.to_string(),
            event.reason.to_owned(),
            event.bytes.to_string(),
            event.routing_key.clone(),
            telemetry::harmless(event.event_id.as_deref().unwrap_or("-")),
            telemetry::harmless(event.detail.as_deref().unwrap_or("-")),
        ]);
    }
    lines(&rows)
}

/// The bytes of a file, or why it has none to judge. `-` is standard input.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    let fail = |error: std::io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin()
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(fail)?;
    } else {
        let opened = fs::File::open(file).map_err(fail)?;
        opened
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(fail)?;
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(format!("longer than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
