//! A follower as the leader sees it: one exchange per step, and the checkpoints that it asks for.

use std::time::Duration;

use tokio::time::timeout;

use crate::model::Gradient;
use crate::train::checkpoint::{Outcome, REQUESTS_MAX};
use crate::train::wire::{self, Link, Message, Task, WireError};

/// What a step's exchange came to: a gradient, nothing because the follower left, or why it failed.
pub(super) type Exchange = Result<Option<Gradient>, WireError>;

/// A follower that takes part.
#[derive(Debug)]
pub(super) struct Member {
    link: Link,
    number: u64,
    /// Ids of the checkpoints that it asked for; at most [`REQUESTS_MAX`].
    saves: Vec<u32>,
}

impl Member {
    pub(super) const fn new(link: Link, number: u64) -> Self {
        Self { link, number, saves: Vec::new() }
    }

    /// The leader's number for it, for log lines.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) const fn asked_to_save(&self) -> bool {
        !self.saves.is_empty()
    }

    /// Gives it its part of a step and waits for what comes of it, for `deadline` at most.
    pub(super) async fn exchange(&mut self, task: Task, deadline: Duration) -> Exchange {
        timeout(deadline, self.exchange_patiently(task)).await.unwrap_or(Err(WireError::Late))
    }

    async fn exchange_patiently(&mut self, task: Task) -> Exchange {
        let step = task.step;
        wire::send(&mut self.link, &Message::Task(task)).await?;
        loop {
            match wire::read(&mut self.link).await? {
                Message::Done { step: done, gradient } if done == step => return Ok(Some(gradient)),
                Message::Save { id } if self.saves.len() < REQUESTS_MAX => self.saves.push(id),
                Message::Leave => return Ok(None),
                _ => return Err(WireError::Unexpected),
            }
        }
    }

    /// Tells it what became of the checkpoints that it asked for. One that does not listen is found out by the next step.
    pub(super) async fn answer_saves(&mut self, outcome: &Outcome, deadline: Duration) {
        for id in std::mem::take(&mut self.saves) {
            let saved = Message::Saved { id, outcome: outcome.clone() };
            drop(timeout(deadline, wire::send(&mut self.link, &saved)).await);
        }
    }
}
