//! The registry client against real registries, and against a fault proxy. It runs on a running system where no
//! machine is needed.

use anyhow::Result;
use iguana_lab::HOST;
use iguana_lab::authority::Authority;
use iguana_lab::fault_proxy::{Action, FaultProxy, Impairment, Request};
use iguana_lab::image::{Maker, Recipe};
use iguana_lab::process::{self, QUICK};
use iguana_lab::puller::{Puller, fails, here, insecure, mirror, succeeds, text};
use iguana_lab::registry::{CREDENTIALS, Registry};
use iguana_lab::scenario::Scenario;
use std::fs;
use std::process::Command;

/// Bytes of a layer that needs more than one read.
const LAYER_BYTES: usize = 3 << 20;

/// Adds the image `tool` to a registry.
fn filled(registry: Registry) -> Result<Registry> {
    let mut random = vec![0; LAYER_BYTES];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut random)?;
    registry
        .push(&Recipe::script("echo it runs")?.file("/random", 0o644, random)?.make(Maker::Spec)?, "tool")?;
    Ok(registry)
}

fn digest(registry: &Registry) -> Result<String> {
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "inspect", "--tls-verify=false", "--format", "{{.Digest}}"]);
    Ok(process::run(skopeo.arg(format!("docker://{}/tool", here(registry))), QUICK)?.trim().to_owned())
}

fn auth_json(key: &str, name: &str, password: &str) -> Result<String> {
    let mut base64 = Command::new("sh");
    let login =
        process::run(base64.args(["-c", &format!("printf '%s' '{name}:{password}' | base64 -w0")]), QUICK)?;
    Ok(format!("{{\"auths\": {{\"{key}\": {{\"auth\": \"{login}\"}}}}}}"))
}

fn pass(_: &Request) -> Action {
    Action::Pass
}

#[test]
fn mirrors_are_tried_in_order_and_the_location_at_last() -> Result<()> {
    let (has, lacks) = (filled(Registry::plain()?)?, Registry::plain()?);
    let down = "[[registry]]\nprefix = \"main.example\"\nlocation = \"127.0.0.1:2\"\ninsecure = true\n";
    let puller = Puller::with(&format!("{down}{}{}", mirror("127.0.0.1:1"), mirror(&here(&has))))?;
    let from = format!("from {}/tool", here(&has));
    succeeds(&puller.run("main.example/tool", "")?, &["cannot use `127.0.0.1:1/tool`: ", &from]);
    puller.file("registries.conf", format!("{down}{}", mirror(&here(&lacks))))?;
    let refused = puller.run("main.example/tool", "")?;
    fails(&refused, &["manifest unknown", "retrying in", "(4 of 5)", "`127.0.0.1:2` is up but refuses"]);
    let location = down.replace("127.0.0.1:2", &here(&has));
    puller.file("registries.conf", format!("{location}{}", mirror(&here(&lacks))))?;
    succeeds(&puller.run("main.example/tool", "")?, &[&from]);
    Ok(())
}

#[test]
fn a_mirror_for_digests_is_not_asked_for_tags() -> Result<()> {
    let registry = filled(Registry::plain()?)?;
    let fault_proxy = FaultProxy::before(&registry.address(), pass)?;
    let table = format!(
        "{}mirror-by-digest-only = true\n{}",
        insecure(&here(&registry)),
        mirror(&fault_proxy.address())
    );
    let puller = Puller::with(&table)?;
    succeeds(&puller.run(&format!("{}/tool", here(&registry)), "")?, &[]);
    assert!(fault_proxy.requests().is_empty());
    let by_digest = format!("{}/tool@{}", here(&registry), digest(&registry)?);
    succeeds(&puller.run(&by_digest, "")?, &[&format!("from {}/tool", fault_proxy.address())]);
    assert!(!fault_proxy.requests().is_empty());
    Ok(())
}

#[test]
fn drop_ins_change_what_is_blocked_and_what_short_names_mean() -> Result<()> {
    let registry = filled(Registry::plain()?)?;
    let conf = format!("{}blocked = true\n", insecure(&here(&registry)));
    let puller = Puller::with(&conf)?;
    let image = format!("{}/tool", here(&registry));
    fails(&puller.run(&image, "")?, &[&format!("registries.conf blocks `{}`", here(&registry))]);
    puller.file("registries.conf.d/50-open.conf", insecure(&here(&registry)))?;
    succeeds(&puller.run(&image, "")?, &[]);
    let search = format!("unqualified-search-registries = ['127.0.0.1:1', '{}']\n", here(&registry));
    puller.file(
        "registries.conf.d/60-search.conf",
        format!("{search}short-name-mode = 'enforcing'\nnew = 1\n"),
    )?;
    let told = [
        "`tool` is ambiguous between the registries",
        "warning: ignoring the unknown key `new` in registries.conf",
    ];
    fails(&puller.run("tool", "")?, &told);
    puller.file("registries.conf.d/70-permissive.conf", "short-name-mode = 'permissive'\n")?;
    succeeds(&puller.run("tool", "")?, &["cannot use `127.0.0.1:1/tool`", &format!("from {image}")]);
    puller.file("registries.conf.d/80-alias.conf", format!("[aliases]\ntool = '{image}'\n"))?;
    let output = puller.run("tool", "")?;
    succeeds(&output, &[&format!("from {image}")]);
    assert!(!text(&output).contains("cannot use"));
    Ok(())
}

#[test]
fn logins_are_found_by_registry_and_by_repository() -> Result<()> {
    let registry = filled(Registry::demanding_a_password()?)?;
    let (name, password) = CREDENTIALS;
    let puller = Puller::with(&insecure(&here(&registry)))?;
    let image = format!("{}/tool", here(&registry));
    fails(&puller.run(&image, "")?, &["requires a name and a password", "skopeo login"]);
    puller.file("auth.json", auth_json(&here(&registry), name, "wrong")?)?;
    fails(&puller.run(&image, "")?, &["401", "check the login in auth.json"]);
    let chosen = puller.file("chosen.json", auth_json(&image, name, password)?)?;
    succeeds(&puller.run(&image, &format!("REGISTRY_AUTH_FILE={}", chosen.display()))?, &[]);
    puller.file("auth.json", auth_json(&here(&registry), name, password)?)?;
    let output = puller.run(&image, "")?;
    succeeds(&output, &[]);
    assert!(!text(&output).contains(password));
    puller.file("auth.json", format!("{{\"credHelpers\": {{\"{}\": \"pass\"}}}}", here(&registry)))?;
    fails(&puller.run(&image, "")?, &["docker-credential-pass", "skopeo login"]);
    Ok(())
}

#[test]
fn credentials_of_a_container_are_not_sent_to_mirrors() -> Result<()> {
    let registry = filled(Registry::demanding_a_password()?)?;
    let fault_proxy = FaultProxy::before(&registry.address(), pass)?;
    let puller = Puller::with(&format!("{}{}", insecure(&here(&registry)), mirror(&fault_proxy.address())))?;
    let (name, password) = CREDENTIALS;
    let workflow = format!(
        "jobs: {{own: {{container: {{image: '{}/tool', credentials: {{username: {name}, password: {password}}}}}}}}}",
        here(&registry)
    );
    succeeds(&puller.run_workflow(&workflow, "")?, &["cannot use", "requires a name and a password"]);
    assert!(!fault_proxy.requests().is_empty());
    assert!(fault_proxy.requests().iter().all(|request| !request.says("authorization:")));
    Ok(())
}

#[test]
fn certs_d_has_authorities_and_client_certificates() -> Result<()> {
    let authority = Authority::named("lab")?;
    let registry = filled(Registry::requiring_a_certificate(&authority)?)?;
    let (image, puller) = (format!("{}/tool", here(&registry)), Puller::with("")?);
    fails(&puller.run(&image, "")?, &["UnknownIssuer"]);
    let directory = format!("certs.d/{}", here(&registry));
    let ca = puller.file(&format!("{directory}/ca.crt"), fs::read(authority.certificate())?)?;
    fails(&puller.run(&image, "")?, &["may require a client certificate"]);
    authority.certify_client(ca.parent().unwrap_or(&ca))?;
    succeeds(&puller.run(&image, "")?, &[]);
    Ok(())
}

#[test]
fn a_proxy_is_used_except_for_excluded_hosts() -> Result<()> {
    let authority = Authority::named("lab")?;
    let registry = filled(Registry::tls(&authority)?)?;
    let proxy = FaultProxy::before("", |request| {
        // dXNlcjpvcGVuQHNlc2FtZQ== is `user:open@sesame`.
        if request.says("proxy-authorization: basic dXNlcjpvcGVuQHNlc2FtZQ==") {
            return Action::Tunnel;
        }
        Action::Answer("407 Proxy Authentication Required", Vec::new(), Vec::new())
    })?;
    // Only loopback addresses are in the certificate, and loopback is never requested through a proxy.
    let (image, puller) = (
        format!("{HOST}:{}/tool", here(&registry).rsplit(':').next().unwrap_or_default()),
        Puller::with("")?,
    );
    puller.file(
        &format!("certs.d/{}/ca.crt", image.trim_end_matches("/tool")),
        fs::read(authority.certificate())?,
    )?;
    let right = format!("HTTPS_PROXY=http://user:open%40sesame@{}", proxy.address());
    succeeds(&puller.run(&image, &right)?, &[]);
    assert!(proxy.requests().iter().all(|request| request.head.starts_with(&format!("CONNECT {HOST}:"))));
    let asked = proxy.requests().len();
    let wrong = format!("https_proxy=http://user:secret@{}", proxy.address());
    let refused = puller.run(&image, &wrong)?;
    fails(&refused, &["the proxy refused the connection", "407", "`NO_PROXY`"]);
    assert!(!text(&refused).contains("secret"));
    let asked_then = proxy.requests().len();
    assert!(asked_then > asked);
    let direct = image.replace(HOST, "127.0.0.1");
    puller.file(&format!("certs.d/{}/ca.crt", here(&registry)), fs::read(authority.certificate())?)?;
    succeeds(&puller.run(&direct, &right)?, &[]);
    assert_eq!(proxy.requests().len(), asked_then);
    Ok(())
}

#[test]
fn a_busy_registry_is_retried_when_it_says() -> Result<()> {
    let registry = filled(Registry::plain()?)?;
    let fault_proxy = FaultProxy::before(&registry.address(), |request| {
        let told = |message| format!("{{\"errors\": [{{\"code\": \"X\", \"message\": \"{message}\"}}]}}");
        match (
            request.target.contains("/manifests/latest"),
            request.target.contains("/blobs/"),
            request.before,
        ) {
            (true, _, 0) => Action::Answer(
                "503 Service Unavailable",
                vec![("Retry-After", "2".into())],
                told("upgrading the database").into(),
            ),
            (true, _, 1) => Action::Answer(
                "429 Too Many Requests",
                vec![("Retry-After", "1".into())],
                told("slow down").into(),
            ),
            (_, true, 0) => Action::Answer("500 Internal Server Error", Vec::new(), "<html>".into()),
            _ => Action::Pass,
        }
    })?;
    let puller = Puller::with(&insecure(&fault_proxy.address()))?;
    let output = puller.run(&format!("{}/tool", fault_proxy.address()), "")?;
    let told = [
        "503 Service Unavailable",
        "upgrading the database",
        "retrying in 2.",
        "(1 of 10)",
        "slow down",
        "500",
    ];
    succeeds(&output, &told);
    Ok(())
}

#[test]
fn a_registry_that_asks_for_a_long_delay_is_given_up() -> Result<()> {
    let fault_proxy = FaultProxy::before("", |_| {
        Action::Answer("429 Too Many Requests", vec![("Retry-After", "3600".into())], Vec::new())
    })?;
    let puller = Puller::with(&insecure(&fault_proxy.address()))?;
    let output = puller.run(&format!("{}/tool", fault_proxy.address()), "")?;
    fails(&output, &["too many requests to", "asks to retry after 3600 s", "of the total 600 s"]);
    assert_eq!(fault_proxy.requests().len(), 1);
    Ok(())
}

#[test]
fn a_layer_whose_connection_breaks_is_fetched_again() -> Result<()> {
    let registry = filled(Registry::plain()?)?;
    let fault_proxy = FaultProxy::before(&registry.address(), |request| {
        if request.target.contains("/blobs/") && request.before == 0 {
            Action::Impaired(Impairment::Cut(LAYER_BYTES / 2))
        } else {
            Action::Pass
        }
    })?;
    let puller = Puller::with(&insecure(&fault_proxy.address()))?;
    let output = puller.run(&format!("{}/tool", fault_proxy.address()), "")?;
    succeeds(&output, &["the connection was lost after", "retrying in"]);
    Ok(())
}

#[test]
fn a_redirect_to_another_host_carries_no_credentials() -> Result<()> {
    let registry = filled(Registry::plain()?)?;
    let elsewhere = FaultProxy::before(&registry.address(), pass)?;
    let target = elsewhere.address();
    let fault_proxy = FaultProxy::before(&registry.address(), move |request| {
        if !request.says("authorization: basic") {
            let challenge = vec![("WWW-Authenticate", "Basic realm=\"lab\"".into())];
            return Action::Answer("401 Unauthorized", challenge, Vec::new());
        }
        if request.target.contains("/blobs/") && !request.target.contains("?again") {
            // First a redirect to itself, for which the credentials are known.
            return Action::Answer(
                "307 Temporary Redirect",
                vec![("Location", format!("{}?again", request.target))],
                Vec::new(),
            );
        }
        if request.target.contains("/blobs/") {
            let location = format!("http://{target}{}", request.target);
            return Action::Answer("302 Found", vec![("Location", location)], Vec::new());
        }
        Action::Pass
    })?;
    let puller = Puller::with(&insecure(&fault_proxy.address()))?;
    puller.file("auth.json", auth_json(&fault_proxy.address(), "user", "secret")?)?;
    succeeds(&puller.run(&format!("{}/tool", fault_proxy.address()), "")?, &[]);
    assert!(!elsewhere.requests().is_empty());
    assert!(elsewhere.requests().iter().all(|request| !request.says("authorization")));
    Ok(())
}

#[test]
fn redirect_loops_end() -> Result<()> {
    let fault_proxy = FaultProxy::before("", |request| {
        Action::Answer("302 Found", vec![("Location", format!("{}x", request.target))], Vec::new())
    })?;
    let puller = Puller::with(&insecure(&fault_proxy.address()))?;
    let output = puller.run(&format!("{}/tool", fault_proxy.address()), "")?;
    fails(&output, &["too many redirects", "redirect loop"]);
    assert_eq!(fault_proxy.requests().len(), 11);
    Ok(())
}

#[test]
fn an_expiring_token_is_renewed_during_a_pull() -> Result<()> {
    let registry = filled(Registry::plain()?)?;
    let authorizer = FaultProxy::before("", |request| {
        assert!(request.says("authorization: basic"));
        Action::Answer("200 OK", Vec::new(), format!("{{\"token\": \"number-{}\"}}", request.before).into())
    })?;
    let realm = format!("http://{}/token", authorizer.address());
    let fault_proxy = FaultProxy::before(&registry.address(), move |request| {
        // Layers and configuration need a second token.
        let wanted = if request.target.contains("/blobs/") { "bearer number-1" } else { "bearer number-" };
        if request.says(&format!("authorization: {wanted}")) {
            return Action::Pass;
        }
        let challenge = format!("Bearer realm=\"{realm}\",service=\"lab\"");
        Action::Answer("401 Unauthorized", vec![("WWW-Authenticate", challenge)], Vec::new())
    })?;
    let puller = Puller::with(&insecure(&fault_proxy.address()))?;
    puller.file("auth.json", auth_json(&fault_proxy.address(), "user", "secret")?)?;
    succeeds(&puller.run(&format!("{}/tool", fault_proxy.address()), "")?, &[]);
    let asked = authorizer.requests();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].target.contains("scope=repository%3Atool%3Apull"));
    Ok(())
}

#[test]
fn a_token_refused_twice_during_a_pull_is_requested_once_more() -> Result<()> {
    let registry = filled(Registry::plain()?)?;
    let authorizer = FaultProxy::before("", |request| {
        Action::Answer("200 OK", Vec::new(), format!("{{\"token\": \"number-{}\"}}", request.before).into())
    })?;
    let realm = format!("http://{}/token", authorizer.address());
    let fault_proxy = FaultProxy::before(&registry.address(), move |request| {
        // The first token is valid for manifests, the second for nothing.
        let is_known = request.says("authorization: bearer number-")
            && !request.says("authorization: bearer number-1")
            && !(request.target.contains("/blobs/") && request.says("authorization: bearer number-0"));
        if is_known {
            return Action::Pass;
        }
        let challenge = format!("Bearer realm=\"{realm}\",service=\"lab\"");
        Action::Answer("401 Unauthorized", vec![("WWW-Authenticate", challenge)], Vec::new())
    })?;
    let puller = Puller::with(&insecure(&fault_proxy.address()))?;
    let output = puller.run(&format!("{}/tool", fault_proxy.address()), "")?;
    succeeds(&output, &["refuses a new token of its token server", "retrying in"]);
    assert_eq!(authorizer.requests().len(), 3, "{:?}", authorizer.requests());
    Ok(())
}

#[test]
fn a_stalled_prefetch_is_explained_when_its_job_waits() -> Result<()> {
    let registry = filled(Registry::plain()?)?;
    registry.push(&Recipe::script("sleep 5")?.make(Maker::Spec)?, "slow")?;
    let fault_proxy = FaultProxy::before(&registry.address(), |request| match request.before {
        0..4 if request.target.contains("/manifests/") => {
            Action::Answer("500 Internal Server Error", Vec::new(), Vec::new())
        }
        _ => Action::Pass,
    })?;
    let (fast, behind) = (here(&registry), fault_proxy.address());
    let puller = Puller::with(&format!("{}{}", insecure(&fast), insecure(&behind)))?;
    let output = puller.run_workflow(
        &format!("jobs:\n  first: {{container: '{fast}/slow'}}\n  second: {{container: '{behind}/tool', needs: first}}\n"),
        "",
    )?;
    succeeds(&output, &["prefetched during the previous job"]);
    let text = text(&output);
    let waiting = "images: waiting for those being prefetched";
    let (before, after) = text.split_once(waiting).ok_or_else(|| anyhow::anyhow!("{text}"))?;
    assert!(!before.contains("responded with `500") && after.contains("responded with `500"), "{text}");
    assert!(after.contains("retrying in") && after.contains("(4 of 5)"), "{text}");
    Ok(())
}

#[test]
fn foreign_artifacts_are_refused_by_their_type() -> Result<()> {
    let manifest = |target: &str| match target {
        "/v2/old/manifests/latest" => r#"{"schemaVersion": 1, "name": "old", "fsLayers": []}"#,
        _ => {
            r#"{"schemaVersion": 2, "layers": [], "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json",
            "size": 2, "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}}"#
        }
    };
    let fault_proxy = FaultProxy::before("", move |request| {
        Action::Answer("200 OK", Vec::new(), manifest(&request.target).into())
    })?;
    let puller = Puller::with(&insecure(&fault_proxy.address()))?;
    let old = puller.run(&format!("{}/old", fault_proxy.address()), "")?;
    fails(&old, &["schema version 1", "push the image again"]);
    let chart = puller.run(&format!("{}/chart", fault_proxy.address()), "")?;
    fails(&chart, &["artifact of the type `application/vnd.cncf.helm.config.v1+json`"]);
    Ok(())
}

#[test]
fn a_machine_goes_through_the_proxy_of_its_command_line() -> Result<()> {
    let proxy = FaultProxy::before("", |_| Action::Tunnel)?;
    let start = || Scenario::new()?.registry(Registry::tls(&Authority::named("lab")?)?).image("end", end()?);
    let through = format!("proxy=http://{}", proxy.address().replace("127.0.0.1", HOST));
    let mut boot = start()?.workflow("jobs: {end: {container: REGISTRY/end}}").append(&through).boot()?;
    boot.expect_all(&["workflow: from http", "job end: succeeded", "handover: power off"])?;
    boot.ends()?;
    let asked = proxy.requests();
    // The workflow is on a server without TLS, the image in a registry with it.
    for start in [format!("GET http://{HOST}:"), format!("CONNECT {HOST}:")] {
        assert!(asked.iter().any(|request| request.head.starts_with(&start)), "{start}");
    }
    let except = format!("{through} rd.iguana.no_proxy=other.example,{HOST}");
    let mut boot = start()?.workflow("jobs: {end: {container: REGISTRY/end}}").append(except).boot()?;
    boot.expect_all(&["job end: succeeded", "handover: power off"])?;
    boot.ends()?;
    assert_eq!(proxy.requests().len(), asked.len());
    Ok(())
}

fn end() -> Result<Recipe> {
    Recipe::script("echo poweroff > /iguana/kernelAction")
}
