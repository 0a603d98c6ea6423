//! Against a real vLLM. `cargo xtask vllm` runs them; `ENVMILL_VLLM` names the folder that it is installed
//! in.

mod channels;
mod drift;
mod rig;
