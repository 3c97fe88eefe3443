//! Relative links in Markdown lead somewhere: to a file of the repository, and to a heading where they name one. Links to the web are not followed.

use std::path::{Component, Path, PathBuf};

/// Links that lead nowhere. `read` gives the text of a file relative to the root, or tells that it exists by an empty text.
#[must_use]
pub fn broken(path: &Path, markdown: &str, read: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let relative =
        links(markdown).into_iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:"));
    let leads_nowhere = |link: &String| {
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let target = if file.is_empty() { path.to_path_buf() } else { normal(&folder.join(file)) };
        match read(&target) {
            None => true,
            Some(text) => {
                !heading.is_empty() && is_markdown(&target) && !headings(&text).contains(&heading.to_owned())
            }
        }
    };
    relative.filter(leads_nowhere).collect()
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// Targets of `[text](target)` and `![text](target)` outside fenced and inline code.
fn links(markdown: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(markdown) {
        let without_code: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        for part in without_code.split("](").skip(1) {
            if let Some(target) = part.split([')', ' ']).next() {
                found.push(target.trim_matches(['<', '>']).to_owned());
            }
        }
    }
    found
}

/// Lines outside fenced code.
fn prose(markdown: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    markdown.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    })
}

/// Anchors of the headings, as GitHub makes them.
fn headings(markdown: &str) -> Vec<String> {
    let titles =
        prose(markdown).filter_map(|line| Some(line.strip_prefix('#')?.trim_start_matches('#').trim()));
    let anchor = |title: &str| {
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    titles.map(anchor).collect()
}

/// The path without `.` and `..`; one that leads out of the repository keeps its `..` and so is not found.
fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if clean.file_name().is_some() => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(markdown: &str) -> Vec<String> {
        broken(Path::new("docs/a.md"), markdown, |path| match path.to_str()? {
            "docs/a.md" => Some(markdown.to_owned()),
            "README.md" => Some("# Tidegate\n## How it works, in short\n".to_owned()),
            "deploy" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn links_to_nothing_are_found() {
        assert_eq!(check("see [x](b.md) and ![y](pictures/z.png)"), ["b.md", "pictures/z.png"]);
        assert_eq!(check("[x](../README.md#why)"), ["../README.md#why"]);
        assert_eq!(check("[x](../../README.md)"), ["../../README.md"]);
        assert_eq!(check("# A\n[x](#b)"), ["#b"]);
    }

    #[test]
    fn links_to_something_pass() {
        let text = "# A b\n[x](../README.md) [y](../README.md#how-it-works-in-short) [z](#a-b) [d](../deploy) [w](https://example.org/q)";
        assert_eq!(check(text), Vec::<String>::new());
    }

    #[test]
    fn code_is_no_prose() {
        assert_eq!(check("`[x](nowhere)`\n```\n[x](nowhere)\n```\n"), Vec::<String>::new());
    }
}
