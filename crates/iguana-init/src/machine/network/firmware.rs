//! What network boot programs tell servers about a machine (RFC 4578), so that they can choose what it boots.

use dhcp::MachineKind;
use std::fs;
use std::path::Path;

const UUID: &str = "/sys/class/dmi/id/product_uuid";
/// There when the firmware is UEFI.
const EFI: &str = "/sys/firmware/efi";

/// The kind of this machine.
pub(super) fn kind() -> MachineKind {
    let uuid = fs::read_to_string(UUID).ok().and_then(|text| uuid(text.trim()));
    MachineKind { architecture: architecture(std::env::consts::ARCH, Path::new(EFI).exists()), uuid }
}

/// The number in the IANA registry "Processor Architecture Types"; 0, a PC with a BIOS, when it has none.
fn architecture(processor: &str, has_efi: bool) -> u16 {
    match (processor, has_efi) {
        ("x86_64", true) => 7,
        ("aarch64", true) => 11,
        ("aarch64", false) => 22,
        ("riscv64", true) => 27,
        _ => 0,
    }
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let number = u128::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
    (digits.len() == 32).then(|| number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_sixteen_bytes() {
        let read = uuid("00112233-4455-6677-8899-AABBCCDDEEFF").unwrap();
        assert_eq!((read[1], read[15]), (0x11, 0xff));
        assert_eq!(
            (uuid("0011"), uuid(""), uuid("zz112233-4455-6677-8899-AABBCCDDEEFF")),
            (None, None, None)
        );
    }

    #[test]
    fn architectures_are_those_of_the_registry() {
        assert_eq!(
            [("x86_64", false), ("x86_64", true), ("aarch64", true)].map(|(p, e)| architecture(p, e)),
            [0, 7, 11]
        );
    }
}
