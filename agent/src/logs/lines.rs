//! Cuts bytes into lines, whatever the pieces they arrive in. Knows offsets and bounds; not files, encodings or meaning.

use memchr::memchr;

/// Longest line kept, in bytes: a CRI runtime's pieces are 16 KiB, and a long traceback or a dumped prompt fits 16 of them.
pub(crate) const LINE_BYTES_MAX: usize = 256 * 1024;

/// One line as it stands in the file, without its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawLine {
    /// Offset of its first byte.
    pub(crate) start: u64,
    /// Offset behind its line end: where the next line starts.
    pub(crate) end: u64,
    /// Its bytes, at most [`LINE_BYTES_MAX`].
    pub(crate) bytes: Vec<u8>,
    /// Whether bytes behind the bound were dropped.
    pub(crate) truncated: bool,
}

/// The line being put together.
#[derive(Debug)]
pub(crate) struct Splitter {
    kept: Vec<u8>,
    start: u64,
    position: u64,
    truncated: bool,
}

impl Splitter {
    /// Starts at `offset`, which must be the start of a line.
    pub(crate) fn at(offset: u64) -> Self {
        Self { kept: Vec::new(), start: offset, position: offset, truncated: false }
    }

    /// Takes the file's next bytes and gives the lines that they complete. Empty lines are not lines.
    pub(crate) fn push(&mut self, mut chunk: &[u8], out: &mut Vec<RawLine>) {
        while let Some(end) = memchr(b'\n', chunk) {
            self.keep(&chunk[..end]);
            self.position += 1;
            out.extend(self.take());
            chunk = &chunk[end + 1..];
        }
        self.keep(chunk);
    }

    /// Gives the line that never got its line end, when no more can come.
    pub(crate) fn finish(&mut self) -> Option<RawLine> {
        self.take()
    }

    fn keep(&mut self, mut piece: &[u8]) {
        self.position += length(piece);
        if self.kept.is_empty() && !self.truncated {
            // A writer that keeps its position after a truncation leaves a hole, which reads as zeros.
            let holes = piece.iter().take_while(|byte| **byte == 0).count();
            piece = &piece[holes..];
            self.start = self.position - length(piece);
        }
        let room = LINE_BYTES_MAX - self.kept.len();
        self.truncated |= piece.len() > room;
        self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn take(&mut self) -> Option<RawLine> {
        let mut bytes = std::mem::take(&mut self.kept);
        if !self.truncated && bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let line = RawLine { start: self.start, end: self.position, truncated: self.truncated, bytes };
        self.start = self.position;
        self.truncated = false;
        (!line.bytes.is_empty()).then_some(line)
    }
}

fn length(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> Vec<RawLine> {
        let mut splitter = Splitter::at(0);
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece, &mut lines);
        }
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn offsets_count_line_ends_and_empty_lines() {
        let lines = split(&[b"one\r\n\n", b"tw", b"o\nrest"]);
        let seen: Vec<_> = lines.iter().map(|l| (l.start, l.end, l.bytes.as_slice())).collect();
        assert_eq!(seen, [(0, 5, &b"one"[..]), (6, 10, b"two"), (10, 14, b"rest")]);
    }

    #[test]
    fn a_line_past_the_bound_is_cut_and_the_next_one_is_whole() {
        let long = vec![b'x'; LINE_BYTES_MAX + 10];
        let lines = split(&[&long, &long, b"\nnext\n"]);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].truncated && lines[0].bytes.len() == LINE_BYTES_MAX);
        assert_eq!(lines[0].end, 2 * long.len() as u64 + 1);
        assert_eq!((lines[1].bytes.as_slice(), lines[1].truncated), (&b"next"[..], false));
    }

    #[test]
    fn a_hole_at_the_start_of_a_line_is_not_part_of_it() {
        let lines = split(&[&[0; 40], &[0; 2], b"after\n"]);
        assert_eq!(lines, [RawLine { start: 42, end: 48, bytes: b"after".to_vec(), truncated: false }]);
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(text in "[ab\n\r]{0,200}", cuts in prop::collection::vec(0usize..200, 0..8)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut from = 0;
            let pieces: Vec<&[u8]> = cuts.iter().map(|to| { let piece = &bytes[from..*to]; from = *to; piece }).collect();
            prop_assert_eq!(split(&pieces), split(&[bytes]));
        }
    }
}
