//! URLs that the server is to POST to: what a webhook and an agent's `webhook_url` may be.

use axum::http::StatusCode;

use super::fields::Faults;
use crate::net::post::PostTarget;

/// Reads a URL; what is wrong with it is a fault at `location`.
pub(super) fn target(url: &str, location: &str, faults: &mut Faults) -> Option<PostTarget> {
    match PostTarget::parse(url) {
        Err(why) if !is_plain(url) => faults.push(location, format!("{url:?} will not do: {why}")),
        Ok(_) if !is_plain(url) => {
            faults.push(location, format!("{url:?} was given; give one such as https://hooks.example/calls"));
        }
        Err(why) => {
            let message = format!("{url:?} will not do: {why}");
            faults.constant(StatusCode::UNPROCESSABLE_ENTITY, "This URL cannot be used", location, message);
        }
        Ok(target) => return Some(target),
    }
    None
}

/// Whether a text looks like an address of the web, escapes and all: what is further asked of one is for
/// [`PostTarget`] to say.
fn is_plain(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else { return false };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._:[]-".contains(&byte);
    !authority.is_empty()
        && authority.bytes().all(is_part)
        && path.bytes().all(|byte| byte.is_ascii_graphic())
}
