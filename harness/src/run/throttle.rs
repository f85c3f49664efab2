//! How many trials may run at the same time.
//!
//! Input: what the user said, what the plan and the machine allow at most, and each trial's
//! verdict. Output: [`Throttle::allowed`]. Pure.

use crate::run::verdict::Verdict;
use std::{fmt, str::FromStr};

/// The most that a user may ask for: each trial has namespaces, sockets and processes.
const MOST_JOBS: usize = 64;

/// What `--jobs` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jobs {
    /// So many.
    Fixed(usize),
    /// As many as the machine carries.
    Auto,
}

impl FromStr for Jobs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(n @ 1..=MOST_JOBS) => Ok(Self::Fixed(n)),
            _ if text == "auto" => Ok(Self::Auto),
            _ => Err(format!("expected a number from 1 to {MOST_JOBS}, or `auto`")),
        }
    }
}

impl fmt::Display for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Auto => write!(f, "auto"),
        }
    }
}

/// Goes down by a quarter when a trial was overloaded, and up by one after as many valid trials
/// as run at a time, twice over; never up again to where it was overloaded twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttle {
    allowed: usize,
    most: usize,
    /// Where it was overloaded last.
    overloaded_at: Option<usize>,
    /// Valid trials since the last change.
    valid: usize,
    /// Counts changes downwards: a trial that began before one says nothing about what is now.
    era: u32,
    automatic: bool,
}

impl Throttle {
    /// `most` is what the plan and the machine are thought to allow.
    pub fn new(jobs: Jobs, most: usize) -> Self {
        let (allowed, automatic) = match jobs {
            Jobs::Fixed(n) => (n, false),
            Jobs::Auto => (most, true),
        };
        let allowed = allowed.clamp(1, MOST_JOBS);
        // An estimate may be too low, too.
        let most = if automatic { (2 * allowed).min(MOST_JOBS) } else { allowed };
        Self { allowed, most, overloaded_at: None, valid: 0, era: 0, automatic }
    }

    /// So many at a time.
    pub fn allowed(&self) -> usize {
        self.allowed
    }

    /// Whether the machine's present state matters.
    pub fn is_automatic(&self) -> bool {
        self.automatic
    }

    /// To be remembered when a trial begins.
    pub fn era(&self) -> u32 {
        self.era
    }

    /// A trial that began in `era` has ended.
    pub fn saw(&mut self, era: u32, verdict: &Verdict) {
        if !self.automatic || era != self.era {
            return;
        }
        if verdict.is_overload() {
            if self.overloaded_at.is_some_and(|before| before <= self.allowed) {
                self.most = self.allowed.saturating_sub(1).max(1);
            }
            self.overloaded_at = Some(self.allowed);
            self.allowed = (self.allowed * 3 / 4).max(1);
            (self.valid, self.era) = (0, self.era + 1);
            return;
        }
        self.valid += 1;
        if self.valid >= 2 * self.allowed && self.allowed < self.most {
            (self.valid, self.allowed) = (0, self.allowed + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::verdict::Suspicion;

    fn overload() -> Verdict {
        Verdict(vec![Suspicion { overload: true, why: "lag".into() }])
    }

    #[test]
    fn what_the_user_says() {
        assert_eq!("3".parse(), Ok(Jobs::Fixed(3)));
        assert_eq!("auto".parse(), Ok(Jobs::Auto));
        for wrong in ["0", "65", "-1", "many", ""] {
            let error = wrong.parse::<Jobs>().unwrap_err();
            assert_eq!(error, "expected a number from 1 to 64, or `auto`");
        }
        assert_eq!([Jobs::Fixed(3), Jobs::Auto].map(|j| j.to_string()), ["3", "auto"]);
    }

    #[test]
    fn a_fixed_number_stays() {
        let mut throttle = Throttle::new(Jobs::Fixed(5), 2);
        (0..50).for_each(|_| throttle.saw(throttle.era(), &overload()));
        (0..50).for_each(|_| throttle.saw(throttle.era(), &Verdict::default()));
        assert_eq!(throttle.allowed(), 5);
    }

    #[test]
    fn it_steps_back_once_for_trials_that_suffered_together() {
        let mut throttle = Throttle::new(Jobs::Auto, 8);
        let era = throttle.era();
        (0..8).for_each(|_| throttle.saw(era, &overload()));
        assert_eq!(throttle.allowed(), 6);
        throttle.saw(throttle.era(), &overload());
        assert_eq!(throttle.allowed(), 4);
        (0..20).for_each(|_| throttle.saw(throttle.era(), &overload()));
        assert_eq!(throttle.allowed(), 1, "one at a time always runs");
    }

    #[test]
    fn a_doubt_that_fewer_trials_do_not_remove_is_no_reason() {
        let mut throttle = Throttle::new(Jobs::Auto, 4);
        let clocks = Verdict(vec![Suspicion { overload: false, why: "clocks".into() }]);
        throttle.saw(0, &clocks);
        assert_eq!(throttle.allowed(), 4);
    }

    #[test]
    fn it_steps_up_carefully_and_learns_where_the_limit_is() {
        let mut throttle = Throttle::new(Jobs::Auto, 4);
        let valid = |throttle: &mut Throttle, n: usize| {
            (0..n).for_each(|_| throttle.saw(throttle.era(), &Verdict::default()));
            throttle.allowed()
        };
        assert_eq!(valid(&mut throttle, 7), 4);
        assert_eq!(valid(&mut throttle, 1), 5);
        throttle.saw(throttle.era(), &overload());
        assert_eq!(throttle.allowed(), 3);
        assert_eq!(valid(&mut throttle, 6 + 8), 5, "once may have been chance");
        throttle.saw(throttle.era(), &overload());
        assert_eq!(valid(&mut throttle, 500), 4, "twice is not");
        let mut throttle = Throttle::new(Jobs::Auto, 4);
        assert_eq!(valid(&mut throttle, 10_000), 8, "not far beyond the estimate");
    }
}
