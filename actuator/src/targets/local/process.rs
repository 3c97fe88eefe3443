//! Starts one replica's process and watches over it until it ends. When it should start or end is decided elsewhere.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::group::{Group, MARKER};
use super::logfile;
use super::spec::{Check, ProcessSpec, SpecError};
use crate::http_call;

/// Misses in a row after which a replica that was ready is no more, or a sick one is restarted: one may be chance.
const MISSES: u32 = 3;
/// Pause between two askings of the liveness path.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// Pause between two looks at a process that is not our child, or at what a leader left behind.
const POLL: Duration = Duration::from_millis(50);

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The specification cannot work.
    #[error("failed to find what to run")]
    Spec(#[source] SpecError),
    /// Its log file cannot be opened.
    #[error("failed to open the log file")]
    Log(#[source] io::Error),
    /// There is no free port.
    #[error("failed to find a free port")]
    Port(#[source] io::Error),
    /// The system refused.
    #[error("failed to start the process")]
    Start(#[source] io::Error),
}

impl SpawnError {
    /// Whether trying again soon cannot help.
    pub(super) const fn is_lasting(&self) -> bool {
        matches!(self, Self::Spec(_))
    }
}

/// Ports asked of the system for one replica; it gives them at random, so even the second is hardly ever needed.
const PORT_TRIES: u32 = 16;

/// A process as it was started or found.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) group: Arc<Group>,
    pub(super) addr: SocketAddr,
    leader: Leader,
}

#[derive(Debug)]
enum Leader {
    Child(Child),
    /// A survivor: not our child, so its end can only be seen, not waited for.
    Adopted,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; `None` when it ended by a signal or the status is not known.
    pub code: Option<i32>,
    /// The signal that ended it, where that is known.
    pub signal: Option<i32>,
}

impl Ended {
    const UNKNOWN: Self = Self { code: None, signal: None };

    /// Whether it ended by itself, with status 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Self { code: status.code(), signal: status.signal() }
    }
}

/// What became of a process.
#[derive(Debug)]
pub(super) enum Report {
    Ready,
    Unready,
    Unhealthy,
    Ended(Ended),
}

/// A report, with the replica and the run that it is of.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) index: u32,
    pub(super) run: u64,
    pub(super) report: Report,
}

/// Starts a replica in a process group of its own, on a port of its own.
pub(super) fn spawn(
    spec: &ProcessSpec,
    index: u32,
    marker: &str,
    taken: &BTreeSet<u16>,
) -> Result<Process, SpawnError> {
    let program = spec.check().map_err(SpawnError::Spec)?;
    let log = logfile::open(&spec.log_file(index)).map_err(SpawnError::Log)?;
    let log_too = log.try_clone().map_err(SpawnError::Log)?;
    let addr = free_port(taken).map_err(SpawnError::Port)?;
    let mut command = Command::new(program);
    command
        .args(spec.arguments(index, addr.port()))
        .envs(&spec.env)
        .env("PORT", addr.port().to_string())
        .env(MARKER, marker)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_too)
        .process_group(0);
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    let child = command.spawn().map_err(SpawnError::Start)?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    // Not waited for yet, so that even a process that has ended is still known to the kernel.
    let group = pid.and_then(Group::of).ok_or_else(|| SpawnError::Start(io::ErrorKind::NotFound.into()))?;
    Ok(Process { group: Arc::new(group), addr, leader: Leader::Child(child) })
}

/// A process that an earlier Tidegate started.
pub(super) fn adopt(group: Group, port: u16) -> Process {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Process { group: Arc::new(group), addr, leader: Leader::Adopted }
}

/// A port that is free now, and not that of a sibling that has yet to listen on it. Another program may take it before the
/// replica does; then the replica fails to start and gets another.
fn free_port(taken: &BTreeSet<u16>) -> io::Result<SocketAddr> {
    for _ in 0..PORT_TRIES {
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        if !taken.contains(&addr.port()) {
            return Ok(addr);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Watches over a process until it has ended and nothing of its group is left.
pub(super) async fn watch_over(
    process: Process,
    spec: Arc<ProcessSpec>,
    index: u32,
    run: u64,
    reports: mpsc::Sender<Told>,
) {
    let Process { group, addr, mut leader } = process;
    let tell = |report| {
        let told = reports.send(Told { index, run, report });
        // The other side is gone only when everything is being given up.
        async move { drop(told.await) }
    };
    let was_ready = matches!(leader, Leader::Adopted);
    let ended = tokio::select! {
        ended = leader_end(&mut leader, &group) => ended,
        () = probe(&spec, addr, was_ready, &tell) => Ended::UNKNOWN,
    };
    clear(&group).await;
    tell(Report::Ended(ended)).await;
}

async fn leader_end(leader: &mut Leader, group: &Group) -> Ended {
    match leader {
        Leader::Child(child) => child.wait().await.map_or(Ended::UNKNOWN, Ended::from),
        Leader::Adopted => {
            while group.leader_lives() {
                tokio::time::sleep(POLL).await;
            }
            Ended::UNKNOWN
        }
    }
}

/// What a leader leaves behind is ended at once, or, when the end was asked for, given the rest of its grace: the
/// supervisor sends SIGKILL when that is over, and again until nothing is left.
async fn clear(group: &Group) {
    if !group.is_stopping() {
        group.signal(Signal::SIGKILL);
        return;
    }
    while group.lives() {
        tokio::time::sleep(POLL).await;
    }
}

/// Asks again and again, and tells each change. Never returns while the process lives.
async fn probe<F: Future<Output = ()>>(
    spec: &ProcessSpec,
    addr: SocketAddr,
    mut ready: bool,
    tell: &impl Fn(Report) -> F,
) {
    let mut missed = 0;
    let mut sick = 0;
    let mut since_health = Duration::ZERO;
    loop {
        if is_ready(spec, addr).await {
            missed = 0;
            if !std::mem::replace(&mut ready, true) {
                tell(Report::Ready).await;
            }
        } else {
            missed += 1;
            if ready && missed >= MISSES {
                ready = false;
                tell(Report::Unready).await;
            }
        }
        tokio::time::sleep(spec.ready.interval).await;
        since_health += spec.ready.interval;
        if let Some(path) = spec.health.as_ref().filter(|_| ready && since_health >= HEALTH_INTERVAL) {
            since_health = Duration::ZERO;
            sick = if answers(addr, path, spec.ready.timeout).await { 0 } else { sick + 1 };
            if sick == MISSES {
                tell(Report::Unhealthy).await;
            }
        }
    }
}

/// Whether a replica is ready at this moment.
pub(super) async fn is_ready(spec: &ProcessSpec, addr: SocketAddr) -> bool {
    let limit = spec.ready.timeout;
    match &spec.ready.check {
        Check::None => true,
        Check::Tcp => http_call::accepts(addr, limit).await.is_ok(),
        Check::Http(path) => answers(addr, path, limit).await,
    }
}

async fn answers(addr: SocketAddr, path: &str, limit: Duration) -> bool {
    http_call::call(addr, Method::GET, path, limit).await.is_ok_and(|status| status.is_success())
}
