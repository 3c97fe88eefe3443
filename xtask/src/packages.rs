//! Debian packages that the suites need: installed when this runs as root, else named so that one can install them.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::{must_succeed, succeeds};
use crate::tools::find;

/// A program and the Debian package it comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    /// Program whose presence, on `PATH` or at this very path, shows that the package is not needed; with arguments, a command that
    /// succeeds then.
    pub program: &'static str,
    /// Name of the package.
    pub debian: &'static str,
}

/// Another package operation may be at work: it is waited for this long.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=600";

/// Installs what is missing. As another user than root it only says what to install.
pub(crate) fn prepare(packages: &[Package]) -> Result<()> {
    let missing: Vec<_> = packages.iter().filter(|p| !is_there(p.program)).map(|p| p.debian).collect();
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

fn is_there(program: &str) -> bool {
    let mut words = program.split_whitespace();
    let Some(path) = words.next().and_then(find) else { return false };
    let arguments: Vec<_> = words.collect();
    arguments.is_empty()
        || Command::new(path).args(arguments).output().is_ok_and(|output| output.status.success())
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
        assert!(is_there("sh -c true") && !is_there("sh -c false") && !is_there("no-such-program x"));
    }
}
