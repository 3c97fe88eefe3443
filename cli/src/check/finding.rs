//! What a check found, and how it is told: a line for each thing that was looked at.

use serde::Serialize;

use crate::args::Output;
use crate::output;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// As it should be.
    Fine,
    /// Not there, and need not be.
    Absent,
    /// Whoever asks may not look.
    Unknown,
    /// It works, but the user should know.
    Warning,
    /// Tidegate cannot do what it is for.
    Missing,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Missing => "missing",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How it is.
    pub(crate) verdict: Verdict,
    /// What was looked at.
    pub(crate) subject: String,
    /// How it is, in a sentence, and what that means.
    pub(crate) text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

/// Everything that was looked at, in order.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Findings {
    /// The findings.
    pub(crate) findings: Vec<Finding>,
}

impl Findings {
    /// Adds one that asks for nothing.
    pub(crate) fn add(&mut self, verdict: Verdict, subject: impl Into<String>, text: impl Into<String>) {
        self.findings.push(Finding { verdict, subject: subject.into(), text: text.into(), remedy: None });
    }

    /// Adds one with what to do about it.
    pub(crate) fn ask(
        &mut self,
        verdict: Verdict,
        subject: impl Into<String>,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(verdict, subject, text);
        if let Some(last) = self.findings.last_mut() {
            last.remedy = Some(remedy.into());
        }
    }

    /// How many are of this verdict.
    pub(crate) fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }

    /// Prints all. `what`: what was checked, for the last line.
    ///
    /// # Errors
    /// When something is missing, so that the program ends with 1.
    pub(crate) fn tell(&self, how: Output, what: &str) -> anyhow::Result<()> {
        let missing = self.count(Verdict::Missing);
        match how {
            Output::Table => {
                for Finding { verdict, subject, text, remedy } in &self.findings {
                    let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
                    output::say(&format!("{:<8} {subject:<22} {text}{remedy}", verdict.as_str()))?;
                }
            }
            Output::Json | Output::Csv => {
                let row = |f: &Finding| {
                    let remedy = f.remedy.clone().unwrap_or_default();
                    vec![f.verdict.as_str().to_owned(), f.subject.clone(), f.text.clone(), remedy]
                };
                let rows: Vec<_> = self.findings.iter().map(row).collect();
                let value = serde_json::json!({"passed": missing == 0, "findings": self.findings});
                output::print(how, &["verdict", "subject", "text", "remedy"], &rows, &value)?;
            }
        }
        anyhow::ensure!(missing == 0, "{what}: {missing} of {} things are missing", self.findings.len());
        if how == Output::Table {
            output::say(&match self.count(Verdict::Warning) {
                0 => format!("{what}: ready"),
                warnings => format!("{what}: ready, with {warnings} warnings"),
            })?;
        }
        Ok(())
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

/// Whether the API server says that whoever asks may not.
pub(crate) fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_fails_the_check() {
        let mut findings = Findings::default();
        findings.add(Verdict::Fine, "server", "v1.36.3");
        findings.add(Verdict::Absent, "KEDA", "not installed");
        findings.add(Verdict::Unknown, "lease", "may not be read");
        findings.add(Verdict::Warning, "agents", "2 of 3 are ready");
        assert!(findings.tell(Output::Table, "cluster").is_ok());
        findings.ask(Verdict::Missing, "definitions", "not there", "apply them");
        let error = findings.tell(Output::Json, "cluster").unwrap_err().to_string();
        assert_eq!(error, "cluster: 1 of 5 things are missing");
        let value = serde_json::to_value(&findings).unwrap();
        assert_eq!(value["findings"][4]["remedy"], "apply them");
        assert_eq!(value["findings"][0].get("remedy"), None);
    }
}
