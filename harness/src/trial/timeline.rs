//! Runs the steps of a timeline, each at its time, and reports when each was planned, started and
//! done. Knows only *when*; *what* a step does is the business of a [`Stage`].

use crate::plan::{Action, Anchor, StepPlan, When};
use anyhow::Context;
use futures_util::{StreamExt, stream::FuturesUnordered};
use limosa_record::{clock::now_ns, unit::Time};
use std::{collections::HashMap, time::Duration};
use tokio::{sync::watch, time::sleep};

/// How long before its time a step may begin to prepare.
const AHEAD: Duration = Duration::from_millis(500);

/// What came of an action. Times are CLOCK_REALTIME in ns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// More about what was done.
    pub detail: String,
    /// When it began to take effect.
    pub started_ns: i64,
    /// When it was done; keeping logs, for example, is no longer part of it.
    pub done_ns: i64,
}

/// Carries out actions.
pub trait Stage {
    /// Carries out one action. It is called up to half a second before the planned time, to prepare,
    /// and waits for that time itself; see [`until`].
    fn apply(
        &self,
        action: &Action,
        planned_ns: i64,
    ) -> impl Future<Output = anyhow::Result<Outcome>>;

    /// Waits until the clients have come so far; returns since when they have, CLOCK_REALTIME in ns.
    fn reached(&self, anchor: Anchor) -> impl Future<Output = anyhow::Result<i64>>;

    /// The time, CLOCK_REALTIME in ns; a lab without a kernel has its own.
    fn now_ns(&self) -> i64 {
        now_ns()
    }
}

/// Waits until this time, CLOCK_REALTIME in ns.
pub async fn until(time_ns: i64) {
    sleep(Duration::from_nanos(u64::try_from(time_ns - now_ns()).unwrap_or(0))).await;
}

/// A step that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The action's name.
    pub event: &'static str,
    /// More about it.
    pub detail: String,
    /// When it should have started, CLOCK_REALTIME in ns.
    pub planned_ns: i64,
    /// When it started.
    pub started_ns: i64,
    /// When it was done.
    pub done_ns: i64,
}

/// Runs all steps; `zero_ns` is the start of the handshake. Steps whose times overlap run side by
/// side. Ends with the first step that fails.
///
/// # Errors
/// What the failed step's [`Stage::apply`] said, with the step's name before it.
pub async fn drive(
    steps: &[StepPlan],
    zero_ns: i64,
    stage: &impl Stage,
    mut report: impl FnMut(Done),
) -> anyhow::Result<()> {
    // When each step was done; steps that come after it or need it wait for this.
    let ends: Vec<watch::Sender<Option<i64>>> =
        steps.iter().map(|_| watch::Sender::new(None)).collect();
    let names: HashMap<&str, usize> =
        steps.iter().enumerate().filter_map(|(i, s)| Some((s.name.as_deref()?, i))).collect();
    let done = async |step: usize| -> anyhow::Result<i64> {
        let mut end = ends.get(step).context("no step has this number")?.subscribe();
        Ok(end.wait_for(Option::is_some).await?.unwrap_or(zero_ns))
    };
    let one = async |(number, step): (usize, &StepPlan)| -> anyhow::Result<Done> {
        let planned_ns = match &step.when {
            When::At(at) => later(zero_ns, *at),
            When::After(name, delay) => {
                let other = names.get(&**name).with_context(|| format!("no step is `{name}`"))?;
                later(done(*other).await?, *delay)
            }
            When::Since(anchor, delay) => later(stage.reached(*anchor).await?, *delay),
        };
        for needed in &step.needs {
            done(*needed).await?;
        }
        let left_ns = u64::try_from(planned_ns - stage.now_ns()).unwrap_or(0);
        sleep(Duration::from_nanos(left_ns).saturating_sub(AHEAD)).await;
        let event = step.action.name();
        let outcome = stage.apply(&step.action, planned_ns).await;
        let Outcome { detail, started_ns, done_ns } =
            outcome.with_context(|| format!("{event} failed"))?;
        if let Some(end) = ends.get(number) {
            end.send_replace(Some(done_ns));
        }
        Ok(Done { event, detail, planned_ns, started_ns, done_ns })
    };
    let mut running: FuturesUnordered<_> = steps.iter().enumerate().map(one).collect();
    while let Some(done) = running.next().await {
        report(done?);
    }
    Ok(())
}

fn later(from_ns: i64, delay: Time) -> i64 {
    from_ns.saturating_add(i64::try_from(delay.0).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[derive(Default)]
    struct Fake {
        seen: RefCell<Vec<String>>,
        fails: Option<&'static str>,
    }

    impl Stage for Fake {
        async fn apply(&self, action: &Action, planned_ns: i64) -> anyhow::Result<Outcome> {
            until(planned_ns).await;
            if self.fails == Some(action.name()) {
                anyhow::bail!("the machine said no");
            }
            sleep(Duration::from_millis(20)).await;
            self.seen.borrow_mut().push(action.name().into());
            let done_ns = planned_ns + 20_000_000;
            Ok(Outcome { detail: String::new(), started_ns: planned_ns, done_ns })
        }

        async fn reached(&self, _: Anchor) -> anyhow::Result<i64> {
            let wait = Duration::from_millis(700);
            sleep(wait).await;
            Ok(now_ns() + wait.as_nanos() as i64)
        }
    }

    fn step(name: Option<&str>, when: When, action: Action) -> StepPlan {
        StepPlan { name: name.map(Into::into), when, action, needs: Vec::new() }
    }

    fn kill() -> Action {
        Action::Kill { node: "server".into() }
    }

    fn cut() -> Action {
        Action::LinkDown { link: "x".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_starts_after_the_end_of_the_step_it_waits_for() {
        let steps = [
            step(None, When::After("cut".into(), Time::from_millis(30)), kill()),
            step(Some("cut"), When::At(Time::from_millis(10)), cut()),
        ];
        let (stage, mut done) = (Fake::default(), Vec::new());
        drive(&steps, now_ns(), &stage, |d| done.push(d)).await.unwrap();
        assert_eq!(stage.seen.into_inner(), ["link_down", "kill"]);
        assert_eq!(done[1].planned_ns, done[0].done_ns + 30_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_waits_for_what_it_needs_and_for_what_clients_do() {
        let mut needy = step(None, When::At(Time::from_millis(100)), kill());
        needy.needs = vec![1];
        let anchor = When::Since(Anchor::Connected, Time::from_millis(50));
        let steps = [needy, step(None, anchor, cut())];
        let (stage, mut done) = (Fake::default(), Vec::new());
        let zero_ns = now_ns();
        drive(&steps, zero_ns, &stage, |d| done.push(d)).await.unwrap();
        assert_eq!(stage.seen.into_inner(), ["link_down", "kill"]);
        assert!(done[0].planned_ns >= zero_ns + 750_000_000);
        assert_eq!(done[1].planned_ns, zero_ns + 100_000_000, "it is late, and that is told");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_ends_the_timeline() {
        let steps = [
            step(None, When::At(Time(0)), cut()),
            step(None, When::At(Time::from_millis(50)), kill()),
        ];
        let stage = Fake { fails: Some("link_down"), ..Fake::default() };
        let error = drive(&steps, now_ns(), &stage, |_| {}).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "link_down failed: the machine said no");
        assert!(stage.seen.into_inner().is_empty());
    }
}
