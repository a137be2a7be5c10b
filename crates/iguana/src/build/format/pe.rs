//! Adds sections to a UEFI program, which is a PE file (Microsoft's "PE Format" specification).

use anyhow::{Context, Result, bail, ensure};
use object::endian::LittleEndian as LE;
use object::pe::{
    IMAGE_DIRECTORY_ENTRY_SECURITY, IMAGE_DOS_SIGNATURE, IMAGE_FILE_MACHINE_AMD64,
    IMAGE_NT_OPTIONAL_HDR64_MAGIC, IMAGE_NT_SIGNATURE, IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_READ,
    ImageDataDirectory, ImageDosHeader, ImageNtHeaders64, ImageSectionHeader,
};
use object::pod::{bytes_of, from_bytes, from_bytes_mut, slice_from_bytes};

/// Alignment of a new section in memory, in bytes: a page of x86-64.
const PAGE: usize = 4096;

/// A section to add: its name, of at most eight bytes, and its content.
pub(crate) type Section<'a> = (&'static str, &'a [u8]);

/// Returns `program` with `sections` added. A section replaces one of the same name. The same input makes the same
/// bytes.
///
/// # Errors
/// When `program` is not for x86-64, is damaged or signed, or has no room for the headers of so many sections.
pub(crate) fn with_sections(program: &[u8], sections: &[Section]) -> Result<Vec<u8>> {
    let old = Program::parse(program)?;
    let mut layout = Layout::after(old.headers.len(), old.file_alignment);
    for (header, content) in &old.sections {
        if !sections.iter().any(|(name, _)| name_of(header) == name.as_bytes()) {
            layout.keep(header, content)?;
        }
    }
    for (name, content) in sections {
        layout.add(name, content)?;
    }
    layout.written_with(&old)
}

/// The content of the section called `name`.
pub(crate) fn section<'a>(program: &'a [u8], name: &str) -> Result<Option<&'a [u8]>> {
    let sections = Program::parse(program)?.sections;
    let found = sections.into_iter().find(|(header, _)| name_of(header) == name.as_bytes());
    Ok(found.map(|(header, content)| &content[..content.len().min(header.virtual_size.get(LE) as usize)]))
}

/// The parts of a program.
struct Program<'a> {
    /// All bytes before the first section.
    headers: &'a [u8],
    /// Offset of the NT headers, which follow the DOS headers.
    nt: usize,
    /// Offset of the section table.
    table: usize,
    /// Alignment of sections in the file, in bytes.
    file_alignment: usize,
    /// Each section with its bytes in the file.
    sections: Vec<(ImageSectionHeader, &'a [u8])>,
}

impl<'a> Program<'a> {
    fn parse(program: &'a [u8]) -> Result<Self> {
        let short = || "it is truncated";
        let dos = from_bytes::<ImageDosHeader>(program).ok().map(|(dos, _)| dos);
        let dos = dos.filter(|dos| dos.e_magic.get(LE) == IMAGE_DOS_SIGNATURE);
        let nt = dos.context("it is not a UEFI program (PE)")?.e_lfanew.get(LE) as usize;
        let rest = program.get(nt..).with_context(short)?;
        let (headers, rest) = from_bytes::<ImageNtHeaders64>(rest).ok().with_context(short)?;
        check_kind(headers)?;
        check_unsigned(headers, rest)?;
        let options = usize::from(headers.file_header.size_of_optional_header.get(LE));
        let table = nt + size_of::<ImageNtHeaders64>() - size_of_val(&headers.optional_header) + options;
        let count = usize::from(headers.file_header.number_of_sections.get(LE));
        let entries = program.get(table..).with_context(short)?;
        let (entries, _) = slice_from_bytes::<ImageSectionHeader>(entries, count).ok().with_context(short)?;
        let content = |header: &ImageSectionHeader| {
            let start = header.pointer_to_raw_data.get(LE) as usize;
            program.get(start..start + header.size_of_raw_data.get(LE) as usize).with_context(short)
        };
        let size = headers.optional_header.size_of_headers.get(LE) as usize;
        let file_alignment = headers.optional_header.file_alignment.get(LE) as usize;
        ensure!(file_alignment.is_power_of_two(), "its header is damaged");
        Ok(Self {
            headers: program.get(..size).with_context(short)?,
            nt,
            table,
            file_alignment,
            sections: entries.iter().map(|header| Ok((*header, content(header)?))).collect::<Result<_>>()?,
        })
    }
}

fn check_kind(headers: &ImageNtHeaders64) -> Result<()> {
    ensure!(headers.signature.get(LE) == IMAGE_NT_SIGNATURE, "it is not a UEFI program (PE)");
    let is_x86_64 = headers.file_header.machine.get(LE) == IMAGE_FILE_MACHINE_AMD64;
    let magic = headers.optional_header.magic.get(LE);
    ensure!(is_x86_64 && magic == IMAGE_NT_OPTIONAL_HDR64_MAGIC, "it is not a program for x86-64");
    Ok(())
}

/// Fails for a signed program: new sections would make its signature invalid.
fn check_unsigned(headers: &ImageNtHeaders64, directories: &[u8]) -> Result<()> {
    let count = headers.optional_header.number_of_rva_and_sizes.get(LE) as usize;
    let directories = slice_from_bytes::<ImageDataDirectory>(directories, count).ok();
    let (directories, _) = directories.context("it is truncated")?;
    let signature = directories.get(IMAGE_DIRECTORY_ENTRY_SECURITY);
    ensure!(signature.is_none_or(|entry| entry.size.get(LE) == 0), "it is signed and cannot be changed");
    Ok(())
}

/// Sections placed one after another.
struct Layout<'a> {
    headers: Vec<ImageSectionHeader>,
    contents: Vec<&'a [u8]>,
    file_alignment: usize,
    /// End of the placed sections in the file.
    file_end: usize,
    /// End of the placed sections in memory.
    memory_end: usize,
}

impl<'a> Layout<'a> {
    fn after(headers: usize, file_alignment: usize) -> Self {
        let file_end = headers.next_multiple_of(file_alignment);
        Self { headers: Vec::new(), contents: Vec::new(), file_alignment, file_end, memory_end: file_end }
    }

    /// Adds an existing section at its old address, because the program's code relies on it.
    fn keep(&mut self, header: &ImageSectionHeader, content: &'a [u8]) -> Result<()> {
        let size = header.virtual_size.get(LE).max(header.size_of_raw_data.get(LE));
        let end = header.virtual_address.get(LE) as usize + size as usize;
        self.memory_end = self.memory_end.max(end);
        self.place(*header, content)
    }

    fn add(&mut self, name: &str, content: &'a [u8]) -> Result<()> {
        let mut header = ImageSectionHeader::default();
        let ImageSectionHeader { name: place, virtual_size, virtual_address, characteristics, .. } =
            &mut header;
        place[..name.len()].copy_from_slice(name.as_bytes());
        let start = self.memory_end.next_multiple_of(PAGE);
        self.memory_end = start + content.len();
        virtual_size.set(LE, offset(content.len())?);
        virtual_address.set(LE, offset(start)?);
        characteristics.set(LE, IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ);
        self.place(header, content)
    }

    fn place(&mut self, mut header: ImageSectionHeader, content: &'a [u8]) -> Result<()> {
        let size = content.len().next_multiple_of(self.file_alignment);
        let start = if size == 0 { 0 } else { self.file_end };
        header.pointer_to_raw_data.set(LE, offset(start)?);
        header.size_of_raw_data.set(LE, offset(size)?);
        self.file_end += size;
        self.headers.push(header);
        self.contents.push(content);
        Ok(())
    }

    fn written_with(&self, old: &Program) -> Result<Vec<u8>> {
        let table: Vec<u8> = self.headers.iter().flat_map(|header| bytes_of(header).to_vec()).collect();
        let mut file = vec![0; self.file_end];
        file[..old.table].copy_from_slice(&old.headers[..old.table]);
        if old.table + table.len() > old.headers.len() {
            bail!("its header has no room for {} more sections", self.headers.len());
        }
        file[old.table..old.table + table.len()].copy_from_slice(&table);
        for (header, content) in self.headers.iter().zip(&self.contents) {
            let start = header.pointer_to_raw_data.get(LE) as usize;
            file[start..start + content.len()].copy_from_slice(content);
        }
        let Ok((headers, _)) = from_bytes_mut(&mut file[old.nt..]) else { bail!("its header is truncated") };
        self.describe(headers)?;
        Ok(file)
    }

    /// Updates the headers. There are no symbols and no checksum: UEFI reads neither.
    fn describe(&self, headers: &mut ImageNtHeaders64) -> Result<()> {
        let ImageNtHeaders64 { file_header, optional_header, .. } = headers;
        file_header.number_of_sections.set(LE, self.headers.len() as u16);
        file_header.pointer_to_symbol_table.set(LE, 0);
        file_header.number_of_symbols.set(LE, 0);
        let data = self
            .headers
            .iter()
            .filter(|header| (header.characteristics.get(LE) & IMAGE_SCN_CNT_INITIALIZED_DATA).0 != 0);
        let data = data.map(|header| header.size_of_raw_data.get(LE) as usize).sum();
        optional_header.size_of_initialized_data.set(LE, offset(data)?);
        optional_header.size_of_image.set(LE, offset(self.memory_end.next_multiple_of(PAGE))?);
        optional_header.check_sum.set(LE, 0);
        Ok(())
    }
}

/// The name of a section without its zero padding.
fn name_of(header: &ImageSectionHeader) -> &[u8] {
    header.name.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn offset(bytes: usize) -> Result<u32> {
    u32::try_from(bytes).context("it would exceed 4 GiB, the limit of PE")
}
