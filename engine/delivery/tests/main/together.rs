//! Ranks that train together and are lost, and an engine that dies, with a disk as in `worlds`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use envmill_delivery::{
    ConsumerId, Content, Delivery, Finished, Kind, Options, Order, Output, Retention, Sent, Terms,
    Version,
};
use envmill_world::Random;

use crate::{disk::Disk, rig::JOB};

/// One rank; what it has written down outlives it.
#[derive(Default)]
struct Rank {
    consumer: Option<ConsumerId>,
    /// The batch that it trains on next.
    index: u64,
    has_asked: bool,
    /// How much of the batch there is, once that is known.
    expected: Option<u64>,
    received: Vec<Sent>,
    beside: Vec<Sent>,
    /// Numbers that it has acknowledged, which the engine may yet forget.
    unconfirmed: BTreeMap<u64, Vec<u64>>,
    /// What it has trained on, by batch.
    log: BTreeMap<u64, BTreeSet<(Kind, u64)>>,
    is_done: bool,
}

struct World {
    random: Random,
    terms: Terms,
    world: u32,
    groups: u64,
    /// Groups in a batch.
    batch: u64,
    delivery: Delivery,
    disk: Disk,
    undecided: Vec<u64>,
    ranks: Vec<Rank>,
    next_consumer: u64,
    next_token: u64,
    contents: BTreeMap<u64, Content>,
    usable: BTreeSet<u64>,
    released: BTreeSet<(u64, u32)>,
    is_settled: bool,
}

const MEMBERS: u64 = 2;

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let world = u32::try_from(random.between(1, 4)).unwrap();
        let terms = Terms {
            order: Order::Batches { world },
            staleness_max: None,
            retention: Retention::UntilAcknowledged,
            waiting_items_max: 10_000,
            waiting_bytes_max: 1 << 30,
        };
        let mut delivery = Delivery::new(Options::default());
        delivery.accept(JOB, terms, Bytes::new());
        let (groups, batch) = (random.between(0, 30), u64::from(world) * random.between(1, 3));
        Self {
            random,
            terms,
            world,
            groups,
            batch,
            delivery,
            disk: Disk::default(),
            undecided: (0..groups).collect(),
            ranks: (0..world).map(|_| Rank::default()).collect(),
            next_consumer: 1,
            next_token: 1,
            contents: BTreeMap::new(),
            usable: BTreeSet::new(),
            released: BTreeSet::new(),
            is_settled: false,
        }
    }

    fn turn(&mut self, may_die: bool) {
        let rank = self.random.below(u64::from(self.world)) as usize;
        match self.random.below(100) {
            0..20 => self.a_group_is_decided(),
            20..40 => self.disk.take_a_batch(&mut self.delivery),
            40..60 => {
                self.disk.write_a_batch(&mut self.delivery);
            }
            60..63 if may_die => self.the_engine_dies(),
            63..66 if may_die => self.a_rank_is_lost(rank),
            66..68 if may_die => self.a_share_is_released(rank),
            68..78 => self.attach(rank),
            78..90 => self.ask(rank),
            _ => self.train(rank),
        }
        self.look();
    }

    fn a_group_is_decided(&mut self) {
        let group = if self.undecided.is_empty() {
            if !self.delivery.has_recorded(JOB, Kind::End, 0) {
                self.record(Kind::End, 0, 0);
            }
            return;
        } else {
            let any = self.random.below(self.undecided.len() as u64);
            self.undecided.swap_remove(any as usize)
        };
        for id in group * MEMBERS..(group + 1) * MEMBERS {
            self.record(Kind::Trajectory, id, group);
        }
        // The same whenever it is asked.
        let is_usable = group % 5 != 3;
        if is_usable {
            self.usable.insert(group);
        }
        self.delivery.release(JOB, group, is_usable).unwrap();
    }

    fn record(&mut self, kind: Kind, id: u64, group: u64) {
        let payload = format!("{id} {}", self.random.draw()).into();
        let finished = Finished { id, kind, group, version: Version::default(), payload };
        self.delivery.record(JOB, finished).unwrap();
    }

    fn the_engine_dies(&mut self) {
        self.disk.lose_power(&mut self.random);
        self.delivery = Delivery::restore(Options::default(), self.disk.restored());
        if self.disk.is_empty() {
            self.delivery.accept(JOB, self.terms, Bytes::new());
        }
        self.undecided = (0..self.groups)
            .filter(|group| !self.delivery.has_recorded(JOB, Kind::Trajectory, group * MEMBERS))
            .collect();
        for rank in &mut self.ranks {
            rank.lose();
        }
    }

    fn a_rank_is_lost(&mut self, rank: usize) {
        let rank = &mut self.ranks[rank];
        if let Some(consumer) = rank.consumer {
            self.delivery.detach(consumer);
        }
        rank.lose();
    }

    /// Only of a rank that has nothing to say about it.
    fn a_share_is_released(&mut self, rank: usize) {
        let Rank { consumer, index, unconfirmed, .. } = &self.ranks[rank];
        let number = u32::try_from(rank).unwrap();
        if consumer.is_none()
            && unconfirmed.is_empty()
            && self.delivery.release_share(JOB, *index, number).is_ok()
        {
            self.released.insert((*index, number));
        }
    }

    fn attach(&mut self, at: usize) {
        let rank = &mut self.ranks[at];
        if rank.consumer.is_some() {
            return;
        }
        let consumer = ConsumerId(self.next_consumer);
        self.next_consumer += 1;
        self.delivery.attach(JOB, u32::try_from(at).unwrap(), consumer, 0).unwrap();
        rank.consumer = Some(consumer);
        for numbers in std::mem::take(&mut rank.unconfirmed).into_values() {
            self.acknowledge(at, numbers);
        }
    }

    fn acknowledge(&mut self, at: usize, numbers: Vec<u64>) {
        let rank = &mut self.ranks[at];
        let token = self.next_token;
        self.next_token += 1;
        let ranges: Vec<_> = numbers.iter().map(|&number| number..=number).collect();
        self.delivery.acknowledge(JOB, &ranges, None).unwrap();
        rank.unconfirmed.insert(token, numbers);
        self.disk.promise(token);
    }

    fn ask(&mut self, at: usize) {
        let rank = &mut self.ranks[at];
        if let Some(consumer) = rank.consumer
            && !rank.has_asked
            && !rank.is_done
        {
            rank.has_asked = true;
            self.delivery.want(JOB, consumer, rank.index, self.batch).unwrap();
        }
    }

    /// Once a rank has all of its share it trains on it, writes that down and says so.
    fn train(&mut self, at: usize) {
        let rank = &mut self.ranks[at];
        if rank.consumer.is_none() {
            return;
        }
        let beside: Vec<u64> = rank.beside.drain(..).map(|sent| sent.number.0).collect();
        let rank = &mut self.ranks[at];
        let mut numbers = beside;
        if let Some(items) = rank.expected
            && rank.received.len() as u64 == items
        {
            let log = rank.log.entry(rank.index).or_default();
            for sent in rank.received.drain(..) {
                log.insert((sent.kind, sent.id));
                numbers.push(sent.number.0);
            }
            (rank.has_asked, rank.expected) = (false, None);
            rank.index += 1;
        }
        if !numbers.is_empty() {
            self.acknowledge(at, numbers);
        }
    }

    fn look(&mut self) {
        for token in self.disk.kept() {
            for rank in &mut self.ranks {
                rank.unconfirmed.remove(&token);
            }
        }
        loop {
            let outputs = self.delivery.outputs();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                self.take(output);
            }
        }
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Send(sent) => self.receive(sent),
            Output::Load { job, sequence } => {
                let payload = self.disk.payload(job, sequence).unwrap();
                self.delivery.loaded(job, sequence, payload);
            }
            Output::Batch { consumer, index, items, is_short: _ } => {
                let rank = self.rank(consumer);
                assert_eq!((index, rank.expected), (rank.index, None));
                rank.expected = Some(items);
            }
            Output::NoMoreBatches(consumer) => self.rank(consumer).is_done = true,
            Output::Settled(_) => self.is_settled = true,
            Output::Replaced(_) | Output::Pace { .. } => panic!("{output:?}"),
        }
    }

    fn receive(&mut self, sent: Sent) {
        self.disk.check_sent(&sent);
        let content = self.contents.entry(sent.number.0).or_insert_with(|| sent.content.clone());
        assert_eq!(*content, sent.content);
        let is_usable = sent.kind == Kind::Trajectory && self.usable.contains(&sent.group);
        let rank = self.rank(sent.consumer);
        if is_usable {
            assert!(rank.expected.is_some_and(|items| (rank.received.len() as u64) < items));
            rank.received.push(sent);
        } else {
            rank.beside.push(sent);
        }
    }

    fn rank(&mut self, consumer: ConsumerId) -> &mut Rank {
        self.ranks.iter_mut().find(|rank| rank.consumer == Some(consumer)).unwrap()
    }

    fn play(seed: u64) {
        let mut world = Self::new(seed);
        for _ in 0..world.random.between(10, 600) {
            world.turn(true);
        }
        let mut turns = 0;
        while !(world.is_settled && world.ranks.iter().all(|rank| rank.is_done)) {
            turns += 1;
            assert!(turns < 100_000, "it comes to an end");
            world.turn(false);
        }
        world.check();
    }

    /// Every usable trajectory was trained on by exactly one rank, in whole groups, and batches whose
    /// shares nobody released were equal.
    fn check(&self) {
        let mut seen = BTreeSet::new();
        for rank in &self.ranks {
            for id in rank.log.values().flatten() {
                assert!(seen.insert(*id), "{id:?} was trained on twice");
            }
        }
        let usable = self.usable.iter().flat_map(|group| group * MEMBERS..(group + 1) * MEMBERS);
        assert_eq!(seen, usable.map(|id| (Kind::Trajectory, id)).collect());
        let last = self.ranks.iter().map(|rank| rank.index).max().unwrap_or(0);
        // The last one may be short.
        for index in 0..last.saturating_sub(1) {
            if self.released.iter().any(|(released, _)| *released == index) {
                continue;
            }
            let share = self.batch / u64::from(self.world) * MEMBERS;
            for rank in &self.ranks {
                assert_eq!(rank.log[&index].len() as u64, share, "batch {index}");
            }
        }
    }
}

impl Rank {
    fn lose(&mut self) {
        (self.consumer, self.has_asked, self.expected) = (None, false, None);
        self.received.clear();
        self.beside.clear();
    }
}

#[test]
fn ranks_that_are_lost_share_everything_all_the_same() {
    for seed in 0..1_000 {
        if let Err(panic) = std::panic::catch_unwind(|| World::play(seed)) {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
