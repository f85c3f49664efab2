//! One plain TCP connection with a tar archive in it, compressed by zstd if wished.
//!
//! Both ends are threads of the harness whose sockets belong to the namespaces of the two places. The
//! receiver answers with the number of bytes that it has written, so that the sender knows that all
//! is there. Only plain files are taken, and only under plain names.

use super::{Report, Route, STALLED};
use anyhow::{Context, Result, anyhow, bail, ensure};
use limosa_record::{clock::now_ns, fault};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::{Component, Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpSocket,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, error::Elapsed, sleep, timeout},
};

/// Level of zstd; rsync's default, too.
const LEVEL: i32 = 3;

/// Copies the files of `source` into `target`; both exist.
///
/// # Errors
/// When nothing has moved for [`STALLED`], or the target cannot be written.
pub async fn copy(
    route: &Route<'_>,
    source: &Path,
    target: &Path,
    compress: bool,
) -> Result<Report> {
    let started_ns = now_ns();
    let ends = connect(route).await.context("connect the two places")?;
    let (sent, arrived) = carry(ends, source, target, compress, STALLED).await?;
    ensure!(sent.confirmed_bytes == sent.size_bytes, "not all bytes are said to have arrived");
    Ok(Report {
        method: if compress { "stream, zstd" } else { "stream" }.into(),
        started_ns,
        data_ns: arrived.first_ns,
        arrived_ns: arrived.last_ns,
        done_ns: sent.done_ns,
        size_bytes: sent.size_bytes,
        sent_bytes: sent.sent_bytes,
        received_bytes: size_of::<u64>() as u64,
    })
}

/// Both ends of a connection, each on a thread of its own, until all is over or nothing moves.
async fn carry(
    (sending, receiving): (TcpStream, TcpStream),
    source: &Path,
    target: &Path,
    compress: bool,
    limit: Duration,
) -> Result<(Sent, Arrived)> {
    // When these are dropped the connection ends, and with it what the threads wait for.
    let _cut = [Cut(sending.try_clone()?), Cut(receiving.try_clone()?)];
    let moved = Moved::default();
    let (source, target) = (source.to_owned(), target.to_owned());
    let (out, back) = (moved.clone(), moved.clone());
    let receiver = spawn_blocking(move || {
        receive(&receiving, &target, compress, back)
            .with_context(|| format!("take files into {}", target.display()))
    });
    let sender = spawn_blocking(move || {
        send(&sending, &source, compress, out).with_context(|| format!("send {}", source.display()))
    });
    tokio::select! {
        // The first of the two that fails is why the other one would.
        both = async { tokio::try_join!(end(sender), end(receiver)) } => both,
        () = moved.stalled(limit) => bail!("nothing has moved for {limit:?}"),
    }
}

async fn end<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.await.context("an end of the connection broke")?
}

/// Bytes that went through either end. A limit of the sockets would not do: a write that has got rid
/// of a part begins to wait anew.
#[derive(Debug, Clone, Default)]
struct Moved(Arc<AtomicU64>);

impl Moved {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns when nothing has moved for so long.
    async fn stalled(&self, limit: Duration) {
        let (mut before, mut since) = (0, Instant::now());
        while since.elapsed() < limit {
            sleep(limit / 20).await;
            let now = self.0.load(Ordering::Relaxed);
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
    }
}

/// A connection that ends with this.
struct Cut(TcpStream);

impl Drop for Cut {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// The sender's and the receiver's end of one connection, blocking.
async fn connect(route: &Route<'_>) -> Result<(TcpStream, TcpStream)> {
    fault::here("transfer/connect")?;
    let socket =
        |at: SocketAddr| Ok(if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? });
    let listener = route.to.run(|| socket(route.at))?;
    listener.set_reuseaddr(true)?;
    listener.bind(route.at)?;
    let listener = listener.listen(1)?;
    let sender = route.from.run(|| socket(route.at))?;
    sender.bind(SocketAddr::new(route.own, 0))?;
    let late = |_: Elapsed| anyhow!("no answer within {} s", STALLED.as_secs());
    let sender = timeout(STALLED, sender.connect(route.at)).await.map_err(late)??;
    let (receiver, peer) = timeout(STALLED, listener.accept()).await.map_err(late)??;
    ensure!(peer == sender.local_addr()?, "{peer} is not the sender");
    Ok((blocking(sender)?, blocking(receiver)?))
}

fn blocking(stream: tokio::net::TcpStream) -> io::Result<TcpStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[derive(Debug)]
struct Sent {
    size_bytes: u64,
    sent_bytes: u64,
    confirmed_bytes: u64,
    done_ns: i64,
}

/// Counts what goes through it.
struct Counting<T> {
    inner: T,
    bytes: u64,
    moved: Moved,
}

impl<T> Counting<T> {
    fn count(&mut self, bytes: usize) -> usize {
        self.bytes += bytes as u64;
        self.moved.add(bytes);
        bytes
    }
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        Ok(self.count(n))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(bytes)?;
        Ok(self.count(n))
    }
}

fn send(stream: &TcpStream, source: &Path, compress: bool, moved: Moved) -> Result<Sent> {
    let counting = Counting { inner: stream, bytes: 0, moved };
    let mut writer = io::BufWriter::with_capacity(1 << 16, counting);
    let size_bytes = if compress {
        let mut encoder = zstd::Encoder::new(&mut writer, LEVEL)?;
        let size_bytes = pack(&mut encoder, source)?;
        encoder.finish()?;
        size_bytes
    } else {
        pack(&mut writer, source)?
    };
    writer.flush()?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = [0; size_of::<u64>()];
    (&mut &*stream).read_exact(&mut answer)?;
    let confirmed_bytes = u64::from_be_bytes(answer);
    Ok(Sent { size_bytes, sent_bytes: writer.get_ref().bytes, confirmed_bytes, done_ns: now_ns() })
}

/// Returns the bytes in the files.
fn pack(to: impl Write, source: &Path) -> Result<u64> {
    let mut archive = tar::Builder::new(to);
    // CRIU's images have holes, but none that its readers rely on.
    archive.sparse(false);
    let mut names = Vec::new();
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        // A link to the images of a round is no image.
        if entry.file_type()?.is_file() {
            names.push(entry.file_name());
        }
    }
    names.sort();
    let mut bytes = 0;
    for name in names {
        let mut file = File::open(source.join(&name))?;
        bytes += file.metadata()?.len();
        archive.append_file(&name, &mut file)?;
    }
    archive.into_inner()?.flush()?;
    Ok(bytes)
}

#[derive(Debug)]
struct Arrived {
    first_ns: i64,
    last_ns: i64,
}

fn receive(stream: &TcpStream, target: &Path, compress: bool, moved: Moved) -> Result<Arrived> {
    let counting = Counting { inner: stream, bytes: 0, moved };
    let reader = io::BufReader::with_capacity(1 << 16, counting);
    let (bytes, arrived) = if compress {
        unpack(zstd::Decoder::with_buffer(reader)?, target)?
    } else {
        unpack(reader, target)?
    };
    (&mut &*stream).write_all(&bytes.to_be_bytes())?;
    Ok(arrived)
}

/// Returns the bytes that were written, and when.
fn unpack(mut from: impl Read, target: &Path) -> Result<(u64, Arrived)> {
    let (mut bytes, mut first_ns, mut last_ns) = (0, None, 0);
    for entry in tar::Archive::new(&mut from).entries()? {
        let mut entry = entry?;
        first_ns.get_or_insert_with(now_ns);
        let name = plain_name(&entry.path()?)?;
        ensure!(entry.header().entry_type().is_file(), "{} is no file", name.display());
        fault::here("transfer/file")?;
        let mut file = File::create_new(target.join(&name))?;
        bytes += io::copy(&mut entry, &mut file)?;
        last_ns = now_ns();
    }
    // What follows the last entry; the end of the connection tells that it was all of it.
    io::copy(&mut from, &mut io::sink())?;
    let first_ns = first_ns.context("no file has come")?;
    Ok((bytes, Arrived { first_ns, last_ns }))
}

fn plain_name(path: &Path) -> Result<PathBuf> {
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => Ok(PathBuf::from(OsStr::new(name))),
        _ => bail!("{} is not the plain name of a file", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let sending = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let receiving = listener.accept().unwrap().0;
        for stream in [&sending, &receiving] {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        (sending, receiving)
    }

    #[test]
    fn files_arrive_as_they_are_and_zstd_saves_bytes() {
        let home = tempfile::tempdir().unwrap();
        let source = home.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("pages-1.img"), vec![7; 300_000]).unwrap();
        fs::write(source.join("core-1.img"), b"core").unwrap();
        fs::write(source.join("empty.img"), b"").unwrap();
        let mut sizes = Vec::new();
        for compress in [false, true] {
            let target = home.path().join(format!("target-{compress}"));
            fs::create_dir(&target).unwrap();
            let (sending, receiving) = pair();
            let to = target.clone();
            let receiver =
                std::thread::spawn(move || receive(&receiving, &to, compress, Moved::default()));
            let sent = send(&sending, &source, compress, Moved::default()).unwrap();
            let arrived = receiver.join().unwrap().unwrap();
            assert!(arrived.first_ns <= arrived.last_ns && arrived.last_ns <= sent.done_ns);
            assert_eq!((sent.size_bytes, sent.confirmed_bytes), (300_004, 300_004));
            for name in ["pages-1.img", "core-1.img", "empty.img"] {
                let read = |folder: &Path| fs::read(folder.join(name)).unwrap();
                assert!(read(&source) == read(&target), "{name}");
            }
            sizes.push(sent.sent_bytes);
        }
        assert!(sizes[0] > 300_004 && sizes[1] < 2_000, "{sizes:?}");
    }

    #[test]
    fn an_archive_that_is_cut_off_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("a.img"), vec![1; 100_000]).unwrap();
        let mut archive = Vec::new();
        pack(&mut archive, home.path()).unwrap();
        let target = tempfile::tempdir().unwrap();
        assert!(unpack(&archive[..50_000], target.path()).is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn regression_a_dead_link_is_waited_for_once() {
        let home = tempfile::tempdir().unwrap();
        let target = tempfile::tempdir().unwrap();
        // Random bytes, so that zstd does not make them fit into the socket's buffer.
        crate::trial::payload::create(&home.path().join("a.img"), 20_000_000, 1).unwrap();
        for compress in [false, true] {
            // Nobody reads what is sent, and nobody sends what is waited for.
            let (sending, _deaf) = pair();
            let (_dumb, receiving) = pair();
            let begun = Instant::now();
            let limit = Duration::from_millis(400);
            let ends = (sending, receiving);
            let error = carry(ends, home.path(), target.path(), compress, limit).await.unwrap_err();
            assert_eq!(error.to_string(), "nothing has moved for 400ms");
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(3), "{took:?}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_target_that_cannot_be_written_is_told_and_not_the_senders_trouble() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("a.img"), vec![1; 5_000_000]).unwrap();
        let missing = home.path().join("no/such/folder");
        let error = carry(pair(), home.path(), &missing, false, STALLED).await.unwrap_err();
        assert!(error.to_string().starts_with("take files into"), "{error:#}");
    }

    #[test]
    fn only_plain_names_are_taken() {
        assert_eq!(plain_name(Path::new("core-1.img")).unwrap(), Path::new("core-1.img"));
        for path in ["../core-1.img", "/etc/passwd", "a/b", ".."] {
            assert!(plain_name(Path::new(path)).is_err(), "{path}");
        }
    }
}
