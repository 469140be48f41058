//! A plan as nf_tables messages: the table, its chain and the rules. Attribute numbers are from
//! linux/netfilter/nf_tables.h; a comment is laid out as nft does it, so that `nft list ruleset` shows it.

use nix::libc;

use super::message::{Attributes, Batch};
use super::program::Program;
use crate::error::Part;
use crate::plan::{Family, Plan, Rule};
use crate::{CHAIN, TABLE};

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
/// Where NAT of destinations stands among the OUTPUT hooks: NF_IP_PRI_NAT_DST.
const PRIORITY: i32 = -100;

/// Replaces whatever the table held. To delete a table that is not there is an error, so it is made first.
pub(super) fn replace(batch: &mut Batch, plan: &Plan) {
    add_table(batch, plan.family);
    delete(batch, plan.family);
    add_table(batch, plan.family);
    add_chain(batch, plan.family);
    let mut sets = 0;
    for (index, rule) in plan.rules.iter().enumerate() {
        let part = Part::Rule { number: index + 1, comment: rule.comment.clone() };
        add_rule(batch, plan.family, part, rule, &mut sets);
    }
}

/// Deletes the table with all that is in it.
pub(super) fn delete(batch: &mut Batch, family: Family) {
    batch.push(libc::NFT_MSG_DELTABLE, 0, family, Part::Deletion(family), table_name);
}

/// The attribute by which a table is made, deleted or asked for.
pub(super) fn table_name(attributes: &mut Attributes) {
    attributes.text(NFTA_TABLE_NAME, TABLE);
}

fn add_table(batch: &mut Batch, family: Family) {
    batch.push(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, family, Part::Table(family), table_name);
}

fn add_chain(batch: &mut Batch, family: Family) {
    batch.push(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, family, Part::Chain(family), |chain| {
        chain.text(NFTA_CHAIN_TABLE, TABLE);
        chain.text(NFTA_CHAIN_NAME, CHAIN);
        chain.nest(NFTA_CHAIN_HOOK, |hook| {
            hook.number(NFTA_HOOK_HOOKNUM, libc::NF_INET_LOCAL_OUT as u32);
            hook.number(NFTA_HOOK_PRIORITY, PRIORITY as u32);
        });
        chain.number(NFTA_CHAIN_POLICY, libc::NF_ACCEPT as u32);
        chain.text(NFTA_CHAIN_TYPE, "nat");
    });
}

fn add_rule(batch: &mut Batch, family: Family, part: Part, rule: &Rule, sets: &mut u32) {
    let program = Program::compile(family, rule, sets);
    for set in &program.sets {
        set.add(batch, family, &part);
    }
    batch.push(libc::NFT_MSG_NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, family, part, |new| {
        new.text(NFTA_RULE_TABLE, TABLE);
        new.text(NFTA_RULE_CHAIN, CHAIN);
        new.nest(NFTA_RULE_EXPRESSIONS, |list| list.append(program.expressions));
        new.bytes(NFTA_RULE_USERDATA, &comment(&rule.comment));
    });
}

/// Type, length, text with its final NUL.
fn comment(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len() + 1).expect("a comment is at most 120 bytes long");
    [&[UDATA_COMMENT, len], text.as_bytes(), b"\0"].concat()
}
