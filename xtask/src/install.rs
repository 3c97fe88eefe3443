//! The cache's rule: a directory that bears its final name is whole. What is being made lies under another name until it is renamed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The directory `name` of the cache, made by `make` unless it is there. A second caller waits for the first.
/// A failed or interrupted `make` leaves nothing under the final name, and its rest is removed by the next call.
pub(crate) fn once(cache: &Path, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let whole = cache.join(name);
    if whole.is_dir() {
        return Ok(whole);
    }
    let lock_path = cache.join(format!(".{name}.lock"));
    let lock =
        File::create(&lock_path).with_context(|| format!("failed to create {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("failed to lock {}", lock_path.display()))?;
    if whole.is_dir() {
        return Ok(whole);
    }
    let staging = cache.join(format!(".{name}.staging"));
    remove(&staging)?;
    fs::create_dir_all(&staging).with_context(|| format!("failed to create {}", staging.display()))?;
    make(&staging)?;
    fs::rename(&staging, &whole).with_context(|| format!("failed to put {} in place", whole.display()))?;
    Ok(whole)
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    fn entries(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn makes_once_and_then_finds() {
        let cache = tempfile::tempdir().unwrap();
        let made = once(cache.path(), "x-1", |dir| Ok(fs::write(dir.join("f"), "1")?)).unwrap();
        assert_eq!(fs::read_to_string(made.join("f")).unwrap(), "1");
        let found = once(cache.path(), "x-1", |_| bail!("must not be made again")).unwrap();
        assert_eq!(found, made);
    }

    #[test]
    fn a_failed_make_is_not_taken_for_whole_and_its_rest_vanishes() {
        let cache = tempfile::tempdir().unwrap();
        let broken = |dir: &Path| {
            fs::write(dir.join("half"), "")?;
            bail!("the power went")
        };
        assert!(once(cache.path(), "x-1", broken).is_err());
        assert!(!cache.path().join("x-1").exists());
        let made = once(cache.path(), "x-1", |dir| Ok(fs::write(dir.join("f"), "")?)).unwrap();
        assert_eq!(entries(&made), 1, "what the failed make left is gone");
    }
}
