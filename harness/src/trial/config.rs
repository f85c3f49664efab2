//! What each node of a trial is told to do.

use super::Host;
use crate::{
    plan::{DNS_NAME, SERVER_PORT, TrialPlan, VariantPlan, WorkloadPlan},
    spec::Role,
    trial::{certificate::SERVER_NAME, node::CONTROL},
};
use anyhow::{Context, Result};
use limosa_record::node::{
    Catalogue, ClientConfig, NodeConfig, RequestWorkload, Resolver, ServerConfig, StoreConfig,
    Transport, Workload,
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

impl Host {
    /// The configuration of a node that works in `folder`.
    pub(super) fn config(
        &self,
        name: &str,
        role: Role,
        trial: &TrialPlan,
        variant: &VariantPlan,
        folder: &Path,
    ) -> Result<NodeConfig> {
        let transport = variant.transport.as_ref().context("the variant has no transport")?;
        let transport = Transport { seed: trial.seed, ..transport.clone() };
        let with_store = variant.hands_over() || self.plan.workload.download().is_none();
        let catalogue = Catalogue { seed: trial.seed, ..self.plan.workload.catalogue() };
        let wildcard: IpAddr = match variant.connect {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Ok(match role {
            Role::Server => NodeConfig::Server(ServerConfig {
                listen: SocketAddr::new(wildcard, SERVER_PORT),
                control: CONTROL,
                folder: folder.into(),
                certificate: self.certificates.certificate.clone(),
                private_key: self.certificates.private_key.clone(),
                www: self.work.path().join("www"),
                ballast: variant.ballast,
                store: with_store.then(|| StoreConfig {
                    name: name.into(),
                    catalogue,
                    ca: self.certificates.ca.clone(),
                    server_name: SERVER_NAME.into(),
                }),
                transport,
            }),
            Role::Client => NodeConfig::Client(ClientConfig {
                connect: variant.connect,
                fallback: variant.fallback.clone(),
                local: variant.local.clone(),
                behind: variant.behind.iter().map(|(to, number)| (*to, *number)).collect(),
                control: CONTROL,
                folder: folder.into(),
                ca: self.certificates.ca.clone(),
                server_name: SERVER_NAME.into(),
                path: self.plan.workload.download().map_or("/".into(), |d| d.path.clone()),
                save_as: folder.with_file_name("body"),
                range_bytes: self.plan.workload.download().map(|d| d.range.0),
                play_bytes_per_s: self.plan.workload.download().and_then(|d| d.play_bytes_per_s),
                workload: match &self.plan.workload {
                    WorkloadPlan::Download(_) | WorkloadPlan::Push(_) => Workload::Download,
                    WorkloadPlan::Requests(requests) => Workload::Requests(RequestWorkload {
                        catalogue,
                        seed: trial.seed,
                        ..requests.clone()
                    }),
                },
                marks_bytes: variant.marks_bytes(),
                resolver: self
                    .plan
                    .dns
                    .as_ref()
                    .map(|dns| Resolver { server: dns.address, name: DNS_NAME.into() }),
                number: 0,
                clients: variant.clients,
                transport,
            }),
        })
    }
}
