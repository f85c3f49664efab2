//! Ten thousand hostile experiments in a world of their own: a root file system whose every change is
//! seen (overlayfs), with a tree in it that all of them point at. Each is planned; those that are
//! accepted go through everything that makes, copies and removes files of a run, but with nodes that
//! are only files. Then nothing has changed but the results, the work folder and the journal.
//!
//! `LIMOSA_HOSTILE=10000` makes so many; it is 1,000 otherwise.

use super::files::{self, Hostile, TINY};
use limosa::{
    plan::{self, Action, Plan, TrialPlan},
    run::{self, Jobs, Laboratory, Phase, Texts, Throttle, TrialRecord, progress::Progress},
    spec::{self, SpecError},
    trial::{folders::Folders, node::Shared},
};
use limosa_record::row::TrialRow;
use std::{
    env, fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    process::Command,
};
use tokio::sync::watch;

/// How many files there are when nobody says.
const FEW: u64 = 1_000;

/// Where this test is: nowhere yet, in the world of its own, or outside of that again.
const PART: &str = "LIMOSA_HOSTILE_PART";

/// Folders of that world in which something may change.
const OURS: [&str; 5] =
    ["hostile-in", "hostile-out", "hostile-work", "hostile-test", "var/lib/limosa"];

/// What makes the world: `$D` is empty, `$SELF` this program. The tree that nothing may change is below
/// the host's files, so that each change of it is a change of the world.
const WORLD: &str = "set -e
mount --make-rprivate /
mount -t tmpfs none \"$D\"
mkdir -p \"$D/marked/srv/marked/deep\" \"$D/upper\" \"$D/work\" \"$D/root\"
echo kept > \"$D/marked/srv/marked/file\"
echo kept > \"$D/marked/srv/marked/deep/file\"
mount -t overlay none -o \"lowerdir=$D/marked:/,upperdir=$D/upper,workdir=$D/work\" \"$D/root\"
for part in proc dev sys; do mount --rbind /$part \"$D/root/$part\"; done
cp \"$SELF\" \"$D/root/hostile-test\"
mkdir \"$D/root/hostile-work\"
LIMOSA_HOSTILE_PART=inside TMPDIR=/hostile-work HOME=/hostile-work chroot \"$D/root\" /hostile-test --exact \"$TEST\" --nocapture
LIMOSA_HOSTILE_PART=outside exec \"$SELF\" --exact \"$TEST\" --nocapture
";

#[test]
fn no_experiment_changes_anything_outside() {
    match env::var(PART).as_deref() {
        Ok("inside") => inside(),
        Ok("outside") => outside(),
        _ => {
            let folder = tempfile::tempdir().unwrap();
            let root = rustix::process::geteuid().is_root();
            let output = Command::new("unshare")
                .args(if root { &["-m"][..] } else { &["-U", "-r", "-m"] })
                .args(["sh", "-c", WORLD])
                .env("D", folder.path())
                .env("SELF", env::current_exe().unwrap())
                .env("TEST", "generated::no_experiment_changes_anything_outside")
                .output()
                .unwrap();
            let told = super::text(&output.stdout) + &super::text(&output.stderr);
            assert!(output.status.success(), "{told}");
            assert!(told.contains("nothing else has changed"), "{told}");
            println!(
                "{}",
                told.lines().filter(|l| l.contains("hostile")).collect::<Vec<_>>().join("\n")
            );
        }
    }
}

fn count() -> u64 {
    env::var("LIMOSA_HOSTILE").ok().and_then(|n| n.parse().ok()).unwrap_or(FEW)
}

fn inside() {
    let folder = Path::new("/hostile-in");
    fs::create_dir(folder).unwrap();
    fs::write(folder.join("tiny.yaml"), TINY).unwrap();
    let (mut accepted, mut made) = (0, 0);
    for number in 0..count() {
        let Hostile { name, text } = files::experiment(number);
        let file = folder.join(&name);
        if name == "tiny.yaml" || fs::write(&file, &text).is_err() {
            continue;
        }
        made += 1;
        if let Ok((plan, topology)) = load(&file) {
            accepted += 1;
            carry_out(&plan, &text, &topology);
        }
        fs::remove_file(&file).unwrap();
    }
    println!("{made} hostile files, {accepted} of them accepted and carried out");
    assert!(accepted * 20 > made, "{accepted} of {made}: too few to mean anything");
    assert!(accepted * 2 < made, "{accepted} of {made}: what is hostile about them?");
}

fn load(file: &Path) -> Result<(Plan, String), SpecError> {
    let (experiment, topology) = spec::load_experiment(file)?;
    Ok((plan::resolve(&experiment, &topology)?, topology.text))
}

fn carry_out(plan: &Plan, experiment: &str, topology: &str) {
    let out = Path::new("/hostile-out/results");
    let (dir, _hold) =
        run::prepare(out, plan, Texts { experiment, topology, reference: None }, false).unwrap();
    let work = tempfile::tempdir().unwrap();
    let lab = Paper { plan, work: work.path().into() };
    let (_keep, never) = watch::channel(false);
    let throttle = Throttle::new(Jobs::Fixed(1), 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let progress = Progress::silent();
    runtime.block_on(run::run(plan, &dir, &lab, throttle, &progress, never)).unwrap();
    limosa_analysis::analyse(&dir).unwrap();
}

/// A laboratory whose nodes are files.
struct Paper<'a> {
    plan: &'a Plan,
    work: PathBuf,
}

impl Laboratory for Paper<'_> {
    async fn trial(
        &self,
        trial: &TrialPlan,
        folder: &Path,
        phase: &dyn Fn(Phase),
    ) -> Option<TrialRecord> {
        phase(Phase::Download);
        self.files(trial, folder).unwrap_or_else(|e| panic!("{e:#}\n{:#?}", self.plan));
        let row = TrialRow {
            experiment: self.plan.experiment.name.clone(),
            variant: trial.variant.clone(),
            repetition: trial.repetition,
            status: "ok".into(),
            ..TrialRow::default()
        };
        Some(TrialRecord { row, ..TrialRecord::default() })
    }

    fn strain(&self) -> f64 {
        0.0
    }
}

impl Paper<'_> {
    /// What a trial does with files.
    fn files(&self, trial: &TrialPlan, kept: &Path) -> anyhow::Result<()> {
        let variant = &self.plan.variants[&trial.variant];
        let folders = Folders::new(&self.work, kept, &trial.variant, trial.repetition)?;
        let write = |folder: PathBuf, file: &str| {
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(file), "x")
        };
        for (name, node) in &self.plan.nodes {
            write(folders.node(name)?, "stderr.log")?;
            if let Some(command) = &node.command {
                let www = self.work.join("www");
                let folder = folders.node(&format!("{name}-command"))?;
                limosa::trial::node::furnish(
                    command,
                    &folder,
                    Shared { www: &www, certificates: &www },
                )?;
            }
        }
        for place in &self.plan.capture {
            fs::write(folders.capture(place)?, "x")?;
        }
        let mut moves = 0;
        for step in &variant.timeline {
            match &step.action {
                Action::Checkpoint { image, .. } => {
                    write(folders.images(image)?, "pages-1.img")?;
                    write(folders.logs(image)?.join("checkpoint"), "dump.log")?;
                }
                Action::Restore { image, copy, .. } => {
                    write(folders.logs(image)?.join("restore"), "restore.log")?;
                    match copy {
                        Some(copy) => write(folders.node(&copy.name)?, "stderr.log")?,
                        None => folders.remove(&folders.images(image)?)?,
                    }
                }
                Action::Migrate(_) => {
                    moves += 1;
                    let name = format!("migrate-{moves}");
                    let (here, there) = (folders.images(&name)?, folders.arrived(&name)?);
                    write(here.join("last"), "pages-1.img")?;
                    write(there.join("last"), "pages-1.img")?;
                    folders.keep_images(&there, &folders.logs(&name)?)?;
                    folders.remove(&here)?;
                    folders.remove(&there)?;
                }
                _ => {}
            }
        }
        for name in self.plan.nodes.keys().map(String::as_str).chain(variant.copies()) {
            folders.keep(name)?;
        }
        folders.clear()
    }
}

/// Looks at everything that has changed in the world.
fn outside() {
    let folder = PathBuf::from(env::var_os("D").unwrap());
    let mut odd = Vec::new();
    changes(&folder.join("upper"), Path::new(""), &mut odd);
    assert!(odd.is_empty(), "changed: {odd:#?}");
    let out = folder.join("upper/hostile-out");
    assert_eq!(names(&out), ["results"], "results are in results");
    assert!(names(&folder.join("upper/hostile-work")).is_empty(), "work folders go");
    println!("nothing else has changed");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn changes(upper: &Path, below: &Path, odd: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(upper.join(below)).unwrap() {
        let entry = entry.unwrap();
        let place = below.join(entry.file_name());
        if OURS.iter().any(|ours| place == Path::new(ours)) {
            continue;
        }
        let kind = entry.file_type().unwrap();
        // A folder that is the host's, too, is here because something in it has changed; what was removed
        // is a character device, and everything else was made or written to.
        if kind.is_dir() && Path::new("/").join(&place).is_dir() {
            changes(upper, &place, odd);
        } else {
            odd.push(if kind.is_char_device() { place.join("(removed)") } else { place });
        }
    }
}
