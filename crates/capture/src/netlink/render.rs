//! A plan as nf_tables messages: the table, its chain and the rules. Attribute numbers are from
//! linux/netfilter/nf_tables.h; a comment is laid out as nft does it, so that `nft list ruleset` shows it.

use nix::libc;

use super::layout::Family;
use super::message::{Attributes, Batch};
use super::program::Program;
use crate::TABLE;
use crate::error::Part;
use crate::plan::{Chain, ChainKind, Plan, Rule};

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
/// nft's tag for a comment in NFTA_RULE_USERDATA.
const UDATA_COMMENT: u8 = 0;
/// Where translation of destinations stands among the hooks: NF_IP_PRI_NAT_DST.
const NAT_PRIORITY: i32 = -100;
/// Where filters stand: NF_IP_PRI_FILTER.
const FILTER_PRIORITY: i32 = 0;

/// Replaces whatever the tables held. To delete a table that is not there is an error, so it is made first.
pub(super) fn replace(batch: &mut Batch, plan: &Plan, families: &[Family]) {
    for &family in families {
        add_table(batch, family);
        delete(batch, family);
    }
    add(batch, plan, families);
}

/// Makes the tables, which are not there.
pub(super) fn add(batch: &mut Batch, plan: &Plan, families: &[Family]) {
    let mut sets = 0;
    for &family in families {
        add_table(batch, family);
        for chain in &plan.chains {
            add_chain(batch, family, chain.kind);
            add_rules(batch, family, chain, &mut sets);
        }
    }
}

/// Deletes the table with all that is in it.
pub(super) fn delete(batch: &mut Batch, family: Family) {
    batch.push(libc::NFT_MSG_DELTABLE, 0, family, Part::Deletion(family), table_name);
}

/// The attribute by which dragoman's table is made, deleted or asked for.
pub(super) fn table_name(attributes: &mut Attributes) {
    attributes.text(NFTA_TABLE_NAME, TABLE);
}

/// The attributes by which any chain is asked for.
pub(super) fn chain_name(attributes: &mut Attributes, table: &str, chain: &str) {
    attributes.text(NFTA_CHAIN_TABLE, table);
    attributes.text(NFTA_CHAIN_NAME, chain);
}

fn add_table(batch: &mut Batch, family: Family) {
    batch.push(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, family, Part::Table(family), table_name);
}

fn add_chain(batch: &mut Batch, family: Family, kind: ChainKind) {
    let (type_name, hook_number, priority) = match kind {
        ChainKind::Nat => ("nat", libc::NF_INET_LOCAL_OUT, NAT_PRIORITY),
        ChainKind::Filter => ("filter", libc::NF_INET_LOCAL_OUT, FILTER_PRIORITY),
        ChainKind::InboundNat => ("nat", libc::NF_INET_PRE_ROUTING, NAT_PRIORITY),
        ChainKind::InboundFilter => ("filter", libc::NF_INET_LOCAL_IN, FILTER_PRIORITY),
    };
    batch.push(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, family, Part::Chain(family, kind), |chain| {
        chain.text(NFTA_CHAIN_TABLE, TABLE);
        chain.text(NFTA_CHAIN_NAME, kind.name());
        chain.nest(NFTA_CHAIN_HOOK, |hook| {
            hook.number(NFTA_HOOK_HOOKNUM, hook_number as u32);
            hook.number(NFTA_HOOK_PRIORITY, priority as u32);
        });
        chain.number(NFTA_CHAIN_POLICY, libc::NF_ACCEPT as u32);
        chain.text(NFTA_CHAIN_TYPE, type_name);
    });
}

/// Rules are numbered as in the plan, also those after one that is not for this family.
fn add_rules(batch: &mut Batch, family: Family, chain: &Chain, sets: &mut u32) {
    for (index, rule) in chain.rules.iter().enumerate().filter(|(_, rule)| family.takes(rule)) {
        let part = Part::Rule { chain: chain.kind, number: index + 1, comment: rule.comment.clone() };
        let program = Program::compile(family, rule, sets);
        for set in &program.sets {
            set.add(batch, family, &part);
        }
        add_rule(batch, family, chain.kind, part, rule, program);
    }
}

fn add_rule(batch: &mut Batch, family: Family, chain: ChainKind, part: Part, rule: &Rule, program: Program) {
    batch.push(libc::NFT_MSG_NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, family, part, |new| {
        new.text(NFTA_RULE_TABLE, TABLE);
        new.text(NFTA_RULE_CHAIN, chain.name());
        new.nest(NFTA_RULE_EXPRESSIONS, |list| list.append(program.expressions));
        new.bytes(NFTA_RULE_USERDATA, &comment(&rule.comment));
    });
}

/// Type, length, text with its final NUL.
fn comment(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len() + 1).expect("a comment is at most 120 bytes long");
    [&[UDATA_COMMENT, len], text.as_bytes(), b"\0"].concat()
}
