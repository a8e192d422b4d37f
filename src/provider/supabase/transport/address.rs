//! The API's address, and the HTTP clients for it.

use super::environment::Environment;
use crate::base::{lock::lock_unpoisoned, moment::Span};
use crate::provider::{Code, Error, Result};
use reqwest::{Certificate, Client, ClientBuilder, Url, redirect};
use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, Once},
};
use tokio::runtime::{Handle, Id};

/// How long connecting may take.
pub(super) const CONNECT_TIMEOUT: Span = Span::from_secs(10);

/// The clients of this process: all targets share them, their certificates and their open connections.
static SHARED_CLIENTS: LazyLock<Mutex<ClientMap>> = LazyLock::new(Mutex::default);

/// By the runtime that drives its connections, whether it asks this machine, and whether it keeps connections.
type ClientMap = HashMap<(Id, bool, bool), Client>;

/// The address of the API by default.
const PUBLIC_ADDRESS: &str = "https://api.supabase.com";

/// Returns the address without a slash at its end, and whether it is on this machine.
///
/// # Errors
/// [`Code::Invalid`] for what is no address, and for one that would carry the token in the clear over a network.
pub(super) fn resolve_address(given: Option<&str>, environment: &Environment) -> Result<(String, bool)> {
    let (name, address) = match given {
        Some(address) => ("api_url", address.to_owned()),
        None => {
            ("SUPABASE_API_URL", environment.var("SUPABASE_API_URL").unwrap_or_else(|| PUBLIC_ADDRESS.into()))
        }
    };
    // The address is not repeated: it may have a password in it.
    let wrong = |why: &str| {
        Error::new(Code::Invalid, format!("`{name}` {why}"))
            .with_hint(format!("write an address such as `{PUBLIC_ADDRESS}`"))
    };
    let url = Url::parse(&address).map_err(|e| wrong(&format!("is no address: {e}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("has a user or a password in it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has more in it than a host and a path"));
    }
    let is_local = is_loopback_url(&url);
    match url.scheme() {
        "https" => {}
        "http" if is_local => {}
        "http" => return Err(wrong("would send the token in the clear: use `https`")),
        _ => return Err(wrong("is neither `https` nor `http`")),
    }
    Ok((address.trim_end_matches('/').to_owned(), is_local))
}

fn is_loopback_url(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Returns the client that keeps connections, or the one that opens a connection for each request.
///
/// # Errors
/// [`Code::Internal`].
pub(super) fn shared_client(is_local: bool, keeps_connections: bool) -> Result<Client> {
    // A connection that is kept open belongs to the runtime on which it was opened.
    let key = (Handle::current().id(), is_local, keeps_connections);
    let mut clients = lock_unpoisoned(&SHARED_CLIENTS);
    if let Some(client) = clients.get(&key) {
        return Ok(client.clone());
    }
    let client = build_client(is_local, keeps_connections)?;
    clients.insert(key, client.clone());
    Ok(client)
}

fn build_client(is_local: bool, keeps_connections: bool) -> Result<Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    // A bare container has no root certificates; Mozilla's are built in.
    let built = client_builder(is_local, keeps_connections).build().or_else(|_| {
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        client_builder(is_local, keeps_connections)
            .tls_certs_only(roots.filter_map(|c| Certificate::from_der(c).ok()))
            .build()
    });
    built.map_err(|e| Error::new(Code::Internal, format!("no way to ask over HTTPS: {e}")))
}

fn client_builder(is_local: bool, keeps_connections: bool) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(concat!("redrill/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT.to_std())
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(if keeps_connections { 32 } else { 0 });
    // The environment's proxy leads away from this machine.
    if is_local { builder.no_proxy() } else { builder }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(given: Option<&str>, env: Option<&str>) -> Result<(String, bool)> {
        let env = env.map(str::to_owned);
        resolve_address(
            given,
            &Environment::new(move |name| env.clone().filter(|_| name == "SUPABASE_API_URL")),
        )
    }

    #[test]
    fn supabase_address_is_the_targets_then_the_environments_then_the_public_one() {
        let given = address(Some("https://a.example/"), Some("https://b.example")).expect("given");
        assert_eq!(given, ("https://a.example".into(), false));
        let env = address(None, Some("http://127.0.0.1:54321/")).expect("from the environment");
        assert_eq!(env, ("http://127.0.0.1:54321".into(), true));
        assert_eq!(address(None, None).expect("preset"), (PUBLIC_ADDRESS.into(), false));
        assert!(address(Some("http://[::1]:8080"), None).expect("near").1);
    }

    #[test]
    fn supabase_address_never_carries_a_token_in_the_clear_and_is_not_repeated() {
        for wrong in [
            "http://api.example",
            "ftp://api.example",
            "api.example",
            "https://me:hunter2@api.example",
            "https://a.example?x=hunter2",
        ] {
            let error = address(Some(wrong), None).expect_err(wrong);
            assert_eq!(error.code, Code::Invalid, "{wrong}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn supabase_roots_that_are_built_in_make_a_client() {
        drop(build_client(true, true).expect("a client of this machine's roots"));
        let roots: Vec<_> = webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .map(|c| Certificate::from_der(c).expect("a certificate"))
            .collect();
        assert!(roots.len() > 50);
        client_builder(true, true).tls_certs_only(roots).build().expect("a client of the built-in roots");
    }
}
