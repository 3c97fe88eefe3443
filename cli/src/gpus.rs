//! GPUs of this machine, as a configuration or the command line wants them read and shown.

use std::path::PathBuf;

use tidegate_agent::collect::AgentHandle;
use tidegate_agent::collect::gpu::GpuOptions;
use tidegate_agent::collect::kernel_log;
use tidegate_agent::export::GpuPage;

use crate::config::{Config, Gpu, GpuCompat, GpuEnabled};

/// The kernel's own log, below the machine's root.
const KERNEL_LOG: &str = "dev/kmsg";

/// How they are read, with the machine's root seen at `root`; `None` when they are not.
pub(crate) fn options(gpu: &Gpu, root: PathBuf) -> Option<GpuOptions> {
    let kernel_log = || Some(root.join(KERNEL_LOG)).filter(|path| kernel_log::way(path).is_ok());
    (gpu.enabled != GpuEnabled::Never).then(|| GpuOptions {
        library: gpu.library.clone(),
        required: gpu.enabled == GpuEnabled::Always,
        kernel_log: gpu.kernel_log.clone().or_else(kernel_log),
        root: root.clone(),
        ..GpuOptions::default()
    })
}

/// How they are shown.
pub(crate) fn page(gpu: &Gpu, agent: &AgentHandle, host: &str) -> GpuPage {
    GpuPage {
        gpus: agent.gpus(),
        xids: agent.xids(),
        dcgm: gpu.compat.contains(&GpuCompat::Dcgm).then(|| host.to_owned()),
    }
}

/// What the file itself cannot know: a library, named by its path and always wanted, that is not on this machine.
pub(crate) fn missing_library(config: &Config) -> Option<String> {
    let path = config.gpu.library.as_ref().filter(|path| path.components().count() > 1)?;
    let is_wanted = config.gpu.enabled == GpuEnabled::Always;
    (is_wanted && !path.exists()).then(|| format!("gpu: there is no {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(enabled: GpuEnabled) -> Gpu {
        Gpu { enabled, library: Some("/nowhere/libnvidia-ml.so.1".into()), ..Gpu::default() }
    }

    #[test]
    fn only_what_is_always_wanted_may_be_missed() {
        let missed = |enabled| missing_library(&Config { gpu: gpu(enabled), ..Config::default() });
        assert!(missed(GpuEnabled::Always).is_some_and(|text| text.contains("/nowhere")));
        assert_eq!(missed(GpuEnabled::Auto), None);
        let options = |enabled| options(&gpu(enabled), "/".into());
        assert!(options(GpuEnabled::Never).is_none());
        assert!(options(GpuEnabled::Always).is_some_and(|options| options.required));
        assert!(options(GpuEnabled::Auto).is_some_and(|options| !options.required));
    }
}
