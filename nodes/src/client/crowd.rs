//! Many clients in one process: each has a connection, a folder, a number and seeds of its own.
//!
//! What they share is the process, the counters of what arrived per interface, and the moment in
//! which they start.

use crate::random::Random;
use anyhow::{Context, Result, bail};
use limosa_record::node::{ClientConfig, Workload, folder_of_client};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;

/// The configurations of the clients of a process, whose folders are there. Alone a client is what
/// was read.
pub(super) fn each(config: &ClientConfig) -> Result<Vec<ClientConfig>> {
    if config.clients < 2 {
        return Ok(vec![config.clone()]);
    }
    // Each has some files and a socket open; a thousand descriptors are usual.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, limit).context("raise the limit of open files")?;
    (1..=config.clients).map(|number| one(config, number)).collect()
}

fn one(config: &ClientConfig, number: u16) -> Result<ClientConfig> {
    let folder = folder_of_client(&config.folder, number);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let seed = |of: u64| Random::new(of, &format!("client {number}")).next();
    let mut own = ClientConfig { number, folder, clients: 1, ..config.clone() };
    own.save_as = config.save_as.with_extension(number.to_string());
    own.transport.seed = seed(config.transport.seed);
    // The catalogue is the server's, and so is its seed.
    if let Workload::Requests(requests) = &mut own.workload {
        requests.seed = seed(requests.seed);
    }
    Ok(own)
}

/// Good when all are good; else why the first one is not, and how many are not.
pub(super) fn together(outcomes: Vec<Result<()>>) -> Result<()> {
    let all = outcomes.len();
    let mut failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    match (all, failed.len()) {
        (_, 0) => Ok(()),
        (1, _) => Err(failed.remove(0)),
        (_, n) => bail!("{n} of {all} clients failed, one of them: {:#}", failed.remove(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failures_of_many_are_counted() {
        let no = || Err(anyhow::anyhow!("no"));
        assert!(together(vec![Ok(()), Ok(())]).is_ok());
        assert_eq!(together(vec![no()]).unwrap_err().to_string(), "no");
        let error = together(vec![no(), Ok(()), no()]).unwrap_err().to_string();
        assert_eq!(error, "2 of 3 clients failed, one of them: no");
    }
}
