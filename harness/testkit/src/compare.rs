//! Tests that compare measured quantities. On a machine that is busy with other things a comparison
//! that fails says nothing about Limosa.

use crate::{
    ledger, load,
    outcome::{Outcome, of_panic},
    runner::outcome_with,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How often a comparison is tried.
const ATTEMPTS: usize = 6;

/// A comparison that fails so often while nothing is wrong with the machine is broken. A defect fails
/// each time; some failures may be disturbances that nobody saw, as of an emulated guest's processors.
const CALM_FAILURES: usize = 4;

/// On a busy machine nothing is begun again after so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the program said of the machine since the attempt began.
static DOUBTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Whether this process has compared anything.
static COMPARED: AtomicBool = AtomicBool::new(false);

pub(crate) fn has_compared() -> bool {
    COMPARED.load(Ordering::Relaxed)
}

/// Notes that the program itself found the machine not good enough, as in a trial's verdict.
pub fn doubt(why: impl Into<String>) {
    DOUBTS.lock().unwrap_or_else(PoisonError::into_inner).push(why.into());
}

/// Tries a comparison some times. The first success decides. Failures on a calm machine, told by
/// panics or errors, break the test; if all that is known was measured on a busy one, the test is
/// inconclusive.
pub fn compare<R: crate::Report>(mut attempt: impl FnMut() -> R) -> Outcome {
    COMPARED.store(true, Ordering::Relaxed);
    judged(ATTEMPTS, || {
        DOUBTS.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let before = load::read();
        let outcome =
            catch_unwind(AssertUnwindSafe(|| attempt().outcome())).unwrap_or_else(of_panic);
        let mut doubts =
            std::mem::take(&mut *DOUBTS.lock().unwrap_or_else(PoisonError::into_inner));
        doubts.extend(load::complaint(before, load::read()));
        (outcome, (!doubts.is_empty()).then(|| doubts.join("; ")))
    })
}

fn judged(attempts: usize, mut attempt: impl FnMut() -> (Outcome, Option<String>)) -> Outcome {
    let (mut calm_failures, mut last, begun) = (0, String::new(), Instant::now());
    for number in 1..=attempts {
        let (outcome, doubt) = attempt();
        let Outcome::Broken(why) = outcome else { return outcome };
        eprintln!("attempt {number} of {attempts}: {why}");
        match doubt {
            Some(doubt) => last = format!("{why} (but {doubt})"),
            None => {
                last = why.clone();
                calm_failures += 1;
                if calm_failures == CALM_FAILURES {
                    return Outcome::Broken(why);
                }
            }
        }
        eprintln!("{last}");
        if calm_failures == 0 && begun.elapsed() > PATIENCE {
            break;
        }
    }
    Outcome::Inconclusive(last)
}

/// Whether comparisons would see a defect: each test, by name, has to be broken with its fault. On a busy
/// machine it may be inconclusive; then so is this.
pub fn defects_are_seen(variable: &str, planted: &[(&str, &str)]) -> Outcome {
    let mut doubts = Vec::new();
    for (test, fault) in planted {
        match outcome_with(test, &[(variable, fault)]) {
            Ok(Outcome::Broken(why)) => println!("{fault}: {test}: {why}"),
            Ok(Outcome::Inconclusive(why)) => doubts.push(format!("{fault}: {why}")),
            other => return Outcome::Broken(format!("{fault}: {test} is {other:?}")),
        }
    }
    match doubts.is_empty() {
        true => Outcome::Held,
        false => Outcome::Inconclusive(doubts.join("; ")),
    }
}

/// For tests under Rust's own harness, which knows no third outcome: breaks if it is broken, and notes
/// for the summary if it is anything else than held. `suite` is the test binary's name.
///
/// # Panics
/// When the outcome is broken.
pub fn settle(suite: &str, test: &str, outcome: Outcome) {
    if let Outcome::Broken(why) = &outcome {
        panic!("{why}");
    }
    ledger::enter(suite, test, &outcome, 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs it over (whether the attempt fails, whether the machine is busy).
    fn of(attempts: &[(bool, bool)]) -> (Outcome, usize) {
        let mut made = 0;
        let outcome = judged(attempts.len(), || {
            let (fails, busy) = attempts[made];
            made += 1;
            let outcome = if fails { Outcome::Broken("no".into()) } else { Outcome::Held };
            (outcome, busy.then(|| "busy".into()))
        });
        (outcome, made)
    }

    #[test]
    fn a_success_decides_wherever_it_is() {
        assert_eq!(of(&[(false, true)]), (Outcome::Held, 1));
        assert_eq!(of(&[(true, true), (true, false), (false, true)]), (Outcome::Held, 3));
    }

    #[test]
    fn four_failures_on_a_calm_machine_break() {
        let (calm, busy) = ((true, false), (true, true));
        assert_eq!(of(&[calm, calm, calm, calm, calm]), (Outcome::Broken("no".into()), 4));
        let mixed = [calm, busy, calm, calm, busy, calm];
        assert_eq!(of(&mixed), (Outcome::Broken("no".into()), 6));
    }

    #[test]
    fn failures_on_a_busy_machine_say_nothing() {
        let inconclusive = Outcome::Inconclusive("no (but busy)".into());
        assert_eq!(of(&[(true, true); 4]), (inconclusive.clone(), 4));
        assert_eq!(of(&[(true, true), (true, false), (true, true)]), (inconclusive, 3));
    }

    #[test]
    fn a_test_that_is_skipped_in_a_comparison_is_skipped() {
        let outcome = compare(|| -> () { crate::skip("no kernel") });
        assert_eq!(outcome, Outcome::Skipped("no kernel".into()));
    }

    #[test]
    fn what_the_program_doubts_makes_a_failure_inconclusive() {
        let outcome = compare(|| {
            doubt("the RTT is too long");
            anyhow::ensure!(std::hint::black_box(12) == 10, "12 instead of 10");
            Ok(())
        });
        let Outcome::Inconclusive(why) = outcome else { panic!("{outcome:?}") };
        assert!(why.starts_with("12 instead of 10 (but the RTT is too long"), "{why}");
    }
}
