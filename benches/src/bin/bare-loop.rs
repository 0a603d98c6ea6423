//! The floor that the engine is held against: a bare closed loop over tuned `tokio-tungstenite`
//! sockets. It sends the same step again and again, reads the answer and looks at nothing in it.
//!
//! `bare-loop URL SESSIONS SECONDS` prints one JSON object with the CPU microseconds of this process
//! for each step, once every session has been reset.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{
    error::Error,
    rc::Rc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use envmill_benches::cpu_seconds;
use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpStream, sync::Semaphore, task::LocalSet};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

const STEP: &str = r#"{"type":"step","data":{"sleep_s":0.0,"payload_bytes":0}}"#;
const RESET: &str = r#"{"type":"reset","data":{}}"#;
const CONNECTS_AT_ONCE: usize = 64;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, sessions, seconds, ..] = arguments.as_slice() else {
        return Err("usage: bare-loop WS_URL SESSIONS SECONDS [STEP_JSON]".into());
    };
    let (sessions, seconds): (usize, f64) = (sessions.parse()?, seconds.parse()?);
    let step = arguments.get(3).map_or(STEP, String::as_str).to_owned();
    LocalSet::new().run_until(measure(url.clone(), sessions, seconds, step)).await
}

async fn measure(
    url: String,
    sessions: usize,
    seconds: f64,
    step: String,
) -> Result<(), Box<dyn Error>> {
    let permits = Rc::new(Semaphore::new(CONNECTS_AT_ONCE));
    let mut opening = Vec::new();
    for _ in 0..sessions {
        let (permits, url) = (permits.clone(), url.clone());
        opening.push(tokio::task::spawn_local(async move {
            let _permit = permits.acquire().await;
            open(&url).await.map_err(|error| error.to_string())
        }));
    }
    let mut sockets = Vec::new();
    for task in opening {
        sockets.push(task.await??);
    }
    let stop = Rc::new(AtomicBool::new(false));
    let steps = Rc::new(AtomicU64::new(0));
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let loops: Vec<_> = sockets
        .into_iter()
        .map(|socket| {
            tokio::task::spawn_local(play(socket, step.clone(), stop.clone(), steps.clone()))
        })
        .collect();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let (cpu, took) = (cpu_seconds() - cpu, began.elapsed().as_secs_f64());
    let counted = steps.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    for task in loops {
        task.await??;
    }
    println!(
        "{}",
        serde_json::json!({
            "client": "bare-loop",
            "sessions": sessions,
            "steps": counted,
            "steps_per_s": counted as f64 / took,
            "cpu_us_per_step": cpu * 1e6 / counted as f64,
        })
    );
    Ok(())
}

async fn open(url: &str) -> Result<Socket, Box<dyn Error>> {
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let (mut socket, _) = connect_async_with_config(url, Some(config), true).await?;
    socket.send(Message::text(RESET)).await?;
    answer(&mut socket).await?;
    Ok(socket)
}

async fn play(
    mut socket: Socket,
    step: String,
    stop: Rc<AtomicBool>,
    steps: Rc<AtomicU64>,
) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        socket.send(Message::text(step.clone())).await.map_err(|error| error.to_string())?;
        answer(&mut socket).await.map_err(|error| error.to_string())?;
        steps.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn answer(socket: &mut Socket) -> Result<(), Box<dyn Error>> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(_))) => return Ok(()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => return Err(format!("instead of an answer: {other:?}").into()),
        }
    }
}
