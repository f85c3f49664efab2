//! The shipped attacks: what the schemes hold against, and what is known that they do not.

use crate::text;
use limosa_record::row::{self, SecurityRow};
use std::{fs, path::Path};

const EXPERIMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments");

fn a_connection_survives_forged_announcements_replayed_packets_and_resets() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let shipped = Path::new(EXPERIMENTS).join("security.yaml");
    let topology = format!("topology: {EXPERIMENTS}/../topologies/casu-2022.yaml");
    let text_of = fs::read_to_string(shipped).expect("security.yaml");
    let experiment = text_of.replace("topology: casu-2022", &topology);
    let some = ["--only", "forged-reactive", "--only", "proactive", "--only", "symmetric"];
    let more = [&some[..], &["--jobs", "3"]].concat();
    let (output, run) = crate::run_with(folder.path(), "security", &experiment, &more);
    let rows: Vec<SecurityRow> = row::read(&run.security_table()).expect("security.csv");
    let of = |variant: &str, check: &str| -> Vec<&SecurityRow> {
        let found = rows.iter().filter(|r| r.variant == variant && r.check == check).collect();
        assert_ne!(found, Vec::<&SecurityRow>::new(), "{variant}: {check}: {}", text(&output));
        found
    };
    for variant in ["forged-reactive", "proactive", "symmetric"] {
        for check in ["connection_survives", "data_before_validation", "connection_id_on_two_paths"]
        {
            assert!(of(variant, check).iter().all(|row| row.passed), "{rows:#?}");
        }
        let [before, after] = of(variant, "secrets_on_disk")[..] else { panic!("{rows:#?}") };
        assert!(before.secrets > Some(0), "an image without keys? {before:?}");
        assert_eq!((after.secrets, after.passed), (Some(0), true), "{after:?}");
    }
    let forged = of("forged-reactive", "data_before_validation");
    let victim = forged.iter().find(|row| row.detail.contains("10.4.0.1:4433"));
    assert!(victim.expect("it was probed").packets > Some(0));
    // noq challenges whoever sent a packet of the connection with two full packets, whatever its size.
    let of_server = |variant: &str| {
        let rows = of(variant, "amplification");
        rows.into_iter().find(|row| row.detail.starts_with("server ")).expect("a stranger's packet")
    };
    let amplified = of_server("proactive");
    assert_eq!((amplified.packets, amplified.passed), (Some(2), false), "{amplified:?}");
    // A client of `symmetric` challenges whoever has seen a packet, and a challenge is a full packet.
    let amplified = of("symmetric", "amplification");
    assert!(
        amplified.iter().any(|row| !row.passed && row.detail.starts_with("client to 10.4.0.1"))
    );
}

limosa_testkit::tests![
    a_connection_survives_forged_announcements_replayed_packets_and_resets[compared],
];
