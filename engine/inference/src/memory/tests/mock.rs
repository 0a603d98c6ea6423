//! A plug-in that does what a test tells it.

use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use envmill_ring::{
    Channel, ColumnsReader, ColumnsWriter, Doorbell, Layout, Limits, Listener, Message, RaggedRows,
    Received, wait,
};
use tokio::runtime::Runtime;

use crate::{Request, RequestId, VllmMemory, VllmMemoryOptions};

use super::super::layout::{self, asked, told};

/// A hang is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A socket that a channel comes to, and the channel's runtime.
pub(crate) struct Mock {
    listener: Listener,
    pub(crate) runtime: Runtime,
    folder: tempfile::TempDir,
}

/// A channel that has come.
pub(crate) struct Met {
    _channel: Channel,
    pub(crate) writer: ColumnsWriter,
    pub(crate) reader: ColumnsReader,
    bell: Doorbell,
    pub(crate) their_bell: Doorbell,
}

/// A row of requests, as far as tests look.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) number: u64,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) max_tokens: u32,
    pub(crate) tokens: Vec<u8>,
    pub(crate) stop_tokens: Vec<u8>,
    pub(crate) text: Vec<u8>,
    pub(crate) top_logprobs: u32,
    pub(crate) constraint: u8,
    pub(crate) schema: Vec<u8>,
}

/// A row of results.
#[derive(Clone, Debug, Default)]
pub(crate) struct Says {
    pub(crate) number: u64,
    pub(crate) kind: u8,
    pub(crate) why: u8,
    pub(crate) stop_token: u32,
    pub(crate) cached: u32,
    pub(crate) queue_us: u64,
    pub(crate) tokens: Vec<u8>,
    pub(crate) logprobs: Vec<u8>,
    pub(crate) versions: Vec<u8>,
    pub(crate) text: Vec<u8>,
    pub(crate) top_tokens: Vec<u8>,
    pub(crate) top_logprobs: Vec<u8>,
}

impl Says {
    /// The end of a generation, by its length, with these tokens.
    pub(crate) fn end(number: u64, tokens: &[u32]) -> Self {
        let tokens = tokens.iter().flat_map(|it| it.to_le_bytes()).collect();
        Self { number, kind: 2, why: 4, tokens, ..Self::default() }
    }

    /// The same with the most likely tokens at all places.
    pub(crate) fn with_top(self, top: &[(u32, f32)]) -> Self {
        let top_tokens = top.iter().flat_map(|it| it.0.to_le_bytes()).collect();
        let top_logprobs = top.iter().flat_map(|it| it.1.to_le_bytes()).collect();
        Self { top_tokens, top_logprobs, ..self }
    }
}

impl Mock {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&folder.path().join("socket")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self { listener, runtime, folder }
    }

    /// Small batches.
    pub(crate) fn options(&self) -> VllmMemoryOptions {
        VllmMemoryOptions {
            rows: 4,
            slots: 2,
            prompt_tokens: 64,
            sampled_tokens: 64,
            text_bytes: 8000,
            ..VllmMemoryOptions::new(self.folder.path().join("socket"))
        }
    }

    pub(crate) fn engine(&self) -> VllmMemory {
        VllmMemory::new(self.options(), self.runtime.handle().clone()).unwrap()
    }

    /// The next that connects.
    pub(crate) fn accept(&self) -> Channel {
        loop {
            if let Some(channel) = self.listener.accept().unwrap() {
                return channel;
            }
            let mut ready = Vec::new();
            wait(&[self.listener.as_fd()], Some(PATIENCE), &mut ready).unwrap();
            assert!(!ready.is_empty(), "nobody comes");
        }
    }

    /// The next that connects, greeted as it should be.
    pub(crate) fn meet(&self) -> Met {
        self.meet_one_of(&self.options())
    }

    /// The same for a channel with other options.
    pub(crate) fn meet_one_of(&self, options: &VllmMemoryOptions) -> Met {
        let results = layout::results(options).unwrap();
        self.meet_with(results, br#"{"version":3,"engine":"one"}"#)
    }

    pub(crate) fn meet_with(&self, results: Layout, welcome: &[u8]) -> Met {
        let channel = self.accept();
        let mut message = Message::new();
        let until = Instant::now() + PATIENCE;
        assert_eq!(channel.receive_until(&mut message, until).unwrap(), Received::Message);
        let [segment, bell, their_bell] =
            &mut message.descriptors().drain(..).collect::<Vec<_>>()[..]
        else {
            panic!("not three descriptors")
        };
        let mut writer = ColumnsWriter::create(results).unwrap();
        let reader = writer.connect(segment.as_fd(), &Limits::default()).unwrap();
        assert!(channel.send(welcome, &[writer.as_fd()]).unwrap());
        let bell = Doorbell::from(bell.try_clone().unwrap());
        let their_bell = Doorbell::from(their_bell.try_clone().unwrap());
        Met { _channel: channel, writer, reader, bell, their_bell }
    }
}

impl Met {
    /// The next batch of requests.
    pub(crate) fn next(&mut self) -> Vec<Asked> {
        while self.reader.next_batch().unwrap().is_none() {
            let mut ready = Vec::new();
            wait(&[self.bell.as_fd()], Some(PATIENCE), &mut ready).unwrap();
            assert!(!ready.is_empty(), "nothing is asked");
            self.bell.drain().unwrap();
        }
        let batch = self.reader.next_batch().unwrap().unwrap();
        let (mut numbers, mut kinds, mut flags, mut most) = (vec![], vec![], vec![], vec![]);
        let (mut top_logprobs, mut constraints) = (vec![], vec![]);
        batch.fixed(asked::NUMBER, &mut numbers).unwrap();
        batch.fixed(asked::KIND, &mut kinds).unwrap();
        batch.fixed(asked::FLAGS, &mut flags).unwrap();
        batch.fixed(asked::MAX_TOKENS, &mut most).unwrap();
        batch.fixed(asked::TOP_LOGPROBS, &mut top_logprobs).unwrap();
        batch.fixed(asked::CONSTRAINT, &mut constraints).unwrap();
        let ragged = |column| {
            let mut rows = RaggedRows::new();
            batch.ragged(column, &mut rows).unwrap();
            rows
        };
        let (tokens, stops) = (ragged(asked::TOKENS), ragged(asked::STOP_TOKENS));
        let (texts, schemas) = (ragged(asked::TEXT), ragged(asked::SCHEMA));
        let rows = (0..batch.rows()).map(|row| Asked {
            number: numbers[row],
            kind: kinds[row],
            flags: flags[row],
            max_tokens: most[row],
            tokens: tokens.slice(row).unwrap().to_vec(),
            stop_tokens: stops.slice(row).unwrap().to_vec(),
            text: texts.slice(row).unwrap().to_vec(),
            top_logprobs: top_logprobs[row],
            constraint: constraints[row],
            schema: schemas.slice(row).unwrap().to_vec(),
        });
        let rows = rows.collect();
        batch.release();
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if self.reader.peer_state() == layout::WAITS {
            self.their_bell.ring().unwrap();
        }
        rows
    }

    /// Tells a batch of results.
    pub(crate) fn tell(&mut self, rows: &[Says]) {
        publish(&mut self.writer, rows);
        self.their_bell.ring().unwrap();
    }
}

/// Writes a batch of results.
pub(crate) fn publish(writer: &mut ColumnsWriter, rows: &[Says]) {
    let mut batch = writer.begin().unwrap().expect("room");
    for (row, it) in rows.iter().enumerate() {
        batch.set(told::NUMBER, row, it.number).unwrap();
        batch.set(told::KIND, row, it.kind).unwrap();
        batch.set(told::WHY, row, it.why).unwrap();
        batch.set(told::STOP_TOKEN, row, it.stop_token).unwrap();
        batch.set(told::CACHED, row, it.cached).unwrap();
        batch.set(told::QUEUE_US, row, it.queue_us).unwrap();
        batch.push(told::TOKENS, &it.tokens).unwrap();
        batch.push(told::LOGPROBS, &it.logprobs).unwrap();
        batch.push(told::VERSIONS, &it.versions).unwrap();
        batch.push(told::TEXT, &it.text).unwrap();
        batch.push(told::TOP_TOKENS, &it.top_tokens).unwrap();
        batch.push(told::TOP_LOGPROBS, &it.top_logprobs).unwrap();
    }
    let published = batch.publish(rows.len() as u32).unwrap();
    assert!(published.overflow.is_empty());
}

/// A request for so many tokens after a prompt.
pub(crate) fn request(id: u64, prompt: &[u32], max_tokens: u32) -> Request {
    Request {
        id: RequestId(id),
        prompt: prompt.into(),
        messages: None,
        sampling: std::sync::Arc::default(),
        max_tokens,
        seed: None,
        affinity: None,
        deliver: crate::Deliver::Whole,
    }
}
