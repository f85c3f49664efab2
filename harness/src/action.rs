//! What the steps of a timeline do: the one `match` over [`Action`].

use crate::{
    lab::Lab,
    node::Node,
    plan::Action,
    sys::criu::{Criu, DumpReport, RestoreReport},
    timeline::Stage,
};
use anyhow::{Context, Result};
use limosa_record::node::Request;
use std::{cell::RefCell, path::PathBuf};

/// A lab with its nodes, on which actions are carried out.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The network.
    pub lab: &'a Lab,
    /// The processes.
    pub nodes: &'a [Node],
    /// The criu program, when the plan needs one.
    pub criu: Option<&'a Criu>,
    /// Where images go; a folder per name.
    pub images: PathBuf,
    /// Where CRIU's logs go; a folder per action.
    pub logs: PathBuf,
    /// What CRIU reported, in order.
    pub dumps: RefCell<Vec<DumpReport>>,
    /// What CRIU reported, in order.
    pub restores: RefCell<Vec<RestoreReport>>,
}

impl Scene<'_> {
    fn node(&self, name: &str) -> Result<&Node> {
        let found = self.nodes.iter().find(|n| n.name() == name);
        found.with_context(|| format!("there is no node `{name}`"))
    }

    fn criu(&self) -> Result<&Criu> {
        self.criu.context("there is no criu")
    }
}

impl Stage for Scene<'_> {
    async fn apply(&self, action: &Action) -> Result<String> {
        match action {
            Action::Announce { node, address } => {
                self.node(node)?.ask(self.lab, &Request::Announce(*address)).await?;
                Ok(format!("{node} will be at {address}"))
            }
            Action::Checkpoint { node, image } => {
                let images = self.images.join(image);
                let log = self.logs.join(image).join("checkpoint");
                let dump = self.node(node)?.checkpoint(self.criu()?, &images, &log).await?;
                let bytes = dump.image_bytes;
                self.dumps.borrow_mut().push(dump);
                Ok(format!("{node} as {image}, {bytes} bytes"))
            }
            Action::Restore { node, image, on } => {
                let images = self.images.join(image);
                let log = self.logs.join(image).join("restore");
                let found = self.node(node)?;
                let report = found.restore(self.criu()?, &images, &log, self.lab, on).await?;
                self.restores.borrow_mut().push(report);
                Ok(format!("{node} from {image} on {on}"))
            }
            Action::Shape { link, a_to_b, b_to_a } => {
                self.lab.reshape(link, a_to_b.as_ref(), b_to_a.as_ref())?;
                Ok(link.clone())
            }
            Action::LinkDown { link } => {
                self.lab.set_link(link, false)?;
                Ok(link.clone())
            }
            Action::LinkUp { link } => {
                self.lab.set_link(link, true)?;
                Ok(link.clone())
            }
            Action::Kill { node } => {
                self.node(node)?.kill().await?;
                Ok(node.clone())
            }
        }
    }
}
