//! One variant of a workload with a client: where the client connects, from which of its
//! interfaces, and with which transport.

use super::{Action, NodePlan, Reach, StepPlan, VariantPlan, Way, timeline::Context};
use crate::spec::{PathStep, Problem, Role, Transport};
use indexmap::IndexMap;
use limosa_record::{
    node::{self, Congestion, Ladder, Profile, Scheme},
    unit::Time,
};
use std::net::SocketAddr;

/// The variant without its shapes, or what is wrong with its ways.
pub(super) fn resolve(
    context: &Context<'_>,
    name: &str,
    timeline: Vec<StepPlan>,
    problems: &mut Vec<Problem>,
) -> Option<VariantPlan> {
    let spec = &context.experiment.value;
    let variant = &spec.variants[name];
    let scheme = variant.scheme;
    let of = |role| context.nodes.iter().find(|(_, n)| n.role == Some(role));
    let ((serves, serving), (_, client)) = (of(Role::Server)?, of(Role::Client)?);
    let restored = timeline.iter().filter_map(|s| match &s.action {
        Action::Restore { node, on, .. } if node == serves => Some(on.as_str()),
        Action::Migrate(m) if m.node == *serves => Some(m.to.as_str()),
        _ => None,
    });
    let places: Vec<&str> = std::iter::once(&*serving.on).chain(restored).collect();
    let ways = match ways(context.reach, serving, &client.on, &places) {
        Ok(ways) => ways,
        Err(why) => {
            let way: Vec<PathStep> = match &spec.nodes {
                Some(_) => vec!["nodes".into(), serves.into(), "on".into()],
                None => vec!["topology".into()],
            };
            let problem = context.experiment.problem(&way, why.why, Some(why.hint));
            if !problems.contains(&problem) {
                problems.push(problem);
            }
            return None;
        }
    };
    let at = |way: &Way<'_>| SocketAddr::new(serving.address.unwrap_or(way.to), serving.port());
    let connect = ways.first().map(at)?;
    let mut fallback: Vec<SocketAddr> = ways.iter().skip(1).map(at).collect();
    fallback.dedup();
    if fallback.is_empty() {
        fallback.push(connect);
    }
    let mut used: Vec<(&str, std::net::IpAddr)> = Vec::new();
    for way in &ways {
        if !used.iter().any(|(name, _)| *name == way.interface.name) {
            used.push((&way.interface.name, way.from));
        }
    }
    if scheme == Some(Scheme::Multipath) {
        // Every interface that has a way to the server now or later, the one to begin with first.
        let own = &context.network.places[&client.on].interfaces;
        let further = own.iter().filter_map(|interface| {
            ways.iter().find_map(|way| context.reach.way_from(&client.on, interface, way.to))
        });
        let begins = used.first().map(|first| first.0);
        let further: Vec<_> = further.map(|way| (&*way.interface.name, way.from)).collect();
        used.retain(|(name, _)| Some(*name) == begins);
        used.extend(further.into_iter().filter(|(name, _)| Some(*name) != begins));
    }
    let number = |way: &Way<'_>| used.iter().position(|(name, _)| *name == way.interface.name);
    let behind = ways.iter().filter_map(|way| Some((at(way).ip(), number(way)?)));
    // Schemes with two servers have an interface for each.
    let behind = behind
        .filter(|(_, number)| *number > 0 && !scheme.is_some_and(Scheme::hands_over))
        .collect();
    Some(VariantPlan {
        scheme,
        transport: scheme.map(|scheme| transport(scheme, &variant.transport, &spec.transport)),
        connect,
        fallback,
        local: used.iter().map(|(_, ip)| *ip).collect(),
        interfaces: used.iter().map(|(name, _)| (*name).to_owned()).collect(),
        behind,
        timeline,
        shapes: IndexMap::new(),
        clients: variant.clients.unwrap_or(1),
        ballast: variant.ballast.as_ref().map(|b| node::Ballast {
            bytes: b.size.0,
            dirty_bytes_per_s: b.dirty.map_or(0, |rate| rate.0 / 8),
            hot_share: b.hot.map_or(1.0, |share| share.0),
        }),
        push: None,
    })
}

/// From a client to each of these places, in one family for all.
fn ways<'n>(
    reach: &Reach<'n>,
    serving: &NodePlan,
    client: &str,
    places: &[&str],
) -> Result<Vec<Way<'n>>, super::NoWay> {
    let in_family = |v4: bool| {
        let way = |place: &&str| match serving.address {
            Some(own) => reach.way_near(client, place, own),
            None => reach.way_in(v4, client, place),
        };
        places.iter().map(way).collect::<Result<Vec<_>, _>>()
    };
    let v4_first = match serving.address {
        Some(own) => own.is_ipv4(),
        None => reach.is_v4_first(places[0]),
    };
    in_family(v4_first).or_else(|why| in_family(!v4_first).map_err(|_| why))
}

fn transport(scheme: Scheme, own: &Transport, common: &Transport) -> node::Transport {
    let profile = own.profile.or(common.profile).unwrap_or(Profile::Modern);
    let usual = match (scheme, profile) {
        (Scheme::Multipath, Profile::Modern) => Congestion::Olia,
        (Scheme::Multipath, Profile::Paper2025) => Congestion::OliaMpquic,
        _ => Congestion::Cubic,
    };
    let time = |own: Option<Time>, common: Option<Time>, usual| own.or(common).unwrap_or(usual);
    node::Transport {
        scheme,
        profile,
        congestion: own.congestion.or(common.congestion).unwrap_or(usual),
        ladder: own.ladder.or(common.ladder).unwrap_or(match scheme {
            Scheme::Multipath | Scheme::Pool => Ladder::Paper,
            _ => Ladder::Fast,
        }),
        idle_timeout: time(own.idle_timeout, common.idle_timeout, Time::from_secs(30)),
        keep_alive: own.keep_alive.or(common.keep_alive),
        moves_noticed: true,
        sample_interval: time(own.sample_interval, common.sample_interval, Time::from_millis(100)),
        seed: 0,
        qlog: own.qlog.or(common.qlog).unwrap_or(false),
        key_log: own.key_log.or(common.key_log).unwrap_or(false),
        early_data: own.early_data.or(common.early_data).unwrap_or(false),
        initial_window_bytes: own.initial_window.or(common.initial_window).map(|s| s.0),
        pool_order: own.pool_order.or(common.pool_order).unwrap_or_default(),
    }
}
