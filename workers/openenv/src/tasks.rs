//! The tasks that a server says it has, over its Task API.

use serde::Deserialize;

use crate::{DescribeError, Options, Server, describe::Asker};

/// Asks a server how many tasks a split of its environment has, waiting for the answer. An episode
/// plays one of them by `split` and `index` among its reset parameters.
///
/// The server builds one environment to answer, which is why this is asked once a job and only where
/// a split was named.
///
/// # Errors
///
/// As [`describe`](crate::describe()); a server without the Task API (OpenEnv before 0.4.1, or an
/// environment without tasks) answers 404, 405 or 501, and one without this split as its environment
/// likes.
pub fn num_tasks(server: &Server, options: &Options, split: &str) -> Result<u64, DescribeError> {
    #[derive(Deserialize)]
    struct Answer {
        num_tasks: u64,
    }
    let asker = Asker::new(server, options)?;
    let (list, body) = ("/list_environments", asker.required("/list_environments"));
    let environments: Vec<String> = read(&asker, list, &without_api(body)?)?;
    let Some(environment) = environments.first() else {
        let problem = "it names no environment".to_owned();
        return Err(DescribeError::NotOpenEnv { url: asker.target.address.http(list), problem });
    };
    let endpoint = format!("/{}/num_tasks", escaped(environment));
    let question = serde_json::json!({ "split": split }).to_string();
    let body = without_api(asker.answer(&endpoint, Some(&question)))?;
    read::<Answer>(&asker, &endpoint, &body).map(|answer| answer.num_tasks)
}

fn read<T: for<'de> Deserialize<'de>>(
    asker: &Asker,
    endpoint: &str,
    body: &[u8],
) -> Result<T, DescribeError> {
    serde_json::from_slice(body).map_err(|error| DescribeError::NotOpenEnv {
        url: asker.target.address.http(endpoint),
        problem: format!("its answer is not as the Task API has it: {error}"),
    })
}

/// Says what it means where there is no Task API.
fn without_api<T>(answer: Result<T, DescribeError>) -> Result<T, DescribeError> {
    answer.map_err(|error| match error {
        DescribeError::Status { url, status: status @ (404 | 405 | 501), .. } => {
            let problem = "it has no tasks of its own; give them with --tasks FILE".into();
            DescribeError::Status { url, status, problem }
        }
        other => other,
    })
}

/// A name as one segment of a path.
fn escaped(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_stay_one_segment() {
        assert_eq!(escaped("my env/2é"), "my%20env%2F2%C3%A9");
    }
}
