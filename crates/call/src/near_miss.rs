//! What nearly fitted: the number in another form, the range next door. The most useful lines of a refusal.
//!
//! What it refuses to do: name anything of an account that the verdict does not belong to. Every search is bounded.

use std::net::IpAddr;

use crate::ids::AccountId;
use crate::route::Search;
use crate::table::{NumberEntry, TAIL, Trunk};
use crate::verdict::{Check, MAX_NEAR_MISSES, StepOutcome, Verdict, wire_text};

/// Trunks of one source looked at: a carrier's ranges may be shared by thousands of accounts.
const MAX_SOURCE_TRUNKS: usize = 256;

/// Numbers looked at for one form.
const MAX_LOOKED_AT: usize = 64;

/// Where a source stands outside a trunk's ranges, in words that follow "is".
pub(crate) fn outside(trunk: &Trunk, source: IpAddr) -> String {
    let count = match trunk.sources.len() {
        0 => return "not known: the trunk has no ranges".to_owned(),
        1 => "outside its one range".to_owned(),
        more => format!("outside its {more} ranges"),
    };
    match trunk.nearest_range(source) {
        Some(range) => format!("{count}; nearest {range}"),
        None => {
            let family = if source.is_ipv4() { "IPv4" } else { "IPv6" };
            format!("{count}; none of them is {family}")
        }
    }
}

/// The number is on no trunk: notes it against the trunks this source may use, and looks for it in another form there.
///
/// The verdict goes to the one account whose trunks the source may use; if there are several, to the one account that
/// holds a number alike; else to the operator alone, with no names.
pub(crate) fn of_known_source(search: &Search<'_>, verdict: &mut Verdict) {
    let source = search.query.source.ip().to_canonical();
    let trunks: Vec<&Trunk> =
        search.table.trunks_of_source(source).take(MAX_SOURCE_TRUNKS).map(|(_, trunk)| &**trunk).collect();
    let sole = sole_account(trunks.iter().map(|trunk| &trunk.account)).or_else(|| {
        let alike = alike(search).filter(|(_, on, _)| trunks.iter().any(|trunk| trunk.id == on.id));
        sole_account(alike.map(|(_, trunk, _)| &trunk.account))
    });
    let Some(account) = sole.cloned() else {
        let detail = format!("inside the ranges of {} trunks of several accounts", trunks.len());
        search.note_unknown_number(verdict, "not a number of any trunk this source may use");
        verdict.step(Check::Source, StepOutcome::Noted, source.to_string(), detail);
        return;
    };
    let own: Vec<&Trunk> = trunks.iter().copied().filter(|trunk| trunk.account == account).collect();
    verdict.account = Some(account.clone());
    let detail = match own.as_slice() {
        [only] => {
            verdict.trunk = Some(only.id.clone());
            format!("not a number of trunk {}", only.name)
        }
        several => format!("not a number of any of the {} trunks this source may use", several.len()),
    };
    search.note_unknown_number(verdict, &detail);
    let names: Vec<&str> = own.iter().map(|trunk| trunk.name.as_str()).take(MAX_NEAR_MISSES).collect();
    let detail = format!("inside the ranges of {}", names.join(", "));
    verdict.step(Check::Source, StepOutcome::Noted, source.to_string(), detail);
    by_form(search, verdict, |trunk| trunk.account == account);
}

/// Numbers alike on trunks that pass the filter, as near misses.
pub(crate) fn by_form(search: &Search<'_>, verdict: &mut Verdict, mut is_own: impl FnMut(&Trunk) -> bool) {
    for (number, trunk, dialled) in alike(search) {
        if is_own(trunk) {
            let dialled = wire_text(dialled.as_bytes());
            verdict.near_miss(format!(
                "trunk {} has {}; the INVITE asks for {dialled}: the same digits with another prefix",
                trunk.name, number.number
            ));
        }
    }
}

/// Numbers of the table that end with the digits dialled, or that the digits dialled end with: each with its trunk and
/// the key dialled.
fn alike<'a>(search: &'a Search<'_>) -> impl Iterator<Item = (&'a NumberEntry, &'a Trunk, &'a str)> {
    search.request_key.iter().chain(&search.to_key).flat_map(|key| {
        let bare = key.trim_start_matches('0');
        let is_number = bare.len() >= TAIL && bare.bytes().all(|byte| byte.is_ascii_digit());
        let tail = if is_number { bare } else { "" };
        let longer = search.table.numbers_ending_with(tail).take(if is_number { MAX_LOOKED_AT } else { 0 });
        // The dialled number may carry a country code or a prefix that the stored one has not: drop up to five digits.
        let shorter = (1..=5)
            .filter_map(move |cut| tail.get(cut..))
            .filter(|rest| rest.len() >= TAIL)
            .flat_map(|rest| {
                let trunk_prefixed = format!("0{rest}");
                let bare = search.table.numbers_of_key(rest);
                bare.chain(search.table.numbers_of_key(&trunk_prefixed))
                    .take(MAX_LOOKED_AT)
                    .collect::<Vec<_>>()
            });
        longer.chain(shorter).map(move |(number, trunk)| (number, &**trunk, key.as_str()))
    })
}

/// The account, if all are the same one.
fn sole_account<'a>(mut accounts: impl Iterator<Item = &'a AccountId>) -> Option<&'a AccountId> {
    let first = accounts.next()?;
    accounts.all(|account| account == first).then_some(first)
}
