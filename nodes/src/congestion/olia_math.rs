//! The equations of OLIA (draft-khalili-mptcp-congestion-control-05, section 3), as pure functions.
//!
//! With windows `w` in bytes, round-trip times in seconds, and `l` the bytes acknowledged between
//! the last two losses or since the last one, whichever is more:
//!
//! ```text
//! w_r += [ (w_r/rtt_r²) / (Σ_p w_p/rtt_p)²  +  α_r / w_r ] · MSS_r · acked        per ACK
//! best = argmax metric(p)    maxw = argmax w_p    collected = best \ maxw
//! α_r  = +1/(N·|collected|)  for r in collected
//!      = −1/(N·|maxw|)       for r in maxw, if collected is not empty
//!      =  0                  otherwise
//! ```

/// Where the implementations differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// The draft: metric l²/rtt, halves on loss, N counts live paths.
    Draft,
    /// Linux' mptcp_olia.c: metric l/rtt², halves on loss, N counts live paths.
    Linux,
    /// mp-quic: metric l/rtt², keeps 0.85 on loss, N counts every path ever created.
    Mpquic,
}

/// One path as the equations see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PathView {
    /// Congestion window in bytes.
    pub(super) window: f64,
    /// Smoothed round-trip time in seconds.
    pub(super) rtt: f64,
    /// `l`: bytes between the last two losses or since the last one.
    pub(super) l: f64,
}

impl Variant {
    /// How good a path is.
    fn metric(self, path: &PathView) -> f64 {
        match self {
            Self::Draft => path.l * path.l / path.rtt,
            Self::Linux | Self::Mpquic => path.l / (path.rtt * path.rtt),
        }
    }

    /// What a loss leaves of the window.
    pub(super) fn kept_on_loss(self) -> f64 {
        match self {
            Self::Draft | Self::Linux => 0.5,
            // (N_c − 1 + 0.7) / N_c with N_c = 2 emulated connections (olia_sender.go).
            Self::Mpquic => 0.85,
        }
    }

    /// The N of the equations.
    fn paths(self, live: usize, ever_created: u64) -> f64 {
        match self {
            Self::Draft | Self::Linux => live as f64,
            Self::Mpquic => ever_created.max(live as u64) as f64,
        }
    }
}

/// α of every path, in the order given.
pub(super) fn alphas(variant: Variant, paths: &[PathView], ever_created: u64) -> Vec<f64> {
    let max = |f: &dyn Fn(&PathView) -> f64| paths.iter().map(f).fold(f64::MIN, f64::max);
    let best = max(&|p| variant.metric(p));
    let widest = max(&|p| p.window);
    let is_widest = |p: &PathView| p.window >= widest;
    let is_collected = |p: &PathView| variant.metric(p) >= best && !is_widest(p);
    let collected = paths.iter().filter(|p| is_collected(p)).count() as f64;
    let maxw = paths.iter().filter(|p| is_widest(p)).count() as f64;
    let n = variant.paths(paths.len(), ever_created);
    let alpha = |p: &PathView| match () {
        () if is_collected(p) => 1.0 / (n * collected),
        () if is_widest(p) && collected > 0.0 => -1.0 / (n * maxw),
        () => 0.0,
    };
    paths.iter().map(alpha).collect()
}

/// Growth of path `r`'s window in bytes when `acked` bytes of it are acknowledged in congestion
/// avoidance; `mss` in bytes.
pub(super) fn increase(
    variant: Variant,
    paths: &[PathView],
    r: usize,
    ever_created: u64,
    mss: f64,
    acked: f64,
) -> f64 {
    let own = &paths[r];
    let total: f64 = paths.iter().map(|p| p.window / p.rtt).sum();
    let coupled = own.window / (own.rtt * own.rtt) / (total * total);
    (coupled + alphas(variant, paths, ever_created)[r] / own.window) * mss * acked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MSS: f64 = 1200.0;
    const VARIANTS: [Variant; 3] = [Variant::Draft, Variant::Linux, Variant::Mpquic];

    fn any_path() -> impl Strategy<Value = PathView> {
        // Up to 1 GB between losses and from 10 µs to 1 s of round trip.
        (2.0 * MSS..1e9, 1e-5..=1.0, 0.0..=1e9).prop_map(|(window, rtt, l)| PathView {
            window,
            rtt,
            l,
        })
    }

    proptest! {
        #[test]
        fn alphas_sum_to_zero(paths in prop::collection::vec(any_path(), 1..6), dead in 0u64..9) {
            for variant in VARIANTS {
                let sum: f64 = alphas(variant, &paths, paths.len() as u64 + dead).iter().sum();
                prop_assert!(sum.abs() < 1e-12, "{variant:?}: {sum}");
            }
        }

        #[test]
        fn a_single_path_is_reno(path in any_path()) {
            for variant in VARIANTS {
                // One window of acknowledgements, that is one round trip, adds one MSS.
                let gain = increase(variant, &[path], 0, 1, MSS, path.window);
                prop_assert!((gain / MSS - 1.0).abs() < 1e-9, "{variant:?}: {gain}");
            }
        }

        #[test]
        fn each_of_two_equal_paths_gains_a_quarter(path in any_path()) {
            for variant in VARIANTS {
                for r in [0, 1] {
                    let gain = increase(variant, &[path, path], r, 2, MSS, MSS);
                    let quarter = MSS * MSS / (4.0 * path.window);
                    prop_assert!((gain / quarter - 1.0).abs() < 1e-9, "{variant:?}: {gain}");
                }
            }
        }

        #[test]
        fn nothing_overflows(paths in prop::collection::vec(any_path(), 1..6)) {
            for variant in VARIANTS {
                for r in 0..paths.len() {
                    let gain = increase(variant, &paths, r, 9, MSS, MSS);
                    prop_assert!(gain.is_finite() && gain.abs() <= MSS, "{variant:?}: {gain}");
                }
            }
        }
    }

    #[test]
    fn the_better_but_narrower_path_gains_from_the_wider_one() {
        let narrow = PathView { window: 10.0 * MSS, rtt: 0.05, l: 1e6 };
        let wide = PathView { window: 40.0 * MSS, rtt: 0.05, l: 1e5 };
        assert_eq!(alphas(Variant::Draft, &[narrow, wide], 2), [0.5, -0.5]);
        assert_eq!(alphas(Variant::Mpquic, &[narrow, wide], 4), [0.25, -0.25]);
        assert_eq!(alphas(Variant::Linux, &[wide, wide], 2), [0.0, 0.0]);
    }

    #[test]
    fn one_gigabyte_at_one_second_is_still_ranked() {
        let (good, bad) = (
            PathView { window: 10.0 * MSS, rtt: 1.0, l: 1e9 },
            PathView { window: 20.0 * MSS, rtt: 1.0, l: 1e6 },
        );
        for variant in VARIANTS {
            assert_eq!(alphas(variant, &[good, bad], 2), [0.5, -0.5]);
        }
    }
}
