//! What a parsed line becomes: the document that is shipped, and the short form that is kept at hand.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use tidegate_core::{Field, Timestamp, WorkloadId};

use super::book::Mark;
use super::classify::{LogClass, classify};
use super::cri::{Run, Stream};
use super::identity::EventId;
use super::parse::{LogFlag, LogLevel, Parsed};
use crate::collect::pods::Pod;

/// Most labels of a pod in a record: each may become a field of the index.
const POD_LABELS_MAX: usize = 32;
/// Longest text kept of a recent line, in bytes: what a person reads of it on a page.
const SHOWN_BYTES_MAX: usize = 2048;

/// Where a line comes from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) host: Arc<str>,
    pub(crate) workload: Option<WorkloadId>,
    pub(crate) replica: Option<String>,
    pub(crate) path: String,
    /// For a container's output: which one's.
    pub(crate) container: Option<Container>,
}

/// Which container wrote a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) run: Arc<Run>,
    /// Its pod's uid, as the API has it.
    pub(crate) pod_uid: Box<str>,
    /// Its pod's labels; nothing while the pod is not known.
    pub(crate) labels: Option<Vec<(String, String)>>,
}

impl Container {
    /// As its files' path says.
    pub(crate) fn of(run: Run) -> Self {
        Self { pod_uid: run.uid.clone(), run: Arc::new(run), labels: None }
    }

    /// The same with what is known of its pod.
    pub(crate) fn known(&self, pod: &Pod) -> Self {
        let label = |(name, value): (&String, &String)| (name.replace('.', "_"), value.clone());
        let labels = pod.labels.iter().take(POD_LABELS_MAX).map(label).collect();
        Self { run: Arc::clone(&self.run), pod_uid: pod.uid.as_str().into(), labels: Some(labels) }
    }
}

/// What the framing of a container's runtime says of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Framing {
    pub(crate) at: Timestamp,
    pub(crate) stream: Stream,
}

/// A line on its way to the sink.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: EventId,
    /// The record as one line of JSON.
    pub(crate) document: String,
    /// Where to acknowledge it: in more than one place where it was cut into pieces.
    pub(crate) marks: Vec<Mark>,
    /// Whether an earlier run of the agent may have sent it already.
    pub(crate) resumed: bool,
}

/// A recent line, as the page and the API show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// When it was written, as it says itself; else when it was read.
    pub at: Timestamp,
    /// Whose it is.
    pub workload: Option<WorkloadId>,
    /// Which replica wrote it.
    pub replica: Option<String>,
    /// How grave it says it is.
    pub level: Option<LogLevel>,
    /// What it tells of.
    pub class: Option<LogClass>,
    /// Its message, cut to a readable length; for a request also what it was and how it went.
    pub text: String,
    /// Its deterministic id, as shipped.
    pub id: String,
}

/// The text that people read: the message, and for a request what it was and how it went, which is not in the message.
fn shown(parsed: &Parsed, class: Option<LogClass>) -> String {
    let mut text = parsed.message[..parsed.message.floor_char_boundary(SHOWN_BYTES_MAX)].to_owned();
    if class != Some(LogClass::Access) {
        return text;
    }
    let status = parsed.status.map(|status| status.to_string());
    let took = parsed.duration_s.map(|seconds| format!("{:.0} ms", seconds * 1000.0));
    let told = [parsed.method.clone(), parsed.path.clone(), status, took];
    for part in told.into_iter().flatten().filter(|part| !parsed.message.contains(part.as_str())) {
        text.push(' ');
        text.push_str(&part[..part.floor_char_boundary(SHOWN_BYTES_MAX)]);
    }
    text
}

/// Classifies a parsed line and gives both of its forms.
pub(crate) fn record(
    mut parsed: Parsed,
    origin: &Origin,
    (id, offset): (EventId, u64),
    framing: Option<Framing>,
    read_at: Timestamp,
) -> (String, LogLine) {
    let class = classify(&mut parsed);
    if parsed.level.is_none()
        && matches!(class, Some(LogClass::Traceback | LogClass::CudaOom | LogClass::NcclTimeout))
    {
        parsed.level = Some(LogLevel::Error);
    }
    let line = LogLine {
        at: parsed.at.or(framing.map(|framing| framing.at)).unwrap_or(read_at),
        workload: origin.workload.clone(),
        replica: origin.replica.clone(),
        level: parsed.level,
        class,
        text: shown(&parsed, class),
        id: id.to_string(),
    };
    (document(parsed, origin, &line, offset, framing), line)
}

fn document(
    parsed: Parsed,
    origin: &Origin,
    line: &LogLine,
    offset: u64,
    framing: Option<Framing>,
) -> String {
    let mut fields = Map::new();
    let mut put = |field: Field, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(field.name().to_owned(), value);
        }
    };
    put(Field::Timestamp, Some(line.at.to_string().into()));
    put(Field::Message, Some(parsed.message.into()));
    put(Field::Level, line.level.map(|level| level.as_str().into()));
    put(Field::EventId, Some(line.id.clone().into()));
    put(Field::EventOriginal, parsed.original.map(Value::from));
    put(Field::EventDuration, parsed.duration_s.map(Value::from));
    // What was pushed has no file that anybody knows.
    let has_file = !origin.path.is_empty();
    put(Field::FilePath, has_file.then(|| origin.path.clone().into()));
    put(Field::FileOffset, has_file.then(|| offset.into()));
    put(Field::Host, Some(origin.host.as_ref().into()));
    put(Field::Workload, origin.workload.as_ref().map(|id| id.as_str().into()));
    put(Field::Replica, origin.replica.clone().map(Value::from));
    put(Field::Class, line.class.map(|class| class.as_str().into()));
    put(Field::Flags, flags(&parsed.flags));
    put(Field::HttpMethod, parsed.method.map(Value::from));
    put(Field::HttpPath, parsed.path.map(Value::from));
    put(Field::HttpStatus, parsed.status.map(Value::from));
    put(Field::HttpBytes, parsed.response_bytes.map(Value::from));
    put(Field::ClientAddress, parsed.client.map(Value::from));
    put(Field::TrainingStep, parsed.step.map(Value::from));
    put(Field::TrainingLoss, parsed.loss.map(Value::from));
    put(Field::Service, parsed.service.map(Value::from));
    put(Field::Logger, parsed.logger.map(Value::from));
    put(Field::Trace, parsed.trace.map(Value::from));
    put(Field::Span, parsed.span.map(Value::from));
    put(Field::Labels, labels(parsed.labels));
    put(Field::Stream, framing.map(|framing| framing.stream.as_str().into()));
    if let Some(Container { run, pod_uid, labels: pod_labels }) = &origin.container {
        put(Field::KubernetesNamespace, Some((&*run.namespace).into()));
        put(Field::KubernetesPod, Some((&*run.pod).into()));
        put(Field::KubernetesPodUid, (!pod_uid.is_empty()).then(|| (&**pod_uid).into()));
        // A sender need not say which.
        let is_named = !run.container.is_empty();
        put(Field::KubernetesContainer, is_named.then(|| (&*run.container).into()));
        put(Field::KubernetesRestarts, is_named.then(|| run.restart.into()));
        put(Field::KubernetesNode, Some(origin.host.as_ref().into()));
        put(Field::KubernetesLabels, pod_labels.clone().and_then(labels));
    }
    serde_json::to_string(&fields).expect("a map with text keys is JSON")
}

fn flags(flags: &[LogFlag]) -> Option<Value> {
    (!flags.is_empty()).then(|| flags.iter().map(|flag| flag.as_str()).collect())
}

fn labels(labels: Vec<(String, String)>) -> Option<Value> {
    let labels: Map<String, Value> = labels.into_iter().map(|(name, text)| (name, text.into())).collect();
    (!labels.is_empty()).then_some(Value::Object(labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::identity::{Inode, Life, Namer};
    use crate::logs::parse::parse;
    use crate::logs::source::LogFormat;

    fn document_of(line: &str) -> (Value, LogLine) {
        let life = Life { inode: Inode { device: 1, number: 2 }, born_ns: 3, generation: 0 };
        let origin = Origin {
            host: "node-a".into(),
            workload: Some(WorkloadId::local("chat").unwrap()),
            replica: Some("chat-0".to_owned()),
            path: "/logs/chat-0.log".to_owned(),
            container: None,
        };
        let id = Namer::new("node-a", life.key()).id(7, line.as_bytes());
        let parsed = parse(line.as_bytes(), LogFormat::Auto);
        let (text, shown) = record(parsed, &origin, (id, 7), None, Timestamp::from_secs(1_769_846_400));
        (serde_json::from_str(&text).unwrap(), shown)
    }

    #[test]
    fn a_document_has_catalogue_fields_alone() {
        let line = r#"{"ts":"2026-01-31T08:00:00Z","level":"info","msg":"done","method":"GET","path":"/","status":200,"step":1,"loss":0.5,"extra":1}"#;
        let (document, shown) = document_of(line);
        for (name, value) in document.as_object().unwrap() {
            assert!(Field::ALL.iter().any(|field| field.name() == name), "{name}");
            assert!(!value.is_null());
        }
        assert_eq!(document[Field::Labels.name()]["extra"], "1");
        assert_eq!(document[Field::Class.name()], "access");
        assert_eq!(document[Field::FileOffset.name()], 7);
        assert_eq!((shown.class, shown.text.as_str()), (Some(LogClass::Access), "done GET / 200"));
        assert_eq!(document[Field::EventId.name()], shown.id);
    }

    #[test]
    fn a_raw_line_has_the_time_of_reading_and_a_flag() {
        let (document, shown) = document_of("Traceback (most recent call last):");
        assert_eq!(document[Field::Timestamp.name()], "2026-01-31T08:00:00.000Z");
        assert_eq!(document[Field::Flags.name()][0], "unparsed");
        assert_eq!((shown.level, shown.class), (Some(LogLevel::Error), Some(LogClass::Traceback)));
    }
}
