//! What a person sees of a run: on a terminal a bar with the oldest running trial, its phase, how
//! many run beside it, and the time left; otherwise a line per trial. All of it goes to stderr.

use crate::{
    plan::TrialPlan,
    run::{Phase, log},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};
use limosa_record::{row::TrialRow, text};
use std::{
    cell::{Cell, RefCell},
    env,
    io::{self, IsTerminal, Write},
    time::Duration,
};

/// Set inside the guest when the outer stderr is a terminal.
pub const TTY_VARIABLE: &str = "LIMOSA_TTY";

/// The bar, or the lines.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    /// The trials that run, in the order of their starts.
    running: RefCell<Vec<(u64, String)>>,
    started: Cell<u64>,
}

/// One trial's share of it.
#[derive(Debug)]
pub struct TrialBar<'a> {
    progress: &'a Progress,
    number: u64,
    name: String,
}

impl Progress {
    /// For this process' stderr.
    pub fn stderr() -> Self {
        let carried = env::var_os(TTY_VARIABLE).is_some_and(|v| v == "1");
        let terminal = carried || io::stderr().is_terminal();
        Self::new(terminal, carried)
    }

    /// Says nothing; for tests.
    pub fn silent() -> Self {
        Self::with(ProgressBar::hidden(), true)
    }

    fn with(bar: ProgressBar, terminal: bool) -> Self {
        Self { bar, terminal, running: RefCell::default(), started: Cell::default() }
    }

    fn new(terminal: bool, carried: bool) -> Self {
        if !terminal {
            return Self::with(ProgressBar::hidden(), terminal);
        }
        let target = if carried {
            // Inside the guest stderr is a serial line that a terminal is at the end of.
            let columns = env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).unwrap_or(80);
            ProgressDrawTarget::term_like(Box::new(Serial { columns }))
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        Self::with(bar, terminal)
    }

    /// The run has so many trials, of which some are done already.
    pub fn begin(&self, trials: usize, done: usize) {
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg} {eta_left}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let left = |s: &ProgressState, w: &mut dyn std::fmt::Write| {
            if s.pos() > 0 {
                let minutes = s.eta().as_secs_f64() / 60.0;
                let _ = write!(w, "· about {minutes:.0} min left");
            }
        };
        self.bar.set_style(style.with_key("eta_left", left).progress_chars("█▌░"));
        self.bar.set_length(trials as u64);
        self.bar.set_position(done as u64);
        self.bar.reset_eta();
        if self.terminal {
            self.bar.enable_steady_tick(Duration::from_millis(500));
        }
        if done > 0 {
            self.line(&format!("{done} of {trials} trials are there already"));
        }
    }

    /// A trial begins.
    pub fn trial(&self, trial: &TrialPlan) -> TrialBar<'_> {
        let name = format!("{} {}", trial.variant, trial.repetition);
        if !self.terminal {
            tell!("trial {name}: started");
        }
        let number = self.started.get();
        self.started.set(number + 1);
        self.running.borrow_mut().push((number, name.clone()));
        TrialBar { progress: self, number, name }
    }

    /// What the bar says beside the count.
    fn show(&self) {
        let running = self.running.borrow();
        let text = match &running[..] {
            [] => String::new(),
            [(_, only)] => only.clone(),
            [(_, oldest), ..] => format!("{} at once, oldest: {oldest}", running.len()),
        };
        self.bar.set_message(text);
    }

    /// A trial is over.
    pub fn finished(&self, row: &TrialRow) {
        let time = row.turnaround_s.map_or(String::new(), |t| format!(", turnaround {t:.2} s"));
        self.line(&format!(
            "trial {} {}: {}{time}{}",
            row.variant,
            row.repetition,
            row.status,
            reasons(row)
        ));
        self.bar.inc(1);
    }

    /// A line above the bar.
    pub fn line(&self, text: &str) {
        if self.terminal {
            let text = &*text::visible(text);
            log::note(text);
            self.bar.println(text);
        } else {
            tell!("{text}");
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Why a trial is not ok, and then why it may be doubted: the machine is seldom the cause.
fn reasons(row: &TrialRow) -> String {
    let cause = row.reason.as_ref().map_or(String::new(), |why| format!(": {why}"));
    let doubt = match (row.verdict.as_deref(), &row.verdict_reason) {
        (Some("suspect"), Some(why)) if cause.is_empty() => format!(", suspect: {why}"),
        (Some("suspect"), Some(why)) => format!("\n  besides, suspect: {why}"),
        _ => String::new(),
    };
    cause + &doubt
}

/// The serial line of a guest, at whose other end is a terminal of this width.
#[derive(Debug)]
struct Serial {
    columns: u16,
}

impl Serial {
    fn send(text: &str) -> io::Result<()> {
        io::stderr().write_all(text.as_bytes())
    }
}

/// Cursor movements are those of ECMA-48.
impl TermLike for Serial {
    fn width(&self) -> u16 {
        self.columns
    }
    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        if n > 0 { Self::send(&format!("\x1b[{n}A")) } else { Ok(()) }
    }
    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        if n > 0 { Self::send(&format!("\x1b[{n}B")) } else { Ok(()) }
    }
    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        if n > 0 { Self::send(&format!("\x1b[{n}C")) } else { Ok(()) }
    }
    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        if n > 0 { Self::send(&format!("\x1b[{n}D")) } else { Ok(()) }
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        Self::send(&format!("{text}\n"))
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        Self::send(text)
    }
    fn clear_line(&self) -> io::Result<()> {
        Self::send("\r\x1b[2K")
    }
    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl TrialBar<'_> {
    /// The trial's present phase.
    pub fn phase(&self, phase: Phase) {
        let mut running = self.progress.running.borrow_mut();
        if let Some((_, text)) = running.iter_mut().find(|(number, _)| *number == self.number) {
            *text = format!("{} · {phase}", self.name);
        }
        drop(running);
        self.progress.show();
    }
}

impl Drop for TrialBar<'_> {
    fn drop(&mut self) {
        self.progress.running.borrow_mut().retain(|(number, _)| *number != self.number);
        self.progress.show();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_failure_comes_first() {
        let mut row = TrialRow {
            reason: Some("announce failed".into()),
            verdict: Some("suspect".into()),
            verdict_reason: Some("the machine stood still".into()),
            ..TrialRow::default()
        };
        assert_eq!(reasons(&row), ": announce failed\n  besides, suspect: the machine stood still");
        row.reason = None;
        assert_eq!(reasons(&row), ", suspect: the machine stood still");
    }

    #[test]
    fn the_bar_shows_the_oldest_and_how_many_there_are() {
        let progress = Progress::silent();
        let plan = |repetition| TrialPlan { variant: "quic".into(), repetition, seed: 0 };
        let first = progress.trial(&plan(1));
        first.phase(Phase::Download);
        assert_eq!(progress.bar.message(), "quic 1 · download");
        let second = progress.trial(&plan(2));
        second.phase(Phase::Lab);
        assert_eq!(progress.bar.message(), "2 at once, oldest: quic 1 · download");
        drop(first);
        assert_eq!(progress.bar.message(), "quic 2 · lab");
    }
}
