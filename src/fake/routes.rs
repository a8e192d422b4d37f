//! The table of all endpoints.

use super::{
    addons, advisors, backups, branches, health, jit_access, lifecycle, login_role, network, projects, query,
    replicas, request::ApiRequest, response::ApiResult, restore_points, schedules, settings, ssl,
    url::decode_percent, workflows,
};
use std::pin::Pin;

type ResponseFuture<'a> = Pin<Box<dyn Future<Output = ApiResult> + Send + 'a>>;

/// An endpoint: method, path, handler.
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path with its parameters in braces, as in the `OpenAPI` document.
    pub path: &'static str,
    /// Whether it changes something.
    pub writes: bool,
    /// The handler.
    pub(super) serve: for<'a> fn(&'a ApiRequest) -> ResponseFuture<'a>,
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
    ($method:literal $path:literal looks $serve:path) => {
        route!($method $path false, $serve)
    };
    ($method:literal $path:literal changes $serve:path) => {
        route!($method $path true, $serve)
    };
    ($method:literal $path:literal $writes:literal, $serve:path) => {
        Route { method: $method, path: $path, writes: $writes, serve: |call| Box::pin($serve(call)) }
    };
}

/// Every endpoint.
pub const ROUTES: &[Route] = &[
    route!("GET" "/v1/projects" looks projects::list_projects),
    route!("GET" "/v1/projects/{ref}" looks projects::get_project),
    route!("GET" "/v1/organizations" looks projects::list_organizations),
    route!("GET" "/v1/organizations/{slug}" looks projects::get_organization),
    route!("GET" "/v1/organizations/{slug}/projects" looks projects::list_organization_projects),
    route!("GET" "/v1/organizations/{slug}/entitlements" looks projects::list_entitlements),
    route!("GET" "/v1/projects/{ref}/health" looks health::get_service_health),
    route!("POST" "/v1/projects/{ref}/database/query" changes query::run_query),
    route!("POST" "/v1/projects/{ref}/database/query/read-only" looks query::run_read_only_query),
    route!("GET" "/v1/projects/{ref}/database/backups" looks backups::list_backups),
    route!("POST" "/v1/projects/{ref}/database/backups/restore" changes backups::restore_backup),
    route!("POST" "/v1/projects/{ref}/database/backups/restore-pitr" changes backups::restore_pitr),
    route!("GET" "/v1/projects/{ref}/database/backups/restore-point" looks restore_points::get_restore_point),
    route!("POST" "/v1/projects/{ref}/database/backups/restore-point" changes restore_points::create_restore_point),
    route!("POST" "/v1/projects/{ref}/database/backups/undo" changes restore_points::restore_to_point),
    route!("GET" "/v1/projects/{ref}/database/backups/schedule" looks schedules::get_backup_schedule),
    route!("PATCH" "/v1/projects/{ref}/database/backups/schedule" changes schedules::update_backup_schedule),
    route!("GET" "/v1/projects/{ref}/branches" looks branches::list_branches),
    route!("POST" "/v1/projects/{ref}/branches" changes branches::create_branch),
    route!("DELETE" "/v1/projects/{ref}/branches" changes branches::disable_branching),
    route!("GET" "/v1/projects/{ref}/branches/{name}" looks branches::get_branch),
    route!("POST" "/v2/projects/{ref}/branches" changes branches::create_branch_v2),
    route!("GET" "/v1/branches/{branch_id_or_ref}" looks branches::get_branch_config),
    route!("PATCH" "/v1/branches/{branch_id_or_ref}" changes branches::update_branch),
    route!("DELETE" "/v1/branches/{branch_id_or_ref}" changes branches::delete_branch),
    route!("POST" "/v1/branches/{branch_id_or_ref}/restore" changes branches::undelete_branch),
    route!("POST" "/v1/branches/{branch_id_or_ref}/reset" changes branches::reset_branch),
    route!("POST" "/v1/branches/{branch_id_or_ref}/merge" changes branches::merge_branch),
    route!("POST" "/v1/branches/{branch_id_or_ref}/push" changes branches::merge_branch),
    route!("GET" "/v1/projects/{ref}/actions" looks workflows::list_workflows),
    route!("GET" "/v1/projects/{ref}/actions/{run_id}" looks workflows::get_workflow),
    route!("GET" "/v1/projects/{ref}/actions/{run_id}/logs" looks workflows::get_workflow_logs),
    route!("GET" "/v1/projects/{ref}/network-restrictions" looks network::get_network_restrictions),
    route!("PATCH" "/v1/projects/{ref}/network-restrictions" changes network::patch_network_restrictions),
    route!("POST" "/v1/projects/{ref}/network-restrictions/apply" changes network::apply_network_restrictions),
    route!("POST" "/v1/projects/{ref}/network-restrictions/review" changes network::review_network_restrictions),
    route!("POST" "/v1/projects/{ref}/network-bans/retrieve" looks network::list_network_bans),
    route!("POST" "/v1/projects/{ref}/network-bans/retrieve/enriched" looks network::list_enriched_bans),
    route!("DELETE" "/v1/projects/{ref}/network-bans" changes network::delete_network_bans),
    route!("GET" "/v1/projects/{ref}/ssl-enforcement" looks ssl::get_ssl_enforcement),
    route!("PUT" "/v1/projects/{ref}/ssl-enforcement" changes ssl::update_ssl_enforcement),
    route!("GET" "/v1/projects/{ref}/config/database/postgres" looks settings::get_postgres_config),
    route!("PUT" "/v1/projects/{ref}/config/database/postgres" changes settings::replace_postgres_config),
    route!("PATCH" "/v1/projects/{ref}/config/database/postgres" changes settings::patch_postgres_config),
    route!("GET" "/v1/projects/{ref}/config/database/pooler" looks addons::get_pooler_config),
    route!("PATCH" "/v1/projects/{ref}/config/database/pooler" changes addons::update_pooler_config),
    route!("POST" "/v1/projects/{ref}/read-replicas/setup" changes replicas::setup_replica),
    route!("POST" "/v1/projects/{ref}/read-replicas/remove" changes replicas::remove_replica),
    route!("GET" "/v1/projects/{ref}/billing/addons" looks addons::list_addons),
    route!("POST" "/v1/projects/{ref}/cli/login-role" changes login_role::create_login_role),
    route!("DELETE" "/v1/projects/{ref}/cli/login-role" changes login_role::delete_login_roles),
    route!("GET" "/v1/projects/{ref}/advisors/security" looks advisors::get_security_lints),
    route!("GET" "/v1/projects/{ref}/advisors/performance" looks advisors::get_performance_lints),
    route!("POST" "/v2/projects/{ref}/advisors/run" looks advisors::run_named_lints),
    route!("GET" "/v1/projects/{ref}/postgrest" looks addons::get_data_api_config),
    route!("GET" "/v1/projects/{ref}/database/jit/list" looks jit_access::list_jit_access),
    route!("GET" "/v1/projects/{ref}/jit-access" looks jit_access::get_jit_access),
    route!("PUT" "/v1/projects/{ref}/jit-access" changes jit_access::update_jit_access),
    route!("POST" "/v1/projects/{ref}/pause" changes lifecycle::pause_project),
    route!("GET" "/v1/projects/{ref}/restore" looks lifecycle::list_available_versions),
    route!("POST" "/v1/projects/{ref}/restore" changes lifecycle::unpause_project),
    route!("POST" "/v1/projects/{ref}/restart" changes lifecycle::restart_project),
    route!("GET" "/v1/projects/{ref}/readonly" looks lifecycle::get_readonly_mode),
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
