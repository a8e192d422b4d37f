//! The table of all endpoints.

use super::{
    addons, advisors, backups, bans, branches, data_api, health, jit_access, lifecycle, login_role, network,
    pooler, projects, query, replicas, request::RoutedRequest, response::ApiResult, restore_points,
    schedules, settings, ssl, url::decode_percent, workflows,
};
use std::pin::Pin;

type ResponseFuture<'a> = Pin<Box<dyn Future<Output = ApiResult> + Send + 'a>>;

/// An endpoint: method, path, handler.
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path with its parameters in braces, as in the `OpenAPI` document.
    pub path: &'static str,
    /// Whether the endpoint can change something.
    pub writes: bool,
    /// The handler.
    pub(super) handler: for<'a> fn(&'a RoutedRequest) -> ResponseFuture<'a>,
}

/// The endpoint that matches a request, if any.
pub(super) enum RouteMatch {
    /// An endpoint and its path parameters.
    Route(&'static Route, Vec<(&'static str, String)>),
    /// No endpoint matches.
    NotFound,
}

/// Builds a row of the table; it boxes the future of an async handler.
macro_rules! route {
    ($method:literal $path:literal reads $handler:path) => {
        route!($method $path false, $handler)
    };
    ($method:literal $path:literal writes $handler:path) => {
        route!($method $path true, $handler)
    };
    ($method:literal $path:literal $writes:literal, $handler:path) => {
        Route { method: $method, path: $path, writes: $writes, handler: |request| Box::pin($handler(request)) }
    };
}

/// Every endpoint.
pub const ROUTES: &[Route] = &[
    route!("GET" "/v1/projects" reads projects::list_projects),
    route!("GET" "/v1/projects/{ref}" reads projects::get_project),
    route!("GET" "/v1/organizations" reads projects::list_organizations),
    route!("GET" "/v1/organizations/{slug}" reads projects::get_organization),
    route!("GET" "/v1/organizations/{slug}/projects" reads projects::list_organization_projects),
    route!("GET" "/v1/organizations/{slug}/entitlements" reads projects::list_entitlements),
    route!("GET" "/v1/projects/{ref}/health" reads health::get_service_health),
    route!("POST" "/v1/projects/{ref}/database/query" writes query::run_query),
    route!("POST" "/v1/projects/{ref}/database/query/read-only" reads query::run_read_only_query),
    route!("GET" "/v1/projects/{ref}/database/backups" reads backups::list_backups),
    route!("POST" "/v1/projects/{ref}/database/backups/restore" writes backups::restore_backup),
    route!("POST" "/v1/projects/{ref}/database/backups/restore-pitr" writes backups::restore_pitr),
    route!("GET" "/v1/projects/{ref}/database/backups/restore-point" reads restore_points::get_restore_point),
    route!("POST" "/v1/projects/{ref}/database/backups/restore-point" writes restore_points::create_restore_point),
    route!("POST" "/v1/projects/{ref}/database/backups/undo" writes restore_points::restore_to_point),
    route!("GET" "/v1/projects/{ref}/database/backups/schedule" reads schedules::get_backup_schedule),
    route!("PATCH" "/v1/projects/{ref}/database/backups/schedule" writes schedules::update_backup_schedule),
    route!("GET" "/v1/projects/{ref}/branches" reads branches::list_branches),
    route!("POST" "/v1/projects/{ref}/branches" writes branches::create_branch),
    route!("DELETE" "/v1/projects/{ref}/branches" writes branches::disable_branching),
    route!("GET" "/v1/projects/{ref}/branches/{name}" reads branches::get_branch),
    route!("POST" "/v2/projects/{ref}/branches" writes branches::create_branch_v2),
    route!("GET" "/v1/branches/{branch_id_or_ref}" reads branches::get_branch_config),
    route!("PATCH" "/v1/branches/{branch_id_or_ref}" writes branches::update_branch),
    route!("DELETE" "/v1/branches/{branch_id_or_ref}" writes branches::delete_branch),
    route!("POST" "/v1/branches/{branch_id_or_ref}/restore" writes branches::undelete_branch),
    route!("POST" "/v1/branches/{branch_id_or_ref}/reset" writes branches::reset_branch),
    route!("POST" "/v1/branches/{branch_id_or_ref}/merge" writes branches::merge_branch),
    route!("POST" "/v1/branches/{branch_id_or_ref}/push" writes branches::merge_branch),
    route!("GET" "/v1/projects/{ref}/actions" reads workflows::list_workflows),
    route!("GET" "/v1/projects/{ref}/actions/{run_id}" reads workflows::get_workflow),
    route!("GET" "/v1/projects/{ref}/actions/{run_id}/logs" reads workflows::get_workflow_logs),
    route!("GET" "/v1/projects/{ref}/network-restrictions" reads network::get_network_restrictions),
    route!("PATCH" "/v1/projects/{ref}/network-restrictions" writes network::patch_network_restrictions),
    route!("POST" "/v1/projects/{ref}/network-restrictions/apply" writes network::apply_network_restrictions),
    route!("POST" "/v1/projects/{ref}/network-restrictions/review" writes network::review_network_restrictions),
    route!("POST" "/v1/projects/{ref}/network-bans/retrieve" reads bans::list_network_bans),
    route!("POST" "/v1/projects/{ref}/network-bans/retrieve/enriched" reads bans::list_enriched_bans),
    route!("DELETE" "/v1/projects/{ref}/network-bans" writes bans::delete_network_bans),
    route!("GET" "/v1/projects/{ref}/ssl-enforcement" reads ssl::get_ssl_enforcement),
    route!("PUT" "/v1/projects/{ref}/ssl-enforcement" writes ssl::update_ssl_enforcement),
    route!("GET" "/v1/projects/{ref}/config/database/postgres" reads settings::get_postgres_config),
    route!("PUT" "/v1/projects/{ref}/config/database/postgres" writes settings::replace_postgres_config),
    route!("PATCH" "/v1/projects/{ref}/config/database/postgres" writes settings::patch_postgres_config),
    route!("GET" "/v1/projects/{ref}/config/database/pooler" reads pooler::get_pooler_config),
    route!("PATCH" "/v1/projects/{ref}/config/database/pooler" writes pooler::update_pooler_config),
    route!("POST" "/v1/projects/{ref}/read-replicas/setup" writes replicas::setup_replica),
    route!("POST" "/v1/projects/{ref}/read-replicas/remove" writes replicas::remove_replica),
    route!("GET" "/v1/projects/{ref}/billing/addons" reads addons::list_addons),
    route!("POST" "/v1/projects/{ref}/cli/login-role" writes login_role::create_login_role),
    route!("DELETE" "/v1/projects/{ref}/cli/login-role" writes login_role::delete_login_roles),
    route!("GET" "/v1/projects/{ref}/advisors/security" reads advisors::get_security_lints),
    route!("GET" "/v1/projects/{ref}/advisors/performance" reads advisors::get_performance_lints),
    route!("POST" "/v2/projects/{ref}/advisors/run" reads advisors::run_named_lints),
    route!("GET" "/v1/projects/{ref}/postgrest" reads data_api::get_data_api_config),
    route!("GET" "/v1/projects/{ref}/database/jit/list" reads jit_access::list_jit_access),
    route!("GET" "/v1/projects/{ref}/jit-access" reads jit_access::get_jit_access),
    route!("PUT" "/v1/projects/{ref}/jit-access" writes jit_access::update_jit_access),
    route!("POST" "/v1/projects/{ref}/pause" writes lifecycle::pause_project),
    route!("GET" "/v1/projects/{ref}/restore" reads lifecycle::list_available_versions),
    route!("POST" "/v1/projects/{ref}/restore" writes lifecycle::unpause_project),
    route!("POST" "/v1/projects/{ref}/restart" writes lifecycle::restart_project),
    route!("GET" "/v1/projects/{ref}/readonly" reads lifecycle::get_readonly_mode),
];

/// Finds the endpoint of a request.
pub(super) fn find_route(method: &str, path: &str) -> RouteMatch {
    for route in ROUTES.iter().filter(|route| route.method == method) {
        if let Some(captures) = capture_params(route.path, path) {
            return RouteMatch::Route(route, captures);
        }
    }
    RouteMatch::NotFound
}

fn capture_params(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let (mut ours, mut theirs) = (pattern.split('/'), path.split('/'));
    let mut captures = Vec::new();
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return Some(captures),
            (Some(our), Some(their)) => match our.strip_prefix('{').and_then(|our| our.strip_suffix('}')) {
                Some(name) if !their.is_empty() => captures.push((name, decode_percent(their))),
                None if our == their => {}
                _ => return None,
            },
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_endpoint_is_listed_twice() {
        let listed: BTreeSet<_> = ROUTES.iter().map(|r| (r.method, r.path)).collect();
        assert_eq!(listed.len(), ROUTES.len());
    }

    #[test]
    fn a_path_finds_its_endpoint() {
        let RouteMatch::Route(route, captures) = find_route("GET", "/v1/projects/abc/branches/a%2Fb") else {
            panic!("nothing found");
        };
        assert_eq!(route.path, "/v1/projects/{ref}/branches/{name}");
        assert_eq!(captures, [("ref", "abc".to_owned()), ("name", "a/b".to_owned())]);
        assert!(matches!(find_route("GET", "/v1/projects//branches"), RouteMatch::NotFound));
        assert!(matches!(find_route("DELETE", "/v1/projects"), RouteMatch::NotFound));
    }
}
