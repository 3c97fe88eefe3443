//! Bearer tokens and what they allow. Kept as digests: the tokens themselves stay in their file.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Shortest accepted token: 16 characters are 64 bits even when they are hexadecimal digits.
const LENGTH_MIN: usize = 16;

/// Largest accepted file: far above any number of tokens that people keep.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// To look.
    Read,
    /// To change things, to look, and to send alerts.
    Act,
    /// To send alerts, nothing else.
    Alerts,
    /// To push metrics, nothing else.
    Push,
}

impl Scope {
    /// The word in the file.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Act => "act",
            Self::Alerts => "alerts",
            Self::Push => "push",
        }
    }
}

impl FromStr for Scope {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Read, Self::Act, Self::Alerts, Self::Push]
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or(())
    }
}

/// The scopes of one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scopes(Vec<Scope>);

impl Scopes {
    /// Whether they allow what needs `scope`.
    pub(crate) fn allow(&self, scope: Scope) -> bool {
        self.0.iter().any(|held| *held == scope || *held == Scope::Act)
    }
}

/// Tokens that are known.
#[derive(Clone, Default)]
pub(crate) struct Tokens(Vec<([u8; 32], Scopes)>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

/// Why tokens cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokensError {
    #[error("failed to read the tokens in {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to write a new token to {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path}: {text}")]
    Malformed { path: PathBuf, text: String },
}

impl Tokens {
    /// Reads `path`: a line is `TOKEN SCOPE…` with the scopes `read`, `act`, `alerts` and `push`; `#` begins a comment.
    ///
    /// # Errors
    /// When the file cannot be read, has no token, or a line is wrong; all wrong lines are named, but never a token.
    pub(crate) fn load(path: &Path) -> Result<Self, TokensError> {
        let failed = |source| TokensError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(failed)?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text).map_err(|text| TokensError::Malformed { path: path.to_owned(), text })
    }

    /// Reads `path`, or makes it with one random token of scope `act` that only its owner may read.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, TokensError> {
        match create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                Err(TokensError::Write { path: path.to_owned(), source: e })
            }
            _ => Self::load(path),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines =
            text.lines().enumerate().map(|(i, line)| (i + 1, line.split('#').next().unwrap_or("").trim()));
        let (right, wrong): (Vec<_>, Vec<_>) = lines
            .filter(|(_, line)| !line.is_empty())
            .map(|(n, line)| entry(line).ok_or(n))
            .partition(Result::is_ok);
        if !wrong.is_empty() {
            let numbers: Vec<_> = wrong.into_iter().filter_map(Result::err).map(|n| n.to_string()).collect();
            let form =
                "a token of 16 characters or more, a space, and one or more of read, act, alerts, push";
            return Err(format!("line {}: expected {form}", numbers.join(", ")));
        }
        let tokens: Vec<_> = right.into_iter().flatten().collect();
        if tokens.is_empty() { Err("holds no token".to_owned()) } else { Ok(Self(tokens)) }
    }

    /// What `token` allows; `None` when it is not known. Takes as long for a wrong token as for a right one.
    pub(crate) fn scopes(&self, token: &str) -> Option<&Scopes> {
        let digest = digest(token);
        self.0
            .iter()
            .fold(None, |found, (known, scopes)| if same(known, &digest) { Some(scopes) } else { found })
    }
}

fn entry(line: &str) -> Option<([u8; 32], Scopes)> {
    let (token, scopes) = line.split_once(char::is_whitespace)?;
    let scopes: Vec<Scope> = scopes.split_whitespace().map(|s| s.parse().ok()).collect::<Option<_>>()?;
    (token.len() >= LENGTH_MIN && !scopes.is_empty()).then(|| (digest(token), Scopes(scopes)))
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Compares without a branch that depends on where two digests differ.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b))) == 0
}

/// Makes the file in one step, so that two starts at once do not overwrite each other's token.
fn create(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let text = format!(
        "# Bearer tokens of the API, one a line: TOKEN SCOPE… (read, act, alerts, push).\n{} act\n",
        random()?
    );
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // A half-written file would be refused at every start from now on.
        std::fs::remove_file(path)?;
    }
    written
}

/// A token of 256 random bits.
fn random() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold("tg_".to_owned(), |text, byte| text + &format!("{byte:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_allows_what_its_scopes_say() {
        let tokens = Tokens::parse(
            "# ours\nreader-reader-01 read\nactor-actor-0001\tact\nboth-both-both-1 read alerts # x\n",
        )
        .unwrap();
        let allow = |token: &str, scope| tokens.scopes(token).is_some_and(|s| s.allow(scope));
        assert!(allow("reader-reader-01", Scope::Read) && !allow("reader-reader-01", Scope::Act));
        assert!(allow("actor-actor-0001", Scope::Read) && allow("actor-actor-0001", Scope::Alerts));
        assert!(allow("both-both-both-1", Scope::Alerts) && !allow("both-both-both-1", Scope::Act));
        assert_eq!(tokens.scopes("reader-reader-02"), None);
    }

    #[test]
    fn wrong_lines_are_named_without_their_tokens() {
        let error =
            Tokens::parse("short read\nreader-reader-01 root\n\nreader-reader-02 read\nreader-reader-03\n")
                .unwrap_err();
        assert!(error.starts_with("line 1, 2, 5: "), "{error}");
        assert!(!error.contains("reader"), "{error}");
        assert_eq!(Tokens::parse("# nothing\n").unwrap_err(), "holds no token");
    }

    #[test]
    fn a_new_file_is_its_owners_alone_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        Tokens::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        let token = text.lines().last().unwrap().split(' ').next().unwrap();
        let again = Tokens::load_or_create(&path).unwrap();
        assert!(again.scopes(token).is_some_and(|s| s.allow(Scope::Act)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
