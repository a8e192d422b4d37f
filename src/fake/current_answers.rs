//! What endpoints answer now, as the server itself asks them: past fault rules, limits and the ledger.

use super::{
    platform::Platform,
    request::RoutedRequest,
    response::ApiResponse,
    routes::{self, ROUTES, Route, RouteMatch},
    stale_reads::StaleAnswer,
};
use serde_json::Value;
use std::sync::Arc;

/// Asks an endpoint without parameters and body; `None` where there is none.
pub(super) async fn ask_endpoint(platform: &Arc<Platform>, method: &str, path: &str) -> Option<ApiResponse> {
    let RouteMatch::Route(route, captures) = routes::find_route(method, path) else { return None };
    let asked =
        RoutedRequest { platform: Arc::clone(platform), captures, query: Vec::new(), body: Value::Null };
    Some((route.handler)(&asked).await.unwrap_or_else(|refused| refused))
}

/// Takes the answers of all reads that a rule makes stale. A write takes them of every project: one that it does not
/// touch answers the same before and after.
pub(super) async fn capture_answers(platform: &Arc<Platform>) -> Vec<StaleAnswer> {
    let mut answers = Vec::new();
    for project in platform.all_projects() {
        for route in ROUTES.iter().filter(|route| is_project_read(route)) {
            let (method, path) = (route.method, route.path.replace("{ref}", &project.reference));
            if platform.faults.makes_stale(method, &path)
                && let Some(response) = ask_endpoint(platform, method, &path).await
            {
                answers.push(StaleAnswer { method, path, response });
            }
        }
    }
    answers
}

fn is_project_read(route: &Route) -> bool {
    !route.writes && route.path.contains("{ref}") && route.path.matches('{').count() == 1
}
