//! `…/postgrest`: the configuration of the data API.

use super::{
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use serde_json::json;

/// Shows the configuration of the data API, with its schemas.
pub(super) async fn get_data_api_config(request: &RoutedRequest) -> ApiResult {
    request.find_project()?;
    Ok(ApiResponse::json(
        200,
        json!({
            "db_schema": "public,graphql_public",
            "max_rows": 1000,
            "db_extra_search_path": "public, extensions",
            "db_pool": null,
            "db_pool_acquisition_timeout": null,
            "db_pool_max_lifetime": null,
            "db_pool_max_idletime": null,
        }),
    ))
}
