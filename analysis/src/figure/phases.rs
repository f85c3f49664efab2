//! What a migration's time was spent on: one stacked bar per variant that migrates.
//!
//! Input: summary rows. Output: the means of checkpoint, transfer, restore and resume delay, one after
//! the other.

use super::{
    BLUE, Figure, GREEN, INK, MUTED, ORANGE, SKY, WIDTH, label,
    svg::{Anchor, Scale, Sign, Stroke, Svg, key, x_axis},
    width,
};
use crate::{number, series::LONGEST_S, summary};
use limosa_record::row::SummaryRow;

const HEAD: f64 = 34.0;
const ROW: f64 = 40.0;
const FOOT: f64 = 46.0;
const RIGHT: f64 = 80.0;
const MOST_ROWS: usize = 40;

/// Metric, name, colour, colour of a label on it: dark and light in turn, for a grey print.
const PHASES: [(&str, &str, &str, &str); 4] = [
    ("checkpoint_s", "checkpoint", BLUE, "#fff"),
    ("transfer_s", "transfer", SKY, INK),
    ("restore_s", "restore", GREEN, "#fff"),
    ("resume_delay_s", "until data comes again", ORANGE, INK),
];

/// `None` when nothing was migrated.
pub(crate) fn figure(summary: &[SummaryRow], variants: &[String]) -> Option<Figure> {
    let bar = |variant: &String| {
        let mean = |metric| {
            let row = summary::find(summary, variant, metric)?;
            Some(row.mean.max(0.0)).filter(|s| *s < LONGEST_S)
        };
        let means = PHASES.map(|(metric, ..)| mean(metric));
        means.iter().any(Option::is_some).then(|| (variant.clone(), means))
    };
    let bars: Vec<_> = variants.iter().filter_map(bar).take(MOST_ROWS).collect();
    if bars.is_empty() {
        return None;
    }
    let caption = "What the time of a migration went to, means over the trials: writing the image, \
                   carrying it over, bringing the process to life, and from there to the next byte \
                   of the body. The number at the right is their sum.";
    Some(Figure::new("phases.svg", draw(&bars), caption.into()))
}

fn draw(bars: &[(String, [Option<f64>; 4])]) -> String {
    let bottom = HEAD + ROW * bars.len() as f64;
    let mut svg = Svg::new(bottom + FOOT);
    let names: Vec<_> = bars.iter().map(|(name, _)| label(name, 30)).collect();
    let left = names.iter().map(|n| width(n)).fold(60.0, f64::max) + 20.0;
    let sum = |means: &[Option<f64>; 4]| means.iter().flatten().sum::<f64>();
    let longest = bars.iter().map(|(_, means)| sum(means)).fold(1e-6, f64::max);
    let x = Scale { from: 0.0, to: longest * 1.02, start: left, end: f64::from(WIDTH) - RIGHT };
    x_axis(&mut svg, x, bottom, "time since the start of the checkpoint (s)", 8, Some(HEAD));
    for (i, ((_, means), name)) in bars.iter().zip(&names).enumerate() {
        let (top, mid) = (HEAD + ROW * i as f64 + 8.0, HEAD + ROW * (i as f64 + 0.5));
        svg.text(left - 12.0, mid, Anchor::End, INK, name);
        let mut at = 0.0;
        for ((_, phase, color, ink), mean) in PHASES.iter().zip(means) {
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
    let entries = PHASES.map(|(_, name, color, _)| (Sign::Bar(color), name.to_owned()));
    key(&mut svg, 8.0, 12.0, &entries);
    svg.finish("phases of the migration")
}
