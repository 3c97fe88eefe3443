//! The framing that container runtimes put around what containers write (Kubernetes CRI): time, stream, tags, message. Lines that
//! were cut into pieces are put together again. No I/O.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use memchr::memchr;
use tidegate_core::Timestamp;

use super::book::Mark;
use super::identity::Namer;
use super::lines::LINE_BYTES_MAX;
use super::record::Origin;

/// Most pieces of one line that are waited for: it fills [`LINE_BYTES_MAX`] long before, unless the runtime cuts far smaller ones.
const PIECES_MAX: usize = 1024;

/// A line whose end has not come by then has none: runtimes write the pieces of a line at once, and the last one is missing where the
/// container died.
const WAITS_FOR_END: Duration = Duration::from_secs(30);

/// What a container writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// The word in the file and in the record.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One line of the file, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CriLine<'a> {
    pub(crate) at: Timestamp,
    pub(crate) stream: Stream,
    /// Whether more of the same line follows.
    pub(crate) partial: bool,
    pub(crate) message: &'a [u8],
}

/// Takes a line apart; `None` when it is not framed so. Of the tags, which `:` parts, only the first one says something.
pub(crate) fn parse(line: &[u8]) -> Option<CriLine<'_>> {
    let (at, rest) = word(line)?;
    let (stream, rest) = word(rest)?;
    // A line without a message may end with its tags.
    let (tags, message) = word(rest).unwrap_or((rest, &[]));
    let at = std::str::from_utf8(at).ok()?.parse().ok()?;
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let partial = match tags.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(CriLine { at, stream, partial, message })
}

fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b' ', text)?;
    Some((&text[..end], &text[end + 1..]))
}

/// Which run of which container wrote a file, as its path says: `…/NAMESPACE_POD_UID/CONTAINER/RESTART.log`, with what rotation puts
/// behind the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) namespace: Box<str>,
    pub(crate) pod: Box<str>,
    /// As the kubelet has it: of a pod from a file, the hash of that file.
    pub(crate) uid: Box<str>,
    pub(crate) container: Box<str>,
    pub(crate) restart: u32,
}

impl Run {
    /// What a path says. Names of namespaces, pods and containers have no `_`.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let mut parts = path.iter().rev().map(|part| part.to_str());
        let (file, container, pod) = (parts.next()??, parts.next()??, parts.next()??);
        let (restart, rest) = file.split_once('.')?;
        if rest != "log" && !rest.starts_with("log.") {
            return None;
        }
        let mut words = pod.split('_');
        let (namespace, name, uid) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || [namespace, name, uid, container].contains(&"") {
            return None;
        }
        Some(Self {
            namespace: namespace.into(),
            pod: name.into(),
            uid: uid.into(),
            container: container.into(),
            restart: restart.parse().ok()?,
        })
    }
}

/// What rotation put behind the name of a file: nothing for the one that is written now, which is the last of its run.
pub(crate) fn rotated(path: &Path) -> Option<&str> {
    let (_, rest) = path.file_name()?.to_str()?.split_once(".log")?;
    rest.strip_prefix('.').filter(|rest| !rest.is_empty())
}

/// A line that is being put together.
#[derive(Debug)]
pub(crate) struct Half {
    /// Whose it is.
    pub(crate) origin: Arc<Origin>,
    /// Makes its id, in the file that it begins in.
    pub(crate) namer: Namer,
    /// Offset of its first piece.
    pub(crate) start: u64,
    pub(crate) at: Timestamp,
    pub(crate) stream: Stream,
    pub(crate) message: Vec<u8>,
    /// Whether its end is missing, or was too far.
    pub(crate) truncated: bool,
    /// Where its pieces are acknowledged.
    pub(crate) marks: Vec<Mark>,
    /// Whether an earlier run of the agent may have sent it already.
    pub(crate) resumed: bool,
    /// When its last piece was read, on the steady clock.
    seen: Duration,
}

/// One piece, and where it was read.
pub(crate) struct Piece<'a> {
    pub(crate) run: &'a Arc<Run>,
    pub(crate) line: CriLine<'a>,
    pub(crate) origin: &'a Arc<Origin>,
    pub(crate) namer: &'a Namer,
    pub(crate) start: u64,
    pub(crate) mark: Mark,
    pub(crate) resumed: bool,
    pub(crate) now: Duration,
}

/// Lines whose pieces have not all come yet, by who writes them. Streams of a container share a file, and their pieces alternate;
/// rotation may fall between two pieces.
#[derive(Debug, Default)]
pub(crate) struct Joiner {
    halves: HashMap<(Arc<Run>, Stream), Half>,
}

impl Joiner {
    /// Takes a piece; gives the line when this was its last one, or when it is as long as a line may be.
    pub(crate) fn push(&mut self, piece: Piece<'_>) -> Option<Half> {
        let CriLine { at, stream, partial, message } = piece.line;
        let key = (Arc::clone(piece.run), stream);
        let mut half = self.halves.remove(&key).unwrap_or_else(|| Half {
            origin: Arc::clone(piece.origin),
            namer: piece.namer.clone(),
            start: piece.start,
            at,
            stream,
            message: Vec::new(),
            truncated: false,
            marks: Vec::new(),
            resumed: piece.resumed,
            seen: piece.now,
        });
        half.message.extend_from_slice(message);
        half.marks.push(piece.mark);
        half.seen = piece.now;
        if !partial {
            return Some(half);
        }
        if half.message.len() >= LINE_BYTES_MAX || half.marks.len() >= PIECES_MAX {
            // What follows is a line of its own: nothing is dropped.
            half.truncated = true;
            return Some(half);
        }
        self.halves.insert(key, half);
        None
    }

    /// Gives the lines whose end has not come for so long that it will not.
    pub(crate) fn overdue(&mut self, now: Duration) -> Vec<Half> {
        let gone = self.halves.extract_if(|_, half| now.saturating_sub(half.seen) > WAITS_FOR_END);
        let mut halves: Vec<_> = gone.map(|(_, half)| Half { truncated: true, ..half }).collect();
        halves.sort_by_key(|half| half.seen);
        halves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(text: &str) -> Option<(Stream, bool, &str)> {
        let line = parse(text.as_bytes())?;
        Some((line.stream, line.partial, std::str::from_utf8(line.message).unwrap()))
    }

    #[test]
    fn lines_are_taken_apart_as_runtimes_write_them() {
        use Stream::{Stderr, Stdout};
        for (text, expected) in [
            ("2026-10-06T00:17:09.669794202Z stdout F hello  world ", Some((Stdout, false, "hello  world "))),
            ("2026-10-06T00:17:09.66Z stderr P half", Some((Stderr, true, "half"))),
            ("2026-10-06T02:17:09.669794202+02:00 stdout F:x:y cri-o", Some((Stdout, false, "cri-o"))),
            ("2026-10-06T00:17:09Z stdout F ", Some((Stdout, false, ""))),
            ("2026-10-06T00:17:09Z stdout F", Some((Stdout, false, ""))),
            ("2026-10-06T00:17:09Z stdlog F x", None),
            ("2026-10-06T00:17:09Z stdout X x", None),
            ("noon stdout F x", None),
            ("{\"log\":\"docker\\n\"}", None),
            ("", None),
        ] {
            assert_eq!(message(text), expected, "{text:?}");
        }
        let local = parse(b"2026-10-06T02:17:09.5+02:00 stdout F x").unwrap();
        assert_eq!(local.at.to_string(), "2026-10-06T00:17:09.500Z");
    }

    #[test]
    fn a_path_says_whose_file_it_is() {
        let of = |path: &str| Run::of(Path::new(path));
        let run = of("/var/log/pods/ml_chat-7d9-x2x_6e3a-11/vllm/2.log").unwrap();
        let told = (&*run.namespace, &*run.pod, &*run.uid, &*run.container, run.restart);
        assert_eq!(told, ("ml", "chat-7d9-x2x", "6e3a-11", "vllm", 2));
        assert_eq!(of("/var/log/pods/ml_chat-7d9-x2x_6e3a-11/vllm/2.log.20261006-001709"), Some(run));
        for path in
            ["/var/log/pods/ml_chat/vllm/0.log", "/p/a_b_c/vllm/x.log", "/p/a_b_c/vllm/0.txt", "0.log"]
        {
            assert_eq!(of(path), None, "{path}");
        }
        assert_eq!(rotated(Path::new("/p/0.log")), None);
        assert_eq!(rotated(Path::new("/p/0.log.20261006-001709.gz")), Some("20261006-001709.gz"));
    }

    proptest! {
        #[test]
        fn never_panics(line in prop::collection::vec(any::<u8>(), 0..80)) {
            parse(&line);
        }
    }
}
