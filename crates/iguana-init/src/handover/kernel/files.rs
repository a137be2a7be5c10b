//! Kernels without a loader entry: `/boot/vmlinuz-VERSION` and its initrd, named as the distributions do.

use super::super::system::System;
use super::{Installed, SearchLocation, cmdline};
use uapi_version::strverscmp;

/// Prefixes of a kernel's file name.
const KERNELS: &[&str] = &["vmlinuz-", "Image-"];
/// Files that are not booted by default: GRUB's old kernels, Fedora's rescue system, checksums.
const NOT_BOOTED_BY_DEFAULT: &[&str] = &[".old", ".bak", "-rescue-", ".hmac"];
/// Prefix and suffix of the initrd's name around the kernel's version: Debian; Fedora and Arch; SUSE; Alpine.
const INITRDS: &[(&str, &str)] =
    &[("initrd.img-", ""), ("initramfs-", ".img"), ("initrd-", ""), ("initramfs-", "")];

/// The newest kernel of a location, by version. Kernels with an initrd are preferred: a distribution's kernel needs its
/// initrd to find the root.
pub(super) fn newest(
    place: &SearchLocation,
    places: &[SearchLocation],
    system: &System,
    own: &str,
) -> Option<Installed> {
    let (kernel, initrd) = choose(&place.names(""))?;
    Some(Installed {
        name: format!("`{kernel}` of {}", place.name),
        image: super::kernel_image(place.open(&kernel).ok()?).ok()?,
        initrd: initrd.and_then(|initrd| super::joined(vec![place.open(&initrd).ok()?]).ok()?),
        cmdline: cmdline::find(&kernel, places, system, own),
    })
}

fn choose(names: &[String]) -> Option<(String, Option<String>)> {
    let is_meant = |name: &&String| !NOT_BOOTED_BY_DEFAULT.iter().any(|part| name.contains(part));
    let kernels = names.iter().filter(is_meant).filter_map(|name| {
        let version = KERNELS.iter().find_map(|start| name.strip_prefix(start))?;
        let initrd = INITRDS.iter().map(|(start, end)| format!("{start}{version}{end}"));
        let initrd = initrd.into_iter().find(|initrd| names.contains(initrd));
        Some((name.clone(), version, initrd))
    });
    let newest = kernels.max_by(|(_, one, its), (_, other, others)| {
        its.is_some().cmp(&others.is_some()).then_with(|| strverscmp(one, other))
    });
    newest.map(|(name, _, initrd)| (name, initrd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_used_with_its_initrd() {
        for (names, expected) in [
            (
                "config-6.1.0-9-amd64 vmlinuz-6.1.0-9-amd64 initrd.img-6.1.0-9-amd64 vmlinuz-6.1.0-18-amd64 \
                 initrd.img-6.1.0-18-amd64",
                "vmlinuz-6.1.0-18-amd64 initrd.img-6.1.0-18-amd64",
            ),
            (
                "vmlinuz-0-rescue-ab initramfs-0-rescue-ab.img vmlinuz-6.9.5.fc40 initramfs-6.9.5.fc40.img",
                "vmlinuz-6.9.5.fc40 initramfs-6.9.5.fc40.img",
            ),
            (
                "vmlinuz-6.4-default initrd-6.4-default .vmlinuz-6.4-default.hmac",
                "vmlinuz-6.4-default initrd-6.4-default",
            ),
            (
                "vmlinuz-linux initramfs-linux.img initramfs-linux-fallback.img",
                "vmlinuz-linux initramfs-linux.img",
            ),
            ("vmlinuz-lts initramfs-lts", "vmlinuz-lts initramfs-lts"),
            ("vmlinuz-7.0 vmlinuz-6.9 initrd-6.9", "vmlinuz-6.9 initrd-6.9"),
            ("vmlinuz-7.0 vmlinuz-6.9", "vmlinuz-7.0"),
        ] {
            let names: Vec<String> = names.split_ascii_whitespace().map(Into::into).collect();
            let (kernel, initrd) = choose(&names).unwrap();
            let found = [Some(kernel), initrd].into_iter().flatten().collect::<Vec<_>>().join(" ");
            assert_eq!(found, expected);
        }
        assert_eq!(choose(&["grub".into()]), None);
    }
}
