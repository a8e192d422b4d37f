//! Every endpoint there is, as one list.

use super::{
    access, actions, addons, advisors, backups, branches,
    call::{Call, Outcome},
    health,
    http::decoded,
    login, network, points, projects, query, replicas, schedule, settings, ssl, switch,
};
use std::pin::Pin;

type Answering<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// An endpoint.
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path, with its places in braces, as the documents have it.
    pub path: &'static str,
    /// Whether it changes something.
    pub writes: bool,
    /// What answers.
    pub(super) serve: for<'a> fn(&'a Call) -> Answering<'a>,
}

/// What was found for a request.
pub(super) enum Found {
    /// An endpoint, and what the places in its path hold.
    Route(&'static Route, Vec<(&'static str, String)>),
    /// Nothing.
    Nothing,
}

/// A line of the list: a function that answers becomes one that can be put into a table.
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
    route!("GET" "/v1/projects" looks projects::list),
    route!("GET" "/v1/projects/{ref}" looks projects::get),
    route!("GET" "/v1/organizations" looks projects::organizations),
    route!("GET" "/v1/organizations/{slug}" looks projects::organization),
    route!("GET" "/v1/organizations/{slug}/projects" looks projects::of_organization),
    route!("GET" "/v1/organizations/{slug}/entitlements" looks projects::entitlements),
    route!("GET" "/v1/projects/{ref}/health" looks health::get),
    route!("POST" "/v1/projects/{ref}/database/query" changes query::run),
    route!("POST" "/v1/projects/{ref}/database/query/read-only" looks query::read),
    route!("GET" "/v1/projects/{ref}/database/backups" looks backups::list),
    route!("POST" "/v1/projects/{ref}/database/backups/restore" changes backups::restore),
    route!("POST" "/v1/projects/{ref}/database/backups/restore-pitr" changes backups::restore_pitr),
    route!("GET" "/v1/projects/{ref}/database/backups/restore-point" looks points::get),
    route!("POST" "/v1/projects/{ref}/database/backups/restore-point" changes points::create),
    route!("POST" "/v1/projects/{ref}/database/backups/undo" changes points::undo),
    route!("GET" "/v1/projects/{ref}/database/backups/schedule" looks schedule::get),
    route!("PATCH" "/v1/projects/{ref}/database/backups/schedule" changes schedule::set),
    route!("GET" "/v1/projects/{ref}/branches" looks branches::list),
    route!("POST" "/v1/projects/{ref}/branches" changes branches::create),
    route!("DELETE" "/v1/projects/{ref}/branches" changes branches::disable),
    route!("GET" "/v1/projects/{ref}/branches/{name}" looks branches::named),
    route!("POST" "/v2/projects/{ref}/branches" changes branches::create_v2),
    route!("GET" "/v1/branches/{branch_id_or_ref}" looks branches::detail),
    route!("PATCH" "/v1/branches/{branch_id_or_ref}" changes branches::update),
    route!("DELETE" "/v1/branches/{branch_id_or_ref}" changes branches::delete),
    route!("POST" "/v1/branches/{branch_id_or_ref}/restore" changes branches::undelete),
    route!("POST" "/v1/branches/{branch_id_or_ref}/reset" changes branches::reset),
    route!("POST" "/v1/branches/{branch_id_or_ref}/merge" changes branches::merge),
    route!("POST" "/v1/branches/{branch_id_or_ref}/push" changes branches::merge),
    route!("GET" "/v1/projects/{ref}/actions" looks actions::list),
    route!("GET" "/v1/projects/{ref}/actions/{run_id}" looks actions::get),
    route!("GET" "/v1/projects/{ref}/actions/{run_id}/logs" looks actions::logs),
    route!("GET" "/v1/projects/{ref}/network-restrictions" looks network::get),
    route!("PATCH" "/v1/projects/{ref}/network-restrictions" changes network::patch),
    route!("POST" "/v1/projects/{ref}/network-restrictions/apply" changes network::apply),
    route!("POST" "/v1/projects/{ref}/network-restrictions/review" changes network::review),
    route!("POST" "/v1/projects/{ref}/network-bans/retrieve" looks network::bans),
    route!("POST" "/v1/projects/{ref}/network-bans/retrieve/enriched" looks network::enriched_bans),
    route!("DELETE" "/v1/projects/{ref}/network-bans" changes network::unban),
    route!("GET" "/v1/projects/{ref}/ssl-enforcement" looks ssl::get),
    route!("PUT" "/v1/projects/{ref}/ssl-enforcement" changes ssl::put),
    route!("GET" "/v1/projects/{ref}/config/database/postgres" looks settings::get),
    route!("PUT" "/v1/projects/{ref}/config/database/postgres" changes settings::put),
    route!("PATCH" "/v1/projects/{ref}/config/database/postgres" changes settings::patch),
    route!("GET" "/v1/projects/{ref}/config/database/pooler" looks addons::pooler),
    route!("PATCH" "/v1/projects/{ref}/config/database/pooler" changes addons::set_pooler),
    route!("POST" "/v1/projects/{ref}/read-replicas/setup" changes replicas::setup),
    route!("POST" "/v1/projects/{ref}/read-replicas/remove" changes replicas::remove),
    route!("GET" "/v1/projects/{ref}/billing/addons" looks addons::list),
    route!("POST" "/v1/projects/{ref}/cli/login-role" changes login::create),
    route!("DELETE" "/v1/projects/{ref}/cli/login-role" changes login::delete),
    route!("GET" "/v1/projects/{ref}/advisors/security" looks advisors::security),
    route!("GET" "/v1/projects/{ref}/advisors/performance" looks advisors::performance),
    route!("POST" "/v2/projects/{ref}/advisors/run" looks advisors::run),
    route!("GET" "/v1/projects/{ref}/postgrest" looks addons::data_api),
    route!("GET" "/v1/projects/{ref}/database/jit/list" looks access::list),
    route!("GET" "/v1/projects/{ref}/jit-access" looks access::get),
    route!("PUT" "/v1/projects/{ref}/jit-access" changes access::put),
    route!("POST" "/v1/projects/{ref}/pause" changes switch::pause),
    route!("GET" "/v1/projects/{ref}/restore" looks switch::versions),
    route!("POST" "/v1/projects/{ref}/restore" changes switch::unpause),
    route!("POST" "/v1/projects/{ref}/restart" changes switch::restart),
    route!("GET" "/v1/projects/{ref}/readonly" looks switch::readonly),
];

/// Finds the endpoint of a request.
pub(super) fn find(method: &str, path: &str) -> Found {
    for route in ROUTES.iter().filter(|route| route.method == method) {
        if let Some(captures) = captures(route.path, path) {
            return Found::Route(route, captures);
        }
    }
    Found::Nothing
}

fn captures(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let (mut ours, mut theirs) = (pattern.split('/'), path.split('/'));
    let mut captures = Vec::new();
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return Some(captures),
            (Some(our), Some(their)) => match our.strip_prefix('{').and_then(|our| our.strip_suffix('}')) {
                Some(name) if !their.is_empty() => captures.push((name, decoded(their))),
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
        let Found::Route(route, captures) = find("GET", "/v1/projects/abc/branches/a%2Fb") else {
            panic!("nothing found");
        };
        assert_eq!(route.path, "/v1/projects/{ref}/branches/{name}");
        assert_eq!(captures, [("ref", "abc".to_owned()), ("name", "a/b".to_owned())]);
        assert!(matches!(find("GET", "/v1/projects//branches"), Found::Nothing));
        assert!(matches!(find("DELETE", "/v1/projects"), Found::Nothing));
    }
}
