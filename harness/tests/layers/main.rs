//! Imports point one way only, and rooms stand in no circle. The tables are the architecture: `record`
//! is below everything, labs know nothing of specs, plans or trials, and neither nodes nor analysis
//! know the harness.
//!
//! A room is a module at the top of a crate, with all that is in it. `use` trees are expanded, so that
//! `use crate::{lab::Lab, plan::{self, Plan}}` are three imports; paths in code count, too.

mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A crate's folder and the crates that it may not use.
const CRATES: &[(&str, &[&str])] = &[
    ("harness/record/src", &["limosa_nodes", "limosa_analysis", "limosa_lab", "limosa"]),
    ("nodes/src", &["limosa_analysis", "limosa_lab", "limosa"]),
    ("analysis/src", &["limosa_nodes", "limosa_lab", "limosa"]),
    ("harness/lab/src", &["limosa_nodes", "limosa_analysis", "limosa"]),
    ("harness/src", &[]),
];

/// The rooms of a crate in their order: each may use those before it, and none behind it.
const ORDERS: &[(&str, &[&str])] = &[
    ("harness/src", &["spec", "plan", "run", "trial", "machine", "cli"]),
    (
        "harness/lab/src",
        &[
            "errors",
            "owner",
            "private",
            "shape",
            "network",
            "neighbours",
            "recordings",
            "sys",
            "cache",
            "journal",
            "engine",
            "capture",
            "lab",
        ],
    ),
];

/// Rooms that still stand in a circle, by crate. This list may only become shorter.
const CIRCLES: &[(&str, &[&str])] = &[
    ("nodes/src", &["client", "scheme"]),
    ("nodes/src", &["mptcp", "server"]),
    ("analysis/src", &["input", "model", "reference", "series", "summary"]),
];

/// The rooms of a crate, and for each the rooms and crates that it uses with one place that does.
type Uses = BTreeMap<String, BTreeMap<String, String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("list a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            files(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The module that a file is, from its path below the crate's `src`.
fn module(path: &Path) -> Vec<String> {
    let parts = path.with_extension("");
    let mut parts: Vec<String> =
        parts.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| ["mod", "lib", "main"].contains(&&**last)) {
        parts.pop();
    }
    parts
}

fn uses(folder: &str) -> (Uses, usize) {
    let folder = root().join(folder);
    let mut all = Vec::new();
    files(&folder, &mut all);
    let (mut uses, mut imports) = (Uses::new(), 0);
    let modules: Vec<_> = all
        .iter()
        .map(|file| module(file.strip_prefix(&folder).expect("a file of the crate")))
        .collect();
    let rooms: BTreeSet<&String> = modules.iter().filter_map(|m| m.first()).collect();
    for (file, module) in all.iter().zip(&modules) {
        let Some(room) = module.first() else { continue };
        let of = uses.entry(room.clone()).or_default();
        for path in source::paths(&fs::read_to_string(file).expect("read a file"), module) {
            let place = || format!("{}: {}", file.display(), path.join("::"));
            let used = match &path[..] {
                [first, used, ..] if first == "crate" => {
                    Some(used).filter(|used| *used != room && rooms.contains(used))
                }
                [first, ..] if first != "crate" => Some(first),
                _ => None,
            };
            if let Some(used) = used {
                imports += 1;
                of.entry(used.clone()).or_insert_with(place);
            }
        }
    }
    (uses, imports)
}

#[test]
fn imports_point_one_way() {
    for (folder, forbidden) in CRATES {
        for (room, used) in uses(folder).0 {
            for name in *forbidden {
                assert_eq!(used.get(*name), None, "{folder}: {room} may not use {name}");
            }
        }
    }
    for (folder, order) in ORDERS {
        let (uses, imports) = uses(folder);
        assert!(imports > 20, "{folder}: {imports} imports are not all that there are");
        for room in uses.keys() {
            assert!(order.contains(&&**room), "{folder}: where does {room} belong?");
        }
        for (i, room) in order.iter().enumerate() {
            let used = uses.get(*room).unwrap_or_else(|| panic!("{folder}: {room} is gone"));
            for later in &order[i + 1..] {
                assert_eq!(used.get(*later), None, "{folder}: {room} may not use {later}");
            }
        }
    }
}

#[test]
fn rooms_stand_in_no_circle() {
    let mut wrong = Vec::new();
    for (folder, _) in CRATES {
        let circles = circles(&uses(folder).0);
        let known = || CIRCLES.iter().filter(|(of, _)| of == folder).map(|(_, rooms)| rooms);
        for circle in &circles {
            let circle: Vec<&str> = circle.iter().map(|room| &**room).collect();
            if !known().any(|rooms| *rooms == circle) {
                wrong.push(format!("{folder}: a circle of {circle:?}"));
            }
        }
        for rooms in known() {
            if !circles.iter().any(|circle| circle.iter().eq(rooms.iter())) {
                wrong.push(format!("{folder}: {rooms:?} is no circle any more: mend the list"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sets of rooms that reach each other.
fn circles(uses: &Uses) -> BTreeSet<Vec<String>> {
    let reached = |from: &String| {
        let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(room) = next.pop() {
            for used in uses.get(room).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(used) {
                    next.push(used);
                }
            }
        }
        reached
    };
    let all: BTreeMap<_, _> = uses.keys().map(|room| (room, reached(room))).collect();
    let in_circle = all.iter().filter(|(room, reached)| reached.contains(*room));
    in_circle
        .map(|(room, reached)| {
            let back = reached.iter().filter(|r| all.get(*r).is_some_and(|a| a.contains(*room)));
            back.map(|room| (*room).clone()).collect()
        })
        .collect()
}

#[test]
fn grouped_imports_paths_in_code_and_relative_ones_are_seen() {
    let text = r##"
        // use crate::comment;
        use crate::{
            lab::{self, Lab, places::{Place as P, *}},
            plan::Plan,
        };
        use super::sibling;
        pub(crate) use limosa_record::{row, unit::Time};
        const TEXT: &str = "crate::text"; const RAW: &str = r#"crate::"raw""#;
        fn f<'a>(x: &'a crate::spec::Spec, c: char) -> bool { c == '"' || crate::run::go(x) }
        mod inner { use super::near; }
        mod tests { use crate::only_in_tests; fn x() { {} } }
        use crate::last;
    "##;
    let module = ["node".to_owned(), "command".to_owned()];
    let found: Vec<String> =
        source::paths(text, &module).into_iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::lab::Lab",
        "crate::lab::places::*",
        "crate::lab::places::Place",
        "crate::lab::self",
        "crate::last",
        "crate::node::command::near",
        "crate::node::sibling",
        "crate::plan::Plan",
        "crate::run::go",
        "crate::spec::Spec",
        "limosa_record::row",
        "limosa_record::unit::Time",
    ];
    assert_eq!(found, expected);
}
