//! JSON-RPC requests on a WebSocket.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use envmill_protocol::{
    Request,
    openenv::server::{RpcCall, RpcCode, RpcId, RpcRefusal, ServerError, decode_rpc},
};

use super::{ClosingOther, Pending, Session, reply::Reply, seat::Seat};
use crate::{
    named::Closing,
    rpc::{self, Method},
};

impl Session {
    /// Treats a request: `text` is all of a message on `/mcp`, and the `data` of one on `/ws`.
    pub(super) fn call(&mut self, text: Bytes) {
        let response = match decode_rpc(&text) {
            Ok(call) => match Method::of(&call.method) {
                Method::Create => self.name(&call.id),
                Method::Close => {
                    let Some(response) = self.close_other(call) else { return };
                    response
                }
                Method::Own => rpc::method_not_found(&call.id, &call.method),
                Method::Environment => {
                    let pending = Pending::Call(Box::new(call.id));
                    self.ask(Request::ToolCall { request: text }, pending);
                    return;
                }
            },
            Err(refusal @ RpcRefusal::NotAnObject(_)) => {
                // The reference server's own mistake, for which it gives the connection up.
                let error = ServerError::Session(refusal.to_string());
                self.reply(Reply::error(self.dialect, &error));
                return;
            }
            Err(refusal @ RpcRefusal::NotJson(_)) => {
                rpc::error(&RpcId::NULL, RpcCode::Parse, &refusal.to_string())
            }
            Err(refusal @ RpcRefusal::Invalid(_)) => {
                rpc::error(&RpcId::NULL, RpcCode::InvalidRequest, &refusal.to_string())
            }
        };
        self.reply(Reply::rpc(self.dialect, &response));
    }

    /// Tells the name of this session, which has one from now on: others may ask it by `POST /mcp`,
    /// and another WebSocket may attach.
    fn name(&mut self, id: &RpcId) -> Vec<u8> {
        let member = match self.seat.take() {
            Some(Seat::Named(member)) => member,
            Some(Seat::Own(hold)) => match self.surroundings.directory.adopt(hold) {
                Ok(member) => member,
                Err((hold, error)) => {
                    self.seat = Some(Seat::Own(hold));
                    return rpc::error(id, RpcCode::Internal, &format!("no name: {error}"));
                }
            },
            None => return rpc::error(id, RpcCode::Internal, "the session is over"),
        };
        let response = rpc::created(id, member.id());
        self.seat = Some(Seat::Named(member));
        response
    }

    /// Ends another session; `None` where the answer must wait for its end.
    fn close_other(&mut self, call: RpcCall) -> Option<Vec<u8>> {
        let RpcCall { id, session_id, .. } = call;
        let Some(session_id) = session_id else { return Some(rpc::session_id_missing(&id)) };
        if let Some(Seat::Named(member)) = &self.seat
            && member.id() == session_id
        {
            let message = "Cannot close active WebSocket-managed session via MCP method";
            return Some(rpc::error(&id, RpcCode::InvalidRequest, message));
        }
        match self.surroundings.directory.close(&session_id) {
            Ok(Closing::Later) => Some(rpc::closing(&id, &session_id)),
            Ok(Closing::Now(ended)) => {
                let closing = ClosingOther { id, session_id, ended };
                self.pending = Some(Pending::Closing(Box::new(closing)));
                None
            }
            Err(refused) => Some(rpc::refused(&id, &session_id, refused)),
        }
    }

    /// Whether another session that this one closes has ended; then that is answered.
    pub(super) fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(Pending::Closing(closing)) = &mut self.pending else { return Poll::Pending };
        // It is never sent, only dropped.
        let _ = ready!(Pin::new(&mut closing.ended).poll(cx));
        let response = rpc::closed(&closing.id, &closing.session_id);
        self.pending = None;
        self.reply(Reply::rpc(self.dialect, &response));
        Poll::Ready(())
    }
}
