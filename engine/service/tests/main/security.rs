//! Who is let in.

use envmill_client::{Client, ConnectOptions, Error};
use envmill_service::{Certificate, Tokens};
use tempfile::TempDir;
use tonic::Code;

use crate::rig::Rig;

fn code(answer: Result<envmill_wire::StatusResponse, Error>) -> Option<Code> {
    match answer {
        Ok(_) => None,
        Err(Error::Refused { code, .. }) => Some(code),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_and_can_be_revoked() {
    let rig = Rig::new().await;
    assert_eq!(code(rig.client().status().await), None);
    rig.tokens.replace([("a".to_owned(), "secret".to_owned())]);
    assert_eq!(code(rig.client().status().await), Some(Code::Unauthenticated));
    let client = rig.client_with(Some("secret"));
    assert_eq!(code(rig.client_with(Some("secre")).status().await), Some(Code::Unauthenticated));
    assert_eq!(code(client.status().await), None);
    rig.tokens.replace([("b".to_owned(), "another".to_owned())]);
    assert_eq!(code(client.status().await), Some(Code::Unauthenticated));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_those_who_trust_the_certificate() {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let chain = made.cert.pem().into_bytes();
    let key = made.signing_key.serialize_pem().into_bytes();
    let directory = TempDir::new().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, &chain).unwrap();
    let certificate = Some(Certificate { chain, key });
    let tokens = Tokens::default();
    let rig = Rig::start(directory, |_| {}, tokens, certificate, "127.0.0.1:0").await;
    let url = format!("https://{}", rig.address);
    let trusting = ConnectOptions { url: url.clone(), token: None, ca: Some(ca) };
    assert_eq!(code(Client::new(&trusting).unwrap().status().await), None);
    let doubting = ConnectOptions { url, ..ConnectOptions::default() };
    let error = Client::new(&doubting).unwrap().status().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
}
