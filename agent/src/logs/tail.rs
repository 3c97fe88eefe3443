//! Follows the files that sources name, through rotation by rename, by copy-truncate and by deletion, and gives their lines.
//!
//! Blocking and without a clock: a thread of the pipeline calls [`Tailer::step`] with the time. A file is known by its
//! inode and by what it starts with; it stays open until it is read to its end, so that its inode cannot be reused before.

mod containers;
mod copies;
mod file;
mod pushed;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use self::file::{Progress, Purpose, Tailed};
use self::pushed::Senders;
use super::book::{Book, LastLine, Mark, Page, Pending};
use super::cri::{Joiner, Run};
use super::discover::{Found, neighbours, scan};
use super::identity::{EventId, Inode, Life, born_ns};
use super::ledger::Ledger;
use super::lines::RawLine;
use super::parse::{LogFlag, parse};
use super::recent::Recent;
use super::record::{Container, Entry, Origin, record};
use super::source::{LogFormat, LogSource};
use crate::clock::Moment;
use crate::collect::pods::PodTable;

/// Bytes of lines that one step gives at most, give or take a file's turn: bounds what is parsed and not yet handed on.
const STEP_BYTES: usize = 1024 * 1024;
/// Ended lives remembered, so that a file made on a reused inode within the same tick of the filesystem's clock gets another.
const ENDED_MAX: usize = 1024;

/// How files are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailLimits {
    /// How often sources are looked for new files; at most a second, or short-lived files are missed.
    pub rescan: Duration,
    /// How long a file that was renamed or deleted must give nothing before it is let go; its writer may still hold it.
    pub grace: Duration,
    /// Most files followed at once.
    pub files_max: usize,
}

impl Default for TailLimits {
    fn default() -> Self {
        Self { rescan: Duration::from_millis(500), grace: Duration::from_secs(10), files_max: 1024 }
    }
}

/// What one step gave.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) entries: Vec<Entry>,
    /// Whether another step at once would likely give more.
    pub(crate) more: bool,
}

/// What the tailer tells of what it reads.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    pub(crate) book: Arc<Book>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) recent: Arc<Recent>,
}

/// Follows files.
#[derive(Debug)]
pub(crate) struct Tailer {
    host: Arc<str>,
    limits: TailLimits,
    sources: watch::Receiver<Vec<LogSource>>,
    /// The node's pods, to name what containers write.
    pods: Option<watch::Receiver<PodTable>>,
    senders: Senders,
    /// Where records that were pushed are.
    spool: Option<LogSource>,
    records: Records,
    joiner: Joiner,
    files: BTreeMap<Inode, Tailed>,
    /// Files that are copies of tailed ones, with size and change time as of the comparison.
    parked: BTreeMap<Inode, (u64, Option<SystemTime>)>,
    ended: VecDeque<Life>,
    started: bool,
    rescan_at: Duration,
    turn: Option<Inode>,
    buffer: Vec<u8>,
    /// Whether a life began that the checkpoint on disk does not know yet.
    unsaved: bool,
    complained: bool,
}

impl Tailer {
    pub(crate) fn new(
        host: &str,
        limits: TailLimits,
        sources: watch::Receiver<Vec<LogSource>>,
        pods: Option<watch::Receiver<PodTable>>,
        records: Records,
    ) -> Self {
        let host = Arc::from(host);
        let senders = Senders { host: Arc::clone(&host), pods: pods.clone(), workloads: BTreeSet::new() };
        Self {
            host,
            limits,
            sources,
            pods,
            senders,
            spool: None,
            records,
            joiner: Joiner::default(),
            files: BTreeMap::new(),
            parked: BTreeMap::new(),
            ended: VecDeque::new(),
            started: false,
            rescan_at: Duration::ZERO,
            turn: None,
            buffer: Vec::new(),
            unsaved: false,
            complained: false,
        }
    }

    /// Follows the spool, too.
    pub(crate) fn with_spool(self, spool: Option<LogSource>) -> Self {
        Self { spool, ..self }
    }

    /// Looks for new files when it is time, and reads on in those that are open, each in its turn.
    pub(crate) fn step(&mut self, now: Moment) -> Step {
        if now.steady >= self.rescan_at || self.sources.has_changed().unwrap_or(false) {
            self.rescan(now);
            self.rescan_at = now.steady + self.limits.rescan;
        }
        let mut step = Step::default();
        let mut bytes = 0;
        for inode in self.in_turn() {
            bytes += self.advance(inode, now, &mut step);
            self.turn = Some(inode);
            if bytes >= STEP_BYTES {
                step.more = true;
                break;
            }
        }
        let overdue = self.joiner.overdue(now.steady);
        step.entries.extend(overdue.into_iter().filter_map(|half| self.records.joined(half, now)));
        self.save_new_lives();
        step
    }

    fn in_turn(&self) -> Vec<Inode> {
        let Some(last) = self.turn else { return self.files.keys().copied().collect() };
        let after = self.files.range((Bound::Excluded(last), Bound::Unbounded));
        let before = self.files.range(..=last);
        after.chain(before).map(|(inode, _)| *inode).collect()
    }

    /// No line of a life is sent before the life is on disk: after a crash the same line then has the same id.
    fn save_new_lives(&mut self) {
        if !std::mem::take(&mut self.unsaved) {
            return;
        }
        if let Err(error) = self.records.book.save() {
            self.records.ledger.failed("checkpoint");
            if !std::mem::replace(&mut self.complained, true) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot write the log checkpoint; going on"
                );
            }
        }
    }

    /// Reads one piece of one file; gives the bytes of the lines in it.
    fn advance(&mut self, inode: Inode, now: Moment, step: &mut Step) -> usize {
        let may_wait = self.files.get(&inode).is_none_or(|tailed| self.must_wait(tailed, now));
        let Some(tailed) = self.files.get_mut(&inode).filter(|_| !may_wait) else { return 0 };
        let mut lines = Vec::new();
        let progress = tailed.read(now.at, &mut self.buffer, &mut lines).unwrap_or_else(|error| {
            self.records.ledger.failed("read");
            tracing::debug!(path = ?tailed.path, %error, "cannot read a log file");
            Progress::Idle
        });
        let bytes = lines.iter().map(|line| line.bytes.len()).sum();
        tailed.drained = progress == Progress::Idle;
        match progress {
            Progress::Grew { full } => {
                tailed.idle_since = None;
                step.more |= full;
            }
            Progress::Truncated => step.more = true,
            Progress::Idle => {}
        }
        match tailed.format {
            LogFormat::Pushed => {
                self.records.take_pushed(tailed, lines, now, &self.senders, &mut step.entries);
            }
            _ => self.records.take(tailed, lines, now, &mut self.joiner, &mut step.entries),
        }
        match progress {
            Progress::Grew { .. } => {}
            Progress::Truncated => self.truncated(inode, now, step),
            Progress::Idle => self.idle(inode, now, step),
        }
        bytes
    }

    /// Lets a file go that no source names any more, once it gave nothing for long enough.
    fn idle(&mut self, inode: Inode, now: Moment, step: &mut Step) {
        let Some(tailed) = self.files.get_mut(&inode) else { return };
        let since = *tailed.idle_since.get_or_insert(now.steady);
        if tailed.attached || now.steady.saturating_sub(since) < self.limits.grace {
            return;
        }
        if let Some(mut tailed) = self.files.remove(&inode) {
            self.end(&mut tailed, now, step);
        }
    }

    /// The content that was being read is gone: reads on in its copy where there is one, and starts the file anew.
    fn truncated(&mut self, inode: Inode, now: Moment, step: &mut Step) {
        let Some(mut old) = self.files.remove(&inode) else { return };
        let purpose = Purpose { origin: Arc::clone(&old.origin), format: old.format };
        let (path, attached) = (old.path.clone(), old.attached);
        let file = old.file.try_clone();
        let life = if old.life.inode == inode { old.life.next() } else { self.new_life(inode, &old.file) };
        for (copy, path, inode) in
            copies::stale(&old, |other| other == inode || self.files.contains_key(&other))
        {
            self.skip(copy, path, inode, &purpose);
        }
        match copies::find(&old, |other| other == inode || self.files.contains_key(&other)) {
            Some((copy, path, inode)) => {
                tracing::debug!(original = ?old.path, copy = ?path, "a truncated log file goes on in its copy");
                old.move_to(copy, path, inode);
                old.attached = self.parked.contains_key(&inode);
                if let Ok(page) = old.page() {
                    self.records.book.describe(old.key, |known| {
                        known.inode = page.inode;
                        known.born_ns = page.born_ns;
                        known.path = page.path;
                    });
                }
                self.files.insert(inode, old);
            }
            None => self.end(&mut old, now, step),
        }
        // What looked like a copy of the lost content and was not chosen is a file of its own.
        self.parked.clear();
        if let Ok(file) = file {
            let mut fresh = Tailed::fresh(file, path, inode, life, purpose);
            fresh.attached = attached;
            self.begin(fresh);
        }
    }

    /// Follows a file whose content was read elsewhere, from its present end.
    fn skip(&mut self, file: File, path: PathBuf, inode: Inode, purpose: &Purpose) {
        let life = self.new_life(inode, &file);
        let mut tailed = Tailed::fresh(file, path, inode, life, purpose.clone());
        match tailed.skip() {
            Ok(()) => self.begin(tailed),
            Err(_) => self.records.ledger.failed("read"),
        }
    }

    /// Ends a life: what was read of its last line is all there will be of it.
    fn end(&mut self, tailed: &mut Tailed, now: Moment, step: &mut Step) {
        // Of what was pushed, a line without its end was never acknowledged to its sender.
        let rest = tailed.splitter.finish().filter(|_| tailed.format != LogFormat::Pushed);
        let rest = rest.into_iter().collect();
        self.records.take(tailed, rest, now, &mut self.joiner, &mut step.entries);
        self.records.book.close(tailed.key);
        self.remember_ended(tailed.life.clone());
        self.unsaved = true;
    }

    fn remember_ended(&mut self, life: Life) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(life);
    }

    fn begin(&mut self, tailed: Tailed) {
        match tailed.page() {
            Ok(page) => {
                self.records.book.begin(page);
                self.files.insert(tailed.inode, tailed);
                self.unsaved = true;
            }
            Err(_) => self.records.ledger.failed("read"),
        }
    }

    /// A life for a file that is seen for the first time, or that holds nothing any more of what was read of it.
    fn new_life(&self, inode: Inode, file: &File) -> Life {
        let born = file.metadata().ok().and_then(|meta| born_ns(&meta));
        let first = Life { inode, born_ns: born.unwrap_or(0), generation: 0 };
        let is_kin = |life: &&Life| life.inode == inode && life.born_ns == first.born_ns;
        let known = self.records.book.pages();
        let lives = known.iter().map(|page| &page.life).chain(&self.ended);
        lives.filter(is_kin).max_by_key(|life| life.generation).map_or(first.clone(), Life::next)
    }
}

mod rescan;

impl Records {
    /// Parses lines, notes them as read, and makes entries of them.
    fn take(
        &self,
        tailed: &Tailed,
        lines: Vec<RawLine>,
        now: Moment,
        joiner: &mut Joiner,
        entries: &mut Vec<Entry>,
    ) {
        if lines.is_empty() {
            return;
        }
        let mut count = 0;
        for line in lines {
            let (id, mark) = self.note(tailed, &line, now);
            let line = match self.unframe(tailed, line, mark, now, joiner) {
                Ok(entry) => {
                    entries.extend(entry);
                    continue;
                }
                Err(line) => line,
            };
            let mut parsed = parse(&line.bytes, tailed.format);
            if line.truncated {
                parsed.flag(LogFlag::Truncated);
            }
            let (document, shown) = record(parsed, &tailed.origin, (id, line.start), None, now.at);
            self.recent.keep(shown, now);
            let resumed = line.start < tailed.resumed_until;
            entries.push(Entry { id, document, marks: vec![mark], resumed });
            count += 1;
        }
        self.ledger.read(tailed.origin.workload.as_ref(), count);
        self.note_head(tailed);
    }

    /// Notes a line as read; gives the id that its place makes, and where it is acknowledged.
    fn note(&self, tailed: &Tailed, line: &RawLine, now: Moment) -> (EventId, Mark) {
        let id = tailed.namer.id(line.start, &line.bytes);
        let known = LastLine { start: line.start, bytes: line.bytes.len(), id };
        let pending = Pending { line: known, end: line.end, read_at: now.steady, done: None };
        (id, self.book.read(tailed.key, pending))
    }

    fn note_head(&self, tailed: &Tailed) {
        let (head_bytes, head) = tailed.head();
        self.book.describe(tailed.key, |page| (page.head_bytes, page.head) = (head_bytes, head));
    }
}

#[cfg(test)]
mod tests;
