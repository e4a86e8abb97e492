//! `hookgate init --provider stripe,github`: a configuration to start from.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::providers::{PUBLIC_KEY, Provider};
use super::{Done, Exit, Failure};
use crate::config::raw::{PUBLIC_URL_TO_CHANGE, TO_CHANGE};

/// The file that is written.
const FILE: &str = "gateway.toml";

/// The variable that the broker's URL is in.
const AMQP_URL: &str = "AMQP_URL";

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Who sends: names from `hookgate providers`, with commas between them
    #[arg(long, value_name = "NAME", required = true, value_delimiter = ',')]
    provider: Vec<String>,
    /// Where to write gateway.toml; the directory is made if there is none
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    dir: PathBuf,
}

pub(super) fn run(args: &InitArgs, out: &mut dyn Write) -> Done {
    // Each once, in order.
    let mut providers = BTreeMap::new();
    // What a comma at the end leaves is no name.
    for name in args.provider.iter().filter(|name| !name.trim().is_empty()) {
        let provider = Provider::find(name)?;
        providers.insert(provider.name.clone(), provider);
    }
    if providers.is_empty() {
        let message = "--provider: say who sends; `hookgate providers` lists the names";
        return Err(Failure::new(Exit::Usage, message.to_owned()));
    }
    let providers: Vec<Provider> = providers.into_values().collect();
    let path = args.dir.join(FILE);
    write_new(&args.dir, &path, &configuration(&providers))?;
    writeln!(out, "{}", next_steps(&providers, &path))?;
    Ok(Exit::Success)
}

/// Writes a file that is not there yet.
fn write_new(directory: &Path, path: &Path, text: &str) -> Result<(), Failure> {
    let fail = |what: String| Failure::new(Exit::CannotCreate, what);
    fs::create_dir_all(directory)
        .map_err(|error| fail(format!("making {}: {error}", directory.display())))?;
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => fail(format!(
            "{} is there already and is left as it is: move it away, or say another --dir",
            path.display()
        )),
        _ => fail(format!("making {}: {error}", path.display())),
    })?;
    file.write_all(text.as_bytes())
        .map_err(|error| fail(format!("writing {}: {error}", path.display())))
}

fn configuration(providers: &[Provider]) -> String {
    let sources: Vec<String> = providers.iter().map(source).collect();
    let bindings: Vec<String> = providers
        .iter()
        .map(|provider| format!("\"{}.#\"", provider.name))
        .collect();
    format!(
        r#"# Relative paths are relative to this file. `hookgate check` says what is wrong with it.

[server]
listen = ["127.0.0.1:8443"]                # "0.0.0.0:8443" takes webhooks from outside
public_url = "{PUBLIC_URL_TO_CHANGE}"   # what you tell the providers; some sign it

[server.tls]
self_signed = true                         # for trying; then: cert = "fullchain.pem", key = "privkey.pem"

[journal]
path = "data/journal"                      # on a local disk; events are safe here before they are answered

[broker]                                   # without this table the journal just keeps the events
urls = [{{ env = "{AMQP_URL}" }}]
exchange = "hookgate"

[[broker.queues]]                          # declared for you
name = "webhooks"
bind = [{}]

# Secrets come from the environment, a file ({{ file = "/run/secrets/x" }}) or systemd ({{ credential = "x" }}).
# Several of one source are all tried, so that one can be changed without losing an event.

{}"#,
        bindings.join(", "),
        sources.join("\n")
    )
}

/// The source with what the operator has to do above it.
fn source(provider: &Provider) -> String {
    let about = provider.about();
    let mut text = format!("# {}: {}\n", about.title, about.docs);
    for step in provider.steps() {
        text.push_str(&format!("# - {step}\n"));
    }
    text.push_str(&provider.block());
    text
}

fn next_steps(providers: &[Provider], path: &Path) -> String {
    let path = path.display();
    let mut first = "say where the broker is, and give the secrets:".to_owned();
    if providers.iter().any(Provider::has_to_be_changed) {
        first = format!("replace every {TO_CHANGE} in {path}; {first}");
    }
    first.push_str(&format!(
        "\n   export {AMQP_URL}=amqp://guest:guest@127.0.0.1:5672"
    ));
    for provider in providers {
        if let Some(variable) = provider.variable() {
            let name = &provider.name;
            first.push_str(&format!(
                "\n   export {variable}=...   # hookgate providers {name} says which"
            ));
        }
    }
    let mut steps = vec![
        first,
        format!("hookgate check -c {path}"),
        format!("hookgate run -c {path}"),
    ];
    // Where only a public key is given, `send` wants a private one, too; a secret that comes in a
    // handshake is not there yet.
    let can_sign = |provider: &&Provider| {
        let variable = provider.variable();
        variable.is_some_and(|variable| !variable.ends_with(PUBLIC_KEY))
    };
    if let Some(Provider { name, .. }) = providers.iter().find(can_sign) {
        steps.push(format!(
            "in another terminal, send a webhook as the provider would:\n   hookgate send {name} -c \
             {path}"
        ));
    }
    for Provider { name, .. } in providers.iter().filter(|it| it.is_enrolled()) {
        steps.push(format!(
            "wait for the secret, which comes in a handshake:\n   hookgate enroll {name} --for 10m \
             -c {path}"
        ));
    }
    let mut there = "at each provider, enter the URL and choose events:".to_owned();
    for Provider { name, .. } in providers {
        there.push_str(&format!("\n   hookgate providers {name}"));
    }
    steps.push(there);
    let steps = steps.iter().zip(1..);
    let steps: Vec<String> = steps
        .map(|(step, number)| format!("{number}. {step}"))
        .collect();
    format!("wrote {path}\n\n{}", steps.join("\n"))
}

#[cfg(test)]
mod tests;
