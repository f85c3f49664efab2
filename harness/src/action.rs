//! What the steps of a timeline do: the one `match` over [`Action`].

use crate::{
    lab::Lab,
    node::Node,
    plan::Action,
    sys::criu::{Criu, DumpReport, Options},
    timeline::{Outcome, Stage, until},
};
use anyhow::{Context, Result, bail};
use limosa_record::{clock::now_ns, node::Request};
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
}

impl Scene<'_> {
    fn node(&self, name: &str) -> Result<&Node> {
        let found = self.nodes.iter().find(|n| n.name() == name);
        found.with_context(|| format!("there is no node `{name}`"))
    }

    fn criu(&self) -> Result<&Criu> {
        self.criu.context("there is no criu")
    }

    /// The actions that need no preparation.
    async fn at_once(&self, action: &Action) -> Result<String> {
        match action {
            Action::Announce { node, address } => {
                self.node(node)?.ask(self.lab, &Request::Announce(*address)).await?;
                Ok(format!("{node} will be at {address}"))
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
            Action::Checkpoint { .. } | Action::Restore { .. } => bail!("needs preparation"),
        }
    }
}

impl Stage for Scene<'_> {
    async fn apply(&self, action: &Action, planned_ns: i64) -> Result<Outcome> {
        match action {
            Action::Checkpoint { node, image } => {
                let images = self.images.join(image);
                let mut options = Options::new(self.logs.join(image).join("checkpoint"));
                options.begin_ns = planned_ns;
                let dump = self.node(node)?.checkpoint(self.criu()?, &images, &options).await?;
                let detail = format!("{node} as {image}, {} bytes", dump.image_bytes);
                let (started_ns, done_ns) = (dump.started_ns, dump.done_ns);
                self.dumps.borrow_mut().push(dump);
                Ok(Outcome { detail, started_ns, done_ns })
            }
            Action::Restore { node, image, on } => {
                let images = self.images.join(image);
                let mut options = Options::new(self.logs.join(image).join("restore"));
                options.begin_ns = planned_ns;
                let found = self.node(node)?;
                let report = found.restore(self.criu()?, &images, &options, self.lab, on).await?;
                let detail = format!("{node} from {image} on {on}");
                let (started_ns, done_ns) = (report.started_ns, report.done_ns);
                Ok(Outcome { detail, started_ns, done_ns })
            }
            _ => {
                until(planned_ns).await;
                let started_ns = now_ns();
                let detail = self.at_once(action).await?;
                Ok(Outcome { detail, started_ns, done_ns: now_ns() })
            }
        }
    }
}
