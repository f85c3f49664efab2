//! Commands that only show something: `doctor`, `plan`, `report`, `schema`.

use super::dispatch::runtime;
use crate::{
    cli::args::{Format, exit},
    machine::doctor::{self, Finding},
    plan::{self, Action, Plan, StepPlan, VariantPlan, When, WorkloadPlan},
    spec::{self, Links},
};
use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use limosa_analysis::{Analysis, Comparison, Excess};
use limosa_lab::{lab::Backend, shape::ShapePlan};
use limosa_record::{
    dir::RunDir,
    row::SummaryRow,
    unit::{Rate, Size},
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// `limosa doctor [FILE]`
pub(super) fn doctor(file: Option<&Path>, json: bool) -> Result<u8> {
    let plan = file.map(|file| load(file, None)).transpose()?;
    let report = runtime()?.block_on(doctor::examine(plan.as_ref()));
    if json {
        say_json!(&serde_json::to_value(&report)?);
    } else {
        for (title, findings) in [
            ("on this kernel", &report.host),
            ("shaped links in this kernel", &report.kernel_links),
            ("shaped links in user space", &report.user_links),
            ("techniques of migrate on this kernel", &report.techniques),
            ("in a guest", &report.guest),
        ] {
            if !findings.is_empty() {
                say!("{title}:");
                findings.iter().for_each(print_finding);
            }
        }
        say!(
            "{}",
            match (report.host_ready(), report.guest_ready(), report.links()) {
                (true, _, Ok((backend, why))) => {
                    format!("ready: runs on this kernel, {}", links_text(backend, &why))
                }
                (_, true, _) => "ready: runs in a guest".into(),
                _ => "not ready\n  hint: limosa setup".into(),
            }
        );
    }
    Ok(if report.host_ready() || report.guest_ready() { exit::OK } else { exit::NOT_READY })
}

/// What carries shaped links, in half a line.
pub(super) fn links_text(backend: Backend, why: &str) -> String {
    let place = match backend {
        Backend::Kernel => "the kernel",
        Backend::User => "user space",
    };
    format!("shaped links in {place} ({why})")
}

fn print_finding(finding: &Finding) {
    let mark = if finding.ok { "ok     " } else { "missing" };
    say!("  {mark} {:<18} {}", finding.name, finding.detail);
    if let Some(fix) = &finding.fix {
        say!("          {:<18} fix: {fix}", "");
    }
}

/// The plan of an experiment file; `links` takes the place of the file's own.
pub(super) fn load(file: &Path, links: Option<Links>) -> Result<Plan, spec::SpecError> {
    load_all(file, links).map(|(plan, _)| plan)
}

/// The same, with all that the plan was made of.
pub(super) fn load_all(
    file: &Path,
    links: Option<Links>,
) -> Result<(Plan, spec::Documents), spec::SpecError> {
    let mut documents = spec::load_all(file)?;
    if let Some(links) = links {
        documents.experiment.value.links = links;
    }
    let plan = plan::resolve(&documents.experiment, &documents.topology)?;
    Ok((plan, documents))
}

/// `limosa plan FILE`
pub(super) fn plan(file: &Path, links: Option<Links>, json: bool) -> Result<u8> {
    let plan = load(file, links)?;
    if json {
        say_json!(&serde_json::to_value(&plan)?);
        return Ok(exit::OK);
    }
    let about = &plan.experiment;
    say!("{}: {} variants × {} repetitions", about.name, plan.variants.len(), about.repetitions);
    if let Some(description) = &about.description {
        say!("{description}");
    }
    say!("\nplaces of topology {}:", about.topology);
    for (name, place) in &plan.network.places {
        let kind = serde_json::to_value(place.kind)?;
        let interfaces = place.interfaces.iter().map(|i| {
            let addresses: Vec<_> = i.addresses.iter().map(ToString::to_string).collect();
            format!("{} {}", i.name, addresses.join(" ")).trim_end().to_owned()
        });
        let interfaces = interfaces.collect::<Vec<_>>().join("; ");
        say!("  {name:<12} {:<7} {interfaces}", kind.as_str().unwrap_or_default());
    }
    let carrier = match plan.links {
        Links::Auto if plan.needs_user_links() => "in user space, for a recording is among them",
        Links::Auto => "in the kernel where it has netem, else in user space",
        Links::Kernel => "in the kernel",
        Links::User => "in user space",
    };
    say!("\nlinks ({carrier}):");
    for link in &plan.network.links {
        let [a, b] = &link.ends;
        say!("  {}.{} — {}.{}", a.0, a.1, b.0, b.1);
        if link.a_to_b == link.b_to_a {
            link.a_to_b.iter().for_each(|s| say!("      both ways: {}", shape(s)));
        } else {
            link.a_to_b.iter().for_each(|s| say!("      a_to_b: {}", shape(s)));
            link.b_to_a.iter().for_each(|s| say!("      b_to_a: {}", shape(s)));
        }
    }
    match &plan.workload {
        WorkloadPlan::Download(d) => match d.play_bytes_per_s {
            None => say!("\ndownload: {} of {}", d.path, d.size),
            Some(rate) => say!("\nplayback: {} of {} at {}", d.path, d.size, Rate(8 * rate)),
        },
        WorkloadPlan::Requests(r) => {
            let (objects, bytes) =
                (r.catalogue.count as usize + r.catalogue.listed.len(), plan.workload.bytes());
            say!(
                "\nrequests: {objects} objects of {} in all, {:?}, {:?}",
                Size(bytes),
                r.choice,
                r.arrivals
            );
        }
        WorkloadPlan::Push(p) => say!("\npush: from {} to {}, by rsync", p.from, p.to),
    }
    for (name, command) in plan.commands() {
        say!("\nnode {name} on {}: {}", plan.nodes[name].on, command.line());
        for file in command.files.keys() {
            say!("  with a file {file}");
        }
        if let Some(ready) = &command.ready {
            say!("  ready when it {}", ready.condition());
        }
        command.saves.iter().for_each(|file| say!("  saves the body as {file}"));
    }
    for (name, node) in &plan.nodes {
        node.address
            .iter()
            .for_each(|a| say!("\nnode {name} has the address {a}, which moves along"));
    }
    for (name, variant) in &plan.variants {
        say!("\nvariant {name}: {}", variant_text(variant));
        variant.shapes.iter().for_each(|(link, s)| say!("  {link} instead: {}", shape(s)));
        variant.timeline.iter().for_each(|s| say!("  {}", step(s)));
    }
    for (needs, what) in [
        (plan.needs_dirty_tracking(), "soft-dirty tracking of pages"),
        (plan.needs_lazy_pages(), "userfaultfd and large pipes"),
    ] {
        if needs {
            say!(
                "\nneeds of the kernel: {what} (`limosa doctor FILE` tells whether this one has it)"
            );
        }
    }
    say!("\n{} trials, {} each at the most", plan.trials.len(), plan.time_limit);
    Ok(exit::OK)
}

/// A value of the file as it is written there.
fn word(value: impl Serialize) -> String {
    let value = serde_json::to_value(value).ok();
    value.and_then(|v| v.as_str().map(ToOwned::to_owned)).unwrap_or_default()
}

/// What is tried, and where to.
fn variant_text(variant: &VariantPlan) -> String {
    if let Some(push) = &variant.push {
        let (how, what) = (push.compress, word(push.content));
        let how = if how { "compressed" } else { "as it is" };
        let (to, from) = (variant.connect, &variant.local);
        return format!("{} of {what}, {how}\n  from {from:?} to {to}", push.size);
    }
    let Some(t) = &variant.transport else { return "commands at both ends".into() };
    let ballast = variant.ballast.map_or(String::new(), |b| {
        format!(", {} of ballast, {} of it changing", Size(b.bytes), Rate(b.dirty_bytes_per_s * 8))
    });
    let clients = match variant.clients {
        1 => String::new(),
        n => format!(", {n} clients"),
    };
    format!(
        "{}{clients}, profile {}, {}, idle timeout {}{}{ballast}\n  connects to {}, then to {:?}",
        word(variant.scheme),
        word(t.profile),
        word(t.congestion),
        t.idle_timeout,
        t.keep_alive.map(|every| format!(", PING every {every}")).unwrap_or_default(),
        variant.connect,
        variant.fallback
    )
}

fn shape(shape: &ShapePlan) -> String {
    let parts = [shape.rate_text(), Some(shape.delay_text())];
    let line = format!("line of {} packets", shape.delay.limit_packets);
    parts.into_iter().flatten().chain([line]).collect::<Vec<_>>().join(", ")
}

fn step(step: &StepPlan) -> String {
    let when = match &step.when {
        When::At(t) => format!("at {t}"),
        When::After(name, delay) => format!("{delay} after {name}"),
        When::Since(anchor, delay) => format!("{delay} after {anchor}"),
    };
    let what = match &step.action {
        Action::Announce { node, address } => format!("{node} announces {address}"),
        Action::Barrier { node, deadline } => {
            format!("wait for {node}'s clients, {deadline} at most")
        }
        Action::Publish { node } => format!("the DNS says where {node} is"),
        Action::Checkpoint { node, image, leave_running } => {
            let then = if *leave_running { ", which goes on" } else { "" };
            format!("checkpoint {node} as {image}{then}")
        }
        Action::Restore { node, image, on, copy } => {
            let what =
                copy.as_ref().map_or(node.clone(), |c| format!("{}, a copy of {node},", c.name));
            format!("restore {what} from {image} on {on}")
        }
        Action::Migrate(m) => {
            let (technique, transfer) = (word(m.technique), word(m.transfer));
            let how = if m.compress { ", compressed" } else { "" };
            let rounds = match (m.rounds, m.below_bytes) {
                (0, _) => String::new(),
                (n, None) => format!(" with rounds: {n}"),
                (n, Some(b)) => {
                    format!(" with {n} rounds at most, until one has {} or less", Size(b))
                }
            };
            let by = format!("images by {transfer}{how}");
            format!("migrate {} to {}, {technique}{rounds}, {by}", m.node, m.to)
        }
        Action::Relocate(r) => {
            let then = r.join.map_or("for ever".into(), |t| format!("for {t}"));
            format!(
                "{} stands still for {}, then is at {}, through a tunnel {then}",
                r.machine, r.pause, r.to
            )
        }
        Action::Handover { from, to, rate_bytes_per_s, .. } => {
            format!("{from} hands over to {to} at {}", Rate(rate_bytes_per_s * 8))
        }
        Action::Attack(a) => {
            format!("{} of a packet of {}, from {}", word(a.kind), a.node, a.from)
        }
        Action::Search { node } => format!("look for keys of {node}"),
        Action::Shape { link, .. } => format!("reshape {link}"),
        Action::LinkDown { link } => format!("cut {link}"),
        Action::LinkUp { link } => format!("mend {link}"),
        Action::Kill { node } => format!("kill {node}"),
    };
    format!("{when}: {what}")
}

/// `limosa report RUNDIR...`
pub(super) fn report(run_dirs: &[PathBuf], json: bool) -> Result<u8> {
    for dir in run_dirs {
        let run = RunDir::new(dir);
        if !run.trials().exists() {
            return Err(no_run(dir).into());
        }
        let analysis = limosa_analysis::analyse(&run)?;
        // Of several runs the comparison is what was asked for.
        match (json, run_dirs.len()) {
            (true, 1) => say_json!(&serde_json::to_value(&analysis.summary)?),
            (true, _) => {}
            (false, _) => {
                print_table(&analysis);
                say!("report: {}", run.report().display());
            }
        }
    }
    let runs: Vec<_> = run_dirs.iter().map(RunDir::new).collect();
    let (Some(last), true) = (runs.last(), runs.len() > 1) else { return Ok(exit::OK) };
    let comparison = limosa_analysis::compare(&runs)?;
    if json {
        say_json!(&serde_json::to_value(&comparison.rows)?);
    } else {
        print_comparison(&comparison);
        say!("comparison: {}", last.comparison().display());
    }
    Ok(exit::OK)
}

/// A folder that is none of ours is a bad file.
fn no_run(dir: &Path) -> spec::SpecError {
    let message = match dir.symlink_metadata() {
        Ok(_) => "is no run directory: it has no trials.csv",
        Err(_) => "there is no such folder",
    };
    spec::SpecError(vec![spec::Problem {
        file: dir.to_owned(),
        location: None,
        source_line: None,
        message: message.into(),
        hint: Some("a run directory is like results/quickstart/latest".into()),
    }])
}

/// Turnaround and response times of several runs; `comparison.csv` has the rest.
fn print_comparison(comparison: &Comparison) {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "variant",
        "metric",
        "run",
        "before",
        "now",
        "difference",
        "95 % interval",
        "",
    ]);
    let shown = ["turnaround_s", "stall_s", "response_mean_s"];
    for r in comparison.rows.iter().filter(|r| shown.contains(&r.metric.as_str())) {
        let interval = r.difference_ci95_low.zip(r.difference_ci95_high);
        table.add_row([
            r.variant.clone(),
            r.metric.clone(),
            r.run.clone(),
            format!("{:.3} ({})", r.baseline_mean, r.baseline_n),
            format!("{:.3} ({})", r.mean, r.n),
            format!("{:+.3}", r.difference),
            interval.map_or("–".into(), |(low, high)| format!("{low:+.3} to {high:+.3}")),
            match r.differs {
                Some(true) => "differs".into(),
                Some(false) => "no difference seen".into(),
                None => "too few trials".to_owned(),
            },
        ]);
    }
    say!("\ncompared with {}:", comparison.runs.first().map_or("", String::as_str));
    say!("{table}");
    for (what, values) in comparison.changes.iter().take(12) {
        say!("not the same: {what}: {}", values.join(" | "));
    }
    comparison.notes.iter().for_each(|n| tell!("warning: {n}"));
}

/// The closing table: our turnaround beside the published one, or what copies took.
pub(super) fn print_table(analysis: &Analysis) {
    let copies = analysis.summary.iter().any(|r| r.metric == "transfer_data_s");
    if copies && analysis.variants.iter().all(|v| v.turnaround.is_none()) {
        print_copies(analysis);
    } else {
        print_turnarounds(analysis);
    }
    for e in &analysis.excesses {
        let published = e.reference_s.map_or(String::new(), |r| format!(" (published {r:.2} s)"));
        say!("{}{published}", cost(e));
    }
    analysis.warnings.iter().for_each(|w| tell!("warning: {w}"));
}

/// What a migration costs, in words; it may also save time, when a new server is nearer.
fn cost(e: &Excess) -> String {
    let (variant, baseline, s) = (&e.variant, &e.baseline, e.mean_s.abs());
    match () {
        () if s < 0.005 => format!("{variant} takes as long as {baseline}"),
        () if e.mean_s > 0.0 => format!("the migration costs {variant} {s:.2} s over {baseline}"),
        () => format!("{variant} takes {s:.2} s less than {baseline}"),
    }
}

fn print_copies(analysis: &Analysis) {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["variant", "ok", "failed", "suspect", "set-up", "data", "sent", "speedup"]);
    for v in &analysis.variants {
        let of = |row: &&SummaryRow| row.variant == v.name && row.baseline.is_none();
        let mean = |metric: &str, text: fn(f64) -> String| {
            let row = analysis.summary.iter().filter(of).find(|r| r.metric == metric);
            row.map_or("–".to_owned(), |r| text(r.mean))
        };
        table.add_row([
            v.name.clone(),
            v.ok.to_string(),
            v.failed.to_string(),
            v.suspect.to_string(),
            mean("transfer_setup_s", |s| format!("{s:.3} s")),
            mean("transfer_data_s", |s| format!("{s:.3} s")),
            mean("transfer_sent_bytes", |b| format!("{b:.0} B")),
            mean("transfer_speedup_ratio", |r| format!("{r:.2}")),
        ]);
    }
    say!("{table}");
}

fn print_turnarounds(analysis: &Analysis) {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "variant",
        "ok",
        "failed",
        "suspect",
        "turnaround mean",
        "min",
        "max",
        "published",
        "source",
    ]);
    for v in &analysis.variants {
        let s = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.2} s"));
        let t = v.turnaround.as_ref();
        let published = v.reference.as_ref();
        table.add_row([
            v.name.clone(),
            v.ok.to_string(),
            v.failed.to_string(),
            v.suspect.to_string(),
            s(t.map(|t| t.mean)),
            s(t.map(|t| t.min)),
            s(t.map(|t| t.max)),
            published.map_or("–".into(), |r| match (r.min_s, r.max_s) {
                (Some(min), Some(max)) => format!("{:.2} s [{min:.2}–{max:.2}]", r.mean_s),
                _ => format!("{:.2} s", r.mean_s),
            }),
            published.map_or(String::new(), |r| r.source.clone()),
        ]);
    }
    say!("{table}");
}

/// `limosa schema FORMAT`
pub(super) fn schema(format: Format) -> Result<u8> {
    let schema = match format {
        Format::Topology => schemars::schema_for!(spec::Topology),
        Format::Experiment => schemars::schema_for!(spec::Experiment),
    };
    say_json!(&schema.to_value());
    Ok(exit::OK)
}
