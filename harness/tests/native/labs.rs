//! `limosa up` and what belongs to it.

use crate::{machine::lab, text};
use limosa_lab::{
    lab::pinned::PinnedLab,
    sys::ping::{Ping, ping},
};
use limosa_testkit::{Outcome, compare};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/nakano-2025.yaml");

fn limosa(arguments: &[&str]) -> Output {
    crate::limosa().args(arguments).output().expect("start limosa")
}

/// Removes the lab even if the test fails.
struct Down(String);

impl Drop for Down {
    fn drop(&mut self) {
        let _ = limosa(&["down", &self.0]);
    }
}

fn keepers(name: &str) -> usize {
    let home = format!("/run/limosa/labs/{name}");
    let all = fs::read_dir("/proc").expect("list processes").flatten();
    let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(&home)).count()
}

fn a_lab_in_user_space_outlives_its_command_and_ends_with_down() -> Outcome {
    let name = &*lab("user");
    let _down = Down(name.to_owned());
    let up = limosa(&["up", TOPOLOGY, "--links", "user", "--name", name]);
    assert!(up.status.success(), "{}", text(&up));
    assert_eq!(keepers(name), 1);
    let again = limosa(&["up", TOPOLOGY, "--links", "user", "--name", name]);
    assert!(text(&again).contains("there is a lab"), "{}", text(&again));
    let pinned = PinnedLab::open(name).expect("open the lab");
    let wish = Ping {
        to: "10.1.0.3".parse().expect("an address"),
        from: None,
        count: 10,
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(2),
    };
    let outcome = compare(|| {
        let rtt = ping(pinned.lab.place("client").expect("the client"), &wish).expect("ping");
        let shortest = rtt.min_ns().expect("an answer") as f64 / 1e6;
        assert!((50.0..51.5).contains(&shortest) && rtt.lost() == 0, "{rtt:?}");
    });
    let shown = limosa(&["inspect", name, "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let shapes = shown["shapes"].as_array().expect("shapes");
    assert_eq!(shapes.len(), 4, "{shown:#}");
    assert_eq!(shapes[0]["delay"]["shape"], "delay 25ms");
    assert!(shapes[0]["rate"]["sent_packets"].as_u64() >= Some(10), "{shown:#}");
    let exec = limosa(&["exec", name, "router", "--", "ls", "/sys/class/net"]);
    assert!(exec.status.success(), "{}", text(&exec));
    let down = limosa(&["down", name]);
    assert!(down.status.success(), "{}", text(&down));
    assert_eq!(keepers(name), 0);
    assert!(!Path::new("/run/limosa/labs").join(name).exists());
    outcome
}

/// Enough files for a small lab, and not for this one.
fn more_links_than_descriptors_is_an_error_before_anything_is_built() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let hosts: String = (0..60).map(|n| format!("  h{n}: {{}}\n")).collect();
    let links = (0..60).map(|n| format!("  - {{ends: [h{n}, s], shape: {{delay: 1ms}}}}\n"));
    let links: String = links.collect();
    let file = folder.path().join("star.yaml");
    let text_of_star = format!("version: 1\nnodes:\n  s: {{kind: switch}}\n{hosts}links:\n{links}");
    fs::write(&file, text_of_star).expect("write the topology");
    let script = "ulimit -n 90; exec \"$0\" up \"$1\" --links user --name \"$2\"";
    let name = lab("limit");
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_limosa")])
        .args([file.as_os_str(), name.as_ref()])
        .output()
        .expect("start a shell");
    let told = text(&output);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("file descriptors, and this process may open 90"), "{told}");
    assert!(told.contains("hint: ulimit -Hn"), "{told}");
    assert!(!Path::new("/run/limosa/labs").join(name).exists());
}

limosa_testkit::tests![
    a_lab_in_user_space_outlives_its_command_and_ends_with_down,
    more_links_than_descriptors_is_an_error_before_anything_is_built,
];
