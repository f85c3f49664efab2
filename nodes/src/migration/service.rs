//! What a server does with objects: the store, the role in a migration, and the line to the other
//! server, behind one lock.
//!
//! In: requests of clients, messages of the other server. Out: rulings, messages, events. Nobody
//! keeps the lock while it waits; who has to wait does so with [`Shared::changes`].

use super::{
    Verdict,
    origin::{Command, Next, Origin},
    target::Target,
    wire::{ToOrigin, ToTarget},
};
use crate::{
    events::Events,
    store::{
        Content, Id, Store, Version,
        wire::{Code, Head, Status, To},
    },
};
use limosa_record::{clock, node::MigrationStatus, row::event};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{mpsc::UnboundedSender, watch};

/// What to do with a request.
#[derive(Debug, Clone)]
pub(crate) enum Ruling {
    /// Answer with this.
    Answer(Status, Option<Content>),
    /// Leave it to the other server.
    NotMine,
    /// Ask again when something has changed.
    Wait,
    /// The same, but not for ever: a write that the client knows of is on its way, or lost.
    WaitForVersion,
}

/// This server's part in a migration.
#[derive(Debug)]
pub(crate) enum Role {
    /// None.
    Alone,
    /// The old server.
    Origin(Origin),
    /// The new server.
    Target(Target),
}

/// The state behind the lock.
#[derive(Debug)]
pub(crate) struct Service {
    /// As in `served_by`.
    pub(crate) name: String,
    pub(crate) store: Store,
    pub(crate) role: Role,
    /// Grows when the process becomes somebody else: what was begun before does not count.
    pub(crate) generation: u64,
    /// Whether clients are to be let go.
    pub(crate) released: bool,
    /// Bytes of objects sent or received.
    pub(crate) bytes: u64,
    /// New server: the newest writes to objects that are not here yet.
    early_writes: BTreeMap<Id, (Version, Arc<[u8]>)>,
    to_target: Option<UnboundedSender<ToTarget>>,
    to_origin: Option<UnboundedSender<ToOrigin>>,
    lost: u64,
    events: Events,
    changed: bool,
}

/// The service, for all tasks of a server.
#[derive(Debug)]
pub(crate) struct Shared {
    service: Mutex<Service>,
    changed: watch::Sender<()>,
}

impl Shared {
    /// A server that has no part in a migration.
    pub(crate) fn new(name: String, store: Store, events: Events) -> Self {
        let service = Service {
            name,
            store,
            role: Role::Alone,
            generation: 0,
            released: false,
            bytes: 0,
            early_writes: BTreeMap::new(),
            to_target: None,
            to_origin: None,
            lost: 0,
            events,
            changed: false,
        };
        Self { service: Mutex::new(service), changed: watch::Sender::new(()) }
    }

    /// Does something with the service and carries out what follows from it.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Service) -> T) -> T {
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut service);
        service.settle();
        if std::mem::take(&mut service.changed) {
            self.changed.send_replace(());
        }
        result
    }

    /// To be subscribed to before asking, and waited for after a [`Ruling::Wait`].
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

impl Service {
    /// Becomes the new server: holds nothing, waits for the old one.
    pub(crate) fn become_target(&mut self, name: String, dual: bool) {
        self.name = name;
        self.store.forget();
        self.role = Role::Target(Target::new(dual));
        self.generation += 1;
        self.released = false;
        (self.to_target, self.to_origin) = (None, None);
        self.changed = true;
    }

    /// Becomes the old server.
    pub(crate) fn become_origin(&mut self, dual: bool) {
        let version = |id: &Id| self.store.get(id).map_or(Version::default(), |o| o.version);
        let objects = self.store.list().map(|(id, p)| (id.clone(), p, version(id)));
        self.role = Role::Origin(Origin::new(dual, objects));
        self.changed = true;
    }

    /// A request has arrived; to be called once for each, before [`Self::judge`].
    pub(crate) fn arrived(&mut self, head: &Head, rtt: Duration) {
        let gone = head.to == To::Gone;
        match &mut self.role {
            Role::Alone => {}
            Role::Origin(origin) => {
                origin.arrived(head.client, head.number, head.to, rtt, Instant::now());
            }
            Role::Target(target) => {
                if gone && target.alone() {
                    self.events.now(event::TAKEN_OVER, "a client found the old server gone");
                    self.count_lost();
                }
            }
        }
    }

    /// Decides about a request, and applies it if it is a write.
    pub(crate) fn judge(&mut self, head: &Head, body: Option<&Arc<[u8]>>) -> Ruling {
        let Some(id) = self.store.id(&head.id) else { return self.unknown(head) };
        if let Some(body) = body
            && !self.apply(&id, head, body)
        {
            return Ruling::Wait;
        }
        let held = self.store.get(&id).map(|object| object.version);
        // A write that was applied has seen itself.
        let floor = if body.is_some() { head.version() } else { head.floor };
        let now = Instant::now();
        let verdict = match &mut self.role {
            Role::Alone => Verdict::Answer,
            Role::Origin(origin) => origin.judge(&id, head.client, head.number, head.to, now),
            Role::Target(target) => {
                target.judge(&id, head.client, head.number, head.to, floor, held)
            }
        };
        match verdict {
            Verdict::Answer if held < Some(floor) => Ruling::WaitForVersion,
            Verdict::Answer => self.answer(&id, head),
            Verdict::NotMine => Ruling::NotMine,
            Verdict::Wait if head.to == To::Only && held.is_some() => Ruling::WaitForVersion,
            Verdict::Wait => Ruling::Wait,
            Verdict::Pull => {
                if let Role::Target(target) = &mut self.role
                    && target.pull(&id)
                    && let Some(line) = &self.to_origin
                {
                    let _ = line.send(ToOrigin::Pull { id: id.to_string() });
                }
                Ruling::Wait
            }
            Verdict::Lost => self.lost(),
        }
    }

    /// The answer that an object, or the version that the client knows of, is lost.
    pub(crate) fn lost(&mut self) -> Ruling {
        if matches!(&self.role, Role::Target(target) if !target.status().0) {
            self.count_lost();
        }
        Ruling::Answer(self.status(Code::Lost, Version::default(), 0), None)
    }

    fn count_lost(&mut self) {
        let missing = |(id, _): &(&Id, u64)| self.store.get(id).is_none();
        let lost = self.store.list().filter(missing).count() as u64;
        if self.lost == 0 && lost > 0 {
            self.events.now(event::OBJECTS_LOST, format!("{lost} objects had not arrived"));
        }
        self.lost = lost;
    }

    fn unknown(&self, head: &Head) -> Ruling {
        match (&self.role, head.to) {
            (Role::Target(_), To::Both) => Ruling::NotMine,
            _ => Ruling::Answer(self.status(Code::NotFound, Version::default(), 0), None),
        }
    }

    fn answer(&self, id: &Id, head: &Head) -> Ruling {
        match self.store.get(id) {
            Some(_) if head.write.is_some() => {
                Ruling::Answer(self.status(Code::Ok, head.version(), 0), None)
            }
            Some(object) => {
                let status = self.status(Code::Ok, object.version, object.content.len());
                Ruling::Answer(status, Some(object.content.clone()))
            }
            None => Ruling::Wait,
        }
    }

    fn status(&self, code: Code, version: Version, size: u64) -> Status {
        Status { code, name: self.name.clone(), version, size }
    }

    /// False when writes to the object are held for now.
    fn apply(&mut self, id: &Id, head: &Head, body: &Arc<[u8]>) -> bool {
        let (version, content) = (head.version(), Content::Memory(body.clone()));
        match &mut self.role {
            Role::Alone => {
                self.changed |= self.store.put(id, version, content);
            }
            Role::Origin(origin) => {
                if !origin.may_write(id) {
                    return false;
                }
                if self.store.put(id, version, content) {
                    let both = head.to == To::Both;
                    origin.written(id, version, both, Instant::now());
                    self.changed = true;
                }
            }
            Role::Target(target) => {
                if self.store.get(id).is_some() || target.may_create(head.to) {
                    if self.store.put(id, version, content) {
                        self.tell_held(id, version);
                    }
                } else {
                    let early = self.early_writes.entry(id.clone());
                    let newest = early.or_insert_with(|| (version, body.clone()));
                    if newest.0 < version {
                        *newest = (version, body.clone());
                    }
                }
            }
        }
        true
    }

    /// New server: an object has arrived.
    pub(crate) fn received(&mut self, id: &str, version: Version, bytes: Vec<u8>) {
        let Role::Target(target) = &mut self.role else { return };
        target.arrived(id);
        self.bytes += bytes.len() as u64;
        let Some(id) = self.store.id(id) else {
            return tracing::warn!(id, "an object that is not in the catalogue");
        };
        self.store.put(&id, version, Content::Memory(bytes.into()));
        if let Some((version, bytes)) = self.early_writes.remove(&id) {
            self.store.put(&id, version, Content::Memory(bytes));
        }
        let version = self.store.get(&id).map_or(version, |object| object.version);
        self.tell_held(&id, version);
    }

    fn tell_held(&mut self, id: &Id, version: Version) {
        self.changed = true;
        if let Some(line) = &self.to_origin {
            let _ = line.send(ToOrigin::Held { id: id.to_string(), version: version.to_string() });
        }
    }

    /// New server: the old one has come; it gets to know what is here. It stays the one to talk to
    /// until [`Self::unlinked`].
    pub(crate) fn linked(&mut self, line: UnboundedSender<ToOrigin>) {
        let Role::Target(target) = &mut self.role else { return };
        target.linked(true);
        for (id, _) in self.store.list() {
            if let Some(object) = self.store.get(id) {
                let (id, version) = (id.to_string(), object.version.to_string());
                let _ = line.send(ToOrigin::Held { id, version });
            }
        }
        let _ = line.send(ToOrigin::Ready);
        self.to_origin = Some(line);
        self.changed = true;
    }

    /// New server: the old one cannot be reached, or can again although the line has not changed.
    pub(crate) fn reachable(&mut self, reachable: bool) {
        if let Role::Target(target) = &mut self.role {
            target.linked(reachable);
            self.changed = true;
        }
    }

    /// New server: the line to the old one is dead.
    pub(crate) fn unlinked(&mut self) {
        self.reachable(false);
        self.to_origin = None;
    }

    /// New server: what the old one says.
    pub(crate) fn told(&mut self, message: ToTarget) {
        let Role::Target(target) = &mut self.role else { return };
        match message {
            ToTarget::Hello => {}
            ToTarget::Commit { id, client, cut } => target.commit(id.as_str().into(), client, cut),
            ToTarget::Complete => {
                if !target.status().0 {
                    self.events.now(event::MIGRATION_COMPLETE, "the old server handed over");
                }
                target.complete();
            }
            ToTarget::TakenBack => {
                target.dismissed();
                self.events.now(event::TAKEN_BACK, "the old server goes on alone");
            }
        }
        self.changed = true;
    }

    /// Old server: the new one can be reached, over this line, and holds this.
    pub(crate) fn connected(&mut self, line: UnboundedSender<ToTarget>, held: &[(Id, Version)]) {
        let Role::Origin(origin) = &mut self.role else { return };
        origin.connected(held, Instant::now());
        self.to_target = Some(line);
        self.changed = true;
    }

    /// Old server: the line to the new one is dead.
    pub(crate) fn disconnected(&mut self) {
        self.to_target = None;
    }

    /// Old server: the state machine.
    pub(crate) fn origin(&mut self) -> Option<&mut Origin> {
        match &mut self.role {
            Role::Origin(origin) => {
                self.changed = true;
                Some(origin)
            }
            _ => None,
        }
    }

    /// Old server: what to send next.
    pub(crate) fn next(&mut self) -> Next {
        match &mut self.role {
            Role::Origin(origin) => origin.next(Instant::now()),
            _ => Next::Idle,
        }
    }

    /// Carries out what the old server's machine commands.
    fn settle(&mut self) {
        let Role::Origin(origin) = &mut self.role else { return };
        for command in origin.commands() {
            self.changed = true;
            let ago = |since: Instant| {
                let now = clock::now_ns();
                (now - since.elapsed().as_nanos() as i64, now)
            };
            match command {
                Command::Commit { id, client, cut } => {
                    let id = id.to_string();
                    // Without a line it is said again with the next one.
                    let _ = self
                        .to_target
                        .as_ref()
                        .map(|line| line.send(ToTarget::Commit { id, client, cut }));
                }
                Command::Round { round, objects, since } => {
                    let (from, to) = ago(since);
                    let detail = format!("round {round}: {objects} objects");
                    self.events.span(event::MIGRATION_ROUND, detail, from, to);
                }
                Command::Stopped { id, since } => {
                    let (from, to) = ago(since);
                    let detail = format!("writes to {id} were held");
                    self.events.span(event::SHORT_STOP, detail, from, to);
                }
                Command::Complete => {
                    if !std::mem::replace(&mut self.released, true) {
                        self.events.now(event::MIGRATION_COMPLETE, format!("{} bytes", self.bytes));
                    }
                    let _ = self.to_target.as_ref().map(|line| line.send(ToTarget::Complete));
                }
                Command::TakenBack => {
                    self.events.now(event::TAKEN_BACK, "a client found the new server gone");
                    let _ = self.to_target.as_ref().map(|line| line.send(ToTarget::TakenBack));
                }
            }
        }
    }

    /// For the harness.
    pub(crate) fn migration(&self) -> Option<MigrationStatus> {
        match &self.role {
            Role::Alone => None,
            Role::Origin(origin) => {
                let (objects, held, owned, complete, taken_back) = origin.status();
                Some(MigrationStatus {
                    target: false,
                    connected: self.to_target.is_some(),
                    objects,
                    held,
                    owned,
                    lost: 0,
                    bytes: self.bytes,
                    complete,
                    taken_back,
                })
            }
            Role::Target(target) => {
                let count = |f: &dyn Fn(&Id) -> bool| {
                    self.store.list().filter(|(id, _)| f(id)).count() as u64
                };
                let (complete, _, taken_back) = target.status();
                let (objects, held) = (count(&|_| true), count(&|id| self.store.get(id).is_some()));
                Some(MigrationStatus {
                    target: true,
                    connected: self.to_origin.is_some(),
                    objects,
                    held,
                    owned: count(&|id| self.store.get(id).is_some() && target.owns(id)),
                    // What was missed may have come after all.
                    lost: self.lost.min(objects - held),
                    bytes: self.bytes,
                    complete,
                    taken_back,
                })
            }
        }
    }
}
