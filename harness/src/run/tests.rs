//! The runner with a laboratory that takes no time.

use super::*;
use crate::{plan, run::verdict::Suspicion, spec};
use limosa_record::row;
use std::{cell::RefCell, path::PathBuf};

/// Fails and interrupts where it is told to.
#[derive(Default)]
struct Fake {
    fails_at: Option<usize>,
    stops_at: Option<usize>,
    preparation: Duration,
    /// With more trials at once it is overloaded.
    carries: Option<usize>,
    /// Answers to the questions for strain, the last one first; then it is calm.
    strains: RefCell<Vec<f64>>,
    running: Cell<usize>,
    busiest: Cell<usize>,
    overloaded: Cell<usize>,
    /// Takes minutes, not milliseconds.
    slow: bool,
    preparing: Cell<bool>,
    seen: RefCell<Vec<(TrialPlan, PathBuf)>>,
}

impl Laboratory for Fake {
    async fn trial(
        &self,
        trial: &TrialPlan,
        folder: &Path,
        phase: &dyn Fn(Phase),
    ) -> Option<TrialRecord> {
        self.running.set(self.running.get() + 1);
        phase(Phase::Calibration);
        assert!(!self.preparing.replace(true), "one at a time prepares");
        tokio::time::sleep(self.preparation).await;
        self.preparing.set(false);
        phase(Phase::Download);
        let number = self.seen.borrow().len();
        self.seen.borrow_mut().push((trial.clone(), folder.to_owned()));
        // Later trials end earlier, so that the order of rows is not the order of ends.
        let unit = if self.slow { 1000 } else { 1 };
        tokio::time::sleep(Duration::from_millis(unit * (100 - number as u64))).await;
        let most = self.running.get();
        self.running.set(most - 1);
        if self.stops_at == Some(number) {
            return None;
        }
        let failed = self.fails_at == Some(number);
        let row = TrialRow {
            variant: trial.variant.clone(),
            repetition: trial.repetition,
            seed: trial.seed,
            status: if failed { "failed" } else { "ok" }.into(),
            reason: failed.then(|| "told to".into()),
            ..TrialRow::default()
        };
        let overloaded = self.carries.is_some_and(|n| most > n);
        self.overloaded.set(self.overloaded.get() + usize::from(overloaded));
        self.busiest.set(self.busiest.get().max(most));
        let why = Suspicion { overload: true, why: format!("{most} at once") };
        let verdict = Verdict(overloaded.then_some(why).into_iter().collect());
        Some(TrialRecord { row, verdict, ..TrialRecord::default() })
    }

    fn strain(&self) -> f64 {
        self.strains.borrow_mut().pop().unwrap_or(0.0)
    }
}

const TEXTS: Texts<'_> = Texts { experiment: "e", topology: "t", reference: None };

fn plan(repetitions: u32) -> Plan {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments/nakano-2025.yaml");
    let (experiment, topology) = spec::load_experiment(&file).unwrap();
    let mut plan = plan::resolve(&experiment, &topology).unwrap();
    plan.narrow(Some(repetitions), &[]);
    plan
}

async fn go(plan: &Plan, dir: &RunDir, fake: &Fake, jobs: usize) -> Ending {
    throttled(plan, dir, fake, Throttle::new(Jobs::Fixed(jobs), 1)).await
}

async fn throttled(plan: &Plan, dir: &RunDir, fake: &Fake, throttle: Throttle) -> Ending {
    let (_keep, never) = watch::channel(false);
    run(plan, dir, fake, throttle, &Progress::silent(), never).await.unwrap()
}

fn rows(dir: &RunDir) -> Vec<(String, u32, u64)> {
    let rows: Vec<TrialRow> = row::read(&dir.trials()).unwrap();
    rows.into_iter().map(|r| (r.variant, r.repetition, r.seed)).collect()
}

fn planned(plan: &Plan) -> Vec<(String, u32, u64)> {
    plan.trials.iter().map(|t| (t.variant.clone(), t.repetition, t.seed)).collect()
}

#[tokio::test(start_paused = true)]
async fn rows_keep_the_order_of_the_plan_however_many_jobs_there_are() {
    let plan = plan(4);
    for jobs in [1, 3, 20] {
        let results = tempfile::tempdir().unwrap();
        let dir = prepare(results.path(), &plan, TEXTS, false).unwrap().0;
        assert_eq!(go(&plan, &dir, &Fake::default(), jobs).await, Ending::Ok);
        assert_eq!(rows(&dir), planned(&plan), "{jobs} jobs");
    }
}

#[tokio::test(start_paused = true)]
async fn trials_start_one_after_the_other_and_then_run_side_by_side() {
    let (plan, results) = (plan(4), tempfile::tempdir().unwrap());
    let dir = prepare(results.path(), &plan, TEXTS, false).unwrap().0;
    let fake = Fake { preparation: Duration::from_millis(10), ..Fake::default() };
    assert_eq!(go(&plan, &dir, &fake, 5).await, Ending::Ok);
    assert_eq!(fake.busiest.get(), 5);
    assert_eq!(rows(&dir), planned(&plan));
}

#[tokio::test(start_paused = true)]
async fn auto_begins_with_what_was_estimated_and_steps_back() {
    let (plan, results) = (plan(4), tempfile::tempdir().unwrap());
    let dir = prepare(results.path(), &plan, TEXTS, false).unwrap().0;
    // Trials that take longer than the looks at the machine between their starts.
    let preparation = Duration::from_secs(1);
    let fake = Fake { preparation, slow: true, carries: Some(3), ..Fake::default() };
    let throttle = Throttle::new(Jobs::Auto, 8);
    assert_eq!(throttled(&plan, &dir, &fake, throttle).await, Ending::Ok);
    assert_eq!(fake.busiest.get(), 8);
    assert_eq!(rows(&dir), planned(&plan), "the order does not depend on it");
    let overloaded = fake.overloaded.get();
    let trials = plan.trials.len();
    assert!(overloaded < trials / 2, "{overloaded} of {trials} while it learnt");
}

#[tokio::test(start_paused = true)]
async fn auto_waits_for_a_calm_machine_but_never_with_nothing_running() {
    let (plan, results) = (plan(1), tempfile::tempdir().unwrap());
    let dir = prepare(results.path(), &plan, TEXTS, false).unwrap().0;
    let strains = RefCell::new(vec![1.0; 1000]);
    let fake = Fake { slow: true, strains, ..Fake::default() };
    let throttle = Throttle::new(Jobs::Auto, 8);
    assert_eq!(throttled(&plan, &dir, &fake, throttle).await, Ending::Ok);
    assert_eq!(fake.busiest.get(), 1);
    assert_eq!(rows(&dir), planned(&plan));
}

#[tokio::test(start_paused = true)]
async fn a_failed_trial_has_a_row_and_the_others_run() {
    let (plan, results) = (plan(2), tempfile::tempdir().unwrap());
    let dir = prepare(results.path(), &plan, TEXTS, false).unwrap().0;
    let fake = Fake { fails_at: Some(3), ..Fake::default() };
    assert_eq!(go(&plan, &dir, &fake, 1).await, Ending::SomeFailed);
    assert_eq!(rows(&dir), planned(&plan));
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_run_is_resumed_where_it_stopped() {
    let (plan, results) = (plan(2), tempfile::tempdir().unwrap());
    let dir = prepare(results.path(), &plan, TEXTS, false).unwrap().0;
    let fake = Fake { stops_at: Some(4), ..Fake::default() };
    assert_eq!(go(&plan, &dir, &fake, 1).await, Ending::Interrupted);
    assert_eq!(rows(&dir), planned(&plan)[..4]);

    let again = prepare(results.path(), &plan, TEXTS, true).unwrap().0;
    assert_eq!(again.root(), fs::canonicalize(dir.root()).unwrap());
    let fake = Fake::default();
    assert_eq!(go(&plan, &again, &fake, 1).await, Ending::Ok);
    assert_eq!(rows(&dir), planned(&plan), "every trial once");
    let seen = fake.seen.into_inner();
    assert_eq!(seen.len(), planned(&plan).len() - 4);
    assert!(seen[0].1.ends_with("1.2"), "the cut-off attempt is kept: {:?}", seen[0].1);
    assert!(seen[1].1.ends_with("1") || seen[1].1.ends_with("2"));
}

#[test]
fn a_changed_experiment_is_not_resumed() {
    let (plan, results) = (plan(2), tempfile::tempdir().unwrap());
    let (_, hold) = prepare(results.path(), &plan, TEXTS, false).unwrap();
    let error = prepare(results.path(), &plan, TEXTS, true).unwrap_err().to_string();
    assert!(error.contains("another limosa is at work in"), "{error}");
    drop(hold);
    let mut changed = plan.clone();
    changed.narrow(Some(3), &[]);
    let error = prepare(results.path(), &changed, TEXTS, true).unwrap_err().to_string();
    assert!(
        error.contains("has changed") && error.contains("experiment.repetitions: was 2, is 3"),
        "{error}"
    );
    let nothing = tempfile::tempdir().unwrap();
    let error = prepare(nothing.path(), &plan, TEXTS, true).unwrap_err().to_string();
    assert!(error.contains("nothing to resume"), "{error}");
}

#[test]
fn two_runs_in_one_second_do_not_share_a_directory() {
    let (plan, results) = (plan(1), tempfile::tempdir().unwrap());
    let one = prepare(results.path(), &plan, TEXTS, false).unwrap().0;
    let two = prepare(results.path(), &plan, TEXTS, false).unwrap().0;
    assert_ne!(one, two);
}

/// The report tells the command that repeats a run in its own folder: it must find everything there.
#[test]
fn a_run_directory_can_be_run_again() {
    let results = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments/nakano-2025.yaml");
    let documents = spec::load_all(&file).unwrap();
    let plan = plan::resolve(&documents.experiment, &documents.topology).unwrap();
    let run = prepare(results.path(), &plan, (&documents).into(), false).unwrap().0;
    let again = spec::load_all(&run.experiment()).unwrap();
    let repeated = plan::resolve(&again.experiment, &again.topology).unwrap();
    assert_eq!(repeated.network, plan.network);

    let published = fs::read(file.with_extension("reference.yaml")).unwrap();
    assert_eq!(fs::read(run.reference()).unwrap(), published);
    assert_eq!(again.reference, Some(published));
    let quickstart = spec::load_all(&file.with_file_name("quickstart.yaml")).unwrap();
    assert_eq!(quickstart.reference, None, "nothing is published about the quickstart");
}

/// `limosa run a.yaml b.yaml` once stored the b that stood there when its turn came, and ran the one
/// that it had planned.
#[test]
fn regression_what_is_stored_is_what_was_planned() {
    let (folder, results) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    let (times, shape) = ("1\n2\n4\n", "    shape: {trace: t.trace, delay: 5ms}\n");
    let topology = format!(
        "version: 1\nnodes: {{client: {{kind: host}}, server: {{kind: host}}}}\n\
         links:\n  - ends: [client.eth0, server.eth0]\n    name: wan\n{shape}"
    );
    let experiment = "version: 1\ntopology: net\nrepetitions: 1\n\
        workload:\n  download: {path: /a, size: 1MB}\n\
        nodes:\n  server: {on: server, role: server}\n  client: {on: client, role: client}\n\
        variants:\n  q: {scheme: quic}\n";
    let files = [
        ("b.yaml", experiment),
        ("net.yaml", &topology),
        ("b.reference.yaml", "version: 1\n"),
        ("t.trace", times),
    ];
    files.iter().for_each(|(name, text)| fs::write(at(name), text).unwrap());
    let documents = spec::load_all(&at("b.yaml")).unwrap_or_else(|e| panic!("{e}"));
    let plan = plan::resolve(&documents.experiment, &documents.topology).unwrap();
    files.iter().for_each(|(name, _)| fs::write(at(name), "edited meanwhile").unwrap());
    let run = prepare(results.path(), &plan, (&documents).into(), false).unwrap().0;
    let stored = |path: &Path| fs::read_to_string(path).unwrap();
    let stored = [run.experiment(), run.topology(), run.reference()].map(|path| stored(&path));
    assert_eq!(stored, [experiment, &topology, "version: 1\n"]);

    // From there it can be run again, with the recording that is kept.
    let again = spec::load_all(&run.experiment()).unwrap_or_else(|e| panic!("{e}"));
    let again = plan::resolve(&again.experiment, &again.topology).unwrap();
    let trace = |plan: &Plan| plan.network.links[0].a_to_b.clone().and_then(|s| s.trace).unwrap();
    assert_eq!(trace(&again), trace(&plan));
    assert_eq!(trace(&again).recording().unwrap().text, times.as_bytes());
    let mut read: Plan = serde_json::from_str(&stored_plan(&run)).unwrap();
    read.load_recordings(run.root()).unwrap();
    assert_eq!(trace(&read).recording().unwrap().opportunities_ms, [1, 2, 4]);
}

fn stored_plan(run: &RunDir) -> String {
    fs::read_to_string(run.plan()).unwrap()
}
