//! Copy-truncate rotation: tells a copy of a tailed file from a file of its own, and finds the copy when the original was truncated.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{Tailed, read_at};
use crate::logs::discover::{is_rotated_name, neighbours};
use crate::logs::identity::Inode;

/// How much of a suspected copy is compared with its original, counted from its end. Its start is compared as well.
const COMPARED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes compared at once.
const PIECE_BYTES: usize = 64 * 1024;

/// The file beside `tailed` that holds the content which it lost by truncation.
pub(super) fn find(tailed: &Tailed, taken: impl Fn(Inode) -> bool) -> Option<(File, PathBuf, Inode)> {
    candidates(&tailed.path, taken).find(|(file, ..)| tailed.is_copied_in(file).unwrap_or(false))
}

/// Files beside `tailed` that hold only what was read of it before it was truncated: copies that were finished too early.
pub(super) fn stale(tailed: &Tailed, taken: impl Fn(Inode) -> bool) -> Vec<(File, PathBuf, Inode)> {
    candidates(&tailed.path, taken).filter(|(file, ..)| tailed.is_ahead_of(file).unwrap_or(false)).collect()
}

/// Files beside `path` that may be copies of it and that nobody else reads.
pub(super) fn candidates(
    path: &Path,
    taken: impl Fn(Inode) -> bool,
) -> impl Iterator<Item = (File, PathBuf, Inode)> {
    let beside: Vec<_> = neighbours(path)
        .into_iter()
        .filter(|(other, inode)| is_rotated_name(path, other) && !taken(*inode))
        .collect();
    beside.into_iter().filter_map(|(path, inode)| {
        let file = File::open(&path).ok()?;
        (Inode::of(&file.metadata().ok()?) == inode).then_some((file, path, inode))
    })
}

/// Whether a newly found file is, or is becoming, a copy of one that is tailed already, and so must not be read for its own sake.
pub(super) fn is_copy_of_any(file: &File, path: &Path, files: &BTreeMap<Inode, Tailed>) -> bool {
    let mut originals = files.values().filter(|tailed| is_rotated_name(&tailed.path, path));
    originals.any(|tailed| is_copy(file, tailed).unwrap_or(false))
}

fn is_copy(file: &File, tailed: &Tailed) -> io::Result<bool> {
    let bytes = file.metadata()?.len();
    let original_bytes = tailed.file.metadata()?.len();
    if bytes == 0 {
        // An empty file that bears a copy's name may be about to become one; there is nothing to read in it yet.
        return Ok(true);
    }
    if tailed.offset > 0 && !tailed.still_holds()? {
        return Ok(tailed.is_copied_in(file)? || tailed.is_ahead_of(file)?);
    }
    if bytes > original_bytes {
        return Ok(tailed.offset > 0 && tailed.is_copied_in(file)?);
    }
    let from = bytes.saturating_sub(COMPARED_BYTES_MAX);
    Ok(same(file, &tailed.file, 0, bytes.min(PIECE_BYTES as u64))? && same(file, &tailed.file, from, bytes)?)
}

fn same(one: &File, other: &File, from: u64, to: u64) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    let mut offset = from;
    while offset < to {
        let wanted = usize::try_from(to - offset).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let got = read_at(one, &mut left[..wanted], offset)?;
        if got < wanted
            || read_at(other, &mut right[..wanted], offset)? < wanted
            || left[..wanted] != right[..wanted]
        {
            return Ok(false);
        }
        offset += wanted as u64;
    }
    Ok(true)
}
