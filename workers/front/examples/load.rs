//! Closed-loop load on a server: `load HOST:PORT SESSIONS SECONDS [ACTION]`. Every session steps as
//! soon as it is answered. Prints steps/s and latencies, and the server's CPU and memory if
//! `SERVER_PID` is set.
//!
//! The client is as cheap as can be (frames are neither parsed nor masked in earnest), so that what
//! is seen is the server.

use std::{
    env, fs,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Barrier, Semaphore},
    task::LocalSet,
};

/// A masked text frame, the mask being zero.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Reads one unmasked frame; anything but text is passed over.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut have = 0;
    loop {
        let (head, length) = match buffer.get(1).filter(|_| have >= 2) {
            Some(126) if have >= 4 => (4, usize::from(u16::from_be_bytes([buffer[2], buffer[3]]))),
            Some(length) if *length < 126 => (2, usize::from(*length)),
            _ => (0, usize::MAX),
        };
        if head > 0 && have >= head + length {
            let text = buffer[0] == 0x81;
            buffer.copy_within(head + length..have, 0);
            have -= head + length;
            if text {
                ensure!(have == 0, "one answer a request");
                return Ok(());
            }
            continue;
        }
        let count = stream.read(&mut buffer[have..]).await?;
        ensure!(count > 0, "the server closed");
        have += count;
    }
}

async fn session(
    address: Rc<str>,
    connecting: Rc<Semaphore>,
    ready: Rc<Barrier>,
    run: Duration,
    step: Rc<[u8]>,
) -> Result<Vec<Duration>> {
    let mut buffer = vec![0; 4096];
    let permit = connecting.acquire().await?;
    let mut stream = TcpStream::connect(&*address).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let count = stream.read(&mut buffer).await?;
    ensure!(buffer[..count].starts_with(b"HTTP/1.1 101"), "no upgrade");
    stream.write_all(&frame(r#"{"type":"reset","data":{"seed":1}}"#)).await?;
    answer(&mut stream, &mut buffer).await?;
    drop(permit);
    ready.wait().await;
    ready.wait().await;
    let mut latencies = Vec::new();
    let began = Instant::now();
    while began.elapsed() < run {
        let sent = Instant::now();
        stream.write_all(&step).await?;
        answer(&mut stream, &mut buffer).await?;
        latencies.push(sent.elapsed());
    }
    Ok(latencies)
}

/// CPU seconds and resident KiB of a process.
fn usage(pid: Option<&str>) -> Option<(f64, u64)> {
    let pid = pid?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status.lines().find(|line| line.starts_with("VmRSS"))?;
    Some((ticks / 100.0, rss.split_whitespace().nth(1)?.parse().ok()?))
}

#[allow(clippy::print_stdout, reason = "the figures are this program's output")]
fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let address: Rc<str> = arguments.get(1).context("HOST:PORT")?.as_str().into();
    let sessions: usize = arguments.get(2).context("SESSIONS")?.parse()?;
    let run = Duration::from_secs_f64(arguments.get(3).context("SECONDS")?.parse()?);
    let action = arguments.get(4).map_or("{\"action\":1}", String::as_str);
    let step: Rc<[u8]> = frame(&format!("{{\"type\":\"step\",\"data\":{action}}}")).into();
    let pid = env::var("SERVER_PID").ok();
    let pid = pid.as_deref();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let connecting = Rc::new(Semaphore::new(256));
        let ready = Rc::new(Barrier::new(sessions + 1));
        let fresh = usage(pid);
        let began = Instant::now();
        let tasks: Vec<_> = (0..sessions)
            .map(|_| {
                tokio::task::spawn_local(session(
                    Rc::clone(&address),
                    Rc::clone(&connecting),
                    Rc::clone(&ready),
                    run,
                    Rc::clone(&step),
                ))
            })
            .collect();
        ready.wait().await;
        let connected = began.elapsed();
        let idle = usage(pid);
        ready.wait().await;
        let began = Instant::now();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        let wall = began.elapsed().as_secs_f64();
        let done = usage(pid);
        latencies.sort_unstable();
        let at = |share: f64| {
            latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
        };
        let steps = latencies.len() as f64;
        println!(
            "{sessions} sessions: connected in {:.2} s, {:.0} steps/s, p50 {:.2} ms, p99 {:.2} ms, \
             max {:.2} ms",
            connected.as_secs_f64(),
            steps / wall,
            at(0.5),
            at(0.99),
            at(1.0),
        );
        if let (Some(fresh), Some(idle), Some(done)) = (fresh, idle, done) {
            println!(
                "server: {:.1} us CPU a step, {:.1} KiB a session after its reset",
                (done.0 - idle.0) / steps * 1e6,
                (idle.1 - fresh.1) as f64 / sessions as f64,
            );
        }
        Ok(())
    })
}
