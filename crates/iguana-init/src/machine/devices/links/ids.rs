//! A disk's names in `by-id`: vendor, model and serial number as far as sysfs has them. Names for which udev queries
//! the drive itself (`ata_id` of optical drives) are left out.

use super::names::replaced;
use crate::block::device::Device;

/// The names of a whole disk.
pub(super) fn ids(disk: &Device) -> Vec<String> {
    let name = disk.name();
    let is_kind = |kinds: &[&str]| kinds.iter().any(|kind| name.starts_with(kind));
    match () {
        () if is_kind(&["vd"]) => virtio(disk),
        () if is_kind(&["nvme"]) => nvme(disk),
        () if is_kind(&["mmcblk"]) => card(disk),
        () if is_kind(&["sd", "sr"]) => scsi(disk),
        () => Vec::new(),
    }
}

fn virtio(disk: &Device) -> Vec<String> {
    let serial = disk.attribute("serial");
    serial.map(|serial| format!("virtio-{}", with_collapsed_spaces(&serial))).into_iter().collect()
}

fn nvme(disk: &Device) -> Vec<String> {
    let world_wide = disk.attribute("wwid").map(|id| format!("nvme-{}", replaced(&id)));
    let (model, serial) = (disk.attribute_above("model"), disk.attribute_above("serial"));
    let own =
        model.zip(serial).map(|(model, serial)| format!("nvme-{}", replaced(&format!("{model}_{serial}"))));
    let numbered = own.clone().zip(disk.attribute("nsid")).map(|(own, number)| format!("{own}_{number}"));
    [world_wide, own, numbered].into_iter().flatten().collect()
}

fn card(disk: &Device) -> Vec<String> {
    let (name, serial) = (disk.attribute("device/name"), disk.attribute("device/serial"));
    let pair = name.zip(serial).map(|(name, serial)| format!("mmc-{name}_{serial}"));
    pair.into_iter().map(|id| replaced(&id)).collect()
}

/// SCSI disks, and SATA and USB disks, which the kernel presents as SCSI.
fn scsi(disk: &Device) -> Vec<String> {
    let page = disk.bytes("device/vpd_pg83").unwrap_or_default();
    let designators: Vec<_> = designators(&page).collect();
    let vendor = disk.attribute("device/vendor").unwrap_or_default();
    let model = disk.attribute("device/model").unwrap_or_default();
    let own = match usb_serial(disk) {
        Some(serial) => Some(format!("usb-{}", usb_id(&vendor, &model, &serial, disk))),
        None if vendor == "ATA" => ata_id(&designators).map(|id| format!("ata-{id}")),
        None => scsi_id(&designators, &vendor, &model).map(|id| format!("scsi-{id}")),
    };
    let world_wide =
        designators.iter().find(|it| it.is_world_wide()).map(|it| format!("wwn-0x{}", hex(it.id)));
    own.into_iter().chain(world_wide).collect()
}

fn usb_serial(disk: &Device) -> Option<String> {
    disk.ancestors().find(|it| it.has("idVendor")).map(|it| it.attribute("serial").unwrap_or_default())
}

/// `VENDOR_MODEL_SERIAL-TARGET:LUN` (udev-builtin-usb_id.c)
fn usb_id(vendor: &str, model: &str, serial: &str, disk: &Device) -> String {
    let mut id = [vendor, model].map(with_collapsed_spaces).join("_");
    if !serial.is_empty() {
        id += &format!("_{}", replaced(serial));
    }
    let address = disk.ancestors().find_map(|it| Some(it.scsi_address()?[2..].join(":")));
    id + &address.map(|address| format!("-{address}")).unwrap_or_default()
}

/// `MODEL_SERIAL`: libata puts both into the T10 designator (drivers/ata/libata-scsi.c, `ata_scsiop_inq_83`).
fn ata_id(designators: &[Designator<'_>]) -> Option<String> {
    /// The length of the model in bytes; the vendor comes before it.
    const MODEL: usize = 40;
    let id = designators.iter().find(|it| it.kind == T10)?.id.strip_prefix(b"ATA     ")?;
    let (model, serial) = id.split_at_checked(MODEL)?;
    Some([model, serial].map(|text| with_collapsed_spaces(&String::from_utf8_lossy(text))).join("_"))
}

/// A designator of SPC-4, section 7.8.6; `vpd_pg83` is a list of them.
#[derive(Debug, Clone, Copy)]
struct Designator<'a> {
    is_text: bool,
    kind: u8,
    id: &'a [u8],
}

/// Types of designators.
const VENDOR_SPECIFIC: u8 = 0;
const T10: u8 = 1;
const EUI_64: u8 = 2;
const NAA: u8 = 3;

impl Designator<'_> {
    /// The NAA field, the first four bits of the identifier. Type 6 is the longest.
    fn naa(&self) -> Option<u8> {
        self.id.first().filter(|_| self.kind == NAA).map(|byte| byte >> 4)
    }

    fn is_world_wide(&self) -> bool {
        self.naa().is_some() && !self.is_text
    }

    /// The order in which scsi_id(8) prefers designators.
    fn rank(&self) -> Option<u8> {
        match (self.kind, self.naa()) {
            (NAA, Some(6)) => Some(0),
            (NAA, Some(5)) => Some(1),
            (NAA, _) => Some(2),
            (EUI_64, _) => Some(3),
            (T10, _) => Some(4),
            (VENDOR_SPECIFIC, _) => Some(5),
            _ => None,
        }
    }
}

/// The designators of the disk itself, not those of its port.
fn designators(page: &[u8]) -> impl Iterator<Item = Designator<'_>> {
    let mut rest = page.get(4..).unwrap_or_default();
    let all = std::iter::from_fn(move || {
        let (head, tail) = rest.split_at_checked(4)?;
        let (id, next) = tail.split_at_checked(head[3].into())?;
        rest = next;
        Some((head[1] >> 4 & 3, Designator { is_text: head[0] & 0xf == 2, kind: head[1] & 0xf, id }))
    });
    all.filter(|(association, _)| *association == 0).map(|(_, designator)| designator)
}

/// The type's number and the identifier (scsi_serial.c).
fn scsi_id(designators: &[Designator<'_>], vendor: &str, model: &str) -> Option<String> {
    let best = designators.iter().filter(|it| it.rank().is_some()).min_by_key(|it| it.rank())?;
    let maker = if best.kind == VENDOR_SPECIFIC { format!("{vendor:<8}{model:<16}") } else { String::new() };
    let id = if best.is_text { String::from_utf8_lossy(best.id).into_owned() } else { hex(best.id) };
    Some(with_collapsed_spaces(&format!("{}{maker}{id}", best.kind)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Trims blanks, and replaces blanks in between and other unusual characters by one `_`.
fn with_collapsed_spaces(text: &str) -> String {
    let text = text.trim_end_matches('\0');
    replaced(&text.split_whitespace().collect::<Vec<_>>().join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::device::tests::Tree;

    /// A page with the given designators.
    fn page(designators: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut page = vec![0, 0x83, 0, 0];
        for (code_set, kind, id) in designators {
            page.extend([*code_set, *kind, 0, id.len() as u8]);
            page.extend(*id);
        }
        page
    }

    const SATA: &str = "pci0000:00/ata1/host0/target0:0:0/0:0:0:0";
    const WORLD_WIDE: (u8, u8, &[u8]) = (1, 3, &[0x50, 1, 2, 3, 4, 5, 6, 7]);

    #[test]
    fn disks_of_guests_have_the_serial_number_that_they_are_given() {
        let tree = Tree::new("virtio").file("pci0000:00/virtio1/block/vda/serial", "my root \n");
        assert_eq!(ids(&tree.device("pci0000:00/virtio1/block/vda")), ["virtio-my_root"]);
        let tree = Tree::new("virtio-none").file("pci0000:00/virtio1/block/vda/serial", "");
        assert!(ids(&tree.device("pci0000:00/virtio1/block/vda")).is_empty());
    }

    #[test]
    fn nvme_disks_have_two_names() {
        let directory = "pci0000:00/nvme/nvme0";
        let tree = Tree::new("nvme")
            .file(&format!("{directory}/model"), "QEMU  NVMe Ctrl   \n")
            .file(&format!("{directory}/serial"), "lab \n")
            .file(&format!("{directory}/nvme0n1/wwid"), "eui.0011\n")
            .file(&format!("{directory}/nvme0n1/nsid"), "1\n");
        let expected = ["nvme-eui.0011", "nvme-QEMU__NVMe_Ctrl_lab", "nvme-QEMU__NVMe_Ctrl_lab_1"];
        assert_eq!(ids(&tree.device(&format!("{directory}/nvme0n1"))), expected);
    }

    #[test]
    fn sata_disks_are_named_by_model_and_serial_number() {
        let longest_model = "M".repeat(40);
        let t10 = format!("ATA     {longest_model}{:<20}", "QM 0001");
        let page = page(&[(2, 0, b"QM00001"), (2, 1, t10.as_bytes()), WORLD_WIDE]);
        let tree = Tree::new("sata")
            .file(&format!("{SATA}/vendor"), "ATA     \n")
            .file(&format!("{SATA}/vpd_pg83"), page)
            .link(&format!("{SATA}/block/sda/device"), "../../../0:0:0:0");
        let disk = tree.device(&format!("{SATA}/block/sda"));
        assert_eq!(ids(&disk), [format!("ata-{longest_model}_QM_0001"), "wwn-0x5001020304050607".into()]);
    }

    #[test]
    fn scsi_disks_are_named_by_the_best_that_they_say() {
        let id = |designators: &[(u8, u8, &[u8])]| {
            let page = page(designators);
            let all: Vec<_> = super::designators(&page).collect();
            scsi_id(&all, "QEMU", "QEMU HARDDISK").unwrap_or_default()
        };
        let own: (u8, u8, &[u8]) = (2, 0, b"drive-scsi0");
        assert_eq!(id(&[own]), "0QEMU_QEMU_HARDDISK_drive-scsi0");
        assert_eq!(id(&[own, WORLD_WIDE]), "35001020304050607");
        assert_eq!(id(&[own, (2, 1, b"ACME  disk 1 ")]), "1ACME_disk_1");
        assert_eq!(id(&[(1, 0x13, &[0x50; 8])]), "", "that is its port");
        assert_eq!(id(&[(1, 4, &[1])]), "", "a number of a port");
    }

    #[test]
    fn a_page_may_be_cut_off() {
        let page = page(&[WORLD_WIDE, (2, 0, b"x")]);
        assert!((0..page.len()).all(|length| designators(&page[..length]).count() <= 2));
    }

    #[test]
    fn usb_disks_are_named_by_their_port() {
        let usb = "pci0000:00/usb1/1-2";
        let scsi = format!("{usb}/1-2:1.0/host6/target6:0:0/6:0:0:3");
        let tree = Tree::new("usb")
            .file(&format!("{usb}/idVendor"), "0001\n")
            .file(&format!("{usb}/serial"), "1-0000:00:05.0\n")
            .file(&format!("{scsi}/vendor"), "QEMU    \n")
            .file(&format!("{scsi}/model"), "QEMU HARDDISK   \n")
            .link(&format!("{scsi}/block/sdb/device"), "../../../6:0:0:3");
        let disk = tree.device(&format!("{scsi}/block/sdb"));
        assert_eq!(ids(&disk), ["usb-QEMU_QEMU_HARDDISK_1-0000:00:05.0-0:3"]);
    }
}
