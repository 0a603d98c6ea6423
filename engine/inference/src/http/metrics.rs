//! vLLM's metrics, as far as they say how busy it is.

use crate::Load;

/// Reads the text of `/metrics`. `None`: there is nothing of vLLM in it.
pub(super) fn read(text: &str) -> Option<Load> {
    let mut load = Load::default();
    let mut engines = 0.0;
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("process_start_time_seconds ") {
            load.started = value.parse().ok().map(whole);
        }
        let Some(line) = line.strip_prefix("vllm:") else { continue };
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let name = name.split('{').next().unwrap_or(name);
        let Ok(value) = value.parse::<f64>() else { continue };
        match name {
            "num_requests_running" => load.running += whole(value),
            "num_requests_waiting" => load.waiting += whole(value),
            "prefix_cache_queries_total" => load.prefix_queries += whole(value),
            "prefix_cache_hits_total" => load.prefix_hits += whole(value),
            "kv_cache_usage_perc" => {
                engines += 1.0;
                load.kv_cache += value;
            }
            _ => {}
        }
    }
    if engines == 0.0 {
        return None;
    }
    load.kv_cache /= engines;
    Some(load)
}

#[allow(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "counts of requests and tokens"
)]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_that_of_all_its_engines() {
        let text = "# HELP vllm:num_requests_running x\n\
            vllm:num_requests_running{engine=\"0\",model_name=\"a b\"} 3.0\n\
            vllm:num_requests_running{engine=\"1\",model_name=\"a b\"} 4.0\n\
            vllm:num_requests_waiting{engine=\"0\"} 2.0\n\
            vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 9.0\n\
            vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\n\
            vllm:kv_cache_usage_perc{engine=\"1\"} 0.25\n\
            vllm:prefix_cache_hits_total{engine=\"0\"} 1.5e3\n\
            python_info 1.0\n\
            vllm:num_requests_waiting{engine=\"1\"} nonsense\n";
        let load = read(text).unwrap();
        assert_eq!((load.running, load.waiting, load.prefix_hits), (7, 2, 1500));
        assert!((load.kv_cache - 0.375).abs() < 1e-9);
        assert_eq!(read("python_info 1.0\n"), None);
    }
}
