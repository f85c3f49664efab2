//! How a test came out.

use serde::{Deserialize, Serialize};
use std::{any::Any, panic};

/// How a test came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// What it claims is so.
    Held,
    /// What it claims is not so, and why.
    Broken(String),
    /// The machine was too busy to tell; what failed, and what was wrong with the machine.
    Inconclusive(String),
    /// This machine cannot run it, and what it lacks.
    Skipped(String),
}

/// What a test may return.
pub trait Report {
    /// How it came out.
    fn outcome(self) -> Outcome;
}

impl Report for Outcome {
    fn outcome(self) -> Self {
        self
    }
}

impl Report for () {
    fn outcome(self) -> Outcome {
        Outcome::Held
    }
}

impl Report for anyhow::Result<()> {
    fn outcome(self) -> Outcome {
        match self {
            Ok(()) => Outcome::Held,
            Err(error) => Outcome::Broken(format!("{error:#}")),
        }
    }
}

/// Ends the test from wherever it is: this machine cannot run it, for want of `what`.
pub fn skip(what: impl Into<String>) -> ! {
    // Not `panic_any`: this is no panic that a hook should print.
    panic::resume_unwind(Box::new(Outcome::Skipped(what.into())))
}

/// What a test that did not return meant.
pub(crate) fn of_panic(payload: Box<dyn Any + Send>) -> Outcome {
    match payload.downcast::<Outcome>() {
        Ok(outcome) => *outcome,
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or(payload.downcast_ref::<&str>().copied());
            Outcome::Broken(text.unwrap_or("it panicked").to_owned())
        }
    }
}
