//! The test suites, as data: adding one is one entry here and one file `tests/tests/NAME.rs`. How they run is in `test`.

use crate::packages::Package;

/// A suite: integration tests of the crate `tests`, in `tests/tests/NAME.rs` and `tests/tests/NAME_*.rs`; a hyphen of the name is `_` there.
#[derive(Debug)]
pub(crate) struct Suite {
    /// Name, as given to `--suite`.
    pub name: &'static str,
    /// What it proves, in a few words.
    pub about: &'static str,
    /// What the tests are.
    pub kind: Kind,
    /// Servers that it needs, by name.
    pub servers: &'static [&'static str],
    /// Debian packages that it needs.
    pub packages: &'static [Package],
    /// Tests that run at once; those that start heavy servers run one after the other.
    pub threads: u32,
    /// When it is given up, in minutes: many times what it takes on two cores, builds of the servers not counted.
    pub minutes_max: u32,
}

/// What the tests of a suite are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All that needs Rust alone: unit and property tests of every member, integration tests of the other members, `tidy`.
    Pure,
    /// Files of the suite's name in the crate `tests`.
    Files,
    /// The same, with the release binary built before.
    FilesWithBinary,
}

const CHROMIUM: Package = Package { program: "chromium", debian: "chromium" };
const CHROMEDRIVER: Package = Package { program: "chromedriver", debian: "chromium-driver" };
const BUILDAH: Package = Package { program: "buildah", debian: "buildah" };
const MMDEBSTRAP: Package = Package { program: "mmdebstrap", debian: "mmdebstrap" };
const RUNC: Package = Package { program: "runc", debian: "runc" };
/// Its programs are not on the path.
const CNI: Package = Package { program: "/usr/lib/cni/loopback", debian: "containernetworking-plugins" };
/// `ip`, which gives the node its address.
const IPROUTE: Package = Package { program: "ip", debian: "iproute2" };
const SYSTEMD: Package = Package { program: "systemd-analyze", debian: "systemd" };
/// `setpriv`, which runs a server as another user.
const SETPRIV: Package = Package { program: "setpriv", debian: "util-linux" };

const PYTHON_VENV: Package = Package { program: "python3 -m ensurepip --version", debian: "python3-venv" };

/// Every suite, in the order in which they run: the cheapest first.
pub(crate) const SUITES: &[Suite] = &[
    Suite {
        name: "pure",
        about: "unit and property tests of every crate, tidy checks; needs Rust alone",
        kind: Kind::Pure,
        servers: &[],
        packages: &[],
        threads: 2,
        minutes_max: 30,
    },
    Suite {
        name: "process",
        about: "the built binary as a process: start, stop, faults, kill -9",
        kind: Kind::FilesWithBinary,
        servers: &[],
        packages: &[],
        threads: 4,
        minutes_max: 30,
    },
    Suite {
        name: "browser",
        about: "the page in headless Chromium",
        kind: Kind::FilesWithBinary,
        servers: &[],
        packages: &[CHROMIUM, CHROMEDRIVER],
        threads: 1,
        minutes_max: 30,
    },
    Suite {
        name: "elasticsearch",
        about: "log shipping to a real Elasticsearch with its security on, from files and from OpenTelemetry's collector",
        kind: Kind::FilesWithBinary,
        servers: &["elasticsearch", "opentelemetry-collector"],
        packages: &[SETPRIV],
        threads: 1,
        minutes_max: 30,
    },
    Suite {
        name: "prometheus",
        about: "alert rules by promtool; queries of dashboards against a real Prometheus",
        kind: Kind::FilesWithBinary,
        servers: &["prometheus", "opentelemetry-collector"],
        packages: &[],
        threads: 1,
        minutes_max: 15,
    },
    Suite {
        name: "runtimes",
        about: "Flask, FastAPI and Ray Serve as they run, and OpenTelemetry's SDK: what is scraped or pushed against what was sent",
        kind: Kind::FilesWithBinary,
        servers: &["runtimes"],
        packages: &[PYTHON_VENV],
        threads: 1,
        minutes_max: 15,
    },
    Suite {
        name: "grafana",
        about: "dashboards by Grafana's own typed schema",
        kind: Kind::Files,
        servers: &["grafana-schema"],
        packages: &[],
        threads: 2,
        minutes_max: 10,
    },
    Suite {
        name: "cluster",
        about: "a real Kubernetes control plane with simulated nodes",
        kind: Kind::FilesWithBinary,
        servers: &["kubernetes", "kwok", "helm", "prometheus", "prometheus-adapter", "keda"],
        packages: &[],
        threads: 2,
        minutes_max: 40,
    },
    Suite {
        name: "live-node",
        about: "pods that really run: a kubelet and containerd, as root on this machine",
        kind: Kind::FilesWithBinary,
        servers: &["kubernetes", "containerd", "pause", "helm"],
        packages: &[RUNC, CNI, IPROUTE, BUILDAH, MMDEBSTRAP],
        threads: 1,
        minutes_max: 30,
    },
    Suite {
        name: "image",
        about: "the Dockerfile really builds and its image runs; the systemd unit verifies",
        kind: Kind::FilesWithBinary,
        servers: &[],
        packages: &[BUILDAH, MMDEBSTRAP, SYSTEMD],
        threads: 1,
        minutes_max: 30,
    },
];

/// The suite of this name.
pub(crate) fn named(name: &str) -> Option<&'static Suite> {
    SUITES.iter().find(|suite| suite.name == name)
}

impl Suite {
    /// Whether a test file of the crate `tests` belongs to it.
    pub(crate) fn owns(&self, stem: &str) -> bool {
        let first = self.name.replace('-', "_");
        stem.strip_prefix(&first).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::SERVERS;

    #[test]
    fn suites_have_names_of_their_own_and_known_servers() {
        let names: std::collections::BTreeSet<_> = SUITES.iter().map(|s| s.name).collect();
        assert_eq!(names.len(), SUITES.len());
        for server in SUITES.iter().flat_map(|s| s.servers) {
            assert!(SERVERS.iter().any(|s| s.name == *server), "{server} is no server");
        }
    }

    #[test]
    fn a_file_belongs_to_the_suite_of_its_first_word() {
        let process = named("process").unwrap();
        assert!(process.owns("process") && process.owns("process_faults"));
        assert!(!process.owns("processes") && !process.owns("tidy"));
        assert!(named("live-node").unwrap().owns("live_node_restarts"));
    }
}
