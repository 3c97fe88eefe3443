//! The tailer's look around: which files are new, renamed or gone, and at the start which ones an earlier run was reading.

use super::*;

impl Tailer {
    pub(super) fn rescan(&mut self, now: Moment) {
        let mut sources = self.sources.borrow_and_update().clone();
        self.senders.learn(&sources);
        sources.extend(self.spool.clone());
        let (found, more) = scan(&sources, self.limits.files_max);
        if more {
            self.records.ledger.failed("too_many_files");
        }
        let is_first = !std::mem::replace(&mut self.started, true);
        if is_first {
            self.resume_all(&sources, &found, now);
        }
        let mut named_before = BTreeSet::new();
        for (inode, tailed) in &mut self.files {
            if std::mem::take(&mut tailed.attached) {
                named_before.insert(*inode);
            }
        }
        if !is_first {
            // Before any of them is known: what is known tells how far a run has been read.
            found.iter().for_each(|file| self.begin_overtaken(&sources, file));
        }
        for file in found {
            self.place(&sources, file, now);
        }
        self.settle_containers();
        self.start_grace(&named_before, now);
        self.records.ledger.files(self.files.len());
    }

    /// Starts the grace of files that just lost their name.
    fn start_grace(&mut self, named_before: &BTreeSet<Inode>, now: Moment) {
        let nameless = self.files.values_mut().filter(|tailed| !tailed.attached);
        for tailed in nameless.filter(|tailed| named_before.contains(&tailed.inode)) {
            tailed.idle_since = Some(now.steady);
        }
        let files = &self.files;
        self.parked.retain(|inode, _| !files.contains_key(inode));
    }

    /// Puts a found file to its tailed one, or starts to tail it.
    fn place(&mut self, sources: &[LogSource], found: Found, now: Moment) {
        if let Some(tailed) = self.files.get_mut(&found.inode) {
            tailed.attached = true;
            if tailed.path != found.path {
                tailed.path.clone_from(&found.path);
                self.records.book.describe(tailed.key, |page| page.path.clone_from(&found.path));
            }
            return;
        }
        if self.files.len() >= self.limits.files_max {
            return;
        }
        let Some(file) = open(&found.path, found.inode) else { return };
        if self.is_parked(&found, &file) {
            return;
        }
        let life = self.new_life(found.inode, &file);
        let purpose = self.purpose(sources, Some(found.source), &found.path);
        let newest = containers::newest_beside(&found.path, &purpose.origin);
        let mut tailed = Tailed::fresh(file, found.path, found.inode, life, purpose);
        (tailed.begun, tailed.newest) = (now.steady, newest);
        self.begin(tailed);
    }

    /// Whether the file is a copy of one that is read already. Compared again only when it changed.
    fn is_parked(&mut self, found: &Found, file: &File) -> bool {
        let changed = file.metadata().ok().and_then(|meta| meta.modified().ok());
        let state = (found.bytes, changed);
        if self.parked.get(&found.inode) == Some(&state) {
            return true;
        }
        let copy = copies::is_copy_of_any(file, &found.path, &self.files);
        if copy {
            self.parked.insert(found.inode, state);
        } else {
            self.parked.remove(&found.inode);
        }
        copy
    }

    /// Takes up every file of the checkpoint, wherever it is now.
    fn resume_all(&mut self, sources: &[LogSource], found: &[Found], now: Moment) {
        let known = self.records.book.pages();
        let mut pages = known.clone();
        // Of the lives of one inode, the last is the one that it may still hold.
        pages.sort_by_key(|page| std::cmp::Reverse(page.life.generation));
        pages.retain(|page| !self.resume(sources, page, found));
        pages.retain(|page| !self.resume_copy(sources, page));
        for page in self.resume_compressed(sources, found, pages, &known) {
            // A file of the spool is deleted when it is shipped.
            let is_spool = source_of(sources, &page.path)
                .is_some_and(|source| sources[source].format == LogFormat::Pushed);
            if page.head_bytes > 0 && !is_spool {
                let (path, offset) = (&page.path, page.offset);
                tracing::warn!(?path, offset, "a log file is gone; what was not read of it is lost");
            }
            self.records.book.close(page.life.key());
            self.remember_ended(page.life);
        }
        for tailed in self.files.values_mut() {
            tailed.begun = now.steady;
        }
    }

    /// Reads on in the same file, if it still holds what was read.
    fn resume(&mut self, sources: &[LogSource], page: &Page, found: &[Found]) -> bool {
        let named = found.iter().find(|file| file.inode == page.inode);
        let place = named.map(|file| (file.path.clone(), Some(file.source))).or_else(|| {
            let beside = neighbours(&page.path).into_iter().find(|(_, inode)| *inode == page.inode);
            beside.map(|(path, _)| (path, source_of(sources, &page.path)))
        });
        let Some((path, source)) = place.filter(|_| !self.files.contains_key(&page.inode)) else {
            return false;
        };
        let Some(file) = open(&path, page.inode) else { return false };
        let born = file.metadata().ok().and_then(|meta| born_ns(&meta));
        if born.is_some() && page.born_ns.is_some() && born != page.born_ns {
            return false;
        }
        let resumed = Tailed::resume(file, path.clone(), page, self.purpose(sources, source, &path));
        if resumed.is_err() {
            self.records.ledger.failed("read");
        }
        resumed.ok().flatten().map(|tailed| self.resumed(tailed, page)).is_some()
    }

    /// Reads on in a copy that was made before the file was truncated.
    fn resume_copy(&mut self, sources: &[LogSource], page: &Page) -> bool {
        if page.head_bytes == 0 {
            return false;
        }
        let purpose = self.purpose(sources, source_of(sources, &page.path), &page.path);
        let copy = copies::candidates(&page.path, |inode| self.files.contains_key(&inode))
            .find_map(|(file, path, _)| Tailed::resume(file, path, page, purpose.clone()).ok().flatten());
        copy.map(|tailed| self.resumed(tailed, page)).is_some()
    }

    pub(super) fn resumed(&mut self, tailed: Tailed, page: &Page) {
        if let Ok(now) = tailed.page() {
            self.records.book.begin(Page { offset: page.offset, last: page.last, ..now });
            self.files.insert(tailed.inode, tailed);
        }
    }

    pub(super) fn purpose(&self, sources: &[LogSource], source: Option<usize>, path: &Path) -> Purpose {
        let source = source.and_then(|index| sources.get(index));
        let format = source.map_or(LogFormat::Auto, |source| source.format);
        let run = Some(path).filter(|_| format == LogFormat::Cri).and_then(Run::of);
        let origin = Origin {
            host: Arc::clone(&self.host),
            workload: source.and_then(|source| source.workload.clone()),
            replica: match &run {
                Some(run) => Some(run.pod.to_string()),
                None => source.and_then(|source| source.replica.clone()),
            },
            path: path.to_string_lossy().into_owned(),
            container: run.map(Container::of),
        };
        Purpose { origin: Arc::new(origin), format }
    }
}

/// The source that named a file which has another name now.
pub(super) fn source_of(sources: &[LogSource], path: &Path) -> Option<usize> {
    let names = |pattern: &PathBuf| {
        pattern == path
            || pattern
                .to_str()
                .and_then(|text| glob::Pattern::new(text).ok())
                .is_some_and(|p| p.matches_path(path))
    };
    sources.iter().position(|source| source.paths.iter().any(names))
}

/// Opens a file if it is still the one that was found.
fn open(path: &Path, inode: Inode) -> Option<File> {
    let opened: io::Result<File> = File::open(path);
    let file = opened.ok()?;
    (Inode::of(&file.metadata().ok()?) == inode).then_some(file)
}
