//! What a row costs: batches of 256 rows (an id, a kind, a text) are written, read, written back and
//! read again, all within this process.
//!
//! `cargo run --release -p envmill-ring --example throughput [TEXT_BYTES] [BATCHES]`
//!
//! First on one thread, which is the cost of both sides' work alone; then between two threads that
//! wake each other with doorbells. A row counts once for each way that it goes. Beside the time on the
//! clock stands the processor's, of both threads together: on a busy machine only that is worth
//! something.

#![expect(clippy::print_stdout, reason = "what it measures is what it prints")]

use std::{
    env,
    error::Error,
    hint::black_box,
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use envmill_ring::{
    ColumnSpec, ColumnsReader, ColumnsWriter, DType, Doorbell, Layout, Limits, RaggedRows, wait,
};
use rustix::time::{ClockId, clock_gettime};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ROWS: usize = 256;
const ID: usize = 0;
const KIND: usize = 1;
const TEXT: usize = 2;

fn main() -> Outcome<()> {
    let mut numbers = env::args().skip(1);
    let text_bytes = numbers.next().map_or(Ok(512), |word| word.parse::<usize>())?;
    let batches = numbers.next().map_or(Ok(20_000), |word| word.parse::<u64>())?;
    let rows = (2 * batches * ROWS as u64) as f64;

    let (mut left, mut right) = sides(text_bytes)?;
    let text = vec![b'x'; text_bytes];
    left.write_new(&text)?;
    let start = Start::now();
    for _ in 0..batches {
        right.echo()?;
        left.echo()?;
    }
    start.report("one thread", rows);

    let (mut left, mut right) = sides(text_bytes)?;
    let (bell_left, bell_right) = (Doorbell::new()?, Doorbell::new()?);
    let start = Start::now();
    thread::scope(|scope| {
        let echoing = scope.spawn(|| -> Outcome<()> {
            for _ in 0..batches {
                while !right.echo()? {
                    await_ring(&bell_right)?;
                }
                bell_left.ring()?;
            }
            Ok(())
        });
        left.write_new(&text)?;
        bell_right.ring()?;
        for _ in 0..batches {
            while !left.echo()? {
                await_ring(&bell_left)?;
            }
            bell_right.ring()?;
        }
        echoing.join().map_err(|_| "the other thread panicked")?
    })?;
    start.report("two threads", rows);
    Ok(())
}

/// One of two processes: what it writes, what it reads, and the columns it has read last.
struct Side {
    writer: ColumnsWriter,
    reader: ColumnsReader,
    ids: Vec<u64>,
    kinds: Vec<u8>,
    texts: RaggedRows,
    rows: Vec<Bytes>,
}

impl Side {
    fn write_new(&mut self, text: &[u8]) -> Outcome<()> {
        let mut batch = self.writer.begin()?.ok_or("no slot is free")?;
        for row in 0..ROWS {
            batch.set(ID, row, row as u64)?;
            batch.set(KIND, row, 3_u8)?;
            batch.push(TEXT, text)?;
        }
        let _ = black_box(batch.publish(ROWS as u32)?);
        Ok(())
    }

    /// Reads a batch, takes each row out of it as bytes of its own, and writes them back.
    fn echo(&mut self) -> Outcome<bool> {
        let Some(batch) = self.reader.next_batch()? else { return Ok(false) };
        batch.fixed(ID, &mut self.ids)?;
        batch.fixed(KIND, &mut self.kinds)?;
        batch.ragged(TEXT, &mut self.texts)?;
        batch.release();
        self.rows.clear();
        self.rows.extend(self.texts.iter());

        let mut batch = self.writer.begin()?.ok_or("no slot is free")?;
        for (to, id) in batch.fixed::<u64>(ID)?.iter_mut().zip(&self.ids) {
            *to = id + 1;
        }
        batch.fixed::<u8>(KIND)?[..self.kinds.len()].copy_from_slice(&self.kinds);
        for text in &self.rows {
            batch.push(TEXT, text)?;
        }
        let _ = black_box(batch.publish(self.rows.len() as u32)?);
        Ok(true)
    }
}

fn sides(text_bytes: usize) -> Outcome<(Side, Side)> {
    let columns = [
        ColumnSpec::fixed("id", DType::U64, &[]),
        ColumnSpec::fixed("kind", DType::U8, &[]),
        ColumnSpec::ragged("text", (ROWS * text_bytes) as u64),
    ];
    let layout = Layout::new(ROWS as u32, 2, columns)?;
    let mut left = ColumnsWriter::create(layout.clone())?;
    let mut right = ColumnsWriter::create(layout)?;
    let from_right = left.connect(right.as_fd(), &Limits::default())?;
    let from_left = right.connect(left.as_fd(), &Limits::default())?;
    let side = |writer, reader| Side {
        writer,
        reader,
        ids: Vec::new(),
        kinds: Vec::new(),
        texts: RaggedRows::new(),
        rows: Vec::new(),
    };
    Ok((side(left, from_right), side(right, from_left)))
}

fn await_ring(bell: &Doorbell) -> Outcome<()> {
    wait(&[bell.as_fd()], None, &mut Vec::new())?;
    bell.drain()?;
    Ok(())
}

/// When a measurement began, on the clock and in processor time.
struct Start {
    clock: Instant,
    processor: Duration,
}

impl Start {
    fn now() -> Self {
        Self { clock: Instant::now(), processor: processor_time() }
    }

    fn report(&self, name: &str, rows: f64) {
        let [clock, processor] = [self.clock.elapsed(), processor_time() - self.processor]
            .map(|took| took.as_nanos() as f64 / rows);
        println!("{name:12} {clock:7.1} ns/row, {processor:7.1} ns/row of the processor");
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
