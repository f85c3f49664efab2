//! Are the comparisons sharp? With a defect planted in every link they break.

use limosa_record::fault::VARIABLE;
use limosa_testkit::{Outcome, defects_are_seen};

fn defects_in_links_are_seen() -> Outcome {
    defects_are_seen(
        VARIABLE,
        &[
            ("shape::an_idle_link_of_25_ms_each_way_has_an_rtt_of_50_ms", "link/delay:wrong"),
            ("shape::random_loss_has_its_share_and_follows_from_the_seed", "link/loss:wrong"),
            ("shape::a_rate_is_kept_and_what_is_too_much_waits_or_is_dropped", "link/rate:wrong"),
        ],
    )
}

limosa_testkit::tests![defects_in_links_are_seen[alone]];
