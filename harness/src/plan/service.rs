//! Workloads in the terms of the nodes: what the servers hold, what the client asks for.

use super::{PushRoute, push};
use crate::spec::{Document, Experiment, PathStep, Problem, Requests, Variant};
use limosa_lab::network::Network;
use limosa_record::{
    node::{Arrivals, Catalogue, Choice, ListedObject, Ranges, RequestWorkload, Scheme},
    unit::{Size, Time},
};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Largest body.
const MAX_BODY: Size = Size(1 << 40);

/// Most bytes of objects: they live in the servers' memory.
const MAX_OBJECT_BYTES: u128 = 16 << 30;

/// Most objects.
const MAX_OBJECTS: u64 = 1_000_000;

/// Range of a download when the file says none.
const RANGE: Size = Size(1_000_000);

/// What the client does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadPlan {
    /// Gets one body.
    Download(DownloadPlan),
    /// Reads and writes objects; the seeds are the trial's.
    Requests(RequestWorkload),
    /// No client: files are copied, as each variant says.
    Push(PushRoute),
}

/// What the client downloads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DownloadPlan {
    /// The path that is asked for.
    pub path: String,
    /// Size of the body.
    pub size: Size,
    /// Size of the ranges in which some schemes get it.
    pub range: Size,
    /// Bytes of it that are played per second; `None` when it is not played.
    #[serde(default)]
    pub play_bytes_per_s: Option<u64>,
}

impl WorkloadPlan {
    /// The file that the server serves, if there is one.
    pub fn download(&self) -> Option<&DownloadPlan> {
        match self {
            Self::Download(download) => Some(download),
            Self::Requests(_) | Self::Push(_) => None,
        }
    }

    /// What a server with an object store holds.
    pub fn catalogue(&self) -> Catalogue {
        match self {
            Self::Download(DownloadPlan { path, range, .. }) => Catalogue {
                ranges: Some(Ranges {
                    file: path.trim_start_matches('/').into(),
                    size_bytes: range.0,
                }),
                ..Catalogue::default()
            },
            Self::Requests(requests) => requests.catalogue.clone(),
            Self::Push(_) => Catalogue::default(),
        }
    }

    /// Bytes that a server holds.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Download(download) => download.size.0,
            Self::Requests(requests) => {
                let catalogue = &requests.catalogue;
                let listed: u64 = catalogue.listed.iter().map(|o| o.size_bytes).sum();
                catalogue.count * catalogue.size_bytes + listed
            }
            Self::Push(_) => 0,
        }
    }
}

/// The workload with everything decided, or nothing and the reasons in `problems`.
pub(super) fn resolve(
    experiment: &Document<Experiment>,
    network: Option<&Network>,
    problems: &mut Vec<Problem>,
) -> Option<WorkloadPlan> {
    let before = problems.len();
    let workload = &experiment.value.workload;
    let mut complain = |way: &[PathStep], message: String, hint: &str| {
        let way = [&["workload".into()], way].concat();
        problems.push(experiment.problem(&way, message, Some(hint.into())));
    };
    let plan = match (&workload.download, &workload.requests, &workload.push) {
        (Some(download), None, None) => {
            let range = download.range.unwrap_or(RANGE);
            let plan = DownloadPlan {
                path: download.path.clone(),
                size: download.size,
                range,
                play_bytes_per_s: download.play.map(|rate| rate.0 / 8),
            };
            check_download(&plan, &mut complain);
            let shares = |(name, variant): (&String, &Variant)| {
                variant.scheme.is_some_and(Scheme::hands_over).then(|| name.clone())
            };
            if let (Some(_), Some(variant)) =
                (download.play, experiment.value.variants.iter().find_map(shares))
            {
                let message = format!("the variant `{variant}` gets it in ranges, not played");
                let hint = "leave `play` out, or keep to `quic` and `multipath`";
                complain(&["download".into(), "play".into()], message, hint);
            }
            WorkloadPlan::Download(plan)
        }
        (None, Some(requests), None) => {
            WorkloadPlan::Requests(check_requests(requests, &mut complain))
        }
        (None, None, Some(spec)) => {
            WorkloadPlan::Push(push::route(experiment, spec, network?, problems)?)
        }
        (None, None, None) => {
            let hint = "add `download:`, `requests:` or `push:`";
            complain(&[], "there is no workload".into(), hint);
            return None;
        }
        _ => {
            let hint = "keep one of `download`, `requests` and `push`";
            complain(&[], "there are several workloads".into(), hint);
            return None;
        }
    };
    (problems.len() == before).then_some(plan)
}

type Complain<'a> = dyn FnMut(&[PathStep], String, &str) + 'a;

fn check_download(download: &DownloadPlan, complain: &mut Complain<'_>) {
    let way = |field: &str| ["download".into(), field.into()];
    let name = download.path.strip_prefix('/').unwrap_or_default();
    if !is_plain(name) {
        let message = format!("`{}` is not a path of one plain name", download.path);
        complain(&way("path"), message, "write it like `/random`");
    }
    if download.size == Size(0) || download.size > MAX_BODY {
        let message = format!("a body of {} is outside 1B to {MAX_BODY}", download.size);
        complain(&way("size"), message, "the paper's body has 100MB");
    }
    if download.range < Size(1_000) || download.range > Size(64 << 20) {
        let message = format!("a range of {} is outside 1KB to 64MiB", download.range);
        complain(&way("range"), message, "1MB is usual");
    }
    if download.play_bytes_per_s.is_some_and(|rate| rate < 1_000) {
        complain(&way("play"), "a rate below 8kbit/s".into(), "4Mbit/s is a usual video");
    }
}

fn check_requests(spec: &Requests, complain: &mut Complain<'_>) -> RequestWorkload {
    let way = |fields: &[&str]| -> Vec<PathStep> {
        ["requests"].iter().chain(fields).map(|f| (*f).into()).collect()
    };
    let objects = &spec.objects;
    let catalogue = Catalogue {
        seed: 0,
        count: objects.count,
        size_bytes: objects.size.map_or(0, |s| s.0),
        order: objects.order,
        listed: objects
            .named
            .iter()
            .map(|o| ListedObject { id: o.id.clone(), size_bytes: o.size.0, priority: o.priority })
            .collect(),
        ranges: None,
    };
    if objects.count > 0 && catalogue.size_bytes == 0 {
        complain(&way(&["objects"]), "the objects have no size".into(), "add `size: 10KB`");
    }
    let number = objects.count + objects.named.len() as u64;
    if number == 0 || number > MAX_OBJECTS {
        let message = format!("{number} objects are outside 1 to {MAX_OBJECTS}");
        complain(&way(&["objects"]), message, "add `count: 1000` and `size: 10KB`");
    }
    let listed = catalogue.listed.iter().map(|o| u128::from(o.size_bytes)).sum::<u128>();
    let bytes = u128::from(catalogue.count) * u128::from(catalogue.size_bytes) + listed;
    if bytes > MAX_OBJECT_BYTES {
        let message = format!("the objects have {bytes} bytes, more than {MAX_OBJECT_BYTES}");
        complain(&way(&["objects"]), message, "they are kept in memory, twice");
    }
    let mut known: HashSet<&str> = HashSet::new();
    for (i, object) in objects.named.iter().enumerate() {
        let way: Vec<PathStep> = [way(&["objects", "named"]), vec![i.into(), "id".into()]].concat();
        let counted = object.id.parse::<u64>().is_ok_and(|n| n < objects.count);
        if !is_plain(&object.id) {
            complain(&way, format!("`{}` is not a plain name", object.id), "like `index.html`");
        } else if counted || !known.insert(&object.id) {
            complain(&way, format!("there are two objects `{}`", object.id), "rename one");
        }
    }
    let choice = match (&spec.choose.zipf, &spec.choose.script) {
        (None, None) => Choice::Uniform,
        (Some(exponent), None) => {
            if !(0.0..=10.0).contains(exponent) {
                let message = format!("an exponent of {exponent} is outside 0 to 10");
                complain(&way(&["choose", "zipf"]), message, "1.0 is usual");
            }
            Choice::Zipf { exponent: *exponent }
        }
        (None, Some(script)) => {
            for (i, id) in script.iter().enumerate() {
                let counted = id.parse::<u64>().is_ok_and(|n| n < objects.count);
                if !counted && !known.contains(&**id) {
                    let way = [way(&["choose", "script"]), vec![i.into()]].concat();
                    complain(&way, format!("there is no object `{id}`"), "add it to `objects`");
                }
            }
            if script.is_empty() {
                let message = "the script is empty".into();
                complain(&way(&["choose", "script"]), message, "name objects");
            }
            Choice::Script(script.clone())
        }
        (Some(_), Some(_)) => {
            let message = "`zipf` and `script` both choose".into();
            complain(&way(&["choose"]), message, "keep one of them");
            Choice::Uniform
        }
    };
    if spec.count.is_none() && spec.duration.is_none() {
        complain(&way(&[]), "the requests never end".into(), "add `count:` or `duration:`");
    }
    RequestWorkload {
        catalogue,
        choice,
        arrivals: arrivals(spec, &way(&["arrivals"]), complain),
        writes: spec.writes.map_or(0.0, |w| w.0),
        count: spec.count,
        duration: spec.duration,
        seed: 0,
    }
}

fn arrivals(spec: &Requests, way: &[PathStep], complain: &mut Complain<'_>) -> Arrivals {
    let given = &spec.arrivals;
    let mut per_s = |pause: Time| {
        if pause < Time::from_micros(100) || pause > Time::from_secs(60) {
            let message = format!("a pause of {pause} is outside 100us to 60s");
            complain(way, message, "`poisson: 20ms` is 50 requests per second");
        }
        1.0 / pause.as_secs_f64()
    };
    match (given.every, given.poisson, &given.closed_loop) {
        (Some(pause), None, None) => Arrivals::Fixed { per_s: per_s(pause) },
        (None, Some(pause), None) => Arrivals::Poisson { per_s: per_s(pause) },
        (None, None, Some(l)) => {
            if l.outstanding == 0 || l.outstanding > 10_000 {
                let message =
                    format!("{} outstanding requests are outside 1 to 10000", l.outstanding);
                complain(way, message, "a closed loop of 1 is a polite client");
            }
            Arrivals::ClosedLoop { outstanding: l.outstanding, think: l.think }
        }
        _ => {
            let message = "takes exactly one of `every`, `poisson` and `closed_loop`".into();
            complain(way, message, "like `poisson: 20ms`");
            Arrivals::Fixed { per_s: 1.0 }
        }
    }
}

/// A name that is a file's or an object's and leads nowhere else.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain) && name.len() <= 64
}
