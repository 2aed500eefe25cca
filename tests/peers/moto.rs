//! moto: AWS S3 as its own SDK's users mock it, an implementation that shares no code with the other server here.

use std::ops::Range;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;

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
            // Its users' policies are in force from when this many requests are used up: [`Self::enforce`] ends it.
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", "1000000");
        });
        let endpoint = format!("http://127.0.0.1:{}", ports.start);
        server.wait_until_up(|| ready(&endpoint));
        Self { server, ports, _folder: folder }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.start)
    }

    /// Makes a user with a policy of these actions on everything; gives back its keys. Before [`Self::enforce`] only.
    pub(crate) async fn make_user(&self, name: &str, actions: &[&str]) -> (String, String) {
        let allow = json!({"Effect": "Allow", "Action": actions, "Resource": "*"});
        let policy = json!({"Version": "2012-10-17", "Statement": [allow]}).to_string();
        let policy = percent_encoding::utf8_percent_encode(&policy, percent_encoding::NON_ALPHANUMERIC);
        self.ask_iam(&format!("Action=CreateUser&UserName={name}")).await;
        self.ask_iam(&format!("Action=PutUserPolicy&UserName={name}&PolicyName=only&PolicyDocument={policy}")).await;
        let answer = self.ask_iam(&format!("Action=CreateAccessKey&UserName={name}")).await;
        let between = |tag: &str| {
            let after = answer.split(&format!("<{tag}>")).nth(1).unwrap_or_else(|| panic!("no {tag} in {answer}"));
            after.split('<').next().unwrap().to_owned()
        };
        (between("AccessKeyId"), between("SecretAccessKey"))
    }

    /// From now on every request needs the keys of a user whose policy allows it.
    pub(crate) async fn enforce(&self) {
        let answer = self.post("/moto-api/reset-auth", "text/plain", "0").await;
        assert!(answer.contains("ok"), "{answer}");
    }

    /// Ends it: every key may do everything again.
    pub(crate) async fn trust(&self) {
        let answer = self.post("/moto-api/reset-auth", "text/plain", "inf").await;
        assert!(answer.contains("ok"), "{answer}");
    }

    async fn ask_iam(&self, question: &str) -> String {
        self.post("/", "application/x-www-form-urlencoded", &format!("{question}&Version=2010-05-08")).await
    }

    async fn post(&self, path: &str, kind: &str, body: &str) -> String {
        let stream = TcpStream::connect(("127.0.0.1", self.ports.start)).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(async { connection.await.ok() });
        // The scope of the signature says which service is asked; nobody checks the rest before it is enforced.
        let scope =
            "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0";
        let request = Request::post(path)
            .header("host", format!("127.0.0.1:{}", self.ports.start))
            .header("content-type", kind)
            .header("authorization", scope)
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status();
        let text = String::from_utf8(answer.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(status.is_success(), "{path}: {status}: {text}");
        text
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }
}
