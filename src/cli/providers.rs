//! `hookgate providers [NAME]`: what there is, and what an operator does at each.

mod facts;
mod page;

use std::io::Write;

use clap::Args;
use serde_json::json;

#[cfg(test)]
pub(super) use self::facts::STAND_INS;
pub(super) use self::facts::{PUBLIC_KEY, Provider};
use super::output::{lines, table};
use super::{Done, Exit};
use crate::providers;

#[derive(Debug, Args)]
pub(super) struct ProvidersArgs {
    /// Show this one, with what to do at the provider and a configuration to start from
    name: Option<String>,
    /// One JSON object per provider
    #[arg(long)]
    json: bool,
    /// All of them as a page in Markdown, which is deploy/providers.md
    #[arg(long, conflicts_with_all = ["name", "json"])]
    markdown: bool,
}

pub(super) fn run(args: &ProvidersArgs, out: &mut dyn Write) -> Done {
    match &args.name {
        Some(name) if args.json => writeln!(out, "{}", object(&Provider::find(name)?))?,
        Some(name) => show(&Provider::find(name)?, out)?,
        None => list(args, out)?,
    }
    Ok(Exit::Success)
}

fn list(args: &ProvidersArgs, out: &mut dyn Write) -> Result<(), super::Failure> {
    let all: Result<Vec<Provider>, _> = providers::names()
        .iter()
        .map(|name| Provider::find(name))
        .collect();
    let all = all?;
    if args.markdown {
        write!(out, "{}", page::markdown(&all))?;
        return Ok(());
    }
    let mut rows = table(&["provider", "who", "proof", "docs"]);
    for provider in &all {
        if args.json {
            writeln!(out, "{}", object(provider))?;
        } else {
            let about = provider.about();
            rows.add_row([&provider.name, &about.title, &provider.proof(), &about.docs]);
        }
    }
    if !args.json {
        write!(out, "{}", lines(&rows))?;
    }
    Ok(())
}

fn show(provider: &Provider, out: &mut dyn Write) -> std::io::Result<()> {
    let (name, about) = (&provider.name, provider.about());
    writeln!(out, "{}\n{}\n\nwhat to do there\n", about.title, about.docs)?;
    let url = format!("The URL to paste is `server.public_url` with the source's path, /{name}.");
    for (number, step) in (1..).zip([url].into_iter().chain(provider.steps())) {
        writeln!(out, "{number}. {step}")?;
    }
    if let Some(variable) = provider.variable() {
        writeln!(
            out,
            "What goes into `secrets` is referred to, not written there: \
             secrets = [{{ env = \"{variable}\" }}] takes it from that variable."
        )?;
    }
    let handshakes = match provider.handshakes() {
        none if none.is_empty() => "none".to_owned(),
        some if provider.is_to_be_confirmed() => format!(
            "{}; the first is finished with `confirm = true`, else by you: the log has the URL to open",
            some.join("; ")
        ),
        some => format!("{}: answered by itself", some.join("; ")),
    };
    let published = match provider.event_type() {
        [] => format!("under {name}; the preset knows of no types"),
        places => format!(
            "under {name}.TYPE, with the type from {}",
            places.join(", else ")
        ),
    };
    writeln!(out, "\nwhat to expect\n")?;
    for (what, words) in [
        (
            "proof",
            format!("{}, covers: {}", provider.proof(), provider.covers()),
        ),
        ("handshake", handshakes),
        ("body", provider.takes()),
        ("published", published),
        ("answer", provider.answer()),
        ("unfit", unfit(provider).to_owned()),
        ("copies", provider.copies()),
        ("deadline", provider.answer_to("deadline")),
        ("retries", provider.answer_to("retries")),
        ("redelivery", provider.answer_to("redelivery")),
        ("rotation", provider.rotation()),
        ("evidence", provider.evidence()),
    ] {
        writeln!(out, "{what:<11}{words}")?;
    }
    writeln!(
        out,
        "\nin gateway.toml\n\n{}\n\
         what the preset says, in the same words a source of your own would use\n\n{}",
        provider.block(),
        grammar(provider.text)
    )
}

fn unfit(provider: &Provider) -> &'static str {
    match provider.unfit() {
        "quarantine" => {
            "what is genuine and does not fit is kept in the quarantine, because the provider \
             would not send it again, or stop"
        }
        _ => "what is genuine and does not fit is refused, with 400, 415 or 422",
    }
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

fn object(provider: &Provider) -> serde_json::Value {
    let about = provider.about();
    let evidence: Vec<&str> = about.evidence.iter().map(|it| it.label()).collect();
    json!({
        "provider": provider.name,
        "title": about.title,
        "docs": about.docs,
        "proof": provider.proof(),
        "coverage": provider.coverage().map(|coverage| coverage.label()),
        "setup": provider.steps(),
        "handshakes": provider.handshakes(),
        "body": provider.takes(),
        "answer": provider.answer(),
        "unfit": provider.unfit(),
        "deadline": about.deadline,
        "retries": about.retries,
        "redelivery": about.redelivery,
        "rotation": provider.rotation(),
        "unverified": about.unverified,
        "unsaid": about.unsaid,
        "pages": about.pages,
        "copies": provider.copies(),
        "evidence": evidence,
        "variable": provider.variable(),
        "source": provider.block(),
    })
}

#[cfg(test)]
mod tests;
