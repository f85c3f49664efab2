//! What may have been meant by a name that is not there.

/// Names that a hint lists; the rest is counted.
const MOST_LISTED: usize = 12;

/// Names that are compared, so that a thousand mistakes among a thousand names take no time.
const MOST_COMPARED: usize = 300;

/// A hint for a name that is none of these: which of them is like it, and what there is; `None` when
/// there is nothing. `what` is their plural: `nodes`.
pub fn known<'n>(
    what: &str,
    wanted: &str,
    names: impl Iterator<Item = &'n str> + Clone,
) -> Option<String> {
    let count = names.clone().count();
    let listed: Vec<String> =
        names.clone().take(MOST_LISTED).map(|name| format!("`{name}`")).collect();
    let listed = match (count, count.saturating_sub(MOST_LISTED)) {
        (0, _) => return None,
        (_, 0) => listed.join(", "),
        (_, more) => format!("{} and {more} more", listed.join(", ")),
    };
    let listed = format!("the {what} are {listed}");
    let near = similar(wanted, names);
    Some(near.map_or(listed.clone(), |name| format!("{} {listed}", did_you_mean(name))))
}

/// The question in all hints.
pub(super) fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

/// The name that differs least, if it differs little.
pub(super) fn similar<'n>(
    wanted: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    let near = |name: &str| {
        let longest = wanted.chars().count().max(name.chars().count());
        let distance = strsim::osa_distance(&wanted.to_lowercase(), &name.to_lowercase());
        (distance <= (longest / 3).max(1) && distance < longest).then_some(distance)
    };
    let like = |name: &&str| name.len().abs_diff(wanted.len()) <= wanted.len().max(3) / 3;
    let compared = names.into_iter().filter(like).take(MOST_COMPARED);
    compared.filter_map(|name| Some((near(name)?, name))).min_by_key(|found| found.0).map(|f| f.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_right_is_found() {
        let nodes = ["server", "client", "server-new"];
        assert_eq!(similar("servr", nodes), Some("server"));
        assert_eq!(similar("Server", nodes), Some("server"));
        assert_eq!(similar("clinet", nodes), Some("client"));
        assert_eq!(similar("proxy", nodes), None);
        assert_eq!(similar("", nodes), None);
        assert_eq!(similar("x", ["a", "b"]), None, "all short names are near each other");
        assert_eq!(
            known("nodes", "servr", nodes.into_iter()).as_deref(),
            Some("did you mean `server`? the nodes are `server`, `client`, `server-new`")
        );
        assert_eq!(known("nodes", "x", std::iter::empty()), None);
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..2000).map(|n| format!("host{n}")).collect();
        let hint = known("hosts", "nobody", names.iter().map(String::as_str)).unwrap();
        assert!(hint.ends_with("`host11` and 1988 more"), "{hint}");
    }
}
