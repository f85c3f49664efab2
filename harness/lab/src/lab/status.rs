//! What a shaped link says of itself, whatever carries it.

use crate::{
    engine::DirectionCounters,
    sys::qdisc::{self, Loss, Qdisc},
};
use limosa_record::unit::{Rate, Ratio, Size, Time};
use serde::{Deserialize, Serialize};

/// One direction of a shaped link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DirectionStatus {
    /// Name of the link.
    pub link: String,
    /// `a_to_b` or `b_to_a`.
    pub direction: String,
    /// The rate stage.
    pub rate: Option<StageStatus>,
    /// The delay stage.
    pub delay: Option<StageStatus>,
    /// Everything that the engine counts, in links in user space.
    pub engine: Option<DirectionCounters>,
}

/// A stage's parameters in words (read back from the kernel, or as the engine was told), and what
/// has passed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageStatus {
    /// Its parameters.
    pub shape: String,
    /// Packets let through.
    pub sent_packets: u64,
    /// Packets dropped.
    pub dropped_packets: u64,
    /// Bytes that wait.
    pub backlog_bytes: u64,
}

impl From<&qdisc::Status> for StageStatus {
    fn from(status: &qdisc::Status) -> Self {
        Self {
            shape: describe(&status.qdisc),
            sent_packets: status.counters.sent_packets.into(),
            dropped_packets: status.counters.dropped_packets.into(),
            backlog_bytes: status.counters.backlog_bytes.into(),
        }
    }
}

fn describe(qdisc: &Qdisc) -> String {
    match qdisc {
        Qdisc::Tbf(t) => format!(
            "rate {} burst {} queue {}",
            Rate(t.rate_bps),
            Size(t.burst_bytes.into()),
            Size(t.limit_bytes.into())
        ),
        Qdisc::Netem(n) => format!(
            "delay {} jitter {} {} seed {}",
            Time(n.delay_ns),
            Time(n.jitter_ns),
            loss(n.loss),
            n.seed.map_or("none".into(), |s| s.to_string())
        ),
    }
}

fn loss(loss: Loss) -> String {
    match loss {
        Loss::Random { ratio } => format!("loss {}", Ratio(ratio)),
        Loss::GilbertElliott { to_bad_ratio, to_good_ratio, bad_loss_ratio, good_loss_ratio } => {
            let [to_bad, to_good, bad, good] =
                [to_bad_ratio, to_good_ratio, bad_loss_ratio, good_loss_ratio].map(Ratio);
            format!("burst loss to bad {to_bad}, to good {to_good}, in bad {bad}, in good {good}")
        }
    }
}
