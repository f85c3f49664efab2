//! What a trial shows of a server and its copy that shared the work.

use super::{Finished, seconds};
use crate::run::TrialRecord;
use anyhow::Result;
use limosa_record::row::{self, ObjectRow, RequestRow, event};
use std::collections::HashMap;

/// How long objects moved, what was lost, and whether every acknowledged write is still there.
pub(super) fn collect(
    finished: &Finished<'_>,
    copies: &[&str],
    record: &mut TrialRecord,
) -> Result<()> {
    let start = finished.steps.iter().find(|s| s.event == "handover").map(|s| s.started_ns);
    let complete = record.events.iter().find(|e| e.event == event::MIGRATION_COMPLETE);
    if let (Some(start), Some(complete)) = (start, complete) {
        record.row.transfer_s = Some(seconds(complete.started_ns - start));
    }
    let lost = finished.servers.iter().filter_map(|s| Some(s.migration?.lost));
    record.row.objects_lost = lost.max();
    // The new server is in charge unless the old one took everything back.
    let new = |name: &str| copies.contains(&name);
    let taken_back = finished.servers.iter().any(|s| s.migration.is_some_and(|m| m.taken_back));
    let in_charge = finished.servers.iter().find(|s| new(&s.name) != taken_back);
    let Some(in_charge) = in_charge else { return Ok(()) };
    let complete = in_charge.migration.is_some_and(|m| m.complete || m.taken_back);
    if complete {
        let file = finished.folder.join(&in_charge.name).join("objects.csv");
        let objects: Vec<ObjectRow> = row::read(&file)?;
        record.row.writes_missing = Some(missing(&record.requests, &objects));
    }
    Ok(())
}

/// Acknowledged writes that a server holds neither itself nor a later version of.
fn missing(requests: &[RequestRow], objects: &[ObjectRow]) -> u64 {
    let held: HashMap<&str, (u64, u64)> = objects
        .iter()
        .filter(|o| o.intact != Some(false))
        .filter_map(|o| Some((&*o.object, version(o.version.as_deref()?)?)))
        .collect();
    let written = requests.iter().filter(|r| r.access == "write" && r.outcome == "ok");
    let lacking = |r: &&RequestRow| {
        let wanted = r.version.as_deref().and_then(version);
        held.get(&*r.object).copied() < wanted
    };
    written.filter(lacking).count() as u64
}

/// `number.client`, in the order in which versions replace each other.
fn version(text: &str) -> Option<(u64, u64)> {
    let (number, client) = text.split_once('.')?;
    Some((number.parse().ok()?, client.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(request: u64, object: &str, outcome: &str) -> RequestRow {
        RequestRow {
            variant: "v".into(),
            repetition: 1,
            request,
            object: object.into(),
            t_s: 0.0,
            response_s: None,
            served_by: None,
            outcome: outcome.into(),
            first_byte_s: None,
            access: "write".into(),
            version: Some(format!("{request}.0")),
            client: None,
        }
    }

    fn object(id: &str, version: &str, intact: bool) -> ObjectRow {
        ObjectRow {
            object: id.into(),
            version: Some(version.into()),
            size_bytes: Some(1),
            sha256: None,
            intact: Some(intact),
        }
    }

    #[test]
    fn a_write_is_there_when_it_or_a_later_one_is() {
        let objects =
            [object("a", "10.0", true), object("b", "2.0", true), object("c", "7.0", false)];
        assert_eq!(missing(&[write(9, "a", "ok"), write(10, "a", "ok")], &objects), 0);
        assert_eq!(missing(&[write(11, "a", "failed: x"), write(2, "b", "ok")], &objects), 0);
        assert_eq!(
            missing(&[write(3, "b", "ok"), write(7, "c", "ok"), write(1, "d", "ok")], &objects),
            3
        );
    }
}
