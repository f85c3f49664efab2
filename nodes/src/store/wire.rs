//! How objects are asked for: one bidirectional stream per request.
//!
//! ```text
//! GET /objects/ID CLIENT NUMBER FLOOR TO\r\n
//! PUT /objects/ID CLIENT NUMBER FLOOR TO SIZE\r\n bytes
//!
//! 200 NAME VERSION SIZE\r\n bytes        answered by the server NAME
//! 404 NAME 0.0 0\r\n                     there is no such object
//! 410 NAME 0.0 0\r\n                     it is lost
//! ```
//!
//! NUMBER counts the client's requests from 1; a write makes the version `NUMBER.CLIENT`. FLOOR is
//! the newest version of the object that the client has seen: nobody answers with an older one. TO
//! says who was asked: `both` servers, this one `only`, or this one because the other is `gone`.
//! A server that leaves the answer to the other one resets the stream with [`NOT_MINE`].

use super::Version;
use anyhow::{Context, Result, ensure};
use std::{fmt, str::FromStr};

/// The other server answers.
pub(crate) const NOT_MINE: u32 = 421;

/// Largest body of a PUT in bytes.
pub(crate) const MAX_BODY: u64 = 64 << 20;

/// Who was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// Both servers; exactly one is to answer.
    Both,
    /// Only this one.
    Only,
    /// Only this one, because the client has found the other one gone.
    Gone,
}

/// The first line of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) client: u16,
    pub(crate) number: u64,
    pub(crate) floor: Version,
    pub(crate) to: To,
    /// Size of the body of a write; `None` for a read.
    pub(crate) write: Option<u64>,
}

impl Head {
    /// The version that a write makes.
    pub(crate) fn version(&self) -> Version {
        Version { number: self.number, client: self.client }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, client, number, floor, to, write } = self;
        let method = if write.is_some() { "PUT" } else { "GET" };
        let to = match to {
            To::Both => "both",
            To::Only => "only",
            To::Gone => "gone",
        };
        write!(f, "{method} /objects/{id} {client} {number} {floor} {to}")?;
        write.map_or(Ok(()), |size| write!(f, " {size}"))
    }
}

impl FromStr for Head {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<_> = line.split(' ').collect();
        let (put, rest) = match words[..] {
            ["GET", ref rest @ ..] => (false, rest),
            ["PUT", ref rest @ ..] => (true, rest),
            _ => anyhow::bail!("neither GET nor PUT"),
        };
        ensure!(rest.len() == 5 + usize::from(put), "wrong number of fields");
        let write = rest.get(5).map(|size| size.parse()).transpose().context("size")?;
        ensure!(write.is_none_or(|size| size <= MAX_BODY), "body is too large");
        let to = match rest[4] {
            "both" => To::Both,
            "only" => To::Only,
            "gone" => To::Gone,
            other => anyhow::bail!("`{other}` is nobody who was asked"),
        };
        Ok(Self {
            id: rest[0].strip_prefix("/objects/").context("no object")?.to_owned(),
            client: rest[1].parse().context("client")?,
            number: rest[2].parse().context("number")?,
            floor: rest[3].parse().context("floor")?,
            to,
            write,
        })
    }
}

/// The first line of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    /// Who answers.
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) size: u64,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Ok,
    NotFound,
    Lost,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = match self.code {
            Code::Ok => 200,
            Code::NotFound => 404,
            Code::Lost => 410,
        };
        write!(f, "{code} {} {} {}", self.name, self.version, self.size)
    }
}

impl FromStr for Status {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<_> = line.split(' ').collect();
        let [code, name, version, size] = words[..] else { anyhow::bail!("odd status `{line}`") };
        let code = match code {
            "200" => Code::Ok,
            "404" => Code::NotFound,
            "410" => Code::Lost,
            other => anyhow::bail!("odd code {other}"),
        };
        Ok(Self { code, name: name.to_owned(), version: version.parse()?, size: size.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_a_round_trip() {
        for line in ["GET /objects/random/7 1 12 0.0 both", "PUT /objects/a 0 3 2.0 gone 100"] {
            assert_eq!(line.parse::<Head>().unwrap().to_string(), line);
        }
        for line in ["200 old 4.1 100", "404 new 0.0 0", "410 new 0.0 0"] {
            assert_eq!(line.parse::<Status>().unwrap().to_string(), line);
        }
    }

    #[test]
    fn odd_lines_are_refused() {
        for line in [
            "",
            "GET /objects/a",
            "GET /random 0 1 0.0 both",
            "GET /objects/a 0 1 0.0 all",
            "GET /objects/a 0 1 0.0 both 9",
            "GET /objects/a 70000 1 0.0 both",
            "PUT /objects/a 0 1 0.0 both",
            "PUT /objects/a 0 1 0.0 both 99999999999",
        ] {
            assert!(line.parse::<Head>().is_err(), "{line}");
        }
        assert!("200 old 4 1".parse::<Status>().is_err());
    }
}
