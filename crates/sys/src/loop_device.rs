//! Loop devices: block devices whose content is a file (loop(4)).

use super::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// linux/loop.h, `LOOP_CONFIGURE` (Linux 5.8).
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
/// linux/loop.h, `LOOP_CLR_FD`.
const LOOP_CLR_FD: libc::Ioctl = 0x4C01;
/// linux/loop.h, `LOOP_CTL_GET_FREE`.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
/// linux/loop.h: the kernel detaches the device from its file when it is unmounted.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// linux/loop.h: the device is read-only.
const LO_FLAGS_READ_ONLY: u32 = 1;

/// linux/loop.h, `struct loop_config` with `struct loop_info64` inside, of which only the part of the file and the flags
/// are used.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    device_inode_rdevice: [u64; 3],
    offset: u64,
    size_limit: u64,
    number_encryption_keysize: [u32; 3],
    flags: u32,
    names_and_key: [u8; 64 + 64 + 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// Which part of a file a loop device has, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoopPart {
    /// Its start in bytes.
    pub offset: u64,
    /// Its length in bytes; 0 for all of the file.
    pub size_limit: u64,
    /// Whether the device can be written to.
    pub is_writable: bool,
}

/// The number of a free loop device.
///
/// # Errors
/// When the kernel has none.
pub fn free_loop_device(control: impl AsFd) -> io::Result<u32> {
    // SAFETY: this request takes no argument.
    let number = check(unsafe { libc::ioctl(control.as_fd().as_raw_fd(), LOOP_CTL_GET_FREE) })?;
    u32::try_from(number).map_err(io::Error::other)
}

/// Attaches a file to a loop device until the device is unmounted.
///
/// # Errors
/// When the device is in use, or the file is unsuitable.
pub fn set_up_loop_device(device: impl AsFd, file: impl AsFd, part: LoopPart) -> io::Result<()> {
    let config = LoopConfig {
        fd: file.as_fd().as_raw_fd() as u32,
        block_size: 0,
        device_inode_rdevice: [0; 3],
        offset: part.offset,
        size_limit: part.size_limit,
        number_encryption_keysize: [0; 3],
        flags: LO_FLAGS_AUTOCLEAR | if part.is_writable { 0 } else { LO_FLAGS_READ_ONLY },
        names_and_key: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: the kernel reads one `loop_config`, which is alive and has the C layout.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CONFIGURE, &raw const config) }).map(drop)
}

/// Detaches a loop device from its file: now, or when it is no longer in use.
///
/// # Errors
/// When it has no file.
pub fn clear_loop_device(device: impl AsFd) -> io::Result<()> {
    // SAFETY: this request takes no argument.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CLR_FD) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_configuration_has_the_kernels_size() {
        // linux/loop.h: two __u32, a loop_info64 of 232 bytes, eight __u64.
        assert_eq!(size_of::<LoopConfig>(), 8 + 232 + 64);
        assert_eq!(std::mem::offset_of!(LoopConfig, flags), 8 + 52);
        assert_eq!(std::mem::offset_of!(LoopConfig, offset), 8 + 24);
    }
}
