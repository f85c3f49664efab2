//! What the fuzzer starts from, and all that it ever found, without the fuzzer.

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "in the fuzzer it is a crate")]
mod targets;

use std::{fs, path::Path};

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seeds: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for seed in seeds {
        println!("{}", seed.display());
        run(&fs::read(&seed).unwrap());
    }
}

#[test]
fn whatever_the_fuzzer_found_stays_mended() {
    replay("spec", targets::spec);
    replay("plan", targets::plan);
    replay("trace", targets::trace);
    replay("rows", targets::rows);
    replay("report", targets::report);
    replay("netlink", targets::netlink);
}
