//! Who is let in where memory is handed out, and who is not.

use std::{
    os::{fd::AsFd as _, unix::fs::PermissionsExt as _},
    path::PathBuf,
    time::Duration,
};

use envmill_ring::{Channel, Limits, LogReader, LogStart, Message, Received, wait};
use envmill_service::Played;
use envmill_wire::{
    self as wire, drive_request::Request, drive_response::Response, meeting,
    rollouts_client::RolloutsClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Streaming, transport::Endpoint};

use crate::{
    memory::{through, with_tokens},
    rig::{Rig, episodes, store},
};

const TOKEN: &[u8] = b"a token of twenty-six byte";

/// A trainer that speaks for itself.
struct Raw {
    said: mpsc::UnboundedSender<wire::DriveRequest>,
    heard: Streaming<wire::DriveResponse>,
}

impl Raw {
    /// At a job, with credit.
    async fn attach(rig: &Rig, job_id: &str) -> Self {
        let (said, receiver) = mpsc::unbounded_channel();
        let endpoint = Endpoint::from_shared(format!("http://{}", rig.address)).unwrap();
        let mut stub = RolloutsClient::new(endpoint.connect().await.unwrap());
        let heard = stub.drive(UnboundedReceiverStream::new(receiver)).await.unwrap().into_inner();
        let mut raw = Self { said, heard };
        let job_id = job_id.to_owned();
        let attach = wire::AttachJob { job_id: job_id.clone(), ..wire::AttachJob::default() };
        raw.say(1, Request::Attach(attach));
        raw.hear(|it| matches!(it, Response::Accepted(_)).then_some(())).await;
        let (records, bytes) = (1000, 1 << 30);
        raw.say(0, Request::Credit(wire::GrantCredit { job_id, records, bytes }));
        raw
    }

    fn say(&self, request_id: u64, request: Request) {
        self.said.send(wire::DriveRequest { request_id, request: Some(request) }).unwrap();
    }

    async fn hear<T>(&mut self, wanted: impl Fn(Response) -> Option<T>) -> T {
        loop {
            let heard = self.heard.message().await.unwrap().expect("the stream is open");
            if let Some(found) = heard.response.and_then(&wanted) {
                return found;
            }
        }
    }

    /// Asks for memory.
    async fn ask(
        &mut self,
        job_id: &str,
        ring_bytes: u64,
        token: &'static [u8],
    ) -> Result<wire::SharedMemory, Code> {
        let token = bytes::Bytes::from_static(token);
        let request =
            wire::UseSharedMemory { job_id: job_id.into(), ring_bytes, records: 8, token };
        self.say(7, Request::UseSharedMemory(request));
        self.hear(|it| match it {
            Response::SharedMemory(it) => Some(Ok(it)),
            Response::Refused(it) if it.request_id == 7 => Some(Err(Code::from_i32(it.code))),
            _ => None,
        })
        .await
    }

    async fn delivery(&mut self) -> wire::Delivery {
        self.hear(|it| match it {
            Response::Delivery(it) => Some(it),
            _ => None,
        })
        .await
    }
}

/// What is answered: a message, or `None` when one is sent away.
fn answer(channel: &Channel, message: &mut Message) -> Option<Vec<u8>> {
    let mut ready = Vec::new();
    loop {
        match channel.receive(message) {
            Ok(Received::Message) => return Some(message.bytes().to_vec()),
            Ok(Received::Closed) => return None,
            Ok(Received::Nothing) => {
                wait(&[channel.as_fd()], Some(Duration::from_secs(60)), &mut ready).unwrap();
                assert!(!ready.is_empty(), "nobody answers");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn is_sent_away(socket: &str, says: &[u8]) {
    let channel = Channel::connect(socket.as_ref()).unwrap();
    assert!(channel.send(says, &[]).unwrap());
    assert_eq!(answer(&channel, &mut Message::new()), None, "{says:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_nothing_and_disturb_nobody() {
    let rig = Rig::new().await;
    let trainer = rig.submit(episodes(100)).await;
    let (id, job) = (trainer.id(), rig.puppet.job().await);
    let mut raw = Raw::attach(&rig, &id).await;
    let memory = raw.ask(&id, 20_000, TOKEN).await.unwrap();
    assert_eq!((memory.ring_bytes, memory.records), (20_480, 8));
    let mode = std::fs::metadata(&memory.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut message = Message::new();
    // Nothing, one who says nothing and stays, garbage, and another token.
    drop(Channel::connect(memory.socket.as_ref()).unwrap());
    let _silent = Channel::connect(memory.socket.as_ref()).unwrap();
    is_sent_away(&memory.socket, b"GET / HTTP/1.1");
    is_sent_away(&memory.socket, &vec![b'x'; 60_000]);
    is_sent_away(&memory.socket, &meeting::greeting(b"another token, as long as it"));
    is_sent_away(&memory.socket, &meeting::greeting(&TOKEN[..25]));
    // The right token, and then no segment, or another descriptor: that was its chance.
    let greeting = meeting::greeting(TOKEN);
    let channel = Channel::connect(memory.socket.as_ref()).unwrap();
    assert!(channel.send(&greeting, &[]).unwrap());
    assert!(answer(&channel, &mut message).is_some());
    assert!(channel.send(meeting::RELEASES, &[]).unwrap());
    assert_eq!(answer(&channel, &mut message), None);
    is_sent_away(&memory.socket, &greeting);
    raw.ask(&id, 20_000, TOKEN).await.unwrap();
    let channel = Channel::connect(memory.socket.as_ref()).unwrap();
    assert!(channel.send(&greeting, &[]).unwrap());
    assert!(answer(&channel, &mut message).is_some());
    let file = tempfile::tempfile().unwrap();
    assert!(channel.send(meeting::RELEASES, &[file.as_fd()]).unwrap());
    assert_eq!(answer(&channel, &mut message), None);
    // Records come as they would have.
    rig.puppet.tell(Played::Records(vec![with_tokens(&job, 0, 10)]));
    let delivery = raw.delivery().await;
    assert!(matches!(delivery.content, Some(wire::Content::Trajectory(_))), "{delivery:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_hangs_up_or_talks_gets_the_rest_on_the_stream() {
    for talks in [false, true] {
        let rig = Rig::new().await;
        let trainer = rig.submit(episodes(100)).await;
        let (id, job) = (trainer.id(), rig.puppet.job().await);
        let mut raw = Raw::attach(&rig, &id).await;
        let memory = raw.ask(&id, 20_480, TOKEN).await.unwrap();
        let channel = Channel::connect(memory.socket.as_ref()).unwrap();
        let mut message = Message::new();
        assert!(channel.send(&meeting::greeting(TOKEN), &[]).unwrap());
        let welcome = answer(&channel, &mut message).unwrap();
        let welcome = meeting::Welcome::decode(&welcome).unwrap();
        let start = LogStart { position: welcome.position, sequence: welcome.sequence };
        let _bell = message.descriptors().pop().unwrap();
        let log = message.descriptors().pop().unwrap();
        let mut reader = LogReader::open(log.as_fd(), start, &Limits::default()).unwrap();
        assert!(channel.send(meeting::RELEASES, &[reader.as_fd()]).unwrap());
        assert_eq!(answer(&channel, &mut message).unwrap(), meeting::READY);
        // More than the ring has room for, none of which is given back.
        rig.puppet.tell(Played::Records((0..20).map(|it| with_tokens(&job, it, 300)).collect()));
        let mut in_memory = 0;
        let mut leases = Vec::new();
        // The ring is used as soon as the engine's hub has it.
        while in_memory < 4 {
            let delivery = raw.delivery().await;
            if let Some(wire::Content::InMemory(it)) = delivery.content {
                let lease = reader.next_record().unwrap().unwrap();
                assert_eq!((lease.sequence(), it.sequence), (in_memory, in_memory));
                leases.push(lease);
                in_memory += 1;
            }
        }
        if talks {
            assert!(channel.send(b"more", &[]).unwrap());
        } else {
            drop(channel);
        }
        loop {
            let delivery = raw.delivery().await;
            match delivery.content {
                Some(wire::Content::Trajectory(_)) if delivery.number == 20 => break,
                Some(wire::Content::Trajectory(_) | wire::Content::InMemory(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_refused_with_its_code() {
    let rig = Rig::with(|options| options.shared_bytes_max = 1 << 20).await;
    let trainer = rig.submit(episodes(2)).await;
    let id = trainer.id();
    let mut raw = Raw::attach(&rig, &id).await;
    assert_eq!(raw.ask(&id, 1 << 20, &TOKEN[..15]).await, Err(Code::InvalidArgument));
    assert_eq!(raw.ask(&id, (1 << 20) + 1, TOKEN).await, Err(Code::ResourceExhausted));
    assert_eq!(raw.ask(&id, u64::MAX, TOKEN).await, Err(Code::ResourceExhausted));
    assert_eq!(raw.ask("nothing.9", 1 << 16, TOKEN).await, Err(Code::NotFound));
    // What it asked for before counts no more.
    raw.ask(&id, 1 << 20, TOKEN).await.unwrap();
    raw.ask(&id, 1 << 20, TOKEN).await.unwrap();
    let other = rig.submit(wire::SubmitJob { name: "other".into(), ..episodes(2) }).await;
    let other_id = other.id();
    let mut other = Raw::attach(&rig, &other_id).await;
    assert_eq!(other.ask(&other_id, 1 << 16, TOKEN).await, Err(Code::ResourceExhausted));
    raw.ask(&id, 1 << 19, TOKEN).await.unwrap();
    assert_eq!(other.ask(&other_id, 1 << 16, TOKEN).await, Err(Code::AlreadyExists));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_does_without_what_it_cannot_have() {
    for bytes_max in [0, 1 << 10] {
        let rig = Rig::with(|options| options.shared_bytes_max = bytes_max).await;
        let mut trainer = rig.submit_with(episodes(1), through(1 << 20)).await;
        let job = rig.puppet.job().await;
        rig.puppet.tell(Played::Records(vec![with_tokens(&job, 0, 10)]));
        assert!(trainer.next().await.in_place.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_was_left_is_replaced_and_goes_with_the_engine() {
    let directory = tempfile::TempDir::new().unwrap();
    let mut path = store(&directory).into_os_string();
    path.push(".sock");
    let path = PathBuf::from(path);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "as after a kill");
    let rig = Rig::start(directory, |_| {}, Default::default(), None, "127.0.0.1:0").await;
    drop(Channel::connect(&path).unwrap());
    let rig = rig.again().await;
    drop(Channel::connect(&path).unwrap());
    let mut trainer = rig.submit_with(episodes(1), through(1 << 20)).await;
    let job = rig.puppet.job().await;
    rig.puppet.tell(Played::Records(vec![with_tokens(&job, 0, 10)]));
    assert!(trainer.next().await.in_place.is_some());
}
