//! What is said where a store differs from AWS: which setting to change, and whom this box should trust.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use rustls::{ServerConnection, StreamOwned};

use super::Site;
use crate::support::s3::Fault;
use crate::support::tls;

const PICTURE: &str = "CAM/192.168.1.64_01_20220224050607000_TIMING.jpg";
const CLIP: &str = "CAM/192.168.1.64_01_20220224050607000_1.mp4";

const XML: &[(&str, &str)] = &[("content-type", "application/xml")];

/// An answer that names what it refuses in an element of its own.
fn not_implemented(element: &str) -> &'static str {
    format!(
        "<Error><Code>NotImplemented</Code><Message>A header you provided implies functionality that is not \
         implemented</Message>{element}</Error>"
    )
    .leak()
}

#[tokio::test]
async fn a_refusal_of_what_a_setting_asks_for_names_the_setting() {
    let quoted = "A header you provided implies functionality that is not implemented: \"x-amz-tagging\"";
    for (settings, fault, named, others) in [
        (
            ", tags: true",
            Fault::fail("PutObject", 501, "NotImplemented").message(quoted),
            &["s3.tags: false"][..],
            &["s3.checksum"][..],
        ),
        (
            ", tags: true",
            Fault::fail("PutObject", 400, "InvalidTag").message("The tag you provided is not valid"),
            &["s3.tags: false"],
            &["s3.checksum"],
        ),
        (
            "",
            Fault::fail("PutObject", 400, "InvalidRequest").message("x-amz-checksum-sha256 is not supported"),
            &["s3.checksum: when_required"],
            &["s3.tags"],
        ),
        // The trial of the store meets it first.
        (
            "",
            Fault::fail("PutObject", 501, "NotImplemented").message("checksum").on_key(|_| true),
            &["s3.checksum: when_required"],
            &["s3.tags"],
        ),
        (
            ", object_lock: {days: 1}",
            Fault::fail("PutObject", 400, "InvalidRequest").message("Bucket is missing Object Lock Configuration"),
            &["s3.object_lock: null"],
            &["s3.checksum"],
        ),
        (
            ", sse: AES256, tags: true",
            Fault::fail("PutObject", 501, "NotImplemented").message("no such function"),
            &["s3.checksum: when_required or s3.tags: false or s3.sse: null"],
            &["s3.object_lock"],
        ),
        (
            ", tags: true, object_lock: {days: 1}",
            Fault::fail("PutObject", 403, "AccessDenied").message("Access Denied"),
            &["s3:PutObjectTagging as well, or set s3.tags: false", "s3:PutObjectRetention"],
            &["s3.checksum"],
        ),
        // As AWS names it, and as Cloudflare does.
        (
            ", tags: true",
            Fault::answer("PutObject", 501, XML, not_implemented("<Header>x-amz-tagging</Header>")),
            &["s3.tags: false", "(x-amz-tagging)"],
            &["s3.checksum"],
        ),
        (
            ", storage_class: ONEZONE_IA, tags: true",
            Fault::answer("PutObject", 400, XML, not_implemented("<ArgumentName>x-amz-storage-class</ArgumentName>")),
            &["s3.storage_class: STANDARD"],
            &["s3.checksum", "s3.tags"],
        ),
        (
            ", sse: AES256",
            Fault::fail("PutObject", 501, "NotImplemented")
                .message("Header 'x-amz-server-side-encryption' with value 'AES256' not implemented"),
            &["s3.sse: null"],
            &["s3.checksum"],
        ),
        (
            ", object_lock: {days: 1}",
            Fault::answer("PutObject", 501, XML, not_implemented("<Header>x-amz-object-lock-mode</Header>")),
            &["s3.object_lock: null"],
            &["s3.tags"],
        ),
        // What only sounds like a setting.
        (
            ", sse: AES256, tags: true",
            Fault::fail("PutObject", 400, "InvalidRequest").message("the ETag could not be processed"),
            &["s3.checksum: when_required or s3.tags: false or s3.sse: null"],
            &["s3.object_lock"],
        ),
        (
            ", tags: true",
            Fault::fail("CreateMultipartUpload", 501, "NotImplemented").message("tagging"),
            &["s3.tags: false"],
            &["s3.checksum"],
        ),
    ] {
        let site = Site::start_with(settings, "").await;
        site.drop_file(PICTURE, b"picture");
        if fault.operation == "CreateMultipartUpload" {
            site.drop_file(CLIP, &vec![7; 17 << 20]);
        }
        site.s3.fault(fault);
        let said = site.run(&["upload"]).await;
        assert!(said.code != 0 && !said.err.contains('\\'), "{settings}: {said:?}");
        for part in named {
            assert!(said.err.contains(part), "{part}: {said:?}");
        }
        for part in others {
            assert!(!said.err.contains(part), "{part}: {said:?}");
        }
    }
}

/// Serves one listing after the other over TLS, with a certificate of an authority of its own; returns the URL.
fn serve_listings() -> String {
    let (config, listener) = (tls::localhost(), TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                request.extend(byte);
            }
            let body = "<ListBucketResult><IsTruncated>false</IsTruncated><CommonPrefixes><Prefix>CAM/</Prefix>\
                        </CommonPrefixes></ListBucketResult>";
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            // A client that does not trust the certificate is gone.
            let _gone = stream.write_all((head + body).as_bytes()).and_then(|()| stream.flush());
        }
    });
    url
}

#[tokio::test]
async fn a_certificate_for_another_name_is_said_with_what_to_set() {
    let url = serve_listings().replace("localhost", "0.0.0.0");
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/tls/authority.pem");
    let site = Site::start_with(&format!(", ca_bundle: {authority}"), "").await;
    let config = std::fs::read_to_string(site.path("config.yaml")).unwrap();
    std::fs::write(site.path("config.yaml"), config.replace(&site.s3.endpoint(), &url)).unwrap();
    let said = site.run(&["cameras"]).await;
    assert!(said.code != 0 && said.err.contains("set s3.endpoint_url to one of them"), "{said:?}");
}

#[tokio::test]
async fn a_certificate_authority_of_ones_own_is_trusted_once_it_is_named() {
    let url = serve_listings();
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/tls/authority.pem");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let empty = empty.path().to_str().unwrap();
    for (setting, variable, expected) in [
        (Some(authority), None, Ok("CAM\n")),
        (None, Some(authority), Ok("CAM\n")),
        // The setting counts before the variable.
        (Some(authority), Some("/nowhere.pem"), Ok("CAM\n")),
        (None, None, Err("s3.ca_bundle")),
        (Some("/nowhere.pem"), None, Err("/nowhere.pem")),
        (Some(empty), None, Err("no certificate in PEM")),
    ] {
        let site = Site::start_with(&setting.map_or_else(String::new, |path| format!(", ca_bundle: {path}")), "").await;
        let config = std::fs::read_to_string(site.path("config.yaml")).unwrap();
        std::fs::write(site.path("config.yaml"), config.replace(&site.s3.endpoint(), &url)).unwrap();
        let mut command = site.command(&["cameras"]);
        command.envs(variable.map(|path| ("AWS_CA_BUNDLE", path)));
        let said = super::run(&mut command).await;
        match expected {
            Ok(out) => assert_eq!((said.code, said.out.as_str()), (0, out), "{said:?}"),
            Err(part) => {
                assert!(said.code != 0 && said.err.contains(part), "{part}: {said:?}");
                assert!(said.err.contains("UnknownIssuer") && said.err.contains("does not trust"), "{said:?}");
            }
        }
    }
}
