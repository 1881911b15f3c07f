//! What hangs on a trunk: gateways, address ranges, digest credentials. Each is written by difference, so that an
//! entry that stays keeps its identifier and its time. Passwords are sealed before they come near a statement.

use std::collections::BTreeMap;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::change::Change;
use super::trunks::{AuthType, StoredTrunk, TransportKind, TrunkFamily, TrunkSettings};
use super::{Result, Store, corrupt};
use crate::ids;
use crate::secrets::Secret;

/// A gateway. Identifier and times are given by the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGateway {
    /// Identifier; empty until stored.
    pub id: String,
    /// Host name or address, an IPv6 address without brackets.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Lower goes first; equals in the order given.
    pub priority: u32,
    /// Among equals, the larger gets more of the calls.
    pub weight: u32,
    /// Its own transport; without it the trunk's.
    pub transport: Option<TransportKind>,
    /// Whether it is found by SRV records, and its port is what stands in there; `None`, where the client does not say,
    /// leaves a gateway that stands as it is, and is no for a new one.
    pub by_service: Option<bool>,
    /// When it was added, milliseconds since 1970.
    pub created_at: i64,
    /// When it was last changed.
    pub updated_at: i64,
}

impl StoredGateway {
    /// A gateway to be added.
    pub fn new(address: impl Into<String>, port: u16, priority: u32) -> Self {
        Self {
            id: String::new(),
            address: address.into(),
            port,
            priority,
            weight: 1,
            transport: None,
            by_service: None,
            created_at: 0,
            updated_at: 0,
        }
    }

    fn of(row: &AnyRow) -> Result<Self> {
        let id: String = row.try_get("id")?;
        let transport: Option<String> = row.try_get("transport")?;
        let transport = transport.map(|word| {
            TransportKind::from_word(&word)
                .ok_or_else(|| corrupt(format!("gateways/{id}"), "transport holds an unknown word"))
        });
        Ok(Self {
            address: row.try_get("address")?,
            port: u16::try_from(row.try_get::<i64, _>("port")?).unwrap_or(0),
            priority: u32::try_from(row.try_get::<i64, _>("priority")?).unwrap_or(u32::MAX),
            weight: u32::try_from(row.try_get::<i64, _>("weight")?).unwrap_or(u32::MAX),
            transport: transport.transpose()?,
            by_service: Some(row.try_get::<i64, _>("by_service")? != 0),
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            id,
        })
    }

    fn says_what(&self, other: &Self) -> bool {
        let content = |one: &Self| {
            let by_service = one.by_service.unwrap_or_default();
            (one.address.clone(), one.port, one.priority, one.weight, one.transport, by_service)
        };
        content(self) == content(other)
    }
}

/// An address or range that calls come from. Identifier and times are given by the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredIdentifier {
    /// Identifier; empty until stored.
    pub id: String,
    /// As the client wrote it: `203.0.113.5` or `203.0.113.0/24`.
    pub ip_address: String,
    /// When it was added, milliseconds since 1970.
    pub created_at: i64,
    /// When it was last changed.
    pub updated_at: i64,
}

impl StoredIdentifier {
    /// An address or range to be added.
    pub fn new(ip_address: impl Into<String>) -> Self {
        Self { id: String::new(), ip_address: ip_address.into(), created_at: 0, updated_at: 0 }
    }

    fn of(row: &AnyRow) -> Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            ip_address: row.try_get("ip_address")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

/// A user name and password of digest, any one of which proves the trunk. Identifier and times are given by the
/// store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCredential {
    /// Identifier; empty until stored.
    pub id: String,
    /// The digest user name.
    pub user_name: String,
    /// The password.
    pub password: Secret,
    /// The owner's name for it.
    pub friendly_name: Option<String>,
    /// When it was added, milliseconds since 1970.
    pub created_at: i64,
    /// When it was last changed.
    pub updated_at: i64,
}

impl StoredCredential {
    /// A credential to be added.
    pub fn new(user_name: impl Into<String>, password: Secret, friendly_name: Option<String>) -> Self {
        Self {
            id: String::new(),
            user_name: user_name.into(),
            password,
            friendly_name,
            created_at: 0,
            updated_at: 0,
        }
    }
}

/// The parts of some trunks, by trunk.
#[derive(Default)]
pub(super) struct Parts {
    gateways: BTreeMap<String, Vec<StoredGateway>>,
    identifiers: BTreeMap<String, Vec<StoredIdentifier>>,
    credentials: BTreeMap<String, Vec<StoredCredential>>,
}

impl Parts {
    /// Gives a trunk what is its own.
    pub(super) fn give_to(&mut self, trunk: &mut StoredTrunk) {
        let settings = &mut trunk.settings;
        settings.gateways = self.gateways.remove(&trunk.id).unwrap_or_default();
        // Ascending priority, ties in the order given (the sort is stable).
        settings.gateways.sort_by_key(|gateway| gateway.priority);
        settings.ip_identifiers = self.identifiers.remove(&trunk.id).unwrap_or_default();
        settings.credentials = self.credentials.remove(&trunk.id).unwrap_or_default();
        show_first_credential(settings);
    }
}

/// Rows of the tables that hold the parts of trunks, each in the order of its entries.
pub(super) struct PartRows {
    pub(super) gateways: Vec<AnyRow>,
    pub(super) identifiers: Vec<AnyRow>,
    pub(super) credentials: Vec<AnyRow>,
}

/// The rows of one trunk.
pub(super) async fn rows_of_trunk(connection: &mut AnyConnection, trunk: &str) -> Result<PartRows> {
    let mut rows = Vec::with_capacity(3);
    for statement in [
        "SELECT * FROM gateways WHERE trunk_id = $1 ORDER BY position",
        "SELECT * FROM ip_identifiers WHERE trunk_id = $1 ORDER BY position",
        "SELECT * FROM trunk_credentials WHERE trunk_id = $1 ORDER BY position",
    ] {
        rows.push(sqlx::query(statement).bind(trunk).fetch_all(&mut *connection).await?);
    }
    Ok(PartRows::of(rows))
}

/// The rows of all trunks of an account.
pub(super) async fn rows_of_account(connection: &mut AnyConnection, account: &str) -> Result<PartRows> {
    let mut rows = Vec::with_capacity(3);
    for statement in [
        "SELECT * FROM gateways WHERE account_id = $1 ORDER BY trunk_id, position",
        "SELECT * FROM ip_identifiers WHERE account_id = $1 ORDER BY trunk_id, position",
        "SELECT * FROM trunk_credentials WHERE account_id = $1 ORDER BY trunk_id, position",
    ] {
        rows.push(sqlx::query(statement).bind(account).fetch_all(&mut *connection).await?);
    }
    Ok(PartRows::of(rows))
}

/// The rows of the trunks whose identifiers are after the one and up to the other.
pub(super) async fn rows_between(
    connection: &mut AnyConnection,
    after: &str,
    last: &str,
) -> Result<PartRows> {
    let mut rows = Vec::with_capacity(3);
    for statement in [
        "SELECT * FROM gateways WHERE trunk_id > $1 AND trunk_id <= $2 ORDER BY trunk_id, position",
        "SELECT * FROM ip_identifiers WHERE trunk_id > $1 AND trunk_id <= $2 ORDER BY trunk_id, position",
        "SELECT * FROM trunk_credentials WHERE trunk_id > $1 AND trunk_id <= $2 ORDER BY trunk_id, position",
    ] {
        rows.push(sqlx::query(statement).bind(after).bind(last).fetch_all(&mut *connection).await?);
    }
    Ok(PartRows::of(rows))
}

impl PartRows {
    /// Of gateways, identifiers and credentials, in this order.
    pub(super) fn of(rows: Vec<Vec<AnyRow>>) -> Self {
        let mut rows = rows.into_iter();
        let mut next = || rows.next().unwrap_or_default();
        Self { gateways: next(), identifiers: next(), credentials: next() }
    }
}

impl Store {
    /// Reads parts of trunks, each list in the order of its rows.
    pub(super) fn parts(&self, rows: &PartRows) -> Result<Parts> {
        let mut parts = Parts::default();
        for row in &rows.gateways {
            parts.gateways.entry(row.try_get("trunk_id")?).or_default().push(StoredGateway::of(row)?);
        }
        for row in &rows.identifiers {
            parts.identifiers.entry(row.try_get("trunk_id")?).or_default().push(StoredIdentifier::of(row)?);
        }
        for row in &rows.credentials {
            let trunk: String = row.try_get("trunk_id")?;
            let credential = self.credential_of(&trunk, row)?;
            parts.credentials.entry(trunk).or_default().push(credential);
        }
        Ok(parts)
    }

    fn credential_of(&self, trunk: &str, row: &AnyRow) -> Result<StoredCredential> {
        let sealed: String = row.try_get("password")?;
        Ok(StoredCredential {
            id: row.try_get("id")?,
            user_name: row.try_get("user_name")?,
            password: self.sealer.open(&password_place(trunk), &sealed)?,
            friendly_name: row.try_get("friendly_name")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }

    /// Writes what differs between a trunk's parts and those that stand. New entries get identifier and time.
    pub(super) async fn write_parts(
        &self,
        change: &mut Change,
        trunk: &mut StoredTrunk,
        before: Option<&TrunkSettings>,
    ) -> Result<()> {
        if before.is_none_or(|before| before.gateways != trunk.settings.gateways) {
            write_gateways(change, trunk, before.map_or(&[], |before| &before.gateways)).await?;
        }
        if before.is_none_or(|before| before.ip_identifiers != trunk.settings.ip_identifiers) {
            write_identifiers(change, trunk, before.map_or(&[], |before| &before.ip_identifiers)).await?;
        }
        if before.is_none_or(|before| before.credentials != trunk.settings.credentials) {
            let stands = before.map_or(&[][..], |before| &before.credentials);
            self.write_credentials(change, trunk, stands).await?;
        }
        Ok(())
    }

    async fn write_credentials(
        &self,
        change: &mut Change,
        trunk: &mut StoredTrunk,
        before: &[StoredCredential],
    ) -> Result<()> {
        let StoredTrunk { id: trunk_id, account, settings, updated_at: now, .. } = trunk;
        for gone in before.iter().filter(|old| settings.credentials.iter().all(|new| new.id != old.id)) {
            delete(
                change,
                "DELETE FROM trunk_credentials WHERE id = $1 AND account_id = $2",
                account,
                &gone.id,
            )
            .await?;
        }
        for (position, credential) in settings.credentials.iter_mut().enumerate() {
            let statement = match before.iter().find(|old| old.id == credential.id) {
                Some(old) => {
                    if old != credential {
                        credential.updated_at = *now;
                    }
                    "UPDATE trunk_credentials SET position = $4, user_name = $5, password = $6, \
                     friendly_name = $7, created_at = $8, updated_at = $9 \
                     WHERE id = $1 AND account_id = $2 AND trunk_id = $3"
                }
                None => {
                    credential.id = ids::ulid(*now);
                    (credential.created_at, credential.updated_at) = (*now, *now);
                    "INSERT INTO trunk_credentials (id, account_id, trunk_id, position, user_name, password, \
                     friendly_name, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
                }
            };
            sqlx::query(statement)
                .bind(&credential.id)
                .bind(&*account)
                .bind(&*trunk_id)
                .bind(position as i64)
                .bind(&credential.user_name)
                .bind(self.sealer.seal(&password_place(trunk_id), credential.password.reveal()))
                .bind(&credential.friendly_name)
                .bind(credential.created_at)
                .bind(credential.updated_at)
                .execute(&mut **change)
                .await?;
        }
        Ok(())
    }
}

/// Brings the one credential that Bolna's API knows and the list of all of them in agreement: what was set there
/// is the first of the list. With credentials a trunk goes by digest, without by address.
pub(super) fn settle_credentials(settings: &mut TrunkSettings, before: Option<&TrunkSettings>) {
    let is_unchanged = before.is_some_and(|before| {
        before.auth_username == settings.auth_username && before.auth_password == settings.auth_password
    });
    if !is_unchanged {
        match (&settings.auth_username, &settings.auth_password, settings.credentials.first_mut()) {
            (Some(user_name), Some(password), Some(first)) => {
                first.user_name.clone_from(user_name);
                first.password.clone_from(password);
            }
            (Some(user_name), Some(password), None) => {
                settings.credentials.push(StoredCredential::new(user_name, password.clone(), None));
            }
            (_, _, Some(_)) => drop(settings.credentials.remove(0)),
            (_, _, None) => {}
        }
    }
    show_first_credential(settings);
    // A trunk of the newer family is proven by its ranges if it has any; its pair is then for outbound calls alone.
    let goes_by_range = settings.family == TrunkFamily::Trunk && !settings.ip_identifiers.is_empty();
    settings.auth_type = match settings.credentials.is_empty() || goes_by_range {
        true => AuthType::IpBased,
        false => AuthType::UserPass,
    };
}

fn show_first_credential(settings: &mut TrunkSettings) {
    let first = settings.credentials.first();
    settings.auth_username = first.map(|first| first.user_name.clone());
    settings.auth_password = first.map(|first| first.password.clone());
}

async fn write_gateways(
    change: &mut Change,
    trunk: &mut StoredTrunk,
    before: &[StoredGateway],
) -> Result<()> {
    let StoredTrunk { id: trunk_id, account, settings, updated_at: now, .. } = trunk;
    keep_gateways(&mut settings.gateways, before);
    for gone in before.iter().filter(|old| settings.gateways.iter().all(|new| new.id != old.id)) {
        delete(change, "DELETE FROM gateways WHERE id = $1 AND account_id = $2", account, &gone.id).await?;
    }
    for (position, gateway) in settings.gateways.iter_mut().enumerate() {
        let statement = match before.iter().find(|old| old.id == gateway.id) {
            Some(old) => {
                if !old.says_what(gateway) {
                    gateway.updated_at = *now;
                }
                "UPDATE gateways SET position = $4, address = $5, port = $6, priority = $7, weight = $8, \
                 transport = $9, by_service = $10, created_at = $11, updated_at = $12 \
                 WHERE id = $1 AND account_id = $2 AND trunk_id = $3"
            }
            None => {
                gateway.id = ids::ulid(*now);
                (gateway.created_at, gateway.updated_at) = (*now, *now);
                "INSERT INTO gateways (id, account_id, trunk_id, position, address, port, priority, weight, \
                 transport, by_service, created_at, updated_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
            }
        };
        sqlx::query(statement)
            .bind(&gateway.id)
            .bind(&*account)
            .bind(&*trunk_id)
            .bind(position as i64)
            .bind(&gateway.address)
            .bind(i64::from(gateway.port))
            .bind(i64::from(gateway.priority))
            .bind(i64::from(gateway.weight))
            .bind(gateway.transport.map(TransportKind::as_str))
            .bind(i64::from(gateway.by_service.unwrap_or_default()))
            .bind(gateway.created_at)
            .bind(gateway.updated_at)
            .execute(&mut **change)
            .await?;
    }
    Ok(())
}

/// A list that replaces another whole keeps the entries that are in both: Bolna's clients send lists without
/// identifiers, and know neither weight, nor an own transport, nor service records.
fn keep_gateways(gateways: &mut [StoredGateway], before: &[StoredGateway]) {
    let mut free: Vec<&StoredGateway> =
        before.iter().filter(|old| gateways.iter().all(|new| new.id != old.id)).collect();
    for gateway in gateways.iter_mut().filter(|gateway| gateway.id.is_empty()) {
        let same = |old: &&StoredGateway| (&old.address, old.port) == (&gateway.address, gateway.port);
        if let Some(at) = free.iter().position(same) {
            let old = free.remove(at);
            gateway.id.clone_from(&old.id);
            (gateway.created_at, gateway.updated_at) = (old.created_at, old.updated_at);
            (gateway.weight, gateway.transport) = (old.weight, old.transport);
            gateway.by_service = gateway.by_service.or(old.by_service);
        }
    }
    for gateway in gateways {
        gateway.by_service.get_or_insert_default();
    }
}

async fn write_identifiers(
    change: &mut Change,
    trunk: &mut StoredTrunk,
    before: &[StoredIdentifier],
) -> Result<()> {
    let StoredTrunk { id: trunk_id, account, settings, updated_at: now, .. } = trunk;
    let identifiers = &mut settings.ip_identifiers;
    let mut free: Vec<&StoredIdentifier> =
        before.iter().filter(|old| identifiers.iter().all(|new| new.id != old.id)).collect();
    for identifier in identifiers.iter_mut().filter(|identifier| identifier.id.is_empty()) {
        if let Some(at) = free.iter().position(|old| old.ip_address == identifier.ip_address) {
            *identifier = free.remove(at).clone();
        }
    }
    for gone in before.iter().filter(|old| identifiers.iter().all(|new| new.id != old.id)) {
        delete(change, "DELETE FROM ip_identifiers WHERE id = $1 AND account_id = $2", account, &gone.id)
            .await?;
    }
    for (position, identifier) in identifiers.iter_mut().enumerate() {
        let statement = match before.iter().find(|old| old.id == identifier.id) {
            Some(old) => {
                if old.ip_address != identifier.ip_address {
                    identifier.updated_at = *now;
                }
                "UPDATE ip_identifiers SET position = $4, ip_address = $5, created_at = $6, updated_at = $7 \
                 WHERE id = $1 AND account_id = $2 AND trunk_id = $3"
            }
            None => {
                identifier.id = ids::ulid(*now);
                (identifier.created_at, identifier.updated_at) = (*now, *now);
                "INSERT INTO ip_identifiers (id, account_id, trunk_id, position, ip_address, created_at, \
                 updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7)"
            }
        };
        sqlx::query(statement)
            .bind(&identifier.id)
            .bind(&*account)
            .bind(&*trunk_id)
            .bind(position as i64)
            .bind(&identifier.ip_address)
            .bind(identifier.created_at)
            .bind(identifier.updated_at)
            .execute(&mut **change)
            .await?;
    }
    Ok(())
}

async fn delete(change: &mut Change, statement: &'static str, account: &str, id: &str) -> Result<()> {
    sqlx::query(statement).bind(id.to_owned()).bind(account.to_owned()).execute(&mut **change).await?;
    Ok(())
}

/// Every password of a trunk is bound to this place: a row moved to another trunk opens nothing there.
fn password_place(trunk: &str) -> String {
    format!("trunks/{trunk}/auth_password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_sent_whole_keeps_the_gateways_that_are_in_both() {
        let mut old = StoredGateway::new("a.example", 5060, 1);
        (old.id, old.weight, old.created_at) = ("G1".to_owned(), 7, 11);
        let mut sent = [StoredGateway::new("b.example", 5060, 1), StoredGateway::new("a.example", 5060, 2)];
        keep_gateways(&mut sent, &[old]);
        assert_eq!((sent[0].id.as_str(), sent[0].weight), ("", 1));
        assert_eq!((sent[1].id.as_str(), sent[1].weight, sent[1].priority), ("G1", 7, 2));
    }
}
