//! Small programs that use Envmill as a library, each with what to look at in its first lines:
//!
//! * `play-a-job`: a whole run from inside another program;
//! * `embed`: the rollout service and its trainer in one process;
//! * `own-policy`: a policy and a sink of one's own, on a native environment in this process;
//! * `own-loop`: the core and a worker without anything of the engine around them.
