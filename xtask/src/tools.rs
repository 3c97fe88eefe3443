//! Programs that cannot be installed from here: whether they are present and new enough, and what to say if not.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

/// A program that the machine must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Go 1.26, which Prometheus 3.16 asks for.
    Go,
    /// A JDK of version 17 or later, which Elasticsearch 8 runs on.
    Jdk,
    /// Apache Maven.
    Maven,
    /// Python 3.11, which the fixed versions of the serving runtimes are resolved for.
    Python,
}

impl Tool {
    /// Name and version, as one would look for it.
    pub(crate) const fn wanted(self) -> &'static str {
        match self {
            Self::Go => "Go 1.26 or later (https://go.dev/doc/install)",
            Self::Jdk => "a JDK, version 17 or later (Debian: apt-get install openjdk-17-jdk-headless)",
            Self::Maven => "Apache Maven 3.8 or later (Debian: apt-get install maven)",
            Self::Python => "Python 3.11 or later (Debian: apt-get install python3)",
        }
    }

    const fn version_command(self) -> (&'static str, &'static str) {
        match self {
            Self::Go => ("go", "version"),
            Self::Jdk => ("java", "-version"),
            Self::Maven => ("mvn", "-version"),
            Self::Python => ("python3", "--version"),
        }
    }

    const fn minimum(self) -> (u32, u32) {
        match self {
            Self::Go => (1, 26),
            Self::Jdk => (17, 0),
            Self::Maven => (3, 8),
            Self::Python => (3, 11),
        }
    }

    /// An error that says what to install, unless the tool is there in a version that will do.
    pub(crate) fn check(self) -> Result<()> {
        let (program, argument) = self.version_command();
        let Ok(output) = Command::new(program).arg(argument).output() else {
            bail!("`{program}` was not found: install {}", self.wanted());
        };
        // `java -version` speaks on standard error.
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let first_line = said.lines().next().unwrap_or_default();
        match version_in(first_line) {
            Some(found) if found >= self.minimum() => Ok(()),
            _ => bail!("`{program}` is too old (it says `{first_line}`): install {}", self.wanted()),
        }
    }
}

/// The first `MAJOR.MINOR` of a line; `17` alone counts as 17.0.
fn version_in(line: &str) -> Option<(u32, u32)> {
    let start = line.find(|c: char| c.is_ascii_digit())?;
    // `\x1b[1mApache Maven` starts with a colour code: its digit is followed by a letter.
    let number = line[start..].split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let rest = &line[start + number.len()..];
    if let Some(after_code) = rest.strip_prefix('m') {
        return version_in(after_code);
    }
    let mut parts = number.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|p| p.parse().ok()).unwrap_or(0);
    Some((major, minor))
}

/// A program on `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_versions_that_the_tools_print() {
        assert_eq!(version_in("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(version_in("openjdk version \"17.0.15\" 2025-04-15"), Some((17, 0)));
        assert_eq!(version_in("openjdk version \"21\" 2023-09-19"), Some((21, 0)));
        assert_eq!(version_in("\u{1b}[1mApache Maven 3.8.7\u{1b}[m"), Some((3, 8)));
        assert_eq!(version_in("not found"), None);
    }

    #[test]
    fn finds_programs_on_the_path_only() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
