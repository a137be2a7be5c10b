//! Unified kernel images: a PE file with kernel, initrd and command line as sections (UAPI group, Unified Kernel Image;
//! Microsoft, PE Format).

use super::{IMAGE_LIMIT, Installed, in_memory, joined};
use anyhow::{Context as _, ensure};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

/// Bytes of the headers that are read; real ones have a few hundred.
const HEADERS: usize = 64 << 10;
/// The offset in the DOS header at which the offset of the PE header is stored.
const PE_OFFSET: usize = 0x3c;
const PE_MAGIC: &[u8] = b"PE\0\0";
/// Bytes of the COFF header including the magic, and of one row of the section table.
const COFF_LENGTH: usize = 24;
const SECTION_LENGTH: usize = 40;
/// Bytes of a text section that are read: the kernel takes 2 KiB of a command line, an os-release has a few hundred
/// bytes.
const TEXT_LIMIT: u64 = 64 << 10;

/// A section's position in the file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Section {
    offset: u64,
    length: u64,
}

/// Reads kernel, initrd and command line of an image.
///
/// # Errors
/// When the file is not a unified kernel image.
pub(super) fn open(file: &File, name: String) -> anyhow::Result<Installed> {
    let sections = sections(file)?;
    let image = sections.copy(".linux")?.context("it has no `.linux` section")?;
    let initrds = [".ucode", ".initrd"].into_iter().filter_map(|name| sections.copy(name).transpose());
    let initrd = joined(initrds.collect::<anyhow::Result<_>>()?)?;
    Ok(Installed { name, image, initrd, cmdline: sections.text(".cmdline").unwrap_or_default() })
}

/// The os-release of an image; `None` if the file is not one.
pub(super) fn os_release(file: &File) -> Option<String> {
    sections(file).ok()?.text(".osrel")
}

struct Sections<'a> {
    file: &'a File,
    found: Vec<(String, Section)>,
}

fn sections(file: &File) -> anyhow::Result<Sections<'_>> {
    let mut headers = Vec::new();
    let mut start = file;
    start.seek(SeekFrom::Start(0))?;
    start.take(HEADERS as u64).read_to_end(&mut headers)?;
    let found = table(&headers).context("it is not a PE file")?;
    ensure!(!found.is_empty(), "it has no sections");
    Ok(Sections { file, found })
}

fn table(headers: &[u8]) -> Option<Vec<(String, Section)>> {
    let bytes = |offset: usize, length: usize| headers.get(offset..offset.checked_add(length)?);
    let number = |offset: usize| Some(u32::from_le_bytes(bytes(offset, 4)?.try_into().ok()?));
    let short = |offset: usize| Some(u16::from_le_bytes(bytes(offset, 2)?.try_into().ok()?));
    let pe = number(PE_OFFSET)? as usize;
    if bytes(pe, PE_MAGIC.len())? != PE_MAGIC {
        return None;
    }
    let (count, optional) = (short(pe + 6)?, short(pe + 20)?);
    let first = pe + COFF_LENGTH + usize::from(optional);
    let row = |index: usize| {
        let start = first + index * SECTION_LENGTH;
        let name = bytes(start, 8)?.split(|letter| *letter == 0).next()?;
        // A section is padded in the file. Its real length is its length in memory, unless the file has less.
        let (length, in_file) = (number(start + 8)?, number(start + 16)?);
        let section = Section { offset: number(start + 20)?.into(), length: length.min(in_file).into() };
        Some((String::from_utf8_lossy(name).into_owned(), section))
    };
    (0..usize::from(count)).map(row).collect()
}

impl Sections<'_> {
    fn find(&self, name: &str) -> Option<Section> {
        self.found.iter().find(|(known, _)| known == name).map(|(_, section)| *section)
    }

    fn text(&self, name: &str) -> Option<String> {
        let section = self.find(name)?;
        let mut bytes = vec![0; usize::try_from(section.length.min(TEXT_LIMIT)).ok()?];
        self.file.read_exact_at(&mut bytes, section.offset).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_matches(['\0', '\n', ' ']).to_owned())
    }

    /// Copies a section to a file in memory.
    fn copy(&self, name: &str) -> anyhow::Result<Option<File>> {
        let Some(section) = self.find(name) else { return Ok(None) };
        let (bytes, end) = (section.length, section.offset.saturating_add(section.length));
        ensure!(
            bytes <= IMAGE_LIMIT,
            "its section `{name}` has {bytes} bytes, more than the limit of {IMAGE_LIMIT}"
        );
        ensure!(
            end <= self.file.metadata()?.len(),
            "its section `{name}` extends beyond the end of the file"
        );
        let (mut from, mut to) = (self.file, in_memory(name)?);
        from.seek(SeekFrom::Start(section.offset))?;
        io::copy(&mut from.take(section.length), &mut to)?;
        to.seek(SeekFrom::Start(0))?;
        Ok(Some(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// A PE file that has only sections.
    fn image(sections: &[(&str, &str)]) -> File {
        let mut bytes = vec![0; 512];
        bytes[PE_OFFSET] = 64;
        bytes[64..68].copy_from_slice(PE_MAGIC);
        bytes[70] = sections.len() as u8;
        for (index, (name, content)) in sections.iter().enumerate() {
            let start = 64 + COFF_LENGTH + index * SECTION_LENGTH;
            bytes[start..start + name.len()].copy_from_slice(name.as_bytes());
            bytes[start + 8] = content.len() as u8;
            bytes[start + 16..start + 18].copy_from_slice(&512_u16.to_le_bytes());
            let offset = bytes.len() as u32;
            bytes[start + 20..start + 24].copy_from_slice(&offset.to_le_bytes());
            bytes.extend(content.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    #[test]
    fn an_image_is_split_into_its_sections() {
        let file = image(&[
            (".osrel", "ID=debian\n"),
            (".cmdline", "root=UUID=1 ro\n"),
            (".linux", "kernel"),
            (".initrd", "initrd"),
        ]);
        assert_eq!(os_release(&file).unwrap(), "ID=debian");
        let installed = open(&file, "it".into()).unwrap();
        assert_eq!(installed.cmdline, "root=UUID=1 ro");
        assert_eq!(io::read_to_string(installed.image).unwrap(), "kernel");
        assert_eq!(io::read_to_string(installed.initrd.unwrap()).unwrap(), "initrd");
    }

    #[test]
    fn files_that_are_not_unified_images_are_refused() {
        let refused = |file: File| open(&file, "it".into()).err().unwrap().to_string();
        assert!(refused(image(&[(".cmdline", "x")])).contains("no `.linux` section"));
        assert!(refused(image(&[])).contains("no sections"));
        assert!(refused(tempfile::tempfile().unwrap()).contains("not a PE file"));
        let mut cut = tempfile::tempfile().unwrap();
        cut.write_all(&[0xff; 100]).unwrap();
        assert!(refused(cut).contains("not a PE file"));
        let short = image(&[(".linux", "kernel")]);
        short.set_len(512).unwrap();
        assert!(refused(short).contains("extends beyond the end of the file"));
        let long = image(&[(".linux", "kernel")]);
        let length = 64 + COFF_LENGTH as u64 + 8;
        for place in [length, length + 8] {
            long.write_all_at(&u32::MAX.to_le_bytes(), place).unwrap();
        }
        long.set_len(8 << 30).unwrap();
        assert!(refused(long).contains("its section `.linux` has 4294967295 bytes"));
    }
}
