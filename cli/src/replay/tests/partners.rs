//! Partners of every sort: whatever a simulator says, each tick gets a plan within the bounds or the conversation ends with a reason.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{init, raw, tick};

/// What may stand where a number is expected.
fn number() -> impl Strategy<Value = Value> {
    let odd = vec![
        json!(null),
        json!(-1),
        json!(-1e300),
        json!(1e300),
        json!(f64::MAX),
        json!(5e-324),
        json!(u64::MAX),
        json!(u32::MAX),
        json!("NaN"),
        json!(true),
        json!([]),
    ];
    prop_oneof![
        30 => (0u32..2000).prop_map(|n| json!(n)),
        10 => (0.0..50.0f64).prop_map(|x| json!(x)),
        3 => prop::sample::select(odd),
    ]
}

/// Fields of a tick, and of the replicas in it.
const FIELDS: [&str; 14] = [
    "t",
    "window_s",
    "age_s",
    "arrivals",
    "completed",
    "dropped",
    "slo_miss",
    "in_flight",
    "queued",
    "prompt_tokens",
    "output_tokens",
    "tpot_mean_s",
    "kv_utilisation",
    "replicas",
];
const COUNTS: [&str; 4] = ["desired", "ready", "starting", "draining"];

#[derive(Debug, Clone)]
enum Line {
    /// So much later, with these changes.
    Tick {
        later: f64,
        changes: Vec<(usize, Value)>,
        counts: Vec<(usize, u32)>,
    },
    Ready(Value),
    Init,
    Raw(String),
}

fn line() -> impl Strategy<Value = Line> {
    let later = prop_oneof![
        20 => Just(5.0),
        3 => prop::sample::select(vec![0.0, -5.0, -86_400.0, 3600.0, 1e7, 1e12, 1e300, -1e300]),
    ];
    let count = prop_oneof![4 => 0u32..100, 1 => prop::sample::select(vec![u32::MAX, u32::MAX - 1, 1 << 31])];
    let tick = (
        later,
        prop::collection::vec((0..FIELDS.len(), number()), 0..2),
        prop::collection::vec((0..COUNTS.len(), count), 0..4),
    );
    prop_oneof![
        30 => tick.prop_map(|(later, changes, counts)| Line::Tick { later, changes, counts }),
        4 => number().prop_map(Line::Ready),
        1 => Just(Line::Init),
        1 => any::<String>().prop_map(Line::Raw),
        1 => prop::sample::select(vec!["", "{}", "[]", "null", r#"{"type":"tick"}"#, r#"{"type":"tick","t":NaN}"#, r#"{"type":"tick","t":1e999}"#])
            .prop_map(|text| Line::Raw(text.to_owned())),
    ]
}

/// The objective that is spoken of.
fn llm(mut init: Value) -> Value {
    init["workload"]["slo"] = json!({ "kind": "llm", "ttft_s": 2.0, "tpot_s": 0.06 });
    init["history"]["columns"] = json!(["t", "arrivals", "prompt_tokens", "output_tokens"]);
    init
}

fn conversation(first: &Value, lines: Vec<Line>) -> String {
    let mut text = format!("{first}\n");
    let mut t = 600_000.0;
    for line in lines {
        match line {
            Line::Tick { later, changes, counts } => {
                t += later;
                let mut tick = tick(t, 150, 5);
                changes.into_iter().for_each(|(field, value)| tick[FIELDS[field]] = value);
                if tick["replicas"].is_object() {
                    counts
                        .into_iter()
                        .for_each(|(count, value)| tick["replicas"][COUNTS[count]] = json!(value));
                }
                text += &format!("{tick}\n");
            }
            Line::Ready(start_up) => {
                text += &format!(
                    "{}\n",
                    json!({ "type": "event", "event": "replica_ready", "t": t, "start_up_s": start_up })
                );
            }
            Line::Init => text += &format!("{first}\n"),
            Line::Raw(raw) => text += &format!("{raw}\n"),
        }
    }
    text
}

fn sound(text: &str) -> Result<(), TestCaseError> {
    let (ended, said) = raw(text);
    if let Err(error) = &ended {
        prop_assert_ne!(format!("{error:#}"), "");
    }
    prop_assert!(said.len() <= text.lines().count());
    for plan in said.iter().skip(1) {
        let replicas = plan["replicas"].as_u64();
        prop_assert!(replicas.is_some_and(|replicas| (1..=64).contains(&replicas)), "{}", plan);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_partner_gets_plans_within_the_bounds_until_the_conversation_ends(
        lines in prop::collection::vec(line(), 0..60),
        speaks_of_tokens in any::<bool>(),
    ) {
        let first = init(json!([]));
        sound(&conversation(&if speaks_of_tokens { llm(first) } else { first }, lines))?;
    }

    #[test]
    fn any_past_is_learned_from_or_left(
        rows in prop::collection::vec(prop::collection::vec(number(), 0..4), 0..120),
        step in number(),
        start in number(),
        max in number(),
    ) {
        let mut first = llm(init(json!(rows)));
        first["history"]["step_s"] = step;
        let mut other = first.clone();
        sound(&conversation(&first, vec![Line::Tick { later: 5.0, changes: Vec::new(), counts: Vec::new() }]))?;
        other["start_time"] = start;
        other["workload"]["attainment_target"] = max.clone();
        sound(&conversation(&other, Vec::new()))?;
        first["workload"]["replicas"]["max"] = max.clone();
        first["workload"]["start_up_hint_s"] = max.clone();
        first["workload"]["replica"]["max_concurrency"] = max;
        // The bounds are others now.
        let (ended, said) = raw(&conversation(&first, vec![Line::Tick { later: 5.0, changes: Vec::new(), counts: Vec::new() }]));
        prop_assert!(ended.is_err() || said.len() <= 2);
    }

    #[test]
    fn any_bytes_end_the_conversation(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut output = Vec::new();
        let ended = super::run(&bytes[..], &mut output);
        prop_assert!(ended.is_err() && output.is_empty());
        let mut known = format!("{}\n", init(json!([]))).into_bytes();
        known.extend(bytes);
        super::run(&known[..], &mut output).map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
    }
}
