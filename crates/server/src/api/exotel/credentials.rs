//! `…/trunks/{trunk_sid}/credentials`: user names and passwords of digest, any one of which proves the trunk.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::asked::{Asked, ChildPath, ChildQuery, JsonBody, PageQuery, TrunkPath, change};
use super::checks::{Checks, date, is_plain};
use super::envelope::{BadBody, Constant, CountedPageMetadata, Failure, Many, OutOfDate, Refusals, Single};
use super::{children, names, newest_first};
use crate::api::App;
use crate::api::preconditions::IfMatchHeader;
use crate::secrets::Secret;
use crate::store::{Expected, Store, StoredCredential, TrunkSettings};

/// Most credentials of a trunk.
const MOST: usize = 32;

/// Most characters of a friendly name.
const FRIENDLY_NAME: usize = 32;

/// Most characters of a user name and of a password.
const LONGEST: usize = 128;

/// A credential, without its password.
#[derive(Serialize, ToSchema)]
pub(super) struct CredentialData {
    /// Its identifier, digits.
    #[schema(example = "2101456270814357296451860453687152640")]
    id: String,
    /// The trunk.
    trunk_sid: String,
    /// The digest user name.
    #[schema(example = "voice_ai_user")]
    user_name: String,
    /// The owner's name for it.
    #[schema(required, example = "voice_ai_platform")]
    friendly_name: Option<String>,
    /// When it was added.
    #[schema(format = DateTime)]
    date_created: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    date_updated: String,
}

impl CredentialData {
    fn of(trunk: &str, stored: &StoredCredential) -> Self {
        Self {
            id: names::child_name(&stored.id),
            trunk_sid: names::trunk_sid(trunk),
            user_name: stored.user_name.clone(),
            friendly_name: stored.friendly_name.clone(),
            date_created: date(stored.created_at),
            date_updated: date(stored.updated_at),
        }
    }
}

/// A credential to be added.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by Checks")]
pub(super) struct NewCredentialBody {
    /// The digest user name; unique on the trunk.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_.+@-]+$", example = "voice_ai_user")]
    user_name: String,
    /// The digest password; never shown again.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_]+$", example = "wJ8vQ2nR5tX9")]
    password: String,
    /// The owner's name for it.
    #[schema(max_length = 32, pattern = "^[A-Za-z0-9_]*$", example = "voice_ai_platform")]
    friendly_name: Option<String>,
}

/// What is to be changed of a credential.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by Checks")]
pub(super) struct CredentialChangeBody {
    /// The digest user name; unique on the trunk.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_.+@-]+$", example = "voice_ai_user")]
    user_name: Option<String>,
    /// The digest password; never shown again.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_]+$", example = "wJ8vQ2nR5tX9")]
    password: Option<String>,
    /// The owner's name for it; null takes it away.
    #[schema(max_length = 32, pattern = "^[A-Za-z0-9_]*$", example = "voice_ai_platform")]
    friendly_name: Option<String>,
}

/// Which credential to list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct CredentialFilter {
    /// This one alone.
    id: Option<String>,
}

/// What a body says of a credential.
#[derive(Debug)]
pub(super) struct Given {
    user_name: Option<String>,
    password: Option<Secret>,
    /// Whether it was sent, null or not.
    names: Option<Option<String>>,
}

pub(super) fn read(object: &Map<String, Value>, is_new: bool) -> Result<Given, Failure> {
    let mut checks = Checks::default();
    let was_sent = |name: &str| object.get(name).is_some_and(|value| !value.is_null());
    let text = |name: &str, what: &str, extra: &[u8], checks: &mut Checks| {
        if !is_new && !was_sent(name) {
            return None;
        }
        let text = checks.mandatory(object, name, what)?;
        let length = text.chars().count();
        if length > LONGEST {
            let message = format!("{length} characters were given; {LONGEST} are the most");
            let description = format!("Maximum allowed length for {what} is {LONGEST}");
            checks.fail(Constant::Invalid, description, name, message);
        }
        if let Some(bad) = text.chars().find(|c| {
            !c.is_ascii_alphanumeric() && *c != '_' && !extra.iter().any(|one| char::from(*one) == *c)
        }) {
            let also: String = extra.iter().map(|byte| char::from(*byte)).collect();
            let message = format!("holds {bad:?}; use letters, digits and _{also} alone");
            checks.fail(
                Constant::Invalid,
                format!("Allowed characters for {what} is alphanumeric and _"),
                name,
                message,
            );
        }
        Some(text.to_owned())
    };
    let user_name = text("user_name", "UserName", b".+@-", &mut checks);
    // Never shown, not even in part: a fault tells the character alone.
    let password = text("password", "Password", b"", &mut checks).map(Secret::new);
    let friendly_name = checks.text(object, "friendly_name", "friendly_name");
    if let Some(name) = friendly_name {
        let length = name.chars().count();
        if length > FRIENDLY_NAME {
            let message = format!("{length} characters were given; {FRIENDLY_NAME} are the most");
            let description = format!("Maximum allowed length for FriendlyName is {FRIENDLY_NAME}");
            checks.fail(Constant::Invalid, description, "friendly_name", message);
        }
        if !is_plain(name) {
            // The vendor's own spelling.
            let description = "Allowed characters for FriendlyName is alphanumberic and _";
            let message = format!("{name:?} was given; use letters, digits and _ alone");
            checks.fail(Constant::Invalid, description, "friendly_name", message);
        }
    }
    checks.finish()?;
    let names = object.contains_key("friendly_name").then(|| friendly_name.map(str::to_owned));
    Ok(Given { user_name, password, names })
}

fn check_new(settings: &TrunkSettings, user_name: &str, except: Option<&str>) -> Result<(), Failure> {
    let is_other = |one: &&StoredCredential| Some(one.id.as_str()) != except && one.user_name == user_name;
    if settings.credentials.iter().any(|one| is_other(&one)) {
        let description = format!("Unable to create credential with user_name {user_name}");
        return Err(Failure::new(Constant::Duplicate, description)
            .at("user_name", "the trunk has a credential of this user name already; change that one"));
    }
    Ok(())
}

/// Adds a credential. From then on callers of the trunk prove themselves by digest, from within its whitelist if it
/// has one.
#[utoipa::path(post, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/credentials",
    tag = "exotel trunks", params(TrunkPath), security(("basic" = []), ("bearer" = [])),
    request_body = NewCredentialBody,
    responses((status = 200, body = Single<CredentialData>), Refusals, BadBody))]
pub(super) async fn add_exotel_credential(
    State(app): State<App>,
    asked: Asked,
    JsonBody(object): JsonBody,
) -> Response {
    let account = asked.account.clone();
    let added = async {
        asked.may("trunks:write")?;
        let id = asked.trunk()?;
        let given = read(&object, true)?;
        let trunk = change(&app, move |store: Store| async move {
            let add = |settings: &mut TrunkSettings| -> Result<(), Failure> {
                let (Some(user_name), Some(password)) = (given.user_name, given.password) else {
                    return Err(Failure::new(Constant::Missing, "UserName is mandatory"));
                };
                check_new(settings, &user_name, None)?;
                if settings.credentials.len() >= MOST {
                    let message = format!("the trunk has {MOST} credentials; delete one first");
                    let description = format!("Maximum allowed number of credentials is {MOST}");
                    return Err(Failure::new(Constant::Invalid, description).at("user_name", message));
                }
                let friendly_name = given.names.flatten();
                settings.credentials.push(StoredCredential::new(user_name, password, friendly_name));
                // The first of them is what Bolna's fields show.
                if let [only] = settings.credentials.as_slice() {
                    settings.auth_username = Some(only.user_name.clone());
                    settings.auth_password = Some(only.password.clone());
                }
                Ok(())
            };
            store.change_trunk(&account, &id, &Expected::Any, add).await
        });
        let trunk = trunk.await?;
        let added = trunk.settings.credentials.last().ok_or_else(Failure::not_found)?;
        Ok((trunk.revision, CredentialData::of(&trunk.id, added)))
    };
    asked.envelope.tagged(added.await)
}

/// A trunk's credentials, newest first.
#[utoipa::path(get, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/credentials",
    tag = "exotel trunks", params(TrunkPath, PageQuery, CredentialFilter),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = Many<CountedPageMetadata, CredentialData>), Refusals))]
pub(super) async fn list_exotel_credentials(State(app): State<App>, asked: Asked) -> Response {
    let list = async {
        asked.may("trunks:read")?;
        let (id, page) = (asked.trunk()?, asked.page()?);
        let trunk = app.store().trunk(&asked.account, &id).await?;
        let mut list: Vec<&StoredCredential> =
            newest_first(&trunk.settings.credentials, |one| one.created_at).collect();
        if let Some(name) = asked.in_query("id") {
            let wanted = names::child_id(&name).ok_or_else(Failure::not_found)?;
            list.retain(|one| one.id == wanted);
            if list.is_empty() {
                return Err(Failure::not_found());
            }
        }
        Ok(page.counted(list.into_iter().map(|one| CredentialData::of(&trunk.id, one)).collect()))
    };
    asked.envelope.page(list.await)
}

/// Changes a credential; what is not sent stays.
#[utoipa::path(put, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/credentials/{id}",
    tag = "exotel trunks", params(ChildPath, IfMatchHeader), security(("basic" = []), ("bearer" = [])),
    request_body = CredentialChangeBody,
    responses((status = 200, body = Single<CredentialData>), Refusals, BadBody, OutOfDate))]
pub(super) async fn change_exotel_credential(
    State(app): State<App>,
    asked: Asked,
    JsonBody(object): JsonBody,
) -> Response {
    let changed = async {
        asked.may("trunks:write")?;
        let given = read(&object, false)?;
        let user_name = given.user_name.clone();
        let check = move |settings: &TrunkSettings, child: &str| match &user_name {
            Some(user_name) => check_new(settings, user_name, Some(child)),
            None => Ok(()),
        };
        let change = |one: &mut StoredCredential| {
            one.user_name = given.user_name.unwrap_or_else(|| one.user_name.clone());
            one.password = given.password.unwrap_or_else(|| one.password.clone());
            one.friendly_name = given.names.unwrap_or_else(|| one.friendly_name.clone());
        };
        let (trunk, changed) = children::edit(&app, &asked, check, change).await?;
        Ok((trunk.revision, CredentialData::of(&trunk.id, &changed)))
    };
    asked.envelope.tagged(changed.await)
}

/// Takes a credential off its trunk: whoever has it proves nothing by it any more.
#[utoipa::path(delete, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/credentials",
    tag = "exotel trunks", params(TrunkPath, ChildQuery, IfMatchHeader), security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = Single<CredentialData>), Refusals, OutOfDate))]
pub(super) async fn delete_exotel_credential(State(app): State<App>, asked: Asked) -> Response {
    let deleted = async {
        asked.may("trunks:write")?;
        let (trunk, gone) = children::take_off::<StoredCredential>(&app, &asked).await?;
        Ok(CredentialData::of(&trunk.id, &gone))
    };
    asked.envelope.single(deleted.await)
}
