//! Schema files to compiled schemas: read under bounds, found by name, compiled without a network.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{
    Draft, PatternOptions, ReferencingError, Retrieve, Uri, ValidationError, ValidationOptions,
    Validator,
};
use serde_json::{Value, json};

use super::metered::Metered;
use crate::config::problem::Problem;
use crate::pipeline::routing::words;

/// Longest schema file. GitHub's own for all its events has 0.6 MiB.
pub(super) const SCHEMA_BYTES_MAX: u64 = 2 << 20;

/// Deepest nesting of objects and lists in a schema, so that no body can overflow the stack.
pub(super) const SCHEMA_DEPTH_MAX: usize = 64;

/// Most schemas in a folder.
pub(super) const FILES_MAX: usize = 1024;

/// Most bytes of all schemas in a folder.
pub(super) const FOLDER_BYTES_MAX: u64 = 32 << 20;

/// Most memory that one compiled pattern takes, and again that its cache takes.
pub(super) const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Where relative references start from: a name that only the gateway knows.
const BASE: &str = "hookgate-schema:///here/";

const DRAFTS: &str = "drafts 4, 6, 7, 2019-09 and 2020-12 are known";

type Options = ValidationOptions<'static, Arc<dyn Retrieve>, Metered>;

/// What a path held.
pub(super) struct Schemas {
    pub(super) is_folder: bool,
    /// By name: the file's name without `.json`.
    pub(super) validators: Vec<(Arc<str>, Validator<Metered>)>,
}

/// Compiles a schema file, or all of a folder's.
pub(super) fn compile(path: &Path) -> Result<Schemas, Vec<Problem>> {
    let is_folder = match fs::metadata(path) {
        Ok(found) => found.is_dir(),
        Err(error) => return Err(vec![problem(path, format!("cannot be read: {error}"))]),
    };
    let files = if is_folder {
        list(path)?
    } else {
        vec![path.to_owned()]
    };

    let mut documents = Vec::new();
    let mut problems = Vec::new();
    let mut bytes_left = FOLDER_BYTES_MAX;
    for file in files {
        match read(&file) {
            Ok((document, bytes)) if bytes <= bytes_left => {
                bytes_left -= bytes;
                documents.push((file, document));
            }
            Ok(_) => {
                let what = format!("has more than {FOLDER_BYTES_MAX} bytes of schemas");
                return Err(vec![problem(path, what)]);
            }
            Err(fault) => problems.push(problem(&file, fault)),
        }
    }

    let folder = if is_folder {
        path
    } else {
        path.parent().unwrap_or(Path::new(""))
    };
    let patterns = PatternOptions::regex()
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX);
    let options = jsonschema::options_for::<Metered>()
        .with_retriever(Neighbours::new(folder, &documents))
        .with_pattern_options(patterns);
    let mut validators = Vec::new();
    for (file, document) in &documents {
        match build(options.clone(), file, document) {
            Ok(validator) => validators.push((Arc::from(stem(file)), validator)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(Schemas {
            is_folder,
            validators,
        })
    } else {
        Err(problems)
    }
}

/// The schema files of a folder, sorted.
fn list(folder: &Path) -> Result<Vec<PathBuf>, Vec<Problem>> {
    let unreadable = |error| vec![problem(folder, format!("cannot be read: {error}"))];
    let mut files = Vec::new();
    let mut problems = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with('.') {
            continue;
        }
        match name.strip_suffix(".json") {
            None => problems.push(
                problem(&file, "is not a .json file").help("keep only schemas in this folder"),
            ),
            Some(stem) if words(stem) != stem => problems.push(
                problem(&file, "is no event type's file name")
                    .help(format!("call it {}.json", words(stem))),
            ),
            Some(_) => files.push(file),
        }
        if files.len() > FILES_MAX {
            return Err(vec![problem(
                folder,
                format!("has more than {FILES_MAX} schemas"),
            )]);
        }
    }
    if files.is_empty() && problems.is_empty() {
        problems.push(
            problem(folder, "has no schema").help("add EVENT_TYPE.json, or default.json for all"),
        );
    }
    files.sort();
    if problems.is_empty() {
        Ok(files)
    } else {
        Err(problems)
    }
}

/// One document and its length.
fn read(file: &Path) -> Result<(Value, u64), String> {
    let unreadable = |error| format!("cannot be read: {error}");
    // Opening a pipe would wait for its other end.
    if !fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut text = Vec::new();
    let mut source = File::open(file)
        .map_err(unreadable)?
        .take(SCHEMA_BYTES_MAX + 1);
    let bytes =
        u64::try_from(source.read_to_end(&mut text).map_err(unreadable)?).unwrap_or(u64::MAX);
    if bytes > SCHEMA_BYTES_MAX {
        return Err(format!("is longer than {SCHEMA_BYTES_MAX} bytes"));
    }
    let document: Value = serde_json::from_slice(&text).map_err(|error| {
        // It stops at 128 levels, before the stack does.
        if error.to_string().starts_with("recursion limit") {
            too_deep()
        } else {
            format!("is not JSON: {error}")
        }
    })?;
    if depth(&document) > SCHEMA_DEPTH_MAX {
        return Err(too_deep());
    }
    if !document.is_object() && !document.is_boolean() {
        return Err("is not a schema: a schema is an object, or true or false".to_owned());
    }
    Ok((document, bytes))
}

fn too_deep() -> String {
    format!("is nested deeper than {SCHEMA_DEPTH_MAX} levels")
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn build(options: Options, file: &Path, document: &Value) -> Result<Validator<Metered>, Problem> {
    if let Some(dialect) = document.get("$schema") {
        let known = dialect.as_str().map(Draft::from_schema_uri);
        if known.is_none_or(|draft| draft == Draft::Unknown) {
            return Err(problem(file, format!("has an unknown $schema, {dialect}")).help(DRAFTS));
        }
    }
    options
        .with_base_uri(format!("{BASE}{}.json", stem(file)))
        .build(document)
        .map_err(|error| refused(file, &error))
}

fn refused(file: &Path, error: &ValidationError<'_>) -> Problem {
    let place = match error.instance_path().as_str() {
        "" => String::new(),
        pointer => format!("at {pointer}: "),
    };
    match error.kind() {
        Kind::Referencing(ReferencingError::Unretrievable { uri, source }) => {
            let uri = uri.strip_prefix(BASE).unwrap_or(uri);
            problem(file, format!("{place}$ref to {uri}: {source}"))
        }
        Kind::Format { format } if format == "regex" => {
            problem(file, format!("{place}{error}")).help(pattern_help(error.instance()))
        }
        _ => problem(file, format!("{place}{error}")),
    }
}

/// A pattern that another engine takes asks for what ours leaves out; others are slips.
fn pattern_help(pattern: &Value) -> &'static str {
    if jsonschema::validator_for(&json!({ "pattern": pattern })).is_ok() {
        "patterns run in linear time: look-around and back-references are not available"
    } else {
        "this is no regular expression: look for a bracket without its partner, a repetition of \
         nothing, a `\\` that is too many; or it is too large"
    }
}

/// What a `$ref` can lead to besides its own document. Everything else is refused, the network
/// above all.
struct Neighbours {
    folder: PathBuf,
    /// The folder's documents that have an `$id`.
    by_id: HashMap<String, Value>,
}

impl Neighbours {
    fn new(folder: &Path, documents: &[(PathBuf, Value)]) -> Self {
        let mut by_id = HashMap::new();
        for (_, document) in documents {
            let id = document.get("$id").or_else(|| document.get("id"));
            if let Some(id) = id.and_then(Value::as_str) {
                by_id.insert(id.trim_end_matches('#').to_owned(), document.clone());
            }
        }
        Self {
            folder: folder.to_owned(),
            by_id,
        }
    }
}

impl Retrieve for Neighbours {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let uri = uri.as_str();
        if let Some(document) = self.by_id.get(uri) {
            return Ok(document.clone());
        }
        let Some(name) = uri.strip_prefix(BASE) else {
            return Err(
                "nothing is fetched; keep the schema in the same folder and refer to it by \
                        its file name"
                    .into(),
            );
        };
        if words(name) != name || name.starts_with('.') || !name.ends_with(".json") {
            return Err("only .json files of the same folder can be referred to".into());
        }
        let (document, _) = read(&self.folder.join(name))?;
        Ok(document)
    }
}

/// A schema's name, in the letters of an event type's file name.
fn stem(file: &Path) -> String {
    words(&file.file_stem().unwrap_or_default().to_string_lossy())
}

fn problem(path: &Path, what: impl std::fmt::Display) -> Problem {
    Problem::error(&["schema"], format!("{}: {what}", path.display()))
}
