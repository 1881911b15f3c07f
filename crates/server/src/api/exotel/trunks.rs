//! `/v2/accounts/{account_sid}/trunks`

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::asked::{AccountPath, Asked, JsonBody, Page, PageQuery, TrunkPath, change};
use super::checks::{Checks, date, is_plain};
use super::envelope::{BadBody, Constant, Failure, Many, OutOfDate, PageMetadata, Refusals, Single};
use super::names;
use crate::api::App;
use crate::api::preconditions::IfMatchHeader;
use crate::store::{AuthType, MediaEncryption, Store, StoreError, StoredTrunk, TrunkFamily, TrunkSettings};

/// What every domain of a trunk ends with.
const DOMAIN: &str = ".pstn.exotel.com";

/// The one code of operators there is: any to any.
const ANY: &str = "ANY-ANY";

/// Most characters of a trunk's name.
const NAME: usize = 16;

/// A trunk by address, in the vendor's word.
const BY_ADDRESS: &str = "IP-WHITELIST";

/// A trunk by digest.
const BY_DIGEST: &str = "CREDENTIALS";

/// A trunk.
#[derive(Serialize, ToSchema)]
pub(super) struct TrunkData {
    /// The owner's name for it.
    #[schema(example = "my_trunk")]
    trunk_name: String,
    /// When it was made.
    #[schema(format = DateTime)]
    date_created: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    date_updated: String,
    /// Its identifier.
    #[schema(example = "trmum101jfzt5q8x7k2m3n4p5q6r7s8t")]
    trunk_sid: String,
    /// `active` or `inactive`.
    #[schema(pattern = "^(active|inactive)$", example = "active")]
    status: &'static str,
    /// Its SIP domain.
    #[schema(example = "acme.pstn.exotel.com")]
    domain_name: String,
    /// `IP-WHITELIST`, or `CREDENTIALS` when it has any.
    #[schema(pattern = "^(IP-WHITELIST|CREDENTIALS)$", example = "IP-WHITELIST")]
    auth_type: &'static str,
    /// Always `disabled`.
    #[schema(example = "disabled")]
    registration_enabled: &'static str,
    /// Always `auto`.
    #[schema(example = "auto")]
    edge_preference: &'static str,
    /// The operators it was asked for.
    #[schema(example = "ANY-ANY")]
    nso_code: String,
    /// Whether media is encrypted.
    #[schema(pattern = "^(enabled|disabled)$", example = "disabled")]
    secure_trunking: &'static str,
    /// Where its destinations are.
    destination_uris: String,
    /// Where its addresses are.
    whitelisted_ips: String,
    /// Where its credentials are.
    credentials: String,
    /// Where its numbers are.
    phone_numbers: String,
}

impl TrunkData {
    pub(super) fn of(trunk: &StoredTrunk) -> Self {
        let settings = &trunk.settings;
        let sid = names::trunk_sid(&trunk.id);
        let path = |kind: &str| format!("/v2/accounts/{}/trunks/{sid}/{kind}", trunk.account);
        Self {
            trunk_name: settings.name.clone(),
            date_created: date(trunk.created_at),
            date_updated: date(trunk.updated_at),
            status: if settings.is_active { "active" } else { "inactive" },
            domain_name: settings.domain_name.clone().unwrap_or_else(|| format!("{}{DOMAIN}", trunk.account)),
            auth_type: auth_type(settings),
            registration_enabled: "disabled",
            edge_preference: "auto",
            nso_code: settings.nso_code.clone().unwrap_or_else(|| ANY.to_owned()),
            secure_trunking: match settings.media_encryption {
                MediaEncryption::Sdes => "enabled",
                MediaEncryption::No => "disabled",
            },
            destination_uris: path("destination-uris"),
            whitelisted_ips: path("whitelisted-ips"),
            credentials: path("credentials"),
            phone_numbers: path("phone-numbers"),
            trunk_sid: sid,
        }
    }
}

fn auth_type(settings: &TrunkSettings) -> &'static str {
    match settings.auth_type {
        AuthType::IpBased => BY_ADDRESS,
        AuthType::UserPass => BY_DIGEST,
    }
}

/// A trunk to be made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by Checks")]
pub(super) struct NewTrunkBody {
    /// Unique in the account.
    #[schema(min_length = 1, max_length = 16, pattern = "^[A-Za-z0-9_]+$", example = "my_trunk")]
    trunk_name: String,
    /// Which operators.
    #[schema(pattern = "^ANY-ANY$", example = "ANY-ANY")]
    nso_code: String,
    /// Ends with `.pstn.exotel.com`.
    #[schema(
        max_length = 253,
        pattern = r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.pstn\.exotel\.com$",
        example = "acme.pstn.exotel.com"
    )]
    domain_name: String,
}

/// What is to be changed of a trunk.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by Checks")]
pub(super) struct TrunkChangeBody {
    /// Unique in the account.
    #[schema(min_length = 1, max_length = 16, pattern = "^[A-Za-z0-9_]+$", example = "my_trunk")]
    trunk_name: Option<String>,
    /// `IP-WHITELIST` for a trunk without credentials, `CREDENTIALS` for one with them.
    #[schema(pattern = "^(IP-WHITELIST|CREDENTIALS)$", example = "IP-WHITELIST")]
    auth_type: Option<String>,
    /// Which operators.
    #[schema(pattern = "^ANY-ANY$", example = "ANY-ANY")]
    nso_code: Option<String>,
}

/// Which trunks to list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct TrunkFilter {
    /// This one alone.
    trunk_sid: Option<String>,
}

/// Which trunk to delete.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct TrunkQuery {
    /// The trunk.
    #[param(min_length = 1)]
    trunk_sid: String,
}

fn read_name(object: &Map<String, Value>, checks: &mut Checks) -> Option<String> {
    let name = checks.mandatory(object, "trunk_name", "TrunkName")?;
    let length = name.chars().count();
    if length > NAME {
        let message = format!("{length} characters were given; {NAME} are the most");
        let description = format!("Maximum allowed length for TrunkName is {NAME}");
        checks.fail(Constant::Invalid, description, "trunk_name", message);
    }
    if !is_plain(name) {
        let description = "Allowed characters for TrunkName is alphanumeric and _";
        let message = format!("{name:?} was given; use letters, digits and _ alone");
        checks.fail(Constant::Invalid, description, "trunk_name", message);
    }
    Some(name.to_owned())
}

fn read_operators(object: &Map<String, Value>, checks: &mut Checks) {
    if let Some(code) = checks.mandatory(object, "nso_code", "NsoCode")
        && code != ANY
    {
        let message = format!("{code:?} was given; give {ANY:?}");
        checks.fail(Constant::Invalid, "Nso code is invalid", "nso_code", message);
    }
}

fn read_domain(object: &Map<String, Value>, checks: &mut Checks) -> Option<String> {
    let domain = checks.mandatory(object, "domain_name", "DomainName")?;
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let is_domain = domain.strip_suffix(DOMAIN).is_some_and(|own| {
        let own = own.as_bytes();
        is_end(own.first())
            && is_end(own.last())
            && own.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
    });
    if !is_domain || domain.len() > 253 {
        let message = format!("{domain:?} was given; give a domain such as \"acme{DOMAIN}\"");
        let description = format!("Domain name should end with {DOMAIN}");
        checks.fail(Constant::Invalid, description, "domain_name", message);
    }
    Some(domain.to_owned())
}

pub(super) fn new_trunk(object: &Map<String, Value>) -> Result<TrunkSettings, Failure> {
    let mut checks = Checks::default();
    let name = read_name(object, &mut checks);
    read_operators(object, &mut checks);
    let domain_name = read_domain(object, &mut checks);
    checks.finish()?;
    Ok(TrunkSettings {
        // Its addresses and credentials are those that may call: there is nobody to switch it on later.
        inbound_enabled: true,
        nso_code: Some(ANY.to_owned()),
        domain_name,
        family: TrunkFamily::Exotel,
        ..TrunkSettings::new(name.unwrap_or_default(), "exotel")
    })
}

/// Lays a PUT over a trunk as it stands: what is absent or null stays.
fn change_trunk(object: &Map<String, Value>, settings: &mut TrunkSettings) -> Result<(), Failure> {
    let was_sent = |name: &str| object.get(name).is_some_and(|value| !value.is_null());
    let mut checks = Checks::default();
    if was_sent("trunk_name")
        && let Some(name) = read_name(object, &mut checks)
    {
        settings.name = name;
    }
    if let Some(given) = checks.text(object, "auth_type", "auth_type")
        && given != auth_type(settings)
    {
        let message = format!(
            "{given:?} was given; the trunk has {} credentials, so it is {}: add or delete credentials to change that",
            settings.credentials.len(),
            auth_type(settings)
        );
        checks.fail(Constant::Contradiction, "Auth type is invalid", "auth_type", message);
    }
    if was_sent("nso_code") {
        read_operators(object, &mut checks);
    }
    checks.finish()
}

fn name_taken(failure: StoreError, name: &str) -> Failure {
    match failure {
        StoreError::TrunkNameTaken => taken(name),
        other => other.into(),
    }
}

fn taken(name: &str) -> Failure {
    Failure::new(Constant::Duplicate, format!("Unable to create trunk with name {name}"))
        .at("trunk_name", "another trunk of this account has this name; names are unique per account")
}

/// Makes a trunk. It takes calls as soon as it has an address or a credential, and a number with an agent.
#[utoipa::path(post, path = "/v2/accounts/{account_sid}/trunks", tag = "exotel trunks", params(AccountPath),
    security(("basic" = []), ("bearer" = [])), request_body = NewTrunkBody,
    responses((status = 200, body = Single<TrunkData>), Refusals, BadBody))]
pub(super) async fn create_exotel_trunk(
    State(app): State<App>,
    asked: Asked,
    JsonBody(object): JsonBody,
) -> Response {
    let account = asked.account.clone();
    let made = async {
        asked.may("trunks:write")?;
        let settings = new_trunk(&object)?;
        let name = settings.name.clone();
        let trunk = change(&app, move |store: Store| async move {
            let made = store.create_trunk(&account, settings, &[]).await;
            made.map_err(|error| name_taken(error, &name))
        });
        let (trunk, _) = trunk.await?;
        Ok((trunk.revision, TrunkData::of(&trunk)))
    };
    asked.envelope.tagged(made.await)
}

/// The account's trunks, newest first.
#[utoipa::path(get, path = "/v2/accounts/{account_sid}/trunks", tag = "exotel trunks",
    params(AccountPath, PageQuery, TrunkFilter), security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = Many<PageMetadata, TrunkData>), Refusals))]
pub(super) async fn list_exotel_trunks(State(app): State<App>, asked: Asked) -> Response {
    let list = async {
        asked.may("trunks:read")?;
        let page: Page = asked.page()?;
        if let Some(sid) = asked.in_query("trunk_sid") {
            let id = names::trunk_id(&sid).ok_or_else(Failure::not_found)?;
            let trunk = app.store().trunk(&asked.account, &id).await?;
            return Ok(page.of(vec![TrunkData::of(&trunk)]));
        }
        let trunks = app.store().trunk_page(&asked.account, page.size + 1, page.offset).await?;
        Ok(page.of_rest(trunks.iter().map(TrunkData::of).collect()))
    };
    asked.envelope.page(list.await)
}

/// Changes a trunk; what is not sent stays.
#[utoipa::path(put, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}", tag = "exotel trunks",
    params(TrunkPath, IfMatchHeader), security(("basic" = []), ("bearer" = [])), request_body = TrunkChangeBody,
    responses((status = 200, body = Single<TrunkData>), Refusals, BadBody, OutOfDate))]
pub(super) async fn change_exotel_trunk(
    State(app): State<App>,
    asked: Asked,
    JsonBody(object): JsonBody,
) -> Response {
    let (account, expected) = (asked.account.clone(), asked.expected.clone());
    let changed = async {
        asked.may("trunks:write")?;
        let id = asked.trunk()?;
        let trunk = change(&app, move |store: Store| async move {
            let name = object.get("trunk_name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let edit = |settings: &mut TrunkSettings| -> Result<(), Refusal> {
                Ok(change_trunk(&object, settings)?)
            };
            let changed = store.change_trunk(&account, &id, &expected, edit).await;
            changed.map_err(|refusal| match refusal {
                Refusal::Store(error) => name_taken(error, &name),
                Refusal::Client(failure) => failure,
            })
        });
        let trunk = trunk.await?;
        Ok((trunk.revision, TrunkData::of(&trunk)))
    };
    asked.envelope.tagged(changed.await)
}

/// What kept a trunk from being changed.
enum Refusal {
    Store(StoreError),
    Client(Failure),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Client(failure)
    }
}

/// Deletes a trunk with everything on it.
#[utoipa::path(delete, path = "/v2/accounts/{account_sid}/trunks", tag = "exotel trunks",
    params(AccountPath, TrunkQuery, IfMatchHeader), security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = Single<TrunkData>), Refusals, OutOfDate))]
pub(super) async fn delete_exotel_trunk(State(app): State<App>, asked: Asked) -> Response {
    let (account, expected) = (asked.account.clone(), asked.expected.clone());
    let deleted = async {
        asked.may("trunks:write")?;
        let sid = asked.must_have("trunk_sid", "TrunkSid")?;
        let id = names::trunk_id(&sid).ok_or_else(Failure::not_found)?;
        let trunk = change(&app, move |store: Store| async move {
            let trunk = store.trunk(&account, &id).await?;
            store.delete_trunk(&account, &id, &expected).await?;
            Ok(trunk)
        });
        Ok(TrunkData::of(&trunk.await?))
    };
    asked.envelope.single(deleted.await)
}
