//! Where the files of this repository are, and which of them are its own: tracked, or new and not ignored.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Root of the checkout.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace's root")
}

/// Every file that git tracks or would track, relative to the root. A file that was deleted and not yet committed is left out.
///
/// # Panics
/// When git is absent or this is no checkout.
#[must_use]
pub fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git must be installed");
    assert!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let paths = listed.split('\0').filter(|p| !p.is_empty()).map(PathBuf::from);
    paths.filter(|p| root().join(p).is_file()).collect()
}

/// The text of a file of the repository; `None` for one that is not UTF-8, such as a picture.
#[must_use]
pub fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(root().join(path)).ok()
}
