//! What workflows and containers of GitHub and of the first Iguana rely on.

use crate::boot;
use anyhow::Result;

#[test]
fn steps_use_the_files_and_commands_of_github() -> Result<()> {
    let mut boot = boot(
        r#"
jobs:
  steps:
    container: REGISTRY/tool
    steps:
      - run: |
          echo MODE=fast >> $GITHUB_ENV
          mkdir -p /opt/bin
          printf '#!/bin/sh\necho found on the path\n' > /opt/bin/hello
          chmod +x /opt/bin/hello
          echo /opt/bin >> $GITHUB_PATH
          echo "all is well" >> $GITHUB_STEP_SUMMARY
      - run: 'echo "mode $MODE ${{ env.MODE }}"; hello'
      - id: fails
        run: |
          echo "::group::Disks"
          echo "::add-mask::s3cret"
          echo "the password is s3cret"
          echo "::endgroup::"
          echo "::set-output name=a::b"
          exit 3
  after:
    needs: steps
    if: always()
    container: {image: REGISTRY/tool, tty: false}
    steps:
      - run: |
          echo "it was ${{ needs.steps.step }} with ${{ needs.steps.exit-status }}"
          echo "without a terminal it is s3cret, too" | tee /iguana/progress
  end: {container: REGISTRY/end}
"#,
    )?;
    boot.expect_all(&[
        "the workflow command `::set-output` has no effect",
        "job steps: summary: all is well",
        "mode fast fast",
        "found on the path",
        "> Disks",
        "the password is ***",
        "job steps: failed: step 3 of 3",
        "it was fails with 3",
        "without a terminal it is ***, too",
        "handover: power off",
    ])?;
    let said = boot.ends()?;
    assert!(!said.contains("s3cret") && !said.contains("::endgroup"), "{said}");
    Ok(())
}
