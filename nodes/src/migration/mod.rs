//! Moving objects from the old to the new server while clients go on: the thesis' schemes.
//!
//! ```text
//!   old server (origin)                                     new server (target)
//!   ───────────────────  one QUIC connection, TLS on both  ────────────────────
//!   object by object, in priority order, paced ──────────▶  holds it
//!                                               ◀──────────  held ID VERSION
//!   chooses the cut of ID, if that was current   ──────────▶ commit ID CLIENT CUT
//!   what was written meanwhile                   ──────────▶ …
//!                                               ◀──────────  pull ID   (asked for, not here yet)
//! ```
//!
//! **Exactly one answers.** Each object has, for each client, a *cut*: the old server answers the
//! requests with a smaller number, the new one the others. Only the old server chooses it, once it
//! knows that the new one holds the current version, and ahead of what it has seen of the client
//! ([`margin`]), so that as a rule the new server knows the cut before it matters. The new one never
//! guesses: until it knows the cut it keeps requests waiting.
//!
//! **What clients have seen stays true.** A request names the newest version of the object that its
//! client knows of; no server answers with an older one, whoever answered before.
//!
//! **When one dies** only the client can tell, because both servers may be alive behind a broken
//! link. It sends its requests to the other one marked `gone`. The new server then answers for
//! what it holds and says `lost` of the rest; the old one takes everything back, for it has applied
//! all writes all along.
//!
//! **Fast-changing objects.** An object that was written each time the new server confirmed it is
//! given [`origin::MAX_ROUNDS`] rounds; then its writes are held until one confirmation is current.
//!
//! [`origin`] and [`target`] decide, without sockets and clocks; [`push`] and [`accept`] carry it
//! out.

pub(crate) mod accept;
mod margin;
pub(crate) mod origin;
pub(crate) mod push;
pub(crate) mod service;
pub(crate) mod target;
pub(crate) mod wire;

#[cfg(test)]
mod origin_tests;
#[cfg(test)]
mod target_tests;

/// What a server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer it.
    Answer,
    /// Leave it to the other server.
    NotMine,
    /// Decide again when something has changed.
    Wait,
    /// Get the object first, then decide again.
    Pull,
    /// Say that the object is lost.
    Lost,
}
