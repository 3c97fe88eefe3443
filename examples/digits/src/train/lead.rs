//! The leader: gives every worker its part of a step, averages what comes back, and lets workers in and out between steps.

mod door;
mod member;

use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::door::Door;
use self::member::{Exchange, Member};
use super::announcement::{Announcement, Lock};
use super::checkpoint::{self, Outcome, SaveRequest};
use super::status::Part;
use super::wire::Task;
use super::{Job, TrainError, chain};
use crate::learn::{self, RATE};
use crate::log::rounded;
use crate::model::file::Saved;
use crate::model::{Gradient, Model, PARAMETERS};
use crate::names::field;

/// Workers that one leader takes: each costs it 20 kB of traffic a step.
const MEMBERS_MAX: usize = 63;

struct Leader<'a> {
    job: &'a Job,
    model: Model,
    /// The step that comes next; as many have been done.
    step: u64,
    members: Vec<Member>,
    door: Door,
}

/// Leads until a stop is asked for; then saves and gives the lock back.
///
/// # Errors
/// When the checkpoint or the directory cannot be used.
pub(super) async fn lead(
    job: &Job,
    requests: &mut mpsc::Receiver<SaveRequest>,
    lock: Lock,
) -> Result<(), TrainError> {
    let saved = checkpoint::resume(job)?;
    let (door, port) = Door::open().await.map_err(|source| TrainError::Listen { port: 0, source })?;
    let announcement = Announcement::write(&job.dir, port).map_err(job.failed())?;
    let door = door.admit(announcement.term);
    job.status.set_leader(true);
    job.log.info("leading").with(field::STEP, saved.steps).write();
    let mut leader = Leader { job, model: saved.model, step: saved.steps, members: Vec::new(), door };
    while !job.stop.is_cancelled() {
        leader.admit();
        leader.step().await;
        leader.save_as_asked(requests).await;
    }
    // What cannot be saved is lost to the next leader; the failure is logged, and leaving must not depend on it.
    let outcome = leader.save().await;
    answer(requests, &outcome);
    job.status.set_leader(false);
    drop(leader);
    drop(lock);
    job.log.info("left").write();
    Ok(())
}

/// Answers everyone who asked through this worker's own HTTP side.
fn answer(requests: &mut mpsc::Receiver<SaveRequest>, outcome: &Outcome) {
    while let Ok(request) = requests.try_recv() {
        // Whoever asked may have stopped waiting.
        drop(request.reply.send(outcome.clone()));
    }
}

impl Leader<'_> {
    fn admit(&mut self) {
        while self.members.len() < MEMBERS_MAX {
            let Some(member) = self.door.next() else { break };
            let line = self.job.log.info("worker joined").with(field::WORKER, member.number());
            line.with(field::STEP, self.step).write();
            self.members.push(member);
        }
    }

    /// Does one step with everybody who is in, itself included; those who fail are out afterwards, and the step counts without them.
    async fn step(&mut self) {
        let begun = Instant::now();
        let workers = u32::try_from(self.members.len() + 1).unwrap_or(u32::MAX);
        let task = |shard| Task { step: self.step, shard, workers, model: self.model.clone() };
        let (job, own_task) = (self.job, task(0));
        let own = async {
            let gradient = own_task.model.gradient(&learn::shard(own_task.step, 0, job.batch));
            tokio::time::sleep_until(begun + job.faults.stretch(job.step_time)).await;
            gradient
        };
        let tasks: Vec<_> = (1..workers).map(task).collect();
        let exchanges =
            self.members.iter_mut().zip(tasks).map(|(member, task)| member.exchange(task, job.deadline()));
        let (own, exchanged) = tokio::join!(own, join_all(exchanges));
        let own_samples = own.samples;
        let gradients = [vec![own], self.keep(exchanged)].concat();
        let mean = mean(&gradients);
        assert!(self.model.descend(&mean.values, RATE), "only finite gradients are taken");
        self.tell(&mean, own_samples, gradients.len(), begun);
        self.step += 1;
    }

    /// Keeps the members that did their part, and what came of it.
    fn keep(&mut self, exchanged: Vec<Exchange>) -> Vec<Gradient> {
        let (mut kept, mut gradients) = (Vec::new(), Vec::new());
        for (member, exchange) in std::mem::take(&mut self.members).into_iter().zip(exchanged) {
            let number = member.number();
            match exchange {
                Ok(Some(gradient)) => {
                    gradients.push(gradient);
                    kept.push(member);
                }
                Ok(None) => {
                    let line = self.job.log.info("worker left").with(field::WORKER, number);
                    line.with(field::STEP, self.step).write();
                }
                Err(error) => {
                    let line = self.job.log.warn("worker dropped").with(field::WORKER, number);
                    line.with(field::STEP, self.step).with(field::ERROR, chain(&error)).write();
                }
            }
        }
        self.members = kept;
        gradients
    }

    fn tell(&self, mean: &Gradient, own_samples: u32, workers: usize, begun: Instant) {
        let ended = Instant::now();
        let took = ended.duration_since(begun);
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        let (step, loss) = (self.step, mean.loss);
        let part = Part { step, samples: own_samples, loss, took: Some(took), workers, ended };
        self.job.status.count_part(part);
        if self.step.is_multiple_of(self.job.log_every) {
            let seconds = took.as_secs_f64();
            self.job
                .log
                .info("training step")
                .with(field::STEP, step)
                .with(field::LOSS, rounded(loss.into()))
                .with(field::STEP_SECONDS, rounded(seconds))
                .with(field::SAMPLES_PER_SECOND, rounded(f64::from(mean.samples) / seconds))
                .with(field::WORKERS, workers)
                .write();
        }
    }

    /// Saves once for everyone who asked since the last step, or because it is time.
    async fn save_as_asked(&mut self, requests: &mut mpsc::Receiver<SaveRequest>) {
        let asked = !requests.is_empty() || self.members.iter().any(Member::asked_to_save);
        if !asked && !self.step.is_multiple_of(checkpoint::EVERY) {
            return;
        }
        let outcome = self.save().await;
        answer(requests, &outcome);
        for member in &mut self.members {
            member.answer_saves(&outcome, self.job.deadline()).await;
        }
    }

    async fn save(&self) -> Outcome {
        checkpoint::save(self.job, Saved { model: self.model.clone(), steps: self.step }).await
    }
}

/// The mean over all samples of all gradients; there is at least one.
#[expect(clippy::cast_precision_loss, reason = "counts of samples are small")]
fn mean(gradients: &[Gradient]) -> Gradient {
    let samples: u32 = gradients.iter().map(|gradient| gradient.samples).sum();
    let mut mean = Gradient { values: vec![0.0; PARAMETERS], loss: 0.0, samples };
    for gradient in gradients {
        let weight = gradient.samples as f32 / samples as f32;
        mean.loss += weight * gradient.loss;
        for (sum, value) in mean.values.iter_mut().zip(&gradient.values) {
            *sum += weight * value;
        }
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_weighs_every_sample_alike() {
        let gradient =
            |value: f32, samples| Gradient { values: vec![value; PARAMETERS], loss: value, samples };
        let mean = mean(&[gradient(1.0, 30), gradient(4.0, 10)]);
        assert_eq!((mean.samples, mean.loss, mean.values[9]), (40, 1.75, 1.75));
    }
}
