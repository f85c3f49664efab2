//! A link's shape in the terms of the two stages that make it: rate and queue (tbf), then delay
//! and loss (netem), on different devices.

use crate::spec::Shape;
use limosa_record::unit::{Rate, Size, Time};
use serde::{Deserialize, Serialize};

/// Bytes of a full Ethernet frame without its checksum: 1500 of payload and 14 of header.
pub(super) const FRAME_BYTES: u64 = 1514;

/// Packets that the delay line may hold beyond what rate × delay asks for.
const SLACK_PACKETS: u64 = 1_000;

/// The rate a delay line is made for when the link has no rate limit.
const UNLIMITED: Rate = Rate(10_000_000_000);

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
/// starts again after its last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStage {
    /// Times of the opportunities in milliseconds since the recording's start, ascending; several
    /// may fall on the same millisecond. The last one is also the recording's length.
    pub opportunities_ms: Vec<u32>,
    /// Size of the queue.
    pub limit_bytes: u32,
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

/// A field that is wrong, and why.
pub(super) type FieldError = (&'static str, String);

/// Computes both stages, or says which field is wrong.
pub(super) fn resolve(shape: &Shape) -> Result<ShapePlan, FieldError> {
    let Shape { rate, burst, latency, queue, delay, jitter, loss, duplicate, corrupt, reorder } =
        *shape;
    for (name, given) in
        [("burst", burst.is_some()), ("latency", latency.is_some()), ("queue", queue.is_some())]
    {
        if given && rate.is_none() {
            return Err((name, format!("`{name}` means nothing without `rate`")));
        }
    }
    let delay_time = delay.unwrap_or_default();
    if delay_time > Time::from_secs(60) {
        return Err(("delay", format!("a delay of {delay_time} is more than a minute")));
    }
    let jitter = jitter.unwrap_or_default();
    if jitter > delay_time {
        return Err(("jitter", format!("a jitter of {jitter} exceeds the delay of {delay_time}")));
    }
    if reorder.is_some_and(|r| r.0 > 0.0) && delay_time == Time(0) {
        return Err(("reorder", "packets can only overtake where there is a `delay`".into()));
    }
    let rate = rate.map(|rate| rate_stage(rate, burst, latency, queue, delay_time)).transpose()?;
    let line_bps = u128::from(rate.map_or(UNLIMITED.0, |r| r.rate_bps));
    let longest_ns = u128::from(delay_time.0 + jitter.0);
    let in_flight = 2 * line_bps * longest_ns / 8_000_000_000 / u128::from(FRAME_BYTES);
    let limit_packets = u32::try_from(in_flight + u128::from(SLACK_PACKETS)).unwrap_or(u32::MAX);
    let ratio = |r: Option<limosa_record::unit::Ratio>| r.map_or(0.0, |r| r.0);
    let delay = DelayStage {
        delay_ns: delay_time.0,
        jitter_ns: jitter.0,
        jitter_reorders: false,
        loss: LossPlan::Random { ratio: ratio(loss) },
        duplicate_ratio: ratio(duplicate),
        corrupt_ratio: ratio(corrupt),
        reorder_ratio: ratio(reorder),
        limit_packets,
    };
    Ok(ShapePlan { rate, trace: None, delay })
}

fn rate_stage(
    rate: Rate,
    burst: Option<Size>,
    latency: Option<Time>,
    queue: Option<Size>,
    delay: Time,
) -> Result<RateStage, FieldError> {
    if rate < Rate(8_000) || rate > Rate(100_000_000_000) {
        return Err(("rate", format!("a rate of {rate} is outside 8kbit/s to 100Gbit/s")));
    }
    if latency.is_some() && queue.is_some() {
        return Err(("queue", "`latency` and `queue` both give the size of the queue".into()));
    }
    let bytes_in = |t: Time| u128::from(rate.0) * u128::from(t.0) / 8_000_000_000;
    let frame = u128::from(FRAME_BYTES);
    let burst = match burst {
        Some(burst) if u128::from(burst.0) < frame => {
            let why = format!("a burst of {burst} is smaller than a packet of {FRAME_BYTES}B");
            return Err(("burst", why));
        }
        Some(burst) => burst.0.into(),
        None => bytes_in(Time::from_millis(1)).max(2 * frame),
    };
    let (field, limit) = match (latency, queue) {
        (Some(latency), _) => ("latency", bytes_in(latency) + burst),
        (None, Some(queue)) => ("queue", queue.0.into()),
        (None, None) => ("rate", bytes_in(Time(2 * delay.0)).max(32 * frame)),
    };
    if limit < frame {
        return Err((field, format!("a queue of {limit}B does not hold a packet")));
    }
    let fits = |value: u128, field| {
        u32::try_from(value).map_err(|_| (field, format!("`{field}` asks for more than 4 GiB")))
    };
    Ok(RateStage {
        rate_bps: rate.0,
        burst_bytes: fits(burst, "burst")?,
        limit_bytes: fits(limit, field)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(rate: &str, latency: &str, burst: &str, delay: &str) -> Shape {
        Shape {
            rate: Some(rate.parse().unwrap()),
            latency: Some(latency.parse().unwrap()),
            burst: Some(burst.parse().unwrap()),
            delay: Some(delay.parse().unwrap()),
            ..Shape::default()
        }
    }

    #[test]
    fn table_2_of_the_paper_has_a_queue_of_422_kb() {
        let plan = resolve(&shape("100Mbit/s", "1ms", "400KiB", "25ms")).unwrap();
        assert_eq!(plan.rate.unwrap().limit_bytes, 422_100);
        // 2 × 312,500 bytes in flight ÷ 1514 + 1000
        assert_eq!(plan.delay.limit_packets, 1_412);
    }

    #[test]
    fn the_queue_is_one_bandwidth_delay_product_by_default() {
        let mut wish = shape("100Mbit/s", "1ms", "400KiB", "25ms");
        wish.latency = None;
        assert_eq!(resolve(&wish).unwrap().rate.unwrap().limit_bytes, 625_000);
    }

    #[test]
    fn nonsense_names_its_field() {
        let field = |s: &Shape| resolve(s).unwrap_err().0;
        assert_eq!(field(&shape("1bit/s", "1ms", "400KiB", "25ms")), "rate");
        assert_eq!(field(&shape("1Mbit/s", "1ms", "1KB", "25ms")), "burst");
        assert_eq!(field(&shape("1Mbit/s", "1ms", "4KB", "2h")), "delay");
        let mut lone = shape("1Mbit/s", "1ms", "4KB", "1ms");
        lone.rate = None;
        assert_eq!(field(&lone), "burst");
        let mut jittery = shape("1Mbit/s", "1ms", "4KB", "1ms");
        jittery.jitter = Some(Time::from_millis(2));
        assert_eq!(field(&jittery), "jitter");
    }
}
