//! The object store: what a server holds, in memory, and how it looks on a stream.
//!
//! In: a [`Catalogue`]. Out: objects with version and contents. A range of a file stays in the
//! file until it has moved to another server, so that a checkpoint does not carry the file along.

mod content;
mod version;
pub(crate) mod wire;

pub(crate) use content::{Content, generate};
pub(crate) use version::Version;

use crate::random::Random;
use anyhow::{Context, Result, bail};
use limosa_record::{
    node::{Catalogue, ObjectsDigest, Order},
    row::{ObjectRow, RowFile},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// Name of the file that [`Store::write_rows`] leaves in a server's folder.
const OBJECTS_FILE: &str = "objects.csv";

/// Identifier of an object.
pub(crate) type Id = Arc<str>;

/// Contents of one version of an object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) version: Version,
    pub(crate) content: Content,
}

#[derive(Debug)]
struct Slot {
    priority: u64,
    /// Whether its contents follow from seed, identifier and version.
    generated: bool,
    object: Option<Object>,
}

/// All objects of a server.
#[derive(Debug, Default)]
pub(crate) struct Store {
    seed: u64,
    slots: BTreeMap<Id, Slot>,
}

impl Store {
    /// Fills a store; ranges are of files below `www`.
    pub(crate) fn new(catalogue: &Catalogue, www: &Path) -> Result<Self> {
        let seed = catalogue.seed;
        let mut slots = BTreeMap::new();
        let mut put = |id: &str, priority, generated, content| {
            check(id)?;
            let object = Some(Object { version: Version::default(), content });
            match slots.insert(Id::from(id), Slot { priority, generated, object }) {
                Some(_) => bail!("two objects are called `{id}`"),
                None => Ok(()),
            }
        };
        let fresh =
            |id: &str, size| Content::Memory(generate(seed, id, Version::default(), size).into());
        let ranks = ranks(catalogue.count, catalogue.order, seed);
        for (number, priority) in ranks.into_iter().enumerate() {
            let id = number.to_string();
            put(&id, priority, true, fresh(&id, catalogue.size_bytes))?;
        }
        for object in &catalogue.listed {
            put(&object.id, object.priority, true, fresh(&object.id, object.size_bytes))?;
        }
        if let Some(ranges) = &catalogue.ranges {
            let pieces = content::pieces(&www.join(&ranges.file), ranges.size_bytes)?;
            let ranks = self::ranks(pieces.len() as u64, catalogue.order, seed);
            for ((number, content), priority) in pieces.into_iter().enumerate().zip(ranks) {
                put(&format!("{}/{number}", ranges.file), priority, false, content)?;
            }
        }
        Ok(Self { seed, slots })
    }

    /// The identifier as the catalogue has it, whether the object is held or not.
    pub(crate) fn id(&self, id: &str) -> Option<Id> {
        self.slots.get_key_value(id).map(|(id, _)| id.clone())
    }

    /// The object, when it is held.
    pub(crate) fn get(&self, id: &str) -> Option<&Object> {
        self.slots.get(id)?.object.as_ref()
    }

    /// Takes these contents if they are newer than what is held; says whether they were.
    pub(crate) fn put(&mut self, id: &str, version: Version, content: Content) -> bool {
        let Some(slot) = self.slots.get_mut(id) else { return false };
        let newer = slot.object.as_ref().is_none_or(|held| held.version < version);
        if newer {
            slot.object = Some(Object { version, content });
        }
        newer
    }

    /// Identifier and priority of everything in the catalogue.
    pub(crate) fn list(&self) -> impl Iterator<Item = (&Id, u64)> {
        self.slots.iter().map(|(id, slot)| (id, slot.priority))
    }

    /// Lets go of all contents; the catalogue stays.
    pub(crate) fn forget(&mut self) {
        for slot in self.slots.values_mut() {
            slot.object = None;
        }
    }

    /// Writes a row per object into `objects.csv`.
    pub(crate) fn write_rows(&self, folder: &Path) -> Result<ObjectsDigest> {
        let path = folder.join(OBJECTS_FILE);
        std::fs::write(&path, b"").with_context(|| format!("empty {}", path.display()))?;
        let mut file = RowFile::append(&path)?;
        let (mut all, mut held) = (Sha256::new(), 0);
        for (id, slot) in &self.slots {
            let mut row = ObjectRow {
                object: id.to_string(),
                version: None,
                size_bytes: None,
                sha256: None,
                intact: None,
            };
            if let Some(object) = &slot.object {
                let bytes = object.content.bytes().with_context(|| format!("read {id}"))?;
                let wanted = slot
                    .generated
                    .then(|| generate(self.seed, id, object.version, bytes.len() as u64));
                let sha256 = crate::tls::hex_of(&Sha256::digest(&bytes));
                all.update(format!("{id} {} {sha256}\n", object.version));
                held += 1;
                row.version = Some(object.version.to_string());
                row.size_bytes = Some(bytes.len() as u64);
                row.intact = wanted.map(|wanted| wanted[..] == bytes[..]);
                row.sha256 = Some(sha256);
            }
            file.write(&row)?;
        }
        Ok(ObjectsDigest { held, sha256: crate::tls::hex_of(&all.finalize()) })
    }
}

/// Priorities of `count` objects, by number.
fn ranks(count: u64, order: Order, seed: u64) -> Vec<u64> {
    let mut ranks: Vec<u64> = (0..count).collect();
    match order {
        Order::Ascending => {}
        Order::Descending => ranks.reverse(),
        Order::Shuffled => Random::new(seed, "order").shuffle(&mut ranks),
    }
    ranks
}

fn check(id: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    anyhow::ensure!(!id.is_empty() && id.chars().all(plain), "`{id}` cannot name an object");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use limosa_record::{
        node::{ListedObject, Ranges},
        row,
    };

    fn catalogue() -> Catalogue {
        Catalogue {
            seed: 7,
            count: 3,
            size_bytes: 100,
            order: Order::Descending,
            listed: vec![ListedObject { id: "big".into(), size_bytes: 5_000, priority: 9 }],
            ranges: Some(Ranges { file: "random".into(), size_bytes: 1_000 }),
        }
    }

    #[test]
    fn a_store_holds_its_catalogue_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("random"), vec![7; 2_500]).unwrap();
        let mut store = Store::new(&catalogue(), folder.path()).unwrap();
        let order: Vec<_> = store.list().map(|(id, p)| format!("{id}:{p}")).collect();
        let wanted = ["0:2", "1:1", "2:0", "big:9", "random/0:2", "random/1:1", "random/2:0"];
        assert_eq!(order, wanted);
        assert_eq!(store.get("random/2").unwrap().content.bytes().unwrap()[..], [7; 500]);
        let version = Version { number: 4, client: 1 };
        let newer = generate(7, "1", version, 30);
        assert!(store.put("1", version, Content::Memory(newer.into())));
        assert!(!store.put("1", Version { number: 4, client: 0 }, Content::Memory([].into())));
        store.write_rows(folder.path()).unwrap();
        let digest = store.write_rows(folder.path()).unwrap();
        let rows: Vec<ObjectRow> = row::read(&folder.path().join(OBJECTS_FILE)).unwrap();
        assert_eq!((rows.len(), digest.held), (7, 7));
        assert_eq!(rows[1].version.as_deref(), Some("4.1"));
        assert!(rows.iter().all(|r| r.intact != Some(false) && r.sha256.is_some()));
        store.forget();
        assert!(store.get("1").is_none() && store.id("1").is_some());
        assert_eq!(store.write_rows(folder.path()).unwrap().held, 0);
    }

    #[test]
    fn a_bad_catalogue_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let listed = |id: &str| ListedObject { id: id.into(), size_bytes: 1, priority: 0 };
        let mut twice = Catalogue { count: 2, ..Catalogue::default() };
        twice.listed.push(listed("1"));
        let why = Store::new(&twice, folder.path()).unwrap_err().to_string();
        assert!(why.contains("two objects"), "{why}");
        let odd = Catalogue { listed: vec![listed("a b")], ..Catalogue::default() };
        assert!(Store::new(&odd, folder.path()).is_err());
        assert!(Store::new(&catalogue(), folder.path()).is_err(), "there is no file `random`");
    }
}
