//! Trunks. What hangs on them (gateways, address ranges, credentials) is in [`super::trunk_parts`].

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Row as _};
use tandem_call::{OutboundPolicy, TransferPolicy};

use super::change::Change;
use super::numbers::{self, NewNumber, StoredNumber};
use super::trunk_parts::{
    self, PartRows, StoredCredential, StoredGateway, StoredIdentifier, settle_credentials,
};
use super::{Expected, Result, Store, StoreError, corrupt, is_taken, now_ms};
use crate::ids;
use crate::secrets::Secret;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                let text = utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::String);
                text.enum_values(Some(Self::WORDS.iter().copied())).into()
            }
        }

        impl utoipa::ToSchema for $name {}

        impl $name {
            /// The words, in the order of the API's documentation.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The API's word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The variant the API's word names.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

pub(super) use words;

words!(
    /// Which API made a trunk. Every family shows every trunk; the rules of its own hold for what it made.
    TrunkFamily {
        /// `/sip-trunks/trunks`.
        SipTrunk = "sip-trunk",
        /// `/trunk/trunks`.
        Trunk = "trunk",
        /// `/v2/accounts/{account_sid}/trunks`.
        Exotel = "exotel",
    }
);
words!(
    /// How a trunk proves who it is.
    AuthType {
        /// By digest.
        UserPass = "userpass",
        /// By the address it calls from.
        IpBased = "ip-based",
    }
);
words!(
    /// The transport of a trunk's outbound calls.
    TransportKind {
        /// UDP.
        Udp = "transport-udp",
        /// TCP.
        Tcp = "transport-tcp",
        /// TLS.
        Tls = "transport-tls",
    }
);
words!(
    /// Whether media is encrypted.
    MediaEncryption {
        /// Plain RTP.
        No = "no",
        /// SRTP with keys in the SDP (RFC 4568).
        Sdes = "sdes",
    }
);

/// How much a trunk carries; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredLimits {
    /// Concurrent calls, in and out together.
    pub total: Option<u32>,
    /// Concurrent calls from the carrier.
    pub inbound: Option<u32>,
    /// Concurrent calls to the carrier.
    pub outbound: Option<u32>,
    /// New calls in a thousand seconds, from the carrier and to it counted apart.
    pub per_second_milli: Option<u32>,
}

impl StoredLimits {
    /// New calls per second, from the carrier and to it counted apart.
    pub fn per_second(&self) -> Option<f64> {
        self.per_second_milli.map(|milli| f64::from(milli) / 1_000.0)
    }

    /// Bounds new calls per second each way, kept to three decimals.
    pub fn set_per_second(&mut self, rate: Option<f64>) {
        self.per_second_milli = rate.map(|rate| ((rate * 1_000.0).round() as u32).max(1));
    }
}

/// What a client sets on a trunk, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkSettings {
    /// Which API made it; kept as it was when the trunk was made.
    pub family: TrunkFamily,
    /// The owner's name for it; unique in the account.
    pub name: String,
    /// The carrier, in the owner's words.
    pub provider: String,
    /// Free text.
    pub description: Option<String>,
    /// How it proves who it is.
    pub auth_type: AuthType,
    /// User name for digest.
    pub auth_username: Option<String>,
    /// Password for digest.
    pub auth_password: Option<Secret>,
    /// Where outbound calls go, in the client's order.
    pub gateways: Vec<StoredGateway>,
    /// Where inbound calls come from, in the client's order.
    pub ip_identifiers: Vec<StoredIdentifier>,
    /// Codecs, comma-separated, the preferred first.
    pub allow: String,
    /// Codecs refused, comma-separated.
    pub disallow: String,
    /// Transport of outbound calls.
    pub transport: TransportKind,
    /// Let media flow past the node.
    pub direct_media: bool,
    /// Send RTP to where it comes from.
    pub rtp_symmetric: bool,
    /// Answer to the source port.
    pub force_rport: bool,
    /// Offer ICE candidates.
    pub ice_support: bool,
    /// Whether media is encrypted.
    pub media_encryption: MediaEncryption,
    /// Take plain RTP when the carrier offers no key.
    pub media_encryption_optimistic: bool,
    /// Seconds between OPTIONS; 0 is never.
    pub qualify_frequency: u32,
    /// Takes calls from the carrier.
    pub inbound_enabled: bool,
    /// Places calls by the carrier.
    pub outbound_enabled: bool,
    /// Who answers a number without an agent of its own.
    pub default_agent: Option<String>,
    /// How much it carries.
    pub limits: StoredLimits,
    /// How its calls may be transferred.
    pub transfers: TransferPolicy,
    /// Put `+` before dialled numbers.
    pub outbound_leading_plus: bool,
    /// Switched on.
    pub is_active: bool,
    /// Every digest credential, any one of which proves the trunk. `auth_username` and `auth_password` are the
    /// first of them: setting those sets that.
    pub credentials: Vec<StoredCredential>,
    /// Whom outbound calls are shown to come from.
    pub external_alias: Option<ExternalAlias>,
    /// The SIP domain its owner was told, as Exotel's API has it.
    pub domain_name: Option<String>,
    /// The operators it was asked for, as Exotel's API has it.
    pub nso_code: Option<String>,
    /// How its calls leave.
    pub outbound: OutboundPolicy,
    /// What it registers at its carrier.
    pub registration: Option<StoredRegistration>,
}

/// What a trunk registers at its carrier, and where; what is not given follows from the rest of the trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRegistration {
    /// Whether it does.
    pub enabled: bool,
    /// Host name or address of the registrar; the first gateway's without it.
    pub registrar: Option<String>,
    /// Port of the registrar.
    pub port: Option<u16>,
    /// The host of the address of record; the registrar's without it.
    pub domain: Option<String>,
    /// The only realm whose challenges are answered.
    pub realm: Option<String>,
    /// The user of the address of record; the digest user name without it.
    pub from_user: Option<String>,
    /// The user of the Contact; that of the address of record without it.
    pub contact_user: Option<String>,
    /// The time asked for, in seconds.
    pub expires: u32,
}

impl TrunkSettings {
    /// A trunk with the defaults of Bolna's documentation, by address, with nothing hanging on it.
    pub fn new(name: impl Into<String>, provider: impl Into<String>) -> Self {
        Self {
            family: TrunkFamily::SipTrunk,
            name: name.into(),
            provider: provider.into(),
            description: None,
            auth_type: AuthType::IpBased,
            auth_username: None,
            auth_password: None,
            gateways: Vec::new(),
            ip_identifiers: Vec::new(),
            allow: "ulaw,alaw".to_owned(),
            disallow: "all".to_owned(),
            transport: TransportKind::Udp,
            direct_media: false,
            rtp_symmetric: true,
            force_rport: true,
            ice_support: true,
            media_encryption: MediaEncryption::No,
            media_encryption_optimistic: false,
            qualify_frequency: 60,
            inbound_enabled: false,
            outbound_enabled: true,
            default_agent: None,
            limits: StoredLimits::default(),
            transfers: TransferPolicy::default(),
            outbound_leading_plus: true,
            is_active: true,
            credentials: Vec::new(),
            external_alias: None,
            domain_name: None,
            nso_code: None,
            registration: None,
            outbound: OutboundPolicy::default(),
        }
    }
}

/// Whom outbound calls of a trunk are shown to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAlias {
    /// The number.
    pub number: String,
    /// When it was first set, milliseconds since 1970.
    pub created_at: i64,
    /// When it was last set.
    pub updated_at: i64,
}

/// What a client sets, in the order in which [`Store::bind_settings`] binds it.
const SETTINGS: &[&str] = &[
    "name",
    "provider",
    "description",
    "auth_type",
    "codecs_allow",
    "codecs_disallow",
    "transport",
    "direct_media",
    "rtp_symmetric",
    "force_rport",
    "ice_support",
    "media_encryption",
    "media_encryption_optimistic",
    "qualify_frequency",
    "inbound_enabled",
    "outbound_leading_plus",
    "is_active",
    "external_alias",
    "external_alias_created_at",
    "external_alias_updated_at",
    "domain_name",
    "nso_code",
    "outbound_enabled",
    "default_agent_id",
    "calls_total",
    "calls_in",
    "calls_out",
    "calls_per_second_milli",
    "transfer_policy",
    "family",
    "registration",
    "outbound_policy",
];

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let places: Vec<String> = (1..=4 + SETTINGS.len()).map(|place| format!("${place}")).collect();
    let columns = SETTINGS.join(", ");
    format!(
        "INSERT INTO trunks (id, account_id, created_at, updated_at, {columns}) VALUES ({})",
        places.join(", ")
    )
});

static UPDATE: LazyLock<String> = LazyLock::new(|| {
    let set: Vec<String> =
        SETTINGS.iter().enumerate().map(|(at, column)| format!("{column} = ${}", at + 3)).collect();
    format!("UPDATE trunks SET revision = revision + 1, updated_at = $2, {} WHERE id = $1", set.join(", "))
});

/// A trunk as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTrunk {
    /// Identifier.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// What its owner set.
    pub settings: TrunkSettings,
    /// When it was made, milliseconds since 1970.
    pub created_at: i64,
    /// When it was last changed.
    pub updated_at: i64,
    /// Raised by every change of it or of its numbers.
    pub revision: i64,
}

impl Store {
    /// Makes a trunk and its first numbers, all or nothing.
    ///
    /// # Errors
    /// [`StoreError::TrunkNameTaken`], [`StoreError::NumberTaken`].
    pub async fn create_trunk(
        &self,
        account: &str,
        settings: TrunkSettings,
        first_numbers: &[NewNumber],
    ) -> Result<(StoredTrunk, Vec<StoredNumber>)> {
        let now = now_ms();
        let mut trunk = StoredTrunk {
            id: ids::ulid(now),
            account: account.to_owned(),
            settings,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        settle_credentials(&mut trunk.settings, None);
        let mut change = self.begin().await?;
        self.insert_trunk(&mut change, &trunk).await?;
        self.write_parts(&mut change, &mut trunk, None).await?;
        let mut stored = Vec::with_capacity(first_numbers.len());
        for number in first_numbers {
            stored.push(
                numbers::insert(&mut change, account, &trunk.id, trunk.settings.is_active, number).await?,
            );
        }
        change.commit().await?;
        trunk.settings.gateways.sort_by_key(|gateway| gateway.priority);
        Ok((trunk, stored))
    }

    /// One trunk of the account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn trunk(&self, account: &str, id: &str) -> Result<StoredTrunk> {
        let mut reader = self.begin_read().await?;
        self.read_trunk(&mut reader, account, id).await
    }

    /// The account's trunks, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trunks(&self, account: &str, is_active: Option<bool>) -> Result<Vec<StoredTrunk>> {
        let mut reader = self.begin_read().await?;
        let rows = sqlx::query(
            "SELECT * FROM trunks WHERE account_id = $1 AND (is_active = $2 OR $2 = -1) \
             ORDER BY created_at DESC, id DESC",
        )
        .bind(account)
        .bind(is_active.map_or(-1, i64::from))
        .fetch_all(&mut *reader)
        .await?;
        let parts = trunk_parts::rows_of_account(&mut reader, account).await?;
        self.assemble(&rows, &parts)
    }

    /// Some trunks of the account, newest first, without what hangs on them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trunk_page(&self, account: &str, most: u32, offset: u32) -> Result<Vec<StoredTrunk>> {
        let rows = sqlx::query(
            "SELECT * FROM trunks WHERE account_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3",
        )
        .bind(account)
        .bind(i64::from(most))
        .bind(i64::from(offset))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(trunk_of).collect()
    }

    /// Changes a trunk: `edit` gets the trunk as it stands and leaves it as it shall be; what it refuses is
    /// refused before anything is written.
    ///
    /// # Errors
    /// `E`, which holds what `edit` refused and what the store refused.
    pub async fn change_trunk<E: From<StoreError>>(
        &self,
        account: &str,
        id: &str,
        expected: &Expected,
        edit: impl FnOnce(&mut TrunkSettings) -> std::result::Result<(), E>,
    ) -> std::result::Result<StoredTrunk, E> {
        let mut change = self.begin().await?;
        let mut trunk = self.read_trunk(&mut change, account, id).await?;
        expected.check(trunk.revision)?;
        let before = trunk.settings.clone();
        edit(&mut trunk.settings)?;
        settle_credentials(&mut trunk.settings, Some(&before));
        // The time of a change never stands still, so that it can serve as a version.
        trunk.updated_at = now_ms().max(trunk.updated_at + 1);
        trunk.revision += 1;
        self.write_trunk(&mut change, &mut trunk, &before).await?;
        change.commit().await?;
        trunk.settings.gateways.sort_by_key(|gateway| gateway.priority);
        Ok(trunk)
    }

    /// Deletes a trunk; its numbers stay as deleted rows without an agent. Returns how many there were.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::OtherRevision`].
    pub async fn delete_trunk(&self, account: &str, id: &str, expected: &Expected) -> Result<u64> {
        let mut change = self.begin().await?;
        let row = sqlx::query("SELECT revision FROM trunks WHERE account_id = $1 AND id = $2")
            .bind(account)
            .bind(id)
            .fetch_optional(&mut *change)
            .await?
            .ok_or(StoreError::NotFound)?;
        expected.check(row.try_get("revision")?)?;
        numbers::release(&mut change, id).await?;
        let now = now_ms();
        let touched = sqlx::query(
            "SELECT id FROM numbers WHERE account_id = $1 AND trunk_id = $2 AND deleted_at IS NULL",
        )
        .bind(account)
        .bind(id)
        .fetch_all(&mut *change)
        .await?;
        for row in &touched {
            change.touch_number(row.try_get("id")?);
        }
        change.touch_trunk(id);
        let numbers = sqlx::query(
            "UPDATE numbers SET deleted_at = $1, updated_at = $1, revision = revision + 1, agent_id = NULL \
             WHERE account_id = $2 AND trunk_id = $3 AND deleted_at IS NULL",
        )
        .bind(now)
        .bind(account)
        .bind(id)
        .execute(&mut *change)
        .await?
        .rows_affected();
        for statement in [
            "DELETE FROM gateways WHERE trunk_id = $1",
            "DELETE FROM ip_identifiers WHERE trunk_id = $1",
            "DELETE FROM trunk_credentials WHERE trunk_id = $1",
            "DELETE FROM trunk_health WHERE trunk_id = $1",
            "DELETE FROM trunks WHERE id = $1",
        ] {
            sqlx::query(statement).bind(id).execute(&mut *change).await?;
        }
        change.commit().await?;
        Ok(numbers)
    }

    async fn read_trunk(
        &self,
        connection: &mut AnyConnection,
        account: &str,
        id: &str,
    ) -> Result<StoredTrunk> {
        let row = sqlx::query("SELECT * FROM trunks WHERE account_id = $1 AND id = $2")
            .bind(account)
            .bind(id)
            .fetch_optional(&mut *connection)
            .await?
            .ok_or(StoreError::NotFound)?;
        let parts = trunk_parts::rows_of_trunk(connection, id).await?;
        let mut trunks = self.assemble(&[row], &parts)?;
        trunks.pop().ok_or(StoreError::NotFound)
    }

    async fn insert_trunk(&self, change: &mut Change, trunk: &StoredTrunk) -> Result<()> {
        let inserted = sqlx::query(AssertSqlSafe(INSERT.as_str()))
            .bind(&trunk.id)
            .bind(&trunk.account)
            .bind(trunk.created_at)
            .bind(trunk.updated_at);
        change.touch_trunk(&trunk.id);
        agent_exists(change, &trunk.account, trunk.settings.default_agent.as_deref()).await?;
        named(self.bind_settings(inserted, trunk).execute(&mut **change).await)
    }

    async fn write_trunk(
        &self,
        change: &mut Change,
        trunk: &mut StoredTrunk,
        before: &TrunkSettings,
    ) -> Result<()> {
        let updated = sqlx::query(AssertSqlSafe(UPDATE.as_str())).bind(&trunk.id).bind(trunk.updated_at);
        change.touch_trunk(&trunk.id);
        if trunk.settings.default_agent != before.default_agent {
            agent_exists(change, &trunk.account, trunk.settings.default_agent.as_deref()).await?;
        }
        named(self.bind_settings(updated, trunk).execute(&mut **change).await)?;
        self.write_parts(change, trunk, Some(before)).await?;
        match (before.is_active, trunk.settings.is_active) {
            (true, false) => numbers::release(change, &trunk.id).await?,
            (false, true) => numbers::claim_all(change, &trunk.id).await?,
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    /// Binds the settings in the order of [`SETTINGS`].
    fn bind_settings<'q>(
        &self,
        query: sqlx::query::Query<'q, Any, sqlx::any::AnyArguments>,
        trunk: &'q StoredTrunk,
    ) -> sqlx::query::Query<'q, Any, sqlx::any::AnyArguments> {
        let settings = &trunk.settings;
        let alias = settings.external_alias.as_ref();
        // A struct of plain fields always has its JSON.
        let registration = settings.registration.as_ref().and_then(|one| serde_json::to_string(one).ok());
        query
            .bind(&settings.name)
            .bind(&settings.provider)
            .bind(&settings.description)
            .bind(settings.auth_type.as_str())
            .bind(&settings.allow)
            .bind(&settings.disallow)
            .bind(settings.transport.as_str())
            .bind(i64::from(settings.direct_media))
            .bind(i64::from(settings.rtp_symmetric))
            .bind(i64::from(settings.force_rport))
            .bind(i64::from(settings.ice_support))
            .bind(settings.media_encryption.as_str())
            .bind(i64::from(settings.media_encryption_optimistic))
            .bind(i64::from(settings.qualify_frequency))
            .bind(i64::from(settings.inbound_enabled))
            .bind(i64::from(settings.outbound_leading_plus))
            .bind(i64::from(settings.is_active))
            .bind(alias.map(|alias| &alias.number))
            .bind(alias.map(|alias| alias.created_at))
            .bind(alias.map(|alias| alias.updated_at))
            .bind(&settings.domain_name)
            .bind(&settings.nso_code)
            .bind(i64::from(settings.outbound_enabled))
            .bind(&settings.default_agent)
            .bind(settings.limits.total.map(i64::from))
            .bind(settings.limits.inbound.map(i64::from))
            .bind(settings.limits.outbound.map(i64::from))
            .bind(settings.limits.per_second_milli.map(i64::from))
            .bind(written_policy(&settings.transfers))
            .bind(settings.family.as_str())
            .bind(registration)
            .bind(written_policy(&settings.outbound))
    }

    pub(super) fn assemble(&self, trunks: &[AnyRow], parts: &PartRows) -> Result<Vec<StoredTrunk>> {
        let mut parts = self.parts(parts)?;
        trunks
            .iter()
            .map(|row| {
                let mut trunk = trunk_of(row)?;
                parts.give_to(&mut trunk);
                Ok(trunk)
            })
            .collect()
    }
}

/// A trunk without what hangs on it.
pub(super) fn trunk_of(row: &AnyRow) -> Result<StoredTrunk> {
    let id: String = row.try_get("id")?;
    let word = |column: &str| row.try_get::<String, _>(column);
    let switch = |column: &str| row.try_get::<i64, _>(column).map(|value| value != 0);
    let unknown = |column: &str| corrupt(format!("trunks/{id}"), format!("{column} holds an unknown word"));
    let bound = |column: &str| {
        let value = row.try_get::<Option<i64>, _>(column);
        value.map(|value| value.map(|value| u32::try_from(value).unwrap_or(u32::MAX)))
    };
    let settings = TrunkSettings {
        family: TrunkFamily::from_word(&word("family")?).ok_or_else(|| unknown("family"))?,
        name: row.try_get("name")?,
        provider: row.try_get("provider")?,
        description: row.try_get("description")?,
        auth_type: AuthType::from_word(&word("auth_type")?).ok_or_else(|| unknown("auth_type"))?,
        auth_username: None,
        auth_password: None,
        gateways: Vec::new(),
        ip_identifiers: Vec::new(),
        allow: row.try_get("codecs_allow")?,
        disallow: row.try_get("codecs_disallow")?,
        transport: TransportKind::from_word(&word("transport")?).ok_or_else(|| unknown("transport"))?,
        direct_media: switch("direct_media")?,
        rtp_symmetric: switch("rtp_symmetric")?,
        force_rport: switch("force_rport")?,
        ice_support: switch("ice_support")?,
        media_encryption: MediaEncryption::from_word(&word("media_encryption")?)
            .ok_or_else(|| unknown("media_encryption"))?,
        media_encryption_optimistic: switch("media_encryption_optimistic")?,
        qualify_frequency: u32::try_from(row.try_get::<i64, _>("qualify_frequency")?).unwrap_or(0),
        inbound_enabled: switch("inbound_enabled")?,
        outbound_enabled: switch("outbound_enabled")?,
        default_agent: row.try_get("default_agent_id")?,
        limits: StoredLimits {
            total: bound("calls_total")?,
            inbound: bound("calls_in")?,
            outbound: bound("calls_out")?,
            per_second_milli: bound("calls_per_second_milli")?,
        },
        transfers: policy(row, &id, "transfer_policy")?,
        outbound_leading_plus: switch("outbound_leading_plus")?,
        is_active: switch("is_active")?,
        credentials: Vec::new(),
        external_alias: external_alias(row)?,
        domain_name: row.try_get("domain_name")?,
        nso_code: row.try_get("nso_code")?,
        registration: registration(row, &id)?,
        outbound: policy(row, &id, "outbound_policy")?,
    };
    Ok(StoredTrunk {
        account: row.try_get("account_id")?,
        settings,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        revision: row.try_get("revision")?,
        id,
    })
}

/// A policy as it is stored; that of all defaults needs no words.
fn written_policy<T: Default + PartialEq + Serialize>(policy: &T) -> Option<String> {
    // Maps with texts for keys, lists and words: JSON has a form for each.
    (*policy != T::default()).then(|| serde_json::to_string(policy).unwrap_or_default())
}

fn policy<T: Default + serde::de::DeserializeOwned>(row: &AnyRow, id: &str, column: &str) -> Result<T> {
    let written: Option<String> = row.try_get(column)?;
    let Some(written) = written else { return Ok(T::default()) };
    serde_json::from_str(&written)
        .map_err(|error| corrupt(format!("trunks/{id}"), format!("{column} cannot be read: {error}")))
}

fn registration(row: &AnyRow, id: &str) -> Result<Option<StoredRegistration>> {
    let text: Option<String> = row.try_get("registration")?;
    let read = text.map(|text| serde_json::from_str(&text)).transpose();
    read.map_err(|error| corrupt(format!("trunks/{id}"), format!("registration cannot be read: {error}")))
}

fn external_alias(row: &AnyRow) -> Result<Option<ExternalAlias>> {
    let number: Option<String> = row.try_get("external_alias")?;
    let created_at: Option<i64> = row.try_get("external_alias_created_at")?;
    let updated_at: Option<i64> = row.try_get("external_alias_updated_at")?;
    Ok(number.map(|number| ExternalAlias {
        number,
        created_at: created_at.unwrap_or_default(),
        updated_at: updated_at.unwrap_or_default(),
    }))
}

/// Whether the agent is one of the account's; nobody is everybody's.
pub(super) async fn agent_exists(change: &mut Change, account: &str, agent: Option<&str>) -> Result<()> {
    let Some(agent) = agent else { return Ok(()) };
    sqlx::query("SELECT id FROM agents WHERE id = $1 AND account_id = $2")
        .bind(agent)
        .bind(account)
        .fetch_optional(&mut **change)
        .await?
        .map(drop)
        .ok_or(StoreError::AgentNotFound)
}

fn named<T>(written: std::result::Result<T, sqlx::Error>) -> Result<()> {
    match written {
        Ok(_) => Ok(()),
        Err(error) if is_taken(&error) => Err(StoreError::TrunkNameTaken),
        Err(error) => Err(error.into()),
    }
}
