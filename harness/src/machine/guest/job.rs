//! What the guest is asked to run, as the host writes it and the agent reads it.
//!
//! Input and output: `job.json` in the folder that the host shares under the tag `job`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Mount tag of the folder with `job.json` and the executables; the guest's init script mounts it by this name.
pub(super) const JOB_TAG: &str = "job";

/// Folder inside the guest that holds the copied executables.
pub(super) const BIN_DIR: &str = "/run/limosa/bin";

/// Name under which the init script starts limosa as the agent.
pub(super) const AGENT_NAME: &str = "limosa-agent";

/// Environment variable that turns limosa into the agent; its value is the path of `job.json`.
pub(super) const AGENT_ENV: &str = "LIMOSA_GUEST_AGENT";

/// Name of the virtio-serial port that carries the frames.
pub(super) const PORT_NAME: &str = "limosa.channel";

/// One command to run in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    /// Program as a path inside the guest.
    pub program: PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory; made when it does not exist.
    pub dir: PathBuf,
    /// Folders of the host to mount first, in this order.
    pub mounts: Vec<Mount>,
}

/// One folder of the host that appears at a path of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mount {
    /// 9p mount tag.
    pub tag: String,
    /// Where it appears.
    pub path: PathBuf,
    /// Whether the guest may not write.
    pub read_only: bool,
}
