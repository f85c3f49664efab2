//! Which ways to move a server make sense.

use crate::{
    plan::MigratePlan,
    spec::{Migrate, Technique, Transfer},
};

/// Rounds of pre-copy when only a size ends them. What has not converged by then does not.
const MOST_ROUNDS: u32 = 30;

/// What contradicts itself: the field, why, and what to do instead.
pub(super) fn nonsense(spec: &Migrate) -> Option<(&'static str, &'static str, &'static str)> {
    let pre_copy = spec.technique == Technique::PreCopy;
    let lazy = matches!(spec.technique, Technique::PostCopy | Technique::Hybrid);
    if pre_copy && spec.rounds.is_none() && spec.below.is_none() {
        return Some((
            "technique",
            "pre-copy needs an end of its rounds",
            "add `rounds: 3` or `below: 1MB`",
        ));
    }
    if spec.rounds == Some(0) {
        return Some(("rounds", "pre-copy without a round is cold", "`technique: cold`"));
    }
    if !pre_copy && spec.rounds.is_some() {
        return Some(("rounds", ROUNDS, "leave it out, or `technique: pre-copy`"));
    }
    if !pre_copy && spec.below.is_some() {
        return Some(("below", ROUNDS, "leave it out, or `technique: pre-copy`"));
    }
    if lazy && spec.transfer == Transfer::PageServer {
        let why = "lazy pages come by CRIU's own protocol anyhow; this is about the rest";
        return Some(("transfer", why, "`stream` or `rsync`"));
    }
    if spec.compress && spec.transfer == Transfer::PageServer {
        return Some(("compress", "CRIU's page server does not compress", "`transfer: stream`"));
    }
    None
}

const ROUNDS: &str = "only pre-copy has rounds to be counted";

/// A wish that makes sense.
pub(super) fn plan(spec: &Migrate) -> MigratePlan {
    let rounds = match spec.technique {
        Technique::Cold | Technique::PostCopy => 0,
        Technique::PreCopy => spec.rounds.unwrap_or(MOST_ROUNDS),
        Technique::Hybrid => 1,
    };
    MigratePlan {
        node: spec.node.clone(),
        to: spec.to.clone(),
        technique: spec.technique,
        transfer: spec.transfer,
        compress: spec.compress,
        rounds,
        below_bytes: spec.below.map(|size| size.0),
        keep_images: spec.keep_images,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use limosa_record::unit::Size;

    fn wish(technique: Technique, transfer: Transfer) -> Migrate {
        Migrate {
            node: "server".into(),
            to: "server-b".into(),
            technique,
            transfer,
            compress: false,
            rounds: None,
            below: None,
            keep_images: false,
        }
    }

    #[test]
    fn what_contradicts_itself_is_named_by_its_field() {
        use {Technique::*, Transfer::*};
        let field = |spec: Migrate| nonsense(&spec).map(|found| found.0);
        let below = Some(Size(1_000_000));
        assert_eq!(field(wish(PreCopy, Stream)), Some("technique"));
        assert_eq!(field(Migrate { rounds: Some(0), ..wish(PreCopy, Stream) }), Some("rounds"));
        assert_eq!(field(Migrate { rounds: Some(2), ..wish(Hybrid, Stream) }), Some("rounds"));
        assert_eq!(field(Migrate { below, ..wish(Cold, Stream) }), Some("below"));
        assert_eq!(field(wish(PostCopy, PageServer)), Some("transfer"));
        assert_eq!(field(wish(Hybrid, PageServer)), Some("transfer"));
        let compress = Migrate { compress: true, ..wish(Cold, PageServer) };
        assert_eq!(field(compress), Some("compress"));
        for good in [wish(Cold, PageServer), wish(PostCopy, Rsync), wish(Hybrid, Stream)] {
            assert_eq!(field(good), None);
        }
        let adaptive = Migrate { below, ..wish(PreCopy, PageServer) };
        assert_eq!((field(adaptive.clone()), plan(&adaptive).rounds), (None, MOST_ROUNDS));
        assert_eq!(plan(&wish(Hybrid, Stream)).rounds, 1);
    }
}
