//! The kubelet's folders: framed lines in pieces, its rotation with compression, restarts, pods that go, and an agent that was away.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use tidegate_core::Field;

use crate::collect::pods::Pod;
use crate::logs::cri::rotated;

const CONTAINER: &str = "ml_chat-0_u-1/vllm";

fn bench() -> Bench {
    let mut bench = Bench::new("*/*/*.log*");
    bench.sources.send_modify(|sources| sources[0].format = LogFormat::Cri);
    bench.start();
    fs::create_dir_all(bench.path(CONTAINER)).unwrap();
    bench
}

fn pod() -> PodTable {
    let labels = [("app.kubernetes.io/name".to_owned(), "chat".to_owned())].into();
    let workload = Some("ml/statefulset/chat".parse().unwrap());
    let pod = Pod { uid: "u-1".into(), namespace: "ml".into(), labels, workload, ..Pod::default() };
    PodTable::new([(pod.uid.clone(), Arc::new(pod))].into())
}

/// A line as a runtime frames it.
fn framed(stream: &str, tag: &str, message: &str) -> String {
    format!("2026-10-06T00:17:09.5Z {stream} {tag} {message}\n")
}

impl Bench {
    fn log(&self, name: &str, text: &str) {
        self.append(&format!("{CONTAINER}/{name}"), text);
    }

    /// As the kubelet does it: what was rotated before is compressed, the file gets a name of its time, and the runtime makes a new one.
    fn kubelet_rotates(&self, name: &str, time: usize) {
        let folder = self.path(CONTAINER);
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if rotated(&path).is_some() && path.extension().is_none_or(|ending| ending != "gz") {
                let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
                packed.write_all(&fs::read(&path).unwrap()).unwrap();
                let name = format!("{}.gz", path.display());
                fs::write(name, packed.finish().unwrap()).unwrap();
                fs::remove_file(path).unwrap();
            }
        }
        fs::rename(folder.join(name), folder.join(format!("{name}.20261006-{time:06}"))).unwrap();
        fs::write(folder.join(name), "").unwrap();
    }
}

#[test]
fn pieces_of_two_streams_are_put_together_across_a_rotation() {
    let mut bench = bench();
    bench.log("0.log", &framed("stdout", "P", "one "));
    bench.log("0.log", &framed("stderr", "P", "uno "));
    bench.log("0.log", &framed("stdout", "P:x", "two "));
    bench.drain();
    assert_eq!(bench.texts(), Vec::<&str>::new(), "no line is whole");
    bench.kubelet_rotates("0.log", 1);
    bench.log("0.log.20261006-000001", &framed("stderr", "P", "due "));
    bench.log("0.log", &framed("stderr", "F", "tre"));
    bench.log("0.log", &framed("stdout", "F", "three"));
    bench.log("0.log", &framed("stdout", "F", ""));
    bench.log("0.log", "no frame\n");
    bench.drain();
    assert_eq!(bench.texts(), ["no frame", "one two three", "uno due tre"]);
    bench.acknowledge(u64::MAX, true);
    assert!(bench.records.book.pages().iter().all(|page| page.offset > 0 && page.last.is_some()));
}

#[test]
fn a_line_tells_whose_it_is() {
    let mut bench = bench();
    let (pods, _) = watch::channel(PodTable::default());
    bench.pods = Some(pods);
    bench.start();
    bench.log("2.log", &framed("stderr", "F", "{\"level\":\"warn\",\"msg\":\"hot\"}"));
    bench.drain();
    assert_eq!(bench.texts(), Vec::<&str>::new(), "the pod may yet be told");
    bench.pods.as_ref().unwrap().send_replace(pod());
    bench.drain();
    for (field, expected) in [
        (Field::Timestamp, "2026-10-06T00:17:09.500Z".into()),
        (Field::Level, "warn".into()),
        (Field::Stream, "stderr".into()),
        (Field::Workload, "ml/statefulset/chat".into()),
        (Field::Replica, "chat-0".into()),
        (Field::KubernetesNamespace, "ml".into()),
        (Field::KubernetesPod, "chat-0".into()),
        (Field::KubernetesPodUid, "u-1".into()),
        (Field::KubernetesContainer, "vllm".into()),
        (Field::KubernetesRestarts, 2.into()),
        (Field::KubernetesNode, "host".into()),
        (Field::KubernetesLabels, serde_json::json!({"app_kubernetes_io/name": "chat"})),
    ] {
        assert_eq!(bench.last[field.name()], expected, "{}", field.name());
    }
    bench.pods.as_ref().unwrap().send_replace(PodTable::default());
    bench.log("2.log", &framed("stdout", "F", "bye"));
    fs::remove_dir_all(bench.path("ml_chat-0_u-1")).unwrap();
    bench.drain();
    assert_eq!(bench.texts(), ["bye", "hot"], "a pod that is gone is read to its end, under its name");
    assert_eq!(bench.last[Field::Workload.name()], "ml/statefulset/chat");
}

#[test]
fn a_line_without_an_end_is_given_in_the_end_and_an_unknown_pod_is_not_waited_for_for_ever() {
    let mut bench = bench();
    bench.pods = Some(watch::channel(PodTable::default()).0);
    bench.start();
    bench.log("0.log", &framed("stdout", "F", "first"));
    bench.log("0.log", &framed("stdout", "P", "I was abou"));
    bench.drain();
    bench.clock.steady += Duration::from_secs(6);
    bench.drain();
    assert_eq!(bench.texts(), ["first"]);
    bench.clock.steady += Duration::from_secs(31);
    bench.drain();
    assert_eq!(bench.texts(), ["I was abou", "first"]);
    assert_eq!(bench.last[Field::Flags.name()], serde_json::json!(["unparsed", "truncated"]));
}

#[test]
fn what_was_compressed_while_the_agent_was_away_is_read() {
    let mut bench = bench();
    bench.log("0.log", &framed("stdout", "F", "a"));
    bench.drain();
    bench.acknowledge(u64::MAX, true);
    bench.stop();
    bench.log("0.log", &framed("stdout", "F", "b"));
    bench.log("0.log", &framed("stdout", "P", "half "));
    for (time, text) in [(1, "whole"), (2, "c"), (3, "d")] {
        bench.kubelet_rotates("0.log", time);
        bench.log("0.log", &framed("stdout", "F", text));
    }
    bench.log("1.log", &framed("stdout", "F", "e"));
    for (time, text) in [(4, "f"), (5, "g"), (6, "h")] {
        bench.kubelet_rotates("1.log", time);
        bench.log("1.log", &framed("stdout", "F", text));
    }
    bench.start();
    bench.drain();
    assert_eq!(bench.texts(), ["a", "b", "c", "d", "e", "f", "g", "h", "half whole"]);
    // What was read of a compressed file is not read again.
    bench.acknowledge(u64::MAX, true);
    bench.start();
    bench.drain();
    assert!(bench.given.values().all(|(_, times)| *times == 1), "{:?}", bench.given);
}

#[derive(Debug, Clone)]
enum Act {
    /// Whole lines of one stream, and a piece of one of the other's between them.
    Write {
        lines: usize,
        stderr: bool,
        piece: bool,
    },
    Rotate,
    Restart,
    Step,
    Acknowledge {
        pick: u64,
        save: bool,
    },
    /// The agent is killed, and comes back later.
    Kill,
    Start,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1usize..6, any::<bool>(), any::<bool>())
            .prop_map(|(lines, stderr, piece)| Act::Write { lines, stderr, piece }),
        2 => Just(Act::Rotate),
        1 => Just(Act::Restart),
        4 => Just(Act::Step),
        3 => (any::<u64>(), any::<bool>()).prop_map(|(pick, save)| Act::Acknowledge { pick, save }),
        1 => Just(Act::Kill),
        2 => Just(Act::Start),
    ]
}

/// What a container has written so far.
#[derive(Default)]
struct Writer {
    expected: Vec<String>,
    run: usize,
    rotations: usize,
    /// The pieces of the line under way, by stream.
    pieces: [String; 2],
}

impl Writer {
    fn name(&self) -> String {
        format!("{}.log", self.run)
    }

    fn write(&mut self, bench: &Bench, lines: usize, stderr: bool, piece: bool) {
        let name = self.name();
        for line in 0..lines {
            let text = format!("{}-{line}-{}", self.expected.len(), self.rotations);
            let at = usize::from(stderr);
            let stream = ["stdout", "stderr"][at];
            bench.log(&name, &framed(stream, "F", &text));
            let whole = std::mem::take(&mut self.pieces[at]) + &text;
            self.expected.push(whole);
            if piece {
                let text = format!("p{}-", self.expected.len());
                bench.log(&name, &framed(["stderr", "stdout"][at], "P", &text));
                self.pieces[1 - at].push_str(&text);
            }
        }
    }

    fn end_lines(&mut self, bench: &Bench) {
        for (at, stream) in ["stdout", "stderr"].into_iter().enumerate() {
            if !self.pieces[at].is_empty() {
                bench.log(&self.name(), &framed(stream, "F", "."));
                let whole = std::mem::take(&mut self.pieces[at]) + ".";
                self.expected.push(whole);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_line_is_given_once_through_rotation_restarts_and_kills(script in prop::collection::vec(acts(), 1..40)) {
        let mut bench = bench();
        let mut writer = Writer::default();
        // An agent that has never run takes up no compressed files: it is there from the start.
        writer.write(&bench, 1, false, false);
        bench.drain();
        bench.acknowledge(u64::MAX, true);
        // A kill between two pieces in two files may give the second one once more, alone.
        let is_killed = script.iter().any(|act| matches!(act, Act::Kill));
        for act in &script {
            match act {
                Act::Write { lines, stderr, piece } => writer.write(&bench, *lines, *stderr, *piece),
                Act::Rotate if bench.path(&format!("{CONTAINER}/{}", writer.name())).exists() => {
                    if is_killed {
                        writer.end_lines(&bench);
                    }
                    writer.rotations += 1;
                    bench.kubelet_rotates(&writer.name(), writer.rotations);
                }
                Act::Rotate => {}
                Act::Restart => {
                    writer.end_lines(&bench);
                    writer.run += 1;
                }
                Act::Step => drop(bench.step()),
                Act::Acknowledge { pick, save } => bench.acknowledge(*pick, *save),
                Act::Kill => bench.stop(),
                Act::Start if bench.tailer.is_none() => bench.start(),
                Act::Start => {}
            }
        }
        writer.end_lines(&bench);
        if bench.tailer.is_none() {
            bench.start();
        }
        bench.drain();
        writer.expected.sort_unstable();
        prop_assert_eq!(bench.texts(), writer.expected);
    }
}
