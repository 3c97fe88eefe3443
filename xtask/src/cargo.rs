//! Cargo called from within cargo, such that nothing is built twice. Not for other programs: those are called plainly.

use std::env;
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace;

/// Variables that cargo sets for the program it runs. Build scripts that watch them would run again for each caller
/// (that of `ring` does), so they are not handed on.
const OF_THE_CALLER: [&str; 8] = [
    "CARGO",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_RUSTC_CURRENT_DIR",
    "LD_LIBRARY_PATH",
];

/// Cargo in the checkout's root, with the environment that a shell would give it.
pub(crate) fn command() -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(workspace::root());
    for name in OF_THE_CALLER {
        command.env_remove(name);
    }
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command with its output visible; whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    println!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("failed to start {}", shown(command)))?;
    Ok(status.success())
}

/// Runs a command with its output visible; an error if it fails.
pub(crate) fn must_succeed(command: &mut Command) -> Result<()> {
    anyhow::ensure!(succeeds(command)?, "{} failed", shown(command));
    Ok(())
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
    let arguments = command.get_args().map(|a| a.to_string_lossy().into_owned());
    std::iter::once(name).chain(arguments).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_program_without_its_directory() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "--lib"]);
        assert_eq!(shown(&command), "cargo test --lib");
    }

    #[test]
    fn a_failing_command_is_an_error_that_names_it() {
        let error = must_succeed(&mut Command::new("false")).expect_err("false fails");
        assert_eq!(error.to_string(), "false failed");
        assert!(succeeds(&mut Command::new("true")).expect("true runs"));
    }
}
