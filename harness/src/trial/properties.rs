//! Honest rows: random plans on a laboratory without a network, whose nodes leave random files, with
//! random failures, interruptions and kills in between. What was written is compared with what
//! happened.

use super::*;
use crate::{
    plan::{self, StepPlan},
    run::{self, Ending, Jobs, Throttle, progress::Progress},
    spec,
};
use limosa_record::{
    dir::RunDir,
    node::{ClientResult, RESULT_FILE},
    random::SplitMix64,
    row::{self, EventRow, NodeEventRow, NodeThroughputRow, ThroughputRow, event},
};
use proptest::{prelude::*, test_runner::Config};
use std::{collections::HashMap, io::Write, net::IpAddr, time::Duration};
use tokio::time::timeout;

const BODY: &str = "the hash of the body";
const VARIANTS: [&str; 4] = ["quic-none", "multipath-none", "quic-migrate", "multipath-migrate"];

fn one_in(n: u64, random: &mut SplitMix64) -> bool {
    random.below(n) == 0
}

/// What happened in one trial.
#[derive(Debug, Clone)]
struct Truth {
    steps: Vec<Done>,
    rtt_ms: Option<f64>,
    image_bytes: Option<u64>,
    samples: Vec<NodeThroughputRow>,
    /// From when to when nothing arrived.
    gap_ns: Option<(i64, i64)>,
    result: Option<ClientResult>,
    outcome: Result<(), (&'static str, String)>,
}

impl Truth {
    fn new(random: &mut SplitMix64, variant: &VariantPlan) -> Self {
        let zero_ns = 1_700_000_000_000_000_000 + random.below(1 << 40) as i64;
        let mut now = zero_ns;
        let mut later = |random: &mut SplitMix64| {
            now += 1 + random.below(20_000_000_000) as i64;
            now
        };
        let fails = one_in(3, random);
        let reached = match fails {
            true => random.below(variant.timeline.len() as u64 + 1) as usize,
            false => variant.timeline.len(),
        };
        let mut step = |step: &StepPlan, random: &mut SplitMix64| Done {
            event: step.action.name(),
            detail: "a \"detail\", with\ntwo lines".into(),
            planned_ns: later(random),
            started_ns: later(random),
            done_ns: later(random),
        };
        let steps: Vec<Done> =
            variant.timeline[..reached].iter().map(|s| step(s, random)).collect();
        let restored = steps.iter().find(|s| s.event == "restore").map(|s| s.done_ns);
        let gap_ns = restored
            .filter(|_| one_in(2, random))
            .map(|at| (at - 5, at + random.below(1 << 33) as i64));
        let sample = |n: u64, random: &mut SplitMix64| NodeThroughputRow {
            local: variant.local[random.below(variant.local.len() as u64) as usize],
            t_ns: zero_ns + n as i64 * 100_000_000,
            interval_ns: 100_000_000,
            bytes: random.below(1 << 20),
        };
        let samples = (0..random.below(6)).map(|n| sample(n, random)).collect();
        let result = (!fails || one_in(2, random)).then(|| ClientResult {
            error: fails.then(|| "lost".into()),
            handshake_started_ns: zero_ns,
            finished_ns: (!fails).then(|| later(random)),
            bytes: random.below(1 << 30),
            sha256: (!fails).then(|| BODY.into()),
            reconnects: random.below(3),
            longest_gap_ns: one_in(2, random).then(|| random.below(1 << 34) as i64),
            requests: None,
            playback: None,
        });
        let why = ["no", "comma, \"quote\"\n  see: x"][random.below(2) as usize];
        let status = ["failed", "timeout"][random.below(2) as usize];
        let outcome = if fails { Err((status, why.to_owned())) } else { Ok(()) };
        let rtt_ms = one_in(2, random).then(|| random.below(1000) as f64 / 7.0);
        let image_bytes = one_in(2, random).then(|| random.below(1 << 30));
        Self { steps, rtt_ms, image_bytes, samples, gap_ns, result, outcome }
    }

    /// Leaves the files that the client would leave.
    fn leave(&self, folder: &Path, client: &str) {
        let folder = folder.join(client);
        fs::create_dir_all(&folder).unwrap();
        let mut events = RowFile::append(&folder.join("events.csv")).unwrap();
        if let Some((started_ns, done_ns)) = self.gap_ns {
            let (event, detail) = (event::GAP.into(), String::new());
            events.write(&NodeEventRow { event, detail, started_ns, done_ns }).unwrap();
        }
        let mut samples = RowFile::append(&folder.join("throughput.csv")).unwrap();
        self.samples.iter().for_each(|s| samples.write(s).unwrap());
        if let Some(result) = &self.result {
            fs::write(folder.join(RESULT_FILE), serde_json::to_vec(result).unwrap()).unwrap();
        }
    }

    fn record(&self, plan: &Plan, trial: &TrialPlan, folder: &Path) -> TrialRecord {
        let calibration = self.rtt_ms.map(|rtt| CalibrationRow {
            interface: "eth0".into(),
            wanted_rtt_ms: None,
            min_rtt_ms: Some(rtt),
            median_rtt_ms: Some(rtt),
            max_rtt_ms: Some(rtt),
            sent_packets: 1,
            lost_packets: 0,
            least_rtt_ms: None,
            most_rtt_ms: None,
        });
        let finished = Finished {
            started_ns: 0,
            zero_ns: Some(self.result.as_ref().map_or(0, |r| r.handshake_started_ns)),
            calibration: calibration.into_iter().collect(),
            steps: self.steps.clone(),
            dumps: self.dumps(),
            outcome: self.outcome.clone(),
            ..Finished::new(trial, &plan.variants[&trial.variant], folder)
        };
        collect::record(plan, &finished, Some(BODY))
    }

    fn dumps(&self) -> Vec<DumpReport> {
        let dump = |image_bytes| DumpReport { image_bytes, ..DumpReport::default() };
        self.image_bytes.map(dump).into_iter().collect()
    }

    fn step(&self, name: &str) -> Option<&Done> {
        self.steps.iter().find(|s| s.event == name)
    }

    /// Every number of the row is there exactly when it was measured, and is what was measured.
    fn check(&self, row: &TrialRow) {
        let s = |ns: i64| ns as f64 / 1e9;
        let (status, reason) = match &self.outcome {
            Ok(()) => ("ok", None),
            Err((status, why)) => (*status, Some(why.clone())),
        };
        assert_eq!((&*row.status, &row.reason), (status, &reason));
        let (checkpoint, restore) = (self.step("checkpoint"), self.step("restore"));
        let length = |d: &Done| s(d.done_ns - d.started_ns);
        assert_eq!(row.checkpoint_s, checkpoint.map(length));
        assert_eq!(row.restore_s, restore.map(length));
        let down = checkpoint.zip(restore).map(|(c, r)| s(r.done_ns - c.started_ns));
        assert_eq!(row.downtime_s, down);
        let sum =
            [row.checkpoint_s, row.transfer_s, row.restore_s].into_iter().sum::<Option<f64>>();
        match (sum, down) {
            (Some(sum), Some(down)) => assert!((sum - down).abs() < 1e-8, "{sum} is not {down}"),
            (sum, down) => assert!(sum.is_none() && down.is_none(), "{row:?}"),
        }
        let gap = self.gap_ns.zip(restore).filter(|_| self.result.is_some());
        if let Some(((_, until), restore)) = gap {
            assert_eq!(row.resume_delay_s, Some(s(until - restore.done_ns)));
        }
        assert!(self.gap_ns.is_some() || row.resume_delay_s.is_none());
        let result = self.result.as_ref();
        assert_eq!(row.bytes, result.map(|r| r.bytes));
        assert_eq!(row.reconnects, result.map(|r| r.reconnects));
        assert_eq!(row.stall_s, result.and_then(|r| r.longest_gap_ns).map(s));
        let whole = result.and_then(|r| Some(s(r.finished_ns? - r.handshake_started_ns)));
        assert_eq!(row.turnaround_s, whole);
        assert_eq!(row.goodput_bps.is_some(), whole.is_some());
        assert_eq!(row.rtt_first_ms, self.rtt_ms);
        assert_eq!(row.image_bytes, self.image_bytes);
        // Nobody watched the machine, nobody asked for objects.
        assert_eq!((row.rtt_second_ms, row.busy_share, row.lag_p99_ms), (None, None, None));
        assert_eq!((row.requests_ok, row.answered_twice, row.objects_lost), (None, None, None));
    }
}

type Key = (String, u32);

struct Fake<'a> {
    plan: &'a Plan,
    random: RefCell<SplitMix64>,
    /// One in so many trials is interrupted; 0 for none.
    interrupts: u64,
    /// What happened in the last attempt of each trial.
    truths: RefCell<HashMap<Key, Truth>>,
}

impl Laboratory for Fake<'_> {
    async fn trial(
        &self,
        trial: &TrialPlan,
        folder: &Path,
        phase: &dyn Fn(Phase),
    ) -> Option<TrialRecord> {
        let delay = self.random.borrow_mut().below(2000);
        phase(Phase::Lab);
        sleep(Duration::from_millis(delay / 4)).await;
        phase(Phase::Download);
        sleep(Duration::from_millis(delay)).await;
        let random = &mut *self.random.borrow_mut();
        if self.interrupts > 0 && one_in(self.interrupts, random) {
            return None;
        }
        let truth = Truth::new(random, &self.plan.variants[&trial.variant]);
        truth.leave(folder, "client");
        let record = truth.record(self.plan, trial, folder);
        self.truths.borrow_mut().insert((trial.variant.clone(), trial.repetition), truth);
        Some(record)
    }

    fn strain(&self) -> f64 {
        0.0
    }
}

/// What a process leaves that is killed while it writes the rows of a trial that has none yet.
fn kill_while_writing(run: &RunDir, fake: &Fake<'_>) {
    let done: Vec<TrialRow> = row::read(&run.trials()).unwrap_or_default();
    let is_done = |t: &&TrialPlan| {
        !done.iter().any(|d| d.variant == t.variant && d.repetition == t.repetition)
    };
    let Some(trial) = fake.plan.trials.iter().find(is_done) else { return };
    let random = &mut *fake.random.borrow_mut();
    let folder = run.new_attempt(&trial.variant, trial.repetition).unwrap();
    let truth = Truth::new(random, &fake.plan.variants[&trial.variant]);
    truth.leave(&folder, "client");
    let record = truth.record(fake.plan, trial, &folder);
    let mut files = [run.throughput(), run.events(), run.trials()].map(|file| {
        let before = fs::read(&file).unwrap_or_default();
        (file, before)
    });
    for (file, before) in &files {
        fs::write(file, before).unwrap();
    }
    let [throughput, events, trials] = &mut files;
    let mut rows = RowFile::append(&throughput.0).unwrap();
    record.throughput.iter().for_each(|r| rows.write(r).unwrap());
    let mut rows = RowFile::append(&events.0).unwrap();
    record.events.iter().for_each(|r| rows.write(r).unwrap());
    RowFile::append(&trials.0).unwrap().write(&record.row).unwrap();
    // All that came after some byte was never written; the last byte of all would make it whole.
    let added =
        files.each_ref().map(|(file, before)| fs::read(file).unwrap()[before.len()..].to_vec());
    let total: usize = added.iter().map(Vec::len).sum();
    let mut left = random.below(total as u64) as usize;
    for ((file, before), added) in files.into_iter().zip(added) {
        let n = left.min(added.len());
        left -= n;
        let mut file = fs::File::create(file).unwrap();
        file.write_all(&before).unwrap();
        file.write_all(&added[..n]).unwrap();
    }
}

/// How a round of a run ends, if it does not end by itself.
#[derive(Debug, Clone, Copy)]
enum Blow {
    /// Ctrl-C after so many ms.
    Interruption(u64),
    /// SIGKILL after so many ms.
    Kill(u64),
    /// A trial is cut off.
    CutOff,
}

async fn round(
    plan: &Plan,
    run: &RunDir,
    fake: &Fake<'_>,
    jobs: usize,
    blow: Option<Blow>,
) -> bool {
    let (tell, told) = watch::channel(false);
    let (throttle, progress) = (Throttle::new(Jobs::Fixed(jobs), 1), Progress::silent());
    let work = run::run(plan, run, fake, throttle, &progress, told);
    let whole = |ending: Result<Ending>| ending.unwrap() != Ending::Interrupted;
    match blow {
        Some(Blow::Kill(ms)) => match timeout(Duration::from_millis(ms), work).await {
            Ok(ending) => whole(ending),
            Err(_) => {
                kill_while_writing(run, fake);
                false
            }
        },
        Some(Blow::Interruption(ms)) => {
            let interrupt = async {
                sleep(Duration::from_millis(ms)).await;
                tell.send_replace(true);
                pending::<()>().await;
            };
            tokio::select! {
                ending = work => whole(ending),
                () = interrupt => unreachable!("it waits for ever"),
            }
        }
        Some(Blow::CutOff) | None => whole(work.await),
    }
}

fn check(plan: &Plan, run: &RunDir, truths: &HashMap<Key, Truth>) {
    let trials: Vec<TrialRow> = row::read(&run.trials()).unwrap();
    let key = |variant: &str, repetition: u32| (variant.to_owned(), repetition);
    let planned: Vec<_> = plan.trials.iter().map(|t| key(&t.variant, t.repetition)).collect();
    let there: Vec<_> = trials.iter().map(|t| key(&t.variant, t.repetition)).collect();
    assert_eq!(there, planned, "one row per planned trial, in order");
    trials.iter().for_each(|t| truths[&key(&t.variant, t.repetition)].check(t));
    let wanted = planned.iter().flat_map(|k| {
        let local = &plan.variants[&k.0].local;
        let interfaces = &plan.variants[&k.0].interfaces;
        let at = move |ip: &IpAddr| interfaces[local.iter().position(|l| l == ip).unwrap()].clone();
        truths[k].samples.iter().map(move |s| (k.clone(), at(&s.local), s.bytes))
    });
    let rows: Vec<ThroughputRow> = row::read(&run.throughput()).unwrap();
    let rows = rows.into_iter().map(|r| (key(&r.variant, r.repetition), r.path, r.bytes));
    assert!(rows.eq(wanted), "throughput.csv holds each sample once, in order");
    let events: Vec<EventRow> = row::read(&run.events()).unwrap();
    let count = |k: &Key| truths[k].steps.len() + usize::from(truths[k].gap_ns.is_some());
    let wanted = planned.iter().flat_map(|k| std::iter::repeat_n(k.clone(), count(k)));
    assert!(events.into_iter().map(|e| key(&e.variant, e.repetition)).eq(wanted), "events.csv");
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        (0..6000_u64).prop_map(Blow::Interruption),
        (0..6000_u64).prop_map(Blow::Kill),
        Just(Blow::CutOff)
    ]
}

proptest! {
    #![proptest_config(Config::with_cases(64))]

    #[test]
    fn rows_tell_what_happened_whatever_happens_to_the_run(
        seed in any::<u64>(),
        repetitions in 1..4_u32,
        chosen in 1..16_usize,
        jobs in 1..6_usize,
        blows in prop::collection::vec(blow(), 0..5),
    ) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments/nakano-2025.yaml");
        let (experiment, topology) = spec::load_experiment(&file).unwrap();
        let mut plan = plan::resolve(&experiment, &topology).unwrap();
        let only = VARIANTS.iter().enumerate().filter(|(i, _)| chosen >> i & 1 == 1);
        let only: Vec<String> = only.map(|(_, name)| (*name).to_owned()).collect();
        plan.narrow(Some(repetitions), &only);
        let results = tempfile::tempdir().unwrap();
        let texts = run::Texts { experiment: "e", topology: "t", reference: None };
        let mut fake = Fake {
            plan: &plan,
            random: RefCell::new(SplitMix64(seed)),
            interrupts: 0,
            truths: RefCell::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let mut run = run::prepare(results.path(), &plan, texts, false).unwrap().0;
        for blow in blows.into_iter().map(Some).chain([None]) {
            fake.interrupts = if matches!(blow, Some(Blow::CutOff)) { 3 } else { 0 };
            let whole = runtime.block_on(round(&plan, &run, &fake, jobs, blow));
            prop_assert!(whole || blow.is_some());
            run = run::prepare(results.path(), &plan, texts, true).unwrap().0;
        }
        check(&plan, &run, &fake.truths.borrow());
    }
}
