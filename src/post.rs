//! One request to a service of the owner's, such as a webhook or a ping.
//!
//! The address may be a secret as a whole: the path of a webhook is its key. So nothing here says more of it than its
//! host, and a secret that the service repeats in its answer is taken out. An answer is read up to a limit, the whole
//! exchange has a time limit, and no redirect is followed: that would give the secret to somebody else.
//!
//! What answers in place of the service, such as the login page of a hotel's network, answers with a page. A service
//! answers with JSON, a word or nothing.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::percent_decode_str;

use crate::config::SecretUrl;
use crate::key::printable;
use crate::trust::{Trust, tls};

/// The time limit of a request, answer included.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The most bytes of an answer that are read.
const MOST_ANSWER_BYTES: usize = 4096;

/// The most characters of an answer that a message shows.
const MOST_SHOWN: usize = 200;

/// The shortest piece of an address that is taken out of texts; shorter ones are words such as `api`.
const SECRET_BYTES: usize = 5;

/// Stands for a secret that was taken out.
const HIDDEN: &str = "***";

/// An address with its secrets, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    uri: Uri,
    authorization: Option<HeaderValue>,
    secrets: Vec<String>,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The method.
    pub method: Method,
    /// The media type of the body; `None`: there is no body.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: String,
}

/// The answer of a service that has taken a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status, 200 to 299.
    pub status: u16,
    /// The beginning of the answer on one line, without the secrets of the address.
    pub text: String,
}

/// Why a letter was not delivered. No text of it has a secret of the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// The service does not answer.
    #[error("{host} cannot be reached: {why}")]
    Unreachable {
        /// The host.
        host: String,
        /// The error.
        why: String,
    },
    /// The service does not answer in time.
    #[error("{host} does not answer within {} s", TIMEOUT.as_secs())]
    TimedOut {
        /// The host.
        host: String,
    },
    /// The service refuses.
    #[error("{host} answers {status}{}", said(text))]
    Refused {
        /// The host.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer.
        text: String,
    },
    /// Something else answers in its place.
    #[error("{host} answers with a web page, such as that of a login: it is not the service")]
    Page {
        /// The host.
        host: String,
    },
}

impl Undelivered {
    /// Returns whether the same letter may be taken later. A service that refuses the letter itself refuses it for ever;
    /// 408 and 429 say to come again.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { status, .. } => !(400..500).contains(status) || matches!(status, 408 | 429),
            _ => true,
        }
    }
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl Letter {
    /// Returns a letter with JSON to `POST`.
    pub fn json(value: &serde_json::Value) -> Self {
        Self { method: Method::POST, content_type: Some("application/json"), body: value.to_string() }
    }

    /// Returns a request without a body.
    pub fn get() -> Self {
        Self { method: Method::GET, content_type: None, body: String::new() }
    }
}

impl Address {
    /// Returns the address of a URL. A user without a name gives a token: `https://:TOKEN@host/`.
    ///
    /// # Errors
    /// Says what is wrong with it, without showing it.
    pub fn new(url: &SecretUrl) -> Result<Self, String> {
        let (scheme, rest) = url.url().split_once("://").ok_or("the address has no scheme")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let path = path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        let uri: Uri = format!("{scheme}://{host}{slash}{path}").parse().map_err(|_| "the address is no URL")?;
        let mut secrets = Vec::new();
        let authorization = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let [name, password] = [name, password].map(decode);
            let text = match name.as_str() {
                "" => format!("Bearer {password}"),
                name => format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}"))),
            };
            secrets.extend([user.to_owned(), password, text.clone()]);
            HeaderValue::from_str(&text).map_err(|_| "the user or the password of the address has control characters")
        });
        secrets.push(path.to_owned());
        let pieces = path.split(['/', '?', '&', '=', ':']);
        secrets.extend(pieces.flat_map(|piece| [piece.to_owned(), decode(piece)]));
        secrets.retain(|secret| secret.len() >= SECRET_BYTES);
        // The longest first, so that no rest of one stays.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Ok(Self { uri, authorization: authorization.transpose()?, secrets })
    }

    /// Returns the host, which is no secret.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    /// Returns the path with its query, which may be secrets.
    pub fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
    }

    /// Returns the values of the query, decoded.
    pub fn query(&self) -> Vec<(String, String)> {
        let query = self.uri.query().unwrap_or_default();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        };
        query.split('&').filter(|text| !text.is_empty()).map(pair).collect()
    }

    /// Returns the same host and user with another path and query, which is already encoded.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        let mut parts = self.uri.clone().into_parts();
        if let Ok(path) = path.parse() {
            parts.path_and_query = Some(path);
        }
        Self { uri: Uri::from_parts(parts).unwrap_or_else(|_| self.uri.clone()), ..self.clone() }
    }

    /// Returns a text without the secrets of this address, on one line and not too long.
    pub fn hide(&self, text: &str) -> String {
        let hidden = self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN));
        let line = hidden.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut shown: String = line.chars().take(MOST_SHOWN).collect();
        if shown.len() < line.len() {
            shown.push_str("...");
        }
        printable(&shown).into_owned()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({:?})", self.host())
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Sends letters, each over a connection of its own.
#[derive(Debug, Clone)]
pub struct Sender(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Default for Sender {
    fn default() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(TIMEOUT));
        let tls = tls(&Trust::System { besides: None });
        let https =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        Self(legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https))
    }
}

impl Sender {
    /// Delivers a letter.
    ///
    /// # Errors
    /// [`Undelivered`] if the service has not taken it, as far as is known.
    pub async fn send(&self, to: &Address, letter: Letter) -> Result<Reply, Undelivered> {
        let host = to.host().to_owned();
        match tokio::time::timeout(TIMEOUT, self.exchange(to, letter)).await {
            Err(_) => Err(Undelivered::TimedOut { host }),
            Ok(Err(why)) => Err(Undelivered::Unreachable { host, why: to.hide(&why) }),
            Ok(Ok((status, text))) if !(200..300).contains(&status) => {
                Err(Undelivered::Refused { host, status, text: to.hide(&text) })
            }
            Ok(Ok((_, text))) if text.trim_start().starts_with('<') => Err(Undelivered::Page { host }),
            Ok(Ok((status, text))) => Ok(Reply { status, text: to.hide(&text) }),
        }
    }

    async fn exchange(&self, to: &Address, letter: Letter) -> Result<(u16, String), String> {
        let mut request = http::Request::builder()
            .method(letter.method)
            .uri(to.uri.clone())
            .header(USER_AGENT, concat!("hk-aws/", env!("CARGO_PKG_VERSION")));
        if let Some(kind) = letter.content_type {
            request = request.header(CONTENT_TYPE, kind);
        }
        if let Some(authorization) = &to.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::from(letter.body)).map_err(|error| error.to_string())?;
        let response = self.0.request(request).await.map_err(|error| in_full(&error))?;
        let (status, mut body) = (response.status().as_u16(), response.into_body());
        let mut bytes = Vec::new();
        while bytes.len() < MOST_ANSWER_BYTES {
            // The status is the answer; a text that breaks off is as good as none.
            let Some(Ok(frame)) = body.frame().await else { break };
            bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
        }
        bytes.truncate(MOST_ANSWER_BYTES);
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// Returns an error with its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        Address::new(&SecretUrl::literal(url)).unwrap()
    }

    #[test]
    fn a_user_becomes_a_header_and_a_user_without_a_name_a_token() {
        for (url, header, uri) in [
            ("https://example.org/a", None, "https://example.org/a"),
            ("https://example.org", None, "https://example.org/"),
            ("https://example.org?a=b#c", None, "https://example.org/?a=b"),
            ("http://u:p%40ss@[::1]:8080/a", Some("Basic dTpwQHNz"), "http://[::1]:8080/a"),
            ("https://:tk_1@example.org/a", Some("Bearer tk_1"), "https://example.org/a"),
        ] {
            let address = address(url);
            assert_eq!(address.authorization.as_ref().map(|value| value.to_str().unwrap()), header, "{url}");
            assert_eq!(address.uri.to_string(), uri);
        }
        assert!(
            Address::new(&SecretUrl::literal("https://:b%0A@example.org/")).is_err_and(|why| !why.contains("b%0A"))
        );
    }

    #[test]
    fn no_text_shows_a_secret_of_the_address() {
        let address = address("https://user:hunter2@example.org/bot123:ABCDEF/send?chat=%2B4917000&x=y");
        let authorization = address.authorization.as_ref().unwrap().to_str().unwrap();
        let echo =
            format!("Cannot POST /bot123:ABCDEF/send?chat=%2B4917000 {authorization}\n by user:hunter2 for +4917000");
        let shown = address.hide(&echo);
        for secret in ["ABCDEF", "hunter2", "4917000", authorization] {
            assert!(!shown.contains(secret) && !format!("{address:?}").contains(secret), "{shown}");
        }
        assert!(shown.starts_with("Cannot POST"), "{shown}");
        assert_eq!(address.hide(&"long ".repeat(100)).chars().count(), MOST_SHOWN + 3);
        assert_eq!(address.hide("a\u{1b}[31m"), "a\\u{1b}[31m");
    }

    #[test]
    fn only_what_may_pass_is_sent_again() {
        let refused = |status| Undelivered::Refused { host: String::new(), status, text: String::new() };
        for (status, passes) in
            [(400, false), (401, false), (404, false), (408, true), (429, true), (500, true), (302, true)]
        {
            assert_eq!(refused(status).may_pass(), passes, "{status}");
        }
        assert!(Undelivered::TimedOut { host: String::new() }.may_pass());
    }
}
