//! `hookgate providers [NAME]`.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::output::{lines, table};
use super::{Done, Exit, Failure};
use crate::config::parse_provider;
use crate::config::raw::{RawAbout, RawSource, RawVerify};
use crate::providers;

#[derive(Debug, Args)]
pub(super) struct ProvidersArgs {
    /// Show this one, with a configuration to start from
    name: Option<String>,
    /// One JSON object per provider
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ProvidersArgs, out: &mut dyn Write) -> Done {
    match &args.name {
        Some(name) => show(name, args.json, out),
        None => list(args.json, out),
    }
}

fn list(json: bool, out: &mut dyn Write) -> Done {
    let mut rows = table(&["provider", "who", "proof", "docs"]);
    for name in &providers::names() {
        let preset = find(name)?;
        if json {
            writeln!(out, "{}", object(name, &preset))?;
        } else {
            rows.add_row([name, &preset.about.title, &preset.proof, &preset.about.docs]);
        }
    }
    if !json {
        write!(out, "{}", lines(&rows))?;
    }
    Ok(Exit::Success)
}

fn show(name: &str, json: bool, out: &mut dyn Write) -> Done {
    let preset = find(name)?;
    if json {
        writeln!(out, "{}", object(name, &preset))?;
        return Ok(Exit::Success);
    }
    writeln!(out, "{}\n{}\n", preset.about.title, preset.about.docs)?;
    for (number, step) in (1..).zip(&preset.about.setup) {
        writeln!(out, "{number}. {step}")?;
    }
    let variable = name.to_uppercase().replace('-', "_");
    writeln!(
        out,
        "\nin gateway.toml:\n\n[sources.{name}]\nprovider = \"{name}\"\nsecrets = [{{ env = \"{variable}_SECRET\" }}]\n\n\
         what the preset says, in the same words a source of your own would use:\n\n{}",
        grammar(providers::text(name).unwrap_or_default())
    )?;
    Ok(Exit::Success)
}

/// A preset without `[about]`, which no source has.
fn grammar(text: &str) -> String {
    let mut lines = Vec::new();
    let mut is_about = false;
    for line in text.trim_end().lines() {
        if line.starts_with('[') && line.ends_with(']') {
            is_about = line == "[about]";
        }
        if !is_about {
            lines.push(line);
        }
    }
    lines.join("\n")
}

fn object(name: &str, preset: &Preset) -> serde_json::Value {
    json!({
        "provider": name,
        "title": preset.about.title,
        "docs": preset.about.docs,
        "proof": preset.proof,
        "setup": preset.about.setup,
    })
}

/// What is shown of a built-in provider.
struct Preset {
    about: RawAbout,
    /// The algorithm, or several.
    proof: String,
}

fn find(name: &str) -> Result<Preset, Failure> {
    let unknown = || {
        let message = format!("there is no provider {name:?}; `hookgate providers` lists them");
        Failure::new(Exit::Usage, message)
    };
    let text = providers::text(name).ok_or_else(unknown)?;
    // A test keeps the built-in files without mistakes.
    let raw = parse_provider(text).unwrap_or_default();
    let proof = proof(&raw);
    Ok(Preset {
        about: raw.about.unwrap_or_default(),
        proof,
    })
}

fn proof(raw: &RawSource) -> String {
    match &raw.verify {
        Some(RawVerify::Schemes(schemes)) => {
            let algorithms: Vec<&str> = schemes
                .iter()
                .filter_map(|scheme| scheme.algorithm.as_deref())
                .collect();
            algorithms.join(" and ")
        }
        Some(RawVerify::InsecureNone) | None => "none".to_owned(),
    }
}
