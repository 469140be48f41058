//! What an edit means, apart from any text: against this the text is checked.

use crate::edit::{Edit, End, Path, Step};
use crate::value::Value;

/// The value with the edit. None where the value is not as the edit supposes.
pub(super) fn edited(value: &mut Value, edit: &Edit) -> Option<()> {
    match edit {
        Edit::Entry { map, key, value: new } => {
            let Value::Map(entries) = make(value, &map.0, &Value::Map(vec![]), &mut |_| ())? else {
                return None;
            };
            match entries.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) if *old == Value::Null => *old = new.clone(),
                Some(_) => return None,
                None => entries.push((key.clone(), new.clone())),
            }
        }
        Edit::Items { list, end, items } => {
            let Value::List(old) = make(value, &list.0, &Value::List(vec![]), &mut |_| ())? else {
                return None;
            };
            let at = if *end == End::First { 0 } else { old.len() };
            old.splice(at..at, items.iter().cloned());
        }
    }
    Some(())
}

/// The node at the end of `steps`. What is not there, or null, is made on the way, and at the end is `last`; `made` hears of
/// each how many steps it is from the end.
pub(super) fn make<'a>(
    value: &'a mut Value,
    steps: &[Step],
    last: &Value,
    made: &mut dyn FnMut(usize),
) -> Option<&'a mut Value> {
    if *value == Value::Null {
        *value = if steps.is_empty() { last.clone() } else { Value::Map(vec![]) };
        made(steps.len());
    }
    let Some((step, rest)) = steps.split_first() else { return Some(value) };
    match (step, value) {
        (Step::Key(key), Value::Map(entries)) => {
            let at = entries.iter().position(|(name, _)| name == key).unwrap_or_else(|| {
                entries.push((key.clone(), Value::Null));
                entries.len() - 1
            });
            make(&mut entries[at].1, rest, last, made)
        }
        (Step::Index(index), Value::List(items)) => make(items.get_mut(*index)?, rest, last, made),
        _ => None,
    }
}

/// Whether two values are the same to Kubernetes: the order of keys says nothing.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            let sorted = |entries: &'_ [(String, Value)]| {
                let mut order: Vec<usize> = (0..entries.len()).collect();
                order.sort_by(|&x, &y| entries[x].0.cmp(&entries[y].0));
                order
            };
            a.len() == b.len()
                && sorted(a)
                    .into_iter()
                    .zip(sorted(b))
                    .all(|(x, y)| a[x].0 == b[y].0 && same(&a[x].1, &b[y].1))
        }
        (a, b) => a == b,
    }
}

/// Edits in the order in which indices stay what they were: those deep inside first.
pub(super) fn deepest_first(edits: &[Edit]) -> Vec<&Edit> {
    let mut ordered: Vec<&Edit> = edits.iter().collect();
    ordered.sort_by_key(|edit| std::cmp::Reverse(place(edit).0.len()));
    ordered
}

/// What the edit adds to.
pub(super) fn place(edit: &Edit) -> &Path {
    match edit {
        Edit::Entry { map, .. } => map,
        Edit::Items { list, .. } => list,
    }
}
