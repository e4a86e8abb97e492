//! The page of all providers: `deploy/providers.md`, made from their files.

use super::facts::Provider;
use crate::config::raw::Evidence;

const BEGINNING: &str = "\
# Providers

Written by `hookgate providers --markdown` from `src/providers/*.toml`: change those, then `make providers`.

`provider = \"NAME\"` in `[sources.NAME]` takes a name of the first column. `hookgate providers NAME` says what to do at that
provider, which events to choose, how long it waits and how often it tries again, and gives a source to start from;
`hookgate init --provider NAME,NAME` writes a whole configuration.

- **scheme**: the `algorithm` of its proof, see the [README](../README.md#configuration).
- **covers**: how much of the body the proof covers. *whole body*: no byte can be changed. *some fields*: the rest of the event
  can. *nothing*: the proof shows who sends, not what, so keep the path and the token to yourself, and let consumers fetch what
  matters from the provider.
- **handshake**: requests that are answered by rule and never published. What has to be confirmed by calling a URL needs
  `confirm = true`.
- **body**: how it is read. *by its content type*: JSON, form, XML or JSON lines, as it comes. *a batch, split at*: where the array stands
  of which each element becomes a message; `json:` is the body itself.
- **copies**: whether an event that comes again is recognised. *no*: no id in its events is known, so each copy is published.
- **answer**: status and body of the answer to a good event.
- **if it does not fit**: what becomes of an event that is genuine, and cannot be read or violates the source's schema.
  *refused*: 400, 415 or 422, and the provider may try again. *quarantine*: accepted and set apart, because the provider would
  not send it again, holds back others, or switches the webhook off. `on_invalid` of the source changes it.
- **evidence**: what shows that the scheme is the provider's own. *published*: the provider, or the standard, published a signed
  example, and it passes. *SDK*: what the provider's own SDK signs passes. *recipe only*: built from a description.

";

const TITLES: [&str; 10] = [
    "provider",
    "of",
    "scheme",
    "covers",
    "handshake",
    "body",
    "copies",
    "answer",
    "if it does not fit",
    "evidence",
];

/// The page, with columns that line up.
pub(super) fn markdown(providers: &[Provider]) -> String {
    let rows: Vec<[String; 10]> = providers.iter().map(row).collect();
    let widths: Vec<usize> = TITLES
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max();
            widest.unwrap_or_default().max(title.len())
        })
        .collect();
    let mut page = BEGINNING.to_owned();
    page.push_str(&line(TITLES.map(str::to_owned).iter(), &widths, ' '));
    page.push_str(&line(TITLES.map(|_| String::new()).iter(), &widths, '-'));
    for row in &rows {
        page.push_str(&line(row.iter(), &widths, ' '));
    }
    page
}

fn row(provider: &Provider) -> [String; 10] {
    let evidence = provider
        .about()
        .evidence
        .iter()
        .map(|evidence| match evidence {
            Evidence::Published => "published",
            Evidence::Sdk => "SDK",
            Evidence::Recipe => "recipe only",
        });
    let covers = provider.covers();
    let covers = covers.split_once(':').map_or(covers, |(word, _)| word);
    let handshakes = provider.handshakes().join("; ");
    let cells = [
        format!("`{}`", provider.name),
        format!("[{}]({})", provider.about().title, provider.about().docs),
        provider.proof(),
        covers.to_owned(),
        if handshakes.is_empty() {
            "-".to_owned()
        } else {
            handshakes
        },
        provider.takes(),
        yes(provider.tells_copies()).to_owned(),
        provider.answer(),
        provider.unfit().to_owned(),
        evidence.collect::<Vec<_>>().join(", "),
    ];
    // A bar would begin another column.
    cells.map(|cell| cell.replace('|', "\\|"))
}

fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}

fn line<'a>(cells: impl Iterator<Item = &'a String>, widths: &[usize], fill: char) -> String {
    let mut line = String::from("|");
    for (cell, &width) in cells.zip(widths) {
        let padding = width.saturating_sub(cell.chars().count());
        line.push(' ');
        line.push_str(cell);
        line.extend(std::iter::repeat_n(fill, padding));
        line.push_str(" |");
    }
    line.push('\n');
    line
}
