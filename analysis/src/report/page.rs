//! `measured.md`: a run's results as a page of Markdown with its date, for documentation that must not
//! be written by hand.
//!
//! Input: what was read and computed. Output: text. Cells are medians over the trials with status `ok`,
//! followed by the smallest and the largest value where there are several.

use super::{
    published::{subject, value},
    statement::{in_words, title},
};
use crate::{Analysis, input::Input, number, summary};
use limosa_record::row::SummaryRow;
use serde_json::Value;

/// Metrics with a column of their own when any variant has them: heading, metric, how it reads.
type Column = (&'static str, &'static str, fn(f64) -> String);
const COLUMNS: [Column; 13] = [
    ("turnaround (s)", "turnaround_s", number::seconds),
    ("goodput (Mbit/s)", "goodput_bps", |bps| number::amount((bps / 1e4).round() / 100.0)),
    ("downtime (s)", "downtime_s", number::seconds),
    ("checkpoint (s)", "checkpoint_s", number::seconds),
    ("transfer (s)", "transfer_s", number::seconds),
    ("restore (s)", "restore_s", number::seconds),
    ("stall (s)", "stall_s", number::seconds),
    ("resume delay (s)", "resume_delay_s", number::seconds),
    ("first response (ms)", "first_response_s", number::milliseconds),
    ("mean response (ms)", "response_mean_s", number::milliseconds),
    ("image", "image_bytes", number::bytes),
    ("sent", "transfer_sent_bytes", number::bytes),
    ("new connections", "reconnects", number::amount),
];

/// The whole page.
pub(crate) fn markdown(input: &Input, analysis: &Analysis) -> String {
    let parts = [heading(input, analysis), variants(analysis), published(input, analysis)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n") + "\n"
}

fn heading(input: &Input, analysis: &Analysis) -> Option<String> {
    let started = input.trials.iter().map(|t| &*t.row.started_utc).filter(|t| !t.is_empty()).min();
    let date = started.and_then(|s| s.get(..10)).unwrap_or("an unknown date");
    let mut text = format!("# {}, measured on {date}\n\n", inline(&title(input)));
    if let Some(about) = input.plan.pointer("/experiment/description").and_then(Value::as_str) {
        text += &format!("{}\n\n", inline(about));
    }
    let [ok, failed, suspect] = [
        analysis.variants.iter().map(|v| v.ok).sum::<usize>(),
        analysis.variants.iter().map(|v| v.failed).sum(),
        analysis.variants.iter().map(|v| v.suspect).sum(),
    ];
    text += &format!(
        "{} of {}: {ok} ok, {failed} failed, {suspect} suspect.",
        number::count(input.trials.len(), "trial"),
        number::count(analysis.variants.len(), "variant"),
    );
    if let Some(machine) = in_words(input.manifest.get("machine")) {
        text += &format!(" Machine: {}.", inline(&machine));
    }
    text += "\n\n`limosa report` wrote this page from the rows of one run. Each cell is a median over the \
             trials that are ok, followed by [the smallest–the largest value].";
    Some(text)
}

fn variants(analysis: &Analysis) -> Option<String> {
    let shown = |metric: &str| {
        analysis.summary.iter().any(|r| r.metric == metric && r.baseline.is_none() && r.max != 0.0)
    };
    let columns: Vec<_> = COLUMNS.iter().filter(|(_, metric, _)| shown(metric)).collect();
    let mut head = vec!["variant".to_owned(), "ok / failed / suspect".into()];
    head.extend(columns.iter().map(|(heading, ..)| (*heading).to_owned()));
    let rows = analysis.variants.iter().map(|v| {
        let mut row = vec![
            format!("`{}`", inline(&v.name)),
            format!("{} / {} / {}", v.ok, v.failed, v.suspect),
        ];
        row.extend(columns.iter().map(|(_, metric, text)| {
            summary::find(&analysis.summary, &v.name, metric)
                .map_or("–".into(), |r| cell(r, *text))
        }));
        row
    });
    table(&head, rows)
}

fn cell(row: &SummaryRow, text: fn(f64) -> String) -> String {
    match row.n {
        0 | 1 => text(row.median),
        _ => format!("{} [{}–{}]", text(row.median), text(row.min), text(row.max)),
    }
}

fn published(input: &Input, analysis: &Analysis) -> Option<String> {
    let file = input.reference.as_ref()?;
    let rows = file.beside(input, &analysis.summary);
    let rows = rows.iter().map(|b| {
        let ours = b.ours.map_or("–".into(), |(mean, _)| value(b, mean));
        let ratio = match (b.ratio, &b.published.not_comparable) {
            (Some(ratio), _) => number::seconds(ratio),
            (None, Some(why)) => format!("not comparable: {}", inline(why)),
            (None, None) => "–".into(),
        };
        let what = format!("{}, `{}`", inline(&subject(b)), inline(&b.published.metric));
        vec![what, inline(&b.published.at), value(b, b.published.mean), ours, ratio]
    });
    let head = ["what", "where", "published mean", "our mean", "ours ÷ published"];
    let table = table(&head.map(str::to_owned), rows)?;
    Some(format!("Published in {}:\n\n{table}", inline(&file.source)))
}

/// `None` without rows.
fn table(head: &[String], rows: impl Iterator<Item = Vec<String>>) -> Option<String> {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let rows: Vec<_> = rows.map(|row| line(&row)).collect();
    let rule = format!("|{}", "---|".repeat(head.len()));
    (!rows.is_empty()).then(|| format!("{}\n{rule}\n{}", line(head), rows.join("\n")))
}

/// Text of a stranger's as it may stand in a line or a cell of Markdown.
fn inline(text: &str) -> String {
    let shown = |c: char| match c {
        '|' | '`' | '<' | '>' | '[' | ']' | '\\' => format!("\\{c}"),
        c if c.is_control() => " ".into(),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_rule_and_no_rows_are_no_table() {
        let head = ["a", "b"].map(str::to_owned);
        assert_eq!(table(&head, std::iter::empty()), None);
        let rows = [vec!["1".to_owned(), "2".into()]];
        assert_eq!(table(&head, rows.into_iter()).unwrap(), "| a | b |\n|---|---|\n| 1 | 2 |");
    }

    #[test]
    fn text_of_strangers_stays_in_its_cell() {
        assert_eq!(inline("a|b\n<i>`x`"), "a\\|b \\<i\\>\\`x\\`");
    }
}
