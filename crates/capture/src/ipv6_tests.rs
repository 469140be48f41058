use super::*;

const LOOPBACK: &str = "00000000000000000000000000000001 01 80 10 80       lo\n";
const ETH0: &str = "fd770000000000000000000000000001 0a 40 00 80     eth0\n";

const OUT_OF_KERNEL: Ipv6State = Ipv6State { in_kernel: false, on_loopback: false, interface: None };

fn state(text: &str) -> Ipv6State {
    Ipv6State::parse(text)
}

#[test]
fn addresses_are_read_as_the_kernel_writes_them() {
    assert_eq!(state(""), Ipv6State { in_kernel: true, on_loopback: false, interface: None });
    assert_eq!(state(LOOPBACK), Ipv6State { in_kernel: true, on_loopback: true, interface: None });
    let both = format!("{ETH0}{LOOPBACK}");
    let expected = Ipv6State { in_kernel: true, on_loopback: true, interface: Some("eth0".to_owned()) };
    assert_eq!(state(&both), expected);
    assert_eq!(state("garbage\n\n1 2 3"), state(""));
}

#[test]
fn c3_auto_captures_ipv6_unless_the_kernel_has_none() {
    let family = |state: &Ipv6State| state.family(Ipv6::Auto).unwrap();
    assert_eq!(family(&state(&format!("{ETH0}{LOOPBACK}"))), Family::Inet);
    assert_eq!(family(&state(LOOPBACK)), Family::Inet, "an address may come later");
    assert_eq!(family(&state("")), Family::Inet, "an address may come later");
    assert_eq!(family(&OUT_OF_KERNEL), Family::Ip);
}

#[test]
fn c3_a_redirect_that_could_not_arrive_is_an_error() {
    let error = state(ETH0).family(Ipv6::Auto).unwrap_err().to_string();
    assert_eq!(
        error,
        "eth0 has an IPv6 address, but lo has no ::1, where captured connections would arrive; \
         set net.ipv6.conf.lo.disable_ipv6=0, or use --ipv6 off to let IPv6 pass by"
    );
    assert_eq!(state(ETH0).family(Ipv6::Off).unwrap(), Family::Ip);
}

#[test]
fn c3_on_is_an_error_where_ipv6_cannot_be_captured() {
    assert_eq!(
        OUT_OF_KERNEL.family(Ipv6::On).unwrap_err().to_string(),
        "--ipv6 on: this kernel has no IPv6; use --ipv6 auto"
    );
    assert!(state("").family(Ipv6::On).unwrap_err().to_string().starts_with("--ipv6 on: lo has no ::1, "));
    assert_eq!(state(LOOPBACK).family(Ipv6::On).unwrap(), Family::Inet);
}

#[test]
fn c3_without_inet_nat_ipv4_goes_alone_only_where_nobody_has_ipv6() {
    let both = state(&format!("{ETH0}{LOOPBACK}"));
    assert_eq!(
        both.family_without_inet(Ipv6::Auto).unwrap_err().to_string(),
        "eth0 has an IPv6 address, but this kernel has no NAT for IPv4 and IPv6 in one table (Linux 5.2 has); \
         use --ipv6 off to let IPv6 pass by"
    );
    assert_eq!(state(LOOPBACK).family_without_inet(Ipv6::Auto).unwrap(), Family::Ip);
    assert!(state(LOOPBACK).family_without_inet(Ipv6::On).is_err());
    assert_eq!(both.family_without_inet(Ipv6::Off).unwrap(), Family::Ip);
}
