//! The load from the embedded history of a Tidegate that is not running.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tidegate_core::{Series, Signal, Subject, Timestamp, WorkloadId};
use tidegate_history::{Aggregate, Store, StoreOptions};

use super::args::Model;
use super::traffic::{Tokens, Traffic, by_steps_of};
use crate::Usage;

/// Folder of the history within the data directory, as `tidegate up` makes it.
const FOLDER: &str = "history";
/// Retention of the tier that is read.
const REACH: Duration = Duration::from_secs(35 * 86_400);
const STEP: Duration = Duration::from_secs(60);

/// Reads the arrivals of a workload by the minute; of a language model, also their tokens, where the history has them.
///
/// # Errors
/// When there is no history, it is in use or damaged, or holds no load of this workload.
pub(super) fn read(data: &Path, workload: &str, model: Model, now: Timestamp) -> anyhow::Result<Traffic> {
    let folder = data.join(FOLDER);
    // Opening would make one.
    if !folder.is_dir() {
        return Err(Usage(format!("{}: there is no history in it", data.display())).into());
    }
    let (store, opened) = Store::open(&folder, StoreOptions::default(), now)
        .context("the history of a Tidegate that runs cannot be read from beside it: stop that one first")?;
    if let Some(moved) = opened.moved_aside {
        bail!("the history was damaged ({}) and was moved to {}", moved.cause, moved.path.display());
    }
    let id = id(&store, workload)?;
    let subject = Subject::Workload(id.clone());
    let signal = Signal::RequestsPerSecond;
    let newest =
        store.latest(&subject, signal).with_context(|| format!("failed to read the load of {id}"))?;
    let (newest, _) = newest.with_context(|| format!("{id} has no {} in its history", signal.name()))?;
    // The minute of the newest sample may not be over.
    let end = newest.floor_to(STEP);
    let by_minutes = |signal: Signal| {
        let read = store.read(&subject, signal, end.before(REACH), end, STEP, Aggregate::Mean);
        read.with_context(|| format!("failed to read {} of {id}", signal.name()))
    };
    let rates = trimmed(&by_minutes(signal)?);
    let source = format!("{} of {id} in {}", signal.name(), data.display());
    let of_tokens = [Signal::PromptTokensPerSecond, Signal::OutputTokensPerSecond];
    let known = store.signals(&subject);
    let (mut tokens, mut notes) = (None, Vec::new());
    if model == Model::Llm && of_tokens.iter().all(|signal| known.contains(signal)) {
        let [prompt, output] = of_tokens.map(by_minutes);
        let rates = [by_steps_of(&prompt?, &rates), by_steps_of(&output?, &rates)];
        tokens = Some(Tokens { rates, requests: Vec::new() });
    } else if model == Model::Llm {
        notes.push(
            "Its history tells of no tokens: requests are as --prompt-tokens and --output-tokens say.".into(),
        );
    }
    Ok(Traffic { source, rates, tokens, notes })
}

/// The workload given by its id or its name.
fn id(store: &Store, given: &str) -> Result<WorkloadId, Usage> {
    let known: Vec<WorkloadId> = store
        .subjects()
        .into_iter()
        .filter_map(|subject| match subject {
            Subject::Workload(id)
                if store.signals(&Subject::Workload(id.clone())).contains(&Signal::RequestsPerSecond) =>
            {
                Some(id)
            }
            _ => None,
        })
        .collect();
    let names = || known.iter().map(WorkloadId::as_str).collect::<Vec<_>>().join(", ");
    let mut fitting = known.iter().filter(|id| id.as_str() == given || id.name() == given);
    match (fitting.next(), fitting.next()) {
        (Some(id), None) => Ok(id.clone()),
        (None, _) if known.is_empty() => Err(Usage("no workload has a load in this history".into())),
        (None, _) => {
            Err(Usage(format!("no workload {given} has a load in this history; there are: {}", names())))
        }
        (Some(_), Some(_)) => {
            Err(Usage(format!("several workloads are named {given}; give the whole id of one: {}", names())))
        }
    }
}

/// The series from its first known step on.
fn trimmed(series: &Series) -> Series {
    let first = series.values().iter().position(Option::is_some).unwrap_or(series.len());
    Series::from_values(series.time(first), series.step(), series.values()[first..].iter().copied())
}

#[cfg(test)]
mod tests {
    use tidegate_core::Sample;

    use super::*;

    const T: i64 = 1_800_000_000;

    fn kept(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) =
            Store::open(&dir.path().join(FOLDER), StoreOptions::default(), Timestamp::from_secs(T)).unwrap();
        for name in names {
            let subject = Subject::Workload(WorkloadId::local(name).unwrap());
            let sample = |signal, k: i64, times: f64| {
                let at = Timestamp::from_secs(T - 7200 + k * 10);
                #[expect(clippy::cast_precision_loss, reason = "a small count")]
                let value = times * (k / 6) as f64;
                Sample { at, subject: subject.clone(), signal, value }
            };
            let mut samples: Vec<_> = (0..600).map(|k| sample(Signal::RequestsPerSecond, k, 1.0)).collect();
            if *name == "chat" {
                // Told of from ten minutes later on.
                samples.extend((60..600).map(|k| sample(Signal::PromptTokensPerSecond, k, 500.0)));
                samples.extend((60..600).map(|k| sample(Signal::OutputTokensPerSecond, k, 100.0)));
            }
            assert_eq!(store.append(&samples).stored, samples.len());
        }
        store.checkpoint().unwrap();
        dir
    }

    #[test]
    fn the_load_of_a_workload_is_read_by_the_minute() {
        let dir = kept(&["chat", "other"]);
        let traffic = read(dir.path(), "chat", Model::Generic, Timestamp::from_secs(T)).unwrap();
        assert_eq!(traffic.rates.start(), Timestamp::from_secs(T - 7200));
        assert_eq!(
            (traffic.rates.len(), traffic.rates.get(0), traffic.rates.get(98)),
            (99, Some(0.0), Some(98.0))
        );
        assert_eq!(
            read(dir.path(), "local/process/chat", Model::Generic, Timestamp::from_secs(T)).unwrap().rates,
            traffic.rates
        );
        assert!(traffic.source.contains("local/process/chat"), "{}", traffic.source);
    }

    #[test]
    fn of_a_language_model_the_tokens_are_read_by_the_same_minutes() {
        let dir = kept(&["chat", "other"]);
        let of = |name, model| read(dir.path(), name, model, Timestamp::from_secs(T)).unwrap();
        let traffic = of("chat", Model::Llm);
        let [prompt, output] = traffic.tokens.expect("it has them").rates;
        assert_eq!((prompt.start(), prompt.len()), (traffic.rates.start(), traffic.rates.len()));
        assert_eq!((prompt.get(9), prompt.get(10), output.get(98)), (None, Some(5000.0), Some(9800.0)));
        assert!(traffic.notes.is_empty() && of("chat", Model::Generic).tokens.is_none());
        let without = of("other", Model::Llm);
        assert!(
            without.tokens.is_none() && without.notes[0].contains("--prompt-tokens"),
            "{:?}",
            without.notes
        );
    }

    #[test]
    fn what_is_not_there_is_named_and_nothing_is_made() {
        let dir = kept(&["chat"]);
        let now = Timestamp::from_secs(T);
        let error = read(dir.path(), "chta", Model::Generic, now).unwrap_err().to_string();
        assert!(error.contains("chta") && error.contains("local/process/chat"), "{error}");
        assert!(
            read(kept(&[]).path(), "chat", Model::Generic, now)
                .unwrap_err()
                .to_string()
                .contains("no workload has a load")
        );
        let empty = tempfile::tempdir().unwrap();
        assert!(
            read(empty.path(), "chat", Model::Generic, now).unwrap_err().to_string().contains("no history")
        );
        assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
        let (_held, _) = Store::open(&dir.path().join(FOLDER), StoreOptions::default(), now).unwrap();
        let error = format!("{:#}", read(dir.path(), "chat", Model::Generic, now).unwrap_err());
        assert!(error.contains("stop that one first") && error.contains("in use by process"), "{error}");
    }
}
