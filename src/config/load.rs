//! From a path to a whole configuration: read, parse, resolve, compile, and say all that is wrong.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::iter;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::compile::{self, Shared, Written};
use crate::config::diagnostic::Diagnostic;
use crate::config::locate::{Document, Text};
use crate::config::preset::Presets;
use crate::config::problem::{Problem, Severity};
use crate::config::raw::{RawSource, RawVerify};
use crate::config::reader::{Found, Node, Problems, Reporter, Sink, Table};
use crate::config::secrets::{self, Privacy, Vault};
use crate::config::surroundings::{Surroundings, read_file};
use crate::config::value::{Wrong, quote};
use crate::config::{
    Config, Excerpt, Invalid, Limits, Loaded, Storage, Summary, broker, fetch, server, source,
};
use crate::pipeline::handshake::Handshake;
use crate::pipeline::verify::is_public_algorithm;
use crate::source::Source;

/// Longest file of a configuration.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most files that are included.
const FILES_MAX: usize = 10_000;

/// Most secrets of one source: the old one, the new one, and some.
const SECRETS_MAX: usize = 8;

/// Number of the file that was asked for; included ones follow.
const MAIN: usize = 0;

/// What the parser says of a key that is there twice.
const DUPLICATE: &str = "duplicate key";

/// Stands for an address that may be said in a file that cannot be read.
const PUBLIC_URL_ASSUMED: &str = "https://localhost";

pub(crate) fn load(path: &Path, surroundings: &Surroundings) -> Result<Loaded, Invalid> {
    load_where(path, surroundings, |_| true).map(|(loaded, _)| loaded)
}

/// Reads all of it for a command that looks at one source: only what that source needs has to be
/// there. Sources with something wrong are left out.
pub(crate) fn load_for(
    path: &Path,
    source: &str,
    surroundings: &Surroundings,
) -> Result<Excerpt, Invalid> {
    let matters = |problem: &Problem| {
        let keys: Vec<&str> = problem.path.iter().map(String::as_str).collect();
        match keys.as_slice() {
            ["sources", other, ..] => *other == source,
            ["broker" | "admin", ..] | ["server", "tls", ..] => false,
            _ => true,
        }
    };
    let (loaded, paths) = load_where(path, surroundings, matters)?;
    let config = loaded.config;
    Ok(Excerpt { config, paths })
}

/// Reads all of it, and takes no notice of problems that do not matter, except that it leaves out
/// the sources that have errors. Beside it: name and path of every source.
fn load_where(
    path: &Path,
    surroundings: &Surroundings,
    matters: impl Fn(&Problem) -> bool,
) -> Result<(Loaded, Vec<(String, String)>), Invalid> {
    let main_text = read(path).map_err(|why| unreadable(path, &why))?;
    let problems = Problems::default();
    let main = Document::parse(&main_text);
    let mut root = Table::root(
        main.root.get_ref(),
        Sink {
            file: MAIN,
            problems: &problems,
        },
    );
    let include = root.get("include");
    let included_texts: Vec<Text> = include
        .map(|node| included(&node, &main_text.directory, path))
        .unwrap_or_default();

    let included: Vec<Document<'_>> = included_texts.iter().map(Document::parse).collect();
    let documents: Vec<&Document<'_>> = iter::once(&main).chain(&included).collect();
    let (mut config, mut summaries, paths) = build(root, &documents, &problems, surroundings);
    let found = problems.into_found().into_iter();
    let (found, passed_over): (Vec<Found>, Vec<Found>) =
        found.partition(|found| matters(&found.problem));
    let diagnostics = show(found, &documents);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(Invalid {
            problems: diagnostics,
        });
    }
    let is_whole = |name: &str| {
        let is_wrong = |found: &Found| {
            let Problem { path, severity, .. } = &found.problem;
            let is_its_own =
                matches!(&path[..], [kind, own, ..] if kind == "sources" && own == name);
            is_its_own && *severity == Severity::Error
        };
        !passed_over.iter().any(is_wrong)
    };
    config.sources.retain(|source| is_whole(&source.name));
    summaries.retain(|summary| is_whole(&summary.name));
    let loaded = Loaded {
        config,
        warnings: diagnostics,
        summaries,
    };
    Ok((loaded, paths))
}

/// Reads what a look into the journal needs: no secret of a source, no certificate, no broker.
pub(crate) fn storage(path: &Path, surroundings: &Surroundings) -> Result<Storage, Invalid> {
    let text = read(path).map_err(|why| unreadable(path, &why))?;
    let problems = Problems::default();
    let main = Document::parse(&text);
    let sink = Sink {
        file: MAIN,
        problems: &problems,
    };
    let mut root = Table::root(main.root.get_ref(), sink);
    let vault = Vault {
        directory: &text.directory,
        surroundings,
    };
    let storage = Storage {
        admin: server::read_admin(root.section("admin"), &[], vault),
        journal: broker::read_journal(root.section("journal"), vault),
    };
    let diagnostics = show(problems.into_found(), &[&main]);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(Invalid {
            problems: diagnostics,
        });
    }
    Ok(storage)
}

fn read(path: &Path) -> Result<Text, String> {
    let contents = read_file(path, FILE_BYTES_MAX)?;
    let text = String::from_utf8(contents.bytes).map_err(|error| {
        format!(
            "byte {} of it is not UTF-8",
            error.utf8_error().valid_up_to()
        )
    })?;
    let directory = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    Ok(Text {
        shown: path.to_string_lossy().into_owned(),
        directory,
        text,
    })
}

fn unreadable(path: &Path, why: &str) -> Invalid {
    let shown = path.to_string_lossy();
    let problem = Problem::error(&[], format!("cannot read {}: {why}", quote(&shown)));
    Invalid {
        problems: vec![Diagnostic {
            problem,
            place: None,
        }],
    }
}

/// Finds the places, and puts the problems in the order of the files' lines. What a broken file
/// was meant to say is not to be guessed at: of such a one, only where it is broken is shown.
fn show(found: Vec<Found>, documents: &[&Document<'_>]) -> Vec<Diagnostic> {
    let mut placed = Vec::new();
    for (file, document) in documents.iter().enumerate() {
        let errors = document.errors.iter();
        placed.extend(errors.map(|error| {
            let end = document.source.text.len();
            let span = error.span().unwrap_or(end..end);
            let problem = syntax_error(document, error, &span);
            (file, Some(span), document, problem)
        }));
    }
    for Found { file, at, problem } in found {
        let Some(document) = documents.get(file).filter(|it| !it.is_broken()) else {
            continue;
        };
        placed.push((file, document.locate(&problem.path, at), document, problem));
    }
    placed.sort_by_key(|(file, span, ..)| (*file, span.as_ref().map(|span| span.start)));
    let diagnostics = placed
        .into_iter()
        .map(|(_, span, document, problem)| Diagnostic {
            problem,
            place: Some(document.place(span)),
        });
    diagnostics.collect()
}

fn syntax_error(document: &Document<'_>, error: &toml::de::Error, span: &Range<usize>) -> Problem {
    let message = error.message();
    let duplicate = (message == DUPLICATE).then(|| document.duplicate(span));
    let Some((key, first)) = duplicate.flatten() else {
        return Problem::error(&[], message);
    };
    let problem = Problem::error(&[], format!("duplicate key `{key}`"));
    match first {
        None => problem,
        Some(line) => problem.help(format!("it is first in line {line}: keep one of them")),
    }
}

// === Files ===

/// The files that `include` names, each once, in the order of their names.
fn included(node: &Node<'_>, directory: &Path, main: &Path) -> Vec<Text> {
    let mut texts: Vec<Text> = Vec::new();
    let mut known: HashSet<PathBuf> = HashSet::from([main.to_path_buf()]);
    for item in node.items() {
        let Some(pattern) = item.string() else {
            continue;
        };
        let Some(matches) = item.accept(matching(&directory.join(&pattern))) else {
            continue;
        };
        if matches.is_empty() {
            item.warning(
                format!("{} matches no file", quote(&pattern)),
                "paths are relative to the file they stand in",
            );
        }
        for path in matches {
            if !known.insert(path.clone()) {
                continue;
            }
            match read(&path) {
                Ok(text) => texts.push(text),
                Err(why) => item.error(format!(
                    "cannot read {}: {why}",
                    quote(&path.to_string_lossy())
                )),
            }
        }
    }
    texts
}

/// The files of a path whose last part may hold `*`s.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>, Wrong> {
    let directory = pattern.parent().unwrap_or(Path::new(""));
    let name = pattern
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    if directory.to_string_lossy().contains('*') {
        return Err(Wrong::new(
            format!(
                "{} has a `*` in a directory",
                quote(&pattern.to_string_lossy())
            ),
            "only the last part can have one: \"sources.d/*.toml\"",
        ));
    }
    if !name.contains('*') {
        return Ok(vec![pattern.to_path_buf()]);
    }
    let shown = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let Ok(entries) = fs::read_dir(shown) else {
        return Ok(Vec::new());
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| {
            Wrong::from(format!(
                "cannot list {}: {error}",
                quote(&shown.to_string_lossy())
            ))
        })?;
        let found = entry.file_name();
        let found = found.to_string_lossy();
        if !found.starts_with('.') && is_match(&name, &found) {
            paths.push(directory.join(entry.file_name()));
        }
        if paths.len() > FILES_MAX {
            return Err(Wrong::from(format!("more than {FILES_MAX} files match")));
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a name is what a pattern with `*`s says.
fn is_match(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

// === Building ===

fn build<'a>(
    mut root: Table<'a>,
    documents: &[&'a Document<'a>],
    problems: &'a Problems,
    surroundings: &'a Surroundings,
) -> (Config, Vec<Summary>, Vec<(String, String)>) {
    let directory = documents
        .first()
        .map_or(Path::new(""), |main| &main.source.directory);
    let vault = Vault {
        directory,
        surroundings,
    };
    let server = {
        let mut table = root.section("server");
        let server = server::read(&mut table, vault);
        table.finish();
        server
    };
    let admin = server::read_admin(root.section("admin"), &server.listen, vault);
    let journal = broker::read_journal(root.section("journal"), vault);
    let fetch = fetch::read(root.section("fetch"), vault);
    let broker = root.get("broker");
    let has_broker = broker.is_some();
    let broker = broker
        .and_then(|node| node.table())
        .map(|table| broker::read(table, vault));

    let main_is_broken = documents.first().is_some_and(|main| main.is_broken());
    let mut presets = Presets::default();
    let mut written = sources_of(&root.section("sources"), vault, &mut presets);
    if main_is_broken {
        written.clear();
    }
    root.finish();
    for (file, document) in documents.iter().enumerate().skip(1) {
        if document.is_broken() {
            continue;
        }
        let mut root = Table::root(document.root.get_ref(), Sink { file, problems });
        let vault = Vault {
            directory: &document.source.directory,
            surroundings,
        };
        written.extend(sources_of(&root.section("sources"), vault, &mut presets));
        root.finish();
    }

    let shared = Shared {
        limits: &server.limits,
        public_url: server.public_url.as_deref(),
        authorities: &fetch.authorities,
        has_broker,
        asks_for_certificates: server
            .tls
            .as_ref()
            .is_some_and(|tls| tls.files.client_ca.is_some()),
        retain: journal.retain,
        journal_bytes_max: journal.bytes_max,
    };
    let roomy = Limits {
        bytes_in_flight_max: usize::MAX,
        ..server.limits.clone()
    };
    let shared = if main_is_broken {
        // Whatever the other files ask of it may be in there.
        Shared {
            limits: &roomy,
            public_url: shared.public_url.or(Some(PUBLIC_URL_ASSUMED)),
            authorities: shared.authorities,
            has_broker: true,
            asks_for_certificates: true,
            retain: Duration::MAX,
            journal_bytes_max: u64::MAX,
        }
    } else {
        shared
    };
    let paths = written
        .iter()
        .map(|source| (source.name.to_owned(), source.path()));
    let paths = paths.collect();
    let (sources, summaries) = compile_all(written, &mut presets, &shared);
    (
        Config {
            server,
            admin,
            journal,
            broker,
            fetch,
            sources,
        },
        summaries,
        paths,
    )
}

/// Whether all that stands in the `secrets` of a source are public keys.
fn privacy(raw: &RawSource, presets: &mut Presets) -> Privacy {
    let said = |verify: Option<&RawVerify>| match verify {
        Some(RawVerify::Schemes(tables)) => {
            let algorithms = tables.iter().map(|table| {
                let own = table.message.signature_algorithm.as_ref();
                own.or(table.algorithm.as_ref()).cloned()
            });
            algorithms.collect::<Option<Vec<String>>>()
        }
        Some(RawVerify::InsecureNone) | None => None,
    };
    let preset = raw.provider.as_deref().and_then(|it| presets.find(it));
    let algorithms = said(raw.verify.as_ref()).or_else(|| said(preset?.verify.as_ref()));
    let is_public = |names: &Vec<String>| names.iter().all(|name| is_public_algorithm(name));
    match algorithms.filter(is_public) {
        Some(_) => Privacy::Public,
        None => Privacy::Secret,
    }
}

fn sources_of<'a>(table: &Table<'a>, vault: Vault<'a>, presets: &mut Presets) -> Vec<Written<'a>> {
    let mut written = Vec::new();
    for (name, node) in table.entries() {
        let Some(mut table) = node.table() else {
            continue;
        };
        let raw = source::read(&mut table);
        let privacy = privacy(&raw, presets);
        let secrets = secrets::list(&mut table, "secrets", SECRETS_MAX, vault, privacy);
        let has_verify = table.has("verify") || table.has("provider");
        let reporter = table.reporter();
        table.finish();
        written.push(Written {
            name,
            raw,
            secrets,
            has_verify,
            directory: vault.directory,
            reporter,
        });
    }
    written
}

fn compile_all(
    written: Vec<Written<'_>>,
    presets: &mut Presets,
    shared: &Shared<'_>,
) -> (Vec<Arc<Source>>, Vec<Summary>) {
    let mut paths: HashMap<String, String> = HashMap::new();
    let mut names: HashSet<String> = HashSet::new();
    let mut sources = Vec::new();
    let mut summaries = Vec::new();
    let mut own = Vec::new();
    for source in written {
        let reporter = source.reporter.clone();
        let name = source.name.to_owned();
        let path = source.path();
        if !names.insert(name.clone()) {
            reporter.error(
                &[],
                format!("another file has a source {}, too", quote(&name)),
            );
        } else if let Some(other) = paths.get(&path) {
            reporter.error(
                &["path"],
                Wrong::new(
                    format!(
                        "the sources {} and {} have the same path {}",
                        quote(other),
                        quote(&name),
                        quote(&path)
                    ),
                    "give one of them its own: path = \"/in/NAME\"",
                ),
            );
        } else {
            paths.insert(path, name);
        }
        if let Some((source, summary)) = compile::compile(source, presets, shared) {
            own.extend(own_paths(&source, &reporter));
            sources.push(Arc::new(source));
            summaries.push(summary);
        }
    }
    for (path, name, reporter) in own {
        let other = paths.get(&path).cloned();
        if let Some(other) = other {
            let what = format!(
                "a handshake of source {} has the path {}, which is that of {}",
                quote(&name),
                quote(&path),
                quote(&other)
            );
            let help = "let one source answer for both: write the rule there, and a `handshake` \
                        without that path here";
            reporter.error(&["handshake"], Wrong::new(what, help));
        } else {
            paths.insert(path, name);
        }
    }
    (sources, summaries)
}

/// The paths that a source's handshakes have for their own, each once.
fn own_paths<'a>(source: &Source, reporter: &Reporter<'a>) -> Vec<(String, String, Reporter<'a>)> {
    let own = source.handshakes.iter().filter_map(Handshake::path);
    let own: HashSet<&str> = own.collect();
    own.into_iter()
        .map(|path| (path.to_owned(), source.name.to_string(), reporter.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
