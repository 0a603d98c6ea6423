//! HTTP by hand: what is sent is what is written here.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use serde_json::{Value, json};

pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
}

impl Client {
    /// Sends a request and leaves the connection open.
    pub(crate) fn send(&self, method: &str, path: &str, more: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let (key, length) = (&self.key, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
             Connection: close\r\n{more}Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // A body that is too long is not read to its end.
        let _ = stream.write_all(body.as_bytes());
        stream
    }

    pub(crate) fn ask(&self, method: &str, path: &str, more: &str, body: &str) -> (u16, Value) {
        let mut stream = BufReader::new(self.send(method, path, more, body));
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        while line.trim() != "" {
            line.clear();
            stream.read_line(&mut line).unwrap();
            if let Some(it) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = it.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub(crate) fn chat(&self, body: &Value) -> (u16, Value) {
        self.ask("POST", "/v1/chat/completions", "", &body.to_string())
    }

    pub(crate) fn complete(&self, body: &Value) -> (u16, Value) {
        self.ask("POST", "/v1/completions", "", &body.to_string())
    }

    /// The events of a stream, but for its end, which is there.
    pub(crate) fn events(&self, path: &str, body: &Value) -> Vec<Value> {
        let mut text = String::new();
        self.send("POST", path, "", &body.to_string()).read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        let data: Vec<_> = body.lines().filter_map(|it| it.strip_prefix("data: ")).collect();
        let (last, events) = data.split_last().unwrap();
        assert_eq!(*last, "[DONE]");
        events.iter().map(|it| serde_json::from_str(it).unwrap()).collect()
    }

    /// Asks, and gives the answer's message.
    pub(crate) fn said(&self, messages: &[Value]) -> Value {
        self.said_with(messages, json!({}))
    }

    pub(crate) fn said_with(&self, messages: &[Value], more: Value) -> Value {
        let mut body = more;
        body["messages"] = json!(messages);
        let (status, answer) = self.chat(&body);
        assert_eq!(status, 200, "{answer}");
        answer["choices"][0]["message"].clone()
    }
}

pub(crate) fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

pub(crate) fn system(text: &str) -> Value {
    json!({"role": "system", "content": text})
}

/// What a client reads of an error.
pub(crate) fn code(answer: &Value) -> &str {
    let error = &answer["error"];
    assert!(error["message"].is_string() && error["type"].is_string(), "{answer}");
    error["code"].as_str().or(error["param"].as_str()).unwrap_or("")
}
