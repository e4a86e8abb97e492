//! Tables that line up.

use comfy_table::{ContentArrangement, Table, presets};

/// A table with a header line, without borders, as wide as the terminal at most.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().map(|title| title.to_uppercase()));
    table
}

/// The table as lines without trailing spaces.
pub(super) fn lines(table: &Table) -> String {
    table.lines().fold(String::new(), |mut out, line| {
        out.push_str(line.trim_end());
        out.push('\n');
        out
    })
}
