//! When files arrive in a folder: inotify(7).
//!
//! Input: an existing folder. Output: the times of its first new file and of the last one that got
//! its name or was closed. A program of others, such as rsync, tells neither in a useful unit.

use limosa_record::clock::now_ns;
use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};
use std::{convert::Infallible, io, mem::MaybeUninit, os::fd::OwnedFd, path::Path};
use tokio::io::unix::AsyncFd;

/// A folder that is watched. Times are CLOCK_REALTIME in ns.
#[derive(Debug)]
pub struct Arrivals {
    inotify: AsyncFd<OwnedFd>,
    first_ns: Option<i64>,
    last_ns: Option<i64>,
}

impl Arrivals {
    /// Begins to watch. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// When there is no such folder, or the user has no inotify instance left.
    pub fn watch(folder: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let events = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE;
        inotify::add_watch(&inotify, folder, events | WatchFlags::ONLYDIR)?;
        // SAFETY: an OwnedFd is the same open descriptor for as long as the AsyncFd holds it.
        let inotify = unsafe { AsyncFd::register(inotify) }.map_err(|e| e.into_parts().1)?;
        Ok(Self { inotify, first_ns: None, last_ns: None })
    }

    /// Notes arrivals as they come; ends only with an error. An event has the time at which it is
    /// seen, so this has to be polled all the time.
    ///
    /// # Errors
    /// When the kernel does not tell any more.
    pub async fn note(&mut self) -> io::Result<Infallible> {
        loop {
            self.inotify.readable().await?.clear_ready();
            self.drain()?;
        }
    }

    /// When the first file was made, and when the last one was complete; `None` when none came.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn span_ns(&mut self) -> io::Result<Option<(i64, i64)>> {
        self.drain()?;
        Ok(self.first_ns.zip(self.last_ns))
    }

    fn drain(&mut self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(self.inotify.get_ref(), &mut buffer);
        loop {
            match events.next() {
                Ok(event) if event.events().contains(ReadFlags::CREATE) => {
                    self.first_ns.get_or_insert_with(now_ns);
                }
                Ok(_) => self.last_ns = Some(now_ns()),
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, time::Duration};
    use tokio::time::{sleep, timeout};

    #[tokio::test(flavor = "current_thread")]
    async fn the_first_file_and_the_last_name_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut arrivals = Arrivals::watch(folder.path()).unwrap();
        assert_eq!(arrivals.span_ns().unwrap(), None);
        let work = async {
            fs::write(folder.path().join(".a.tmp"), "x").unwrap();
            sleep(Duration::from_millis(50)).await;
            fs::rename(folder.path().join(".a.tmp"), folder.path().join("a")).unwrap();
        };
        let begun = now_ns();
        let noted =
            timeout(Duration::from_millis(100), async { tokio::join!(work, arrivals.note()) });
        assert!(noted.await.is_err());
        let (first_ns, last_ns) = arrivals.span_ns().unwrap().unwrap();
        assert!(first_ns >= begun && last_ns - first_ns > 45_000_000, "{first_ns} {last_ns}");
    }
}
