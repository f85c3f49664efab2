//! Where a program is: in `PATH`, or in the folders that an ordinary user's `PATH` lacks.

use std::path::PathBuf;

/// Full path of a program, also in the folders that an ordinary user's `PATH` lacks; the bare name when there is none.
pub fn tool(name: &str) -> PathBuf {
    find_tool(name).unwrap_or_else(|| name.into())
}

/// Full path of a program, or `None` when it is not installed.
pub fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
