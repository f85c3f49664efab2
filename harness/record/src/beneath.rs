//! Making, copying and removing below a folder, and nowhere else.
//!
//! Whatever name a path was made of, and whoever swaps a folder for a link meanwhile: the kernel looks
//! it up from the folder's descriptor, beneath it and through no link (openat2(2), RESOLVE_BENEATH and
//! RESOLVE_NO_SYMLINKS). What would lead out is an error.

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, statat,
    unlinkat,
};
use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Component, Path, PathBuf},
};

/// How the kernel looks a path up.
const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// To look into a folder.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// `folder/name`, where `name` is one plain component of a path.
///
/// # Errors
/// When it is anything else.
pub fn child(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(only)), None) if only == OsStr::new(name) => Ok(folder.join(name)),
        _ => Err(leaves(folder, Path::new(name))),
    }
}

/// Makes a folder below `root` with all on the way to it; one that is there is right.
///
/// # Errors
/// When it cannot be made, lies elsewhere, or a link is on the way.
pub fn create_dir_all(root: &Path, path: &Path) -> io::Result<()> {
    let at = open_root(root)?;
    let mut here = PathBuf::new();
    for part in below(root, path)?.components() {
        let (parent, name) = (open_folder(&at, &here), part.as_os_str());
        let mode = Mode::from_raw_mode(0o777);
        match parent.and_then(|parent| Ok(mkdirat(parent, name, mode)?)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(|e| named("make", path, &e))?,
        }
        here.push(part);
    }
    open_folder(&at, &here).map(drop).map_err(|e| named("make", path, &e))
}

/// Removes a folder below `root` and all that is in it, links as such.
///
/// # Errors
/// When there is none, it cannot be removed, lies elsewhere, or a link is on the way.
pub fn remove_dir_all(root: &Path, path: &Path) -> io::Result<()> {
    let relative = below(root, path)?;
    let name = relative.file_name().ok_or_else(|| leaves(root, path))?;
    let removed = || {
        let at = open_root(root)?;
        let parent = open_folder(&at, relative.parent().unwrap_or(Path::new("")))?;
        // A link in its place is not what was made there.
        empty(openat(&parent, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?)?;
        Ok(unlinkat(&parent, name, AtFlags::REMOVEDIR)?)
    };
    removed().map_err(|e| named("remove", path, &e))
}

/// Removes all that is in a folder.
fn empty(folder: OwnedFd) -> io::Result<()> {
    for (name, kind) in entries(folder.as_fd())? {
        if kind == FileType::Directory {
            empty(openat(&folder, &*name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?)?;
            unlinkat(&folder, &*name, AtFlags::REMOVEDIR)?;
        } else {
            unlinkat(&folder, &*name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Makes a file below `root`, or empties the one that is there.
///
/// # Errors
/// When it cannot be made, is no plain file, has another name elsewhere, or lies elsewhere.
pub fn create(root: &Path, path: &Path, mode: u32) -> io::Result<File> {
    let made = || {
        let (at, relative) = (open_root(root)?, below(root, path)?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File =
            openat2(at, relative, flags, Mode::from_raw_mode(mode), INSIDE).map(Into::into)?;
        check_own(&file)?;
        file.set_len(0)?;
        Ok(file)
    };
    made().map_err(|e| named("make", path, &e))
}

/// Whether a file is a plain one and has no other name.
///
/// # Errors
/// When it is something else.
pub fn check_own(file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    let why = match (found.is_file(), found.nlink()) {
        (true, 0 | 1) => return Ok(()),
        (true, _) => "has another name (a hard link), so it is not written to",
        (false, _) => "is no plain file",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Copies the files and folders in a folder that `take` says yes to; no sockets and no links.
///
/// # Errors
/// When something cannot be read or written, or lies elsewhere.
pub fn copy_folder(
    from: (&Path, &Path),
    to: (&Path, &Path),
    take: &dyn Fn(&OsStr) -> io::Result<bool>,
) -> io::Result<()> {
    create_dir_all(to.0, to.1)?;
    let copied = || {
        let source = open_folder(&open_root(from.0)?, below(from.0, from.1)?)?;
        let target = open_folder(&open_root(to.0)?, below(to.0, to.1)?)?;
        copy(source, target, take)
    };
    copied().map_err(|e| named("copy", from.1, &e))
}

fn copy(
    source: OwnedFd,
    target: OwnedFd,
    take: &dyn Fn(&OsStr) -> io::Result<bool>,
) -> io::Result<()> {
    for (name, kind) in entries(source.as_fd())? {
        if !matches!(kind, FileType::Directory | FileType::RegularFile) || !take(&name)? {
            continue;
        }
        let mode = Mode::from_raw_mode(statat(&source, &*name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
        if kind == FileType::Directory {
            let inner = openat(&source, &*name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
            match mkdirat(&target, &*name, mode) {
                Err(rustix::io::Errno::EXIST) => {}
                other => other?,
            }
            let made = openat(&target, &*name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
            copy(inner, made, take)?;
            continue;
        }
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let read = openat(&source, &*name, OFlags::RDONLY | flags, Mode::empty())?;
        let write = OFlags::WRONLY | OFlags::CREATE | flags;
        let written: File = openat(&target, &*name, write, mode)?.into();
        let mut read: File = read.into();
        check_own(&written)?;
        written.set_len(0)?;
        io::copy(&mut read, &mut &written)?;
    }
    Ok(())
}

/// Names and kinds of all that is in a folder.
fn entries(folder: BorrowedFd<'_>) -> io::Result<Vec<(std::ffi::OsString, FileType)>> {
    let mut all = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                FileType::from_raw_mode(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
            }
            known => known,
        };
        all.push((name.to_owned(), kind));
    }
    Ok(all)
}

/// The folder itself may be reached through links: it is what the user has asked for.
fn open_root(root: &Path) -> io::Result<OwnedFd> {
    let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    Ok(openat(CWD, root, FOLDER, Mode::empty())?)
}

fn open_folder(root: &OwnedFd, relative: &Path) -> io::Result<OwnedFd> {
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    Ok(openat2(root, relative, FOLDER, Mode::empty(), INSIDE)?)
}

/// The way from `root` to `path`, which has to go downwards only.
fn below<'a>(root: &Path, path: &'a Path) -> io::Result<&'a Path> {
    let relative = path.strip_prefix(root).map_err(|_| leaves(root, path))?;
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    if relative.components().all(plain) { Ok(relative) } else { Err(leaves(root, path)) }
}

fn leaves(root: &Path, path: &Path) -> io::Error {
    let why = format!("`{}` is not below {}", path.display(), root.display());
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn named(action: &str, path: &Path, e: &io::Error) -> io::Error {
    let why = match e.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::LOOP | rustix::io::Errno::XDEV) => {
            "a link is on the way, which is not followed".into()
        }
        _ => e.to_string(),
    };
    io::Error::new(e.kind(), format!("{action} {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    /// A folder to work below, and one beside it that has to stay as it is.
    fn places() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let (root, outside) = (place.path().join("root"), place.path().join("outside"));
        fs::create_dir_all(outside.join("deep")).unwrap();
        fs::write(outside.join("deep/kept"), "kept").unwrap();
        fs::create_dir(&root).unwrap();
        (place, root, outside)
    }

    fn untouched(outside: &Path) {
        assert_eq!(fs::read_to_string(outside.join("deep/kept")).unwrap(), "kept");
        assert_eq!(fs::read_dir(outside.join("deep")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
    }

    #[test]
    fn nothing_outside_is_made_or_removed() {
        let (place, root, outside) = places();
        symlink(&outside, root.join("link")).unwrap();
        for way in
            ["../outside", "../outside/deep", "link", "link/deep", "a/../../outside", "", "."]
        {
            let path = root.join(way);
            assert!(remove_dir_all(&root, &path).is_err(), "{way}");
            assert!(create(&root, &path.join("new"), 0o644).is_err() || way.len() < 2, "{way}");
            let made = create_dir_all(&root, &path.join("new"));
            assert!(made.is_err() || way.len() < 2, "{way}");
        }
        assert!(remove_dir_all(&root, &outside).is_err());
        assert!(create_dir_all(&root, place.path()).is_err());
        let all = &|_: &OsStr| Ok(true);
        assert!(copy_folder((&root, &root.join("link")), (&root, &root.join("x")), all).is_err());
        assert!(copy_folder((&root, &outside), (&root, &root.join("x")), all).is_err());
        assert!(copy_folder((&outside, &outside), (&root, &root.join("link")), all).is_err());
        untouched(&outside);
    }

    #[test]
    fn folders_are_made_copied_and_removed() {
        let (_place, root, outside) = places();
        create_dir_all(&root, &root.join("a/b/c")).unwrap();
        create_dir_all(&root, &root.join("a/b/c")).unwrap();
        fs::write(root.join("a/b/file"), "1").unwrap();
        fs::write(root.join("a/b/left"), "2").unwrap();
        symlink(&outside, root.join("a/b/c/link")).unwrap();
        let take = |name: &OsStr| Ok(name != "left");
        copy_folder((&root, &root.join("a")), (&root, &root.join("z")), &take).unwrap();
        assert_eq!(fs::read_to_string(root.join("z/b/file")).unwrap(), "1");
        assert!(!root.join("z/b/left").exists() && !root.join("z/b/c/link").exists());
        assert!(root.join("z/b/c").is_dir());
        remove_dir_all(&root, &root.join("a")).unwrap();
        assert!(!root.join("a").exists());
        let error = remove_dir_all(&root, &root.join("a")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        untouched(&outside);
    }

    #[test]
    fn regression_a_folder_copied_onto_itself_keeps_its_files() {
        let (_place, root, _) = places();
        fs::write(root.join("file"), "12345").unwrap();
        fs::create_dir(root.join("to")).unwrap();
        fs::hard_link(root.join("file"), root.join("to/file")).unwrap();
        let all = &|name: &OsStr| Ok(name == "file");
        assert!(copy_folder((&root, &root), (&root, &root.join("to")), all).is_err());
        assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "12345");
    }

    #[test]
    fn a_child_has_one_plain_name() {
        let folder = Path::new("/f");
        assert_eq!(child(folder, "a.b").unwrap(), Path::new("/f/a.b"));
        for name in ["", ".", "..", "/", "/etc", "a/b", "a/", "../a", "./a"] {
            assert!(child(folder, name).is_err(), "{name:?}");
        }
    }
}
