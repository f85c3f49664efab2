//! How far a trial is.

use std::fmt;

/// What a trial is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its network is built.
    Lab,
    /// The idle network is measured.
    Calibration,
    /// Its processes start.
    Nodes,
    /// The client connects.
    Handshake,
    /// The client downloads.
    Download,
    /// Files are copied.
    Push,
    /// The workload goes on, and this step of the timeline was the last one.
    After(&'static str),
    /// Files become rows.
    Collection,
}

impl Phase {
    /// Whether the trial prepares, and needs a calm machine for it: starting programs would
    /// disturb another trial's calibration.
    pub fn is_setup(self) -> bool {
        matches!(self, Self::Lab | Self::Calibration | Self::Nodes | Self::Handshake)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lab => f.write_str("lab"),
            Self::Calibration => f.write_str("calibration"),
            Self::Nodes => f.write_str("nodes"),
            Self::Handshake => f.write_str("handshake"),
            Self::Download => f.write_str("download"),
            Self::Push => f.write_str("push"),
            Self::After(step) => write!(f, "after {step}"),
            Self::Collection => f.write_str("collection"),
        }
    }
}
