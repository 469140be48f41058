//! Which nf_tables tables hold a plan.

use crate::plan::{IpVersion, Plan, Rule};

/// The family of a table: which packets it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4 alone.
    Ip,
    /// IPv6 alone.
    Ip6,
}

/// How a plan is spread over tables. They go in together, in one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One table for both versions of IP; NAT in it takes Linux 5.2.
    Together,
    /// A table for each version of IP.
    Apart,
}

impl Family {
    pub(crate) const ALL: [Family; 3] = [Family::Inet, Family::Ip, Family::Ip6];

    /// The name that nft gives the family.
    pub fn name(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        }
    }

    /// Whether a rule belongs into a table of this family.
    pub(crate) fn takes(self, rule: &Rule) -> bool {
        match self {
            Family::Inet => true,
            Family::Ip => rule.is_for(IpVersion::V4),
            Family::Ip6 => rule.is_for(IpVersion::V6),
        }
    }
}

impl Layout {
    /// The layout to try first.
    pub(crate) fn preferred(plan: &Plan) -> Layout {
        if plan.ipv6 { Layout::Together } else { Layout::Apart }
    }

    /// The families of the tables.
    pub(crate) fn families(self, plan: &Plan) -> &'static [Family] {
        match self {
            Layout::Together => &[Family::Inet],
            Layout::Apart if plan.ipv6 => &[Family::Ip, Family::Ip6],
            Layout::Apart => &[Family::Ip],
        }
    }
}
