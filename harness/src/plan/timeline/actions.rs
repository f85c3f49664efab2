//! What each step does, in the terms of the plan.

use super::{Action, AttackPlan, Complain, Context, CopyPlan, RelocatePlan};
use crate::{
    plan::{LinkPlan, MIGRATION_PORT, NodePlan, SERVER_PORT, nodes::subnets, shape},
    spec::{Kind, Migrate, PathStep, Restore, Role, Step},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

mod migrate;

pub(super) fn action(
    context: &Context<'_>,
    spec: &Step,
    others: &[&Step],
    complain: &mut Complain<'_>,
) -> Option<Action> {
    let given = [
        ("announce", spec.announce.is_some()),
        ("barrier", spec.barrier.is_some()),
        ("publish", spec.publish.is_some()),
        ("checkpoint", spec.checkpoint.is_some()),
        ("restore", spec.restore.is_some()),
        ("migrate", spec.migrate.is_some()),
        ("relocate", spec.relocate.is_some()),
        ("handover", spec.handover.is_some()),
        ("attack", spec.attack.is_some()),
        ("search", spec.search.is_some()),
        ("shape", spec.shape.is_some()),
        ("link_down", spec.link_down.is_some()),
        ("link_up", spec.link_up.is_some()),
        ("kill", spec.kill.is_some()),
    ];
    let names: Vec<&str> = given.iter().filter(|g| g.1).map(|g| g.0).collect();
    if names.len() != 1 {
        let all = given.iter().map(|g| format!("`{}`", g.0)).collect::<Vec<_>>().join(", ");
        let found = if names.is_empty() { "no action".into() } else { names.join(" and ") };
        complain(
            &[],
            format!("a step takes exactly one action, this has {found}"),
            Some(format!("one of {all}")),
        );
        return None;
    }
    if let Some(a) = &spec.announce {
        server(context, &a.node, &["announce".into(), "node".into()], complain)?;
        // An address as such: what nobody is to believe can be announced, too.
        let address = match a.to.parse() {
            Ok(ip) => SocketAddr::new(ip, SERVER_PORT),
            Err(_) => host(context, &a.to, &["announce".into(), "to".into()], complain)?,
        };
        return Some(Action::Announce { node: a.node.clone(), address });
    }
    if let Some(b) = &spec.barrier {
        server(context, &b.node, &["barrier".into(), "node".into()], complain)?;
        return Some(Action::Barrier { node: b.node.clone(), deadline: b.deadline });
    }
    if let Some(p) = &spec.publish {
        server(context, &p.node, &["publish".into(), "node".into()], complain)?;
        if context.experiment.value.dns.is_none() {
            let hint = Some("add `dns: {on: dns}`, where `dns` is a host of the topology".into());
            complain(&["publish".into()], "there is no DNS server".into(), hint);
            return None;
        }
        return Some(Action::Publish { node: p.node.clone() });
    }
    if let Some(c) = &spec.checkpoint {
        node(context, &c.node, &["checkpoint".into(), "node".into()], complain)?;
        let (node, image, leave_running) = (c.node.clone(), c.image.clone(), c.leave_running);
        return Some(Action::Checkpoint { node, image, leave_running });
    }
    if let Some(r) = &spec.restore {
        return restore(context, r, others, complain);
    }
    if let Some(m) = &spec.migrate {
        return migrate(context, m, others, complain);
    }
    if let Some(r) = &spec.relocate {
        return relocate(context, r, complain).map(Action::Relocate);
    }
    if let Some(h) = &spec.handover {
        return handover(context, h, others, complain);
    }
    if let Some(a) = &spec.attack {
        return attack(context, a, complain);
    }
    if let Some(s) = &spec.search {
        let way = ["search".into(), "node".into()];
        node(context, &s.node, &way, complain)?;
        if context.experiment.value.transport.key_log != Some(true) {
            let hint = Some("add `transport: {key_log: true}`".into());
            complain(&way, "its keys are known only from its key log".into(), hint);
            return None;
        }
        return Some(Action::Search { node: s.node.clone() });
    }
    if let Some(s) = &spec.shape {
        return reshape(context, s, complain);
    }
    if let Some(l) = spec.link_down.as_ref().or(spec.link_up.as_ref()) {
        let field = names[0];
        link(context, &l.link, field, complain)?;
        let link = l.link.clone();
        return Some(if field == "link_up" {
            Action::LinkUp { link }
        } else {
            Action::LinkDown { link }
        });
    }
    let kill = spec.kill.as_ref()?;
    let mut copies = others.iter().filter_map(|s| s.restore.as_ref()?.name.as_ref());
    if !copies.any(|copy| *copy == kill.node) {
        node(context, &kill.node, &["kill".into(), "node".into()], complain)?;
    }
    Some(Action::Kill { node: kill.node.clone() })
}

fn restore(
    context: &Context<'_>,
    spec: &Restore,
    others: &[&Step],
    complain: &mut Complain<'_>,
) -> Option<Action> {
    host(context, &spec.on, &["restore".into(), "on".into()], complain)?;
    let made = others.iter().filter_map(|s| s.checkpoint.as_ref()).find(|c| c.image == spec.from);
    let Some(made) = made else {
        let message = format!("no step makes the images `{}`", spec.from);
        let hint = Some(format!(
            "add a step with `checkpoint: {{node: …, as: {}}}` for the same variants",
            spec.from
        ));
        complain(&["restore".into(), "from".into()], message, hint);
        return None;
    };
    address_fits(context, &made.node, &spec.on, &["restore".into(), "on".into()], complain)?;
    let origin = context.nodes.get(&made.node);
    match &spec.name {
        Some(_) if origin.is_some_and(|n| n.command.is_some() || n.address.is_some()) => {
            let message = format!("`{}` cannot be copied", made.node);
            let hint = Some("only Limosa's own server can, without an `address`".into());
            complain(&["restore".into(), "as".into()], message, hint);
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
            complain(&["restore".into(), "as".into()], message, hint);
            return None;
        }
        Some(name) if context.nodes.contains_key(name) => {
            let message = format!("there is a node `{name}` already");
            complain(&["restore".into(), "as".into()], message, None);
            return None;
        }
        Some(name) if origin.is_some_and(|n| n.on == spec.on) => {
            let message = format!("`{name}` cannot be where `{}` still runs", made.node);
            complain(&["restore".into(), "on".into()], message, None);
            return None;
        }
        _ => {}
    }
    let any: IpAddr = match context.network.address(&spec.on)? {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let migration = SocketAddr::new(any, MIGRATION_PORT);
    let copy = spec.name.clone().map(|name| CopyPlan { name, migration });
    let (node, image, on) = (made.node.clone(), spec.from.clone(), spec.on.clone());
    Some(Action::Restore { node, image, on, copy })
}

fn migrate(
    context: &Context<'_>,
    spec: &Migrate,
    others: &[&Step],
    complain: &mut Complain<'_>,
) -> Option<Action> {
    let way = |field: &str| ["migrate".into(), field.into()];
    let mover = node(context, &spec.node, &way("node"), complain)?;
    if mover.role != Some(Role::Server) && mover.command.is_none() {
        complain(&way("node"), format!("`{}` is not a server", spec.node), None);
        return None;
    }
    host(context, &spec.to, &way("to"), complain)?;
    address_fits(context, &spec.node, &spec.to, &way("to"), complain)?;
    let from = &mover.on;
    let moves = |s: &&Step| s.migrate.as_ref().is_some_and(|m| m.node == spec.node);
    if *from == spec.to && others.iter().copied().filter(moves).count() == 1 {
        let message = format!("`{}` is on `{from}` already", spec.node);
        complain(&way("to"), message, None);
        return None;
    }
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
    node(context, &spec.node, &["attack".into(), "node".into()], complain)?;
    host(context, &spec.from, &["attack".into(), "from".into()], complain)?;
    if let Some(name) = &spec.cut {
        let found = context.network.links.iter().any(|l| l.name == *name);
        if !found {
            let hint = one_of("links", context.network.links.iter().map(|l| &l.name));
            let message = format!("there is no link `{name}`");
            complain(&["attack".into(), "cut".into()], message, hint);
            return None;
        }
    }
    let (node, from, cut) = (spec.node.clone(), spec.from.clone(), spec.cut.clone());
    Some(Action::Attack(AttackPlan { kind: spec.kind, node, from, cut }))
}

fn relocate(
    context: &Context<'_>,
    spec: &crate::spec::Relocate,
    complain: &mut Complain<'_>,
) -> Option<RelocatePlan> {
    server(context, &spec.node, &["relocate".into(), "node".into()], complain)?;
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

/// A machine's end comes second: its host takes the cable out, so that the machine keeps its routes.
fn cable<'a>(link: &'a LinkPlan, machine: &str) -> Option<Cable<'a>> {
    let [host, end] = &link.ends;
    (end.0 == machine).then_some(Cable { link: &link.name, machine: end, host })
}

fn handover(
    context: &Context<'_>,
    spec: &crate::spec::Handover,
    others: &[&Step],
    complain: &mut Complain<'_>,
) -> Option<Action> {
    server(context, &spec.from, &["handover".into(), "from".into()], complain)?;
    let restores = || others.iter().filter_map(|s| s.restore.as_ref());
    let Some(copy) = restores().find(|r| r.name.as_ref() == Some(&spec.to)) else {
        let message = format!("no step restores a copy `{}`", spec.to);
        let hint = one_of("copies", restores().filter_map(|r| r.name.as_ref()));
        complain(&["handover".into(), "to".into()], message, hint);
        return None;
    };
    let rate_bytes_per_s = spec.rate.0 / 8;
    if rate_bytes_per_s < 1_000 {
        let message = format!("a rate of {} is below 8kbit/s", spec.rate);
        complain(&["handover".into(), "rate".into()], message, None);
        return None;
    }
    let client = context.nodes.values().find(|n| n.role == Some(Role::Client))?;
    let from = &context.nodes.get(&spec.from)?.on;
    let toward = |place: &str, port| {
        Some(SocketAddr::new(context.network.address_toward(&copy.on, place)?, port))
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
    let found = link(context, &spec.link, "shape", complain)?;
    if found.a_to_b.is_none() {
        let hint = Some("give it `shape: {}` in the topology".into());
        let message = format!("the link `{}` is not shaped at the start", spec.link);
        complain(&["shape".into(), "link".into()], message, hint);
        return None;
    }
    let mut one = |field: &str, wish: Option<&crate::spec::Shape>| {
        let wish = wish?;
        let (traces, links) = (&context.experiment.traces, context.experiment.value.links);
        let failed = |(name, why): shape::FieldError| {
            let way = ["shape".into(), field.into(), name.into()];
            let shown = if shape::is_given(wish, name) { 3 } else { 2 };
            complain(&way[..shown], why, None);
        };
        shape::resolve(wish, traces, links).map_err(failed).ok()
    };
    let a_to_b = one("a_to_b", spec.a_to_b.as_ref()).or_else(|| one("both", spec.both.as_ref()));
    let b_to_a = one("b_to_a", spec.b_to_a.as_ref()).or_else(|| one("both", spec.both.as_ref()));
    Some(Action::Shape { link: spec.link.clone(), a_to_b, b_to_a })
}

pub(super) fn one_of<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Option<String> {
    let names: Vec<_> = names.map(|n| format!("`{n}`")).collect();
    Some(format!("the {what} are {}", names.join(", "))).filter(|_| !names.is_empty())
}

fn node<'a>(
    context: &Context<'a>,
    name: &str,
    way: &[PathStep],
    complain: &mut Complain<'_>,
) -> Option<&'a NodePlan> {
    let found = context.nodes.get(name);
    if found.is_none() {
        let hint = one_of("nodes", context.nodes.keys());
        complain(way, format!("there is no node `{name}`"), hint);
    }
    found
}

fn server(
    context: &Context<'_>,
    name: &str,
    way: &[PathStep],
    complain: &mut Complain<'_>,
) -> Option<()> {
    let node = node(context, name, way, complain)?;
    if node.role != Some(Role::Server) {
        complain(way, format!("`{name}` is not a server"), None);
        return None;
    }
    if node.command.is_some() {
        let hint = Some("a command is moved by `migrate`, or by `checkpoint` and `restore`".into());
        complain(way, format!("`{name}` is not Limosa's own server"), hint);
        return None;
    }
    Some(())
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

fn host(
    context: &Context<'_>,
    name: &str,
    way: &[PathStep],
    complain: &mut Complain<'_>,
) -> Option<SocketAddr> {
    let mut hosts = context.network.places.iter().filter(|(_, p)| p.kind == Kind::Host);
    let address = context.network.address(name).map(|ip| SocketAddr::new(ip, SERVER_PORT));
    let found = address.filter(|_| hosts.clone().any(|(host, _)| host == name));
    if found.is_none() {
        let hint = one_of("hosts", hosts.by_ref().map(|p| p.0));
        complain(way, format!("there is no host `{name}` in the topology"), hint);
    }
    found
}

fn link<'a>(
    context: &Context<'a>,
    name: &str,
    field: &str,
    complain: &mut Complain<'_>,
) -> Option<&'a LinkPlan> {
    let found = context.network.links.iter().find(|l| l.name == name);
    if found.is_none() {
        let hint = one_of("links", context.network.links.iter().map(|l| &l.name));
        complain(&[field.into(), "link".into()], format!("there is no link `{name}`"), hint);
    }
    found
}
