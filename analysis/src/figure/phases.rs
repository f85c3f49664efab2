//! What a migration's time was spent on: one stacked bar per variant that migrates.
//!
//! Input: summary rows. Output: the means of checkpoint, transfer or wait, restore and resume delay, one
//! after the other.

use super::{
    BLUE, Figure, GREEN, INK, MUTED, ORANGE, RULE, SKY, WIDTH,
    data::{Data, cell},
    label,
    svg::{Anchor, Scale, Sign, Stroke, Svg, key, x_axis},
    width,
};
use crate::{input::Input, number, series::LONGEST_S, summary};
use limosa_record::row::SummaryRow;

const HEAD: f64 = 34.0;
const ROW: f64 = 40.0;
const FOOT: f64 = 46.0;
const RIGHT: f64 = 80.0;
const MOST_ROWS: usize = 40;

/// Name, colour, colour of a label on it: dark and light in turn, for a grey print.
const PHASES: [(&str, &str, &str); 5] = [
    ("checkpoint", BLUE, "#fff"),
    ("transfer", SKY, INK),
    ("waited, as the timeline says", RULE, INK),
    ("restore", GREEN, "#fff"),
    ("until data comes again", ORANGE, INK),
];

/// Mean seconds of each phase that a variant has.
type Means = [Option<f64>; 5];

/// `None` when nothing was migrated.
pub(crate) fn figure(input: &Input, summary: &[SummaryRow], variants: &[String]) -> Option<Figure> {
    let mut bars = bars(input, summary, variants);
    let rest = bars.len().saturating_sub(MOST_ROWS);
    bars.truncate(MOST_ROWS);
    if bars.is_empty() {
        return None;
    }
    let mut caption = caption(&bars, variants.iter().any(|v| hands_over(input, v)));
    if rest > 0 {
        caption += &format!(" Not drawn: {}, for want of room.", number::count(rest, "more row"));
    }
    let mut data = Data::new(["variant", "phase", "mean_s"]);
    for (variant, means) in &bars {
        for ((phase, ..), mean) in PHASES.iter().zip(means) {
            if let Some(mean) = mean {
                data.row([variant.clone(), (*phase).into(), cell(*mean)]);
            }
        }
    }
    Some(Figure::new("phases.svg", draw(&bars), data, caption))
}

/// What is drawn.
fn bars(input: &Input, summary: &[SummaryRow], variants: &[String]) -> Vec<(String, Means)> {
    let bar = |variant: &String| {
        let mean = |metric| {
            let row = summary::find(summary, variant, metric)?;
            Some(row.mean.max(0.0)).filter(|s| *s < LONGEST_S)
        };
        let between = mean("transfer_s");
        let travels = carries(input, variant) || hands_over(input, variant);
        let means = [
            mean("checkpoint_s"),
            between.filter(|_| travels),
            between.filter(|_| !travels),
            mean("restore_s"),
            mean("resume_delay_s"),
        ];
        means.iter().any(Option::is_some).then(|| (variant.clone(), means))
    };
    variants.iter().filter_map(bar).collect()
}

/// Whether files travelled; else the images stayed where they were, and the time until the restore is
/// one that somebody wrote into the timeline.
fn carries(input: &Input, variant: &str) -> bool {
    input.of(variant).any(|t| t.row.transfer.as_ref().is_some_and(|by| !by.is_empty()))
}

/// Whether objects travelled between two servers.
fn hands_over(input: &Input, variant: &str) -> bool {
    input.of(variant).any(|t| ["dual-path", "post-copy"].contains(&t.row.scheme.as_str()))
}

fn caption(bars: &[(String, Means)], hands_over: bool) -> String {
    let any = |phase: usize| bars.iter().any(|(_, means)| means[phase].is_some());
    let words = [
        "writing the image",
        "carrying it over",
        "waiting, where the timeline says so",
        "bringing the process to life",
        "from there to the next byte of the body",
    ];
    let words: Vec<_> =
        words.iter().enumerate().filter(|(i, _)| any(*i)).map(|(_, word)| *word).collect();
    let list = match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    };
    let mut text = format!("What the time of a migration went to, means over the trials: {list}.");
    if hands_over && any(1) {
        text += " Where a copy takes over (dual-path, post-copy), the transfer is that of the objects, \
                 which begins after the restore.";
    }
    text + " The number at the right is the sum."
}

fn draw(bars: &[(String, Means)]) -> String {
    let bottom = HEAD + ROW * bars.len() as f64;
    let mut svg = Svg::new(bottom + FOOT);
    let names: Vec<_> = bars.iter().map(|(name, _)| label(name, 30)).collect();
    let left = names.iter().map(|n| width(n)).fold(60.0, f64::max) + 20.0;
    let sum = |means: &Means| means.iter().flatten().sum::<f64>();
    let longest = bars.iter().map(|(_, means)| sum(means)).fold(1e-6, f64::max);
    let x = Scale { from: 0.0, to: longest * 1.02, start: left, end: f64::from(WIDTH) - RIGHT };
    x_axis(&mut svg, x, bottom, "time since the start of the checkpoint (s)", 8, Some(HEAD));
    for (i, ((_, means), name)) in bars.iter().zip(&names).enumerate() {
        let (top, mid) = (HEAD + ROW * i as f64 + 8.0, HEAD + ROW * (i as f64 + 0.5));
        svg.text(left - 12.0, mid, Anchor::End, INK, name);
        let mut at = 0.0;
        for ((phase, color, ink), mean) in PHASES.iter().zip(means) {
            let Some(mean) = mean else { continue };
            let (a, b) = (x.px(at), x.px(at + mean));
            let title = format!("{phase}: {} s", number::seconds(*mean));
            svg.rect((a, top), (b, top + ROW - 16.0), color, &title);
            svg.line((b, top), (b, top + ROW - 16.0), Stroke::new("#fff", 1.0));
            let text = format!("{} s", number::seconds(*mean));
            if width(&text) + 8.0 < b - a {
                svg.text((a + b) / 2.0, mid, Anchor::Middle, ink, &text);
            }
            at += mean;
        }
        let total = format!("{} s", number::seconds(at));
        svg.text(f64::from(WIDTH) - 8.0, mid, Anchor::End, MUTED, &total);
    }
    let shown = |phase: usize| bars.iter().any(|(_, means)| means[phase].is_some());
    let entries = PHASES.iter().enumerate().filter(|(i, _)| shown(*i));
    let entries: Vec<_> =
        entries.map(|(_, (name, color, _))| (Sign::Bar(color), (*name).to_owned())).collect();
    key(&mut svg, 8.0, 12.0, &entries);
    svg.finish("phases of the migration")
}
