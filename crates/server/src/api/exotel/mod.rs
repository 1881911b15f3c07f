//! Exotel's trunk API, `/v2/accounts/{account_sid}/trunks…`, in its envelope with its codes.

use utoipa_axum::router::OpenApiRouter;

use super::App;

/// Every endpoint of the family.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
}
