//! Runs tests that need root, a guest or a calm machine, and says of each how it came out.
//!
//! A test binary with `harness = false` gives its tests to [`Suite::run`]. Each test runs in a
//! process of its own, is one line of the output with its own time, and is chosen by name as usual:
//! `cargo test -p limosa --test native moves::`.
//!
//! To add a test, write a function without an attribute and name it in its module's list:
//!
//! ```text
//! fn a_server_moves() { assert!(…) }
//!
//! limosa_testkit::tests![a_server_moves, an_rtt_is_kept[alone], a_long_one[night]];
//! ```
//!
//! A test returns `()`, `anyhow::Result<()>` or an [`Outcome`]. Marks:
//!
//! | mark | |
//! |---|---|
//! | `alone` | no other test runs beside it: it measures times, or its machine is part of it |
//! | `inside` | it runs in the guest, which all such tests of a binary share |
//! | `compared` | it compares measured quantities, and is judged by [`compare`] |
//! | `night` | it is long and runs only with `--include-ignored` or `LIMOSA_TESTS=night` |
//!
//! `LIMOSA_TESTS=fast cargo test --workspace` runs none of them.
//!
//! A test that compares quantities says so with the mark `compared` or, for a part of it, [`compare`]: what fails on a busy machine is tried
//! again, and then inconclusive. One that a kernel cannot run calls [`skip`]. Both are named at the
//! end of the binary and, by the test `summary`, at the end of `cargo test --workspace`.

mod compare;
mod inside;
mod ledger;
mod load;
mod outcome;
mod runner;

pub use compare::{compare, defects_are_seen, doubt, settle};
pub use inside::Guest;
pub use ledger::summary;
pub use outcome::{Outcome, Report, skip};
pub use runner::{Suite, outcome_with};

/// One test.
#[derive(Debug, Clone)]
pub struct Test {
    name: String,
    run: fn() -> Outcome,
    alone: bool,
    inside: bool,
    night: bool,
    compared: bool,
}

impl Test {
    /// A test of this module, whose path begins with the binary's name.
    pub fn new(module: &str, name: &str, run: fn() -> Outcome) -> Self {
        let name = match module.split_once("::") {
            Some((_, path)) => format!("{path}::{name}"),
            None => name.to_owned(),
        };
        Self { name, run, alone: false, inside: false, night: false, compared: false }
    }

    /// No other test may run beside it.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// It runs in the guest.
    #[must_use]
    pub fn inside(mut self) -> Self {
        self.inside = true;
        self
    }

    /// All of it compares measured quantities: it runs under [`compare`].
    #[must_use]
    pub fn compared(mut self) -> Self {
        self.compared = true;
        self
    }

    /// It runs only when it is asked for.
    #[must_use]
    pub fn night(mut self) -> Self {
        self.night = true;
        self
    }
}

/// The list of a module's tests, as a function `tests`; see the crate's front page.
#[macro_export]
macro_rules! tests {
    ($($name:ident $([$($mark:ident),+])?),* $(,)?) => {
        /// The tests of this module.
        pub(crate) fn tests() -> Vec<$crate::Test> {
            vec![$(
                $crate::Test::new(module_path!(), stringify!($name), || {
                    $crate::Report::outcome($name())
                })$($(.$mark())+)?
            ),*]
        }
    };
}

/// The same for a module of async tests, which run on a runtime of one thread.
#[macro_export]
macro_rules! async_tests {
    ($($name:ident $([$($mark:ident),+])?),* $(,)?) => {
        /// The tests of this module.
        pub(crate) fn tests() -> Vec<$crate::Test> {
            vec![$(
                $crate::Test::new(module_path!(), stringify!($name), || {
                    $crate::in_runtime($name())
                })$($(.$mark())+)?
            ),*]
        }
    };
}

/// Waits for an async test.
pub fn in_runtime<R: Report>(test: impl Future<Output = R>) -> Outcome {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(test).outcome(),
        Err(error) => Outcome::Broken(format!("start a runtime: {error}")),
    }
}

/// Both are there, and the first is less.
///
/// # Panics
/// When they are not.
#[track_caller]
pub fn assert_less<T: PartialOrd + std::fmt::Debug>(a: Option<T>, b: Option<T>) {
    assert!(matches!((&a, &b), (Some(a), Some(b)) if a < b), "{a:?} is not less than {b:?}");
}

/// Both are there, and the first is not more.
///
/// # Panics
/// When it is more, or one is missing.
#[track_caller]
pub fn assert_not_more<T: PartialOrd + std::fmt::Debug>(a: Option<T>, b: Option<T>) {
    assert!(matches!((&a, &b), (Some(a), Some(b)) if a <= b), "{a:?} is more than {b:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_not_less() {
        assert_less(Some(1), Some(2));
        assert_not_more(Some(2), Some(2));
        for (a, b) in [(None, Some(2)), (Some(1), None), (Some(2), Some(2)), (Some(3), Some(2))] {
            assert!(std::panic::catch_unwind(|| assert_less(a, b)).is_err(), "{a:?} {b:?}");
        }
        assert!(std::panic::catch_unwind(|| assert_not_more(None, Some(1))).is_err());
    }
}
