//! What a language model has done, in a line.

use std::collections::BTreeMap;

/// The line; `None` where no language model has played.
pub(super) fn text(numbers: &BTreeMap<&'static str, f64>, wall_s: f64) -> Option<String> {
    let get = |name| numbers.get(name).copied().unwrap_or(0.0);
    let sampled = *numbers.get("sampled_tokens")?;
    let mut text = format!(
        "{:.0} generations of {sampled:.0} tokens after {:.0} prompt tokens: {:.0} tokens/s",
        get("generations"),
        get("prompt_tokens"),
        sampled / wall_s.max(1e-9)
    );
    for (name, said) in [
        ("malformed", "that were no action"),
        ("reasoning_cut", "whose reasoning was cut short"),
        ("forks", "conversations rendered anew"),
        ("drifts", "prompts that the inference engine counted otherwise"),
        ("retried", "tried again"),
        ("continued", "continued elsewhere"),
    ] {
        if get(name) > 0.0 {
            text.push_str(&format!("; {:.0} {said}", get(name)));
        }
    }
    Some(text)
}
