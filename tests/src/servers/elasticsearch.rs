//! A real Elasticsearch with its security on: one account that may do everything, one that may only write and read `logs-*`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::certificates::certificates;
use super::{Program, directory, free_port, http, https};
use crate::waiting;

/// A cold JVM on a busy two-core machine.
const READY_LIMIT: Duration = Duration::from_secs(180);
/// Elasticsearch refuses to run as root; this is `nobody` on Debian.
const UNPRIVILEGED: u32 = 65534;
/// Enough for the few thousand records of a test.
const HEAP: &str = "-Xms512m -Xmx512m";

/// Name and password of a user of the file realm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// User name.
    pub user: &'static str,
    /// Password.
    pub password: &'static str,
}

impl Account {
    /// May do everything.
    pub const ADMIN: Self = Self { user: "admin", password: "admin-of-one-test" };
    /// May create and read documents of `logs-*`; no cluster privilege at all.
    pub const SHIPPER: Self = Self { user: "shipper", password: "shipper-of-one-test" };
}

/// The hashes were made with `elasticsearch-users useradd` from the passwords above: starting a JVM twice for each test would cost more
/// than the server's own start.
const USERS: &str = "\
admin:$2a$10$RDpXVwlm5zaJP4iZMr0XLu0XJNObvm6QrcEOQ0MDkZfZSLG6RLb8y
shipper:$2a$10$J2F66YpCXMoZsB/xDxlEauOQJXMXs4I3CvQmXdwl7B1JokbEWQ4bK
";
const USERS_ROLES: &str = "superuser:admin\nshipper:shipper\n";
const ROLES: &str = "\
shipper:
  indices:
    - names: [ 'logs-*' ]
      privileges: [ auto_configure, create_doc, read, view_index_metadata ]
";

/// A running (or stopped) Elasticsearch.
#[derive(Debug)]
pub struct Elasticsearch {
    program: Option<Program>,
    port: u16,
    dir: TempDir,
    home: PathBuf,
    client: reqwest::Client,
    ca: Option<PathBuf>,
}

impl Elasticsearch {
    /// Starts one with no data.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub async fn start() -> Self {
        Self::prepared(false).await
    }

    /// The same behind TLS, with a certificate of an authority of its own: see [`Self::ca_file`].
    ///
    /// # Panics
    /// When it is not ready in time.
    pub async fn start_with_tls() -> Self {
        Self::prepared(true).await
    }

    async fn prepared(tls: bool) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("tidegate-es-")
            .tempdir()
            .expect("a temporary directory can be made");
        let home = readable_home(dir.path());
        let port = free_port();
        configure(&home, dir.path(), port, tls);
        let ca = tls.then(|| dir.path().join("ca.pem"));
        let client = ca.as_ref().map_or_else(http, |ca| https(&fs::read(ca).expect("it was just written")));
        let mut server = Self { program: None, port, dir, home, client, ca };
        server.start_again().await;
        server
    }

    /// Its address; the same after [`Self::stop`] and [`Self::start_again`].
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The authority that signed its certificate, PEM; `None` without TLS.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Stops it; its data stay.
    pub fn stop(&mut self) {
        // The end of a program is TERM, and KILL after a deadline. A JVM told to stop exits with 143: its status says nothing.
        drop(self.program.take());
    }

    /// Starts it on the same port and data.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub async fn start_again(&mut self) {
        self.stop();
        self.program = Some(Program::start("elasticsearch", &mut self.command(), self.dir.path()));
        self.wait_until_ready().await;
    }

    /// Makes it hang: connections are accepted by the kernel and nobody answers. [`Self::resume`] ends that.
    pub fn pause(&mut self) {
        self.signal_server(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.signal_server(Signal::SIGCONT);
    }

    /// A request with an account's credentials: `GET _search`, `POST logs-x/_doc`.
    pub fn request(&self, method: reqwest::Method, path: &str, account: Account) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("{}/{path}", self.url()))
            .basic_auth(account.user, Some(account.password))
    }

    /// The server proper is a child of a launcher, and both must feel the signal.
    fn signal_server(&mut self, signal: Signal) {
        let program = self.program.as_mut().expect("only a running server can be paused");
        for id in program.descendants() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(id).expect("process ids are small"));
            nix::sys::signal::kill(pid, signal).ok();
        }
        program.signal(signal);
    }

    fn command(&self) -> Command {
        let mut command = match nix::unistd::geteuid().is_root() {
            true => as_unprivileged(&self.home.join("bin/elasticsearch")),
            false => Command::new(self.home.join("bin/elasticsearch")),
        };
        command.current_dir(self.dir.path());
        command
            .env("ES_PATH_CONF", self.dir.path().join("config"))
            .env("ES_TMPDIR", self.dir.path().join("tmp"));
        command.env("ES_JAVA_HOME", java_home()).env("ES_JAVA_OPTS", HEAP).env("HOME", self.dir.path());
        command
    }

    async fn wait_until_ready(&mut self) {
        let health = "_cluster/health?wait_for_status=yellow&timeout=1s";
        let request = self.request(reqwest::Method::GET, health, Account::ADMIN);
        let program = self.program.as_mut().expect("it was just started");
        waiting::until("a ready Elasticsearch", READY_LIMIT, async || {
            let ended = program.ended();
            assert!(ended.is_none(), "Elasticsearch ended: {}{}", program.output(), program.errors());
            let request = request.try_clone().expect("a request without a body can be repeated");
            request.send().await.ok()?.status().is_success().then_some(())
        })
        .await;
    }
}

/// The distribution where any user can read it: the cache may lie in a home directory that is closed to others. Links cost nothing.
fn readable_home(dir: &Path) -> PathBuf {
    let built = directory("elasticsearch", "elasticsearch");
    let entries = fs::read_dir(&built).expect("the distribution was unpacked").flatten();
    let unpacked = entries.map(|e| e.path()).find(|p| p.join("bin/elasticsearch").is_file());
    let unpacked = unpacked.expect("the distribution has a program");
    let home = dir.join("home");
    let copy = |how| Command::new("cp").arg(how).arg(&unpacked).arg(&home).output();
    let linked = copy("-al").expect("cp can be run").status.success();
    if !linked {
        fs::remove_dir_all(&home).ok();
        assert!(copy("-a").expect("cp can be run").status.success(), "the distribution could not be copied");
    }
    home
}

/// Writes the configuration into `DIR/config` and hands what the server writes to over to its user.
fn configure(home: &Path, dir: &Path, port: u16, tls: bool) {
    let config = dir.join("config");
    let copied =
        Command::new("cp").arg("-r").arg(home.join("config")).arg(&config).status().expect("cp can be run");
    assert!(copied.success(), "the default configuration could not be copied");
    let write =
        |name: &str, text: &str| fs::write(config.join(name), text).expect("the directory is writable");
    write("elasticsearch.yml", &settings(dir, port, tls));
    if tls {
        let (ca, certificate, key) = certificates();
        fs::write(dir.join("ca.pem"), ca).expect("the directory is writable");
        write("http.crt", &certificate);
        write("http.key", &key);
    }
    write("users", USERS);
    write("users_roles", USERS_ROLES);
    write("roles.yml", ROLES);
    for name in ["data", "logs", "tmp"] {
        fs::create_dir(dir.join(name)).expect("the directory is writable");
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("the directory is ours");
    if nix::unistd::geteuid().is_root() {
        for name in ["config", "data", "logs", "tmp"] {
            hand_over(&dir.join(name));
        }
    }
}

fn hand_over(path: &Path) {
    chown(path, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).expect("root may change owners");
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            hand_over(&entry.path());
        } else {
            chown(entry.path(), Some(UNPRIVILEGED), Some(UNPRIVILEGED)).expect("root may change owners");
        }
    }
}

fn settings(dir: &Path, port: u16, tls: bool) -> String {
    let files = if tls {
        ["certificate: http.crt", "key: http.key"]
            .map(|file| format!("xpack.security.http.ssl.{file}"))
            .into()
    } else {
        Vec::new()
    };
    let lines = [
        "discovery.type: single-node".to_owned(),
        "network.host: 127.0.0.1".to_owned(),
        format!("http.port: {port}"),
        format!("transport.port: {}", free_port()),
        format!("path.data: {}", dir.join("data").display()),
        format!("path.logs: {}", dir.join("logs").display()),
        "xpack.security.enabled: true".to_owned(),
        format!("xpack.security.http.ssl.enabled: {tls}"),
        "xpack.security.transport.ssl.enabled: false".to_owned(),
        // A nearly full disk of the test machine must not make indices read-only.
        "cluster.routing.allocation.disk.threshold_enabled: false".to_owned(),
    ];
    lines.into_iter().chain(files).collect::<Vec<_>>().join("\n") + "\n"
}

fn as_unprivileged(program: &Path) -> Command {
    let id = UNPRIVILEGED.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
    command
}

/// The JDK behind `java`.
fn java_home() -> PathBuf {
    let path = std::env::var_os("PATH").expect("PATH is set");
    let java = std::env::split_paths(&path).map(|dir| dir.join("java")).find(|file| file.is_file());
    let real = java.expect("a JDK is installed").canonicalize().expect("`java` resolves");
    real.ancestors().nth(2).expect("`java` lies in the `bin` of a JDK").to_path_buf()
}
