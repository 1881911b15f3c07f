//! Names that this family gives to rows: `trmum1…` for trunks, digits for what is on them. Both are the row's own
//! ULID in another spelling, so each name leads back to its row without being stored.

use crate::ids;

const TRUNK_PREFIX: &str = "trmum1";

/// The name of a trunk.
pub(super) fn trunk_sid(id: &str) -> String {
    format!("{TRUNK_PREFIX}{}", id.to_ascii_lowercase())
}

/// The trunk of that name; `None` for what is no name of ours.
pub(super) fn trunk_id(sid: &str) -> Option<String> {
    let rest = sid.strip_prefix(TRUNK_PREFIX)?;
    let is_ours = rest.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
    (rest.len() == ids::ULID_CHARACTERS && is_ours).then(|| rest.to_ascii_uppercase())
}

/// The name of something on a trunk.
pub(super) fn child_name(id: &str) -> String {
    ids::ulid_number(id).map_or_else(|| id.to_owned(), |number| number.to_string())
}

/// The row of that name; `None` for what is no name of ours.
pub(super) fn child_id(name: &str) -> Option<String> {
    ids::ulid_of_digits(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_rows() {
        let id = ids::ulid(1_700_000_000_000);
        let sid = trunk_sid(&id);
        assert!(sid.starts_with("trmum1") && sid.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(trunk_id(&sid).as_deref(), Some(id.as_str()));
        let name = child_name(&id);
        assert!(name.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
        assert_eq!(child_id(&name).as_deref(), Some(id.as_str()));
        for nonsense in ["", "trmum1", "trmum1ABC", "TRMUM101hq", &sid[..20], &sid.to_uppercase()] {
            assert_eq!(trunk_id(nonsense), None, "{nonsense}");
        }
        for nonsense in ["", "x", "-1", "+5", &"9".repeat(60)] {
            assert_eq!(child_id(nonsense), None, "{nonsense}");
        }
    }
}
