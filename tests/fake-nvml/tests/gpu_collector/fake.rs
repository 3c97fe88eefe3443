//! A fake driver in a folder of its own, and an agent that reads it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_agent::collect::agent::Paces;
use tidegate_agent::collect::gpu::{GpuOptions, Gpus, Waits};
use tidegate_agent::collect::{Agent, AgentHandle, Cause, SourceName, SourceStatus};
use tidegate_agent::export::Registry;
use tidegate_core::{Label, Metric, Signal, Subject};

/// Bound of every wait: far beyond what any of these takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// From one reading to the next: more than the performance monitor's two samples have to be apart.
pub(crate) const EVERY: Duration = Duration::from_millis(120);
/// The name of the library in a folder.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// The name of the script beside it.
const SCRIPT: &str = "fake-nvml.toml";

/// UUID of the GPU at this index.
pub(crate) fn uuid(index: usize) -> String {
    format!("GPU-00000000-0000-0000-0000-{index:012}")
}

/// Scope of the values that are of all links together.
const ALL_LINKS: u32 = u32::MAX;

/// Values by number: number, scope, value, width.
#[rustfmt::skip]
const FIELDS: [(u32, u32, u64, &str); 25] = [
    (3, 0, 5, "u64"),
    (4, 0, 1, "u64"),
    (5, 0, 50, "u64"),
    (6, 0, 10, "u64"),
    (74, 0, 7_000_000_000, "u64"),
    (75, 0, 3_000, "u64"),
    (76, 0, 0, "u64"),
    (77, 0, 0, "u64"),
    (78, 0, 0, "u64"),
    (79, 0, 0, "u64"),
    (82, 0, 70, "u32"),
    (83, 0, 1_234_500, "u64"),
    (94, 0, 9, "u32"),
    (138, ALL_LINKS, 8, "u64"),
    (139, ALL_LINKS, 4, "u64"),
    (142, 0, 1, "u32"),
    (143, 0, 2, "u32"),
    (144, 0, 0, "u32"),
    (145, 0, 0, "u32"),
    (197, 0, 77, "u32"),
    (198, 0, 78, "u32"),
    (230, 0, 0, "u32"),
    (269, 0, 11, "u64"),
    (270, 0, 12, "u64"),
    (271, 0, 13, "u64"),
];

/// A GPU with all that there is, as a part of a script. `more` goes before its tables.
pub(crate) fn gpu(index: usize, more: &str) -> String {
    let fields: String = FIELDS
        .iter()
        .map(|(id, scope, value, kind)| {
            format!("  {{ id = {id}, scope = {scope}, value = {value}, kind = \"{kind}\" }},\n")
        })
        .collect();
    format!(
        "[[gpu]]\nuuid = \"{}\"\nname = \"NVIDIA H100 80GB HBM3\"\npci = \"00000000:{:02X}:00.0\"\nminor = {index}\n\
         utilization = [97, 40]\nencoder = 0\ndecoder = 3\nmemory = [85899345920, 1073741824, 20401094656, 64424509440]\n\
         power = 650250\npower_limit = 700000\ntemperature = 61\nsm_clock = 1980\nmemory_clock = 2619\nthrottle = 0x44\n\
         process = [{{ pid = 4242, memory = 1048576, used = [40, 60] }}, {{ pid = 4243 }}]\nfield = [\n{fields}]\n\
         monitor = {{ 1 = 99.0, 2 = 88.0, 3 = 50.0, 5 = 25.0, 10 = 75.0, 20 = 10.0, 21 = 20.0, 60 = 30.0, 61 = 40.0 }}\n{more}\n",
        uuid(index),
        0x10 + index,
    )
}

/// So many GPUs.
pub(crate) fn gpus(count: usize) -> String {
    (0..count).map(|index| gpu(index, "")).collect()
}

/// A folder with a copy of the fake library and its script.
pub(crate) struct Fake {
    folder: TempDir,
}

impl Fake {
    pub(crate) fn new(script: &str) -> Self {
        let fake = Self { folder: tempfile::tempdir().expect("a temporary directory can be made") };
        fake.says(script);
        fake.install(&[]);
        fake
    }

    /// Without a library.
    pub(crate) fn absent() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary directory can be made") }
    }

    /// Puts the library there. Functions that it is to lack get another name in its table of symbols, as long as the right one.
    pub(crate) fn install(&self, lacking: &[&str]) {
        let built = std::env::current_exe()
            .expect("this program has a path")
            .with_file_name("libtidegate_fake_nvml.so");
        let mut bytes =
            fs::read(&built).unwrap_or_else(|error| panic!("{} is not built: {error}", built.display()));
        for symbol in lacking {
            let name = [b"\0", symbol.as_bytes(), b"\0"].concat();
            let places: Vec<_> =
                (0..bytes.len() - name.len()).filter(|at| bytes[*at..].starts_with(&name)).collect();
            assert!(!places.is_empty(), "{symbol} is not in the library");
            places.into_iter().for_each(|at| bytes[at + 1] = b'_');
        }
        let new = self.folder.path().join("new");
        fs::write(&new, bytes).expect("the folder is writable");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        fs::rename(new, self.library()).expect("the folder is writable");
    }

    /// Changes the script in one step.
    pub(crate) fn says(&self, script: &str) {
        let new = self.folder.path().join("new.toml");
        fs::write(&new, script).expect("the folder is writable");
        fs::rename(new, self.folder.path().join(SCRIPT)).expect("the folder is writable");
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.folder.path().join(LIBRARY)
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// How often a function was called, of a script with a journal.
    pub(crate) fn calls(&self, function: &str) -> usize {
        let calls =
            fs::read_to_string(self.folder.path().join("fake-nvml.calls")).expect("the script has a journal");
        calls.lines().filter(|line| *line == function).count()
    }

    pub(crate) fn options(&self) -> GpuOptions {
        GpuOptions {
            library: Some(self.library()),
            required: true,
            root: self.folder(),
            open_again: Waits { first: Duration::from_millis(50), most: Duration::from_millis(200) },
            search_again: Waits { first: Duration::from_millis(200), most: Duration::from_millis(400) },
            ..GpuOptions::default()
        }
    }
}

/// An agent that reads a fake driver.
pub(crate) struct Rig {
    pub(crate) fake: Fake,
    pub(crate) agent: AgentHandle,
    pub(crate) registry: Arc<Registry>,
}

impl Rig {
    pub(crate) fn new(script: &str) -> Self {
        Self::of(Fake::new(script))
    }

    pub(crate) fn of(fake: Fake) -> Self {
        let options = fake.options();
        Self::with(fake, options)
    }

    pub(crate) fn with(fake: Fake, options: GpuOptions) -> Self {
        let registry = Arc::new(Registry::new());
        let paces = Paces { gpu: EVERY, kernel_log: EVERY, node: EVERY, ..Paces::default() };
        let builder = Agent::builder().node("/").gpu(options).paces(paces).registry(Arc::clone(&registry));
        Self { fake, agent: builder.start(), registry }
    }

    /// The latest value of a signal of the GPU at this index.
    pub(crate) fn value(&self, index: usize, signal: Signal) -> Option<f64> {
        self.of_uuid(&uuid(index), signal)
    }

    pub(crate) fn of_uuid(&self, uuid: &str, signal: Signal) -> Option<f64> {
        self.agent.latest(&Subject::Gpu(uuid.to_owned()), signal).map(|(value, _)| value)
    }

    pub(crate) fn node(&self, signal: Signal) -> Option<f64> {
        self.agent.latest(&Subject::Node, signal).map(|(value, _)| value)
    }

    pub(crate) fn gpus(&self) -> Option<Arc<Gpus>> {
        self.agent.gpus().borrow().clone()
    }

    pub(crate) fn status(&self) -> Option<SourceStatus> {
        self.agent.status().sources.get(&SourceName::Gpu).cloned()
    }

    /// How often a cause was counted.
    pub(crate) fn errors(&self, cause: Cause) -> f64 {
        let labels = [(Label::Source, SourceName::Gpu.as_str()), (Label::Cause, cause.as_str())];
        self.registry.counter(Metric::SourceErrors, &labels).get()
    }

    /// Waits for whole readings, so that what changed in the script has been seen.
    pub(crate) async fn readings(&self, count: usize) {
        let mut batches = self.agent.subscribe();
        for _ in 0..count {
            let batch =
                async { while batches.recv().await.expect("the agent runs").source != SourceName::Gpu {} };
            tokio::time::timeout(PATIENCE, batch).await.expect("no reading came");
        }
    }
}

/// Waits until `holds`, looking again after a short while.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("it never held: {what}"));
}
