//! The new server's decisions: who answers, as far as it has been told.
//!
//! A request to both servers waits until the cut of its object is known; a request to this server
//! only is answered, after pulling the object if need be. See [`super`].

use super::Verdict;
use crate::store::{Id, Version, wire::To};
use std::collections::{BTreeMap, BTreeSet};

/// The new server's state. What it holds is in its store.
#[derive(Debug, Default)]
pub(crate) struct Target {
    dual: bool,
    /// Per object and client, the first request that this server answers.
    cuts: BTreeMap<Id, BTreeMap<u16, u64>>,
    /// Objects that were asked for and have not come.
    pulled: BTreeSet<Id>,
    /// Whether the old server can be reached; `None` before it came for the first time.
    linked: Option<bool>,
    complete: bool,
    alone: bool,
    dismissed: bool,
}

impl Target {
    /// A new server under the scheme dual-path (`dual`) or post-copy.
    pub(crate) fn new(dual: bool) -> Self {
        Self { dual, ..Self::default() }
    }

    /// The old server can be reached, or no longer.
    pub(crate) fn linked(&mut self, linked: bool) {
        self.linked = Some(linked);
        if !linked {
            self.pulled.clear();
        }
    }

    /// The old server has chosen a cut.
    pub(crate) fn commit(&mut self, id: Id, client: u16, cut: u64) {
        self.cuts.entry(id).or_default().insert(client, cut);
    }

    /// The old server has handed everything over.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }

    /// The old server has taken everything back.
    pub(crate) fn dismissed(&mut self) {
        self.dismissed = true;
    }

    /// A version has arrived.
    pub(crate) fn arrived(&mut self, id: &str) {
        self.pulled.remove(id);
    }

    /// Whether the object has still to be asked for; it counts as asked for then.
    pub(crate) fn pull(&mut self, id: &Id) -> bool {
        self.linked == Some(true) && self.pulled.insert(id.clone())
    }

    /// A client has found the old server gone. True for the first time, if that matters.
    pub(crate) fn alone(&mut self) -> bool {
        !std::mem::replace(&mut self.alone, true) && !self.complete
    }

    /// Whether a write is to be applied although no version of the object is held: when control
    /// has moved, or when nobody else is left to do it.
    pub(crate) fn may_create(&self, to: To) -> bool {
        !self.dismissed && (!self.dual || to != To::Both)
    }

    /// Whether this server answers a request for an object of which it holds `held`. For a write
    /// that was applied, `held` is its own version.
    pub(crate) fn judge(
        &self,
        id: &str,
        client: u16,
        number: u64,
        to: To,
        floor: Version,
        held: Option<Version>,
    ) -> Verdict {
        let enough = held.is_some_and(|held| held >= floor);
        match to {
            _ if self.dismissed => Verdict::NotMine,
            To::Both => match self.cuts.get(id).and_then(|cuts| cuts.get(&client)) {
                None => Verdict::Wait,
                Some(cut) if number < *cut => Verdict::NotMine,
                Some(_) if enough => Verdict::Answer,
                Some(_) => Verdict::Wait,
            },
            To::Only | To::Gone if enough => Verdict::Answer,
            To::Gone => Verdict::Lost,
            To::Only => match self.linked {
                Some(false) => Verdict::Lost,
                Some(true) if held.is_none() => Verdict::Pull,
                _ => Verdict::Wait,
            },
        }
    }

    /// Whether this server answers for an object, for some client or for all.
    pub(crate) fn owns(&self, id: &str) -> bool {
        !self.dual || self.alone || self.complete || self.cuts.contains_key(id)
    }

    /// Whether it owns everything; whether the old server was found gone before that; whether the
    /// old server took everything back.
    pub(crate) fn status(&self) -> (bool, bool, bool) {
        (self.complete, self.alone && !self.complete, self.dismissed)
    }
}
