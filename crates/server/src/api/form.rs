//! Reading a form, `multipart/form-data` (RFC 7578): how clients send files. Its parts are taken in whole, within the
//! bounds of an upload; what they hold is for the readers of each field to say.

use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use multer::{Constraints, Multipart};
use serde_json::{Map, Value};

use super::App;
use super::body::{Body, read_bytes};
use super::error::ApiError;

/// Most parts of a form.
const MOST_PARTS: usize = 256;

/// One part of a form.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// The field.
    pub(super) name: String,
    /// The name of the client's file, where the part is one.
    pub(super) file_name: Option<String>,
    /// What it holds.
    pub(super) bytes: Bytes,
}

/// The parts of a form, in order.
#[derive(Debug, Default)]
pub(super) struct Form(pub(super) Vec<Part>);

impl Form {
    /// The parts of this name, in order.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Part> {
        self.0.iter().filter(move |part| part.name == name)
    }

    /// The form that a request's bytes are; `None` for what is no form, or none that can be read.
    pub(super) async fn of_bytes(headers: &HeaderMap, bytes: &Bytes) -> Option<Self> {
        let boundary = boundary(headers).ok()??;
        parts(bytes.clone(), boundary).await.ok()
    }

    /// A form of an agent and a file alone: the door for fuzzing.
    pub(super) fn of_file(file: &[u8]) -> Self {
        let part = |name: &str, bytes: &[u8]| Part {
            name: name.to_owned(),
            file_name: (name == "file").then(String::new),
            bytes: Bytes::copy_from_slice(bytes),
        };
        Self(vec![part("agent_id", b"a"), part("file", file)])
    }

    /// The texts of the form as an object, for readers of JSON: one of a name is a text, more of it a list.
    pub(super) fn object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        for part in self.0.iter().filter(|part| part.file_name.is_none()) {
            let text = Value::from(String::from_utf8_lossy(&part.bytes));
            match object.get_mut(&part.name) {
                None => drop(object.insert(part.name.clone(), text)),
                Some(Value::Array(items)) => items.push(text),
                Some(first) => *first = Value::Array(vec![first.take(), text]),
            }
        }
        object
    }
}

impl FromRequest<App> for Form {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let Some(boundary) = boundary(request.headers())? else {
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be a form")
                .at("Content-Type", "send Content-Type: multipart/form-data, as curl --form does"));
        };
        let bytes = read_bytes(request.into_body(), app.config().limits.api_upload_bytes).await?;
        parts(bytes, boundary).await
    }
}

/// The fields of a request that may be a form or a JSON object. A form's fields are texts.
#[derive(Debug)]
pub(super) struct FormOrBody(pub(super) Map<String, Value>);

impl FromRequest<App> for FormOrBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        if is_form(request.headers()) {
            return Form::from_request(request, app).await.map(|form| Self(form.object()));
        }
        Body::from_request(request, app).await.map(|Body(object)| Self(object))
    }
}

/// Whether a body says that it is a form.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("multipart/form-data")
}

/// The boundary of a form; `None` for what is no form.
fn boundary(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    if !is_form(headers) {
        return Ok(None);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let bad = |why: multer::Error| {
        ApiError::new(StatusCode::BAD_REQUEST, "The form has no boundary")
            .at("Content-Type", format!("{why}; let the client library write this header"))
    };
    multer::parse_boundary(kind).map(Some).map_err(bad)
}

async fn parts(bytes: Bytes, boundary: String) -> Result<Form, ApiError> {
    let bad = |error: multer::Error| {
        ApiError::new(StatusCode::BAD_REQUEST, format!("The form cannot be read: {error}"))
    };
    let whole = futures_util::stream::once(async move { Ok::<_, Infallible>(bytes) });
    let mut multipart = Multipart::with_constraints(whole, boundary, Constraints::new());
    let mut form = Form::default();
    while let Some(field) = multipart.next_field().await.map_err(bad)? {
        if form.0.len() >= MOST_PARTS {
            let why = format!("The form has more than {MOST_PARTS} parts");
            return Err(ApiError::new(StatusCode::BAD_REQUEST, why));
        }
        let name = field.name().unwrap_or_default().to_owned();
        let file_name = field.file_name().map(str::to_owned);
        form.0.push(Part { name, file_name, bytes: field.bytes().await.map_err(bad)? });
    }
    Ok(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_form_is_read_part_by_part() {
        let body = "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--X\r\nContent-Disposition: \
                    form-data; name=\"a\"\r\n\r\n2\r\n--X\r\nContent-Disposition: form-data; name=\"f\"; \
                    filename=\"x.csv\"\r\nContent-Type: text/csv\r\n\r\nn\r\n1\r\n--X--\r\n";
        let form = parts(Bytes::from(body), "X".to_owned()).await.unwrap();
        assert_eq!(form.object(), *serde_json::json!({"a": ["1", "2"]}).as_object().unwrap());
        let file = form.all("f").next().unwrap();
        assert_eq!((file.file_name.as_deref(), &*file.bytes), (Some("x.csv"), &b"n\r\n1"[..]));
        let error = parts(Bytes::from("--X\r\nnothing"), "X".to_owned()).await.unwrap_err();
        assert!(error.message.starts_with("The form cannot be read"), "{error:?}");
    }
}
