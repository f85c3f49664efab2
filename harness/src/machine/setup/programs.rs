//! Programs that experiments start as nodes.
//!
//! Input: a program's name. Output: where it is: in `PATH`, among the system's programs, or in the cache. Those that the
//! experiments use are fetched from Debian into the cache, because their packages would start services on the machine.

use limosa_lab::cache::find_program;

use anyhow::{Context, Result, bail};

use super::Consent;
use super::fetched::Fetched;
use crate::machine::debian::Packages;
use crate::machine::steps::step;
use crate::plan::Plan;
use limosa_lab::cache::Cache;

/// What can be fetched.
const KNOWN: &[Fetched] = &[
    Fetched {
        name: "nginx",
        home: "nginx-trixie",
        packages: Packages {
            suite: "trixie",
            names: &["nginx"],
            done_without: "iproute2",
            pins: &[],
        },
        program: "usr/sbin/nginx",
    },
    // Under a name of its own: what a machine has as `curl` most often speaks no HTTP/3.
    Fetched {
        name: "curl-http3",
        home: "curl-trixie",
        packages: Packages { suite: "trixie", names: &["curl"], done_without: "", pins: &[] },
        program: "usr/bin/curl",
    },
];

/// How to get a program that is not there.
pub fn how_to_get(program: &str) -> String {
    match KNOWN.iter().any(|known| known.name == program) {
        true => "limosa setup with this experiment's file (fetches it into the cache)".into(),
        false => format!("install `{program}`, or write another path in the experiment"),
    }
}

/// Gets the programs that an experiment starts, as far as they are known here.
///
/// # Errors
/// When one is missing and not known, or cannot be fetched.
pub fn get(plan: &Plan) -> Result<()> {
    let missing =
        || plan.commands().filter(|(_, command)| find_program(&command.program).is_none());
    for (node, command) in missing() {
        let program = &command.program;
        let Some(known) = KNOWN.iter().find(|known| known.name == program) else {
            let hint = how_to_get(program);
            bail!("node `{node}`: there is no program `{program}`\n  hint: {hint}");
        };
        let cache = Cache::find()?;
        let lock = cache.lock()?;
        super::install(super::FETCH.iter(), Consent::Given, &cache)?;
        let fetched = step(&format!("fetching {program}"), || known.fetch(&cache, &known.packages));
        cache.give_back()?;
        drop(lock);
        fetched.with_context(|| format!("fetch {program} from Debian"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_name_or_path_and_nothing_else_is() {
        assert!(find_program("sh").is_some_and(|path| path.is_absolute()));
        assert!(find_program("/bin/sh").is_some());
        assert_eq!(find_program("/bin"), None);
        assert_eq!(find_program("no-such-program"), None);
        assert!(how_to_get("nginx").starts_with("limosa setup "));
        assert!(how_to_get("no-such-program").starts_with("install `no-such-program`"));
    }
}
