use super::*;
use ::retry::FailureKind;
use fetch::tls::Roots;
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

#[test]
fn credentials_are_sent_as_specified_and_never_shown() {
    // RFC 7617, section 2.
    let credentials = Credentials { username: "Aladdin".into(), password: "open sesame".into() };
    assert_eq!(credentials.basic(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert_eq!(format!("{credentials:?}"), "Credentials(Aladdin, …)");
    assert_eq!(percent("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
}

/// One request, as received.
type Request = String;

/// A server that answers each request with the text that `answer` returns; its address, and the requests it received.
fn server(answer: impl Fn(&Request) -> String + Send + 'static) -> (String, Arc<Mutex<Vec<Request>>>) {
    let observer = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = observer.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    thread::spawn(move || {
        for stream in observer.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut block = [0; 4096];
            while !is_whole(&request) {
                match stream.read(&mut block) {
                    Ok(count @ 1..) => request.extend_from_slice(&block[..count]),
                    _ => break,
                }
            }
            let request = String::from_utf8_lossy(&request).to_lowercase();
            let answer = answer(&request);
            // First: a client that has its answer looks at what was asked.
            seen.lock().unwrap().push(request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, asked)
}

/// Whether a request is complete; only one with a form has a body.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .to_lowercase()
        .split_once("content-length: ")
        .and_then(|(_, rest)| rest.lines().next()?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn repository(scheme: &'static str, registry: &str, login: Option<Login>) -> Repository {
    let endpoint = Endpoint { scheme, registry: registry.into(), repository: "x".into() };
    Repository::new(&http::Client::new(&Roots::default()), endpoint, login, LoginOrigin::AuthFile)
}

fn soon() -> Deadline {
    Deadline::within(http::DOCUMENT_TIME_LIMIT)
}

fn logins() -> [Login; 2] {
    let password = Credentials { username: "user".into(), password: "secret".into() };
    [Login::Password(password), Login::Token("refresh-secret".into())]
}

fn bearer(realm: &str) -> String {
    format!("www-authenticate: Bearer realm=\"http://{realm}/token\",service=\"storage\"\r\n")
}

#[test]
fn storage_that_a_registry_redirects_to_gets_no_login() {
    for login in logins().map(Some).into_iter().chain([None]) {
        for demand in ["www-authenticate: Basic realm=\"x\"\r\n", ""] {
            let (thief, told) = server(|_| response("200", "", r#"{"token": "x"}"#));
            let challenge = if demand.is_empty() { bearer(&thief) } else { demand.to_owned() };
            let (storage, stored) = server(move |_| response("401", &challenge, ""));
            let location = format!("location: http://{storage}/blob\r\n");
            let (registry, asked) = server(move |_| response("307", &location, ""));
            let repository = repository("http", &registry, login.clone());
            let failure = repository.blob(Digest::of(b""), 0, 0).err().unwrap();
            assert!(
                failure
                    .error
                    .to_string()
                    .starts_with(&format!("the storage `{storage}` of `{registry}` responded with `401")),
                "{:#}",
                failure.error
            );
            assert!(hint::of(&failure.error).unwrap().contains("no login is sent"));
            assert_eq!((asked.lock().unwrap().len(), stored.lock().unwrap().len()), (1, 1));
            assert!(told.lock().unwrap().is_empty());
            assert!(stored.lock().unwrap().iter().all(|request| !request.contains("authorization")));
        }
    }
}

#[test]
fn credentials_for_a_registry_are_not_sent_along_a_redirect() {
    for login in logins() {
        let (storage, stored) = server(|_| response("200", "", "content"));
        let location = format!("location: http://{storage}/blob\r\n");
        let (tokens, given) = server(|_| response("200", "", r#"{"token": "given"}"#));
        let challenge = bearer(&tokens);
        let (registry, asked) =
            server(move |request| match request.contains("authorization: bearer given") {
                true => response("307", &location, ""),
                false => response("401", &challenge, ""),
            });
        let repository = repository("http", &registry, Some(login));
        let mut content = String::new();
        repository.blob(Digest::of(b""), 7, 0).unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(
            (content.as_str(), asked.lock().unwrap().len(), given.lock().unwrap().len()),
            ("content", 2, 1)
        );
        assert!(stored.lock().unwrap().iter().all(|request| !request.contains("authorization")));
    }
}

#[test]
fn a_token_server_that_redirects_does_not_pass_the_login_on() {
    for login in logins() {
        let (thief, told) = server(|_| response("200", "", r#"{"token": "x"}"#));
        let location = format!("location: http://{thief}/token\r\n");
        let (tokens, _) = server(move |_| response("307", &location, ""));
        let (registry, _) = server(move |_| response("401", &bearer(&tokens), ""));
        let _ = repository("http", &registry, Some(login)).manifest("1", soon());
        let told = told.lock().unwrap();
        assert!(
            told.iter().all(|request| !request.contains("authorization") && !request.contains("secret")),
            "{told:?}"
        );
    }
}

#[test]
fn a_registry_with_tls_cannot_name_a_token_server_without() {
    for login in logins().map(Some).into_iter().chain([None]) {
        for realm in [
            "http://r.example/token",
            "HTTP://r.example/token",
            "//r.example/token",
            "token",
            "ftp://r.example/",
        ] {
            let challenge = Bearer { realm: realm.into(), service: None, scope: None };
            let failure =
                repository("https", "r.example", login.clone()).new_token(&challenge, soon()).unwrap_err();
            let told = failure.error.to_string();
            assert_eq!(told, format!("`r.example` requires a token of `{realm}`, which is not encrypted"));
        }
    }
}

#[test]
fn the_scope_of_the_challenge_is_added_to_our_own() {
    for (scope, expected) in [
        (
            "repository:docker-local/x:pull",
            "&scope=repository%3ax%3apull&scope=repository%3adocker-local%2fx%3apull ",
        ),
        (
            "repository:y:pull,push repository:x:pull",
            "service=storage&scope=repository%3ax%3apull&scope=repository%3ay%3apull%2cpush ",
        ),
        ("repository:x:pull", "&scope=repository%3ax%3apull "),
        ("", "&scope=repository%3ax%3apull "),
    ] {
        let (tokens, given) = server(|_| response("200", "", r#"{"token": "given"}"#));
        let challenge = bearer(&tokens).replace("\r\n", &format!(",scope=\"{scope}\"\r\n"));
        let (registry, _) = server(move |request| match request.contains("authorization: bearer given") {
            true => response("200", "", "{}"),
            false => response("401", &challenge, ""),
        });
        repository("http", &registry, None).manifest("1", soon()).unwrap();
        let given = given.lock().unwrap();
        assert!(given.len() == 1 && given[0].contains(expected), "{given:?}");
    }
}

#[test]
fn a_registry_that_always_challenges_is_tried_twice() {
    let (tokens, given) = server(|_| response("200", "", r#"{"token": "given"}"#));
    let (registry, asked) = server(move |_| response("401", &bearer(&tokens), ""));
    assert!(repository("http", &registry, None).manifest("1", soon()).is_err());
    assert_eq!((asked.lock().unwrap().len(), given.lock().unwrap().len()), (2, 1));
}

#[test]
fn a_token_has_a_limit() {
    for (bytes, is_taken) in [(TOKEN_LIMIT, true), (TOKEN_LIMIT + 1, false)] {
        let body = format!("{{\"token\": \"{}\"}}", "x".repeat(bytes));
        let answer = Response::builder().body(Body::builder().data(body)).unwrap();
        let told = read_token(answer).map_or_else(|error| error.to_string(), |token| token.len().to_string());
        assert_eq!(told.contains("more than the limit of 65536"), !is_taken, "{told}");
    }
}

#[test]
fn a_token_refused_during_a_pull_is_a_transient_failure() {
    let (tokens, given) = server(|_| response("200", "", r#"{"token": "given"}"#));
    let challenge = bearer(&tokens);
    let (registry, asked) = server(move |request| match request.contains("/manifests/1 ") {
        true if request.contains("authorization: bearer given") => response("200", "", "{}"),
        _ => response("401", &challenge, ""),
    });
    let repository = repository("http", &registry, None);
    repository.manifest("1", soon()).unwrap();
    let failure = repository.manifest("2", soon()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unreachable);
    let told = failure.error.to_string();
    assert!(told.contains("refuses a new token of its token server"), "{told}");
    assert!(told.contains(&format!("`http://{registry}/v2/x/manifests/2`")), "{told}");
    assert!(hint::of(&failure.error).unwrap().contains("clocks"));
    assert_eq!((asked.lock().unwrap().len(), given.lock().unwrap().len()), (3, 2));
}

#[test]
fn a_damaged_download_is_named_with_its_digest_and_its_url() {
    let whole = "{\"schemaVersion\": 2}";
    let digest = Digest::of(whole.as_bytes());
    let header = format!("docker-content-digest: {digest}\r\n");
    let (registry, _) = server(move |_| response("200", &header, "{\"schemaVersion\": 3}"));
    let repository = repository("http", &registry, None);
    for (failure, place) in [
        (repository.document(digest, soon()).unwrap_err(), format!("/v2/x/blobs/{digest}")),
        (repository.manifest(&digest.to_string(), soon()).unwrap_err(), format!("/v2/x/manifests/{digest}")),
        (repository.manifest("1", soon()).unwrap_err(), "/v2/x/manifests/1".into()),
    ] {
        assert_eq!(failure.kind, FailureKind::Damaged);
        let told = format!("{:#}", failure.error);
        assert!(told.starts_with(&format!("`http://{registry}{place}` arrived damaged: ")), "{told}");
        assert!(told.contains(&format!("instead of `{digest}`")), "{told}");
    }
}

#[test]
fn an_overloaded_registry_is_distinguished_from_a_refusing_one() {
    for (status, kind, told) in [
        ("429", FailureKind::Overloaded, "too many requests to"),
        ("503", FailureKind::Overloaded, "is overloaded or starting"),
        ("500", FailureKind::Unreachable, "responded with `500"),
        ("403", FailureKind::Permanent, "responded with `403"),
    ] {
        let (registry, _) = server(move |_| response(status, "retry-after: 90\r\n", ""));
        let failure = repository("http", &registry, None).manifest("1", soon()).unwrap_err();
        assert_eq!((failure.kind, failure.not_before.unwrap().as_secs()), (kind, 90));
        let text = failure.error.to_string();
        assert!(text.contains(told) && text.contains("/v2/x/manifests/1`"), "{text}");
    }
}

/// A registry that shows an image to those with the right authorization, and a challenge only at `/v2/`. What the pull
/// came to, and the requests.
fn hidden(status: &'static str, challenge: &str, login: Option<Login>) -> (Result<(), String>, Vec<Request>) {
    let (tokens, _) = server(|request| match request.contains("authorization: basic") {
        true => response("200", "", r#"{"token": "", "access_token": "given"}"#),
        false => response("403", "", ""),
    });
    let challenge = challenge.replace("TOKENS", &tokens);
    let (registry, asked) = server(move |request| match request.contains("authorization: ") {
        true => response("200", "", "{}"),
        false if request.starts_with("get /v2/ ") => response("401", &challenge, ""),
        false => response(status, "", ""),
    });
    let outcome = repository("http", &registry, login).manifest("1", soon());
    let asked = asked.lock().unwrap().clone();
    (outcome.map(drop).map_err(|failure| failure.error.to_string()), asked)
}

/// Keppel answers 403, GitHub 404 for what strangers do not see, others a 401 without a challenge.
#[test]
fn a_login_is_offered_where_only_the_api_has_a_challenge() {
    let [password, _] = logins();
    let (bearer, basic) =
        ("www-authenticate: Bearer realm=\"http://TOKENS/t\"\r\n", "www-authenticate: Basic realm=x\r\n");
    for status in ["401", "403", "404"] {
        for challenge in [bearer, basic] {
            let (outcome, asked) = hidden(status, challenge, Some(password.clone()));
            assert!(outcome.is_ok() && asked.len() == 3, "{status}, {challenge}: {outcome:?}");
        }
        let (outcome, asked) = hidden(status, basic, None);
        assert!(outcome.unwrap_err().contains("/v2/x/manifests/1`") && asked.len() == 2);
        let (outcome, asked) = hidden(status, "", Some(password.clone()));
        assert!(outcome.unwrap_err().contains("/v2/x/manifests/1`") && asked.len() == 2);
    }
    let (outcome, asked) = hidden("410", bearer, Some(password));
    assert!(outcome.is_err() && asked.len() == 1);
}

#[test]
fn a_challenge_that_can_be_answered_is_chosen() {
    let [password, token] = logins();
    for (login, expected) in
        [(Some(password), "basic"), (Some(token), "bearer given"), (None, "bearer given")]
    {
        let (tokens, _) = server(|_| response("200", "", r#"{"token": "given"}"#));
        let challenge = format!(
            "www-authenticate: Negotiate\r\nwww-authenticate: Basic realm=\"x\", Bearer realm=\"http://{tokens}/t\"\r\n"
        );
        let (registry, asked) = server(move |request| match request.contains("authorization: ") {
            true => response("200", "", "{}"),
            false => response("401", &challenge, ""),
        });
        repository("http", &registry, login).manifest("1", soon()).unwrap();
        let asked = asked.lock().unwrap();
        assert!(asked.len() == 2 && asked[1].contains(&format!("authorization: {expected}")), "{asked:?}");
    }
    let (registry, _) = server(|_| response("401", "www-authenticate: Negotiate\r\n", ""));
    let failure = repository("http", &registry, None).manifest("1", soon()).unwrap_err();
    let told = failure.error.to_string();
    assert_eq!(
        told,
        format!("`{registry}` requires `Negotiate`, but only `Basic` and `Bearer` are supported")
    );
}

/// The token says nothing about when it ends; the registry does.
#[test]
fn a_token_that_expires_during_a_pull_is_renewed() {
    let newest = Arc::new(AtomicUsize::new(0));
    let (giving, asking) = (newest.clone(), AtomicUsize::new(0));
    let (tokens, _) = server(move |_| {
        let number = giving.fetch_add(1, Ordering::Relaxed) + 1;
        response("200", "", &format!("{{\"access_token\": \"t{number}\"}}"))
    });
    let challenge = bearer(&tokens);
    let (registry, asked) = server(move |request| {
        // Every third request finds that the newest token has ended.
        let has_ended = asking.fetch_add(1, Ordering::Relaxed) % 3 == 0;
        let authorization = format!("authorization: bearer t{}\r", newest.load(Ordering::Relaxed));
        match request.contains(&authorization) && !has_ended {
            true => response("200", "", "{}"),
            false => response("401", &challenge, ""),
        }
    });
    let repository = repository("http", &registry, None);
    for tag in ["1", "2", "3", "4"] {
        repository.manifest(tag, soon()).unwrap();
    }
    assert_eq!(asked.lock().unwrap().len(), 6);
}

#[test]
fn a_web_page_instead_of_a_document_is_reported_with_its_url() {
    let (registry, asked) =
        server(|_| response("200", "content-type: text/html\r\n", "<!DOCTYPE html><html></html>"));
    let (repository, digest) = (repository("http", &registry, None), Digest::of(b"{}"));
    for (outcome, url) in [
        (repository.manifest("1", soon()), "manifests/1".to_owned()),
        (repository.manifest(&digest.to_string(), soon()), format!("manifests/{digest}")),
        (repository.referrers(digest, soon()), format!("referrers/{digest}")),
        (repository.document(digest, soon()), format!("blobs/{digest}")),
    ] {
        let failure = outcome.unwrap_err();
        let expected = format!("`http://{registry}/v2/x/{url}` responded with a web page, not with ");
        assert!(failure.error.to_string().starts_with(&expected), "{:#}", failure.error);
        assert_eq!(failure.kind, FailureKind::Permanent);
    }
    assert_eq!(asked.lock().unwrap().len(), 4);
    let (tokens, _) = server(|_| response("200", "", "<html>sign in</html>"));
    let (registry, _) = server(move |_| response("401", &bearer(&tokens), ""));
    let error = self::repository("http", &registry, None).manifest("1", soon()).unwrap_err().error;
    assert!(format!("{error:#}").contains("/token?"), "{error:#}");
    assert!(format!("{error:#}").ends_with("did not return a token: it is a web page"), "{error:#}");
}

#[test]
fn a_refusal_is_attributed_to_the_server_that_sent_it() {
    let skewed = "<Error><Code>RequestTimeTooSkewed</Code><Message>too large</Message></Error>";
    let (storage, _) = server(move |_| response("403", "", skewed));
    let location = format!("location: http://{storage}/blob\r\n");
    let (registry, _) = server(move |_| response("307", &location, ""));
    let error = repository("http", &registry, None).blob(Digest::of(b""), 0, 0).err().unwrap().error;
    let told = format!("{error:#}");
    assert!(
        told.starts_with(&format!("the storage `{storage}` of `{registry}` responded with `403")),
        "{told}"
    );
    assert!(told.ends_with("the server replied: RequestTimeTooSkewed: too large"), "{told}");
    let (registry, _) = server(|_| response("404", "", ""));
    let lost = repository("http", &registry, None).blob(Digest::of(b""), 0, 0).err().unwrap().error;
    assert!(hint::of(&lost).unwrap().contains("lost a part of the image"));
    let (tokens, _) = server(|_| response("404", "", ""));
    let address = tokens.clone();
    let (registry, _) = server(move |_| response("401", &bearer(&address), ""));
    let error = repository("http", &registry, None).manifest("1", soon()).unwrap_err().error;
    assert!(error.to_string().starts_with(&format!("the token server `{tokens}` of `{registry}` has no ")));
    assert!(hint::of(&error).unwrap().contains("names this URL for tokens"), "{error:#}");
}
