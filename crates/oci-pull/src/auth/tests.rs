use super::*;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::sync::Mutex;

fn basic(text: &str) -> String {
    format!("{{\"auth\": \"{}\"}}", BASE64_STANDARD.encode(text))
}

fn named(logins: &Logins, repository: &str) -> Option<String> {
    match logins.find(repository).unwrap()? {
        Login::Password(credentials) => Some(format!("{}:{}", credentials.username, credentials.password)),
        Login::Token(token) => Some(token),
    }
}

fn logins(text: &str) -> Logins {
    Logins::parse(text).unwrap()
}

/// Helpers: `all` has a login for every server, `none` for no server, `broken` fails.
#[derive(Debug, Default)]
struct Helpers {
    asked: Mutex<Vec<String>>,
    warned: Mutex<Vec<String>>,
}

impl CredentialHelpers for Helpers {
    fn login(&self, name: &str, server: &str) -> anyhow::Result<Option<Login>> {
        self.asked.lock().unwrap().push(format!("{name} {server}"));
        let username = "helper".to_owned();
        match name {
            "all" => Ok(Some(Login::Password(Credentials { username, password: server.to_owned() }))),
            "none" => Ok(None),
            _ => Err(hinted("it is broken", "mend it")),
        }
    }

    fn warn(&self, error: &anyhow::Error) {
        self.warned.lock().unwrap().push(format!("{error:#}"));
    }
}

/// The same logins with helpers, and what these were asked.
fn helped(logins: &Logins, order: &[&str]) -> (Logins, Arc<Helpers>) {
    let helpers = Arc::new(Helpers::default());
    let order: Vec<String> = order.iter().map(ToString::to_string).collect();
    (logins.clone().with_helpers(&order, helpers.clone()), helpers)
}

#[test]
fn the_most_specific_key_decides() {
    let logins = logins(&format!(
        "{{\"auths\": {{\"index.docker.io/team\": {}, \"R.Example/team\": {}, \"r.example/team/x\": {}, \"r.example\": {}, \
         \"r.example:5000\": {}, \"https://index.docker.io/v1/\": {}, \"http://old.example/v1/\": {}, \
         \"token.example\": {{\"auth\": \"PHRva2VuPjo=\", \"identitytoken\": \"secret\"}}}}}}",
        basic("hub-team:8"),
        basic("team:1"),
        basic("x:2"),
        basic("all:3:4"),
        basic("port:5"),
        basic("hub:6"),
        basic("old:7\0\0"),
    ));
    for (repository, expected) in [
        ("r.example/team/y", Some("team:1")),
        ("r.example/team", Some("team:1")),
        ("r.example/team/x/y", Some("x:2")),
        ("r.example/teams", Some("all:3:4")),
        ("r.example:5000/team/x", Some("port:5")),
        ("docker.io/library/busybox", Some("hub:6")),
        ("docker.io/team/x", Some("hub-team:8")),
        ("old.example/x", Some("old:7")),
        ("token.example/x", Some("secret")),
        ("other.example/r.example", None),
    ] {
        assert_eq!(named(&logins, repository).as_deref(), expected, "{repository}");
    }
    assert!(!format!("{logins:?}").contains("secret"));
}

#[test]
fn the_first_file_with_a_login_decides() {
    let mut all = logins("{\"auths\": {\"a.example\": {}}}");
    all.then(logins(&format!("{{\"auths\": {{\"a.example/x\": {}}}}}", basic("second:2"))));
    all.then(logins(&format!("{{\"auths\": {{\"a.example\": {}}}}}", basic("third:3"))));
    assert_eq!(named(&all, "a.example/x").as_deref(), Some("second:2"));
    assert_eq!(named(&all, "a.example/y").as_deref(), Some("third:3"));
}

#[test]
fn a_login_that_needs_a_credential_helper_is_refused_where_needed() {
    let helper = logins("{\"credHelpers\": {\"r.example\": \"pass\"}}");
    let store = logins("{\"auths\": {\"r.example\": {}}, \"credsStore\": \"desktop\"}");
    for (logins, program) in [(helper, "docker-credential-pass"), (store, "docker-credential-desktop")] {
        assert!(logins.find("other.example/x").unwrap().is_none());
        for error in [logins.find("r.example/x").unwrap_err(), logins.unusable().remove(0)] {
            assert!(error.to_string().contains(program), "{error}");
            assert!(hint::of(&error).unwrap().contains("skopeo login"));
        }
    }
}

/// docker/cli, `GetCredentialsStore`: a helper of `credHelpers` comes before the entries, and `credsStore` is for every
/// registry without one. Each is asked under the name that the file has.
#[test]
fn a_helper_is_asked_for_the_key_in_the_file() {
    let inline = basic("inline:1");
    let (logins, helpers) = helped(
        &logins(&format!(
            "{{\"auths\": {{\"r.example\": {inline}, \"own.example\": {inline}, \"https://index.docker.io/v1/\": {{}}}}, \
             \"credHelpers\": {{\"own.example\": \"all\", \"https://url.example\": \"all\", \"none.example\": \"none\", \
             \"no.example\": \"\", \"null.example\": null}}, \"credsStore\": \"all\"}}"
        )),
        &[],
    );
    for (repository, expected) in [
        ("r.example/x", Some("inline:1")),
        ("own.example/x/y", Some("helper:own.example")),
        ("url.example/x", Some("helper:https://url.example")),
        ("none.example/x", None),
        ("no.example/x", Some("helper:no.example")),
        ("null.example/x", Some("helper:null.example")),
        ("docker.io/library/x", Some("helper:https://index.docker.io/v1/")),
    ] {
        assert_eq!(named(&logins, repository).as_deref(), expected, "{repository}");
    }
    assert_eq!(helpers.asked.lock().unwrap().len(), 6);
    let (store, helpers) = helped(&Logins::parse("{\"credsStore\": \"all\"}").unwrap(), &[]);
    assert!(named(&store, "docker.io/library/x").is_some());
    assert_eq!(*helpers.asked.lock().unwrap(), ["all https://index.docker.io/v1/"]);
}

/// docker pulls a public image also when its store is not there.
#[test]
fn a_failing_helper_is_an_error_only_if_a_login_is_expected() {
    let text = "{\"auths\": {\"r.example\": {}}, \"credHelpers\": {\"own.example\": \"broken\"}, \"credsStore\": \"broken\"}";
    let (logins, helpers) = helped(&logins(text), &[]);
    for repository in ["r.example/x", "own.example/x"] {
        let error = logins.find(repository).unwrap_err();
        assert!(format!("{error:#}").contains("it is broken") && hint::of(&error).is_some(), "{error:#}");
    }
    assert!(helpers.warned.lock().unwrap().is_empty());
    assert!(logins.find("other.example/x").unwrap().is_none());
    assert_eq!(*helpers.warned.lock().unwrap(), ["cannot get the login for `other.example`: it is broken"]);
}

/// containers-registries.conf(5), `credential-helpers`.
#[test]
fn registries_conf_sets_the_order_of_helpers_and_files() {
    let file = logins(&format!("{{\"auths\": {{\"r.example\": {}}}}}", basic("file:1")));
    for (order, expected) in [
        (&["containers-auth.json", "all"][..], "file:1"),
        (&["all", "containers-auth.json"], "helper:r.example"),
        (&["none", "broken", "containers-auth.json"], "file:1"),
        (&["all"], "helper:r.example"),
        (&[], "file:1"),
    ] {
        assert_eq!(named(&helped(&file, order).0, "r.example/x").as_deref(), Some(expected), "{order:?}");
    }
    assert!(helped(&file, &["none"]).0.find("r.example/x").unwrap().is_none());
    assert!(helped(&file, &["none", "broken"]).0.find("r.example/x").is_err());
}

#[test]
fn the_answer_of_a_helper_is_parsed() {
    let password = |username: &str, password: &str| {
        Some(Login::Password(Credentials { username: username.into(), password: password.into() }))
    };
    for (answer, expected) in [
        (r#"{"ServerURL":"r.example","Username":"me","Secret":"open"}"#, password("me", "open")),
        (r#"{"Username":"<token>","Secret":"open"}"#, Some(Login::Token("open".into()))),
        ("{\"Username\":\"me\",\"Secret\":\"\"}\n", password("me", "")),
        (r#"{"Username":"","Secret":""}"#, None),
        (r#"{"Username":null}"#, None),
        ("{}", None),
    ] {
        assert_eq!(Login::of_helper(answer.as_bytes()).unwrap(), expected, "{answer}");
    }
    for answer in ["", "secret", "[\"secret\"]", r#"{"Username":"me","Secret":7}"#] {
        let error = format!("{:#}", Login::of_helper(answer.as_bytes()).unwrap_err());
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_damaged_login_is_reported_for_its_registry_only_and_without_its_content() {
    let damaged =
        ["{\"auth\": \"c2VjcmV0\"}", "{\"auth\": \"secret!\"}", "{\"auth\": 7}", "\"secret\"", "[]"];
    for entry in damaged {
        let good = basic("good:1");
        let logins = logins(&format!("{{\"auths\": {{\"r.example\": {entry}, \"good.example\": {good}}}}}"));
        for error in [logins.find("r.example/x").unwrap_err(), logins.unusable().remove(0)] {
            let told = format!("{error:#}");
            assert!(told.contains("`r.example`") && !told.contains("secret"), "{told}");
        }
        assert_eq!(named(&logins, "good.example/x").as_deref(), Some("good:1"), "{entry}");
        assert!(logins.find("other.example/x").unwrap().is_none());
    }
    let helper = logins("{\"credHelpers\": {\"r.example\": [\"pass\"]}}");
    assert!(helper.find("r.example/x").is_err() && helper.find("other.example/x").unwrap().is_none());
}

#[test]
fn entries_in_all_common_forms_are_parsed() {
    let lines = BASE64_STANDARD.encode("user:a password that is long enough for more than one line");
    let (first, second) = lines.split_at(40);
    for (entry, expected) in [
        ("null".to_owned(), None),
        ("{}".to_owned(), None),
        ("{\"auth\": null, \"email\": \"me@example\"}".to_owned(), None),
        (
            format!("{{\"auth\": \"{first}\\r\\n{second}\\n\"}}"),
            Some("user:a password that is long enough for more than one line"),
        ),
        ("{\"auth\": \"dTpw\", \"identitytoken\": null}".to_owned(), Some("u:p")),
        ("{\"auth\": \"dTpwdw\"}".to_owned(), Some("u:pw")),
        ("{\"auth\": \"dTpwdz==\"}".to_owned(), Some("u:pw")),
        ("{\"username\": \"u\", \"password\": \"pw\"}".to_owned(), Some("u:pw")),
    ] {
        let logins = logins(&format!("{{\"auths\": {{\"r.example\": {entry}}}}}"));
        assert_eq!(named(&logins, "r.example/x").as_deref(), expected, "{entry}");
    }
    let empty = ["null", "{}", "{\"auths\": null, \"credHelpers\": null, \"credsStore\": null}"];
    for text in empty {
        assert!(logins(text).find("r.example/x").unwrap().is_none(), "{text}");
    }
}

#[test]
fn an_invalid_file_is_refused_without_its_content() {
    for text in ["secret", "[\"secret\"]", "{\"auths\": \"secret\"}", "{\"credsStore\": [\"secret\"]}", ""] {
        let error = format!("{:#}", Logins::parse(text).unwrap_err());
        assert!(error.starts_with("not a valid auth.json: ") && !error.contains("secret"), "{error}");
    }
    let error = format!("{:#}", Logins::parse("{\"auths\": {\"r.example\": secret}}").unwrap_err());
    assert!(error.contains("line 1") && !error.contains("secret"), "{error}");
}

#[test]
fn an_unreadable_file_is_an_error_only_if_no_other_file_has_the_login() {
    let mut all = logins(&format!("{{\"auths\": {{\"r.example\": {}}}}}", basic("first:1")));
    all.then(Logins::unreadable(hinted("cannot read `x`", "mend it")));
    assert_eq!(named(&all, "r.example/x").as_deref(), Some("first:1"));
    let error = all.find("other.example/x").unwrap_err();
    assert_eq!((format!("{error:#}").as_str(), hint::of(&error)), ("cannot read `x`", Some("mend it")));
}
