//! What a link does to the packets of one direction: rate and queue (tbf), then delay, loss and damage
//! (netem).

use anyhow::Context;
use limosa_record::{
    recording::Recording,
    unit::{Rate, Ratio, Size, Time},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One direction of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShapePlan {
    /// Rate and queue; `None` is unlimited.
    pub rate: Option<RateStage>,
    /// Delivery opportunities instead of a rate, in user-space links only.
    pub trace: Option<TraceStage>,
    /// Delay, jitter, loss.
    pub delay: DelayStage,
}

/// A token bucket with a queue before it (tbf).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateStage {
    /// Rate of the tokens.
    pub rate_bps: u64,
    /// Depth of the bucket.
    pub burst_bytes: u32,
    /// Size of the queue.
    pub limit_bytes: u32,
}

/// A recorded link (mahimahi's format): each opportunity passes 1500 bytes, and the recording
/// starts again after its last one. Which recording it is; what it says is read from its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStage {
    /// The copy that a run or a lab keeps, below its directory.
    pub file: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// How many opportunities it has.
    pub opportunities: u64,
    /// Its length in milliseconds.
    pub length_ms: u32,
    /// Size of the queue.
    pub limit_bytes: u32,
    /// What it says, once it has been read.
    #[serde(skip)]
    pub recording: Loaded,
}

/// Which packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossPlan {
    /// Each packet independently.
    Random {
        /// Share of packets lost, 0 to 1.
        ratio: f64,
    },
    /// Gilbert-Elliott: a good and a bad state, each with its own share of losses (Gilbert 1960,
    /// Elliott 1963; netem's `loss gemodel`).
    GilbertElliott {
        /// Probability per packet of going from good to bad, 0 to 1.
        to_bad_ratio: f64,
        /// Probability per packet of going from bad to good, 0 to 1.
        to_good_ratio: f64,
        /// Share of packets lost in the bad state, 0 to 1.
        bad_loss_ratio: f64,
        /// Share of packets lost in the good state, 0 to 1.
        good_loss_ratio: f64,
    },
}

/// A delay line (netem).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DelayStage {
    /// Propagation delay.
    pub delay_ns: u64,
    /// Its uniform variation.
    pub jitter_ns: u64,
    /// Whether jitter may change the order of packets.
    pub jitter_reorders: bool,
    /// Which packets are lost.
    pub loss: LossPlan,
    /// Share of packets sent twice, 0 to 1.
    pub duplicate_ratio: f64,
    /// Share of packets with one bit turned, 0 to 1.
    pub corrupt_ratio: f64,
    /// Share of packets that overtake, 0 to 1.
    pub reorder_ratio: f64,
    /// Packets that fit into the line: 2 × rate × delay ÷ frame + slack.
    pub limit_packets: u32,
}

/// A recording in memory, shared by all that play it. It is not compared: which one it is, its hash
/// says.
#[derive(Debug, Clone, Default)]
pub struct Loaded(pub Option<Arc<Recording>>);

impl PartialEq for Loaded {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Loaded {}

impl TraceStage {
    /// A recording that is kept in `file` and has a queue of so many bytes.
    pub fn new(file: String, recording: Arc<Recording>, limit_bytes: u32) -> Self {
        Self {
            file,
            sha256: recording.sha256.clone(),
            opportunities: recording.opportunities_ms.len() as u64,
            length_ms: recording.length_ms(),
            limit_bytes,
            recording: Loaded(Some(recording)),
        }
    }

    /// What it says.
    ///
    /// # Errors
    /// When it has not been read.
    pub fn recording(&self) -> anyhow::Result<&Arc<Recording>> {
        let loaded = self.recording.0.as_ref();
        loaded.with_context(|| format!("the recording {} has not been read", self.file))
    }
}

impl ShapePlan {
    /// The rate stage in words; nothing when it is unlimited.
    pub fn rate_text(&self) -> Option<String> {
        if let Some(rate) = &self.rate {
            let (burst, queue) = (Size(rate.burst_bytes.into()), Size(rate.limit_bytes.into()));
            return Some(format!("rate {}, burst {burst}, queue {queue}", Rate(rate.rate_bps)));
        }
        self.trace.as_ref().map(|trace| {
            let length = Time::from_millis(trace.length_ms.into());
            let (packets, queue) = (trace.opportunities, Size(trace.limit_bytes.into()));
            format!("recording of {packets} packets in {length}, queue {queue}")
        })
    }

    /// The delay stage in words.
    pub fn delay_text(&self) -> String {
        let d = &self.delay;
        let mut words = vec![format!("delay {}", Time(d.delay_ns))];
        if d.jitter_ns > 0 {
            let order = if d.jitter_reorders { " with reordering" } else { "" };
            words.push(format!("jitter {}{order}", Time(d.jitter_ns)));
        }
        let mut share = |name: &str, ratio: f64| {
            if ratio > 0.0 {
                words.push(format!("{name} {}", Ratio(ratio)));
            }
        };
        match d.loss {
            LossPlan::Random { ratio } => share("loss", ratio),
            LossPlan::GilbertElliott {
                to_bad_ratio,
                to_good_ratio,
                bad_loss_ratio,
                good_loss_ratio,
            } => {
                share("burst loss: to bad", to_bad_ratio);
                share("to good", to_good_ratio);
                share("lost in bad", bad_loss_ratio);
                share("lost in good", good_loss_ratio);
            }
        }
        share("duplicate", d.duplicate_ratio);
        share("corrupt", d.corrupt_ratio);
        share("reorder", d.reorder_ratio);
        words.join(", ")
    }
}
