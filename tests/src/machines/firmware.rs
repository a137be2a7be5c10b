//! UEFI firmware for the machines: OVMF without Secure Boot, or with Secure Boot and the lab's own keys.

use crate::process::{self, QUICK};
use crate::{cached, scratch_directory};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Where Debian's `ovmf` installs its files.
const OVMF: &str = "/usr/share/OVMF";

/// The firmware of one machine, with its own variables.
#[derive(Debug)]
pub struct Firmware {
    is_secure: bool,
    home: TempDir,
}

impl Firmware {
    /// Firmware without Secure Boot, which starts any program.
    pub fn lenient() -> Result<Firmware> {
        Firmware::with(false, &[])
    }

    /// Firmware that starts only programs signed by `owner`.
    pub fn trusting(owner: &Owner) -> Result<Firmware> {
        Firmware::with(true, &owner.variables()?)
    }

    /// Firmware with a boot entry that starts the program of a medium with `options`. A former administrator, or
    /// anyone at the machine, can write such an entry. With an owner as [`Firmware::trusting`], otherwise as
    /// [`Firmware::lenient`].
    pub fn passing(options: &str, owner: Option<&Owner>) -> Result<Firmware> {
        let mut variables = owner.map_or_else(|| Ok(Vec::new()), Owner::variables)?;
        variables.extend(boot_entry(options));
        Firmware::with(owner.is_some(), &variables)
    }

    fn with(is_secure: bool, variables: &[Variable]) -> Result<Firmware> {
        let mut store = fs::read(Path::new(OVMF).join("OVMF_VARS_4M.fd")).context("package `ovmf`")?;
        enrol(&mut store, variables)?;
        let home = scratch_directory("firmware")?;
        fs::write(home.path().join("variables"), store)?;
        Ok(Firmware { is_secure, home })
    }

    /// QEMU's arguments.
    pub fn arguments(&self) -> Vec<String> {
        let (machine, code) = match self.is_secure {
            // Only System Management Mode protects the variables from the running system.
            true => ("q35,smm=on", "OVMF_CODE_4M.secboot.fd"),
            false => ("q35", "OVMF_CODE_4M.fd"),
        };
        let flash = |unit: u8, rest: String| format!("if=pflash,format=raw,unit={unit},{rest}");
        let code = flash(0, format!("readonly=on,file={OVMF}/{code}"));
        let variables = flash(1, format!("file={}", self.home.path().join("variables").display()));
        let secure = format!(
            "driver=cfi.pflash01,property=secure,value={}",
            if self.is_secure { "on" } else { "off" }
        );
        let arguments = ["-machine", machine, "-global", &secure, "-drive", &code, "-drive", &variables];
        arguments.map(str::to_owned).to_vec()
    }
}

/// The owner of machines: a key, and the certificate that their firmware trusts.
#[derive(Clone, Debug)]
pub struct Owner {
    home: PathBuf,
}

impl Owner {
    /// The owner of that name; made once, cached under `target/lab/owner`.
    pub fn named(name: &str) -> Result<Owner> {
        let home = cached("owner", name, |directory| {
            let mut request = Command::new("openssl");
            request
                .current_dir(directory)
                .args(["req", "-x509", "-nodes", "-days", "3650", "-newkey", "rsa:2048"]);
            request.args(["-keyout", "key.pem", "-out", "certificate.pem", "-subj", &format!("/CN={name}")]);
            process::run(&mut request, QUICK)?;
            let mut convert = Command::new("openssl");
            convert.current_dir(directory).args(["x509", "-in", "certificate.pem", "-outform", "der"]);
            process::run(convert.args(["-out", "certificate.der"]), QUICK).map(drop)
        })?;
        Ok(Owner { home })
    }

    /// The private key, in PEM.
    pub fn key(&self) -> PathBuf {
        self.home.join("key.pem")
    }

    /// The certificate, in PEM.
    pub fn certificate(&self) -> PathBuf {
        self.home.join("certificate.pem")
    }

    /// The variables that turn Secure Boot on, with this owner's certificate as platform key, key exchange key and
    /// for programs.
    fn variables(&self) -> Result<Vec<Variable>> {
        let list = signature_list(&fs::read(self.home.join("certificate.der"))?);
        let key = |name, vendor| Variable { name, vendor, attributes: AUTHENTICATED, data: list.clone() };
        Ok(vec![
            key("PK", GLOBAL),
            key("KEK", GLOBAL),
            key("db", SECURITY_DATABASE),
            Variable {
                name: "SecureBootEnable",
                vendor: SECURE_BOOT_ENABLE,
                attributes: PERSISTENT,
                data: vec![1],
            },
        ])
    }
}

/// A UEFI variable.
#[derive(Clone, Debug)]
struct Variable {
    name: &'static str,
    vendor: Guid,
    attributes: u32,
    data: Vec<u8>,
}

/// A GUID with its bytes in memory order.
type Guid = [u8; 16];

/// `EFI_GLOBAL_VARIABLE`, 8be4df61-93ca-11d2-aa0d-00e098032b8c (UEFI specification, 3.3).
const GLOBAL: Guid = *b"\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c";

/// `EFI_IMAGE_SECURITY_DATABASE_GUID`, d719b2cb-3d3a-4596-a3bc-dad00e67656f (32.6.1).
const SECURITY_DATABASE: Guid = *b"\xcb\xb2\x19\xd7\x3a\x3d\x96\x45\xa3\xbc\xda\xd0\x0e\x67\x65\x6f";

/// `gEfiSecureBootEnableDisableGuid` of edk2, f0a30bc7-af08-4556-99c4-001009c93a44.
const SECURE_BOOT_ENABLE: Guid = *b"\xc7\x0b\xa3\xf0\x08\xaf\x56\x45\x99\xc4\x00\x10\x09\xc9\x3a\x44";

/// `EFI_CERT_X509_GUID`, a5c059a1-94e4-4aa7-87b5-ab155c2bf072 (32.4.1).
const X509: Guid = *b"\xa1\x59\xc0\xa5\xe4\x94\xa7\x4a\x87\xb5\xab\x15\x5c\x2b\xf0\x72";

/// Non-volatile, for the firmware only.
const PERSISTENT: u32 = 0x03;

/// Non-volatile, also for the operating system; changes must be signed.
const AUTHENTICATED: u32 = 0x27;

/// Non-volatile, for the firmware and the operating system.
const FOR_THE_SYSTEM: u32 = 0x07;

/// `LOAD_OPTION_ACTIVE` (3.1.3).
const ACTIVE: u32 = 1;

/// Path of the program on a medium (3.5.1.1).
const PROGRAM: &str = r"\EFI\BOOT\BOOTX64.EFI";

/// The boot entry number 0, and the boot order that begins with it (3.1.1, 3.1.3).
fn boot_entry(options: &str) -> [Variable; 2] {
    let program = utf16(PROGRAM);
    // A file path without a device (10.3.5.4), and the end of the path (10.3.1).
    let file = [&[4, 4][..], &(program.len() as u16 + 4).to_le_bytes(), &program].concat();
    let path = [&file[..], &[0x7f, 0xff, 4, 0]].concat();
    let length = (path.len() as u16).to_le_bytes();
    let entry = [&ACTIVE.to_le_bytes()[..], &length, &utf16("medium"), &path, &utf16(options)].concat();
    let variable = |name, data| Variable { name, vendor: GLOBAL, attributes: FOR_THE_SYSTEM, data };
    [variable("Boot0000", entry), variable("BootOrder", vec![0, 0])]
}

/// UTF-16 with a terminating zero.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// `EFI_SIGNATURE_LIST` with one certificate (32.4.1).
fn signature_list(certificate: &[u8]) -> Vec<u8> {
    let signature = X509.len() + certificate.len();
    let sizes = [X509.len() + 12 + signature, 0, signature].map(|size| (size as u32).to_le_bytes());
    [&X509[..], &sizes.concat(), &SECURITY_DATABASE, certificate].concat()
}

/// Offset of the header length in a firmware volume, and the length of the store header that follows
/// (`EFI_FIRMWARE_VOLUME_HEADER`, and `VARIABLE_STORE_HEADER` of edk2).
const VOLUME_HEADER_LENGTH: usize = 48;
const STORE_HEADER: usize = 28;

/// Writes `variables` to the start of an empty `store`.
fn enrol(store: &mut [u8], variables: &[Variable]) -> Result<()> {
    let volume = u16::from_le_bytes([store[VOLUME_HEADER_LENGTH], store[VOLUME_HEADER_LENGTH + 1]]);
    let mut place = usize::from(volume) + STORE_HEADER;
    ensure!(store[place..place + 64].iter().all(|byte| *byte == 0xff), "the store of variables is not empty");
    for variable in variables {
        let record = record(variable);
        store[place..place + record.len()].copy_from_slice(&record);
        place = (place + record.len()).next_multiple_of(4);
    }
    Ok(())
}

/// A variable in the store: `AUTHENTICATED_VARIABLE_HEADER` of edk2, name and data.
fn record(variable: &Variable) -> Vec<u8> {
    let name = utf16(variable.name);
    let start_and_state = [0xaa, 0x55, 0x3f, 0];
    let count_time_and_key = [0; 8 + 16 + 4];
    let sizes = [name.len(), variable.data.len()].map(|size| (size as u32).to_le_bytes()).concat();
    [
        &start_and_state[..],
        &variable.attributes.to_le_bytes(),
        &count_time_and_key,
        &sizes,
        &variable.vendor,
        &name,
        &variable.data,
    ]
    .concat()
}
