//! What containers write, in the folders of the kubelet: in the order that it was written, although rotation spreads it over files;
//! named after the pod; from compressed files too, where the agent was away for longer than they took to become so.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Read as _;

use flate2::read::MultiGzDecoder;

use super::rescan::source_of;
use super::*;
use crate::collect::pods::PodTable;
use crate::logs::cri::{self, Half, Piece, Run, rotated};
use crate::logs::discover::is_compressed;
use crate::logs::record::Framing;

/// A new file waits so long for its pod to be known: without, its first lines would lack what only the pod tells.
const POD_WITHIN: Duration = Duration::from_secs(5);
/// Largest file that is unpacked. The kubelet rotates at 10 MiB, or what had come when it looked.
const UNPACKED_BYTES_MAX: u64 = 2 << 30;

impl Tailer {
    /// After a look around: puts the files of each container in order, and names those whose pods are known by now.
    pub(super) fn settle_containers(&mut self) {
        let table = self.pods.as_ref().map(|pods| pods.borrow().clone());
        let mut files: BTreeMap<(Box<str>, Box<str>), Vec<_>> = BTreeMap::new();
        for (inode, tailed) in &mut self.files {
            let Some(container) = &tailed.origin.container else { continue };
            let run = &container.run;
            // The file that is written now, which has nothing behind its name, is the last one of its run. One that had, and lost its
            // name unseen, comes right behind those that were there before it.
            let place = match rotated(&tailed.path) {
                Some(behind) => Some(time(behind).to_owned()),
                None if tailed.attached => None,
                None => Some(tailed.newest.as_ref().map_or_else(String::new, |newest| format!("{newest}~"))),
            };
            let order = (run.restart, place.is_none(), place, *inode);
            files.entry((run.uid.clone(), run.container.clone())).or_default().push(order);
            if let Some(table) = &table {
                name(tailed, table);
            }
        }
        for mut of_container in files.into_values().filter(|files| files.len() > 1) {
            of_container.sort();
            let inodes: Vec<Inode> = of_container.into_iter().map(|(.., inode)| inode).collect();
            for (at, inode) in inodes.iter().enumerate() {
                self.wait_for(*inode, &inodes[..at]);
            }
        }
    }

    /// A file waits until those before it have been read to their ends after it came: only then nobody writes to them any more.
    fn wait_for(&mut self, inode: Inode, before: &[Inode]) {
        let Some(tailed) = self.files.get_mut(&inode) else { return };
        let new: Vec<Inode> = before.iter().copied().filter(|one| !tailed.after.contains(one)).collect();
        tailed.after = before.to_vec();
        for one in new {
            if let Some(earlier) = self.files.get_mut(&one) {
                earlier.drained = false;
            }
        }
    }

    /// Whether it is not yet this file's turn.
    pub(super) fn must_wait(&self, tailed: &Tailed, now: Moment) -> bool {
        let is_nameless = tailed.origin.container.as_ref().is_some_and(|of| of.labels.is_none());
        let may_come = now.steady.saturating_sub(tailed.begun) < POD_WITHIN;
        let reads_on = |inode: &Inode| self.files.get(inode).is_some_and(|earlier| !earlier.drained);
        (is_nameless && may_come && self.pods.is_some()) || tailed.after.iter().any(reads_on)
    }

    /// Takes up what is in compressed files alone, of containers that an earlier run was reading: where it was in them, and what has
    /// come since. `lost` are pages whose files are not there any more; gives those that are nowhere.
    pub(super) fn resume_compressed(
        &mut self,
        sources: &[LogSource],
        found: &[Found],
        lost: Vec<Page>,
        known: &[Page],
    ) -> Vec<Page> {
        let is_framed = |page: &Page| {
            source_of(sources, &page.path).is_some_and(|at| sources[at].format == LogFormat::Cri)
        };
        let (framed, mut nowhere): (Vec<_>, Vec<_>) = lost.into_iter().partition(is_framed);
        let mut unseen: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for page in framed {
            let Some(source) = source_of(sources, &page.path) else { continue };
            let packed = packed_beside(&page.path);
            let own = rotated(&page.path).map(time);
            let newest = own.or(page.newest.as_deref());
            let time_of = |path: &PathBuf| rotated(path).map(time).map(str::to_owned);
            let is_it = |path: &&PathBuf| match (page.head_bytes, own) {
                // Of which nothing was read, there is nothing to be known by but the time in its name; while it had none, it was the
                // next one to get one.
                (0, Some(_)) => time_of(path).as_deref() == own,
                (0, None) => time_of(path).as_deref() > newest,
                _ => true,
            };
            let mut may_be = packed.iter().filter(is_it);
            let found = match page.head_bytes {
                0 => may_be.next().filter(|path| self.resume_packed(sources, source, path, &page)),
                _ => may_be.find(|path| self.resume_packed(sources, source, path, &page)),
            };
            let at = found.and_then(|found| packed.iter().position(|path| path == found));
            // Where it was not found, it is gone altogether: whatever bears a later time.
            let is_later = |(index, path): &(usize, &PathBuf)| match at {
                Some(at) => *index > at,
                None => time_of(path).as_deref() > newest,
            };
            let later = packed.iter().enumerate().filter(is_later);
            unseen.extend(later.map(|(_, path)| (path.clone(), source)));
            if at.is_none() {
                nowhere.push(page);
            }
        }
        // A run that nobody knew began, and was rotated, meanwhile.
        let runs: Vec<Run> = known.iter().filter_map(|page| Run::of(&page.path)).collect();
        for file in found.iter().filter(|file| sources[file.source].format == LogFormat::Cri) {
            if !known.is_empty() && Run::of(&file.path).is_some_and(|run| !runs.contains(&run)) {
                unseen.extend(packed_beside(&file.path).into_iter().map(|path| (path, file.source)));
            }
        }
        for (path, source) in unseen {
            let is_read = self.files.values().any(|tailed| tailed.path == path);
            if !is_read {
                self.begin_packed(sources, source, &path);
            }
        }
        nowhere
    }

    /// Where a container's new file is the second one since the last look around, those between are compressed already: they are
    /// read, too.
    pub(super) fn begin_overtaken(&mut self, sources: &[LogSource], found: &Found) {
        let is_framed = sources[found.source].format == LogFormat::Cri;
        if !is_framed || self.files.contains_key(&found.inode) || rotated(&found.path).is_some() {
            return;
        }
        let Some(run) = Run::of(&found.path) else { return };
        let times = times_beside(&found.path, &run);
        let is_of_run = |tailed: &&Tailed| tailed.origin.container.as_ref().is_some_and(|of| *of.run == run);
        let time_of = |tailed: &Tailed| match rotated(&tailed.path) {
            Some(behind) => Some(time(behind).to_owned()),
            // Until now it had none: it got the next one.
            None => times.iter().find(|time| Some(*time) > tailed.newest.as_ref()).cloned(),
        };
        let read = self.files.values().filter(is_of_run).filter_map(time_of).max();
        let unread = |path: &PathBuf| rotated(path).map(time) > read.as_deref();
        for path in packed_beside(&found.path).into_iter().filter(unread) {
            self.begin_packed(sources, found.source, &path);
        }
    }

    /// Reads on in a compressed file, if it holds what was read.
    fn resume_packed(&mut self, sources: &[LogSource], source: usize, path: &Path, page: &Page) -> bool {
        let purpose = self.purpose(sources, Some(source), path);
        let Some((file, _)) = self.unpack(path) else { return false };
        let resumed = Tailed::resume(file, path.to_owned(), page, purpose).ok().flatten();
        resumed.map(|tailed| self.resumed(tailed, page)).is_some()
    }

    fn begin_packed(&mut self, sources: &[LogSource], source: usize, path: &Path) {
        let purpose = self.purpose(sources, Some(source), path);
        let Some((file, packed)) = self.unpack(path) else { return };
        let (Ok(meta), Ok(packed_meta)) = (file.metadata(), packed.metadata()) else { return };
        // Its life is that of the compressed file, which is there again after a restart.
        let life = self.new_life(Inode::of(&packed_meta), &packed);
        self.begin(Tailed::fresh(file, path.to_owned(), Inode::of(&meta), life, purpose));
    }

    /// What is in a compressed file, in one without a name; and the compressed file.
    fn unpack(&self, path: &Path) -> Option<(File, File)> {
        let unpacked = self.records.book.folder().join("unpacked");
        let unpacking = || -> io::Result<(File, File)> {
            let packed = File::open(path)?;
            let mut options = OpenOptions::new();
            let mut file = options.read(true).write(true).create(true).truncate(true).open(&unpacked)?;
            fs::remove_file(&unpacked)?;
            io::copy(&mut MultiGzDecoder::new(&packed).take(UNPACKED_BYTES_MAX), &mut file)?;
            Ok((file, packed))
        };
        unpacking()
            .inspect_err(|error| {
                self.records.ledger.failed("unpack");
                tracing::warn!(?path, %error, "a compressed log file cannot be read");
            })
            .ok()
    }
}

/// Names a container's lines after its pod, once that is known. What was known of a pod that is gone stays.
fn name(tailed: &mut Tailed, table: &PodTable) {
    let Some(container) = tailed.origin.container.as_ref().filter(|of| of.labels.is_none()) else { return };
    let Some(pod) = table.pod(&container.run.uid) else { return };
    let origin = &tailed.origin;
    tailed.origin = Arc::new(Origin {
        workload: pod.workload.clone().or_else(|| origin.workload.clone()),
        container: Some(container.known(pod)),
        ..Origin::clone(origin)
    });
}

/// The time in what rotation puts behind a name.
fn time(rotated: &str) -> &str {
    rotated.strip_suffix(".gz").unwrap_or(rotated)
}

/// What stands behind the name of the newest file of a run that was rotated by now, compressed or not; for the file that is written.
pub(super) fn newest_beside(path: &Path, origin: &Origin) -> Option<String> {
    let run = &origin.container.as_ref().filter(|_| rotated(path).is_none())?.run;
    times_beside(path, run).pop()
}

/// What stands behind the names of a run's files that were rotated, in order.
fn times_beside(path: &Path, run: &Run) -> Vec<String> {
    let beside = neighbours(path).into_iter().map(|(path, _)| path);
    let of_run = beside.filter(|other| Run::of(other).as_ref() == Some(run));
    let mut times: Vec<_> =
        of_run.filter_map(|other| rotated(&other).map(|behind| time(behind).to_owned())).collect();
    times.sort();
    times
}

/// Compressed files of the same run, in the order in which they were written.
fn packed_beside(path: &Path) -> Vec<PathBuf> {
    let run = Run::of(path);
    let beside = neighbours(path).into_iter().map(|(path, _)| path);
    let mut packed: Vec<_> = beside
        .filter(|other| is_compressed(other) && other.extension().is_some_and(|ending| ending == "gz"))
        .filter(|other| run.is_some() && Run::of(other) == run)
        .collect();
    packed.sort();
    packed
}

impl Records {
    /// Takes a line apart that a runtime has framed; gives it when it is whole, and it itself when it is not framed.
    pub(super) fn unframe(
        &self,
        tailed: &Tailed,
        line: RawLine,
        mark: Mark,
        now: Moment,
        joiner: &mut Joiner,
    ) -> Result<Option<Entry>, RawLine> {
        let run = tailed.origin.container.as_ref().map(|container| &container.run);
        let Some((run, framed)) = run.zip(cri::parse(&line.bytes)) else { return Err(line) };
        let half = joiner.push(Piece {
            run,
            line: framed,
            origin: &tailed.origin,
            namer: &tailed.namer,
            start: line.start,
            mark,
            resumed: line.start < tailed.resumed_until,
            now: now.steady,
        });
        Ok(half.and_then(|half| self.joined(half, now)))
    }

    /// A line that has been put together, as an entry. One that is empty is no line, and done.
    pub(super) fn joined(&self, half: Half, now: Moment) -> Option<Entry> {
        if half.message.is_empty() {
            self.book.acknowledge([half.marks]);
            return None;
        }
        let id = half.namer.id(half.start, &half.message);
        let mut parsed = parse(&half.message, LogFormat::Auto);
        if half.truncated {
            parsed.flag(LogFlag::Truncated);
        }
        let framing = Framing { at: half.at, stream: half.stream };
        let (document, shown) = record(parsed, &half.origin, (id, half.start), Some(framing), now.at);
        self.recent.keep(shown, now);
        self.ledger.read(half.origin.workload.as_ref(), 1);
        Some(Entry { id, document, marks: half.marks, resumed: half.resumed })
    }
}
