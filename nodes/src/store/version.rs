//! Versions of objects: the number of the request that wrote them.

use anyhow::{Context, Error, Result};
use std::{fmt, str::FromStr};

/// The request that wrote an object; the greater one wins. With several clients their numbers do
/// not tell who was first, so that an object should be written by one client only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Version {
    /// Number of the request; 0 for what the catalogue began with.
    pub(crate) number: u64,
    /// Number of the client.
    pub(crate) client: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.number, self.client)
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (number, client) = text.split_once('.').context("version without a dot")?;
        Ok(Self { number: number.parse()?, client: client.parse()? })
    }
}
