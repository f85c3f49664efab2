//! `run` and `demo`: where to run, signals, and the closing table.

use super::{become_root, give_back, runtime, show};
use crate::{
    cli::{On, RunArgs, exit},
    doctor::{self, NotReady},
    guest::{self, GuestCommand},
    manifest,
    plan::Plan,
    progress::Progress,
    run::{self, Ending},
    setup, spec,
    trial::Host,
};
use anyhow::{Context, Result};
use limosa_record::dir::RunDir;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// An experiment that is about to run.
struct Prepared {
    plan: Plan,
    run: RunDir,
}

/// `limosa demo`
pub(super) fn demo(verbose: u8) -> Result<u8> {
    let file = quickstart()?;
    setup::setup().map_err(|e| NotReady(format!("{e:#}")))?;
    let args = RunArgs {
        files: vec![file],
        reps: None,
        only: vec![],
        jobs: 1,
        resume: false,
        on: On::Auto,
        out: "results".into(),
        into: None,
    };
    let code = run(&args, verbose)?;
    println!(
        "\nnext: open results/quickstart/latest/report.html, read results/quickstart/latest/trials.csv,"
    );
    println!(
        "      or run the paper's experiment: limosa run experiments/nakano-2025.yaml --reps 3"
    );
    Ok(code)
}

/// In the working directory, or where this program was built.
fn quickstart() -> Result<PathBuf> {
    let name = "experiments/quickstart.yaml";
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let found = [PathBuf::from(name), built].into_iter().find(|p| p.is_file());
    found.with_context(|| format!("there is no {name}\n  hint: start it in the folder of Limosa"))
}

/// `limosa run FILE...`
pub(super) fn run(args: &RunArgs, verbose: u8) -> Result<u8> {
    if let Some(into) = &args.into {
        return inside_guest(RunDir::new(into), args);
    }
    // All files first: a mistake in the third is told before the first has run for an hour.
    let plans = args.files.iter().map(|f| narrowed(f, args)).collect::<Result<Vec<_>>>()?;
    if args.on != On::Guest {
        become_root()?;
    }
    let mut worst = exit::OK;
    for (file, plan) in args.files.iter().zip(plans) {
        let code = one(file, plan, args, verbose)?;
        if code == exit::INTERRUPTED {
            return Ok(code);
        }
        worst = worst.max(code);
    }
    Ok(worst)
}

fn narrowed(file: &Path, args: &RunArgs) -> Result<Plan> {
    let mut plan = show::load(file)?;
    for wanted in &args.only {
        if !plan.variants.contains_key(wanted) {
            let known = plan.variants.keys().map(|k| format!("`{k}`")).collect::<Vec<_>>();
            let file = file.display();
            clap::Error::raw(
                clap::error::ErrorKind::InvalidValue,
                format!("{file} has no variant `{wanted}`\n  hint: it has {}\n", known.join(", ")),
            )
            .exit();
        }
    }
    plan.narrow(args.reps, &args.only);
    Ok(plan)
}

fn one(file: &Path, plan: Plan, args: &RunArgs, verbose: u8) -> Result<u8> {
    let on = choose(args.on, &plan)?;
    let (experiment, topology) = spec::load_experiment(file)?;
    let run = run::prepare(&args.out, &plan, &experiment.text, &topology.text, args.resume)?;
    run::take_reference(file, &run)?;
    let prepared = Prepared { plan, run };
    eprintln!("results: {}", prepared.run.root().display());
    let code = match on {
        On::Guest => in_guest(file, &prepared, args, verbose)?,
        On::Host | On::Auto => on_host(&prepared, args)?,
    };
    let report = limosa_analysis::analyse(&prepared.run).context("make the report");
    give_back(args.out.as_path());
    let analysis = report?;
    show::print_table(&analysis);
    let latest = prepared.run.root().with_file_name("latest");
    println!("report: {}", RunDir::new(latest).report().display());
    Ok(code)
}

/// Decides between the host and the guest, and says which and why.
fn choose(on: On, plan: &Plan) -> Result<On> {
    if on == On::Guest {
        return Ok(on);
    }
    let report = runtime()?.block_on(doctor::examine(Some(plan)));
    match (report.host_ready(), on) {
        (true, _) => {
            eprintln!("running on this kernel: it has all that this experiment needs");
            Ok(On::Host)
        }
        (false, On::Host) => {
            let lacks = report.host_lacks();
            Err(NotReady(format!(
                "this machine cannot run it: it lacks {lacks}\n  hint: limosa doctor, or --on guest"
            ))
            .into())
        }
        (false, _) => {
            eprintln!("running in a guest, because here it lacks {}", report.host_lacks());
            Ok(On::Guest)
        }
    }
}

/// This program again, inside a guest that sees nothing but the run directory.
fn in_guest(file: &Path, prepared: &Prepared, args: &RunArgs, verbose: u8) -> Result<u8> {
    let ready = setup::setup().map_err(|e| NotReady(format!("{e:#}")))?;
    let root = prepared.run.root();
    let run = fs::canonicalize(root).with_context(|| format!("find {}", root.display()))?;
    let text = |p: &Path| p.to_string_lossy().into_owned();
    let mut words = vec!["run".to_owned(), text(file), "--into".into(), text(&run)];
    words.extend(["--jobs".into(), args.jobs.to_string()]);
    words.extend((0..verbose).map(|_| "-v".to_owned()));
    let mut command = GuestCommand::current(words, run.join("guest-console.log"))?;
    command = command.share(&run);
    command.dir = run.clone();
    command.memory_mib = memory_mib(&prepared.plan);
    let trials = u32::try_from(prepared.plan.trials.len()).unwrap_or(u32::MAX);
    let each = prepared.plan.time_limit.as_duration() + Duration::from_secs(120);
    command.time_limit = Some(Duration::from_secs(300) + each.saturating_mul(trials));
    let code = guest::run(&command, &ready)?;
    Ok(u8::try_from(code).unwrap_or(exit::BUG))
}

/// The other side of [`in_guest`]: the plan is there, and the report is made outside.
fn inside_guest(run: RunDir, args: &RunArgs) -> Result<u8> {
    let file = run.plan();
    let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let plan = serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))?;
    on_host(&Prepared { plan, run }, args)
}

/// The body exists twice, as the source and as it arrives, and each job has one arriving.
fn memory_mib(plan: &Plan) -> u32 {
    let body = u32::try_from(plan.download.size.0 >> 20).unwrap_or(u32::MAX / 4);
    1536_u32.saturating_add(body.saturating_mul(3))
}

fn on_host(prepared: &Prepared, args: &RunArgs) -> Result<u8> {
    let progress = Progress::stderr();
    let ending = runtime()?.block_on(async {
        let interrupted = interruption()?;
        manifest::write(&prepared.run, &prepared.plan).await?;
        let host = Host::prepare(&prepared.plan, interrupted.clone())?;
        let jobs = args.jobs.into();
        run::run(&prepared.plan, &prepared.run, &host, jobs, &progress, interrupted).await
    });
    progress.end();
    Ok(match ending? {
        Ending::Ok => exit::OK,
        Ending::SomeFailed => exit::TRIAL_FAILED,
        Ending::Interrupted => {
            eprintln!("interrupted: the rows so far are kept\n  hint: go on with --resume");
            exit::INTERRUPTED
        }
    })
}

/// Turns true with the first SIGINT, SIGTERM or SIGHUP; the second one ends the process, and the
/// kernel takes the lab away.
fn interruption() -> Result<watch::Receiver<bool>> {
    let (tell, told) = watch::channel(false);
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<std::io::Result<Vec<_>>>()
        .context("watch for signals")?;
    tokio::spawn(async move {
        for _ in 0..2 {
            futures_util::future::select_all(signals.iter_mut().map(|s| Box::pin(s.recv()))).await;
            if tell.send_replace(true) {
                std::process::exit(exit::INTERRUPTED.into());
            }
        }
    });
    Ok(told)
}
