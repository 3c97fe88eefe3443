//! The closed catalogue of log fields, named after the Elastic Common Schema where it has a word; the index template is made from it.

/// How Elasticsearch maps a field. Core types only, so that every server has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mapping {
    /// A time.
    Date,
    /// Words to search in.
    Text,
    /// A whole string, for filters and counts.
    Keyword,
    /// A whole number.
    Long,
    /// A number.
    Double,
    /// Any further fields; their leaves are keywords.
    Object,
}

impl Mapping {
    /// The name of the type in a mapping.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Text => "text",
            Self::Keyword => "keyword",
            Self::Long => "long",
            Self::Double => "double",
            Self::Object => "object",
        }
    }
}

macro_rules! fields {
    ($($variant:ident, $name:literal, $mapping:ident, $help:literal;)+) => {
        /// A field of a shipped log record.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field { $(#[doc = $help] $variant,)+ }

        impl Field {
            /// Every field, in catalogue order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name, dotted.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// How it is mapped.
            #[must_use]
            pub const fn mapping(self) -> Mapping {
                match self { $(Self::$variant => Mapping::$mapping,)+ }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)+ }
            }
        }
    };
}

fields! {
    Timestamp, "@timestamp", Date, "When the line was written, as it says itself; else when it was read.";
    Message, "message", Text, "The text for people.";
    Level, "log.level", Keyword, "trace, debug, info, warn, error or fatal.";
    EventId, "event.id", Keyword, "Deterministic id of the line: the same line read twice has the same id.";
    EventOriginal, "event.original", Text, "The raw line, where it could not be parsed.";
    EventDuration, "event.duration_s", Double, "Duration that the line reports, in seconds.";
    FilePath, "log.file.path", Keyword, "File that the line was read from.";
    FileOffset, "log.offset", Long, "Byte offset of the line's start in that file.";
    Host, "host.name", Keyword, "Machine that the line was read on.";
    Workload, "tidegate.workload", Keyword, "Id of the workload.";
    Replica, "tidegate.replica", Keyword, "Replica of the workload.";
    Class, "tidegate.class", Keyword, "What kind of event the line tells of, such as checkpoint_saved.";
    Flags, "tidegate.flags", Keyword, "What was done to the line: unparsed, truncated, invalid_utf8.";
    HttpMethod, "http.request.method", Keyword, "Method of the request that the line tells of.";
    HttpPath, "url.path", Keyword, "Path of the request.";
    HttpStatus, "http.response.status_code", Long, "Status of the answer.";
    HttpBytes, "http.response.bytes", Long, "Size of the answer's body, in bytes.";
    ClientAddress, "client.address", Keyword, "Address of the client.";
    TrainingStep, "training.step", Long, "Training step that the line reports.";
    TrainingLoss, "training.loss", Double, "Loss that the line reports.";
    Service, "service.name", Keyword, "Service that pushed the line, as it calls itself.";
    Logger, "log.logger", Keyword, "Logger in the service that pushed the line.";
    Trace, "trace.id", Keyword, "Trace that the line belongs to.";
    Span, "span.id", Keyword, "Span in that trace.";
    Stream, "log.iostream", Keyword, "What a container wrote the line to: stdout or stderr.";
    KubernetesNamespace, "kubernetes.namespace", Keyword, "Namespace of the pod that wrote the line.";
    KubernetesPod, "kubernetes.pod.name", Keyword, "Name of the pod.";
    KubernetesPodUid, "kubernetes.pod.uid", Keyword, "Uid of the pod.";
    KubernetesContainer, "kubernetes.container.name", Keyword, "Name of the container in its pod.";
    KubernetesRestarts, "kubernetes.container.restart_count", Long, "How often the container had been started again when it wrote the line.";
    KubernetesNode, "kubernetes.node.name", Keyword, "Node that the pod ran on.";
    KubernetesLabels, "kubernetes.labels", Object, "Labels of the pod; dots in their names are underscores.";
    Labels, "labels", Object, "Further fields of the line, as text; bounded in number and length.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_field_is_a_parent_of_another() {
        let names: BTreeSet<_> = Field::ALL.iter().map(|f| f.name()).collect();
        assert_eq!(names.len(), Field::ALL.len());
        for name in &names {
            let prefix = format!("{name}.");
            assert!(
                !names.iter().any(|other| other.starts_with(&prefix)),
                "{name} is both a value and an object"
            );
        }
    }
}
