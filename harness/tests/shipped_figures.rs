//! Figures of every shipped experiment, held against the tables that they are drawn from. The runs
//! are made up from the plans: variants, paths, intervals and steps are theirs, the numbers are not.

#[path = "../../analysis/tests/held/mod.rs"]
mod held;

use limosa::{
    plan::{self, Plan, TrialPlan, VariantPlan, WorkloadPlan},
    spec,
};
use limosa_record::{
    dir::RunDir,
    random::SplitMix64,
    row::{EventRow, RequestRow, ThroughputRow, TrialRow, event},
};
use serde::Serialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Start of every handshake; any moment does.
const ZERO_NS: i64 = 1_760_000_000_000_000_000;
/// Repetitions of each variant: enough for medians, too few for an interval.
const REPETITIONS: u32 = 2;

fn experiments() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |p: &PathBuf| {
        let name = p.file_name().unwrap().to_string_lossy();
        name.ends_with(".yaml") && !name.ends_with(".reference.yaml")
    };
    let mut files: Vec<_> = files.filter(is_one).collect();
    files.sort();
    files
}

#[test]
fn figures_of_every_shipped_experiment_are_its_tables() {
    let files = experiments();
    assert!(files.len() > 20);
    let (mut figures, mut areas) = (0, 0);
    for file in files {
        let documents = spec::load_all(&file).unwrap_or_else(|e| panic!("{e}"));
        let plan = plan::resolve(&documents.experiment, &documents.topology);
        let mut plan = plan.unwrap_or_else(|e| panic!("{e}"));
        plan.narrow(Some(REPETITIONS), &[]);
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::new(folder.path());
        MadeUp::of(&plan).write(&run);
        limosa_analysis::analyse(&run).unwrap_or_else(|e| panic!("{}: {e:#}", file.display()));
        let held = held::hold(&run);
        let wrong = held.wrong.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
        assert!(wrong.is_empty(), "{}:\n{wrong}", file.display());
        assert!(held.figures > 0 && held.numbers > 0, "{}: {held:?}", file.display());
        (figures, areas) = (figures + held.figures, areas + held.areas);
    }
    assert!(figures > 300 && areas > 300, "{figures} figures, {areas} areas");
}

/// The rows of a run.
#[derive(Default)]
struct MadeUp {
    plan: String,
    trials: Vec<TrialRow>,
    throughput: Vec<ThroughputRow>,
    events: Vec<EventRow>,
    requests: Vec<RequestRow>,
}

impl MadeUp {
    fn of(plan: &Plan) -> Self {
        let mut run = Self { plan: serde_json::to_string(plan).unwrap(), ..Self::default() };
        plan.trials.iter().for_each(|trial| run.trial(plan, trial));
        run
    }

    fn trial(&mut self, plan: &Plan, trial: &TrialPlan) {
        let variant = &plan.variants[&trial.variant];
        let mut random = SplitMix64(trial.seed);
        // The last interval of a download is a part of one.
        let length_ns = 3_000_000_000 + (random.next() % 40_000_000_000) as i64;
        if let (WorkloadPlan::Download(_) | WorkloadPlan::Requests(_), Some(_)) =
            (&plan.workload, &variant.transport)
        {
            self.intervals(trial, variant, length_ns, &mut random);
        }
        if let WorkloadPlan::Requests(_) = plan.workload {
            self.asked(trial, length_ns, &mut random);
        }
        self.steps(trial, variant, &mut random);
        let seconds = |random: &mut SplitMix64| Some((random.next() % 3_000_000_000) as f64 / 1e9);
        let moves = !variant.timeline.is_empty();
        self.trials.push(TrialRow {
            experiment: plan.experiment.name.clone(),
            variant: trial.variant.clone(),
            repetition: trial.repetition,
            seed: trial.seed,
            status: "ok".into(),
            verdict: Some("valid".into()),
            scheme: variant.scheme.map_or_else(String::new, |s| {
                serde_json::to_value(s).unwrap().as_str().unwrap().to_owned()
            }),
            turnaround_s: Some(length_ns as f64 / 1e9),
            stall_s: seconds(&mut random),
            checkpoint_s: seconds(&mut random).filter(|_| moves),
            transfer_s: seconds(&mut random).filter(|_| moves),
            restore_s: seconds(&mut random).filter(|_| moves),
            resume_delay_s: seconds(&mut random).filter(|_| moves),
            folder: format!("trials/{}/{}", trial.variant, trial.repetition),
            ..TrialRow::default()
        });
    }

    /// As a client writes them: whole intervals since its start, zeros during an outage.
    fn intervals(
        &mut self,
        trial: &TrialPlan,
        variant: &VariantPlan,
        length_ns: i64,
        random: &mut SplitMix64,
    ) {
        let sample = variant.transport.as_ref().map(|t| t.sample_interval.as_duration());
        let interval_ns = sample.map_or(100_000_000, |d| d.as_nanos() as i64);
        let mut at_ns = 0;
        while at_ns < length_ns {
            let lasts_ns = interval_ns.min(length_ns - at_ns);
            for path in &variant.interfaces {
                let away = (2_000_000_000..4_000_000_000).contains(&at_ns);
                let bytes = if away { 0 } else { random.next() % 1_500_000 };
                self.throughput.push(ThroughputRow {
                    variant: trial.variant.clone(),
                    repetition: trial.repetition,
                    path: path.clone(),
                    t_s: at_ns as f64 / 1e9,
                    interval_s: lasts_ns as f64 / 1e9,
                    bytes,
                });
            }
            at_ns += lasts_ns;
        }
    }

    fn asked(&mut self, trial: &TrialPlan, length_ns: i64, random: &mut SplitMix64) {
        for request in 1..=200 {
            let at_ns = (random.next() % length_ns.unsigned_abs()) as f64;
            let response_s = (random.next() % 400_000_000) as f64 / 1e9;
            let lost = random.next().is_multiple_of(20);
            self.requests.push(RequestRow {
                variant: trial.variant.clone(),
                repetition: trial.repetition,
                request,
                object: request.to_string(),
                t_s: at_ns / 1e9,
                response_s: (!lost).then_some(response_s),
                served_by: (!lost).then(|| "server".into()),
                outcome: if lost { "lost" } else { "ok" }.into(),
                first_byte_s: None,
                access: "read".into(),
                version: None,
                client: None,
            });
        }
    }

    fn steps(&mut self, trial: &TrialPlan, variant: &VariantPlan, random: &mut SplitMix64) {
        let mut put = |source: &str, event: &str, started_ns: i64, done_ns: i64| {
            self.events.push(EventRow {
                variant: trial.variant.clone(),
                repetition: trial.repetition,
                source: source.into(),
                event: event.into(),
                detail: String::new(),
                planned_ns: None,
                started_ns,
                done_ns: Some(done_ns),
            });
        };
        put("client", event::HANDSHAKE_STARTED, ZERO_NS, ZERO_NS);
        let mut at_ns = ZERO_NS + 500_000_000;
        for step in &variant.timeline {
            at_ns += (random.next() % 1_000_000_000) as i64;
            let done_ns = at_ns + (random.next() % 300_000_000) as i64;
            put("harness", step.action.name(), at_ns, done_ns);
            at_ns = done_ns;
        }
    }

    fn write(&self, run: &RunDir) {
        fs::write(run.plan(), &self.plan).unwrap();
        fs::write(run.manifest(), "{}").unwrap();
        table(&run.trials(), &self.trials);
        table(&run.throughput(), &self.throughput);
        table(&run.events(), &self.events);
        if !self.requests.is_empty() {
            table(&run.requests(), &self.requests);
        }
    }
}

fn table(path: &Path, rows: &[impl Serialize]) {
    let mut writer = csv::Writer::from_path(path).unwrap();
    rows.iter().for_each(|row| writer.serialize(row).unwrap());
    writer.flush().unwrap();
}
