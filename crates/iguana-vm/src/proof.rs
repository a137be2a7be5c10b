//! The tiny guest that tests an accelerator: a firmware of 64 KiB that switches from real mode to long mode as a
//! kernel does, runs a loop there, prints one line and ends.
//!
//! The loop is essential. On a host without hardware virtualization (for example nested KVM on a cloud machine), KVM
//! interprets the guest's early code one instruction at a time, at some 4 million per second. A guest with a few
//! instructions would end at once, while a kernel needs an hour to unpack itself and seems to hang.

/// Smallest size that QEMU's PC machine takes for `-bios`, in bytes (it must be a multiple of 64 KiB).
const FIRMWARE_SIZE: usize = 64 * 1024;

/// Address of the firmware below 1 MiB; it is also mapped at the end of 4 GiB, where the CPU starts.
const FIRMWARE_ADDRESS: u32 = 0xf_0000;

/// Offset at which an x86 starts: 16 bytes below the end of the firmware (Intel SDM vol. 3, 9.1.4).
const RESET_VECTOR: usize = FIRMWARE_SIZE - 16;

/// Offsets of the parts of the firmware.
const REAL_MODE: usize = 0;
const PROTECTED_MODE: usize = 0x100;
const LONG_MODE: usize = 0x200;
const DESCRIPTORS: usize = 0x800;
const DESCRIPTORS_POINTER: usize = 0x840;

/// Segment descriptors: null, 32-bit code, data, 64-bit code. They are flat, and marked as accessed because the CPU
/// cannot set that bit in a ROM.
const DESCRIPTOR_TABLE: [u64; 4] = [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00af_9b00_0000_ffff];
const CODE_32: u8 = 0x08;
const DATA: u8 = 0x10;
const CODE_64: u8 = 0x18;

/// Rounds of the guest's loop of two instructions. Measured to the end of QEMU: TCG 0.14 s; interpreted by KVM 25 s;
/// executed by the processor, about 0.02 s.
const ROUNDS: u32 = 50_000_000;

/// I/O port of the first serial line.
const SERIAL_PORT: u16 = 0x3f8;

/// I/O port of the `isa-debug-exit` device.
const EXIT_PORT: u16 = 0xf4;

/// The value that the guest writes to that port; `isa-debug-exit` makes the exit status `(value << 1) | 1`.
const EXIT_VALUE: u8 = 0x10;

/// Exit status of QEMU when the guest reached its end.
pub(crate) const EXIT_STATUS: i32 = ((EXIT_VALUE as i32) << 1) | 1;

/// The line that the guest prints.
pub(crate) const LINE: &str = "iguana: this accelerator runs guests\n";

/// QEMU's argument for the device that ends it.
pub(crate) fn exit_device() -> String {
    format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1")
}

/// The firmware.
pub(crate) fn firmware() -> Vec<u8> {
    let mut image = vec![0xf4; FIRMWARE_SIZE]; // hlt
    let mut place = |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
    place(REAL_MODE, &real_mode());
    place(PROTECTED_MODE, &protected_mode());
    place(LONG_MODE, &long_mode());
    place(DESCRIPTORS, &DESCRIPTOR_TABLE.map(u64::to_le_bytes).concat());
    place(DESCRIPTORS_POINTER, &descriptors_pointer());
    place(RESET_VECTOR, &reset());
    image
}

/// The operand of `lgdt`: the table's last byte and its address.
fn descriptors_pointer() -> Vec<u8> {
    let last = (size_of_val(&DESCRIPTOR_TABLE) - 1) as u16;
    [&last.to_le_bytes()[..], &address(DESCRIPTORS)].concat()
}

/// `jmp` near to the real mode part: relative to the byte after these three, within 64 KiB.
fn reset() -> [u8; 3] {
    let [low, high] = ((FIRMWARE_SIZE + REAL_MODE - (RESET_VECTOR + 3)) as u16).to_le_bytes();
    [0xe9, low, high]
}

fn real_mode() -> Vec<u8> {
    let [low, high] = (DESCRIPTORS_POINTER as u16).to_le_bytes();
    [
        &[0xfa][..],                                // cli
        &[0x2e, 0x66, 0x0f, 0x01, 0x16, low, high], // lgdt cs:[DESCRIPTORS_POINTER]
        &[0x0f, 0x20, 0xc0],                        // mov eax, cr0
        &[0x0c, 0x01],                              // or al, PE
        &[0x0f, 0x22, 0xc0],                        // mov cr0, eax
        &[0x66],                                    // (the operand has 32 bits)
        &far_jump(CODE_32, PROTECTED_MODE),
    ]
    .concat()
}

/// Maps the first 2 MiB to themselves with tables at 0x1000, 0x2000 and 0x3000, and enables long mode.
fn protected_mode() -> Vec<u8> {
    [
        &[0x66, 0xb8, DATA, 0x00][..],         // mov ax, DATA
        &[0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0], // mov ds, ax; mov es, ax; mov ss, ax
        &[0xfc, 0x31, 0xc0],                   // cld; xor eax, eax
        &[0xbf, 0x00, 0x10, 0x00, 0x00],       // mov edi, 0x1000
        &[0xb9, 0x00, 0x0c, 0x00, 0x00],       // mov ecx, 3 * 4096 / 4
        &[0xf3, 0xab],                         // rep stosd
        &store(0x1000, 0x2003),                // level 4: present, writable
        &store(0x2000, 0x3003),                // level 3: present, writable
        &store(0x3000, 0x0083),                // level 2: present, writable, a page of 2 MiB
        &[0xb8, 0x00, 0x10, 0x00, 0x00],       // mov eax, 0x1000
        &[0x0f, 0x22, 0xd8],                   // mov cr3, eax
        &[0x0f, 0x20, 0xe0, 0x0c, 0x20],       // mov eax, cr4; or al, PAE
        &[0x0f, 0x22, 0xe0],                   // mov cr4, eax
        &[0xb9, 0x80, 0x00, 0x00, 0xc0],       // mov ecx, EFER
        &[0x0f, 0x32, 0x80, 0xcc, 0x01],       // rdmsr; or ah, LME
        &[0x0f, 0x30],                         // wrmsr
        &[0x0f, 0x20, 0xc0],                   // mov eax, cr0
        &[0x0d, 0x00, 0x00, 0x00, 0x80],       // or eax, PG
        &[0x0f, 0x22, 0xc0],                   // mov cr0, eax
        &far_jump(CODE_64, LONG_MODE),
    ]
    .concat()
}

fn long_mode() -> Vec<u8> {
    let [a, b, c, d] = ROUNDS.to_le_bytes();
    let mut code = vec![0xb9, a, b, c, d]; // mov ecx, ROUNDS
    code.extend([0xff, 0xc9, 0x75, 0xfc]); // again: dec ecx; jnz again
    code.extend(select_port(SERIAL_PORT));
    code.extend(LINE.bytes().flat_map(write_byte));
    code.extend(select_port(EXIT_PORT));
    code.extend(write_byte(EXIT_VALUE));
    code.extend([0xf4, 0xeb, 0xfd]); // again: hlt; jmp again
    code
}

/// `jmp segment:offset` with an offset of 32 bits.
fn far_jump(segment: u8, offset: usize) -> [u8; 7] {
    let [a, b, c, d] = address(offset);
    [0xea, a, b, c, d, segment, 0x00]
}

/// `mov dword [place], value`
fn store(place: u32, value: u32) -> Vec<u8> {
    [&[0xc7, 0x05][..], &place.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// `mov dx, port`
fn select_port(port: u16) -> [u8; 4] {
    let [low, high] = port.to_le_bytes();
    [0x66, 0xba, low, high]
}

/// `mov al, byte; out dx, al`
fn write_byte(byte: u8) -> [u8; 3] {
    [0xb0, byte, 0xee]
}

fn address(offset: usize) -> [u8; 4] {
    (FIRMWARE_ADDRESS + offset as u32).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reset_vector_jumps_to_the_first_byte() {
        let image = firmware();
        assert_eq!(image.len(), FIRMWARE_SIZE);
        assert_eq!(image[RESET_VECTOR..RESET_VECTOR + 3], [0xe9, 0x0d, 0x00]);
        assert_eq!(image[0], 0xfa);
    }

    #[test]
    fn the_parts_do_not_overlap() {
        assert!(REAL_MODE + real_mode().len() <= PROTECTED_MODE);
        assert!(PROTECTED_MODE + protected_mode().len() <= LONG_MODE);
        assert!(LONG_MODE + long_mode().len() <= DESCRIPTORS);
        assert!(DESCRIPTORS + size_of_val(&DESCRIPTOR_TABLE) <= DESCRIPTORS_POINTER);
    }
}
