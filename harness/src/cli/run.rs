//! `run` and `demo`: where to run, signals, and the closing table.

use super::{
    dispatch::{become_root, runtime},
    show,
};
use crate::{
    cli::{
        args::{On, RunArgs, exit},
        signals,
    },
    machine::{
        doctor,
        guest::{self, GuestCommand},
        setup::{self, Consent},
    },
    plan::{self, Plan},
    run::{self, Ending, Jobs, Throttle, log, manifest, model_json, progress::Progress},
    spec::{self, Documents, Links},
    trial::Host,
};
use anyhow::{Context, Result};
use limosa_lab::{
    errors::{NotReady, Usage},
    journal,
    lab::{Backend, descriptors},
    owner,
};
use limosa_record::{dir::RunDir, text};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// How often in one run a crashed guest is replaced by a new one.
const MAX_GUEST_CRASHES: u32 = 3;

/// A guest has memory for so many trials at a time with `--jobs auto`; an emulated one carries
/// fewer anyhow.
const GUEST_JOBS: u32 = 4;

/// An experiment that is about to run.
struct Prepared {
    plan: Plan,
    run: RunDir,
    interrupted: watch::Receiver<bool>,
}

/// `limosa demo`
pub(super) fn demo(verbose: u8) -> Result<u8> {
    let file = quickstart()?;
    become_root()?;
    // Without one it runs in a guest.
    if let Err(e) = get_criu() {
        tell!("setup: {e:#}");
    }
    let args = RunArgs {
        files: vec![file],
        reps: None,
        only: vec![],
        jobs: Jobs::Fixed(1),
        resume: false,
        on: On::Auto,
        links: None,
        allow_commands: false,
        yes: true,
        out: "results".into(),
        into: None,
    };
    let code = run(&args, verbose)?;
    say!(
        "\nnext: open results/quickstart/latest/report.html, read results/quickstart/latest/trials.csv,"
    );
    say!("      or run the paper's experiment: limosa run experiments/nakano-2025.yaml --reps 3");
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
        return inside_guest(RunDir::new(into), args, signals::watch()?);
    }
    check_places(args)?;
    // All files first: a mistake in the third is told before the first has run for an hour.
    let plans = args.files.iter().map(|f| narrowed(f, args)).collect::<Result<Vec<_>>>()?;
    if args.on != On::Guest {
        become_root()?;
    }
    let interrupted = signals::watch()?;
    journal::clean_quietly();
    let mut worst = exit::OK;
    for (file, (plan, documents)) in args.files.iter().zip(plans) {
        let code = one(file, plan, &documents, args, verbose, &interrupted);
        // Before the next one, which may take a night.
        owner::give_back();
        let code = code?;
        if code == exit::INTERRUPTED {
            return Ok(code);
        }
        worst = worst.max(code);
    }
    Ok(worst)
}

/// What no file and no machine is to blame for.
fn check_places(args: &RunArgs) -> Result<()> {
    if let Err(error) = std::env::current_dir() {
        let text = format!("the current folder is gone: {error}\n  hint: cd to one that is there");
        return Err(Usage(text).into());
    }
    if args.out.to_str().is_none() {
        let out = args.out.display();
        let text = format!("--out `{out}` is not UTF-8\n  hint: --out FOLDER, with another name");
        return Err(Usage(text).into());
    }
    Ok(())
}

/// A criu that works on this kernel, fetched if need be.
pub(super) fn get_criu() -> Result<()> {
    let limosa = std::env::current_exe()?;
    runtime()?.block_on(setup::criu::get(&limosa)).context("get a criu for this kernel")?;
    Ok(())
}

/// The plan of what was asked for, and what it was made of: no file is read again, since it may be
/// edited while another one runs.
fn narrowed(file: &Path, args: &RunArgs) -> Result<(Plan, Documents)> {
    let (mut plan, documents) = show::load_all(file, args.links)?;
    if plan.commands().next().is_some() && !args.allow_commands {
        return Err(plan::refuse_commands(&documents.experiment).into());
    }
    for wanted in &args.only {
        if !plan.variants.contains_key(wanted) {
            let names = plan.variants.keys().map(String::as_str);
            let hint = spec::known("variants", wanted, names).unwrap_or_default();
            let file = file.display();
            clap::Error::raw(
                clap::error::ErrorKind::InvalidValue,
                text::line(format_args!("{file} has no variant `{wanted}`\n  hint: {hint}\n")),
            )
            .exit();
        }
    }
    plan.narrow(args.reps, &args.only);
    Ok((plan, documents))
}

fn one(
    file: &Path,
    plan: Plan,
    documents: &Documents,
    args: &RunArgs,
    verbose: u8,
    interrupted: &watch::Receiver<bool>,
) -> Result<u8> {
    let (on, links) = choose(args.on, &plan)?;
    let (run, _hold) = run::prepare(&args.out, &plan, documents.into(), args.resume)?;
    let prepared = Prepared { plan, run, interrupted: interrupted.clone() };
    let log = prepared.run.log();
    log::to(&log).with_context(|| format!("write {}", log.display()))?;
    tell!("results: {}", prepared.run.root().display());
    let code = match on {
        On::Guest => in_guest(file, &prepared, links, args, verbose)?,
        On::Host | On::Auto => on_host(&prepared, links, args)?,
    };
    model_json::write(&prepared.run, &prepared.plan)?;
    let analysis = limosa_analysis::analyse(&prepared.run).context("make the report")?;
    show::print_table(&analysis);
    let latest = prepared.run.root().with_file_name("latest");
    say!("report: {}", RunDir::new(latest).report().display());
    Ok(code)
}

/// Decides between the host and the guest and what carries shaped links, and says which and why.
fn choose(on: On, plan: &Plan) -> Result<(On, Backend)> {
    // The guest's kernel has netem and TAP devices.
    let in_guest = match plan.links {
        Links::User => Backend::User,
        Links::Auto if plan.needs_user_links() => Backend::User,
        Links::Auto | Links::Kernel => Backend::Kernel,
    };
    if on == On::Guest {
        return Ok((on, in_guest));
    }
    let report = runtime()?.block_on(doctor::examine(Some(plan)));
    match (report.host_ready(), report.links(), on) {
        (true, Ok((backend, why)), _) => {
            let links = match plan.needs_shaping() {
                true => format!(", {}", show::links_text(backend, &why)),
                false => String::new(),
            };
            tell!("running on this kernel: it has all that this experiment needs{links}");
            Ok((On::Host, backend))
        }
        (_, _, On::Host) => {
            let lacks = report.host_lacks();
            Err(NotReady(format!(
                "this machine cannot run it: it lacks {lacks}\n  hint: limosa doctor, or --on guest"
            ))
            .into())
        }
        _ => {
            tell!("running in a guest, because here it lacks {}", report.host_lacks());
            Ok((On::Guest, in_guest))
        }
    }
}

/// This program again, inside a guest that sees nothing but the run directory.
fn in_guest(
    file: &Path,
    prepared: &Prepared,
    links: Backend,
    args: &RunArgs,
    verbose: u8,
) -> Result<u8> {
    let consent = if args.yes { Consent::Given } else { Consent::Ask };
    let ready = setup::setup(consent).map_err(|e| NotReady(format!("{e:#}")))?;
    let root = prepared.run.root();
    let run = fs::canonicalize(root).with_context(|| format!("find {}", root.display()))?;
    let text = |p: &Path| p.to_string_lossy().into_owned();
    let mut words = vec!["run".to_owned(), text(file), "--into".into(), text(&run)];
    words.extend(["--jobs".into(), args.jobs.to_string()]);
    words.extend(["--links".into(), links.name().to_owned()]);
    words.extend((0..verbose).map(|_| "-v".to_owned()));
    let mut command = GuestCommand::current(words, run.join("guest-console.log"))?;
    command = command.share(&run);
    command.dir = run.clone();
    command.memory_mib = memory_mib(&prepared.plan, args.jobs);
    let trials = u32::try_from(prepared.plan.trials.len()).unwrap_or(u32::MAX);
    let each = prepared.plan.time_limit.as_duration() + Duration::from_secs(120);
    command.time_limit = Some(Duration::from_secs(300) + each.saturating_mul(trials));
    for crashes in 1.. {
        if *prepared.interrupted.borrow() {
            return Ok(exit::INTERRUPTED);
        }
        match guest::run(&command, &ready) {
            Ok(code) => return Ok(u8::try_from(code).unwrap_or(exit::BUG)),
            Err(e) if e.is::<guest::Crashed>() && crashes <= MAX_GUEST_CRASHES => {
                let kept = run.join(format!("guest-console-{crashes}.log"));
                let see = match fs::rename(&command.console, &kept) {
                    Ok(()) => format!("\n  see: {}", kept.display()),
                    // It was gone before it said anything.
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
                    Err(e) => Err(e).context(format!("keep {}", command.console.display()))?,
                };
                tell!(
                    "the guest crashed; the rows so far are kept and the rest goes on in a new guest{see}"
                );
            }
            Err(e) => return Err(NotReady(format!("{e:#}")).into()),
        }
    }
    unreachable!("numbers do not end")
}

/// The other side of [`in_guest`]: the plan is there, and the report is made outside.
fn inside_guest(run: RunDir, args: &RunArgs, interrupted: watch::Receiver<bool>) -> Result<u8> {
    let file = run.plan();
    let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let mut plan: Plan =
        serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))?;
    plan.load_recordings(run.root())?;
    let links = match args.links {
        Some(Links::User) => Backend::User,
        _ => Backend::Kernel,
    };
    on_host(&Prepared { plan, run, interrupted }, links, args)
}

/// The body exists as the source and, for each job, as it arrives; twice, because `--jobs auto`
/// leaves half of the memory to others.
fn memory_mib(plan: &Plan, jobs: Jobs) -> u32 {
    let body = u32::try_from(plan.bytes() >> 20).unwrap_or(u32::MAX / 4);
    let jobs = match jobs {
        Jobs::Fixed(n) => u32::try_from(n).unwrap_or(u32::MAX),
        Jobs::Auto => GUEST_JOBS,
    };
    1536_u32.saturating_add(body.saturating_mul(jobs.saturating_mul(2).saturating_add(1)))
}

fn on_host(prepared: &Prepared, links: Backend, args: &RunArgs) -> Result<u8> {
    let jobs = match args.jobs {
        Jobs::Fixed(jobs) => jobs as u64,
        Jobs::Auto => 1,
    };
    descriptors::check(&prepared.plan.network, links, jobs)?;
    let progress = Progress::stderr();
    let ending = runtime()?.block_on(async {
        let interrupted = prepared.interrupted.clone();
        let criu = match prepared.plan.needs_criu() {
            true => Some(setup::criu::working(&std::env::current_exe()?).await.map_err(|e| {
                NotReady(format!("there is no criu that works here: {e:#}\n  hint: limosa setup"))
            })?),
            false => None,
        };
        let version = criu.as_ref().map(|c| &*c.version);
        manifest::write(&prepared.run, &prepared.plan, version, links)?;
        let criu = criu.map(|c| c.criu);
        let host = Arc::new(Host::prepare(&prepared.plan, links, criu, interrupted.clone())?);
        let throttle = Throttle::new(args.jobs, host.capacity()?);
        run::run(&prepared.plan, &prepared.run, &host, throttle, &progress, interrupted).await
    });
    progress.end();
    Ok(match ending? {
        Ending::Ok => exit::OK,
        Ending::SomeFailed => exit::TRIAL_FAILED,
        Ending::Interrupted => {
            tell!("interrupted: the rows so far are kept\n  hint: go on with --resume");
            exit::INTERRUPTED
        }
    })
}
