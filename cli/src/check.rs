//! `tidegate check`: configurations and the servers they name, a cluster, a node.

mod cluster;
mod finding;
mod node;

use std::path::{Path, PathBuf};

use anyhow::Context;
use tidegate_agent::logs::elasticsearch::{self, Verdict};

use crate::args::{CheckArgs, CheckWhat};
use crate::config::{self, Elasticsearch, Loaded};
use crate::{Usage, output};

pub(crate) async fn run(args: CheckArgs) -> anyhow::Result<()> {
    match args.what {
        CheckWhat::Config { file } => check_config(file.as_deref()),
        CheckWhat::Elasticsearch { config, url, user, password_file, dry_run } => {
            let mut server = match url {
                Some(url) => Elasticsearch::at(url),
                None => configured(config.as_deref())?,
            };
            server.username = user.or(server.username);
            server.password_file = password_file.or(server.password_file);
            check_elasticsearch(&server, dry_run).await
        }
        CheckWhat::Cluster(args) => cluster::run(args).await,
        CheckWhat::Node(args) => node::run(args).await,
    }
}

fn check_config(file: Option<&Path>) -> anyhow::Result<()> {
    let loaded = load(file)?;
    let config = loaded.config;
    let managed = config.workloads.iter().filter(|w| w.process.is_some()).count();
    let watched = config.workloads.len() - managed;
    for missing in
        crate::up::missing_commands(&config).into_iter().chain(crate::gpus::missing_library(&config))
    {
        output::say(&format!("{}: warning: on this machine, {missing}", loaded.path.display()))?;
    }
    output::say(&format!("{}: fine; {managed} workloads managed, {watched} watched", loaded.path.display()))
}

/// The configuration at `file`, or at the first of the usual places that has one.
pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Loaded> {
    if let Some(file) = file {
        return Ok(config::load(file)?);
    }
    let places = usual_places();
    let found = config::find(&places).ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        Usage(format!("no configuration; looked in {}", places.join(", ")))
    })?;
    Ok(config::load(found)?)
}

/// Where a configuration is looked for.
pub(crate) fn usual_places() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    config::usual_places(variable("XDG_CONFIG_HOME").as_deref(), variable("HOME").as_deref())
}

fn configured(file: Option<&Path>) -> anyhow::Result<Elasticsearch> {
    let loaded = load(file)?;
    let named = loaded.config.logs.elasticsearch;
    named.ok_or_else(|| {
        Usage(format!("{} names no logs.elasticsearch; give --url", loaded.path.display())).into()
    })
}

async fn check_elasticsearch(server: &Elasticsearch, dry_run: bool) -> anyhow::Result<()> {
    let config = crate::up::server_config(server);
    let report = if dry_run {
        elasticsearch::check(&config).await.context("the server cannot be checked")?
    } else {
        elasticsearch::install(&config).await.context("the server cannot be set up")?
    };
    for finding in &report.findings {
        let verdict = match finding.verdict {
            Verdict::Right => "fine",
            Verdict::Changed => "installed",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        };
        output::say(&format!("{verdict:<10} {:<12} {}", finding.subject, finding.text))?;
    }
    if !report.passed() {
        anyhow::bail!("logs cannot be stored at {} yet", server.url);
    }
    output::say(if report.changed() {
        "ready; installed what was missing"
    } else {
        "ready; nothing was changed"
    })
}
