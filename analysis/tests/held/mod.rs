//! Holds the numbers of every figure (`figures/*.csv`) against the tables that they come from, with
//! nothing of the analysis but its files: its own sums, medians and means, in whole nanoseconds.

use limosa_record::dir::RunDir;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
};

/// How far a number may be from the one of the tables, as a share of it.
const EXACT: f64 = 1e-9;

type Row = HashMap<String, String>;
type Key = (String, u32);

/// What was compared.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub figures: usize,
    pub numbers: usize,
    /// Figures of throughput whose area was compared with the bytes.
    pub areas: usize,
    pub wrong: Vec<String>,
}

impl Held {
    fn same(&mut self, what: &str, got: f64, wanted: f64, scale: f64) {
        self.numbers += 1;
        if (got - wanted).abs() > EXACT * scale.abs().max(wanted.abs()) {
            self.wrong.push(format!("{what}: drawn {got}, recorded {wanted}"));
        }
    }

    fn all_same(&mut self, what: &str, mut got: Vec<f64>, mut wanted: Vec<f64>) {
        got.sort_by(f64::total_cmp);
        wanted.sort_by(f64::total_cmp);
        if got.len() != wanted.len() {
            self.wrong.push(format!("{what}: {} drawn of {}", got.len(), wanted.len()));
        }
        got.iter().zip(&wanted).for_each(|(got, wanted)| self.same(what, *got, *wanted, 0.0));
    }
}

/// A table's rows; none when there is no such file.
fn table(path: &Path) -> Vec<Row> {
    let Ok(mut reader) = csv::Reader::from_path(path) else { return vec![] };
    reader
        .deserialize()
        .map(|row| row.unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        .collect()
}

fn number(row: &Row, column: &str) -> Option<f64> {
    row.get(column)?.parse().ok()
}

fn key(row: &Row) -> Key {
    (row["variant"].clone(), row["repetition"].parse().unwrap())
}

fn ns(s: f64) -> i128 {
    (s * 1e9).round() as i128
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match (n, n % 2) {
        (0, _) => 0.0,
        (_, 1) => values[n / 2],
        _ => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// The tables of a run.
struct Run {
    figures: std::path::PathBuf,
    /// The last row of each trial.
    trials: BTreeMap<Key, Row>,
    /// Per trial: path, start, length in ns, bytes. The last attempt's alone.
    throughput: BTreeMap<Key, Vec<(String, i128, i128, f64)>>,
    requests: Vec<Row>,
    clients: Vec<Row>,
    events: Vec<Row>,
    model: Value,
    root: std::path::PathBuf,
}

impl Run {
    fn read(run: &RunDir) -> Self {
        let trials = table(&run.trials()).into_iter().map(|row| (key(&row), row)).collect();
        let mut throughput: BTreeMap<Key, Vec<(String, i128, i128, f64)>> = BTreeMap::new();
        for row in table(&run.throughput()) {
            let (t, interval) = (number(&row, "t_s").unwrap(), number(&row, "interval_s").unwrap());
            let rows = throughput.entry(key(&row)).or_default();
            if rows.iter().any(|(path, from, ..)| *path == row["path"] && *from > ns(t)) {
                rows.clear();
            }
            let bytes = number(&row, "bytes").unwrap();
            rows.push((row["path"].clone(), ns(t), ns(interval), bytes));
        }
        let model = fs::read(run.model()).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            figures: run.figures(),
            trials,
            throughput,
            requests: table(&run.requests()),
            clients: table(&run.clients()),
            events: table(&run.events()),
            model: model.unwrap_or_default(),
            root: run.root().to_owned(),
        }
    }

    fn is_ok(&self, key: &Key) -> bool {
        self.trials.get(key).is_some_and(|t| t["status"] == "ok")
    }

    fn ok(&self, variant: &str) -> impl Iterator<Item = &Row> {
        self.trials.values().filter(move |t| t["variant"] == variant && t["status"] == "ok")
    }

    fn variants(&self) -> BTreeSet<String> {
        let keys = self.trials.keys().chain(self.throughput.keys());
        keys.map(|(variant, _)| variant.clone()).collect()
    }

    fn figure(&self, name: &str) -> Vec<Row> {
        table(&self.figures.join(format!("{name}.csv")))
    }

    /// As files are called; the runs here have no two variants that differ only in odd characters.
    fn named(kind: &str, variant: &str) -> String {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        format!("{kind}-{}", variant.chars().take(60).map(safe).collect::<String>())
    }
}

/// Every figure of a run that has been analysed.
pub(crate) fn hold(run: &RunDir) -> Held {
    let (run, mut held) = (Run::read(run), Held::default());
    for variant in run.variants() {
        for ending in ["", ".zoom"] {
            throughput(&run, &variant, ending, &mut held);
        }
        lanes(&run, &variant, &mut held);
        responses(&run, &variant, &mut held);
    }
    strips(&run, &mut held);
    clients(&run, &mut held);
    round_trips(&run, &mut held);
    phases(&run, &mut held);
    held
}

fn throughput(run: &Run, variant: &str, ending: &str, held: &mut Held) {
    let name = Run::named("throughput", variant) + ending;
    let file = run.figures.join(format!("{name}.csv"));
    let Ok(mut reader) = csv::Reader::from_path(&file) else { return };
    held.figures += 1;
    let header: Vec<String> = reader.headers().unwrap().iter().map(String::from).collect();
    let bins: Vec<Vec<f64>> =
        reader.deserialize().map(|row: csv::Result<Vec<f64>>| row.unwrap()).collect();
    let of = |k: &&Key| k.0 == variant;
    let any_ok = run.trials.keys().filter(of).any(|k| run.is_ok(k));
    let drawn: Vec<&Key> =
        run.throughput.keys().filter(of).filter(|k| !any_ok || run.is_ok(k)).collect();
    // Mbit/s of a trial in a bin, of one path or of all.
    let mbps = |key: &Key, path: Option<&str>, bin: &[f64]| -> f64 {
        let (from, to) = (ns(bin[0]), ns(bin[1]));
        let rows = run.throughput[key].iter().filter(|r| path.is_none_or(|path| r.0 == path));
        let bytes: f64 = rows
            .map(|(_, start, length, bytes)| {
                let overlap = to.min(start + length) - from.max(*start);
                bytes * overlap.max(0) as f64 / *length as f64
            })
            .sum();
        bytes * 8e3 / (to - from) as f64
    };
    for (column, title) in header.iter().enumerate().skip(2) {
        let line = title.trim_end_matches(" (Mbit/s)");
        let values: Vec<f64> = bins.iter().map(|bin| bin[column]).collect();
        let highest = values.iter().copied().fold(0.0, f64::max);
        // The first line is the sum of all paths, whatever it is called.
        let path = (column > 2).then_some(line);
        let one = line.strip_prefix("trial ").and_then(|n| n.parse::<u32>().ok());
        let keys: Vec<&Key> = match one {
            Some(n) => drawn.iter().filter(|k| k.1 == n).copied().collect(),
            None => drawn.clone(),
        };
        let path = path.filter(|_| one.is_none());
        for (bin, value) in bins.iter().zip(&values) {
            let wanted = median(keys.iter().map(|k| mbps(k, path, bin)).collect());
            let what = format!("{name}, {line}, {}–{} s", bin[0], bin[1]);
            held.same(&what, *value, wanted, highest);
        }
        if let ([only], "") = (&keys[..], ending) {
            let rows = run.throughput[*only].iter().filter(|r| path.is_none_or(|p| r.0 == p));
            let bytes: f64 = rows.map(|r| r.3).sum();
            let width = |bin: &[f64]| (ns(bin[1]) - ns(bin[0])) as f64 / 1e9;
            let area: f64 = bins.iter().map(|bin| bin[column] * width(bin) * 1e6 / 8.0).sum();
            held.areas += 1;
            held.same(&format!("{name}, {line}: bytes"), area, bytes, 0.0);
        }
    }
}

/// Mean response time of each trial's requests, where the trial has no column for it.
fn response_means(run: &Run, variant: &str) -> Vec<f64> {
    let one = |t: &Row| {
        let of = |r: &&Row| key(r) == key(t) && r["outcome"] == "ok";
        let times: Vec<f64> =
            run.requests.iter().filter(of).filter_map(|r| number(r, "response_s")).collect();
        mean(&times)
    };
    run.ok(variant).filter_map(one).collect()
}

fn strips(run: &Run, held: &mut Held) {
    let figures = ["turnaround", "stall", "resume-delay", "response-mean"];
    for name in figures {
        let metric = format!("{}_s", name.replace('-', "_"));
        let values = |variant: &str| match name {
            "response-mean" => response_means(run, variant),
            _ => run.ok(variant).filter_map(|t| number(t, &metric)).collect(),
        };
        strip(&run.figure(name), name, values, held);
    }
}

/// Points and mean of each row.
fn strip(figure: &[Row], name: &str, recorded: impl Fn(&str) -> Vec<f64>, held: &mut Held) {
    held.figures += usize::from(!figure.is_empty());
    let rows: BTreeSet<&String> = figure.iter().map(|r| &r["row"]).collect();
    for row in rows {
        let of = |what: &[&str]| -> Vec<f64> {
            let mine = figure.iter().filter(|r| r["row"] == *row && what.contains(&&*r["what"]));
            mine.filter_map(|r| number(r, "value")).collect()
        };
        let (what, wanted) = (format!("{name}, {row}"), recorded(row));
        held.all_same(&what, of(&["mean"]), mean(&wanted).into_iter().collect());
        if wanted.len() < 5 {
            held.all_same(&format!("{what}: interval"), of(&["ci95_low", "ci95_high"]), vec![]);
        }
        held.all_same(&what, of(&["value", "suspect"]), wanted);
    }
}

fn clients(run: &Run, held: &mut Held) {
    let delays = |variant: &str| -> Vec<f64> {
        let of = |c: &&Row| c["variant"] == variant && run.is_ok(&key(c));
        run.clients.iter().filter(of).filter_map(|c| number(c, "resume_delay_s")).collect()
    };
    let name = "resume-delay-of-clients";
    strip(&run.figure(name), name, delays, held);
}

fn round_trips(run: &Run, held: &mut Held) {
    let recorded = |interface: &str| -> Vec<f64> {
        let folders = run.trials.values().map(|t| run.root.join(&t["folder"]));
        let rows = folders.flat_map(|folder| table(&folder.join("calibration.csv")));
        let mine = rows.filter(|r| r["interface"] == interface);
        mine.filter_map(|r| number(&r, "median_rtt_ms")).collect()
    };
    strip(&run.figure("rtt"), "rtt", recorded, held);
}

fn phases(run: &Run, held: &mut Held) {
    let figure = run.figure("phases");
    held.figures += usize::from(!figure.is_empty());
    for row in &figure {
        let metric = match &*row["phase"] {
            "checkpoint" => "checkpoint_s",
            "restore" => "restore_s",
            "until data comes again" => "resume_delay_s",
            _ => "transfer_s",
        };
        let values: Vec<f64> = run.ok(&row["variant"]).filter_map(|t| number(t, metric)).collect();
        let what = format!("phases, {}, {}", row["variant"], row["phase"]);
        let travels = run.ok(&row["variant"]).any(|t| {
            let by = t.get("transfer").is_some_and(|by| !by.is_empty());
            by || ["dual-path", "post-copy"].contains(&&*t["scheme"])
        });
        if metric == "transfer_s" && travels != (row["phase"] == "transfer") {
            held.wrong.push(format!("{what}: nothing was carried, or something was"));
        }
        let drawn = number(row, "mean_s").into_iter().collect();
        held.all_same(&what, drawn, mean(&values).map(|m| m.max(0.0)).into_iter().collect());
    }
}

/// One trial is shown: all steps must be those of the same one, and every other time one of its
/// events' or the end of the picture.
fn lanes(run: &Run, variant: &str, held: &mut Held) {
    let figure = run.figure(&Run::named("lanes", variant));
    if figure.is_empty() {
        return;
    }
    held.figures += 1;
    let drawn: Vec<f64> = (figure.iter().filter(|r| r["what"] == "step"))
        .flat_map(|r| [number(r, "from_s").unwrap(), number(r, "to_s").unwrap()])
        .collect();
    let others = (figure.iter().filter(|r| r["what"] != "step"))
        .flat_map(|r| [number(r, "from_s").unwrap(), number(r, "to_s").unwrap()]);
    let others: Vec<f64> = others.collect();
    // What lasts still at the end of the picture ends with it.
    let end = others.iter().copied().fold(0.0, f64::max);
    let at = |r: &Row, column: &str| r[column].parse::<i64>().ok();
    let tried = run.trials.keys().filter(|k| k.0 == variant).map(|trial| {
        let mine = || run.events.iter().filter(|e| key(e) == *trial);
        let zero = mine().filter(|e| e["event"] == "handshake_started");
        let zero = zero.filter_map(|e| at(e, "started_ns")).min().unwrap_or_default();
        let steps = mine().filter(|e| e["source"] == "harness").flat_map(|e| {
            let from = at(e, "started_ns").unwrap();
            [from, at(e, "done_ns").unwrap_or(from)].map(|ns| (ns - zero) as f64 / 1e9)
        });
        let mut probe = Held::default();
        let what = format!("lanes, {variant}");
        probe.all_same(&what, drawn.clone(), steps.collect());
        let times = mine().flat_map(|e| [at(e, "started_ns"), at(e, "done_ns")]);
        let seconds = |ns: i64| ((ns - zero) as f64 / 1e9).to_bits();
        let known: BTreeSet<u64> = times.flatten().map(seconds).collect();
        for time in &others {
            probe.numbers += 1;
            if !known.contains(&time.to_bits()) && *time != end {
                probe.wrong.push(format!("{what}: nothing happened at {time} s"));
            }
        }
        probe
    });
    let best = tried.min_by_key(|probe| probe.wrong.len()).unwrap_or_default();
    held.numbers += best.numbers;
    held.wrong.extend(best.wrong);
}

/// Every dot is a request, every mean that of its part.
fn responses(run: &Run, variant: &str, held: &mut Held) {
    let answered =
        || run.requests.iter().filter(|r| r["variant"] == variant && r["outcome"] == "ok");
    let parameters = run.model.get(variant);
    let time = |name: &str| parameters.and_then(|p| p.get(name)?.as_f64()).unwrap_or(0.0);
    let recorded: BTreeSet<[u64; 2]> = answered()
        .filter_map(|r| {
            let t = number(r, "t_s")? - time("start_s");
            Some([t, number(r, "response_s")?].map(f64::to_bits))
        })
        .collect();
    let is_model = |name: &str| name.starts_with("response-model-") && name.ends_with(".csv");
    let files = fs::read_dir(&run.figures).unwrap().flatten();
    let models =
        files.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| is_model(n));
    let plain = Run::named("response", variant) + ".csv";
    let names: Vec<String> = if parameters.is_some() { models.collect() } else { vec![plain] };
    for name in names {
        let figure = run.figure(name.trim_end_matches(".csv"));
        let mine = figure.iter().filter(|r| r.get("variant").is_none_or(|v| v == variant));
        let mut dots = 0;
        for row in mine {
            let dot = number(row, "t_s").zip(number(row, "response_s"));
            let Some((t, response)) = dot else { continue };
            match &*row["what"] {
                "model" => {}
                "mean of a part" => {
                    let (start, push, new) = (time("start_s"), time("push_s"), time("r_new_s"));
                    // The part in whose middle it is drawn.
                    let width = (push - new) / 10.0;
                    let before = t < new;
                    let n = if before { 0.0 } else { ((t - new) / width).floor() };
                    let (from, to) = match before {
                        true => (0.0, new),
                        false => (new + n * width, new + (n + 1.0) * width),
                    };
                    let sent = |r: &&Row| {
                        let t = number(r, "t_s").unwrap() - start;
                        t > from && t <= to && run.is_ok(&key(r))
                    };
                    let times: Vec<f64> =
                        answered().filter(sent).filter_map(|r| number(r, "response_s")).collect();
                    let wanted = mean(&times).into_iter().collect();
                    held.all_same(
                        &format!("{name}, {variant}: mean at {t} s"),
                        vec![response],
                        wanted,
                    );
                }
                _ => {
                    dots += 1;
                    held.numbers += 1;
                    if !recorded.contains(&[t, response].map(f64::to_bits)) {
                        held.wrong.push(format!(
                            "{name}: no request of {variant} at {t} s took {response} s"
                        ));
                    }
                }
            }
        }
        held.figures += usize::from(dots > 0);
    }
}
