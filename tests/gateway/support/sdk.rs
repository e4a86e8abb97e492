//! The providers' own SDKs: a program for Node and one for Python, asked a line of JSON at a time.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::eventually::PATIENCE;

/// What an SDK is written for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Language {
    Node,
    Python,
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Sdks {
    /// Killed when this is dropped.
    _child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Language {
    /// Where the SDKs are, with the lock file that they were installed from.
    fn folder(self) -> (PathBuf, PathBuf) {
        let (name, lock) = match self {
            Self::Node => ("node", "package-lock.json"),
            Self::Python => ("python", "requirements.txt"),
        };
        let lock = root().join("tests/sdk").join(name).join(lock);
        (root().join("target/sdk").join(name), lock)
    }

    fn command(self, folder: &Path) -> Command {
        match self {
            Self::Node => {
                let mut command = Command::new("node");
                // A link there, so that packages are looked for beside it.
                command
                    .arg("--preserve-symlinks-main")
                    .arg(folder.join("sdk.mjs"));
                command
            }
            Self::Python => {
                let mut command = Command::new(folder.join("bin/python"));
                command.arg(root().join("tests/sdk/python/sdk.py"));
                command
            }
        }
    }
}

impl Sdks {
    /// Starts the program, which trusts the authority in `ca`. Fails when the SDKs are not those
    /// of the lock file.
    pub(crate) fn start(language: Language, ca: &Path) -> Self {
        let (folder, lock) = language.folder();
        let installed = std::fs::read(folder.join("installed")).unwrap_or_default();
        assert!(
            installed == std::fs::read(&lock).expect("lock file"),
            "{} is not what {} says: run deploy/install-dependencies.sh, or `make test` which does",
            folder.display(),
            lock.display()
        );
        let mut child = language
            .command(&folder)
            .env("NODE_EXTRA_CA_CERTS", ca)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{language:?} does not start: {error}"));
        let questions = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self {
            _child: child,
            questions,
            answers,
        }
    }

    /// Asks, and gives the answer. Fails when the program could not make one.
    pub(crate) async fn ask(&mut self, question: &Value) -> Value {
        let line = format!("{question}\n");
        self.questions
            .write_all(line.as_bytes())
            .await
            .expect("it listens");
        let answer = match timeout(PATIENCE, self.answers.next_line()).await {
            Ok(answer) => answer.expect("text").expect("it answers before it ends"),
            Err(elapsed) => panic!("no answer to {question}: {elapsed}"),
        };
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert!(
            answer.get("error").is_none(),
            "{question}: {}",
            answer["error"]
        );
        answer
    }
}
