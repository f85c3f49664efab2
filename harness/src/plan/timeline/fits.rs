//! Which action goes with which scheme, and what it can be done to: the one table, by which plans are
//! checked and from which the reference in `experiments/README.md` is made.

use crate::spec::Verb;
use limosa_record::node::Scheme;
use std::fmt::Write;

/// All schemes in the order of the reference.
const SCHEMES: [Scheme; 12] = [
    Scheme::Quic,
    Scheme::Multipath,
    Scheme::Proactive,
    Scheme::Reactive,
    Scheme::Pool,
    Scheme::Symmetric,
    Scheme::SynchronizedSymmetric,
    Scheme::Lookup,
    Scheme::MptcpTunnel,
    Scheme::DualPath,
    Scheme::PostCopy,
    Scheme::Http,
];

/// Whether an action goes with a scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It does.
    Yes,
    /// Where it is about the server, only if it leaves the server running and makes a copy.
    Copies,
    /// Where it is about the server, only if that has an address of its own.
    Address,
    /// It does not: why, and what to do instead.
    No(&'static str, &'static str),
}

/// What a node is to an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Limosa's own server.
    Server,
    /// Limosa's own client.
    Client,
    /// Any other program.
    Command,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Command => "command",
        }
    }
}

/// The nodes that an action can be done to; none when it is about a link.
pub(super) fn takes(verb: Verb) -> &'static [Kind] {
    use Kind::{Client, Command, Server};
    match verb {
        Verb::Announce | Verb::Barrier | Verb::Publish | Verb::Relocate | Verb::Handover => {
            &[Server]
        }
        Verb::Checkpoint | Verb::Restore | Verb::Kill => &[Server, Client, Command],
        Verb::Migrate => &[Server, Command],
        Verb::Attack | Verb::Search => &[Server, Client],
        Verb::Shape | Verb::LinkDown | Verb::LinkUp => &[],
    }
}

/// Whether an action on the experiment's server or client goes with a scheme; `None` is a push.
pub(super) fn fit(scheme: Option<Scheme>, verb: Verb) -> Fit {
    let Some(scheme) = scheme else { return of_a_push(verb) };
    match verb {
        Verb::Announce | Verb::Barrier => announcing(scheme),
        Verb::Publish => publishing(scheme),
        Verb::Checkpoint | Verb::Restore | Verb::Migrate => moving(scheme, verb),
        Verb::Relocate if scheme == Scheme::MptcpTunnel => Fit::Yes,
        Verb::Relocate => {
            Fit::No("only a server of `mptcp-tunnel` moves with its machine", "take `migrate`")
        }
        Verb::Handover if scheme.hands_over() => Fit::Yes,
        Verb::Handover => Fit::No(
            "two servers share the work only under `dual-path` and `post-copy`",
            "take `migrate`, or another scheme",
        ),
        Verb::Attack | Verb::Search => watching(scheme),
        Verb::Shape | Verb::LinkDown | Verb::LinkUp | Verb::Kill => Fit::Yes,
    }
}

fn of_a_push(verb: Verb) -> Fit {
    if takes(verb).is_empty() {
        Fit::Yes
    } else {
        Fit::No(
            "a push has no servers and no clients",
            "only links change under the workload `push`",
        )
    }
}

fn announcing(scheme: Scheme) -> Fit {
    match scheme {
        Scheme::Multipath
        | Scheme::Proactive
        | Scheme::Reactive
        | Scheme::Pool
        | Scheme::SynchronizedSymmetric => Fit::Yes,
        Scheme::Quic => Fit::No(
            "its client takes no announcement and begins again when its connection has died",
            "take `proactive` or `multipath`, for example, or leave the step out",
        ),
        Scheme::Symmetric => Fit::No(
            "its server says nothing before it has moved, and then it speaks first",
            "take `synchronized-symmetric`, or leave the step out",
        ),
        Scheme::Lookup => Fit::No(
            "nobody says where its server will be, the client asks the DNS",
            "take `publish`",
        ),
        Scheme::DualPath | Scheme::PostCopy => {
            Fit::No("its client is told where the copy is by `handover`", "leave the step out")
        }
        Scheme::MptcpTunnel => {
            Fit::No("the kernel announces the new address in `relocate`", "leave the step out")
        }
        Scheme::Http => Fit::No("HTTP/1.1 has no announcements", "leave the step out"),
    }
}

fn publishing(scheme: Scheme) -> Fit {
    if scheme.follows() {
        return Fit::Yes;
    }
    let why = "its client does not ask the DNS, and its server takes no other address";
    Fit::No(why, "take `lookup`, for example, or leave the step out")
}

fn moving(scheme: Scheme, verb: Verb) -> Fit {
    match scheme {
        Scheme::DualPath | Scheme::PostCopy if verb == Verb::Migrate => Fit::No(
            "its server stays, a copy of it takes over",
            "take `checkpoint` with `leave_running: true`, `restore` with `as`, and `handover`",
        ),
        Scheme::DualPath | Scheme::PostCopy => Fit::Copies,
        Scheme::MptcpTunnel => {
            Fit::No("CRIU cannot move sockets of the kernel's MPTCP", "take `relocate`")
        }
        Scheme::Http => Fit::Address,
        _ => Fit::Yes,
    }
}

fn watching(scheme: Scheme) -> Fit {
    match scheme {
        Scheme::Http | Scheme::MptcpTunnel => {
            Fit::No("it has neither packets nor keys of QUIC", "take a scheme of QUIC")
        }
        _ => Fit::Yes,
    }
}

/// The table as Markdown: an action per row, what it can be done to, and a column per scheme.
pub fn reference() -> String {
    let name = |scheme: Scheme| {
        let word = serde_json::to_value(scheme).unwrap_or_default();
        format!("`{}`", word.as_str().unwrap_or_default())
    };
    let mut text = String::from("| action | done to |");
    SCHEMES.iter().for_each(|s| _ = write!(text, " {} |", name(*s)));
    text.push_str(" push |\n|---|---|");
    text.push_str(&"---|".repeat(SCHEMES.len() + 1));
    text.push('\n');
    for verb in Verb::ALL {
        let takes: Vec<&str> = takes(*verb).iter().map(|kind| kind.name()).collect();
        let takes = if takes.is_empty() { "link".into() } else { takes.join(", ") };
        _ = write!(text, "| `{}` | {takes} |", verb.name());
        for scheme in SCHEMES.into_iter().map(Some).chain([None]) {
            let cell = match fit(scheme, *verb) {
                Fit::Yes => "yes",
                Fit::Copies => "copies",
                Fit::Address => "address",
                Fit::No(..) => "–",
            };
            _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_per_action_and_a_column_per_scheme() {
        let text = reference();
        assert_eq!(text.lines().count(), 2 + Verb::ALL.len());
        assert!(text.lines().all(|line| line.matches('|').count() == SCHEMES.len() + 4), "{text}");
        let row =
            |name: &str| text.lines().find(|l| l.starts_with(&format!("| `{name}`"))).unwrap();
        assert!(row("announce").starts_with("| `announce` | server | – | yes |"));
        assert!(row("handover").contains("| – | yes | yes | – | – |"));
    }

    #[test]
    fn reasons_and_hints_are_there_where_nothing_fits() {
        for scheme in SCHEMES.into_iter().map(Some).chain([None]) {
            for verb in Verb::ALL {
                if let Fit::No(why, hint) = fit(scheme, *verb) {
                    assert!(!why.is_empty() && !hint.is_empty() && !why.ends_with('.'));
                }
            }
        }
    }
}
