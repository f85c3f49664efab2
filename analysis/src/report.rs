//! The report: one HTML page that needs nothing but itself.
//!
//! Input: what was read, what was computed, what was drawn. Output: HTML with its style and figures
//! inside, no script, nothing from a network.

mod files;
mod statement;
mod table;

use crate::{Analysis, Figure, input::Input};
use maud::{DOCTYPE, Markup, PreEscaped, html};

pub(crate) fn page(input: &Input, analysis: &Analysis, figures: &[Figure]) -> String {
    let title = statement::title(input);
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " – Limosa" }
                style { (PreEscaped(include_str!("report.css"))) }
            }
            body {
                h1 { (title) }
                (statement::statement(input, analysis))
                (warnings(&analysis.warnings))
                (table::variants(analysis))
                (table::excesses(&analysis.excesses))
                @if !figures.is_empty() {
                    h2 { "Figures" }
                    @for (i, figure) in figures.iter().enumerate() { (inline(i + 1, figure)) }
                }
                (table::problems(input))
                (statement::again(input))
                (statement::machine(input))
                (files::files())
            }
        }
    };
    markup.into_string()
}

fn warnings(warnings: &[String]) -> Markup {
    html! {
        @if !warnings.is_empty() {
            div.warn {
                p { strong { "What this report could not use" } }
                ul { @for warning in warnings { li { (warning) } } }
            }
        }
    }
}

fn inline(number: usize, figure: &Figure) -> Markup {
    html! {
        figure {
            (PreEscaped(&figure.svg))
            figcaption { strong { "Figure " (number) ". " } (figure.caption) }
        }
    }
}
