//! Reads a trace: a CSV file with a column `timestamp_s` (seconds) and a column `value`, also gzipped. What is wrong is named by its line.
//!
//! Fields are plain numbers, so there are no quotes to undo. The whole file is read, up to a bound.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

/// Two years of minutes, ten times over: 160 MB in memory.
const POINTS_MAX: usize = 10_000_000;
/// A row has a few numbers; a longer line belongs to some other file.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// First bytes of a gzip file, whatever its name.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const TIME: &str = "timestamp_s";
const VALUE: &str = "value";

/// What the values of a trace are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Unit {
    /// Per second.
    #[default]
    #[value(name = "req/s")]
    PerSecond,
    /// Per minute.
    #[value(name = "req/min")]
    PerMinute,
    /// In the time until the next value.
    #[value(name = "count")]
    Count,
}

/// A value, which holds from its time until the next one's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    /// Seconds, on the trace's own clock; rising.
    pub(crate) timestamp_s: f64,
    /// Requests per second, finite and not negative.
    pub(crate) value: f64,
}

/// Why a trace could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: {problem}", path.display())]
    Malformed { path: PathBuf, line: usize, problem: String },
}

/// How the times of a trace go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// Each is later than the one before.
    Rise,
    /// None is earlier than the one before.
    DoNotFall,
}

/// Reads the points of a trace as requests per second; at least two, their times rising.
///
/// # Errors
/// When the file cannot be read, or a line of it is not what it should be.
pub(crate) fn read(path: &Path, unit: Unit) -> Result<Vec<Point>, TraceError> {
    let needed =
        |there: [bool; 2]| there[1].then_some(Times::Rise).ok_or("the columns timestamp_s and value");
    let (_, mut rows) = columns(path, [TIME, VALUE], needed)?;
    per_second(&mut rows, unit);
    Ok(rows.into_iter().map(|[timestamp_s, value]| Point { timestamp_s, value }).collect())
}

/// Which of some columns there are, and their numbers by row.
type Columns<const N: usize> = ([bool; N], Vec<[f64; N]>);

/// Reads these columns of a file, of which the first is [`TIME`]: numbers that are finite and, but for times, not negative; NaN in a
/// column that is not there. `needed` says for which columns the file will do, and how its times go on; or else what is expected.
///
/// # Errors
/// When the file cannot be read, or a line of it is not what it should be.
pub(crate) fn columns<const N: usize>(
    path: &Path,
    names: [&str; N],
    needed: impl Fn([bool; N]) -> Result<Times, &'static str>,
) -> Result<Columns<N>, TraceError> {
    let failed = |source| TraceError::Read { path: path.to_owned(), source };
    let mut lines = Lines::open(path).map_err(failed)?;
    parse(&mut lines, names, needed).map_err(|error| match error {
        Problem::Read(source) => failed(source),
        Problem::Line(problem) => {
            TraceError::Malformed { path: path.to_owned(), line: lines.number, problem }
        }
    })
}

enum Problem {
    Read(io::Error),
    Line(String),
}

/// The file's lines, each of bounded length.
struct Lines {
    input: Box<dyn BufRead>,
    line: Vec<u8>,
    /// Number of the last line that was asked for, from 1.
    number: usize,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let gzipped = file.fill_buf()?.starts_with(&GZIP);
        let input: Box<dyn BufRead> =
            if gzipped { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) };
        Ok(Self { input, line: Vec::new(), number: 0 })
    }

    /// The next line without its end; `None` after the last.
    fn next(&mut self) -> Result<Option<&str>, Problem> {
        self.number += 1;
        self.line.clear();
        let mut limited = self.input.by_ref().take(LINE_BYTES_MAX);
        if limited.read_until(b'\n', &mut self.line).map_err(Problem::Read)? == 0 {
            return Ok(None);
        }
        if self.line.len() as u64 == LINE_BYTES_MAX {
            return Err(Problem::Line(format!("expected at most {LINE_BYTES_MAX} bytes in a line")));
        }
        let text =
            std::str::from_utf8(&self.line).map_err(|_| Problem::Line("expected text in UTF-8".into()))?;
        Ok(Some(text.trim_end_matches(['\n', '\r'])))
    }
}

fn parse<const N: usize>(
    lines: &mut Lines,
    names: [&str; N],
    needed: impl Fn([bool; N]) -> Result<Times, &'static str>,
) -> Result<Columns<N>, Problem> {
    let header = lines.next()?.map(str::to_owned);
    let got = header.as_ref().map_or_else(|| "an empty file".to_owned(), |header| format!("{header:?}"));
    let header = header.unwrap_or_default();
    let found: Vec<&str> = header.trim_start_matches('\u{feff}').split(',').map(str::trim).collect();
    let places = names.map(|name| found.iter().position(|column| *column == name));
    let there = places.map(|place| place.is_some());
    // Without times nothing will do.
    let times = needed(if there[0] { there } else { [false; N] })
        .map_err(|expected| Problem::Line(format!("expected a header with {expected}, got {got}")))?;
    let mut rows: Vec<[f64; N]> = Vec::new();
    while let Some(line) = lines.next()? {
        if line.trim().is_empty() {
            continue;
        }
        let row = row(line, found.len(), names, places).map_err(Problem::Line)?;
        if let Some(before) = rows.last().map(|last| last[0]) {
            let (word, is_wrong) = match times {
                Times::Rise => ("above", row[0] <= before),
                Times::DoNotFall => ("of at least", row[0] < before),
            };
            if is_wrong {
                return Err(Problem::Line(format!(
                    "expected a {TIME} {word} {before} of the row before, got {}",
                    row[0]
                )));
            }
        }
        if rows.len() == POINTS_MAX {
            return Err(Problem::Line(format!("expected at most {POINTS_MAX} rows")));
        }
        rows.push(row);
    }
    if rows.len() < 2 {
        return Err(Problem::Line(format!("expected two rows or more, got {}", rows.len())));
    }
    Ok((there, rows))
}

fn row<const N: usize>(
    line: &str,
    columns: usize,
    names: [&str; N],
    places: [Option<usize>; N],
) -> Result<[f64; N], String> {
    let fields: Vec<&str> = line.split(',').collect();
    if fields.len() != columns {
        return Err(format!("expected {columns} columns as in the header, got {}", fields.len()));
    }
    let mut row = [f64::NAN; N];
    for (at, place) in places.into_iter().enumerate() {
        let Some(place) = place else { continue };
        row[at] = number(names[at], fields[place])?;
        if at > 0 && row[at] < 0.0 {
            return Err(format!("expected a {} that is not negative, got {}", names[at], row[at]));
        }
    }
    Ok(row)
}

fn number(column: &str, text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| format!("expected a finite number in the column {column}, got {text:?}"))
}

/// Brings all columns but the times to their unit per second.
pub(crate) fn per_second<const N: usize>(rows: &mut [[f64; N]], unit: Unit) {
    let spans: Vec<f64> = match unit {
        Unit::PerSecond => return,
        Unit::PerMinute => vec![60.0; rows.len()],
        Unit::Count => {
            let mut steps: Vec<f64> = rows.windows(2).map(|pair| pair[1][0] - pair[0][0]).collect();
            let mut sorted = steps.clone();
            sorted.sort_by(f64::total_cmp);
            // The last value holds for as long as most do.
            steps.push(sorted[sorted.len() / 2]);
            steps
        }
    };
    for (row, span) in rows.iter_mut().zip(spans) {
        // A count of a moment may be a rate beyond all numbers.
        row[1..].iter_mut().for_each(|value| *value = (*value / span).clamp(0.0, f64::MAX));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn read_text(text: &[u8], unit: Unit) -> Result<Vec<Point>, TraceError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        read(file.path(), unit)
    }

    fn values(text: &[u8], unit: Unit) -> Vec<(f64, f64)> {
        read_text(text, unit).unwrap().iter().map(|point| (point.timestamp_s, point.value)).collect()
    }

    #[test]
    fn columns_are_found_by_name_and_values_come_per_second() {
        let text = b"\xef\xbb\xbfvalue, timestamp_s,extra\r\n60,10,a\r\n\r\n120,40,b\n30,70,c";
        assert_eq!(values(text, Unit::PerSecond), [(10.0, 60.0), (40.0, 120.0), (70.0, 30.0)]);
        assert_eq!(values(text, Unit::PerMinute), [(10.0, 1.0), (40.0, 2.0), (70.0, 0.5)]);
        assert_eq!(values(text, Unit::Count), [(10.0, 2.0), (40.0, 4.0), (70.0, 1.0)]);
    }

    #[test]
    fn a_gzipped_trace_is_read_whatever_its_name() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"timestamp_s,value\n0,1\n1,2\n").unwrap();
        assert_eq!(values(&packed.finish().unwrap(), Unit::PerSecond), [(0.0, 1.0), (1.0, 2.0)]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_what_was_expected() {
        let long = [b"timestamp_s,value\n0,".to_vec(), vec![b'1'; 70_000]].concat();
        let cases: [(&[u8], usize, &str); 12] = [
            (b"", 1, "an empty file"),
            (b"time,value\n0,1\n", 1, "timestamp_s and value"),
            (b"timestamp_s,value\n0,1\n1,x\n", 3, "finite number in the column value, got \"x\""),
            (b"timestamp_s,value\n0,1\n1,NaN\n", 3, "finite number"),
            (b"timestamp_s,value\n0,1\n\n1,inf\n", 4, "finite number"),
            (b"timestamp_s,value\n0,1\n1\n", 3, "2 columns"),
            (b"timestamp_s,value\n0,1\n1,-1\n", 3, "not negative"),
            (b"timestamp_s,value\n5,1\n4,1\n", 3, "above 5"),
            (b"timestamp_s,value\n5,1\n5,1\n", 3, "above 5"),
            (b"timestamp_s,value\n0,1\n", 3, "two rows or more, got 1"),
            (b"timestamp_s,value\n0,\xff\n", 2, "UTF-8"),
            (&long, 2, "bytes in a line"),
        ];
        for (text, line, expected) in cases {
            let error = read_text(text, Unit::PerSecond).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}: ")) && error.contains(expected), "{error}");
        }
        assert!(matches!(read(Path::new("/nowhere.csv"), Unit::PerSecond), Err(TraceError::Read { .. })));
        assert!(matches!(read_text(b"\x1f\x8b\x08cut", Unit::PerSecond), Err(TraceError::Read { .. })));
    }

    /// The text of a trace, most of it as it should be.
    pub(crate) fn garbled() -> impl Strategy<Value = String> {
        let odd = || {
            let odd = [
                "", " ", "NaN", "inf", "-1", "-0", "1e308", "5e-324", "9e999", "0x10", "1e18", "\u{661}",
                "\0", "\"3\"",
            ];
            prop::sample::select(odd.to_vec()).prop_map(str::to_owned)
        };
        let value = prop_oneof![40 => (0u32..500).prop_map(|n| n.to_string()), 1 => odd()];
        let gap = prop_oneof![30 => (1u32..120).prop_map(f64::from), 1 => prop::sample::select(vec![0.0, -60.0, 1e-9, 0.5, 1e9, 1e300])];
        let row = (gap, value, prop::option::weighted(0.02, odd()));
        let header = prop_oneof![9 => Just("timestamp_s,value".to_owned()), 1 => any::<String>()];
        (header, prop::collection::vec(row, 0..120)).prop_map(|(header, rows)| {
            let mut at = 1_700_000_000.0;
            let mut text = header + "\n";
            for (gap, value, time) in rows {
                at += gap;
                text += &format!("{},{value}\n", time.unwrap_or_else(|| at.to_string()));
            }
            text
        })
    }

    /// Either points that are in order and within bounds, or an error that names the file.
    fn holds(text: &[u8], unit: Unit) -> Result<(), TestCaseError> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(text)?;
        match read(file.path(), unit) {
            Ok(points) => {
                prop_assert!(points.len() >= 2);
                prop_assert!(points.is_sorted_by(|a, b| a.timestamp_s < b.timestamp_s));
                prop_assert!(points.iter().all(|point| point.value.is_finite() && point.value >= 0.0));
            }
            Err(error) => {
                prop_assert!(error.to_string().contains(&file.path().display().to_string()), "{error}")
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_trace_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            holds(&bytes, Unit::PerSecond)?;
            holds(&[&b"timestamp_s,value\n"[..], &bytes].concat(), Unit::PerSecond)?;
        }

        #[test]
        fn any_text_is_a_trace_or_is_refused(
            text in garbled(),
            cut in any::<prop::sample::Index>(),
            flip in any::<(prop::sample::Index, u8)>(),
            unit in prop::sample::select(vec![Unit::PerSecond, Unit::PerMinute, Unit::Count]),
        ) {
            holds(text.as_bytes(), unit)?;
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(text.as_bytes())?;
            let mut packed = packed.finish()?;
            holds(&packed, unit)?;
            holds(&packed[..cut.index(packed.len())], unit)?;
            let at = flip.0.index(packed.len());
            packed[at] ^= flip.1;
            holds(&packed, unit)?;
        }
    }
}
