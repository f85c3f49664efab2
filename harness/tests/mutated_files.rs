//! Files that are nearly right, and files that are made to do harm: never a panic, never more than some
//! seconds of processor time, and each error says where.

use limosa::{plan, spec};
use limosa_record::random::SplitMix64;
use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Of processor time, which does not depend on what else the machine does; an optimised build takes a
/// tenth of it.
const LIMIT: Duration = Duration::from_secs(5);

/// The processor time that this thread has had.
fn spent() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

struct Random(SplitMix64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0.below(n.max(1) as u64) as usize
    }

    fn pick<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }
}

/// What is put in the place of something, or between two things.
const ODD: &[&str] = &[
    "",
    " ",
    ":",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: *a",
    "!!int ",
    "|",
    "'",
    "\"",
    "#",
    "\t",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "0x7fffffffffffffff",
    "18446744073709551616",
    "NaN",
    ".inf",
    "99999999999GB",
    "0ms",
    "-5ms",
    "1000000h",
    "200%",
    "../../etc/passwd",
    "/dev/zero",
    "a.b",
    "\u{0}",
    "\u{7f}",
    "ü",
    "---",
    "client",
    "server",
    "only: []",
    "at: 1s",
    "after: image",
    "repetitions: 1000000",
];

fn mutated(text: &str, random: &mut Random) -> String {
    let mut text = text.to_owned();
    for _ in 0..=random.below(3) {
        let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut ends = [*random.pick(&cuts), *random.pick(&cuts)];
        ends.sort_unstable();
        let lines: Vec<&str> = text.lines().collect();
        let (a, b) = (random.below(lines.len()), random.below(lines.len()));
        text = match random.below(6) {
            // A line goes, comes twice, or changes its place.
            0 => lines
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != a)
                .map(|(_, l)| format!("{l}\n"))
                .collect(),
            1 => lines
                .iter()
                .enumerate()
                .map(|(i, l)| format!("{l}\n").repeat(1 + usize::from(i == a)))
                .collect(),
            2 if !lines.is_empty() => {
                let mut lines = lines;
                lines.swap(a, b);
                lines.join("\n")
            }
            // A word becomes another.
            3 => {
                let words: Vec<&str> =
                    text.split_inclusive([' ', '\n', ',', '{', '}', '[', ']']).collect();
                let at = random.below(words.len());
                let odd = *random.pick(ODD);
                let word = |(i, w): (usize, &&str)| {
                    if i == at {
                        format!("{odd}{}", &w[w.len().saturating_sub(1).min(w.len())..])
                    } else {
                        (*w).to_owned()
                    }
                };
                if words.iter().all(|w| w.is_ascii()) {
                    words.iter().enumerate().map(word).collect()
                } else {
                    text
                }
            }
            // Something goes in between.
            4 => format!("{}{}{}", &text[..ends[0]], random.pick(ODD), &text[ends[0]..]),
            // A piece goes.
            _ => {
                let end = cuts
                    .iter()
                    .copied()
                    .find(|c| *c >= ends[0] + random.below(20))
                    .unwrap_or(text.len());
                format!("{}{}", &text[..ends[0]], &text[end..])
            }
        };
    }
    text
}

fn shipped(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let all = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<_> = all
        .filter(|p| {
            p.extension().is_some_and(|e| e == "yaml")
                && !p.to_string_lossy().ends_with(".reference.yaml")
        })
        .collect();
    all.sort();
    all
}

/// A message names the file, and a place in it or a name in backticks.
fn is_placed(error: &str) -> bool {
    error.split("\nerror: ").all(|problem| {
        let first = problem.lines().next().unwrap_or_default();
        let Some((_, rest)) = first.split_once(".yaml:") else { return false };
        let place = rest.split(':').next().is_some_and(|n| n.parse::<u32>().is_ok());
        place || rest.contains('`') || ["is empty", "not UTF-8"].iter().any(|w| rest.contains(w))
    })
}

fn mutate(count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("topologies")).unwrap();
    fs::create_dir_all(at("experiments")).unwrap();
    let (experiments, topologies) = (shipped("experiments"), shipped("topologies"));
    let mut random = Random(SplitMix64(1));
    let (mut wrong, mut refused, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    for n in 0..count {
        for file in &topologies {
            fs::copy(file, at("topologies").join(file.file_name().unwrap())).unwrap();
        }
        let experiment = random.pick(&experiments);
        let target = at("experiments").join(experiment.file_name().unwrap());
        fs::copy(experiment, &target).unwrap();
        // One time in three it is the topology that is wrong.
        let (from, to) = if random.below(3) > 0 {
            (experiment.clone(), target.clone())
        } else {
            let topology = random.pick(&topologies);
            (topology.clone(), at("topologies").join(topology.file_name().unwrap()))
        };
        let text = mutated(&fs::read_to_string(from).unwrap(), &mut random);
        fs::write(&to, &text).unwrap();
        let started = spent();
        let result = spec::load_experiment(&target).and_then(|(e, t)| plan::resolve(&e, &t));
        let took = spent() - started;
        slowest = slowest.max(took);
        if took > LIMIT {
            wrong.push(format!("number {n} took {took:?}:\n{text}"));
        }
        if let Err(error) = result {
            refused += 1;
            let error = error.to_string();
            if !is_placed(&error) {
                wrong.push(format!("number {n} is not placed: {error}"));
            }
        }
    }
    println!("{count} files, {refused} refused, the slowest took {slowest:?}");
    assert!(
        wrong.is_empty(),
        "{} wrong, the first ones:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
}

#[test]
fn a_file_that_is_nearly_right_is_refused_with_its_place() {
    mutate(1_000);
}

#[test]
#[ignore = "takes a while; the night runs it"]
fn ten_thousand_files_that_are_nearly_right() {
    mutate(10_000);
}

#[test]
fn bombs_are_refused_in_time_and_with_their_place() {
    let mut aliases = String::from("version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let names = vec![format!("*a{}", n - 1); 9].join(", ");
        aliases.push_str(&format!("a{n}: &a{n} [{names}]\n"));
    }
    let bombs = [
        ("aliases", aliases),
        ("depth of lists", format!("version: 1\ntopology: {}", "[".repeat(100_000))),
        ("depth of mappings", format!("version: 1\nworkload: {}", "{a: ".repeat(100_000))),
        ("depth of lines", (0..3000).map(|n| format!("{}a:\n", " ".repeat(n))).collect()),
        ("an alias of itself", "version: 1\nnodes: &a [*a]\n".into()),
        ("a long word", format!("version: 1\ntopology: {}\n", "x".repeat(3 << 20))),
        ("many keys", (0..200_000).map(|n| format!("k{n}: 1\n")).collect()),
        ("too large", "#".repeat(9 << 20)),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bomb.yaml");
    for (what, text) in bombs {
        fs::write(&file, text).unwrap();
        for experiment in [true, false] {
            let started = spent();
            let result = match experiment {
                true => spec::load_experiment(&file).map(drop),
                false => spec::load_topology(&file).map(drop),
            };
            let took = spent() - started;
            let error = result.expect_err(what).to_string();
            assert!(took < LIMIT, "{what} took {took:?}");
            let told: String = error.chars().take(300).collect();
            assert!(is_placed(&error) || error.contains("is larger than 8 MiB"), "{what}: {told}");
        }
    }
}
