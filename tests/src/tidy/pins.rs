//! Whether what a workflow takes from others is fixed: a tag may be moved to other code, a commit may not.

/// Digits of a commit.
const COMMIT: usize = 40;

/// What a workflow uses that is not fixed to a commit.
#[must_use]
pub fn unpinned(workflow: &str) -> Vec<String> {
    let used = workflow.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses:"));
    let named = used.filter_map(|rest| rest.split_whitespace().next());
    let is_fixed = |action: &&str| {
        let commit = action.split_once('@').map(|(_, commit)| commit);
        action.starts_with("./")
            || commit.is_some_and(|c| c.len() == COMMIT && c.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    named.filter(|action| !is_fixed(action)).map(|action| format!("uses {action}: name the commit")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_no_commit() {
        let fixed = "      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2\n";
        assert_eq!(unpinned(fixed), Vec::<String>::new());
        assert_eq!(unpinned("    uses: ./.github/workflows/test.yml"), Vec::<String>::new());
        let loose = "- uses: actions/checkout@v4\n- run: echo\n  uses: a/b\n";
        assert_eq!(
            unpinned(loose),
            ["uses actions/checkout@v4: name the commit", "uses a/b: name the commit"]
        );
    }
}
