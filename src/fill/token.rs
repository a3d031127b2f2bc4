//! Credentials for an upstream: a token of a registry's token service, or a password.
//!
//! The node sends the password to the upstream's own origin and to `--fill-auth-realm` only, whatever an answer
//! requires. It sends a redirect target only a token that it got without a password. (The flow is that of the
//! distribution specification: "Token Authentication Specification".)

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use super::connections::RequestPurpose;
use super::http::{self, OutgoingRequest, Recipient, RequestError, shorten};
use super::{Shared, limit};
use crate::config::fill::FillConfig;
use crate::config::origin::Origin;
use crate::wire::challenge::{Challenge, parse_challenges};
use crate::wire::token::{TokenError, parse_token_answer};
use crate::wire::uri::encode_parameter;

/// Most tokens that are kept. Beyond it the node forgets all, and requests them again.
const MAX_TOKENS: usize = 4_096;

/// Longest answer of a token service, in bytes.
const MAX_TOKEN_ANSWER_BYTES: usize = 64 * 1024;

/// Longest `--fill-auth-file`, in bytes.
const MAX_FILE_BYTES: usize = 16 * 1024;

/// Time for a read of `--fill-auth-file`. It may be a pipe, or on a disk that does not answer.
const FILE_TIME: Duration = Duration::from_secs(5);

/// Time for the answer of a token service.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The lifetime of a token in seconds, if its answer has none, and at most.
const LIFETIME_S: (u64, u64) = (60, 86_400);

/// The credentials that an answer with 401 requires.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum RequiredAuth {
    /// User and password.
    Password,
    /// A token of this service.
    Token {
        /// The URL of the token service.
        realm: String,
        /// The service that the token is for.
        service: Option<String>,
        /// The scope that the token is for.
        scope: Option<String>,
    },
}

/// Why a poll has no answer.
#[derive(Debug)]
pub(super) enum PollError {
    /// The token service is at a limit, and may request a pause.
    Limited(Option<Duration>),
    /// There are no credentials, or the token service rejects them. Has the reason.
    Denied(String),
    /// Any other failure.
    Failed(RequestError),
}

impl From<RequestError> for PollError {
    fn from(failure: RequestError) -> Self {
        Self::Failed(failure)
    }
}

/// The use of a token: the redirect target, `None` for the upstream itself, and the credentials that it requires. A
/// token that the node got with a password is never sent to another origin.
type TokenKey = (Option<String>, RequiredAuth);

/// Valid tokens, and how to get others.
#[derive(Debug)]
pub(super) struct Tokens {
    file: Option<Arc<Path>>,
    /// Held while the file is read, so that a read which does not end blocks one thread, and not one for each request.
    reading: Arc<AsyncMutex<()>>,
    realm: Option<Origin>,
    valid: Mutex<HashMap<TokenKey, (HeaderValue, Instant)>>,
}

impl Tokens {
    /// No tokens.
    ///
    /// # Errors
    /// If `--fill-auth-file` cannot be read.
    pub(super) fn new(settings: &FillConfig) -> Result<Self, String> {
        let file = settings.auth_file.as_deref();
        if let Some(file) = file {
            read_credentials(file)?;
        }
        Ok(Self {
            file: file.map(Arc::from),
            reading: Arc::default(),
            realm: settings.auth_realm.clone(),
            valid: Mutex::default(),
        })
    }

    /// The user and password as a header value. The file is read each time, so that it can be changed. Returns within
    /// `time`.
    async fn credentials(&self, time: Duration) -> Result<Option<HeaderValue>, String> {
        let Some(file) = &self.file else { return Ok(None) };
        let read = async {
            let reading = Arc::clone(&self.reading).lock_owned().await;
            let file = Arc::clone(file);
            spawn_blocking(move || {
                let _reading = reading;
                read_credentials(&file)
            })
            .await
        };
        match timeout(time, read).await {
            Ok(Ok(credentials)) => credentials.map(Some),
            Ok(Err(error)) => Err(unusable(file, &error)),
            Err(_) => Err(unusable(file, &"it cannot be read in time")),
        }
    }

    /// The credentials for the upstream at `origin`, or for the redirect target `elsewhere`. Returns also whether a
    /// request to the token service was needed.
    ///
    /// # Errors
    /// If the node cannot get the credentials.
    pub(super) async fn authorization(
        &self,
        shared: &Shared,
        origin: &Origin,
        elsewhere: Option<&Origin>,
        required: &RequiredAuth,
    ) -> Result<(HeaderValue, bool), PollError> {
        let credentials = async || self.credentials(FILE_TIME).await.map_err(RequestError::Unusable);
        let RequiredAuth::Token { realm, service, scope } = required else {
            let credentials = credentials().await?.filter(|_| elsewhere.is_none()).ok_or_else(|| {
                PollError::Denied("it requires a user and a password: give --fill-auth-file".to_owned())
            })?;
            return Ok((credentials, false));
        };
        let key = (elsewhere.map(ToString::to_string), required.clone());
        if let Some((token, until)) = self.valid().get(&key)
            && *until > Instant::now()
        {
            return Ok((token.clone(), false));
        }
        let credential_use =
            credential_use(realm, origin, elsewhere, self.realm.as_ref()).map_err(RequestError::Unusable)?;
        let credentials = match credential_use {
            CredentialUse::Send => credentials().await?,
            CredentialUse::Omit => None,
        };
        let uri = uri_of_token(realm, service.as_deref(), scope.as_deref());
        let (token, life) = request_token(shared, realm, &uri, credentials).await?;
        let until = Instant::now() + life.mul_f64(0.9);
        let mut valid = self.valid();
        if valid.len() >= MAX_TOKENS {
            valid.clear();
        }
        valid.insert(key, (token.clone(), until));
        Ok((token, true))
    }

    /// Forgets a token that was rejected.
    pub(super) fn forget(&self, elsewhere: Option<&Origin>, required: &RequiredAuth) {
        self.valid().remove(&(elsewhere.map(ToString::to_string), required.clone()));
    }

    fn valid(&self) -> std::sync::MutexGuard<'_, HashMap<TokenKey, (HeaderValue, Instant)>> {
        self.valid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads `user:password` from a file. Blocks the thread.
fn read_credentials(file: &Path) -> Result<HeaderValue, String> {
    let bad = |why: &dyn fmt::Display| unusable(file, why);
    let text = read_bounded(file).map_err(|error| bad(&error))?;
    let line = text.trim_end_matches(['\r', '\n']);
    if text.len() > MAX_FILE_BYTES || !line.contains(':') || line.contains(char::is_control) {
        return Err(bad(&"it is not one line user:password"));
    }
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(line)))
        .map_err(|_| bad(&"it cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads a file, up to one byte more than it may have.
fn read_bounded(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn unusable(file: &Path, why: &dyn fmt::Display) -> String {
    format!(
        "cannot use --fill-auth-file: {why}: got {}: name a file with one line user:password",
        file.display()
    )
}

fn uri_of_token(realm: &str, service: Option<&str>, scope: Option<&str>) -> String {
    let mut uri = realm.to_owned();
    for (key, value) in [("service", service), ("scope", scope)] {
        if let Some(value) = value {
            let mark = if uri.contains('?') { '&' } else { '?' };
            uri = format!("{uri}{mark}{key}={}", encode_parameter(value));
        }
    }
    uri
}

/// Requests a token. Returns it as a header value, with its lifetime.
async fn request_token(
    shared: &Shared,
    realm: &str,
    uri: &str,
    credentials: Option<HeaderValue>,
) -> Result<(HeaderValue, Duration), PollError> {
    let says = |what: &dyn fmt::Display| format!("its token service {} {what}", shorten(realm));
    let of_service = |failure| match failure {
        RequestError::NoConnection(why) | RequestError::NoAnswer(why) => {
            RequestError::NoAnswer(says(&format_args!("does not answer: {why}")))
        }
        RequestError::Unusable(why) => {
            RequestError::Unusable(says(&format_args!("sends an unusable answer: {why}")))
        }
    };
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(credentials) = credentials {
        headers.insert(AUTHORIZATION, credentials);
    }
    let outgoing = OutgoingRequest {
        to: Recipient::Other,
        purpose: RequestPurpose::Token,
        method: Method::GET,
        uri,
        host: None,
        headers: &headers,
        body: None,
    };
    let deadline = Instant::now() + ANSWER_TIME;
    let (parts, body) = shared.http.send(outgoing, deadline).await.map_err(of_service)?;
    if !parts.status.is_success() {
        http::discard(body).await;
        if let Some(pause) = limit(shared, parts.status, &parts.headers) {
            return Err(PollError::Limited(pause));
        }
        let why = says(&format_args!("answers {}", parts.status));
        return Err(match parts.status.as_u16() {
            401 | 403 => PollError::Denied(format!("{why}: check --fill-auth-file")),
            _ => RequestError::Unusable(why).into(),
        });
    }
    let body = http::read_body(body, MAX_TOKEN_ANSWER_BYTES, deadline).await.map_err(of_service)?;
    let answer = parse_token_answer(&body).map_err(|error| RequestError::Unusable(says(&error)))?;
    let mut token = HeaderValue::try_from(format!("Bearer {}", answer.token))
        .map_err(|_| RequestError::Unusable(says(&TokenError::NotSendable)))?;
    token.set_sensitive(true);
    let life = answer.expires_in_s.unwrap_or(LIFETIME_S.0).min(LIFETIME_S.1);
    Ok((token, Duration::from_secs(life)))
}

/// Whether a request to a token service has the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CredentialUse {
    Send,
    Omit,
}

/// Whether the node sends the password to the token service `realm`, which the upstream at `origin` or the redirect
/// target `elsewhere` names.
///
/// # Errors
/// If the node does not use the token service.
fn credential_use(
    realm: &str,
    origin: &Origin,
    elsewhere: Option<&Origin>,
    configured: Option<&Origin>,
) -> Result<CredentialUse, String> {
    let url = realm.split('?').next().unwrap_or_default();
    let parsed =
        Origin::parse(url).map_err(|why| format!("its token service {} is no URL: {why}", shorten(realm)))?;
    let is_named = parsed.is_same_origin(elsewhere.unwrap_or(origin))
        || configured.is_some_and(|configured| *configured == parsed);
    if is_named && elsewhere.is_none() {
        return Ok(CredentialUse::Send);
    }
    if !is_named && !parsed.is_https {
        return Err(format!(
            "its token service {} is elsewhere and without TLS: give it as --fill-auth-realm to use it",
            shorten(realm)
        ));
    }
    Ok(CredentialUse::Omit)
}

/// Reads the credentials that an answer with 401 requires. A token takes precedence, if its service is a URL.
pub(super) fn required_auth(headers: &HeaderMap) -> Option<RequiredAuth> {
    let lines = headers.get_all(WWW_AUTHENTICATE).iter();
    let challenges: Vec<Challenge> = lines.flat_map(|line| parse_challenges(line.as_bytes())).collect();
    let tokens: Vec<(&str, &Challenge)> = challenges
        .iter()
        .filter(|challenge| challenge.scheme == "bearer")
        .filter_map(|challenge| Some((challenge.parameter("realm")?, challenge)))
        .collect();
    let has_url = |realm: &str| Origin::parse(realm.split('?').next().unwrap_or_default()).is_ok();
    let is_password = challenges.iter().any(|challenge| challenge.scheme == "basic");
    let usable = tokens.iter().find(|(realm, _)| has_url(realm));
    // a token service without a URL is used only if there is no other challenge: its error is the reason then
    let Some((realm, challenge)) = usable.or(tokens.first().filter(|_| !is_password)) else {
        return is_password.then_some(RequiredAuth::Password);
    };
    let text = |name| challenge.parameter(name).filter(|value| !value.is_empty()).map(str::to_owned);
    Some(RequiredAuth::Token { realm: (*realm).to_owned(), service: text("service"), scope: text("scope") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required_by(lines: &[&str]) -> Option<RequiredAuth> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(line).unwrap());
        }
        required_auth(&headers)
    }

    #[test]
    fn challenges_of_registries() {
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#;
        let expected = RequiredAuth::Token {
            realm: "https://auth.docker.io/token".into(),
            service: Some("registry.docker.io".into()),
            scope: Some("repository:library/x:pull,push".into()),
        };
        assert_eq!(required_by(&[docker]), Some(expected.clone()));
        assert_eq!(required_by(&["Basic realm=\"x\"", docker]), Some(expected.clone()));
        assert_eq!(required_by(&[&format!("Basic realm=\"x, y\", {docker}")]), Some(expected.clone()));
        assert_eq!(required_by(&[&format!("{docker}, Basic realm=\"x\"")]), Some(expected));
        assert_eq!(required_by(&["Bearer realm=\"us\", Basic realm=\"x\""]), Some(RequiredAuth::Password));
        let no_url = RequiredAuth::Token { realm: "us".into(), service: None, scope: None };
        assert_eq!(required_by(&["Bearer realm=\"us\",service=\"\""]), Some(no_url));
        assert_eq!(required_by(&["basic realm=x"]), Some(RequiredAuth::Password));
        let bare =
            RequiredAuth::Token { realm: "http://a/t".into(), service: None, scope: Some("a\"b".into()) };
        assert_eq!(required_by(&[r#"bearer error="x", scope="a\"b" , realm=http://a/t"#]), Some(bare));
        for none in ["", "Bearer", "Bearer service=\"x\"", "Bearer realm=\"open", "Digest realm=\"x\""] {
            assert_eq!(required_by(&[none]), None, "{none}");
        }
    }

    fn tokens(file: &Path) -> Tokens {
        Tokens { file: Some(file.into()), reading: Arc::default(), realm: None, valid: Mutex::default() }
    }

    /// A path for a file of one test. The file is removed on drop.
    struct TestFile(std::path::PathBuf);

    impl TestFile {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("vwatch-token-{name}-{}", std::process::id())))
        }
    }

    impl Drop for TestFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_file_of_credentials_is_one_line_of_bounded_length() {
        let file = TestFile::new("file");
        std::fs::write(&file.0, "me:s3cret\n").unwrap();
        assert_eq!(read_credentials(&file.0).unwrap(), "Basic bWU6czNjcmV0");
        for bad in ["", "me", "me:a\nyou:b", &format!("me:{}", "x".repeat(MAX_FILE_BYTES))] {
            std::fs::write(&file.0, bad).unwrap();
            let why = read_credentials(&file.0).unwrap_err();
            assert!(why.contains("it is not one line user:password"), "{why}");
        }
        let endless = read_credentials(Path::new("/dev/zero")).unwrap_err();
        assert!(endless.contains("it is not one line user:password"), "{endless}");
    }

    /// A pipe without a writer: the only worker of the runtime continues, and all waiting requests end in time.
    #[tokio::test]
    async fn a_file_of_credentials_that_cannot_be_read_blocks_one_thread_and_no_worker() {
        let time = Duration::from_millis(100);
        let pipe = TestFile::new("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe.0).status().unwrap().success());
        let tokens = tokens(&pipe.0);
        // while it is open the reads do not end; it is closed also if the test fails
        let open = std::fs::OpenOptions::new().read(true).write(true).open(&pipe.0).unwrap();
        for _ in 0..3 {
            let why = tokens.credentials(time).await.unwrap_err();
            assert!(why.contains("it cannot be read in time"), "{why}");
        }
        assert!(tokens.reading.try_lock().is_err(), "one is still read");
        drop(open);
        drop(tokens.reading.lock().await);
        std::fs::remove_file(&pipe.0).unwrap();
        std::fs::write(&pipe.0, "me:s3cret").unwrap();
        assert_eq!(tokens.credentials(FILE_TIME).await.unwrap().unwrap(), "Basic bWU6czNjcmV0");
    }

    #[test]
    fn credentials_go_only_to_the_origin_and_the_configured_realm() {
        let origin = |text| Origin::parse(text).unwrap();
        let upstream = origin("https://registry.example");
        let named = origin("http://auth.example/token");
        let with = |realm| credential_use(realm, &upstream, None, Some(&named));
        assert_eq!(with("https://registry.example/token?x=y"), Ok(CredentialUse::Send));
        assert_eq!(with("http://auth.example/token"), Ok(CredentialUse::Send));
        assert_eq!(with("https://other.example/token"), Ok(CredentialUse::Omit));
        for refused in [
            "http://registry.example/token",
            "http://auth.example/other",
            "http://169.254.169.254/",
            "file:///etc/passwd",
            "https://user:pw@registry.example/token",
        ] {
            assert!(with(refused).is_err(), "{refused}");
        }
        let elsewhere = origin("http://cdn.example");
        let without = |realm| credential_use(realm, &upstream, Some(&elsewhere), Some(&named));
        for asked in [
            "https://registry.example/token",
            "http://auth.example/token",
            "http://cdn.example/t",
            "https://x/",
        ] {
            assert_eq!(without(asked), Ok(CredentialUse::Omit), "{asked}");
        }
        assert!(without("http://169.254.169.254/").is_err());
    }
}
