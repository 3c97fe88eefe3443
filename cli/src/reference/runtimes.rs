//! The page on serving runtimes: what each of the catalogue tells, and what it does not.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tidegate_agent::collect::scrape::{How, Runtime, SignalRule, catalogue};
use tidegate_core::Signal;

use super::row;

/// What a reader is told before the tables.
const INTRODUCTION: &str = "# Serving runtimes

Which runtime a replica is follows from the families on its metrics page; nothing needs to be said. A page may have two, such as vLLM inside Ray Serve: per signal, the
first rule whose family is there counts, in the order below and newer names before older ones. `tidegate_scrape_target_runtime` names what was found.

**Demand** is arrivals. Where a runtime counts only what it has answered, demand is that and the change of what waits and runs: a saturated server answers no more than it can.
One that tells neither what waits nor what runs has no demand of its own; put the gateway in front of it, or add a rule.

**The objective** needs to know how many requests took longer than its limit, which a histogram tells and a mean does not. `slo.latency` alone is held against the whole time; with
`slo.perOutputToken`, `slo.latency` is against the time to the first token, and both are needed. Where they are not told the condition `slo_unmeasurable` says so.

**A replica that does not answer**, or that began anew, is taken to be like the others as long as half of them answer; with fewer, sums are unknown. A new one counts from its second page on.

**Several models or deployments on one page**: `metrics.select` names the labels that are this workload's.

```yaml
metrics:
  select: {model_name: chat}
```

**Another runtime**, or an application's own metrics: a rule per signal, which comes before those below. `how` and the rest stand in [the reference](config.md#signalrule).

```yaml
metrics:
  rules:
    - {family: app_requests_total, match: {route: /predict}, signal: completions_per_second, how: counter_rate}
    - {family: app_requests_running, signal: in_flight_requests, how: gauge_sum}
    - {family: app_request_milliseconds, signal: latency_p95_seconds, how: histogram, scale: 0.001}
```

";

const WRITES: &str = "writing to a string cannot fail";

/// What a serving workload may be told of.
const SERVING: [Signal; 26] = [
    Signal::RequestsPerSecond,
    Signal::CompletionsPerSecond,
    Signal::ErrorsPerSecond,
    Signal::PromptTokensPerSecond,
    Signal::OutputTokensPerSecond,
    Signal::InFlight,
    Signal::Queued,
    Signal::LatencyP50,
    Signal::LatencyP95,
    Signal::LatencyP99,
    Signal::LatencyMean,
    Signal::FirstTokenP50,
    Signal::FirstTokenP95,
    Signal::FirstTokenP99,
    Signal::PerTokenP50,
    Signal::PerTokenP95,
    Signal::PerTokenP99,
    Signal::PerTokenMean,
    Signal::InterTokenP50,
    Signal::InterTokenP95,
    Signal::InterTokenP99,
    Signal::QueueWaitMean,
    Signal::BatchSizeMean,
    Signal::KvUtilisation,
    Signal::PrefixCacheHits,
    Signal::PreemptionsPerSecond,
];

/// The page, after its first line.
pub(super) fn page() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("| Runtime | Demand | `slo.latency` | with `slo.perOutputToken` | Tokens | Memory for keys and values |\n|---|---|---|---|---|---|\n");
    for runtime in catalogue() {
        let told = told(runtime);
        let yes = |all: &[Signal]| if all.iter().all(|signal| told.contains(signal)) { "yes" } else { "–" };
        let latency = match (yes(&[Signal::LatencyP95]), yes(&[Signal::LatencyMean])) {
            ("yes", _) => "yes",
            (_, "yes") => "mean only",
            _ => "–",
        };
        let by_token = yes(&[Signal::FirstTokenP95, Signal::PerTokenP95]);
        let tokens = yes(&[Signal::PromptTokensPerSecond, Signal::OutputTokensPerSecond]);
        let (demand, memory) = (yes(&[Signal::RequestsPerSecond]), yes(&[Signal::KvUtilisation]));
        let name = format!("[`{0}`](#{1})", runtime.name, runtime.name.replace('.', ""));
        row(&mut text, &[&name, demand, latency, by_token, tokens, memory]);
    }
    for runtime in catalogue() {
        section(&mut text, runtime);
    }
    text
}

/// Every signal that the runtime's rules give, and what follows from them.
fn told(runtime: &Runtime) -> BTreeSet<Signal> {
    let mut told: BTreeSet<Signal> = runtime.rules.iter().flat_map(SignalRule::gives).collect();
    let is_backlog_known = told.contains(&Signal::InFlight) || told.contains(&Signal::Queued);
    if is_backlog_known && told.contains(&Signal::CompletionsPerSecond) {
        told.insert(Signal::RequestsPerSecond);
    }
    told
}

fn section(text: &mut String, runtime: &Runtime) {
    write!(text, "\n## {}\n\n{}. {}", runtime.name, runtime.title, runtime.note).expect(WRITES);
    let (first, others) = match runtime.prefixes.split_first() {
        Some((first, others)) => (first.as_str(), others),
        None => ("", [].as_slice()),
    };
    if !others.is_empty() {
        let others: Vec<_> = others.iter().map(|prefix| format!("`{prefix}`")).collect();
        write!(text, " Families may begin with {} in place of `{first}`.", others.join(" or "))
            .expect(WRITES);
    }
    text.push_str("\n\n| Signals | Family |\n|---|---|\n");
    for rule in &runtime.rules {
        let signals: Vec<_> = rule.gives().iter().map(|signal| format!("`{}`", signal.name())).collect();
        row(text, &[&signals.join(" "), &family(rule, first)]);
    }
    let told = told(runtime);
    if !told.contains(&Signal::RequestsPerSecond) {
        text.push_str("\nDemand is not told.\n");
    }
    let missing: Vec<_> = SERVING.iter().filter(|signal| !told.contains(signal)).collect();
    let missing: Vec<_> = missing.into_iter().map(|signal| format!("`{}`", signal.name())).collect();
    if !missing.is_empty() {
        write!(text, "\nNot told: {}.\n", missing.join(", ")).expect(WRITES);
    }
}

/// A rule's family with its labels, and how it is read where that does not go without saying.
fn family(rule: &SignalRule, prefix: &str) -> String {
    let labels = |all: &std::collections::BTreeMap<String, String>, is: &str| {
        all.iter().map(|(name, value)| format!("{name}{is}\"{value}\"")).collect::<Vec<_>>()
    };
    let labels = [labels(&rule.labels, "="), labels(&rule.except, "!=")].concat();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    let mut text = format!("`{prefix}{}{labels}`", rule.family);
    if let Some(per) = &rule.per {
        write!(text, " per `{prefix}{per}`").expect(WRITES);
    }
    if (rule.scale - 1.0).abs() > f64::EPSILON {
        write!(text, " × {}", rule.scale).expect(WRITES);
    }
    if rule.adds {
        text.push_str(", in addition");
    }
    if rule.how == How::Histogram {
        text.push_str(" (histogram)");
    }
    // A bar would end the cell.
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_runtime_tells_and_does_not_tell_is_all_there_is_of_serving() {
        for runtime in catalogue().iter().filter(|runtime| runtime.name != "digits") {
            let unlisted: Vec<_> =
                told(runtime).into_iter().filter(|signal| !SERVING.contains(signal)).collect();
            assert_eq!(unlisted, [], "{}", runtime.name);
        }
    }

    #[test]
    fn a_mean_is_shown_as_no_more_than_a_mean() {
        let page = page();
        let line =
            |name: &str| page.lines().find(|line| line.contains(&format!("[`{name}`]"))).unwrap_or_default();
        assert!(line("torchserve").contains("| – | mean only | – |"), "{}", line("torchserve"));
        assert!(line("vllm").contains("| yes | yes | yes | yes | yes |"), "{}", line("vllm"));
        assert!(page.contains("OK\\|CANCELLED"));
    }
}
