//! Container images without a registry or an engine: bases from Debian packages, builds by `buildah`, all in a directory of the test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::repository::root;

/// The Debian release that the Dockerfile's default bases are made from.
const RELEASE: &str = "bookworm";

/// What the Dockerfile sets in the environment of whoever runs its image: a program outside of it is then as one within.
///
/// # Panics
/// When the Dockerfile sets nothing, or otherwise than by `ENV NAME=VALUE …` on one line.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("deploy/Dockerfile")).expect("the repository has a Dockerfile");
    let set = text.lines().filter_map(|line| line.strip_prefix("ENV ")).flat_map(str::split_ascii_whitespace);
    let pairs = set.map(|word| word.split_once('=').expect("a name and a value"));
    let found: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert!(!found.is_empty(), "the Dockerfile sets nothing");
    found
}

/// A store of images that vanishes with the test.
#[derive(Debug)]
pub struct Images {
    dir: TempDir,
}

impl Default for Images {
    fn default() -> Self {
        Self::new()
    }
}

impl Images {
    /// An empty store.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("tidegate-images-").tempdir();
        Self { dir: dir.expect("a temporary directory can be made") }
    }

    /// An empty directory for build contexts and the like.
    ///
    /// # Panics
    /// When it is there already.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        fs::create_dir(&folder).expect("a new directory can be made");
        folder
    }

    /// Makes an image of the unpacked files of Debian packages, with scripts of ours and variables (`NAME=VALUE`) for what runs in it.
    /// No maintainer script runs, so nothing is configured.
    ///
    /// # Panics
    /// When the packages cannot be had, or a file cannot be added.
    pub fn from_packages(
        &self,
        image: &str,
        packages: &[&str],
        executables: &[(&str, &str)],
        variables: &[&str],
    ) {
        let archive = self.dir.path().join(format!("{image}.tar"));
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=extract"]).arg(format!("--include={}", packages.join(",")));
        must_run(command.arg(RELEASE).arg(&archive));
        let container = self.buildah(&["from", "scratch"]);
        self.buildah(&["add", "--quiet", &container, &archive.display().to_string(), "/"]);
        for (name, script) in executables {
            let file = self.dir.path().join("executable");
            fs::write(&file, script).expect("the directory is writable");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("the file is ours");
            self.buildah(&["add", "--quiet", &container, &file.display().to_string(), name]);
        }
        for variable in variables {
            self.buildah(&["config", "--env", variable, &container]);
        }
        self.buildah(&["commit", "--quiet", &container, &local(image)]);
        self.buildah(&["rm", &container]);
    }

    /// Makes an image of one static program, which is its entry point, and nothing else.
    ///
    /// # Panics
    /// When the program cannot be added.
    pub fn from_program(&self, image: &str, program: &Path) {
        let container = self.buildah(&["from", "scratch"]);
        self.buildah(&["add", "--quiet", &container, &program.display().to_string(), "/program"]);
        self.buildah(&["config", "--entrypoint", r#"["/program"]"#, &container]);
        self.buildah(&["commit", "--quiet", &container, &local(image)]);
        self.buildah(&["rm", &container]);
    }

    /// Writes an image, under its [`local`] name and the tag `latest`, into an archive that container runtimes take.
    ///
    /// # Panics
    /// When there is no such image.
    pub fn archive(&self, image: &str, archive: &Path) {
        let name = format!("{}:latest", local(image));
        self.buildah(&["push", "--quiet", &name, &format!("oci-archive:{}:{name}", archive.display())]);
    }

    /// Builds the repository's Dockerfile.
    ///
    /// # Panics
    /// When it does not build; the message has the builder's output.
    pub fn build(&self, image: &str, context: &Path, arguments: &[&str]) {
        let dockerfile = root().join("deploy/Dockerfile");
        let mut command = self.command();
        command.args(["bud", "--isolation", "chroot", "--file"]).arg(dockerfile);
        must_run(command.args(arguments).args(["--tag", &local(image)]).arg(context));
    }

    /// Runs a command in a new container of an image, as the user that the image names.
    #[must_use]
    pub fn run(&self, image: &str, command: &[&str]) -> Output {
        let container = self.buildah(&["from", "--pull-never", &local(image)]);
        let mut run = self.command();
        run.args(["run", "--isolation", "chroot", &container, "--"]).args(command);
        run.output().expect("buildah is installed")
    }

    /// The image's configuration, in the words of the OCI specification.
    ///
    /// # Panics
    /// When there is no such image.
    #[must_use]
    pub fn configuration(&self, image: &str) -> Value {
        let text = self.buildah(&["inspect", "--type", "image", &local(image)]);
        let inspected: Value = serde_json::from_str(&text).expect("buildah prints JSON");
        inspected["OCIv1"]["config"].clone()
    }

    fn buildah(&self, arguments: &[&str]) -> String {
        must_run(self.command().args(arguments))
    }

    /// `vfs` and `chroot` need no rights beyond those of root in a container.
    fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.dir.path().join("storage"));
        command.arg("--runroot").arg(self.dir.path().join("run"));
        command.args(["--storage-driver", "vfs"]);
        command
    }
}

/// The name under which an image of the store is found without asking a registry.
#[must_use]
pub fn local(image: &str) -> String {
    format!("localhost/{image}")
}

fn must_run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} could not be started: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(
        output.status.success(),
        "{command:?} failed:\n{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}
