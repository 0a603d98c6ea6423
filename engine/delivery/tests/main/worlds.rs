//! Trainers and engines that die at any moment, with a disk that has written only so much by then.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use envmill_delivery::{
    AttachError, ConsumerId, Content, Delivery, Finished, Kind, Options, Order, Output, Pace,
    Retention, Sent, Terms, Version, VersionError,
};
use envmill_world::Random;

use crate::{disk::Disk, rig::JOB};

/// A trainer's word, which it repeats until it is confirmed.
#[derive(Clone, Debug)]
enum Word {
    Acknowledge { numbers: BTreeSet<u64>, under: Option<String> },
    Durable(String),
    Rewind(Option<String>),
    Announce(Version),
}

/// What a trainer has on its own disk.
#[derive(Clone, Debug, Default)]
struct Log {
    has: BTreeMap<(Kind, u64), Content>,
    /// Numbers that it has acknowledged, and those of them that the engine has confirmed.
    acknowledged: BTreeSet<u64>,
}

struct World {
    random: Random,
    terms: Terms,
    groups: u64,
    members: u64,
    delivery: Delivery,
    disk: Disk,
    life: u64,
    /// Tasks of the engine that the journal has not seen ended.
    undecided: BTreeSet<u64>,
    // The trainer.
    consumer: Option<ConsumerId>,
    next_consumer: u64,
    received: Vec<Sent>,
    log: Log,
    confirmed: BTreeSet<u64>,
    checkpoints: Vec<(String, Log)>,
    durable: Option<(String, Log)>,
    named: u64,
    version: Version,
    unconfirmed: Vec<(u64, Word)>,
    next_token: u64,
    // The truth.
    last_number: u64,
    said: BTreeMap<u64, Sent>,
    contents: BTreeMap<(Kind, u64), Content>,
    paused: bool,
    is_settled: bool,
    crashes: u64,
    /// What is to be read from the journal, for some later turn.
    to_load: Vec<u64>,
    /// Bytes that were sent to the consumer and that its socket has not taken.
    untaken: u64,
}

fn options() -> Options {
    Options { memory_bytes_max: 200, unwritten_bytes_max: 2_000, window_bytes: 100 }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let order = if random.chance(500) { Order::ByGroup } else { Order::AsFinished };
        let retention =
            if random.chance(500) { Retention::UntilDurable } else { Retention::UntilAcknowledged };
        let terms = Terms {
            order,
            staleness_max: random.chance(700).then(|| random.below(3)),
            retention,
            waiting_items_max: random.between(1, 40),
            waiting_bytes_max: random.between(1, 2_000),
        };
        let mut delivery = Delivery::new(options());
        delivery.accept(JOB, terms, Bytes::new());
        let (groups, members) = (random.between(1, 20), random.between(1, 5));
        Self {
            random,
            terms,
            groups,
            members,
            delivery,
            disk: Disk::default(),
            life: 0,
            undecided: (0..groups).collect(),
            consumer: None,
            next_consumer: 1,
            received: Vec::new(),
            log: Log::default(),
            confirmed: BTreeSet::new(),
            checkpoints: Vec::new(),
            durable: None,
            named: 0,
            version: Version::default(),
            unconfirmed: Vec::new(),
            next_token: 1,
            last_number: 0,
            said: BTreeMap::new(),
            contents: BTreeMap::new(),
            paused: false,
            is_settled: false,
            crashes: 0,
            to_load: Vec::new(),
            untaken: 0,
        }
    }

    fn play(seed: u64) -> Self {
        let mut world = Self::new(seed);
        let turns = world.random.between(10, 400);
        for _ in 0..turns {
            world.turn();
            world.look();
        }
        world.finish();
        world
    }

    fn turn(&mut self) {
        match self.random.below(100) {
            0..30 => self.an_episode_ends(),
            30..45 => self.disk.take_a_batch(&mut self.delivery),
            45..56 => {
                self.disk.write_a_batch(&mut self.delivery);
            }
            56..60 => self.read(),
            60..64 => self.the_engine_dies(),
            64..67 => self.the_trainer_dies(),
            67..74 => self.attach(),
            74..84 => self.grant(),
            84..93 => self.acknowledge(),
            93..96 => self.checkpoint(),
            96..98 => self.announce(),
            _ if !self.disk.on_their_way.is_empty() => self.delivery.journal_fails(),
            _ => (),
        }
    }

    fn an_episode_ends(&mut self) {
        if self.paused {
            return;
        }
        let Some(&group) =
            self.undecided.iter().nth(self.random.below(self.undecided.len() as u64) as usize)
        else {
            return;
        };
        let of_group = group * self.members..(group + 1) * self.members;
        let open: Vec<u64> =
            of_group.filter(|&id| !self.delivery.has_recorded(JOB, Kind::Trajectory, id)).collect();
        if let Some(&id) = open.get(self.random.below(open.len() as u64) as usize) {
            self.record(Kind::Trajectory, id, group);
        }
        if open.len() <= 1 {
            self.record(Kind::Group, group, group);
            let is_usable = self.random.chance(800);
            self.delivery.release(JOB, group, is_usable).unwrap();
            self.undecided.remove(&group);
        }
        if self.undecided.is_empty() {
            self.record(Kind::End, 0, 0);
        }
    }

    /// The bytes tell in which life of the engine they were made.
    fn record(&mut self, kind: Kind, id: u64, group: u64) {
        let made = format!("{kind:?} {id} made in life {} {}", self.life, self.random.below(1_000));
        let back = self.random.below(4);
        let version = Version { step: self.version.step.saturating_sub(back), ..self.version };
        let finished = Finished { id, kind, group, version, payload: made.into() };
        self.delivery.record(JOB, finished).unwrap();
    }

    fn read(&mut self) {
        let taken = std::mem::take(&mut self.untaken);
        if let Some(consumer) = self.consumer {
            self.delivery.taken(JOB, consumer, taken).unwrap();
        }
        for sequence in std::mem::take(&mut self.to_load) {
            // What was acknowledged meanwhile is not there to be read.
            if let Some(payload) = self.disk.payload(JOB, sequence) {
                self.delivery.loaded(JOB, sequence, payload);
            }
        }
    }

    fn the_engine_dies(&mut self) {
        if self.disk.is_empty() && self.disk.on_their_way.is_empty() {
            return;
        }
        self.disk.lose_power(&mut self.random);
        self.to_load.clear();
        self.untaken = 0;
        self.crashes += 1;
        self.life += 1;
        self.delivery = Delivery::restore(options(), self.disk.restored());
        if self.disk.is_empty() {
            self.delivery.accept(JOB, self.terms, Bytes::new());
        }
        self.undecided = (0..self.groups)
            .filter(|&group| !self.delivery.has_recorded(JOB, Kind::Group, group))
            .collect();
        if self.undecided.is_empty() && !self.delivery.has_recorded(JOB, Kind::End, 0) {
            self.record(Kind::End, 0, 0);
        }
        self.paused = false;
        self.is_settled = false;
        self.consumer = None;
    }

    fn attach(&mut self) {
        if self.consumer.is_some() && self.random.chance(700) {
            return;
        }
        let consumer = ConsumerId(self.next_consumer);
        self.next_consumer += 1;
        let received = self.received.iter().map(|sent| sent.number.0).max().unwrap_or(0);
        let cursor = if self.random.chance(500) { received } else { 0 };
        match self.delivery.attach(JOB, 0, consumer, cursor) {
            Ok(()) => self.consumer = Some(consumer),
            Err(AttachError::Cursor { .. }) => panic!("what was received has a number for ever"),
            Err(other) => panic!("{other}"),
        }
        (self.last_number, self.untaken) = (0, 0);
        // What the engine may have forgotten is said again.
        for (token, word) in std::mem::take(&mut self.unconfirmed) {
            self.say_as(token, word);
        }
    }

    fn say(&mut self, word: Word) {
        if self.consumer.is_some() {
            let token = self.next_token;
            self.next_token += 1;
            self.say_as(token, word);
        }
    }

    fn say_as(&mut self, token: u64, word: Word) {
        match &word {
            Word::Acknowledge { numbers, under } => {
                let ranges: Vec<_> = numbers.iter().map(|&number| number..=number).collect();
                self.delivery.acknowledge(JOB, &ranges, under.as_deref()).unwrap();
            }
            Word::Durable(name) => self.delivery.durable(JOB, name).unwrap(),
            Word::Rewind(name) => {
                self.delivery.rewind(JOB, name.as_deref()).unwrap();
                self.last_number = 0;
            }
            Word::Announce(version) => match self.delivery.announce(JOB, *version) {
                Ok(()) => (),
                // It is said again, and a newer one has not been lost.
                Err(VersionError::WentBack { current, .. }) => assert!(current <= self.version),
                Err(other) => panic!("{other}"),
            },
        }
        self.unconfirmed.push((token, word));
        self.disk.promise(token);
    }

    /// Whether the trainer waits for a word to be confirmed before it goes on.
    fn is_waiting(&self) -> bool {
        self.unconfirmed.iter().any(|(_, word)| {
            matches!(
                word,
                Word::Durable(_) | Word::Rewind(_) | Word::Acknowledge { under: Some(_), .. }
            )
        })
    }

    fn grant(&mut self) {
        if let Some(consumer) = self.consumer
            && !self.is_waiting()
        {
            let (items, bytes) = (self.random.below(8), self.random.below(400));
            self.delivery.credit(JOB, consumer, items, bytes).unwrap();
        }
    }

    fn acknowledge(&mut self) {
        if self.consumer.is_none() || self.is_waiting() {
            return;
        }
        let mut numbers = BTreeSet::new();
        let received = std::mem::take(&mut self.received);
        for sent in received {
            if self.random.chance(600) {
                numbers.insert(sent.number.0);
                self.log.take(&sent);
            } else {
                self.received.push(sent);
            }
        }
        self.log.acknowledged.extend(&numbers);
        self.say(Word::Acknowledge { numbers, under: None });
    }

    fn checkpoint(&mut self) {
        if self.terms.retention != Retention::UntilDurable
            || self.consumer.is_none()
            || self.is_waiting()
        {
            return;
        }
        let any = self.random.below(self.checkpoints.len() as u64) as usize;
        if self.random.chance(500)
            && let Some((name, _)) = self.checkpoints.get(any)
        {
            let name = name.clone();
            self.say(Word::Durable(name));
            return;
        }
        self.named += 1;
        let name = format!("checkpoint {}", self.named);
        self.say(Word::Acknowledge { numbers: BTreeSet::new(), under: Some(name) });
    }

    /// It has what is on its own disk, and comes back at a checkpoint if the job keeps them.
    fn the_trainer_dies(&mut self) {
        if self.is_waiting() {
            return;
        }
        self.received.clear();
        if let Some(consumer) = self.consumer.take() {
            self.delivery.detach(consumer);
        }
        self.attach();
        if self.terms.retention == Retention::UntilDurable && self.random.chance(700) {
            let kept = self.random.below(self.checkpoints.len() as u64 + 1) as usize;
            self.checkpoints.truncate(kept);
            let back = self.checkpoints.last().or(self.durable.as_ref()).cloned();
            let (name, log) = back.map_or((None, Log::default()), |(name, log)| (Some(name), log));
            // What was said and not confirmed is not said again: it is of a life that is given up.
            self.unconfirmed.clear();
            self.confirmed.retain(|number| log.acknowledged.contains(number));
            self.log = log;
            self.say(Word::Rewind(name));
            self.version = Version { lineage: self.version.lineage + 1, step: 0 };
            self.say(Word::Announce(self.version));
        }
    }

    fn announce(&mut self) {
        if self.consumer.is_some() {
            self.version.step += self.random.between(1, 2);
            self.say(Word::Announce(self.version));
        }
    }

    fn look(&mut self) {
        let standing = self.delivery.standing(JOB).unwrap();
        assert!(standing.unacknowledged_items <= standing.last_number);
        for token in self.disk.kept() {
            self.is_confirmed(token);
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
            Output::Load { sequence, .. } => self.to_load.push(sequence),
            Output::Pace { pace, .. } => self.paused = pace != Pace::GoOn,
            Output::Settled(_) => self.is_settled = true,
            Output::Replaced(_) => (),
            Output::Batch { .. } | Output::NoMoreBatches(_) => panic!("no batches were asked for"),
        }
    }

    fn receive(&mut self, sent: Sent) {
        self.disk.check_sent(&sent);
        let number = sent.number.0;
        if Some(sent.consumer) != self.consumer {
            return;
        }
        self.untaken += sent.bytes;
        assert!(self.untaken < 100 + sent.bytes, "more than the window at once");
        assert!(number > self.last_number, "in order");
        self.last_number = number;
        assert!(!self.confirmed.contains(&number), "{number} was acknowledged");
        let what = (sent.kind, sent.id);
        let content = self.contents.entry(what).or_insert_with(|| sent.content.clone());
        assert_eq!(*content, sent.content, "an id has the same bytes for ever");
        if let Some(before) = self.said.insert(number, sent.clone()) {
            assert!(sent.is_redelivered);
            assert_eq!((before.kind, before.id), what, "a number denotes the same for ever");
            assert_eq!(before.judged_at, sent.judged_at, "it is judged once");
        }
        let is_old = sent.version.lineage != sent.judged_at.lineage
            || self
                .terms
                .staleness_max
                .is_some_and(|most| sent.judged_at.step.saturating_sub(sent.version.step) > most);
        if sent.kind != Kind::Trajectory {
            assert_ne!(sent.content, Content::Stale);
        } else if self.terms.order == Order::AsFinished || sent.content != Content::Stale {
            assert_eq!(sent.content == Content::Stale, is_old, "{sent:?}");
        }
        self.received.push(sent);
    }

    fn is_confirmed(&mut self, token: u64) {
        let Some(at) = self.unconfirmed.iter().position(|(said, _)| *said == token) else { return };
        match self.unconfirmed.remove(at).1 {
            Word::Acknowledge { numbers, under } => {
                self.confirmed.extend(numbers);
                if let Some(name) = under {
                    self.checkpoints.push((name, self.log.clone()));
                }
            }
            Word::Durable(name) => {
                while let Some((first, log)) = self.checkpoints.first().cloned()
                    && self.durable.as_ref().is_none_or(|(durable, _)| *durable != name)
                {
                    self.checkpoints.remove(0);
                    self.durable = Some((first, log));
                }
            }
            Word::Rewind(_) | Word::Announce(_) => (),
        }
    }

    /// Nothing dies any more, and everybody does what is theirs.
    fn finish(&mut self) {
        // It forgets what it has not written down, and so has to be sent it again.
        self.received.clear();
        self.consumer = None;
        let mut turns = 0;
        while !self.is_settled {
            turns += 1;
            assert!(turns < 10_000, "it comes to an end");
            if self.consumer.is_none() {
                self.attach();
            }
            self.an_episode_ends();
            let consumer = self.consumer.unwrap();
            self.delivery.credit(JOB, consumer, 100, 10_000).unwrap();
            self.disk.take_a_batch(&mut self.delivery);
            self.disk.write_a_batch(&mut self.delivery);
            self.look();
            self.read();
            self.look();
            self.acknowledge();
            if self.received.is_empty() && turns > 50 {
                self.checkpoint();
            }
        }
        assert_eq!(self.delivery.resident_bytes(), 0);
        assert_eq!(self.delivery.standing(JOB).unwrap().unacknowledged_items, 0);
        let asked: BTreeSet<(Kind, u64)> = (0..self.groups * self.members)
            .map(|id| (Kind::Trajectory, id))
            .chain((0..self.groups).map(|id| (Kind::Group, id)))
            .chain([(Kind::End, 0)])
            .collect();
        assert_eq!(self.log.has.keys().copied().collect::<BTreeSet<_>>(), asked);
        if self.terms.order == Order::ByGroup {
            self.groups_went_as_a_whole();
        }
    }

    fn groups_went_as_a_whole(&self) {
        let mut seen = BTreeMap::<u64, (u64, u64, u64)>::new();
        for (&number, sent) in self.said.iter().filter(|(_, sent)| sent.kind != Kind::End) {
            let (first, last, count) = seen.entry(sent.group).or_insert((number, number, 0));
            (*first, *last, *count) = ((*first).min(number), (*last).max(number), *count + 1);
        }
        for (first, last, count) in seen.into_values() {
            assert_eq!((last - first + 1, count), (count, self.members + 1));
        }
    }
}

impl Log {
    fn take(&mut self, sent: &Sent) {
        let before = self.has.insert((sent.kind, sent.id), sent.content.clone());
        assert!(before.is_none_or(|before| before == sent.content));
    }
}

#[test]
fn every_power_loss_leaves_the_set_that_was_asked_for() {
    let mut crashes = 0;
    for seed in 0..3_000 {
        let world = std::panic::catch_unwind(|| World::play(seed));
        match world {
            Ok(world) => crashes += world.crashes,
            Err(panic) => {
                println!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(crashes > 10_000, "{crashes} power losses");
}
