//! The embedded sink: files of one JSON record a line, rotated by size, the oldest dropped.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_core::Field;

use super::claim::Claim;
use super::identity::EventId;
use super::record::Entry;
use super::sink::{Cause, Failure, Outcome, Sink};

/// Ids of the last lines remembered, so that lines sent again after a crash are not written twice. More than can be under way.
const IDS_MAX: usize = 50_000;
/// How much of the newest file is read at the start to find those ids.
const TAIL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where the files are and how much they may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NdjsonConfig {
    /// Folder of the files; made when it is not there.
    pub folder: PathBuf,
    /// Size at which a new file is begun, in bytes.
    pub file_bytes_max: u64,
    /// Files kept, the newest included; at least one.
    pub files_kept: usize,
}

impl NdjsonConfig {
    /// Eight files of 64 MiB.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder, file_bytes_max: 64 * 1024 * 1024, files_kept: 8 }
    }

    /// The file being written.
    #[must_use]
    pub fn newest(&self) -> PathBuf {
        self.file(0)
    }

    fn file(&self, age: usize) -> PathBuf {
        let name = if age == 0 { "logs.ndjson".to_owned() } else { format!("logs.{age}.ndjson") };
        self.folder.join(name)
    }
}

/// Writes the files.
#[derive(Debug, Clone)]
pub(crate) struct Ndjson {
    writer: Arc<Mutex<Writer>>,
}

#[derive(Debug)]
struct Writer {
    _claim: Claim,
    config: NdjsonConfig,
    file: File,
    bytes: u64,
    order: VecDeque<EventId>,
    known: HashSet<EventId>,
}

impl Ndjson {
    /// Opens the newest file, cuts off a line torn by a crash, and reads the ids of the last lines.
    ///
    /// # Errors
    /// When the folder or the file cannot be made, read or written; [`io::ErrorKind::WouldBlock`] when another writes there.
    pub(crate) fn open(config: NdjsonConfig) -> io::Result<Self> {
        fs::create_dir_all(&config.folder)?;
        let claim = Claim::take(&config.folder)?;
        let (mut order, mut known) = (VecDeque::new(), HashSet::new());
        for id in last_ids(&config)?.into_iter().rev() {
            remember(&mut order, &mut known, id);
        }
        let mut file = append(&config.newest())?;
        let bytes = whole_lines(&mut file)?;
        file.set_len(bytes)?;
        Ok(Self { writer: Arc::new(Mutex::new(Writer { _claim: claim, config, file, bytes, order, known })) })
    }
}

impl Sink for Ndjson {
    async fn store(&self, batch: &[Entry], _uncertain: bool) -> Result<Vec<Outcome>, Failure> {
        let writer = Arc::clone(&self.writer);
        let lines: Vec<(EventId, String)> =
            batch.iter().map(|entry| (entry.id, entry.document.clone())).collect();
        let count = lines.len();
        let written = tokio::task::spawn_blocking(move || {
            writer.lock().unwrap_or_else(PoisonError::into_inner).write(&lines)
        });
        match written.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => Ok(vec![Outcome::Stored; count]),
            Err(error) => Err(Failure { source: Some(error.into()), ..Failure::new(Cause::Io) }),
        }
    }
}

impl Writer {
    /// Writes lines that are not there yet, through to the disk; on failure none of them is left behind.
    fn write(&mut self, lines: &[(EventId, String)]) -> io::Result<()> {
        if self.bytes >= self.config.file_bytes_max {
            self.rotate()?;
        }
        let mut text = String::new();
        let mut fresh = HashSet::new();
        for (id, document) in lines {
            if !self.known.contains(id) && fresh.insert(*id) {
                text.push_str(document);
                text.push('\n');
            }
        }
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // A torn line would spoil the next one; when even this fails, the start of the next run cuts it off.
            self.file.set_len(self.bytes).ok();
            return Err(error);
        }
        self.bytes += text.len() as u64;
        for (id, _) in lines {
            remember(&mut self.order, &mut self.known, *id);
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let kept = self.config.files_kept.max(1);
        for age in (1..kept).rev() {
            let (younger, path) = (self.config.file(age - 1), self.config.file(age));
            if younger.exists() {
                fs::rename(younger, path)?;
            }
        }
        if kept == 1 {
            fs::remove_file(self.config.newest())?;
        }
        self.file = append(&self.config.newest())?;
        self.bytes = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(0o640).open(path)
}

fn remember(order: &mut VecDeque<EventId>, known: &mut HashSet<EventId>, id: EventId) {
    if !known.insert(id) {
        return;
    }
    order.push_back(id);
    if order.len() > IDS_MAX
        && let Some(oldest) = order.pop_front()
    {
        known.remove(&oldest);
    }
}

/// The ids of the last lines, newest first, from as many files as they take.
fn last_ids(config: &NdjsonConfig) -> io::Result<Vec<EventId>> {
    let (mut ids, mut bytes) = (Vec::new(), 0);
    for age in 0..config.files_kept.max(1) {
        if ids.len() >= IDS_MAX || bytes >= TAIL_BYTES_MAX {
            break;
        }
        let file = match File::open(config.file(age)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        bytes += file.metadata()?.len();
        ids.extend(ids_in(file)?.into_iter().rev());
    }
    ids.truncate(IDS_MAX);
    Ok(ids)
}

fn ids_in(mut file: File) -> io::Result<Vec<EventId>> {
    let from = file.metadata()?.len().saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let key = format!("\"{}\":\"", Field::EventId.name());
    let finder = memchr::memmem::Finder::new(&key);
    let mut lines = BufReader::new(file.take(TAIL_BYTES_MAX)).split(b'\n');
    let mut ids = Vec::new();
    while let Some(line) = lines.next().transpose()? {
        ids.extend(id_of(&line, &finder));
    }
    Ok(ids)
}

/// The id of a record, without parsing the rest. Quotes inside of texts are escaped, so only the field itself is found.
fn id_of(line: &[u8], key: &memchr::memmem::Finder<'_>) -> Option<EventId> {
    let start = key.find(line)? + key.needle().len();
    let text = line.get(start..)?.split(|byte| *byte == b'"').next()?;
    EventId::try_from(String::from_utf8(text.to_vec()).ok()?).ok()
}

/// Length of the file without a last line that has no end.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut piece = vec![0; 64 * 1024];
    while end > 0 {
        let from = end.saturating_sub(piece.len() as u64);
        let bytes = usize::try_from(end - from).unwrap_or(piece.len());
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut piece[..bytes])?;
        if let Some(at) = memchr::memrchr(b'\n', &piece[..bytes]) {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::identity::{Inode, Life, Namer};

    fn lines(range: std::ops::Range<u64>) -> Vec<(EventId, String)> {
        let life = Life { inode: Inode { device: 1, number: 1 }, born_ns: 0, generation: 0 };
        let namer = Namer::new("host", life.key());
        let line = |n| {
            let id = namer.id(n, b"line");
            (id, format!(r#"{{"{}":"{id}","n":{n}}}"#, Field::EventId.name()))
        };
        range.map(line).collect()
    }

    fn write(sink: &Ndjson, range: std::ops::Range<u64>) {
        sink.writer.lock().unwrap().write(&lines(range)).unwrap();
    }

    fn all(config: &NdjsonConfig) -> Vec<u64> {
        let number =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_u64().unwrap();
        let text = |age| fs::read_to_string(config.file(age)).unwrap_or_default();
        (0..20).rev().flat_map(|age| text(age).lines().map(number).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn files_rotate_by_size_and_the_oldest_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            NdjsonConfig { file_bytes_max: 100, files_kept: 3, ..NdjsonConfig::new(folder.path().into()) };
        let sink = Ndjson::open(config.clone()).unwrap();
        for n in 0..10 {
            write(&sink, n * 10..n * 10 + 10);
        }
        assert_eq!(all(&config), (70..100).collect::<Vec<_>>());
        assert!(!config.file(3).exists());
    }

    #[test]
    fn lines_sent_again_after_a_crash_are_not_written_twice_and_a_torn_one_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let config = NdjsonConfig::new(folder.path().to_owned());
        write(&Ndjson::open(config.clone()).unwrap(), 0..10);
        append(&config.newest()).unwrap().write_all(br#"{"torn":"#).unwrap();
        let sink = Ndjson::open(config.clone()).unwrap();
        write(&sink, 5..15);
        write(&sink, 0..15);
        assert_eq!(all(&config), (0..15).collect::<Vec<_>>());
    }

    #[test]
    fn an_id_inside_of_a_text_is_not_the_record_s() {
        let name = Field::EventId.name();
        let (own, other) = (lines(0..1)[0].0, lines(1..2)[0].0);
        let text = serde_json::json!({ "message": format!(r#""{name}":"{other}""#), name: own }).to_string();
        let key = format!("\"{name}\":\"");
        assert_eq!(id_of(text.as_bytes(), &memchr::memmem::Finder::new(&key)), Some(own));
    }
}
