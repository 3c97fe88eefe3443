//! Memory of the machine: `/proc/meminfo`.

/// Memory, in bytes; a field is unknown where the kernel does not tell it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Memory {
    /// All of it.
    pub total_bytes: Option<f64>,
    /// What can be had without swapping; kernels before 3.14 do not say.
    pub available_bytes: Option<f64>,
}

/// Takes what is wanted from the text; a broken line leaves its field unknown.
#[must_use]
pub fn parse(text: &str) -> Memory {
    Memory { total_bytes: field(text, "MemTotal:"), available_bytes: field(text, "MemAvailable:") }
}

/// Bytes of a field of `/proc/meminfo` or `/proc/PID/status`, which count in kibibytes and call them `kB`.
pub(crate) fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = rest.split_ascii_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "kibibytes of a machine fit in 53 bits")]
    (words.next() == Some("kB")).then_some(number as f64 * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_current_kernel() {
        let text = "MemTotal:       24684092 kB\nMemFree:        18000000 kB\nMemAvailable:   21000000 kB\nBuffers: 1 kB\nHugePages_Total:       0\n";
        let memory = parse(text);
        assert_eq!(memory.total_bytes, Some(24_684_092.0 * 1024.0));
        assert_eq!(memory.available_bytes, Some(21_000_000.0 * 1024.0));
    }

    #[test]
    fn a_kernel_that_does_not_tell_leaves_it_unknown() {
        let linux_3_10 = "MemTotal:        1020116 kB\nMemFree:          110000 kB\nCached: 5 kB\n";
        assert_eq!(parse(linux_3_10).available_bytes, None);
        assert_eq!(parse("MemTotal: many kB\nMemAvailable: 5\n"), Memory::default());
    }
}
