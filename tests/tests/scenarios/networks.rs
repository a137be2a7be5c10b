//! The network options of the kernel command line, on machines with several interfaces.

use crate::POWER_OFF;
use crate::containers::{CHECK, holds};
use anyhow::Result;
use iguana_lab::image::Recipe;
use iguana_lab::scenario::Scenario;

/// Two interfaces: the first is in a network from which nothing is reached.
fn with_a_wrong_first_interface(scenario: Scenario) -> Scenario {
    scenario.no_network().extra([
        "-netdev",
        "user,id=wrong,restrict=on,net=10.9.0.0/24",
        "-device",
        "virtio-net-pci,netdev=wrong,romfile=,mac=52:54:00:00:00:01",
        "-netdev",
        "user,id=right",
        "-device",
        "virtio-net-pci,netdev=right,romfile=,mac=52:54:00:00:00:02",
    ])
}

#[test]
fn the_machine_uses_the_interface_that_it_was_booted_from() -> Result<()> {
    let job = Recipe::script(&format!("{POWER_OFF}echo booted"))?;
    let scenario = with_a_wrong_first_interface(Scenario::new()?.job(job)?);
    let said = holds(scenario.append("BOOTIF=01-52-54-00-00-00-02"), "booted")?;
    assert!(said.contains("network: eth1 has 10.0.2."), "{said}");
    Ok(())
}

#[test]
fn addresses_routes_and_names_are_those_of_the_command_line() -> Result<()> {
    let checks = format!(
        "{CHECK}
        check 'the address' sh -c 'ip -4 address show dev lan0 | grep -q 10.0.2.77/24'
        check 'the address of IPv6' sh -c 'ip -6 address show dev eth0 | grep -q 2001:db8::7/64'
        check 'the MTU' sh -c 'ip link show dev lan0 | grep -q \"mtu 1400\"'
        check 'the route' sh -c 'ip route | grep -q \"198.51.100.0/24 via 10.0.2.2 dev lan0\"'
        check 'the name' [ \"$(hostname)\" = lab7 ]
        check 'the name server' grep -q 'nameserver 10.0.2.3' /etc/resolv.conf
        check 'no lease' sh -c '! ip -4 address show dev eth0 | grep inet'
        echo checked
        {POWER_OFF}"
    );
    let scenario = with_a_wrong_first_interface(Scenario::new()?.job(Recipe::script(&checks)?)?);
    let options = "ifname=lan0:52:54:00:00:00:02 ip=10.0.2.77::10.0.2.2:24:lab7:lan0:none:1400 bootdev=lan0 \
                   ip=[2001:db8::7]:::64::eth0:none rd.route=198.51.100.0/24:10.0.2.2 nameserver=10.0.2.3 ip=eth9:dhpc vlan=x:y";
    let said = holds(scenario.append(options), "checked")?;
    for line in [
        "warning: kernel option `ip=eth9:dhpc` is ignored: expected ",
        "warning: kernel option `vlan=x:y` is ignored: VLANs need a dracut initrd",
        "network: lan0 has 10.0.2.77/24",
    ] {
        assert!(said.contains(line), "`{line}` is not in\n{said}");
    }
    Ok(())
}
