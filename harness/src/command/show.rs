//! Commands that only show something: `doctor`, `plan`, `report`, `schema`.

use super::runtime;
use crate::{
    cli::{Format, exit},
    doctor::{self, Finding},
    plan::{self, Action, LossPlan, Plan, ShapePlan, StepPlan, When},
    spec::{self, Links},
};
use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use limosa_analysis::Analysis;
use limosa_record::{
    dir::RunDir,
    unit::{Rate, Ratio, Size, Time},
};
use std::path::{Path, PathBuf};

/// `limosa doctor [FILE]`
pub(super) fn doctor(file: Option<&Path>, json: bool) -> Result<u8> {
    let plan = file.map(|file| load(file, None)).transpose()?;
    let report = runtime()?.block_on(doctor::examine(plan.as_ref()));
    if json {
        println!("{:#}", serde_json::to_value(&report)?);
    } else {
        for (title, findings) in [("on this kernel", &report.host), ("in a guest", &report.guest)] {
            println!("{title}:");
            findings.iter().for_each(print_finding);
        }
        println!(
            "{}",
            match (report.host_ready(), report.guest_ready()) {
                (true, _) => "ready: runs on this kernel",
                (false, true) => "ready: runs in a guest",
                (false, false) => "not ready\n  hint: limosa setup",
            }
        );
    }
    Ok(if report.host_ready() || report.guest_ready() { exit::OK } else { exit::NOT_READY })
}

fn print_finding(finding: &Finding) {
    let mark = if finding.ok { "ok     " } else { "missing" };
    println!("  {mark} {:<18} {}", finding.name, finding.detail);
    if let Some(fix) = &finding.fix {
        println!("          {:<18} fix: {fix}", "");
    }
}

/// The plan of an experiment file; `links` takes the place of the file's own.
pub(super) fn load(file: &Path, links: Option<Links>) -> Result<Plan, spec::SpecError> {
    let (mut experiment, topology) = spec::load_experiment(file)?;
    if let Some(links) = links {
        experiment.value.links = links;
    }
    plan::resolve(&experiment, &topology)
}

/// `limosa plan FILE`
pub(super) fn plan(file: &Path, links: Option<Links>, json: bool) -> Result<u8> {
    let plan = load(file, links)?;
    if json {
        println!("{:#}", serde_json::to_value(&plan)?);
        return Ok(exit::OK);
    }
    let about = &plan.experiment;
    println!(
        "{}: {} variants × {} repetitions",
        about.name,
        plan.variants.len(),
        about.repetitions
    );
    if let Some(description) = &about.description {
        println!("{description}");
    }
    println!("\nplaces of topology {}:", about.topology);
    for (name, place) in &plan.network.places {
        let kind = serde_json::to_value(place.kind)?;
        let interfaces = place.interfaces.iter().map(|i| {
            let addresses: Vec<_> = i.addresses.iter().map(ToString::to_string).collect();
            format!("{} {}", i.name, addresses.join(" ")).trim_end().to_owned()
        });
        let interfaces = interfaces.collect::<Vec<_>>().join("; ");
        println!("  {name:<12} {:<7} {interfaces}", kind.as_str().unwrap_or_default());
    }
    let carrier = match plan.links {
        Links::Auto if plan.needs_user_links() => "in user space, for a recording is among them",
        Links::Auto => "in the kernel where it has netem, else in user space",
        Links::Kernel => "in the kernel",
        Links::User => "in user space",
    };
    println!("\nlinks ({carrier}):");
    for link in &plan.network.links {
        let [a, b] = &link.ends;
        println!("  {}.{} — {}.{}", a.0, a.1, b.0, b.1);
        if link.a_to_b == link.b_to_a {
            link.a_to_b.iter().for_each(|s| println!("      both ways: {}", shape(s)));
        } else {
            link.a_to_b.iter().for_each(|s| println!("      a_to_b: {}", shape(s)));
            link.b_to_a.iter().for_each(|s| println!("      b_to_a: {}", shape(s)));
        }
    }
    println!("\ndownload: {} of {}", plan.download.path, plan.download.size);
    for (name, variant) in &plan.variants {
        let word = |v: serde_json::Result<serde_json::Value>| {
            v.ok().and_then(|v| v.as_str().map(ToOwned::to_owned)).unwrap_or_default()
        };
        let t = &variant.transport;
        println!(
            "\nvariant {name}: {}, profile {}, {}, idle timeout {}",
            word(serde_json::to_value(variant.scheme)),
            word(serde_json::to_value(t.profile)),
            word(serde_json::to_value(t.congestion)),
            t.idle_timeout
        );
        println!("  connects to {}, then to {:?}", variant.connect, variant.fallback);
        variant.timeline.iter().for_each(|s| println!("  {}", step(s)));
    }
    println!("\n{} trials, {} each at the most", plan.trials.len(), plan.time_limit);
    Ok(exit::OK)
}

fn shape(shape: &ShapePlan) -> String {
    let mut words = Vec::new();
    if let Some(rate) = &shape.rate {
        words.push(format!("rate {}", Rate(rate.rate_bps)));
        words.push(format!("burst {}", Size(rate.burst_bytes.into())));
        words.push(format!("queue {}", Size(rate.limit_bytes.into())));
    }
    if let Some(trace) = &shape.trace {
        let length = Time::from_millis(trace.opportunities_ms.last().copied().unwrap_or(0).into());
        let packets = trace.opportunities_ms.len();
        words.push(format!("recording of {packets} packets in {length}"));
        words.push(format!("queue {}", Size(trace.limit_bytes.into())));
    }
    let d = &shape.delay;
    words.push(format!("delay {}", Time(d.delay_ns)));
    if d.jitter_ns > 0 {
        let order = if d.jitter_reorders { " with reordering" } else { "" };
        words.push(format!("jitter {}{order}", Time(d.jitter_ns)));
    }
    let random_loss = match d.loss {
        LossPlan::Random { ratio } => ratio,
        LossPlan::GilbertElliott {
            to_bad_ratio,
            to_good_ratio,
            bad_loss_ratio,
            good_loss_ratio,
        } => {
            let [to_bad, to_good, bad, good] =
                [to_bad_ratio, to_good_ratio, bad_loss_ratio, good_loss_ratio].map(Ratio);
            words.push(format!(
                "burst loss (to bad {to_bad}, to good {to_good}, lost in bad {bad}, in good {good})"
            ));
            0.0
        }
    };
    for (name, ratio) in [
        ("loss", random_loss),
        ("duplicate", d.duplicate_ratio),
        ("corrupt", d.corrupt_ratio),
        ("reorder", d.reorder_ratio),
    ] {
        if ratio > 0.0 {
            words.push(format!("{name} {}", Ratio(ratio)));
        }
    }
    words.push(format!("line of {} packets", d.limit_packets));
    words.join(", ")
}

fn step(step: &StepPlan) -> String {
    let when = match &step.when {
        When::At(t) => format!("at {t}"),
        When::After(name, delay) => format!("{delay} after {name}"),
    };
    let what = match &step.action {
        Action::Announce { node, address } => format!("{node} announces {address}"),
        Action::Checkpoint { node, image } => format!("checkpoint {node} as {image}"),
        Action::Restore { node, image, on } => format!("restore {node} from {image} on {on}"),
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
            anyhow::bail!(
                "{} is no run directory: it has no trials.csv\n  hint: a run directory is like results/quickstart/latest",
                dir.display()
            );
        }
        let analysis = limosa_analysis::analyse(&run)?;
        if json {
            println!("{:#}", serde_json::to_value(&analysis.summary)?);
        } else {
            print_table(&analysis);
            println!("report: {}", run.report().display());
        }
    }
    Ok(exit::OK)
}

/// The closing table: our turnaround beside the published one.
pub(super) fn print_table(analysis: &Analysis) {
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
    println!("{table}");
    for e in &analysis.excesses {
        let published = e.reference_s.map_or(String::new(), |r| format!(" (published {r:.2} s)"));
        println!(
            "the migration costs {} {:.2} s over {}{published}",
            e.variant, e.mean_s, e.baseline
        );
    }
    analysis.warnings.iter().for_each(|w| eprintln!("warning: {w}"));
}

/// `limosa schema FORMAT`
pub(super) fn schema(format: Format) -> Result<u8> {
    let schema = match format {
        Format::Topology => schemars::schema_for!(spec::Topology),
        Format::Experiment => schemars::schema_for!(spec::Experiment),
    };
    println!("{:#}", schema.to_value());
    Ok(exit::OK)
}
