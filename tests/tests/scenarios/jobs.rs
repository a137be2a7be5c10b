//! The order of jobs, their services, and the sources of a workflow.

use crate::POWER_OFF;
use anyhow::Result;
use iguana_lab::authority::Authority;
use iguana_lab::image::Recipe;
use iguana_lab::initrd::Initrd;
use iguana_lab::registry::Registry;
use iguana_lab::scenario::Scenario;
use iguana_lab::web_server::WebServer;

#[test]
fn a_service_runs_beside_its_job_and_shares_a_volume() -> Result<()> {
    let service = "
        trap 'echo service told to stop > /iguana/progress; exit 0' TERM
        echo from the service > /shared/note
        while :; do sleep 0.1; done";
    let job = "
        until [ -s /shared/note ]; do sleep 0.1; done
        echo \"the job reads: $(cat /shared/note)\"";
    let workflow = "
jobs:
  work:
    services:
      helper: {image: REGISTRY/service, volumes: ['common:/shared']}
    container: {image: REGISTRY/job, volumes: ['common:/shared']}
  last:
    needs: [work]
    container: {image: REGISTRY/last}";
    let mut boot = Scenario::new()?
        .image("service", Recipe::script(service)?)?
        .image("job", Recipe::script(job)?)?
        .image("last", Recipe::script(POWER_OFF)?)?
        .workflow(workflow)
        .boot()?;
    boot.expect_all(&["service helper: started", "job work: started", "the job reads: from the service"])?;
    boot.expect_all(&["service told to stop", "job last: started", "handover: power off"])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn jobs_wait_for_what_they_need() -> Result<()> {
    let workflow = "
jobs:
  second: {needs: [first], container: {image: REGISTRY/second}}
  first: {container: {image: REGISTRY/first}}";
    let mut boot = Scenario::new()?
        .image("first", Recipe::script("echo this is the first")?)?
        .image("second", Recipe::script(POWER_OFF)?)?
        .workflow(workflow)
        .boot()?;
    boot.expect_all(&["job first: started", "this is the first", "job first: succeeded"])?;
    boot.expect_all(&["job second: started", "job second: succeeded", "handover: power off"])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn dependants_of_a_failed_job_are_skipped() -> Result<()> {
    let workflow = "
jobs:
  bad: {container: {image: REGISTRY/bad}}
  after: {needs: [bad], container: {image: REGISTRY/good}}
  tolerated: {container: {image: REGISTRY/bad}, continue_on_error: true}
  free: {needs: [tolerated], container: {image: REGISTRY/good}}";
    let mut boot = Scenario::new()?
        .image("bad", Recipe::script("exit 3")?)?
        .image("good", Recipe::script("echo good")?)?
        .workflow(workflow)
        .append("rd.iguana.on_failure=poweroff")
        .boot()?;
    boot.expect_all(&["job bad: failed: exit status 3", "job after: skipped: needs `bad`"])?;
    boot.expect_all(&["job tolerated: failed: exit status 3", "job free: started", "job free: succeeded"])?;
    let block = boot.fails_in("job")?;
    assert!(block.contains("bad") && !block.contains("tolerated"), "{block}");
    boot.ends()?;
    Ok(())
}

#[test]
fn containers_of_the_command_line() -> Result<()> {
    let mut boot = Scenario::new()?
        .image("a", Recipe::script("echo first container")?)?
        .image("b", Recipe::script(&format!("echo second container\n{POWER_OFF}"))?)?
        .append("rd.iguana.containers=REGISTRY/a,REGISTRY/b:latest")
        .boot()?;
    boot.expect_all(&["first container", "second container", "handover: power off"])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn the_bundled_workflow_is_used_when_nothing_else_is_named() -> Result<()> {
    let registry = Registry::plain()?;
    let image = format!("{}/job", registry.address());
    let initrd = Initrd::bundling(&format!("jobs: {{bundled: {{container: {{image: \"{image}\"}}}}}}\n"))?;
    let mut boot =
        Scenario::with(&initrd).registry(registry).image("job", Recipe::script(POWER_OFF)?)?.boot()?;
    boot.expect_all(&["workflow: from ", "job bundled: started", "job bundled: succeeded"])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn workflow_and_image_come_over_tls() -> Result<()> {
    let authority = Authority::named("lab")?;
    let web_server = WebServer::tls(&authority)?;
    let registry = Registry::tls(&authority)?;
    let workflow = format!("jobs: {{safe: {{container: {{image: \"{}/job\"}}}}}}", registry.address());
    let url = web_server.serve("/some/workflow.yaml", workflow);
    let mut boot = Scenario::new()?
        .registry(registry)
        .image("job", Recipe::script(POWER_OFF)?)?
        .append(format!("rd.iguana.control_url={url}"))
        .boot()?;
    boot.expect_all(&[&format!("workflow: from {url}"), "job safe: succeeded", "handover: power off"])?;
    boot.ends()?;
    Ok(())
}
