//! What is refused, and how.

use envmill_client::{Error, RolloutsOptions};
use envmill_wire::{
    self as wire, drive_request::Request, drive_response::Response, rollouts_client::RolloutsClient,
};
use tokio_stream::StreamExt as _;
use tonic::{Code, transport::Channel};

use crate::rig::{Rig, episodes, groups};

async fn refused(rig: &Rig, job: wire::SubmitJob) -> (Code, String) {
    match rig.client().submit(job, RolloutsOptions::default()).await {
        Err(Error::Refused { code, message }) => (code, message),
        other => panic!("{other:?}"),
    }
}

fn task(weight: f64) -> wire::Task {
    wire::Task { weight: Some(weight), ..wire::Task::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_makes_no_sense_is_refused_by_the_field() {
    let rig = Rig::new().await;
    let of = |change: fn(&mut wire::SubmitJob)| {
        let mut job = episodes(3);
        change(&mut job);
        job
    };
    let revisited = |change: fn(&mut wire::SubmitJob)| {
        let revisit = Some(wire::Revisit::default());
        let sampling = Some(wire::TaskSampling { revisit });
        let two =
            wire::SubmitJob { task_set: "two".into(), sampling, ..groups(2, wire::Order::ByGroup) };
        let mut job = two;
        change(&mut job);
        job
    };
    let delivery = |change: fn(&mut wire::DeliveryTerms)| {
        let mut job = episodes(3);
        change(job.delivery.get_or_insert_default());
        job
    };
    for (job, field) in [
        (of(|job| job.environment = "http://elsewhere".into()), "environment"),
        (of(|job| job.episodes = 0), "episodes"),
        (of(|job| job.episodes = u64::MAX), "episodes"),
        (of(|job| job.groups = 2), "groups"),
        (of(|job| job.group_rules = Some(wire::GroupRules::default())), "group_rules"),
        (of(|job| job.name = "a/b".into()), "name"),
        (of(|job| job.weights = "/weights".into()), "weights"),
        (of(|job| job.reset_parameters = b"[1]".to_vec().into()), "reset_parameters"),
        (of(|job| job.reset_parameters = b"{\"a\":1".to_vec().into()), "reset_parameters"),
        (of(|job| job.task_set = "three".into()), "task_set"),
        (of(|job| job.tasks = vec![task(-1.0)]), "tasks[0].weight"),
        (of(|job| job.tasks = vec![task(1.0), task(f64::NAN)]), "tasks[1].weight"),
        (of(|job| job.tasks = vec![task(0.0)]), "tasks"),
        (of(|job| job.tasks = vec![task(0.001)]), "tasks"),
        (of(|job| (job.episodes, job.epochs) = (0, 1)), "epochs"),
        (of(|job| (job.epochs, job.tasks) = (2, vec![task(1.0)])), "epochs"),
        (
            of(|job| (job.episodes, job.epochs, job.tasks) = (0, u64::MAX, vec![task(1.0)])),
            "epochs",
        ),
        (of(|job| job.sampling = Some(wire::TaskSampling::default())), "sampling"),
        (
            of(|job| {
                job.task_set = "two".into();
                job.sampling = Some(wire::TaskSampling::default());
            }),
            "sampling",
        ),
        (revisited(|job| job.epochs = std::mem::take(&mut job.groups)), "sampling.revisit"),
        (revisited(|job| job.group_rules = None), "sampling.revisit"),
        (
            revisited(|job| {
                let sampling = job.sampling.as_mut().unwrap();
                sampling.revisit.as_mut().unwrap().at_least_one_in = 65;
            }),
            "sampling.revisit.at_least_one_in",
        ),
        (of(|job| job.scorer = "os:system".into()), "scorer"),
        (of(|job| job.scorer = "whole".into()), "scorer"),
        (of(|job| job.in_flight = 9), "in_flight"),
        (
            of(|job| job.limits.get_or_insert_default().on_env_error = "shrug".into()),
            "limits.on_env_error",
        ),
        (
            of(|job| job.limits.get_or_insert_default().episode_bytes_max = (1 << 30) + 1),
            "limits.episode_bytes_max",
        ),
        (
            of(|job| {
                let action = b"1".to_vec().into();
                let policy = Some(wire::policy::Policy::Constant(action));
                job.policy = Some(wire::Policy { policy });
            }),
            "policy.constant",
        ),
        (delivery(|terms| terms.order = 7), "delivery.order"),
        (delivery(|terms| terms.world = 4), "delivery.world"),
        (delivery(|terms| terms.retention = 7), "delivery.retention"),
    ] {
        let (code, message) = refused(&rig, job).await;
        assert_eq!(code, Code::InvalidArgument, "{message}");
        assert!(message.starts_with(field), "{field}: {message}");
    }
    let mut job = groups(2, wire::Order::ByGroup);
    job.group_rules.as_mut().unwrap().complete_at = 9;
    let (_, message) = refused(&rig, job).await;
    assert!(message.contains("complete with 9"), "{message}");
    assert!(rig.puppet.jobs(0).await.is_empty());
}

/// A stream as somebody else's client would have it.
struct Raw {
    said: tokio::sync::mpsc::UnboundedSender<wire::DriveRequest>,
    heard: tonic::Streaming<wire::DriveResponse>,
}

impl Raw {
    async fn open(rig: &Rig) -> Self {
        let channel = Channel::from_shared(format!("http://{}", rig.address)).unwrap();
        let mut client = RolloutsClient::new(channel.connect_lazy());
        let (said, receiver) = tokio::sync::mpsc::unbounded_channel();
        let receiver = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
        let mut heard = client.drive(receiver).await.unwrap().into_inner();
        let hello = heard.next().await.unwrap().unwrap().response;
        assert!(matches!(hello, Some(Response::Hello(_))), "{hello:?}");
        Self { said, heard }
    }

    fn say(&self, request_id: u64, request: Option<Request>) {
        self.said.send(wire::DriveRequest { request_id, request }).unwrap();
    }

    async fn hear(&mut self) -> Result<Response, tonic::Status> {
        loop {
            match self.heard.next().await.unwrap()?.response.unwrap() {
                Response::Progress(_) => {}
                other => return Ok(other),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_answered_or_ends_the_stream() {
    let rig = Rig::new().await;
    let credit = |job_id: &str| {
        Some(Request::Credit(wire::GrantCredit { job_id: job_id.into(), records: 1, bytes: 1 }))
    };
    let mut raw = Raw::open(&rig).await;
    raw.say(7, credit("nobody.1"));
    let Ok(Response::Refused(refused)) = raw.hear().await else { panic!() };
    assert_eq!((refused.request_id, refused.code), (7, Code::NotFound as i32));
    raw.say(8, None);
    let Ok(Response::Refused(refused)) = raw.hear().await else { panic!() };
    assert_eq!((refused.request_id, refused.code), (8, Code::InvalidArgument as i32));
    raw.say(0, credit("nobody.1"));
    assert_eq!(raw.hear().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_job_is_refused() {
    let rig = Rig::new().await;
    let mut raw = Raw::open(&rig).await;
    raw.say(1, Some(Request::Submit(episodes(3))));
    let Ok(Response::Accepted(accepted)) = raw.hear().await else { panic!() };
    let job_id = accepted.job_id;
    let acknowledge = |first, last| {
        Request::Acknowledge(wire::Acknowledge {
            job_id: job_id.clone(),
            numbers: Vec::new(),
            ranges: vec![wire::NumberRange { first, last }],
            checkpoint: String::new(),
        })
    };
    let attach =
        |rank, cursor| Request::Attach(wire::AttachJob { job_id: job_id.clone(), rank, cursor });
    let checkpoint = || "c1".to_owned();
    for (request, code) in [
        (acknowledge(1, 5), Code::OutOfRange),
        (acknowledge(5, 1), Code::InvalidArgument),
        (attach(0, 9), Code::OutOfRange),
        (attach(3, 0), Code::InvalidArgument),
        (
            Request::Durable(wire::DeclareDurable {
                job_id: job_id.clone(),
                checkpoint: checkpoint(),
            }),
            Code::FailedPrecondition,
        ),
        (
            Request::Rewind(wire::Rewind { job_id: job_id.clone(), checkpoint: checkpoint() }),
            Code::FailedPrecondition,
        ),
        (
            Request::NextBatch(wire::NextBatch { job_id: job_id.clone(), index: 0, groups: 1 }),
            Code::FailedPrecondition,
        ),
        (
            Request::Announce(wire::AnnounceVersion {
                job_id: job_id.clone(),
                version: Some(wire::Version { lineage: 70_000, step: 0 }),
                in_flight: None,
                weights: String::new(),
            }),
            Code::InvalidArgument,
        ),
    ] {
        let what = format!("{request:?}");
        raw.say(2, Some(request));
        let Ok(Response::Refused(refused)) = raw.hear().await else { panic!("{what}") };
        assert_eq!(refused.code, code as i32, "{what}: {}", refused.message);
    }
    // A stream that is not attached decides nothing.
    let mut other = Raw::open(&rig).await;
    other.say(1, Some(Request::Cancel(wire::CancelJob { job_id: job_id.clone() })));
    let Ok(Response::Refused(refused)) = other.hear().await else { panic!() };
    assert_eq!(refused.code, Code::FailedPrecondition as i32);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_come_and_go_leave_nothing() {
    let rig = Rig::new().await;
    let trainer = rig.submit(episodes(3)).await;
    for number in 0..100 {
        let mut raw = Raw::open(&rig).await;
        let request = wire::AttachJob { job_id: trainer.id(), rank: 0, cursor: 0 };
        raw.say(1, Some(Request::Attach(request)));
        // Some go before they are heard.
        if number % 2 == 0 {
            assert!(matches!(raw.hear().await, Ok(Response::Accepted(_))));
        }
    }
    let client = rig.client();
    let job = loop {
        let status = client.status().await.unwrap();
        if status.jobs[0].ranks.is_empty() {
            break status.jobs[0].clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert!(!job.ended);
}

/// Something that is no request: its second field is a number where a message should be.
#[derive(Clone, PartialEq, prost::Message)]
struct Nonsense {
    #[prost(uint64, tag = "2")]
    number: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_ends_the_stream_and_nothing_else() {
    let rig = Rig::with(|options| options.message_bytes_max = 1 << 20).await;
    let trainer = rig.submit(episodes(3)).await;
    let channel = Channel::from_shared(format!("http://{}", rig.address)).unwrap();
    let mut raw = tonic::client::Grpc::new(channel.connect_lazy());
    raw.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/envmill.v1.Rollouts/Drive");
    let codec = tonic_prost::ProstCodec::<Nonsense, wire::DriveResponse>::default();
    let said = tonic::Request::new(tokio_stream::iter([Nonsense { number: 7 }]));
    let mut heard = raw.streaming(said, path, codec).await.unwrap().into_inner();
    let status = loop {
        match heard.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Internal, "{status}");
    let large = wire::SubmitJob { reset_parameters: vec![b' '; 2 << 20].into(), ..episodes(1) };
    let (code, message) = refused(&rig, large).await;
    assert_eq!(code, Code::OutOfRange, "{message}");
    trainer.rollouts.wishes().pause().await.unwrap();
}
