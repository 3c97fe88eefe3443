//! The command line: help, usage, completions, the reference, pipes that close. Commands that read files or ask servers are elsewhere.

use std::io::pipe;
use std::net::TcpListener;
use std::process::Stdio;

use nix::sys::signal::Signal;
use std::time::Duration;
use tidegate_tests::servers::Program;

use super::written::{command, folder, run, write};

/// Every command that users see.
const COMMANDS: [&[&str]; 11] = [
    &[],
    &["up"],
    &["check"],
    &["check", "config"],
    &["check", "elasticsearch"],
    &["forecast"],
    &["backtest"],
    &["explain"],
    &["logs"],
    &["load"],
    &["completions"],
];

#[test]
fn help_of_every_command_has_examples() {
    let dir = folder();
    for arguments in COMMANDS.iter().chain(&[&["reference"][..]]) {
        let ended = run(dir.path(), &[arguments, &["--help"][..]].concat());
        assert_eq!(ended.code, Some(0), "{arguments:?}");
        assert_eq!(ended.errors, "", "{arguments:?}");
        assert!(ended.output.contains("Example"), "{arguments:?}: {}", ended.output);
    }
}

#[test]
fn the_version_is_printed_on_standard_output() {
    let ended = run(folder().path(), &["--version"]);
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    assert!(ended.output.starts_with("tidegate "), "{}", ended.output);
}

#[test]
fn bad_usage_exits_64_and_names_what_is_wrong_on_standard_error() {
    let dir = folder();
    let cases: [(&[&str], &str); 9] = [
        (&["up", "--no-such-option"], "--no-such-option"),
        (&["no-such-command"], "no-such-command"),
        (&["up", "--speed", "12"], "--demo"),
        (&["up", "--demo", "--speed", "0.1"], "from 1 to 1440"),
        (&["up", "--for", "soon"], "soon"),
        (&["up", "--demo", "--trace", "a.csv", "--unit", "req/day"], "req/day"),
        (&["--log", "up=nothing=x", "up"], "--log"),
        (&["load", "https://example.com/"], "http://"),
        (&["explain", "x", "--last", "0"], "--last"),
    ];
    for (arguments, named) in cases {
        let ended = run(dir.path(), arguments);
        assert_eq!(ended.code, Some(64), "{arguments:?}: {}", ended.errors);
        assert_eq!(ended.output, "", "{arguments:?}");
        assert!(ended.errors.contains(named), "{arguments:?}: {}", ended.errors);
    }
    assert!(!dir.path().join("tidegate-data").exists(), "wrong usage makes nothing");
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(folder().path(), &["completions", shell]);
        assert_eq!(ended.code, Some(0), "{shell}: {}", ended.errors);
        assert!(ended.output.contains("elasticsearch-user"), "{shell} lacks an option of `up`");
    }
}

#[test]
fn the_reference_has_every_page() {
    for (page, named) in [("metrics", "log_lines_read_total"), ("signals", "requests_per_second")]
        .into_iter()
        .chain([("fields", "log.level"), ("config", "startDeadline")])
    {
        let ended = run(folder().path(), &["reference", page]);
        assert_eq!(ended.code, Some(0), "{page}: {}", ended.errors);
        assert!(ended.output.contains(named), "{page} lacks {named}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = folder();
    let series: String = (0..400).map(|step| format!("{},{}\n", step * 60, 10 + step % 7)).collect();
    let file = write(dir.path(), "load.csv", &format!("timestamp_s,value\n{series}"));
    let commands: [&[&str]; 5] = [
        &["--help"],
        &["completions", "bash"],
        &["reference", "metrics"],
        &["forecast", &file, "--output", "csv"],
        &["forecast", &file, "--output", "json"],
    ];
    for arguments in commands {
        let (reader, writer) = pipe().expect("a pipe can be made");
        drop(reader);
        let mut command = command(dir.path(), arguments);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().expect("the binary was built");
        let ended = child.wait_with_output().expect("a child can be waited for");
        let errors = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}: {errors}");
        assert_eq!(errors, "", "{arguments:?}");
    }
}

#[test]
fn a_command_that_is_interrupted_exits_130() {
    let dir = folder();
    // Accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let url = format!("http://{}", silent.local_addr().expect("it is bound"));
    let mut asking = Program::start(
        "explain",
        &mut command(dir.path(), &["explain", "a/b/c", "--server", &url]),
        dir.path(),
    );
    drop(silent.accept().map(|(connection, _)| std::mem::forget(connection)));
    asking.signal(Signal::SIGINT);
    let ended = asking.wait(Duration::from_secs(10)).expect("it ends when interrupted");
    assert_eq!(ended.code(), Some(130), "{}", asking.errors());
}
