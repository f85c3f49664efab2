//! Names that would leave the trial's folder, or that something has there already: refused by `plan` and
//! `run` with their place, before anything is touched.

use super::{
    files::{HEAD, TINY},
    text,
};
use std::{fs, path::Path, process::Command};

/// What `plan` and `run` say about an experiment, which have to agree, with exit code 3.
fn refused(folder: &Path, file: &str, more: &str) -> String {
    refused_text(folder, file, &format!("{HEAD}{more}"))
}

fn refused_text(folder: &Path, file: &str, experiment: &str) -> String {
    fs::write(folder.join("tiny.yaml"), TINY).unwrap();
    fs::write(folder.join(file), experiment).unwrap();
    let told = ["plan", "run"].map(|command| {
        let mut limosa = Command::new(env!("CARGO_BIN_EXE_limosa"));
        let output = limosa.arg(command).arg(file).current_dir(folder).output().unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{command} {file}: {told}");
        told
    });
    assert_eq!(told[0], told[1]);
    assert!(!folder.join("results").exists(), "nothing is made for a file that is refused");
    told[0].clone()
}

fn timeline(steps: &str) -> String {
    format!("timeline:\n{steps}")
}

#[test]
fn regression_images_and_copies_stay_in_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let precious = folder.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("thesis.tex"), "x").unwrap();
    let outside =
        [precious.to_str().unwrap(), "../../../victim3", "..", ".", "a/b", "", "\"a\\0b\""];
    for name in outside {
        let told = refused(
            folder.path(),
            "x.yaml",
            &timeline(&format!(
                "  - at: 100ms\n    checkpoint: {{node: server, as: '{name}'}}\n  - after: x\n    restore: {{from: '{name}', on: server-b}}\n"
            )),
        );
        assert!(
            told.contains("x.yaml:11:") && told.contains("cannot be a name"),
            "{name:?}: {told}"
        );
        let told = refused(
            folder.path(),
            "x.yaml",
            &timeline(&format!(
                "  - at: 100ms\n    checkpoint: {{node: server, as: i, leave_running: true}}\n  - after: i\n    restore: {{from: i, on: server-b, as: '{name}'}}\n"
            )),
        );
        assert!(
            told.contains("x.yaml:13:") && told.contains("cannot be a name"),
            "{name:?}: {told}"
        );
    }
    assert_eq!(fs::read_to_string(precious.join("thesis.tex")).unwrap(), "x");
}

#[test]
fn regression_a_name_that_is_taken_is_refused_and_told_by_what() {
    let folder = tempfile::tempdir().unwrap();
    for (name, owner) in [
        ("engine.log", "the link engine's log"),
        ("criu", "CRIU's logs"),
        ("images", "the images of checkpoints"),
        ("migrate-1", "the images of a `migrate`"),
    ] {
        let told = refused(
            folder.path(),
            "x.yaml",
            &timeline(&format!(
                "  - {{at: 100ms, checkpoint: {{node: server, as: img, leave_running: true}}}}\n  - {{after: img, restore: {{from: img, on: server-b, as: {name}}}}}\n"
            )),
        );
        let wanted = format!("the name `{name}` is taken by {owner}");
        assert!(told.contains("x.yaml:11:") && told.contains(&wanted), "{told}");
    }
    let told = refused(
        folder.path(),
        "node-criu.yaml",
        "nodes:\n  client: {on: client, role: client}\n  criu: {on: server, role: server}\n",
    );
    assert!(told.contains("node-criu.yaml:11:"), "{told}");
    assert!(told.contains("the name `criu` is taken by CRIU's logs"), "{told}");
}

#[test]
fn folders_that_would_mix_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |n: u32, image: &str, name: &str| {
        format!(
            "  - {{name: n{n}, at: {n}00ms, checkpoint: {{node: server, as: {image}, leave_running: true}}}}\n  - {{after: n{n}, restore: {{from: {image}, on: server-b, as: {name}}}}}\n"
        )
    };
    // Copies are for schemes with two servers.
    let head = HEAD.replace("quic", "dual-path").replace(", play: 8Mbit/s", "");
    let told =
        |steps: &str| refused_text(folder.path(), "x.yaml", &format!("{head}{}", timeline(steps)));
    let same_copy = told(&(copy(1, "a", "twin") + &copy(2, "b", "twin")));
    let wanted = "two copies are called `twin`";
    assert!(same_copy.contains("x.yaml:13:") && same_copy.contains(wanted), "{same_copy}");
    let same_images = told(&(copy(1, "a", "one") + &copy(2, "a", "two")));
    assert!(same_images.contains("two checkpoints make images called `a`"), "{same_images}");
    let a_node = told(&copy(1, "a", "server"));
    assert!(a_node.contains("there is a node `server` already"), "{a_node}");
}

#[test]
fn regression_an_experiment_has_a_folder_of_its_own() {
    for file in ["...yaml", "..yaml", "latest.yaml", "=HYPERLINK(1).yaml", "-x.yaml"] {
        let folder = tempfile::tempdir().unwrap();
        // So that the name is no option.
        let told = refused(folder.path(), &format!("./{file}"), "");
        assert!(told.contains("hint: give the file another name"), "{file}: {told}");
    }
}
