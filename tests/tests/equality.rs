//! Compares the trees of images with odd layers, as seen by a container, with the OCI image-spec's layer rules.
//! `cargo xtask equality` also compares third-party tools. It must be run by root.

use anyhow::{Result, ensure};
use iguana_lab::equality::{Campaign, differences};

/// Files in the image with many; `cargo xtask equality` has 100,000.
const MANY: usize = 3000;

#[test]
fn images_unpack_as_specified() -> Result<()> {
    let campaign = Campaign::new(MANY)?;
    let mut wrong = String::new();
    for ((subject, expected), seen) in
        campaign.subjects().iter().zip(campaign.expected()?).zip(campaign.seen()?)
    {
        ensure!(expected.len() > 1, "the model finds nothing in `{}`", subject.oddity);
        for difference in differences(&expected, &seen) {
            wrong += &format!("{} ({}): {difference}\n", subject.oddity, subject.name);
        }
    }
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}
