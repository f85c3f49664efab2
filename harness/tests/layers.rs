//! Imports point one way only. This table is the architecture: `record` is below everything, `sys`
//! knows nothing of specs, plans or labs, and neither nodes nor analysis know the harness.

use std::{fs, path::Path};

/// (files below this path, words that may not occur in their code)
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("harness/record/src", &["limosa_nodes", "limosa_analysis", "limosa::"]),
    ("nodes/src", &["limosa_analysis", "limosa::"]),
    ("analysis/src", &["limosa_nodes", "limosa::"]),
    (
        "harness/src/sys",
        &[
            "crate::spec",
            "crate::plan",
            "crate::lab",
            "crate::node",
            "crate::trial",
            "crate::run",
            "crate::engine",
        ],
    ),
    ("harness/src/engine.rs", &["crate::spec", "crate::lab", "crate::node", "crate::trial"]),
    ("harness/src/engine", &["crate::spec", "crate::lab", "crate::node", "crate::trial"]),
    ("harness/src/spec.rs", &["crate::plan", "crate::sys", "crate::lab"]),
    ("harness/src/spec", &["crate::plan", "crate::sys", "crate::lab"]),
    ("harness/src/plan.rs", &["crate::sys", "crate::lab", "crate::run"]),
    ("harness/src/plan", &["crate::sys", "crate::lab", "crate::run"]),
    ("harness/src/timeline.rs", &["crate::sys", "crate::lab", "crate::node"]),
    ("harness/src/run.rs", &["crate::sys", "crate::lab", "crate::node", "crate::trial"]),
    ("harness/src/verdict.rs", &["crate::plan", "crate::node", "crate::trial", "crate::run"]),
    (
        "harness/src/verdict",
        &["crate::plan", "crate::lab", "crate::node", "crate::trial", "crate::run"],
    ),
    (
        "harness/src/debian",
        &["crate::guest", "crate::lab", "crate::plan", "crate::spec", "crate::sys", "crate::setup"],
    ),
    (
        "harness/src/transfer",
        &["crate::spec", "crate::plan", "crate::lab", "crate::node", "crate::trial", "crate::run"],
    ),
    ("harness/src/lab", &["crate::node", "crate::trial", "crate::run", "crate::doctor"]),
    ("harness/src/guest", &["crate::lab", "crate::plan", "crate::spec", "crate::trial"]),
];

#[test]
fn imports_point_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (path, words) in FORBIDDEN {
        let path = root.join(path);
        assert!(path.exists(), "{} is gone: mend this table", path.display());
        visit(&path, &|file, text| {
            for word in *words {
                let found =
                    text.lines().find(|l| l.contains(word) && !l.trim_start().starts_with("//"));
                assert!(found.is_none(), "{} may not use {word}: {found:?}", file.display());
            }
        });
    }
}

fn visit(path: &Path, check: &dyn Fn(&Path, &str)) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            visit(&entry.unwrap().path(), check);
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        check(path, &fs::read_to_string(path).unwrap());
    }
}
