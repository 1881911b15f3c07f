//! Tables made of what the store holds: everything in pages, or what it takes to route one INVITE.

use std::time::Duration;

use tandem_call::RoutingTable;

use super::{agent, number, trunk};
use crate::agent_rules::agent_rules;
use crate::store::{Store, StoreError, StoredAgent};

/// After a pause, a table of everything, and the last change that is surely in it: what changes while pages are read is
/// to be read again by its number.
pub(super) async fn everything(store: Store, pause: Duration) -> Result<(RoutingTable, i64), StoreError> {
    tokio::time::sleep(pause).await;
    metrics::counter!("tandem_routing_reloads_total").increment(1);
    let read = store.last_change().await?;
    Ok((read_whole(&store).await?, read))
}

/// Reads every trunk, number and agent of the store, page by page, into a table of its own.
///
/// # Errors
/// When the database fails or a secret cannot be opened.
pub async fn read_whole(store: &Store) -> Result<RoutingTable, StoreError> {
    let mut table = RoutingTable::default();
    let mut last = String::new();
    loop {
        let page = store.page_of_trunks(&last).await?;
        let Some(end) = page.last() else { break };
        last.clone_from(&end.id);
        page.into_iter().for_each(|stored| table.put_trunk(trunk(stored)));
    }
    last.clear();
    loop {
        let page = store.page_of_agents(&last).await?;
        let Some(end) = page.last() else { break };
        last.clone_from(&end.id);
        let limited = bounded(page.iter());
        page.into_iter().for_each(|stored| table.put_agent(agent(stored)));
        count_answered(store, &mut table, limited).await?;
    }
    last.clear();
    loop {
        let page = store.page_of_numbers(&last).await?;
        let Some(end) = page.last() else { break };
        last.clone_from(&end.id);
        page.into_iter().for_each(|stored| table.put_number(number(stored)));
    }
    for account in store.exhausted_accounts().await? {
        table.set_exhausted(account.into(), true);
    }
    Ok(table)
}

/// A table of the numbers found by themselves under these keys, with their trunks, their agents, and what these depend
/// on: what is connected by it is what would be connected by the table of everything.
///
/// # Errors
/// When the database fails or a secret cannot be opened.
pub async fn route_of(store: &Store, keys: &[String]) -> Result<RoutingTable, StoreError> {
    let rows = store.rows_of_dialled(keys).await?;
    let mut table = RoutingTable::default();
    rows.trunks.into_iter().for_each(|stored| table.put_trunk(trunk(stored)));
    let limited = bounded(rows.agents.iter());
    rows.agents.into_iter().for_each(|stored| table.put_agent(agent(stored)));
    count_answered(store, &mut table, limited).await?;
    rows.numbers.into_iter().for_each(|stored| table.put_number(number(stored)));
    for account in rows.exhausted {
        table.set_exhausted(account.into(), true);
    }
    Ok(table)
}

/// Agents of these whose owner bounds the calls of one caller: their calls so far are read too.
pub(super) fn bounded<'a>(agents: impl Iterator<Item = &'a StoredAgent>) -> Vec<(String, String)> {
    agents
        .filter(|agent| agent_rules(&agent.body, None).inbound_limit.is_some())
        .map(|agent| (agent.account.clone(), agent.id.clone()))
        .collect()
}

pub(super) async fn count_answered(
    store: &Store,
    table: &mut RoutingTable,
    agents: Vec<(String, String)>,
) -> Result<(), StoreError> {
    for (account, agent) in agents {
        let answered = store.answered_calls(&account, &agent).await?;
        table.set_answered(agent.into(), answered);
    }
    Ok(())
}
