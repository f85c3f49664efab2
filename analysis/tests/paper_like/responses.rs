//! A made-up run of requests during a background migration, which follows the thesis' model: the
//! parameters of figures 3.8 and 3.9, and a sweep over `r_old`.

use super::Noise;
use limosa_record::{
    dir::RunDir,
    row::{EventRow, RequestRow, RowFile, ThroughputRow, TrialRow},
};
use serde_json::json;
use std::{fs, io};

const START_S: f64 = 2.0;
const PUSH_S: f64 = 2.9 * 4.0;
const R_NEW_S: f64 = 0.5;
/// Variant, scheme, `r_old`, `s`.
const VARIANTS: [(&str, &str, f64, f64); 8] = [
    ("dual-path-far", "dual-path", 1.5, 2.2),
    ("post-copy-far", "post-copy", 1.5, 2.2),
    ("dual-path-near", "dual-path", 1.5, 0.7),
    ("post-copy-near", "post-copy", 1.5, 0.7),
    ("dual-path-sweep-1", "dual-path", 1.0, 0.7),
    ("post-copy-sweep-1", "post-copy", 1.0, 0.7),
    ("dual-path-sweep-2", "dual-path", 1.3, 0.7),
    ("post-copy-sweep-2", "post-copy", 1.3, 0.7),
];

/// Writes the run directory.
pub(crate) fn write(run: &RunDir) -> io::Result<()> {
    fs::create_dir_all(run.root())?;
    fs::write(run.plan(), json!({"experiment": {"name": "responses"}}).to_string())?;
    fs::write(run.manifest(), json!({"limosa": "0.1.0"}).to_string())?;
    responses(run, 2600)
}

/// A few responses in a run directory that has the rest already.
pub(crate) fn write_few(run: &RunDir) -> io::Result<()> {
    responses(run, 60)
}

fn responses(run: &RunDir, requests_each: u32) -> io::Result<()> {
    let mut trials = RowFile::append(&run.trials())?;
    let mut requests = csv::Writer::from_path(run.requests())?;
    // Such a run has these too, with little in them that is of interest here.
    let mut throughput = RowFile::append(&run.throughput())?;
    let mut events = RowFile::append(&run.events())?;
    let mut model = serde_json::Map::new();
    for (i, (variant, scheme, r_old, s)) in VARIANTS.into_iter().enumerate() {
        let mut noise = Noise(i as u64 + 7);
        let every = 13.0 / f64::from(requests_each);
        for request in 1..=requests_each {
            let t = (f64::from(request) + noise.next()) * every;
            let held = noise.next() < t / PUSH_S;
            let response = match scheme {
                "dual-path" if t > R_NEW_S && held => R_NEW_S,
                "dual-path" => r_old,
                _ if t <= R_NEW_S => R_NEW_S - t + R_NEW_S + s,
                _ if held => R_NEW_S,
                _ => R_NEW_S + s,
            };
            let from_new = held && t > R_NEW_S;
            requests.serialize(RequestRow {
                variant: variant.into(),
                repetition: 1,
                request: request.into(),
                object: format!("o{}", request % 97),
                t_s: START_S + t,
                response_s: Some(noise.around(response, 0.004)),
                served_by: Some(if from_new { "server-b" } else { "server-a" }.into()),
                outcome: "ok".into(),
                first_byte_s: None,
                access: "read".into(),
                version: None,
                client: None,
            })?;
        }
        let parameters = json!({
            "scheme": scheme, "r_old_s": r_old, "r_new_s": R_NEW_S, "s_s": s, "push_s": PUSH_S, "start_s": START_S,
        });
        model.insert(variant.into(), parameters);
        throughput.write(&ThroughputRow {
            variant: variant.into(),
            repetition: 1,
            path: "eth0".into(),
            t_s: 0.0,
            interval_s: 1.0,
            bytes: 0,
        })?;
        events.write(&EventRow {
            variant: variant.into(),
            repetition: 1,
            source: "client".into(),
            event: "connected".into(),
            detail: String::new(),
            planned_ns: None,
            started_ns: 0,
            done_ns: Some(0),
        })?;
        trials.write(&TrialRow {
            experiment: "responses".into(),
            variant: variant.into(),
            repetition: 1,
            status: "ok".into(),
            scheme: scheme.into(),
            ..TrialRow::default()
        })?;
    }
    requests.flush()?;
    fs::write(run.model(), json!(model).to_string())
}
