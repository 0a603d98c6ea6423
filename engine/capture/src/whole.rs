//! Answers as a whole.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::{
    answer::Usage,
    call::{Last, Running},
    refusal::Refusal,
};

/// Waits for all choices. When the client is gone they are dropped, and their generations with them.
pub(crate) async fn whole(mut choices: Vec<Running>) -> Result<Response, Refusal> {
    let mut ends = try_join_all(choices.iter_mut().map(|it| it.last())).await?;
    if let [only] = &mut ends[..] {
        return Ok(answer(std::mem::take(&mut only.whole)));
    }
    Ok(answer(several(&choices, ends).into()))
}

fn answer(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn several(choices: &[Running], ends: Vec<Last>) -> String {
    let mut usage = Usage::default();
    for (choice, last) in choices.iter().zip(&ends) {
        usage.add(last.usage, choice.is_first);
    }
    let values: Vec<_> = ends.into_iter().map(|it| it.choice).collect();
    let Some(first) = choices.first() else { return String::new() };
    first.common.head.whole(&values, usage, first.prompt_ids(first.prompt()))
}
