//! Our messages beside those of tc(8), without a kernel.
//!
//! The bytes come from tc of iproute2 6.1 with a preloaded library that prints what it is about to
//! send; the kernel need not know the discipline. To make more:
//!
//! ```c
//! // cc -shared -fPIC -o dump.so dump.c; unshare -n env LD_PRELOAD=./dump.so tc qdisc replace …
//! ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
//!     for (size_t i = 0; i < m->msg_iovlen; i++)
//!         for (size_t j = 0; j < m->msg_iov[i].iov_len; j++)
//!             fprintf(stderr, "%02x", ((unsigned char *)m->msg_iov[i].iov_base)[j]);
//!     fputc('\n', stderr);
//!     ssize_t (*real)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");
//!     return real(fd, m, flags);
//! }
//! ```
//!
//! Two differences are wanted: tc ends tbf's options with a rate table (attribute 2, 1,028 bytes,
//! cut off in the constants below), which kernels since 3.8 compute themselves; and we always send
//! netem's optional attributes, at the end of what tc sends.
#![cfg(target_endian = "little")]

use super::*;
use crate::sys::netlink::acknowledge;
use proptest::prelude::*;

fn unhex(text: &str) -> Vec<u8> {
    let digit = |d: u8| (d as char).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|p| digit(p[0]) << 4 | digit(p[1])).collect()
}

fn ours(qdisc: &Qdisc) -> Vec<u8> {
    let mut bytes = Vec::new();
    set(1, qdisc).append(0, &mut bytes);
    acknowledge(&mut bytes);
    bytes
}

/// Everything but the sizes that the wanted differences change and the sequence number.
fn compare(ours: &[u8], tc: &str, appended: &str) {
    let tc = unhex(tc);
    let (kind_len, length, sequence) = (usize::from(tc[36]).next_multiple_of(4), 0..4, 8..12);
    let options_len = 36 + kind_len..36 + kind_len + 2;
    let mask = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        for range in [length.clone(), sequence.clone(), options_len.clone()] {
            bytes[range].fill(0);
        }
        bytes
    };
    assert_eq!(mask(ours), [mask(&tc), unhex(appended)].concat());
    assert_eq!(ours[..4], u32::try_from(ours.len()).unwrap().to_ne_bytes());
    let options = u16::try_from(ours.len() - options_len.start).unwrap();
    assert_eq!(ours[options_len], options.to_ne_bytes());
}

/// `tc qdisc replace dev lo root handle 1: tbf rate 100mbit burst 400000 limit 422500`
const TBF: &str = "\
    6404000024000505e845026b00000000000000000100000000000100ffffffff000000000800010074626600\
    380402002800010003010000ffff000020bcbe000000000000000000000000006472060020a1070000000000\
    08000600801a0600";
/// `… tbf rate 40gbit burst 10m limit 20m`: a rate that does not fit into 32 bits.
const TBF_FAST: &str = "\
    7004000024000505e845026b00000000000000000100000000000100ffffffff000000000800010074626600\
    440402002800010003010000ffff0000ffffffff00000000000000000000000000004001fc94000000000000\
    080006000000a0000c00040000f2052a01000000";
/// `… netem limit 4000 delay 20ms`
const NETEM: &str = "\
    4c00000024000505e845026b00000000000000000100000000000100ffffffff000000000a0001006e657465\
    6d0000001c000200b4c40400a00f000000000000000000000000000000000000";
/// `… netem limit 4000 delay 25ms 3ms loss random 1% duplicate 2% reorder 30% gap 5 corrupt 0.5%
/// rate 8tbit`
const NETEM_ALL: &str = "\
    8400000024000505e845026b00000000000000000100000000000100ffffffff000000000a0001006e657465\
    6d00000054000200e1f50500a00f0000295c8f020500000052b81e051bb700000c000300cccccc4c00000000\
    0c00040014ae4701000000000c0008000010a5d4e800000014000600ffffffff000000000000000000000000";
/// The same with `loss gemodel 1% 30% 75% 0.1%` instead of `loss random 1%`.
const NETEM_BURSTS: &str = "\
    9c00000024000505d82e056b00000000000000000100000000000100ffffffff000000000a0001006e657465\
    6d0000006c000200e1f50500a00f0000000000000500000052b81e051bb700000c000300cccccc4c00000000\
    0c00040014ae4701000000001800058014000200295c8f02cccccc4c00000040378941000c0008000010a5d4\
    e800000014000600ffffffff000000000000000000000000";
/// `… netem limit 4000 delay 25ms 3ms reorder 30% corrupt 0.5%`: without a rate jitter reorders.
const NETEM_DISORDER: &str = "\
    6400000024000505d82e056b00000000000000000100000000000100ffffffff000000000a0001006e657465\
    6d00000034000200e1f50500a00f00000000000001000000000000001bb700000c000300cccccc4c00000000\
    0c00040014ae470100000000";

#[test]
fn tbf_is_what_tc_sends() {
    let tbf = Tbf { rate_bps: 100_000_000, burst_bytes: 400_000, limit_bytes: 422_500 };
    compare(&ours(&Qdisc::Tbf(tbf)), TBF, "");
    let tbf = Tbf { rate_bps: 40_000_000_000, burst_bytes: 10 << 20, limit_bytes: 20 << 20 };
    compare(&ours(&Qdisc::Tbf(tbf)), TBF_FAST, "");
}

#[test]
fn netem_is_what_tc_sends() {
    let netem = Netem { delay_ns: 20_000_000, limit_packets: 4000, ..Netem::default() };
    let no_reorder = format!("0c000300{:016}", 0);
    let no_corrupt = format!("0c000400{:016}", 0);
    let no_rate = format!("14000600{:032}", 0);
    let times = format!("0c000a00002d3101000000000c000b00{:016}", 0);
    compare(&ours(&Qdisc::Netem(netem)), NETEM, &(no_reorder + &no_corrupt + &no_rate + &times));

    let netem = Netem {
        delay_ns: 25_000_000,
        jitter_ns: 3_000_000,
        loss: Loss::Random { ratio: 0.01 },
        duplicate_ratio: 0.02,
        reorder_ratio: 0.3,
        reorder_gap: 5,
        corrupt_ratio: 0.005,
        limit_packets: 4000,
        seed: Some(0x1122_3344_5566_7788),
        ..Netem::default()
    };
    let more = "0c000a0040787d01000000000c000b00c0c62d00000000000c000e008877665544332211";
    compare(&ours(&Qdisc::Netem(netem)), NETEM_ALL, more);
    let loss = Loss::GilbertElliott {
        to_bad_ratio: 0.01,
        to_good_ratio: 0.3,
        bad_loss_ratio: 0.75,
        good_loss_ratio: 0.001,
    };
    let bursts = Netem { loss, ..netem };
    compare(&ours(&Qdisc::Netem(bursts)), NETEM_BURSTS, more);
    let disorder = Netem {
        jitter_reorders: true,
        loss: Loss::Random { ratio: 0.0 },
        duplicate_ratio: 0.0,
        reorder_gap: 0,
        seed: None,
        ..netem
    };
    let more = format!("{no_rate}0c000a0040787d01000000000c000b00c0c62d0000000000");
    compare(&ours(&Qdisc::Netem(disorder)), NETEM_DISORDER, &more);
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1.0 / f64::from(u32::MAX)
}

fn same_loss(a: Loss, b: Loss) -> bool {
    let numbers = |loss| match loss {
        Loss::Random { ratio } => (false, [ratio, 0.0, 0.0, 0.0]),
        Loss::GilbertElliott { to_bad_ratio, to_good_ratio, bad_loss_ratio, good_loss_ratio } => {
            (true, [to_bad_ratio, to_good_ratio, bad_loss_ratio, good_loss_ratio])
        }
    };
    let ((a, left), (b, right)) = (numbers(a), numbers(b));
    a == b && left.iter().zip(right).all(|(a, b)| near(*a, b))
}

proptest! {
    #[test]
    fn tbf_reads_back(mbps in 1u64..50_000, burst_bytes in 1514u32..4_000_000, limit_bytes: u32) {
        let tbf = Tbf { rate_bps: mbps * 1_000_000, burst_bytes, limit_bytes };
        let read = parse_tbf(&tbf_options(&tbf)).unwrap();
        // The buffer in the message is rounded to microseconds and then to ticks, for at most 32
        // bits of bytes per second; the kernel's own is better than that.
        let step = 2 + (mbps + mbps / 8) / 8;
        prop_assert!(mbps > 34_359 || u64::from(read.burst_bytes.abs_diff(burst_bytes)) <= step);
        prop_assert_eq!(Tbf { burst_bytes, ..read }, tbf);
    }

    #[test]
    fn netem_reads_back(
        delay_ns in 0..u64::MAX / 2, jitter_ns in 0..u64::MAX / 2, jitter_reorders: bool,
        shares in prop::array::uniform3(0.0..=1.0f64), gap in 1u32..9, limit_packets: u32,
        seed: Option<u64>, bursts: bool, chain in prop::array::uniform4(0.0..=1.0f64),
    ) {
        let [duplicate_ratio, corrupt_ratio, reorder_ratio] = shares;
        let [to_bad_ratio, to_good_ratio, bad_loss_ratio, good_loss_ratio] = chain;
        let loss = if bursts {
            Loss::GilbertElliott { to_bad_ratio, to_good_ratio, bad_loss_ratio, good_loss_ratio }
        } else {
            Loss::Random { ratio: chain[0] }
        };
        let reorder_gap = if reorder_ratio > 0.0 { gap } else { 0 };
        let jitter_reorders = jitter_reorders && jitter_ns > 0;
        let netem = Netem {
            delay_ns, jitter_ns, jitter_reorders, loss, duplicate_ratio, corrupt_ratio,
            reorder_ratio, reorder_gap, limit_packets, seed,
        };
        let read = parse_netem(&netem_options(&netem)).unwrap();
        prop_assert!(same_loss(read.loss, loss) && near(read.duplicate_ratio, duplicate_ratio));
        prop_assert!(near(read.corrupt_ratio, corrupt_ratio) && near(read.reorder_ratio, reorder_ratio));
        prop_assert_eq!(Netem { loss, duplicate_ratio, corrupt_ratio, reorder_ratio, ..read }, netem);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..96)) {
        let _ = (parse_tbf(&bytes), parse_netem(&bytes));
    }
}
