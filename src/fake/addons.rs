//! `…/billing/addons`: the billing add-ons, read only.

use super::{
    options::BillingPlan,
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use serde_json::{Value, json};

/// Lists the selected and the available add-ons.
pub(super) async fn list_addons(request: &RoutedRequest) -> ApiResult {
    request.find_root_project()?;
    let options = request.options();
    let compute = render_variant("ci_small", "Small", "hourly", 0.0206);
    let moments = [("pitr_7", "7 days", 0.137), ("pitr_14", "14 days", 0.274), ("pitr_28", "28 days", 0.55)]
        .map(|(id, name, amount)| render_variant(id, name, "hourly", amount));
    let mut selected = vec![json!({ "type": "compute_instance", "variant": compute })];
    if options.pitr && options.plan > BillingPlan::Free {
        selected.push(json!({ "type": "pitr", "variant": moments[0] }));
    }
    let available = json!([
        { "type": "compute_instance", "name": "Compute Instance", "variants": [compute] },
        { "type": "pitr", "name": "Point in Time Recovery", "variants": moments },
    ]);
    Ok(ApiResponse::json(200, json!({ "selected_addons": selected, "available_addons": available })))
}

fn render_variant(id: &str, name: &str, interval: &str, amount: f64) -> Value {
    let price = json!({ "description": name, "type": "usage", "interval": interval, "amount": amount });
    json!({ "id": id, "name": name, "price": price })
}
