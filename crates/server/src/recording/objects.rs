//! An object store that speaks S3: one request, one connection, signed by `rusty-s3` (Signature Version 4, in the query).
//!
//! It refuses to retry: who calls does. The endpoint is the operator's, so no fence stands before it.

use std::path::Path;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Method, Request, header};
use futures_util::stream;
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use tokio::io::AsyncReadExt as _;
use url::Url;

use crate::config::S3Settings;
use crate::net::post::{PostError, PostTarget, Poster};

/// How long a signature is good for.
const SIGNED_FOR: Duration = Duration::from_secs(900);
/// Read of a file at once.
const READ_BYTES: usize = 64 * 1024;
/// Most of a refusal that is shown.
const REFUSAL_BYTES: usize = 16 * 1024;
const REFUSAL_SHOWN: usize = 300;
/// Time an upload may take: this, and a second for each 128 KiB.
const UPLOAD_LEAST: Duration = Duration::from_secs(30);
const UPLOAD_RATE: u64 = 128 * 1024;

/// Why the object store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ObjectFault {
    /// Its settings do not go together.
    #[error("{0}")]
    Settings(String),
    /// It cannot be reached.
    #[error("the object store cannot be reached: {0}")]
    Reach(#[from] PostError),
    /// The file cannot be read.
    #[error("the recording's file cannot be read: {0}")]
    File(#[from] std::io::Error),
    /// It refused.
    #[error("the object store answered {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        text: String,
    },
    /// It took too long.
    #[error("the object store did not take the recording within {} s", .0.as_secs())]
    Slow(Duration),
}

/// A bucket.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    bucket: Bucket,
    credentials: Credentials,
    prefix: String,
    poster: Poster,
}

impl Objects {
    /// A bucket as configured.
    ///
    /// # Errors
    /// [`ObjectFault::Settings`].
    pub(super) fn new(settings: &S3Settings, poster: Poster) -> Result<Self, ObjectFault> {
        let endpoint = Url::parse(&settings.endpoint).map_err(|error| {
            ObjectFault::Settings(format!("endpoint {:?} is no URL: {error}", settings.endpoint))
        })?;
        let style = if settings.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = Bucket::new(endpoint, style, settings.bucket.clone(), settings.region.clone())
            .map_err(|error| ObjectFault::Settings(format!("bucket {:?}: {error}", settings.bucket)))?;
        let credentials = Credentials::new(settings.access_key.clone(), settings.secret_key.clone());
        Ok(Self { bucket, credentials, prefix: settings.prefix.clone(), poster })
    }

    /// Uploads a file.
    pub(super) async fn put(&self, place: &str, path: &Path, content_type: &str) -> Result<(), ObjectFault> {
        let file = tokio::fs::File::open(path).await?;
        let length = file.metadata().await?.len();
        let chunks = stream::try_unfold(file, |mut file| async move {
            let mut chunk = vec![0; READ_BYTES];
            let read = file.read(&mut chunk).await?;
            chunk.truncate(read);
            Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(chunk), file)))
        });
        let url = self.bucket.put_object(Some(&self.credentials), &self.key(place)).sign(SIGNED_FOR);
        let within = UPLOAD_LEAST + Duration::from_secs(length / UPLOAD_RATE);
        let headers =
            [(header::CONTENT_LENGTH, length.to_string()), (header::CONTENT_TYPE, content_type.to_owned())];
        let asking = self.ask(Method::PUT, &url, Body::from_stream(chunks), &headers);
        tokio::time::timeout(within, asking).await.unwrap_or(Err(ObjectFault::Slow(within))).map(drop)
    }

    /// Reads an object.
    pub(super) async fn get(&self, place: &str) -> Result<Body, ObjectFault> {
        let url = self.bucket.get_object(Some(&self.credentials), &self.key(place)).sign(SIGNED_FOR);
        self.ask(Method::GET, &url, Body::empty(), &[]).await
    }

    /// Deletes an object; one that is not there is no error.
    pub(super) async fn delete(&self, place: &str) -> Result<(), ObjectFault> {
        let url = self.bucket.delete_object(Some(&self.credentials), &self.key(place)).sign(SIGNED_FOR);
        match self.ask(Method::DELETE, &url, Body::empty(), &[]).await {
            Ok(_) | Err(ObjectFault::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn key(&self, place: &str) -> String {
        format!("{}{place}", self.prefix)
    }

    async fn ask(
        &self,
        method: Method,
        url: &Url,
        body: Body,
        headers: &[(header::HeaderName, String)],
    ) -> Result<Body, ObjectFault> {
        let target = PostTarget::parse(url.as_str()).map_err(PostError::Url)?;
        let mut request = Request::builder().method(method).uri(target.path());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(body).map_err(|error| PostError::Url(error.to_string()))?;
        let answer = self.poster.ask(&target, request).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer.into_body());
        }
        let text = to_bytes(answer.into_body(), REFUSAL_BYTES).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).chars().take(REFUSAL_SHOWN).collect();
        Err(ObjectFault::Refused { status: status.as_u16(), text })
    }
}
