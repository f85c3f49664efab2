//! The files that come with Limosa are right, and their schemas are up to date.

use limosa::{plan, spec};
use std::{fs, path::PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.retain(|f| !f.to_string_lossy().ends_with(".reference.yaml"));
    files.sort();
    assert!(!files.is_empty(), "{folder} has no files");
    files
}

#[test]
fn all_experiments_have_a_plan() {
    for file in yaml_files("experiments") {
        let (experiment, topology) = spec::load_experiment(&file).unwrap_or_else(|e| panic!("{e}"));
        plan::resolve(&experiment, &topology).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn all_topologies_are_used_right() {
    for file in yaml_files("topologies") {
        let topology = spec::load_topology(&file).unwrap_or_else(|e| panic!("{e}"));
        plan::resolve_topology(&topology, spec::Links::Auto).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn the_nakano_plan_is_the_papers() {
    let file = root().join("experiments/nakano-2025.yaml");
    let (experiment, topology) = spec::load_experiment(&file).unwrap();
    let plan = plan::resolve(&experiment, &topology).unwrap();
    assert_eq!(plan.trials.len(), 160);
    assert_eq!(plan.variants["quic-migrate"].fallback[0].to_string(), "10.1.0.3:4433");
    insta::assert_json_snapshot!(plan.network);
    insta::assert_json_snapshot!(plan.variants["multipath-migrate"]);
}

#[test]
fn the_table_of_actions_is_up_to_date() {
    let path = root().join("experiments/README.md");
    let kept = fs::read_to_string(&path).unwrap();
    let marks = [
        "<!-- actions by scheme: made by `just update`, do not edit -->\n",
        "<!-- end of actions by scheme -->",
    ];
    let (before, rest) = kept.split_once(marks[0]).expect("the first mark");
    let (_, after) = rest.split_once(marks[1]).expect("the second mark");
    let fresh = [before, marks[0], &plan::actions_by_scheme(), marks[1], after].concat();
    if std::env::var_os("LIMOSA_UPDATE_SCHEMAS").is_some() {
        fs::write(&path, &fresh).unwrap();
    } else {
        assert!(
            kept == fresh,
            "the table in experiments/README.md is out of date\n  hint: LIMOSA_UPDATE_SCHEMAS=1 cargo test -p limosa --test shipped_files"
        );
    }
}

#[test]
fn the_schemas_are_up_to_date() {
    for (folder, schema) in [
        ("topologies", schemars::schema_for!(spec::Topology)),
        ("experiments", schemars::schema_for!(spec::Experiment)),
    ] {
        let fresh = format!("{:#}\n", schema.to_value());
        let path = root().join(folder).join("schema.json");
        let kept = fs::read_to_string(&path).unwrap_or_default();
        if std::env::var_os("LIMOSA_UPDATE_SCHEMAS").is_some() {
            fs::write(&path, &fresh).unwrap();
        } else {
            assert!(
                kept == fresh,
                "{folder}/schema.json is out of date\n  hint: LIMOSA_UPDATE_SCHEMAS=1 cargo test -p limosa --test shipped_files"
            );
        }
    }
}
