//! moto: AWS S3 as its own SDK's users mock it, an implementation that shares no code with the other server here.

use std::ops::Range;

use tempfile::TempDir;

use crate::server::{Server, free_ports, installed};

#[derive(Debug)]
pub(crate) struct Moto {
    server: Server,
    ports: Range<u16>,
    // Held for its end: the log lies there.
    _folder: TempDir,
}

impl Moto {
    /// Starts the server; `ready` says when it stores.
    pub(crate) fn start(mut ready: impl FnMut(&str) -> bool) -> Self {
        let moto_server = installed("moto_server", "pip install 'moto[server]'");
        let folder = TempDir::with_prefix("hk-aws-moto-").unwrap();
        let ports = free_ports(1);
        let mut server = Server::start(&moto_server, folder.path().join("log"), |command| {
            command.args(["-H", "127.0.0.1", "-p", &ports.start.to_string()]).current_dir(folder.path());
        });
        let endpoint = format!("http://127.0.0.1:{}", ports.start);
        server.wait_until_up(|| ready(&endpoint));
        Self { server, ports, _folder: folder }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.start)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }
}
