//! No file tells where on somebody's machine it was written: such a path means nothing to the reader.

/// Beginnings of paths that belong to one machine. Written in pieces, or this file would break the rule.
const PLACES: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Such paths in a text, as `LINE: PATH`.
#[must_use]
pub fn machine_paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for place in PLACES {
            let starts = line.match_indices(place).map(|(at, _)| at);
            for start in starts.filter(|at| begins_a_path(line, *at)) {
                let end = line[start..]
                    .find([' ', '"', '\'', '`', ')', ','])
                    .map_or(line.len(), |length| start + length);
                found.push(format!("{}: {}", number + 1, &line[start..end]));
            }
        }
    }
    found
}

/// Whether a slash starts a path rather than continuing one, as in `team/work/plan`.
fn begins_a_path(line: &str, at: usize) -> bool {
    let before = line[..at].chars().next_back();
    before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '~' | '/' | '}' | '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_one_machine_are_found() {
        let text = format!("ok\nsee `{}main/x` there", PLACES[0]);
        assert_eq!(machine_paths(&text), [format!("2: {}main/x", PLACES[0])]);
        assert_eq!(machine_paths(&format!("HOME={}", PLACES[1])).len(), 1);
    }

    #[test]
    fn other_paths_pass() {
        assert!(machine_paths("frame/work/x, /var/log/pods, ~/root/x, $HOME/work/").is_empty());
    }
}
