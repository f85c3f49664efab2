//! Everything that needs a kernel with netem and CRIU: a guest is set up and booted, and most tests
//! of this binary run inside it. A machine on which the guest cannot be set up fails here and says why.

mod boot;
mod criu;
mod links;
#[path = "../native/machine.rs"]
#[expect(dead_code, reason = "the native tests use the rest of it")]
mod machine;
mod network;
#[path = "../native/roaming.rs"]
mod roaming;
mod techniques;
mod trials;

use limosa_testkit::{Guest, Suite, Test};
use roaming::MOVES;
use std::{process::ExitCode, time::Duration};

/// What carries shaped links in the guest, which has netem.
const LINKS: &str = "kernel";

fn main() -> ExitCode {
    if let Some(code) = criu::play_a_role().or_else(boot::play_a_role) {
        return code;
    }
    // What the kernel of this machine may not have, and also what is native elsewhere.
    let both = [criu::tests(), roaming::tests()].concat().into_iter().map(Test::inside);
    let inside = [network::tests(), techniques::tests(), links::tests(), both.collect()];
    let guest = Guest {
        limosa: env!("CARGO_BIN_EXE_limosa").into(),
        variables: vec![MOVES],
        time_limit: Duration::from_secs(2400 + roaming::longest_s()),
    };
    let tests = [inside.concat(), boot::tests(), trials::tests()];
    Suite::new("guest").guest(guest).run(tests.concat())
}
