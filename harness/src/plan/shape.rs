//! A link's shape in the terms of the two stages that make it: rate and queue (tbf), then delay
//! and loss (netem), on different devices.

use crate::spec::{Links, Shape, Trace, Traces};
use limosa_lab::shape::*;
use limosa_record::unit::{Rate, Ratio, Time};

/// Bytes of a full Ethernet frame without its checksum: 1500 of payload and 14 of header.
pub(super) const FRAME_BYTES: u64 = 1514;

/// Packets that the delay line may hold beyond what rate × delay asks for.
const SLACK_PACKETS: u64 = 1_000;

/// Bytes that pass at one opportunity of a recording.
const OPPORTUNITY_BYTES: u64 = 1_500;

/// The rate a delay line is made for when the link has no rate limit.
const UNLIMITED: Rate = Rate(10_000_000_000);

/// A field that is wrong, and why, and what to do.
#[derive(Debug)]
pub(super) struct FieldError {
    pub(super) field: &'static str,
    pub(super) why: String,
    pub(super) hint: Option<String>,
}

impl From<(&'static str, String)> for FieldError {
    fn from((field, why): (&'static str, String)) -> Self {
        Self { field, why, hint: None }
    }
}

/// Computes both stages of one direction, `back` being the delay of the other one, or says which
/// field is wrong. A trace is refused where the links are the kernel's.
pub(super) fn resolve(
    shape: &Shape,
    back: Time,
    traces: &Traces,
    links: Links,
) -> Result<ShapePlan, FieldError> {
    let (rate, delay) = (shape.rate, shape.delay.unwrap_or_default());
    check_queue(shape)?;
    if shape.trace.is_some() && links == Links::Kernel {
        let why = "links in the kernel cannot play a recording; `links: user` can (`--links user`)";
        return Err(("trace", why.to_owned()).into());
    }
    if delay > Time::from_secs(60) {
        return Err(("delay", format!("a delay of {delay} is more than a minute")).into());
    }
    let jitter = shape.jitter.unwrap_or_default();
    if jitter > delay {
        return Err(("jitter", format!("a jitter of {jitter} exceeds the delay of {delay}")).into());
    }
    if shape.jitter_reorder && jitter == Time(0) {
        return Err(
            ("jitter_reorder", "`jitter_reorder` means nothing without `jitter`".into()).into()
        );
    }
    if shape.reorder.is_some_and(|r| r.0 > 0.0) && delay == Time(0) {
        return Err(("reorder", "packets can only overtake where there is a `delay`".into()).into());
    }
    let loss = loss(shape)?;
    let round_trip = Time(delay.0.saturating_add(back.0));
    let trace = shape.trace.as_ref().and_then(|name| traces.get(name));
    let trace = trace.map(|trace| trace_stage(trace, shape, round_trip)).transpose()?;
    let rate = rate.map(|rate| rate_stage(rate, shape, round_trip)).transpose()?;
    let line_bps = match (&rate, &trace) {
        (Some(rate), _) => rate.rate_bps,
        // A recording may give all of its second at once.
        (None, Some(_)) | (None, None) => UNLIMITED.0,
    };
    let longest_ns = u128::from(delay.0 + jitter.0);
    let in_flight = 2 * u128::from(line_bps) * longest_ns / 8_000_000_000 / u128::from(FRAME_BYTES);
    let limit_packets = u32::try_from(in_flight + u128::from(SLACK_PACKETS)).unwrap_or(u32::MAX);
    let ratio = |r: Option<Ratio>| r.map_or(0.0, |r| r.0);
    let delay = DelayStage {
        delay_ns: delay.0,
        jitter_ns: jitter.0,
        jitter_reorders: shape.jitter_reorder,
        loss,
        duplicate_ratio: ratio(shape.duplicate),
        corrupt_ratio: ratio(shape.corrupt),
        reorder_ratio: ratio(shape.reorder),
        limit_packets,
    };
    Ok(ShapePlan { rate, trace, delay })
}

/// Whether the user wrote a field, so that a problem can point there.
pub(super) fn is_given(shape: &Shape, field: &str) -> bool {
    let json = serde_json::to_value(shape).unwrap_or_default();
    json.get(field).is_some_and(|v| !v.is_null() && *v != false)
}

/// Which fields exclude each other, and which need another.
fn check_queue(shape: &Shape) -> Result<(), FieldError> {
    let given = [
        ("rate", shape.rate.is_some()),
        ("burst", shape.burst.is_some()),
        ("latency", shape.latency.is_some()),
    ];
    if shape.trace.is_some() {
        return match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err((*name, format!("`trace` takes the place of `{name}`")).into()),
            None => Ok(()),
        };
    }
    let lone = [given[1], given[2], ("queue", shape.queue.is_some())];
    match lone.iter().find(|(_, given)| *given && shape.rate.is_none()) {
        Some((name, _)) => Err((*name, format!("`{name}` means nothing without `rate`")).into()),
        None => Ok(()),
    }
}

fn loss(shape: &Shape) -> Result<LossPlan, FieldError> {
    match (shape.loss, shape.burst_loss) {
        (Some(_), Some(_)) => {
            let why = "`loss` and `burst_loss` both say which packets are lost";
            Err(("burst_loss", why.to_owned()).into())
        }
        (loss, None) => Ok(LossPlan::Random { ratio: loss.map_or(0.0, |r| r.0) }),
        (None, Some(b)) => {
            if b.to_bad.0 > 0.0 && b.to_good.0 == 0.0 {
                let why = "with `to_good: 0%` a bad link is bad for ever";
                return Err(("burst_loss", why.to_owned()).into());
            }
            Ok(LossPlan::GilbertElliott {
                to_bad_ratio: b.to_bad.0,
                to_good_ratio: b.to_good.0,
                bad_loss_ratio: b.loss_in_bad.0,
                good_loss_ratio: b.loss_in_good.0,
            })
        }
    }
}

/// The queue is that of a rate stage at the recording's mean rate.
fn trace_stage(trace: &Trace, shape: &Shape, round_trip: Time) -> Result<TraceStage, FieldError> {
    let recording = &trace.recording;
    let ms = recording.length_ms();
    let bits = recording.opportunities_ms.len() as u128 * u128::from(OPPORTUNITY_BYTES) * 8;
    let bps = bits * 1_000 / u128::from(ms.max(1));
    let frame = u128::from(FRAME_BYTES);
    let limit = match shape.queue {
        Some(queue) => queue.0.into(),
        None => (bps * u128::from(round_trip.0) / 8_000_000_000).max(32 * frame),
    };
    if limit < frame {
        return Err(("queue", format!("a queue of {limit}B does not hold a packet")).into());
    }
    Ok(TraceStage::new(trace.copy.clone(), recording.clone(), fits(limit, "queue")?))
}

fn fits(value: u128, field: &'static str) -> Result<u32, FieldError> {
    u32::try_from(value).map_err(|_| (field, format!("`{field}` asks for more than 4 GiB")).into())
}

fn rate_stage(rate: Rate, shape: &Shape, round_trip: Time) -> Result<RateStage, FieldError> {
    let Shape { burst, latency, queue, .. } = *shape;
    if rate < Rate(8_000) || rate > Rate(100_000_000_000) {
        return Err(("rate", format!("a rate of {rate} is outside 8kbit/s to 100Gbit/s")).into());
    }
    if latency.is_some() && queue.is_some() {
        let why = "`latency` and `queue` both give the size of the queue";
        return Err(("queue", why.to_owned()).into());
    }
    let bytes_in = |t: Time| u128::from(rate.0) * u128::from(t.0) / 8_000_000_000;
    let frame = u128::from(FRAME_BYTES);
    let burst = match burst {
        Some(burst) if u128::from(burst.0) < frame => {
            let why = format!("a burst of {burst} is smaller than a packet of {FRAME_BYTES}B");
            return Err(("burst", why).into());
        }
        Some(burst) => burst.0.into(),
        None => bytes_in(Time::from_millis(1)).max(2 * frame),
    };
    let (field, limit) = match (latency, queue) {
        (Some(latency), _) => ("latency", bytes_in(latency) + burst),
        (None, Some(queue)) => ("queue", queue.0.into()),
        (None, None) => ("rate", bytes_in(round_trip).max(32 * frame)),
    };
    if limit < frame {
        return Err((field, format!("a queue of {limit}B does not hold a packet")).into());
    }
    if latency.is_none() && queue.is_none() && u32::try_from(limit).is_err() {
        // One bandwidth-delay product.
        let why = format!(
            "the queue of {rate} × a round trip of {round_trip} would have {:.1} GiB, more than 4",
            limit as f64 / f64::from(1 << 30)
        );
        let hint = Some("give the `queue`, for example `queue: 100MB`".to_owned());
        return Err(FieldError { field, why, hint });
    }
    Ok(RateStage {
        rate_bps: rate.0,
        burst_bytes: fits(burst, "burst")?,
        limit_bytes: fits(limit, field)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::BurstLoss;
    use limosa_record::recording::Recording;

    fn resolve(shape: &Shape) -> Result<ShapePlan, FieldError> {
        super::resolve(shape, shape.delay.unwrap_or_default(), &recorded(), Links::Auto)
    }

    /// 100 opportunities in 100 ms: 12 Mbit/s.
    fn recorded() -> Traces {
        let lines: String = (1..=100).map(|ms| format!("{ms}\n")).collect();
        let recording = Recording::parse(lines.into()).unwrap().into();
        Traces::from([("t".into(), Trace { copy: "traces/t".into(), recording })])
    }

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
    fn the_round_trip_has_two_directions() {
        let wish = Shape { latency: None, burst: None, ..shape("10Mbit/s", "1ms", "4KB", "1ms") };
        let back = Time::from_millis(299);
        let plan = super::resolve(&wish, back, &recorded(), Links::Auto).unwrap();
        assert_eq!(plan.rate.unwrap().limit_bytes, 375_000);
        let wish = Shape { rate: Some(Rate(10_000_000_000)), ..wish };
        let wrong =
            super::resolve(&wish, Time::from_secs(4), &recorded(), Links::Auto).unwrap_err();
        assert!(wrong.why.contains("round trip of 4001ms"), "{wrong:?}");
        assert!(wrong.hint.is_some_and(|hint| hint.contains("queue:")));
    }

    #[test]
    fn nonsense_names_its_field() {
        let field = |s: &Shape| resolve(s).unwrap_err().field;
        assert_eq!(field(&shape("1bit/s", "1ms", "400KiB", "25ms")), "rate");
        assert_eq!(field(&shape("1Mbit/s", "1ms", "1KB", "25ms")), "burst");
        assert_eq!(field(&shape("1Mbit/s", "1ms", "4KB", "2h")), "delay");
        let mut lone = shape("1Mbit/s", "1ms", "4KB", "1ms");
        lone.rate = None;
        assert_eq!(field(&lone), "burst");
        let mut disorderly = shape("1Mbit/s", "1ms", "4KB", "1ms");
        disorderly.jitter_reorder = true;
        assert_eq!(field(&disorderly), "jitter_reorder");
        let mut jittery = shape("1Mbit/s", "1ms", "4KB", "1ms");
        jittery.jitter = Some(Time::from_millis(2));
        assert_eq!(field(&jittery), "jitter");
    }

    #[test]
    fn a_recording_takes_the_place_of_the_rate() {
        let delay = Some(Time::from_millis(50));
        let mut wish = Shape { trace: Some("t".into()), delay, ..Shape::default() };
        let plan = resolve(&wish).unwrap();
        // 12 Mbit/s × 100 ms
        assert_eq!((plan.rate, plan.trace.map(|t| t.limit_bytes)), (None, Some(150_000)));
        let wrong = super::resolve(&wish, Time(0), &recorded(), Links::Kernel).unwrap_err();
        assert!(wrong.field == "trace" && wrong.why.contains("`links: user` can"), "{wrong:?}");
        wish.queue = Some("60KB".parse().unwrap());
        assert_eq!(resolve(&wish).unwrap().trace.unwrap().limit_bytes, 60_000);
        wish.rate = Some(Rate(1_000_000));
        assert_eq!(resolve(&wish).unwrap_err().field, "rate");
    }

    #[test]
    fn losses_are_random_or_come_in_bursts() {
        let p = |percent: f64| Ratio(percent / 100.0);
        let burst = BurstLoss {
            to_bad: p(1.0),
            to_good: p(30.0),
            loss_in_bad: p(100.0),
            loss_in_good: p(0.0),
        };
        let mut wish = Shape { burst_loss: Some(burst), ..Shape::default() };
        let loss = resolve(&wish).unwrap().delay.loss;
        let LossPlan::GilbertElliott { to_bad_ratio, bad_loss_ratio, .. } = loss else {
            panic!("{loss:?}")
        };
        assert_eq!((to_bad_ratio, bad_loss_ratio), (0.01, 1.0));
        wish.loss = Some(p(1.0));
        assert_eq!(resolve(&wish).unwrap_err().field, "burst_loss");
    }
}
