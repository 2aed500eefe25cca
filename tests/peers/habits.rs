//! What cameras say to an FTP server, one transcript for each habit, against both servers as the documents set them up.
//!
//! Each habit is reported of cameras that are sold; a server that answers in another way than here makes such a camera
//! drop its pictures, or log in again for ever.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use crate::camera::{Picture, sha256};
use crate::ftp_server::{FtpServer, Kind, PASSWORD, USER};

/// Runs each habit through each server of the documents.
macro_rules! through {
    ($($habit:ident),* $(,)?) => {
        mod pure_ftpd { $(#[test] fn $habit() { super::$habit(super::Kind::PureFtpdAsDocumented); })* }
        mod vsftpd { $(#[test] fn $habit() { super::$habit(super::Kind::VsftpdAsDocumented); })* }
    };
}

through![
    habit_1_a_dahua_asks_for_room,
    habit_2_a_dahua_looks_around_and_asks_for_a_size_in_lower_case,
    habit_3_a_reolink_begins_a_path_with_two_slashes,
    habits_4_and_5_a_hi35xx_makes_each_folder_by_xmkd,
    habit_6_a_yi_takes_only_epsv,
    habits_7_to_9_a_camera_in_active_mode,
    habits_10_and_11_a_yi_stores_where_no_folder_is,
    habit_12_a_yi_sends_all_commands_in_one_packet,
    habit_13_an_esp32_takes_only_150,
    habit_14_an_esp32_changes_to_no_folder,
    habit_15_a_vivotek_is_anonymous,
    habit_17_a_camera_ends_in_mid_file_without_a_word,
];

/// A control connection, line by line.
struct Talk {
    server: FtpServer,
    lines: BufReader<TcpStream>,
}

impl Talk {
    /// Connects, and reads the greeting.
    fn begin(kind: Kind) -> Self {
        let server = FtpServer::start(kind);
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut talk = Self { server, lines: BufReader::new(stream) };
        assert_eq!(talk.answer().0, 220);
        talk
    }

    fn logged_in(kind: Kind) -> Self {
        let mut talk = Self::begin(kind);
        talk.expect(&format!("USER {USER}"), 331);
        talk.expect(&format!("PASS {PASSWORD}"), 230);
        talk.expect("TYPE I", 200);
        talk
    }

    fn send(&mut self, text: &str) {
        self.lines.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next answer: its code and its last line.
    fn answer(&mut self) -> (u16, String) {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the server hung up");
            let code = line.get(..3).and_then(|code| code.parse().ok());
            if let (Some(code), Some(" ")) = (code, line.get(3..4)) {
                return (code, line);
            }
        }
    }

    fn say(&mut self, command: &str) -> (u16, String) {
        self.send(&format!("{command}\r\n"));
        self.answer()
    }

    fn expect(&mut self, command: &str, code: u16) -> String {
        let (answered, line) = self.say(command);
        assert_eq!(answered, code, "{command}: {line}");
        line
    }

    /// A data connection by `PASV` or `EPSV`.
    fn passive(&mut self, command: &str) -> TcpStream {
        let line = self.expect(command, if command.eq_ignore_ascii_case("EPSV") { 229 } else { 227 });
        TcpStream::connect(("127.0.0.1", passive_port(&line))).unwrap()
    }

    /// Stores over the connection, and reads that it is there.
    fn store(&mut self, path: &str, mut data: TcpStream, bytes: &[u8]) {
        self.expect(&format!("STOR {path}"), 150);
        data.write_all(bytes).unwrap();
        drop(data);
        assert_eq!(self.answer().0, 226);
    }

    /// Stores a picture under `path` in passive mode, and finds it on the disk below the login's folder.
    fn store_picture(&mut self, path: &str, on_disk: &str) {
        let picture = Picture::take_small("front-door", 1);
        let data = self.passive("PASV");
        self.store(path, data, &picture.bytes);
        self.assert_stored(on_disk, &picture);
    }

    fn assert_stored(&self, on_disk: &str, picture: &Picture) {
        let bytes = std::fs::read(self.server.root().join(on_disk)).unwrap();
        assert_eq!(sha256(&bytes), sha256(&picture.bytes));
    }
}

/// The port in an answer to `PASV` (RFC 959) or `EPSV` (RFC 2428).
fn passive_port(line: &str) -> u16 {
    let inside = line.split_once('(').unwrap().1.split_once(')').unwrap().0;
    if let Some(port) = inside.strip_prefix("|||") {
        return port.trim_end_matches('|').parse().unwrap();
    }
    let numbers: Vec<u16> = inside.split(',').map(|number| number.parse().unwrap()).collect();
    numbers[4] * 256 + numbers[5]
}

/// On 202 it logs in again, for ever: vsftpd is not for these cameras.
fn habit_1_a_dahua_asks_for_room(kind: Kind) {
    let mut talk = Talk::logged_in(kind);
    talk.expect("ALLO 40000", if kind == Kind::PureFtpdAsDocumented { 200 } else { 202 });
    talk.store_picture("1.jpg", "1.jpg");
}

fn habit_2_a_dahua_looks_around_and_asks_for_a_size_in_lower_case(kind: Kind) {
    let mut talk = Talk::logged_in(kind);
    talk.expect("MKD /X", 257);
    for (command, code) in [("CWD /", 250), ("PWD", 257), ("CWD /X", 250), ("TYPE I", 200), ("PWD", 257)] {
        talk.expect(command, code);
    }
    talk.expect("CWD /", 250);
    talk.expect("CWD /", 250);
    talk.expect("size /X/DVRWorkDirectory", 550);
    talk.store_picture("/X/DVRWorkDirectory", "X/DVRWorkDirectory");
}

fn habit_3_a_reolink_begins_a_path_with_two_slashes(kind: Kind) {
    let mut talk = Talk::logged_in(kind);
    talk.expect("CWD //camera_test", 550);
    talk.expect("MKD //camera_test", 257);
    talk.expect("CWD //camera_test", 250);
    talk.store_picture("//camera_test/1.txt", "camera_test/1.txt");
    talk.expect("CWD //", 250);
    talk.store_picture("1.jpg", "1.jpg");
}

fn habits_4_and_5_a_hi35xx_makes_each_folder_by_xmkd(kind: Kind) {
    let mut talk = Talk::logged_in(kind);
    talk.expect("CWD /20171007/images/", 550);
    talk.expect("XMKD /20171007", 257);
    talk.expect("XMKD /20171007/images", 257);
    talk.expect("CWD /20171007/images/", 250);
    talk.store_picture("1.jpg", "20171007/images/1.jpg");
}

fn habit_6_a_yi_takes_only_epsv(kind: Kind) {
    let mut talk = Talk::logged_in(kind);
    let picture = Picture::take_small("front-door", 2);
    let data = talk.passive("EPSV");
    talk.store("1.jpg", data, &picture.bytes);
    talk.assert_stored("1.jpg", &picture);
}

fn habits_7_to_9_a_camera_in_active_mode(kind: Kind) {
    let mut talk = Talk::logged_in(kind);
    let picture = Picture::take_small("front-door", 3);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    talk.expect(&format!("PORT 127,0,0,1,{},{}", port / 256, port % 256), 200);
    talk.send("STOR 1.jpg\r\n");
    // Only now the server connects; some do so before they answer.
    let (mut data, _) = listener.accept().unwrap();
    assert_eq!(talk.answer().0, 150);
    data.write_all(&picture.bytes).unwrap();
    drop(data);
    assert_eq!(talk.answer().0, 226);
    talk.assert_stored("1.jpg", &picture);
}

/// It is refused, and the session goes on: the folder of the login is always there.
fn habits_10_and_11_a_yi_stores_where_no_folder_is(kind: Kind) {
    let mut talk = Talk::logged_in(kind);
    let data = talk.passive("PASV");
    let (code, line) = talk.say("STOR a/b/c.mp4");
    assert!(matches!(code, 550 | 553), "{line}");
    drop(data);
    talk.expect("MKD a/b", 550);
    talk.expect("MKD a", 257);
    talk.expect("MKD a/b", 257);
    talk.store_picture("a/b/c.mp4", "a/b/c.mp4");
}

fn habit_12_a_yi_sends_all_commands_in_one_packet(kind: Kind) {
    let mut talk = Talk::begin(kind);
    let picture = Picture::take_small("front-door", 4);
    talk.send(&format!(
        "user {USER}\r\npass {PASSWORD}\r\ntype i\r\nmkd record\r\ncwd record\r\nepsv\r\nstor 1.jpg\r\n"
    ));
    for code in [331, 230, 200, 257, 250] {
        let (answered, line) = talk.answer();
        assert_eq!(answered, code, "{line}");
    }
    let (code, line) = talk.answer();
    assert_eq!(code, 229, "{line}");
    let mut data = TcpStream::connect(("127.0.0.1", passive_port(&line))).unwrap();
    assert_eq!(talk.answer().0, 150);
    data.write_all(&picture.bytes).unwrap();
    drop(data);
    assert_eq!(talk.answer().0, 226);
    talk.assert_stored("record/1.jpg", &picture);
}

/// Also where the connection for the data is there before the command.
fn habit_13_an_esp32_takes_only_150(kind: Kind) {
    let mut talk = Talk::logged_in(kind);
    let picture = Picture::take_small("front-door", 5);
    for path in ["1.jpg", "2.jpg"] {
        let data = talk.passive("PASV");
        talk.store(path, data, &picture.bytes);
        talk.assert_stored(path, &picture);
    }
}

/// On 500 it gives up.
fn habit_14_an_esp32_changes_to_no_folder(kind: Kind) {
    let mut talk = Talk::logged_in(kind);
    talk.expect("CWD ", if kind == Kind::PureFtpdAsDocumented { 250 } else { 550 });
    talk.store_picture("1.jpg", "1.jpg");
}

/// It needs a login of its own in its settings.
fn habit_15_a_vivotek_is_anonymous(kind: Kind) {
    let mut talk = Talk::begin(kind);
    if talk.say("USER anonymous").0 == 331 {
        assert_eq!(talk.say("PASS camera@").0, 530);
    }
}

/// The server takes it for whole; the daemon looks at the content.
fn habit_17_a_camera_ends_in_mid_file_without_a_word(kind: Kind) {
    let mut talk = Talk::logged_in(kind);
    let picture = Picture::take_small("front-door", 6);
    let mut data = talk.passive("PASV");
    talk.expect("STOR 1.jpg", 150);
    data.write_all(&picture.bytes[..2000]).unwrap();
    data.shutdown(Shutdown::Both).unwrap();
    assert_eq!(talk.answer().0, 226);
    talk.lines.get_mut().shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    talk.lines.read_to_end(&mut rest).ok();
    assert_eq!(std::fs::read(talk.server.root().join("1.jpg")).unwrap(), picture.bytes[..2000]);
}
