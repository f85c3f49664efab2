//! What each step does, in the terms of the plan.

use super::{
    Action, AttackPlan, CopyPlan, RelocatePlan,
    fits::{self, Fit},
    resolve::{Complain, Context, Own},
};
use crate::plan::nodes::no_host;
use crate::{
    plan::{MIGRATION_PORT, NodePlan, SERVER_PORT, nodes::subnets, shape},
    spec::{Migrate, PathStep, Restore, Role, Step, Verb, Wish, known},
};
use limosa_lab::{
    network::{Kind, LinkPlan},
    shape::ShapePlan,
};
use limosa_record::unit::Time;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

mod migrate;

/// The action of a step, if it has one that can be done in this variant.
pub(super) fn action(
    context: &Context<'_>,
    own: &Own<'_>,
    spec: &Step,
    complain: &mut Complain<'_>,
) -> Option<Action> {
    let wish = match spec.wish() {
        Ok(wish) => wish,
        Err(found) => {
            let all: Vec<_> = Verb::ALL.iter().map(|verb| format!("`{}`", verb.name())).collect();
            let found: Vec<_> = found.iter().map(|verb| verb.name()).collect();
            let found = if found.is_empty() { "no action".into() } else { found.join(" and ") };
            let message = format!("a step takes exactly one action, this has {found}");
            complain(&[], message, Some(format!("one of {}", all.join(", "))));
            return None;
        }
    };
    let subject = subject(context, own, wish, complain)?;
    if let Some((name, node)) = subject {
        check_fit(context, own, wish, name, node, complain)?;
    }
    resolve(context, own, wish, complain)
}

/// The node that an action is about, if it is about one: its name and what it is, where it is not a
/// copy. Nothing when it is not there.
fn subject<'a>(
    context: &Context<'a>,
    own: &Own<'a>,
    wish: Wish<'a>,
    complain: &mut Complain<'_>,
) -> Option<Option<(&'a str, Option<&'a NodePlan>)>> {
    let verb = wish.verb();
    let (field, name) = match wish {
        Wish::Announce(a) => ("node", &a.node),
        Wish::Barrier(b) => ("node", &b.node),
        Wish::Publish(p) => ("node", &p.node),
        Wish::Checkpoint(c) => ("node", &c.node),
        Wish::Migrate(m) => ("node", &m.node),
        Wish::Relocate(r) => ("node", &r.node),
        Wish::Handover(h) => ("from", &h.from),
        Wish::Attack(a) => ("node", &a.node),
        Wish::Search(s) => ("node", &s.node),
        Wish::Kill(k) => ("node", &k.node),
        Wish::Restore(r) => match own.images.get(&*r.from) {
            Some(made) => ("from", &made.node),
            None => return no_images(own, r, complain),
        },
        Wish::Shape(_) | Wish::LinkDown(_) | Wish::LinkUp(_) => return Some(None),
    };
    let way = [verb.name().into(), field.into()];
    if let Some((name, node)) = context.nodes.get_key_value(name) {
        return Some(Some((name, Some(node))));
    }
    if verb == Verb::Restore {
        // What is wrong with its checkpoint is told there.
        return None;
    }
    if own.copies.contains_key(&**name) {
        if verb == Verb::Kill {
            return Some(Some((name, None)));
        }
        let message = format!("`{name}` is a copy, which only `handover` and `kill` are about");
        complain(&way, message, None);
        return None;
    }
    if context.nodes.is_empty() {
        let (why, hint) = ("a push has no servers and no clients", "only links change then");
        complain(&way, format!("there is no node `{name}`: {why}"), Some(hint.into()));
        return None;
    }
    let hint = known("nodes", name, context.nodes.keys().map(String::as_str));
    complain(&way, format!("there is no node `{name}`"), hint);
    None
}

fn no_images<T>(own: &Own<'_>, spec: &Restore, complain: &mut Complain<'_>) -> Option<T> {
    let wanted: &str = &spec.from;
    let message = format!("no step makes the images `{wanted}`");
    let hint = known("images", wanted, own.images.keys().copied()).unwrap_or_else(|| {
        format!("add a step with `checkpoint: {{node: …, as: {wanted}}}` for the same variants")
    });
    complain(&["restore".into(), "from".into()], message, Some(hint));
    None
}

/// Whether the action can be done to this node at all, and under this scheme.
fn check_fit(
    context: &Context<'_>,
    own: &Own<'_>,
    wish: Wish<'_>,
    name: &str,
    node: Option<&NodePlan>,
    complain: &mut Complain<'_>,
) -> Option<()> {
    let verb = wish.verb();
    let Some(node) = node else { return Some(()) };
    let kind = match (&node.command, node.role) {
        (Some(_), _) | (None, None) => fits::Kind::Command,
        (None, Some(Role::Server)) => fits::Kind::Server,
        (None, Some(Role::Client)) => fits::Kind::Client,
    };
    let takes = fits::takes(verb);
    if !takes.contains(&kind) {
        let field = if verb == Verb::Handover { "from" } else { "node" };
        let way = [verb.name().into(), field.into()];
        let (message, hint) = match kind {
            fits::Kind::Command => (
                format!(
                    "`{name}` is a command, and `{}` needs a node of Limosa's own",
                    verb.name()
                ),
                Some("a command is moved by `migrate`, or by `checkpoint` and `restore`".into()),
            ),
            _ => (format!("`{name}` is not a server"), known("servers", name, servers(context))),
        };
        complain(&way, message, hint);
        return None;
    }
    // A command without a role is nobody's server, whatever the scheme.
    let (Some(_), Some(scheme)) = (node.role, own.scheme) else { return Some(()) };
    let word = serde_json::to_value(scheme).unwrap_or_default();
    let scheme = word.as_str().unwrap_or_default();
    let action = verb.name();
    let (message, hint) = match fits::fit(own.scheme, verb) {
        Fit::Yes => match wish {
            Wish::Restore(r) if r.name.is_some() => (
                format!("a copy has nothing to do under the scheme `{scheme}`"),
                "leave `as` and `leave_running` out, or take `dual-path` or `post-copy`",
            ),
            _ => return Some(()),
        },
        Fit::Copies => match wish {
            Wish::Checkpoint(c) if !c.leave_running => (
                format!(
                    "under the scheme `{scheme}` the server stays, and a copy of it takes over"
                ),
                "add `leave_running: true`",
            ),
            _ => return Some(()),
        },
        Fit::Address if node.address.is_some() || node.role == Some(Role::Client) => {
            return Some(());
        }
        Fit::Address => (
            format!("`{name}` has no `address` that could move along, and its connections with it"),
            "add `address:` to the node, in a subnet of all its places",
        ),
        Fit::No(why, hint) => {
            (format!("`{action}` does not go with the scheme `{scheme}`: {why}"), hint)
        }
    };
    complain(&[action.into()], message, Some(hint.into()));
    None
}

fn servers<'a>(context: &Context<'a>) -> impl Iterator<Item = &'a str> + Clone {
    let nodes = context.nodes.iter();
    nodes.filter(|(_, n)| n.role == Some(Role::Server)).map(|(name, _)| name.as_str())
}

/// An action whose node is there and can take it.
fn resolve(
    context: &Context<'_>,
    own: &Own<'_>,
    wish: Wish<'_>,
    complain: &mut Complain<'_>,
) -> Option<Action> {
    let verb = wish.verb();
    let way = |field: &str| [verb.name().into(), field.into()];
    Some(match wish {
        Wish::Announce(a) => {
            // An address as such: what nobody is to believe can be announced, too.
            let address = match a.to.parse() {
                Ok(ip) => SocketAddr::new(ip, SERVER_PORT),
                Err(_) => host(context, &a.to, &way("to"), complain)?,
            };
            Action::Announce { node: a.node.clone(), address }
        }
        Wish::Barrier(b) => Action::Barrier { node: b.node.clone(), deadline: b.deadline },
        Wish::Publish(p) => {
            if context.experiment.value.dns.is_none() {
                let hint = "add `dns: {on: dns}`, where `dns` is a host of the topology";
                complain(&[verb.name().into()], "there is no DNS server".into(), Some(hint.into()));
                return None;
            }
            Action::Publish { node: p.node.clone() }
        }
        Wish::Checkpoint(c) => Action::Checkpoint {
            node: c.node.clone(),
            image: c.image.to_string(),
            leave_running: c.leave_running,
        },
        Wish::Restore(r) => restore(context, own, r, complain)?,
        Wish::Migrate(m) => migrate(context, m, complain)?,
        Wish::Relocate(r) => Action::Relocate(relocate(context, r, complain)?),
        Wish::Handover(h) => handover(context, own, h, complain)?,
        Wish::Attack(a) => attack(context, a, complain)?,
        Wish::Search(s) => {
            if !own.key_log {
                let hint = Some("add `transport: {key_log: true}`".into());
                complain(&way("node"), "its keys are known only from its key log".into(), hint);
                return None;
            }
            Action::Search { node: s.node.clone() }
        }
        Wish::Shape(s) => reshape(context, s, complain)?,
        Wish::LinkDown(l) | Wish::LinkUp(l) => {
            link(context, &l.link, verb, complain)?;
            let link = l.link.clone();
            match verb {
                Verb::LinkUp => Action::LinkUp { link },
                _ => Action::LinkDown { link },
            }
        }
        Wish::Kill(k) => Action::Kill { node: k.node.clone() },
    })
}

fn restore(
    context: &Context<'_>,
    own: &Own<'_>,
    spec: &Restore,
    complain: &mut Complain<'_>,
) -> Option<Action> {
    let way = |field: &str| ["restore".into(), field.into()];
    host(context, &spec.on, &way("on"), complain)?;
    let made = own.images.get(&*spec.from)?;
    address_fits(context, &made.node, &spec.on, &way("on"), complain)?;
    served(context, &made.node, &spec.on, &way("on"), complain)?;
    let origin = context.nodes.get(&made.node)?;
    let own_server = origin.role == Some(Role::Server) && origin.command.is_none();
    match &spec.name {
        Some(_) if !own_server || origin.address.is_some() => {
            let message = format!("`{}` cannot be copied", made.node);
            let hint = Some("only Limosa's own server can, without an `address`".into());
            complain(&way("as"), message, hint);
            return None;
        }
        None if made.leave_running => {
            let message = format!("`{}` goes on, so its copy needs a name", made.node);
            let hint = Some(format!("add `as: {}-new`", made.node));
            complain(&["restore".into()], message, hint);
            return None;
        }
        Some(name) if !made.leave_running => {
            let message = format!("`{}` itself is restored, not a copy `{name}`", made.node);
            let hint = Some("leave `as` out, or checkpoint with `leave_running: true`".into());
            complain(&way("as"), message, hint);
            return None;
        }
        Some(name) if context.nodes.contains_key(&**name) => {
            let message = format!("there is a node `{name}` already");
            complain(&way("as"), message, None);
            return None;
        }
        None if origin.role == Some(Role::Client) && origin.on != spec.on => {
            let message = format!("`{}` has sockets with addresses of `{}`", made.node, origin.on);
            let hint = format!("a client is restored where it was: `on: {}`", origin.on);
            complain(&way("on"), message, Some(hint));
            return None;
        }
        _ => {}
    }
    let any: IpAddr = match context.network.address(&spec.on)? {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let migration = SocketAddr::new(any, MIGRATION_PORT);
    let copy = spec.name.as_ref().map(|name| CopyPlan { name: name.to_string(), migration });
    let (node, image, on) = (made.node.clone(), spec.from.to_string(), spec.on.clone());
    Some(Action::Restore { node, image, on, copy })
}

fn migrate(context: &Context<'_>, spec: &Migrate, complain: &mut Complain<'_>) -> Option<Action> {
    let way = |field: &str| ["migrate".into(), field.into()];
    host(context, &spec.to, &way("to"), complain)?;
    address_fits(context, &spec.node, &spec.to, &way("to"), complain)?;
    served(context, &spec.node, &spec.to, &way("to"), complain)?;
    if let Some((field, why, hint)) = migrate::nonsense(spec) {
        complain(&way(field), why.into(), Some(hint.into()));
        return None;
    }
    Some(Action::Migrate(migrate::plan(spec)))
}

fn attack(
    context: &Context<'_>,
    spec: &crate::spec::Attack,
    complain: &mut Complain<'_>,
) -> Option<Action> {
    host(context, &spec.from, &["attack".into(), "from".into()], complain)?;
    if let Some(name) = spec.cut.as_ref().filter(|name| !context.links.contains_key(&***name)) {
        let message = format!("there is no link `{name}`");
        complain(&["attack".into(), "cut".into()], message, links(context, name));
        return None;
    }
    let (node, from, cut) = (spec.node.clone(), spec.from.clone(), spec.cut.clone());
    Some(Action::Attack(AttackPlan { kind: spec.kind, node, from, cut }))
}

fn relocate(
    context: &Context<'_>,
    spec: &crate::spec::Relocate,
    complain: &mut Complain<'_>,
) -> Option<RelocatePlan> {
    let machine = &context.nodes.get(&spec.node)?.on;
    let network = context.network;
    let cables: Vec<Cable<'_>> = network.links.iter().filter_map(|l| cable(l, machine)).collect();
    let router = |name: &str| network.places.get(name).is_some_and(|p| p.kind == Kind::Router);
    let Some(new) = cables.iter().find(|c| c.host.0 == spec.to && router(&c.host.0)) else {
        let message = format!("`{machine}` has no link to a router `{}`", spec.to);
        let hint =
            Some(format!("its host will be a router: `ends: [{}.eth1, {machine}.eth1]`", spec.to));
        complain(&["relocate".into(), "to".into()], message, hint);
        return None;
    };
    let Some(old) = cables.iter().find(|c| c.host.0 != spec.to && router(&c.host.0)) else {
        let message = format!("`{machine}` is plugged into no other router than `{}`", spec.to);
        complain(&["relocate".into(), "to".into()], message, None);
        return None;
    };
    let v4 = |end: &(String, String)| {
        let addresses = &network.interface(&end.0, &end.1)?.addresses;
        addresses.iter().map(|a| a.addr()).find(IpAddr::is_ipv4)
    };
    let (Some(old_ip), Some(new_ip), Some(gateway)) =
        (v4(old.machine), v4(new.machine), v4(new.host))
    else {
        let message = "its tunnel needs addresses of IPv4".into();
        complain(&["relocate".into()], message, Some("add `families: [ipv4]`".into()));
        return None;
    };
    Some(RelocatePlan {
        node: spec.node.clone(),
        machine: machine.clone(),
        from: old.host.0.clone(),
        to: spec.to.clone(),
        unplug: old.link.into(),
        plug: new.link.into(),
        old_interface: old.machine.1.clone(),
        new_interface: new.machine.1.clone(),
        to_interface: new.host.1.clone(),
        old: old_ip,
        new: new_ip,
        gateway,
        pause: spec.pause,
        join: spec.join,
    })
}

/// A link of a machine, with the ends at it and at its host: place and interface.
struct Cable<'a> {
    link: &'a str,
    machine: &'a (String, String),
    host: &'a (String, String),
}

fn cable<'a>(link: &'a LinkPlan, machine: &str) -> Option<Cable<'a>> {
    let (machine, host) = match &link.ends {
        [host, end] if end.0 == machine => (end, host),
        [end, host] if end.0 == machine => (end, host),
        _ => return None,
    };
    Some(Cable { link: &link.name, machine, host })
}

fn handover(
    context: &Context<'_>,
    own: &Own<'_>,
    spec: &crate::spec::Handover,
    complain: &mut Complain<'_>,
) -> Option<Action> {
    let Some(copy) = own.copies.get(&*spec.to) else {
        let message = format!("no step restores a copy `{}`", spec.to);
        let hint = known("copies", &spec.to, own.copies.keys().copied()).unwrap_or_else(|| {
            format!("add a step with `restore: {{from: …, on: …, as: {}}}`", spec.to)
        });
        complain(&["handover".into(), "to".into()], message, Some(hint));
        return None;
    };
    let origin = own.images.get(&*copy.from).map(|made| &made.node);
    if let Some(origin) = origin.filter(|origin| **origin != spec.from) {
        let message = format!("`{}` is a copy of `{origin}`, not of `{}`", spec.to, spec.from);
        complain(&["handover".into(), "to".into()], message, None);
        return None;
    }
    let rate_bytes_per_s = spec.rate.0 / 8;
    if rate_bytes_per_s < 1_000 {
        let message = format!("a rate of {} is below 8kbit/s", spec.rate);
        complain(&["handover".into(), "rate".into()], message, None);
        return None;
    }
    let client = context.nodes.values().find(|n| n.role == Some(Role::Client))?;
    let from = &context.nodes.get(&spec.from)?.on;
    // Where clients reach the copy is checked where it is restored.
    reached(context, from, &copy.on, &["handover".into(), "to".into()], complain)?;
    let toward = |place: &str, port| {
        Some(SocketAddr::new(context.reach.way(place, &copy.on).ok()?.to, port))
    };
    Some(Action::Handover {
        from: spec.from.clone(),
        to: spec.to.clone(),
        service: toward(&client.on, SERVER_PORT)?,
        migration: toward(from, MIGRATION_PORT)?,
        rate_bytes_per_s,
    })
}

fn reshape(
    context: &Context<'_>,
    spec: &crate::spec::Reshape,
    complain: &mut Complain<'_>,
) -> Option<Action> {
    let found = link(context, &spec.link, Verb::Shape, complain)?;
    if found.a_to_b.is_none() {
        let hint = Some("give it `shape: {}` in the topology".into());
        let message = format!("the link `{}` is not shaped at the start", spec.link);
        complain(&["shape".into(), "link".into()], message, hint);
        return None;
    }
    let mut one = |field: &str, wish: Option<&crate::spec::Shape>, back: Time| {
        let wish = wish?;
        let (traces, links) = (&context.experiment.traces, context.experiment.value.links);
        let failed = |wrong: shape::FieldError| {
            let way = ["shape".into(), field.into(), wrong.field.into()];
            let shown = if shape::is_given(wish, wrong.field) { 3 } else { 2 };
            complain(&way[..shown], wrong.why, wrong.hint);
        };
        shape::resolve(wish, back, traces, links).map_err(failed).ok()
    };
    // What does not change has the delay of the start.
    let delay = |new: Option<&crate::spec::Shape>, old: &Option<ShapePlan>| {
        let new = new.or(spec.both.as_deref()).map(|shape| shape.delay.unwrap_or_default());
        new.unwrap_or_else(|| Time(old.as_ref().map_or(0, |shape| shape.delay.delay_ns)))
    };
    let forth = delay(spec.a_to_b.as_deref(), &found.a_to_b);
    let back = delay(spec.b_to_a.as_deref(), &found.b_to_a);
    let both = spec.both.as_deref();
    let a_to_b = one("a_to_b", spec.a_to_b.as_deref(), back).or_else(|| one("both", both, back));
    let b_to_a = one("b_to_a", spec.b_to_a.as_deref(), forth).or_else(|| one("both", both, forth));
    Some(Action::Shape { link: spec.link.clone(), a_to_b, b_to_a })
}

/// Whether the client reaches its server where that will be.
fn served(
    context: &Context<'_>,
    node: &str,
    place: &str,
    way: &[PathStep],
    complain: &mut Complain<'_>,
) -> Option<()> {
    if context.nodes.get(node).is_none_or(|n| n.role != Some(Role::Server)) {
        return Some(());
    }
    let client = context.nodes.values().find(|n| n.role == Some(Role::Client))?;
    reached(context, &client.on, place, way, complain)
}

/// Whether a node's own address, if it has one, can be in a place.
fn address_fits(
    context: &Context<'_>,
    name: &str,
    place: &str,
    way: &[PathStep],
    complain: &mut Complain<'_>,
) -> Option<()> {
    let Some(address) = context.nodes.get(name).and_then(|n| n.address) else { return Some(()) };
    if context.network.interface_near(place, address).is_none() {
        let message = format!("`{name}` takes {address} along, which is in no subnet of `{place}`");
        complain(way, message, subnets(context.network, place));
        return None;
    }
    Some(())
}

/// The address at which the client finds what runs in a place.
fn host(
    context: &Context<'_>,
    name: &str,
    way: &[PathStep],
    complain: &mut Complain<'_>,
) -> Option<SocketAddr> {
    if let Some((message, hint)) = no_host(context.network, name) {
        complain(way, message, hint);
        return None;
    }
    let client = context.nodes.values().find(|n| n.role == Some(Role::Client));
    let found = client.and_then(|c| context.reach.way(&c.on, name).ok()).map(|way| way.to);
    Some(SocketAddr::new(found.or_else(|| context.network.address(name))?, SERVER_PORT))
}

/// Whether one place reaches another.
fn reached(
    context: &Context<'_>,
    from: &str,
    to: &str,
    way: &[PathStep],
    complain: &mut Complain<'_>,
) -> Option<()> {
    match context.reach.way(from, to) {
        Ok(_) => Some(()),
        Err(no) => {
            complain(way, no.why, Some(no.hint));
            None
        }
    }
}

fn link<'a>(
    context: &Context<'a>,
    name: &str,
    verb: Verb,
    complain: &mut Complain<'_>,
) -> Option<&'a LinkPlan> {
    let found = context.links.get(name).copied();
    if found.is_none() {
        let message = format!("there is no link `{name}`");
        complain(&[verb.name().into(), "link".into()], message, links(context, name));
    }
    found
}

fn links(context: &Context<'_>, wanted: &str) -> Option<String> {
    known("links", wanted, context.network.links.iter().map(|link| &*link.name))
}
