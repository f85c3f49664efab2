//! Logs of a node that may be copied: the program's own log, and qlog.
//!
//! A copy of the process has the same files open. They are opened for appending, because CRIU
//! refuses to restore any other file that has grown since the dump; and the copy stops writing
//! into them when it becomes somebody else ([`move_to`]): its log goes on in its own folder, the
//! qlogs of copied connections end.

use noq::{ConnectionId, QlogConfig, QlogFactory, Side};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Name of the log in the folder that a copy moves to; that of its origin's stderr.
const LOG_FILE: &str = "stderr.log";

/// Where the log goes instead of stderr.
static MOVED: Mutex<Option<File>> = Mutex::new(None);

/// How often the process became somebody else.
static MOVES: AtomicU64 = AtomicU64::new(0);

/// From now on logs go there, and qlogs that are open end.
pub(crate) fn move_to(folder: &Path) -> io::Result<()> {
    let file = append(&folder.join(LOG_FILE))?;
    *MOVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    MOVES.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// A writer for the next line of the log.
pub(crate) fn writer() -> Box<dyn Write> {
    match &*MOVED.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(file) => match file.try_clone() {
            Ok(file) => Box::new(file),
            Err(_) => Box::new(io::stderr()),
        },
        None => Box::new(io::stderr()),
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// A qlog per connection, named as noq names them.
#[derive(Debug)]
pub(crate) struct Qlogs {
    folder: PathBuf,
    prefix: String,
}

impl Qlogs {
    /// Into this folder, which is made.
    pub(crate) fn new(folder: PathBuf, prefix: &str) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, prefix: prefix.to_owned() })
    }
}

impl QlogFactory for Qlogs {
    fn for_connection(
        &self,
        side: Side,
        _: SocketAddr,
        initial_dst_cid: ConnectionId,
        _: Instant,
    ) -> Option<QlogConfig> {
        let ms = limosa_record::clock::now_ns() / 1_000_000;
        let side = format!("{side:?}").to_lowercase();
        let name = format!("{}-{ms}-{initial_dst_cid}-{side}.qlog", self.prefix);
        // It tells what a connection carried.
        let file = limosa_record::dir::append(&self.folder.join(name), 0o600);
        let file = file.inspect_err(|error| tracing::warn!(%error, "cannot make a qlog")).ok()?;
        let mortal = Mortal { file, moves: MOVES.load(Ordering::SeqCst) };
        Some(QlogConfig::new(Box::new(BufWriter::new(mortal))))
    }
}

/// A file that is written to until the process becomes somebody else.
#[derive(Debug)]
struct Mortal {
    file: File,
    moves: u64,
}

impl Write for Mortal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.moves == MOVES.load(Ordering::SeqCst) {
            self.file.write(bytes)
        } else {
            Ok(bytes.len())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
