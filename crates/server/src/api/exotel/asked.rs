//! A request of this family: who asks (HTTP Basic, the token is a key of ours), about which account, trunk and
//! child, with which query and body. Refusals come in the envelope.

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64_simd::STANDARD;
use serde_json::{Map, Value};
use utoipa::IntoParams;

use super::envelope::{Constant, CountedPageMetadata, Envelope, Failure, PageMetadata};
use super::names;
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, storable};
use crate::api::preconditions::IfMatch;
use crate::api::query;
use crate::store::{Expected, Store};

/// Items of a page when the client does not say.
const PAGE_SIZE: u32 = 50;

/// Most items of a page, whatever the client says.
const LARGEST_PAGE: u32 = 500;

/// A request whose caller may speak of the account it names.
pub(super) struct Asked {
    /// The account of the path and of the key.
    pub(super) account: String,
    /// How the answer is wrapped.
    pub(super) envelope: Envelope,
    /// What the request presupposes of what it changes.
    pub(super) expected: Expected,
    caller: Caller,
    parameters: Vec<(String, String)>,
    query: Option<String>,
    pub(super) path: String,
}

impl FromRequestParts<App> for Asked {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let envelope = envelope(parts, app);
        let refuse = |failure: Failure| envelope.refuse(failure);
        basic_to_bearer(&mut parts.headers);
        let caller = Caller::from_request_parts(parts, app).await.map_err(|error| match error.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let challenge = HeaderValue::from_static("Basic realm=\"tandem\"");
                let failure = Failure::new(Constant::Unauthorized, "Authorization failed")
                    .with_header(header::WWW_AUTHENTICATE, challenge);
                let why = error.errors.into_iter();
                refuse(why.fold(failure, |failure, one| failure.at(one.location, one.message)))
            }
            _ => refuse(error.into()),
        })?;
        let IfMatch(expected) =
            IfMatch::from_request_parts(parts, app).await.map_err(|error| refuse(error.into()))?;
        let parameters = RawPathParams::from_request_parts(parts, app)
            .await
            .map_err(|error| refuse(Failure::new(Constant::Invalid, error.body_text())))?;
        let parameters: Vec<(String, String)> =
            parameters.iter().map(|(name, value)| (name.to_owned(), storable(value))).collect();
        let account = parameters.iter().find(|(name, _)| name == "account_sid");
        if account.is_none_or(|(_, account)| *account != caller.account) {
            return Err(refuse(Failure::new(Constant::Foreign, "Authorization failed")));
        }
        Ok(Self {
            account: caller.account.clone(),
            envelope,
            expected,
            caller,
            parameters,
            query: parts.uri.query().map(str::to_owned),
            path: parts.uri.path().to_owned(),
        })
    }
}

impl Asked {
    /// `Ok` when the key has the scope.
    pub(super) fn may(&self, scope: &str) -> Result<(), Failure> {
        Ok(self.caller.may(scope)?)
    }

    /// The trunk of the path, by our own identifier.
    pub(super) fn trunk(&self) -> Result<String, Failure> {
        names::trunk_id(self.in_path("trunk_sid")).ok_or_else(Failure::not_found)
    }

    /// The child of the path, by our own identifier.
    pub(super) fn child(&self) -> Result<String, Failure> {
        names::child_id(self.in_path("id")).ok_or_else(Failure::not_found)
    }

    /// A parameter of the query; absent and empty are the same.
    pub(super) fn in_query(&self, name: &str) -> Option<String> {
        query::parameter(self.query.as_deref(), name).filter(|value| !value.is_empty())
    }

    /// A parameter of the query that must be there; `what` is the vendor's name for it.
    pub(super) fn must_have(&self, name: &str, what: &str) -> Result<String, Failure> {
        self.in_query(name).ok_or_else(|| {
            Failure::new(Constant::Missing, format!("{what} is mandatory"))
                .at(name, format!("is missing; send it in the query, as in ?{name}=…"))
        })
    }

    /// The child that the query names, by our own identifier.
    pub(super) fn child_in_query(&self) -> Result<String, Failure> {
        names::child_id(&self.must_have("id", "Id")?).ok_or_else(Failure::not_found)
    }

    /// The page that is asked for. Larger pages than the largest are cut to it.
    pub(super) fn page(&self) -> Result<Page, Failure> {
        let number = |name, range| query::integer(self.query.as_deref(), name, range);
        let page_size = number("page_size", 1..=i64::from(i32::MAX))?.unwrap_or(i64::from(PAGE_SIZE));
        let offset = number("offset", 0..=i64::from(i32::MAX))?.unwrap_or(0);
        Ok(Page {
            size: u32::try_from(page_size).unwrap_or(LARGEST_PAGE).min(LARGEST_PAGE),
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
            path: self.path.clone(),
        })
    }

    /// The page and its size as the vendor's older lists have them: pages are counted from 0.
    pub(super) fn older_page(&self) -> Result<(u32, u32), Failure> {
        let number = |name, range| query::integer(self.query.as_deref(), name, range);
        let page = number("Page", 0..=1_000_000)?.and_then(|page| u32::try_from(page).ok());
        let size = number("PageSize", 1..=i64::from(i32::MAX))?.and_then(|size| u32::try_from(size).ok());
        Ok((page.unwrap_or(0), size.unwrap_or(PAGE_SIZE).min(LARGEST_PAGE)))
    }

    fn in_path(&self, name: &str) -> &str {
        self.parameters.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Carries a change through, and routing has it before this returns. What refuses the change comes back as it is.
pub(super) async fn change<T, F>(
    app: &App,
    change: impl FnOnce(Store) -> F + Send + 'static,
) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send,
{
    app.change(|store| async move { Ok(change(store).await) }).await?
}

/// A page of a list.
pub(super) struct Page {
    pub(super) size: u32,
    pub(super) offset: u32,
    path: String,
}

impl Page {
    /// Cuts the page out of a whole list.
    pub(super) fn of<T>(&self, items: Vec<T>) -> (PageMetadata, Vec<T>) {
        let rest = items.into_iter().skip(self.offset as usize).take(self.size as usize + 1);
        self.of_rest(rest.collect())
    }

    /// Makes the page of the items from its offset on, one more than it holds if there are so many.
    pub(super) fn of_rest<T>(&self, mut items: Vec<T>) -> (PageMetadata, Vec<T>) {
        let has_more = items.len() > self.size as usize;
        items.truncate(self.size as usize);
        let uri = |offset: u32| format!("{}?offset={offset}&page_size={}", self.path, self.size);
        let metadata = PageMetadata {
            page_size: self.size,
            first_page_uri: uri(0),
            prev_page_uri: (self.offset > 0).then(|| uri(self.offset.saturating_sub(self.size))),
            next_page_uri: has_more.then(|| uri(self.offset.saturating_add(self.size))),
        };
        (metadata, items)
    }

    /// Cuts the page out of a whole list, and counts that.
    pub(super) fn counted<T>(&self, items: Vec<T>) -> (CountedPageMetadata, Vec<T>) {
        let total = items.len();
        let (page_metadata, items) = self.of(items);
        let page = self.offset / self.size + 1;
        (CountedPageMetadata { total, page, page_metadata }, items)
    }
}

/// The body of a request: a JSON object that says so.
pub(super) struct JsonBody(pub(super) Map<String, Value>);

impl FromRequest<App> for JsonBody {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let envelope = envelope(&parts, app);
        let given = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let given = String::from_utf8_lossy(given).into_owned();
        let kind = given.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let failure = Failure::new(Constant::WrongType, given.clone())
                .at("Content-Type", format!("{given:?} was given; send Content-Type: application/json"));
            return Err(envelope.refuse(failure));
        }
        let read = Body::from_request(Request::from_parts(parts, body), app).await;
        read.map(|Body(object)| Self(object)).map_err(|error| {
            envelope.refuse(match error.status {
                StatusCode::BAD_REQUEST => Failure::new(Constant::Unparsable, error.message),
                _ => error.into(),
            })
        })
    }
}

fn envelope(parts: &Parts, app: &App) -> Envelope {
    Envelope::new(parts.method.clone(), app.config().api.exotel_duplicate_status)
}

/// `api_key:api_token` of HTTP Basic as the bearer key that the token is: the key's name says nothing to us.
fn basic_to_bearer(headers: &mut HeaderMap) {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, encoded)) = given.and_then(|text| text.split_once(' ')) else { return };
    if !scheme.eq_ignore_ascii_case("basic") {
        return;
    }
    let decoded = STANDARD.decode_to_vec(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let token = decoded.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, token)| token);
    if let Some(bearer) = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok()) {
        headers.insert(header::AUTHORIZATION, bearer);
    }
}

/// The account's part of a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct AccountPath {
    /// The account, by the identifier its keys belong to.
    account_sid: String,
}

/// A trunk's path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct TrunkPath {
    /// The account, by the identifier its keys belong to.
    account_sid: String,
    /// The trunk.
    trunk_sid: String,
}

/// The path of something on a trunk.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct ChildPath {
    /// The account, by the identifier its keys belong to.
    account_sid: String,
    /// The trunk.
    trunk_sid: String,
    /// What is on it, by its digits.
    id: String,
}

/// Which page of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct PageQuery {
    /// Items of a page; more than 500 are cut to 500.
    #[param(minimum = 1, maximum = 2147483647, default = 50)]
    page_size: Option<u32>,
    /// Items before the page.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Which child to delete.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct ChildQuery {
    /// What is on the trunk, by its digits.
    #[param(min_length = 1)]
    id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_basic_is_the_key_and_may_hold_colons() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            basic_to_bearer(&mut headers);
            headers[header::AUTHORIZATION].to_str().unwrap().to_owned()
        };
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode_to_string(pair));
        assert_eq!(with(&basic("key:bn-token")), "Bearer bn-token");
        assert_eq!(with(&basic(":bn:to:ken")), "Bearer bn:to:ken");
        for other in ["Bearer x", "Basic !!", "Basic", &basic("no colon")] {
            assert_eq!(with(other), other);
        }
    }

    #[test]
    fn pages_tell_where_the_others_are() {
        let page = Page { size: 2, offset: 2, path: "/p".to_owned() };
        let (metadata, items) = page.of((0..5).collect());
        assert_eq!(items, [2, 3]);
        assert_eq!(metadata.first_page_uri, "/p?offset=0&page_size=2");
        assert_eq!(metadata.prev_page_uri.as_deref(), Some("/p?offset=0&page_size=2"));
        assert_eq!(metadata.next_page_uri.as_deref(), Some("/p?offset=4&page_size=2"));
        let (metadata, items) = Page { offset: 4, ..page }.counted((0..5).collect());
        assert_eq!((items, metadata.total, metadata.page), (vec![4], 5, 3));
        assert_eq!(metadata.page_metadata.next_page_uri, None);
    }
}
