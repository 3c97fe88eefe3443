//! Debian packages that the suites need: installed when this runs as root, else named so that one can install them.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::{must_succeed, succeeds};
use crate::tools::find;

/// A program and the Debian package it comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    /// Program whose presence, on `PATH` or at this very path, shows that the package is not needed.
    pub program: &'static str,
    /// Name of the package.
    pub debian: &'static str,
}

/// Another package operation may be at work: it is waited for this long.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=600";

/// Installs what is missing. As another user than root it only says what to install.
pub(crate) fn prepare(packages: &[Package]) -> Result<()> {
    let missing: Vec<_> = packages.iter().filter(|p| find(p.program).is_none()).map(|p| p.debian).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() || find("apt-get").is_none() {
        bail!("missing programs: run `apt-get install {}` as root", missing.join(" "));
    }
    // The lists of a fresh machine are empty or old. One source of several that does not answer is no reason to give up.
    if !succeeds(apt_get().arg("update"))? {
        println!("warning: not every package list could be fetched");
    }
    must_succeed(apt_get().args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing))
        .with_context(|| format!("failed to install {}", missing.join(" ")))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args([
        "-q",
        "-o",
        LOCK_TIMEOUT,
        "-o",
        "Dpkg::Use-Pty=0",
    ]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_done_for_programs_that_are_there() {
        let shell = Package { program: "sh", debian: "no-such-package" };
        assert!(prepare(&[shell]).is_ok());
    }
}
