//! What the controllers of one connection know of each other.
//!
//! Every path's controller holds a [`Member`]; clones of the controller hold the same one, so a
//! clone (noq makes them for statistics and for NAT rebinding) never counts as a second path. The
//! last clone that goes takes the member out of the table.
//!
//! A member is *live* when it was acknowledged not long before the latest acknowledgement of the
//! whole connection. A total outage therefore changes nothing; one silent path among others
//! leaves the live set.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A path that was not acknowledged for this long, or three round trips if that is longer, while
/// another one was, is not live.
const SILENCE: Duration = Duration::from_millis(100);

/// The shared table of one connection.
#[derive(Debug)]
pub(super) struct Registry<T>(Mutex<Table<T>>);

/// The table behind the lock.
#[derive(Debug)]
pub(super) struct Table<T> {
    created: u64,
    members: BTreeMap<u64, Entry<T>>,
    latest_ack: Option<Instant>,
}

/// One path's row in the table.
#[derive(Debug)]
pub(super) struct Entry<T> {
    last_ack: Option<Instant>,
    /// Smoothed round-trip time as of the latest acknowledgement.
    pub(super) rtt: Duration,
    /// What the controllers share.
    pub(super) value: T,
}

/// One path's membership.
#[derive(Debug)]
pub(super) struct Member<T> {
    registry: Arc<Registry<T>>,
    id: u64,
}

impl<T> Registry<T> {
    /// An empty table.
    pub(super) fn new() -> Arc<Self> {
        let table = Table { created: 0, members: BTreeMap::new(), latest_ack: None };
        Arc::new(Self(Mutex::new(table)))
    }

    /// Adds a path.
    pub(super) fn join(self: &Arc<Self>, value: T) -> Arc<Member<T>> {
        let mut table = self.lock();
        let id = table.created;
        table.created += 1;
        table.members.insert(id, Entry { last_ack: None, rtt: Duration::ZERO, value });
        Arc::new(Member { registry: self.clone(), id })
    }

    fn lock(&self) -> MutexGuard<'_, Table<T>> {
        // The table is valid after every statement, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Table<T> {
    /// All paths that were ever added, dead ones included.
    pub(super) fn ever_created(&self) -> u64 {
        self.created
    }

    /// The live paths with their ids.
    pub(super) fn live(&self) -> impl Iterator<Item = (u64, &Entry<T>)> {
        let live = |entry: &Entry<T>| {
            entry.last_ack.zip(self.latest_ack).is_some_and(|(own, latest)| {
                latest.saturating_duration_since(own) <= SILENCE.max(entry.rtt * 3)
            })
        };
        self.members.iter().filter(move |(_, e)| live(e)).map(|(id, e)| (*id, e))
    }
}

impl<T> Member<T> {
    /// This member's key in the table.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Notes an acknowledgement on this path, then lets `f` look at the whole table.
    pub(super) fn acked<R>(
        &self,
        now: Instant,
        rtt: Duration,
        update: impl FnOnce(&mut T),
        look: impl FnOnce(&Table<T>) -> R,
    ) -> R {
        let mut table = self.registry.lock();
        table.latest_ack = Some(table.latest_ack.map_or(now, |latest| latest.max(now)));
        if let Some(entry) = table.members.get_mut(&self.id) {
            entry.last_ack = Some(now);
            entry.rtt = rtt;
            update(&mut entry.value);
        }
        look(&table)
    }

    /// Changes this path's shared value.
    pub(super) fn update(&self, f: impl FnOnce(&mut T)) {
        if let Some(entry) = self.registry.lock().members.get_mut(&self.id) {
            f(&mut entry.value);
        }
    }

    /// Looks at the whole table.
    pub(super) fn look<R>(&self, f: impl FnOnce(&Table<T>) -> R) -> R {
        f(&self.registry.lock())
    }
}

impl<T> Drop for Member<T> {
    fn drop(&mut self) {
        self.registry.lock().members.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    fn live(registry: &Registry<()>) -> Vec<u64> {
        registry.lock().live().map(|(id, _)| id).collect()
    }

    #[test]
    fn a_path_is_live_from_its_first_ack_until_it_falls_behind() {
        let registry = Registry::new();
        let (a, b) = (registry.join(()), registry.join(()));
        let start = Instant::now();
        assert!(live(&registry).is_empty());
        a.acked(start, RTT, |()| {}, |_| ());
        b.acked(start, RTT, |()| {}, |_| ());
        assert_eq!(live(&registry), [0, 1]);
        a.acked(start + Duration::from_millis(301), RTT, |()| {}, |_| ());
        assert_eq!(live(&registry), [0]);
    }

    #[test]
    fn an_outage_of_all_paths_changes_nothing() {
        let registry = Registry::new();
        let (a, b) = (registry.join(()), registry.join(()));
        let start = Instant::now();
        a.acked(start, RTT, |()| {}, |_| ());
        b.acked(start, RTT, |()| {}, |_| ());
        assert_eq!(live(&registry), [0, 1]);
    }

    #[test]
    fn a_member_leaves_with_its_last_holder() {
        let registry = Registry::new();
        let member = registry.join(());
        let clone = member.clone();
        drop(member);
        assert_eq!(registry.lock().members.len(), 1);
        drop(clone);
        assert!(registry.lock().members.is_empty());
        assert_eq!(registry.lock().ever_created(), 1);
    }
}
