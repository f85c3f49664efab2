//! The workload `push`: a file is made in one place and copied to another by the real rsync.

use super::{Finished, Host, Middle, expected};
use crate::{
    plan::{PushPlan, PushRoute},
    run::{Phase, verdict::watch::Mark},
    spec::Content,
    trial::{
        payload,
        transfer::{Route, rsync},
    },
};
use anyhow::{Context, Result, ensure};
use limosa_lab::{lab::Lab, sys::process::ExitState};
use limosa_record::clock::now_ns;
use std::{
    cell::RefCell,
    fs::{self, File},
    path::Path,
};

/// Name of the file that is copied.
const FILE: &str = "file.bin";

/// What a file system keeps for itself, at the most.
const RESERVE_BYTES: u64 = 64 << 20;

impl Host {
    /// Makes the file, copies it, and holds what arrived against it.
    pub(super) async fn push(
        &self,
        route: &PushRoute,
        finished: &mut Finished<'_>,
        lab: &Lab,
        begun: &mut Mark,
        phase: &dyn Fn(Phase),
    ) -> Result<Middle> {
        phase(Phase::Nodes);
        let (trial, variant) = (finished.trial, finished.variant);
        let push = variant.push.as_ref().context("the variant copies nothing")?;
        let folders = self.folders(trial, finished.folder)?;
        let desk = folders.desk();
        let (from, to) = (desk.join("source"), desk.join("target"));
        for folder in [&from, &to] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        enough_room(push, desk)?;
        let sha256 = make(push, &from.join(FILE), trial.seed)?;
        let own = *variant.local.first().context("the source has no address")?;
        let (at, from_place, to_place) =
            (variant.connect, lab.place(&route.from)?, lab.place(&route.to)?);
        let route = Route { from: from_place, own, to: to_place, at };
        let links = lab.readings(&expected(&variant.timeline))?;
        *begun = self.machine.mark();
        let zero_ns = now_ns();
        finished.zero_ns = Some(zero_ns);
        phase(Phase::Push);
        let scene = self.scene(finished, lab, Vec::new())?;
        let (report, logs) = (RefCell::new(None), finished.folder.join("rsync"));
        let copied = async {
            report.replace(Some(rsync::copy(&route, &from, &to, &logs, push.compress).await?));
            Ok(ExitState::Exited(0))
        };
        let end = self.until_the_end(finished, &scene, copied, zero_ns, phase).await;
        self.take_readings(finished, lab, begun, &links, end.is_ok())?;
        finished.transfer = report.into_inner();
        if let Ok(Middle::Over(_)) = end {
            let same = payload::sha256(&to.join(FILE))? == sha256;
            finished.file_matches = Some(same);
            ensure!(same, "the file that arrived is not the file that was sent");
        }
        end
    }
}

/// Returns the SHA-256 of the file.
fn make(push: &PushPlan, path: &Path, seed: u64) -> Result<String> {
    match push.content {
        Content::Random => payload::create(path, push.size.0, seed),
        Content::Zeros => {
            let made = File::create(path).and_then(|file| file.set_len(push.size.0));
            made.with_context(|| format!("make {}", path.display()))?;
            payload::sha256(path)
        }
    }
}

/// Better told before the copy than in the middle of it.
fn enough_room(push: &PushPlan, folder: &Path) -> Result<()> {
    let files = match push.content {
        Content::Random => 2,
        // The source has no blocks.
        Content::Zeros => 1,
    };
    let needed = push.size.0.saturating_mul(files).saturating_add(RESERVE_BYTES);
    let system = rustix::fs::statvfs(folder)
        .with_context(|| format!("ask for the room in {}", folder.display()))?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    ensure!(
        free >= needed,
        "a push of {} needs {} bytes in {}, which has {free}\n  hint: set TMPDIR to a larger file system",
        push.size,
        needed,
        folder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use limosa_record::unit::Size;

    #[test]
    fn a_file_without_room_is_refused_before_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let push = |size| PushPlan { size, content: Content::Random, compress: false };
        enough_room(&push(Size(1)), folder.path()).unwrap();
        let error = enough_room(&push(Size(1 << 60)), folder.path()).unwrap_err();
        assert!(error.to_string().contains("hint: set TMPDIR"), "{error}");
    }

    #[test]
    fn zeros_take_no_room_until_they_are_copied() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let push = PushPlan { size: Size(1 << 20), content: Content::Zeros, compress: false };
        let sha256 = make(&push, &path, 7).unwrap();
        let seen = fs::metadata(&path).unwrap();
        assert_eq!((seen.len(), seen.blocks()), (1 << 20, 0));
        assert!(sha256.starts_with("30e14955ebf1352266dc2ff8067e6810"), "{sha256}");
    }
}
