//! Batches as a delivery makes them, for a journal to keep.

use bytes::Bytes;
use envmill_delivery::{
    Batch, ConsumerId, Content, Delivery, Finished, JobKey, Kind, MemoryJournal, Options, Order,
    Output, Retention, Terms, Version,
};
use envmill_world::Random;

/// What a delivery wants written in a short life with a trainer that takes and acknowledges. What is
/// asked of a job that has been forgotten meanwhile is refused, and nobody minds.
pub(crate) fn batches(seed: u64, turns: u64) -> Vec<Batch> {
    let mut random = Random::new(seed);
    let options = Options { memory_bytes_max: 2_000, ..Options::default() };
    let mut delivery = Delivery::new(options);
    let mut journal = MemoryJournal::default();
    let mut batches = Vec::new();
    let jobs = [JobKey(1), JobKey(2)];
    for (job, retention) in
        jobs.into_iter().zip([Retention::UntilAcknowledged, Retention::UntilDurable])
    {
        let terms = Terms {
            order: if random.chance(500) { Order::ByGroup } else { Order::AsFinished },
            staleness_max: Some(1),
            retention,
            waiting_items_max: 1_000,
            waiting_bytes_max: 1 << 30,
        };
        delivery.accept(job, terms, Bytes::from(format!("job {}", job.0)));
        delivery.attach(job, 0, ConsumerId(job.0), 0).unwrap();
    }
    let (mut next, mut step, mut named) = (0, 0, 0);
    let mut sent: Vec<(JobKey, u64)> = Vec::new();
    for _ in 0..turns {
        let job = jobs[random.below(2) as usize];
        match random.below(10) {
            0..4 => {
                let version = Version { lineage: 0, step };
                let bytes = random.below(6_000) as usize;
                let payload = Bytes::from(vec![next as u8; bytes]);
                let kind = Kind::Trajectory;
                let finished = Finished { id: next, kind, group: next, version, payload };
                let _ = delivery.record(job, finished);
                let _ = delivery.release(job, next, true);
                let _ = delivery.note(job, "sampler", Bytes::from(next.to_string()));
                next += 1;
            }
            4..6 => {
                let _ = delivery.credit(job, ConsumerId(job.0), 2, 4_000);
            }
            6..8 => {
                let of_job =
                    |(of, number): &(JobKey, u64)| (*of == job).then_some(*number..=*number);
                let ranges: Vec<_> = sent.iter().filter_map(of_job).collect();
                named += 1;
                let name = format!("checkpoint {named}");
                let under = (job == jobs[1]).then_some(name.as_str());
                let _ = delivery.acknowledge(job, &ranges, under);
                sent.retain(|(of, _)| *of != job);
                if random.chance(300)
                    && let Some(name) = under
                {
                    let _ = delivery.durable(job, name);
                }
            }
            8 => {
                step += random.below(3);
                let _ = delivery.announce(job, Version { lineage: 0, step });
            }
            _ if random.chance(50) => delivery.forget(job),
            _ => (),
        }
        if random.chance(400)
            && let Some(batch) = delivery.batch()
        {
            journal.apply(&batch);
            delivery.committed(batch.ticket);
            batches.push(batch);
        }
        loop {
            let outputs = delivery.outputs();
            if outputs.is_empty() {
                break;
            }
            for output in outputs {
                match output {
                    Output::Send(it) => {
                        assert!(it.content == Content::Stale || it.kind == Kind::Trajectory);
                        sent.push((it.job, it.number.0));
                        let _ = delivery.taken(it.job, it.consumer, it.bytes);
                    }
                    Output::Load { job, sequence } => {
                        if let Some(payload) = journal.payload(job, sequence) {
                            delivery.loaded(job, sequence, payload);
                        }
                    }
                    _ => (),
                }
            }
        }
    }
    batches.extend(delivery.batch());
    batches
}
