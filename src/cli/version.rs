//! `hookgate version`.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::{Done, Exit};

#[derive(Debug, Args)]
pub(super) struct VersionArgs {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VersionArgs, out: &mut dyn Write) -> Done {
    let version = env!("CARGO_PKG_VERSION");
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    if args.json {
        let object = json!({ "version": version, "profile": profile, "target": target });
        writeln!(out, "{object}")?;
    } else {
        writeln!(out, "hookgate {version} ({target}, {profile})")?;
    }
    Ok(Exit::Success)
}
