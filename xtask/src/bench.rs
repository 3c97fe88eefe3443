//! `cargo xtask bench`: lists the benchmarks, or runs those named. What they measure stands in `benches/README.md` and in their own files.

use anyhow::{Context, Result};

use crate::{cargo, servers, workspace};

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Benchmark to run; without one, they are listed
    name: Option<String>,
    /// Passed on to it
    #[arg(trailing_var_arg = true)]
    arguments: Vec<String>,
}

/// A program that measures something and prints its figures.
struct Bench {
    name: &'static str,
    package: &'static str,
    example: &'static str,
    /// Whether it drives the released binary.
    binary: bool,
    /// Servers that it needs, by name.
    servers: &'static [&'static str],
    about: &'static str,
}

const BENCHES: [Bench; 12] = [
    Bench {
        name: "forecast",
        package: "tidegate-predictor",
        example: "score",
        binary: false,
        servers: &[],
        about: "pinball loss against the last value, coverage and fit time on the traces in TIDEGATE_TRACES",
    },
    Bench {
        name: "memory",
        package: "tidegate-brain",
        example: "memory",
        binary: false,
        servers: &[],
        about: "memory per workload with three weeks of minutes behind it; argument: workloads",
    },
    Bench {
        name: "history",
        package: "tidegate-history",
        example: "size",
        binary: false,
        servers: &[],
        about: "bytes per sample and read time on the traces in TIDEGATE_TRACES",
    },
    Bench {
        name: "exposition",
        package: "tidegate-agent",
        example: "parse_bench",
        binary: false,
        servers: &[],
        about: "MB/s of the exposition parser, time to encode 5,000 series, and a node of 200 pods, in each format",
    },
    Bench {
        name: "sim",
        package: "tidegate-sim",
        example: "day",
        binary: false,
        servers: &[],
        about: "seconds to simulate a day of 300 requests a second, by scaler",
    },
    Bench {
        name: "scaling",
        package: "tidegate-sim",
        example: "scaling",
        binary: false,
        servers: &[],
        about: "attainment and cost on the traces in TIDEGATE_TRACES, each ingredient left out in turn; arguments: days, traces",
    },
    Bench {
        name: "idle",
        package: "tidegate-tests",
        example: "idle",
        binary: true,
        servers: &[],
        about: "memory, CPU and /metrics latency of `up` watching the machine alone; argument: seconds",
    },
    Bench {
        name: "demo",
        package: "tidegate-tests",
        example: "demo_days",
        binary: true,
        servers: &[],
        about: "missed objectives and replica-hours over days of the demo; arguments: days, seeds",
    },
    Bench {
        name: "agent",
        package: "tidegate-tests",
        example: "agent",
        binary: true,
        servers: &["kubernetes"],
        about: "memory, CPU and /metrics latency of the agent with many pods and eight GPUs; arguments: pods, seconds",
    },
    Bench {
        name: "cluster",
        package: "tidegate-tests",
        example: "cluster",
        binary: true,
        servers: &["kubernetes"],
        about: "round, memory, CPU and API requests of the controller; arguments: workloads, seconds",
    },
    Bench {
        name: "reaction",
        package: "tidegate-tests",
        example: "reaction",
        binary: true,
        servers: &["kubernetes"],
        about: "time from a load step to the new size, through a real agent and a real controller; argument: workloads",
    },
    Bench {
        name: "outage",
        package: "tidegate-tests",
        example: "outage",
        binary: true,
        servers: &["elasticsearch"],
        about: "memory, CPU and lines of the demo while Elasticsearch is stopped, and after; argument: seconds",
    },
];

/// Lists or runs.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let Some(name) = &options.name else {
        for bench in &BENCHES {
            println!("{:<12} {}", bench.name, bench.about);
        }
        println!("{} benchmarks; run one with `cargo xtask bench NAME [ARGUMENT…]`", BENCHES.len());
        return Ok(true);
    };
    let bench = BENCHES.iter().find(|bench| bench.name == name);
    let bench =
        bench.with_context(|| format!("no benchmark is called {name}; `cargo xtask bench` lists them"))?;
    let mut command = cargo::command();
    command.args(["run", "--release", "--package", bench.package, "--example", bench.example, "--"]);
    command.args(&options.arguments);
    for name in bench.servers {
        command.env(servers::variable(name), servers::prepared(name)?);
    }
    if bench.binary {
        if !cargo::succeeds(cargo::command().args(["build", "--release", "--package", "tidegate"]))? {
            return Ok(false);
        }
        let folder = workspace::target_dir(&workspace::metadata()?)?;
        command.env("TIDEGATE_BIN", folder.join("release").join("tidegate"));
    }
    cargo::succeeds(&mut command)
}
