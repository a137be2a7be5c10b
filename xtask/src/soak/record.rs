//! The table of a campaign, which grows from run to run.

use anyhow::{Context, Result};
use iguana_lab::soak::{Outcome, SILENCE_LIMIT};
use iguana_lab::source_tree;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The head of the table.
const HEAD: &str = "| fault | runs | kept | longest silence, s |\n| --- | ---: | ---: | ---: |\n";

/// The line with the seeds that were run.
const SEEDS: &str = "Seeds: ";

/// The results of all runs with one fault.
#[derive(Debug, Default, Clone, PartialEq)]
struct Row {
    runs: u64,
    kept: u64,
    silence: Duration,
}

/// The results of a campaign.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Record {
    name: &'static str,
    /// The seeds that were run, as ranges without gaps.
    seeds: BTreeSet<u64>,
    rows: BTreeMap<String, Row>,
}

impl Record {
    /// The record of earlier campaigns, if there is one.
    pub(super) fn open(name: &'static str) -> Result<Record> {
        let empty = Record { name, ..Record::default() };
        match fs::read_to_string(empty.file()) {
            Ok(text) => Record::parse(name, &text),
            Err(_) => Ok(empty),
        }
    }

    fn parse(name: &'static str, text: &str) -> Result<Record> {
        let damaged = || format!("the table of `soak-{name}.md` is damaged");
        let (seeds, table) = text.split_once(HEAD).with_context(damaged)?;
        let seeds = seeds.lines().find_map(|line| line.strip_prefix(SEEDS)).with_context(damaged)?;
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let rows = rows.map(|line| row(line).with_context(damaged)).collect::<Result<_>>()?;
        Ok(Record { name, seeds: ranges_of(seeds).with_context(damaged)?, rows })
    }

    /// The first seed after all that were run.
    pub(super) fn next_seed(&self) -> u64 {
        self.seeds.last().map_or(0, |last| last + 1)
    }

    /// Adds an outcome, unless its seed is there already.
    pub(super) fn add(&mut self, outcome: &Outcome) {
        if !self.seeds.insert(outcome.seed) {
            return;
        }
        for fault in &outcome.faults {
            let row = self.rows.entry(fault.clone()).or_default();
            row.runs += 1;
            row.kept += u64::from(outcome.broken.is_none());
            row.silence = row.silence.max(outcome.silence);
        }
    }

    /// The page.
    pub(super) fn text(&self) -> String {
        let rows = self.rows.iter().map(|(fault, Row { runs, kept, silence })| {
            format!("| {fault} | {runs} | {kept} | {:.1} |\n", silence.as_secs_f32())
        });
        format!(
            "# Soak: {}\n\n`cargo xtask soak` adds its runs to this table. A run with two faults is in two rows. It keeps its \
             promise if it ends right, or names an injected fault within that fault's bound, and says nothing for at most {} s.\n\n\
             {} runs.\n\n{SEEDS}{}\n\n{HEAD}{}",
            self.name,
            SILENCE_LIMIT.as_secs(),
            self.seeds.len(),
            ranges(&self.seeds),
            rows.collect::<String>()
        )
    }

    /// Writes the page.
    pub(super) fn keep(&self) -> Result<PathBuf> {
        let file = self.file();
        fs::write(&file, self.text()).with_context(|| format!("`{}`", file.display()))?;
        Ok(file)
    }

    fn file(&self) -> PathBuf {
        source_tree().join(format!("bench/results/soak-{}.md", self.name))
    }
}

fn row(line: &str) -> Option<(String, Row)> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [fault, runs, kept, silence] = cells[..] else { return None };
    let silence = Duration::try_from_secs_f32(silence.parse().ok()?).ok()?;
    Some((fault.to_owned(), Row { runs: runs.parse().ok()?, kept: kept.parse().ok()?, silence }))
}

/// `0-99, 200`
fn ranges(seeds: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for seed in seeds {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *seed => *last = *seed,
            _ => ranges.push((*seed, *seed)),
        }
    }
    let text = |(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn ranges_of(text: &str) -> Option<BTreeSet<u64>> {
    let mut seeds = BTreeSet::new();
    for range in text.split(", ").filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        seeds.extend(first.parse::<u64>().ok()?..=last.parse().ok()?);
    }
    Some(seeds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(seed: u64, faults: &[&str], is_kept: bool, seconds: f32) -> Outcome {
        Outcome {
            seed,
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
            broken: (!is_kept).then(|| "wrong tree".to_owned()),
            silence: Duration::from_secs_f32(seconds),
        }
    }

    #[test]
    fn a_table_is_read_as_it_was_written_and_grows() {
        let mut record = Record { name: "pulls", ..Record::default() };
        record.add(&outcome(0, &["layer: cut", "token: stall"], true, 2.5));
        record.add(&outcome(1, &["layer: cut"], false, 1.0));
        record.add(&outcome(7, &["layer: cut"], true, 9.0));
        record.add(&outcome(7, &["layer: cut"], true, 9.0));
        let text = record.text();
        assert!(text.contains("| layer: cut | 3 | 2 | 9.0 |\n| token: stall | 1 | 1 | 2.5 |\n"), "{text}");
        assert!(text.contains("3 runs.\n\nSeeds: 0-1, 7\n"), "{text}");
        assert_eq!(Record::parse("pulls", &text).unwrap(), record);
        assert_eq!(record.next_seed(), 8);
        assert!(Record::parse("pulls", "# Soak\n").is_err());
    }
}
