mod postgres;

use super::*;
use tokio::{io::AsyncReadExt as _, net::UnixListener};

#[tokio::test]
async fn a_server_that_breaks_the_connection_is_away_and_refuses_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).expect("a socket");
    let server = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("somebody connects");
        // What is left unread when it closes is what makes the kernel reset the connection.
        client.read_exact(&mut [0; 1]).await.expect("something is said");
    });
    let address = DatabaseAddress {
        host: folder.path().display().to_string(),
        port: 5432,
        user: "postgres".into(),
        database: "postgres".into(),
        password: None,
    };
    let error = address.connect().await.map(drop).expect_err("it went down");
    server.await.expect("it was asked");
    assert_eq!(error.code, Code::Unavailable, "{error:?}");
}
