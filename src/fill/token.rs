//! What an upstream wants to see before it answers: the token of a registry's token service, or a password.
//!
//! The credentials are sent to the upstream's own origin and to `--fill-auth-realm`, and to nobody else, whatever an
//! answer asks for. (The flow is that of the distribution specification: "Token Authentication Specification".)

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use tokio::time::Instant;

use super::connections::Purpose;
use super::http::{self, Failure, Http, Outgoing, To, cut};
use crate::config::fill::{Fill, Origin};
use crate::wire::uri::encode_parameter;

/// Tokens that are kept at most; beyond it all are forgotten, and asked for again.
const MAX_TOKENS: usize = 4_096;

/// Longest answer of a token service, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Longest file of credentials, in bytes.
const MAX_FILE_BYTES: usize = 16 * 1024;

/// How long a token service has to answer.
const TIME: Duration = Duration::from_secs(10);

/// How long a token is good for if nothing is said, and at most.
const LIFE: (u64, u64) = (60, 86_400);

/// What an upstream asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token of this service.
    Bearer {
        /// The URL to ask.
        realm: String,
        /// For what service.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
}

/// Tokens that are still good, and how to get others.
#[derive(Debug)]
pub(super) struct Tokens {
    file: Option<PathBuf>,
    realm: Option<Origin>,
    good: Mutex<HashMap<Challenge, (HeaderValue, Instant)>>,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Tokens {
    /// None yet.
    ///
    /// # Errors
    /// If the file of credentials cannot be read.
    pub(super) fn new(settings: &Fill) -> Result<Self, String> {
        let tokens = Self {
            file: settings.auth_file.clone(),
            realm: settings.auth_realm.clone(),
            good: Mutex::default(),
        };
        tokens.credentials()?;
        Ok(tokens)
    }

    /// `user:password`, read again each time, so that it can be changed.
    fn credentials(&self) -> Result<Option<HeaderValue>, String> {
        let Some(file) = &self.file else { return Ok(None) };
        let bad = |why: &str| {
            format!(
                "cannot use --fill-auth-file: {why}: got {}: name a file with one line user:password",
                file.display()
            )
        };
        let text = fs::read_to_string(file).map_err(|e| bad(&e.to_string()))?;
        let line = text.trim_end_matches(['\r', '\n']);
        if line.len() > MAX_FILE_BYTES || !line.contains(':') || line.contains(char::is_control) {
            return Err(bad("it is not one line user:password"));
        }
        let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(line)))
            .map_err(|_| bad("it cannot be sent"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// What to send for a challenge of the upstream at `origin`. The second value says whether a request was needed.
    ///
    /// # Errors
    /// If there is nothing to send.
    pub(super) async fn authorization(
        &self,
        http: &Http,
        origin: &Origin,
        challenge: &Challenge,
    ) -> Result<(HeaderValue, bool), Failure> {
        let credentials = self.credentials().map_err(Failure::Bad)?;
        let Challenge::Bearer { realm, service, scope } = challenge else {
            let credentials = credentials.ok_or_else(|| {
                Failure::Bad("it wants a user and a password: name --fill-auth-file".to_owned())
            })?;
            return Ok((credentials, false));
        };
        if let Some((token, until)) = self.good().get(challenge)
            && *until > Instant::now()
        {
            return Ok((token.clone(), false));
        }
        let trusted = trust(realm, origin, self.realm.as_ref()).map_err(Failure::Bad)?;
        let mut uri = realm.clone();
        for (key, value) in [("service", service), ("scope", scope)] {
            if let Some(value) = value {
                let mark = if uri.contains('?') { '&' } else { '?' };
                uri = format!("{uri}{mark}{key}={}", encode_parameter(value));
            }
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(credentials) = credentials.filter(|_| trusted == Trust::WithCredentials) {
            headers.insert(AUTHORIZATION, credentials);
        }
        let deadline = Instant::now() + TIME;
        let outgoing = Outgoing {
            to: To::Elsewhere,
            purpose: Purpose::Token,
            method: Method::GET,
            uri: &uri,
            host: None,
            headers: &headers,
        };
        let (parts, body) = http.send(outgoing, deadline).await?;
        let status = parts.status;
        if !status.is_success() {
            http::discard(body).await;
            return Err(Failure::Bad(format!("its token service {} answers {status}", cut(realm))));
        }
        let body = http::read(body, MAX_ANSWER_BYTES, deadline).await?;
        let bad = |why: &str| Failure::Bad(format!("its token service {} {why}", cut(realm)));
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| bad("does not answer in JSON"))?;
        let token = answer.token.or(answer.access_token).ok_or_else(|| bad("gives no token"))?;
        let mut token =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| bad("gives no usable token"))?;
        token.set_sensitive(true);
        let life = answer.expires_in.unwrap_or(LIFE.0).min(LIFE.1);
        let until = Instant::now() + Duration::from_secs(life).mul_f64(0.9);
        let mut good = self.good();
        if good.len() >= MAX_TOKENS {
            good.clear();
        }
        good.insert(challenge.clone(), (token.clone(), until));
        Ok((token, true))
    }

    /// A token was not taken.
    pub(super) fn forget(&self, challenge: &Challenge) {
        self.good().remove(challenge);
    }

    fn good(&self) -> std::sync::MutexGuard<'_, HashMap<Challenge, (HeaderValue, Instant)>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a token service is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    WithCredentials,
    Anonymous,
}

/// Whether a token service that an upstream names is asked, and with what.
fn trust(realm: &str, origin: &Origin, configured: Option<&Origin>) -> Result<Trust, String> {
    let url = realm.split('?').next().unwrap_or_default();
    let parsed =
        Origin::parse(url).map_err(|why| format!("its token service {} is no URL: {why}", cut(realm)))?;
    if parsed.is_same_origin(origin) || configured.is_some_and(|configured| *configured == parsed) {
        return Ok(Trust::WithCredentials);
    }
    if !parsed.is_https {
        return Err(format!(
            "its token service {} is elsewhere and without TLS: name it as --fill-auth-realm if it is to be used",
            cut(realm)
        ));
    }
    Ok(Trust::Anonymous)
}

/// Reads what an answer with 401 asks for. A token is preferred.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let lines = || headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    lines().find_map(bearer).or_else(|| {
        lines().find(|line| scheme(line).0.eq_ignore_ascii_case("basic")).map(|_| Challenge::Basic)
    })
}

fn scheme(line: &str) -> (&str, &str) {
    line.trim().split_once(' ').unwrap_or((line.trim(), ""))
}

fn bearer(line: &str) -> Option<Challenge> {
    let (scheme, mut rest) = scheme(line);
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    while let Some((key, after)) = rest.split_once('=') {
        let (value, left) = value(after)?;
        match key.trim().trim_start_matches(',').trim().to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            _ => {}
        }
        rest = left;
    }
    Some(Challenge::Bearer { realm: realm?, service, scope })
}

/// A value, quoted or not, and what is behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        return Some((text[..end].trim().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn challenge_of(lines: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(line).unwrap());
        }
        challenge(&headers)
    }

    #[test]
    fn challenges_of_registries() {
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.docker.io/token".into(),
            service: Some("registry.docker.io".into()),
            scope: Some("repository:library/x:pull,push".into()),
        };
        assert_eq!(challenge_of(&[docker]), Some(expected.clone()));
        assert_eq!(challenge_of(&["Basic realm=\"x\"", docker]), Some(expected));
        assert_eq!(challenge_of(&["basic realm=x"]), Some(Challenge::Basic));
        let bare =
            Challenge::Bearer { realm: "http://a/t".into(), service: None, scope: Some("a\"b".into()) };
        assert_eq!(challenge_of(&[r#"bearer error="x", scope="a\"b" , realm=http://a/t"#]), Some(bare));
        for none in ["", "Bearer", "Bearer service=\"x\"", "Bearer realm=\"open", "Digest realm=\"x\""] {
            assert_eq!(challenge_of(&[none]), None, "{none}");
        }
    }

    #[test]
    fn credentials_go_to_the_origin_and_the_named_realm_alone() {
        let origin = |text| Origin::parse(text).unwrap();
        let upstream = origin("https://registry.example");
        let named = origin("http://auth.example/token");
        let with = |realm| trust(realm, &upstream, Some(&named));
        assert_eq!(with("https://registry.example/token?x=y"), Ok(Trust::WithCredentials));
        assert_eq!(with("http://auth.example/token"), Ok(Trust::WithCredentials));
        assert_eq!(with("https://other.example/token"), Ok(Trust::Anonymous));
        for refused in [
            "http://registry.example/token",
            "http://auth.example/other",
            "http://169.254.169.254/",
            "file:///etc/passwd",
            "https://user:pw@registry.example/token",
        ] {
            assert!(with(refused).is_err(), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn no_challenge_breaks_the_reader(line in "\\PC{0,80}", prefix in prop::sample::select(vec!["Bearer ", "Basic ", ""])) {
            if let Ok(value) = HeaderValue::from_str(&format!("{prefix}{line}")) {
                let mut headers = HeaderMap::new();
                headers.insert(WWW_AUTHENTICATE, value);
                let _ = challenge(&headers);
            }
        }
    }
}
