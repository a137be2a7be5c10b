//! YAML text to [`Workflow`].

use super::model::Workflow;

/// Reads a workflow document.
///
/// # Errors
/// When it is not YAML, or not a workflow: with line, column and the line itself.
pub fn parse(text: &str) -> anyhow::Result<Workflow> {
    serde_saphyr::from_str(text).map_err(|error| {
        let shown = error.to_string();
        anyhow::anyhow!("{}", shown.strip_prefix("error: ").unwrap_or(&shown))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::VolumeSource;

    const AGAMA: &str = "
name: Agama
jobs:
  agama:
    container:
      image: registry.example/agama-service
      volumes:
        - dbus_run:/run/agama
        - /var/run/dbus/system_bus_socket:/var/run/dbus/system_bus_socket
    services:
      backend:
        image: registry.example/agama-web
        volumes:
          - dbus_run:/run/agama
";

    #[test]
    fn a_workflow_of_the_original_is_read() {
        let workflow = parse(AGAMA).unwrap();
        let job = &workflow.jobs["agama"];
        assert_eq!(job.container.volumes[0].source, VolumeSource::Named("dbus_run".into()));
        assert_eq!(job.services["backend"].image.to_string(), "registry.example/agama-web:latest");
    }

    #[test]
    fn numbers_and_booleans_in_env_are_texts() {
        let workflow =
            parse("env: {A: 1, B: true, C: 1.50}\njobs: {a: {container: {image: r.example/x}}}").unwrap();
        let values: Vec<&str> = workflow.env.values().map(String::as_str).collect();
        assert_eq!(values, ["1", "true", "1.50"]);
    }

    #[test]
    fn a_mistake_is_shown_with_its_line() {
        for (text, expected) in [
            ("jobs:\n  a:\n    containre: {image: x}\n", "containre"),
            ("jobs:\n  a:\n    container: {image: 'UPPER/x'}\n", "UPPER/x"),
            ("jobs:\n  a:\n    container: {image: x}\n  a:\n    container: {image: x}\n", "a"),
            ("<html>404</html>", ""),
            ("jobs: {", ""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains("line") || error.contains("-->"), "{text}: {error}");
        }
    }
}
