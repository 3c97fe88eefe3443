//! Courses of a resize on a job that is made of numbers: who asks for checkpoints answers as told.

use std::cell::Cell;

use super::*;
use crate::crds::HttpHook;

/// Answers at once, or never; counts how often it was asked.
struct Answers {
    answer: Option<Result<(), String>>,
    asked: Cell<u32>,
}

impl Answers {
    fn with(answer: Option<Result<(), String>>) -> Self {
        Self { answer, asked: Cell::new(0) }
    }
}

impl Asker for Answers {
    fn ask(&self, _: &CheckpointHook, _: Worker) -> JoinHandle<Result<(), String>> {
        self.asked.set(self.asked.get() + 1);
        match self.answer.clone() {
            Some(answer) => tokio::spawn(std::future::ready(answer)),
            None => tokio::spawn(std::future::pending()),
        }
    }
}

struct Speed(Timestamp, f64);

impl Readings for Speed {
    fn latest(&self, _: &WorkloadId, signal: Signal) -> Option<(f64, Timestamp)> {
        (signal == Signal::StepsPerSecond).then_some((self.1, self.0))
    }

    fn answering(&self, _: &WorkloadId) -> Option<u32> {
        None
    }

    fn withheld(&self, _: &WorkloadId) -> bool {
        false
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + seconds)
}

fn manner(hook: bool) -> Manner {
    let hook = hook.then(|| CheckpointHook {
        http: Some(HttpHook { path: "/checkpoint".into(), port: 8000 }),
        signal: None,
        exec: None,
        container: None,
        deadline: tidegate_core::Span::from_secs(30),
    });
    let seconds = Duration::from_secs;
    let limits = ResizeLimits { checkpoint: seconds(30), resize: seconds(100), verify: seconds(50) };
    Manner { hook, limits }
}

struct Job {
    course: Course,
    manner: Manner,
    wanted: u32,
    ready: u32,
    steps_per_second: Option<f64>,
    stored: Option<ResizeStatus>,
    /// The policy's status cannot be written.
    no_status: bool,
    second: i64,
}

impl Job {
    fn new(size: u32, hook: bool, steps_per_second: Option<f64>) -> Self {
        let (course, manner) = (Course::default(), manner(hook));
        Self {
            course,
            manner,
            wanted: size,
            ready: size,
            steps_per_second,
            stored: None,
            no_status: false,
            second: 0,
        }
    }

    /// One round; what it orders is in force by the next, and its workers are ready by the one after.
    async fn round(&mut self, planned: u32, asker: &Answers) -> (Option<u32>, Option<Ended>) {
        // Lets whoever was asked answer.
        tokio::task::yield_now().await;
        self.second += 1;
        if let Some(speed) = self.steps_per_second {
            self.course.see(&Speed(at(self.second), speed), &"ml/job/llm".parse().unwrap());
        }
        let counts = ReplicaCounts { wanted: self.wanted, ready: self.ready, ..ReplicaCounts::default() };
        let look = Look {
            manner: &self.manner,
            workers: counts,
            crash_loop: false,
            worker: Some(Worker { namespace: "ml".into(), pod: "llm-0".into(), ip: None }),
            stored: self.stored.as_ref(),
            now: at(self.second),
        };
        let said = self.course.go_on(&look, planned, asker);
        if !self.no_status {
            self.stored = self.course.status();
        }
        self.ready = self.wanted;
        self.wanted = said.0.unwrap_or(self.wanted);
        said
    }

    /// Rounds until one ends; gives the sizes that were ordered on the way.
    async fn until_ended(&mut self, planned: u32, asker: &Answers) -> (Vec<u32>, Ended) {
        let mut ordered = Vec::new();
        for _ in 0..400 {
            let (size, ended) = self.round(planned, asker).await;
            ordered.extend(size.filter(|size| ordered.last() != Some(size)));
            if let Some(ended) = ended {
                return (ordered, ended);
            }
        }
        panic!("the resize does not end: {:?}", self.course);
    }
}

#[tokio::test]
async fn a_checkpoint_comes_first_then_the_size_then_steps() {
    let (mut job, asker) = (Job::new(2, true, Some(1.0)), Answers::with(Some(Ok(()))));
    assert_eq!(job.round(2, &asker).await, (None, None), "nothing is planned");
    assert_eq!(job.round(4, &asker).await, (None, None), "the checkpoint is asked for");
    assert!(job.course.is_under_way());
    let (ordered, ended) = job.until_ended(4, &asker).await;
    assert_eq!((ordered, ended.outcome), (vec![4], ResizeOutcome::Done));
    assert_eq!((ended.from, ended.to, asker.asked.get()), (2, 4, 1));
    assert!(ended.took >= Duration::from_secs(3), "two steps at one a second: {:?}", ended.took);
    assert_eq!(job.round(4, &asker).await, (None, None), "it is told once");
    assert_eq!(job.course.status().unwrap().phase, "done");
}

#[tokio::test]
async fn without_a_checkpoint_a_job_does_not_grow_but_gives_back_what_serving_needs() {
    let asker = Answers::with(Some(Err("disk full".into())));
    let (ordered, ended) = Job::new(2, true, Some(1.0)).until_ended(4, &asker).await;
    assert_eq!((ordered, ended.outcome), (vec![2], ResizeOutcome::CheckpointFailed));
    let (ordered, ended) = Job::new(4, true, Some(1.0)).until_ended(2, &asker).await;
    assert_eq!((ordered, ended.outcome), (vec![2], ResizeOutcome::DoneWithoutCheckpoint));
    let silent = Answers::with(None);
    let (_, ended) = Job::new(2, true, Some(1.0)).until_ended(4, &silent).await;
    assert_eq!((ended.outcome, silent.asked.get()), (ResizeOutcome::CheckpointFailed, 1));
}

#[tokio::test]
async fn a_job_whose_steps_stand_still_gets_its_former_size_back() {
    let asker = Answers::with(None);
    let (ordered, ended) = Job::new(2, false, Some(0.0)).until_ended(4, &asker).await;
    assert_eq!((ordered, ended.outcome, ended.to), (vec![4, 2], ResizeOutcome::Restored, 2));
}

#[tokio::test]
async fn a_job_that_tells_of_no_steps_is_done_when_its_workers_are_ready() {
    let asker = Answers::with(None);
    let (ordered, ended) = Job::new(2, false, None).until_ended(4, &asker).await;
    assert_eq!((ordered, ended.outcome), (vec![4], ResizeOutcome::Done));
}

#[tokio::test]
async fn a_recall_takes_the_place_of_a_growth_that_is_under_way() {
    let (mut job, silent) = (Job::new(4, true, Some(1.0)), Answers::with(None));
    job.round(6, &silent).await;
    assert_eq!(job.course.status().unwrap().kind, "voluntary");
    job.round(1, &silent).await;
    let status = job.course.status().unwrap();
    assert_eq!((status.kind.as_str(), status.from, status.to), ("recall", 4, 1));
    let (ordered, ended) = job.until_ended(1, &silent).await;
    assert_eq!((ordered, ended.outcome), (vec![1], ResizeOutcome::DoneWithoutCheckpoint));
}

#[tokio::test]
async fn another_leader_takes_up_where_the_last_one_left_it_and_only_once() {
    let asker = Answers::with(None);
    let mut first = Job::new(2, false, Some(1.0));
    first.round(4, &asker).await;
    let left = first.course.status().unwrap();
    assert_eq!((left.phase.as_str(), left.to), (RESIZING, 4));
    // The plan is another by now; the course that was begun is ended first, for its size is half written.
    let mut second = Job { stored: Some(left.clone()), second: 1, ..Job::new(2, false, Some(1.0)) };
    (second.wanted, second.ready) = (4, 2);
    let (ordered, ended) = second.until_ended(4, &asker).await;
    assert_eq!((ordered, ended.outcome, ended.from), (vec![4], ResizeOutcome::Done, 2));
    assert_eq!(second.round(4, &asker).await, (None, None), "what is left there is old by now");
    assert_eq!(resume(&ResizeStatus { phase: "done".into(), ..left }), None);
}

#[tokio::test]
async fn the_way_back_is_written_down_before_a_size_is() {
    let asker = Answers::with(None);
    let mut job = Job { no_status: true, ..Job::new(2, false, Some(1.0)) };
    let (ordered, ended) = job.until_ended(4, &asker).await;
    assert_eq!(
        (ordered, ended.outcome, ended.to),
        (vec![2], ResizeOutcome::Restored, 2),
        "it was never resized"
    );
    let mut job = Job { no_status: true, ..Job::new(4, false, Some(1.0)) };
    let (ordered, ended) = job.until_ended(2, &asker).await;
    assert_eq!(
        (ordered, ended.outcome),
        (vec![2], ResizeOutcome::Done),
        "there is no way back from a recall"
    );
}
