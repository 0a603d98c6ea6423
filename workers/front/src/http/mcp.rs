//! `POST /mcp`: JSON-RPC 2.0. What goes wrong is said in the body, with status 200, but for one thing:
//! an environment for a call without a session that cannot be made is answered by 500, as by
//! OpenEnv's servers.

use axum::{extract::State, http::StatusCode, response::Response};
use bytes::Bytes;
use envmill_protocol::{
    FailureKind, Outcome, Request,
    openenv::server::{RpcCall, RpcCode, RpcId, RpcRefusal, ServerError, decode_rpc},
};

use super::{Routes, answer::json, throwaway};
use crate::{
    named::{Closing, NotMade, Refused},
    rpc::{self, Method},
};

pub(super) async fn post(State(routes): State<Routes>, body: Bytes) -> Response {
    let call = match decode_rpc(&body) {
        Ok(call) => call,
        Err(RpcRefusal::NotJson(_) | RpcRefusal::NotAnObject(_)) => {
            return ok(rpc::error(&RpcId::NULL, RpcCode::Parse, "Parse error"));
        }
        Err(refusal @ RpcRefusal::Invalid(_)) => {
            return ok(rpc::error(&RpcId::NULL, RpcCode::InvalidRequest, &refusal.to_string()));
        }
    };
    match Method::of(&call.method) {
        Method::Create => routes.create(&call.id).await,
        Method::Close => routes.close(call).await,
        Method::Own => {
            let known = call.session_id.as_deref().map(|id| (id, routes.directory().find(id)));
            ok(match known {
                Some((session_id, Err(refused))) => rpc::refused(&call.id, session_id, refused),
                _ => rpc::method_not_found(&call.id, &call.method),
            })
        }
        Method::Environment => routes.call(call, Request::ToolCall { request: body }).await,
    }
}

impl Routes {
    fn directory(&self) -> &std::sync::Arc<crate::named::Directory> {
        &self.surroundings.directory
    }

    async fn create(&self, id: &RpcId) -> Response {
        let env_name = self.surroundings.options.description.env_name();
        ok(match self.directory().create().await {
            Ok(session_id) => rpc::created(id, &session_id),
            Err(NotMade::Full(full)) => {
                let error =
                    ServerError::Capacity { active_sessions: full.active, max_sessions: full.max };
                rpc::server_error(id, &error)
            }
            Err(NotMade::Failed(failure, full)) => rpc::failed(id, &failure, env_name, || full),
            Err(NotMade::Closing) => return throwaway::failed(None),
        })
    }

    async fn close(&self, call: RpcCall) -> Response {
        let RpcCall { id, session_id, .. } = call;
        let Some(session_id) = session_id else { return ok(rpc::session_id_missing(&id)) };
        ok(match self.directory().close(&session_id) {
            Ok(Closing::Later) => rpc::closing(&id, &session_id),
            Ok(Closing::Now(ended)) => {
                // It is never sent, only dropped.
                let _ = ended.await;
                rpc::closed(&id, &session_id)
            }
            Err(refused) => rpc::refused(&id, &session_id, refused),
        })
    }

    /// A call of the environment's: of the session that it names, or of a fresh one.
    async fn call(&self, call: RpcCall, request: Request) -> Response {
        let RpcCall { id, session_id, .. } = call;
        let outcome = match &session_id {
            Some(session_id) => match self.directory().call(session_id, request) {
                Ok(answer) => match answer.await {
                    Ok(outcome) => outcome,
                    // The session has ended before the call's turn came.
                    Err(_) => return ok(rpc::refused(&id, session_id, Refused::Unknown)),
                },
                Err(refused) => return ok(rpc::refused(&id, session_id, refused)),
            },
            None => match self.ask_fresh(request).await {
                Some(Outcome::Failed(failure)) if failure.kind == FailureKind::Factory => {
                    return throwaway::failed(Some(&Outcome::Failed(failure)));
                }
                Some(outcome) => outcome,
                None => return throwaway::failed(None),
            },
        };
        let env_name = self.surroundings.options.description.env_name();
        let full = || self.surroundings.hub.full();
        json(StatusCode::OK, rpc::answer(&id, outcome, env_name, full))
    }
}

fn ok(response: Vec<u8>) -> Response {
    json(StatusCode::OK, response)
}
