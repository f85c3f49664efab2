//! Files of strangers: whatever they say, nothing outside the results, the work folder and the cache
//! changes, and nothing of them reaches a terminal that it would obey.

mod files;
mod generated;
mod links;
mod names;
mod shown;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
