//! Writes `docs/events.md` and `docs/events.schema.json` from the table of events.

use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    fs::write(docs.join("events.md"), events::page())?;
    fs::write(docs.join("events.schema.json"), events::schema())
}
