//! Logins that fail at the FTP server on this box, by what it writes into the journal.
//!
//! A camera whose password is not the server's sends nothing, and looks like one that sees nothing. `journalctl` follows the
//! journal as a process of its own: it knows the files of every version of systemd, which no well-kept library here does,
//! and a journal that is damaged does it no harm that reaches the daemon. Where there is no journal, or no right to read it,
//! nothing is noticed, and the log says so once.
//!
//! [`parse`] takes a line apart, and [`Logins`] decides; both are pure. Names come from whoever knocks at the server:
//! lines, users and what is remembered of them are bounded.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use crate::clock::{Now, backoff};
use crate::health::Board;
use crate::key::printable;
use crate::status::{Condition, ConditionKind};

#[cfg(test)]
mod tests;

/// The servers that are understood, as they call themselves in the journal.
const SERVERS: [&str; 3] = ["pure-ftpd", "vsftpd", "proftpd"];

/// So many failures of a user in [`WINDOW`], without a success, are told.
const ENOUGH: usize = 3;
const WINDOW: Duration = Duration::from_mins(10);

/// It is over after a success, or if nobody has failed for so long.
const OVER: Duration = Duration::from_mins(30);

/// The most users that are remembered, and that a sentence names.
const MOST_USERS: usize = 100;
const MOST_NAMED: usize = 3;

/// The most characters of a name that are shown.
const MOST_SHOWN: usize = 64;

/// The longest line that is read. `journalctl` leaves out fields of more than 4096 bytes.
const LONGEST_LINE_BYTES: u64 = 64 << 10;

/// The first and the longest wait before the journal is read again.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// How often it is looked whether something is over.
const LOOK: Duration = Duration::from_mins(1);

/// What a line of an FTP server says about a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user, as whoever logs in has written it.
    pub user: String,
    /// The client's address or name, if the line has it.
    pub client: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a login ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The user is in.
    In,
    /// The server says that the login failed.
    Failed,
    /// PAM says so, for a server that need not say it itself: vsftpd does only with `syslog_enable`. One failure can be told
    /// by both, and the two are counted apart.
    FailedByPam,
}

/// Returns what a line says about a login; `None` if it is about something else.
///
/// The lines are those of pure-ftpd 1.0.50, vsftpd 3.0.3, `ProFTPD` 1.3.8, `pam_unix` 1.5.2 and `pam_pwdfile` 1.0, as Debian
/// has them.
pub fn parse(server: &str, line: &str) -> Option<Login> {
    let login = |user: &str, client: Option<&str>, outcome| {
        let client = client.filter(|client| !client.is_empty()).map(str::to_owned);
        Some(Login { user: user.to_owned(), client, outcome })
    };
    match server {
        "pure-ftpd" => {
            let (client, said) = line.strip_prefix("(?@")?.split_once(") ")?;
            let failed =
                said.strip_prefix("[WARNING] Authentication failed for user [").and_then(|of| of.strip_suffix(']'));
            if let Some(user) = failed {
                return login(user, Some(client), Outcome::Failed);
            }
            login(said.strip_prefix("[INFO] ")?.strip_suffix(" is now logged in")?, Some(client), Outcome::In)
        }
        "vsftpd" if line.starts_with("pam_") => {
            if let Some((_, user)) = line.split_once(": wrong password for user ") {
                return login(user, None, Outcome::FailedByPam);
            }
            let (_, fields) = line.split_once(": authentication failure; ")?;
            let (_, fields) = fields.split_once(" ruser=")?;
            let (user, fields) = fields.split_once(" rhost=")?;
            login(user, fields.split_whitespace().next(), Outcome::FailedByPam)
        }
        "vsftpd" => {
            let line = line.strip_prefix('[')?;
            for (words, outcome) in [("] FAIL LOGIN: Client ", Outcome::Failed), ("] OK LOGIN: Client ", Outcome::In)] {
                if let Some((user, client)) = line.split_once(words) {
                    return login(user, client.trim_matches(['"', ' ']).split('"').next(), outcome);
                }
            }
            None
        }
        "proftpd" => {
            let (peer, said) = line.split_once(") - USER ").or_else(|| line.split_once("): USER "))?;
            let client = peer.rsplit_once('[').map(|(_, address)| address.trim_end_matches(']'));
            for (words, outcome) in [
                (" (Login failed): ", Outcome::Failed),
                (": no such user found from ", Outcome::Failed),
                (": Login successful", Outcome::In),
            ] {
                if let Some((user, _)) = said.split_once(words) {
                    return login(user, client, outcome);
                }
            }
            None
        }
        _ => None,
    }
}

/// The logins of the last while.
#[derive(Debug, Default)]
pub struct Logins(BTreeMap<String, User>);

/// What is remembered of a user whose logins fail.
#[derive(Debug)]
struct User {
    client: Option<String>,
    /// The last failures, at most [`ENOUGH`]: by the server's own lines, and by those of PAM.
    failures: [VecDeque<Instant>; 2],
    last: Instant,
    raised_at: Option<DateTime<Utc>>,
}

impl Logins {
    /// Takes note of a login.
    pub fn see(&mut self, login: Login, now: Now) {
        let source = match login.outcome {
            Outcome::In => {
                self.0.remove(&login.user);
                return;
            }
            Outcome::Failed => 0,
            Outcome::FailedByPam => 1,
        };
        if self.0.len() >= MOST_USERS && !self.0.contains_key(&login.user) {
            self.forget_one();
        }
        let user = self.0.entry(login.user).or_insert_with(|| User {
            client: None,
            failures: [VecDeque::new(), VecDeque::new()],
            last: now.steady,
            raised_at: None,
        });
        user.client = login.client.or(user.client.take());
        user.last = now.steady;
        let failures = &mut user.failures[source];
        failures.push_back(now.steady);
        let excess = failures.len().saturating_sub(ENOUGH);
        failures.drain(..excess);
        let is_enough = failures.len() == ENOUGH && now.steady - failures[0] <= WINDOW;
        if is_enough {
            user.raised_at.get_or_insert(now.wall.into());
        }
    }

    /// Makes room for another user: what is told stays rather than what is not, and what is newer rather than what is older.
    fn forget_one(&mut self) {
        let least = self.0.iter().min_by_key(|(_, user)| (user.raised_at.is_some(), user.last));
        if let Some(name) = least.map(|(name, _)| name.clone()) {
            self.0.remove(&name);
        }
    }

    /// Returns what is wrong now, and forgets what is over.
    pub fn condition(&mut self, now: Now) -> Option<Condition> {
        self.0.retain(|_, user| now.steady.saturating_duration_since(user.last) < OVER);
        let failing: Vec<(&String, &User)> = self.0.iter().filter(|(_, user)| user.raised_at.is_some()).collect();
        let since = failing.iter().filter_map(|(_, user)| user.raised_at).min()?;
        let mut named: Vec<String> = failing
            .iter()
            .take(MOST_NAMED)
            .map(|(name, user)| match &user.client {
                Some(client) => format!("user {} from {}", shown(name), shown(client)),
                None => format!("user {}", shown(name)),
            })
            .collect();
        if failing.len() > MOST_NAMED {
            named.push(format!("{} more", failing.len() - MOST_NAMED));
        }
        let sentence = format!("logins at the FTP server fail: {}", named.join(", "));
        let advice = "give the camera the user and the password that the FTP server knows (\"Logins that fail\" in \
                      /usr/share/doc/hk-aws/ftp.md); if that is no camera of yours, somebody tries passwords: let nobody but \
                      cameras reach the server";
        Some(Condition::new(ConditionKind::FtpLogins, since, sentence, advice))
    }
}

/// Returns a name for people.
fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(MOST_SHOWN).collect();
    if text.len() < name.len() {
        text.push_str("...");
    }
    printable(&text).into_owned()
}

/// A line of `journalctl --output=json`.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    server: Option<String>,
    #[serde(rename = "MESSAGE")]
    message: Option<Text>,
}

/// A text, or the bytes of one that is not all UTF-8 (systemd, "Journal JSON Format").
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Bytes(Vec<u8>),
}

/// Returns what a line of `journalctl` says about a login.
fn read_line(line: &[u8]) -> Option<Login> {
    let Line { server, message } = serde_json::from_slice(line).ok()?;
    let message = match message? {
        Text::Text(text) => text,
        Text::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
    };
    parse(&server?, message.trim_end())
}

/// Tells on the board when logins fail, until `stop`.
pub async fn watch(board: Board, clock: fn() -> Now, stop: CancellationToken) {
    let mut logins = Logins::default();
    let (mut failures, mut said) = (0, false);
    loop {
        // What was told may be over, also while nothing can be read.
        tell(&mut logins, &board, clock());
        let began = clock().steady;
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = follow(&mut logins, &board, clock) => ended,
        };
        let why = ended.unwrap_or_else(|error| error.to_string());
        let was_short = clock().steady.saturating_duration_since(began) < LOOK;
        failures = if was_short { failures + 1 } else { 1 };
        // One that was ended, such as by an update of systemd, only begins again.
        if was_short && !std::mem::replace(&mut said, true) {
            tracing::info!(
                "logins that fail at the FTP server are not noticed: the journal cannot be read: {why}; \
                 \"Logins that fail\" in /usr/share/doc/hk-aws/ftp.md says how to allow it"
            );
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff(failures, FIRST_WAIT, LONGEST_WAIT, 0.0)) => {}
        }
    }
}

/// Follows the journal from now on until `journalctl` ends; returns why it has ended.
async fn follow(logins: &mut Logins, board: &Board, clock: fn() -> Now) -> io::Result<String> {
    let mut command = Command::new("journalctl");
    command.args(["--follow", "--lines=0", "--output=json", "--output-fields=MESSAGE,SYSLOG_IDENTIFIER"]);
    command.args(SERVERS.map(|server| format!("--identifier={server}")));
    // Without `--merge` it follows this boot alone, by the boot's id in /proc. Where the unit has a /proc of its own inside a
    // container, that is the host's id, which no line has. With it, lines that were sent from other machines would come too.
    command.arg("--merge");
    let machine = tokio::fs::read_to_string("/etc/machine-id").await.unwrap_or_default();
    // machine-id(5): 32 digits, or a word of what is not there yet.
    if machine.trim().len() == 32 {
        command.arg(format!("_MACHINE_ID={}", machine.trim()));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut stdout = BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
    let complaints = read_complaints(stderr);
    tokio::pin!(complaints);
    let (mut complaint, mut line) = (None, Vec::new());
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            said = &mut complaints, if complaint.is_none() => complaint = Some(said),
            _ = look.tick() => tell(logins, board, clock()),
            // Whatever comes between: what was read so far is in `line`.
            more = read_on(&mut stdout, &mut line) => {
                if !more? {
                    break;
                }
                if let Some(login) = read_line(&line) {
                    logins.see(login, clock());
                    tell(logins, board, clock());
                }
                line.clear();
            }
        }
    }
    let status = child.wait().await?;
    let said = match complaint {
        Some(said) => said,
        None => complaints.await,
    };
    Ok(if said.is_empty() { format!("journalctl ends with {status}") } else { said })
}

fn tell(logins: &mut Logins, board: &Board, now: Now) {
    match logins.condition(now) {
        Some(condition) => board.raise(condition),
        None => drop(board.clear(ConditionKind::FtpLogins, None)),
    }
}

/// Reads on until the line is whole; returns `false` at the end. Of a line that is too long, only its end is kept, which is
/// no JSON.
async fn read_on(stdout: &mut BufReader<ChildStdout>, line: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let room = LONGEST_LINE_BYTES.saturating_sub(line.len() as u64);
        let read = (&mut *stdout).take(room.max(1)).read_until(b'\n', line).await?;
        if read == 0 || line.ends_with(b"\n") {
            return Ok(read > 0);
        }
        if line.len() as u64 >= LONGEST_LINE_BYTES {
            line.clear();
        }
    }
}

/// Returns the last line that `journalctl` complains with, and reads away the rest.
async fn read_complaints(mut stderr: tokio::process::ChildStderr) -> String {
    let mut last = Vec::new();
    let mut bytes = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut bytes).await {
        last.extend_from_slice(&bytes[..read]);
        let excess = last.len().saturating_sub(1024);
        last.drain(..excess);
    }
    let text = String::from_utf8_lossy(&last);
    shown_line(text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default())
}

fn shown_line(line: &str) -> String {
    printable(&line.trim().chars().take(200).collect::<String>()).into_owned()
}
