//! Which connections a request goes to. The scheme sets it, the workload asks for it.

use crate::store::wire::To;
use noq::Connection;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::watch;

/// A connection to one of the servers: one of the thesis' connection modules.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: Connection,
    /// Whether it leads to the new server.
    pub(crate) new: bool,
    outstanding: AtomicU64,
}

impl Link {
    /// A connection without requests.
    pub(crate) fn new(connection: Connection, new: bool) -> Self {
        Self { connection, new, outstanding: AtomicU64::new(0) }
    }

    /// Requests that are neither answered nor left to the other server.
    pub(crate) fn outstanding(&self) -> u64 {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn count(self: &Arc<Self>) -> Counted {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }
}

/// A request that is out on a link.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Link>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// Nowhere for now.
    Wait,
    /// To one server.
    One {
        /// The connection.
        link: Arc<Link>,
        /// What it is told about the other one.
        to: To,
    },
    /// To both servers.
    Both {
        /// To the old one.
        old: Arc<Link>,
        /// To the new one.
        new: Arc<Link>,
    },
}

/// The route now, and the waiting for the next one.
#[derive(Debug)]
pub(crate) struct Router {
    route: watch::Sender<Route>,
    retries: bool,
}

impl Router {
    /// No route yet. `retries`: whether a request whose connection died is to be sent again over
    /// the next route.
    pub(crate) fn new(retries: bool) -> Self {
        Self { route: watch::Sender::new(Route::Wait), retries }
    }

    /// Requests go there from now on; who waits for a change is woken up in any case.
    pub(crate) fn set(&self, route: Route) {
        self.route.send_replace(route);
    }

    /// Wakes up who waits for a change, although there is none.
    pub(crate) fn again(&self) {
        self.route.send_modify(|_| {});
    }

    pub(super) fn watch(&self) -> watch::Receiver<Route> {
        self.route.subscribe()
    }

    pub(super) fn retries(&self) -> bool {
        self.retries
    }
}
