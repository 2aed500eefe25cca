//! What the servers write, and what follows from it.
#![expect(clippy::disallowed_methods, reason = "any moment will do")]

use super::*;

fn login(user: &str, client: Option<&str>, outcome: Outcome) -> Login {
    Login { user: user.to_owned(), client: client.map(str::to_owned), outcome }
}

#[test]
fn the_lines_of_each_server_are_understood() {
    let (failed, by_pam, entered) = (Outcome::Failed, Outcome::FailedByPam, Outcome::In);
    for (server, line, user, client, outcome) in [
        ("pure-ftpd", "(?@10.0.0.9) [WARNING] Authentication failed for user [cam1]", "cam1", Some("10.0.0.9"), failed),
        ("pure-ftpd", "(?@localhost) [INFO] cam1 is now logged in", "cam1", Some("localhost"), entered),
        ("pure-ftpd", "(?@10.0.0.9) [WARNING] Authentication failed for user [a] b]", "a] b", Some("10.0.0.9"), failed),
        ("vsftpd", "[cam1] FAIL LOGIN: Client \"10.0.0.9\"", "cam1", Some("10.0.0.9"), failed),
        ("vsftpd", "[cam1] OK LOGIN: Client \"::ffff:10.0.0.9\"", "cam1", Some("::ffff:10.0.0.9"), entered),
        (
            "vsftpd",
            "pam_unix(vsftpd:auth): authentication failure; logname= uid=0 euid=0 tty=ftp ruser=cam1 rhost=10.0.0.9  user=cam1",
            "cam1",
            Some("10.0.0.9"),
            by_pam,
        ),
        (
            "vsftpd",
            "pam_unix(vsftpd:auth): authentication failure; logname= uid=0 euid=0 tty=ftp ruser=nosuch rhost=10.0.0.9",
            "nosuch",
            Some("10.0.0.9"),
            by_pam,
        ),
        ("vsftpd", "pam_pwdfile(vsftpd-cameras:auth): wrong password for user cam1", "cam1", None, by_pam),
        (
            "proftpd",
            "127.0.0.1 (cam.lan[10.0.0.9]) - USER cam1 (Login failed): Incorrect password",
            "cam1",
            Some("10.0.0.9"),
            failed,
        ),
        (
            "proftpd",
            "127.0.0.1 (10.0.0.9[10.0.0.9]) - USER nosuch: no such user found from 10.0.0.9 [10.0.0.9] to 127.0.0.1:21",
            "nosuch",
            Some("10.0.0.9"),
            failed,
        ),
        ("proftpd", "127.0.0.1 (10.0.0.9[10.0.0.9]): USER cam1: Login successful.", "cam1", Some("10.0.0.9"), entered),
    ] {
        assert_eq!(parse(server, line), Some(login(user, client, outcome)), "{line}");
    }
}

#[test]
fn other_lines_are_about_no_login() {
    for (server, line) in [
        ("pure-ftpd", "(?@10.0.0.9) [INFO] New connection from 10.0.0.9"),
        ("pure-ftpd", "(cam1@10.0.0.9) [NOTICE] /home/cam1//a.jpg uploaded  (10 bytes, 9.77KB/sec)"),
        // The server itself writes a failure for each of PAM's.
        (
            "pure-ftpd",
            "pam_unix(pure-ftpd:auth): authentication failure; logname= uid=0 euid=0 tty=pure-ftpd ruser=cam1 rhost=vm",
        ),
        ("vsftpd", "PAM _pam_init_handlers: no default config other"),
        ("vsftpd", "pam_unix(vsftpd:auth): check pass; user unknown"),
        ("vsftpd", "[cam1] OK UPLOAD: Client \"10.0.0.9\", \"/a.jpg\", 10 bytes, 9.77Kbyte/sec"),
        ("proftpd", "127.0.0.1 - ProFTPD 1.3.8 (stable) (built Fri May 1 2026 20:02:15 UTC) standalone mode STARTUP"),
        ("sshd", "(?@10.0.0.9) [WARNING] Authentication failed for user [cam1]"),
        ("pure-ftpd", ""),
        ("proftpd", ") - USER "),
        ("vsftpd", "["),
    ] {
        assert_eq!(parse(server, line), None, "{line}");
    }
}

#[test]
fn a_line_of_the_journal_is_read_whatever_bytes_are_in_it() {
    let failed = login("cam1", Some("10.0.0.9"), Outcome::Failed);
    let line = br#"{"SYSLOG_IDENTIFIER":"vsftpd","__CURSOR":"s=1","MESSAGE":"[cam1] FAIL LOGIN: Client \"10.0.0.9\""}"#;
    assert_eq!(read_line(line), Some(failed));
    let message = serde_json::json!({"SYSLOG_IDENTIFIER": "vsftpd", "MESSAGE": b"[c\xFF] FAIL LOGIN: Client \"10.0.0.9\"".to_vec()});
    assert_eq!(read_line(message.to_string().as_bytes()).unwrap().user, "c\u{FFFD}");
    for line in [
        "",
        "{}",
        "[]",
        "null",
        "-- No entries --",
        r#"{"SYSLOG_IDENTIFIER":"vsftpd","MESSAGE":null}"#,
        r#"{"MESSAGE":"x"}"#,
    ] {
        assert_eq!(read_line(line.as_bytes()), None, "{line}");
    }
}

/// Logins with their time.
struct Story {
    logins: Logins,
    begin: Now,
    seconds: u64,
}

impl Story {
    fn new() -> Self {
        let begin = Now { steady: Instant::now(), wall: std::time::SystemTime::UNIX_EPOCH };
        Self { logins: Logins::default(), begin, seconds: 0 }
    }

    fn now(&self) -> Now {
        let passed = Duration::from_secs(self.seconds);
        Now { steady: self.begin.steady + passed, wall: self.begin.wall + passed }
    }

    fn fails(&mut self, user: &str, outcome: Outcome) {
        self.logins.see(login(user, Some("10.0.0.9"), outcome), self.now());
    }

    fn said(&mut self) -> Option<String> {
        let now = self.now();
        self.logins.condition(now).map(|condition| condition.sentence)
    }
}

#[test]
fn three_failures_within_ten_minutes_are_told_until_the_user_is_in_or_has_given_up() {
    let mut story = Story::new();
    let told = Some("logins at the FTP server fail: user cam1 from 10.0.0.9".to_owned());
    for (at, said) in [(0, None), (301, None), (602, None), (603, told.clone()), (1203, told.clone())] {
        story.seconds = at;
        story.fails("cam1", Outcome::Failed);
        assert_eq!(story.said(), said, "{at}");
    }
    story.seconds = 1203 + 30 * 60 - 1;
    assert_eq!(story.said(), told);
    story.seconds += 1;
    assert_eq!(story.said(), None);
    for _ in 0..3 {
        story.fails("cam1", Outcome::Failed);
    }
    assert_eq!(story.said(), told);
    story.fails("cam1", Outcome::In);
    assert_eq!(story.said(), None);
    story.fails("cam1", Outcome::Failed);
    assert_eq!(story.said(), None, "it counts anew");
}

#[test]
fn a_failure_that_pam_and_the_server_tell_is_one() {
    let mut story = Story::new();
    for attempt in 1..=3 {
        assert_eq!(story.said(), None, "{attempt}");
        story.fails("cam1", Outcome::FailedByPam);
        story.fails("cam1", Outcome::Failed);
    }
    assert!(story.said().is_some());
}

#[test]
fn whoever_tries_many_names_makes_one_short_condition_and_hides_no_camera() {
    let mut story = Story::new();
    for _ in 0..3 {
        story.fails("aaa-cam", Outcome::Failed);
    }
    for number in 0..100_000 {
        story.seconds = number / 1000;
        story.fails(&format!("guess-{number}\n{}", "x".repeat(500)), Outcome::Failed);
    }
    assert_eq!(story.logins.0.len(), MOST_USERS);
    assert_eq!(story.said().unwrap(), "logins at the FTP server fail: user aaa-cam from 10.0.0.9");
    for number in 0..1000 {
        for _ in 0..3 {
            story.fails(&format!("z{number}\u{1b}[31m{}", "x".repeat(500)), Outcome::Failed);
        }
    }
    let said = story.said().unwrap();
    assert!(said.len() < 500 && !said.contains('\u{1b}') && said.ends_with("more"), "{said}");
}
