//! The description of the API, OpenAPI 3.1, made from the handlers themselves and served at `/openapi.json` and, to
//! be read, at `/docs`.
//!
//! What every endpoint has in common is said here once: title, keys, tags.

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Deprecated, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::{App, docs};

/// Parts the routes from their description and completes that.
pub(super) fn describe(routes: OpenApiRouter<App>) -> (Router<App>, OpenApi) {
    let common = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Tandem")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "SIP trunks, numbers, voice agents and calls. The endpoints of Bolna's and Exotel's trunk APIs \
                     have their vendors' shapes; those under /v1 are Tandem's own. Every POST heeds the header \
                     Idempotency-Key: the same request with the same key is carried out once within a day, and answered \
                     again with Idempotency-Replayed; another request with it is refused with 422, one while the first is \
                     under way with 409. Answers with an ETag name a revision, which If-Match presupposes in PATCH, PUT and \
                     DELETE. Lists that take limit and cursor name the next page in X-Next-Cursor or next_cursor. \
                     RateLimit-Limit, RateLimit-Remaining and RateLimit-Reset say what is left of the minute, \
                     X-Request-Id names the request.",
                ))
                .build(),
        )
        .components(Some(
            ComponentsBuilder::new()
                .security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
                .security_scheme("basic", SecurityScheme::Http(Http::new(HttpAuthScheme::Basic)))
                .build(),
        ))
        .security(Some([SecurityRequirement::new("bearer", Vec::<String>::new())]))
        .build();
    let (router, description) = OpenApiRouter::with_openapi(common).merge(routes).split_for_parts();
    (router, description)
}

/// The same endpoint under another path that its vendor knows it by, if `rename` has one for it.
pub(super) fn alias(
    (schemas, paths, methods): &UtoipaMethodRouter<App>,
    rename: impl Fn(&str) -> Option<String>,
) -> Option<UtoipaMethodRouter<App>> {
    let mut other = paths.clone();
    other.paths.clear();
    for (path, item) in &paths.paths {
        other.paths.insert(rename(path)?, renamed(item.clone()));
    }
    Some((schemas.clone(), other, methods.clone()))
}

/// The operations of a path as those of its alias: their names must differ.
fn renamed(mut item: PathItem) -> PathItem {
    let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete]
        .into_iter()
        .flatten();
    for operation in operations {
        let operation: &mut Operation = operation;
        operation.operation_id = operation.operation_id.take().map(|id| format!("{id}_alias"));
        operation.deprecated = Some(Deprecated::True);
    }
    item
}

/// `/openapi.json` and `/docs`, written once.
pub(super) fn routes(description: &OpenApi) -> Router<App> {
    let page = Bytes::from(docs::page(description));
    let json = Bytes::from(serde_json::to_vec(description).unwrap_or_default());
    Router::new()
        .route("/openapi.json", get(|| async move { ([(CONTENT_TYPE, "application/json")], json) }))
        .route("/docs", get(|| async move { ([(CONTENT_TYPE, "text/html; charset=utf-8")], page) }))
}
