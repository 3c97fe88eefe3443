//! Prints rows as a table, JSON or CSV. The only module besides `up` that writes to stdout.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::Output;

/// Prints `rows` under `header`; as JSON, `value` is printed instead, which may hold more.
pub(crate) fn print(
    how: Output,
    header: &[&str],
    rows: &[Vec<String>],
    value: &impl Serialize,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = match how {
        Output::Json => serde_json::to_writer_pretty(&mut out, value)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
        Output::Csv => csv_rows(&mut out, header, rows),
        Output::Table => {
            let mut table = Table::new();
            table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
            table.set_header(header).add_rows(rows);
            writeln!(out, "{table}")
        }
    };
    unless_closed(written)
}

/// A bar on stderr for long work; nothing where stderr is no terminal, or when nobody wants to know.
pub(crate) fn progress(all: u64, what: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(all);
    let style = format!("{{wide_bar}} {{pos}} of {{len}} {what}, {{eta}} left");
    bar.set_style(ProgressStyle::with_template(&style).expect("the template is right"));
    bar
}

/// Prints text.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    unless_closed(writeln!(io::stdout().lock(), "{text}"))
}

fn csv_rows(out: &mut impl Write, header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(header).map_err(cause)?;
    for row in rows {
        writer.write_record(row).map_err(cause)?;
    }
    writer.flush()
}

/// What the system said, where it did: the writer's own conversion hides a closed pipe.
fn cause(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// A reader that closed the pipe, such as `head`, has what it wanted.
fn unless_closed(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// A number for people: three digits that count.
pub(crate) fn number(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

/// A number that may be unknown.
pub(crate) fn known(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), number)
}
