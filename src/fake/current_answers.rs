//! What endpoints answer now, as the server itself asks them: past fault rules, limits and the ledger.

use super::{
    platform::Platform,
    request::RoutedRequest,
    response::ApiResponse,
    routes::{self, ROUTES, Route, RouteMatch},
    stale_reads::{ReadRequest, StaleAnswer},
};
use serde_json::Value;
use std::sync::Arc;

/// Returns what an endpoint answers to a read now; `None` where there is no such endpoint.
pub(super) async fn answer_read(platform: &Arc<Platform>, read: &ReadRequest) -> Option<ApiResponse> {
    let RouteMatch::Route(route, captures) = routes::find_route(&read.method, &read.path) else {
        return None;
    };
    let (query, body) = (read.query.clone(), read.body());
    let asked = RoutedRequest { platform: Arc::clone(platform), captures, query, body };
    Some((route.handler)(&asked).await.unwrap_or_else(|refused| refused))
}

/// Returns what all reads answer now that a rule makes stale: those without parameters and body, and others that were
/// asked for before. A write asks them in every project: one that it does not touch answers the same before and after.
pub(super) async fn capture_stale_answers(platform: &Arc<Platform>) -> Vec<StaleAnswer> {
    let mut reads = platform.stale_reads.list_asked_reads();
    for project in platform.all_projects() {
        for route in ROUTES.iter().filter(|route| is_project_read(route)) {
            let path = route.path.replace("{ref}", &project.reference);
            if platform.faults.makes_stale(route.method, &path) {
                reads.insert(ReadRequest::new(route.method, &path, &[], &Value::Null));
            }
        }
    }
    let mut answers = Vec::new();
    for read in reads {
        if let Some(response) = answer_read(platform, &read).await {
            answers.push(StaleAnswer { read, response });
        }
    }
    answers
}

fn is_project_read(route: &Route) -> bool {
    !route.writes && route.path.contains("{ref}") && route.path.matches('{').count() == 1
}
