//! Versions of Kubernetes that this program is written for, and tested with.

/// Oldest minor version of Kubernetes 1 that it is written for: the first that names the node in what it tells of a pod's token
/// (KEP-4193), by which a digest is known to come from its node.
pub const KUBERNETES_OLDEST: u32 = 30;
/// Minor version of Kubernetes 1 that the test suites run against.
pub const KUBERNETES_TESTED: u32 = 36;

/// How a server's version stands to those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Older than what this is written for.
    TooOld,
    /// Between the oldest and the tested one.
    Supported,
    /// Newer than the tested one.
    Untested,
    /// No version that can be read.
    Unknown,
}

/// Judges a version as the API server tells it: numbers as texts, the minor one perhaps with a `+` at its end.
#[must_use]
pub fn support(major: &str, minor: &str) -> Support {
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    match (major, digits.parse::<u32>()) {
        ("1", Ok(minor)) if minor < KUBERNETES_OLDEST => Support::TooOld,
        ("1", Ok(minor)) if minor <= KUBERNETES_TESTED => Support::Supported,
        ("1", Ok(_)) => Support::Untested,
        _ => Support::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_judged() {
        for (minor, support) in [
            ("29", Support::TooOld),
            ("30", Support::Supported),
            ("30+", Support::Supported),
            ("36", Support::Supported),
            ("37", Support::Untested),
            ("", Support::Unknown),
            ("x", Support::Unknown),
        ] {
            assert_eq!(super::support("1", minor), support, "{minor}");
        }
        assert_eq!(super::support("2", "30"), Support::Unknown);
    }
}
