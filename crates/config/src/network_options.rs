//! The network options of dracut.cmdline(7), section "Network".

use std::net::{IpAddr, Ipv4Addr};

/// The longest name of an interface in bytes: linux/if.h, `IFNAMSIZ`, without the NUL.
const LONGEST_NAME: usize = 15;
/// The smallest MTU in bytes: RFC 791, section 3.2.
const SMALLEST_MTU: u16 = 68;
/// The longest host name in bytes (Linux, `__NEW_UTS_LEN`).
const LONGEST_HOST_NAME: usize = 64;

/// Which interfaces are configured, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkOptions {
    /// `ip=off`: no interface is configured.
    pub is_off: bool,
    /// `ip=METHOD`: how interfaces are configured that no other `ip=` names. If there is none, and other `ip=` name
    /// interfaces, only those are configured.
    pub any: Option<Method>,
    /// `ip=INTERFACE:METHOD` and the long form, in the order given.
    pub interfaces: Vec<InterfaceOptions>,
    /// `bootdev=` or `BOOTIF=`: the interface that the machine waits for.
    pub boot_device: Option<Selector>,
    /// `nameserver=`, then the name servers of `ip=`, in the order given.
    pub name_servers: Vec<IpAddr>,
    /// `rd.peerdns=0`: servers' and routers' name servers are not used.
    pub ignores_learned_name_servers: bool,
    /// `rd.route=`.
    pub routes: Vec<FixedRoute>,
    /// `ifname=NAME:MAC`.
    pub names: Vec<(String, HardwareAddress)>,
    /// Options that are not understood, or have no effect, for the log of an initrd that configures the network itself.
    pub warnings: Vec<String>,
}

/// The address of an Ethernet interface.
pub type HardwareAddress = [u8; 6];

/// Which interface is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The one of this name.
    Name(String),
    /// The one with this address.
    HardwareAddress(HardwareAddress),
}

/// How an interface gets its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// From DHCPv4 servers, and from IPv6 routers and the DHCPv6 servers that they announce: `dhcp`, `on`, `any`.
    #[default]
    Any,
    /// From IPv6 routers, and the DHCPv6 servers that they announce: `dhcp6`, `auto6`, `either6`.
    Ipv6,
    /// Only the IPv6 address that the kernel makes for the link: `link6`.
    Link,
    /// Only the address in `ip=`: `none`, `off`.
    Fixed,
}

/// One `ip=` that names an interface or has an address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InterfaceOptions {
    /// The interface; without one, the first with a carrier.
    pub interface: Option<Selector>,
    /// How it gets its other addresses.
    pub method: Method,
    /// Its address, and the bits of its network.
    pub address: Option<(IpAddr, u8)>,
    /// The default gateway.
    pub gateway: Option<IpAddr>,
    /// The machine's name.
    pub host_name: Option<String>,
    /// The largest packet in bytes.
    pub mtu: Option<u16>,
    /// The address that it gets before it comes up.
    pub hardware_address: Option<HardwareAddress>,
}

/// `rd.route=NETWORK/BITS:GATEWAY[:INTERFACE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedRoute {
    /// The network, and the bits of its mask.
    pub network: (IpAddr, u8),
    /// The router; without one, the network is on the link.
    pub gateway: Option<IpAddr>,
    /// The interface; without one, that which the machine waits for.
    pub interface: Option<Selector>,
}

/// Options of the section that an initrd of dracut has, with what to do instead here.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("vlan", "VLANs need a dracut initrd"),
    ("bond", "bonds need a dracut initrd"),
    ("bridge", "bridges need a dracut initrd"),
    ("team", "teams need a dracut initrd, whose NetworkManager makes a bond: use `bond=`"),
    ("rd.nfs.domain", "NFS needs a dracut initrd"),
    ("rd.net.timeout.dhcp", "the limits are fixed: docs/retries.md"),
    ("rd.net.timeout.iflink", "the limits are fixed: docs/retries.md"),
    ("rd.net.timeout.ifup", "the limits are fixed: docs/retries.md"),
    ("rd.net.timeout.route", "the limits are fixed: docs/retries.md"),
    ("rd.net.timeout.ipv6dad", "the limits are fixed: docs/retries.md"),
    ("rd.net.timeout.ipv6auto", "the limits are fixed: docs/retries.md"),
    ("rd.net.timeout.carrier", "the limits are fixed: docs/retries.md"),
    ("rd.net.dhcp.retry", "the limits are fixed: docs/retries.md"),
    ("rd.net.dhcp.vendor-class", "the vendor class is that of network boot programs (RFC 4578)"),
    ("rd.net.dhcp.dscp", "packets have no DSCP"),
];

impl NetworkOptions {
    /// Reads an option; returns whether it is one of the network.
    pub(crate) fn take(&mut self, key: &str, value: &str) -> bool {
        let taken = match key {
            "ip" => self.take_ip(value),
            "bootdev" => self.take_boot_device(Selector::parse(value)),
            // PXELINUX puts the type of the hardware before the address; 01 is Ethernet.
            "BOOTIF" => self.take_boot_device(
                value.get(3..).and_then(parse_hardware_address).map(Selector::HardwareAddress),
            ),
            "nameserver" => self.take_name_server(value),
            "rd.peerdns" => switch(value)
                .map(|is_on| self.ignores_learned_name_servers = !is_on)
                .ok_or("expected `0` or `1`".into()),
            "rd.route" => FixedRoute::parse(value).map(|route| self.routes.push(route)),
            "ifname" => self.take_name(value),
            "rd.neednet" => match switch(value) {
                Some(true) => Ok(()),
                _ => Err("the network is always configured; use `ip=off`".into()),
            },
            _ => match UNSUPPORTED.iter().find(|(name, _)| *name == key) {
                Some((_, instead)) => Err((*instead).into()),
                None => return false,
            },
        };
        if let Err(why) = taken {
            let given = if value.is_empty() { key.to_owned() } else { format!("{key}={value}") };
            self.warnings.push(format!("kernel option `{given}` is ignored: {why}"));
        }
        true
    }

    /// How an interface of this name and address is configured; `None` if it is not.
    #[must_use]
    pub fn of(&self, name: &str, address: HardwareAddress) -> Option<InterfaceOptions> {
        let named = self.interfaces.iter().find(|options| {
            options.interface.as_ref().is_some_and(|selector| selector.selects(name, address))
        });
        let any = || self.interfaces.iter().find(|options| options.interface.is_none());
        let of_method = |method| InterfaceOptions { method, ..InterfaceOptions::default() };
        match named.or_else(any) {
            Some(options) => Some(options.clone()),
            None if self.interfaces.is_empty() => Some(of_method(self.any.unwrap_or_default())),
            None => self.any.map(of_method),
        }
    }

    /// The interface that the machine waits for; `None` for any.
    #[must_use]
    pub fn awaited(&self) -> Option<&Selector> {
        self.boot_device.as_ref().or_else(|| self.interfaces.iter().find_map(|it| it.interface.as_ref()))
    }

    /// The machine's name in `ip=`.
    #[must_use]
    pub fn host_name(&self) -> Option<&str> {
        self.interfaces.iter().find_map(|options| options.host_name.as_deref())
    }

    fn take_ip(&mut self, value: &str) -> Result<(), String> {
        let fields = fields(value);
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        match fields[..] {
            ["off" | "none"] => self.is_off = true,
            ["ibft"] => return Err("the firmware's table (iBFT) is not read".into()),
            ["single-dhcp"] => self.any = Some(Method::Any),
            [word] => self.any = Some(method(word).filter(|it| *it != Method::Fixed).ok_or_else(forms)?),
            [interface, word] | [interface, word, _] | [interface, word, _, _] if method(word).is_some() => {
                let (mtu, own_address) =
                    link(fields.get(2).copied().unwrap_or(""), fields.get(3).copied().unwrap_or(""))?;
                self.interfaces.push(InterfaceOptions {
                    interface: Some(Selector::parse(interface).ok_or_else(|| no_interface(interface))?),
                    method: method(word).ok_or_else(forms)?,
                    mtu,
                    hardware_address: own_address,
                    ..InterfaceOptions::default()
                });
            }
            [address, _peer, gateway, netmask, host_name, interface, ref rest @ ..] => {
                self.take_long_form(address, gateway, netmask, host_name, interface, rest)?;
            }
            _ => return Err(forms()),
        }
        Ok(())
    }

    /// `ADDRESS:[PEER]:GATEWAY:NETMASK:HOSTNAME:INTERFACE[:METHOD[:MTU[:MAC]]]`, or with `DNS1[:DNS2]` at the end.
    fn take_long_form(
        &mut self,
        address: &str,
        gateway: &str,
        netmask: &str,
        host_name: &str,
        interface: &str,
        rest: &[&str],
    ) -> Result<(), String> {
        let at = |number: usize| rest.get(number).copied().unwrap_or("");
        let address = match address {
            "" => None,
            address => {
                let address = parse_address(address).ok_or_else(|| format!("`{address}` is no address"))?;
                Some((address, prefix(netmask, address).ok_or_else(|| format!("`{netmask}` is no netmask"))?))
            }
        };
        let method = match at(0) {
            "" => Method::Fixed,
            word => method(word).ok_or_else(forms)?,
        };
        if address.is_none() && method == Method::Fixed {
            return Err("it has neither an address nor a method".into());
        }
        let servers: Vec<IpAddr> = [at(1), at(2)].into_iter().filter_map(parse_address).collect();
        let (mtu, own_address) = if servers.is_empty() { link(at(1), at(2))? } else { (None, None) };
        self.interfaces.push(InterfaceOptions {
            interface: match interface {
                "" => None,
                interface => Some(Selector::parse(interface).ok_or_else(|| no_interface(interface))?),
            },
            method,
            address,
            gateway: match gateway {
                "" => None,
                gateway => Some(parse_address(gateway).ok_or_else(|| format!("`{gateway}` is no address"))?),
            },
            host_name: match host_name {
                "" => None,
                name if is_host_name(name) => Some(name.to_owned()),
                name => return Err(format!("`{name}` is no host name")),
            },
            mtu,
            hardware_address: own_address,
        });
        self.name_servers.extend(servers);
        Ok(())
    }

    fn take_boot_device(&mut self, selector: Option<Selector>) -> Result<(), String> {
        self.boot_device = Some(selector.ok_or("expected the name or the MAC address of an interface")?);
        Ok(())
    }

    fn take_name_server(&mut self, value: &str) -> Result<(), String> {
        self.name_servers.push(parse_address(value).ok_or("expected an address")?);
        Ok(())
    }

    fn take_name(&mut self, value: &str) -> Result<(), String> {
        let named = value.split_once(':').filter(|(name, _)| is_interface_name(name));
        let named =
            named.and_then(|(name, address)| Some((name.to_owned(), parse_hardware_address(address)?)));
        self.names.push(named.ok_or("expected `NAME:MAC`")?);
        Ok(())
    }
}

impl Selector {
    fn parse(text: &str) -> Option<Self> {
        match parse_hardware_address(text) {
            Some(address) => Some(Self::HardwareAddress(address)),
            None => is_interface_name(text).then(|| Self::Name(text.to_owned())),
        }
    }

    /// Whether it means the interface with this name and address.
    #[must_use]
    pub fn selects(&self, name: &str, address: HardwareAddress) -> bool {
        match self {
            Self::Name(wanted) => wanted == name,
            Self::HardwareAddress(wanted) => *wanted == address,
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => out.write_str(name),
            Self::HardwareAddress(address) => {
                out.write_str(&address.map(|byte| format!("{byte:02x}")).join(":"))
            }
        }
    }
}

impl FixedRoute {
    fn parse(value: &str) -> Result<Self, String> {
        let fields = fields(value);
        let expected = || "expected `NETWORK/BITS:GATEWAY[:INTERFACE]`".to_owned();
        let network = fields.first().and_then(|field| field.split_once('/')).ok_or_else(expected)?;
        let address = parse_address(network.0).ok_or_else(expected)?;
        let at = |number: usize| fields.get(number).map(String::as_str).filter(|field| !field.is_empty());
        if fields.len() > 3 {
            return Err(expected());
        }
        let gateway = at(1).map(|field| parse_address(field).ok_or_else(expected)).transpose()?;
        if gateway.is_some_and(|gateway| gateway.is_ipv4() != address.is_ipv4()) {
            return Err("network and gateway are of two versions of IP".into());
        }
        Ok(Self {
            network: (address, prefix(network.1, address).ok_or_else(expected)?),
            gateway,
            interface: at(2)
                .map(|field| Selector::parse(field).ok_or_else(|| no_interface(field)))
                .transpose()?,
        })
    }
}

/// Splits at colons outside brackets, and outside the MAC addresses that are fields; removes the brackets.
fn fields(value: &str) -> Vec<String> {
    let (mut fields, mut rest) = (Vec::new(), value);
    loop {
        let is_mac =
            rest.get(..17).is_some_and(|text| text.contains(':') && parse_hardware_address(text).is_some());
        let end = match rest.strip_prefix('[').and_then(|inner| inner.find(']')) {
            Some(close) => close + 2,
            None if is_mac => 17,
            None => rest.find(':').unwrap_or(rest.len()),
        };
        let (field, after) = rest.split_at(end);
        fields.push(field.trim_start_matches('[').trim_end_matches(']').to_owned());
        match after.split_once(':') {
            Some(("", next)) => rest = next,
            // Text after a closing bracket: no form has that.
            Some(_) => return Vec::new(),
            None if after.is_empty() => return fields,
            None => return Vec::new(),
        }
    }
}

fn method(word: &str) -> Option<Method> {
    match word {
        "dhcp" | "dhcp4" | "on" | "any" | "auto" => Some(Method::Any),
        "dhcp6" | "auto6" | "either6" => Some(Method::Ipv6),
        "link6" => Some(Method::Link),
        "none" | "off" => Some(Method::Fixed),
        _ => None,
    }
}

/// The MTU and the MAC address at the end of an `ip=`.
fn link(mtu: &str, address: &str) -> Result<(Option<u16>, Option<HardwareAddress>), String> {
    let mtu = match mtu {
        "" => None,
        text => {
            let mtu = text.parse().ok().filter(|mtu| *mtu >= SMALLEST_MTU);
            Some(mtu.ok_or_else(|| format!("`{text}` is neither an MTU nor the address of a name server"))?)
        }
    };
    let address = match address {
        "" => None,
        text => Some(parse_hardware_address(text).ok_or_else(|| format!("`{text}` is no MAC address"))?),
    };
    Ok((mtu, address))
}

fn parse_address(text: &str) -> Option<IpAddr> {
    text.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Six bytes in hexadecimal, with colons or dashes between them.
#[must_use]
pub fn parse_hardware_address(text: &str) -> Option<HardwareAddress> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let byte = |digits: &str| match digits.len() {
        2 => u8::from_str_radix(digits, 16).ok(),
        _ => None,
    };
    text.split(separator).map(byte).collect::<Option<Vec<u8>>>()?.try_into().ok()
}

/// linux/net/core/dev.c, `dev_valid_name`.
fn is_interface_name(name: &str) -> bool {
    let is_allowed = |letter: char| !letter.is_whitespace() && !letter.is_control() && !"/:".contains(letter);
    (1..=LONGEST_NAME).contains(&name.len()) && name != "." && name != ".." && name.chars().all(is_allowed)
}

/// RFC 1123, section 2.1.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
    };
    name.len() <= LONGEST_HOST_NAME && name.split('.').all(is_label)
}

/// The bits of a mask: a number (`24`), or dotted (`255.255.255.0`). Without one, the address is alone in its network.
fn prefix(netmask: &str, address: IpAddr) -> Option<u8> {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    if netmask.is_empty() {
        return Some(longest);
    }
    if let Ok(bits) = netmask.parse::<u8>() {
        return (bits <= longest).then_some(bits);
    }
    let mask = u32::from(netmask.parse::<Ipv4Addr>().ok()?);
    (address.is_ipv4() && mask.leading_ones() + mask.trailing_zeros() >= 32)
        .then(|| mask.leading_ones() as u8)
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "" | "1" | "yes" | "on" => Some(true),
        "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn forms() -> String {
    "expected `METHOD`, `INTERFACE:METHOD[:MTU[:MAC]]` or `ADDRESS::GATEWAY:NETMASK:HOSTNAME:INTERFACE:METHOD` with the \
     method `dhcp`, `dhcp6`, `auto6`, `link6`, `none` or `off`"
        .to_owned()
}

fn no_interface(text: &str) -> String {
    format!("`{text}` is not the name or the MAC address of an interface")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cmdline: &str) -> NetworkOptions {
        let mut options = NetworkOptions::default();
        for word in cmdline.split(' ') {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            assert!(options.take(key, value), "{key}");
        }
        options
    }

    fn understood(cmdline: &str) -> NetworkOptions {
        let options = read(cmdline);
        assert_eq!(options.warnings, Vec::<String>::new(), "{cmdline}");
        options
    }

    const MAC: HardwareAddress = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    fn method_of(cmdline: &str, name: &str) -> Option<Method> {
        understood(cmdline).of(name, MAC).map(|options| options.method)
    }

    #[test]
    fn methods_are_those_of_dracut() {
        for (word, method) in [
            ("dhcp", Method::Any),
            ("on", Method::Any),
            ("any", Method::Any),
            ("single-dhcp", Method::Any),
            ("dhcp6", Method::Ipv6),
            ("auto6", Method::Ipv6),
            ("either6", Method::Ipv6),
            ("link6", Method::Link),
        ] {
            assert_eq!(method_of(&format!("ip={word}"), "eth0"), Some(method), "{word}");
        }
        assert!(understood("ip=off").is_off && understood("ip=none").is_off);
    }

    #[test]
    fn interfaces_that_no_option_names_are_left_alone_if_others_are_named() {
        assert_eq!(method_of("ip=eth1:dhcp", "eth1"), Some(Method::Any));
        assert_eq!(method_of("ip=eth1:dhcp", "eth0"), None);
        assert_eq!(method_of("ip=eth1:auto6 ip=dhcp", "eth0"), Some(Method::Any));
        assert_eq!(method_of("ip=eth1:auto6 ip=dhcp", "eth1"), Some(Method::Ipv6));
        assert_eq!(method_of("nameserver=::1", "eth0"), Some(Method::Any));
    }

    #[test]
    fn hardware_addresses_have_six_bytes() {
        assert_eq!(parse_hardware_address("52:54:00:12:34:56"), Some(MAC));
        assert_eq!(parse_hardware_address("52:54:00"), None);
        assert_eq!(parse_hardware_address(""), None);
    }

    #[test]
    fn an_interface_may_be_named_by_its_address() {
        for text in ["52:54:00:12:34:56", "52-54-00-12-34-56", "[52:54:00:12:34:56]"] {
            let options = understood(&format!("ip={text}:dhcp:9000"));
            assert_eq!(options.of("any", MAC).unwrap().mtu, Some(9000), "{text}");
            assert_eq!(options.of("any", [0; 6]), None);
            assert_eq!(options.awaited(), Some(&Selector::HardwareAddress(MAC)));
        }
        let options = understood("BOOTIF=01-52-54-00-12-34-56 ip=eth0:dhcp");
        assert_eq!(options.awaited().unwrap().to_string(), "52:54:00:12:34:56");
        assert_eq!(understood("bootdev=eth7").awaited(), Some(&Selector::Name("eth7".into())));
    }

    #[test]
    fn the_long_form_has_all_its_fields() {
        for netmask in ["24", "255.255.255.0"] {
            let options = understood(&format!(
                "ip=10.0.0.5::10.0.0.1:{netmask}:host.example:eth0:none:1400:52:54:00:12:34:56"
            ));
            let expected = InterfaceOptions {
                interface: Some(Selector::Name("eth0".into())),
                method: Method::Fixed,
                address: Some(("10.0.0.5".parse().unwrap(), 24)),
                gateway: Some("10.0.0.1".parse().unwrap()),
                host_name: Some("host.example".into()),
                mtu: Some(1400),
                hardware_address: Some(MAC),
            };
            assert_eq!(options.of("eth0", [0; 6]), Some(expected));
            assert_eq!(options.host_name(), Some("host.example"));
        }
        let options = understood("ip=[2001:db8::5]::[2001:db8::1]:64::eth0:none:[2001:db8::53]:9.9.9.9");
        let of = options.of("eth0", MAC).unwrap();
        assert_eq!(of.address, Some(("2001:db8::5".parse().unwrap(), 64)));
        assert_eq!(of.gateway, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(options.name_servers, ["2001:db8::53", "9.9.9.9"].map(|it| it.parse::<IpAddr>().unwrap()));
        // Without an interface, the first one is meant; without a method, the address is fixed.
        let of = understood("ip=10.0.0.5:::24::").of("eth3", MAC).unwrap();
        assert_eq!((of.method, of.interface), (Method::Fixed, None));
        assert_eq!(understood("ip=::::name:eth0:dhcp").host_name(), Some("name"));
    }

    #[test]
    fn routes_name_servers_and_names_are_read() {
        let options = understood(
            "rd.route=192.168.200.0/24:192.168.100.222:ens10 rd.route=192.168.200.0/24::ens10 \
             rd.route=[2001:db8:3::/32]:[2001:db8:2::1] rd.peerdns=0 ifname=lan0:52:54:00:12:34:56 rd.neednet=1 \
             nameserver=[2001:db8::1]",
        );
        assert_eq!(options.routes.len(), 3);
        assert_eq!(options.routes[0].interface, Some(Selector::Name("ens10".into())));
        assert_eq!((options.routes[1].gateway, options.routes[1].network.1), (None, 24));
        assert_eq!(options.routes[2].network, ("2001:db8:3::".parse().unwrap(), 32));
        assert!(options.ignores_learned_name_servers);
        assert_eq!(options.names, [("lan0".to_owned(), MAC)]);
        assert_eq!(options.name_servers.len(), 1);
    }

    #[test]
    fn no_option_is_ignored_silently() {
        for word in [
            "ip=",
            "ip=dhpc",
            "ip=eth0:dhpc",
            "ip=ibft",
            "ip=eth0",
            "ip=eth0:dhcp:1",
            "ip=eth0:dhcp:1400:zz",
            "ip=a/b:dhcp",
            "ip=abcdefghijklmnop:dhcp",
            "ip=10.0.0.5::10.0.0.1:255.0.255.0::eth0:none",
            "ip=10.0.0.5::10.0.0.1:33::eth0:none",
            "ip=10.0.0.5::x:24::eth0:none",
            "ip=10.0.0.5::10.0.0.1:24:-x:eth0:none",
            "ip=::::::",
            "ip=[::1]x:y",
            "bootdev=",
            "BOOTIF=01",
            "BOOTIF=ä",
            "nameserver=x",
            "rd.peerdns=x",
            "rd.route=10.0.0.0:10.0.0.1",
            "rd.route=10.0.0.0/8:[::1]",
            "ifname=x:y",
            "rd.neednet=0",
            "vlan=eth0.5:eth0",
            "bond=bond0:eth0,eth1",
            "bridge=br0:eth0",
            "team=t:eth0",
            "rd.net.timeout.dhcp=5",
            "rd.net.dhcp.retry=3",
        ] {
            let options = read(word);
            assert_eq!(options.warnings.len(), 1, "{word}");
            let start = format!("kernel option `{}` is ignored: ", word.trim_end_matches('='));
            assert!(options.warnings[0].starts_with(&start), "{:?}", options.warnings);
            let others = NetworkOptions { warnings: Vec::new(), ..options };
            assert_eq!(others, NetworkOptions::default(), "{word}");
        }
        assert!(!NetworkOptions::default().take("quiet", ""));
    }
}
