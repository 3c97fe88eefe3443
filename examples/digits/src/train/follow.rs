//! A follower: joins the leader, does its part of each step, passes requests for checkpoints on, and leaves between steps.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::announcement::Announcement;
use super::checkpoint::{Outcome, REQUESTS_MAX, SaveRequest};
use super::status::Part;
use super::wire::{self, Link, Message, Task, WireError};
use super::{Job, chain};
use crate::learn;
use crate::names::field;

/// A leader on this machine takes a connection at once or is not there.
const CONNECT_WAIT: Duration = Duration::from_secs(1);

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Followed {
    /// It was asked to stop and has left.
    Stopped,
    /// The leader is not there (any more); `joined` when it was.
    Lost { joined: bool },
}

struct Follower<'a> {
    job: &'a Job,
    link: Link,
    /// Requests passed on and not answered yet; at most [`REQUESTS_MAX`].
    passed_on: BTreeMap<u32, oneshot::Sender<Outcome>>,
    next_id: u32,
    last_task: Option<Instant>,
}

/// Follows the announced leader until it goes away or a stop is asked for.
pub(super) async fn follow(job: &Job, requests: &mut mpsc::Receiver<SaveRequest>) -> Followed {
    let Some(link) = join(job).await else { return Followed::Lost { joined: false } };
    let follower = Follower { job, link, passed_on: BTreeMap::new(), next_id: 0, last_task: None };
    follower.run(requests).await
}

async fn join(job: &Job) -> Option<Link> {
    let leader = Announcement::read(&job.dir)?;
    let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, leader.port));
    let mut link = wire::link(timeout(CONNECT_WAIT, connecting).await.ok()?.ok()?);
    let join = Message::Join { term: leader.term };
    timeout(CONNECT_WAIT, wire::send(&mut link, &join)).await.ok()?.ok()?;
    Some(link)
}

impl Follower<'_> {
    async fn run(mut self, requests: &mut mpsc::Receiver<SaveRequest>) -> Followed {
        // A leader that is silent for longer than any step may take is as good as gone.
        let silence_max = self.job.deadline() * 3;
        loop {
            let more = self.passed_on.len() < REQUESTS_MAX;
            let done = tokio::select! {
                () = self.job.stop.cancelled() => return self.leave().await,
                read = timeout(silence_max, wire::read(&mut self.link)) => {
                    match read.unwrap_or(Err(WireError::Late)) {
                        Ok(message) => self.answer(message).await,
                        Err(error) => Err(error),
                    }
                }
                Some(request) = requests.recv(), if more => self.pass_on(request).await,
            };
            if let Err(error) = done {
                // One that was refused at the door has seen no step: that is no news worth a line.
                let joined = self.last_task.is_some();
                if joined {
                    self.job.log.warn("leader lost").with(field::ERROR, chain(&error)).write();
                }
                return Followed::Lost { joined };
            }
        }
    }

    async fn answer(&mut self, message: Message) -> Result<(), WireError> {
        match message {
            Message::Task(task) => self.work(task).await,
            Message::Saved { id, outcome } => {
                if let Some(reply) = self.passed_on.remove(&id) {
                    // Whoever asked may have stopped waiting.
                    drop(reply.send(outcome));
                }
                Ok(())
            }
            _ => Err(WireError::Unexpected),
        }
    }

    async fn work(&mut self, task: Task) -> Result<(), WireError> {
        let begun = Instant::now();
        let took = self.last_task.replace(begun).map(|last| begun.duration_since(last));
        if took.is_none() {
            self.job
                .log
                .info("joined")
                .with(field::STEP, task.step)
                .with(field::WORKERS, task.workers)
                .write();
        }
        let gradient = task.model.gradient(&learn::shard(task.step, task.shard, self.job.batch));
        tokio::time::sleep_until(begun + self.job.faults.stretch(self.job.step_time)).await;
        let (samples, loss) = (gradient.samples, gradient.loss);
        let done = Message::Done { step: task.step, gradient };
        self.send(&done).await?;
        let (step, workers, ended) = (task.step, task.workers, Instant::now());
        self.job.status.count_part(Part { step, samples, loss, took, workers, ended });
        Ok(())
    }

    async fn pass_on(&mut self, request: SaveRequest) -> Result<(), WireError> {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.passed_on.insert(id, request.reply);
        self.send(&Message::Save { id }).await
    }

    async fn leave(mut self) -> Followed {
        // A leader that does not read it sees the connection close.
        drop(self.send(&Message::Leave).await);
        self.job.log.info("left").write();
        Followed::Stopped
    }

    async fn send(&mut self, message: &Message) -> Result<(), WireError> {
        timeout(self.job.deadline(), wire::send(&mut self.link, message))
            .await
            .unwrap_or(Err(WireError::Late))
    }
}
