//! Finds the files that sources name. Looks at names and metadata alone; opening and reading is the tailer's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::identity::Inode;
use super::source::LogSource;

/// Endings of compressed files, which are never tailed: they were read before they were compressed.
const COMPRESSED: [&str; 5] = ["gz", "zst", "bz2", "xz", "lz4"];
/// Most entries of one folder that are looked at when a file is searched by its inode.
const FOLDER_ENTRIES_MAX: usize = 10_000;

/// A file that a source names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) inode: Inode,
    pub(crate) path: PathBuf,
    /// Index of the source.
    pub(crate) source: usize,
    pub(crate) bytes: u64,
}

/// Every regular file that a source names, once each, at most `files_max`; and whether there were more.
pub(crate) fn scan(sources: &[LogSource], files_max: usize) -> (Vec<Found>, bool) {
    let mut seen = BTreeMap::new();
    for (source, paths) in sources.iter().enumerate().map(|(index, source)| (index, &source.paths)) {
        for path in paths.iter().flat_map(|pattern| expand(pattern)).filter(|path| !is_compressed(path)) {
            let Ok(meta) = fs::metadata(&path) else { continue };
            if !meta.is_file() || seen.contains_key(&Inode::of(&meta)) {
                continue;
            }
            if seen.len() >= files_max {
                return (seen.into_values().collect(), true);
            }
            let inode = Inode::of(&meta);
            seen.insert(inode, Found { inode, path, source, bytes: meta.len() });
        }
    }
    (seen.into_values().collect(), false)
}

/// Whether a pattern can be read at all; what is wrong with it otherwise.
///
/// # Errors
/// The fault and its place.
pub fn check_pattern(pattern: &Path) -> Result<(), String> {
    let text = pattern.to_str().ok_or("not UTF-8")?;
    glob::Pattern::new(text).map(drop).map_err(|error| error.to_string())
}

fn expand(pattern: &Path) -> Vec<PathBuf> {
    let text = pattern.to_str().unwrap_or_default();
    if pattern.exists() || !text.contains(['*', '?', '[']) {
        return vec![pattern.to_owned()];
    }
    glob::glob(text).map(|paths| paths.flatten().collect()).unwrap_or_default()
}

/// Whether the name ends as compressed files' do.
pub(crate) fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| COMPRESSED.iter().any(|known| ending == *known))
}

/// The regular files of the folder that holds `path`.
pub(crate) fn neighbours(path: &Path) -> Vec<(PathBuf, Inode)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let files = entries.take(FOLDER_ENTRIES_MAX).flatten().filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        meta.is_file().then(|| (entry.path(), Inode::of(&meta)))
    });
    files.collect()
}

/// Whether `other` bears the name that rotation gives to a copy of `path`: the same, with an ending behind it.
pub(crate) fn is_rotated_name(path: &Path, other: &Path) -> bool {
    let (Some(name), Some(other_name)) = (path.file_name(), other.file_name()) else { return false };
    let ending = other_name.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
    path.parent() == other.parent()
        && !is_compressed(other)
        && ending
            .and_then(<[u8]>::first)
            .is_some_and(|c| matches!(c, b'.' | b'-' | b'_' | b'~') || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_two_patterns_name_is_found_once_and_compressed_ones_never() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.log", "b.log", "c.txt", "d.log.gz"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("e.log")).unwrap();
        let source = |name: &str| LogSource { paths: vec![folder.path().join(name)], ..LogSource::default() };
        let sources = [source("a.log"), source("*.log*"), source("none.log")];
        let (found, more) = scan(&sources, 10);
        let mut names: Vec<_> =
            found.iter().map(|f| (f.path.file_name().unwrap().to_str().unwrap(), f.source)).collect();
        names.sort_unstable();
        assert_eq!((names.as_slice(), more), (&[("a.log", 0), ("b.log", 1)][..], false));
        assert!(scan(&sources, 1).1);
    }

    #[test]
    fn names_that_rotation_gives_are_known() {
        let name = |other: &str| is_rotated_name(Path::new("/l/app.log"), Path::new(other));
        assert!(name("/l/app.log.1") && name("/l/app.log-20260131") && name("/l/app.log~"));
        assert!(
            !name("/l/app.log") && !name("/l/app.logs") && !name("/m/app.log.1") && !name("/l/app.log.1.gz")
        );
    }
}
