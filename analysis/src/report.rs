//! The report: one HTML page that needs nothing but itself.
//!
//! Input: what was read, what was computed, what was drawn. Output: HTML with its style, figures and
//! one small script inside; the page forbids itself every request, so that opening it tells nobody.

mod files;
mod headline;
mod made;
mod measured;
mod page;
mod published;
mod statement;
mod table;
mod trials;

pub(crate) use made::leaves;
pub(crate) use page::markdown;

use crate::{Analysis, Chapter, Figure, input::Input, model, number};
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Figures of one kind in the page; the rest is only in `figures/`.
const MOST_OF_A_KIND: usize = 16;
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

pub(crate) fn page(
    input: &Input,
    analysis: &Analysis,
    chapters: &[Chapter],
    modelled: &[model::measured::Comparison],
) -> String {
    let title = statement::title(input);
    let mut number = 0;
    let body = html! {
        h1 { (title) }
        (statement::statement(input, analysis))
        (warnings(&analysis.warnings))
        (headline::headline(analysis))
        @for chapter in chapters {
            h2 { (chapter.title) }
            @for figure in chapter.figures.iter().take(MOST_OF_A_KIND) {
                (inline({ number += 1; number }, figure))
            }
            @let rest = chapter.figures.len().saturating_sub(MOST_OF_A_KIND);
            @if rest > 0 {
                p.note { (number::count(rest, "more figure")) " of this kind in " a href="figures/" { "figures/" } "." }
            }
        }
        (measured::model(modelled))
        (published::published(input, analysis))
        (table::variants(analysis))
        (trials::problems(input))
        (trials::every(input))
        (made::again(input))
        (made::machine(input))
        (made::sources(input))
        (files::files())
    };
    document(&title, body)
}

/// A whole page around a body.
pub(crate) fn document(title: &str, body: Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                link rel="icon" href="data:,";
                title { (title) " – Limosa" }
                style { (PreEscaped(include_str!("report/report.css"))) }
            }
            body { (body) script { (PreEscaped(include_str!("report/report.js"))) } }
        }
    }
    .into_string()
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

/// A figure with its number and caption.
pub(crate) fn inline(number: usize, figure: &Figure) -> Markup {
    let (whole, near) = figure.hover.clone().unzip();
    html! {
        figure {
            div.view data-hover=[whole] { (PreEscaped(&figure.svg)) }
            @if let Some((zoom, _)) = &figure.zoom {
                div.view.zoom data-hover=[near.flatten()] { (PreEscaped(zoom)) }
                button type="button" hidden { "zoom on the migration" }
            }
            figcaption { strong { "Figure " (number) ". " } (figure.caption) }
        }
    }
}
