//! Answers `GET path` on one stream with the bytes of a file below one folder, and
//! `PLAY bytes-per-second path` with the same bytes at that rate, as a video is sent. Where a
//! playback is, only this process' memory knows.
//!
//! A request that cannot be answered resets the stream with one of the codes below, which are
//! HTTP's so that a log explains itself.

use crate::pace::Pace;
use anyhow::{Context, Result, bail, ensure};
use noq::{SendStream, VarInt};
use std::{
    fs::File,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// The request line is malformed.
pub(crate) const BAD_REQUEST: u32 = 400;
/// The path leads out of the folder.
pub(crate) const FORBIDDEN: u32 = 403;
/// There is no such file.
pub(crate) const NOT_FOUND: u32 = 404;
/// The file could not be read.
pub(crate) const READ_ERROR: u32 = 500;

/// Bytes read from the file at a time: large enough to keep two paths fed.
const CHUNK: usize = 256 * 1024;

/// The folder that is served.
#[derive(Debug)]
pub(crate) struct Www(PathBuf);

impl Www {
    /// Serves what is below `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize();
        Ok(Self(folder.context("open the folder to serve")?))
    }

    /// Answers one request, of which this is the first line.
    pub(super) async fn answer(&self, line: &str, mut send: SendStream) -> Result<()> {
        let opened = match parse(line) {
            Ok((path, pace)) => self.open(path).map(|f| (f, pace)).with_context(|| line.to_owned()),
            Err(error) => Err(error.context(Refusal(BAD_REQUEST))),
        };
        let (file, pace) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let code = error.downcast_ref().map_or(READ_ERROR, |Refusal(code)| *code);
                send.reset(VarInt::from_u32(code))?;
                return Err(error);
            }
        };
        match send_file(file, pace, &mut send).await {
            Err(error) if error.is::<io::Error>() => {
                let _ = send.reset(VarInt::from_u32(READ_ERROR));
                Err(error)
            }
            other => other,
        }
    }

    /// The same over a stream of bytes, where a request that cannot be answered ends the stream.
    pub(crate) async fn answer_over(
        &self,
        line: &str,
        send: &mut (impl AsyncWrite + Unpin),
    ) -> Result<()> {
        let (path, mut pace) = parse(line)?;
        let mut file = self.open(path).with_context(|| line.to_owned())?;
        let mut buffer = vec![0; pace.as_ref().map_or(CHUNK, Pace::chunk)];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            if let Some(pace) = &mut pace {
                pace.wait(length).await;
            }
            send.write_all(&buffer[..length]).await?;
        }
    }

    fn open(&self, path: &str) -> Result<File> {
        let relative = path.strip_prefix('/').context(Refusal(BAD_REQUEST))?;
        let plain = |c| matches!(c, Component::Normal(_));
        if relative.is_empty() || !Path::new(relative).components().all(plain) {
            bail!(Refusal(FORBIDDEN));
        }
        let file = self.0.join(relative).canonicalize().map_err(refuse)?;
        if !file.starts_with(&self.0) {
            bail!(Refusal(FORBIDDEN));
        }
        let file = File::open(file).map_err(refuse)?;
        if !file.metadata()?.is_file() {
            bail!(Refusal(NOT_FOUND));
        }
        Ok(file)
    }
}

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal(u32);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refused with code {}", self.0)
    }
}

impl std::error::Error for Refusal {}

fn refuse(error: io::Error) -> anyhow::Error {
    let code = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NOT_FOUND,
        io::ErrorKind::PermissionDenied => FORBIDDEN,
        _ => READ_ERROR,
    };
    anyhow::Error::new(error).context(Refusal(code))
}

/// Path and rate of a request.
fn parse(line: &str) -> Result<(&str, Option<Pace>)> {
    if let Some(path) = line.strip_prefix("GET ") {
        return Ok((path, None));
    }
    let words = line.strip_prefix("PLAY ").and_then(|rest| rest.split_once(' '));
    let (rate, path) = words.context("request is neither `GET path` nor `PLAY rate path`")?;
    let rate = rate.parse().context("rate of a playback")?;
    ensure!(rate > 0, "a playback of 0 bytes per second");
    Ok((path, Some(Pace::new(rate))))
}

async fn send_file(mut file: File, mut pace: Option<Pace>, send: &mut SendStream) -> Result<()> {
    let mut buffer = vec![0; pace.as_ref().map_or(CHUNK, Pace::chunk)];
    loop {
        // The file is in the page cache or soon will be; a thread for it would only be one more
        // thing to checkpoint.
        let length = file.read(&mut buffer)?;
        if length == 0 {
            send.finish()?;
            // The stream must live until everything is acknowledged.
            send.stopped().await?;
            return Ok(());
        }
        if let Some(pace) = &mut pace {
            pace.wait(length).await;
        }
        send.write_all(&buffer[..length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_playback_names_its_rate() {
        assert!(matches!(parse("GET /random"), Ok(("/random", None))));
        let (path, pace) = parse("PLAY 500000 /random").unwrap();
        assert_eq!((path, pace.unwrap().chunk()), ("/random", 2_500));
        for line in ["", "POST /random", "PLAY /random", "PLAY 0 /random", "PLAY x /random"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    fn code(www: &Www, path: &str) -> Option<u32> {
        www.open(path).err().and_then(|e| e.downcast_ref().map(|Refusal(code)| *code))
    }

    #[test]
    fn nothing_outside_the_folder_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("www");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(inside.join("random"), b"x").unwrap();
        std::fs::write(folder.path().join("secret"), b"x").unwrap();
        symlink(folder.path().join("secret"), inside.join("link")).unwrap();
        symlink("random", inside.join("inner")).unwrap();
        let www = Www::new(&inside).unwrap();
        assert_eq!(code(&www, "/random"), None);
        assert_eq!(code(&www, "/inner"), None);
        assert_eq!(code(&www, "/missing"), Some(NOT_FOUND));
        assert_eq!(code(&www, "/random/x"), Some(NOT_FOUND));
        assert_eq!(code(&www, "random"), Some(BAD_REQUEST));
        for path in ["/../secret", "/./../secret", "//etc/passwd", "/link", "/"] {
            assert_eq!(code(&www, path), Some(FORBIDDEN), "{path}");
        }
    }
}
