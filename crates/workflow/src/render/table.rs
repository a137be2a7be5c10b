//! The job order as a table.

use super::{needs, source};
use crate::expression::Expression;
use crate::{Job, Limits, Plan, Volume};
use printable::visible;
use std::time::Duration;

/// The widest cell in characters: a table with all columns still fits on a wide terminal.
const WIDEST: usize = 36;

const HEADINGS: [&str; 10] =
    ["#", "job", "image", "services", "needs", "volumes", "if", "steps", "timeout", "retries"];

/// A row for each job, in order, with headings. Empty columns are left out.
pub fn table(plan: &Plan) -> String {
    let jobs = plan.jobs.iter().enumerate();
    let rows: Vec<[String; 10]> = jobs.map(|(index, (id, job))| row(index + 1, id, job)).collect();
    aligned(&rows)
}

fn row(number: usize, id: &str, job: &Job) -> [String; 10] {
    let services: Vec<&str> = job.services.keys().map(String::as_str).collect();
    let volumes: Vec<String> = job.container.volumes.iter().map(short_form).collect();
    [
        number.to_string(),
        head(id),
        image(job.container.image.name.source()),
        head(&services.join(", ")),
        head(&needs(job).join(", ")),
        head(&volumes.join(", ")),
        head(job.condition.as_ref().map(Expression::source).unwrap_or_default()),
        some(job.steps.len()),
        job.limits.timeout.map(readable).unwrap_or_default(),
        retries(&job.limits),
    ]
}

/// Aligns the rows below their headings and leaves out empty columns.
fn aligned(rows: &[[String; 10]]) -> String {
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<(usize, usize)> = (0..HEADINGS.len())
        .map(|column| (column, widest(column)))
        .filter(|(_, widest)| *widest > 0)
        .map(|(column, widest)| (column, widest.max(HEADINGS[column].len())))
        .collect();
    let line = |cells: &[String; 10]| {
        let cells = widths.iter().map(|(column, width)| match column {
            0 => format!("{:>width$}", cells[0]),
            _ => format!("{:<width$}", cells[*column]),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    [HEADINGS.map(str::to_owned)].iter().chain(rows).map(line).collect()
}

/// The beginning of a text on one line.
fn head(text: &str) -> String {
    let line = visible(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned();
    if line.chars().count() <= WIDEST {
        return line;
    }
    line.chars().take(WIDEST - 1).chain(['…']).collect()
}

/// The name of an image with a shortened digest.
fn image(name: &str) -> String {
    match name.split_once("@sha256:") {
        Some((name, digest)) => {
            let digest = format!("@sha256:{}…", digest.chars().take(8).collect::<String>());
            tail(name, WIDEST - digest.chars().count()) + &digest
        }
        None => tail(name, WIDEST),
    }
}

/// The end of a text, which distinguishes one image from another.
fn tail(text: &str, widest: usize) -> String {
    let text = &*visible(text);
    match text.chars().count().checked_sub(widest) {
        None | Some(0) => text.to_owned(),
        Some(cut) => format!("…{}", text.chars().skip(cut + 1).collect::<String>()),
    }
}

fn some(count: usize) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}

fn retries(limits: &Limits) -> String {
    match (limits.retries, limits.delay) {
        (0, _) => String::new(),
        (times, Duration::ZERO) => times.to_string(),
        (times, delay) => format!("{times} after {}", readable(delay)),
    }
}

/// A duration in the syntax of workflows: `1h 30m`.
fn readable(time: Duration) -> String {
    let milliseconds = time.as_millis();
    let parts = [
        (milliseconds / 86_400_000, "d"),
        (milliseconds / 3_600_000 % 24, "h"),
        (milliseconds / 60_000 % 60, "m"),
        (milliseconds / 1000 % 60, "s"),
        (milliseconds % 1000, "ms"),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    parts.map(|(number, unit)| format!("{number}{unit}")).collect::<Vec<_>>().join(" ")
}

fn short_form(volume: &Volume) -> String {
    let mode = if volume.read_only { ":ro" } else { "" };
    let target = volume.target.display();
    match source(&volume.source) {
        Some(source) => format!("{source}:{target}{mode}"),
        None => format!("{target}{mode}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn plan(text: &str) -> Plan {
        check(text.as_bytes()).into_plan("flow.yaml").unwrap()
    }

    #[test]
    fn a_table_has_the_columns_that_say_something() {
        let plan = plan(
            "jobs:\n  \
             second: {container: r.example/two, needs: first, timeout: 90s, retries: {times: 2, delay: 5s}}\n  \
             first: {container: {image: r.example/one, volumes: ['a:/b:ro', {type: tmpfs, target: /t}]}}\n",
        );
        let expected = "\
#  job     image          needs  volumes            timeout  retries
1  first   r.example/one         a:/b:ro, tmpfs:/t
2  second  r.example/two  first                     1m 30s   2 after 5s
";
        assert_eq!(table(&plan), expected);
    }

    #[test]
    fn a_plan_of_a_hundred_jobs_stays_readable() {
        let image = format!("r.example/{}installer:latest", "directory/".repeat(9));
        let job = |number| {
            format!("  job-{number}: {{container: '{image}', if: \"env.A == '{}'\"}}\n", "é ".repeat(90))
        };
        let jobs: String = (0..100).map(job).collect();
        let table = table(&plan(&format!("env: {{A: b}}\njobs:\n{jobs}")));
        assert_eq!(table.lines().count(), 101);
        assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
        assert!(table.contains("/installer:latest") && table.contains("env.A == 'é é"), "{table}");
        assert!(table.lines().nth(100).unwrap().starts_with("100  job-99  …"), "{table}");
    }

    #[test]
    fn an_image_matches_a_name_suffix_or_a_digest_prefix() {
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(image("busybox"), "busybox");
        assert_eq!(image(&format!("r.example/a@sha256:{digest}")), "r.example/a@sha256:01234567…");
        let long = format!("registry.example.com/directory/tool@sha256:{digest}");
        assert_eq!(image(&long), "…com/directory/tool@sha256:01234567…");
        assert_eq!(image(&long).chars().count(), WIDEST);
    }

    #[test]
    fn times_are_written_as_in_a_workflow() {
        for (milliseconds, expected) in
            [(250, "250ms"), (90_000, "1m 30s"), (3_600_000, "1h"), (90_061_001, "1d 1h 1m 1s 1ms")]
        {
            assert_eq!(readable(Duration::from_millis(milliseconds)), expected);
        }
    }
}
