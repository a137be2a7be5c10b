//! Which interface the machine uses of those that have an address.

use super::interfaces::Interface;
use super::{Configured, Gained};
use config::network_options::Method;
use std::time::{Duration, Instant};

/// How long an interface that has IPv6 may still wait for a DHCPv4 server, which answers within milliseconds in most
/// networks. Who needs IPv4 later waits for it then.
const IPV4_LIMIT: Duration = Duration::from_millis(500);

/// The interfaces that have an address so far.
#[derive(Default)]
pub(super) struct Arrivals {
    /// One that the machine waits for, and whether IPv4 may still come.
    awaited: Option<(Interface, Instant, bool)>,
    other: Option<Interface>,
}

impl Arrivals {
    pub(super) fn add(&mut self, configured: &Configured, is_awaited: bool, method: Method) {
        let interface = || configured.interface.clone();
        let lacks_ipv4 = matches!(configured.gained, Gained::Ipv6(_)) && method == Method::Any;
        if !is_awaited {
            self.other.get_or_insert_with(interface);
        } else if self.awaited.is_none() || !lacks_ipv4 {
            self.awaited = Some((interface(), Instant::now(), lacks_ipv4));
        }
    }

    /// The interface to use, once there is one. When it is late, another one than the machine waits for will do.
    pub(super) fn enough(&self, is_late: bool) -> Option<&Interface> {
        match &self.awaited {
            Some((interface, since, lacks_ipv4)) => {
                (!lacks_ipv4 || since.elapsed() > IPV4_LIMIT).then_some(interface)
            }
            None => self.other.as_ref().filter(|_| is_late),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::given::FixedAddress;
    use super::super::ipv6::Ipv6;
    use super::*;

    fn configured(name: &str, gained: Gained) -> Configured {
        let interface =
            Interface { index: 2, name: name.into(), hardware_address: [0; 6], has_carrier: true };
        Configured { interface, gained }
    }

    fn ipv6() -> Gained {
        let (address, from) = ("2001:db8::5/64".into(), "a router".into());
        Gained::Ipv6(Ipv6 { address, from, network: Default::default() })
    }

    fn fixed() -> Gained {
        Gained::Fixed(FixedAddress::OfLink)
    }

    fn name(arrivals: &Arrivals, is_late: bool) -> Option<&str> {
        arrivals.enough(is_late).map(|interface| interface.name.as_str())
    }

    #[test]
    fn the_interface_that_is_awaited_is_used() {
        let mut arrivals = Arrivals::default();
        arrivals.add(&configured("eth0", fixed()), false, Method::Fixed);
        assert_eq!(name(&arrivals, false), None);
        assert_eq!(name(&arrivals, true), Some("eth0"), "it is late");
        arrivals.add(&configured("eth1", fixed()), true, Method::Fixed);
        assert_eq!(name(&arrivals, false), Some("eth1"));
    }

    #[test]
    fn ipv6_waits_a_moment_for_ipv4_that_may_come() {
        let mut arrivals = Arrivals::default();
        arrivals.add(&configured("eth0", ipv6()), true, Method::Any);
        assert_eq!(name(&arrivals, false), None);
        std::thread::sleep(IPV4_LIMIT);
        assert_eq!(name(&arrivals, false), Some("eth0"));
        let mut arrivals = Arrivals::default();
        arrivals.add(&configured("eth0", ipv6()), true, Method::Ipv6);
        assert_eq!(name(&arrivals, false), Some("eth0"), "no IPv4 is asked for");
    }
}
